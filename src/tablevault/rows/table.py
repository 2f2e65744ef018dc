"""The rows of one builder under construction."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from operator import eq
from typing import Any

import numpy as np
import pyarrow as pa

from tablevault.builders.spec import BuilderSpec
from tablevault.rows.artifacts import AdoptedArtifact, InstanceArtifacts, names_artifacts
from tablevault.rows.failures import RowFailure, pack_failure, unpack_failure
from tablevault.rows.usage_log import UsageLog
from tablevault.storage.checkpoints import BuilderState, CheckpointStore, RowBatch
from tablevault.storage.columns import Column
from tablevault.storage.dtypes import CellError, ColumnType, build_column, holds_arrays, plain_values
from tablevault.storage.fingerprints import Fingerprints, Positions
from tablevault.storage.stored_cells import completed, examples, index_of, keeps_its_form
from tablevault.storage.vectors import reused_array
from tablevault.values.progress import BuilderCounter

_STORED_ROWS = 16_384
"""Number of computed rows that are put into Arrow arrays at once."""
FAILED = 2
"""Mark in `RowTable.filled` of a row without cells that is not computed in this attempt."""


class RowTable:
    """Cells, fingerprints and code versions of the rows of one builder, by position.

    Parameters
    ----------
    spec
        The builder.
    version
        Version of the builder and its code for computed rows.
    counter
        Counts the rows.
    artifacts
        The files named by cells.
    checkpoints
        Makes computed rows durable.
    """

    def __init__(
        self,
        spec: BuilderSpec,
        version: str,
        counter: BuilderCounter,
        artifacts: InstanceArtifacts,
        checkpoints: CheckpointStore,
    ) -> None:
        self.spec = spec
        self.version = version
        self.counter = counter
        self.artifacts = artifacts
        self.checkpoints = checkpoints
        self.columns: tuple[list[object], ...] = tuple([] for _ in spec.changed_columns)
        """The cells as plain values; `None` in rows that are kept as stored. `cells` has all of them."""
        self.fingerprints = Fingerprints()
        self.codes = array("q")
        """Index into `versions`, for each row."""
        self.versions: list[str] = [version]
        self.filled = bytearray()
        self.adopted: dict[str, dict[int, AdoptedArtifact]] = {name: {} for name in spec.changed_columns}
        """Files of reused cells: column -> position -> file."""
        self.is_incomplete = False
        """Whether finished rows of an earlier attempt must be recomputed."""
        self.failures: dict[int, RowFailure] = {}
        """Failures and skips by position; rows that failed in earlier attempts are retried."""
        self.calls: dict[int, int] = {}
        """Number of this process's calls without a result, by position, if calls have ids."""
        self.usage = UsageLog(spec.name, counter, checkpoints)
        """Usage of the calls for the rows."""
        self.spared: Collection[int] = frozenset()
        """Rows that get cells of an origin afterwards, whose failures do not count."""
        self._failed_before: set[int] = set()
        """Rows that failed in earlier attempts."""
        self.artifact_columns: tuple[int, ...] = tuple(
            place for place, name in enumerate(spec.changed_columns) if names_artifacts(spec.dtypes.get(name))
        )
        """Indices of the artifact columns."""
        self.array_columns = tuple(
            (place, reused_array(known))
            for place, name in enumerate(spec.changed_columns)
            if (known := spec.dtypes.get(name)) is not None and holds_arrays(known)
        )
        """Indices of the columns of vectors and tensors, each with the converter for cells of earlier attempts."""
        self._stored: list[tuple[Positions | range, Sequence[tuple[Column, ColumnType]]]] = []
        """Rows as stored, reused or computed: their positions and columns."""
        self.is_nested = spec.for_each is not None
        """Whether each cell is a list with the cells of several rows."""
        self._computed_stored = 0
        """Number of computed rows that are kept as stored, the first ones."""
        self._stores = not (self.is_nested or self.artifact_columns or self.array_columns)
        """Whether further computed rows may be stored."""
        self._name = spec.name
        self._append = checkpoints.append

    def __len__(self) -> int:
        return len(self.filled)

    def resize(self, count: int) -> None:
        """Set the number of rows; new ones are empty."""
        missing = count - len(self.filled)
        for column in self.columns:
            column.extend([None] * missing)
        self.fingerprints.resize(count)
        self.codes.extend(array("q", [0]) * missing)
        self.filled.extend(bytes(missing))

    @property
    def is_empty(self) -> bool:
        """Whether no row is computed, reused, failed or skipped."""
        return self.filled.count(0) == len(self.filled)

    def missing(self) -> Sequence[int]:
        """Return the positions of the rows to compute, as a range if they are consecutive.

        Rows that failed in earlier attempts come last.
        """
        if self.is_empty and not self.failures:
            return range(len(self.filled))
        return positions_of(self.missing_rows())

    def missing_rows(self) -> Positions:
        """Return the result of `missing` as an array."""
        missing = np.flatnonzero(self._marks() == 0)
        if not self.failures:
            return missing
        is_tried = np.isin(missing, np.array(list(self.failures), np.int64))
        return np.concatenate([missing[~is_tried], missing[is_tried]])

    @property
    def is_complete(self) -> bool:
        """Whether no row is to be computed."""
        return 0 not in self.filled

    def _marks(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return a view of the marks, which must not outlive the next change of their number."""
        return np.frombuffer(self.filled, np.uint8)

    @property
    def cells(self) -> tuple[list[object], ...]:
        """All cells as plain values."""
        for positions, columns in self._stored:
            for column, stored in zip(self.columns, columns, strict=True):
                values = plain_values(*stored)
                for start, rows in _stretches(positions):
                    column[rows.start : rows.stop] = values[start : start + len(rows)]
        self._stored.clear()
        return self.columns

    def column(self, place: int) -> tuple[Column, ColumnType] | None:
        """Return a column that holds rows reused as stored.

        Returns `None` if it must be built of `cells`.
        """
        kept = [(positions, columns[place]) for positions, columns in self._stored]
        types = {column_type for _, (_, column_type) in kept}
        if len(types) != 1:
            return None
        is_other = np.ones(len(self), np.bool_)
        for positions, _ in kept:
            is_other[index_of(positions)] = False
        others = np.flatnonzero(is_other)
        values = self.columns[place]
        return completed(
            len(self),
            [(positions, column) for positions, (column, _) in kept],
            types.pop(),
            [values[row] for row in others.tolist()],
            others,
            self.spec.dtypes.get(self.spec.changed_columns[place]),
        )

    def examples(self) -> Sequence[Sequence[object]]:
        """Return representative cells of each column, which decide whether further cells fit."""
        if not self._stored:
            return () if self.is_empty else self.columns
        found: list[list[object]] = [[] for _ in self.columns]
        if self.filled.count(1) > sum(len(positions) for positions, _ in self._stored):
            found = [[cell for cell in column if cell is not None] for column in self.columns]
        for _, columns in self._stored:
            for place, (column, _) in enumerate(columns):
                if self.spec.dtypes.get(self.spec.changed_columns[place]) is None:
                    found[place] += examples(column)
        return found

    def marks(self, positions: Sequence[int]) -> bytes:
        """Return the marks of rows; 0 for missing ones."""
        if isinstance(positions, range) and positions.step == 1:
            return bytes(self.filled[positions.start : positions.stop])
        return bytes([self.filled[position] for position in positions])

    def failed(self) -> Iterator[int]:
        """Yield the positions of the rows that failed in this or an earlier attempt."""
        return (position for position, failure in self.failures.items() if failure.kind == "failed")

    # --- earlier attempts -----------------------------------------------------------------------------------------

    def restore(self, state: BuilderState, outdated: Collection[int] = ()) -> None:
        """Restore the finished rows of earlier attempts, except outdated ones and those with changed files."""
        stale = {position for position, records in state.artifacts.items() if not self.artifacts.are_intact(records)}
        stale.update(outdated)
        self.resize(max(state.positions, default=-1) + 1)
        known = [self._code_of(version) for version in state.code_versions]
        for place, position in enumerate(state.positions):
            if position not in stale:
                for column, cells in zip(self.columns, state.values, strict=True):
                    column[position] = cells[place]
                self.fingerprints[position] = state.fingerprints[place]
                self.codes[position] = known[state.codes[place]]
                self.filled[position] = 1
        for position, content in state.failures.items():
            self._add_failure(position, unpack_failure(content))
        self._failed_before.update(self.failures)
        self.calls.update(state.calls)
        self.usage.restore(state.usage)
        if state.done:
            self._keep_failures(self.failures)
        elif self.spec.policies.runs_jobs:
            # Jobs outlast attempts; resubmitting these rows in each would never end.
            tried = [position for position in self.failed() if self.failures[position].code == self.version]
            self._keep_failures(tried)
        self.counter.computed = len(state.positions) - len(stale)
        kept = [record for position, records in state.artifacts.items() if position not in stale for record in records]
        self.artifacts.add_computed(kept)
        self.forget(stale)
        shared = {record.path for record in kept}
        for position in stale:
            self.artifacts.remove(each for each in state.artifacts.get(position, ()) if each.path not in shared)

    def spare(self, positions: Collection[int]) -> None:
        """Do not count failures of rows that get cells of an origin afterwards."""
        for position, failure in self.failures.items():
            if position in positions:
                self._count(failure, -1)
        self.spared = positions

    def keep_failures(self) -> None:
        """Keep the failures of earlier attempts, if rows cannot be retried individually."""
        self._keep_failures(self.failures)

    def _keep_failures(self, positions: Iterable[int]) -> None:
        for position in positions:
            self.resize(max(len(self.filled), position + 1))
            self.filled[position] = FAILED

    def forget(self, positions: Collection[int]) -> None:
        """Clear rows, so that they are recomputed."""
        if positions:
            self.is_incomplete = True
            self.checkpoints.begin(self._name, self.spec.changed_columns, self.version, self.is_nested)
            self.checkpoints.forget(self._name, sorted(positions))
            for position in positions:
                self.count_call(position)

    def cut_at_first_missing(self) -> None:
        """Drop the rows after the first empty one, since a generator can only append."""
        first = self.filled.find(0)
        if first >= 0:
            later = [position for position in range(first, len(self.filled)) if self.filled[position]]
            self.forget(later)
            self.counter.computed -= len(later)
            for column in self.columns:
                del column[first:]
            self.fingerprints.resize(first)
            del self.codes[first:], self.filled[first:]

    # --- computed and reused rows ---------------------------------------------------------------------------------

    def keep(self, position: int, cells: tuple[object, ...], fingerprint: bytes) -> None:
        """Add a computed row and hand it to the checkpoints."""
        for column, cell in zip(self.columns, cells):  # noqa: B905 - the row reader made as many cells as columns
            column[position] = cell
        self.fingerprints[position] = fingerprint
        if self._failed_before:
            self._drop_failure(position)
        if self.artifact_columns:
            self._append(self._name, position, cells, fingerprint, self._files(cells))
        else:
            self._append(self._name, position, cells, fingerprint)
        # Marked last, so that after an interrupt in between the row is kept again.
        self.filled[position] = 1
        self.counter.computed += 1

    def _files(self, cells: Sequence[object]) -> tuple[str, ...]:
        """Return the file names held by cells."""
        named = [cells[place] for place in self.artifact_columns]
        if self.is_nested:
            named = [cell for nested in named if isinstance(nested, list) for cell in nested]
        return tuple(str(cell) for cell in named if cell is not None)

    def take(self, batch: RowBatch) -> None:
        """Add computed rows that are already in the checkpoints."""
        count = len(batch.cells)
        positions = batch.positions[:count]
        if self._failed_before:
            for position in self._failed_before.intersection(positions):
                self._drop_failure(position)
        columns = list(zip(*batch.cells, strict=True)) if batch.is_wide else [batch.cells]
        self._put(positions, columns, batch.fingerprints_until(count))
        self.codes.frombytes(bytes((len(self.filled) - len(self.codes)) * self.codes.itemsize))
        if self._stores and len(self.filled) - self._computed_stored >= _STORED_ROWS:
            self._store_computed()

    def _store_computed(self) -> None:
        """Put the cells of the first computed rows into Arrow arrays, which take less memory than Python's objects.

        Stops at the first cells that might get another form together with others.
        """
        rows = range(self._computed_stored, self._computed_stored + _STORED_ROWS)
        while rows.stop <= len(self.filled) and self.filled.count(1, rows.start, rows.stop) == _STORED_ROWS:
            columns = [
                _stored_column(cells[rows.start : rows.stop], self.spec.dtypes.get(name))
                for name, cells in zip(self.spec.changed_columns, self.columns, strict=True)
            ]
            built = [column for column in columns if column is not None]
            if len(built) < len(columns):
                self._stores = False
                return
            self._stored.append((rows, built))
            for cells in self.columns:
                cells[rows.start : rows.stop] = [None] * _STORED_ROWS
            self._computed_stored = rows.stop
            rows = range(rows.stop, rows.stop + _STORED_ROWS)

    def _put(
        self, positions: Sequence[int] | Positions, columns: Sequence[Sequence[object]], fingerprints: Fingerprints
    ) -> None:
        """Store cells and fingerprints of rows, and mark the rows as filled."""
        for start, rows in _stretches(positions):
            here, part = slice(rows.start, rows.stop), slice(start, start + len(rows))
            is_all = len(rows) == len(positions)
            for column, cells in zip(self.columns, columns, strict=False):
                column[here] = cells if is_all else cells[part]
            self.fingerprints.put(rows.start, fingerprints if is_all else fingerprints.rows(part.start, part.stop))
            self.filled[here] = b"\x01" * len(rows)

    def reuse(
        self,
        position: int,
        cells: Sequence[object],
        fingerprint: bytes | None,
        version: str,
        adopted: Mapping[str, AdoptedArtifact],
    ) -> None:
        """Add a row reused from an origin.

        Parameters
        ----------
        position
            Its position in this table.
        cells, fingerprint, version
            Values of the origin.
        adopted
            The files named by its cells, by column.
        """
        for column, cell in zip(self.columns, cells, strict=True):
            column[position] = cell
        for name, file in adopted.items():
            self.adopted[name][position] = file
            self.artifacts.add_adopted(file)
        self.fingerprints[position] = fingerprint
        if version != self.version:
            self.codes[position] = self._code_of(version)
        self.filled[position] = 1
        self.counter.reused += 1

    def reuse_many(
        self,
        positions: Positions,
        columns: Sequence[Sequence[object]],
        fingerprints: Fingerprints,
        versions: Sequence[str],
    ) -> None:
        """Add rows without files, reused from an origin.

        Parameters
        ----------
        positions
            Their positions in this table.
        columns, fingerprints, versions
            Values of the origin, one for each of these positions.
        """
        code_of = {version: self._code_of(version) for version in dict.fromkeys(versions)}
        codes = array("q", map(code_of.__getitem__, versions))
        for start, rows in _stretches(positions):
            self.codes[rows.start : rows.stop] = codes[start : start + len(rows)]
        self._put(positions, columns, fingerprints)
        self.counter.reused += len(positions)

    def reuse_stored(
        self,
        positions: Positions,
        columns: Sequence[tuple[Column, ColumnType]],
        places: Positions,
        fingerprints: Fingerprints,
        codes: np.ndarray[Any, np.dtype[np.int64]],
        versions: Sequence[str],
    ) -> None:
        """Add rows without files, reused from an origin as stored.

        Parameters
        ----------
        positions
            Their positions in this table.
        columns
            Their cells.
        places
            Their positions in the origin.
        fingerprints, codes
            Values of all rows of the origin.
        versions
            The versions that the codes are indices of.
        """
        self._stores = False
        self._stored.append((positions, columns))
        used = codes[places] if codes.any() else codes[:1]
        numbers = self._numbers_of(used, versions)
        if numbers.any():
            np.frombuffer(self.codes, np.int64)[positions] = numbers[used]
        self.fingerprints.put_at(positions, fingerprints, places)
        self._marks()[positions] = 1
        self.counter.reused += len(positions)

    def reuse_all(
        self, fingerprints: Fingerprints, codes: np.ndarray[Any, np.dtype[np.int64]], versions: Sequence[str]
    ) -> None:
        """Fill this empty table from an origin, except for its cells.

        The caller puts the cells into the frame.

        Parameters as for `reuse_stored`.
        """
        self._stores = False
        self.fingerprints = fingerprints.rows(0)
        self.codes = array("q", self._numbers_of(codes, versions)[codes].tobytes())
        self.filled = bytearray(b"\x01") * len(codes)
        self.counter.reused += len(codes)

    def _numbers_of(self, codes: np.ndarray[Any, np.dtype[np.int64]], versions: Sequence[str]) -> Positions:
        """Return the index in this table of each version used by an origin."""
        numbers = np.zeros(len(versions), np.int64)
        for code in _in_order(codes):
            numbers[code] = self._code_of(versions[code])
        return numbers

    @contextmanager
    def computed_under(self, version: str, positions: Collection[int]) -> Iterator[None]:
        """Attribute the rows kept inside the block to a version of the code.

        Parameters
        ----------
        version
            The version; usually that of the table.
        positions
            The rows that may be kept.
        """
        if version == self.version:
            yield
            return
        columns = self.spec.changed_columns
        there = {position for position in positions if self.filled[position]}
        self.checkpoints.begin(self._name, columns, version, self.is_nested)
        try:
            yield
        finally:
            self.checkpoints.begin(self._name, columns, self.version, self.is_nested)
            code = self._code_of(version)
            for position in positions:
                if self.filled[position] == 1 and position not in there:
                    self.codes[position] = code

    def fail(self, position: int, failure: RowFailure) -> None:
        """Record that a row failed or was skipped; its cells stay null in this attempt."""
        self._add_failure(position, failure)
        self.checkpoints.append_failure(self._name, position, pack_failure(failure))
        self.filled[position] = FAILED

    def count_call(self, position: int) -> None:
        """Count a call that ended without a result for a row."""
        self.calls[position] = self.calls.get(position, 0) + 1
        self.checkpoints.count_calls(self._name, position, self.calls[position])

    def _add_failure(self, position: int, failure: RowFailure) -> None:
        self._drop_failure(position)
        self.failures[position] = failure
        if position not in self.spared:
            self._count(failure, 1)

    def _drop_failure(self, position: int) -> None:
        failure = self.failures.pop(position, None)
        if failure is not None and position not in self.spared:
            self._count(failure, -1)

    def _count(self, failure: RowFailure, step: int) -> None:
        if failure.kind == "failed":
            self.counter.failed += step
            self.counter.errors[failure.error.rpartition(".")[2]] += step
        else:
            self.counter.skipped += step

    def _code_of(self, version: str) -> int:
        if version not in self.versions:
            self.versions.append(version)
        return self.versions.index(version)


def _stored_column(cells: Sequence[object], declared: ColumnType | None) -> tuple[Column, ColumnType] | None:
    """Return cells as stored, or `None` if they might get another form together with others."""
    try:
        built = build_column(cells, declared)
    except CellError:
        return None
    if declared is None and built[0].type == pa.float64() and int in set(map(type, cells)):
        # Beside a value of another class, whole numbers stay whole.
        return None
    return built if keeps_its_form(*built, declared) else None


def _stretches(positions: Sequence[int] | Positions) -> Iterator[tuple[int, range]]:
    """Yield runs of consecutive positions, each with the index of its start."""
    if isinstance(positions, range):
        yield 0, positions
        return
    numbers = np.asarray(positions, np.int64)
    bounds = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(positions)] if len(positions) else [0]
    for start, stop in pairwise(bounds):
        first = int(positions[start])
        yield start, range(first, first + stop - start)


def _in_order(codes: np.ndarray[Any, np.dtype[np.int64]]) -> list[int]:
    """Return the different codes in order of appearance."""
    found, first = codes[:1], np.zeros(1, np.int64)
    if len(codes) and codes.min() != codes.max():
        found, first = np.unique(codes, return_index=True)
    ordered: list[int] = found[np.argsort(first[: len(found)])].tolist()
    return ordered


def positions_of(rows: Positions) -> Sequence[int]:
    """Return positions as a range if they are consecutive, or else as a list."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (rows[1:] - rows[:-1] == 1).all():
        return range(int(rows[0]), int(rows[-1]) + 1)
    listed: list[int] = rows.tolist()
    return listed


def consecutive(positions: Sequence[int]) -> Sequence[int]:
    """Return positions as a range if they are consecutive."""
    if isinstance(positions, range) or not positions or positions[-1] - positions[0] + 1 != len(positions):
        return positions
    found = range(positions[0], positions[-1] + 1)
    return found if all(map(eq, positions, found)) else positions
