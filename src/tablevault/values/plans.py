"""Plans: one frozen class per kind of work that a process may record before it begins.

The catalog keeps a plan as JSON. An operation names the classes that its plans may have, so that a stored plan of
another kind is damage.
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
    """No plan: the process was refused before it had one, or was imported."""


class UnchangedPlan(Plan, frozen=True, kw_only=True, tag="unchanged"):
    """Nothing to do: the result of the call exists already."""


# --- tables -------------------------------------------------------------------------------------------------------


class CreateTablePlan(Plan, frozen=True, kw_only=True, tag="create table"):
    """A new table."""

    folder: str
    """Name of the table's folder in the vault."""


class RenameTablePlan(Plan, frozen=True, kw_only=True, tag="rename table"):
    """Another name for a table."""

    table_id: int
    source: str
    """Name of the table's folder so far."""
    target: str
    """Name of its folder from now on."""
    index_builders: tuple[str, ...]
    """Folders of the temporary instances whose IndexBuilder follows the table's name."""


class DeleteTablePlan(Plan, frozen=True, kw_only=True, tag="delete table"):
    """The end of a table."""

    table_id: int
    folder: str
    """Name of the table's folder in the vault."""


# --- instances ----------------------------------------------------------------------------------------------------


class CreateInstancePlan(Plan, frozen=True, kw_only=True, tag="create instance"):
    """A new temporary instance."""

    table_id: int
    version: str
    folder: str
    """Name of the instance's folder in the table's folder."""
    origin: int | None
    """Row id of the instance whose builders are copied."""
    has_builders: bool = False
    """Whether the call gives builders, which are staged."""


class DeleteInstancePlan(Plan, frozen=True, kw_only=True, tag="delete instance"):
    """The end of an instance."""

    row_id: int
    folder: str
    """Path of the instance's folder."""
    table_folder: str
    """Path of the table's folder."""
    unlink: bool | None = None
    """Whether the table's link leads to the artifacts of the instance; `None` if the table cannot have such a link."""


class PinnedInput(msgspec.Struct, frozen=True, array_like=True):
    """A table and instance that references name, resolved to one materialized instance."""

    table: str
    """Key of the table's name."""
    instance: str | None
    """As the reference writes it; `None` for the newest."""
    row_id: int


class BuildPlan(Plan, frozen=True, kw_only=True):
    """The fields of plans whose work is to run builders."""

    table_id: int
    new_instance_id: str
    """Id of the materialized instance, and name of its folder."""
    inputs: tuple[PinnedInput, ...]
    origin: int | None
    """Row id of the instance whose cells may be taken over."""


class ExecutePlan(BuildPlan, frozen=True, kw_only=True, tag="execute"):
    """An execution of the builders of a temporary instance."""

    temporary: int
    """Row id of the temporary instance."""
    temporary_folder: str
    """Path of its folder."""
    variables: Mapping[str, str] = {}
    """Environment variables that must be set, each with the place in a builder that names it."""


class RetryPlan(BuildPlan, frozen=True, kw_only=True, tag="retry failed"):
    """Another run of the failed, skipped and missing rows of a materialized instance, which is the origin."""

    version: str


class Dependency(msgspec.Struct, frozen=True, array_like=True):
    """An instance that a written frame was made from."""

    table_name: str
    instance_id: str
    row_id: int


class WriteInstancePlan(Plan, frozen=True, kw_only=True, tag="write instance"):
    """A given frame for a temporary instance."""

    table_id: int
    temporary: int
    """Row id of the temporary instance."""
    temporary_folder: str
    """Path of its folder."""
    new_instance_id: str
    """Id of the materialized instance, and name of its folder."""
    inputs: tuple[Dependency, ...]


class WritePlan(Plan, frozen=True, kw_only=True, tag="write"):
    """A given frame for a table; its instance is `instance_id`, which is also the name of its folder."""

    version: str
    table_id: int
    inputs: tuple[Dependency, ...]


class WriteTablePlan(Plan, frozen=True, kw_only=True, tag="write table"):
    """A given frame, and the table that appears with it."""

    version: str
    table_folder: str
    """Name of the table's folder in the vault."""
    inputs: tuple[Dependency, ...]


# --- tags ---------------------------------------------------------------------------------------------------------


class TaggedInstance(msgspec.Struct, frozen=True, array_like=True):
    """An instance that gets a tag."""

    table_id: int
    table_name: str
    row_id: int
    instance_id: str
    moved_from: str = ""
    """Id of the instance of the same table that the tag names so far."""
    has_lost_artifacts: bool = False
    """Whether its artifacts are gone already."""


class CreateTagPlan(Plan, frozen=True, kw_only=True, tag="create tag"):
    """A tag of instances, each of another table; the table is empty if there are several."""

    instances: tuple[TaggedInstance, ...]

    def facts(self) -> JsonObject:
        """Return the instances that were tagged, and those that the tag has left, by table."""
        moved = {item.table_name: item.moved_from for item in self.instances if item.moved_from}
        tagged = {item.table_name: item.instance_id for item in self.instances}
        return {"tagged": tagged, **({"moved_from": moved} if moved else {})}


class DeleteTagPlan(Plan, frozen=True, kw_only=True, tag="delete tag"):
    """The end of a tag."""

    table_ids: tuple[int, ...]
    """Numbers of the tables that lose it."""


# --- builder files and code modules -------------------------------------------------------------------------------


class CreateBuilderFilesPlan(Plan, frozen=True, kw_only=True, tag="create builder files"):
    """New or changed builder files."""

    builders: tuple[str, ...]
    """Names of the builders to write."""
    folder: str
    """Path of the folder of builder files."""
    wanted: str
    """Name of the one builder to copy; empty for all of a folder."""


