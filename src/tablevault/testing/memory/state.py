"""The whole content of a catalog as one value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime

from tablevault.errors import TVImplementationError
from tablevault.names import fold
from tablevault.values.changes import Read, Tidying
from tablevault.values.contents import (
    ArtifactState,
    CatalogIdentity,
    InstanceRecord,
    TableRecord,
    TagRecord,
)
from tablevault.values.processes import Creation, Lock, ProcessRecord, Status


def now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


def contradiction(reason: str) -> TVImplementationError:
    """Return the error of a change that does not fit the catalog."""
    return TVImplementationError(f"The catalog refused a change: {reason}.")


@dataclass(frozen=True, slots=True)
class Table:
    """A table, visible or deleted."""

    record: TableRecord
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance, visible or deleted."""

    record: InstanceRecord
    serial: int
    """The process that made it."""
    deleted: bool = False
    failed_cells: int = 0
    skipped_cells: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    """A process with the facts that its record does not contain, or not always."""

    record: ProcessRecord
    """Without creations and arguments."""
    arguments: str
    """As JSON, because a reader may change the objects that it gets."""
    creations: tuple[Creation, ...] = ()
    place: int | None = None
    """Position in the order of ends; `None` until the process ends."""
    waiting: str = ""

    @property
    def holds_id(self) -> bool:
        """Whether a user cannot give its id to another process."""
        return self.record.status is not Status.REVERTED or not self.record.finished


@dataclass(frozen=True, slots=True)
class Step:
    """A remaining step on disk."""

    serial: int
    tidying: Tidying
    problem: str | None = None
    """Reason of its failure, if it failed."""


