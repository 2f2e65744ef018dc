"""Plans of garbage collection, with kept and removed instances and the freed space."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from numbers import Integral
from pathlib import Path

from tablevault import names
from tablevault.errors import TVArgumentError
from tablevault.layout import ARTIFACTS, FRAME, PARTIAL
from tablevault.operations.garbage import Protection, all_instances, worker_logs
from tablevault.records import GcGroup, GcItem, GcPlan
from tablevault.state.context import VaultContext
from tablevault.state.leftovers import Leftovers
from tablevault.state.lookup import Lookup
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.lock_names import lock_on_instance

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_TIME = re.compile(r"(\d+)\s*([smhdw])")
_BYTES_PER_BLOCK = 512
"""Unit of `st_blocks`."""
_UNKEPT = "not kept by any rule"


@dataclass(frozen=True)
class Rules:
    """Retention rules for the instances of a table and version.

    Parameters
    ----------
    last, daily, weekly, monthly
        Number of instances to keep; `None` for no rule.
    within
        Maximum age of the instances to keep.
    """

    last: int | None = None
    within: timedelta | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None
    written: Mapping[str, str] = field(default_factory=dict)
    """The rules as given, by name."""

    @classmethod
    def of(cls, **given: object) -> Rules:
        """Return the rules of a call; raise `TVArgumentError` if one is invalid, or none is given."""
        written = {name: str(value) for name, value in given.items() if value is not None}
        if not written:
            raise TVArgumentError(
                f"plan_gc needs at least one rule for the instances to keep. Pass one of {', '.join(given)}."
            )
        counts = {
            name.removeprefix("keep_"): checked_count(name, value)
            for name, value in given.items()
            if name != "keep_within" and value is not None
        }
        return cls(**counts, within=checked_time("keep_within", given.get("keep_within")), written=written)

    @property
    def policy(self) -> str:
        """The rules as text."""
        return ", ".join(f"{name}={value}" for name, value in self.written.items())

    def kept(self, instances: Sequence[InstanceRecord], now: datetime) -> dict[int, list[str]]:
        """Return the rules that keep each instance, by row id; expects newest instances first."""
        found: dict[int, list[str]] = {}
        for item in instances[: self.last] if self.last is not None else ():
            found.setdefault(item.row_id, []).append(f"keep_last={self.last}")
        if self.within is not None:
            for item in instances:
                if item.created_at >= now - self.within:
                    found.setdefault(item.row_id, []).append(f"keep_within={self.written['keep_within']}")
        for name, count, period in (
            ("daily", self.daily, _day),
            ("weekly", self.weekly, _week),
            ("monthly", self.monthly, _month),
        ):
            for item in _newest_of_each(instances, period, count) if count is not None else ():
                found.setdefault(item.row_id, []).append(f"keep_{name}={count}")
        return found


def checked_count(name: str, value: object) -> int:
    """Return the count of a rule; raise `TVArgumentError` if it is not a positive integer."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise TVArgumentError(f"{name} must be a positive integer, not {value!r:.100}.")
    return int(value)


def checked_time(name: str, value: object) -> timedelta | None:
    """Return a duration, possibly given as text; raise `TVArgumentError` if it is not positive."""
    found = value
    if isinstance(value, str):
        match = _TIME.fullmatch(value.strip())
        try:
            found = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None
        except OverflowError:
            found = None
    elif value is None:
        return None
    if not isinstance(found, timedelta) or found <= timedelta(0):
        raise TVArgumentError(
            f"{name} must be a positive duration, such as '12h', '30d', '8w' or a timedelta, not {value!r:.100}."
        )
    return found


def _newest_of_each(
    instances: Iterable[InstanceRecord], period: Callable[[datetime], object], count: int
) -> Iterator[InstanceRecord]:
    """Yield the newest instance of each of the last `count` nonempty periods."""
    newest: dict[object, InstanceRecord] = {}
    for item in instances:
        newest.setdefault(period(item.created_at.astimezone(UTC)), item)
    for moment in sorted(newest, reverse=True)[:count]:  # type: ignore[type-var]
        yield newest[moment]


def _day(moment: datetime) -> object:
    return moment.date()


def _week(moment: datetime) -> object:
    return moment.isocalendar()[:2]


def _month(moment: datetime) -> object:
    return moment.year, moment.month


