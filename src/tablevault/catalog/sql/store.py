"""Transactions of the catalog; all of them are opened here."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import URL, Engine, PoolProxiedConnection, bindparam, update
from sqlalchemy.exc import DBAPIError, DisconnectionError, InvalidRequestError

from tablevault.catalog.sql import schema
from tablevault.catalog.sql.codec import integer
from tablevault.catalog.sql.connection import Connection, Database, Purpose, translated
from tablevault.errors import TVArgumentError, TVFileError
from tablevault.ports import UnknownOutcomeError
from tablevault.system.forks import ForkHooks, around_forks
from tablevault.texts.plain import in_line

_MAXIMUM_KEPT = 10_000
"""Maximum number of results cached by a snapshot; a vault may be larger than memory."""

_MAXIMUM_NAMED = 1_000
"""Maximum number of rows named by one statement."""

Result = TypeVar("Result")
Item = TypeVar("Item")


class _Snapshot:
    """Transaction of a snapshot, with a cache of its results.

    Parameters
    ----------
    connection
        Connection that sees one state.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.found: dict[Hashable, object] = {}


class Store:
    """Opens the catalog's transactions and translates their errors.

    Parameters
    ----------
    database
        The catalog's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.url = database.url.render_as_string()
        """URL for messages, without the password."""
        self._shared = _shared_engine(database)
        self._engine = self._shared.engine
        self._snapshots = threading.local()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read transaction, or join the current snapshot.

        It sees one consistent state and never waits for a writer.
        """
        joined = self._snapshot()
        if joined is None:
            with self.read_now() as connection:
                yield connection
        else:
            with self._decoded():
                yield joined.connection

    def read_once(self, key: Hashable, read: Callable[[Connection], Result]) -> Result:
        """Return the immutable result of `read`, which a snapshot caches by key."""
        joined = self._snapshot()
        found = {} if joined is None else joined.found
        if key not in found:
            with self.read() as connection:
                result = read(connection)
            if len(found) < _MAXIMUM_KEPT:
                found[key] = result
            return result
        return cast("Result", found[key])

    def keep(self, key: Hashable, result: object) -> None:
        """Cache an immutable result that came with another one, for `read_once` in the current snapshot."""
        snapshot = self._snapshot()
        if snapshot is not None:
            snapshot.found[key] = result

    @contextmanager
    def read_now(self) -> Iterator[Connection]:
        """Open a transaction on the current state, even inside a snapshot."""
        with self._translated(), self._begun(Purpose.READING) as (_, connection):
            with self._decoded():
                yield connection
            connection.commit()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Pin this thread's reads inside the block to one snapshot, which excludes its own writes."""
        if self._snapshot() is not None:
            yield
            return
        with self._translated(), self._begun(Purpose.READING) as (_, connection):
            self._snapshots.current = _Snapshot(connection)
            try:
                yield
            finally:
                self._snapshots.current = None
            connection.commit()

    def faults(self) -> list[str]:
        """Return the problems that the database itself finds."""
        with self.read() as connection:
            return self._database.faults(connection)

    def backup(self, target: Path) -> None:
        """Write a snapshot of the catalog to a file."""
        with self._translated(), self._connected() as (_, connection):
            self._database.backup(connection, target)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that commits durably, or rolls back on errors.

        Raises
        ------
        UnknownOutcomeError
            If the commit itself fails. The connection is discarded; only a later transaction can tell the result.
        """
        with self._translated(), self._begun(Purpose.WRITING) as (pooled, connection):
            with self._decoded():
                yield connection
            try:
                connection.commit()
            except DBAPIError as error:
                pooled.invalidate(error)
                number = self._database.error_number(error)
                message = f"The catalog could not confirm a commit ({error.orig})"
                raise UnknownOutcomeError(number, message, self.url) from error

    def close(self) -> None:
        """Close all idle connections."""
        self._engine.dispose()

    def _snapshot(self) -> _Snapshot | None:
        snapshot: _Snapshot | None = getattr(self._snapshots, "current", None)
        return snapshot

    @contextmanager
    def _connected(self) -> Iterator[tuple[PoolProxiedConnection, Connection]]:
        """Check a connection out of the pool."""
        with translated(self._database.dialect):
            pooled = self._engine.raw_connection()
        try:
            yield pooled, Connection(pooled.driver_connection, self._database)
        finally:
            pooled.close()

    @contextmanager
    def _begun(self, purpose: Purpose) -> Iterator[tuple[PoolProxiedConnection, Connection]]:
        """Begin a transaction, which the caller commits; an error rolls it back."""
        with self._connected() as (pooled, connection):
            self._database.begin(connection, purpose)
            try:
                yield pooled, connection
            except BaseException:
                if pooled.is_valid:
                    connection.rollback()
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate database errors into public exceptions."""
        try:
            yield
        except InvalidRequestError as error:
            if not isinstance(error.__cause__ or error.__context__, DisconnectionError):
                raise
            raise TVFileError(f"The catalog {self.url} is missing: the vault was moved or deleted.") from error
        except DBAPIError as error:
            raise self._database.translated(error) from error

    @contextmanager
    def _decoded(self) -> Iterator[None]:
        """Translate decoding errors of invalid rows."""
        try:
            yield
        except UnicodeEncodeError as error:
            # The search text is at fault, not the catalog.
            raise TVArgumentError(
                f"{in_line(error.object)!r} contains a lone surrogate, which is not valid text. Correct it."
            ) from error
        except ValueError as error:
            raise TVFileError(f"The catalog {self.url} is damaged: {error}.") from error


def advance(connection: Connection, *counters: str) -> dict[str, int]:
    """Increment counters of the catalog and return their new values."""
    advanced = connection.execute(_ADVANCE_COUNTERS, {"counters": list(counters)})
    return {str(name): integer(value) for name, value in advanced}


def batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Yield items in lists short enough for the parameters of one statement."""
    for start in range(0, len(items), _MAXIMUM_NAMED):
        yield list(items[start : start + _MAXIMUM_NAMED])


# Statements are built once, because building one takes longer than running it.
_COUNTERS = schema.counters.c
_ADVANCE_COUNTERS = (
    update(schema.counters)
    .where(_COUNTERS.name.in_(bindparam("counters", expanding=True)))
    .values(value=_COUNTERS.value + 1)
    .returning(_COUNTERS.name, _COUNTERS.value)
)
# Connections must not cross a fork: closing one in the child would drop the parent's file locks. The child therefore
# keeps the inherited pools alive and untouched.
_engines: weakref.WeakValueDictionary[URL, _SharedEngine] = weakref.WeakValueDictionary()
_engines_lock = threading.Lock()
_inherited: list[Any] = []


class _SharedEngine:
    """Engine shared by all stores of one catalog.

    Its connections are closed with the last store. The engine cannot detect that itself: its pool refers to it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        weakref.finalize(self, engine.dispose)


def _shared_engine(database: Database) -> _SharedEngine:
    with _engines_lock:
        shared = _engines.get(database.url)
        if shared is None:
            shared = _engines[database.url] = _SharedEngine(database.new_engine())
        return shared


def _after_fork_in_child() -> None:
    global _engines_lock
    _engines_lock = threading.Lock()
    for shared in list(_engines.values()):
        _inherited.append(shared.engine.pool)
        shared.engine.dispose(close=False)


around_forks(ForkHooks(in_child=_after_fork_in_child))
