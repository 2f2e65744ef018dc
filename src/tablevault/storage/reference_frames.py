"""Frames read by references, either on disk, column by column, or in memory while being built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tablevault.errors import TVFileError
from tablevault.storage.column_types import ColumnType, Kind
from tablevault.storage.columns import build_column, kinds_of, natural_type
from tablevault.storage.decoded_windows import DecodedWindows, is_long
from tablevault.storage.frame_data import (
    FrameData,
    frame_of_columns,
    to_pandas,
    with_artifact_folder,
    with_nullable_types,
)
from tablevault.storage.frame_files import column_blocks, read_frame, read_schema
from tablevault.storage.storable import python_values
from tablevault.storage.vectors import array_form, tensor_type, with_required_items

if TYPE_CHECKING:
    import pandas as pd


_FEW_COLUMNS = 64
_BYTES_PER_READ = 2**18
_SMALL_FILE = 2**16
"""Bytes; opening such a file once more costs more than reading it as a whole."""


class StoredFrame:
    """A frame file for references (`interfaces.Frame`), whose columns are read on first access.

    Parameters
    ----------
    path
        The file. It is opened immediately, so that errors are raised before any function runs.
    artifact_folder
        Folder of the instance's artifacts; if given, artifact paths are returned as full paths.
    """

    def __init__(self, path: Path, artifact_folder: Path | None = None) -> None:
        self._path = path
        self._artifact_folder = artifact_folder
        self._types, self._rows = read_schema(path)
        self._names = tuple(self._types)
        self._values: dict[str, Sequence[object]] = {}
        self._data: dict[str, FrameData] = {}
        self._unread: dict[str, FrameData] = {}
        """Columns read ahead together with others, until first access."""
        self._blocks: dict[str, list[str]] = {}
        """Columns read along with each column: in a wide frame, every read scans the metadata of all columns."""
        if len(self._names) > _FEW_COLUMNS or path.stat().st_size <= _SMALL_FILE:
            for block in column_blocks(path, self._names, _BYTES_PER_READ):
                self._blocks.update(dict.fromkeys(block, block))
        self._reading = RLock()

    @property
    def column_names(self) -> Sequence[str]:
        """Names in the frame's order."""
        return self._names

    @property
    def column_types(self) -> Mapping[str, ColumnType]:
        """The types of the columns."""
        return self._types

    def __len__(self) -> int:
        return self._rows

    def values(self, column: str) -> Sequence[object]:
        """Return a column as plain Python values; raises `KeyError` for an unknown column."""
        known = self._values.get(column)
        if known is not None:
            return known
        with self._reading:
            if column not in self._values:
                data = self._taken(column)
                self._values[column] = python_values(column, data.table.column(0), data.types[column])
            return self._values[column]

    def values_by_row(self, column: str) -> Sequence[object]:
        """Return a column as plain values, decoded while it is read if it is long."""
        if column in self._values or not is_long(self._rows):
            return self.values(column)
        return DecodedWindows(column, *self.stored_column(column))

    def arrow_type(self, column: str) -> pa.DataType:
        """Return the Arrow type of a column's values; raises `KeyError` for an unknown column."""
        return _value_type(self._types[column])

    def kinds(self, column: str) -> frozenset[type] | None:
        """Return the classes of a column's values, if its type tells them."""
        return kinds_of(self._types[column])

    def data_frame(self, columns: Sequence[str] | None, positions: Sequence[int] | None) -> pd.DataFrame:
        """Return columns and rows of the frame, in pandas' nullable types."""
        data = self.stored(self._names if columns is None else columns)
        if positions is not None:
            data = FrameData(data.table.take(pa.array(positions, type=pa.int64())), data.types)
        return to_pandas(with_nullable_types(data))

    def stored(self, columns: Sequence[str]) -> FrameData:
        """Return columns in their stored form, and cache them; raises `KeyError` for an unknown column."""
        with self._reading:
            parts = {name: self._column(name) for name in columns}
        return frame_of_columns({name: (part.table.column(0), part.types[name]) for name, part in parts.items()})

    def stored_column(self, column: str) -> tuple[pa.ChunkedArray, ColumnType]:
        """Return a column in its stored form, with its type; raises `KeyError` for an unknown column."""
        with self._reading:
            data = self._column(column)
        return data.table.column(0), data.types[column]

    def read_together(self, columns: Sequence[str]) -> None:
        """Read and cache columns, several at once; raises `KeyError` for an unknown column."""
        with self._reading:
            missing = [name for name in columns if name not in self._data and name not in self._unread]
            if len(missing) > 1 and not self._blocks and self._artifact_folder is None:
                data = read_frame(self._path, missing)
                for name, column_type in data.types.items():
                    self._unread[name] = FrameData(data.table.select([name]), {name: column_type})

    def _column(self, column: str) -> FrameData:
        if column not in self._data:
            self._data[column] = self._taken(column)
        return self._data[column]

    def _taken(self, column: str) -> FrameData:
        """Return a column from the cache, or read it."""
        known = self._data.get(column)
        if known is None:
            known = self._unread.pop(column, None)
        return self._read(column) if known is None else known

    def _read(self, column: str) -> FrameData:
        """Read a column, together with its neighbours in a wide frame."""
        if column not in self._types:
            raise KeyError(column)
        block = self._blocks.get(column, [column])
        for name in block:
            self._blocks.pop(name, None)
        try:
            data = read_frame(self._path, block)
        except TVFileError:
            if len(block) == 1:
                raise
            data = read_frame(self._path, [column])  # Other columns are checked on access.
        if self._artifact_folder is not None:
            data = with_artifact_folder(data, self._artifact_folder)
        for name in data.types:
            self._unread[name] = FrameData(data.table.select([name]), {name: data.types[name]})
        return self._unread.pop(column)


