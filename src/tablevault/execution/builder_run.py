"""What any builder does in one attempt: take over what is done, compute the rest, and leave its columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from itertools import compress

from tablevault.execution.context import BuilderOutcome, Execution, PreparedBuilder
from tablevault.execution.origins import MaterializedOrigin, names_artifacts
from tablevault.execution.table import RowTable
from tablevault.progress import BuilderCounter
from tablevault.rows.results import misfits, typed_column
from tablevault.storage.checkpoints import BuilderState
from tablevault.storage.fingerprints import Fingerprints


class BuilderRun(ABC):
    """One builder in one attempt; each `return_type` has a class of its own.

    Parameters
    ----------
    execution
        What all builders share.
    builder
        The builder.
    """

    def __init__(self, execution: Execution, builder: PreparedBuilder) -> None:
        self._execution = execution
        self._builder = builder
        self._spec = builder.spec
        self._counter: BuilderCounter = execution.progress.start(self._spec.name, len(self._spec.changed_columns))
        self._saved: BuilderState | None = execution.checkpoints.load(self._spec.name)

    def run(self) -> None:
        """Take over what is done or can be reused, compute the rest, and put the columns into the building."""
        self._check_old_rows()
        if not self._is_done:
            self._begin()
        self._compute()
        self._counter.done = True

    @abstractmethod
    def restore(self, reusing: bool) -> bool:
        """Put what an execution had when it was cut off into the building, with nulls in the rest; calls no function.

        Parameters
        ----------
        reusing
            Whether it had come so far that this builder took over what could be reused.

        Returns
        -------
        bool
            Whether this builder was complete.
        """

    @abstractmethod
    def _compute(self) -> None:
        """Do what is left to do, and put the columns into the building."""

    @property
    def _is_done(self) -> bool:
        """Whether this builder was finished."""
        return self._saved is not None and self._saved.done

    @property
    def _reused_version(self) -> str:
        """The version under which cells are taken over: of a finished builder the one that it was finished under.

        It must not run again, and the code may have been edited since.
        """
        finished = self._saved.finished_code if self._saved is not None and self._saved.done else None
        return finished or self._builder.version

    def _begin(self) -> None:
        self._execution.checkpoints.begin(self._spec.name, self._spec.changed_columns, self._builder.version)

    # --- rows of earlier attempts ---------------------------------------------------------------------------------

    def _restored_table(self) -> RowTable:
        table = RowTable(self._execution, self._builder, self._counter)
        table.reused_version = self._reused_version
        if self._saved is not None:
            table.restore(self._saved)
        return table

    def _rows_so_far(self) -> RowTable:
        """Return the rows of an execution that was cut off; those of an IndexBuilder become the building's."""
        table = self._restored_table()
        if self._spec.is_index:
            self._execution.building.row_count = len(table.filled)
        table.resize(self._execution.building.row_count)
        return table

    def _put_rows_so_far(self, table: RowTable) -> None:
        """Put the rows of an execution that was cut off into the building."""
        for position in self._misfits(table):
            for cells in table.columns:
                cells[position] = None
        # Of a column of the IndexBuilder that it was to overwrite the old values stay until there are new ones.
        self.put_columns(table, over=any(table.filled))
        self._add_row_outcome(table)
        if self._spec.is_index and self._is_done:
            self._keep_old_rows()

    # --- what is left in the building -----------------------------------------------------------------------------

    def _complete(self, table: RowTable, total: int) -> None:
        """Record that the builder is complete, and put its columns into the building."""
        self._counter.total = total
        try:
            self.put_columns(table)
        except ValueError:
            # As a row that is refused at once, so that the function can be fixed and the process resumed.
            refused = self._misfits(table)
            table.forget(refused)
            self._counter.computed -= len(refused)
            self._counter.failed += len(refused)
            raise
        if not self._is_done or table.is_incomplete:
            self._execution.checkpoints.finish(self._spec.name, total)
        self._record_artifacts()
        if self._spec.is_index:
            self._execution.building.row_count = total
            self._keep_old_rows()

    def _misfits(self, table: RowTable) -> list[int]:
        """Return the rows with a cell that cannot stand in one column with those before it."""
        named = zip(self._spec.changed_columns, table.columns, strict=True)
        return sorted({position for name, cells in named for position in misfits(self._spec, name, cells)})

    def put_columns(self, table: RowTable, over: bool = True) -> None:
        """Put the columns as they are into the building, with nulls in the rows that are missing.

        Those that are there already are replaced only if `over`.
        """
        for name, cells in zip(self._spec.changed_columns, table.columns, strict=True):
            if not over and name in self._execution.building.columns:
                continue
            column, column_type = typed_column(self._spec, name, cells)
            self._execution.building.put(name, column, column_type, cells, table.adopted[name])

    def _record_artifacts(self) -> None:
        """Take over the records of the files that rows of this builder named."""
        if any(names_artifacts(self._spec.dtypes.get(name)) for name in self._spec.changed_columns):
            self._execution.checkpoints.flush()
            state = self._execution.checkpoints.load(self._spec.name)
            for records in state.artifacts.values() if state is not None else ():
                self._execution.building.records.update((record.path, record) for record in records)

    def _check_old_rows(self) -> None:
        """Raise `TVBuilderError` if rows of the origin are to be kept that nothing could tell from the new ones."""
        origin = self._execution.origins[-1] if self._execution.origins else None
        if self._spec.is_index and self._spec.keep_old and isinstance(origin, MaterializedOrigin):
            unknown = [name for name in self._spec.primary_key if origin.column(name) is None]
            if unknown and origin.row_count:
                raise self._spec.error(
                    ("keep_old",),
                    f"the origin has no column '{unknown[0]}' by which its rows could be told from new ones; set "
                    "keep_old to false, or start without an origin",
                )

    def _keep_old_rows(self) -> None:
        """Append the origin's rows that the new run did not produce, where the builder says so."""
        execution, spec = self._execution, self._spec
        if not (spec.keep_old and execution.origins):
            return
        origin = execution.origins[-1]
        old_columns = [origin.column(name) for name in spec.changed_columns]
        if all(old is None for old in old_columns) or any(origin.column(name) is None for name in spec.primary_key):
            return
        execution.check_primary_key()
        execution.match_origins()
        produced = {place for place in execution.matches[-1] if place is not None}
        kept = [place not in produced for place in range(origin.row_count)]
        count = execution.building.row_count
        for name, old in zip(spec.changed_columns, old_columns, strict=True):
            built = execution.building.columns[name]
            added = list(compress(old, kept)) if old is not None else [None] * sum(kept)
            column, column_type = typed_column(spec, name, [*built.values, *added])
            adopted = dict(execution.building.adopted[name])
            if names_artifacts(spec.dtypes.get(name)):
                for offset, cell in enumerate(added):
                    file = origin.adopted(str(cell)) if cell is not None else None
                    if file is not None:
                        adopted[count + offset] = file
                        execution.building.taken_over[file.record.path] = file.record
            execution.building.put(name, column, column_type, adopted=adopted)
        execution.building.row_count = count + sum(kept)
        self._counter.total = execution.building.row_count
        self._counter.reused += sum(kept)

    def _add_row_outcome(self, table: RowTable, whole: bytes | None = None) -> None:
        """Record of each row which version of the code computed it."""
        self._add_outcome(tuple(table.versions), table.fingerprints, table.codes, whole)

    def _add_outcome(
        self,
        versions: tuple[str, ...] = (),
        fingerprints: Fingerprints | None = None,
        codes: array[int] | None = None,
        whole: bytes | None = None,
    ) -> None:
        outcome = BuilderOutcome(
            self._builder,
            versions or (self._builder.version,),
            self._counter.computed,
            self._counter.reused,
            fingerprints,
            codes,
            whole,
        )
        self._execution.outcomes.append(outcome)