class DeleteBuilderFilePlan(Plan, frozen=True, kw_only=True, tag="delete builder file"):
    """The end of a builder file."""

    path: str


class CreateCodeModulesPlan(Plan, frozen=True, kw_only=True, tag="create code modules"):
    """New or changed code modules."""

    modules: tuple[str, ...]
    """Names of the modules to write."""


class DeleteCodeModulePlan(Plan, frozen=True, kw_only=True, tag="delete code module"):
    """The end of a code module."""

    module: str


# --- definitions --------------------------------------------------------------------------------------------------


class RunPlan(Plan, frozen=True, kw_only=True, tag="run"):
    """A source to be applied, and its tables to be executed; the steps are chosen once it is applied."""

    is_applied: bool = False
    """Whether the vault had all of the source already."""


class AppliedTable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The changes that are applied to one table."""

    name: str
    table_id: int | None = None
    """`None` for a table that appears."""
    table_folder: str = ""
    """Name of the folder of a table that appears."""
    creates_instance: bool = False
    """Whether the temporary instance appears."""
    instance_folder: str = ""
    """Path of the temporary instance's folder; empty if nothing in it changes."""
    origin: int | None = None
    """Row id of the instance whose builders the new temporary instance has, too."""
    written: tuple[str, ...] = ()
    """Names of new and changed builders."""
    removed: tuple[str, ...] = ()
    """Names of builders that go."""


class AppliedPlan(Plan, frozen=True, kw_only=True, tag="apply"):
    """Builders, modules, tables and services of a definitions file that are new or have changed."""

    modules: tuple[str, ...]
    """Names of the modules to write."""
    tables: tuple[AppliedTable, ...]
    services: tuple[str, ...] = ()
    """Names of the services to set."""


# --- garbage collection -------------------------------------------------------------------------------------------


class RemovedInstance(msgspec.Struct, frozen=True, array_like=True):
    """An instance that is removed."""

    row_id: int
    folder: str
    """Path of its folder."""
    archived: str
    """Name under which its metadata is archived."""
    link: str = ""
    """Path of the table's link to its artifacts; empty if the link leads elsewhere."""


class RemovalPlan(Plan, frozen=True, kw_only=True, tag="gc"):
    """Instances, leftovers and worker logs that go."""

    instances: tuple[RemovedInstance, ...]
    paths: tuple[str, ...]
    left: Mapping[str, str]
    """The instances and paths of the call that stay, each with the reason."""

    def facts(self) -> JsonObject:
        """Return what stays."""
        return {"left": dict(self.left)}


# --- imports ------------------------------------------------------------------------------------------------------


class ImportSource(msgspec.Struct, frozen=True, array_like=True):
    """An instance in the vault that it is imported from."""

    row_id: int
    instance_id: str


class ImportPlan(Plan, frozen=True, kw_only=True, tag="import"):
    """Instances of another vault."""

    content: ImportedInstances
    sources: tuple[ImportSource, ...]
    """Of each instance of the content."""
    vault_id: str
    """Of the vault that they come from."""
    skipped: tuple[str, ...]
    """Ids of instances that are here already."""
    warnings: tuple[str, ...]

    def facts(self) -> JsonObject:
        """Return where the instances come from, and which they are."""
        found = [item.instance_id for item in self.content.instances if not item.is_hidden]
        return {"vault_id": self.vault_id, "imported": found, "skipped": list(self.skipped)}


# --- steps ----------------------------------------------------------------------------------------------------------


class PlannedStep(msgspec.Struct, frozen=True, array_like=True):
    """One table, in one version, of a refresh."""

    table_id: int
    table_name: str
    """Its name at the start."""
    version: str
    action: str
    """`execute`, `look` or `skip`."""
    after: tuple[str, ...]
    """The tables whose steps come before, because this one reads them; one in another version as `t(v2)`."""


class StepsPlan(Plan, frozen=True, kw_only=True, tag="steps"):
    """Tables to be executed one after another."""

    named: tuple[int, ...] | None
    """Ids of the tables that the call names; `None` for all of its version."""
    steps: tuple[PlannedStep, ...]
    """In the order of execution."""


# --- processes ----------------------------------------------------------------------------------------------------


class ServicePlan(Plan, frozen=True, kw_only=True, tag="service"):
    """Other limits of a service."""


class StopPlan(Plan, frozen=True, kw_only=True, tag="stop"):
    """The end of another process."""

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
"""The plans that each operation may have, beside none."""

_DECODERS = {operation: msgspec.json.Decoder(reduce(or_, kinds, Unplanned)) for operation, kinds in _KINDS.items()}
_UNKNOWN = msgspec.json.Decoder(Unplanned)
"""For operations of other versions, whose processes have ended."""
_ANY = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


def encode_plan(plan: Plan) -> str:
    """Return a plan as the catalog keeps it, without `creates`, which has a table of its own."""
    return _encode(msgspec.structs.replace(plan, creates=())).decode()


def decode_plan(operation: str, text: str, creates: tuple[Creation, ...] = ()) -> Plan:
    """Return a recorded plan.

    Parameters
    ----------
    operation
        The operation that made it.
    text
        The plan as `encode_plan` or an earlier version recorded it.
    creates
        The creations of the process; plans of earlier versions hold their own.

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
    """Return whether a recorded plan is of an earlier version, whose plans hold `creates`."""
    # To read all of a long plan for it takes as long as to decode it.
    return '"data"' in text and "data" in _ANY.decode(text)


def _earlier_plan(operation: str, recorded: JsonObject) -> Plan:
    """Return a plan that was recorded as common fields and a dict `data`."""
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
    """Return a lock that was recorded as a pair, or by an import as an object."""
    if isinstance(lock, dict):
        return lock
    resource, exclusive = lock
    return {"resource": resource, "exclusive": exclusive}
