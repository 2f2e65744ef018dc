"""Removal of the instances and files in a plan, except protected ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from tablevault import names
from tablevault.errors import TVArgumentError
from tablevault.layout import ARTIFACTS
from tablevault.operations.base import LONG, Operation, remove
from tablevault.operations.session import Draft, Session
from tablevault.state.leftovers import Leftovers
from tablevault.state.lookup import Lookup
from tablevault.values.changes import Changes, DeletedInstance, Tidying, TidyingAction
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.lock_names import lock_on_artifacts, lock_on_instance
from tablevault.values.plans import RemovalPlan, RemovedInstance
from tablevault.values.processes import Lock, ProcessRecord

_GONE = "already removed"
_HELD = "locked by a process"


@dataclass(frozen=True)
class Gc(Operation[RemovalPlan]):
    """Removes instances and other files, except those now locked or needed."""

    name: ClassVar[str] = "gc"
    waits: ClassVar[bool] = False

    instances: Any = field(metadata=LONG)
    """Row ids of the instances."""
    paths: Any = field(metadata=LONG)
    """Leftovers and worker logs, as paths relative to the vault's folder."""
    policy: str
    """The rules of the plan, as text."""
    keep_inputs: bool
    vault_id: str
    """Id of the vault for which the plan was made."""
    logs_before: str = ""
    """Time before which a process must have ended for its worker log to be removed; empty for none."""

    def plan(self, draft: Draft) -> RemovalPlan:
        """Skip instances that are now deleted, locked or needed."""
        lookup = draft.lookup
        if self.vault_id != lookup.context.vault_id:
            raise TVArgumentError("The plan was made for another vault; plan_gc of this vault makes one for it.")
        tables = {table.table_id: table for table in lookup.contents.tables()}
        records = all_instances(lookup)
        left: dict[str, str] = {}
        wanted: dict[int, InstanceRecord] = {}
        for row_id in self.instances:
            instance = records.get(row_id)
            if instance is None or instance.temporary:
                gone = lookup.contents.instance_by_row(row_id)
                left[f"instance {row_id}" if gone is None else gone.instance_id] = _GONE
            else:
                wanted[row_id] = instance
        shown = {row_id for row_id, item in wanted.items() if _is_shown(lookup, tables[item.table_id], item)}
        others = _OtherProcesses(draft)
        held = others.holding(
            {row_id: _locks_on(tables[item.table_id], item, row_id in shown) for row_id, item in wanted.items()}
        )
        needed = Protection.find(lookup, records, set(wanted) - held, self.keep_inputs)
        # If another process removes the newest instance, the previous one becomes the newest.
        guards = {row_id: records[row_id] for row_id in needed.guards}
        going = others.holding({row_id: (_shared(tables[item.table_id], item),) for row_id, item in guards.items()})
        unguarded = {(guards[row_id].table_id, guards[row_id].version) for row_id in going}
        removed = []
        for row_id, instance in wanted.items():
            is_held = row_id in held or (instance.table_id, instance.version) in unguarded
            reasons = needed.reasons.get(row_id) or ((_HELD,) if is_held else ())
            if reasons:
                left[instance.instance_id] = ", ".join(reasons)
            else:
                table = tables[instance.table_id]
                for lock in _locks_on(table, instance, row_id in shown):
                    draft.lock_exclusive(lock.resource)
                removed.append(_removed(lookup, table, instance, row_id in shown))
        for row_id, guard in guards.items():
            if row_id not in going:
                draft.lock_shared(_shared(tables[guard.table_id], guard).resource)
        paths = self._removable_paths(lookup)
        left.update((path, _GONE) for path in self.paths if path not in paths)
        return RemovalPlan(
            instances=tuple(removed), paths=tuple(path for path in self.paths if path in paths), left=left
        )

    def work(self, plan: RemovalPlan, session: Session) -> Changes:
        """Return the steps that remove folders and files."""
        steps: list[Tidying] = []
        for item in plan.instances:
            target = session.lookup.layout.relative(session.lookup.layout.archived(session.serial, item.archived))
            if item.link:
                steps.append(Tidying(TidyingAction.UNLINK, target=item.link))
            steps.append(Tidying(TidyingAction.MOVE_FOLDER, item.folder, target))
            steps.append(Tidying(TidyingAction.PRUNE, target))
        steps += map(remove, plan.paths)
        return Changes(tuple(DeletedInstance(item.row_id) for item in plan.instances), tuple(steps))

    def _removable_paths(self, lookup: Lookup) -> set[str]:
        """Return the leftovers and worker logs that can be removed now."""
        if not self.paths:
            return set()
        found = {lookup.layout.relative(path) for path in Leftovers(lookup.context).removable()}
        if self.logs_before:
            moment = datetime.fromisoformat(self.logs_before)
            found.update(lookup.layout.relative(path) for path in worker_logs(lookup, moment))
        return found


