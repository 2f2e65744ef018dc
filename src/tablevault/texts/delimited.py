"""Delimited text (CSV, TSV) as frames: nothing is guessed that would lose a digit."""

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
"""Among numbers and truth values; among texts they are texts."""
_TRUTH = "^(true|True|TRUE|false|False|FALSE)$"
_WHOLE = "^(0|-?[1-9][0-9]*)$"
_INFINITE = "^(-?inf|-?Infinity)$"
_FRACTION = r"^-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$|^(NaN|nan)$|" + _INFINITE
_EXACT_IN_FLOAT = 2**53
_NULLABLE = {
    pa.bool_(): pd.BooleanDtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.string(): pd.StringDtype(),
}


def read_delimited(path: str | PathLike[str]) -> pa.Table:
    """Return the rows of a delimited text file, in UTF-8, as an Arrow table.

    A field that is empty and not in quotation marks is null. A column whose fields are all whole numbers, fractions or
    truth values (`true`, `True`, `TRUE`, …) has that type; among these, `NA`, `N/A`, `null`, `None` and the like are
    null, too. Every other column is text, exactly as it stands there: also one with `00501` or `+49` in it, or with a
    whole number of more digits than 64 bits hold, since these are names and not amounts.

    Raises
    ------
    ValueError
        If a row has more or fewer fields than the first line, if a column has no name or that of another, if the text
        is not UTF-8, or if the columns seem to be separated by something else.
    """
    separator = "\t" if Path(path).suffix.lower() == ".tsv" else ","
    names = _header(path, separator)
    texts = _read_texts(path, separator, names)
    return pa.table([_typed(texts.column(at)) for at in range(len(names))], names=names)


def with_nullable_types(table: pa.Table) -> pd.DataFrame:
    """Return the fields as a frame with pandas' nullable types."""
    return pd.DataFrame({name: _series(table.column(name)) for name in table.column_names})


def _series(column: pa.ChunkedArray) -> pd.Series[Any]:
    if column.type != pa.float64():
        series: pd.Series[Any] = column.to_pandas(types_mapper=_NULLABLE.get)
        return series
    # By themselves, neither pandas nor Arrow keeps NaN apart from null.
    values = pc.fill_null(column, 0.0).to_numpy()
    return pd.Series(pd.arrays.FloatingArray(values, pc.is_null(column).to_numpy()))


def _header(path: str | PathLike[str], separator: str) -> list[str]:
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            names = next(csv.reader(file, delimiter=separator), [])
        except csv.Error as error:
            raise ValueError(f"The first line of '{path}' cannot be read: {error}.") from error
    if not all(map(_is_unicode, names)):
        raise ValueError(f"The first line of '{path}' is not text in UTF-8. Convert the file to UTF-8.")
    if not names:
        raise ValueError(f"'{path}' has no first line with the names of columns.")
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise ValueError(f"Column {number} of '{path}' has no name. Give it one in the first line.")
        if name in names[: number - 1]:
            raise ValueError(f"'{path}' has two columns '{name}'. Rename one of them.")
    other = next((mark for mark in ";\t|," if mark != separator and mark in names[0]), None)
    if len(names) == 1 and other is not None:
        raise ValueError(
            f"'{path}' has the one column {names[0]!r}: it seems to be separated by {other!r}, not {separator!r}. "
            "Write it with commas, or as a .tsv file with tabs."
        )
    return names


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _read_texts(path: str | PathLike[str], separator: str, names: list[str]) -> pa.Table:
    """Return every field as text; empty fields without quotation marks are null."""
    numbered = [str(position) for position in range(len(names))]
    try:
        texts = pa_csv.read_csv(
            str(path),
            # Only with one thread do the messages name the line.
            pa_csv.ReadOptions(column_names=numbered, skip_rows_after_names=1, use_threads=False),
            # A blank line of a file of one column is an empty field.
            pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True, ignore_empty_lines=len(names) > 1),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys(numbered, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        advice = "Convert it to UTF-8." if "UTF8" in str(error) else "Every row needs as many fields as the first line."
        raise ValueError(
            f"'{path}' cannot be read as a table of {len(names)} columns: {str(error).rstrip('.')}. {advice}"
        ) from error
    _check_quotation_marks(path, separator)
    return texts


def _check_quotation_marks(path: str | PathLike[str], separator: str) -> None:
    """Raise `ValueError` if the last quotation mark is never closed: all that follows would be one field."""
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
    """Return a column of texts as numbers or truth values if that loses nothing of it."""
    trimmed = pc.utf8_trim_whitespace(texts)
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
    except pa.ArrowInvalid:  # More digits than the type has.
        return texts


def _finite(values: pa.ChunkedArray, texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts as fractions; as they are if one of them is larger than a fraction can be."""
    fractions = values.cast(pa.float64())
    return fractions if _all(pc.equal(pc.is_inf(fractions), pc.match_substring_regex(values, _INFINITE))) else texts


def _is_exact_as_float(whole: pa.ChunkedArray) -> bool:
    return _all(pc.less_equal(pc.abs_checked(whole), _EXACT_IN_FLOAT))


def _all(matches: pa.ChunkedArray) -> bool:
    return pc.all(matches).as_py() in (True, None)
