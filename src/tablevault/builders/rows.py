"""Row loops: one builder's function called for the rows that need it, each result kept as soon as it is there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from tablevault.builders.building import AdoptedArtifact
from tablevault.builders.calls import FunctionCall
from tablevault.builders.execution import Execution, PreparedBuilder
from tablevault.builders.origins import Origin, ReusableRows, names_artifacts
from tablevault.builders.results import ReadRow, row_reader
from tablevault.executors import executor_for
from tablevault.interfaces import FunctionError
from tablevault.progress import BuilderCounter
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.checkpoints import BuilderState

INTERRUPT_PATIENCE = 5.0
"""Seconds that an interrupt waits for rows in flight in other threads."""


Finished = tuple[tuple[object, ...], bytes]
"""One computed row: its cells and its fingerprint."""


class RowTable:
    """The rows of one builder, as they fill up.

    Parameters
    ----------
    execution
        What all builders share.
    builder
        The builder that runs.
    counter
        Counts its rows.
    """

    def __init__(self, execution: Execution, builder: PreparedBuilder, counter: BuilderCounter) -> None:
        self.spec = builder.spec
        self.builder = builder
        self.execution = execution
        self.counter = counter
        self.columns: tuple[list[object], ...] = tuple([] for _ in self.spec.changed_columns)
        self.fingerprints: list[bytes | None] = []
        self.codes: list[int] = []
        self.versions: list[str] = [builder.version]
        self.filled = bytearray()
        self.adopted: dict[str, dict[int, AdoptedArtifact]] = {name: {} for name in self.spec.changed_columns}
        """Files of reused cells: column -> position -> file."""
        self._name = self.spec.name
        self._append = execution.checkpoints.append
        self.is_incomplete = False
        """Whether rows of a builder that may have been complete have to be computed again."""
        self.generator_fingerprint = b""
        """Of the arguments, for a function that is called once."""
        self._artifact_columns = tuple(
            place for place, name in enumerate(self.spec.changed_columns) if names_artifacts(self.spec.dtypes.get(name))
        )

    def resize(self, count: int) -> None:
        """Make room for this many rows; new ones are not filled."""
        missing = count - len(self.filled)
        for column in self.columns:
            column.extend([None] * missing)
        self.fingerprints.extend([None] * missing)
        self.codes.extend([0] * missing)
        self.filled.extend(bytes(missing))

    def restore(self, state: BuilderState) -> None:
        """Take over what earlier attempts finished, but for rows whose files are not what they were."""
        stale = self._stale_rows(state)
        self.resize(max(state.positions, default=-1) + 1)
        known = [self._code_of(version) for version in state.code_versions]
        for place, position in enumerate(state.positions):
            if position not in stale:
                for column, cells in zip(self.columns, state.values, strict=True):
                    column[position] = cells[place]
                self.fingerprints[position] = state.fingerprints[place]
                self.codes[position] = known[state.codes[place]]
                self.filled[position] = 1
        self.counter.computed = len(state.positions) - len(stale)
        for position, records in state.artifacts.items():
            if position not in stale:
                self.execution.building.records.update((record.path, record) for record in records)
        self.forget(stale)
        for position in stale:
            # What is left of them would be in the way of the function that makes them again.
            for record in state.artifacts[position]:
                (self.execution.artifact_folder / record.path).unlink(missing_ok=True)

    def forget(self, positions: Collection[int]) -> None:
        """Let these rows be computed again."""
        if positions:
            self.is_incomplete = True
            self.execution.checkpoints.begin(self.spec.name, self.spec.changed_columns, self.builder.version)
            self.execution.checkpoints.forget(self.spec.name, sorted(positions))

    def cut_at_first_missing(self) -> None:
        """Drop the rows after the first that is missing: whoever continues can only append."""
        first = self.filled.find(0)
        if first >= 0:
            later = [position for position in range(first, len(self.filled)) if self.filled[position]]
            self.forget(later)
            self.counter.computed -= len(later)
            for column in self.columns:
                del column[first:]
            del self.fingerprints[first:], self.codes[first:], self.filled[first:]

    def keep(self, position: int, cells: tuple[object, ...], fingerprint: bytes) -> None:
        """Take a computed row over, into memory and on its way to the disk."""
        for column, cell in zip(self.columns, cells):  # noqa: B905 - the row reader made as many cells as columns
            column[position] = cell
        self.fingerprints[position] = fingerprint
        self.filled[position] = 1
        self.counter.computed += 1
        if self._artifact_columns:
            files = tuple(str(cells[place]) for place in self._artifact_columns if cells[place] is not None)
            self._append(self._name, position, cells, fingerprint, files)
        else:
            self._append(self._name, position, cells, fingerprint)

    def reuse(self, position: int, rows: ReusableRows, place: int, origin: Origin) -> bool:
        """Take a row over from an origin. Return whether it could be: its files have to be there."""
        cells = [column[place] for column in rows.values]
        adopted: dict[str, AdoptedArtifact] = {}
        for number in self._artifact_columns:
            if cells[number] is not None:
                file = origin.adopted(str(cells[number]))
                if file is None:
                    return False
                adopted[self.spec.changed_columns[number]] = file
        for column, cell in zip(self.columns, cells, strict=True):
            column[position] = cell
        for name, file in adopted.items():
            self.adopted[name][position] = file
        self.fingerprints[position] = rows.fingerprints[place]
        self.filled[position] = 1
        self.counter.reused += 1
        return True

    def missing(self) -> list[int]:
        """Return the positions of the rows that are not filled."""
        return [position for position, there in enumerate(self.filled) if not there]

    def _stale_rows(self, state: BuilderState) -> set[int]:
        folder = ArtifactFolder(self.execution.artifact_folder)
        return {
            position
            for position, records in state.artifacts.items()
            if not all(folder.matches(record) for record in records)
        }

    def _code_of(self, version: str) -> int:
        if version not in self.versions:
            self.versions.append(version)
        return self.versions.index(version)


def reuse_candidates(table: RowTable, rows: ReusableRows, matches: Sequence[int | None]) -> Iterator[tuple[int, int]]:
    """Yield the missing rows whose counterpart in an origin the same builder and code computed, each with it."""
    version = table.builder.version
    for position in table.missing():
        place = matches[position]
        if place is not None and rows.versions[place] == version and rows.fingerprints[place] is not None:
            yield position, place


class RowWiseRun:
    """Fills a table by calling a function once per row.

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
        self._arguments = call.arguments
        self._fingerprint = call.fingerprint
        self._keep = table.keep
        self._read: ReadRow = row_reader(table.spec, ArtifactFolder(table.execution.artifact_folder))
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
        for position, place in reuse_candidates(self._table, rows, matches):
            if position in unknown:
                undecided.add(position)
                continue
            arguments = self._call.arguments(position)
            if self._call.fingerprint(position, arguments) == rows.fingerprints[place]:
                self._table.reuse(position, rows, place, origin)
        return undecided

    def compute(self) -> None:
        """Call the function for all rows that are missing.

        When one fails, those in flight are finished and kept, no new ones start, and the first error is raised.
        """
        run = executor_for(self._table.spec.n_threads).map(self._compute_row, self._tasks())
        try:
            for position, finished, error in run:
                self._take(position, finished, error)
        finally:
            # Left early only by an interrupt: what other threads have in flight is still worth waiting for.
            for position, finished, error in run.drain(INTERRUPT_PATIENCE):
                self._take(position, finished, error)
        if self._failure is not None:
            raise self._failure
        self._table.execution.owner.raise_if_stopped()

    def _tasks(self) -> Iterator[int]:
        owner = self._table.execution.owner
        for position in self._table.missing():
            if self._failure is not None or owner.stop_requested:
                return
            yield position

    def _compute_row(self, position: int) -> Finished:
        arguments = self._arguments(position)
        fingerprint = self._fingerprint(position, arguments)
        try:
            value = self._function(**arguments)
        except BaseException as error:
            error.add_note(f"raised by {_described(self._table)} for row {position}")
            raise FunctionError(error) from error
        return self._read(value, position), fingerprint

    def _take(self, position: int, finished: Finished | None, error: BaseException | None) -> None:
        if finished is not None:
            self._keep(position, *finished)
        elif self._failure is None:
            self._failure = error


