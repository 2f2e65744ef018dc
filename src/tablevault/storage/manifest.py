"""The manifest of an instance.

It has the size and hash of every file in the folder, and is written once it is final.

Artifacts are excluded and have their own records, because superseded ones are removed before the rest. The catalog
stores the hash of the manifest itself, so that a flipped bit is found wherever it is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tablevault.errors import TVFileError
from tablevault.names import is_inner_path
from tablevault.storage import files


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file at the time of writing the manifest."""

    path: str
    """Relative to the instance's folder, with `/` as separator."""
    size: int
    """In bytes."""
    sha256: str
    """Hexadecimal digest of the content."""


def write_manifest(path: Path, excluded: Path, known: Mapping[str, FileRecord]) -> str:
    """Write the manifest of a folder and return its own SHA-256; the caller makes it durable.

    Parameters
    ----------
    path
        The manifest, inside the folder that it describes.
    excluded
        A subfolder to leave out.
    known
        Records that need not be computed again, by path.
    """
    records = [known.get(name) or _record(path.parent, name) for name in sorted(listing(path.parent, excluded))]
    data = msgspec.json.format(msgspec.json.encode(records), indent=2)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_manifest(path: Path, sha256: str) -> dict[str, FileRecord]:
    """Read a manifest with a known hash; raises `TVFileError` if it has changed."""
    data = files.read_bytes(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise TVFileError(f"The manifest {path} is damaged: its hash is not the one in the catalog.")
    try:
        records = msgspec.json.decode(data, type=list[FileRecord])
        outside = [record.path for record in records if not is_inner_path(record.path)]
        if outside:
            raise ValueError(f"it lists {outside[0][:200]!r}, which is not a file of the folder")
        return {record.path: record for record in records}
    except (ValueError, RecursionError) as error:
        raise TVFileError(f"The manifest {path} is invalid: {error}.") from error


def check_listed(manifest: Path, sha256: str | None, path: Path) -> None:
    """Raise `TVFileError` unless a file of a sealed folder matches its manifest.

    Parameters
    ----------
    manifest
        The manifest of the folder.
    sha256
        Its hash; `None` if it was never recorded, in which case nothing is checked.
    path
        A file in the folder or below.
    """
    if sha256 is None:
        return
    record = read_manifest(manifest, sha256).get(path.relative_to(manifest.parent).as_posix())
    if record is None or hashlib.sha256(files.read_bytes(path)).hexdigest() != record.sha256:
        raise TVFileError(f"{path} is damaged: its content has changed since it was written. Restore it from a backup.")


def listing(folder: Path, excluded: Path) -> Iterator[str]:
    """Yield the relative paths of all non-folders below a folder; links are not followed."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if not entry.is_dir(follow_symlinks=False):
                    yield path.relative_to(folder).as_posix()
                elif path != excluded:
                    waiting.append(path)


def _record(folder: Path, name: str) -> FileRecord:
    path = folder / name
    return FileRecord(name, path.stat().st_size, files.sha256(path))
