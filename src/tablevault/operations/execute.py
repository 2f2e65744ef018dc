"""Executing an instance: its builders run, and it becomes a materialized one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from tablevault import names
from tablevault.builders.secrets import written_secrets
from tablevault.code.loading import CodeSnapshot, read_sources
from tablevault.code.local_code import FOLDER, find_local_code
from tablevault.code.sources import Sources
from tablevault.errors import TVArgumentError, TVBuilderError, TVFileError, warn
from tablevault.execution.context import Execution
from tablevault.execution.failures import FailedRow, failure_summary, write_failures
from tablevault.execution.frame import DraftFrame
from tablevault.execution.input_rows import write_input_rows
from tablevault.execution.inputs import PinnedInputs, origin_facts, pin_inputs
from tablevault.execution.origins import MaterializedOrigin, Origin, PartialOrigin
from tablevault.execution.outcomes import BuilderOutcome
from tablevault.execution.preparation import Prepared, read_documents
from tablevault.execution.provenance import Provenance, read_artifact_records, read_provenance, write_fingerprints
from tablevault.execution.running import restore_builders, run_builders
from tablevault.layout import ARTIFACTS, BUILDER_SUFFIX, CHECKPOINTS, EARLIER, InstanceFolder, ProcessFolder
from tablevault.lock_names import lock_on_artifacts, lock_on_instance, lock_on_table
from tablevault.lookup import Lookup
from tablevault.operations.base import (
    REPLACEABLE,
    Operation,
    instance_folder,
    remove,
    remove_created,
    remove_set_aside,
)
from tablevault.operations.materialize import (
    InstanceFacts,
    artifact_link,
    column_records,
    new_instance_id,
    reopen,
    seal_instance,
    settle_artifacts,
)
from tablevault.operations.session import Draft, Session
from tablevault.plans import ExecutePlan
from tablevault.ports import Interruptible
from tablevault.progress import ExecutionProgress
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.storage import files
from tablevault.storage.checkpoints import CheckpointStore
from tablevault.storage.frames import write_frame
from tablevault.storage.manifest import check_listed
from tablevault.values import (
    Changes,
    Creation,
    InstanceRecord,
    MaterializedInstance,
    TableRecord,
    Tidying,
    TidyingAction,
)


@dataclass(frozen=True)
class Workplace:
    """Where an execution puts its results, and the owner that it listens to."""

    checkpoints: CheckpointStore
    artifacts: Path
    """The folder of the files that functions make."""
    progress: ExecutionProgress
    owner: Interruptible
    process_id: str


@dataclass(frozen=True)
class ExecuteInstance(Operation[ExecutePlan]):
    """Runs the builders of a temporary instance and materializes it."""

    name: ClassVar[str] = "execute_instance"

    table_name: str
    version: str = names.DEFAULT_VERSION
    force_execute: bool = False
    reuse_partial: bool = False
    policies: Mapping[str, Mapping[str, Any]] | None = field(default=None, metadata=REPLACEABLE)

    # --- prepare --------------------------------------------------------------------------------------------------

    def plan(self, draft: Draft) -> ExecutePlan:
        """Check the builders, pin the inputs, and choose where the new instance will be."""
        version = names.check_version(self.version)
        temporary_id = names.temporary_instance_id(version)
        key = names.fold(str(self.table_name))
        lookup = draft.lookup
        draft.lock_exclusive(lock_on_instance(key, temporary_id))
        table, temporary = lookup.table_and_temporary(self.table_name, version)
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
        builders.with_policies(self.policies)
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
        if origin is None and builders.index.runs_by_row and builders.index.for_each is None:
            raise builders.index.error(
                ("return_type",),
                "a row-wise IndexBuilder is called once per row of the origin, and this instance has none; "
                "create it with copy=True or origin_id, name the table of its input rows in for_each, or let the "
                "function return a dataframe",
            )
        return origin.row_id if origin is not None else None

    def pin(self, plan: ExecutePlan, session: Session) -> None:
        """Check that required environment variables are set, and snapshot builders and code."""
        for name, place in plan.variables.items():
            if name not in os.environ:
                raise TVBuilderError(f"{place}: the environment variable {name} is not set; set it and run again.")
        builders = session.workspace.builders
        # An earlier attempt may have been cut off in the middle of this.
        files.remove_tree(builders)
        files.make_folder(builders)
        table, temporary = session.lookup.table_and_temporary(plan.table_name, self.version)
        for name, path in session.lookup.builder_files(table, temporary).items():
            files.copy_unsynced(path, builders / f"{name}{BUILDER_SUFFIX}")
        # The snapshot of the code comes last: once it exists, that of the builders is complete.
        files.fsync_tree(builders)
        _snapshot_code(session, 1)

    def _pin_unless_done(self, plan: ExecutePlan, session: Session) -> None:
        """Take the snapshots if an earlier attempt was cut off before they were complete."""
        if not session.workspace.code(1).is_dir():
            self.pin(plan, session)

    # --- work -----------------------------------------------------------------------------------------------------

    def work(self, plan: ExecutePlan, session: Session) -> Changes:
        """Run the builders, from the checkpoints on, and fill the folder of the new instance."""
        self._pin_unless_done(plan, session)
        snapshot = session.workspace.code(self._code_attempt(plan, session))
        prepared = _prepared(plan, session, snapshot).with_policies(self.policies)
        prepared.check_conditions()
        table = _table(session.lookup, plan)
        try:
            with CodeSnapshot(snapshot, session.lookup.layout.code_functions, prepared.sources.local) as code:
                builders = [prepared.load(builder, code) for builder in prepared.builders]
                execution = self._open(plan, session, prepared, table)
                session.begin_functions()
                run_builders(execution, builders)
        except BaseException:
            session.secrets.add(chain.from_iterable(map(written_secrets, prepared.specs)))
            raise
        return _materialize(plan, session, execution, prepared.inputs, table, success=True)

    def _code_attempt(self, plan: ExecutePlan, session: Session) -> int:
        """Return the attempt whose code runs: the first, or after a pause this one, with the modules of now."""
        if not session.resumed:
            return 1
        edited = edited_builders(plan, session)
        if edited:
            warn(
                f"Builder files of '{plan.instance_id}' of table '{plan.table_name}' were edited while the process "
                f"was paused ({', '.join(edited)}); it continues with those of its start. Stop it to use the new ones."
            )
        _snapshot_code(session, session.attempt)
        return session.attempt

    def _open(self, plan: ExecutePlan, session: Session, prepared: Prepared, table: TableRecord) -> Execution:
        folder = instance_folder(session.lookup, table, plan.new_instance_id)
        reopen(folder, kept=folder.artifacts)
        files.make_folder(folder.artifacts)
        if self.reuse_partial:
            _keep_earlier(_partial_folder(plan, session.lookup), session.workspace)
        checkpoints = session.open_checkpoints(folder.artifacts)
        place = Workplace(checkpoints, folder.artifacts, session.progress, session, session.process_id)
        return self.execution(plan, session.lookup, prepared, place)

    def execution(self, plan: ExecutePlan, lookup: Lookup, prepared: Prepared, place: Workplace) -> Execution:
        """Return the shared state of the builders, with the origins whose cells may be reused."""
        origins: list[Origin] = []
        if self.reuse_partial:
            origins.extend(_partial_origins(_partial_folder(plan, lookup)))
        committed = _open_origin(lookup, plan.origin) if plan.origin is not None else None
        if committed is not None:
            origins.append(committed)
        return Execution(
            frame=DraftFrame(InstanceArtifacts(place.artifacts)),
            inputs=prepared.inputs.paths,
            content_inputs=prepared.inputs.contents,
            inputs_have_artifacts=prepared.inputs.have_artifacts,
            checkpoints=place.checkpoints,
            origins=tuple(origins),
            reuses_cells=not self.force_execute,
            progress=place.progress,
            owner=place.owner,
            process_id=place.process_id,
            primary_key=prepared.index.primary_key,
            index_origin=committed if prepared.index.runs_by_row and prepared.index.for_each is None else None,
            input_keys_of=prepared.inputs.primary_key,
        )

    # --- ends other than success ----------------------------------------------------------------------------------

    def abandon(self, plan: ExecutePlan, session: Session) -> tuple[Tidying, ...]:
        """Keep computed cells in the temporary instance's folder `partial/`; drop the rest."""
        layout, workspace = session.lookup.layout, session.workspace
        created = plan.creates[0].location
        steps = []
        if workspace.checkpoints.is_dir() and any(workspace.checkpoints.iterdir()):
            target = f"{plan.temporary_folder}/partial"
            computed = layout.relative(workspace.partial)
            folder = InstanceFolder(layout.absolute(created))
            steps = [
                # The first that there is: it has the files of those before it.
                *(
                    Tidying(TidyingAction.MOVE_FOLDER, layout.relative(place.artifacts), f"{computed}/artifacts")
                    for place in (folder, *folder.set_aside())
                ),
                Tidying(TidyingAction.REPLACE_FOLDER, computed, target),
            ]
        return (*steps, *remove_created(session.lookup, plan.creates[0]), *session.clean_workspace())

    def materialize_partial(self, plan: ExecutePlan, session: Session) -> Changes:
        """Return the changes that make an unfinished execution an instance, with nulls in cells never computed."""
        self._pin_unless_done(plan, session)
        codes = session.lookup.workspace_of(session.serial).codes
        prepared = _prepared(plan, session, max(codes.iterdir(), key=lambda path: int(path.name)))
        table = _table(session.lookup, plan)
        execution = self._open(plan, session, prepared, table)
        restore_builders(execution, prepared.builders)
        return _materialize(plan, session, execution, prepared.inputs, table, success=False)


