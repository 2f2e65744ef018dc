"""Description and sealing of the folders of tables and instances."""

from __future__ import annotations

from tablevault.layout import InstanceFolder
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


def seal(folder: InstanceFolder, frame: FrameRecord) -> str:
    """Make an instance's folder read-only and durable, with its entry in the table's folder.

    Returns the SHA-256 of its manifest, which lists every file except artifacts.
    """
    known = FileRecord(folder.frame.name, frame.size, frame.sha256)
    manifest = write_manifest(folder.manifest, folder.artifacts, {known.path: known})
    files.make_read_only(folder.root)
    files.fsync_tree(folder.root, durable=folder.artifacts)
    files.fsync_folder(folder.root.parent)
    return manifest
