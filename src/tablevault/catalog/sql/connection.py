"""SQLAlchemy statements run directly by the driver.

Each is compiled once, because SQLAlchemy itself takes longer than SQLite.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from sqlalchemy import URL, Delete, Dialect, Engine, Insert, Select, TextClause, Update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

Statement: TypeAlias = Select[Any] | Insert | Update | Delete | TextClause
Values: TypeAlias = Mapping[str, Any]
Row: TypeAlias = tuple[Any, ...]

_EXPANDING = re.compile(r"__\[POSTCOMPILE_(\w+)\]")
"""SQLAlchemy's placeholder for a list of unknown length."""
_NO_VALUES = "SELECT NULL WHERE 1 = 0"
"""Replaces an empty list, because not all databases accept `IN ()`."""
_NOTHING: Values = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement compiled for one set of parameter names."""

    sql: str
    names: tuple[str, ...]
    """Names of the parameters, in positional order."""
    constants: Mapping[str, Any]
    """Values bound in the statement itself."""
    place: str
    """Placeholder for one value in the SQL."""
    has_lists: bool
    """Whether the length of the SQL depends on the values."""

    def with_values(self, values: Values) -> tuple[str, list[Any]]:
        """Return the SQL and the positional values of one execution."""
        given = {**self.constants, **values} if self.constants else values
        if not self.has_lists:
            return self.sql, [given[name] for name in self.names]
        sql = _EXPANDING.sub(lambda found: ", ".join([self.place] * len(given[found[1]])) or _NO_VALUES, self.sql)
        flat: list[Any] = []
        for name in self.names:
            value = given[name]
            flat.extend(value if isinstance(value, list | tuple) else [value])
        return sql, flat


class Purpose(StrEnum):
    """Purpose of a transaction."""

    READING = "reading"
    WRITING = "writing"
    """At most one at a time, from its beginning."""


class Result:
    """Rows returned by a statement.

    Parameters
    ----------
    columns
        Names of the columns.
    rows
        The rows.
    rowcount
        Number of rows changed by the statement.
    """

    def __init__(self, columns: tuple[str, ...], rows: Sequence[Row], rowcount: int) -> None:
        self._columns = columns
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def all(self) -> list[Row]:
        """Return the rows."""
        return list(self._rows)

    def first(self) -> Row | None:
        """Return the first row, or `None` for an empty result."""
        return self._rows[0] if self._rows else None

    def mappings(self) -> list[Mapping[str, Any]]:
        """Return the rows as values by column name."""
        return [dict(zip(self._columns, row, strict=True)) for row in self._rows]

    def mapping(self) -> Mapping[str, Any] | None:
        """Return the first row by column name, or `None` for an empty result."""
        row = self.first()
        return None if row is None else dict(zip(self._columns, row, strict=True))


class Database(Protocol):
    """Database-specific part of a catalog."""

    @property
    def url(self) -> URL:
        """SQLAlchemy URL of the database."""
        ...

    @property
    def dialect(self) -> Dialect:
        """SQLAlchemy dialect of the database."""
        ...

    def make(self) -> None:
        """Create an empty database; no-op if one exists."""
        ...

    def new_engine(self) -> Engine:
        """Return an engine, whose pool holds the connections."""
        ...

    def begin(self, connection: Connection, purpose: Purpose) -> None:
        """Begin a transaction.

        In a writing one, the database itself applies what follows from a changed row of `processes`, so that each
        transition is one statement:

        - A new process that is not finished takes the locks of its plan.
        - A process that is decided, or finished, increments the counter `generation`.
        - A process that gets an `end_order` moves the counter of this name there.
        - A process that is finished loses its locks, and its steps on disk that have no problem.
        - A deleted process loses its locks and creations.
        """
        ...

    def has_table(self, connection: Connection, name: str) -> bool:
        """Return whether the database has a table of this name."""
        ...

    def faults(self, connection: Connection) -> list[str]:
        """Return the problems that the database itself finds."""
        ...

    def backup(self, connection: Connection, target: Path) -> None:
        """Write a snapshot of the database to a file."""
        ...

    def error_number(self, error: DBAPIError) -> int:
        """Return the `errno` closest to a database error."""
        ...

    def translated(self, error: DBAPIError) -> Exception:
        """Return the public exception for a database error."""
        ...


class Connection:
    """A connection to the catalog's database, for one transaction.

    Parameters
    ----------
    driver
        Connection of the database driver.
    database
        The database.
    """

    def __init__(self, driver: Any, database: Database) -> None:
        self.driver = driver
        self.dialect = database.dialect
        self._database = database

    def execute(self, statement: Statement, values: Values | Sequence[Values] = _NOTHING) -> Result:
        """Run a statement with named values, once for each mapping of a sequence.

        Raises
        ------
        DBAPIError
            If the database reports an error.
        """
        if isinstance(values, Mapping):
            return self.send(*_compiled(statement, self.dialect, tuple(values)).with_values(values))
        compiled = _compiled(statement, self.dialect, tuple(values[0]))
        return self.send(compiled.sql, [compiled.with_values(each)[1] for each in values], is_for_each=True)

    def scalar(self, statement: Statement, values: Values = _NOTHING) -> Any:
        """Return the first value of a query's result; `None` if it is empty."""
        row = self.execute(statement, values).first()
        return None if row is None else row[0]

    def scalars(self, statement: Statement, values: Values = _NOTHING) -> list[Any]:
        """Return the first value of each row of a query's result."""
        return [row[0] for row in self.execute(statement, values)]

    def send(self, sql: str, parameters: Sequence[Any] = (), is_for_each: bool = False) -> Result:
        """Run a SQL text; with `is_for_each`, once for each set of parameters."""
        with translated(self.dialect, sql, parameters):
            cursor = self.driver.cursor()
            try:
                (cursor.executemany if is_for_each else cursor.execute)(sql, parameters)
                if cursor.description is None:
                    return Result((), (), cursor.rowcount)
                rows = cursor.fetchall()
                return Result(tuple(column[0] for column in cursor.description), rows, cursor.rowcount)
            finally:
                cursor.close()

    def has_table(self, name: str) -> bool:
        """Return whether the database has a table of this name."""
        return self._database.has_table(self, name)

    def commit(self) -> None:
        """Commit the transaction; raise `DBAPIError` if the database fails."""
        with translated(self.dialect):
            self.driver.commit()

    def rollback(self) -> None:
        """Roll the transaction back; raise `DBAPIError` if the database fails."""
        with translated(self.dialect):
            self.driver.rollback()


