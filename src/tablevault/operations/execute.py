"""Executing an instance: its builders run, and it becomes a materialized one."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import ClassVar

from tablevault import names
from tablevault.builders.secrets import written_secrets
from tablevault.builders.spec import BuilderSpec
from tablevault.code.loading import CodeSnapshot, builder_function, read_sources
from tablevault.code.local_code import FOLDER, find_local_code
from tablevault.code.packages import installed_versions
from tablevault.code.sources import Sources
from tablevault.code.versions import CodeIndex, builder_version
from tablevault.errors import TableVaultError, TVArgumentError, TVBuilderError, TVFileError, warn
from tablevault.execution.context import Execution, PreparedBuilder
from tablevault.execution.frame import DraftFrame
from tablevault.execution.origins import MaterializedOrigin, Origin, PartialOrigin
from tablevault.execution.provenance import read_artifact_records, read_provenance
from tablevault.execution.running import restore_builders, run_builders
from tablevault.layout import (
    ARTIFACTS,
    CHECKPOINTS,
    EARLIER,
    InstanceFolder,
    ProcessFolder,
    lock_on_artifacts,
    lock_on_instance,
    lock_on_table,
)
from tablevault.lookup import Lookup
from tablevault.notes import add_note
from tablevault.operations.assembly import Assembly, reopen
from tablevault.operations.base import Operation, instance_folder, remove
from tablevault.operations.builder_files import SUFFIX, builder_files
from tablevault.operations.executing import (
    BuilderSet,
    PinnedInputs,
    check_builders,
    check_conditions,
    edited_builders,
    pin_inputs,
    pinned_builders,
    read_documents,
)
from tablevault.operations.watching import OwnerWatch
from tablevault.plans import ExecutePlan
from tablevault.ports import FunctionError, Interruptible
from tablevault.progress import ExecutionProgress
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.checkpoints import CheckpointStore
from tablevault.storage.manifest import check_listed
from tablevault.transaction import Drafting, Transaction
from tablevault.values import Changes, Creation, InstanceRecord, TableRecord, Tidying, TidyingAction


@dataclass(frozen=True)
class Workplace:
    """Where an execution puts what it computes, and whom it listens to."""

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

    # --- prepare --------------------------------------------------------------------------------------------------

    def plan(self, draft: Drafting) -> ExecutePlan:
        """Check the builders, pin the inputs, and choose where the new instance will be."""
        version = names.check_version(self.version)
        temporary_id = names.temporary_instance_id(version)
        key = names.fold(str(self.table_name))
        draft.lock_exclusive(lock_on_instance(key, temporary_id))
        table = draft.table(self.table_name)
        temporary = draft.temporary_instance(table, version)
        if temporary.external_edit:
            raise TVArgumentError(
                f"Instance '{temporary_id}' of table '{table.name}' was created with external_edit=True: "
                "write_instance materializes it."
            )
        if table.has_side_effects:
            draft.lock_exclusive(lock_on_table(key))
        documents = read_documents(builder_files(draft, table, temporary))
        pins = pin_inputs(draft, documents, _shared_lock(draft))
        inputs = PinnedInputs(draft, pins)
        sources = draft.code_texts()
        builders = check_builders(table.name, documents, inputs, sources)
        for document in documents.values():
            for doubt in document.doubts:
                warn(doubt)
        origin = self._origin(draft, temporary, builders)
        if builders.makes_artifacts and not table.allow_multiple_artifacts:
            draft.lock_exclusive(lock_on_artifacts(key))
        instance_id = f"{version}_{int(time.time())}_{uuid.uuid4().hex}"
        path = draft.layout.relative(draft.table_folder(table) / instance_id)
        return ExecutePlan(
            table_name=table.name,
            instance_id=temporary_id,
            creates=(Creation(path, instance_id),),
            table_id=table.table_id,
            temporary=temporary.row_id,
            temporary_folder=draft.layout.relative(draft.folder(table, temporary).root),
            new_instance_id=instance_id,
            inputs=pins,
            origin=origin,
            variables=builders.environment_variables() if self._reuses_nothing(origin) else {},
        )

    def _reuses_nothing(self, origin: int | None) -> bool:
        return self.force_execute or (origin is None and not self.reuse_partial)

    def _origin(self, draft: Drafting, temporary: InstanceRecord, builders: BuilderSet) -> int | None:
        origin = draft.contents.instance_by_row(temporary.origin) if temporary.origin is not None else None
        if origin is not None:
            table = draft.contents.table_by_id(origin.table_id)
            present = table is not None and draft.contents.instance(origin.table_id, origin.instance_id) is not None
            if table is None or not present or origin.temporary:
                origin = None
            else:
                draft.lock_shared(lock_on_instance(names.fold(table.name), origin.instance_id))
        if origin is None and builders.index.is_row_wise:
            raise builders.index.error(
                ("return_type",),
                "a row-wise IndexBuilder is called once per row of the origin, and this instance has none; "
                "create it with copy=True or origin_id, or let the function return a dataframe",
            )
        return origin.row_id if origin is not None else None

    def pin(self, plan: ExecutePlan, transaction: Transaction) -> None:
        """Check that variables are set which every run needs, and snapshot builders and code."""
        _check_variables(plan.variables)
        table, temporary = _table(transaction, plan), _temporary(transaction, plan)
        # An earlier attempt may have been cut off in the middle of this.
        files.remove_tree(transaction.workspace.builders)
        files.make_folder(transaction.workspace.builders)
        for name, path in builder_files(transaction, table, temporary).items():
            shutil.copyfile(path, transaction.workspace.builders / f"{name}{SUFFIX}")
        # The code's folder tells that the snapshot of the builders is whole.
        files.fsync_tree(transaction.workspace.builders)
        _snapshot_code(transaction, 1)

    def _pin_unless_done(self, plan: ExecutePlan, transaction: Transaction) -> None:
        """Take the snapshots if the process was cut off before it had them; that of the code is the last one."""
        if not transaction.workspace.code(1).is_dir():
            self.pin(plan, transaction)

    # --- work -----------------------------------------------------------------------------------------------------

    def work(self, plan: ExecutePlan, transaction: Transaction) -> Changes:
        """Run the builders; what is finished already is taken from the checkpoints."""
        self._pin_unless_done(plan, transaction)
        attempt = self._code_attempt(plan, transaction)
        inputs = PinnedInputs(transaction, plan.inputs)
        sources = Sources.of_snapshot(transaction.workspace.code(attempt))
        documents = read_documents(pinned_builders(transaction))
        builders = check_builders(plan.table_name, documents, inputs, sources.modules)
        check_conditions(builders, inputs)
        folder, shown_as = transaction.workspace.code(attempt), transaction.layout.code_functions
        try:
            with CodeSnapshot(folder, shown_as, sources.local) as code:
                prepared = _prepare(builders, code, sources)
                execution = self._execution(plan, transaction, inputs, builders)
                transaction.functions_started = True
                run_builders(execution, prepared)
        except BaseException:
            transaction.secrets.add(chain.from_iterable(map(written_secrets, builders.specs)))
            raise
        assembly = Assembly(transaction, plan, execution, inputs)
        return assembly.materialize(success=True)

    def _code_attempt(self, plan: ExecutePlan, transaction: Transaction) -> int:
        """Return whose snapshot of the code to run: the pinned one, or after a pause the modules as they are now."""
        if not transaction.resumed:
            return 1
        _warn_of_edits(plan, transaction)
        _snapshot_code(transaction, transaction.attempt)
        return transaction.attempt

    def _execution(
        self, plan: ExecutePlan, transaction: Transaction, inputs: PinnedInputs, builders: BuilderSet
    ) -> Execution:
        folder = instance_folder(transaction, _table(transaction, plan), plan.new_instance_id)
        reopen(folder, kept=folder.artifacts)
        files.make_folder(folder.artifacts)
        if self.reuse_partial:
            _keep_earlier(_partial_folder(plan, transaction), transaction.workspace)
        transaction.checkpoints = CheckpointStore.open(
            transaction.workspace.checkpoints, ArtifactFolder(folder.artifacts), OwnerWatch(transaction).look
        )
        place = Workplace(
            transaction.checkpoints,
            folder.artifacts,
            transaction.progress,
            transaction,
            transaction.process_id,
        )
        return self.execution(plan, transaction, inputs, builders, place)

    def execution(
        self, plan: ExecutePlan, lookup: Lookup, inputs: PinnedInputs, builders: BuilderSet, place: Workplace
    ) -> Execution:
        """Return what the builders of this execution share, with the origins that they may reuse cells of."""
        origins = self._origins(plan, lookup)
        committed = next((origin for origin in origins if isinstance(origin, MaterializedOrigin)), None)
        return Execution(
            frame=DraftFrame(InstanceArtifacts(place.artifacts)),
            inputs=inputs.paths,
            content_inputs=inputs.contents,
            inputs_have_artifacts=inputs.have_artifacts,
            checkpoints=place.checkpoints,
            origins=origins,
            reuses_cells=not self.force_execute,
            progress=place.progress,
            owner=place.owner,
            process_id=place.process_id,
            primary_key=builders.index.primary_key,
            index_origin=committed if builders.index.is_row_wise else None,
        )

    def _origins(self, plan: ExecutePlan, lookup: Lookup) -> tuple[Origin, ...]:
        origins: list[Origin] = []
        if self.reuse_partial:
            origins.extend(_partial_origins(_partial_folder(plan, lookup)))
        if plan.origin is not None:
            origins.append(open_origin(lookup, plan.origin))
        return tuple(origins)

    # --- ends other than success ----------------------------------------------------------------------------------

    def abandon(self, plan: ExecutePlan, transaction: Transaction) -> tuple[Tidying, ...]:
        """Keep what was computed in the temporary instance's folder `partial/`; drop the rest."""
        layout, workspace = transaction.layout, transaction.workspace
        created = plan.creates[0].location
        steps = []
        if workspace.checkpoints.is_dir() and any(workspace.checkpoints.iterdir()):
            target = f"{plan.temporary_folder}/partial"
            partial = layout.relative(workspace.partial)
            steps = [
                Tidying(TidyingAction.MOVE_FOLDER, f"{created}/artifacts", f"{partial}/artifacts"),
                Tidying(TidyingAction.REPLACE_FOLDER, partial, target),
            ]
        return (*steps, remove(created), *transaction.clean_workspace())

    def materialize_partial(self, plan: ExecutePlan, transaction: Transaction) -> Changes:
        """Return what makes an unfinished execution an instance, with nulls in the cells never computed."""
        self._pin_unless_done(plan, transaction)
        inputs = PinnedInputs(transaction, plan.inputs)
        sources = _last_sources(transaction)
        documents = read_documents(pinned_builders(transaction))
        builders = check_builders(plan.table_name, documents, inputs, sources.modules)
        execution = self._execution(plan, transaction, inputs, builders)
        restore_builders(execution, [unloaded_builder(spec, sources) for spec in builders.specs])
        return Assembly(transaction, plan, execution, inputs).materialize(success=False)


