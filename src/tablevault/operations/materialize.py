"""Completion and sealing of an instance's folder, shared by all operations."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tablevault.errors import TVArtifactError, TVFileError
from tablevault.execution.frame import DraftFrame
from tablevault.execution.provenance import Provenance, write_artifact_records, write_provenance
from tablevault.layout import ARTIFACTS, InstanceFolder
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.columns import Column
from tablevault.storage.folders import seal, write_description
from tablevault.storage.frames import FrameData, FrameRecord
from tablevault.system.permissions import may_write
from tablevault.system.warnings import warn
from tablevault.values.changes import Tidying, TidyingAction
from tablevault.values.contents import ArtifactRecord, ColumnRecord, TableRecord

_MAXIMUM_SHOWN = 5
"""Maximum number of files named in a warning."""
_MAXIMUM_LISTED = 1_000
"""Maximum number of files named in an error; the rest are counted."""


@dataclass(frozen=True)
class InstanceFacts:
    """The description of a new instance."""

    table_name: str
    instance_id: str
    rows: int
    success: bool = True
    failed_cells: int = 0
    skipped_cells: int = 0


def seal_instance(
    lookup: Lookup,
    folder: InstanceFolder,
    frame: FrameRecord,
    artifacts: Sequence[ArtifactRecord],
    provenance: Provenance,
    facts: InstanceFacts,
) -> str:
    """Complete an instance's folder, and make it read-only and durable.

    Parameters
    ----------
    lookup
        The vault's files.
    folder
        Contains the frame, and the files specific to this kind of instance.
    frame
        The record of the written frame.
    artifacts
        The records of the files in the artifact folder.
    provenance
        Provenance of the instance.
    facts
        Its description.

    Returns
    -------
    str
        SHA-256 of the manifest.
    """
    if artifacts:
        write_artifact_records(folder.artifact_hashes, artifacts)
    write_provenance(folder.provenance, provenance)
    write_description(
        folder,
        table=facts.table_name,
        instance=facts.instance_id,
        author=provenance.author,
        process_id=provenance.process_id,
        rows=facts.rows,
        success=facts.success,
        **({"failed_cells": facts.failed_cells} if facts.failed_cells else {}),
        **({"skipped_cells": facts.skipped_cells} if facts.skipped_cells else {}),
    )
    return seal(lookup.files, lookup.layout.relative(folder.root), folder, frame)


def new_instance_id(version: str) -> str:
    """Return a new id for an instance about to be materialized."""
    return f"{version}_{int(time.time())}_{uuid.uuid4().hex}"


def column_records(data: FrameData) -> tuple[ColumnRecord, ...]:
    """Return the catalog's records of a frame's columns."""
    return tuple(ColumnRecord(name, column_type.name) for name, column_type in data.types.items())


def reopen(folder: InstanceFolder, kept: Path) -> None:
    """Prepare the partly filled folder of an interrupted attempt for the next one.

    A folder sealed by another user is set aside, since only its owner can empty it, and the files to keep are copied
    from it. File modes are left unchanged, since a link shares them with a committed file, which must stay read-only.

    Parameters
    ----------
    folder
        The instance's folder; may be missing.
    kept
        The file or folder in it to keep from an earlier attempt; everything else is removed.
    """
    for place in (folder.root, kept):
        files.unlinked(place)
    if folder.root.is_dir():
        if _is_made_writable(folder.root):
            _clear(folder.root, kept)
        else:
            files.replace(folder.root, folder.next_set_aside())
    elif folder.root.exists():
        raise TVFileError(f"{folder.root} is not a folder and in the way of a new instance; move it elsewhere.")
    if not kept.exists():
        earlier = [aside.root / kept.name for aside in folder.set_aside()]
        source = next((path for path in earlier if path.exists()), None)
        if source is not None:
            _copy_kept(source, kept)


def _is_made_writable(root: Path) -> bool:
    """Make a folder and its subfolders writable; return whether this user can."""
    for path in (root, *root.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            files.make_writable(path)
            if not may_write(path):
                return False
    return True


def _clear(root: Path, kept: Path) -> None:
    for path in root.iterdir():
        if path != kept:
            files.remove_tree(path)
    for path in (kept, *kept.rglob("*")):
        if _is_made_again(path):
            path.unlink()


def _copy_kept(source: Path, kept: Path) -> None:
    """Atomically copy the finished files of an earlier attempt."""
    copy = kept.with_name(f"{kept.name}{files.TEMPORARY_SUFFIX}")
    files.make_folder(kept.parent)
    for path in (source, *source.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            files.make_folder(copy / path.relative_to(source))
        elif path.is_file() and not _is_made_again(path):
            files.copy_file(path, copy / path.relative_to(source))
    files.replace(copy, kept)


def _is_made_again(path: Path) -> bool:
    """Return whether a file is a partial write or a reused cell's link."""
    return path.name.endswith(files.TEMPORARY_SUFFIX) or (path.is_file() and path.stat().st_nlink > 1)


def artifact_link(lookup: Lookup, table: TableRecord, folder: str, has_artifacts: bool) -> Tidying:
    """Return the step that links `<table>/artifacts` to an instance's artifacts, or removes the link."""
    parent = lookup.layout.relative(lookup.table_folder(table))
    if not has_artifacts:
        return Tidying(TidyingAction.UNLINK, target=f"{parent}/{ARTIFACTS}")
    return Tidying(TidyingAction.LINK, f"{parent}/{folder}/{ARTIFACTS}", f"{parent}/{ARTIFACTS}")


