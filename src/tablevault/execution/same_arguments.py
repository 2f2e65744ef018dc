"""Proof that rows have the arguments of an origin's rows, without evaluating them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from tablevault.builders.spec import BuilderSpec
from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.origins import MaterializedOrigin, Origin, ReusableRows
from tablevault.references import Literal, Reference, find_references
from tablevault.rows.artifacts import names_artifacts
from tablevault.rows.calls import FunctionCall
from tablevault.storage.fingerprints import Mask, Positions
from tablevault.storage.stored_cells import equal_cells, selected
from tablevault.texts.json_forms import json_form


def have_same_arguments(
    run: BuilderRun, call: FunctionCall, here: Positions, there: Positions, origin: Origin, rows: ReusableRows
) -> Mask:
    """Return whether each row certainly has the arguments behind its fingerprint in an origin.

    That holds if the argument texts are unchanged, refer to nothing of a row except cells of the same row, and those
    cells are equal. All other parts of the arguments are the same for all rows, so checking them for one row suffices.

    Parameters
    ----------
    run, call
        The builder and its arguments.
    here, there
        The rows, and their counterparts in the origin.
    origin, rows
        The origin and its cells of the builder.
    """
    nowhere = np.zeros(len(here), np.bool_)
    columns = _columns_read(run.spec)
    if columns is None or not isinstance(origin, MaterializedOrigin) or not _is_written_alike(run.spec, origin):
        return nowhere
    equal = ~nowhere
    for name in columns:
        found = _equal_cells(run, name, here, there, origin)
        if found is None:
            return nowhere
        # A failed cell is null, but differs from a computed null.
        equal &= found & ~_are_among(here, run.frame.failures.get(name, ()))
        equal &= ~_are_among(there, origin.failures_of_column(name))
    first = np.flatnonzero(equal)[:1]
    if not len(first):
        return nowhere
    try:
        evaluated = call.counts(here[first].tolist()).fingerprints
    except Exception:  # noqa: BLE001  (it is raised again when the arguments of all rows are evaluated)
        return nowhere
    return equal if evaluated.equals(rows.fingerprints.taken(there[first])).all() else nowhere


def _are_among(rows: Positions, failed: Collection[int]) -> Mask:
    """Return whether each row is one of the failed ones."""
    return np.isin(rows, np.fromiter(failed, np.int64, len(failed))) if failed else np.zeros(len(rows), np.bool_)


def _columns_read(spec: BuilderSpec) -> set[str] | None:
    """Return the columns read from the current row; `None` if anything else of it counts."""
    found: set[str] = set()
    for value in spec.tracked_arguments.values():
        references = find_references(value)
        if not any(reference.means_current_row for reference in references):
            continue
        columns = [_own_cell(reference) for reference in references]
        if None in columns:
            return None
        found.update(column for column in columns if column is not None)
    return found if not spec.is_index and not found & set(spec.changed_columns) else None


def _own_cell(reference: Reference) -> str | None:
    """Return the column of a reference `<<self.column[index]>>`; `None` for any other."""
    if not (reference.is_self and reference.reads_current_row) or reference.instance is not None:
        return None
    match reference.columns:
        case (Literal(value=name),) if name != "index":
            return name
    return None


def _is_written_alike(spec: BuilderSpec, origin: MaterializedOrigin) -> bool:
    facts = origin.facts(spec.changed_columns, is_index=False)
    if facts is None or facts.is_index:
        return False
    return bool(json_form(facts.arguments) == json_form(spec.tracked_arguments))


def _equal_cells(
    run: BuilderRun, name: str, here: Positions, there: Positions, origin: MaterializedOrigin
) -> Mask | None:
    """Return whether each cell is the one its counterpart was computed from.

    Returns `None` if that is undecided.
    """
    built = run.frame.columns.get(name)
    if built is None or not origin.keeps_read_cells(name):
        return None
    column, column_type = origin.stored_column(name)
    if (column_type.kind, column_type.arrow) != (built.type.kind, built.type.arrow):
        return None
    if names_artifacts(column_type):
        return None
    mine, theirs = selected(built.column, here), selected(column, there)
    return None if mine is None or theirs is None else equal_cells(mine, theirs)