def _shared(table: TableRecord, instance: InstanceRecord) -> Lock:
    return Lock(lock_on_instance(names.fold(table.name), instance.instance_id), exclusive=False)


def _locks_on(table: TableRecord, instance: InstanceRecord, is_shown: bool) -> tuple[Lock, ...]:
    """Return the locks needed to remove an instance."""
    key = names.fold(table.name)
    own = Lock(lock_on_instance(key, instance.instance_id), exclusive=True)
    return (own, Lock(lock_on_artifacts(key), exclusive=True)) if is_shown else (own,)


def _is_shown(lookup: Lookup, table: TableRecord, instance: InstanceRecord) -> bool:
    """Return whether the table's link points to this instance's artifacts."""
    link = lookup.table_folder(table) / ARTIFACTS
    return link.is_symlink() and Path(link.readlink()).parts[:1] == (instance.folder,)


def _removed(lookup: Lookup, table: TableRecord, instance: InstanceRecord, is_shown: bool) -> RemovedInstance:
    layout = lookup.layout
    return RemovedInstance(
        instance.row_id,
        layout.relative(lookup.folder(table, instance).root),
        f"{table.name}_{instance.instance_id}",
        layout.relative(lookup.table_folder(table) / ARTIFACTS) if is_shown else "",
    )


class _OtherProcesses:
    """The locks of all processes except the planned one.

    Parameters
    ----------
    draft
        The plan.
    """

    def __init__(self, draft: Draft) -> None:
        context = draft.lookup.context
        self._processes, self._parent = context.catalog.processes, context.parent_serial
        own = self._processes.find(draft.process_id)
        self._own = own.serial if own is not None and not own.finished else None

    def holding(self, wanted: Mapping[int, tuple[Lock, ...]]) -> set[int]:
        """Return the keys of locks that conflict with other processes, found by bisection."""
        if not wanted or not self._holders([lock for locks in wanted.values() for lock in locks]):
            return set()
        if len(wanted) == 1:
            return set(wanted)
        items = list(wanted.items())
        middle = len(items) // 2
        return self.holding(dict(items[:middle])) | self.holding(dict(items[middle:]))

    def _holders(self, wanted: Sequence[Lock]) -> set[int]:
        holders = set(self._processes.conflicts(wanted, self._parent))
        return holders - {self._own} if self._own is not None else holders