def edited_builders(plan: ExecutePlan, session: Session) -> list[str]:
    """Return the builder files that changed since the process started."""
    snapshot = _pinned_builders(session)
    folder = InstanceFolder(session.lookup.layout.absolute(plan.temporary_folder)).builders
    current = session.lookup.current_files(folder, BUILDER_SUFFIX)

    def content(found: Mapping[str, Path], name: str) -> bytes | None:
        return found[name].read_bytes() if name in found else None

    return [
        name for name in sorted(snapshot.keys() | current.keys()) if content(snapshot, name) != content(current, name)
    ]


def _prepared(plan: ExecutePlan, session: Session, snapshot: Path) -> Prepared:
    """Return the pinned builders, checked against pinned inputs and a snapshot of the code."""
    documents = read_documents(_pinned_builders(session))
    inputs = PinnedInputs(session.lookup, plan.inputs)
    return Prepared.check(plan.table_name, documents, inputs, Sources.of_snapshot(snapshot))


def _pinned_builders(session: Session) -> dict[str, Path]:
    folder = session.lookup.workspace_of(session.serial).builders
    return {path.stem: path for path in sorted(folder.glob(f"*{BUILDER_SUFFIX}"))}


def _snapshot_code(session: Session, attempt: int) -> None:
    """Copy the modules as they are now; the folder exists only once it is complete."""
    folder, unfinished = session.workspace.code(attempt), session.workspace.unfinished_code
    files.remove_tree(folder)

    def copy(modules: dict[str, Path]) -> None:
        files.remove_tree(unfinished)
        files.make_folder(unfinished)
        for name, path in modules.items():
            with files.plain_file_expected(path):
                files.copy_unsynced(path, unfinished / f"{name}.py")

    session.lookup.with_files(session.lookup.code_modules, copy)
    find_local_code(read_sources(unfinished)).write(unfinished / FOLDER)
    files.fsync_tree(unfinished)
    files.make_folder(folder.parent)
    files.replace(unfinished, folder)


