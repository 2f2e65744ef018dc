"""Durable file primitives.

Data is on the disk when the call returns.

Links are not followed unless a function says so. Errors of the operating system are not translated. A failed fsync is
never retried on the same file, because the kernel may have dropped the pages that it could not write: the file is
removed, and the caller rewrites it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from tablevault.errors import TVFileError

TEMPORARY_SUFFIX = ".tablevault-temporary"
"""Suffix of temporary files during a write; a crash may leave one behind, which can be removed."""

_READ = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_ENTER = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_SCRATCH_OF_PROCESS = "tablevault-worker-"
_PROCESS_DIGITS = 11
"""Every number of a process has fewer digits."""
_MISPLACED = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
"""Error numbers for paths that are not files; all others are about the disk."""
_NO_HARD_LINK = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
)


def fsync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    _fsync(path, os.O_RDONLY)


def fsync_folder(path: Path) -> None:
    """Wait until the entries of a folder (not their contents) are on the disk."""
    if os.name != "nt":  # Windows cannot open folders, and writes their entries with the files.
        _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def fsync_tree(path: Path, durable: Path | None = None) -> None:
    """Wait until a folder and everything below it is on the disk.

    Files are synced first, then folders from the bottom up.

    The files in the subfolder `durable` are durable already; only its folder entries are synced.
    """
    folders: list[Path] = []
    for folder, entries in _walk(path):
        folders.append(folder)
        if durable is not None and (folder == durable or durable in folder.parents):
            continue
        for entry in entries:
            if entry.is_file(follow_symlinks=False):  # Opening a pipe or a socket would block or fail.
                fsync_file(Path(entry.path))
    for folder in reversed(folders):
        fsync_folder(folder)


def write_text(path: Path, text: str, temporary_folder: Path | None = None) -> None:
    """Write a text file, in UTF-8, whole or not at all; replaces an existing file.

    A crash may leave a file in `temporary_folder`, on the same file system, or else beside the target.
    """
    write_bytes(path, text.encode("utf-8"), temporary_folder)


def write_bytes(path: Path, data: bytes, temporary_folder: Path | None = None) -> None:
    """Write a file as `write_text` does."""
    with _temporary_sibling(path if temporary_folder is None else temporary_folder / path.name) as temporary:
        _create(temporary, data)
        temporary.replace(path)
    fsync_folder(path.parent)


def sync_new_file(path: Path) -> None:
    """Sync a newly written file and its folder entry; removes the file if that fails."""
    try:
        fsync_file(path)
        fsync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def anonymous_file() -> IO[bytes]:
    """Return a new file without a name, to be shared with other processes."""
    return tempfile.TemporaryFile(prefix="tablevault-")


def scratch_folder() -> Path:
    """Return a new folder outside any vault; the caller removes it."""
    return Path(tempfile.mkdtemp(prefix="tablevault-"))


def scratch_folder_of_process() -> Path:
    """Return a new folder outside any vault for this process, which may die without removing it."""
    return Path(tempfile.mkdtemp(prefix=f"{_SCRATCH_OF_PROCESS}{os.getpid()}-"))


def remove_scratch_folders_of_dead_processes() -> None:
    """Remove the folders that `scratch_folder_of_process` made for processes of this machine that have died."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH_OF_PROCESS}*"):
        number = folder.name.removeprefix(_SCRATCH_OF_PROCESS).partition("-")[0]
        with contextlib.suppress(OSError):
            if (
                number.isdecimal()
                and len(number) < _PROCESS_DIGITS
                and folder.stat().st_uid == os.getuid()
                and not _is_alive(int(number))
            ):
                remove_tree(folder)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def write_unsynced(path: Path, text: str) -> None:
    """Write a UTF-8 text file without waiting for the disk.

    Its folder must not be visible yet.

    `fsync_tree` makes it durable, with everything else in the folder: one fsync for a file instead of two.
    """
    path.write_bytes(text.encode("utf-8"))


def copy_file(source: Path, target: Path) -> None:
    """Atomically copy the content of a file, but not its mode.

    Links are followed, and an existing file is replaced.
    """
    with _temporary_sibling(target) as temporary:
        shutil.copyfile(source, temporary)
        fsync_file(temporary)
        temporary.replace(target)
    fsync_folder(target.parent)


def rewrite(path: Path, digest: str) -> None:
    """Replace a file whose sync failed with a durable copy.

    A second fsync of the same file would succeed without having written anything. Raises `OSError` if the content no
    longer matches the SHA-256 `digest`.
    """
    with _temporary_sibling(path) as temporary:
        shutil.copyfile(path, temporary)
        if sha256(temporary) != digest:
            raise OSError(errno.EIO, "The content differs from the written data", str(path))
        fsync_file(temporary)
        temporary.replace(path)
    fsync_folder(path.parent)


