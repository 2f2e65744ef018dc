"""Description and sealing of the folders of tables and instances."""

from __future__ import annotations

from tablevault.layout import InstanceFolder
from tablevault.ports import FileStore
from tablevault.storage import files
from tablevault.storage.frame_files import FrameRecord
from tablevault.storage.manifest import FileRecord, write_manifest
from tablevault.texts.descriptions import description_text
from tablevault.values.changes import NewTable
from tablevault.values.contents import TableRecord


def describe_table(table_name: str, description: str, settings: NewTable | TableRecord) -> dict[str, object]:
    """Return the content of a table's description file."""
    return {
        "table": table_name,
        "description": description,
        "allow_multiple_artifacts": settings.allow_multiple_artifacts,
        "has_side_effects": settings.has_side_effects,
    }


def write_description(folder: InstanceFolder, **facts: object) -> None:
    """Write the human-readable description of an instance or table; the caller makes it durable."""
    files.write_unsynced(folder.description, description_text(facts))


def seal(store: FileStore, key: str, folder: InstanceFolder, frame: FrameRecord) -> str:
    """Complete and seal an instance's folder.

    Parameters
    ----------
    store, key
        The vault's files, and the key of the folder.
    folder
        The folder itself.
    frame
        The record of its frame.

    Returns
    -------
    str
        SHA-256 of the manifest, which lists every file except artifacts.
    """
    known = FileRecord(folder.frame.name, frame.size, frame.sha256)
    manifest = write_manifest(folder.manifest, folder.artifacts, {known.path: known})
    store.seal(key, durable=folder.artifacts.name)
    return manifest