# --- origins ------------------------------------------------------------------------------------------------------


def _open_origin(lookup: Lookup, row_id: int) -> MaterializedOrigin:
    instance = lookup.instance_by_row(row_id)
    folder = lookup.folder_of(instance)
    try:
        check_listed(folder.manifest, instance.manifest, folder.provenance)
        return MaterializedOrigin(
            folder.frame,
            folder.fingerprints,
            folder.artifacts,
            read_provenance(folder.provenance),
            read_artifact_records(folder.artifact_hashes),
        )
    except FileNotFoundError as error:
        raise TVFileError(
            f"A file of the origin is missing ({error.filename}); verify() lists all problems."
        ) from error


def _partial_folder(plan: ExecutePlan, lookup: Lookup) -> Path:
    return files.unlinked(InstanceFolder(lookup.layout.absolute(plan.temporary_folder)).partial)


def _partial_origins(folder: Path) -> Iterator[PartialOrigin]:
    """Yield the computed rows of executions that were reverted, the newest first."""
    while (folder / CHECKPOINTS).is_dir():
        yield PartialOrigin(folder / CHECKPOINTS, folder / ARTIFACTS)
        folder = folder / EARLIER


def _keep_earlier(folder: Path, workspace: ProcessFolder) -> None:
    """Link the rows that this run may reuse into its own, so that a second failure does not lose them."""
    if folder.is_dir() and not workspace.earlier.is_dir():
        files.remove_tree(workspace.linking)
        files.make_folder(workspace.root)
        files.link_tree(folder, workspace.linking)
        files.make_folder(workspace.partial)
        files.replace(workspace.linking, workspace.earlier)


# --- the materialized instance ------------------------------------------------------------------------------------


