"""Conversion of function results into cells, in memory and in checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, TypeVar

from tablevault.ports import Interruptible
from tablevault.rows.calls import ArgumentErrors, RowFingerprints
from tablevault.rows.error_names import InvalidResult, RowError
from tablevault.rows.results import ForEachReader, RowReader
from tablevault.rows.table import RowTable
from tablevault.rows.usage_log import UsageLog
from tablevault.storage.checkpoints import RowBatch
from tablevault.storage.fingerprints import Fingerprints
from tablevault.storage.mixtures import EXACT_IN_FLOAT
from tablevault.storage.packing import ATOMS

_SHORT_SECONDS = 0.005
_LONG_SECONDS = 0.02
"""Target range for the duration of calls prepared together; slow rows are prepared alone."""

_FIRST_ROWS = 16

_Prepared = TypeVar("_Prepared", bound=RowFingerprints)


class RowCollector:
    """Adds results of a function to a table, each row as soon as it is computed.

    The innermost loop of TableVault, whose cost per row the benchmark W1 measures.

    Parameters
    ----------
    table
        The table.
    owner
        Polled for stop requests.
    may_end
        Whether there may be fewer results than positions, as for a generator. In a function that is called for each
        row, a `StopIteration` is an error like any other.
    reader
        Splits results into cells; `None` for one row per result.
    """

    def __init__(
        self,
        table: RowTable,
        owner: Interruptible,
        may_end: bool = False,
        reader: RowReader | ForEachReader | None = None,
    ) -> None:
        self._table = table
        self._owner = owner
        self._may_end = may_end
        self._checkpoints = table.checkpoints
        self._reader = reader or RowReader(table.spec, table.artifacts.name_of, table.examples())
        self.read = self._reader.read
        self.read_together = self._reader.read_together
        self.running: tuple[Sequence[int], Sequence[object]] = ((), ())
        """Positions of the current batch, and the cells collected so far."""
        self.next_began: float | None = None
        """Time near which the call after the last collected row began, on the monotonic clock; `None` if unknown.

        It is the last time at which the flusher found new rows, since the loop reads no clock.
        """
        self._learn()

    @property
    def most_rows(self) -> int:
        """Maximum number of rows collected at once."""
        return 1 if self._table.artifact_columns else self._checkpoints.batch_rows

    def collect_until_error(
        self, positions: Sequence[int], fingerprints: Fingerprints | bytes, results: Iterator[object]
    ) -> tuple[int, RowError | None]:
        """Collect results until they end, one is an error, a flush is due, or a stop is requested.

        Returns the number of rows, and the error of the next row or `None`.

        Parameters
        ----------
        positions, fingerprints
            Positions and fingerprints of the rows, at least as many as results.
        results
            Lazy results; each step calls the function.
        """
        table, failure = self._table, None
        batch = self._batch(positions, fingerprints)
        self.running = positions, batch.cells
        computed = table.counter.computed
        table.counter.count_along(batch.cells)
        try:
            self._append(batch, results)
        except InvalidResult as invalid:
            failure = RowError(invalid.original, is_invalid=True, result=invalid.result, is_local=True, note="")
        except BaseException as error:  # noqa: BLE001 - the policies decide on it
            failure = RowError(error)
        finally:
            batch.is_closed = True
            self.next_began = batch.seen
            if table.artifact_columns:
                table.counter.computed = computed
                for position, cells in zip(positions, batch.cells, strict=False):
                    table.resize(max(position + 1, len(table)))
                    table.keep(position, cells if batch.is_wide else (cells,), batch.fingerprint)
            else:
                table.take(batch)
                table.counter.computed = computed + len(batch.cells)
        return len(batch.cells), failure

    def collect_batch(
        self, positions: Sequence[int], fingerprints: Fingerprints, results: Sequence[object], kinds: Set[type]
    ) -> tuple[int, RowError | None]:
        """Collect the first results like `collect_until_error`, with a fast path for plain cells.

        `kinds` are the classes of the results; empty for results of `read_together`.
        """
        count = min(self.most_rows, len(results))
        some = results[:count]
        if not kinds or (count > 1 and self._are_cells(some, kinds)):
            batch = self._batch(positions[:count], fingerprints)
            batch.are_atoms = bool(kinds) and kinds <= ATOMS
            batch.cells.extend(some)
            batch.is_closed = True
            self._table.take(batch)
            self._table.counter.computed += count
            return count, None
        return self.collect_until_error(positions[:count], fingerprints, iter(some))

    def _are_cells(self, results: Sequence[Any], kinds: Set[type]) -> bool:
        """Return whether results of these classes are cells without conversion.

        The rules are those of the loop.
        """
        if kinds == {self._text}:
            return "".join(results).isascii()
        if kinds == {self._whole}:
            return bool(min(results) >= -EXACT_IN_FLOAT and max(results) <= EXACT_IN_FLOAT)
        return kinds <= self._unchanged

    def _batch(self, positions: Sequence[int], fingerprints: Fingerprints | bytes) -> RowBatch:
        if self._table.artifact_columns:  # The files of a row are known only when it is computed.
            return RowBatch(positions, fingerprints, is_wide=len(self._table.columns) > 1)
        return self._checkpoints.batch(self._table.spec.name, positions, fingerprints)

    def _append(self, batch: RowBatch, results: Iterator[object]) -> None:
        append, read, positions, cells = batch.cells.append, self._read, batch.positions, batch.cells
        text, whole, unchanged = self._text, self._whole, self._unchanged
        checkpoints, owner = self._checkpoints, self._owner
        # Not a `for` loop, which would mistake a StopIteration of the function for the end of the rows.
        next_result = results.__next__
        try:
            while True:
                result = next_result()
                kind = type(result)
                if (
                    (kind is text and result.isascii())  # type: ignore[attr-defined]
                    or kind in unchanged
                    or (kind is whole and -EXACT_IN_FLOAT <= result <= EXACT_IN_FLOAT)  # type: ignore[operator]
                ):
                    append(result)
                else:
                    append(read(result, positions[len(cells)]))
                    text, whole, unchanged = self._text, self._whole, self._unchanged
                if checkpoints.room < 0 or owner.stop_requested:
                    return
        except StopIteration:
            if len(cells) < len(positions) and not self._may_end:
                raise

    def _read(self, result: object, position: int) -> object:
        try:
            row = self.read(result, position)
        except Exception as error:
            raise InvalidResult(error, result) from error
        if self._known is not self._reader.unchanged:
            self._learn()
        return row if len(row) != 1 else row[0]

    def _learn(self) -> None:
        """Cache the types whose values are cells without conversion."""
        self._known = self._reader.unchanged
        self._text = str if str in self._known else None
        self._whole = int if int in self._known else None
        self._unchanged = self._known - {str, int}


class InlineMeter:
    """Records the usage that a function reports in the row loop.

    It derives the row from the number of collected rows, at no cost per row.

    Parameters
    ----------
    usage
        Accumulates the amounts.
    collector
        Collects the rows.
    """

    def __init__(self, usage: UsageLog, collector: RowCollector) -> None:
        self._usage = usage
        self._collector = collector
        self._last: tuple[Sequence[object], int] | None = None

    def add(self, amounts: dict[str, float]) -> None:
        """Add amounts to the usage of the current row."""
        positions, cells = self._collector.running
        place = len(cells)
        if place >= len(positions):
            return
        if self._last is None or self._last[0] is not cells or self._last[1] != place:
            self._last = cells, place
            self._usage.begin((positions[place],))
        self._usage.end((positions[place],), None, amounts)


def prepared(
    table: RowTable,
    prepare: Callable[[Sequence[int]], _Prepared],
    positions: Sequence[int],
    most_rows: Callable[[], int],
) -> Iterator[_Prepared]:
    """Yield prepared calls for all positions, in groups that take a few milliseconds.

    Parameters
    ----------
    table
        The table of the rows, for error messages.
    prepare
        Prepares calls for rows, or for the first of them.
    positions
        The rows.
    most_rows
        Returns the maximum number of rows to prepare at once.
    """
    start, size = 0, _FIRST_ROWS
    while start < len(positions):
        began = time.perf_counter()
        with ArgumentErrors(table.spec, positions[start]):
            calls = prepare(positions[start : start + min(size, most_rows())])
        yield calls
        start += len(calls.positions)
        seconds = time.perf_counter() - began
        if seconds < _SHORT_SECONDS:
            size = len(calls.positions) * 2
        elif seconds > _LONG_SECONDS:
            size = max(1, len(calls.positions) // 2)
