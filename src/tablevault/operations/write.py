"""Writing of caller-supplied frames, into a temporary instance or directly into a table."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import ClassVar, TypeVar

import xxhash

from tablevault import names
from tablevault.builders.document import read_document
from tablevault.errors import TVArgumentError, TVArtifactError, TVImplementationError, TVProcessError, TVTableError
from tablevault.execution.frame import DraftFrame
from tablevault.execution.primary_keys import check_primary_key
from tablevault.execution.provenance import InputFacts, Provenance, read_provenance
from tablevault.layout import BUILDER_SUFFIX, InstanceFolder
from tablevault.names import index_builder_name
from tablevault.operations.base import PAYLOAD, Operation, instance_folder, remove, remove_set_aside
from tablevault.operations.materialize import (
    ArtifactRemedies,
    InstanceFacts,
    artifact_link,
    check_artifacts,
    column_records,
    new_instance_id,
    reopen,
    seal_instance,
    undeclared_columns,
)
from tablevault.operations.session import Draft, Session
from tablevault.operations.tables import make_table_folder
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder, normalise_name
from tablevault.storage.canonical import canonical
from tablevault.storage.dtypes import ColumnType, Kind, build_column, parse_dtype
from tablevault.storage.frames import FrameData, FrameRecord, read_frame, table_from_frame, whole_frame, write_frame
from tablevault.values.changes import (
    Changes,
    MaterializedInstance,
    NewTable,
    Read,
    Tidying,
    WrittenInstance,
)
from tablevault.values.contents import ArtifactRecord, InstanceRecord, JsonObject, TableRecord
from tablevault.values.lock_names import lock_on_artifacts, lock_on_instance, lock_on_table, lock_on_version
from tablevault.values.plans import Dependency, UnchangedPlan, WriteInstancePlan, WritePlan, WriteTablePlan
from tablevault.values.processes import Creation, Plan

PlanType = TypeVar("PlanType", bound=Plan)


@dataclass(frozen=True)
class GivenFrame:
    """A frame given by the caller, with the dtypes of its columns."""

    frame: object
    dtypes: Mapping[str, str] | None

    @cached_property
    def data(self) -> FrameData:
        """The frame in the form to store.

        Raises `TVTableError` if it cannot be stored, `TVArgumentError` for wrong dtypes.
        """
        return _with_normal_names(table_from_frame(self.frame, self._declared_types()))

    def digest(self) -> JsonObject:
        """Return a digest of the frame's content, regardless of dtypes."""
        data = self.data if not self.dtypes else table_from_frame(self.frame, {})
        return {"rows": len(data), "columns": list(data.types), "xxh3": content_digest(data)}

    def _declared_types(self) -> dict[str, ColumnType]:
        if self.dtypes is None:
            return {}
        if not isinstance(self.dtypes, Mapping):
            raise TVArgumentError("dtypes is a dict of column name -> dtype.")
        types = {}
        for column, dtype in self.dtypes.items():
            if not isinstance(dtype, str):
                kind = type(dtype).__name__
                raise TVArgumentError(f"The dtype of column '{column}' must be its name as a str, not {kind}.")
            try:
                column_type = parse_dtype(dtype)
            except (TypeError, ValueError) as error:
                raise TVArgumentError(f"The dtype of column '{column}' is wrong: {error}") from error
            if column_type is not None:
                types[column] = column_type
        return types


