"""How each kind of builder is run: as a whole, row by row, or as a generator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import compress

from tablevault.builders.calls import FunctionCall
from tablevault.builders.dependencies import column_dependencies
from tablevault.builders.execution import BuilderOutcome, Execution, PreparedBuilder
from tablevault.builders.origins import Origin, names_artifacts
from tablevault.builders.results import read_frame_result, typed_column
from tablevault.builders.rows import RowTable, RowWiseRun, run_generator
from tablevault.builders.spec import BuilderSpec
from tablevault.errors import TVArtifactError
from tablevault.interfaces import FunctionError
from tablevault.progress import BuilderCounter
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.checkpoints import BuilderState
from tablevault.storage.dtypes import plain_values
from tablevault.storage.frames import FrameData, read_frame


def run_builders(execution: Execution, builders: Sequence[PreparedBuilder]) -> None:
    """Run an IndexBuilder and then ColumnBuilders in their order, leaving their columns in the building."""
    for builder in builders:
        execution.owner.raise_if_stopped()
        _BuilderRun(execution, builder).run()
        if builder.spec.is_index:
            execution.check_primary_key()
            execution.match_origins()
    if builders:
        execution.check_primary_key()


class _BuilderRun:
    """One builder in one attempt."""

    def __init__(self, execution: Execution, builder: PreparedBuilder) -> None:
        self._execution = execution
        self._builder = builder
        self._spec = builder.spec
        self._counter: BuilderCounter = execution.progress.start(self._spec.name, len(self._spec.changed_columns))
        self._saved: BuilderState | None = execution.checkpoints.load(self._spec.name)

    def run(self) -> None:
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
        call = FunctionCall(self._spec, self._execution.views({}))
        arguments = call.arguments(None)
        whole = call.fingerprint(None, arguments)
        if self._reuse_whole(whole):
            return
        self._counter.total = total
        data = read_frame_result(self._spec, self._call(arguments), total)
        self._counter.computed = len(data)
        self._execution.checkpoints.save_frame(self._spec.name, data, whole, _artifacts_of(data))
        self._saved = self._execution.checkpoints.load(self._spec.name)
        self._saved_frame()
        self._put_frame(data)
        self._add_outcome(whole=whole)

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
        execution, spec = self._execution, self._spec
        other = execution.index_origin if spec.is_index else None
        total = other.row_count if other is not None else execution.building.row_count
        self._counter.total = total
        table = self._restored_table()
        table.resize(total)
        run = RowWiseRun(table, FunctionCall(spec, execution.views({}, other)))
        for origin, matches in self._matched_origins(total):
            rows = origin.rows(spec.changed_columns, spec.is_index)
            if rows is not None and self._builder.version in rows.versions:
                run.reuse(rows, matches, origin)
        run.compute()
        self._complete(table, total)

    def _matched_origins(self, total: int) -> Iterable[tuple[Origin, Sequence[int | None]]]:
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
        if self._saved is not None and self._saved.done:
            table.generator_fingerprint = self._saved.fingerprints[0] if self._saved.fingerprints else b""
            self._complete(table, len(table.filled))
            return
        continues = self._continues()
        filled = len(table.filled)
        call = FunctionCall(spec, execution.views(self._own_rows(table, total) if continues else {}))
        arguments = call.arguments(None)
        table.generator_fingerprint = call.fingerprint(None, arguments)
        if total is not None and not filled and self._reuse_whole(table.generator_fingerprint):
            return
        first = filled if continues else prefix
        run_generator(table, self._call(arguments), filled - first, total, first)
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
            shown[name] = [*cells, *unfilled]
        return shown

    def _show_old_rows(self, table: RowTable) -> int:
        """Begin with the origin's rows where the contract says so; return how many they are."""
        spec, origins = self._spec, self._execution.origins if self._execution.reuses_cells else ()
        if not (spec.is_index and spec.keep_old and column_dependencies(spec).reads_whole_self and origins):
            return 0
        origin = origins[-1]
        facts, rows = origin.facts(spec.changed_columns), origin.rows(spec.changed_columns, is_index=True)
        if facts is None or rows is None or facts.versions[-1:] != (self._builder.version,):
            return 0
        if facts.arguments != tracked_arguments(spec):
            return 0
        table.resize(max(origin.row_count, len(table.filled)))
        for position in range(origin.row_count):
            if not table.reuse(position, rows, position, origin):
                raise TVArtifactError(
                    f"Builder '{spec.name}' keeps the rows of its origin, but a file that row {position} names is gone."
                )
        return origin.row_count

    # --- shared ---------------------------------------------------------------------------------------------------

    def _restored_table(self) -> RowTable:
        table = RowTable(self._execution, self._builder, self._counter)
        if self._saved is not None:
            table.restore(self._saved)
        return table

    def _reuse_whole(self, whole: bytes) -> bool:
        """Take the columns of a builder that is decided as a whole over from an origin, if nothing changed."""
        spec, execution = self._spec, self._execution
        if spec.is_index:
            return False
        for origin, matches in execution.reusable:
            rows = origin.rows(spec.changed_columns, is_index=False)
            same_rows = list(matches) == list(range(execution.building.row_count)) and (
                origin.row_count == execution.building.row_count
            )
            if rows is None or not same_rows or rows.whole != whole or set(rows.versions) - {self._builder.version}:
                continue
            table = RowTable(execution, self._builder, self._counter)
            table.resize(execution.building.row_count)
            if all(table.reuse(position, rows, position, origin) for position in range(len(matches))):
                self._counter.total = execution.building.row_count
                table.generator_fingerprint = whole
                self._put_columns(table)
                self._add_outcome(whole=whole)
                return True
            self._counter.reused = 0
        return False

    def _complete(self, table: RowTable, total: int) -> None:
        """Record that the builder is complete, and put its columns into the building."""
        spec, execution = self._spec, self._execution
        self._counter.total = total
        self._put_columns(table)
        if self._saved is None or not self._saved.done:
            execution.checkpoints.finish(spec.name, total)
        self._record_artifacts()
        if spec.is_index:
            execution.building.row_count = total
            self._keep_old_rows()
        if spec.is_row_wise:
            self._add_outcome(versions=tuple(table.versions), fingerprints=table.fingerprints, codes=table.codes)
        else:
            self._add_outcome(versions=tuple(table.versions), whole=table.generator_fingerprint or None)

    def _put_columns(self, table: RowTable) -> None:
        for name, cells in zip(self._spec.changed_columns, table.columns, strict=True):
            column, column_type = typed_column(self._spec, name, cells)
            self._execution.building.put(name, column, column_type, cells)

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
            execution.building.put(name, column, column_type)
            if names_artifacts(spec.dtypes.get(name)):
                for offset, cell in enumerate(added):
                    file = origin.adopted(str(cell)) if cell is not None else None
                    if file is not None:
                        execution.building.adopted.setdefault(name, {})[count + offset] = file
        execution.building.row_count = count + sum(kept)
        self._counter.total = execution.building.row_count
        self._counter.reused += sum(kept)

    def _add_outcome(
        self,
        versions: tuple[str, ...] = (),
        fingerprints: Sequence[bytes | None] | None = None,
        codes: Sequence[int] | None = None,
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


__all__ = ["run_builders", "tracked_arguments"]
