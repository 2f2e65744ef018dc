"""Storage of frames in one Parquet file each, written once and readable by any Parquet tool.

Column properties that Parquet cannot express (JSON, artifacts, pandas' dtypes, the order of categories) are stored in
the file's metadata under one key, as JSON; other readers ignore it and get natural types. `checksums` guards the file.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tablevault.errors import TVFileError
from tablevault.names import nearest
from tablevault.storage import files
from tablevault.storage.checksums import DamagedFileError, Seal, Span, seal
from tablevault.storage.column_types import ColumnType, Kind, holds_arrays
from tablevault.storage.distant_rows import UnknownPageError, read_distant_rows
from tablevault.storage.frame_data import FrameData
from tablevault.storage.parquet_leaves import leaf_paths, leaves_of_columns, leaves_with_statistics
from tablevault.storage.vectors import (
    array_form,
    as_extension,
    has_null_items,
    retyped,
    tensor_type,
    with_required_items,
)
from tablevault.values.contents import Page

_KEY = b"tablevault"
_FORMATS = (1, 2)
"""Format 2 has vector or tensor columns."""
_MAXIMUM_ROWS_PER_GROUP = 2**20
_BYTES_PER_GROUP = 2**28
_MAXIMUM_ROWS_PER_BATCH = 2**16
_DISTANT = 2**16
"""Number of rows of a row group up to which decoding is faster than seeking."""
_COMPRESSION = "zstd"
_MAXIMUM_FOOTER_BYTES = 2**31 - 1
_BYTES_PER_CHECK = 2**26
_ALL_ROWS = Page()


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """A frame file at the time of writing."""

    size: int
    """In bytes."""
    sha256: str
    """Hexadecimal digest of the file."""
    rows: int


class _StoredType(msgspec.Struct, frozen=True):
    name: str
    kind: Kind
    pandas: str


class _Metadata(msgspec.Struct, frozen=True):
    format: int
    arrow_schema: str
    """The exact Arrow types of the columns, as an Arrow IPC message: Parquet has no seconds, for example."""
    types: list[_StoredType]
    categories: dict[str, str]
    """All categories of each categorical column, in their order, as an Arrow IPC stream."""


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """How a column is stored. Equal storage implies equal cells, but not vice versa."""

    type: ColumnType
    categories: str | None
    groups: tuple[tuple[int, tuple[bytes, ...]], ...]
    """For each row group, its row count and the digests of the column's bytes in the file."""


def write_frame(path: Path, data: FrameData, plain: Collection[str] = ()) -> FrameRecord:
    """Write a frame to a new file.

    Raises `FileExistsError` if it exists. The caller makes it durable.

    A partial file is removed.

    Parameters
    ----------
    path
        The file.
    data
        The frame.
    plain
        Columns to write uncompressed, because compression would take more time than it is worth.
    """
    created = False
    try:
        with path.open("x+b") as file:
            created = True
            _write_parquet(file, data, plain)
            file.flush()
            size = file.seek(0, os.SEEK_END)
        record = FrameRecord(size, files.sha256(path), len(data))
        created = False
    finally:
        if created:
            with contextlib.suppress(OSError):
                path.unlink()
    return record


def whole_frame(path: Path) -> FrameRecord | None:
    """Return the record of a frame file; `None` if the file is missing or incomplete."""
    try:
        data = read_frame(path)
    except (FileNotFoundError, TVFileError):
        return None
    return FrameRecord(path.stat().st_size, files.sha256(path), len(data))


def read_frame(path: Path, columns: Sequence[str] | None = None, page: Page = _ALL_ROWS) -> FrameData:
    """Read columns and rows from a frame file.

    Reads the named columns (`None`: all), in that order, and the rows of a page.

    Only the requested columns are read and checked.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    KeyError
        If a column does not exist.
    TVFileError
        If the file is damaged, or was not written by TableVault.
    """
    with files.plain_file_expected(path), path.open("rb") as file, _damage_named(path):
        guard = Seal.read(file)
        with pa.OSFile(str(path)) as source, _open_parquet(source) as parquet:
            metadata = _metadata(parquet)
            stored = _stored_schema(metadata)
            names = stored.names if columns is None else _known(columns, stored.names)
            groups, page = _groups_needed(parquet, page)
            _check_columns(file, guard, groups, _leaves(stored, names))
            table = _read_distant(file, parquet, guard, groups, stored, names, page)
            if table is None:
                table = _read(parquet, groups, None if columns is None else names, page)
        # Given `a`, Arrow also selects a column named `a.b`; surplus columns are dropped by name.
        return _restored(table.select(names), stored, metadata)


