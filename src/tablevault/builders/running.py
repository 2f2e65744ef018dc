"""How each kind of builder is run: as a whole, row by row, or as a generator."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from tablevault.builders.calls import FunctionCall
from tablevault.builders.dependencies import column_dependencies
from tablevault.builders.execution import BuilderOutcome, Execution, PreparedBuilder
from tablevault.builders.generators import run_generator
from tablevault.builders.origins import MaterializedOrigin, Origin, ReusableRows, names_artifacts
from tablevault.builders.results import read_frame_result, typed_column
from tablevault.builders.row_wise import RowWiseRun
from tablevault.builders.rows import RowTable, reuse_candidates
from tablevault.builders.spec import BuilderSpec
from tablevault.errors import TVArtifactError
from tablevault.interfaces import FunctionError
from tablevault.progress import BuilderCounter
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.checkpoints import BuilderState
from tablevault.storage.dtypes import plain_values
from tablevault.storage.fingerprints import Fingerprints
from tablevault.storage.frames import FrameData, read_frame


def run_builders(execution: Execution, builders: Sequence[PreparedBuilder]) -> None:
    """Run an IndexBuilder and then ColumnBuilders in their order, leaving their columns in the building."""
    for builder in builders:
        execution.owner.raise_if_stopped()
        run_builder(execution, builder)
    if builders:
        execution.check_primary_key()


def run_builder(execution: Execution, builder: PreparedBuilder) -> None:
    """Run one builder, after those that it depends on; leaves its columns in the building."""
    BuilderRun(execution, builder).run()
    if builder.spec.is_index:
        execution.check_primary_key()
        execution.match_origins()


@dataclass(frozen=True)
class RowDecision:
    """Which rows of a row-wise builder have to be computed."""

    table: RowTable
    """Its rows, those filled that can be reused."""
    undecided: frozenset[int]
    """Rows for which that cannot be known, because their arguments are not."""


@dataclass(frozen=True)
class WholeCall:
    """The one call of a function that makes its columns at once."""

    function: FunctionCall
    counted: Mapping[str, object]
    fingerprint: bytes

    def arguments(self) -> dict[str, object]:
        """Return what the function is called with, which is known only if it has to be called."""
        return self.function.completed(None, self.counted)


class BuilderRun:
    """One builder in one attempt.

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
        execution, spec = self._execution, self._spec
        if self._saved is None or not self._saved.done:
            execution.checkpoints.begin(spec.name, spec.changed_columns, self._builder.version)
        kinds: dict[str, Callable[[], None]] = {
            "dataframe": self._run_whole,
            "row-wise": self._run_rows,
            "generator": self._run_generator,
        }
        kinds[spec.return_type]()
        self._counter.done = True

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
        spec, execution = self._spec, self._execution
        if self._saved is not None and self._saved.frame is not None:
            data = read_frame(self._saved.frame.path)
            self._counter.computed = len(data)
            execution.building.records.update((record.path, record) for record in self._saved.frame.artifacts)
            self._put_frame(data)
            self._add_outcome(whole=self._saved.frame.fingerprint)
            return True
        if reusing and self._saved is None and not spec.is_row_wise and self.decide_whole():
            return True
        table = self._restored_table()
        if spec.is_index:
            execution.building.row_count = len(table.filled)
        table.resize(execution.building.row_count)
        if reusing and spec.is_row_wise and not spec.is_index:
            self._reuse_rows(RowWiseRun(table, self._row_call()), table)
        # Of a column of the IndexBuilder that it was to overwrite the old values stay until there are new ones.
        self.put_columns(table, over=any(table.filled))
        self._add_outcome(versions=tuple(table.versions), fingerprints=table.fingerprints, codes=table.codes)
        done = self._saved is not None and self._saved.done
        if spec.is_index and done:
            self._keep_old_rows()
        return done or (spec.is_row_wise and all(table.filled))

    # --- dataframe ------------------------------------------------------------------------------------------------

    def _run_whole(self) -> None:
        total = None if self._spec.is_index else self._execution.building.row_count
        saved = self._saved_frame()
        if saved is not None:
            data, whole = saved
            self._counter.computed = len(data)
            self._put_frame(data)
            self._add_outcome(whole=whole, versions=self._saved_versions())
            return
        call = self._whole_call({})
        if self._reuse_whole(call.fingerprint):
            return
        self._counter.total = total
        if self._saved is not None and self._saved.done:
            # It was complete, but its files are not what they were.
            self._execution.checkpoints.begin(self._spec.name, self._spec.changed_columns, self._builder.version)
        returned = self._call(call.arguments())
        data = read_frame_result(self._spec, returned, total, ArtifactFolder(self._execution.artifact_folder))
        self._counter.computed = len(data)
        artifacts = _artifacts_of(data)
        self._execution.checkpoints.save_frame(self._spec.name, data, call.fingerprint, artifacts)
        if artifacts:
            self._saved = self._execution.checkpoints.load(self._spec.name)
            self._saved_frame()
        self._put_frame(data)
        self._add_outcome(whole=call.fingerprint)

    def _saved_frame(self) -> tuple[FrameData, bytes] | None:
        """Return the frame of an earlier attempt, unless its files are not what they were."""
        frame = self._saved.frame if self._saved is not None and self._saved.done else None
        if frame is None:
            return None
        folder = ArtifactFolder(self._execution.artifact_folder)
        if not all(folder.matches(record) for record in frame.artifacts):
            return None
        self._execution.building.records.update((record.path, record) for record in frame.artifacts)
        return read_frame(frame.path), frame.fingerprint

    def _saved_versions(self) -> tuple[str, ...]:
        assert self._saved is not None
        assert self._saved.frame is not None
        return (self._saved.frame.code,)

    def _put_frame(self, data: FrameData) -> None:
        building = self._execution.building
        if self._spec.is_index:
            building.row_count = len(data)
        self._counter.total = building.row_count
        for name, column_type in data.types.items():
            building.put(name, data.table.column(name), column_type)
        if self._spec.is_index:
            self._keep_old_rows()

    def _call(self, arguments: dict[str, object]) -> object:
        try:
            return self._builder.function(**arguments)
        except BaseException as error:
            error.add_note(f"raised by {self._spec.python_function}() of builder '{self._spec.name}'")
            raise FunctionError(error) from error

    # --- row-wise -------------------------------------------------------------------------------------------------

    def _run_rows(self) -> None:
        table = self._row_table()
        run = RowWiseRun(table, self._row_call())
        self._reuse_rows(run, table)
        run.compute()
        self._complete(table, len(table.filled))

    def decide_rows(self, unknown: Collection[int] = ()) -> RowDecision:
        """Take over the rows that can be reused; calls no function.

        Parameters
        ----------
        unknown
            Rows whose arguments cannot be known yet.
        """
        table = self._row_table()
        return RowDecision(table, self._reuse_rows(RowWiseRun(table, self._row_call()), table, unknown))

    def undecided_rows(self) -> RowDecision:
        """Decide what can be decided while the arguments of no row are known."""
        table = self._row_table()
        undecided = frozenset(
            position
            for _, rows, matches in self._row_candidates(len(table.filled))
            for position, _ in reuse_candidates(table, rows, matches)
        )
        return RowDecision(table, undecided)

    def _row_table(self) -> RowTable:
        """Return the rows of a row-wise builder, those filled that earlier attempts computed."""
        other = self._row_origin
        table = self._restored_table()
        table.resize(other.row_count if other is not None else self._execution.building.row_count)
        self._counter.total = len(table.filled)
        return table

    def _row_call(self) -> FunctionCall:
        return FunctionCall(self._spec, self._execution.views({}, self._row_origin))

    @property
    def _row_origin(self) -> MaterializedOrigin | None:
        """Whose rows the function is called for, where they are not those of the instance."""
        return self._execution.index_origin if self._spec.is_index else None

    def _reuse_rows(self, run: RowWiseRun, table: RowTable, unknown: Collection[int] = ()) -> frozenset[int]:
        """Take rows over from the origins; return those that depend on what is unknown."""
        undecided: set[int] = set()
        for origin, rows, matches in self._row_candidates(len(table.filled)):
            undecided |= run.reuse(rows, matches, origin, unknown)
        return frozenset(undecided)

    def _row_candidates(self, total: int) -> Iterator[tuple[Origin, ReusableRows, Sequence[int | None]]]:
        """Yield the origins with rows of the same builder and code."""
        for origin, matches in self.matched_origins(total):
            rows = origin.rows(self._spec.changed_columns, self._spec.is_index)
            if rows is not None and self._builder.version in rows.versions:
                yield origin, rows, matches

    def matched_origins(self, total: int) -> Iterable[tuple[Origin, Sequence[int | None]]]:
        """Return the origins that rows may be taken from; a row-wise IndexBuilder has the positions of its origin."""
        if not self._spec.is_index:
            return self._execution.reusable
        origins = self._execution.origins if self._execution.reuses_cells else ()
        return [(origin, _same_positions(total, origin)) for origin in origins]

    # --- generator ------------------------------------------------------------------------------------------------

    def _run_generator(self) -> None:
        execution, spec = self._execution, self._spec
        table = self._restored_table()
        total = None if spec.is_index else execution.building.row_count
        self._counter.total = total
        prefix = self._show_old_rows(table)
        if self._saved is not None and self._saved.done and not table.is_incomplete:
            table.generator_fingerprint = self._saved.fingerprints[0] if self._saved.fingerprints else b""
            self._complete(table, len(table.filled))
            return
        continues = self._continues()
        if continues:
            table.cut_at_first_missing()
        filled = len(table.filled)
        call = self._whole_call(self._own_rows(table, total) if continues else {})
        table.generator_fingerprint = call.fingerprint
        if total is not None and not filled and self._reuse_whole(table.generator_fingerprint):
            return
        first = filled if continues else prefix
        run_generator(table, self._call(call.arguments()), filled - first, total, first)
        self._complete(table, len(table.filled) if total is None else total)

    def _continues(self) -> bool:
        """Tell whether the generator looks at its own rows, and so goes on where it was."""
        reads = column_dependencies(self._spec)
        return reads.reads_whole_self or bool(set(reads.own_columns) & set(self._spec.changed_columns))

    def _own_rows(self, table: RowTable, total: int | None) -> dict[str, list[object]]:
        """Return the generator's own columns as it sees them: as far as they are filled."""
        shown = {}
        for name, cells in zip(self._spec.changed_columns, table.columns, strict=True):
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

    def shown_origin(self) -> Origin | None:
        """Return the origin whose rows the generator is shown first, to append to them; `None` if there is none."""
        spec, origins = self._spec, self._execution.origins if self._execution.reuses_cells else ()
        keeps = spec.is_index and spec.return_type == "generator" and spec.keep_old
        if not (keeps and column_dependencies(spec).reads_whole_self and origins):
            return None
        facts = origins[-1].facts(spec.changed_columns)
        if facts is None or facts.versions[-1:] != (self._builder.version,):
            return None
        return origins[-1] if facts.arguments == tracked_arguments(spec) else None

    # --- shared ---------------------------------------------------------------------------------------------------

    def _restored_table(self) -> RowTable:
        table = RowTable(self._execution, self._builder, self._counter)
        if self._saved is not None:
            table.restore(self._saved)
        return table

    def decide_whole(self) -> bool:
        """Take the columns of a ColumnBuilder over if nothing changed, and return whether that could be done.

        Calls no function.
        """
        is_generator = self._spec.return_type == "generator"
        table = RowTable(self._execution, self._builder, self._counter)
        unfinished = self._own_rows(table, self._execution.building.row_count)
        call = self._whole_call(unfinished if is_generator and self._continues() else {})
        return self._reuse_whole(call.fingerprint)

    def may_reuse_whole(self) -> bool:
        """Tell whether the same arguments would be enough to take the columns over."""
        return any(True for _ in self._whole_candidates())

    def _whole_call(self, unfinished: Mapping[str, Sequence[object]]) -> WholeCall:
        call = FunctionCall(self._spec, self._execution.views(unfinished))
        counted = call.counted(None)
        return WholeCall(call, counted, call.fingerprint(None, counted))

    def _whole_candidates(self) -> Iterator[tuple[Origin, ReusableRows]]:
        """Yield the origins with the same rows, in which the same builder and code made the columns."""
        spec, execution = self._spec, self._execution
        if spec.is_index:
            return
        count = execution.building.row_count
        for origin, matches in execution.reusable:
            rows = origin.rows(spec.changed_columns, is_index=False)
            same_rows = origin.row_count == count and list(matches) == list(range(count))
            if rows is not None and same_rows and not set(rows.versions) - {self._builder.version}:
                yield origin, rows

    def _reuse_whole(self, whole: bytes) -> bool:
        """Take the columns of a builder that is decided as a whole over from an origin, if nothing changed."""
        count = self._execution.building.row_count
        for origin, rows in self._whole_candidates():
            if rows.whole != whole:
                continue
            table = RowTable(self._execution, self._builder, self._counter)
            table.resize(count)
            if all(table.reuse(position, rows, position, origin) for position in range(count)):
                self._counter.total = count
                table.generator_fingerprint = whole
                self.put_columns(table)
                self._add_outcome(whole=whole)
                return True
            self._counter.reused = 0
        return False

    def _complete(self, table: RowTable, total: int) -> None:
        """Record that the builder is complete, and put its columns into the building."""
        spec, execution = self._spec, self._execution
        self._counter.total = total
        self.put_columns(table)
        if self._saved is None or not self._saved.done or table.is_incomplete:
            execution.checkpoints.finish(spec.name, total)
        self._record_artifacts()
        if spec.is_index:
            execution.building.row_count = total
            self._keep_old_rows()
        if spec.is_row_wise:
            self._add_outcome(versions=tuple(table.versions), fingerprints=table.fingerprints, codes=table.codes)
        else:
            self._add_outcome(versions=tuple(table.versions), whole=table.generator_fingerprint or None)

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

    def _keep_old_rows(self) -> None:
        """Append the origin's rows that the new run did not produce, where the builder says so."""
        execution, spec = self._execution, self._spec
        if not (spec.keep_old and execution.origins):
            return
        origin = execution.origins[-1]
        rows = origin.rows(spec.changed_columns, is_index=True)
        if rows is None:
            return
        execution.check_primary_key()
        execution.match_origins()
        produced = {place for place in execution.matches[-1] if place is not None}
        kept = [place not in produced for place in range(origin.row_count)]
        count = execution.building.row_count
        for name, old in zip(spec.changed_columns, rows.values, strict=True):
            built = execution.building.columns[name]
            added = list(compress(old, kept))
            column, column_type = typed_column(spec, name, [*built.values, *added])
            adopted = dict(execution.building.adopted[name])
            if names_artifacts(spec.dtypes.get(name)):
                for offset, cell in enumerate(added):
                    file = origin.adopted(str(cell)) if cell is not None else None
                    if file is not None:
                        adopted[count + offset] = file
            execution.building.put(name, column, column_type, adopted=adopted)
        execution.building.row_count = count + sum(kept)
        self._counter.total = execution.building.row_count
        self._counter.reused += sum(kept)

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


def tracked_arguments(spec: BuilderSpec) -> dict[str, object]:
    """Return the arguments of a builder as written, without those that are recorded nowhere."""
    return {name: value for name, value in spec.arguments.items() if name not in spec.untracked}


def _artifacts_of(data: FrameData) -> list[str]:
    names: list[str] = []
    for name, column_type in data.types.items():
        if names_artifacts(column_type):
            cells = plain_values(data.table.column(name), column_type)
            names.extend(str(cell) for cell in cells if cell is not None)
    return names


def _same_positions(total: int, origin: Origin) -> Sequence[int | None]:
    return [row if row < origin.row_count else None for row in range(total)]


__all__ = ["BuilderRun", "RowDecision", "run_builder", "run_builders", "tracked_arguments"]
