"""Frames for references, in memory, without files or catalogs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa

from tablevault.names import nearest


class MemoryFrame:
    """A frame over an Arrow table. `asked` counts how often each column was asked for."""

    def __init__(self, table: pa.Table, cells: Mapping[str, list[object]] | None = None) -> None:
        self._table = table
        self._cells = {name: table[name].to_pylist() for name in table.column_names} | dict(cells or {})
        self.asked: dict[str, int] = dict.fromkeys(self._cells, 0)

    @property
    def column_names(self) -> Sequence[str]:
        return self._table.column_names

    def __len__(self) -> int:
        return self._table.num_rows

    def values(self, column: str) -> Sequence[object]:
        self.asked[column] += 1
        return self._cells[column]

    def values_by_row(self, column: str) -> Sequence[object]:
        return self.values(column)

    def arrow_type(self, column: str) -> pa.DataType:
        return self._table.schema.field(column).type

    def kinds(self, column: str) -> frozenset[type] | None:
        return None

    def data_frame(self, columns: Sequence[str] | None, positions: Sequence[int] | None) -> pd.DataFrame:
        names = self._table.column_names if columns is None else columns
        chosen = range(len(self)) if positions is None else positions
        return pd.DataFrame(
            {name: [self._cells[name][position] for position in chosen] for name in names}, dtype=object
        ).convert_dtypes()


class MemorySource:
    """Frames by table name, or by `(table name, instance)`."""

    def __init__(self, frames: Mapping[str | tuple[str, str], MemoryFrame]) -> None:
        self.frames = dict(frames)

    def frame(self, table: str, instance: str | None) -> MemoryFrame:
        key = table if instance is None else (table, instance)
        if key not in self.frames:
            tables = [known for known in self.frames if isinstance(known, str)]
            raise LookupError(f"there is no table {table!r}{nearest(table, tables)}")
        return self.frames[key]


def frame(**columns: object) -> MemoryFrame:
    """Return a frame of lists, whose types are inferred, or of Arrow arrays."""
    return MemoryFrame(pa.table(columns))
