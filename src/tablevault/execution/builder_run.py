"""The state of one builder in one attempt, and steps shared by all return types."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress

from tablevault.builders.spec import BuilderSpec
from tablevault.execution.context import Execution
from tablevault.execution.frame import DraftFrame
from tablevault.execution.origins import MaterializedOrigin
from tablevault.execution.outcomes import BuilderOutcome, InputOutcome, PreparedBuilder
from tablevault.execution.primary_keys import first_missing
from tablevault.ports import FunctionError
from tablevault.rows.artifacts import names_artifacts
from tablevault.rows.calls import ArgumentErrors, FunctionCall
from tablevault.rows.error_names import RowError
from tablevault.rows.failures import RowFailure
from tablevault.rows.gate import Budget, CallGate
from tablevault.rows.job_journal import JobJournal
from tablevault.rows.results import misfits, typed_column
from tablevault.rows.table import RowTable
from tablevault.rows.usage_log import UsageLog
from tablevault.storage.checkpoints import BuilderState
from tablevault.storage.fingerprints import Fingerprints
from tablevault.storage.frames import read_frame
from tablevault.values.processes import Usage
from tablevault.values.progress import BuilderCounter, rounded


@dataclass
class BuilderRun:
    """One builder in one attempt."""

    execution: Execution
    builder: PreparedBuilder
    counter: BuilderCounter
    saved: BuilderState | None = field(repr=False)
    """Finished rows of the process's earlier attempts."""
    _setup: FunctionCall | None = field(default=None, init=False, repr=False)
    _resolving: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @classmethod
    def start(cls, execution: Execution, builder: PreparedBuilder) -> BuilderRun:
        """Start counting a builder's rows, and load the finished rows of earlier attempts."""
        spec = builder.spec
        counter = execution.progress.start(spec.name, len(spec.changed_columns))
        rows = None if spec.is_index else execution.frame.row_count
        return cls(execution, builder, counter, execution.checkpoints.load(spec.name, rows))

    @property
    def spec(self) -> BuilderSpec:
        """The builder's fields."""
        return self.builder.spec

    @property
    def frame(self) -> DraftFrame:
        """The frame under construction."""
        return self.execution.frame

    @property
    def is_done(self) -> bool:
        """Whether an earlier attempt finished this builder."""
        return self.saved is not None and self.saved.done

    @property
    def reused_version(self) -> str:
        """Code version for reusing cells; for a finished builder, the one that finished it.

        A finished builder must not run again, even if the code has been edited since.
        """
        finished = self.saved.finished_code if self.saved is not None and self.saved.done else None
        return finished or self.builder.version

    def setup_arguments(self) -> dict[str, object]:
        """Return the constructor arguments, if the builder names a class.

        They are resolved once; each worker gets its own objects, since a constructor may modify them.
        """
        with ArgumentErrors(self.spec):
            with self._resolving:
                if self._setup is None:
                    self._setup = FunctionCall.of_setup(self.spec, self.execution.views({}))
            return self._setup.arguments(None)

    def begin(self) -> None:
        """Record in the checkpoints that rows of this builder follow."""
        is_nested = self.spec.for_each is not None
        self.execution.checkpoints.begin(self.spec.name, self.spec.changed_columns, self.builder.version, is_nested)

    def usage_log(self) -> UsageLog:
        """Return the usage log of a function called once; call this only once."""
        saved = self.saved.usage if self.saved is not None else None
        return UsageLog(self.spec.name, self.counter, self.execution.checkpoints, saved)

    def gate(self) -> CallGate | None:
        """Return the gate that admits calls; `None` if neither services nor budgets limit them."""
        policies, counter, open_limits = self.spec.policies, self.counter, self.execution.limits
        budgets = list(self.execution.budgets)
        if policies.budget is not None:
            budgets.append(Budget(f"builder '{self.spec.name}'", policies.budget, lambda: rounded(counter.usage)))
        limits = open_limits() if policies.services and open_limits is not None else None
        if limits is None and not budgets:
            return None
        return CallGate(counter, policies.services, limits, budgets)

    def job_journal(self) -> JobJournal | None:
        """Return the journal of the rows' jobs; `None` if the function computes rows itself."""
        if not self.spec.policies.runs_jobs:
            return None
        saved = self.saved.jobs if self.saved is not None else {}
        return JobJournal(self.spec.name, self.builder.version, self.execution.checkpoints, saved)

    # --- rows -----------------------------------------------------------------------------------------------------

    def empty_table(self) -> RowTable:
        """Return a table without rows."""
        return RowTable(self.spec, self.builder.version, self.counter, self.frame.artifacts, self.execution.checkpoints)

    def restored_table(self, outdated: Collection[int] = ()) -> RowTable:
        """Return a table with the finished rows of earlier attempts.

        `outdated` rows, and those whose files have changed, are to be computed again.
        """
        table = self.empty_table()
        if self.saved is not None:
            table.restore(self.saved, outdated)
            self.execution.has_repeated_cells |= table.is_incomplete or self.saved.has_repeated_rows
        return table

    def complete(self, table: RowTable, total: int) -> None:
        """Record that the builder is complete, and put its columns into the frame.

        Raises
        ------
        FunctionError
            If cells do not fit into one column; a resumed process recomputes their rows.
        """
        self.counter.total = total
        try:
            self.put_columns(table)
        except ValueError as error:
            self.forget_refused(table, self._misfits(table))
            raise self.refused(error) from error
        if not self.is_done or table.is_incomplete:
            self.execution.checkpoints.finish(self.spec.name, total)
        self.record_artifacts()
        if self.spec.is_index:
            self.frame.row_count = total
            self.keep_old_rows()

    def put_columns(self, table: RowTable, over: bool = True) -> None:
        """Put the current columns into the frame, with nulls in missing rows.

        Existing columns are replaced only if `over`.
        """
        for place, name in enumerate(self.spec.changed_columns):
            if not over and name in self.frame.columns:
                continue
            stored = table.column(place)
            if stored is not None:
                self.frame.put(name, *stored)
            else:
                cells = table.cells[place]
                column, column_type = typed_column(self.spec, name, cells)
                self.frame.put(name, column, column_type, cells, table.adopted[name])
            if table.failures:
                self.frame.failures[name] = {
                    position: failure.cause or (self.spec.name, name) for position, failure in table.failures.items()
                }

    def forget_refused(self, table: RowTable, rows: Collection[int]) -> None:
        """Clear rows whose results are refused, so that a resumed process computes them again."""
        table.forget(rows)
        self.counter.computed -= len(rows)
        self.counter.raised += len(rows)

    def refused(self, error: TypeError | ValueError) -> FunctionError:
        """Return the error of a refused result, as if the function had raised it."""
        stops = self.builder.loaded.stop_on.match(RowError(error, is_invalid=True))
        return FunctionError(error, self.spec.policies.reverts and not stops)

    def _misfits(self, table: RowTable) -> list[int]:
        """Return the rows with a cell incompatible with earlier ones in its column."""
        places = [place for place in range(len(table.columns)) if table.column(place) is None]
        names = self.spec.changed_columns
        return sorted({row for place in places for row in misfits(self.spec, names[place], table.cells[place])})

    def record_artifacts(self) -> None:
        """Add the records of the files named by computed rows."""
        if any(names_artifacts(self.spec.dtypes.get(name)) for name in self.spec.changed_columns):
            self.execution.checkpoints.flush()
            state = self.execution.checkpoints.load(self.spec.name)
            for records in state.artifacts.values() if state is not None else ():
                self.frame.artifacts.add_computed(records)

    def record_rows(self) -> None:
        """Record all rows of a finished IndexBuilder in the checkpoints, if it took some over from an origin.

        Other builders' cells are recorded by position, so they can be read only beside all rows.
        """
        recorded = self.saved.rows if self.saved is not None else None
        if not self.counter.reused and recorded is None:
            return
        data = self.frame.data()
        if recorded is None or not read_frame(recorded.path).table.equals(data.table):
            checkpoints, spec = self.execution.checkpoints, self.spec
            adopted = [file.record for files in self.frame.adopted.values() for file in files.values()]
            checkpoints.begin(spec.name, spec.changed_columns, self.reused_version, spec.for_each is not None)
            checkpoints.save_rows(spec.name, data, adopted)

    # --- an unfinished execution ----------------------------------------------------------------------------------

    def rows_so_far(self) -> RowTable:
        """Return the finished rows; those of an IndexBuilder become the rows of the frame."""
        table = self.restored_table()
        if self.spec.is_index:
            self.frame.row_count = len(table)
        table.resize(self.frame.row_count)
        return table

    def put_rows_so_far(self, table: RowTable) -> None:
        """Put the finished rows into the frame."""
        for position in self._misfits(table):
            for cells in table.cells:
                cells[position] = None
        # A column of the IndexBuilder that would be overwritten keeps its values until there are new ones.
        self.put_columns(table, over=any(table.filled))
        self.add_row_outcome(table)
        if self.spec.is_index and self.is_done:
            self.keep_old_rows()

    # --- old rows -------------------------------------------------------------------------------------------------

    def check_old_rows(self) -> None:
        """Raise `TVBuilderError` if kept rows are indistinguishable from new ones."""
        origin = self.execution.origins[-1] if self.execution.origins else None
        if self.spec.is_index and self.spec.keep_old and isinstance(origin, MaterializedOrigin):
            unknown = [name for name in self.spec.primary_key if origin.column(name) is None]
            if unknown and origin.row_count:
                raise self.spec.error(
                    ("keep_old",),
                    f"the origin has no column '{unknown[0]}' to distinguish its rows from new ones by; set "
                    "keep_old to false, or start without an origin",
                )
            for name in self.spec.primary_key:
                row = first_missing(origin.column(name) or ())
                if row is not None:
                    raise self.spec.error(
                        ("keep_old",),
                        f"row {row} of the origin has no value in the key column '{name}', so it cannot be kept; set "
                        "keep_old to false, or start without an origin",
                    )

    def keep_old_rows(self) -> None:
        """Append the origin's rows missing from the new run, if `keep_old`."""
        execution, spec, frame = self.execution, self.spec, self.frame
        if not (spec.keep_old and execution.origins):
            return
        origin = execution.origins[-1]
        old_columns = [origin.column(name) for name in spec.changed_columns]
        if all(old is None for old in old_columns) or any(origin.column(name) is None for name in spec.primary_key):
            return
        execution.check_primary_key()
        execution.match_origins()
        kept = execution.matches[-1].left(origin.row_count).tolist()
        count = frame.row_count
        for name, old in zip(spec.changed_columns, old_columns, strict=True):
            built = frame.columns[name]
            added = list(compress(old, kept)) if old is not None else [None] * sum(kept)
            column, column_type = typed_column(spec, name, [*built.values, *added])
            adopted = dict(frame.adopted[name])
            if names_artifacts(spec.dtypes.get(name)):
                for offset, cell in enumerate(added):
                    file = origin.adopted(str(cell)) if cell is not None else None
                    if file is not None:
                        adopted[count + offset] = file
                        frame.artifacts.add_adopted(file)
            frame.put(name, column, column_type, adopted=adopted)
        frame.row_count = count + sum(kept)
        self.counter.total = frame.row_count
        self.counter.reused += sum(kept)

    # --- outcomes -------------------------------------------------------------------------------------------------

    def add_row_outcome(self, table: RowTable, whole: bytes | None = None) -> None:
        """Record the code version that computed each row."""
        self.add_outcome(
            tuple(table.versions), table.fingerprints, table.codes, whole, table.failures, table.usage.rows
        )

    def add_input_outcome(
        self, table: RowTable, fingerprints: Fingerprints, codes: array[int], counts: Sequence[int]
    ) -> None:
        """Record the code version that computed each row and input row.

        Parameters
        ----------
        table
            The input rows.
        fingerprints, codes
            Fingerprint and index of the code version of each row of the instance.
        counts
            The number of rows made from each input row.
        """
        self.add_outcome(tuple(table.versions), fingerprints, codes, failures=table.failures, usage=table.usage.rows)
        keys = self.execution.input_key_columns(self.spec)
        self.execution.outcomes[-1] = replace(self.execution.outcomes[-1], inputs=InputOutcome(table, counts, keys))

    def add_outcome(
        self,
        versions: tuple[str, ...] = (),
        fingerprints: Fingerprints | None = None,
        codes: array[int] | None = None,
        whole: bytes | None = None,
        failures: Mapping[int, RowFailure] | None = None,
        usage: Mapping[int, Usage] | None = None,
    ) -> None:
        """Record the result of this builder for provenance."""
        self.execution.outcomes.append(
            BuilderOutcome(
                self.builder,
                versions or (self.builder.version,),
                self.counter.computed,
                self.counter.reused,
                fingerprints,
                codes,
                whole,
                dict(failures or {}),
                usage=dict(usage or {}),
                reused_partial=self.counter.reused_partial,
            )
        )