def _check_variables(places: Mapping[str, str]) -> None:
    for name, place in places.items():
        if name not in os.environ:
            raise TVBuilderError(f"{place}: the environment variable {name} is not set; set it and run again.")


def _partial_folder(plan: ExecutePlan, lookup: Lookup) -> Path:
    return files.unlinked(InstanceFolder(lookup.layout.absolute(plan.temporary_folder)).partial)


def _partial_origins(partial: Path) -> Iterator[PartialOrigin]:
    """Yield what runs that were reverted had computed, the newest first."""
    while (partial / CHECKPOINTS).is_dir():
        yield PartialOrigin(partial / CHECKPOINTS, partial / ARTIFACTS)
        partial = partial / EARLIER


def _keep_earlier(partial: Path, workspace: ProcessFolder) -> None:
    """Let what this run may reuse be a part of what it leaves, so that a second failure does not cost it."""
    if partial.is_dir() and not workspace.earlier.is_dir():
        files.remove_tree(workspace.linking)
        files.make_folder(workspace.root)
        files.link_tree(partial, workspace.linking)
        files.make_folder(workspace.partial)
        files.replace(workspace.linking, workspace.earlier)


def open_origin(lookup: Lookup, row_id: int) -> MaterializedOrigin:
    """Return a committed instance as an origin."""
    instance = lookup.contents.instance_by_row(row_id)
    assert instance is not None
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
        raise TVFileError(f"A file of the origin is missing ({error.filename}); verify() tells all.") from error


