"""Copies of materialized instances, verified against their manifests."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from tablevault.archiving.exported import copied_digest, copy_artifact
from tablevault.errors import TVFileError
from tablevault.execution.provenance import read_artifact_records
from tablevault.layout import ERRORS, FINGERPRINTS, FRAME, INPUT_ROWS, USAGE, InstanceFolder
from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.manifest import read_manifest
from tablevault.values.contents import ArtifactState, InstanceRecord

CONTENT = (FRAME, FINGERPRINTS, ERRORS, USAGE, INPUT_ROWS, "artifacts.parquet")
"""The files of an instance with cells or per-cell facts."""


def copy_whole(source: InstanceFolder, target: InstanceFolder, instance: InstanceRecord) -> None:
    """Copy an instance with its frame and artifacts into a new, read-only folder.

    Raises
    ------
    TVFileError
        If a file is missing, has changed since it was written, or is a link.
    """
    _copy_listed(source, target, instance, without=())
    if instance.artifact_state is not ArtifactState.DROPPED:
        folder = ArtifactFolder(source.artifacts)
        for record in read_artifact_records(source.artifact_hashes).values():
            copy_artifact(_located(folder, record.path), target.artifacts / record.path, record)
        if source.artifacts.is_dir():
            files.make_folder(target.artifacts)
    files.make_read_only(target.root)


def copy_metadata(source: InstanceFolder, target: InstanceFolder, instance: InstanceRecord) -> None:
    """Copy an instance without its frame and artifacts into a new folder; raises like `copy_whole`."""
    _copy_listed(source, target, instance, without=(FRAME,))


def content_digests(folder: InstanceFolder, instance: InstanceRecord) -> dict[str, str]:
    """Return the SHA-256 of an instance's `CONTENT` files, by name."""
    records = read_manifest(folder.manifest, _digest_of(folder, instance))
    return {name: record.sha256 for name, record in records.items() if name in CONTENT}


def _copy_listed(
    source: InstanceFolder, target: InstanceFolder, instance: InstanceRecord, without: Container[str]
) -> None:
    files.unlinked(source.root)
    digest = _digest_of(source, instance)
    for name, record in read_manifest(source.manifest, digest).items():
        if name in without:
            continue
        path, copy = source.root / name, target.root / name
        if path.is_symlink() or not files.is_inside(source.root, path):
            raise TVFileError(f"{path} is a symbolic link, or below one; put the file itself there.")
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = copied_digest(path, copy)
        except FileNotFoundError as error:
            raise TVFileError(f"{path} is missing; verify() lists all problems.") from error
        if found != record.sha256:
            raise TVFileError(
                f"{path} is damaged: its content has changed since it was written. Restore it from a backup."
            )
    target.root.mkdir(parents=True, exist_ok=True)
    copied_digest(source.manifest, target.manifest)


def _digest_of(folder: InstanceFolder, instance: InstanceRecord) -> str:
    if instance.manifest is None:
        raise TVFileError(f"The catalog has lost the digest of {folder.manifest}.")
    return instance.manifest


def _located(folder: ArtifactFolder, name: str) -> Path:
    try:
        path = folder.locate(name)
    except ValueError as error:
        raise TVFileError(f"An artifact in {folder.path} has changed since it was written: {error}.") from error
    if path is None:
        raise TVFileError(f"The artifact {folder.path / name} is missing; verify() lists all problems.")
    return path
