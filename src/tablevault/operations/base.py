"""The base class of operations, which plan and work but cannot commit."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from importlib import import_module
from itertools import chain
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar

from tablevault.errors import TVArgumentError, TVImplementationError
from tablevault.layout import InstanceFolder
from tablevault.operations.session import Draft, Session
from tablevault.state.lookup import Lookup
from tablevault.values.changes import Changes, Tidying, TidyingAction
from tablevault.values.contents import JsonObject, TableRecord
from tablevault.values.processes import Creation, Plan

PAYLOAD = {"payload": True}
"""Metadata of a staged argument; only a digest of its content is recorded."""
LONG = {"long": True}
"""Metadata of an argument that is recorded in full, but too long to show."""
REPLACEABLE = {"replaceable": True}
"""Metadata of an argument that a later call of the same process may change."""

PlanType = TypeVar("PlanType", bound=Plan)

_DEFINED_IN = {
    "apply": "tablevault.operations.apply",
    "create_builder_file": "tablevault.operations.text_files",
    "create_code_module": "tablevault.operations.text_files",
    "create_instance": "tablevault.operations.instances",
    "create_table": "tablevault.operations.tables",
    "create_tag": "tablevault.operations.tags",
    "delete_builder_file": "tablevault.operations.text_files",
    "delete_code_module": "tablevault.operations.text_files",
    "delete_instance": "tablevault.operations.instances",
    "delete_table": "tablevault.operations.tables",
    "delete_tag": "tablevault.operations.tags",
    "execute_instance": "tablevault.operations.execute",
    "gc": "tablevault.operations.garbage",
    "import_instances": "tablevault.archiving.imports",
    "refresh": "tablevault.freshness.refresh",
    "rename_table": "tablevault.operations.tables",
    "retry_failed": "tablevault.operations.retry_failed",
    "run": "tablevault.freshness.run",
    "set_service": "tablevault.operations.services",
    "stop_process": "tablevault.processes.stopping",
    "write": "tablevault.operations.write",
    "write_instance": "tablevault.operations.write",
}
"""The module of each operation, so that a listing of processes does not import the row machinery."""
_operations: dict[str, type[Operation[Any]]] = {}


def operation_named(name: str) -> type[Operation[Any]]:
    """Return the class of an operation by its name in the catalog."""
    if name not in _operations:
        if name not in _DEFINED_IN:
            raise TVImplementationError(f"The catalog names an operation '{name}' that this version does not know.")
        import_module(_DEFINED_IN[name])
    return _operations[name]


def operation_names() -> list[str]:
    """Return the names of all operations."""
    return sorted(_DEFINED_IN.keys() | _operations.keys())


def long_arguments(name: str) -> frozenset[str]:
    """Return an operation's arguments that are too long to show.

    Empty for an unknown operation, e.g. of an earlier version.
    """
    return operation_named(name).long_arguments() if name in operation_names() else frozenset()


@dataclass(frozen=True)
class Operation(ABC, Generic[PlanType]):
    """One kind of write, with the arguments of one call.

    Subclasses are stateless beyond their arguments. The plan contains everything that the work needs, so that a
    process can be resumed from the catalog alone.
    """

    name: ClassVar[str]
    """The name of the method that users call."""
    has_partial_result: ClassVar[bool] = False
    """Whether its unfinished work can be materialized."""
    waits: ClassVar[bool] = True
    """Whether it waits for a process that holds its locks; if not, it is planned again without them."""
    counts_rows: ClassVar[bool] = False
    """Whether its work counts rows of builders, so that an observer has progress to show."""
    runs_children: ClassVar[bool] = False
    """Whether its work is done by its children, which persist when it is reverted and are stopped with it."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" in vars(cls):
            _operations[cls.name] = cls

    @abstractmethod
    def plan(self, draft: Draft) -> PlanType:
        """Validate every argument and return the plan; read-only.

        Locks are requested (`draft.lock_exclusive`, `draft.lock_shared`) before the existence of the locked objects is
        checked, so that conflicts take precedence over missing objects.
        """

    def pin(self, plan: PlanType, session: Session) -> None:
        """Durably stage all inputs that must not change before the work.

        This is part of `prepare`.
        """
        return

    @abstractmethod
    def work(self, plan: PlanType, session: Session) -> Changes:
        """Compute in invisible places only, and return the visible changes. May run again after a pause."""

    def abandon(self, plan: PlanType, session: Session) -> tuple[Tidying, ...]:
        """Return the steps that undo a process that did not succeed."""
        created = chain.from_iterable(remove_created(session.lookup, item) for item in plan.creates)
        return (*created, *session.clean_workspace())

    def materialize_partial(self, plan: PlanType, session: Session) -> Changes:
        """Return the changes that materialize partial work."""
        raise TVImplementationError(f"A call of {self.name} has nothing to materialize.")

    def cancel_jobs(self, plan: PlanType, session: Session) -> Mapping[str, str]:
        """Cancel the providers' jobs before the process ends without a result.

        Return the jobs that may still be charged, each with the reason.
        """
        return {}

    @property
    def budget_of_process(self) -> Mapping[str, float] | None:
        """Budget for the calls of functions in this process, by amount; `None` for no limit."""
        return None

    # --- arguments as plain data ----------------------------------------------------------------------------------

    def record(self, digest_payload: bool = True) -> JsonObject:
        """Return the arguments in the form recorded in the catalog."""
        recorded: JsonObject = {}
        for argument in fields(self):
            value = getattr(self, argument.name)
            if _is_payload(argument) and value is not None:
                value = self.digest(value) if digest_payload else None
            recorded[argument.name] = value
        plain: JsonObject = json.loads(json.dumps(recorded, default=self._refuse))
        return plain

    def summary(self) -> JsonObject:
        """Return the arguments without those too long to show."""
        long = self.long_arguments()
        return {name: value for name, value in self.record(digest_payload=False).items() if name not in long}

    def _refuse(self, value: object) -> NoReturn:
        raise TVArgumentError(
            f"An argument of {self.name} is of the type {type(value).__name__}, which cannot be recorded: "
            f"{value!r:.100}."
        )

    @classmethod
    def restore(cls, recorded: Mapping[str, Any]) -> Self:
        """Return the recorded operation, without its payload."""
        # An argument newer than the record has its default.
        kept = {item.name: recorded[item.name] for item in fields(cls) if item.name in recorded}
        return cls(**{**kept, **{item.name: None for item in fields(cls) if _is_payload(item)}})

    def continued_by(self, other: Operation[Any]) -> Self:
        """Return this operation with the payload and replaced arguments of another call.

        An empty mapping replaces an argument by its default.
        """
        taken = {item.name: getattr(other, item.name) for item in fields(self) if _is_payload(item)}
        for item in filter(_is_replaceable, fields(self)):
            if not other._is_left_out(item):
                taken[item.name] = getattr(other, item.name) or _default(item)
        return replace(self, **taken)

    def replaced(self, recorded: Mapping[str, Any]) -> JsonObject:
        """Return the replaceable arguments that differ from the recorded ones."""
        names = [item.name for item in fields(self) if _is_replaceable(item)]
        mine = self.record(digest_payload=False) if names else {}
        return {name: mine[name] for name in names if mine[name] != recorded.get(name)}

    def first_difference(self, recorded: Mapping[str, Any]) -> str | None:
        """Return the first argument that differs from the recorded ones.

        Arguments with default values are ignored.
        """
        mine = self.record()
        for argument in fields(self):
            if self._is_left_out(argument) or _is_replaceable(argument):
                continue
            if mine[argument.name] != recorded.get(argument.name):
                return argument.name
        return None

    def refused_edit(self, recorded: Mapping[str, Any], is_over: bool) -> str | None:
        """Return why this call cannot continue a recorded one; `None` if it can.

        Parameters
        ----------
        recorded
            The arguments of the recorded call, which are equal.
        is_over
            Whether its process has succeeded, so that nothing is left to be continued.
        """
        return None

    def check_given(self) -> None:
        """Check the arguments that a later call may replace, as far as the vault is not needed for it.

        Raises
        ------
        TVArgumentError
            If one is invalid.
        """
        return

    def _is_left_out(self, argument: Field[Any]) -> bool:
        value = getattr(self, argument.name)
        # A payload may be a frame, which cannot be compared with `==`.
        return value is None if _is_payload(argument) else value == _default(argument)

    @classmethod
    def long_arguments(cls) -> frozenset[str]:
        """Return the arguments that are too long to show."""
        return frozenset(item.name for item in fields(cls) if _is_payload(item) or item.metadata.get("long"))

    @classmethod
    def payload_arguments(cls) -> tuple[str, ...]:
        """Return the arguments recorded only by a digest of their content."""
        return tuple(item.name for item in fields(cls) if _is_payload(item))

    @classmethod
    def default_arguments(cls) -> JsonObject:
        """Return the arguments that may be left out, with their defaults."""
        return {item.name: _default(item) for item in fields(cls) if _default(item) is not MISSING}

    def is_resumable(self, plan: PlanType, session: Session) -> bool:
        """Return whether the payload is completely staged or given again."""
        return True

    def digest(self, value: object) -> JsonObject:
        """Return the digest recorded in place of a payload."""
        raise TVImplementationError(f"A call of {self.name} has no payload.")


