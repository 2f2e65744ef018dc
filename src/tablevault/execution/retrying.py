"""Retry of the failed, skipped and missing rows of a committed instance.

All other cells are reused by position, without comparing code. In later builders, only rows whose arguments changed
as a result are recomputed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from tablevault.builders.document import INDEX
from tablevault.builders.spec import BuilderSpec
from tablevault.errors import TVArtifactError, TVTableError
from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.context import Execution
from tablevault.execution.failures import FailedRow, skip_rows
from tablevault.execution.for_each import Adopted, fill_input_rows, take_input_row
from tablevault.execution.generator import run_generator
from tablevault.execution.matching import Matches
from tablevault.execution.origins import MaterializedOrigin, ReusableRows
from tablevault.execution.outcomes import PreparedBuilder
from tablevault.execution.provenance import BuilderFacts
from tablevault.execution.reuse import Counterparts, reuse_columns, take_equal_rows, take_rows
from tablevault.execution.row_wise import call_plan, compute_rows, function_call, restored_rows
from tablevault.execution.whole import SingleCall, run_dataframe
from tablevault.references import Literal, find_references
from tablevault.rows.calls import FunctionCall
from tablevault.rows.failures import RowFailure
from tablevault.rows.table import FAILED, RowTable
from tablevault.storage.fingerprints import Mask, Positions


@dataclass
class FailedRowRetry:
    """The instance to complete, and the cells changed so far."""

    execution: Execution
    origin: MaterializedOrigin
    failures: Mapping[str, Mapping[int, RowFailure]]
    """Failed and skipped rows of the instance, by builder and position."""
    is_complete: bool
    """Whether every builder of the instance ran to completion."""
    places: Matches = field(default_factory=lambda: Matches.none(0))
    """The position of each row in the instance."""
    changed: dict[str, set[int]] = field(default_factory=dict)
    """Positions of the cells that differ from the instance, by column."""

    def run(self, builders: Sequence[PreparedBuilder]) -> None:
        """Run the builders in order, each only for the necessary rows."""
        self.origin.read_ahead(name for builder in builders for name in builder.spec.changed_columns)
        for builder in builders:
            self.execution.owner.raise_if_stopped()
            run = BuilderRun.start(self.execution, builder)
            self._run_builder(run)
            run.counter.done = True
        self.execution.check_primary_key()

    def _run_builder(self, run: BuilderRun) -> None:
        spec = run.spec
        facts = self.origin.facts(spec.changed_columns, spec.is_index)
        if facts is None:
            raise TVTableError(
                f"Builder '{spec.name}' of this instance has no record in its provenance; make a new instance with "
                "create_instance(copy=True) and execute it."
            )
        if spec.is_index:
            self._run_index(run, facts)
        elif spec.runs_by_row:
            self._run_rows(run, facts)
        else:
            self._run_whole(run, facts)

    # --- the rows of the instance ---------------------------------------------------------------------------------

    def _run_index(self, run: BuilderRun, facts: BuilderFacts) -> None:
        """Reuse the rows; only failed and missing input rows are computed."""
        if run.spec.for_each is not None:
            self._run_input_rows(run, facts)
        else:
            self.execution.frame.row_count = self.origin.row_count
            self._take_all(run, facts)
            self.execution.check_primary_key()
            self.places = Matches.by_position(self.origin.row_count, self.origin.row_count)

    def _run_input_rows(self, run: BuilderRun, facts: BuilderFacts) -> None:
        found = self.origin.input_rows(run.spec.changed_columns)
        if found is None:
            raise _overwritten(run.spec)
        failed = self.failures.get(facts.name, {})
        taken: set[int] = set()

        def take(table: RowTable, call: FunctionCall) -> Adopted:
            adopted: Adopted = {}
            for position in table.missing():
                if position in failed or found.fingerprints[position] is None:
                    continue
                if take_input_row(table, position, found, position, self.origin, adopted):
                    taken.add(position)
            return adopted

        if not run.is_done:
            run.begin()
        fill_input_rows(run, call_plan, take)
        outcome = self.execution.outcomes[-1].inputs
        counts = outcome.counts if outcome is not None else ()
        if self.execution.primary_key:
            self.execution.check_primary_key()
            self.execution.match_origins()
            self.places = self.execution.matches[0]
        else:
            sizes = [len(found.cells(position)[0]) for position in range(len(found.fingerprints))]
            starts = [0, *accumulate(sizes)]
            self.places = Matches.of(
                starts[position] + offset if position in taken else None
                for position, count in enumerate(counts)
                for offset in range(count)
            )
        self._note(run.spec, _set_of(~self.places.are_there))
        if not self.places.are_all(self.origin.row_count):
            self.changed[INDEX] = set(range(len(self.places)))

    # --- functions that are called for rows -----------------------------------------------------------------------

    def _run_rows(self, run: BuilderRun, facts: BuilderFacts) -> None:
        if not run.is_done:
            run.begin()
        table, call = restored_rows(run), function_call(run)
        skip_rows(run, table)
        taken = self._take_rows(run, table, call, facts)
        if not table.is_complete:
            self._check_inputs_are_there(run.spec)
        compute_rows(run, table, call)
        failed = self.failures.get(facts.name, {})
        is_fresh = np.frombuffer(table.filled, np.uint8) != FAILED
        is_fresh[taken] = False
        fresh = _set_of(is_fresh)
        fresh.update(position for position in table.failures if self.places[position] not in failed)
        self._note(run.spec, fresh)

    def _take_rows(self, run: BuilderRun, table: RowTable, call: FunctionCall, facts: BuilderFacts) -> Positions:
        """Reuse the finished rows whose arguments have not changed; return their positions."""
        rows = self.origin.recorded_rows(facts)
        count = self.origin.row_count
        failed, passed = self.failures.get(facts.name, {}), self._passed(run.spec, rows)
        is_finished = (rows.fingerprints.known | _mask(passed, count)) & ~_mask(failed, count)
        missing = table.missing_rows()
        pairs = Counterparts(missing, self.places.places[missing])
        pairs = pairs.where(pairs.there >= 0)
        pairs = pairs.where(is_finished[pairs.there])
        is_doubtful = _mask(self._doubtful(run.spec, len(table)), len(table))[pairs.here]
        taken = take_rows(table, pairs.where(~is_doubtful), self.origin, rows)
        unsure = pairs.where(is_doubtful)
        return np.concatenate([taken, take_equal_rows(run, table, call, unsure, self.origin, rows)])

    def _passed(self, spec: BuilderSpec, rows: ReusableRows) -> set[int]:
        """Return the instance's rows computed despite a failed cell."""
        found: set[int] = set()
        for name in spec.own_row_columns:
            facts = self.origin.facts_of_column(name)
            found.update(self.failures.get(facts.name, ()) if facts is not None and not facts.is_index else ())
        if self.is_complete:
            return found
        # A row that was never tried has no cells.
        return {place for place in found if any(column[place] is not None for column in rows.values)}

    def _doubtful(self, spec: BuilderSpec, count: int) -> Iterable[int]:
        """Return the rows whose arguments may have changed."""
        touched = self._touched(spec)
        if touched and not _reads_only_its_row(spec):
            return range(count)
        return set().union(*touched)

    def _touched(self, spec: BuilderSpec) -> list[set[int]]:
        """Return the positions of the changed cells that a builder reads, column by column."""
        reads = spec.reads
        return [
            positions
            for name, positions in self.changed.items()
            if positions and (reads.reads_whole_self or name in reads.own_columns)
        ]

    def _note(self, spec: BuilderSpec, positions: set[int]) -> None:
        for name in spec.changed_columns:
            # New cells may give a column another type, and so all its cells another form.
            changed = positions if self._has_its_type(name) else set(range(len(self.places)))
            self.changed[name] = self.changed.get(name, set()) | changed

    def _has_its_type(self, name: str) -> bool:
        _, before = self.origin.stored_column(name)
        now = self.execution.frame.columns[name].type
        return (now.kind, now.arrow) == (before.kind, before.arrow)

    # --- functions that are called once ---------------------------------------------------------------------------

    def _run_whole(self, run: BuilderRun, facts: BuilderFacts) -> None:
        rows = self.origin.recorded_rows(facts)
        finished = self._finished(facts, rows)
        differs = bool(self._touched(run.spec)) and not self._has_equal_arguments(run, facts)
        if not differs and finished.all() and len(self.places) == self.origin.row_count:
            self._take_all(run, facts)
            return
        self._check_inputs_are_there(run.spec)
        if not run.is_done:
            run.begin()
        kept = self._kept(run, finished, differs)
        if run.spec.return_type == "generator":
            run_generator(run, frozenset(kept.here.tolist()))
        else:
            run_dataframe(run)
        taken = self._keep(run, rows, kept) if len(kept.here) else set()
        self._note(run.spec, set(range(len(self.places))) - taken)

    def _finished(self, facts: BuilderFacts, rows: ReusableRows) -> Mask:
        """Return whether each row of the instance has a result."""
        is_failed = _mask(self.failures.get(facts.name, {}), self.origin.row_count)
        return ~is_failed if facts.whole is not None else rows.fingerprints.known & ~is_failed

    def _has_equal_arguments(self, run: BuilderRun, facts: BuilderFacts) -> bool:
        reads = run.spec.reads
        if reads.reads_whole_self or set(reads.own_columns) & set(run.spec.changed_columns):
            return False
        return SingleCall.prepare(run, {}).fingerprint == facts.whole

    def _kept(self, run: BuilderRun, finished: Mask, differs: bool) -> Counterparts:
        """Return the rows that keep the instance's cells when the function runs again."""
        # The files of both would have the same names.
        keeps = not differs and not run.empty_table().artifact_columns
        here = np.flatnonzero(self.places.are_there)
        pairs = Counterparts(here, self.places.places[here])
        return pairs.where(finished[pairs.there] & keeps)

    def _keep(self, run: BuilderRun, rows: ReusableRows, kept: Counterparts) -> set[int]:
        """Replace new rows by the instance's finished ones; return their positions."""
        table = run.empty_table()
        outcome = self.execution.outcomes.pop()
        new = [self.execution.frame.columns[name].values for name in run.spec.changed_columns]
        table.resize(len(self.places))
        taken = set(take_rows(table, kept, self.origin, rows).tolist())
        for position in table.missing():
            for column, cells in zip(table.cells, new, strict=True):
                column[position] = cells[position]
        table.failures.update({row: failure for row, failure in outcome.failures.items() if row not in taken})
        for position in range(len(table)):
            table.fingerprints[position] = outcome.whole
        run.counter.computed -= len(taken - outcome.failures.keys())
        run.put_columns(table)
        run.add_row_outcome(table, outcome.whole)
        return taken

    # --- reused cells ---------------------------------------------------------------------------------------------

    def _take_all(self, run: BuilderRun, facts: BuilderFacts) -> None:
        """Reuse all rows of a builder, with their original code versions."""
        rows = self.origin.recorded_rows(facts)
        run.builder = replace(
            run.builder, version=facts.versions[0], code_parts=facts.code_parts, packages=facts.packages
        )
        table = reuse_columns(run, self.origin, rows)
        if not table.is_complete:
            gone = table.missing()[0]
            raise TVArtifactError(f"A file that builder '{run.spec.name}' wrote for row {gone} is missing.")
        run.counter.total = len(table)
        by_row = len(facts.versions) > 1 or rows.fingerprints.known.any()
        if by_row:
            run.add_row_outcome(table, facts.whole)
        else:
            run.add_outcome(facts.versions, whole=facts.whole)

    def _check_inputs_are_there(self, spec: BuilderSpec) -> None:
        """Raise `TVTableError` if a builder reads an IndexBuilder's column that it has overwritten."""
        producer = self.origin.index_facts
        overwritten = set(producer.columns if producer is not None else ()) & set(spec.changed_columns)
        if overwritten and (spec.reads.reads_whole_self or overwritten & set(spec.reads.own_columns)):
            raise _overwritten(spec)


