"""Shared context of one open vault."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tablevault.errors import TVFileError
from tablevault.layout import VaultLayout
from tablevault.ports import Catalog, FileStore, Owners
from tablevault.storage.frame_checks import FrameChecks
from tablevault.storage.service_counters import ServiceCounters
from tablevault.system import permissions
from tablevault.values.clusters import RayOptions


@dataclass(frozen=True)
class VaultContext:
    """Components and settings of one open vault."""

    layout: VaultLayout
    catalog: Catalog
    files: FileStore
    owners: Owners
    author: str
    lock_timeout: float
    """Seconds that an operation waits for a live process that blocks it."""
    vault_id: str
    ray: RayOptions = field(default_factory=RayOptions)
    """The cluster on which `executor: ray` runs rows."""
    parent_serial: int | None = None
    """Serial number of the process inside which this vault was opened."""
    frame_checks: FrameChecks = field(default_factory=FrameChecks, compare=False, repr=False)
    """Frame file columns already verified against their checksums."""

    def service_counters(self, owner: str) -> ServiceCounters:
        """Return the service limits for calls of the attempt with this owner lock file."""
        return ServiceCounters(self.layout.limits, owner, self.catalog.contents.services, self.owners.is_alive)

    @property
    def is_writable(self) -> bool:
        """Whether this user may write the vault's own files, which reading does not require."""
        return self._write_protected() is None

    def check_writable(self) -> None:
        """Raise `TVFileError` if this user may only read the vault."""
        protected = self._write_protected()
        if protected is not None:
            raise TVFileError(
                f"The vault '{self.layout.root}' can be read but not changed: {permissions.user_name()} may not write "
                f"to '{protected}'. Grant write permission, or remount the file system read-write."
            )

    def _write_protected(self) -> Path | None:
        layout = self.layout
        places = (layout.root, layout.metadata, layout.owners, layout.temporary, layout.catalog)
        return next((path for path in places if path.exists() and not permissions.may_write(path)), None)