class UnreadColumn:
    """A complete column in memory, whose plain values are made on first access.

    Parameters
    ----------
    count
        Number of its cells.
    read
        Returns the plain values.
    read_by_row
        Returns them for reading row by row; `read` by default.
    """

    def __init__(
        self,
        count: int,
        read: Callable[[], Sequence[object]],
        read_by_row: Callable[[], Sequence[object]] | None = None,
    ) -> None:
        self._count = count
        self._read = read
        self._read_by_row = read_by_row

    def __len__(self) -> int:
        return self._count

    @cached_property
    def values(self) -> Sequence[object]:
        """The plain values."""
        return self._read()

    def by_row(self) -> Sequence[object]:
        """Return the plain values for reading row by row."""
        return self.values if self._read_by_row is None or "values" in vars(self) else self._read_by_row()


class MemoryFrame:
    """The columns of an instance under construction, for references (`interfaces.Frame`).

    Parameters
    ----------
    columns
        Plain values by name. A list that a running builder still fills is read in its current state.
    types
        The known types of columns; the others have the natural type of their values.
    """

    def __init__(
        self, columns: Mapping[str, Sequence[object] | UnreadColumn], types: Mapping[str, ColumnType | None]
    ) -> None:
        self._columns = columns
        self._types = types

    @property
    def column_names(self) -> Sequence[str]:
        """Names in the frame's order."""
        return tuple(self._columns)

    def __len__(self) -> int:
        return max(map(len, self._columns.values()), default=0)

    def values(self, column: str) -> Sequence[object]:
        """Return a column as plain Python values; raises `KeyError` for an unknown column."""
        found = self._columns[column]
        return found.values if isinstance(found, UnreadColumn) else found

    def values_by_row(self, column: str) -> Sequence[object]:
        """Return a column as plain values, decoded while it is read if it is long."""
        found = self._columns[column]
        return found.by_row() if isinstance(found, UnreadColumn) else found

    def arrow_type(self, column: str) -> pa.DataType:
        """Return the Arrow type of a column's values; raises `KeyError` for an unknown column."""
        if column not in self._columns:
            raise KeyError(column)
        declared = self._types.get(column)
        if declared is None or (declared.kind is Kind.CATEGORY and pa.types.is_null(declared.arrow.value_type)):
            declared = natural_type(self.values(column))
        return _value_type(declared)

    def kinds(self, column: str) -> frozenset[type] | None:
        """Return the classes of a column's values, if it is complete and its type tells them."""
        column_type = self._types.get(column)
        is_complete = isinstance(self._columns[column], UnreadColumn)
        return kinds_of(column_type) if is_complete and column_type is not None else None

    def data_frame(self, columns: Sequence[str] | None, positions: Sequence[int] | None) -> pd.DataFrame:
        """Return columns and rows of the frame, in pandas' nullable types."""
        names = self.column_names if columns is None else columns
        built: dict[str, tuple[Any, ColumnType]] = {}
        for name in names:
            values = self.values(name)
            taken = values if positions is None else [values[position] for position in positions]
            built[name] = build_column(taken, self._types.get(name))
        return to_pandas(with_nullable_types(frame_of_columns(built)))


def _value_type(column_type: ColumnType) -> pa.DataType:
    """Return the Arrow type of the values, which for JSON differs from the stored type.

    Items of vectors are not nullable; those of lists are.
    """
    if column_type.kind is Kind.JSON:
        return pa.json_()
    arrow = column_type.arrow
    if column_type.kind is Kind.TENSOR:
        form = array_form(column_type)
        return arrow if form is None else tensor_type(form)
    if column_type.kind is Kind.VECTOR:
        return with_required_items(arrow)
    return arrow.value_type if pa.types.is_dictionary(arrow) else arrow
