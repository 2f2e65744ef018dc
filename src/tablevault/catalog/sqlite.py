"""Catalogs in SQLite: opening, locking, checking and copying the file."""

from __future__ import annotations

import contextlib
import errno
import random
import sqlite3
from dataclasses import dataclass
from functools import cache, partial
from itertools import count
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from tablevault.catalog.sql.connection import Connection, Purpose
from tablevault.errors import TVArgumentError, TVFileError, TVImplementationError
from tablevault.system.sqlite_files import Snapshot, create_empty, distrust, may_open_live, read_snapshot, state_of
from tablevault.system.waiting import poll

_BUSY_TIMEOUT = 60.0
"""Seconds to wait for another writer of the catalog, whose transactions take milliseconds."""

_BUSY_STEP = (0.0005, 0.002)

_JITTER = random.Random()
"""Of its own: the numbers that follow from a program's `random.seed` are the program's."""

_BEGIN_STATEMENTS = {Purpose.READING: "BEGIN", Purpose.WRITING: "BEGIN IMMEDIATE"}
"""A writer takes its lock at once: two that have both read could not both go on to write."""

_ERROR_NUMBERS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}


def sqlite_path(text: str) -> Path:
    """Return the file of a catalog whose URL a caller, or the marker of a vault, names.

    Raises
    ------
    TVArgumentError
        If it is not the URL of a SQLite file. Other databases are refused: locks are exclusive in SQLite only.
    """
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except ArgumentError as error:
        raise TVArgumentError(f"catalog_url is not the URL of a database: {error}.") from None
    if backend != "sqlite" or not url.database or url.database == ":memory:" or url.query:
        raise TVArgumentError(
            f"catalog_url names a {backend} database that TableVault does not support. Leave it out: the catalog is "
            "then a SQLite file in the vault."
        )
    return Path(url.database).absolute()


@dataclass(frozen=True)
class SqliteDatabase:
    """A SQLite file as the database of a catalog.

    Parameters
    ----------
    path
        The file.
    """

    path: Path

    @property
    def url(self) -> URL:
        """The address under which SQLAlchemy knows the file."""
        return URL.create("sqlite", database=str(self.path))

    @property
    def dialect(self) -> Dialect:
        """The language of SQLite: one for all files, so that each statement is compiled once."""
        return _dialect()

    def make(self) -> None:
        """Make an empty database; no-op where one exists."""
        create_empty(self.path)

    def new_engine(self) -> Engine:
        """Return an engine whose connections are prepared for an untrusted file."""
        engine = create_engine(self.url, pool_size=2, max_overflow=-1, creator=partial(_open, self.path))
        engine.dialect = self.dialect
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "checkout", partial(_check_same_file, self.path))
        return engine

    def begin(self, connection: Connection, purpose: Purpose) -> None:
        """Begin a transaction; a writer takes its lock at once."""
        statement = _BEGIN_STATEMENTS[purpose]
        if not _begin_soon(connection.driver, statement):
            connection.send(statement)

    def has_table(self, connection: Connection, name: str) -> bool:
        """Return whether the file has a table of this name."""
        found = connection.send("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", [name])
        return found.first() is not None

    def faults(self, connection: Connection) -> list[str]:
        """Return the problems that SQLite finds in the file."""
        found = [str(row[0]) for row in connection.send("PRAGMA integrity_check")]
        orphans = connection.send("PRAGMA foreign_key_check")
        return [text for text in found if text != "ok"] + [f"a row of {row[0]} belongs to nothing" for row in orphans]

    def backup(self, connection: Connection, target: Path) -> None:
        """Write a copy of the file as it is at this moment, through SQLite's own interface."""
        create_empty(target)
        copy = sqlite3.connect(target)
        try:
            connection.driver.backup(copy)
        finally:
            copy.close()

    def error_number(self, error: DBAPIError) -> int:
        """Return the number of the operating system's error that comes nearest to one of SQLite."""
        return _ERROR_NUMBERS.get(_code_of(error), errno.EIO)

    def translated(self, error: DBAPIError) -> Exception:
        """Return an error of SQLite as one of the contract."""
        code = _code_of(error)
        # Plain errors of statements that worked before: a table or column is gone, or is not valid text.
        unreadable = isinstance(error.orig, sqlite3.OperationalError) and code in (0, sqlite3.SQLITE_ERROR)
        if unreadable or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return TVFileError(f"The catalog {self.url} is damaged or not a catalog ({error.orig}).")
        if not isinstance(error, OperationalError | InterfaceError):
            return TVImplementationError(f"The catalog {self.url} refused a statement ({error.orig}).")
        if code == sqlite3.SQLITE_CANTOPEN and not self.path.exists():
            return TVFileError(f"The catalog {self.url} is gone: the vault was moved or deleted.")
        return OSError(self.error_number(error), f"The catalog cannot be used ({error.orig})", str(self.url))


@cache
def _dialect() -> Dialect:
    """Return the dialect of all engines, as SQLAlchemy finds it when it first connects."""
    engine = create_engine("sqlite://")
    with engine.connect():
        return engine.dialect


def _code_of(error: DBAPIError) -> int:
    return int(getattr(error.orig, "sqlite_errorcode", 0)) & 0xFF


def _open(path: Path) -> sqlite3.Connection:
    if path.exists() and not may_open_live(path):
        return read_snapshot(path)
    # Without "create": a catalog that is gone must not come back as an empty one.
    uri = f"file:{quote(str(path))}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT, check_same_thread=False)


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    distrust(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _check_same_file(path: Path, connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
    """Let the pool open the file anew, if it was replaced, or has changed since it was copied."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DisconnectionError(f"The catalog {path} is gone.") from error
    if isinstance(connection, Snapshot):
        # The first use is that of a copy just made: under a busy writer a second look would never be satisfied.
        is_new = "used" not in record.info
        record.info["used"] = True
        if not is_new and (state_of(path) != connection.state or may_open_live(path)):
            raise DisconnectionError(f"The catalog {path} has changed.")
        return
    identity = (found.st_dev, found.st_ino)
    if record.info.setdefault("file", identity) != identity:
        raise DisconnectionError(f"The catalog {path} was replaced.")


def _begin_soon(driver: sqlite3.Connection, statement: str) -> bool:
    """Wait for other writers in short steps; SQLite's own grow to a tenth of a second, and many would sleep in turns.

    Returns whether the transaction has begun.
    """
    if statement == "BEGIN":  # It takes no lock, so there is nothing to wait for.
        with contextlib.suppress(sqlite3.Error):
            driver.execute(statement)
            return True
        return False

    def begin() -> bool | None:
        try:
            driver.execute(statement)
        except sqlite3.OperationalError as error:
            # Any other error SQLAlchemy is to meet too, and to report in its way.
            return None if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY else False
        return True

    driver.execute("PRAGMA busy_timeout = 0")
    try:
        return bool(poll(begin, (_JITTER.uniform(*_BUSY_STEP) for _ in count()), _BUSY_TIMEOUT))
    finally:
        driver.execute(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT * 1000)}")
