"""Reuse of rows or whole columns computed from equal arguments with equal code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, repeat
from operator import is_not
from typing import NamedTuple, Self, TypeVar

from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.origins import Origin, ReusableRows
from tablevault.rows.artifacts import AdoptedArtifact
from tablevault.rows.calls import FunctionCall, RowFingerprints
from tablevault.rows.collector import prepared
from tablevault.rows.table import RowTable, consecutive
from tablevault.storage.checkpoints import CheckpointStore

Value = TypeVar("Value")


class Counterparts(NamedTuple):
    """Rows, paired with the rows of an origin from which they may be reused."""

    here: Sequence[int]
    there: Sequence[int]

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Self:
        """Return the counterparts of pairs of rows, here and there."""
        both = list(pairs)
        return cls(consecutive([here for here, _ in both]), consecutive([there for _, there in both]))

    def part(self, start: int, stop: int) -> Self:
        """Return a slice of the pairs."""
        return type(self)(self.here[start:stop], self.there[start:stop])


def matched_origins(run: BuilderRun, total: int) -> Iterable[tuple[Origin, Sequence[int | None]]]:
    """Return the origins for row reuse, with this instance's positions in them.

    For an IndexBuilder, rows have the same positions as in the origin.
    """
    execution = run.execution
    if not run.spec.is_index:
        return execution.reusable
    origins = execution.origins if execution.reuses_cells else ()
    return [(origin, [row if row < origin.row_count else None for row in range(total)]) for origin in origins]


def row_candidates(run: BuilderRun, table: RowTable) -> Iterator[tuple[Origin, ReusableRows, Counterparts]]:
    """Yield the origins of the same builder and code, with rows missing here."""
    version = run.reused_version
    for origin, matches in matched_origins(run, len(table)):
        rows = origin.rows(run.spec.changed_columns, run.spec.is_index)
        if rows is None or version not in rows.versions:
            continue
        missing = table.missing()
        there = _gathered(matches, missing)
        if rows.versions.count(version) == len(rows.versions) and all(rows.fingerprints):
            is_there = list(map(is_not, there, repeat(None)))
        else:
            is_there = [
                place is not None and rows.versions[place] == version and rows.fingerprints[place] is not None
                for place in there
            ]
        found: Sequence[int] = there if all(is_there) else list(compress(there, is_there))  # type: ignore[assignment,arg-type]
        yield origin, rows, Counterparts(consecutive(list(compress(missing, is_there))), consecutive(found))


def reuse_rows(
    run: BuilderRun, table: RowTable, call: FunctionCall, unknown: frozenset[int] = frozenset()
) -> frozenset[int]:
    """Fill missing rows from counterparts in origins with equal arguments.

    Parameters
    ----------
    run, table, call
        The builder, its rows and its arguments.
    unknown
        Rows whose arguments cannot be evaluated yet.

    Returns
    -------
    frozenset[int]
        The unknown rows that an origin may have computed from equal arguments.
    """
    undecided: set[int] = set()
    checkpoints = run.execution.checkpoints
    for origin, rows, pairs in row_candidates(run, table):
        if unknown:
            undecided.update(unknown.intersection(pairs.here))
            pairs = Counterparts.of(pair for pair in zip(*pairs, strict=True) if pair[0] not in unknown)
        take_equal_rows(table, call, pairs, origin, rows, checkpoints)
    return frozenset(undecided)


def take_equal_rows(
    table: RowTable,
    call: FunctionCall,
    pairs: Counterparts,
    origin: Origin,
    rows: ReusableRows,
    checkpoints: CheckpointStore,
) -> set[int]:
    """Reuse the rows computed from equal arguments; return the positions of the reused ones."""
    taken: set[int] = set()
    done = 0
    for counted in prepared(table, call.counts, pairs.here, lambda: checkpoints.batch_rows):
        part = pairs.part(done, done + len(counted.positions))
        done += len(counted.positions)
        taken |= take_rows(table, _equal_rows(counted, part, rows), origin, rows)
    return taken


def _equal_rows(counted: RowFingerprints, pairs: Counterparts, rows: ReusableRows) -> Counterparts:
    """Return the rows computed from equal arguments."""
    expected = _gathered(rows.fingerprints, pairs.there)
    if all(expected) and counted.fingerprints.content == b"".join(expected):  # type: ignore[arg-type]
        return pairs
    found = zip(zip(*pairs, strict=True), counted.fingerprints, expected, strict=True)
    return Counterparts.of(pair for pair, mine, theirs in found if mine == theirs)


def whole_candidates(run: BuilderRun) -> Iterator[tuple[Origin, ReusableRows]]:
    """Yield the origins with the same rows, builder and code."""
    if run.spec.is_index:
        return
    count = run.frame.row_count
    for origin, matches in run.execution.reusable:
        rows = origin.rows(run.spec.changed_columns, is_index=False)
        same_rows = origin.row_count == count and list(matches) == list(range(count))
        if rows is not None and same_rows and not set(rows.versions) - {run.builder.version}:
            yield origin, rows


def reuse_whole(run: BuilderRun, fingerprint: bytes) -> bool:
    """Reuse all columns from an origin with equal arguments; return whether possible."""
    count = run.frame.row_count
    for origin, rows in whole_candidates(run):
        if rows.whole != fingerprint:
            continue
        table = run.empty_table()
        table.resize(count)
        if reuse_first_rows(table, origin, rows, run.builder.version, count) == count:
            run.counter.total = count
            run.put_columns(table)
            run.add_outcome(whole=fingerprint)
            return True
        run.counter.reused = run.counter.reused_partial = 0
    return False


def reuse_first_rows(table: RowTable, origin: Origin, rows: ReusableRows, version: str, count: int) -> int:
    """Fill a table's first rows from an origin; return the number filled."""
    columns = _fitting_cells(table, rows, range(count))
    if columns is not None:
        table.reuse_many(range(count), columns, rows.fingerprints[:count], [version] * count)
        table.counter.reused_partial += 0 if origin.is_committed else count
        return count
    for position in range(count):
        if not take_row(table, position, origin, rows, position, version):
            return position
    return count


