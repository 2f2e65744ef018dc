"""Execution of an instance's builders, which materializes it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from tablevault import names
from tablevault.code.sources import Sources
from tablevault.errors import TVArgumentError, TVBuilderError
from tablevault.execution.context import Execution
from tablevault.execution.frame import DraftFrame
from tablevault.execution.inputs import PinnedInputs, pin_inputs
from tablevault.execution.origins import MaterializedOrigin, Origin, PartialOrigin
from tablevault.execution.outcomes import PreparedBuilder
from tablevault.execution.preparation import Prepared, read_documents
from tablevault.execution.running import restore_builders, run_builders
from tablevault.layout import ARTIFACTS, BUILDER_SUFFIX, CHECKPOINTS, EARLIER, InstanceFolder, ProcessFolder
from tablevault.operations.base import REPLACEABLE, Operation, remove, remove_created
from tablevault.operations.building import (
    Workplace,
    failure_warnings,
    is_pinned,
    newest_code,
    open_folder,
    open_origin,
    open_workplace,
    pin_builders,
    pinned_builders,
    prepared_builders,
    run_functions,
    seal_execution,
    snapshot_code,
    with_policies,
)
from tablevault.operations.materialize import new_instance_id, reconcile_artifacts
from tablevault.operations.provider_jobs import cancel_open_jobs
from tablevault.operations.session import Draft, Session
from tablevault.operations.unchanged import newly_confirmed, unchanged_origin
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.system.warnings import warn
from tablevault.values.changes import (
    Changes,
    MaterializedInstance,
    Tidying,
    TidyingAction,
    UnchangedInstance,
)
from tablevault.values.contents import ArtifactRecord, InstanceRecord, TableRecord
from tablevault.values.lock_names import lock_on_artifacts, lock_on_instance, lock_on_table
from tablevault.values.plans import ExecutePlan
from tablevault.values.processes import Creation
from tablevault.values.services import check_budget


@dataclass(frozen=True)
class ExecuteInstance(Operation[ExecutePlan]):
    """Runs the builders of a temporary instance and materializes it."""

    name: ClassVar[str] = "execute_instance"
    has_partial_result: ClassVar[bool] = True
    counts_rows: ClassVar[bool] = True

    table_name: str
    version: str = names.DEFAULT_VERSION
    force_execute: bool = False
    reuse_partial: bool = False
    skip_unchanged: bool = False
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

    def plan(self, draft: Draft) -> ExecutePlan:
        """Check the builders, pin the inputs, and choose the new instance's folder."""
        self.check_given()
        version = names.check_version(self.version)
        temporary_id = names.temporary_instance_id(version)
        key = names.fold(str(self.table_name))
        lookup = draft.lookup
        draft.lock_exclusive(lock_on_instance(key, temporary_id))
        table, temporary = draft.table_and_temporary(self.table_name, version)
        if temporary.external_edit:
            raise TVArgumentError(
                f"Instance '{temporary_id}' of table '{table.name}' was created with external_edit=True: "
                "write_instance materializes it."
            )
        if table.has_side_effects:
            draft.lock_exclusive(lock_on_table(key))
        documents = read_documents(lookup.builder_files(table, temporary))
        pins = pin_inputs(lookup, documents, partial(_lock_shared, draft))
        sources = Sources(lookup.code_texts())
        builders = Prepared.check(table.name, documents, PinnedInputs(lookup, pins), sources)
        builders = builders.with_policies(self.policies)
        builders.check_services(lookup)
        for document in documents.values():
            for doubt in document.doubts:
                warn(doubt)
        origin = self._origin(draft, temporary, builders)
        if builders.makes_artifacts and not table.allow_multiple_artifacts:
            draft.lock_exclusive(lock_on_artifacts(key))
        instance_id = new_instance_id(version)
        path = lookup.layout.relative(lookup.table_folder(table) / instance_id)
        return ExecutePlan(
            table_name=table.name,
            instance_id=temporary_id,
            creates=(Creation(path, instance_id),),
            table_id=table.table_id,
            temporary=temporary.row_id,
            temporary_folder=lookup.layout.relative(lookup.folder(table, temporary).root),
            new_instance_id=instance_id,
            inputs=pins,
            origin=origin,
            variables=builders.environment_variables() if self._reuses_nothing(origin) else {},
        )

    def _reuses_nothing(self, origin: int | None) -> bool:
        return self.force_execute or (origin is None and not self.reuse_partial)

    def _origin(self, draft: Draft, temporary: InstanceRecord, builders: Prepared) -> int | None:
        contents = draft.lookup.contents
        origin = contents.instance_by_row(temporary.origin) if temporary.origin is not None else None
        if origin is not None:
            table = contents.table_by_id(origin.table_id)
            present = table is not None and contents.instance(origin.table_id, origin.instance_id) is not None
            if table is None or not present or origin.temporary:
                origin = None
            else:
                draft.lock_shared(lock_on_instance(names.fold(table.name), origin.instance_id))
        row_id = origin.row_id if origin is not None else None
        check_rows_are_known(builders, row_id)
        return row_id

    def pin(self, plan: ExecutePlan, session: Session) -> None:
        """Check that required environment variables are set, and snapshot builders and code."""
        for name, place in plan.variables.items():
            if name not in os.environ:
                raise TVBuilderError(f"{place}: the environment variable {name} is not set; set it and run again.")
        with session.lookup.context.catalog.snapshot():
            pin_builders(session, _builder_files(plan, session.lookup))

    def _pin_unless_done(self, plan: ExecutePlan, session: Session) -> None:
        """Take the snapshots unless an earlier attempt completed them."""
        if not is_pinned(session):
            self.pin(plan, session)

    # --- work -----------------------------------------------------------------------------------------------------

    def work(self, plan: ExecutePlan, session: Session) -> Changes:
        """Run the builders from the checkpoints on, and fill the new instance's folder."""
        self._pin_unless_done(plan, session)
        snapshot = session.workspace.code(self._code_attempt(plan, session))
        prepared = with_policies(session, prepared_builders(plan, session, snapshot), self.policies)
        table = session.lookup.table_by_id(plan.table_id)

        def run(builders: Sequence[PreparedBuilder]) -> Execution:
            execution = self._open(plan, session, prepared, table)
            session.begin_functions()
            run_builders(execution, builders)
            return execution

        execution = run_functions(session, prepared, snapshot, run)
        artifacts = reconcile_artifacts(execution.frame, strict=True)
        if self.skip_unchanged:
            origin = unchanged_origin(plan, session, execution, artifacts)
            if origin is not None:
                return _unchanged(plan, session, execution, origin, table)
        return self._changes(plan, session, execution, prepared.inputs, table, artifacts, success=True)

    def _changes(
        self,
        plan: ExecutePlan,
        session: Session,
        execution: Execution,
        inputs: PinnedInputs,
        table: TableRecord,
        artifacts: Sequence[ArtifactRecord],
        success: bool,
    ) -> Changes:
        """Complete the new instance, and return the changes that make it visible."""
        sealed = seal_execution(plan, session, execution, inputs, table, self.name, artifacts, success)
        change = MaterializedInstance(
            plan.temporary,
            plan.new_instance_id,
            plan.new_instance_id,
            success,
            sealed.row_count,
            sealed.columns,
            sealed.manifest,
            sealed.reads,
            replaces_artifacts=sealed.replaces_artifacts,
            deactivates_others=success and table.has_side_effects,
            failed_cells=sealed.failed,
            skipped_cells=sealed.skipped,
        )
        return Changes((change,), (*sealed.tidying, *_drop_temporary(plan, session)), warnings=sealed.warnings)

    def _code_attempt(self, plan: ExecutePlan, session: Session) -> int:
        """Return the attempt whose code runs.

        It is the first or, after a pause, this one with the current modules.
        """
        if not session.resumed:
            return 1
        edited = edited_builders(plan, session)
        if edited:
            warn(
                f"Builder files of '{plan.instance_id}' of table '{plan.table_name}' were edited while the process "
                f"was paused ({', '.join(edited)}); it continues with the original ones. Stop it to use the "
                "edited ones."
            )
        snapshot_code(session, session.attempt)
        return session.attempt

    def _open(self, plan: ExecutePlan, session: Session, prepared: Prepared, table: TableRecord) -> Execution:
        folder = open_folder(plan, session, table)
        if self.reuse_partial:
            _keep_earlier(_partial_folder(plan, session.lookup), session.workspace)
        return self.execution(plan, session.lookup, prepared, open_workplace(folder, session))

    def execution(self, plan: ExecutePlan, lookup: Lookup, prepared: Prepared, place: Workplace) -> Execution:
        """Return the shared state of the builders, with the origins whose cells may be reused."""
        origins: list[Origin] = []
        if self.reuse_partial:
            origins.extend(_partial_origins(_partial_folder(plan, lookup)))
        committed = open_origin(lookup, plan.origin) if plan.origin is not None else None
        if committed is not None:
            origins.append(committed)
        return open_execution(prepared, place, origins, committed, not self.force_execute)

    # --- ends other than success ----------------------------------------------------------------------------------

    def cancel_jobs(self, plan: ExecutePlan, session: Session) -> Mapping[str, str]:
        """Cancel the jobs at providers."""
        return cancel_open_jobs(plan, session, self.policies)

    def abandon(self, plan: ExecutePlan, session: Session) -> tuple[Tidying, ...]:
        """Keep computed cells in the temporary instance's folder `partial/`; drop the rest."""
        layout, workspace = session.lookup.layout, session.workspace
        created = plan.created.location
        steps = []
        if workspace.checkpoints.is_dir() and any(workspace.checkpoints.iterdir()):
            target = f"{plan.temporary_folder}/partial"
            computed = layout.relative(workspace.partial)
            folder = InstanceFolder(layout.absolute(created))
            steps = [
                # The newest folder includes the files of earlier ones.
                *(
                    Tidying(TidyingAction.MOVE_FOLDER, layout.relative(place.artifacts), f"{computed}/artifacts")
                    for place in (folder, *folder.set_aside())
                ),
                Tidying(TidyingAction.REPLACE_FOLDER, computed, target),
            ]
        return (*steps, *remove_created(session.lookup, plan.created), *session.clean_workspace())

    def materialize_partial(self, plan: ExecutePlan, session: Session) -> Changes:
        """Return the changes that materialize an unfinished execution, with nulls in missing cells."""
        self._pin_unless_done(plan, session)
        prepared = prepared_builders(plan, session, newest_code(session))
        table = session.lookup.table_by_id(plan.table_id)
        execution = self._open(plan, session, prepared, table)
        restore_builders(execution, prepared.builders)
        artifacts = reconcile_artifacts(execution.frame, strict=False)
        return self._changes(plan, session, execution, prepared.inputs, table, artifacts, success=False)


