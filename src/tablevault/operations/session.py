"""The views of operations, a draft while planning and a session while working."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tablevault import names
from tablevault.errors import TVArgumentError
from tablevault.layout import ProcessFolder
from tablevault.ports import ArtifactStore, Children, ServiceLimits
from tablevault.rows.gate import Budget
from tablevault.state.lookup import Lookup
from tablevault.system.clock import datetime
from tablevault.texts.plain import Secrets
from tablevault.values.changes import Tidying
from tablevault.values.clusters import RayOptions
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.processes import Lock, ProcessRecord
from tablevault.values.progress import ExecutionProgress

if TYPE_CHECKING:
    from tablevault.operations.base import Operation
    from tablevault.storage.checkpoints import CheckpointStore

_RECENT = 100
"""Number of newest processes of a table among which the one that used up a temporary instance is looked for."""


class Draft:
    """Collects the locks needed by a plan.

    Parameters
    ----------
    lookup
        Reads the committed state for the plan.
    process_id
        The id of the process to run.
    called_at
        The time of the call, which may have waited for other processes since; `None` if it never waits.
    """

    def __init__(self, lookup: Lookup, process_id: str, called_at: datetime | None = None) -> None:
        self.lookup = lookup
        self.process_id = process_id
        self._called_at = called_at
        self._wanted: dict[str, bool] = {}

    def lock_exclusive(self, resource: str) -> None:
        """Request an exclusive lock on a part of the vault to change."""
        self._wanted[resource] = True

    def lock_shared(self, resource: str) -> None:
        """Request a shared lock on a part of the vault to read."""
        self._wanted.setdefault(resource, False)

    @property
    def locks(self) -> tuple[Lock, ...]:
        """The requested locks, ordered by resource."""
        return tuple(Lock(resource, exclusive) for resource, exclusive in sorted(self._wanted.items()))

    def table_and_temporary(self, table_name: str, version: str) -> tuple[TableRecord, InstanceRecord]:
        """Return a table and its temporary instance.

        Raises
        ------
        TVArgumentError
            If one is missing. It names the process that materialized the instance since the call, if there is one.
        """
        try:
            return self.lookup.table_and_temporary(table_name, version)
        except TVArgumentError:
            maker = self._materialized_since_the_call(table_name, version)
            if maker is None:
                raise
            raise TVArgumentError(
                f"Process '{maker.process_id}' ({maker.operation} by {maker.author}) has materialized the temporary "
                f"instance of version '{version}' of table '{maker.table_name}' in the meantime, as "
                f"'{maker.instance_id}'; create_instance('{maker.table_name}', version='{version}', copy=True) makes "
                "another one."
            ) from None

    def _materialized_since_the_call(self, table_name: str, version: str) -> ProcessRecord | None:
        temporary = names.temporary_instance_id(version)
        if self._called_at is None:
            return None
        for record in self.lookup.context.catalog.processes.history({"table_name": str(table_name)}, _RECENT):
            used = record.plan.instance_id == temporary and not names.is_temporary(record.instance_id)
            if used and record.ended_at is not None and record.ended_at >= self._called_at:
                return record
        return None

    def free_folder(self, parent: Path, wanted: str) -> str:
        """Return a free folder name, with a suffix if a leftover is in the way."""
        name = wanted
        while (parent / name).exists() or (parent / name).is_symlink():
            name = f"{wanted}~{secrets.token_hex(4)}"
        return name


class Leavable(Protocol):
    """A process held by another one."""

    def leave(self) -> None:
        """Give up ownership."""
        ...


class Session(Protocol):
    """An operation's view of its process, which reads, stages and computes but cannot commit."""

    stop_requested: bool
    """Whether the work should end at its next row."""

    @property
    def lookup(self) -> Lookup:
        """Reads committed state."""
        ...

    @property
    def process_id(self) -> str:
        """The user-visible id of the process."""
        ...

    @property
    def user_given(self) -> bool:
        """Whether the user chose the id.

        If so, an external error pauses the process instead of reverting it.
        """
        ...

    @property
    def serial(self) -> int:
        """The process's number in the catalog."""
        ...

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        ...

    @property
    def resumed(self) -> bool:
        """Whether an earlier attempt may have run user code."""
        ...

    @property
    def author(self) -> str:
        """The author that runs the operation."""
        ...

    @property
    def progress(self) -> ExecutionProgress:
        """Counts the rows of builders."""
        ...

    @property
    def secrets(self) -> Secrets:
        """Secrets, which must not be recorded; added when a function that received them has failed."""
        ...

    @property
    def lock_descriptors(self) -> Sequence[int]:
        """Descriptors of open files whose locks mark this attempt as alive."""
        ...

    @property
    def ray(self) -> RayOptions:
        """Cluster for rows with `executor: ray`."""
        ...

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets of this process and its ancestors."""
        ...

    def service_limits(self) -> ServiceLimits:
        """Return the limits of services, for the calls of this attempt."""
        ...

    @property
    def children(self) -> Children[Operation[Any]]:
        """Runs operations inside this process."""
        ...

    @property
    def workspace(self) -> ProcessFolder:
        """The process's folder in `_temp/`, invisible to readers."""
        ...

    def stage_text(self, name: str, text: str) -> None:
        """Write a text durably into the workspace."""
        ...

    def staged_text(self, name: str) -> str:
        """Return a text that an earlier step staged; raise `TVImplementationError` if none did."""
        ...

    def is_staged(self, name: str) -> bool:
        """Return whether an earlier step staged a file of this name."""
        ...

    def clean_workspace(self) -> tuple[Tidying, ...]:
        """Return the steps that remove the workspace; empty without a workspace."""
        ...

    def open_checkpoints(self, artifacts: ArtifactStore) -> CheckpointStore:
        """Open the process's checkpoints, which the engine closes however the attempt ends.

        While they are open, their background thread polls for stop requests and publishes progress.

        Parameters
        ----------
        artifacts
            Makes the files named by rows durable.
        """
        ...

    def begin_functions(self) -> None:
        """Mark the start of user code; later errors are not the resuming call's."""
        ...

    def raise_if_stopped(self) -> None:
        """Raise `TVForcedError` if the process was asked to stop, `TVProcessError` in a forked child."""
        ...

    def hold(self, other: Leavable) -> None:
        """Hold another process until this attempt ends."""
        ...
