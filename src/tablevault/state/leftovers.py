"""Files in a vault's own folders that the catalog does not account for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tablevault.layout import (
    ARTIFACTS,
    CODE_FUNCTIONS,
    CREATING,
    DESCRIPTION,
    MARKER,
    METADATA,
    SET_ASIDE,
    TEMPORARY,
    serial_in,
)
from tablevault.names import is_materialized
from tablevault.state.context import VaultContext
from tablevault.state.liveness import Liveness
from tablevault.state.lookup import Lookup
from tablevault.storage.files import TEMPORARY_SUFFIX
from tablevault.system import clock
from tablevault.values.contents import TableRecord

_OF_METADATA = frozenset(
    {"catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db-journal", "logs.txt", "logs.lock"}
    | {"worker_logs", "owners", "limits.db", "ARCHIVED_TRASH"}
)

_MOMENT = 0.1
"""Maximum seconds between creating and locking a lock file."""


class Leftovers:
    """Compares folders with the catalog.

    Each folder is read before the catalog, because a process records a file before creating it.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._context = context
        self._lookup = Lookup(context)
        self._liveness = Liveness(context)
        self._layout = context.layout
        self._processes = context.catalog.processes
        self._tidying = context.catalog.tidying

    def in_root(self) -> list[Path]:
        """Return unaccounted files of the vault's folder, except hidden ones."""
        found = _visible_names(self._layout.root)
        tables = {table.folder for table in self._context.catalog.contents.tables()}
        own = {MARKER, DESCRIPTION, CODE_FUNCTIONS, METADATA, TEMPORARY}
        return self._beyond(self._layout.root, found, tables | own)

    def in_table(self, table: TableRecord) -> list[Path]:
        """Return unaccounted files of a table's folder."""
        folder = self._lookup.table_folder(table)
        found = _visible_names(folder)
        current = self._context.catalog.contents.table_by_id(table.table_id) or table
        folders = self._context.catalog.contents.instance_folders(table.table_id)
        links = set() if current.allow_multiple_artifacts else {ARTIFACTS}
        return self._beyond(folder, found, folders | links | {DESCRIPTION})

    def in_metadata(self) -> list[Path]:
        """Return unaccounted files of `metadata/`, including those of unknown processes."""
        found = [path for path in _visible(self._layout.metadata) if path.name not in _OF_METADATA]
        for path in _visible(self._layout.worker_logs):
            if path.suffix != ".log" or self._processes.find(path.stem) is None:
                found.append(path)
        for path in _visible(self._layout.trash):
            serial = serial_in(path.name.partition("_")[0])
            if serial is None or self._processes.get(serial) is None:
                found.append(path)
        return [*found, *self._foreign_owners()]

    def _foreign_owners(self) -> list[Path]:
        """Return the entries of the folder of lock files that are none."""
        # In this order, because an owner removes its file at any time.
        visible = _visible(self._layout.owners)
        names = set(self._context.owners.names())
        return [path for path in visible if path.name not in names and os.path.lexists(path)]

    def in_temporary(self) -> list[Path]:
        """Return files of `_temp/` that are no longer needed by a process."""
        return [path for path in _visible(self._layout.temporary) if not self._is_needed(path.name)]

    def dead_owners(self) -> list[Path]:
        """Return stale lock files, except those of processes that recovery has yet to end."""
        owners = self._context.owners
        dead = [name for name in owners.names() if not owners.is_alive(name)]
        expected = {record.owner_lock for record in self._processes.unfinished()}
        unexpected = [name for name in dead if name not in expected]
        if not unexpected:
            return []
        # An owner creates its file shortly before locking it.
        clock.sleep(_MOMENT)
        still_there = set(owners.names())
        return [self._layout.owners / name for name in unexpected if name in still_there and not owners.is_alive(name)]

    def removable(self) -> list[Path]:
        """Return leftovers of crashes in the folders of the vault and its tables.

        User files are not included.

        These are uncommitted instances, and half-written files unless a running process may be writing them.
        """
        half_written = [path for path in self._layout.root.iterdir() if path.name.endswith(TEMPORARY_SUFFIX)]
        created: list[Path] = []
        for table in self._context.catalog.contents.tables():
            for path in self.in_table(table):
                if path.name.endswith(TEMPORARY_SUFFIX):
                    half_written.append(path)
                elif self._was_created(self._layout.relative(path)):
                    created.append(path)
        return [*created, *self.unwritten(half_written)]

    def unwritten(self, found: Iterable[Path]) -> list[Path]:
        """Return files of interrupted writes; none while a running process may still be writing them."""
        half_written = list(found)
        if half_written and any(map(self._liveness.is_alive, self._processes.unfinished())):
            return []
        return half_written

    def _was_created(self, location: str) -> bool:
        """Return whether a process created this instance folder, even if it was set aside since."""
        created = location.partition(SET_ASIDE)[0]
        return is_materialized(Path(created).name) and self._processes.created(created)

    def pending(self) -> set[str]:
        """Return the paths that unfinished processes create, and those of failed tidying steps."""
        paths: set[str] = set()
        for record in self._processes.unfinished():
            paths.update(item.location for item in record.plan.creates)
            for _, step in self._tidying.of(record.serial):
                paths.update((step.source, step.target))
        for step, _ in self._tidying.failed():
            paths.update((step.source, step.target))
        return paths

    def _beyond(self, folder: Path, found: Iterable[str], known: set[str]) -> list[Path]:
        """Return the files that are neither known nor pending."""
        unknown = [folder / name for name in sorted(found) if name not in known]
        if not unknown:
            return []
        pending = self.pending()
        return [path for path in unknown if pending.isdisjoint((self._layout.relative(path), self._created_as(path)))]

    def _created_as(self, path: Path) -> str:
        """Return the recorded location of a folder that may have been set aside."""
        return self._layout.relative(path).partition(SET_ASIDE)[0]

    def _is_needed(self, name: str) -> bool:
        serial = serial_in(name)
        record = self._processes.get(serial) if serial is not None else None
        return record is not None and (not record.finished or bool(self._tidying.of(record.serial)))


def is_hidden(name: str) -> bool:
    """Return whether a file is hidden and not one of TableVault's own."""
    return name.startswith(".") and name not in (MARKER, CREATING) and not name.endswith(TEMPORARY_SUFFIX)


def _visible(folder: Path) -> list[Path]:
    return [folder / name for name in sorted(_visible_names(folder))]


def _visible_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    # As strings, because a table's folder may have many thousands of entries.
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not is_hidden(entry.name)]
