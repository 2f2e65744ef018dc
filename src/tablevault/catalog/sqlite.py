"""SQLite backend of the catalog."""

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

from tablevault.catalog.sql.connection import Connection, Purpose, translated
from tablevault.catalog.sqlite_triggers import LiveConnection
from tablevault.errors import TVArgumentError, TVFileError, TVImplementationError
from tablevault.system.sqlite_files import (
    Snapshot,
    create_empty,
    harden_connection,
    may_open_live,
    read_snapshot,
    state_of,
)
from tablevault.system.waiting import poll

_BUSY_TIMEOUT = 60.0
"""Seconds to wait for another writer of the catalog, whose transactions take milliseconds."""

_BUSY_STEP = (0.0005, 0.002)

_JITTER = random.Random()
"""Separate generator, so that the program's own `random` sequence is not disturbed."""

_BEGIN_STATEMENTS = {Purpose.READING: "BEGIN", Purpose.WRITING: "BEGIN IMMEDIATE"}
"""A writer locks immediately, because two readers cannot both upgrade to writers."""

_ERROR_NUMBERS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}


def sqlite_path(
    text: str, source: str = "catalog_url", remedy: str = "Omit it to use a SQLite file in the vault."
) -> Path:
    """Return the file that a catalog URL names.

    Parameters
    ----------
    text
        The URL.
    source, remedy
        Where the URL comes from, and what to do about a wrong one, for the error message.

    Raises
    ------
    TVArgumentError
        If the URL does not name a SQLite file. Other databases are refused, because locks are exclusive only in SQLite.
    """
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except ArgumentError as error:
        raise TVArgumentError(f"{source} is not the URL of a database: {error}. {remedy}") from None
    if backend != "sqlite":
        raise TVArgumentError(f"{source} names a {backend} database, which TableVault does not support. {remedy}")
    if not url.database or url.database == ":memory:" or url.query:
        raise TVArgumentError(f"{source} must name a file and nothing else, as sqlite:////folder/catalog.db. {remedy}")
    return Path(url.database).absolute()


@dataclass(frozen=True)
class SqliteDatabase:
    """Catalog database in a SQLite file.

    Parameters
    ----------
    path
        The file.
    """

    path: Path

    @property
    def url(self) -> URL:
        """SQLAlchemy URL of the file."""
        return URL.create("sqlite", database=str(self.path))

    @property
    def dialect(self) -> Dialect:
        """SQLAlchemy dialect, shared by all files so that each statement is compiled once."""
        return _dialect()

    def make(self) -> None:
        """Create an empty database; no-op if one exists."""
        create_empty(self.path)

    def new_engine(self) -> Engine:
        """Return an engine whose connections are hardened against an untrusted file."""
        engine = create_engine(self.url, pool_size=2, max_overflow=-1, creator=partial(_open, self.path))
        engine.dialect = self.dialect
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "checkout", partial(_check_same_file, self.path))
        return engine

    def begin(self, connection: Connection, purpose: Purpose) -> None:
        """Begin a transaction; a writer locks immediately, and has the triggers of transitions."""
        if purpose is Purpose.WRITING and isinstance(connection.driver, LiveConnection):
            with translated(self.dialect):
                connection.driver.create_triggers()
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
        return [text for text in found if text != "ok"] + [
            f"a row of {row[0]} violates a foreign key" for row in orphans
        ]

    def backup(self, connection: Connection, target: Path) -> None:
        """Write a snapshot of the file with SQLite's backup API."""
        create_empty(target)
        copy = sqlite3.connect(target)
        try:
            connection.driver.backup(copy)
        finally:
            copy.close()

    def error_number(self, error: DBAPIError) -> int:
        """Return the `errno` closest to a SQLite error."""
        return _ERROR_NUMBERS.get(_code_of(error), errno.EIO)

    def translated(self, error: DBAPIError) -> Exception:
        """Return the public exception for a SQLite error."""
        code = _code_of(error)
        # Generic errors of known-good statements: a table or column is missing, or is not valid text.
        unreadable = isinstance(error.orig, sqlite3.OperationalError) and code in (0, sqlite3.SQLITE_ERROR)
        if unreadable or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return TVFileError(f"The catalog {self.url} is damaged or not a catalog ({error.orig}).")
        if not isinstance(error, OperationalError | InterfaceError):
            return TVImplementationError(f"The catalog {self.url} refused a statement ({error.orig}).")
        if code == sqlite3.SQLITE_CANTOPEN and not self.path.exists():
            return TVFileError(f"The catalog {self.url} is missing: the vault was moved or deleted.")
        return OSError(self.error_number(error), f"The catalog cannot be used ({error.orig})", str(self.url))


@cache
def _dialect() -> Dialect:
    """Return the shared dialect, as initialized by SQLAlchemy's first connection."""
    engine = create_engine("sqlite://")
    try:
        with engine.connect():
            return engine.dialect
    finally:
        engine.dispose()


def _code_of(error: DBAPIError) -> int:
    return int(getattr(error.orig, "sqlite_errorcode", 0)) & 0xFF


def _open(path: Path) -> sqlite3.Connection:
    if path.exists() and not may_open_live(path):
        return read_snapshot(path)
    # Mode "rw", not "rwc": a missing catalog must not be recreated empty.
    uri = f"file:{quote(str(path))}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT, check_same_thread=False, factory=LiveConnection)


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    harden_connection(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _check_same_file(path: Path, connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
    """Make the pool reconnect if the file was replaced, or changed since it was copied."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DisconnectionError(f"The catalog {path} is gone.") from error
    if isinstance(connection, Snapshot):
        # A copy is accepted on its first use: under a busy writer, a second check would always fail.
        is_new = "used" not in record.info
        record.info["used"] = True
        if not is_new and (state_of(path) != connection.state or may_open_live(path)):
            raise DisconnectionError(f"The catalog {path} has changed.")
        return
    identity = (found.st_dev, found.st_ino)
    if record.info.setdefault("file", identity) != identity:
        raise DisconnectionError(f"The catalog {path} was replaced.")


def _begin_soon(driver: sqlite3.Connection, statement: str) -> bool:
    """Begin a transaction, polling in short steps for other writers; return whether it has begun.

    SQLite's own busy handler backs off to a tenth of a second, so many writers would sleep in turns.
    """
    if statement == "BEGIN":  # Takes no lock, so it never waits.
        with contextlib.suppress(sqlite3.Error):
            driver.execute(statement)
            return True
        return False

    def begin() -> bool | None:
        try:
            driver.execute(statement)
        except sqlite3.OperationalError as error:
            # Leave any other error for SQLAlchemy to run into and report.
            return None if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY else False
        return True

    driver.execute("PRAGMA busy_timeout = 0")
    try:
        return bool(poll(begin, (_JITTER.uniform(*_BUSY_STEP) for _ in count()), _BUSY_TIMEOUT))
    finally:
        driver.execute(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT * 1000)}")
