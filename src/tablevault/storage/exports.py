"""Exact export of frames for other programs.

Values without a type in the format are written as text.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import feather, parquet

from tablevault.errors import TVArgumentError, TVTableError
from tablevault.storage.cell_texts import check_times, is_written_by_arrow, json_values, text_column
from tablevault.storage.column_types import CellError, ColumnType, holds_arrays
from tablevault.storage.frame_data import FrameData
from tablevault.storage.parquet_leaves import leaves_with_statistics
from tablevault.storage.vectors import not_finite
from tablevault.system.warnings import warn

_ROWS_AT_ONCE = 65_536
"""Number of rows converted to Python values at a time."""

_QUOTED = re.compile(r"[\x00-\x1f\",;|\ufeff]")
"""Quotation marks, separators and characters that some readers skip, in the name of a column."""


def format_of(output: Path) -> str:
    """Return the format for a file's suffix, without the dot; `csv` if there is no suffix.

    Raises `TVArgumentError` for an unknown suffix, with the known ones, and for a folder.
    """
    if output.is_dir():
        raise TVArgumentError(f"The output '{output}' is a folder. Name a file.")
    name = output.suffix.lower().removeprefix(".") or "csv"
    if name not in _WRITERS:
        *most, last = (f".{known}" for known in _WRITERS)
        raise TVArgumentError(
            f"Unknown suffix '{output.suffix}' of '{output.name}'. Use {', '.join(most)} or {last}; "
            "no suffix means .csv."
        )
    return name


def export_frame(data: FrameData, output: Path) -> None:
    """Write a frame to a file in the format of its suffix, replacing an existing file.

    The file appears whole or not at all, unless `output` is not a regular file (a pipe, a device).

    Raises
    ------
    TVArgumentError
        If the suffix is unknown.
    TVTableError
        If a value cannot be written exactly; names column and row.
    """
    name = format_of(output)
    write = _WRITERS[name]
    if name in _WITHOUT_ARRAYS:
        _warn_of_not_finite(data)
    with _whole(output) as path:
        write(data, path)


def _warn_of_not_finite(data: FrameData) -> None:
    """Warn of non-finite numbers in vectors and tensors, which JSON cannot express."""
    for position, (name, column_type) in enumerate(data.types.items()):
        if holds_arrays(column_type):
            count = not_finite(data.table.column(position))
            if count:
                warn(f"Column {name!r}: {count:,} numbers are NaN or infinite, and are written as null.")


def write_frame_as(kind: str, data: FrameData, path: Path) -> None:
    """Write a frame to a new file in a format such as `csv`.

    The caller moves the file into place.
    """
    if kind in _WITHOUT_ARRAYS:
        _warn_of_not_finite(data)
    _WRITERS[kind](data, path)


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    if output.exists() and not output.is_file():
        yield output
        return
    target = output.resolve()  # Replace the target of a link, not the link.
    partial = target.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _write_csv(data: FrameData, path: Path) -> None:
    _write_delimited(data, path, ",")


def _write_tsv(data: FrameData, path: Path) -> None:
    _write_delimited(data, path, "\t")


def _write_delimited(data: FrameData, path: Path, delimiter: str) -> None:
    """Quote text and write null as an empty field, so that empty text and null differ."""
    kind = "tab-separated text" if delimiter == "\t" else "CSV"
    columns = [_delimited_column(data, position, kind) for position in range(len(data.types))]
    options = arrow_csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="needed")
    with path.open("wb") as file:
        file.write(_header(data, delimiter))
        if columns:
            arrow_csv.write_csv(pa.table(columns, names=[str(at) for at in range(len(columns))]), file, options)


def _delimited_column(data: FrameData, position: int, kind: str) -> pa.ChunkedArray:
    column = data.table.column(position)
    try:
        return _delimited(column, _type_at(data, position))
    except CellError as error:
        raise refused(list(data.types)[position], kind, error) from error


def refused(name: str, kind: str, error: CellError, start: int = 0) -> TVTableError:
    """Return the error for a cell that a format cannot hold.

    Parameters
    ----------
    name
        The column.
    kind
        The name of the format.
    error
        The refusal of the cell.
    start
        The row of the cell at position 0.
    """
    return TVTableError(
        f"Column {name!r}, row {start + error.position}, cannot be written as {kind}: {error}. Write the frame as "
        ".parquet, which has a type for it."
    )


def _delimited(column: pa.ChunkedArray, column_type: ColumnType) -> pa.ChunkedArray:
    check_times(column)
    if pa.types.is_float16(column.type):
        return column.cast(pa.float32())
    # Numbers and times are unquoted, as Arrow writes them; floats include `nan`, `inf` and `-inf`.
    bare = pa.types.is_floating(column.type) or is_written_by_arrow(column.type)
    return column if bare else text_column(column, column_type)


def _header(data: FrameData, delimiter: str) -> bytes:
    return (delimiter.join(map(_header_field, data.types)) + "\n").encode()


def _header_field(name: str) -> str:
    """Return a name as a field of the header.

    It is in quotes if a reader could take it for something else.
    """
    return '"' + name.replace('"', '""') + '"' if _QUOTED.search(name) or not name.strip() else name


def _write_json(data: FrameData, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, row in enumerate(_json_rows(data)):
            file.write(",\n" if number else "\n")
            file.write(row)
        file.write("\n]\n")


def _write_json_lines(data: FrameData, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{row}\n" for row in _json_rows(data))


def _json_rows(data: FrameData) -> Iterator[str]:
    return map(json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode, json_records(data))


def json_records(data: FrameData) -> Iterator[dict[str, object]]:
    """Yield each row as an object that `json.dumps` writes exactly."""
    names = list(data.types)
    for start in range(0, len(data), _ROWS_AT_ONCE):
        part = data.table.slice(start, _ROWS_AT_ONCE)
        columns = [_json_column(data, part, position, start) for position in range(len(names))]
        for cells in zip(*columns, strict=True):
            yield dict(zip(names, cells, strict=True))


def _json_column(data: FrameData, part: pa.Table, position: int, start: int) -> list[object]:
    try:
        return json_values(part.column(position), _type_at(data, position))
    except CellError as error:
        raise refused(list(data.types)[position], "JSON", error, start) from error


def _write_parquet(data: FrameData, path: Path) -> None:
    with path.open("wb") as file:  # Arrow itself opens no path that is not Unicode.
        write_parquet(data.table, file)


def write_parquet(table: pa.Table, file: BinaryIO | Path, compression: str = "snappy") -> None:
    """Write a table as Parquet for other programs."""
    written = parquet_table(table)
    statistics = leaves_with_statistics(written, written.schema)
    parquet.write_table(written, file, compression=compression, write_statistics=statistics)


def parquet_table(table: pa.Table) -> pa.Table:
    """Return a table for a Parquet file.

    Readers lose the types of categories, except of texts and bytes.
    """
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and not _is_text_or_bytes(field.type.value_type):
            table = table.set_column(position, field.name, table.column(position).cast(field.type.value_type))
    return table


def _is_text_or_bytes(arrow: pa.DataType) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(is_one(arrow) for is_one in kinds)


def _write_feather(data: FrameData, path: Path) -> None:
    with path.open("wb") as file:
        feather.write_feather(data.table, file)


def _write_arrow(data: FrameData, path: Path) -> None:
    with path.open("wb") as file, pa.ipc.new_file(file, data.table.schema) as writer:
        writer.write_table(data.table)


def _write_excel(data: FrameData, path: Path) -> None:
    from tablevault.storage.excel import write_sheet

    write_sheet(data, path)


def _type_at(data: FrameData, position: int) -> ColumnType:
    return list(data.types.values())[position]


_WITHOUT_ARRAYS = frozenset({"csv", "tsv", "json", "jsonl", "xlsx"})
_WRITERS: dict[str, Callable[[FrameData, Path], None]] = {
    "csv": _write_csv,
    "tsv": _write_tsv,
    "parquet": _write_parquet,
    "json": _write_json,
    "jsonl": _write_json_lines,
    "arrow": _write_arrow,
    "feather": _write_feather,
    "xlsx": _write_excel,
}
