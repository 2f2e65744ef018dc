"""Plans that processes record before they begin, one class per kind of work.

The catalog stores plans as JSON. Each operation lists its plan classes, so that a stored plan of another class counts
as damage.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Any

import msgspec

from tablevault.values.changes import ImportedInstances
from tablevault.values.contents import JsonObject
from tablevault.values.processes import Creation, Plan


class Unplanned(Plan, frozen=True, kw_only=True, tag="unplanned"):
    """Plan of a process that was refused before planning, or imported."""


class UnchangedPlan(Plan, frozen=True, kw_only=True, tag="unchanged"):
    """No-op, because the result of the call already exists."""


# --- tables -------------------------------------------------------------------------------------------------------


class CreateTablePlan(Plan, frozen=True, kw_only=True, tag="create table"):
    """Creation of a table."""

    folder: str
    """Name of the table's folder in the vault."""


class RenameTablePlan(Plan, frozen=True, kw_only=True, tag="rename table"):
    """Renaming of a table."""

    table_id: int
    source: str
    """Current name of the table's folder."""
    target: str
    """New name of the table's folder."""
    index_builders: tuple[str, ...]
    """Folders of the temporary instances whose IndexBuilder is renamed with the table."""


class DeleteTablePlan(Plan, frozen=True, kw_only=True, tag="delete table"):
    """Deletion of a table."""

    table_id: int
    folder: str
    """Name of the table's folder in the vault."""


# --- instances ----------------------------------------------------------------------------------------------------


class CreateInstancePlan(Plan, frozen=True, kw_only=True, tag="create instance"):
    """Creation of a temporary instance."""

    table_id: int
    version: str
    folder: str
    """Name of the instance's folder in the table's folder."""
    origin: int | None
    """Row id of the instance whose builders are copied."""
    has_builders: bool = False
    """Whether the call provides builders, which are staged."""


class DeleteInstancePlan(Plan, frozen=True, kw_only=True, tag="delete instance"):
    """Deletion of an instance."""

    row_id: int
    folder: str
    """Path of the instance's folder."""
    table_folder: str
    """Path of the table's folder."""
    unlink: bool | None = None
    """Whether the table's link points to the instance's artifacts; `None` if the table cannot have a link."""


class PinnedInput(msgspec.Struct, frozen=True, array_like=True):
    """A referenced table and instance, resolved to one materialized instance."""

    table: str
    """Key of the table's name."""
    instance: str | None
    """As written in the reference; `None` for the newest."""
    row_id: int


class BuildPlan(Plan, frozen=True, kw_only=True):
    """Common fields of plans that run builders."""

    table_id: int
    new_instance_id: str
    """Id of the materialized instance, and name of its folder."""
    inputs: tuple[PinnedInput, ...]
    origin: int | None
    """Row id of the instance whose cells may be reused."""


class ExecutePlan(BuildPlan, frozen=True, kw_only=True, tag="execute"):
    """Execution of a temporary instance's builders."""

    temporary: int
    """Row id of the temporary instance."""
    temporary_folder: str
    """Path of its folder."""
    variables: Mapping[str, str] = {}
    """Required environment variables, each with its place in a builder."""


class RetryPlan(BuildPlan, frozen=True, kw_only=True, tag="retry failed"):
    """Retry of the failed, skipped and missing rows of the origin, a materialized instance."""

    version: str


class Dependency(msgspec.Struct, frozen=True, array_like=True):
    """An instance from which a written frame was made."""

    table_name: str
    instance_id: str
    row_id: int


class WriteInstancePlan(Plan, frozen=True, kw_only=True, tag="write instance"):
    """Writing of a given frame to a temporary instance."""

    table_id: int
    temporary: int
    """Row id of the temporary instance."""
    temporary_folder: str
    """Path of its folder."""
    new_instance_id: str
    """Id of the materialized instance, and name of its folder."""
    inputs: tuple[Dependency, ...]


class WritePlan(Plan, frozen=True, kw_only=True, tag="write"):
    """Writing of a given frame to a table, as the instance and folder `instance_id`."""

    version: str
    table_id: int
    inputs: tuple[Dependency, ...]


class WriteTablePlan(Plan, frozen=True, kw_only=True, tag="write table"):
    """Writing of a given frame to a new table."""

    version: str
    table_folder: str
    """Name of the table's folder in the vault."""
    inputs: tuple[Dependency, ...]


# --- tags ---------------------------------------------------------------------------------------------------------


class TaggedInstance(msgspec.Struct, frozen=True, array_like=True):
    """An instance to tag."""

    table_id: int
    table_name: str
    row_id: int
    instance_id: str
    moved_from: str = ""
    """Id of the instance of the same table from which the tag moves."""
    has_lost_artifacts: bool = False
    """Whether its artifacts were already removed."""