@dataclass(frozen=True)
class FrameOperation(Operation[PlanType]):
    """An operation whose payload is a frame, staged in the folder of its new instance."""

    @property
    @abstractmethod
    def _payload(self) -> object:
        """The frame of this call; `None` in a resumed process."""

    @property
    @abstractmethod
    def _dtypes(self) -> Mapping[str, str] | None:
        """The dtypes of this call."""

    @abstractmethod
    def _folder(self, plan: PlanType, session: Session) -> InstanceFolder:
        """Return the folder of the new instance."""

    @cached_property
    def _given(self) -> GivenFrame:
        if self._payload is None:
            payload = next(argument for argument in self.payload_arguments())
            raise TVArgumentError(f"{self.name} needs a frame: {payload} is None.")
        return GivenFrame(self._payload, self._dtypes)

    def digest(self, value: object) -> JsonObject:
        """Return the recorded form of the frame."""
        return self._given.digest()

    def is_resumable(self, plan: PlanType, session: Session) -> bool:
        """Return whether the frame is given again or was completely staged."""
        if self._payload is not None:
            return True
        folder = self._folder(plan, session)
        return any(whole_frame(place.frame) is not None for place in (folder, *folder.set_aside()))

    def _stage(self, folder: InstanceFolder, session: Session) -> tuple[FrameRecord, FrameData]:
        """Write the frame unless an earlier attempt did; return its record and content.

        It is durable on return if the process can be paused and continued without the caller's frame.
        """
        reopen(folder, kept=folder.frame)
        stored = whole_frame(folder.frame)
        if stored is None:
            files.remove_tree(folder.root)
            files.make_folder(folder.root)
            stored = write_frame(folder.frame, self._given.data)
            if session.user_given:
                files.sync_new_file(folder.frame)
        folder.artifacts.mkdir()
        return stored, read_frame(folder.frame) if self._payload is None else self._given.data

    def _provenance(
        self, session: Session, inputs: Sequence[Dependency], primary_key: tuple[str, ...] = ()
    ) -> Provenance:
        return Provenance(
            process_id=session.process_id,
            operation=self.name,
            author=session.author,
            finished_at=datetime.now(UTC).isoformat(),
            primary_key=primary_key,
            dependencies=tuple(InputFacts(item.table_name, item.instance_id, item.row_id) for item in inputs),
        )