def copy_unsynced(source: Path, target: Path) -> None:
    """Copy the content of a file; the caller makes it durable."""
    shutil.copyfile(source, target)


def copy_tree_unsynced(source: Path, target: Path) -> None:
    """Copy a folder with the content of its files to a free path.

    The caller makes it durable.
    """
    shutil.copytree(source, target, copy_function=shutil.copyfile)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a new hard link to the file `source`.

    Where links are not supported, it becomes a durable copy.

    Follows `source` if it is a link. The folder of `target` is *not* fsynced, so that a thousand links cost one fsync:
    call `fsync_folder` after the last one. Raises `FileExistsError` if `target` exists.
    """
    try:
        os.link(os.path.realpath(source, strict=True), target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINK:
            raise
        # Creating the file first would leave it empty after a crash.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        copy_file(source, target)


def link_plain_files(source: Path, target: Path, folder: str, names: Iterable[str]) -> list[str]:
    """Hard-link files of a folder below `source` into the same folder below `target`.

    Both folders are opened once, and no link below `source` or `target` is followed. Returns the names that were not
    linked: links, special files, missing and existing files, and files that cannot be linked. The folder is not
    fsynced.
    """
    if os.link not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
        return list(names)
    left = []
    with contextlib.ExitStack() as opened:
        try:
            here, there = (_open_below(root, folder, opened) for root in (source, target))
        except OSError:
            return list(names)
        for name in names:
            try:
                if not stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                    left.append(name)
                    continue
                os.link(name, name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
            except OSError:
                left.append(name)
    return left


def _open_below(root: Path, folder: str, opened: contextlib.ExitStack) -> int:
    """Return a descriptor of a folder below another.

    Raises `OSError` if a part of its name is a link.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    opened.callback(os.close, descriptor)
    for part in folder.split("/") if folder else ():
        descriptor = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
        opened.callback(os.close, descriptor)
    return descriptor


def link_tree(source: Path, target: Path) -> None:
    """Durably make `target` a folder with the files of `source`.

    They are hard links where these are supported.
    """
    shutil.copytree(source, target, symlinks=True, copy_function=_link_for_tree)
    for folder, _ in _walk(target):
        fsync_folder(folder)
    fsync_folder(target.parent)


def copy_folder(source: Path, target: Path, temporary_folder: Path) -> None:
    """Atomically make `target` a new folder like `source`.

    The files are hard links where these are supported.
    """
    with _temporary_sibling(temporary_folder / "_") as temporary:
        try:
            link_tree(source, temporary)
            make_writable(temporary)
            replace(temporary, target)
        except OSError:
            remove_tree(temporary)
            raise


def replace(source: Path, target: Path) -> None:
    """Move a file or folder to `target` atomically, replacing an existing file."""
    source.replace(target)
    fsync_folder(target.parent)
    if source.parent != target.parent:
        fsync_folder(source.parent)


def replace_link(link: Path, target: Path | str, temporary_folder: Path | None = None) -> None:
    """Atomically make `link` a symbolic link to `target`, verbatim; replaces an existing file or link.

    A crash may leave a link in `temporary_folder`, on the same file system, or else beside the target.
    """
    with _temporary_sibling(link if temporary_folder is None else temporary_folder / link.name) as temporary:
        temporary.symlink_to(target)
        temporary.replace(link)
    fsync_folder(link.parent)


def make_folder(path: Path) -> None:
    """Create a folder and its parents; a no-op if it exists."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    fsync_folder(path.parent)


def make_read_only(path: Path) -> None:
    """Make a file, or a folder and everything below it, read-only; links are ignored.

    Read permission follows the mode of the folder, which stems from the umask at its creation. Files of another user,
    created in an earlier attempt of the process, keep their mode: only their owner may change it.
    """
    if path.is_symlink():
        return
    if not path.is_dir():
        _set_mode(path, _READ & _mode(path.parent))
        return
    readers = _mode(path) & (_READ | _ENTER)
    for folder, entries in _walk(path):
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and entry.stat().st_mode & _WRITE:
                # A read-only file may be a hard link to a file of another instance.
                _set_mode(Path(entry.path), _READ & readers)
        _set_mode(folder, readers | (_mode(folder) & stat.S_ISGID))


def make_writable(folder: Path) -> None:
    """Give the owner full access to a folder; a no-op for folders of another user."""
    mode = _mode(folder)
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        _set_mode(folder, mode | stat.S_IRWXU)


def take_write_permission(folder: Path) -> None:
    """Make one folder, but not its content, read-only; a no-op for folders of another user."""
    _set_mode(folder, _mode(folder) & (_READ | _ENTER | stat.S_ISGID))


def remove_tree(path: Path, removed: Callable[[], None] = lambda: None) -> None:
    """Remove a file, link or folder tree, even if read-only.

    Does nothing if it is missing.

    The parent folder is fsynced. Modes of files are not touched: a hard link may share them with a committed file.

    Parameters
    ----------
    path
        The file or folder.
    removed
        Called after each file.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            removed()
        else:
            _remove_folder(path, removed)
        fsync_folder(path.parent)


