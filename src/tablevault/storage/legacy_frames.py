"""Frames of TableVault 0.1.x, stored as a CSV file and the dtypes of its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tablevault.errors import TVFileError
from tablevault.storage.artifacts import normalise_name
from tablevault.storage.column_types import ColumnType, Kind, category_of, named_type, parse_dtype
from tablevault.storage.frame_data import ROW_NUMBER, FrameData, table_from_frame

_TEXTS = frozenset({"string", "str", "object"})

# Texts that version 0.1.x read as missing in non-text columns: the defaults of pandas.
_MISSING = pa.array(
    [
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    ]
)


def read_legacy_frame(path: Path, dtypes: Mapping[str, str]) -> tuple[FrameData, list[str]]:
    """Read a frame of version 0.1.x; return it with descriptions of the changes that were necessary.

    Text is kept verbatim; only an empty cell is null. A column whose values do not fit its dtype becomes text.

    Parameters
    ----------
    path
        The CSV file.
    dtypes
        The dtypes recorded beside it, by column.

    Raises
    ------
    TVFileError
        If the file cannot be read as CSV.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    types: dict[str, ColumnType] = {}
    problems = []
    for written, texts in _texts(path).items():
        name, dtype = written, dtypes.get(written)
        if written == ROW_NUMBER:
            name = f"{ROW_NUMBER}_"
            problems.append(
                f"column '{ROW_NUMBER}' was renamed to '{name}', because '{ROW_NUMBER}' is reserved for row numbers"
            )
        try:
            columns[name], types[name] = _inferred(texts) if dtype is None else _converted(texts, dtype)
        except (pa.ArrowException, ValueError, OverflowError) as error:
            columns[name], types[name] = _text(texts), named_type("string")
            problems.append(
                f"column '{name}' was imported as text, because a value does not fit its dtype {dtype} ({error})"
            )
    return table_from_frame(pa.table(columns), types), problems


def _texts(path: Path) -> dict[str, pa.ChunkedArray]:
    """Return the verbatim cells of the file, by column."""
    try:
        frame = pd.read_csv(path, dtype=str, na_filter=False, low_memory=False, encoding="utf-8")
    except pd.errors.EmptyDataError:
        return {}
    except (ValueError, pd.errors.ParserError) as error:
        raise TVFileError(f"The frame {path} cannot be read as CSV ({error}).") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise TVFileError(f"The frame {path} cannot be read as CSV (its rows have more cells than its header).")
    return {str(name): pa.chunked_array([pa.array(frame[name], type=pa.string())]) for name in frame.columns}


def _converted(texts: pa.ChunkedArray, dtype: str) -> tuple[pa.ChunkedArray, ColumnType]:
    """Convert a column to its recorded dtype.

    Raises `ValueError` or `ArrowException` if a value does not fit.
    """
    if dtype in _TEXTS:
        return _text(texts), named_type("string")
    if dtype == "category":
        column = _text(texts)
        return pc.dictionary_encode(column), category_of(named_type("string"))
    column_type = parse_dtype(dtype) or named_type("string")
    if column_type.kind is Kind.ARTIFACT:
        return _artifacts(texts), column_type
    if dtype.startswith("datetime64"):
        return _moments(texts, column_type, _datetimes), column_type
    if dtype.startswith("timedelta64"):
        return _moments(texts, column_type, pd.to_timedelta), column_type
    return _cast(_without_missing(texts), column_type.arrow), column_type


def _inferred(texts: pa.ChunkedArray) -> tuple[pa.ChunkedArray, ColumnType]:
    """Convert a column without a recorded dtype to the first type that fits.

    Version 0.1.x did the same.
    """
    values = _without_missing(texts)
    if values.null_count < len(values):
        for name in ("Int64", "Float64", "boolean"):
            try:
                return values.cast(named_type(name).arrow), named_type(name)
            except pa.ArrowException:
                continue
    return _text(texts), named_type("string")


def _text(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _without_missing(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.is_in(texts, _MISSING), pa.scalar(None, pa.string()), texts)


def _cast(values: pa.ChunkedArray, arrow: pa.DataType) -> pa.ChunkedArray:
    try:
        return values.cast(arrow)
    except pa.ArrowInvalid:
        if not pa.types.is_integer(arrow):
            raise
        # A whole number may be written as 3.0; the cast refuses any other.
        return values.cast(pa.float64()).cast(arrow)


def _moments(
    texts: pa.ChunkedArray, column_type: ColumnType, parse: Callable[[pd.Series], pd.Series]
) -> pa.ChunkedArray:
    parsed = parse(_without_missing(texts).to_pandas().astype(object))
    return pa.chunked_array([pa.array(parsed, from_pandas=True)]).cast(column_type.arrow)


def _datetimes(texts: pd.Series) -> pd.Series:
    return pd.to_datetime(texts, format="ISO8601", utc=bool(texts.dropna().str.contains(r"[+-]\d\d:\d\d$").any()))


def _artifacts(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    names = _text(texts)
    for name in names.unique().drop_null().to_pylist():
        normalise_name(name)
    return names