def _unchanged(
    plan: ExecutePlan, session: Session, execution: Execution, origin: InstanceRecord, table: TableRecord
) -> Changes:
    """Return the changes of an execution whose result equals its origin."""
    inputs = [pinned.row_id for pinned in plan.inputs]
    return Changes(
        (
            UnchangedInstance(plan.temporary, origin.row_id, origin.instance_id),
            *newly_confirmed(session.lookup.contents, origin.row_id, inputs),
        ),
        (*remove_created(session.lookup, plan.created), *_drop_temporary(plan, session)),
        warnings=failure_warnings(table, origin.instance_id, execution.failures),
    )


def _builder_files(plan: ExecutePlan, lookup: Lookup) -> dict[str, Path]:
    """Return the builder files, by name, of the temporary instance locked by the process."""
    folder = InstanceFolder(lookup.layout.absolute(plan.temporary_folder)).builders
    return lookup.current_files(folder, BUILDER_SUFFIX)


def edited_builders(plan: ExecutePlan, session: Session) -> list[str]:
    """Return the builder files that changed since the process started."""
    snapshot = pinned_builders(session)
    current = _builder_files(plan, session.lookup)

    def content(found: Mapping[str, Path], name: str) -> bytes | None:
        return files.read_bytes(found[name]) if name in found else None

    return [
        name for name in sorted(snapshot.keys() | current.keys()) if content(snapshot, name) != content(current, name)
    ]


