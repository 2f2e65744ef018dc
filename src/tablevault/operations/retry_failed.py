"""Retry of an instance's failed rows, which makes a new instance of the same version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tablevault import names
from tablevault.builders.document import BuilderDocument
from tablevault.code.sources import Sources
from tablevault.errors import TVArgumentError, TVArtifactError, TVTableError
from tablevault.execution.context import Execution
from tablevault.execution.failures import read_failures
from tablevault.execution.frame import DraftFrame
from tablevault.execution.inputs import ARTIFACT_COLUMN, PinnedInputs
from tablevault.execution.outcomes import PreparedBuilder
from tablevault.execution.preparation import Prepared, read_documents
from tablevault.execution.provenance import InputFacts, Provenance, read_provenance
from tablevault.execution.retrying import FailedRowRetry, failures_by_builder
from tablevault.operations.base import REPLACEABLE, Operation
from tablevault.operations.building import (
    Workplace,
    archived_builders,
    is_pinned,
    open_folder,
    open_origin,
    open_workplace,
    pin_builders,
    prepared_builders,
    run_functions,
    seal_execution,
    snapshot_code,
    with_policies,
)
from tablevault.operations.materialize import new_instance_id, reconcile_artifacts
from tablevault.operations.provider_jobs import cancel_open_jobs
from tablevault.operations.session import Draft, Session
from tablevault.state.context import VaultContext
from tablevault.state.imported import lost_artifacts
from tablevault.state.lookup import Lookup
from tablevault.values.changes import Changes, WrittenInstance
from tablevault.values.contents import ArtifactState, InstanceRecord, TableRecord
from tablevault.values.lock_names import lock_on_artifacts, lock_on_instance, lock_on_table, lock_on_version
from tablevault.values.plans import PinnedInput, RetryPlan, UnchangedPlan
from tablevault.values.processes import Creation
from tablevault.values.services import check_budget


@dataclass(frozen=True)
class RetryFailed(Operation[RetryPlan | UnchangedPlan]):
    """Computes the failed, skipped and missing rows of a materialized instance.

    That instance becomes the origin of the new one.
    """

    name: ClassVar[str] = "retry_failed"
    counts_rows: ClassVar[bool] = True

    table_name: str
    instance_id: str = ""
    version: str = names.DEFAULT_VERSION
    policies: Mapping[str, Mapping[str, Any]] | None = field(default=None, metadata=REPLACEABLE)
    budget: Mapping[str, float] | None = field(default=None, metadata=REPLACEABLE)

    @property
    def budget_of_process(self) -> Mapping[str, float] | None:
        """Maximum usage of function calls in this process, by amount."""
        return self.budget

    # --- prepare --------------------------------------------------------------------------------------------------

    def check_given(self) -> None:
        """Check the budget."""
        check_budget(self.budget)

    def plan(self, draft: Draft) -> RetryPlan | UnchangedPlan:
        """Check the instance's builders with the current code, and the existence of its inputs."""
        self.check_given()
        lookup = draft.lookup
        key = names.fold(str(self.table_name))
        table, instance = self._instance(draft, key)
        # A second call waits for the first, and then finds its result.
        draft.lock_exclusive(lock_on_version(key, instance.version))
        draft.lock_shared(lock_on_instance(key, instance.instance_id))
        if table.has_side_effects:
            draft.lock_exclusive(lock_on_table(key))
        folder = lookup.folder(table, instance)
        provenance = read_provenance(folder.provenance)
        if not provenance.builders:
            raise TVTableError(
                f"Instance '{instance.instance_id}' of table '{table.name}' was written, not executed, so it has no "
                "rows to retry."
            )
        if instance.success and not read_failures(folder.errors):
            return UnchangedPlan(table_name=table.name, instance_id=instance.instance_id)
        documents = read_documents(archived_builders(lookup, table, instance, provenance))
        pins = _pins(draft, table, instance, provenance, documents)
        sources = Sources(lookup.code_texts())
        builders = Prepared.check(table.name, documents, PinnedInputs(lookup, pins), sources)
        builders.with_policies(self.policies).check_services(lookup)
        _check_artifacts(draft.lookup.context, table, instance)
        if builders.makes_artifacts and not table.allow_multiple_artifacts:
            draft.lock_exclusive(lock_on_artifacts(key))
        instance_id = new_instance_id(instance.version)
        path = lookup.layout.relative(lookup.table_folder(table) / instance_id)
        return RetryPlan(
            table_name=table.name,
            instance_id=instance.instance_id,
            creates=(Creation(path, instance_id),),
            table_id=table.table_id,
            new_instance_id=instance_id,
            inputs=pins,
            origin=instance.row_id,
            version=instance.version,
        )

    def _instance(self, draft: Draft, key: str) -> tuple[TableRecord, InstanceRecord]:
        """Return the instance to complete, by id or as the newest of a version."""
        if self.instance_id:
            draft.lock_shared(lock_on_instance(key, self.instance_id))
            table = draft.lookup.table(self.table_name)
            instance = draft.lookup.instance(table, self.instance_id)
            if instance.temporary:
                raise TVArgumentError(
                    f"Instance '{instance.instance_id}' of table '{table.name}' is not materialized; execute_instance "
                    "runs its builders."
                )
            return table, instance
        version = names.check_version(self.version)
        table = draft.lookup.table(self.table_name)
        return table, draft.lookup.newest(table, version)

    def pin(self, plan: RetryPlan | UnchangedPlan, session: Session) -> None:
        """Snapshot the instance's builders and the code."""
        if isinstance(plan, RetryPlan) and not is_pinned(session):
            table, instance = _origin(session.lookup, plan)
            provenance = read_provenance(session.lookup.folder(table, instance).provenance)
            pin_builders(session, archived_builders(session.lookup, table, instance, provenance))

    # --- work -----------------------------------------------------------------------------------------------------

    def cancel_jobs(self, plan: RetryPlan | UnchangedPlan, session: Session) -> Mapping[str, str]:
        """Cancel the jobs at providers."""
        return {} if isinstance(plan, UnchangedPlan) else cancel_open_jobs(plan, session, self.policies)

    def work(self, plan: RetryPlan | UnchangedPlan, session: Session) -> Changes:
        """Fill the new instance's folder, computing only rows without a result."""
        if isinstance(plan, UnchangedPlan):
            told = f"Instance '{plan.instance_id}' of table '{plan.table_name}' has no failed rows; nothing was done."
            return Changes(warnings=(told,))
        self.pin(plan, session)
        attempt = session.attempt if session.resumed else 1
        if session.resumed:
            snapshot_code(session, attempt)
        snapshot = session.workspace.code(attempt)
        prepared = with_policies(session, prepared_builders(plan, session, snapshot), self.policies)
        table, instance = _origin(session.lookup, plan)

        def run(builders: Sequence[PreparedBuilder]) -> Execution:
            execution, retry = _open(
                session, prepared, instance, open_workplace(open_folder(plan, session, table), session)
            )
            session.begin_functions()
            retry.run(builders)
            return execution

        execution = run_functions(session, prepared, snapshot, run)
        artifacts = reconcile_artifacts(execution.frame, strict=True)
        sealed = seal_execution(plan, session, execution, prepared.inputs, table, self.name, artifacts, success=True)
        change = WrittenInstance(
            table.name,
            plan.version,
            plan.new_instance_id,
            plan.new_instance_id,
            sealed.row_count,
            sealed.columns,
            sealed.manifest,
            instance.description,
            sealed.reads,
            replaces_artifacts=sealed.replaces_artifacts,
            deactivates_others=table.has_side_effects,
            external_edit=False,
            origin=plan.origin,
            failed_cells=sealed.failed,
            skipped_cells=sealed.skipped,
        )
        return Changes((change,), sealed.tidying, warnings=sealed.warnings)


