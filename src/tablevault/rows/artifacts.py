"""Artifact files named by the cells of an instance under construction."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tablevault.storage import files
from tablevault.storage.artifact_commits import ArtifactCommits
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.dtypes import ColumnType, Kind
from tablevault.system import clock
from tablevault.values.contents import ArtifactRecord

_CLOCK_STEP = 0.05
"""Maximum clock difference in seconds between file system and interpreter."""
_CLEANING_UP = 1.0
"""Seconds for which a cancelled call may still write files."""


@dataclass(frozen=True)
class AdoptedArtifact:
    """A file of a reused cell, still in the folder of its origin."""

    folder: Path
    record: ArtifactRecord


@dataclass
class InstanceArtifacts:
    """Files of computed and reused cells, keyed by name in the instance's artifact folder."""

    folder: Path
    """The folder that functions write to."""
    computed: dict[str, ArtifactRecord] = field(default_factory=dict)
    """Recorded files of computed cells."""
    adopted: dict[str, ArtifactRecord] = field(default_factory=dict)
    """Files of reused cells."""
    refused: set[str] = field(default_factory=set)
    """Names of files of this attempt that differ from those of reused cells."""
    left_on_workers: set[str] = field(default_factory=set)
    """Files of remote calls that no result named; they were not copied here."""
    doubtful: list[tuple[float, float]] = field(default_factory=list)
    """Intervals, in seconds since 1970, of calls that failed, were repeated or interrupted, or timed out."""

    def doubt(self, since: float, until: float) -> None:
        """Record the interval of a failed call, which may have left orphaned files."""
        self.doubtful.append((since, until))

    def doubt_earlier_attempts(self) -> None:
        """Record that calls of earlier attempts failed or were interrupted, at unknown times."""
        self.doubt(0.0, clock.time())

    def doubt_call(self, seconds: float, was_cancelled: bool = False) -> None:
        """Record that a call, or all calls of a try, have just failed.

        Parameters
        ----------
        seconds
            Time since the first call began.
        was_cancelled
            Whether the last call was cancelled and may still write files.
        """
        now = clock.time()
        self.doubt(now - seconds, now + (_CLEANING_UP if was_cancelled else 0.0))

    def may_be_left(self, name: str) -> bool:
        """Return whether a file may have been written by a failed or interrupted call."""
        try:
            written = os.lstat(self.folder / name).st_ctime
        except OSError:
            return False
        return any(since - _CLOCK_STEP <= written <= until + _CLOCK_STEP for since, until in self.doubtful)

    @cached_property
    def commits(self) -> ArtifactCommits:
        """Flushes files to disk; opened before the first write, to miss no error."""
        return ArtifactCommits(self.folder)

    @cached_property
    def _files(self) -> ArtifactFolder:
        return ArtifactFolder(self.folder)

    def name_of(self, value: object) -> str:
        """Return the file name held by a computed cell.

        Raises
        ------
        ValueError
            If the cell cannot name a file in the folder, or a reused cell names a different file of that name.
        """
        folder = self._files
        name = folder.checked_name(value)
        record = self.adopted.get(name)
        # Two rows may have written the same file; rejecting the first one removes it.
        differs = not folder.matches(record) if record and folder.exists(name) else name in self.refused
        if record is not None and differs:
            # The row is rejected, so no cell may name the file that its function wrote.
            files.remove_tree(self.folder / name)
            self.refused.add(name)
            raise ValueError(
                f"{name!r} is also the file of a reused cell with different content; "
                "name files after their inputs, such as the row's key"
            )
        return name

    def add_computed(self, records: Iterable[ArtifactRecord]) -> None:
        """Add the recorded files of computed cells."""
        self.computed.update((record.path, record) for record in records)

    def add_adopted(self, file: AdoptedArtifact) -> None:
        """Add the file of a reused cell."""
        self.adopted[file.record.path] = file.record

    def may_adopt(self, file: AdoptedArtifact) -> bool:
        """Return whether no other cell names a different file of this name."""
        name = file.record.path
        others = (self.computed.get(name), self.adopted.get(name))
        return all(other is None or other.sha256 == file.record.sha256 for other in others)

    def are_intact(self, records: Iterable[ArtifactRecord]) -> bool:
        """Return whether files are unchanged since their rows were finished."""
        return all(map(self._files.matches, records))

    def remove(self, records: Iterable[ArtifactRecord]) -> None:
        """Remove the files of rows to recompute, which would collide with the new ones."""
        for record in records:
            path = self.folder / record.path
            if not files.is_led_out(self.folder, path):
                files.remove_tree(path)


def names_artifacts(column_type: ColumnType | None) -> bool:
    """Return whether cells of a type name artifacts."""
    return column_type is not None and column_type.kind is Kind.ARTIFACT
