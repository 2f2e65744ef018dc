"""Steps shared by operations that build instances."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path

from tablevault.builders.policies import Overrides
from tablevault.builders.secrets import written_secrets
from tablevault.builders.spec import BuilderSpec
from tablevault.code.loading import CodeSnapshot, read_sources
from tablevault.code.local_code import FOLDER, find_local_code
from tablevault.code.sources import Sources
from tablevault.errors import TVFileError
from tablevault.execution.context import Execution
from tablevault.execution.failures import FailedRow, failure_summary, write_failures
from tablevault.execution.input_rows import write_input_rows
from tablevault.execution.inputs import PinnedInputs, origin_facts
from tablevault.execution.origins import MaterializedOrigin
from tablevault.execution.outcomes import BuilderOutcome, FailedCells, PoliciesByAttempt, PreparedBuilder
from tablevault.execution.preparation import Prepared, read_documents
from tablevault.execution.provenance import (
    Provenance,
    read_artifact_records,
    read_provenance,
    write_fingerprints,
)
from tablevault.execution.usage import RowUsage, write_usage
from tablevault.layout import InstanceFolder, ProcessFolder, builder_file, module_file
from tablevault.names import DEFAULT_VERSION, index_builder_name
from tablevault.operations.base import instance_folder, remove_set_aside
from tablevault.operations.materialize import (
    InstanceFacts,
    artifact_link,
    column_records,
    reopen,
    seal_instance,
)
from tablevault.operations.session import Session
from tablevault.ports import Interruptible, ServiceLimits
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.rows.failures import RowFailure
from tablevault.rows.gate import Budget
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.storage.checkpoints import CheckpointStore
from tablevault.storage.frames import write_frame
from tablevault.storage.manifest import check_listed
from tablevault.values.changes import Read, Tidying
from tablevault.values.contents import ArtifactRecord, ColumnRecord, InstanceRecord, TableRecord
from tablevault.values.plans import BuildPlan
from tablevault.values.progress import ExecutionProgress

_MINIMUM_ROWS_FOR_A_THREAD = 10_000
"""Minimum number of rows for which a thread pays off when fingerprints are written."""
_POLICIES = "policies-"
"""Prefix of the staged texts that record the policies of attempts."""


@dataclass(frozen=True)
class Workplace:
    """The destination of an execution's results, and its owner."""

    checkpoints: CheckpointStore
    artifacts: InstanceArtifacts
    """The files created by functions."""
    progress: ExecutionProgress
    owner: Interruptible
    process_id: str
    process_key: str
    """Identifies the process across all vaults, even if its id is reused."""
    limits: Callable[[], ServiceLimits] | None = None
    """Returns the limits of services; `None` if no functions are called."""
    budgets: tuple[Budget, ...] = ()
    """Budgets of the process and its ancestors."""


@dataclass(frozen=True)
class Sealed:
    """A new instance that is complete on disk but not visible yet."""

    columns: tuple[ColumnRecord, ...]
    row_count: int
    manifest: str
    """SHA-256 of the file that lists all others."""
    reads: tuple[Read, ...]
    failed: int
    """Number of failed rows, summed over builders."""
    skipped: int
    replaces_artifacts: bool
    """Whether it replaces the table's single set of artifacts."""
    tidying: tuple[Tidying, ...]
    warnings: tuple[str, ...]


# --- pinned builders and code -------------------------------------------------------------------------------------


def pin_builders(session: Session, builder_files: Mapping[str, Path]) -> None:
    """Snapshot builder files and code.

    The snapshots are durable if the process can be paused: only then are they read after a power loss.

    Parameters
    ----------
    session
        The process.
    builder_files
        The files by their builders' names in the snapshot.
    """
    builders = session.workspace.builders
    # An earlier attempt may have been interrupted here.
    files.remove_tree(builders)
    files.make_folder(session.workspace.root)
    builders.mkdir()
    for name, path in builder_files.items():
        files.copy_unsynced(path, builder_file(builders, name))
    # The code is copied last, so that its snapshot implies that of the builders.
    if session.user_given:
        files.fsync_tree(builders)
    snapshot_code(session, 1)