@dataclass(slots=True)
class State:
    """One state of a catalog.

    Its values are immutable, so a copy needs only new containers. Rows are in the order of their numbers, by which
    they are inserted.
    """

    identity: CatalogIdentity
    created_at: str
    generation: int = 0
    ends: int = 0
    """Number of processes that have ended."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Last number given to each kind of row; a number is never given twice."""
    tables: dict[int, Table] = field(default_factory=dict)
    instances: dict[int, Instance] = field(default_factory=dict)
    processes: dict[int, Process] = field(default_factory=dict)
    locks: list[tuple[int, Lock]] = field(default_factory=list)
    steps: dict[int, Step] = field(default_factory=dict)
    reads: list[tuple[int, Read]] = field(default_factory=list)
    """Reads, each with the row id of the dependent instance."""
    confirmed: list[tuple[int, int]] = field(default_factory=list)
    """Row ids of confirmed instances, each with that of an input."""
    tags: dict[tuple[int, str], TagRecord] = field(default_factory=dict)
    """Tags by table id and folded name, as they were set: the table may have another name now."""
    services: dict[str, dict[str, float]] = field(default_factory=dict)

    def copy(self) -> State:
        """Return a copy that can be changed independently."""
        return State(*(copy(getattr(self, each.name)) for each in fields(self)))

    def next_number(self, kind: str) -> int:
        """Return the next number of a kind of row."""
        self.numbers[kind] = self.numbers.get(kind, 0) + 1
        return self.numbers[kind]

    def keep_numbers(self) -> None:
        """Put rows with numbers from elsewhere in order; none of these numbers will be given again."""
        self.tables = dict(sorted(self.tables.items()))
        self.instances = dict(sorted(self.instances.items()))
        self.processes = dict(sorted(self.processes.items()))
        for kind, known in (("table", self.tables), ("instance", self.instances), ("process", self.processes)):
            self.numbers[kind] = max(known, default=0)

    # --- tables and instances -------------------------------------------------------------------------------------

    def visible_tables(self) -> Iterator[TableRecord]:
        """Yield the tables in the order of their creation."""
        return (table.record for table in self.tables.values() if not table.deleted)

    def table_named(self, name: str) -> TableRecord | None:
        """Return the table of this name, regardless of case."""
        return next((table for table in self.visible_tables() if fold(table.name) == fold(name)), None)

    def existing_table(self, name: str) -> int:
        """Return the id of the table of this name, which a change needs."""
        found = self.table_named(name)
        if found is None:
            raise contradiction(f"there is no table '{name}'")
        return found.table_id

    def put_table(self, record: TableRecord, deleted: bool = False) -> None:
        """Insert or replace a table, whose name must be free."""
        named = self.table_named(record.name)
        if not deleted and named is not None and named.table_id != record.table_id:
            raise contradiction(f"there are two tables '{record.name}'")
        self.tables[record.table_id] = Table(record, deleted)

    def visible_instances(self, table_id: int | None = None) -> Iterator[InstanceRecord]:
        """Yield the instances of a table, or of all, in the order of their commits."""
        for instance in self.instances.values():
            if not instance.deleted and table_id in (None, instance.record.table_id):
                yield instance.record

    def add_instance(self, record: InstanceRecord, serial: int, deleted: bool = False) -> int:
        """Insert an instance under the next row id, which is returned."""
        row_id = self.next_number("instance")
        self.put_instance(replace(record, row_id=row_id), serial, deleted)
        return row_id

    def put_instance(self, record: InstanceRecord, serial: int, deleted: bool) -> None:
        """Insert an instance, whose table must exist and whose id must be free."""
        if record.table_id not in self.tables:
            raise contradiction(f"there is no table {record.table_id}")
        ids = (other.instance_id for other in self.visible_instances(record.table_id))
        if not deleted and record.instance_id in ids:
            raise contradiction(f"there are two instances '{record.instance_id}'")
        self.instances[record.row_id] = Instance(record, serial, deleted)

    def check_instance(self, row_id: int) -> None:
        """Raise an error if an instance that a change refers to does not exist."""
        if row_id not in self.instances:
            raise contradiction(f"there is no instance {row_id}")

    def count_failures(self, row_id: int, failed: int, skipped: int) -> None:
        """Record the failed and skipped rows of an instance."""
        counted = replace(self.instances[row_id], failed_cells=failed, skipped_cells=skipped)
        self.instances[row_id] = counted

    def supersede_artifacts(self, table_id: int) -> None:
        """Mark the artifacts of a table's materialized instances as superseded."""
        for row_id, instance in self.instances.items():
            record = instance.record
            if (
                record.table_id == table_id
                and not instance.deleted
                and not record.temporary
                and record.success
                and record.artifact_state is ArtifactState.PRESENT
            ):
                superseded = replace(record, artifact_state=ArtifactState.SUPERSEDED)
                self.instances[row_id] = replace(instance, record=superseded)

    def superseded(self) -> list[InstanceRecord]:
        """Return the instances with superseded artifacts."""
        return [record for record in self.visible_instances() if record.artifact_state is ArtifactState.SUPERSEDED]

    def new_tag(self, tag: str, row_id: int, description: str, serial: int) -> TagRecord:
        """Return a tag that a process gives to an instance."""
        instance, process = self.instances[row_id].record, self.processes[serial].record
        return TagRecord(
            tag=tag,
            table_id=instance.table_id,
            table_name=self.tables[instance.table_id].record.name,
            row_id=row_id,
            instance_id=instance.instance_id,
            description=description,
            author=process.author,
            created_at=now(),
            process_id=process.process_id,
        )

    def add_tag(self, tag: TagRecord) -> None:
        """Insert a tag, which its table must not have."""
        key = (tag.table_id, fold(tag.tag))
        if key in self.tags:
            raise contradiction(f"table '{tag.table_name}' has two tags '{tag.tag}'")
        self.tags[key] = tag

    # --- processes ------------------------------------------------------------------------------------------------

    def add_process(self, process: Process) -> None:
        """Insert a process, whose id must be free unless one of the two was reverted."""
        record = process.record
        others = (other.record for other in self.processes.values())
        if record.status is not Status.REVERTED and any(
            other.process_id == record.process_id and other.status is not Status.REVERTED for other in others
        ):
            raise contradiction(f"there are two processes '{record.process_id}'")
        self.processes[record.serial] = process

    def end(self, process: Process) -> Process:
        """Return a process with the time and the position of its end."""
        self.ends += 1
        return replace(process, record=replace(process.record, ended_at=now()), place=self.ends)

    def ancestors(self, serial: int | None) -> set[int]:
        """Return the serial numbers of a process and its ancestors."""
        found: set[int] = set()
        while serial is not None and serial not in found:
            found.add(serial)
            serial = self.processes[serial].record.parent_serial if serial in self.processes else None
        return found

    # --- locks ----------------------------------------------------------------------------------------------------

    def conflicts(self, wanted: Sequence[Lock], parent_serial: int | None) -> tuple[int, ...]:
        """Return the serial numbers of the processes whose locks a child of `parent_serial` has to wait for.

        To the child, an exclusive lock of an ancestor is a shared one.
        """
        ancestors = self.ancestors(parent_serial)
        exclusive = [lock for lock in wanted if lock.exclusive]
        holders: set[int] = set()
        for serial, lock in self.locks:
            held = Lock(lock.resource, lock.exclusive and serial not in ancestors)
            if serial not in holders and any(map(held.conflicts, wanted if held.exclusive else exclusive)):
                holders.add(serial)
        return tuple(sorted(holders))

    def take(self, serial: int, locks: Iterable[Lock]) -> None:
        """Add locks of a process, which conflict with those of no other."""
        taken = {lock.resource for _, lock in self.locks if lock.exclusive}
        for lock in locks:
            if lock.exclusive and lock.resource in taken:
                raise contradiction(f"'{lock.resource}' is locked twice")
            taken |= {lock.resource} if lock.exclusive else set()
            self.locks.append((serial, lock))

    def release(self, serial: int) -> None:
        """Remove the locks of a process."""
        self.locks = [(holder, lock) for holder, lock in self.locks if holder != serial]

    # --- steps on disk --------------------------------------------------------------------------------------------

    def add_step(self, serial: int, tidying: Tidying) -> None:
        """Add a step on disk."""
        self.steps[self.next_number("step")] = Step(serial, tidying)

    def steps_of(self, serial: int) -> list[tuple[int, Tidying]]:
        """Return the steps of a process in their order, each with its id."""
        return [(step_id, step.tidying) for step_id, step in self.steps.items() if step.serial == serial]

    def failed_steps(self) -> dict[int, Step]:
        """Return the steps that failed, by id."""
        return {step_id: step for step_id, step in self.steps.items() if step.problem is not None}

    def keep_failed(self, serial: int, problems: Iterable[tuple[int, str]]) -> None:
        """Keep the steps of a process that failed, with their reasons; remove its other steps."""
        failed = dict(problems)
        kept = ((step_id, step) for step_id, step in self.steps.items() if step.serial != serial or step_id in failed)
        self.steps = {
            step_id: replace(step, problem=failed[step_id]) if step.serial == serial else step for step_id, step in kept
        }
