"""Location of an instance's metadata, in its own folder or in the archive."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from tablevault.layout import InstanceFolder, serial_in
from tablevault.state.lookup import Lookup
from tablevault.values.contents import InstanceRecord, TableRecord


class MetadataFolders:
    """Finds the metadata of instances, deleted or not.

    Parameters
    ----------
    lookup
        Finds existing instances.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def of(self, table: TableRecord, instance: InstanceRecord) -> InstanceFolder | None:
        """Return the folder of an instance's metadata; `None` if it no longer exists."""
        folder = self._lookup.folder(table, instance)
        if folder.provenance.is_file():
            return folder
        archived = (path for path in self._archived if path.name.endswith(f"_{instance.instance_id}"))
        candidates = [*archived, *(path / instance.folder for path in self._archived)]
        found = (InstanceFolder(path) for path in candidates)
        return next((item for item in found if item.provenance.is_file()), None)

    def was_deleted(self, table: TableRecord, instance: InstanceRecord) -> bool:
        """Return whether an instance was deleted, rather than imported as metadata only.

        A deletion archives metadata under its own serial number, an export or import under that of the process that
        made the instance.
        """
        if self._lookup.contents.instance(table.table_id, instance.instance_id) is not None:
            return False
        maker = self._lookup.context.catalog.processes.find(instance.process_id)
        return maker is None or self.archived_by(table, instance) != maker.serial

    def archived_by(self, table: TableRecord, instance: InstanceRecord) -> int | None:
        """Return the serial number of the process that archived an instance's metadata, if any."""
        folder, trash = self.of(table, instance), self._lookup.layout.trash
        if folder is None or not folder.root.is_relative_to(trash):
            return None
        serial = folder.root.relative_to(trash).parts[0].partition("_")[0]
        return serial_in(serial)

    @cached_property
    def _archived(self) -> list[Path]:
        trash = self._lookup.layout.trash
        return sorted(path for path in trash.iterdir() if path.is_dir()) if trash.is_dir() else []