def run_generator(table: RowTable, values: object, passed_over: int, total: int | None, first: int) -> None:
    """Append what a generator yields to a table.

    Parameters
    ----------
    table
        What is there already: rows up to its length are filled.
    values
        What the function returned.
    passed_over
        How many of the first yields repeat rows that are there; they are compared and dropped.
    total
        How many rows there have to be in the end; `None` if the generator decides.
    first
        Position of the first row that the generator yields.
    """
    spec = table.spec
    read = row_reader(spec, ArtifactFolder(table.execution.artifact_folder))
    fingerprint = table.generator_fingerprint
    position = first
    for value in _iterate(table, values):
        cells = read(value, position)
        if position < first + passed_over:
            if table.filled[position]:
                _compare_key(table, position, cells)
            else:
                table.keep(position, cells, fingerprint)
        else:
            if total is not None and position >= total:
                raise ValueError(
                    f"Builder '{spec.name}': {spec.python_function}() yielded more rows than the instance's {total}."
                )
            table.resize(max(position + 1, len(table.filled)))
            table.keep(position, cells, fingerprint)
        position += 1
        table.execution.owner.raise_if_stopped()
    if position < first + passed_over or (total is not None and position < total):
        expected = total if total is not None else first + passed_over
        raise ValueError(
            f"Builder '{spec.name}': {spec.python_function}() yielded {position - first} rows, "
            f"but {expected - first} were expected."
        )


def _iterate(table: RowTable, values: object) -> Iterator[object]:
    """Yield what user code yields; whatever escapes from it is marked as its own."""
    try:
        iterator = iter(values)  # type: ignore[call-overload]
    except TypeError as error:
        raise TypeError(
            f"{_described(table)} must return an iterator or be a generator function, "
            f"not return {type(values).__name__}."
        ) from error
    while True:
        try:
            value = next(iterator)
        except StopIteration:
            return
        except BaseException as error:
            error.add_note(f"raised by {_described(table)} after {sum(table.filled)} rows")
            raise FunctionError(error) from error
        yield value


def _compare_key(table: RowTable, position: int, cells: tuple[object, ...]) -> None:
    columns = table.spec.changed_columns
    for name in table.execution.primary_key:
        if name in columns:
            place = columns.index(name)
            before = table.columns[place][position]
            if cells[place] != before:
                raise ValueError(
                    f"Builder '{table.spec.name}', column '{name}', row {position}: the generator was started again "
                    f"to continue, but yields {cells[place]!r} where it had yielded {before!r}. Make it yield the same "
                    "rows each time, or let it take <<self>> and continue after the rows that are there."
                )


def _described(table: RowTable) -> str:
    return f"{table.spec.python_function}() of builder '{table.spec.name}'"
