"""Functions that fill columns with random strings, for experiments and tests."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Sequence

import pandas as pd

__all__ = ["random_column_string", "random_gen_string", "random_row_string"]

_CHARACTERS = string.ascii_letters + string.digits
_LENGTH = 20


def random_column_string(df: pd.DataFrame, column_names: Sequence[str], **_unused: object) -> pd.DataFrame:
    """Return a frame like `df` with columns of random strings (`return_type: dataframe`)."""
    return pd.DataFrame({name: [_random_string() for _ in range(len(df))] for name in column_names}, dtype="str")


def random_row_string(column_names: Sequence[str], **_unused: object) -> str | list[str]:
    """Return one random string per column (`return_type: row-wise`).

    For a single column, returns the string itself.
    """
    return _random_row(column_names)


def random_gen_string(column_names: Sequence[str], df: pd.DataFrame, **_unused: object) -> Iterator[str | list[str]]:
    """Yield random strings for each unfilled row of `df` (`return_type: generator`).

    A row is filled if it has a value in every one of `column_names`. With `df: <<self>>`, a resumed run therefore
    continues where it was interrupted.
    """
    for _ in range(len(df) - _filled_rows(df, column_names)):
        yield _random_row(column_names)


def _filled_rows(df: pd.DataFrame, column_names: Sequence[str]) -> int:
    if not set(column_names) <= set(df.columns):
        return 0
    return int(df[list(column_names)].notna().all(axis="columns").sum())


def _random_row(column_names: Sequence[str]) -> str | list[str]:
    row = [_random_string() for _ in column_names]
    return row[0] if len(row) == 1 else row


def _random_string() -> str:
    return "".join(random.choices(_CHARACTERS, k=_LENGTH))
