"""Lossless reading of delimited text (CSV, TSV)."""

from __future__ import annotations

import csv
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pa_csv

_MEANS_NULL = ["NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "None"]
"""Null markers in columns of numbers or truth values; in text columns they are text."""
_TRUTH = "^(true|True|TRUE|false|False|FALSE)$"
_WHOLE = "^(0|-?[1-9][0-9]*)$"
_INFINITE = "^(-?inf|-?Infinity)$"
_FRACTION = r"^-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$|^(NaN|nan)$|" + _INFINITE
_EXACT_IN_FLOAT = 2**53
_BLANKS = " \t"
"""Around numbers and truth values."""
_ZERO = "^-?[0.]+([eE].*)?$"
_BLOCK, _LARGEST_BLOCK = 2**20, 2**31 - 1
"""Numbers of bytes parsed at a time."""
_NULLABLE = {
    pa.bool_(): pd.BooleanDtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.string(): pd.StringDtype(),
}


def read_delimited(path: str | PathLike[str]) -> pa.Table:
    """Read a UTF-8 delimited text file as an Arrow table.

    Empty unquoted fields are null. Columns of only whole numbers, fractions or truth values (`true`, `True`, `TRUE`,
    …) get that type; in them, `NA`, `N/A`, `null`, `None` and the like are null as well. All other columns are verbatim
    text, including columns with values such as `00501` or `+49`, or with integers that exceed 64 bits, since these are
    identifiers rather than amounts.

    Raises
    ------
    ValueError
        If a row has more or fewer fields than the first line, a column name is missing or duplicate, the text is not
        UTF-8, or the separator seems to be a different one.
    """
    separator = "\t" if Path(path).suffix.lower() == ".tsv" else ","
    names = _header(path, separator)
    texts = _read_texts(path, separator, names)
    return pa.table([_typed(texts.column(at)) for at in range(len(names))], names=names)


def with_nullable_types(table: pa.Table) -> pd.DataFrame:
    """Convert an Arrow table to a frame with pandas' nullable types."""
    return pd.DataFrame({name: _series(table.column(name)) for name in table.column_names})


def _series(column: pa.ChunkedArray) -> pd.Series[Any]:
    if column.type != pa.float64():
        series: pd.Series[Any] = column.to_pandas(types_mapper=_NULLABLE.get)
        return series
    # The default conversions do not distinguish NaN from null.
    values = pc.fill_null(column, 0.0).to_numpy()
    return pd.Series(pd.arrays.FloatingArray(values, pc.is_null(column).to_numpy()))


def _header(path: str | PathLike[str], separator: str) -> list[str]:
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        text = file.readline()
        file.seek(0)
        try:
            names = next(csv.reader(file, delimiter=separator), [])
        except csv.Error as error:
            raise ValueError(f"The first line of '{path}' cannot be read: {error}.") from error
    if not all(map(_is_unicode, names)):
        raise ValueError(f"The first line of '{path}' is not text in UTF-8. Convert the file to UTF-8.")
    if not names:
        raise ValueError(f"'{path}' has no header line. Name the columns in the first line.")
    for number, name in enumerate(names, 1):
        if not name.strip() and (not name or f'"{name}"' not in text):
            raise ValueError(f"Column {number} of '{path}' has no name. Give it one in the first line.")
        if name in names[: number - 1]:
            raise ValueError(f"'{path}' has two columns '{name}'. Rename one of them.")
    other = next((mark for mark in ";\t|," if mark != separator and mark in names[0]), None)
    if len(names) == 1 and other is not None and not text.startswith('"'):
        raise ValueError(
            f"'{path}' has the one column {names[0]!r}: it seems to be separated by {other!r}, not {separator!r}. "
            "Write it with commas, or as a .tsv file with tabs."
        )
    return names


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _read_texts(path: str | PathLike[str], separator: str, names: list[str]) -> pa.Table:
    """Read all fields as text; empty unquoted fields are null."""
    size = _BLOCK
    while True:
        try:
            texts = _parsed(path, separator, len(names), size)
            break
        except pa.ArrowInvalid as error:
            # A row, with all lines of its texts, must fit a block and a half.
            if "straddling" in str(error) and size < min(Path(path).stat().st_size, _LARGEST_BLOCK):
                size = min(size * 8, _LARGEST_BLOCK)
                continue
            advice = (
                "Convert it to UTF-8." if "UTF8" in str(error) else "Every row needs as many fields as the first line."
            )
            raise ValueError(
                f"'{path}' cannot be read as a table of {len(names)} columns: {str(error).rstrip('.')}. {advice}"
            ) from error
    _check_quotation_marks(path, separator)
    return texts


def _parsed(path: str | PathLike[str], separator: str, count: int, block_size: int) -> pa.Table:
    numbered = [str(position) for position in range(count)]
    return pa_csv.read_csv(
        str(path),
        # Error messages give the line only in single-threaded mode.
        pa_csv.ReadOptions(column_names=numbered, use_threads=False, block_size=block_size),
        # In a file with one column, a blank line is an empty field.
        pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True, ignore_empty_lines=count > 1),
        pa_csv.ConvertOptions(
            column_types=dict.fromkeys(numbered, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    ).slice(1)  # Arrow, told to skip the header, also skips the first row after one that contains NUL.


def _check_quotation_marks(path: str | PathLike[str], separator: str) -> None:
    """Raise `ValueError` for an unclosed quotation mark, after which all text would be one field."""
    if Path(path).read_bytes().count(b'"') % 2 == 0:
        return
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        try:
            for _ in reader:
                pass
        except csv.Error as error:
            if "end of data" in str(error):
                raise ValueError(
                    f"A quotation mark in '{path}' is never closed: the text ends in line {reader.line_num}."
                ) from None


def _typed(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert a text column to numbers or truth values if that is lossless."""
    trimmed = pc.utf8_trim(texts, _BLANKS)
    words = pc.is_in(trimmed, pa.array(_MEANS_NULL))
    values = pc.if_else(words, pa.scalar(None, pa.string()), trimmed)
    if values.null_count == len(values):
        return texts
    if _all(pc.match_substring_regex(values, _TRUTH)):
        return pc.equal(pc.utf8_lower(values), "true")
    if _all(pc.or_(pc.match_substring_regex(values, _WHOLE), pc.equal(values, "NaN"))):
        return _whole(pc.if_else(pc.equal(values, "NaN"), pa.scalar(None, pa.string()), values), texts)
    if _all(pc.match_substring_regex(values, _FRACTION)) and pc.any(pc.match_substring_regex(values, "[0-9]")).as_py():
        is_whole = pc.match_substring_regex(values, _WHOLE)
        whole = _whole(pc.if_else(is_whole, values, pa.scalar(None, pa.string())), texts)
        if whole.type == pa.int64() and _is_exact_as_float(whole):
            return _finite(values, texts)
    return texts


def _whole(values: pa.ChunkedArray, texts: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return values.cast(pa.int64()) if values.null_count < len(values) else pa.nulls(len(values), pa.int64())
    except pa.ArrowInvalid:  # Out of range for the type.
        return texts


def _finite(values: pa.ChunkedArray, texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert texts to floats; return them unchanged if one is out of range."""
    fractions = values.cast(pa.float64())
    is_exact = pc.and_(
        pc.equal(pc.is_inf(fractions), pc.match_substring_regex(values, _INFINITE)),
        pc.equal(pc.equal(fractions, 0.0), pc.match_substring_regex(values, _ZERO)),
    )
    return fractions if _all(is_exact) else texts


def _is_exact_as_float(whole: pa.ChunkedArray) -> bool:
    return _all(pc.less_equal(pc.abs_checked(whole), _EXACT_IN_FLOAT))


def _all(matches: pa.ChunkedArray) -> bool:
    return pc.all(matches).as_py() in (True, None)
