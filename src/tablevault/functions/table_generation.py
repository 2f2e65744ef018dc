"""Functions for index builders.

They make rows from a folder, a frame, a CSV file or a list.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = [
    "create_data_table_from_csv",
    "create_data_table_from_list",
    "create_data_table_from_table",
    "create_paper_table_from_folder",
]


def create_paper_table_from_folder(
    folder_dir: str | PathLike[str],
    copies: int,
    artifact_folder: str | PathLike[str],
    extension: str = ".pdf",
) -> pd.DataFrame:
    """Copy the files of a folder into an artifact folder and return one row per copy.

    Parameters
    ----------
    folder_dir
        The folder to search, without its subfolders.
    copies
        Number of copies of each file, at least 1. A single copy keeps the file's name; of several, copy number
        `i` (from 0) of `a.pdf` is called `a_i.pdf`.
    artifact_folder
        Target folder of the copies, `~ARTIFACT_FOLDER~` in a builder.
    extension
        Suffix of the file names; case-sensitive.

    Returns
    -------
    pandas.DataFrame
        In the order of the files' names: `file_name` (the copy's name without its extension), `artifact_name` (the
        copy's name, a path relative to the artifact folder) and `original_path`.
    """
    if copies < 1:
        raise ValueError(f"copies must be at least 1, not {copies}")
    rows: list[tuple[str, str, str]] = []
    for source in _files(Path(folder_dir), extension):
        for stem in _stems(source.stem, copies):
            target = Path(artifact_folder) / f"{stem}{source.suffix}"
            # Content only: a copy of a read-only file could not be overwritten when a paused run is resumed.
            shutil.copyfile(source, target)
            rows.append((stem, target.name, str(source)))
    return pd.DataFrame(rows, columns=["file_name", "artifact_name", "original_path"], dtype="str")


def create_data_table_from_table(
    df: pd.DataFrame, nrows: int | None = None, random_sample: bool = False
) -> pd.DataFrame:
    """Return a copy of a frame, or of at most `nrows` of its rows.

    Parameters
    ----------
    df
        The frame to copy, usually a reference such as `<<other_table>>`.
    nrows
        Maximum number of rows; all if left out.
    random_sample
        Take `nrows` distinct random rows instead of the first `nrows`.
    """
    if nrows is None:
        return df.copy()
    if nrows < 0:
        raise ValueError(f"nrows must not be negative, but it is {nrows}")
    rows = df.sample(n=min(nrows, len(df))) if random_sample else df.head(nrows)
    return rows.reset_index(drop=True)


def create_data_table_from_csv(csv_file_path: str | PathLike[str]) -> pd.DataFrame:
    """Read a CSV file (tab-separated if named `.tsv`) whose first line names the columns.

    See `tablevault.texts.delimited.read_delimited` for the rules. The types are pandas' nullable ones.

    Raises
    ------
    ValueError
        If the file is not such a table; names file and line or column.
    """
    from tablevault.texts.delimited import read_delimited, with_nullable_types

    return with_nullable_types(read_delimited(csv_file_path))


def create_data_table_from_list(vals: Iterable[Any]) -> pd.DataFrame:
    """Return a frame with one column, `temp_name`, that has one row per value."""
    # `object` keeps each value unchanged, whereas inference would turn `[1, None]` into floats.
    return pd.DataFrame({"temp_name": pd.Series(list(vals), dtype="object")})


def _files(folder: Path, extension: str) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.name.endswith(extension) and path.is_file())
    for path in found:
        try:
            str(path).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the path of the file {os.fsencode(path)!r} is not UTF-8, so no column can hold it; rename it, "
                f"for example to {path.name.encode('utf-8', 'replace').decode()!r}"
            ) from error
    return found


def _stems(stem: str, copies: int) -> list[str]:
    return [stem] if copies == 1 else [f"{stem}_{copy}" for copy in range(copies)]
