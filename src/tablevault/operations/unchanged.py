"""Detection of executions whose result equals their origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tablevault.errors import TableReferenceError, TVBuilderError
from tablevault.execution.context import Execution
from tablevault.execution.origins import MaterializedOrigin
from tablevault.execution.outcomes import BuilderOutcome
from tablevault.execution.preparation import read_documents
from tablevault.execution.provenance import read_artifact_records, read_provenance
from tablevault.operations.building import archived_builders, pinned_builders
from tablevault.operations.materialize import column_records
from tablevault.operations.session import Session
from tablevault.ports import Contents
from tablevault.storage.canonical import typed_digest
from tablevault.storage.frames import read_frame
from tablevault.values.changes import ConfirmedInputs
from tablevault.values.contents import ArtifactRecord, InstanceRecord
from tablevault.values.plans import ExecutePlan


def unchanged_origin(
    plan: ExecutePlan, session: Session, execution: Execution, artifacts: Sequence[ArtifactRecord]
) -> InstanceRecord | None:
    """Return the existing instance with the result of an execution; `None` for a new result.

    Parameters
    ----------
    plan, session
        The process.
    execution
        The execution; its builders have run.
    artifacts
        The files named by its cells.
    """
    origin = _newest_of_version(plan, session)
    committed = next((one for one in execution.origins if isinstance(one, MaterializedOrigin)), None)
    if origin is None or committed is None:
        return None
    index, *others = execution.outcomes
    # An IndexBuilder that always runs is compared by its rows.
    decided = [index, *others] if index.builder.spec.runs_by_row else others
    taken_over = all(_is_taken_over(outcome, committed) for outcome in decided)
    if not (taken_over and _has_same_builders(plan, session, origin)):
        return None
    return origin if _has_same_rows(session, execution, index, origin, artifacts) else None


def newly_confirmed(contents: Contents, row_id: int, inputs: Sequence[int]) -> tuple[ConfirmedInputs, ...]:
    """Return the change that records an unchanged instance's new inputs, if any.

    Parameters
    ----------
    contents
        The visible instances.
    row_id
        The instance.
    inputs
        Row ids of the inputs for which it was found unchanged.
    """
    if not inputs:
        return ()
    known = {read.input_row_id for read in contents.reads_of(row_id)} | set(contents.confirmed_inputs(row_id))
    new = tuple(dict.fromkeys(row for row in inputs if row not in known))
    return (ConfirmedInputs(row_id, new),) if new else ()


def _newest_of_version(plan: ExecutePlan, session: Session) -> InstanceRecord | None:
    """Return the origin if it is complete and the version's newest active instance."""
    contents = session.lookup.contents
    temporary = session.lookup.instance_by_row(plan.temporary)
    newest = contents.newest(plan.table_id, temporary.version)
    return newest if newest is not None and newest.row_id == plan.origin and newest.success else None


def _is_taken_over(outcome: BuilderOutcome, origin: MaterializedOrigin) -> bool:
    """Return whether all cells of a builder are the origin's, or failed both times."""
    if not origin.row_count and not _has_same_code(outcome, origin):
        return False
    return not outcome.computed and not outcome.reused_partial and _failed_alike(outcome, origin)


def _has_same_code(outcome: BuilderOutcome, origin: MaterializedOrigin) -> bool:
    """Return whether a builder of an instance without rows ran with the same code as now."""
    spec = outcome.builder.spec
    rows = origin.rows(spec.changed_columns, spec.is_index)
    return rows is not None and outcome.builder.version in rows.used_versions


def _failed_alike(outcome: BuilderOutcome, origin: MaterializedOrigin) -> bool:
    now = {position: failure.kind == "failed" for position, failure in outcome.failures.items()}
    spec = outcome.builder.spec
    before = origin.failures(spec.changed_columns, spec.is_index)
    return now == {position: error is not None for position, error in before.items()}


def _has_same_builders(plan: ExecutePlan, session: Session, origin: InstanceRecord) -> bool:
    """Return whether the builder files equal the origin's, ignoring comments and layout."""
    table = session.lookup.table_by_id(plan.table_id)
    provenance = read_provenance(session.lookup.folder(table, origin).provenance)
    try:
        archived = _fields(archived_builders(session.lookup, table, origin, provenance))
    except (TVBuilderError, TableReferenceError):
        # An earlier version accepted files that this one rejects.
        return False
    return archived == _fields(pinned_builders(session))


def _fields(builder_files: Mapping[str, Path]) -> dict[str, Mapping[str, object]]:
    return {name: document.fields for name, document in read_documents(builder_files).items()}


def _has_same_rows(
    session: Session,
    execution: Execution,
    index: BuilderOutcome,
    origin: InstanceRecord,
    artifacts: Sequence[ArtifactRecord],
) -> bool:
    """Return whether types, files and the IndexBuilder's cells equal the origin's.

    All other cells are reused.
    """
    data, folder = execution.frame.data(), session.lookup.folder_of(origin)
    if len(data) != origin.row_count or column_records(data) != origin.columns:
        return False
    if {record.path: record for record in artifacts} != read_artifact_records(folder.artifact_hashes):
        return False
    stored = read_frame(folder.frame, index.builder.spec.changed_columns)
    return all(
        data.types[name] == column_type
        and typed_digest(data.table.column(name), column_type) == typed_digest(column, column_type)
        for (name, column_type), column in zip(stored.types.items(), stored.table.columns, strict=True)
    )
