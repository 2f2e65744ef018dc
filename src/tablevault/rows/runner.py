"""Running rows: the calls of a function for each missing row, one after the other or in threads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat, starmap
from types import FunctionType
from typing import TypeVar

from tablevault.notes import add_note
from tablevault.ports import FunctionError, Interruptible
from tablevault.rows.calls import ArgumentErrors, FunctionCall, RowFingerprints
from tablevault.rows.results import RowReader
from tablevault.rows.table import RowTable
from tablevault.rows.threads import ThreadExecutor
from tablevault.storage.checkpoints import RowBatch
from tablevault.storage.fingerprints import Fingerprints
from tablevault.storage.mixtures import EXACT_IN_FLOAT

Function = Callable[..., object]

INTERRUPT_PATIENCE = 5.0
"""Seconds that an interrupt waits for rows in flight in other threads."""

_SHORT_SECONDS = 0.005
_LONG_SECONDS = 0.02
"""Calls are prepared for as many rows at once as take about this long, so that slow rows are prepared one by one."""

_FIRST_ROWS = 16

Finished = tuple[tuple[object, ...], bytes]
"""One computed row: its cells and its fingerprint."""

_Prepared = TypeVar("_Prepared", bound=RowFingerprints)


class RowRunner:
    """Calls the function of a row-wise builder for the missing rows of its table.

    Parameters
    ----------
    table
        The rows that are there already; takes those that are computed.
    call
        The arguments of the function.
    function
        The function.
    owner
        May be asked to stop; is told which values must not be quoted.
    """

    def __init__(self, table: RowTable, call: FunctionCall, function: Function, owner: Interruptible) -> None:
        self._table = table
        self._call = call
        self._function = function
        self._owner = owner
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Compute all missing rows.

        When one fails, rows in flight are finished and kept, no new ones start, and the first error is raised.
        """
        collector = RowCollector(self._table, self._owner, self._error_note)
        if self._table.spec.n_threads == 1:
            self._run_here(collector)
        else:
            self._run_in_threads(collector)
        self._owner.raise_if_stopped()

    def _error_note(self, position: int) -> str:
        """Return the note of an error of a row, after its secret arguments became known to the owner."""
        with contextlib.suppress(Exception):
            self._owner.secrets.add(self._call.secrets(position))
        return f"raised by {self._table.spec.function_text} for row {position}"

    # --- one after the other --------------------------------------------------------------------------------------

    def _run_here(self, collector: RowCollector) -> None:
        order, function = _positional(self._function, self._call.names)
        for calls in prepared(self._table, self._call.calls, self._table.missing(), lambda: collector.most_rows):
            if self._owner.stop_requested:
                return
            results: Iterator[object]
            if order:
                results = map(function, *(calls.arguments[place] for place in order))
            else:
                results = starmap(function, repeat((), len(calls.positions)))
            done = 0
            while done < len(calls.positions) and not self._owner.stop_requested:
                done += collector.collect(calls.positions[done:], calls.fingerprints.rows(done), results)

    # --- in threads -----------------------------------------------------------------------------------------------

    def _run_in_threads(self, collector: RowCollector) -> None:
        if self._table.missing():
            self._call.make_ready()

        def compute(position: int) -> Finished:
            with ArgumentErrors(self._table.spec, position):
                arguments = self._call.arguments(position)
                fingerprint = self._call.fingerprint(position, arguments)
            try:
                value = self._function(**arguments)
            except BaseException as error:
                add_note(error, self._error_note(position))
                raise FunctionError(error) from error
            return collector.read(value, position), fingerprint

        run = ThreadExecutor(self._table.spec.n_threads).map(compute, self._tasks())
        try:
            for position, finished, error in run:
                self._take(position, finished, error)
        finally:
            # Left early only by an interrupt: rows in flight in other threads are worth waiting for.
            for position, finished, error in run.drain(INTERRUPT_PATIENCE):
                self._take(position, finished, error)
        if self._failure is not None:
            raise self._failure

    def _tasks(self) -> Iterator[int]:
        for position in self._table.missing():
            if self._failure is not None or self._owner.stop_requested:
                return
            yield position

    def _take(self, position: int, finished: Finished | None, error: BaseException | None) -> None:
        if finished is not None:
            self._table.keep(position, *finished)
            return
        original = error.original if isinstance(error, FunctionError) else error
        self._table.counter.failed += isinstance(original, Exception)
        if self._failure is None:
            self._failure = error