def unlinked(folder: Path) -> Path:
    """Return a folder of the vault.

    Raises `TVFileError` if it is a link, which could point anywhere.
    """
    if folder.is_symlink():
        raise TVFileError(
            f"'{folder}' is a symbolic link to '{folder.readlink()}'; put the folder itself in its place."
        )
    return folder


def read_bytes(path: Path) -> bytes:
    """Return the content of a file that only TableVault writes.

    Raises `TVFileError` if it is not a regular file.
    """
    with plain_file_expected(path):
        return path.read_bytes()


def read_text(path: Path) -> str:
    """Return the content of an editable file.

    Raises `TVFileError` if it is not a regular text file.
    """
    try:
        with plain_file_expected(path):
            return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TVFileError(f"{path} is not text in UTF-8 ({error}); save it as such.") from error


def read_source(path: Path) -> str:
    """Return the text of a Python file, in the encoding that it declares.

    Undecodable bytes become surrogates, which Python cannot compile; such a file does not block the others.
    """
    data = read_bytes(path)
    try:
        return importlib.util.decode_source(data)
    except (SyntaxError, UnicodeDecodeError):
        return data.decode("ascii", "surrogateescape")


@contextlib.contextmanager
def plain_file_expected(path: Path) -> Iterator[None]:
    """Raise `TVFileError` unless the path is a regular file.

    Links, folders and special files are refused.
    """
    with _misplaced_named(path):
        mode = _type_of(path)
        if stat.S_ISLNK(mode):
            raise TVFileError(
                f"{path} is a symbolic link where the vault expects a file; replace it with the file itself."
            )
        _check_is_file(path, mode)
        yield


def check_is_file(path: Path) -> None:
    """Raise `TVFileError` for a pipe, socket or device, on which a reader might block forever."""
    with contextlib.suppress(FileNotFoundError):
        _check_is_file(path, path.stat().st_mode)


def _check_is_file(path: Path, mode: int) -> None:
    if mode and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise TVFileError(f"{path} is a pipe, socket or device where the vault expects a file; remove it.")


def _type_of(path: Path) -> int:
    """Return the mode of a path without following links; 0 if it is missing."""
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


@contextlib.contextmanager
def missing_named() -> Iterator[None]:
    """Raise `TVFileError` for a file that is missing even after the catalog was reread."""
    try:
        yield
    except FileNotFoundError as error:
        raise TVFileError(f"{error.filename} is missing; restore it from a backup.") from error


@contextlib.contextmanager
def _misplaced_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _MISPLACED:
            raise
        raise TVFileError(f"{path} is not a file of the vault: {error.strerror}.") from error


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of the content of a file."""
    check_is_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_inside(folder: Path, path: Path) -> bool:
    """Return whether `path`, with all links followed, lies below `folder`; the folder itself does not."""
    resolved = Path(os.path.realpath(folder))
    return resolved in Path(os.path.realpath(path)).parents


def is_led_out(folder: Path, path: Path) -> bool:
    """Return whether links in the folders above `path` lead out of `folder`; `path` itself may be a link."""
    return not is_inside(folder, path.parent / "_")


def _link_for_tree(source: str, target: str) -> None:
    link_or_copy(Path(source), Path(target))


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _set_mode(path: Path, mode: int) -> None:
    try:
        path.chmod(mode)
    except PermissionError:
        if path.stat().st_uid == os.geteuid():
            raise


def _remove_folder(path: Path, removed: Callable[[], None]) -> None:
    make_writable(path)
    folders: list[Path] = []
    for folder, entries in _walk(path):
        folders.append(folder)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                make_writable(Path(entry.path))
            else:
                Path(entry.path).unlink(missing_ok=True)
                removed()
    for folder in reversed(folders):
        folder.rmdir()


def _walk(path: Path) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
    """Yield every folder from the top down with its entries.

    Not recursive, since users may nest folders deeply.
    """
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as scan:
            entries = list(scan)
        yield folder, entries
        waiting.extend(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))


@contextlib.contextmanager
def _temporary_sibling(path: Path) -> Iterator[Path]:
    # The name does not contain the target's, which may be as long as the file system allows.
    temporary = path.with_name(f".{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _create(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    finished = False
    try:
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123  (pathlib cannot open a descriptor)
            _write_all(file.fileno(), data)
            os.fsync(descriptor)
        finished = True
    finally:
        if not finished:
            with contextlib.suppress(OSError):
                path.unlink()


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