def remove(path: str) -> Tidying:
    """Return the step that removes a file or folder in the vault."""
    return Tidying(TidyingAction.REMOVE, path)


def remove_created(lookup: Lookup, creation: Creation) -> Iterator[Tidying]:
    """Yield the steps that remove an invisible table or instance folder."""
    yield remove(creation.location)
    if creation.instance_id:
        yield from remove_set_aside(lookup, InstanceFolder(lookup.layout.absolute(creation.location)))


def remove_set_aside(lookup: Lookup, folder: InstanceFolder) -> Iterator[Tidying]:
    """Yield the steps that remove other users' set-aside folders; only their owners succeed."""
    for earlier in folder.set_aside():
        yield remove(lookup.layout.relative(earlier.root))


def put_file(session: Session, staged: str, target: str) -> Tidying:
    """Return the step that moves a staged file to its destination."""
    source = session.lookup.layout.relative(session.workspace.staged / staged)
    return Tidying(TidyingAction.PUT_FILE, source, target)


def instance_folder(lookup: Lookup, table: TableRecord, folder: str) -> InstanceFolder:
    """Return the folder of an instance not yet in the catalog."""
    return InstanceFolder(lookup.table_folder(table) / folder)


def _is_payload(argument: Field[Any]) -> bool:
    return bool(argument.metadata.get("payload"))


def _is_replaceable(argument: Field[Any]) -> bool:
    return bool(argument.metadata.get("replaceable"))


def _default(argument: Field[Any]) -> object:
    if argument.default_factory is not MISSING:
        return argument.default_factory()
    return argument.default
