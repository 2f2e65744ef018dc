"""Interface of the layers above to column types, cells and columns."""

from __future__ import annotations

from tablevault.storage.cells import CellChecker, cell_checker, column_checker, unchanged_kinds
from tablevault.storage.column_types import (
    CellError,
    ColumnType,
    Kind,
    artifact_type,
    holds_arrays,
    json_type,
    named_type,
    parse_dtype,
    type_of_arrow,
)
from tablevault.storage.columns import Column, build_column, natural_type, plain_values

__all__ = [
    "CellChecker",
    "CellError",
    "Column",
    "ColumnType",
    "Kind",
    "artifact_type",
    "build_column",
    "cell_checker",
    "column_checker",
    "holds_arrays",
    "json_type",
    "named_type",
    "natural_type",
    "parse_dtype",
    "plain_values",
    "type_of_arrow",
    "unchanged_kinds",
]