class CreateTagPlan(Plan, frozen=True, kw_only=True, tag="create tag"):
    """Tagging of instances, one per table; `table_name` is empty if there are several."""

    instances: tuple[TaggedInstance, ...]

    def facts(self) -> JsonObject:
        """Return the tagged instances, and those from which the tag moved, by table."""
        moved = {item.table_name: item.moved_from for item in self.instances if item.moved_from}
        tagged = {item.table_name: item.instance_id for item in self.instances}
        return {"tagged": tagged, **({"moved_from": moved} if moved else {})}


class DeleteTagPlan(Plan, frozen=True, kw_only=True, tag="delete tag"):
    """Deletion of a tag."""

    table_ids: tuple[int, ...]
    """Ids of the tables that lose it."""


# --- builder files and code modules -------------------------------------------------------------------------------


class CreateBuilderFilesPlan(Plan, frozen=True, kw_only=True, tag="create builder files"):
    """Creation or replacement of builder files."""

    builders: tuple[str, ...]
    """Names of the builders to write."""
    folder: str
    """Path of the folder of builder files."""
    wanted: str
    """Name of the builder to copy; empty for all builders of a folder."""


class DeleteBuilderFilePlan(Plan, frozen=True, kw_only=True, tag="delete builder file"):
    """Deletion of a builder file."""

    path: str


class CreateCodeModulesPlan(Plan, frozen=True, kw_only=True, tag="create code modules"):
    """Creation or replacement of code modules."""

    modules: tuple[str, ...]
    """Names of the modules to write."""


class DeleteCodeModulePlan(Plan, frozen=True, kw_only=True, tag="delete code module"):
    """Deletion of a code module."""

    module: str


# --- definitions --------------------------------------------------------------------------------------------------


class RunPlan(Plan, frozen=True, kw_only=True, tag="run"):
    """Application of a source and execution of its tables, planned once it is applied."""

    is_applied: bool = False
    """Whether the vault already had the whole source."""


class AppliedTable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Changes to one table."""

    name: str
    table_id: int | None = None
    """`None` for a new table."""
    table_folder: str = ""
    """Folder name of a new table."""
    creates_instance: bool = False
    """Whether the temporary instance is created."""
    instance_folder: str = ""
    """Path of the temporary instance's folder; empty if nothing in it changes."""
    origin: int | None = None
    """Row id of the instance whose builders are copied to the new temporary instance."""
    written: tuple[str, ...] = ()
    """Names of new and changed builders."""
    removed: tuple[str, ...] = ()
    """Names of removed builders."""


class AppliedPlan(Plan, frozen=True, kw_only=True, tag="apply"):
    """Application of new and changed builders, modules, tables and services."""

    modules: tuple[str, ...]
    """Names of the modules to write."""
    tables: tuple[AppliedTable, ...]
    services: tuple[str, ...] = ()
    """Names of the services to set."""


# --- garbage collection -------------------------------------------------------------------------------------------


class RemovedInstance(msgspec.Struct, frozen=True, array_like=True):
    """An instance to remove."""

    row_id: int
    folder: str
    """Path of its folder."""
    archived: str
    """Name under which its metadata is archived."""
    link: str = ""
    """Path of the table's link to its artifacts; empty if the link points elsewhere."""


class RemovalPlan(Plan, frozen=True, kw_only=True, tag="gc"):
    """Removal of instances, leftovers and worker logs."""

    instances: tuple[RemovedInstance, ...]
    paths: tuple[str, ...]
    left: Mapping[str, str]
    """Retained instances and paths of the call, each with the reason."""

    def facts(self) -> JsonObject:
        """Return the retained items."""
        return {"left": dict(self.left)}


# --- imports ------------------------------------------------------------------------------------------------------


class ImportSource(msgspec.Struct, frozen=True, array_like=True):
    """An instance in the source vault of an import."""

    row_id: int
    instance_id: str


class ImportPlan(Plan, frozen=True, kw_only=True, tag="import"):
    """Import of another vault's instances."""

    content: ImportedInstances
    sources: tuple[ImportSource, ...]
    """Source of each instance of the content."""
    vault_id: str
    """Id of the source vault."""
    skipped: tuple[str, ...]
    """Ids of instances that already exist here."""
    warnings: tuple[str, ...]

    def facts(self) -> JsonObject:
        """Return the source vault and the imported instances."""
        found = [item.instance_id for item in self.content.instances if not item.is_hidden]
        return {"vault_id": self.vault_id, "imported": found, "skipped": list(self.skipped)}


# --- steps ----------------------------------------------------------------------------------------------------------


class PlannedStep(msgspec.Struct, frozen=True, array_like=True):
    """Step of a refresh for one table and version."""

    table_id: int
    table_name: str
    """Its name at the start."""
    version: str
    action: str
    """`execute`, `look` or `skip`."""
    after: tuple[str, ...]
    """Tables that this one reads and whose steps run earlier; `t(v2)` for another version."""