def is_pinned(session: Session) -> bool:
    """Return whether an earlier attempt took the snapshots of builders and code."""
    return session.lookup.workspace_of(session.serial).code(1).is_dir()


def archived_builders(
    lookup: Lookup, table: TableRecord, instance: InstanceRecord, provenance: Provenance
) -> dict[str, Path]:
    """Return the archived builder files; the IndexBuilder is named after the table's current name."""
    found = lookup.builder_files(table, instance)
    index = next((facts.name for facts in provenance.builders if facts.is_index), "")
    return {index_builder_name(table.name) if name == index else name: path for name, path in found.items()}


def newest_code(session: Session) -> Path:
    """Return the code snapshot of the last attempt."""
    workspace = session.lookup.workspace_of(session.serial)
    found = workspace.all_code()
    if not found:
        raise TVFileError(f"{workspace.codes} has no code of process '{session.process_id}'; stop it and run again.")
    return found[-1]


def with_policies(session: Session, prepared: Prepared, overrides: Overrides | None) -> Prepared:
    """Return builders with this attempt's policies, recording those that differ from the files."""
    changed = prepared.with_policies(overrides)
    if overrides and session.resumed:
        # A later call may have given other policies than the one whose plan was checked.
        changed.check_services(session.lookup)
    if overrides or session.attempt > 1:
        if not session.is_staged(f"{_POLICIES}1"):
            _note_policies(session, 1, (prepared if session.attempt > 1 else changed).specs)
        if session.attempt > 1:
            _note_policies(session, session.attempt, changed.specs)
    return changed


def _note_policies(session: Session, attempt: int, specs: Iterable[BuilderSpec]) -> None:
    given = {spec.name: spec.policies.given for spec in specs}
    session.stage_text(f"{_POLICIES}{attempt}", json.dumps(given))


def _noted_policies(session: Session) -> PoliciesByAttempt:
    """Return the policies by attempt; empty if all attempts used those of the files."""
    attempts = range(1, session.attempt + 1)
    noted = (attempt for attempt in attempts if session.is_staged(f"{_POLICIES}{attempt}"))
    return {attempt: json.loads(session.staged_text(f"{_POLICIES}{attempt}")) for attempt in noted}


def prepared_builders(plan: BuildPlan, session: Session, snapshot: Path) -> Prepared:
    """Return the pinned builders, checked against pinned inputs and a snapshot of the code."""
    documents = read_documents(pinned_builders(session))
    inputs = PinnedInputs(session.lookup, plan.inputs)
    return Prepared.check(plan.table_name, documents, inputs, Sources.of_snapshot(snapshot))


def pinned_builders(session: Session) -> dict[str, Path]:
    """Return the builder files of the snapshot, by builder name."""
    return {path.stem: path for path in session.lookup.workspace_of(session.serial).builder_files()}


def snapshot_code(session: Session, attempt: int) -> None:
    """Copy the current modules; the folder exists only once it is complete. Durable as `pin_builders` says."""
    folder, unfinished = session.workspace.code(attempt), session.workspace.unfinished_code
    files.remove_tree(folder)

    def copy(modules: dict[str, Path]) -> None:
        files.remove_tree(unfinished)
        unfinished.mkdir()
        for name, path in modules.items():
            with files.plain_file_expected(path):
                files.copy_unsynced(path, module_file(unfinished, name))

    session.lookup.with_files(session.lookup.code_modules, copy)
    find_local_code(read_sources(unfinished)).write(unfinished / FOLDER)
    folder.parent.mkdir(exist_ok=True)
    if not session.user_given:
        unfinished.rename(folder)
        return
    files.fsync_tree(unfinished)
    # Syncs the entries of all folders created here at once.
    files.fsync_folder(session.workspace.root)
    files.replace(unfinished, folder)


def open_origin(lookup: Lookup, row_id: int) -> MaterializedOrigin:
    """Open a committed instance for reusing its cells."""
    instance = lookup.instance_by_row(row_id)
    folder = lookup.folder_of(instance)
    try:
        check_listed(folder.manifest, instance.manifest, folder.provenance)
        return MaterializedOrigin(
            folder.frame,
            folder.fingerprints,
            folder.errors,
            folder.artifacts,
            read_provenance(folder.provenance),
            read_artifact_records(folder.artifact_hashes),
        )
    except FileNotFoundError as error:
        raise TVFileError(
            f"A file of the origin is missing ({error.filename}); verify() lists all problems."
        ) from error


