"""Reuse of rows or whole columns computed from equal arguments with equal code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np

from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.failures import fingerprint_of_passed, passed_rows
from tablevault.execution.matching import Matches
from tablevault.execution.origins import Origin, ReusableRows
from tablevault.execution.primary_keys import KeyColumn
from tablevault.execution.same_arguments import have_same_arguments
from tablevault.rows.artifacts import AdoptedArtifact
from tablevault.rows.calls import FunctionCall
from tablevault.rows.collector import prepared
from tablevault.rows.table import RowTable, positions_of
from tablevault.storage.fingerprints import Fingerprints, Mask, Positions
from tablevault.storage.stored_cells import keeps_its_form, selected

_MANY = 256
"""Number of rows from which on it pays to handle columns instead of cells."""


class Counterparts(NamedTuple):
    """Rows, paired with the rows of an origin from which they may be reused."""

    here: Positions
    there: Positions

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Self:
        """Return the counterparts of pairs of rows, here and there."""
        both = np.array(list(pairs), np.int64).reshape(-1, 2)
        return cls(both[:, 0], both[:, 1])

    def where(self, is_wanted: Mask) -> Self:
        """Return the pairs for which the mask is set."""
        return self if is_wanted.all() else type(self)(self.here[is_wanted], self.there[is_wanted])


def matched_origins(run: BuilderRun, total: int) -> Iterable[tuple[Origin, Matches]]:
    """Return the origins for row reuse, with this instance's positions in them.

    For an IndexBuilder, rows have the same positions as in the origin.
    """
    execution = run.execution
    if not run.spec.is_index:
        return execution.reusable
    origins = execution.origins if execution.reuses_cells else ()
    return [(origin, Matches.by_position(total, origin.row_count)) for origin in origins]


def row_candidates(run: BuilderRun, table: RowTable) -> Iterator[tuple[Origin, ReusableRows, Counterparts]]:
    """Yield the origins of the same builder and code, with rows missing here."""
    version = run.reused_version
    for origin, matches in matched_origins(run, len(table)):
        rows = origin.rows(run.spec.changed_columns, run.spec.is_index)
        if rows is None or version not in rows.used_versions:
            continue
        missing = table.missing_rows()
        pairs = Counterparts(missing, matches.places[missing])
        pairs = pairs.where(pairs.there >= 0)
        yield origin, rows, pairs.where(rows.computed_by(version)[pairs.there])


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
    for origin, rows, pairs in row_candidates(run, table):
        if unknown:
            is_unknown = np.isin(pairs.here, np.array(list(unknown), np.int64))
            undecided.update(pairs.here[is_unknown].tolist())
            pairs = pairs.where(~is_unknown)
        is_same = None
        if len(pairs.here) >= _MANY:
            is_same = have_same_arguments(run, call, pairs.here, pairs.there, origin, rows)
        take_equal_rows(run, table, call, pairs, origin, rows, is_same)
    return frozenset(undecided)


def take_equal_rows(
    run: BuilderRun,
    table: RowTable,
    call: FunctionCall,
    pairs: Counterparts,
    origin: Origin,
    rows: ReusableRows,
    is_same: Mask | None = None,
) -> Positions:
    """Reuse the rows computed from equal arguments; return the positions of the reused ones.

    Parameters
    ----------
    run, table, call
        The builder, its rows and their arguments.
    pairs, origin, rows
        The counterparts in an origin, and its rows.
    is_same
        Whether each pair certainly has equal arguments; the others are evaluated.
    """
    is_equal = np.zeros(len(pairs.here), np.bool_) if is_same is None else is_same.copy()
    doubtful = pairs.where(~is_equal)
    counted = Fingerprints()
    counted.resize(len(doubtful.here))
    passed, checkpoints = passed_rows(run), run.execution.checkpoints
    done = 0
    for group in prepared(table, call.counts, positions_of(doubtful.here), lambda: checkpoints.batch_rows):
        counted.put(done, group.fingerprints)
        if passed:
            for place, position in enumerate(group.positions, done):
                if position in passed:
                    counted[place] = fingerprint_of_passed(run, position, counted[place] or b"")
        done += len(group.positions)
    is_equal[~is_equal] = counted.equals(rows.fingerprints.taken(doubtful.there))
    return take_rows(table, pairs.where(is_equal), origin, rows)


def whole_candidates(run: BuilderRun) -> Iterator[tuple[Origin, ReusableRows]]:
    """Yield the origins with the same rows, builder and code."""
    if run.spec.is_index:
        return
    count = run.frame.row_count
    for origin, matches in run.execution.reusable:
        rows = origin.rows(run.spec.changed_columns, is_index=False)
        same_rows = origin.row_count == count and matches.are_all(count)
        if rows is not None and same_rows and not rows.used_versions - {run.builder.version}:
            yield origin, rows


def reuse_whole(run: BuilderRun, fingerprint: bytes) -> bool:
    """Reuse all columns from an origin with equal arguments; return whether possible."""
    count = run.frame.row_count
    for origin, rows in whole_candidates(run):
        if rows.whole != fingerprint:
            continue
        if reuse_columns(run, origin, rows).is_complete:
            run.counter.total = count
            run.add_outcome(whole=fingerprint)
            return True
        run.counter.reused = run.counter.reused_partial = 0
    return False


def reuse_columns(run: BuilderRun, origin: Origin, rows: ReusableRows) -> RowTable:
    """Put an origin's columns into the frame, with the types that the function gave them.

    Rows are missing in the result, and the frame is unchanged, if a file of theirs is missing or its name is taken.
    """
    table = run.empty_table()
    declared = run.spec.dtypes
    named = list(zip(run.spec.changed_columns, rows.columns, strict=True))
    stored = {name: column.stored for name, column in named if column.stored is not None}
    has_form = all(declared.get(name, column[1]) == column[1] for name, column in stored.items())
    if len(stored) < len(named) or not has_form or table.artifact_columns:
        table.resize(origin.row_count)
        everywhere = np.arange(origin.row_count, dtype=np.int64)
        take_rows(table, Counterparts(everywhere, everywhere), origin, rows)
        if table.is_complete:
            run.put_columns(table)
        return table
    table.reuse_all(rows.fingerprints, rows.codes, rows.versions)
    table.counter.reused_partial += 0 if origin.is_committed else len(table)
    for name, (column, column_type) in stored.items():
        run.frame.put(name, column, column_type)
    return table


def reuse_first_rows(table: RowTable, origin: Origin, rows: ReusableRows, version: str, count: int) -> int:
    """Fill a table's first rows from an origin; return the number filled."""
    everywhere = np.arange(count, dtype=np.int64)
    columns = _fitting_cells(table, rows, everywhere)
    if columns is not None:
        table.reuse_many(everywhere, columns, rows.fingerprints.rows(0, count), [version] * count)
        table.counter.reused_partial += 0 if origin.is_committed else count
        return count
    for position in range(count):
        if not take_row(table, position, origin, rows, position, version):
            return position
    return count


