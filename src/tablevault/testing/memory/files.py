"""The files of a vault in memory."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tablevault.errors import TVFileError
from tablevault.layout import ARTIFACTS, FRAME, PARTIAL
from tablevault.names import is_inner_path
from tablevault.values.changes import Tidying, TidyingAction


@dataclass(frozen=True)
class _Link:
    target: str


_Node = bytes | _Link | None
"""A file, a link, or a folder."""


class MemoryFiles:
    """The files of a vault in memory, as a `FileStore`.

    Parameters
    ----------
    folder
        An empty folder for local files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._nodes: dict[str, _Node] = {"": None}
        self._notes: dict[str, str] = {}
        """Digests of the contents that staged files could not replace."""

    def local(self, key: str) -> Path:
        """Return a path, at which the files of the store are written first."""
        path = self._folder / _checked(key)
        for name, node in self._below(key).items():
            place = path / name
            if node is None:
                place.mkdir(parents=True, exist_ok=True)
            elif isinstance(node, bytes):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(node)
        return path

    def exists(self, key: str) -> bool:
        """Return whether there is a file or folder, also at the end of a link."""
        return self._resolved(_checked(key)) in self._nodes

    def names(self, key: str) -> list[str]:
        """Return the names in a folder, sorted; empty for a missing one."""
        _checked(key)
        if isinstance(self._nodes.get(key), _Link):
            raise TVFileError(f"'{key}' is a link.")
        place = self._resolved(key)
        return sorted(name for name in self._below(place) if name and "/" not in name)

    def read(self, key: str) -> bytes:
        """Return the content of a file."""
        if isinstance(self._nodes.get(_checked(key)), _Link):
            raise TVFileError(f"'{key}' is a link.")
        place = self._resolved(key)
        if place not in self._nodes:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
        node = self._nodes[place]
        if not isinstance(node, bytes):
            raise TVFileError(f"'{key}' is not a file.")
        return node

    def write(self, key: str, content: bytes) -> None:
        """Write a file, and the folders around it."""
        self._make_folder(_parent(_checked(key)))
        place = self._resolved(_parent(key), key)
        if self._is_folder(place):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), key)
        self._nodes[place] = content

    def seal(self, key: str, durable: str = "") -> None:
        """Take over what was written to the local folder."""
        root = self._folder / _checked(key)
        self._make_folder(key)
        for path in sorted(root.rglob("*")):
            name = f"{key}/{path.relative_to(root).as_posix()}"
            if path.is_dir():
                self._make_folder(name)
            else:
                self._nodes[name] = path.read_bytes()

    def apply(self, step: Tidying) -> None:
        """Perform a step of a decision."""
        try:
            self._apply(step)
        except OSError:
            if step.action is TidyingAction.PUT_FILE:
                self._notes[step.source] = self._digest(step.target)
            raise

    def put_again(self, step: Tidying, archived: str) -> bool:
        """Put a staged file in place, unless its target was edited by hand; return whether it was."""
        if not self.was_edited(step.source, step.target):
            self._apply(step)
            return False
        self.write(archived, self.read(step.source))
        self._remove(step.source)
        return True

    def was_edited(self, staged: str, target: str) -> bool:
        """Return whether a file was edited by hand after a staged one could not replace it."""
        note = self._notes.get(staged)
        return note is not None and self.exists(staged) and self._digest(target) not in ("", note)

    # --- steps ----------------------------------------------------------------------------------------------------

    def _apply(self, step: Tidying) -> None:
        source, target = step.source, step.target
        if step.action is not TidyingAction.UNLINK:
            _checked(source)
        if step.action not in (TidyingAction.REMOVE, TidyingAction.PRUNE):
            _checked(target)
        is_link = isinstance(self._nodes.get(source), _Link)
        moves_folder = step.action in (TidyingAction.MOVE_FOLDER, TidyingAction.REPLACE_FOLDER)
        if is_link and (moves_folder or step.action is TidyingAction.PRUNE):
            raise OSError(f"{source} is a link")
        match step.action:
            case TidyingAction.REMOVE:
                self._remove(source)
            case TidyingAction.PUT_FILE:
                if self.exists(source):
                    self._put(source, target)
            case TidyingAction.MOVE_FOLDER:
                if self.exists(source) and not self.exists(target):
                    self._make_folder(_parent(target))
                    self._move(source, target)
            case TidyingAction.REPLACE_FOLDER:
                if self.exists(source) and self._is_folder(_parent(target)):
                    self._remove(target)
                    self._move(source, target)
            case TidyingAction.PRUNE:
                if self._is_folder(source):
                    for folder in (source, *(f"{source}/{name}" for name in self.names(source))):
                        for name in (FRAME, ARTIFACTS, PARTIAL):
                            self._remove(f"{folder}/{name}")
            case TidyingAction.LINK:
                known = self._nodes.get(target, ...)
                if self._is_folder(_parent(target)) and (known is ... or isinstance(known, _Link)):
                    if not PurePosixPath(source).is_relative_to(_parent(target) or "."):
                        raise TVFileError(f"The catalog asks for a link from {target} to {source}.")
                    self._nodes[target] = _Link(source)
            case TidyingAction.UNLINK:
                if isinstance(self._nodes.get(target), _Link):
                    del self._nodes[target]

    def _put(self, source: str, target: str) -> None:
        if not self._is_folder(_parent(target)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), target)
        content = self._nodes[self._resolved(source)]
        if content is None or self._nodes.get(target, b"") is None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
        self._nodes[target] = content
        del self._nodes[source]

    def _move(self, source: str, target: str) -> None:
        if PurePosixPath(target).is_relative_to(source):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), target)
        for name, node in self._below(source).items():
            if isinstance(node, _Link) and PurePosixPath(node.target).is_relative_to(source):
                # Links are relative, so this one still leads into its folder.
                node = _Link(target + node.target.removeprefix(source))
            self._nodes[f"{target}/{name}" if name else target] = node
        self._remove(source)

    def _remove(self, key: str) -> None:
        for name in self._below(key):
            del self._nodes[f"{key}/{name}" if name else key]

    def _below(self, key: str) -> dict[str, _Node]:
        """Return a node and everything below it, by name relative to it."""
        found = {name.removeprefix(f"{key}/"): node for name, node in self._nodes.items() if name.startswith(f"{key}/")}
        return {"": self._nodes[key], **found} if key in self._nodes else found

    def _make_folder(self, key: str) -> None:
        for folder in reversed((key, *map(str, PurePosixPath(key).parents))):
            if folder not in (".", "") and not self._is_folder(folder):
                if self.exists(folder):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
                self._nodes[folder] = None

    def _is_folder(self, key: str) -> bool:
        return self._nodes.get(self._resolved(key), b"") is None

    def _digest(self, key: str) -> str:
        node = self._nodes.get(self._resolved(key))
        return hashlib.sha256(node).hexdigest() if isinstance(node, bytes) else ""

    def _resolved(self, key: str, name: str = "") -> str:
        """Return a key without links on its way; with `name`, of the child of this name."""
        place = ""
        for part in key.split("/") if key else ():
            place = f"{place}/{part}" if place else part
            node = self._nodes.get(place)
            if isinstance(node, _Link):
                place = node.target
        return f"{place}/{PurePosixPath(name).name}" if name and place else name or place


def _checked(key: str) -> str:
    if not is_inner_path(key):
        raise TVFileError(f"{key[:200]!r} is not a path in the vault.")
    return key


def _parent(key: str) -> str:
    return key.rpartition("/")[0]