def _prepare(builders: BuilderSet, code: CodeSnapshot, sources: Sources) -> list[PreparedBuilder]:
    return [load_builder(spec, code, sources) for spec in builders.specs]


def load_builder(spec: BuilderSpec, code: CodeSnapshot, sources: Sources) -> PreparedBuilder:
    """Return a builder that can be run; what its module raises when it is imported is a `FunctionError`."""
    try:
        function = builder_function(spec, code)
    except TableVaultError:
        raise
    except BaseException as error:
        add_note(error, f"raised while module '{spec.code_module}' of builder '{spec.name}' was imported")
        raise FunctionError(error) from error
    return replace(unloaded_builder(spec, sources), function=function)


def unloaded_builder(spec: BuilderSpec, sources: Sources) -> PreparedBuilder:
    """Return a builder of which everything is known, but whose function cannot be called."""
    index = sources.index if spec.is_custom else CodeIndex.of_built_ins()
    version = builder_version(spec, index.version(spec.code_module, spec.python_function))
    parts = index.parts(spec.code_module, spec.python_function)
    packages = installed_versions(index.packages(spec.code_module, spec.python_function))
    code_parts = {".".join(name): digest for name, digest in parts.items()}
    return PreparedBuilder(spec, _never_called, version, code_parts, packages)