@dataclass(frozen=True)
class WriteInstance(FrameOperation[WriteInstancePlan]):
    """Materializes a temporary instance from a given frame."""

    name: ClassVar[str] = "write_instance"
    has_partial_result: ClassVar[bool] = True

    table_df: object = field(metadata=PAYLOAD)
    table_name: str
    version: str = names.DEFAULT_VERSION
    dependencies: Sequence[tuple[str, str]] | None = None
    dtypes: Mapping[str, str] | None = None

    def plan(self, draft: Draft) -> WriteInstancePlan:
        """Check the frame and choose its destination."""
        version = names.check_version(self.version)
        temporary_id = names.temporary_instance_id(version)
        key = names.fold(str(self.table_name))
        draft.lock_exclusive(lock_on_instance(key, temporary_id))
        table, temporary = draft.table_and_temporary(self.table_name, version)
        if not temporary.external_edit:
            raise TVArgumentError(
                f"Instance '{temporary_id}' of table '{table.name}' was created for builders. To write a frame, delete "
                "it, and create one with external_edit=True."
            )
        inputs = find_dependencies(draft, self.dependencies)
        data = self._given.data
        self._check_artifacts(draft, table, temporary, data)
        check_primary_key(_primary_key(draft.lookup, table, temporary, data), data)
        if artifact_columns(data) and not table.allow_multiple_artifacts:
            draft.lock_exclusive(lock_on_artifacts(key))
        instance_id = new_instance_id(version)
        path = draft.lookup.layout.relative(draft.lookup.table_folder(table) / instance_id)
        return WriteInstancePlan(
            table_name=table.name,
            instance_id=temporary_id,
            creates=(Creation(path, instance_id),),
            table_id=table.table_id,
            temporary=temporary.row_id,
            temporary_folder=draft.lookup.layout.relative(draft.lookup.folder(table, temporary).root),
            new_instance_id=instance_id,
            inputs=inputs,
        )

    def work(self, plan: WriteInstancePlan, session: Session) -> Changes:
        """Write the frame and copy its artifacts."""
        return self._make_instance(plan, session, success=True)

    def _make_instance(self, plan: WriteInstancePlan, session: Session, success: bool) -> Changes:
        table = session.lookup.table_by_id(plan.table_id)
        folder = instance_folder(session.lookup, table, plan.new_instance_id)
        stored, data = self._stage(folder, session)
        records = self._copy_artifacts(plan, session, data)
        facts = InstanceFacts(table.name, plan.new_instance_id, len(data), success)
        manifest = seal_instance(session.lookup, folder, stored, records, self._provenance(session, plan.inputs), facts)
        shares = success and not table.allow_multiple_artifacts
        change = MaterializedInstance(
            plan.temporary,
            plan.new_instance_id,
            plan.new_instance_id,
            success,
            len(data),
            column_records(data),
            manifest,
            reads_of(plan.inputs),
            replaces_artifacts=shares,
        )
        steps: list[Tidying] = [remove(plan.temporary_folder), *remove_set_aside(session.lookup, folder)]
        if shares:
            steps.append(artifact_link(session.lookup, table, plan.new_instance_id, bool(records)))
        return Changes((change,), tuple(steps))

    def materialize_partial(self, plan: WriteInstancePlan, session: Session) -> Changes:
        """Return the changes that materialize a completely staged frame, marked as unsuccessful."""
        if not self.is_resumable(plan, session):
            raise TVProcessError(
                f"The frame of process '{session.process_id}' was not staged completely, so there is nothing to "
                "materialize; stop it without materialize=True."
            )
        return self._make_instance(plan, session, success=False)

    @property
    def _payload(self) -> object:
        return self.table_df

    @property
    def _dtypes(self) -> Mapping[str, str] | None:
        return self.dtypes

    def _folder(self, plan: WriteInstancePlan, session: Session) -> InstanceFolder:
        return instance_folder(session.lookup, session.lookup.table_by_id(plan.table_id), plan.new_instance_id)

    def _check_artifacts(self, draft: Draft, table: TableRecord, temporary: InstanceRecord, data: FrameData) -> None:
        named: dict[str, tuple[str, int]] = {}
        wrong: list[str] = []
        path, columns = draft.lookup.folder(table, temporary).artifacts, artifact_columns(data)
        folder = ArtifactFolder(path)
        for column in columns:
            for row, cell in enumerate(data.table.column(column).to_pylist()):
                try:
                    if cell is not None:
                        named[folder.checked_name(cell)] = (column, row)
                except ValueError as error:
                    wrong.append(f"column '{column}', row {row}: {error}")
        texts = {name: data.table.column(name) for name in data.types if name not in columns}
        undeclared, unnamed = undeclared_columns(texts, sorted(folder.unnamed(named)))
        remedies = ArtifactRemedies(
            f"Write every file that a cell names into {path}.",
            "Name every file of the artifact folder in an artifact_string column, or remove it.",
        )
        check_artifacts(sorted(folder.missing(named)), unnamed, named, remedies, [*undeclared, *wrong])

    def _copy_artifacts(self, plan: WriteInstancePlan, session: Session, data: FrameData) -> list[ArtifactRecord]:
        source = InstanceFolder(session.lookup.layout.absolute(plan.temporary_folder)).artifacts
        target = InstanceFolder(session.lookup.layout.absolute(plan.created.location)).artifacts
        artifacts = InstanceArtifacts(target)
        frame = DraftFrame(artifacts)
        for name, column_type in data.types.items():
            frame.put(name, data.table.column(name), column_type)
        names = sorted(frame.artifact_names())
        files.make_folder(target)
        commits = artifacts.commits
        for name in names:
            files.make_folder((target / name).parent)
            files.copy_file(source / name, target / name)
        records = commits.describe(names)
        for name, record in zip(names, records, strict=True):
            if record is None:
                raise TVArtifactError(f"Artifact '{name}' disappeared while it was copied; write it again.")
        return [record for record in records if record is not None]


