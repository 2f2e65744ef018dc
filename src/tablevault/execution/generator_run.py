"""Builders whose function yields the rows one after the other."""

from __future__ import annotations

from tablevault.errors import TVArtifactError
from tablevault.execution.generators import run_generator
from tablevault.execution.origins import Origin, names_artifacts
from tablevault.execution.single_call_run import SingleCall, SingleCallRun
from tablevault.execution.table import RowTable
from tablevault.rows.results import normal_values


class GeneratorRun(SingleCallRun):
    """A builder whose function is a generator."""

    def shown_origin(self) -> Origin | None:
        """Return the origin whose rows the generator is shown first, to append to them; `None` if there is none."""
        spec, origins = self._spec, self._execution.origins if self._execution.reuses_cells else ()
        keeps = spec.is_index and spec.keep_old
        if not (keeps and spec.reads.reads_whole_self and origins):
            return None
        facts = origins[-1].facts(spec.changed_columns)
        if facts is None or facts.versions != (self._reused_version,):
            return None
        return origins[-1] if facts.arguments == spec.tracked_arguments else None

    def _compute(self) -> None:
        execution, spec = self._execution, self._spec
        table = self._restored_table()
        total = None if spec.is_index else execution.building.row_count
        self._counter.total = total
        prefix = self._show_old_rows(table)
        if self._saved is not None and self._saved.done and not table.is_incomplete:
            table.generator_fingerprint = self._saved.fingerprints[0] if self._saved.fingerprints else b""
            self._finish(table, len(table.filled))
            return
        continues = self._continues()
        if continues:
            table.cut_at_first_missing()
        filled = len(table.filled)
        call = self._prepared_call(self._own_rows(table, total) if continues else {})
        table.generator_fingerprint = call.fingerprint
        if total is not None and not filled and self._reuse(table.generator_fingerprint):
            return
        first = filled if continues else prefix
        run_generator(table, self._call(call.arguments()), filled - first, total, first)
        self._finish(table, len(table.filled) if total is None else total)

    def _finish(self, table: RowTable, total: int) -> None:
        self._complete(table, total)
        whole = table.generator_fingerprint or None
        if len(table.versions) == 1:
            self._add_outcome(whole=whole)
        else:
            # Some rows are of code that was replaced while this was paused.
            self._add_row_outcome(table, whole)

    def _first_call(self) -> SingleCall:
        table = RowTable(self._execution, self._builder, self._counter)
        unfinished = self._own_rows(table, self._execution.building.row_count) if self._continues() else {}
        return self._prepared_call(unfinished)

    def _continues(self) -> bool:
        """Return whether the generator looks at its own rows, and so goes on where it was."""
        reads = self._spec.reads
        return reads.reads_whole_self or bool(set(reads.own_columns) & set(self._spec.changed_columns))

    def _own_rows(self, table: RowTable, total: int | None) -> dict[str, list[object]]:
        """Return the generator's own columns as it sees them: as far as they are filled."""
        shown = {}
        for name, kept in zip(self._spec.changed_columns, table.columns, strict=True):
            cells = normal_values(self._spec, name, kept)
            old = self._execution.building.columns.get(name)
            rest = 0 if total is None else total - len(cells)
            unfilled = list(old.values[len(cells) :]) if old is not None else [None] * rest
            if names_artifacts(self._spec.dtypes.get(name)):
                shown[name] = self._execution.building.full_paths([*cells, *unfilled], table.adopted[name])
            else:
                shown[name] = [*cells, *unfilled]
        return shown

    def _show_old_rows(self, table: RowTable) -> int:
        """Begin with the origin's rows where the contract says so; return how many they are."""
        origin = self.shown_origin()
        rows = origin.rows(self._spec.changed_columns, is_index=True) if origin is not None else None
        if origin is None or rows is None:
            return 0
        table.resize(max(origin.row_count, len(table.filled)))
        for position in range(origin.row_count):
            if not table.reuse(position, rows, position, origin):
                raise TVArtifactError(
                    f"Builder '{self._spec.name}' keeps the rows of its origin, but a file that row {position} names "
                    "is gone."
                )
        return origin.row_count
