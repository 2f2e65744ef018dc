"""Input and output files of calls on other machines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder, normalise_name

_INPUTS, _CALLS = "inputs", "calls"


class SentFile(NamedTuple):
    """A file created by a call and named in its result."""

    name: str
    size: int
    sha256: str


class InputFile(NamedTuple):
    """A file sent with a call."""

    name: str
    sha256: str
    pieces: list[Any]
    """References to its contents in Ray's object store."""


class WorkerFiles:
    """The files of one worker, in its own folder, which is created on demand."""

    def __init__(self) -> None:
        self._root: Path | None = None
        self._sent: dict[int, list[SentFile]] = {}

    def make(self, call: int, keeps: bool = False) -> Path:
        """Create the folder for a call's files; `keeps` retains existing ones."""
        folder = self._folder(_CALLS) / str(call)
        if not keeps:
            files.remove_tree(folder)
        folder.mkdir(exist_ok=keeps)
        return folder

    def found(self, call: int, value: object) -> tuple[list[SentFile], list[str]]:
        """Return a call's files named in its result, and the other names."""
        folder = ArtifactFolder(self._folder(_CALLS) / str(call))
        there = folder.listing()
        named = sorted(there.intersection(_names(value)))
        sent = []
        for name in named:
            path = folder.path / name
            sent.append(SentFile(name, path.stat().st_size, files.sha256(path)))
        self._sent[call] = sent
        return sent, sorted(there.difference(named))

    def read(self, call: int, name: str, offset: int, size: int) -> bytes:
        """Return a piece of a file created by a call."""
        with (self._folder(_CALLS) / str(call) / name).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def remove_sent(self, call: int) -> None:
        """Remove the files named in the last result of a call."""
        for file in self._sent.pop(call, ()):
            files.remove_tree(self._folder(_CALLS) / str(call) / file.name)

    def remove(self, call: int) -> None:
        """Remove the files created by a call."""
        self._sent.pop(call, None)
        files.remove_tree(self._folder(_CALLS) / str(call))

    def fetched(self, file: InputFile) -> str:
        """Return the local path of an input file, fetching it if necessary."""
        import ray

        folder = self._folder(_INPUTS) / file.sha256
        path = folder / file.name
        if not path.exists():
            files.make_folder(folder)
            part = folder / f"{os.urandom(8).hex()}{files.TEMPORARY_SUFFIX}"
            with part.open("wb") as target:
                for piece in file.pieces:
                    target.write(ray.get(piece))
            part.replace(path)
        return str(path)

    def close(self) -> None:
        """Remove everything."""
        if self._root is not None:
            files.remove_tree(self._root)

    def _folder(self, name: str) -> Path:
        if self._root is None:
            files.remove_scratch_folders_of_dead_processes()
            self._root = files.scratch_folder_of_process()
        folder = self._root / name
        folder.mkdir(exist_ok=True)
        return folder


def _names(value: object) -> Iterator[str]:
    """Yield the texts in a result that may be file names."""
    if isinstance(value, str | os.PathLike):
        try:
            yield normalise_name(value)
        except ValueError:
            return
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _names(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _names(item)
    elif hasattr(value, "to_dict") and hasattr(value, "columns"):
        for column in value.columns:
            yield from _names(list(value[column]))  # type: ignore[index]
    elif hasattr(value, "tolist"):
        yield from _names(value.tolist())
