"""Keyset-paginated lists of tables, instances and processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tablevault import names
from tablevault.catalog.owners import WORKER, kind_of
from tablevault.ports import Contents
from tablevault.reading.processes import ProcessReader
from tablevault.records import ProcessInfo
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup
from tablevault.values.contents import ArtifactState, ListedInstance


@dataclass(frozen=True)
class InstanceLine:
    """An instance in a list."""

    instance_id: str
    version: str
    temporary: bool
    active: bool
    success: bool
    external: bool
    """Whether a program writes its frame."""
    rows: int | None
    failed_cells: int
    skipped_cells: int
    tags: tuple[str, ...]
    description: str
    author: str
    created_at: datetime
    process_id: str
    artifacts_replaced: bool
    """Whether its artifacts were removed in favour of those of a newer instance."""


@dataclass(frozen=True)
class TableLine:
    """A table in a list."""

    table_name: str
    description: str
    author: str
    created_at: datetime
    allow_multiple_artifacts: bool
    has_side_effects: bool
    newest: InstanceLine | None
    """Its newest materialized instance."""


class Listings:
    """Reads pages of lists, in time independent of the length of the list.

    Parameters
    ----------
    context
        The open vault.
    processes
        Reader of processes.
    """

    def __init__(self, context: VaultContext, processes: ProcessReader) -> None:
        self._lookup = Lookup(context)
        self._context = context
        self._contents = context.catalog.contents
        self._processes = processes

    def generation(self) -> int:
        """Return a number that grows with every visible change."""
        return self._contents.generation()

    def tables(self, after: str, most: int) -> list[TableLine]:
        """Return the first tables after a name, sorted by name."""
        with self._context.catalog.snapshot():
            tables = self._contents.listed_tables(after, most)
            newest = self._contents.newest_listed([table.table_id for table in tables])
            lines = instance_lines(self._contents, list(newest.values()))
        return [
            TableLine(
                table.name,
                table.description,
                table.author,
                table.created_at,
                table.allow_multiple_artifacts,
                table.has_side_effects,
                lines[newest[table.table_id].row_id] if table.table_id in newest else None,
            )
            for table in tables
        ]

    def instances(self, table_name: str, temporary: bool, before: str, most: int) -> list[InstanceLine]:
        """Return instances of a table, newest first.

        Parameters
        ----------
        table_name
            The table.
        temporary
            Whether to return temporary rather than materialized instances.
        before
            Id of an instance; only older ones are returned. Empty for all.
        most
            Maximum number of instances.
        """
        with self._context.catalog.snapshot():
            table = self._lookup.table(table_name)
            until = self._lookup.instance(table, before).row_id if before else None
            found = self._contents.listed_instances(table.table_id, temporary, until, most)
            return list(instance_lines(self._contents, found).values())

    def history(self, filters: Mapping[str, str], before: int | None, most: int) -> dict[int, ProcessInfo]:
        """Return processes whose fields match all nonempty filters, newest first, by serial number.

        With a serial number as `before`, only earlier processes are returned.
        """
        return self._processes.numbered_history(dict(filters), most, before)

    def children(self, process_id: str) -> list[ProcessInfo]:
        """Return the children of a process, oldest first."""
        return self._processes.children(process_id)

    def existing(self, named: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Return the existing pairs of table name and instance id, which is empty for a table."""
        pairs = frozenset(named)
        with self._context.catalog.snapshot():
            tables = {name: self._contents.table(name) for name, _ in pairs}
            return frozenset(
                (name, instance_id)
                for name, instance_id in pairs
                if (table := tables[name]) is not None
                and (not instance_id or self._contents.instance(table.table_id, instance_id) is not None)
            )

    def existing_processes(self, process_ids: Iterable[str]) -> frozenset[str]:
        """Return the ids of processes of this vault; an imported instance names one of another vault."""
        find = self._context.catalog.processes.find
        return frozenset(name for name in frozenset(process_ids) if find(name) is not None)

    def is_in_background(self, process_id: str) -> bool:
        """Return whether the owner of a process is a background worker."""
        owner = self._lookup.process(process_id).owner_lock
        return owner is not None and kind_of(owner) == WORKER

    def worker_log(self, process_id: str, most: int) -> str:
        """Return the last `most` bytes of a worker's output as text; empty without output."""
        path = self._lookup.layout.worker_log(names.check_process_id(process_id))
        if not path.is_file() or path.is_symlink():
            return ""
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - most, 0))
            text = file.read(most).decode("utf-8", "replace")
        # Drop the truncated first line.
        return text if size <= most else text.partition("\n")[2]


def instance_lines(contents: Contents, found: Sequence[ListedInstance]) -> dict[int, InstanceLine]:
    """Return instances as lines of a list, by row id, in the given order."""
    row_ids = [item.row_id for item in found]
    counts = contents.failure_counts(row_ids)
    tags: dict[int, list[str]] = {}
    for tag in contents.tags(row_ids=row_ids):
        tags.setdefault(tag.row_id, []).append(tag.tag)
    return {
        item.row_id: InstanceLine(
            item.instance_id,
            item.version,
            item.temporary,
            item.active,
            item.success,
            item.external_edit,
            item.row_count,
            *counts.get(item.row_id, (0, 0)),
            tuple(tags.get(item.row_id, ())),
            item.description,
            item.author,
            item.created_at,
            item.process_id,
            item.artifact_state is ArtifactState.DROPPED,
        )
        for item in found
    }
