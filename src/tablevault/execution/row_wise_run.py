"""Row-wise builders: of each row it is decided by itself whether it has to be computed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.origins import MaterializedOrigin, Origin, ReusableRows
from tablevault.execution.row_calls import RowCalls
from tablevault.execution.table import RowTable, reuse_candidates
from tablevault.rows.calls import FunctionCall, arguments_blamed


@dataclass(frozen=True)
class RowDecision:
    """Which rows of a row-wise builder have to be computed."""

    table: RowTable
    """Its rows, those filled that can be reused."""
    undecided: frozenset[int]
    """Rows for which that cannot be known, because their arguments are not."""


class RowWiseRun(BuilderRun):
    """A builder whose function is called once per row."""

    def decide(self, unknown: Collection[int] = ()) -> RowDecision:
        """Take over the rows that can be reused; calls no function.

        Parameters
        ----------
        unknown
            Rows whose arguments cannot be known yet.
        """
        table = self._table()
        return RowDecision(table, self._reuse(self._calls(table), table, unknown))

    def decide_without_arguments(self) -> RowDecision:
        """Decide what can be decided while the arguments of no row are known."""
        table = self._table()
        undecided = frozenset(
            position
            for _, rows, matches in self._candidates(len(table.filled))
            for position, _ in reuse_candidates(table, rows, matches)
        )
        return RowDecision(table, undecided)

    def matched_origins(self, total: int) -> Iterable[tuple[Origin, Sequence[int | None]]]:
        """Return the origins that rows may be taken from; an IndexBuilder has the positions of its origin."""
        if not self._spec.is_index:
            return self._execution.reusable
        origins = self._execution.origins if self._execution.reuses_cells else ()
        return [(origin, _same_positions(total, origin)) for origin in origins]

    def _compute(self) -> None:
        table = self._table()
        calls = self._calls(table)
        self._reuse(calls, table)
        if self._is_done and table.missing():
            # Files that it named, or that its origin had, are gone.
            self._begin()
        calls.compute()
        self._complete(table, len(table.filled))
        self._add_row_outcome(table)

    def restore(self, reusing: bool) -> bool:
        """Put what there was when the execution was cut off into the building, as `BuilderRun.restore` says."""
        table = self._rows_so_far()
        if reusing and not self._spec.is_index:
            self._reuse(self._calls(table), table)
        self._put_rows_so_far(table)
        return self._is_done or all(table.filled)

    def _table(self) -> RowTable:
        """Return the rows, those filled that earlier attempts computed."""
        other = self._row_origin
        table = self._restored_table()
        table.resize(other.row_count if other is not None else self._execution.building.row_count)
        self._counter.total = len(table.filled)
        return table

    def _calls(self, table: RowTable) -> RowCalls:
        with arguments_blamed(self._spec):
            return RowCalls(table, FunctionCall(self._spec, self._execution.views({}, self._row_origin)))

    @property
    def _row_origin(self) -> MaterializedOrigin | None:
        """Whose rows the function is called for, where they are not those of the instance."""
        return self._execution.index_origin if self._spec.is_index else None

    def _reuse(self, calls: RowCalls, table: RowTable, unknown: Collection[int] = ()) -> frozenset[int]:
        """Take rows over from the origins; return those that depend on what is unknown."""
        undecided: set[int] = set()
        for origin, rows, matches in self._candidates(len(table.filled)):
            undecided |= calls.reuse(rows, matches, origin, unknown)
        return frozenset(undecided)

    def _candidates(self, total: int) -> Iterator[tuple[Origin, ReusableRows, Sequence[int | None]]]:
        """Yield the origins with rows of the same builder and code."""
        for origin, matches in self.matched_origins(total):
            rows = origin.rows(self._spec.changed_columns, self._spec.is_index)
            if rows is not None and self._reused_version in rows.versions:
                yield origin, rows, matches


def _same_positions(total: int, origin: Origin) -> Sequence[int | None]:
    return [row if row < origin.row_count else None for row in range(total)]