def column_blocks(path: Path, columns: Sequence[str], size: int) -> list[list[str]]:
    """Return all columns of a file in blocks of about a given size.

    The size is that in the file; a block has at least one column.

    The footer describes all columns, so that reading them one by one takes time quadratic in their number.
    """
    average = path.stat().st_size // max(len(columns), 1) + 1
    count = max(size // average, 1)
    return [list(columns[start : start + count]) for start in range(0, len(columns), count)]


def check_columns(path: Path, columns: Sequence[str]) -> None:
    """Compare columns with their checksums, without decoding them; raises as `read_frame` does."""
    with files.plain_file_expected(path), path.open("rb") as file, _damage_named(path):
        guard = Seal.read(file)
        with _open_parquet(file) as parquet:
            stored = _stored_schema(_metadata(parquet))
        names = _known(columns, stored.names)
        _check_columns(file, guard, range(len(guard.columns)), _leaves(stored, names))


def check_frame(path: Path) -> None:
    """Read a whole file, a block of columns at a time; raises as `read_frame` does."""
    types, _ = read_schema(path)
    for block in column_blocks(path, list(types), _BYTES_PER_CHECK):
        read_frame(path, block)


def read_schema(path: Path) -> tuple[dict[str, ColumnType], int]:
    """Return the types of the columns and the number of rows in a file.

    Raises like `read_frame`.
    """
    with files.plain_file_expected(path), path.open("rb") as file, _damage_named(path):
        Seal.read(file)
        with _open_parquet(file) as parquet:
            metadata = _metadata(parquet)
            return _types(metadata, _stored_schema(metadata)), int(parquet.metadata.num_rows)


def stored_columns(path: Path) -> dict[str, StoredColumn]:
    """Return how each column of a file is stored, without reading cells.

    Raises like `read_frame`.
    """
    with files.plain_file_expected(path), path.open("rb") as file, _damage_named(path):
        guard = Seal.read(file)
        with _open_parquet(file) as parquet:
            metadata = _metadata(parquet)
            schema = _stored_schema(metadata)
            leaves = leaves_of_columns(schema)
            rows = [parquet.metadata.row_group(group).num_rows for group in range(parquet.metadata.num_row_groups)]
            return {
                name: StoredColumn(
                    column_type,
                    metadata.categories.get(name),
                    tuple(
                        (count, tuple(guard.columns[group][leaf].digest for leaf in leaves[name]))
                        for group, count in enumerate(rows)
                    ),
                )
                for name, column_type in _types(metadata, schema).items()
            }


def _write_parquet(file: BinaryIO, data: FrameData, plain: Collection[str]) -> None:
    types = list(data.types.values())
    fields = zip(data.table.schema, types, strict=True)
    schema = pa.schema([pa.field(field.name, _physical(field.type, known)) for field, known in fields])
    encoding = _encoding(data, schema, plain) | {"write_statistics": leaves_with_statistics(data.table, schema)}
    with pq.ParquetWriter(file, schema, **encoding) as writer:
        step = _rows_per_group(data.table)
        for start in range(0, max(len(data), 1), step):
            part = data.table.slice(start, step)
            columns = [_decoded(column, known) for column, known in zip(part.columns, types, strict=True)]
            writer.write_table(pa.table(columns, schema=schema))
        writer.add_key_value_metadata({_KEY: msgspec.json.encode(_described(data))})
    file.flush()
    with _open_parquet(file) as parquet:
        spans = _spans(parquet.metadata)
    seal(file, spans)


def _rows_per_group(table: pa.Table) -> int:
    # Large groups compress better; but a group is held in memory while it is written.
    bytes_per_row = table.nbytes // max(table.num_rows, 1) + 1
    return int(max(min(_MAXIMUM_ROWS_PER_GROUP, _BYTES_PER_GROUP // bytes_per_row), 1))


def _encoding(data: FrameData, schema: pa.Schema, plain: Collection[str]) -> dict[str, Any]:
    """Return the compression of the columns; floats in lists compress poorly and then read slowly."""
    forms = {name: array_form(known) for name, known in data.types.items()}
    if not plain and not any(forms.values()):
        return {"compression": _COMPRESSION}
    compression: dict[str, str] = {}
    dictionaries: list[str] = []
    for name, paths in leaf_paths(data.table.schema, schema).items():
        form = forms[name]
        is_left = name in plain or (form is not None and form.dtype.kind == "f")
        compression.update(dict.fromkeys(paths, "none" if is_left else _COMPRESSION))
        if name not in plain and form is None:
            dictionaries += paths
    return {"compression": compression, "use_dictionary": dictionaries}


def _physical(arrow: pa.DataType, column_type: ColumnType) -> pa.DataType:
    if column_type.kind is Kind.VECTOR:
        return with_required_items(arrow)
    form = array_form(column_type) if column_type.kind is Kind.TENSOR else None
    if form is not None:
        return tensor_type(form)
    return arrow.value_type if pa.types.is_dictionary(arrow) else arrow


def _decoded(column: pa.ChunkedArray, column_type: ColumnType) -> pa.ChunkedArray:
    if column_type.kind is Kind.VECTOR:
        return retyped(column, is_nullable=False)
    form = array_form(column_type) if column_type.kind is Kind.TENSOR else None
    if form is not None:
        return as_extension(column, form)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _described(data: FrameData) -> _Metadata:
    return _Metadata(
        format=_FORMATS[any(map(holds_arrays, data.types.values()))],
        arrow_schema=_base64(data.table.schema.remove_metadata().serialize()),
        types=[_StoredType(known.name, known.kind, known.pandas) for known in data.types.values()],
        categories={
            name: _base64(_categories_message(data.table.column(position)))
            for position, name in enumerate(data.types)
            if pa.types.is_dictionary(data.table.schema.field(position).type)
        },
    )


def _categories_message(column: pa.ChunkedArray) -> pa.Buffer:
    categories = column.chunk(0).dictionary if column.num_chunks else pa.array([], column.type.value_type)
    batch = pa.record_batch([categories], names=["categories"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def _base64(data: Any) -> str:
    return base64.b64encode(data).decode("ascii")


def _open_parquet(file: Any) -> pq.ParquetFile:
    # Footers with many categories exceed Arrow's default limit for untrusted files.
    return pq.ParquetFile(file, thrift_string_size_limit=_MAXIMUM_FOOTER_BYTES)


def _spans(metadata: pq.FileMetaData) -> list[list[Span]]:
    return [
        [_span(metadata.row_group(group).column(leaf)) for leaf in range(metadata.num_columns)]
        for group in range(metadata.num_row_groups)
    ]


def _span(chunk: pq.ColumnChunkMetaData) -> Span:
    start = chunk.data_page_offset
    if chunk.has_dictionary_page:
        start = min(start, chunk.dictionary_page_offset)
    return start, chunk.total_compressed_size


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Translate errors about a damaged file into one that names it.

    They come from Arrow and from the checks here.
    """
    try:
        yield
    except KeyError:
        raise
    except OSError as error:
        if error.errno is not None:  # The operating system's, not Arrow's.
            raise
        raise _damaged(path, error) from error
    except (pa.ArrowException, ValueError, TypeError, IndexError, OverflowError, msgspec.MsgspecError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> TVFileError:
    return TVFileError(f"{path} is damaged, or was not written by TableVault: {error}. Restore it from a backup.")


def _metadata(parquet: pq.ParquetFile) -> _Metadata:
    stored = (parquet.metadata.metadata or {}).get(_KEY)
    if stored is None:
        raise DamagedFileError("its column metadata is missing")
    metadata = msgspec.json.decode(stored, type=_Metadata)
    if metadata.format not in _FORMATS:
        raise DamagedFileError(f"its format {metadata.format} is unknown; a newer TableVault may read it")
    return metadata


def _stored_schema(metadata: _Metadata) -> pa.Schema:
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(metadata.arrow_schema)))
    if len(schema) != len(metadata.types) or len(set(schema.names)) != len(schema):
        raise DamagedFileError("its column metadata is inconsistent")
    return schema


def _types(metadata: _Metadata, schema: pa.Schema) -> dict[str, ColumnType]:
    return {
        field.name: ColumnType(stored.name, field.type, stored.kind, stored.pandas)
        for field, stored in zip(schema, metadata.types, strict=True)
    }


def _known(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    known = set(names)
    for column in columns:
        if column not in known:
            raise KeyError(f"there is no column {column!r}{nearest(column, names)}")
    return list(columns)


def _leaves(schema: pa.Schema, names: Sequence[str]) -> list[int]:
    """Return the Parquet column indices of the named columns."""
    leaves = leaves_of_columns(schema)
    return [leaf for name in names for leaf in leaves[name]]


def _groups_needed(parquet: pq.ParquetFile, page: Page) -> tuple[list[int], Page]:
    """Return the row groups that hold the rows of a page.

    Also returns the page relative to these groups.
    """
    total = parquet.metadata.num_row_groups
    if page == _ALL_ROWS:
        return list(range(total)), page
    needed: list[int] = []
    skipped = found = 0
    for group in range(total):
        if page.rows is not None and found >= page.offset + page.rows:
            break
        count = parquet.metadata.row_group(group).num_rows
        if found + count <= page.offset:
            skipped += count
        else:
            needed.append(group)
        found += count
    return needed, Page(page.offset - skipped, page.rows)


def _check_columns(file: BinaryIO, guard: Seal, groups: Sequence[int], leaves: Sequence[int]) -> None:
    guard.check(file, [(group, leaf) for group in groups for leaf in leaves])


def _read(parquet: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str] | None, page: Page) -> pa.Table:
    if page.rows is None:
        table = parquet.read_row_groups(groups, columns=columns)
        return table.slice(page.offset) if page.offset else table
    batches: list[pa.RecordBatch] = []
    passed_over, missing = page.offset, page.rows
    size = max(min(page.offset + page.rows, _MAXIMUM_ROWS_PER_BATCH), 1)
    for batch in parquet.iter_batches(batch_size=size, row_groups=groups, columns=columns):
        wanted = batch.slice(min(passed_over, len(batch)), missing)
        passed_over -= min(passed_over, len(batch))
        missing -= len(wanted)
        batches.append(wanted)
        if missing <= 0:
            break
    return pa.Table.from_batches(batches) if batches else parquet.read_row_groups([], columns=columns)


def _read_distant(
    file: BinaryIO,
    parquet: pq.ParquetFile,
    guard: Seal,
    groups: Sequence[int],
    stored: pa.Schema,
    names: Sequence[str],
    page: Page,
) -> pa.Table | None:
    """Read a page far from the beginning of its row group.

    Returns `None` if there is no shortcut.
    """
    if page.offset < _DISTANT or not page.rows or len(groups) != 1:
        return None
    (group,) = groups
    leaves = leaves_of_columns(stored)
    nested = [name for name in names if stored.field(name).type.num_fields]
    spans = {name: guard.place(group, leaves[name][0]) for name in names if name not in nested}
    rows = min(page.rows, parquet.metadata.row_group(group).num_rows - page.offset)
    if not spans:
        return None
    try:
        found = read_distant_rows(file, parquet.metadata, group, spans, page.offset, rows)
    except UnknownPageError:
        return None
    if nested:
        others = _read(parquet, groups, nested, page)
        found.update((name, others.column(name)) for name in nested)
    return pa.table({name: found[name] for name in names})


def _restored(table: pa.Table, stored: pa.Schema, metadata: _Metadata) -> FrameData:
    types = _types(metadata, stored)
    columns = [
        _restored_column(table.column(position), stored.field(name).type, types[name], metadata.categories.get(name))
        for position, name in enumerate(table.column_names)
    ]
    schema = pa.schema([stored.field(name) for name in table.column_names])
    return FrameData(pa.table(columns, schema=schema), {name: types[name] for name in table.column_names})


def _restored_arrays(column: pa.ChunkedArray, arrow: pa.DataType, column_type: ColumnType) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        storage = column.type.storage_type
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], type=storage)
    if array_form(column_type) is None or has_null_items(column):
        raise DamagedFileError(f"a column of {column_type.name} has null items or an invalid form")
    found = retyped(column, is_nullable=True)
    if found.type != arrow:
        raise DamagedFileError(f"a column of {column_type.name} is stored as {column.type}")
    return found


def _restored_column(
    column: pa.ChunkedArray, arrow: pa.DataType, column_type: ColumnType, categories: str | None
) -> pa.ChunkedArray:
    if holds_arrays(column_type):
        return _restored_arrays(column, arrow, column_type)
    if not pa.types.is_dictionary(arrow):
        return column if column.type == arrow else column.cast(arrow)
    if categories is None:
        raise DamagedFileError("the categories of a column are missing")
    with pa.ipc.open_stream(base64.b64decode(categories)) as stream:
        values = stream.read_all().column(0).combine_chunks()
    plain = column.cast(arrow.value_type)
    codes = pc.index_in(plain, value_set=values, skip_nulls=True).cast(arrow.index_type)
    if codes.null_count != plain.null_count:
        raise DamagedFileError("a value is not among its column's categories")
    empty = pa.array([], type=arrow.index_type)  # Keeps the categories of a column without rows.
    chunks = [pa.DictionaryArray.from_arrays(chunk, values, ordered=arrow.ordered) for chunk in codes.chunks or [empty]]
    return pa.chunked_array(chunks, type=arrow)