def _open(
    session: Session, prepared: Prepared, instance: InstanceRecord, place: Workplace
) -> tuple[Execution, FailedRowRetry]:
    """Return the shared state of the builders, and the instance whose cells are reused."""
    origin = open_origin(session.lookup, instance.row_id)
    execution = Execution(
        frame=DraftFrame(place.artifacts),
        inputs=prepared.inputs.paths,
        content_inputs=prepared.inputs.contents,
        inputs_have_artifacts=prepared.inputs.have_artifacts,
        checkpoints=place.checkpoints,
        origins=(origin,),
        # Cells are reused by position, not by their inputs.
        reuses_cells=False,
        progress=place.progress,
        owner=place.owner,
        process_id=place.process_id,
        process_key=place.process_key,
        limits=place.limits,
        budgets=place.budgets,
        primary_key=prepared.index.primary_key,
        input_keys_of=prepared.inputs.primary_key,
    )
    failures = failures_by_builder(read_failures(session.lookup.folder_of(instance).errors))
    return execution, FailedRowRetry(execution, origin, failures, instance.success)


def _origin(lookup: Lookup, plan: RetryPlan) -> tuple[TableRecord, InstanceRecord]:
    assert plan.origin is not None  # only instances are retried
    return lookup.table_by_id(plan.table_id), lookup.instance_by_row(plan.origin)


def _pins(
    draft: Draft,
    table: TableRecord,
    instance: InstanceRecord,
    provenance: Provenance,
    documents: Mapping[str, BuilderDocument],
) -> tuple[PinnedInput, ...]:
    """Return and lock the instances originally read by the builders."""
    for facts in provenance.inputs:
        record = draft.lookup.contents.instance_by_row(facts.row_id)
        owner = draft.lookup.contents.table_by_id(record.table_id) if record is not None else None
        if owner is None or draft.lookup.contents.instance(owner.table_id, facts.instance_id) is None:
            raise TVTableError(
                f"Instance '{instance.instance_id}' of table '{table.name}' cannot be retried: it read instance "
                f"'{facts.instance_id}' of table '{facts.table}', which was deleted. Make a new instance with "
                "create_instance(copy=True) and execute it."
            )
        draft.lock_shared(lock_on_instance(names.fold(owner.name), facts.instance_id))
    pins: dict[tuple[str, str | None], int] = {}
    for document in documents.values():
        for dependency in document.reads.places:
            key = names.fold(dependency.table), dependency.instance
            if key not in pins:
                pins[key] = _pinned(provenance.inputs, *key)
    return tuple(PinnedInput(name, wanted, row_id) for (name, wanted), row_id in pins.items())


def _pinned(inputs: Sequence[InputFacts], table: str, wanted: str | None) -> int:
    """Return the input instance named by a reference, from provenance."""
    of_table = [facts for facts in inputs if names.fold(facts.table) == table]
    named = [facts for facts in of_table if wanted in (None, facts.instance_id, facts.instance_id.partition("_")[0])]
    if not named:
        raise TVTableError(f"The provenance of the instance names no instance of table '{table}' that was read.")
    return max(facts.row_id for facts in named)


def _check_artifacts(context: VaultContext, table: TableRecord, instance: InstanceRecord) -> None:
    """Raise `TVArtifactError` if files named by finished rows no longer exist."""
    has_files = any(column.type_name == ARTIFACT_COLUMN for column in instance.columns)
    if has_files and instance.artifact_state is ArtifactState.DROPPED:
        raise TVArtifactError(f"{lost_artifacts(context, table, instance)}. Retry an instance that has its artifacts.")
