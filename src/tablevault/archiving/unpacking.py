"""Unpacking of untrusted archives, confined to one folder.

Links are created after all folders and files, so that no write follows a link of the archive. The target of a link must
be inside the folder, and its path must go up first and then only down, so that other links on the way cannot make it
escape.
"""

from __future__ import annotations

import contextlib
import errno
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from tablevault.errors import TVFileError
from tablevault.storage import files

_PIECE_BYTES = 1 << 20
_MAXIMUM_HEADER_BYTES = 1 << 24
_MAXIMUM_PATH_LENGTH = 4096
_MAXIMUM_ENTRIES = 10_000_000
_OF_NAMES = (errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EINVAL, errno.EILSEQ, errno.ENOENT)
"""Error numbers for invalid or duplicate names; all others concern the disk."""
_MAXIMUM_MEMORY_BYTES = 1 << 28
"""Memory limit of the decompressor in bytes; archives of `compress_vault` with the highest preset need a quarter."""
_BLOCK_BYTES = 1 << 12
"""Minimum disk space of a member."""


class _Decompressed:
    """Reader of an xz file with a memory limit, which Python's own reader lacks."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = lzma.LZMADecompressor(memlimit=_MAXIMUM_MEMORY_BYTES)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; empty at the end."""
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._file.read(_PIECE_BYTES)
                if not rest.strip(b"\0"):  # Padding between streams, or behind the last.
                    return b""
                self._decompressor = lzma.LZMADecompressor(memlimit=_MAXIMUM_MEMORY_BYTES)
                data = self._decompressor.decompress(rest, size)
            else:
                compressed = self._file.read(_PIECE_BYTES) if self._decompressor.needs_input else b""
                if self._decompressor.needs_input and not compressed:
                    raise EOFError("it is cut off")
                data = self._decompressor.decompress(compressed, size)
            if data:
                return data


class Counted:
    """File wrapper that reports the bytes read.

    Parameters
    ----------
    file
        The file.
    advance
        Called with the size of each piece.
    """

    def __init__(self, file: BinaryIO, advance: Callable[[int], None]) -> None:
        self._file = file
        self._advance = advance

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        data = self._file.read(size)
        self._advance(len(data))
        return data


