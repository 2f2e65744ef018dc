"""Lossless reading of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tablevault.texts.json_forms import InexactValueError, exact_float


def read_json_lines(path: Path) -> pd.DataFrame:
    """Read a file with one JSON object per line.

    Values that an object lacks are null.

    Raises
    ------
    ValueError
        If the file is not UTF-8, a line is not an object, a name occurs twice in an object, or a number is too large
        or too small for a float; names the line.
    """
    rows = list(_rows(path))
    columns = dict.fromkeys(name for row in rows for name in row)
    if rows and not columns:
        raise ValueError(f"'{path}' has {len(rows):,} empty objects, so no columns. Name the columns in the first one.")
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in columns})


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    decode = json.JSONDecoder(parse_float=exact_float, object_pairs_hook=_object).decode
    # Not `splitlines`: a text may contain other line separators, such as U+2028.
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = decode(line.decode("utf-8"))
        except UnicodeDecodeError:
            raise ValueError(f"'{path}', line {number}, is not text in UTF-8. Convert the file to UTF-8.") from None
        except RecursionError:
            raise ValueError(f"'{path}', line {number}, is nested too deeply. Write the value as text.") from None
        except InexactValueError as error:
            raise ValueError(f"'{path}', line {number}, {error}") from None
        except ValueError as error:
            raise ValueError(f"'{path}', line {number}, is not JSON: {error}.") from None
        if not isinstance(row, dict):
            raise ValueError(f"'{path}', line {number}, is not an object with a value for each column.")  # noqa: TRY004
        yield row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InexactValueError(f"has two values for {twice!r}. Rename one of them.")
    return found
