"""The cells in the checkpoints of an unfinished execution, at their rows of the instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Self, TypeGuard

import pyarrow as pa

from tablevault.errors import TVFileError
from tablevault.storage.checkpoints import BuilderState, Checkpoints
from tablevault.storage.columns import Column
from tablevault.storage.dtypes import ColumnType, plain_values
from tablevault.storage.frames import FrameData, read_frame, read_schema


@dataclass(frozen=True)
class UnfinishedRows:
    """The rows of an unfinished execution, and the cells of each builder that has begun.

    Checkpoints have the cells that builders computed, by position. The rows that an IndexBuilder took over from an
    origin are in a file of their own.
    """

    states: Mapping[str, BuilderState]
    """The checkpoints of each builder, the IndexBuilder first; without cells whose rows are unknown."""
    row_count: int
    """Number of rows known so far."""
    _cells: Mapping[str, _Cells]

    @classmethod
    def read(cls, checkpoints: Checkpoints) -> Self:
        """Read all checkpoints; a running process may be appending to them."""
        states = checkpoints.states()
        index = next(iter(states.values()), None)
        if index is not None and not _places_rows(index):
            states = {name: state if state is index else _without_rows(state) for name, state in states.items()}
        cells = {name: _Cells.of(state) for name, state in states.items()}
        return cls(states, max((each.end for each in cells.values()), default=0), cells)

    def positions(self, builder: str) -> Sequence[int]:
        """Return the rows with cells of a builder, in order."""
        return self._cells[builder].positions

    def stored(self, builder: str, place: int) -> tuple[Column, ColumnType] | None:
        """Return a column of a builder in stored form, with its type; `None` if it is not stored."""
        data = self._cells[builder].data
        if data is None:
            return None
        column, column_type = data.table.column(place), data.types[data.table.column_names[place]]
        missing = self.row_count - len(column)
        if missing:
            column = pa.chunked_array([*column.chunks, pa.nulls(missing, column.type)], column.type)
        return column, column_type

    def values(self, builder: str, place: int) -> list[object]:
        """Return a column of a builder as plain values, with `None` in rows without cells."""
        stored = self.stored(builder, place)
        if stored is not None:
            return list(plain_values(*stored))
        known = self._cells[builder]
        values: list[object] = [None] * self.row_count
        for position, cell in zip(known.positions, known.values[place], strict=True):
            values[position] = cell
        return values


@dataclass(frozen=True)
class _Cells:
    """The cells of one builder."""

    columns: tuple[str, ...]
    positions: Sequence[int]
    """The rows, in order."""
    values: Sequence[Sequence[object]] = ()
    """For each column, the cells of these rows; empty if they are in a file."""
    path: Path | None = None
    """The file with the cells of all rows, if there is one."""

    @classmethod
    def of(cls, state: BuilderState) -> Self:
        """Return the cells in the checkpoints of a builder."""
        if state.path is not None:
            return cls(state.columns, range(read_schema(state.path)[1]), path=state.path)
        if not state.is_nested:
            return cls(state.columns, state.positions, state.values)
        values = [list(chain.from_iterable(filter(_is_list, column))) for column in state.values]
        return cls(state.columns, range(len(values[0]) if values else 0), values)

    @cached_property
    def data(self) -> FrameData | None:
        """The cells as stored, if they are in a file; raises `TVFileError` if it is another file."""
        if self.path is None:
            return None
        data = read_frame(self.path)
        if tuple(data.table.column_names) != self.columns:
            raise TVFileError(f"{self.path}: its columns are not {', '.join(self.columns)}; restore it from a backup.")
        return data

    @property
    def end(self) -> int:
        """Number of rows up to the last one."""
        return self.positions[-1] + 1 if self.positions else 0


def _is_list(cells: object) -> TypeGuard[list[object]]:
    return isinstance(cells, list)


def _places_rows(index: BuilderState) -> bool:
    """Return whether the checkpoints of an IndexBuilder determine the position of each of its rows.

    A row made from an input row stands after those of all input rows before. Some of these may be missing if an earlier
    version wrote the checkpoints, or after files named by rows have changed.
    """
    is_complete = index.done and len(index.positions) + len(index.failures) == index.total
    return index.rows is not None or is_complete or not index.is_nested


def _without_rows(state: BuilderState) -> BuilderState:
    values: tuple[list[object], ...] = tuple([] for _ in state.columns)
    return replace(state, positions=[], values=values, fingerprints=[], codes=[], artifacts={}, frame=None)