# --- running ------------------------------------------------------------------------------------------------------


def open_folder(plan: BuildPlan, session: Session, table: TableRecord) -> InstanceFolder:
    """Return the folder of the new instance, ready to be filled."""
    folder = instance_folder(session.lookup, table, plan.new_instance_id)
    reopen(folder, kept=folder.artifacts)
    files.make_folder(folder.artifacts)
    return folder


def open_workplace(folder: InstanceFolder, session: Session) -> Workplace:
    """Open the process's checkpoints for an execution that fills a folder."""
    artifacts = InstanceArtifacts(folder.artifacts)
    if session.resumed:
        artifacts.doubt_earlier_attempts()
    checkpoints = session.open_checkpoints(artifacts.commits)
    key = f"{session.lookup.context.vault_id}/{session.serial}"
    return Workplace(
        checkpoints,
        artifacts,
        session.progress,
        session,
        session.process_id,
        key,
        session.service_limits,
        session.budgets,
    )


def run_functions(
    session: Session, prepared: Prepared, snapshot: Path, run: Callable[[list[PreparedBuilder]], Execution]
) -> Execution:
    """Load the functions from a snapshot of the code, and run builders.

    Parameters
    ----------
    session
        The process.
    prepared
        The builders.
    snapshot
        The folder of the code.
    run
        Runs the loaded builders.
    """
    prepared.check_conditions()
    prepared.check_waiting(session.user_given)
    try:
        with CodeSnapshot(snapshot, session.lookup.layout.code_functions, prepared.sources.local) as code:
            loaded = [prepared.load(builder, code) for builder in prepared.builders]
            if [builder.spec.policies for builder in loaded] != [spec.policies for spec in prepared.specs]:
                # A function, once loaded, turned out not to suit a policy for all builders.
                _note_policies(session, session.attempt, (builder.spec for builder in loaded))
            return run(loaded)
    except BaseException:
        session.secrets.add(chain.from_iterable(map(written_secrets, prepared.specs)))
        raise


# --- the materialized instance ------------------------------------------------------------------------------------


def seal_execution(
    plan: BuildPlan,
    session: Session,
    execution: Execution,
    inputs: PinnedInputs,
    table: TableRecord,
    operation: str,
    artifacts: Sequence[ArtifactRecord],
    success: bool,
) -> Sealed:
    """Durably fill the folder of the new instance.

    Parameters
    ----------
    plan, session
        The process.
    execution
        The execution; its builders have run.
    inputs
        The instances read by the builders.
    table
        The table of the instance.
    operation
        The operation that made the instance, for provenance.
    artifacts
        The files named by its cells, as checked by `reconcile_artifacts`.
    success
        Whether every builder ran to completion.
    """
    folder = instance_folder(session.lookup, table, plan.new_instance_id)
    data = execution.frame.data()
    write_aside = partial(_write_fingerprints, folder, execution.outcomes, execution.frame.row_count)
    if len(data) < _MINIMUM_ROWS_FOR_A_THREAD:
        write_aside()
        stored = write_frame(folder.frame, data)
    else:
        for built in execution.frame.columns.values():
            # Encoding a large frame takes as much memory again.
            built.forget_values()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tablevault-fingerprints") as aside:
            fingerprints = aside.submit(write_aside)
            stored = write_frame(folder.frame, data)
        fingerprints.result()
    _archive_texts(session.workspace, folder)
    facts, policies = inputs.facts(), _noted_policies(session)
    own_failures = {name: len(rows) for name, rows in execution.frame.failures.items()}
    failed_cells = FailedCells(own_failures, inputs.failed_cells())
    provenance = Provenance(
        process_id=session.process_id,
        operation=operation,
        author=session.author,
        finished_at=datetime.now(UTC).isoformat(),
        primary_key=execution.primary_key,
        builders=tuple(outcome.facts(facts, failed_cells, policies) for outcome in execution.outcomes),
        inputs=tuple(dict.fromkeys(facts.values())),
        origin=origin_facts(session.lookup, plan.origin),
    )
    failures = list(chain.from_iterable(execution.failures.values()))
    failed = sum(failure.kind == "failed" for failure in failures)
    skipped = len(failures) - failed
    if failed or skipped:
        write_failures(folder.errors, _failed_rows(execution))
    if any(outcome.usage for outcome in execution.outcomes):
        write_usage(folder.usage, _used_rows(execution))
    described = InstanceFacts(table.name, plan.new_instance_id, len(data), success, failed, skipped)
    manifest = seal_instance(session.lookup, folder, stored, artifacts, provenance, described)
    shares = success and not table.allow_multiple_artifacts
    link = [artifact_link(session.lookup, table, plan.new_instance_id, bool(artifacts))] if shares else []
    return Sealed(
        column_records(data),
        len(data),
        manifest,
        tuple(chain.from_iterable(outcome.reads(facts) for outcome in execution.outcomes)),
        failed,
        skipped,
        replaces_artifacts=shares,
        tidying=(*link, *remove_set_aside(session.lookup, folder)),
        warnings=(
            *failure_warnings(table, plan.new_instance_id, execution.failures),
            *failed_input_warnings(provenance),
        ),
    )


