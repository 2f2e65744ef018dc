"""Reuse of cells: rows, or whole columns, that an origin computed from equal arguments with equal code."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.origins import Origin, ReusableRows
from tablevault.rows.artifacts import AdoptedArtifact
from tablevault.rows.calls import FunctionCall, RowFingerprints
from tablevault.rows.collector import prepared
from tablevault.rows.table import RowTable, consecutive

Value = TypeVar("Value")


def matched_origins(run: BuilderRun, total: int) -> Iterable[tuple[Origin, Sequence[int | None]]]:
    """Return the origins that rows may be reused from, each with the positions of this instance's rows in it.

    An IndexBuilder has the positions of its origin.
    """
    execution = run.execution
    if not run.spec.is_index:
        return execution.reusable
    origins = execution.origins if execution.reuses_cells else ()
    return [(origin, [row if row < origin.row_count else None for row in range(total)]) for origin in origins]


def row_candidates(
    run: BuilderRun, table: RowTable
) -> Iterator[tuple[Origin, ReusableRows, Sequence[tuple[int, int]]]]:
    """Yield the origins with rows of the same builder and code.

    Each with the missing rows that it has computed, as pairs of their positions here and there.
    """
    version = run.reused_version
    for origin, matches in matched_origins(run, len(table)):
        rows = origin.rows(run.spec.changed_columns, run.spec.is_index)
        if rows is not None and version in rows.versions:
            yield (
                origin,
                rows,
                [
                    (position, place)
                    for position in table.missing()
                    if (place := matches[position]) is not None
                    and rows.versions[place] == version
                    and rows.fingerprints[place] is not None
                ],
            )


def reuse_rows(run: BuilderRun, table: RowTable, call: FunctionCall, unknown: Collection[int] = ()) -> frozenset[int]:
    """Fill the missing rows whose counterpart in an origin was computed from equal arguments.

    Parameters
    ----------
    run, table, call
        The builder, its rows and its arguments.
    unknown
        Rows whose arguments cannot be evaluated yet.

    Returns
    -------
    frozenset[int]
        Of the unknown rows, those that an origin may have computed from equal arguments.
    """
    undecided: set[int] = set()
    checkpoints = run.execution.checkpoints
    for origin, rows, pairs in row_candidates(run, table):
        undecided.update(position for position, _ in pairs if position in unknown)
        places = {position: place for position, place in pairs if position not in unknown}
        positions = consecutive(list(places))
        for counted in prepared(table, call.counts, positions, lambda: checkpoints.batch_rows):
            take_rows(table, equal_rows(counted, places, rows), origin, rows)
    return frozenset(undecided)


def equal_rows(counted: RowFingerprints, places: Mapping[int, int], rows: ReusableRows) -> Mapping[int, int]:
    """Return the rows that were computed from equal arguments, each with its place in the origin."""
    there = [places[position] for position in counted.positions]
    expected = [rows.fingerprints[place] or b"" for place in there]
    pairs = zip(counted.positions, there, strict=True)
    if counted.fingerprints.content == b"".join(expected):
        return dict(pairs)
    found = zip(pairs, counted.fingerprints, expected, strict=True)
    return {position: place for (position, place), mine, theirs in found if mine == theirs}


def whole_candidates(run: BuilderRun) -> Iterator[tuple[Origin, ReusableRows]]:
    """Yield the origins with the same rows, in which the same builder and code made the columns."""
    if run.spec.is_index:
        return
    count = run.frame.row_count
    for origin, matches in run.execution.reusable:
        rows = origin.rows(run.spec.changed_columns, is_index=False)
        same_rows = origin.row_count == count and list(matches) == list(range(count))
        if rows is not None and same_rows and not set(rows.versions) - {run.builder.version}:
            yield origin, rows


def reuse_whole(run: BuilderRun, fingerprint: bytes) -> bool:
    """Reuse all columns of a builder from an origin that made them from equal arguments, if there is one."""
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
    """Fill the first rows of a table from the same positions of an origin; return how many could be filled."""
    columns = _fitting_cells(table, rows, range(count))
    if columns is not None:
        table.reuse_many(range(count), columns, rows.fingerprints[:count], [version] * count)
        table.counter.reused_partial += 0 if origin.is_committed else count
        return count
    for position in range(count):
        if not take_row(table, position, origin, rows, position, version):
            return position
    return count


def take_rows(table: RowTable, places: Mapping[int, int], origin: Origin, rows: ReusableRows) -> set[int]:
    """Reuse rows of an origin; return the positions of those that could be reused.

    Rows that name files are checked one by one, as are all rows if a list or vector does not fit the dtype declared
    now.
    """
    there = list(places.values())
    columns = _fitting_cells(table, rows, there)
    if columns is None:
        taken = (row for row, at in places.items() if take_row(table, row, origin, rows, at, rows.versions[at]))
        return set(taken)
    fingerprints, versions = _gathered(rows.fingerprints, there), _gathered(rows.versions, there)
    table.reuse_many(list(places), columns, fingerprints, versions)
    table.counter.reused_partial += 0 if origin.is_committed else len(places)
    return set(places)


def _fitting_cells(table: RowTable, rows: ReusableRows, there: Sequence[int]) -> list[Sequence[object]] | None:
    """Return the cells of rows of an origin by column; `None` if they have to be looked at row by row."""
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

    Return `False` if a file that it names is gone or its name is taken, or if a list or vector does not fit the dtype
    that is declared now.
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