def take_rows(table: RowTable, pairs: Counterparts, origin: Origin, rows: ReusableRows) -> Positions:
    """Reuse rows of an origin; return the positions of the reused ones.

    Rows that name files are checked one by one, as are all rows if a list or vector does not fit the current dtype.
    """
    here, there = pairs
    if not len(here):
        return here
    stored = _stored_cells(table, rows, there) if len(there) >= _MANY else None
    columns = _fitting_cells(table, rows, there) if stored is None else None
    if stored is None and columns is None:
        both = zip(here.tolist(), there.tolist(), strict=True)
        taken = [row for row, at in both if take_row(table, row, origin, rows, at, rows.version_of(at))]
        return np.array(taken, np.int64)
    if stored is not None:
        table.reuse_stored(here, stored, there, rows.fingerprints, rows.codes, rows.versions)
    elif columns is not None:
        versions = list(map(rows.versions.__getitem__, rows.codes[there].tolist()))
        table.reuse_many(here, columns, rows.fingerprints.taken(there), versions)
    table.counter.reused_partial += 0 if origin.is_committed else len(here)
    return here


def _stored_cells(table: RowTable, rows: ReusableRows, there: Positions) -> list[KeyColumn] | None:
    """Return an origin's cells as stored, by column.

    Returns `None` if they must be converted to plain values.
    """
    found: list[KeyColumn] = []
    for name, column in zip(table.spec.changed_columns, rows.columns, strict=True):
        part = selected(column.stored[0], there) if column.stored is not None else None
        if part is None or column.stored is None:
            return None
        if not keeps_its_form(part, column.stored[1], table.spec.dtypes.get(name)):
            return None
        found.append((part, column.stored[1]))
    return found


def _fitting_cells(table: RowTable, rows: ReusableRows, there: Positions) -> list[Sequence[object]] | None:
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


def _gathered(values: Sequence[object], there: Positions) -> Sequence[object]:
    places = positions_of(there)
    if isinstance(places, range):
        return values[places.start : places.stop]
    return [values[place] for place in places]


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
