"""Instances as SQL sees them."""

from __future__ import annotations

from pathlib import Path

from tablevault.sql_engine.frame_views import FrameFile
from tablevault.storage.dtypes import Kind
from tablevault.storage.frames import read_schema


def frame_file(path: Path, artifacts: Path | None) -> FrameFile:
    """Return a frame file for SQL.

    Parameters
    ----------
    path
        The file.
    artifacts
        The folder that paths of artifacts begin with; `None` to leave them relative.
    """
    types, _ = read_schema(path)
    named = [name for name, column_type in types.items() if column_type.kind is Kind.ARTIFACT]
    return FrameFile(
        str(path),
        {name: column_type.arrow for name, column_type in types.items()},
        frozenset(name for name, column_type in types.items() if column_type.kind is Kind.JSON),
        dict.fromkeys(named, f"{artifacts}/") if artifacts is not None else None,
    )