def failed_input_warnings(provenance: Provenance, told: Container[str] = ()) -> tuple[str, ...]:
    """Return a warning on failed and skipped cells of other tables that functions read as null.

    Parameters
    ----------
    provenance
        The instance.
    told
        Ids of inputs to leave out.
    """
    read = {name: count for facts in provenance.builders for name, count in facts.failed_cells_read.items()}
    found = []
    for facts in provenance.inputs:
        prefix = f"{facts.as_reference}."
        counts = {name.removeprefix(prefix): count for name, count in read.items() if name.startswith(prefix)}
        if counts and facts.instance_id not in told:
            listed = ", ".join(f"{count:,} in '{facts.table}.{column}'" for column, count in counts.items())
            found.append(f"{listed}; see get_errors('{facts.table}', '{facts.instance_id}')")
    return (f"Failed or skipped cells of other tables were read as null: {'; '.join(found)}.",) if found else ()


def failure_warnings(
    table: TableRecord, instance_id: str, failures: Mapping[str, Sequence[RowFailure]], retry: str = ""
) -> tuple[str, ...]:
    """Return a warning on failed rows that says how to list and retry them.

    Parameters
    ----------
    table, instance_id, failures
        The table, and its instance with the failed rows of each builder.
    retry
        How to retry them, if not by `retry_failed`.
    """
    summary = failure_summary(failures)
    version = instance_id.rsplit("_", 2)[0]
    named = f"'{table.name}'" if version == DEFAULT_VERSION else f"'{table.name}', version='{version}'"
    if summary is None:
        return ()
    return (f"{summary}; see get_errors({named}), {retry or f'run retry_failed({named})'}.",)


def _failed_rows(execution: Execution) -> Iterator[FailedRow]:
    """Yield the failed and skipped rows of all builders, each with its primary key."""
    own_keys = {name: execution.frame.columns[name].values for name in execution.primary_key}
    for outcome in execution.outcomes:
        keys = own_keys if outcome.inputs is None else outcome.inputs.keys
        for position, failure in sorted(outcome.failures.items()):
            key = {name: values[position] for name, values in keys.items()} or None
            yield FailedRow(outcome.builder.spec.name, position, key, failure)


def _used_rows(execution: Execution) -> Iterator[RowUsage]:
    for outcome in execution.outcomes:
        for position, usage in sorted(outcome.usage.items()):
            yield RowUsage(outcome.builder.spec.name, position, usage)


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
    """Archive the builders, the last attempt's code, and any different earlier code."""
    folder.builders.mkdir()
    for path in workspace.builder_files():
        files.copy_unsynced(path, folder.builders / path.name)
    *earlier, last = workspace.all_code()
    files.copy_tree_unsynced(last, folder.code)
    newest = _contents(last)
    for attempt in earlier:
        if _contents(attempt) != newest:
            files.copy_tree_unsynced(attempt, folder.earlier_code(attempt.name))


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