class GcPlanner:
    """Plans the removal of instances and files from one vault.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._context = context
        self._lookup = Lookup(context)
        self._layout = context.layout

    def plan(
        self,
        rules: Rules,
        table_name: str,
        version: str,
        keep_inputs: bool,
        leftovers: bool,
        worker_logs_older_than: timedelta | None,
    ) -> GcPlan:
        """Return the plan; parameters as of `TableVault.plan_gc`."""
        now = datetime.now(UTC)
        logs_before = now - worker_logs_older_than if worker_logs_older_than is not None else None
        with self._context.catalog.snapshot():
            tables = self._tables(table_name)
            records = all_instances(self._lookup)
            groups = list(self._groups(tables, records.values(), version))
            if version and not groups:
                self._raise_unknown_version(tables, version)
            kept: dict[int, list[str]] = {}
            for _, instances in groups:
                kept.update(rules.kept(instances, now))
            candidates = {item.row_id: item for _, items in groups for item in items}
            for row_id, process in self._held(tables, candidates.values()):
                kept.setdefault(row_id, []).append(process)
            unkept = {row_id for row_id in candidates if row_id not in kept}
            protection = Protection.find(self._lookup, records, unkept, keep_inputs, kept)
            for row_id, reasons in protection.reasons.items():
                kept.setdefault(row_id, []).extend(reasons)
            paths = list(self._other_paths(leftovers, logs_before))
        sizes = _Sizes()
        removed = [item for row_id, item in sorted(candidates.items(), reverse=True) if row_id not in kept]
        folders = {table.table_id: str(self._lookup.table_folder(table)) for table in tables}
        for item in removed:
            root = f"{folders[item.table_id]}/{item.folder}"
            # Its metadata is archived, not removed.
            sizes.add(item.row_id, [f"{root}/{name}" for name in (FRAME, ARTIFACTS, PARTIAL)])
        for path, _ in paths:
            sizes.add(str(path), [str(path)])
        freed = sizes.freed()
        found = [
            GcGroup(
                table.name,
                items[0].version,
                tuple(_item(item, kept[item.row_id], 0) for item in items if item.row_id in kept),
                tuple(_item(item, [_UNKEPT], freed[item.row_id]) for item in items if item.row_id not in kept),
            )
            for table, items in groups
        ]
        other = tuple(
            GcItem(what, self._layout.relative(path), (_REASONS[what],), freed[str(path)], None) for path, what in paths
        )
        return GcPlan(
            rules.policy,
            tuple(found),
            other,
            sum(freed.values()),
            keep_inputs,
            logs_before.isoformat() if logs_before is not None else "",
            self._context.vault_id,
        )

    def _tables(self, table_name: str) -> list[TableRecord]:
        return [self._lookup.table(table_name)] if table_name else self._lookup.contents.tables()

    def _groups(
        self, tables: Iterable[TableRecord], instances: Iterable[InstanceRecord], version: str
    ) -> Iterator[tuple[TableRecord, list[InstanceRecord]]]:
        """Yield the instances of each table and version, the newest first."""
        wanted = names.check_version(version) if version else None
        found: dict[int, dict[str, list[InstanceRecord]]] = {table.table_id: {} for table in tables}
        for item in sorted(instances, key=lambda item: item.row_id, reverse=True):
            if item.table_id in found and not item.temporary and wanted in (None, item.version):
                found[item.table_id].setdefault(item.version, []).append(item)
        for table in tables:
            yield from ((table, group) for _, group in sorted(found[table.table_id].items()))

    def _raise_unknown_version(self, tables: Sequence[TableRecord], version: str) -> None:
        known = {
            item.version
            for table in tables
            for item in self._lookup.contents.instances(table.table_id, temporary=False)
        }
        of_table = f"Table '{tables[0].name}'" if len(tables) == 1 else "No table"
        verb = "has no" if len(tables) == 1 else "has an"
        raise TVArgumentError(f"{of_table} {verb} instance of version '{version}'{names.nearest(version, known)}")

    def _held(self, tables: Iterable[TableRecord], instances: Iterable[InstanceRecord]) -> Iterator[tuple[int, str]]:
        """Yield the instances locked by active processes, each with a reason."""
        processes = self._context.catalog.processes
        active = {record.serial: record for record in processes.unfinished()}
        if not active:
            return
        held: dict[str, str] = {}
        for serial, locks in processes.locks_of_each(sorted(active)).items():
            record = active[serial]
            for lock in locks:
                held.setdefault(lock.resource, f"locked by {record.operation} '{record.process_id}'")
        keys = {table.table_id: names.fold(table.name) for table in tables}
        for item in instances:
            parts = lock_on_instance(keys[item.table_id], item.instance_id).split("/")
            above = ("/".join(parts[:length]) for length in range(1, len(parts) + 1))
            reason = next((held[resource] for resource in above if resource in held), None)
            if reason is not None:
                yield item.row_id, reason

    def _other_paths(self, leftovers: bool, logs_before: datetime | None) -> Iterator[tuple[Path, str]]:
        if leftovers:
            yield from ((path, "leftover") for path in Leftovers(self._context).removable())
        if logs_before is not None:
            yield from ((path, "worker log") for path in worker_logs(self._lookup, logs_before))


_REASONS = {"leftover": "left behind by a crash", "worker log": "its process has ended"}


def _item(instance: InstanceRecord, reasons: Sequence[str], freed: int) -> GcItem:
    return GcItem("instance", instance.instance_id, tuple(reasons), freed, instance.row_id)


class _Sizes:
    """Sums the freed space; a file with several hard links counts only if all are removed."""

    def __init__(self) -> None:
        self._freed: dict[object, int] = {}
        """Space of each item's files with a single link."""
        self._owners: dict[tuple[int, int], list[object]] = {}
        """Items of each file with several links, by device and inode; one entry per link."""
        self._links: dict[tuple[int, int], tuple[int, int]] = {}
        """Number of links and space of each of these files."""

    def add(self, item: object, paths: Sequence[str]) -> None:
        """Count files and the content of folders for an item, without following links."""
        found, waiting = 0, []
        for path in paths:
            try:
                facts = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if stat.S_ISDIR(facts.st_mode):
                waiting.append(path)
            else:
                found += self._counted(item, facts)
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        found += self._counted(item, entry.stat(follow_symlinks=False))
        self._freed[item] = found

    def _counted(self, item: object, facts: os.stat_result) -> int:
        """Return the space of a file with a single link; record one with several."""
        if facts.st_nlink <= 1:
            return _space(facts)
        key = facts.st_dev, facts.st_ino
        self._owners.setdefault(key, []).append(item)
        self._links[key] = facts.st_nlink, _space(facts)
        return 0

    def freed(self) -> dict[object, int]:
        """Return the freed space of each item; a file shared by several counts for the first."""
        found = dict(self._freed)
        for key, owners in self._owners.items():
            links, space = self._links[key]
            if len(owners) >= links:
                found[owners[0]] += space
        return found


def _space(facts: os.stat_result) -> int:
    blocks = getattr(facts, "st_blocks", None)
    return facts.st_size if blocks is None else blocks * _BYTES_PER_BLOCK
