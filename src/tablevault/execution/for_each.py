"""IndexBuilders called for each row of another table, producing any number of rows.

Reuse, errors, retries and checkpoints work per input row. The rows of one input row are adjacent, in the order of the
input rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, chain

from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.input_rows import InputRows, NestedCells
from tablevault.execution.origins import Origin
from tablevault.ports import Frame
from tablevault.rows.artifacts import AdoptedArtifact
from tablevault.rows.call_plan import CallPlan
from tablevault.rows.calls import ArgumentErrors, FunctionCall
from tablevault.rows.collector import prepared
from tablevault.rows.results import ForEachReader, misfits, typed_column
from tablevault.rows.runner import RowRunner
from tablevault.rows.table import RowTable, consecutive
from tablevault.storage.fingerprints import Fingerprints

Adopted = dict[int, list[tuple[str, int, AdoptedArtifact]]]
"""Files of reused cells: input row -> column, index among its rows, file."""


def run_for_each(run: BuilderRun, plan: Callable[[BuilderRun], CallPlan]) -> None:
    """Reuse the rows of unchanged input rows, and compute the others into the frame."""
    fill_input_rows(run, plan, partial(reuse_input_rows, run))


def fill_input_rows(
    run: BuilderRun,
    plan: Callable[[BuilderRun], CallPlan],
    take: Callable[[RowTable, FunctionCall], Adopted],
) -> None:
    """Call the function for missing input rows, and put the columns into the frame.

    Parameters
    ----------
    run, plan
        The builder, and the plan of its calls.
    take
        Reuses the rows of an origin, and returns the files named by them.
    """
    table, call = _table(run, input_frame(run)), _call(run)
    adopted = take(table, call)
    if run.is_done and table.missing():
        # Files named by its cells, or files of its origin, are missing.
        run.begin()
    if table.missing():
        reader = ForEachReader(run.spec, table.artifacts.name_of, table.columns)
        RowRunner(table, call, plan(run), run.execution.owner, reader, run.gate(), run.job_journal()).run()
    if not run.is_done or table.is_incomplete:
        _check_fit(run, table)
        run.execution.checkpoints.finish(run.spec.name, len(table))
    run.record_artifacts()
    _put(run, table, adopted)


def restore_for_each(run: BuilderRun, reusing: bool) -> bool:
    """Put the rows of finished input rows into the frame; see `running.restore_builders`."""
    table = _table(run, input_frame(run))
    adopted = reuse_input_rows(run, table, _call(run)) if reusing else {}
    for position in sorted(_misfits(run, table)):
        for cells in table.columns:
            cells[position] = None
    _put(run, table, adopted)
    return run.is_done or all(table.filled)


def decide_input_rows(run: BuilderRun) -> RowTable:
    """Return the input rows without calling the function; reusable ones are filled."""
    table = _table(run, input_frame(run))
    reuse_input_rows(run, table, _call(run))
    return table


def input_frame(run: BuilderRun) -> Frame:
    """Return the frame of the pinned instance that supplies the input rows."""
    address = run.spec.for_each
    assert address is not None  # checked by the caller
    return run.execution.inputs.frame(address.table, address.instance)


def _table(run: BuilderRun, inputs: Frame) -> RowTable:
    table = run.restored_table()
    table.resize(len(inputs))
    run.counter.total = len(table)
    return table


def _call(run: BuilderRun) -> FunctionCall:
    with ArgumentErrors(run.spec):
        return FunctionCall(run.spec, run.execution.views({}))


# --- reuse --------------------------------------------------------------------------------------------------------


def reuse_input_rows(run: BuilderRun, table: RowTable, call: FunctionCall) -> Adopted:
    """Reuse the rows of unchanged input rows; return the files named by them."""
    adopted: Adopted = {}
    if not run.execution.reuses_cells:
        return adopted
    checkpoints, version = run.execution.checkpoints, run.reused_version
    keys = run.execution.input_keys(run.spec)
    for origin in run.execution.origins:
        found = origin.input_rows(run.spec.changed_columns)
        if found is None:
            continue
        usable = [
            place
            for place, fingerprint in enumerate(found.fingerprints)
            if fingerprint is not None and found.versions[place] == version
        ]
        by_key = keys is not None and found.keys is not None
        places: dict[object, list[int]] = {}
        for place in usable:
            name = found.keys[place] if by_key and found.keys is not None else found.fingerprints[place]
            places.setdefault(name, []).append(place)
        missing = consecutive([position for position in table.missing() if position not in table.failures])
        for counted in prepared(table, call.counts, missing, lambda: checkpoints.batch_rows):
            for position, fingerprint in zip(counted.positions, counted.fingerprints, strict=True):
                name = keys[position] if by_key and keys is not None else fingerprint
                same = [each for each in places.get(name, ()) if found.fingerprints[each] == fingerprint]
                if not same:
                    continue
                take_input_row(table, position, found, same[0], origin, adopted)
    return adopted


def take_input_row(
    table: RowTable, position: int, found: InputRows, place: int, origin: Origin, adopted: Adopted
) -> bool:
    """Reuse the rows of an input row, and add the files named by them.

    Returns `False` if a file is missing or its name is taken.
    """
    cells = found.cells(place)
    files = _files(table, cells, origin.adopted)
    if files is None:
        return False
    table.reuse(position, cells, found.fingerprints[place], found.versions[place], {})
    adopted[position] = files
    for _, _, file in files:
        table.artifacts.add_adopted(file)
    return True


def _files(
    table: RowTable, cells: NestedCells, adopt: Callable[[str], AdoptedArtifact | None]
) -> list[tuple[str, int, AdoptedArtifact]] | None:
    """Return the files named by cells; `None` if one cannot be adopted."""
    found = []
    for number in table.artifact_columns:
        for place, cell in enumerate(cells[number]):
            if cell is not None:
                file = adopt(str(cell))
                if file is None or not table.artifacts.may_adopt(file):
                    return None
                found.append((table.spec.changed_columns[number], place, file))
    return found


# --- rows of the instance -----------------------------------------------------------------------------------------


def _counts(table: RowTable) -> list[int]:
    """Return the number of rows made from each input row."""
    if not table.columns:
        return [0] * len(table)
    return [len(cells) if isinstance(cells, list) else 0 for cells in table.columns[0]]


def _flat(cells: Sequence[object]) -> list[object]:
    return list(chain.from_iterable(each for each in cells if isinstance(each, list)))


def _put(run: BuilderRun, table: RowTable, adopted: Adopted) -> None:
    """Put the rows into the frame, and record the provenance of their input rows."""
    counts = _counts(table)
    starts = [0, *accumulate(counts)]
    files: dict[str, dict[int, AdoptedArtifact]] = {name: {} for name in run.spec.changed_columns}
    for position, named in adopted.items():
        for column, place, file in named:
            files[column][starts[position] + place] = file
    for name, nested in zip(run.spec.changed_columns, table.columns, strict=True):
        cells = _flat(nested)
        column, column_type = typed_column(run.spec, name, cells)
        run.frame.put(name, column, column_type, cells, files[name])
    run.frame.row_count = starts[-1]
    inputs = [position for position, count in enumerate(counts) for _ in range(count)]
    fingerprints = Fingerprints.of(table.fingerprints[position] for position in inputs)
    codes = array("q", [table.codes[position] for position in inputs])
    run.add_input_outcome(table, fingerprints, codes, counts)
    run.keep_old_rows()


def _misfits(run: BuilderRun, table: RowTable) -> set[int]:
    """Return the input rows with a cell incompatible with earlier ones in its column."""
    owners = [position for position, count in enumerate(_counts(table)) for _ in range(count)]
    named = zip(run.spec.changed_columns, table.columns, strict=True)
    return {owners[row] for name, cells in named for row in misfits(run.spec, name, _flat(cells))}


def _check_fit(run: BuilderRun, table: RowTable) -> None:
    """Raise a `FunctionError` for incompatible cells, and clear their input rows."""
    refused = _misfits(run, table)
    if refused:
        run.forget_refused(table, refused)
        try:
            for name, cells in zip(run.spec.changed_columns, table.columns, strict=True):
                typed_column(run.spec, name, _flat(cells))
        except ValueError as error:
            raise run.refused(error) from error