def take_rows(table: RowTable, pairs: Counterparts, origin: Origin, rows: ReusableRows) -> set[int]:
    """Reuse rows of an origin; return the positions of the reused ones.

    Rows that name files are checked one by one, as are all rows if a list or vector does not fit the current dtype.
    """
    here, there = pairs
    columns = _fitting_cells(table, rows, there)
    if columns is None:
        both = zip(here, there, strict=True)
        return {row for row, at in both if take_row(table, row, origin, rows, at, rows.versions[at])}
    fingerprints, versions = _gathered(rows.fingerprints, there), _gathered(rows.versions, there)
    table.reuse_many(here, columns, fingerprints, versions)
    table.counter.reused_partial += 0 if origin.is_committed else len(here)
    return set(here)


def _fitting_cells(table: RowTable, rows: ReusableRows, there: Sequence[int]) -> list[Sequence[object]] | None:
    """Return an origin's cells by column; `None` if rows need separate checks."""
    if table.artifact_columns:
        return None
    columns = [_gathered(column, there) for column in rows.values]
    try:
        for number, fitted in table.array_columns:
            columns[number] = list(map(fitted, columns[number]))
    except (TypeError, ValueError):
        return None
    return columns


def _gathered(values: Sequence[Value], there: Sequence[int]) -> Sequence[Value]:
    places = consecutive(there)
    if isinstance(places, range):
        return values[places.start : places.stop]
    return [values[place] for place in there]


def take_row(table: RowTable, position: int, origin: Origin, rows: ReusableRows, place: int, version: str) -> bool:
    """Reuse a row of an origin.

    Return `False` if a file named by it is missing or its name is taken, or if a list or vector does not fit the
    current dtype.
    """
    cells = [column[place] for column in rows.values]
    try:
        for number, fitted in table.array_columns:
            cells[number] = fitted(cells[number])
    except (TypeError, ValueError):
        return False
    adopted: dict[str, AdoptedArtifact] = {}
    for number in table.artifact_columns:
        if cells[number] is not None:
            file = origin.adopted(str(cells[number]))
            if file is None or not table.artifacts.may_adopt(file):
                return False
            adopted[table.spec.changed_columns[number]] = file
    table.reuse(position, cells, rows.fingerprints[place], version, adopted)
    if not origin.is_committed:
        table.counter.reused_partial += 1
    return True