class RowCollector:
    """Adds results of a function to a table, each row as soon as it is computed.

    The innermost loop of TableVault: its cost per row is measured as W1.

    Parameters
    ----------
    table
        The table.
    owner
        May be asked to stop.
    error_note
        Returns the note for an error that the function raised at a position.
    may_end
        Whether results may end before the positions do, as those of a generator. A function that is called for each
        row may not: its `StopIteration` is an error as any other.
    """

    def __init__(
        self, table: RowTable, owner: Interruptible, error_note: Callable[[int], str], may_end: bool = False
    ) -> None:
        self._table = table
        self._owner = owner
        self._error_note = error_note
        self._may_end = may_end
        self._checkpoints = table.checkpoints
        self._reader = RowReader(table.spec, table.artifacts.name_of, table.columns)
        self.read = self._reader.read
        self._learn()

    @property
    def most_rows(self) -> int:
        """How many rows may be collected at once."""
        return 1 if self._table.artifact_columns else self._checkpoints.batch_rows

    def collect(self, positions: Sequence[int], fingerprints: Fingerprints | bytes, results: Iterator[object]) -> int:
        """Take results until there are no more, a flush is due, or a stop was requested; return their number.

        Parameters
        ----------
        positions, fingerprints
            Of the rows; at least as many as there are results.
        results
            Calls the function whenever the next result is asked for.

        Raises
        ------
        FunctionError
            For an exception of the function.
        TypeError, ValueError
            For a result that is not a row, located. The rows before it are kept in any case.
        """
        table = self._table
        batch = self._batch(positions, fingerprints)
        computed = table.counter.computed
        table.counter.count_along(batch.cells)
        try:
            self._append(batch, results)
        except _UnreadableError as unreadable:
            table.counter.failed += 1
            self._error_note(positions[len(batch.cells)])
            raise unreadable.error from unreadable.error.__cause__
        except BaseException as error:
            table.counter.failed += isinstance(error, Exception)
            failed = positions[len(batch.cells)] if len(batch.cells) < len(positions) else -1
            add_note(error, self._error_note(failed))
            raise FunctionError(error) from error
        finally:
            batch.is_closed = True
            if table.artifact_columns:
                table.counter.computed = computed
                for position, cells in zip(positions, batch.cells, strict=False):
                    table.resize(max(position + 1, len(table)))
                    table.keep(position, cells if batch.is_wide else (cells,), batch.fingerprint)
            else:
                table.take(batch)
                table.counter.computed = computed + len(batch.cells)
        return len(batch.cells)

    def _batch(self, positions: Sequence[int], fingerprints: Fingerprints | bytes) -> RowBatch:
        if self._table.artifact_columns:  # The files that a row names are known only once it is computed.
            return RowBatch(positions, fingerprints, is_wide=len(self._table.columns) > 1)
        return self._checkpoints.batch(self._table.spec.name, positions, fingerprints)

    def _append(self, batch: RowBatch, results: Iterator[object]) -> None:
        append, read, positions, cells = batch.cells.append, self._read, batch.positions, batch.cells
        text, whole, unchanged = self._text, self._whole, self._unchanged
        checkpoints, owner = self._checkpoints, self._owner
        # Not `for`, to which a StopIteration of the function would look like the end of the rows.
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
            raise _UnreadableError(error) from error
        if self._known is not self._reader.unchanged:
            self._learn()
        return row if len(row) != 1 else row[0]

    def _learn(self) -> None:
        """Note the types of results that are cells as they are."""
        self._known = self._reader.unchanged
        self._text = str if str in self._known else None
        self._whole = int if int in self._known else None
        self._unchanged = self._known - {str, int}


class _UnreadableError(Exception):
    """A result that is not a row; carries the error that says why."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def prepared(
    table: RowTable,
    prepare: Callable[[Sequence[int]], _Prepared],
    positions: Sequence[int],
    most_rows: Callable[[], int],
) -> Iterator[_Prepared]:
    """Yield what is prepared for all positions, for as many rows at a time as take a few milliseconds.

    Parameters
    ----------
    table
        Whose rows they are, for error messages.
    prepare
        Prepares the calls of rows, or of the first of them.
    positions
        The rows.
    most_rows
        Returns how many rows may be prepared at once.
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


def _positional(function: Function, names: Sequence[str]) -> tuple[tuple[int, ...], Function]:
    """Return in which order to pass the named arguments, and what to pass them to.

    Passed by position they cost less than by name; that is done only where it means the same.
    """
    if isinstance(function, FunctionType):
        parameters = function.__code__.co_varnames[: function.__code__.co_argcount][: len(names)]
        if set(parameters) == set(names):
            return tuple(names.index(name) for name in parameters), function

    def call(*values: object) -> object:
        return function(**dict(zip(names, values, strict=True)))

    return tuple(range(len(names))), call