@dataclass(frozen=True)
class Write(FrameOperation[WritePlan | WriteTablePlan | UnchangedPlan]):
    """Writes a frame as a table's newest instance, creating the table if it is missing."""

    name: ClassVar[str] = "write"

    table_name: str
    frame: object = field(metadata=PAYLOAD)
    version: str = names.DEFAULT_VERSION
    primary_key: Sequence[str] | None = None
    dtypes: Mapping[str, str] | None = None
    dependencies: Sequence[tuple[str, str]] | None = None
    description: str = ""
    skip_unchanged: bool = True

    def plan(self, draft: Draft) -> WritePlan | WriteTablePlan | UnchangedPlan:
        """Check the frame, and find the table or choose its folder."""
        version = names.check_version(self.version)
        names.check_text("description", self.description)
        table = draft.lookup.contents.table(str(self.table_name))
        if table is None:
            names.check_table_name(self.table_name)
            draft.lock_exclusive(lock_on_table(names.fold(self.table_name)))
        else:
            draft.lock_exclusive(lock_on_version(names.fold(table.name), version))
            table = draft.lookup.table(self.table_name)
            draft.lookup.check_version_is_unique(table, version)
        inputs = find_dependencies(draft, self.dependencies)
        data = self._given.data
        self._check(data)
        newest = (
            draft.lookup.contents.newest(table.table_id, version) if table is not None and self.skip_unchanged else None
        )
        if table is not None and newest is not None:
            draft.lock_shared(lock_on_instance(names.fold(table.name), newest.instance_id))
            if self._equals(draft.lookup, table, newest, data):
                return UnchangedPlan(table_name=table.name, instance_id=newest.instance_id)
        return self._planned(draft, table, version, inputs)

    def _planned(
        self, draft: Draft, table: TableRecord | None, version: str, inputs: tuple[Dependency, ...]
    ) -> WritePlan | WriteTablePlan:
        instance_id = new_instance_id(version)
        if table is None:
            folder = draft.free_folder(draft.lookup.layout.root, self.table_name)
            return WriteTablePlan(
                table_name=self.table_name,
                instance_id=instance_id,
                creates=(Creation(folder),),
                version=version,
                table_folder=folder,
                inputs=inputs,
            )
        path = draft.lookup.layout.relative(draft.lookup.table_folder(table) / instance_id)
        return WritePlan(
            table_name=table.name,
            instance_id=instance_id,
            creates=(Creation(path, instance_id),),
            version=version,
            table_id=table.table_id,
            inputs=inputs,
        )

    def work(self, plan: WritePlan | WriteTablePlan | UnchangedPlan, session: Session) -> Changes:
        """Write the frame, and create its table's folder if it is new."""
        if isinstance(plan, UnchangedPlan):
            return Changes()
        folder = self._folder(plan, session)
        stored, data = self._stage(folder, session)
        provenance = self._provenance(session, plan.inputs, self._key)
        manifest = seal_instance(
            session.lookup, folder, stored, (), provenance, InstanceFacts(plan.table_name, plan.instance_id, len(data))
        )
        table = None if isinstance(plan, WriteTablePlan) else session.lookup.table_by_id(plan.table_id)
        shares = table is None or not table.allow_multiple_artifacts
        change = WrittenInstance(
            plan.table_name,
            plan.version,
            plan.instance_id,
            plan.instance_id,
            len(data),
            column_records(data),
            manifest,
            self.description,
            reads_of(plan.inputs),
            replaces_artifacts=shares,
        )
        if isinstance(plan, WriteTablePlan):
            new = NewTable(plan.table_name, plan.table_folder, False, False, "")
            make_table_folder(session.lookup.layout.table(new.folder), new)
            return Changes((new, change), tuple(remove_set_aside(session.lookup, folder)))
        links = [artifact_link(session.lookup, table, plan.instance_id, False)] if table is not None and shares else []
        return Changes((change,), (*links, *remove_set_aside(session.lookup, folder)))

    def is_resumable(self, plan: WritePlan | WriteTablePlan | UnchangedPlan, session: Session) -> bool:
        """Return whether the frame is given again, was completely staged, or is not needed."""
        return isinstance(plan, UnchangedPlan) or super().is_resumable(plan, session)

    @property
    def _payload(self) -> object:
        return self.frame

    @property
    def _dtypes(self) -> Mapping[str, str] | None:
        return self.dtypes

    def _folder(self, plan: WritePlan | WriteTablePlan | UnchangedPlan, session: Session) -> InstanceFolder:
        match plan:
            case WritePlan():
                return instance_folder(session.lookup, session.lookup.table_by_id(plan.table_id), plan.instance_id)
            case WriteTablePlan():
                parent = session.lookup.layout.table(plan.table_folder)
                files.make_folder(parent)
                return InstanceFolder(parent / plan.instance_id)
            case _:
                raise TVImplementationError("An unchanged frame has no folder.")

    @property
    def _key(self) -> tuple[str, ...]:
        return tuple(self.primary_key or ())

    def _check(self, data: FrameData) -> None:
        for column in self._key:
            if column not in data.types:
                raise TVTableError(
                    f"The primary key column '{column}' is not in the frame{names.nearest(column, data.types)}"
                )
        check_primary_key(self._key, data)
        named = artifact_columns(data)
        if named:
            raise TVTableError(
                f"Column '{named[0]}' names artifacts, but write() cannot store their files. Create an instance with "
                "external_edit=True, put the files into its artifact folder, and call write_instance."
            )

    def _equals(self, lookup: Lookup, table: TableRecord, newest: InstanceRecord, data: FrameData) -> bool:
        """Return whether an instance already has these rows, types and primary key."""
        if newest.row_count != len(data) or newest.columns != column_records(data):
            return False
        folder = lookup.folder(table, newest)
        stored = read_frame(folder.frame)
        return (
            dict(stored.types) == dict(data.types)
            and read_provenance(folder.provenance).primary_key == self._key
            and content_digest(_with_names_of(data, stored)) == content_digest(data)
        )