@dataclass(frozen=True)
class Protection:
    """The instances among those to remove that must stay."""

    reasons: Mapping[int, tuple[str, ...]]
    """Reasons to stay, by row id."""
    guards: tuple[int, ...]
    """Row ids of the newest instances of each affected table and version, which stay."""

    @classmethod
    def find(
        cls,
        lookup: Lookup,
        records: Mapping[int, InstanceRecord],
        removed: Collection[int],
        keep_inputs: bool,
        others: Collection[int] = (),
    ) -> Protection:
        """Find the instances that must not be removed.

        Parameters
        ----------
        lookup
            Reads the vault.
        records
            All its instances by row id, as `all_instances` returns them.
        removed
            Row ids of the instances to remove.
        keep_inputs
            Whether inputs of remaining instances must stay.
        others
            Row ids of other remaining instances whose reasons are wanted as well.
        """
        contents = lookup.contents
        tables = {table.table_id: table.name for table in contents.tables()}
        reasons: dict[int, list[str]] = {}

        def protect(row_id: int, reason: str) -> None:
            if row_id in removed or row_id in others:
                reasons.setdefault(row_id, []).append(reason)

        guards = set()
        groups = {(records[row_id].table_id, records[row_id].version) for row_id in removed}
        for item, what in _newest(records.values()):
            protect(item.row_id, f"newest {what} instance of version {item.version}")
            if (item.table_id, item.version) in groups:
                guards.add(item.row_id)
        tagged: dict[int, list[str]] = {}
        for tag in contents.tags():
            tagged.setdefault(tag.row_id, []).append(tag.tag)
        for row_id, found in tagged.items():
            protect(row_id, f"tagged {', '.join(found)}")
        for item in records.values():
            if item.temporary and item.origin is not None:
                protect(item.origin, f"origin of {tables[item.table_id]}({item.instance_id})")
        if keep_inputs:
            stays = [row_id for row_id in records if row_id not in removed or row_id in reasons]
            for row_id, reader in _inputs(stays, contents.input_pairs()).items():
                if row_id not in reasons:
                    protect(row_id, f"input of {tables[records[reader].table_id]}({records[reader].instance_id})")
        return cls({row_id: tuple(found) for row_id, found in reasons.items()}, tuple(sorted(guards - set(removed))))


def all_instances(lookup: Lookup) -> dict[int, InstanceRecord]:
    """Return all instances of a vault, by row id."""
    contents = lookup.contents
    return {item.row_id: item for table in contents.tables() for item in contents.instances(table.table_id)}


def _newest(instances: Iterable[InstanceRecord]) -> Iterator[tuple[InstanceRecord, str]]:
    """Yield the newest active and newest active successful instance of each table and version."""
    active: dict[tuple[int, str], InstanceRecord] = {}
    successful: dict[tuple[int, str], InstanceRecord] = {}
    for item in instances:
        if item.active and not item.temporary:
            for found, counts in ((active, True), (successful, item.success)):
                group = item.table_id, item.version
                if counts and (group not in found or found[group].row_id < item.row_id):
                    found[group] = item
    for what, found in (("active", active), ("successful", successful)):
        yield from ((item, what) for item in found.values())


def _inputs(stays: Iterable[int], pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return all transitive inputs of instances, each with a dependent instance.

    Parameters
    ----------
    stays
        Row ids of the remaining instances.
    pairs
        Pairs of row ids of an instance and of one of its inputs, including deleted ones.
    """
    inputs: dict[int, list[int]] = {}
    for row_id, input_row_id in pairs:
        inputs.setdefault(row_id, []).append(input_row_id)
    found: dict[int, int] = {}
    for start in stays:
        waiting = [start]
        while waiting:
            for row_id in inputs.get(waiting.pop(), ()):
                if row_id not in found:
                    found[row_id] = start
                    waiting.append(row_id)
    return found


def worker_logs(lookup: Lookup, before: datetime) -> Iterator[Path]:
    """Yield the logs of background workers whose processes ended before a time."""
    folder = lookup.layout.worker_logs
    processes = lookup.context.catalog.processes
    for path in sorted(folder.glob("*.log")) if folder.is_dir() else []:
        record = processes.find(path.stem)
        if record is not None and _ended_before(record, before):
            yield path


def _ended_before(record: ProcessRecord, moment: datetime) -> bool:
    return record.finished and record.ended_at is not None and record.ended_at < moment