def check_rows_are_known(builders: Prepared, origin: int | None) -> None:
    """Raise `TVBuilderError` if the IndexBuilder needs the rows of a missing origin."""
    index = builders.index
    if origin is None and index.runs_by_row and index.for_each is None:
        raise index.error(
            ("return_type",),
            "a row-wise IndexBuilder is called once per row of the origin, and this instance has none; "
            "create it with copy=True or origin_id, name the table of its input rows in for_each, or let the "
            "function return a dataframe",
        )


# --- the shared state ---------------------------------------------------------------------------------------------


def open_execution(
    prepared: Prepared,
    place: Workplace,
    origins: Sequence[Origin],
    committed: MaterializedOrigin | None,
    reuses_cells: bool = True,
) -> Execution:
    """Return the shared state of the builders of a new instance.

    Parameters
    ----------
    prepared
        The builders.
    place
        The destination of their results.
    origins
        The origins whose cells may be reused, in order of preference.
    committed
        The committed instance among the origins, if any.
    reuses_cells
        Whether cells may be reused; `keep_old` keeps rows in any case.
    """
    return Execution(
        frame=DraftFrame(place.artifacts),
        inputs=prepared.inputs.paths,
        content_inputs=prepared.inputs.contents,
        inputs_have_artifacts=prepared.inputs.have_artifacts,
        checkpoints=place.checkpoints,
        origins=tuple(origins),
        reuses_cells=reuses_cells,
        progress=place.progress,
        owner=place.owner,
        process_id=place.process_id,
        process_key=place.process_key,
        limits=place.limits,
        budgets=place.budgets,
        primary_key=prepared.index.primary_key,
        index_origin=committed if prepared.index.runs_by_row and prepared.index.for_each is None else None,
        input_keys_of=prepared.inputs.primary_key,
    )


