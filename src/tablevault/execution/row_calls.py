"""The calls of a row-wise function: one for each row that cannot be taken over."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import repeat, starmap
from types import FunctionType
from typing import TypeVar

from tablevault.code.loading import Function
from tablevault.execution.filling import RowFilling
from tablevault.execution.origins import Origin, ReusableRows
from tablevault.execution.table import RowTable, consecutive, described, reuse_candidates
from tablevault.notes import add_note
from tablevault.ports import FunctionError
from tablevault.rows.calls import Counted, FunctionCall, arguments_blamed
from tablevault.rows.threads import ThreadExecutor

INTERRUPT_PATIENCE = 5.0
"""Seconds that an interrupt waits for rows in flight in other threads."""

_SHORT_SECONDS = 0.005
_LONG_SECONDS = 0.02
"""Calls are prepared for as many rows at once as take about this long, so that slow rows are prepared one by one."""

_FIRST_ROWS = 16

Finished = tuple[tuple[object, ...], bytes]
"""One computed row: its cells and its fingerprint."""


_Prepared = TypeVar("_Prepared", bound=Counted)


class RowCalls:
    """The calls that fill a table, one per row.

    Parameters
    ----------
    table
        What is there already.
    call
        The function's arguments.
    """

    def __init__(self, table: RowTable, call: FunctionCall) -> None:
        self._table = table
        self._call = call
        self._function = table.builder.function
        self._failure: BaseException | None = None

    def reuse(
        self,
        rows: ReusableRows,
        matches: Sequence[int | None],
        origin: Origin,
        unknown: Collection[int] = (),
    ) -> set[int]:
        """Fill the rows whose counterpart in an origin was computed from the same.

        Parameters
        ----------
        rows, matches, origin
            What the origin has, and where each row is in it.
        unknown
            Rows whose arguments cannot be known yet.

        Returns
        -------
        set[int]
            Of those, the rows that may have been computed from the same.
        """
        undecided = set()
        candidates: dict[int, int] = {}
        for position, place in reuse_candidates(self._table, rows, matches):
            if position in unknown:
                undecided.add(position)
            else:
                candidates[position] = place
        positions = consecutive(list(candidates))
        checkpoints = self._table.execution.checkpoints
        for counted in self._prepared(self._call.counts, positions, lambda: checkpoints.batch_rows):
            for position, fingerprint in zip(counted.positions, counted.fingerprints, strict=True):
                place = candidates[position]
                if fingerprint == rows.fingerprints[place]:
                    self._table.reuse(position, rows, place, origin)
        return undecided

    def compute(self) -> None:
        """Call the function for all rows that are missing.

        When one fails, those in flight are finished and kept, no new ones start, and the first error is raised.
        """
        filling = RowFilling(self._table, self._blame)
        if self._table.spec.n_threads == 1:
            self._compute_here(filling)
        else:
            self._compute_in_threads(filling)
        self._table.execution.owner.raise_if_stopped()

    # --- one after the other --------------------------------------------------------------------------------------

    def _compute_here(self, filling: RowFilling) -> None:
        owner = self._table.execution.owner
        order, function = _positional(self._function, self._call.names)
        for calls in self._prepared(self._call.calls, self._table.missing(), lambda: filling.most_rows):
            if owner.stop_requested:
                return
            results: Iterator[object]
            if order:
                results = map(function, *(calls.arguments[place] for place in order))
            else:
                results = starmap(function, repeat((), len(calls.positions)))
            done = 0
            while done < len(calls.positions) and not owner.stop_requested:
                done += filling.fill(calls.positions[done:], calls.fingerprints.rows(done), results)

    def _prepared(
        self, prepare: Callable[[Sequence[int]], _Prepared], positions: Sequence[int], most_rows: Callable[[], int]
    ) -> Iterator[_Prepared]:
        """Yield what is prepared for all rows, for as many at a time as do not take long."""
        start, size = 0, _FIRST_ROWS
        while start < len(positions):
            began = time.perf_counter()
            with arguments_blamed(self._table.spec, positions[start]):
                prepared = prepare(positions[start : start + min(size, most_rows())])
            yield prepared
            start += len(prepared.positions)
            seconds = time.perf_counter() - began
            if seconds < _SHORT_SECONDS:
                size = len(prepared.positions) * 2
            elif seconds > _LONG_SECONDS:
                size = max(1, len(prepared.positions) // 2)

    def _blame(self, position: int) -> str:
        """Return the note of an error of a row; what its function was given must not be told with it."""
        with contextlib.suppress(Exception):
            self._table.execution.owner.secrets.add(self._call.secrets(position))
        return f"raised by {described(self._table)} for row {position}"

    # --- side by side ---------------------------------------------------------------------------------------------

    def _compute_in_threads(self, filling: RowFilling) -> None:
        if self._table.missing():
            self._call.make_ready()
        run = ThreadExecutor(self._table.spec.n_threads).map(partial(self._compute_row, filling), self._tasks())
        try:
            for position, finished, error in run:
                self._take(position, finished, error)
        finally:
            # Left early only by an interrupt: what other threads have in flight is still worth waiting for.
            for position, finished, error in run.drain(INTERRUPT_PATIENCE):
                self._take(position, finished, error)
        if self._failure is not None:
            raise self._failure

    def _tasks(self) -> Iterator[int]:
        owner = self._table.execution.owner
        for position in self._table.missing():
            if self._failure is not None or owner.stop_requested:
                return
            yield position

    def _compute_row(self, filling: RowFilling, position: int) -> Finished:
        with arguments_blamed(self._table.spec, position):
            arguments = self._call.arguments(position)
            fingerprint = self._call.fingerprint(position, arguments)
        try:
            value = self._function(**arguments)
        except BaseException as error:
            add_note(error, self._blame(position))
            raise FunctionError(error) from error
        return filling.read(value, position), fingerprint

    def _take(self, position: int, finished: Finished | None, error: BaseException | None) -> None:
        if finished is not None:
            self._table.keep(position, *finished)
            return
        original = error.original if isinstance(error, FunctionError) else error
        self._table.counter.failed += isinstance(original, Exception)
        if self._failure is None:
            self._failure = error


def _positional(function: Function, names: Sequence[str]) -> tuple[tuple[int, ...], Function]:
    """Return in which order to pass the named arguments, and what to pass them to.

    Passed by their places they cost less than by their names; that is done only where it means the same.
    """
    if isinstance(function, FunctionType):
        parameters = function.__code__.co_varnames[: function.__code__.co_argcount][: len(names)]
        if set(parameters) == set(names):
            return tuple(names.index(name) for name in parameters), function

    def call(*values: object) -> object:
        return function(**dict(zip(names, values, strict=True)))

    return tuple(range(len(names))), call
