"""Checkpoints in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tablevault.ports import StoredPart


class MemoryLog:
    """The checkpoints of one process in memory, as a `CheckpointLog`.

    Parameters
    ----------
    folder
        A folder for whole frames, which readers open as files.
    earlier
        The log of an earlier attempt of the same process.
    """

    def __init__(self, folder: Path, earlier: MemoryLog | None = None) -> None:
        self._folder = folder
        self._parts: list[StoredPart] = [] if earlier is None else earlier._parts
        self._frames: dict[str, Path] = {} if earlier is None else earlier._frames

    def __str__(self) -> str:
        return "checkpoints in memory"

    def create(self) -> None:
        """Create the folder for frames."""
        self._folder.mkdir(exist_ok=True)

    def prepare(self) -> None:
        """Do nothing: memory needs no preparation."""

    def append(self, parts: Sequence[tuple[str, bytes]]) -> None:
        """Append packed parts; readers see all of them or none."""
        place = str(self)
        self._parts += [StoredPart(builder, bytes(content), place) for builder, content in parts]

    def save_frame(self, builder: str, write: Callable[[Path], object]) -> str:
        """Save a whole frame."""
        name = f"{builder}-{len(self._frames) + 1}"
        path = self._folder / name
        write(path)
        self._frames[name] = path
        return name

    def frame(self, name: str) -> Path:
        """Return the file of a saved frame."""
        return self._frames[name]

    def close(self) -> None:
        """Do nothing: nothing can be lost."""

    def abandon(self) -> None:
        """Do nothing: nothing is held."""

    def read(self, builder: str | None = None) -> Iterator[StoredPart]:
        """Yield the parts of one builder, or of all, in the order of appending."""
        return (part for part in self._parts.copy() if builder in (None, part.builder))