# --- origins ------------------------------------------------------------------------------------------------------


def _partial_folder(plan: ExecutePlan, lookup: Lookup) -> Path:
    return files.unlinked(InstanceFolder(lookup.layout.absolute(plan.temporary_folder)).partial)


def _partial_origins(folder: Path) -> Iterator[PartialOrigin]:
    """Yield the computed rows of reverted executions, newest first."""
    while (folder / CHECKPOINTS).is_dir():
        yield PartialOrigin(folder / CHECKPOINTS, folder / ARTIFACTS)
        folder = folder / EARLIER


def _keep_earlier(folder: Path, workspace: ProcessFolder) -> None:
    """Link reusable rows into the workspace, to survive a second failure."""
    if folder.is_dir() and not workspace.earlier.is_dir():
        files.remove_tree(workspace.linking)
        files.make_folder(workspace.root)
        files.link_tree(folder, workspace.linking)
        files.make_folder(workspace.partial)
        files.replace(workspace.linking, workspace.earlier)


def _drop_temporary(plan: ExecutePlan, session: Session) -> Iterator[Tidying]:
    """Yield the steps that remove the temporary instance; builders edited meanwhile are archived."""
    edited = edited_builders(plan, session) if session.workspace.builders.is_dir() else []
    if not edited:
        yield remove(plan.temporary_folder)
        return
    archived = session.lookup.layout.archived(session.serial, f"{plan.table_name}_{plan.instance_id}")
    target = session.lookup.layout.relative(archived)
    warn(
        f"Builder files edited by hand while '{plan.instance_id}' of table '{plan.table_name}' was executing "
        f"({', '.join(edited)}) did not run; they are kept in {target}."
    )
    yield Tidying(TidyingAction.MOVE_FOLDER, plan.temporary_folder, target)
    yield Tidying(TidyingAction.PRUNE, target)


def _lock_shared(draft: Draft, table: TableRecord, instance: InstanceRecord) -> None:
    draft.lock_shared(lock_on_instance(names.fold(table.name), instance.instance_id))
