"""The catalog's transactions: how they begin, end and fail. Nobody else opens one."""

from __future__ import annotations

import contextlib
import errno
import random
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, bindparam, create_engine, event, insert, make_url, select, update
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, InvalidRequestError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from tablevault.catalog import format_2, schema
from tablevault.errors import TVArgumentError, TVFileError, TVImplementationError
from tablevault.forks import ForkHooks, around_forks
from tablevault.sqlite_files import Snapshot, create_empty, distrust, may_open_live, read_snapshot, state_of
from tablevault.texts import in_line
from tablevault.waiting import poll

BUSY_TIMEOUT = 60.0
"""Seconds to wait for another writer of the catalog, whose transactions take milliseconds."""


_BUSY_STEP = (0.0005, 0.002)

_JITTER = random.Random()
"""Of its own: the numbers that follow from a program's `random.seed` are the program's."""


class UnknownOutcomeError(OSError):
    """The catalog failed in the commit itself: whether the transaction holds can only be read from it later."""


class Store:
    """Opens the catalog's transactions and translates what goes wrong in them.

    Parameters
    ----------
    url
        SQLAlchemy URL of the catalog.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self.url = url.render_as_string()
        """For messages: without a password."""
        self._shared = _shared_engine(url)
        self._engine = self._shared.engine
        self._writing = self._engine.execution_options(tablevault_begin="BEGIN IMMEDIATE")
        self._snapshots = threading.local()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that sees one consistent state; inside a snapshot, that of the snapshot.

        It never waits for a writer.
        """
        joined = self._snapshot()
        if joined is None:
            with self.read_now() as connection:
                yield connection
        else:
            with self._decoded():
                yield joined

    @contextmanager
    def read_now(self) -> Iterator[Connection]:
        """Open a transaction that sees the state of now, also inside a snapshot."""
        with _translated(self.url), self._engine.connect() as connection, connection.begin(), self._decoded():
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all that this thread reads inside see one state, that of now; what it writes meanwhile is not in it."""
        if self._snapshot() is not None:
            yield
            return
        with _translated(self.url), self._engine.connect() as connection, connection.begin():
            self._snapshots.connection = connection
            try:
                yield
            finally:
                self._snapshots.connection = None

    def faults(self) -> list[str]:
        """Return what the database itself finds wrong with its file."""
        if _sqlite_file(self._url) is None:
            return []
        with self.read() as connection:
            found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
            orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        return [text for text in found if text != "ok"] + [f"a row of {row[0]} belongs to nothing" for row in orphans]

    def backup(self, target: Path) -> None:
        """Write a copy of a SQLite catalog, as it is at this moment, through SQLite's own interface.

        Raises
        ------
        TVFileError
            If the catalog is not a SQLite file.
        """
        if _sqlite_file(self._url) is None:
            raise TVFileError(f"The catalog {self.url} is not a file of the vault; its own server makes backups of it.")
        with _translated(self.url), self._engine.connect() as connection:
            create_empty(target)
            copy = sqlite3.connect(target)
            try:
                source = connection.connection.driver_connection
                assert isinstance(source, sqlite3.Connection)
                source.backup(copy)
            finally:
                copy.close()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that commits durably when the block ends, and not at all when it raises.

        Raises
        ------
        UnknownOutcomeError
            If the commit itself fails. The connection is gone then; only a later transaction can tell.
        """
        with _translated(self.url), self._writing.connect() as connection:
            transaction = connection.begin()
            try:
                with self._decoded():
                    yield connection
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except DBAPIError as error:
                connection.invalidate(error)
                raise UnknownOutcomeError(
                    _error_number(error), f"The catalog could not confirm a commit ({error.orig})", self.url
                ) from error

    def create(self, vault_id: str, created_at: str) -> str:
        """Create the catalog of a vault, where it is missing; return the id of the vault that it is of."""
        path = _sqlite_file(self._url)
        if path is not None:
            create_empty(path)
        with self.write() as connection:
            schema.metadata.create_all(connection)
            for name in ("generation", "end_order"):
                if connection.scalar(select(schema.counters.c.value).where(schema.counters.c.name == name)) is None:
                    connection.execute(insert(schema.counters).values(name=name, value=0))
            number, known = format_2.identity_of(connection)
            if number == 1:
                format_2.upgrade(connection, vault_id, created_at, migrated_from=None)
            return known or vault_id

    def close(self) -> None:
        """Close all idle connections."""
        self._engine.dispose()

    def _snapshot(self) -> Connection | None:
        connection: Connection | None = getattr(self._snapshots, "connection", None)
        return connection

    @contextmanager
    def _decoded(self) -> Iterator[None]:
        """Translate the errors of rows whose content is none of ours."""
        try:
            yield
        except UnicodeEncodeError as error:
            # Not the catalog's: it is what was looked for in it.
            raise TVArgumentError(
                f"{in_line(error.object)!r} has a lone surrogate, which no text in a vault has; correct it."
            ) from error
        except ValueError as error:
            raise TVFileError(f"The catalog {self.url} is damaged: {error}.") from error