@contextmanager
def translated(dialect: Dialect, sql: str | None = None, parameters: Any = None) -> Iterator[None]:
    """Wrap driver errors in those of SQLAlchemy, which are common to all databases."""
    kind = dialect.loaded_dbapi.Error
    try:
        yield
    except kind as error:
        raise DBAPIError.instance(sql, parameters, error, kind, dialect=dialect) from error


_statements: weakref.WeakKeyDictionary[Statement, dict[tuple[str, ...], _Compiled]] = weakref.WeakKeyDictionary()
"""Cache of compiled statements by parameter names; weak, so that one-off statements are freed."""


def _compiled(statement: Statement, dialect: Dialect, names: tuple[str, ...]) -> _Compiled:
    known = _statements.get(statement)
    if known is None:
        known = _statements[statement] = {}
    compiled = known.get(names)
    if compiled is None:
        compiled = known[names] = _compile(statement, dialect, names)
    return compiled


def _compile(statement: Statement, dialect: Dialect, names: tuple[str, ...]) -> _Compiled:
    given = frozenset(names)
    compiled = statement.compile(dialect=dialect, column_keys=list(names))
    assert isinstance(compiled, SQLCompiler)
    assert compiled.positiontup is not None  # All drivers in use take positional values.
    constants = {}
    for name in dict.fromkeys(compiled.positiontup):
        if name not in given:
            value = compiled.binds[name]
            if value.required:
                raise TypeError(f"The statement needs a value for '{name}': {compiled.string}")
            constants[name] = value.value
    return _Compiled(
        compiled.string,
        tuple(compiled.positiontup),
        constants,
        compiled.bindtemplate % {"name": ""},
        _EXPANDING.search(compiled.string) is not None,
    )