def _never_called(*_: object, **__: object) -> object:
    raise TVBuilderError("A function that was not loaded was called.")


def _table(lookup: Lookup, plan: ExecutePlan) -> TableRecord:
    table = lookup.contents.table_by_id(plan.table_id)
    assert table is not None
    return table


def _temporary(lookup: Lookup, plan: ExecutePlan) -> InstanceRecord:
    instance = lookup.contents.instance_by_row(plan.temporary)
    assert instance is not None
    return instance


def _shared_lock(draft: Drafting) -> Callable[[TableRecord, InstanceRecord], None]:
    def lock(table: TableRecord, instance: InstanceRecord) -> None:
        draft.lock_shared(lock_on_instance(names.fold(table.name), instance.instance_id))

    return lock


def _snapshot_code(transaction: Transaction, attempt: int) -> None:
    """Keep the modules as they are now; the folder is there only when it is complete."""
    folder, unfinished = transaction.workspace.code(attempt), transaction.workspace.unfinished_code
    files.remove_tree(folder)

    def copy(modules: dict[str, Path]) -> None:
        files.remove_tree(unfinished)
        files.make_folder(unfinished)
        for name, path in modules.items():
            with files.plain_file_expected(path):
                shutil.copyfile(path, unfinished / f"{name}.py")

    transaction.with_files(transaction.code_modules, copy)
    find_local_code(read_sources(unfinished)).write(unfinished / FOLDER)
    files.fsync_tree(unfinished)
    files.make_folder(folder.parent)
    files.replace(unfinished, folder)


def _last_sources(transaction: Transaction) -> Sources:
    attempts = sorted(transaction.workspace_of(transaction.serial).codes.iterdir(), key=lambda path: int(path.name))
    return Sources.of_snapshot(attempts[-1])


def _warn_of_edits(plan: ExecutePlan, transaction: Transaction) -> None:
    edited = edited_builders(plan, transaction)
    if edited:
        warn(
            f"Builder files of '{plan.instance_id}' of table '{plan.table_name}' were edited while the process was "
            f"paused ({', '.join(edited)}); it goes on with those of its start. Stop it to use the new ones."
        )
