"""Artifact files that cells name, in the folder of their instance."""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath

from tablevault.storage import files
from tablevault.values.contents import ArtifactRecord

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
"""Fast path for most names, which are already normalised and cannot leave the folder."""
_SYSTEM_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "__pycache__", "icon\r"})


def normalise_name(value: object) -> str:
    """Return the normalised relative path, with `/` separators, in a cell of an `artifact_string` column.

    Raises `ValueError` if the value is not text or a path, or not a valid path inside the artifact folder.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"{value!r} is not the path of an artifact: it is a {type(value).__name__}, not text")  # noqa: TRY004
    text = os.fspath(value)
    if isinstance(text, str) and _PLAIN_NAME.fullmatch(text):
        return text
    if not isinstance(text, str):
        raise ValueError(f"{value!r} is not the path of an artifact: it must be text, not bytes")  # noqa: TRY004
    fault = _fault_of(text)
    if fault is not None:
        raise ValueError(f"{text!r} cannot be the path of an artifact: {fault}")
    return posixpath.normpath(text)


class ArtifactFolder:
    """The artifact folder of one instance.

    Names are as `normalise_name` returns them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._real_folders: dict[str, Path] = {}
        """Cache of resolved folder paths."""

    def checked_name(self, value: object) -> str:
        """Return the normalised name in a cell; the file itself may be missing.

        Raises `ValueError` as `normalise_name` does, or if the path leaves the folder through a symbolic link, is not a
        file, or is too long.
        """
        name = normalise_name(value)
        try:
            self.locate(name)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise ValueError(
                f"{name!r} cannot be the path of an artifact: it is too long for the file system"
            ) from error
        return name

    def locate(self, name: str) -> Path | None:
        """Return the resolved path of the named file; `None` if it does not exist.

        Raises `ValueError` if it is not a file, or lies outside the folder because of a symbolic link.
        """
        folder, _, last = normalise_name(name).rpartition("/")
        real_folder = self._real_folders.get(folder)
        if real_folder is None:
            real_folder = Path(os.path.realpath(self.path / folder))
            if folder:
                self._inside(self.path / name)
            if real_folder.is_dir():
                self._real_folders[folder] = real_folder
        path = real_folder / last
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISREG(mode):
            return path
        if not stat.S_ISLNK(mode):
            raise ValueError(f"artifact {name!r} is a {'folder' if stat.S_ISDIR(mode) else 'special file'}, not a file")
        return self._file_at(name, self.path / name)

    def folders_above(self, name: str, real: Path) -> list[Path]:
        """Return the folders above a file, up to this one, which is the last.

        `real` is the resolved path of the file.
        """
        between = {parent for parent in (self.path / name).parents if self.path in parent.parents}
        root = Path(os.path.realpath(self.path))
        between |= {parent for parent in real.parents if root in parent.parents}
        return [*sorted(between, key=lambda folder: len(folder.parts), reverse=True), self.path]

    def exists(self, name: str) -> bool:
        """Return whether an entry of any type has this name."""
        return os.path.lexists(self.path / normalise_name(name))

    def existing(self, names: Iterable[str]) -> set[str]:
        """Return the names that exist; scans each folder once."""
        there = self.listing()
        return {name for name in names if name in there or (_is_set_aside(name) and self.exists(name))}

    def matches(self, record: ArtifactRecord) -> bool:
        """Return whether the file exists with the recorded size and content."""
        try:
            real = self._inside(self.path / normalise_name(record.path))
            status = real.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size != record.size:
                return False
            return files.sha256(real) == record.sha256
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return False

    def listing(self) -> set[str]:
        """Return the names of all but hidden and system files; links to folders count as files."""
        return {name for name, _ in self._walk()}

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return the given names that are not files inside this folder, sorted."""
        plain = {name for name, is_plain in self._walk() if is_plain}
        return sorted(name for name in set(names) - plain if not self._is_file(name))

    def unnamed(self, names: Iterable[str]) -> list[str]:
        """Return the files not among the names, sorted, without hidden and system files."""
        return sorted(self.listing() - set(names))

    def adopt(self, source_folder: Path, records: Iterable[ArtifactRecord]) -> None:
        """Hard-link or copy files of another artifact folder under the same names, durably.

        An existing file that matches its record is kept. Raises `FileExistsError` if it does not match, and
        `FileNotFoundError` if the other folder lacks the file.
        """
        by_folder: dict[str, dict[str, ArtifactRecord]] = {}
        for record in records:
            folder, _, last = normalise_name(record.path).rpartition("/")
            by_folder.setdefault(folder, {})[last] = record
        for folder, of_names in by_folder.items():
            files.make_folder(self.path / folder)
            for last in files.link_plain_files(source_folder, self.path, folder, of_names):
                self._adopt_one(source_folder, of_names[last])
            files.fsync_folder(self.path / folder)

    def _adopt_one(self, source_folder: Path, record: ArtifactRecord) -> None:
        target = self.path / normalise_name(record.path)
        try:
            files.link_or_copy(source_folder / record.path, target)
        except FileExistsError:
            if not self.matches(record):
                raise
            # A row that failed may have written it, in which case it is not durable yet.
            files.fsync_file(target)

    def _file_at(self, name: str, path: Path) -> Path | None:
        """Return the real path of the named file.

        Returns `None` if it is missing; raises `ValueError` unless it is a file.
        """
        real = self._inside(path)
        try:
            mode = real.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(mode):
            raise ValueError(f"artifact {name!r} is a {'folder' if stat.S_ISDIR(mode) else 'special file'}, not a file")
        return real

    def _inside(self, path: Path) -> Path:
        """Return the resolved path of a file; raises `ValueError` if it lies outside this folder."""
        real = Path(os.path.realpath(path))
        if Path(os.path.realpath(self.path)) not in real.parents:
            raise ValueError(f"artifact {str(path.relative_to(self.path))!r} lies outside its folder: {real}")
        return real

    def _is_file(self, name: str) -> bool:
        try:
            return self._inside(self.path / normalise_name(name)).is_file()
        except ValueError:
            return False

    def _walk(self) -> Iterator[tuple[str, bool]]:
        """Yield the name of each entry except folders, and whether it is a regular file."""
        files.unlinked(self.path)
        waiting = [""]
        while waiting:
            prefix = waiting.pop()
            with os.scandir(self.path / prefix) as entries:
                for entry in entries:
                    if _is_set_aside(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{prefix}{entry.name}/")
                    else:
                        yield f"{prefix}{entry.name}", entry.is_file(follow_symlinks=False)


def _is_set_aside(name: str) -> bool:
    """Return whether listings omit a name.

    They omit names with a part that is hidden or a system name.
    """
    return any(part.startswith(".") or part.casefold() in _SYSTEM_NAMES for part in name.split("/"))


def _fault_of(text: str) -> str | None:
    """Return why a text cannot be the path of an artifact, or `None` if it can."""
    if not text:
        return "it is empty"
    if "\0" in text or not _is_expressible(text):
        return "it contains characters that no file name may have"
    if "\\" in text:
        return "use '/' between folders, not '\\'"
    if text.startswith("/") or PureWindowsPath(text).drive:
        return "it must be relative to the artifact folder (~ARTIFACT_FOLDER~), not absolute"
    if text.endswith("/"):
        return "it ends with '/', as a folder would"
    normal = posixpath.normpath(text)
    if normal == ".":
        return "it names the artifact folder itself"
    if normal == ".." or normal.startswith("../"):
        return "it leaves the artifact folder"
    return None


def _is_expressible(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