def advance(connection: Connection, *counters: str) -> dict[str, int]:
    """Advance counters of the catalog by one and return their new values."""
    rows = connection.execute(_ADVANCE_COUNTERS, {"counters": list(counters)})
    return {str(name): int(value) for name, value in rows}


def current_value(connection: Connection, counter: str) -> int:
    """Return a counter's value."""
    return int(connection.scalar(_READ_COUNTER, {"counter": counter}) or 0)


# Made once: to put a statement together takes longer than to run it.
_COUNTERS = schema.counters.c
_READ_COUNTER = select(_COUNTERS.value).where(_COUNTERS.name == bindparam("counter"))
_ADVANCE_COUNTERS = (
    update(schema.counters)
    .where(_COUNTERS.name.in_(bindparam("counters", expanding=True)))
    .values(value=_COUNTERS.value + 1)
    .returning(_COUNTERS.name, _COUNTERS.value)
)

# Connections must not cross a fork: a child's close would drop the parent's file locks. The child therefore keeps
# the inherited pools alive, untouched, for ever.
_engines: weakref.WeakValueDictionary[URL, _SharedEngine] = weakref.WeakValueDictionary()
_engines_lock = threading.Lock()
_inherited: list[Any] = []


class _SharedEngine:
    """The engine of all stores of one catalog; its connections are closed when the last of them is gone.

    The engine itself cannot tell that moment: its pool refers to it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        weakref.finalize(self, engine.dispose)


def _shared_engine(url: URL) -> _SharedEngine:
    with _engines_lock:
        shared = _engines.get(url)
        if shared is None:
            shared = _engines[url] = _SharedEngine(_new_engine(url))
        return shared


def _new_engine(url: URL) -> Engine:
    options: dict[str, Any] = {}
    path = _sqlite_file(url)
    if path is not None:
        options["creator"] = partial(_open_sqlite, path)
    engine = create_engine(url, pool_size=2, max_overflow=-1, **options)
    if path is not None:
        event.listen(engine, "connect", _prepare_sqlite_connection)
        event.listen(engine, "checkout", partial(_check_same_file, path))
        event.listen(engine, "begin", _begin_sqlite_transaction)
    return engine


def _sqlite_file(url: URL) -> Path | None:
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _open_sqlite(path: Path) -> sqlite3.Connection:
    if path.exists() and not may_open_live(path):
        return read_snapshot(path)
    # Without "create": a catalog that is gone must not come back as an empty one.
    uri = f"file:{quote(str(path))}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, check_same_thread=False)


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


def _prepare_sqlite_connection(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    distrust(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite_transaction(connection: Connection) -> None:
    statement = connection.get_execution_options().get("tablevault_begin", "BEGIN")
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection) or not _begin_soon(driver, statement):
        connection.exec_driver_sql(statement)


def _begin_soon(driver: sqlite3.Connection, statement: str) -> bool:
    """Wait for other writers in short steps; SQLite's own grow to a tenth of a second, and many would sleep in turns.

    Returns whether the transaction has begun.
    """
    if statement == "BEGIN":  # It takes no lock, so that there is nobody to wait for.
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
        return bool(poll(begin, (_JITTER.uniform(*_BUSY_STEP) for _ in count()), BUSY_TIMEOUT))
    finally:
        driver.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")


def _after_fork_in_child() -> None:
    global _engines_lock
    _engines_lock = threading.Lock()
    for shared in list(_engines.values()):
        _inherited.append(shared.engine.pool)
        shared.engine.dispose(close=False)


around_forks(ForkHooks(in_child=_after_fork_in_child))


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn the database driver's errors into those of the contract."""
    try:
        yield
    except InvalidRequestError as error:
        if not isinstance(error.__cause__ or error.__context__, DisconnectionError):
            raise
        raise TVFileError(f"The catalog {url} is gone: the vault was moved or deleted.") from error
    except DBAPIError as error:
        raise _translation(error, url) from error


def _translation(error: DBAPIError, url: str) -> Exception:
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    # Plain errors of statements that worked before: a table or column is gone, or a text is none.
    unreadable = isinstance(error.orig, sqlite3.OperationalError) and code in (0, sqlite3.SQLITE_ERROR)
    if unreadable or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return TVFileError(f"The catalog {url} is damaged or not a catalog ({error.orig}).")
    if not isinstance(error, OperationalError | InterfaceError):
        return TVImplementationError(f"The catalog {url} refused a statement ({error.orig}).")
    if code == sqlite3.SQLITE_CANTOPEN and not _exists(url):
        return TVFileError(f"The catalog {url} is gone: the vault was moved or deleted.")
    return OSError(_error_number(error), f"The catalog cannot be used ({error.orig})", url)


def _exists(url: str) -> bool:
    path = _sqlite_file(make_url(url))
    return path is None or path.exists()


def _error_number(error: DBAPIError) -> int:
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    return {
        sqlite3.SQLITE_FULL: errno.ENOSPC,
        sqlite3.SQLITE_BUSY: errno.EBUSY,
        sqlite3.SQLITE_READONLY: errno.EROFS,
        sqlite3.SQLITE_PERM: errno.EACCES,
        sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    }.get(code, errno.EIO)
