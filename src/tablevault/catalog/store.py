"""The catalog's transactions: how they begin, end and fail. Nobody else opens one."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, select, update
from sqlalchemy.exc import DBAPIError

from tablevault.catalog import schema
from tablevault.errors import TVFileError

BUSY_TIMEOUT = 60.0
"""Seconds to wait for another writer of the catalog, whose transactions take milliseconds."""


class UnknownOutcomeError(OSError):
    """The catalog failed in the commit itself: whether the transaction holds can only be read from it later."""


class Store:
    """Opens the catalog's transactions and translates what goes wrong in them.

    Parameters
    ----------
    url
        SQLAlchemy URL of the catalog.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = _engine(url)
        self._writing = self._engine.execution_options(tablevault_begin="BEGIN IMMEDIATE")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that sees one consistent state; it never waits for a writer."""
        with _translated(self.url), self._engine.connect() as connection, connection.begin():
            yield connection

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

    def create(self) -> None:
        """Create the catalog's tables."""
        with self.write() as connection:
            schema.metadata.create_all(connection)
            for name in ("generation", "end_order"):
                if connection.scalar(select(schema.counters.c.value).where(schema.counters.c.name == name)) is None:
                    connection.execute(insert(schema.counters).values(name=name, value=0))

    def close(self) -> None:
        """Close all idle connections."""
        self._engine.dispose()


def next_value(connection: Connection, counter: str) -> int:
    """Advance a counter of the catalog and return its new value."""
    column = schema.counters.c
    connection.execute(update(schema.counters).where(column.name == counter).values(value=column.value + 1))
    return current_value(connection, counter)


def current_value(connection: Connection, counter: str) -> int:
    """Return a counter's value."""
    value = connection.scalar(select(schema.counters.c.value).where(schema.counters.c.name == counter))
    return int(value or 0)


# Connections must not cross a fork: a child's close would drop the parent's file locks. The child therefore keeps
# the inherited pools alive, untouched, for ever.
_engines: weakref.WeakValueDictionary[str, Engine] = weakref.WeakValueDictionary()
_engines_lock = threading.Lock()
_inherited: list[Any] = []


def _engine(url: str) -> Engine:
    with _engines_lock:
        engine = _engines.get(url)
        if engine is None:
            engine = _new_engine(url)
            _engines[url] = engine
        return engine


def _new_engine(url: str) -> Engine:
    sqlite = url.startswith("sqlite")
    options: dict[str, Any] = {"connect_args": {"timeout": BUSY_TIMEOUT, "check_same_thread": False}} if sqlite else {}
    engine = create_engine(url, pool_size=2, max_overflow=-1, **options)
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite_connection)
        event.listen(engine, "begin", _begin_sqlite_transaction)
    weakref.finalize(engine, engine.pool.dispose)
    return engine


def _prepare_sqlite_connection(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # A received vault's catalog is data: it must not be able to call anything.
    connection.execute("PRAGMA trusted_schema = OFF")


def _begin_sqlite_transaction(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("tablevault_begin", "BEGIN"))


def _after_fork_in_child() -> None:
    global _engines_lock
    _engines_lock = threading.Lock()
    for engine in list(_engines.values()):
        _inherited.append(engine.pool)
        engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn the database driver's errors into those of the contract."""
    try:
        yield
    except DBAPIError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or not isinstance(
            error.orig, sqlite3.OperationalError | sqlite3.InterfaceError
        ):
            raise TVFileError(f"The catalog {url} is damaged or not a catalog ({error.orig}).") from error
        raise OSError(_error_number(error), f"The catalog cannot be used ({error.orig})", url) from error


def _error_number(error: DBAPIError) -> int:
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    return {
        sqlite3.SQLITE_FULL: errno.ENOSPC,
        sqlite3.SQLITE_BUSY: errno.EBUSY,
        sqlite3.SQLITE_READONLY: errno.EROFS,
        sqlite3.SQLITE_PERM: errno.EACCES,
        sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    }.get(code, errno.EIO)