def failures_by_builder(rows: Iterable[FailedRow]) -> dict[str, dict[int, RowFailure]]:
    """Return failed and skipped rows by builder and position."""
    found: dict[str, dict[int, RowFailure]] = {}
    for row in rows:
        found.setdefault(row.builder, {})[row.index] = row.failure
    return found


def _mask(rows: Iterable[int], count: int) -> Mask:
    """Return whether each of so many rows is one of these."""
    mask = np.zeros(count, np.bool_)
    mask[[row for row in rows if row < count]] = True
    return mask


def _set_of(mask: Mask) -> set[int]:
    return set(np.flatnonzero(mask).tolist())


def _reads_only_its_row(spec: BuilderSpec) -> bool:
    """Return whether a builder reads only cells of the current row from its instance."""
    if spec.reads.reads_whole_self:
        return False
    references = (reference for value in spec.written_values for reference in find_references(value))
    own = [part for reference in references for part in reference.nested() if part.is_self]
    read = {operand.value for part in own for operand in part.columns or () if isinstance(operand, Literal)}
    return all(part.reads_current_row for part in own) and set(spec.reads.own_columns) <= read


def _overwritten(spec: BuilderSpec) -> TVTableError:
    return TVTableError(
        f"Builder '{spec.name}' cannot be retried: cells that it read were overwritten afterwards. Create a new "
        "instance with create_instance(copy=True) and execute it."
    )