class _Metered:
    """Decompressed stream with a limit on headers, which `tarfile` reads into memory."""

    def __init__(self, stream: _Decompressed) -> None:
        self._stream = stream
        self._header_bytes: int | None = 0

    def expect_header(self) -> None:
        """Start counting header bytes."""
        self._header_bytes = 0

    def expect_content(self) -> None:
        """Stop counting; content is read in bounded pieces."""
        self._header_bytes = None

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes, or fewer at the end."""
        data = self._stream.read(size)
        while len(data) < size and (more := self._stream.read(size - len(data))):
            data += more
        if self._header_bytes is not None:
            self._header_bytes += len(data)
            if self._header_bytes > _MAXIMUM_HEADER_BYTES:
                raise tarfile.HeaderError("a header without end")
        return data


class Unpacking:
    """Unpacks one archive into one folder.

    Parameters
    ----------
    archive
        The `.tar.xz` file.
    target
        An empty folder.
    read
        Called with the size of each piece read from the archive.
    """

    def __init__(self, archive: Path, target: Path, read: Callable[[int], None] = lambda size: None) -> None:
        self._archive = archive
        self._target = target
        self._read = read
        self._names: set[str] = set()
        self._plain: set[str] = set()
        self._links: dict[str, str] = {}
        self._read_only: list[str] = []
        disk = os.statvfs(target)
        self._room = disk.f_bavail * disk.f_frsize
        self._entries = disk.f_favail or _MAXIMUM_ENTRIES  # Some file systems report no inode count.

    def run(self) -> None:
        """Unpack the archive, and restore read-only modes.

        Raises
        ------
        TVFileError
            If the archive is damaged or too large for the disk, or has a member or link that leads out of the folder.
        """
        try:
            with self._archive.open("rb") as file:
                compressed = _Decompressed(cast("BinaryIO", Counted(file, self._read)))
                self._unpack_all(_Metered(compressed))
                # Read to the end, which verifies the checksum of the stream.
                while compressed.read(_PIECE_BYTES):
                    pass
        except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError, OverflowError) as error:
            raise TVFileError(f"The archive '{self._archive}' is damaged ({error}); get it again.") from error
        for name, leads_to in self._links.items():
            self._link(name, leads_to)
        for name in sorted(self._read_only, reverse=True):
            files.make_read_only(self._target / name)

    def _unpack_all(self, stream: _Metered) -> None:
        with tarfile.open(fileobj=cast("BinaryIO", stream), mode="r|") as archive:
            for member in archive:
                stream.expect_content()
                name = self._checked_name(member)
                if name in self._names:
                    raise self._refused(member, "duplicate member")
                self._names.add(name)
                self._take_room(member)
                with self._refusals_named(member):
                    self._unpack(archive, member, name)
                stream.expect_header()

    @contextlib.contextmanager
    def _refusals_named(self, member: tarfile.TarInfo) -> Iterator[None]:
        """Convert file system errors about a member's name to `TVFileError`."""
        try:
            yield
        except OSError as error:
            if error.errno not in _OF_NAMES:
                raise
            raise self._refused(member, str(error.strerror)) from error

    def _take_room(self, member: tarfile.TarInfo) -> None:
        self._room -= max(member.size, 0) + _BLOCK_BYTES
        self._entries -= 1
        if self._room < 0 or self._entries < 0:
            raise TVFileError(f"There is not enough disk space to unpack '{self._archive}'.")

    def _unpack(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        path = self._target / name
        if member.isdir() and name == ".":
            return
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            self._keep_mode(member, name)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.issym():
            self._links[name] = self._checked_link(member, name)
        elif member.islnk():
            source = self._inside(member, member.linkname)
            if source not in self._plain:
                raise self._refused(member, f"it links to '{member.linkname[:200]}', which the archive lacks")
            os.link(self._target / source, path)
            self._plain.add(name)
        elif member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse():
            self._write(archive, member, path)
            self._plain.add(name)
            self._keep_mode(member, name)
        else:
            raise self._refused(member, "it is neither a file nor a folder nor a link")

    def _link(self, name: str, leads_to: str) -> None:
        try:
            (self._target / name).symlink_to(leads_to)
        except OSError as error:
            if error.errno not in _OF_NAMES:
                raise
            raise TVFileError(f"The archive '{self._archive}' is refused: '{name[:200]}': {error.strerror}.") from error

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        content = archive.extractfile(member)
        assert content is not None  # a regular file has content
        with path.open("xb") as file:
            shutil.copyfileobj(content, file, _PIECE_BYTES)
        if path.stat().st_size != member.size:
            raise self._refused(member, "it is cut off")

    def _keep_mode(self, member: tarfile.TarInfo, name: str) -> None:
        if not member.mode & stat.S_IWUSR:
            self._read_only.append(name)

    # --- checks of members ----------------------------------------------------------------------------------------

    def _checked_name(self, member: tarfile.TarInfo) -> str:
        name = self._inside(member, member.name)
        for parent in PurePosixPath(name).parents:
            if str(parent) in self._links or str(parent) in self._plain:
                raise self._refused(member, f"'{parent}' is not a folder")
        return name

    def _inside(self, member: tarfile.TarInfo, name: str) -> str:
        """Strip the archive's top folder from a name, which must not escape it."""
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or not _is_path(name):
            raise self._refused(member, "its name is empty or leads out of the vault")
        return "/".join(parts[1:]) or "."

    def _checked_link(self, member: tarfile.TarInfo, name: str) -> str:
        parts = PurePosixPath(member.linkname).parts
        upwards = len(parts) - len([part for part in parts if part != ".."])
        leads_to = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        goes_down_and_up = ".." in parts[upwards:]
        leads_out = parts[:1] == ("/",) or leads_to == ".." or leads_to.startswith("../")
        if not parts or leads_out or goes_down_and_up or not _is_path(member.linkname):
            raise self._refused(member, f"it is a link that may lead out of the vault ('{member.linkname[:200]}')")
        return member.linkname

    def _refused(self, member: tarfile.TarInfo, reason: str) -> TVFileError:
        return TVFileError(f"The archive '{self._archive}' is refused: '{member.name[:200]}': {reason}.")


def _is_path(text: str) -> bool:
    """Return whether the operating system accepts a text as a path; extended headers can hold any text."""
    return "\0" not in text and len(text) <= _MAXIMUM_PATH_LENGTH