class StepsPlan(Plan, frozen=True, kw_only=True, tag="steps"):
    """Sequential execution of tables."""

    named: tuple[int, ...] | None
    """Ids of the tables named in the call; `None` for all of its version."""
    steps: tuple[PlannedStep, ...]
    """Steps in execution order."""


# --- processes ----------------------------------------------------------------------------------------------------


class ServicePlan(Plan, frozen=True, kw_only=True, tag="service"):
    """Change of a service's limits."""


class StopPlan(Plan, frozen=True, kw_only=True, tag="stop"):
    """Stop of another process."""

    serial: int
    """Number of the process to stop."""


# --- as the catalog keeps them ------------------------------------------------------------------------------------

_KINDS: dict[str, tuple[type[Plan], ...]] = {
    "apply": (AppliedPlan, UnchangedPlan),
    "create_builder_file": (CreateBuilderFilesPlan,),
    "create_code_module": (CreateCodeModulesPlan,),
    "create_instance": (CreateInstancePlan,),
    "create_table": (CreateTablePlan, UnchangedPlan),
    "create_tag": (CreateTagPlan, UnchangedPlan),
    "delete_builder_file": (DeleteBuilderFilePlan,),
    "delete_code_module": (DeleteCodeModulePlan,),
    "delete_instance": (DeleteInstancePlan,),
    "delete_table": (DeleteTablePlan,),
    "delete_tag": (DeleteTagPlan,),
    "execute_instance": (ExecutePlan,),
    "gc": (RemovalPlan,),
    "import_instances": (ImportPlan,),
    "refresh": (StepsPlan,),
    "rename_table": (RenameTablePlan,),
    "retry_failed": (RetryPlan, UnchangedPlan),
    "run": (RunPlan,),
    "set_service": (ServicePlan,),
    "stop_process": (StopPlan,),
    "write": (WritePlan, WriteTablePlan, UnchangedPlan),
    "write_instance": (WriteInstancePlan,),
}
"""Plan classes of each operation, besides `Unplanned`."""

_DECODERS = {operation: msgspec.json.Decoder(reduce(or_, kinds, Unplanned)) for operation, kinds in _KINDS.items()}
_UNKNOWN = msgspec.json.Decoder(Unplanned)
"""Decodes plans of other versions' operations, whose processes have ended."""
_ANY = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


def encode_plan(plan: Plan) -> str:
    """Encode a plan for the catalog, without `creates`, which has its own table."""
    return _encode(msgspec.structs.replace(plan, creates=())).decode()


def decode_plan(operation: str, text: str, creates: tuple[Creation, ...] = ()) -> Plan:
    """Decode a recorded plan.

    Parameters
    ----------
    operation
        The operation that made it.
    text
        The plan as `encode_plan` or an earlier version recorded it.
    creates
        The creations of the process; plans of earlier versions contain their own.

    Raises
    ------
    ValueError
        If the text is not a plan of this operation.
    """
    if names_its_creations(text):
        return _earlier_plan(operation, _ANY.decode(text))
    plan: Plan = _DECODERS.get(operation, _UNKNOWN).decode(text)
    return msgspec.structs.replace(plan, creates=creates) if creates else plan


def names_its_creations(text: str) -> bool:
    """Return whether a plan is of an earlier version, whose plans contain `creates`."""
    # The substring test avoids decoding most long plans twice.
    return '"data"' in text and "data" in _ANY.decode(text)


def _earlier_plan(operation: str, recorded: JsonObject) -> Plan:
    """Return a plan recorded as common fields and a dict `data`."""
    data: JsonObject = dict(recorded["data"])
    common = {
        "table_name": recorded["table_name"],
        "instance_id": recorded["instance_id"],
        "locks": [_earlier_lock(lock) for lock in recorded["locks"]],
    }
    if operation not in _KINDS or not data:
        return msgspec.convert(common, type=Unplanned)
    own_id = str(data.pop("instance_id", recorded["instance_id"]))
    locations = [str(location) for location in data.pop("creates", ())]
    creates = [{"location": path, "instance_id": own_id if "/" in path else ""} for path in locations]
    renamed = {"from": "source", "to": "target"}
    facts = {renamed.get(name, name): value for name, value in data.items()}
    return msgspec.convert(
        {**facts, "new_instance_id": own_id, **common, "creates": creates}, type=_earlier_kind(operation, data)
    )


def _earlier_kind(operation: str, data: JsonObject) -> type[Plan]:
    if "exists" in data or "unchanged" in data:
        return UnchangedPlan
    return WriteTablePlan if operation == "write" and "table_folder" in data else _KINDS[operation][0]


def _earlier_lock(lock: Any) -> JsonObject:
    """Return a lock recorded as a pair or, by an import, as an object."""
    if isinstance(lock, dict):
        return lock
    resource, exclusive = lock
    return {"resource": resource, "exclusive": exclusive}