def _materialize(
    plan: ExecutePlan,
    session: Session,
    execution: Execution,
    inputs: PinnedInputs,
    table: TableRecord,
    success: bool,
) -> Changes:
    """Fill the folder of the new instance durably, and return the changes that make it visible."""
    folder = instance_folder(session.lookup, table, plan.new_instance_id)
    artifacts = settle_artifacts(execution.frame, strict=success)
    data = execution.frame.data()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tablevault-fingerprints") as aside:
        fingerprints = aside.submit(_write_fingerprints, folder, execution.outcomes, execution.frame.row_count)
        stored = write_frame(folder.frame, data)
    fingerprints.result()
    _archive_texts(session.workspace, folder)
    facts = inputs.facts()
    provenance = Provenance(
        process_id=session.process_id,
        operation=ExecuteInstance.name,
        author=session.author,
        finished_at=datetime.now(UTC).isoformat(),
        primary_key=execution.primary_key,
        builders=tuple(outcome.facts(facts) for outcome in execution.outcomes),
        inputs=tuple(dict.fromkeys(facts.values())),
        origin=origin_facts(session.lookup, plan.origin),
    )
    failures = {outcome.builder.spec.name: list(outcome.failures.values()) for outcome in execution.outcomes}
    failed = sum(failure.kind == "failed" for items in failures.values() for failure in items)
    skipped = sum(map(len, failures.values())) - failed
    if failed or skipped:
        write_failures(folder.errors, _failed_rows(execution))
    described = InstanceFacts(table.name, plan.new_instance_id, len(data), success, failed, skipped)
    manifest = seal_instance(folder, stored, artifacts, provenance, described)
    shares = success and not table.allow_multiple_artifacts
    change = MaterializedInstance(
        plan.temporary,
        plan.new_instance_id,
        plan.new_instance_id,
        success,
        len(data),
        column_records(data),
        manifest,
        tuple(chain.from_iterable(outcome.reads(facts) for outcome in execution.outcomes)),
        replaces_artifacts=shares,
        deactivates_others=success and table.has_side_effects,
        failed_cells=failed,
        skipped_cells=skipped,
    )
    link = [artifact_link(session.lookup, table, plan.new_instance_id, bool(artifacts))] if shares else []
    summary = failure_summary(failures)
    told = () if summary is None else (f"{summary}; see get_errors('{table.name}'), run retry_failed('{table.name}').",)
    earlier = remove_set_aside(session.lookup, folder)
    return Changes((change,), (*link, *_drop_temporary(plan, session), *earlier), warnings=told)


def _failed_rows(execution: Execution) -> Iterator[FailedRow]:
    """Yield the failed and skipped rows of all builders, each with its primary key."""
    own_keys = {name: execution.frame.columns[name].values for name in execution.primary_key}
    for outcome in execution.outcomes:
        keys = own_keys if outcome.inputs is None else outcome.inputs.keys
        for position, failure in sorted(outcome.failures.items()):
            key = {name: values[position] for name, values in keys.items()} or None
            yield FailedRow(outcome.builder.spec.name, position, key, failure)


def _write_fingerprints(folder: InstanceFolder, outcomes: Sequence[BuilderOutcome], row_count: int) -> None:
    rows = {}
    for outcome in outcomes:
        if outcome.fingerprints is not None and outcome.codes is not None:
            missing = row_count - len(outcome.codes)
            outcome.fingerprints.resize(row_count)
            outcome.codes.frombytes(bytes(missing * outcome.codes.itemsize))
            rows[outcome.builder.spec.name] = (outcome.fingerprints, outcome.codes)
        if outcome.inputs is not None:
            table = outcome.inputs.table
            keys, counts = list(outcome.inputs.keys.values()), outcome.inputs.counts
            write_input_rows(folder.input_rows, keys, table.fingerprints, table.codes, counts)
    if rows:
        write_fingerprints(folder.fingerprints, rows)


def _archive_texts(workspace: ProcessFolder, folder: InstanceFolder) -> None:
    """Keep the builders, the code of the last attempt, and beside it that of earlier ones where it was different."""
    folder.builders.mkdir()
    for path in sorted(workspace.builders.iterdir()):
        files.copy_unsynced(path, folder.builders / path.name)
    *earlier, last = sorted(workspace.codes.iterdir(), key=lambda path: int(path.name))
    files.copy_tree_unsynced(last, folder.code)
    newest = _contents(last)
    for attempt in earlier:
        if _contents(attempt) != newest:
            files.copy_tree_unsynced(attempt, folder.code / f"attempt-{attempt.name}")


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def _table(lookup: Lookup, plan: ExecutePlan) -> TableRecord:
    return lookup.table_by_id(plan.table_id)


def _lock_shared(draft: Draft, table: TableRecord, instance: InstanceRecord) -> None:
    draft.lock_shared(lock_on_instance(names.fold(table.name), instance.instance_id))