def reconcile_artifacts(frame: DraftFrame, strict: bool) -> list[ArtifactRecord]:
    """Link the artifacts of reused cells, and check that files and cells agree.

    Parameters
    ----------
    frame
        The finished columns.
    strict
        Whether a missing or unnamed file is an error; if not, unnamed files are dropped. Unnamed files written during
        a call that failed, was retried or timed out, or in an earlier attempt, are dropped with a warning in either
        case.

    Raises
    ------
    TVArtifactError
        If files and cells disagree; lists all violations.
    """
    folder = ArtifactFolder(frame.artifacts.folder)
    named = frame.artifact_names()
    adopted = _adopt(folder, frame)
    missing, unnamed = sorted(folder.missing(named)), sorted(folder.unnamed(named))
    elsewhere = frame.artifacts.left_on_workers - set(named)
    if strict:
        left = [name for name in unnamed if frame.artifacts.may_be_left(name)]
        texts = {name: built.column for name, built in frame.columns.items() if not built.holds_artifacts}
        wrong, stray = undeclared_columns(texts, sorted({*unnamed, *elsewhere} - set(left)))
        check_artifacts(missing, stray, named, _FOR_BUILDERS, wrong)
        if left:
            shown = ", ".join(left[:_MAXIMUM_SHOWN]) + (", …" if len(left) > _MAXIMUM_SHOWN else "")
            warn(
                f"{len(left):,} {'file' if len(left) == 1 else 'files'} of calls that failed, were repeated or were "
                f"interrupted, which no cell names, {'was' if len(left) == 1 else 'were'} dropped: {shown}."
            )
    for name in unnamed:
        files.remove_tree(frame.artifacts.folder / name)
    # A function may have written to a file after its row was finished; the current content counts.
    names = sorted(set(named) - set(missing))
    computed = [name for name in names if name not in adopted]
    found = dict(zip(computed, frame.artifacts.commits.describe(computed), strict=True)) | adopted
    return [record for name in names if (record := found[name]) is not None]


def _adopt(folder: ArtifactFolder, frame: DraftFrame) -> dict[str, ArtifactRecord]:
    """Link the files of reused cells from their origins; return their records by name."""
    by_source: dict[Path, dict[str, ArtifactRecord]] = {}
    reused = [file.record.path for by_row in frame.adopted.values() for file in by_row.values()]
    there = folder.existing(reused)
    for by_row in frame.adopted.values():
        for file in by_row.values():
            name = file.record.path
            if name in there and not folder.matches(file.record):
                computed = frame.computed_artifact_names()
                if name in computed:
                    raise TVArtifactError(
                        f"{name} is named by column '{computed[name][0]}', row {computed[name][1]}, and by a cell that "
                        "was reused from the origin, with another content; name files after their inputs, "
                        "such as the row's key."
                    )
                # A leftover of a failed row.
                files.remove_tree(frame.artifacts.folder / name)
                there.discard(name)
            by_source.setdefault(file.folder, {})[name] = file.record
    for source, records in by_source.items():
        folder.adopt(source, records.values())
    return {name: record for records in by_source.values() for name, record in records.items()}


@dataclass(frozen=True)
class ArtifactRemedies:
    """What to do about files and cells that disagree, as sentences."""

    missing: str
    """About cells without a file."""
    unnamed: str
    """About files without a cell."""


_FOR_BUILDERS = ArtifactRemedies(
    "Write every file that a cell names into ~ARTIFACT_FOLDER~.",
    "Name every file that is written in an artifact_string column, or write it elsewhere.",
)


def check_artifacts(
    missing: Sequence[str],
    unnamed: Sequence[str],
    named: Mapping[str, tuple[str, int]],
    remedies: ArtifactRemedies,
    wrong: Sequence[str] = (),
) -> None:
    """Raise `TVArtifactError` if files and cells disagree; it lists all violations.

    Parameters
    ----------
    missing, unnamed
        Cells without a file, and files without a cell.
    named
        The column and row of the cell of each name.
    remedies
        What to do about them.
    wrong
        Messages about columns and cells that are not valid artifacts.
    """
    problems = [*wrong]
    problems += [
        f"{name} (named in column '{named[name][0]}', row {named[name][1]}) does not exist" for name in missing
    ]
    problems += [f"{name} is not named by any cell" for name in unnamed]
    if problems:
        listed = "; ".join(problems[:_MAXIMUM_LISTED])
        more = f"; and {len(problems) - _MAXIMUM_LISTED:,} more" if len(problems) > _MAXIMUM_LISTED else ""
        said = [remedies.missing] * bool(missing) + [remedies.unnamed] * bool(unnamed)
        raise TVArtifactError(" ".join([f"Artifacts and artifact columns do not agree: {listed}{more}.", *said]))


def undeclared_columns(columns: Mapping[str, Column], unnamed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return messages about columns of text that name files but are not declared, and the files that they do not name.

    Parameters
    ----------
    columns
        The columns that are not of artifacts.
    unnamed
        The files that no column of artifacts names.
    """
    messages, left = [], set(unnamed)
    for name, column in columns.items() if unnamed else ():
        texts = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        if pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type):
            found = sorted(set(unnamed).intersection(texts.unique().to_pylist()))
            if found:
                left.difference_update(found)
                files_text = f"the file {found[0]}" if len(found) == 1 else f"{len(found):,} files such as {found[0]}"
                messages.append(f"column '{name}' names {files_text}; declare its dtype as artifact_string")
    return messages, sorted(left)