def _with_names_of(data: FrameData, stored: FrameData) -> FrameData:
    """Return a stored frame with the names inside list and map types of an equal frame; Parquet has its own."""
    table = stored.table.select(data.table.column_names)
    return FrameData(table.cast(data.table.schema), stored.types)


def content_digest(data: FrameData) -> str:
    """Return a digest of the values of a frame."""
    return xxhash.xxh3_128_hexdigest(canonical(data.table))


def find_dependencies(draft: Draft, given: object) -> tuple[Dependency, ...]:
    """Return the instances that a frame was made from, and lock them for reading."""
    pairs = given or ()
    if not isinstance(pairs, list | tuple) or not all(map(_is_pair, pairs)):
        raise TVArgumentError(f"dependencies must be a list of (table_name, instance_id), not {given!r:.100}.")
    found = []
    for table_name, instance_id in pairs:
        if instance_id:
            draft.lock_shared(lock_on_instance(names.fold(table_name), instance_id))
        table = draft.lookup.table(table_name)
        instance = draft.lookup.instance(table, instance_id) if instance_id else draft.lookup.newest(table, None)
        draft.lock_shared(lock_on_instance(names.fold(table.name), instance.instance_id))
        found.append(Dependency(table.name, instance.instance_id, instance.row_id))
    return tuple(found)


def reads_of(dependencies: Sequence[Dependency]) -> tuple[Read, ...]:
    """Return the catalog's records of a frame's dependencies."""
    return tuple(Read("*", "", item.row_id, "*") for item in dependencies)


def artifact_columns(data: FrameData) -> list[str]:
    """Return the names of the artifact columns."""
    return [name for name, column_type in data.types.items() if column_type.kind is Kind.ARTIFACT]


def _primary_key(lookup: Lookup, table: TableRecord, temporary: InstanceRecord, data: FrameData) -> tuple[str, ...]:
    """Return the primary key declared by the instance's index builder, if any."""
    path = lookup.builder_files(table, temporary).get(index_builder_name(table.name))
    if path is None:
        return ()
    document = read_document(files.read_text(path), f"{path.stem}{BUILDER_SUFFIX}")
    key = document.fields.get("primary_key") or ()
    columns = (key,) if isinstance(key, str) else tuple(str(column) for column in key)  # type: ignore[attr-defined]
    for column in columns:
        if column not in data.types:
            raise TVTableError(f"The primary key column '{column}' is not in the frame.")
    return columns


def _is_pair(item: object) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(part, str) for part in item)


def _with_normal_names(data: FrameData) -> FrameData:
    """Return a frame with normalized artifact names; invalid ones are left unchanged."""
    table = data.table
    for column in artifact_columns(data):
        place = table.schema.get_field_index(column)
        named = [_normal_name(cell) for cell in table.column(place).to_pylist()]
        table = table.set_column(place, table.schema.field(place), build_column(named, data.types[column])[0])
    return FrameData(table, data.types)


def _normal_name(cell: str | None) -> str | None:
    try:
        return None if cell is None else normalise_name(cell)
    except ValueError:
        return cell
