"""Unrestricted connections for programs that query frame files themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tablevault.system.extras import imported

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as DuckDBPyConnection
    from duckdb import DuckDBPyRelation as DuckDBPyRelation

    from tablevault.sql_engine.frame_views import FrameFile


def connection() -> DuckDBPyConnection:
    """Return a connection to a new in-memory database with time zone UTC."""
    made: DuckDBPyConnection = imported("duckdb", "SQL", "sql").connect()
    made.execute("SET TimeZone = 'UTC'")
    return made


def relation(file: FrameFile, columns: list[str] | None) -> DuckDBPyRelation:
    """Return a frame file as a relation on a new connection."""
    return connection().sql(file.query(columns))
