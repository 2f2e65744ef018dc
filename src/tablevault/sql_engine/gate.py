"""Validation of read-only SQL statements.

DuckDB parses the text, which must be a single statement. Unknown nodes of the parse tree are refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from tablevault.errors import TVArgumentError
from tablevault.sql_engine.relations import connection
from tablevault.system.extras import imported

_PURPOSE = (
    "query runs one statement that reads: SELECT, FROM, VALUES, TABLE, DESCRIBE, SUMMARIZE or UNPIVOT. connect() "
    "returns a connection without limits."
)
_QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_SOURCES = frozenset(
    {"BASE_TABLE", "EMPTY", "EXPRESSION_LIST", "JOIN", "PIVOT", "SHOW_REF", "SUBQUERY", "TABLE_FUNCTION"}
)
_ORDERS = frozenset({"ASCENDING", "DESCENDING", "ORDER_DEFAULT"})
_PARTS = ("_MODIFIER", "_TYPE_INFO")
"""Suffixes of node types other than queries, row sources and expressions."""
_TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "repeat", "unnest"})
_WITH_EFFECTS = frozenset({"currval", "nextval", "setval", "write_log"})
"""Scalar functions with side effects."""
_SHOWN = frozenset({"DESCRIBE", "SUMMARY"})


@dataclass(frozen=True)
class TableName:
    """A table name in a statement."""

    schema: str
    """Schema name; empty if unqualified."""
    name: str


def read_names(statement: str, schemas: Collection[str]) -> list[TableName]:
    """Return the distinct table names in a statement, in order of first occurrence.

    Parameters
    ----------
    statement
        The statement.
    schemas
        The allowed schemas, in lower case.

    Raises
    ------
    TVArgumentError
        If the text is not a single statement, or the statement is not allowed.
    """
    node = _parsed(statement)
    found: dict[tuple[str, str], TableName] = {}
    try:
        for name in _Tree(schemas).names(node, frozenset()):
            found.setdefault((name.schema.lower(), name.name.lower()), name)
    except RecursionError as error:
        raise _refused("the statement is nested too deeply") from error
    return list(found.values())


def _parsed(statement: str) -> Any:
    """Return the parse tree of a single statement."""
    duckdb = imported("duckdb", "SQL", "sql")
    if "\0" in statement:
        # The parser would treat it as the end of the text.
        raise _refused("it has a null character")
    try:
        row = _parser().cursor().execute("SELECT json_serialize_sql(?)", [statement]).fetchone()
        parsed = json.loads(row[0])
    except (duckdb.Error, ValueError, RecursionError) as error:
        # The text cannot be encoded, or the tree is too deep.
        raise _refused(f"the statement cannot be read ({error!s:.200})") from error
    if parsed["error"]:
        if parsed["error_type"] == "parser":
            place = f" at character {int(parsed['position']) + 1}" if "position" in parsed else ""
            raise _refused(f"{parsed['error_message']}{place}")
        said = str(parsed["error_message"])
        raise _refused("unsupported statement type" if said.startswith("Only SELECT") else said)
    statements = parsed["statements"]
    if len(statements) != 1:
        raise _refused(f"there are {len(statements)} statements" if statements else "there is no statement")
    return statements[0]["node"]


class _Tree:
    """Walks and checks a parse tree.

    Parameters
    ----------
    schemas
        The allowed schemas.
    """

    def __init__(self, schemas: Collection[str]) -> None:
        self._schemas = schemas

    def names(self, part: Any, visible: frozenset[str]) -> Iterator[TableName]:
        """Yield the table names in a part of the tree.

        Parameters
        ----------
        part
            The part.
        visible
            Names of the common table expressions in scope, in lower case.
        """
        if isinstance(part, list):
            for item in part:
                yield from self.names(item, visible)
        elif isinstance(part, dict):
            if "class" in part:
                self._check_expression(part)
            elif isinstance(part.get("type"), str):
                self._check_kind(part["type"])
                self._check_source(part)
            if part.get("type") == "RECURSIVE_CTE_NODE":
                visible |= {part["cte_name"].lower()}
            # The scope of a common table expression has its predecessors, and itself only if it is recursive.
            for entry in part.get("cte_map", {}).get("map", ()):
                yield from self.names(entry["value"], visible)
                visible |= {entry["key"].lower()}
            if part.get("type") == "BASE_TABLE":
                name = self._named(part)
                if name.schema or name.name.lower() not in visible:
                    yield name
            for key, item in part.items():
                if key == "function" and part.get("type") == "TABLE_FUNCTION":
                    # The function was already checked as a row source, and is not an expression.
                    yield from self.names(list(item.values()), visible)
                elif key != "cte_map":
                    yield from self.names(item, visible)

    def _check_source(self, part: dict[str, Any]) -> None:
        if part["type"] == "TABLE_FUNCTION":
            self._check_table_function(part["function"])
        elif part["type"] == "SHOW_REF" and part["show_type"] not in _SHOWN:
            raise _refused("SHOW is not supported; SELECT * FROM vault.tables lists the tables")

    def _check_kind(self, kind: str) -> None:
        if kind not in _QUERIES | _SOURCES | _ORDERS and not kind.endswith(_PARTS):
            raise _refused(f"{kind.removesuffix('_QUERY_NODE').replace('_', ' ')} is not allowed")

    def _named(self, part: dict[str, Any]) -> TableName:
        schema, name = str(part["schema_name"]), str(part["table_name"])
        if part.get("at_clause"):
            raise _refused(f"{name!r:.200} has an AT clause; use the parameter as_of to read an earlier state")
        if part["catalog_name"] or (schema and schema.lower() not in self._schemas):
            path = ".".join(filter(None, (str(part["catalog_name"]), schema, name)))
            known = f"one of {', '.join(sorted(self._schemas))}, or " if self._schemas else ""
            raise _refused(f"{path!r:.200} is in an unknown schema; use {known}no schema for the frame of a table")
        return TableName(schema, name)

    def _check_table_function(self, function: dict[str, Any]) -> None:
        name = str(function.get("function_name", ""))
        is_qualified = function.get("schema") or function.get("catalog")
        if function.get("class") != "FUNCTION" or is_qualified or name.lower() not in _TABLE_FUNCTIONS:
            raise _refused(f"the table function {name!r:.200} is not among {', '.join(sorted(_TABLE_FUNCTIONS))}")

    def _check_expression(self, part: dict[str, Any]) -> None:
        if part["class"] == "FUNCTION":
            name = str(part.get("function_name", "")).lower()
            if name in _WITH_EFFECTS or name in _only_table_functions():
                raise _refused(f"the function {name!r:.200} has side effects or returns a table")


def _parser() -> Any:
    """Return the parser's connection, which has no file access."""
    # One per process: the threads of a database do not survive a fork.
    return _parser_of(os.getpid())


@cache
def _parser_of(process: int) -> Any:
    """Return the connection of an operating system process."""
    made = connection()
    for setting in ("enable_external_access", "autoinstall_known_extensions", "autoload_known_extensions"):
        made.execute(f"SET {setting} = false")
    made.execute("SET lock_configuration = true")
    return made


@cache
def _only_table_functions() -> frozenset[str]:
    """Return the functions that only return tables or change settings."""
    rows = _parser().cursor().execute("SELECT DISTINCT function_name, function_type FROM duckdb_functions()").fetchall()
    of_values = {name for name, kind in rows if kind in ("scalar", "aggregate", "macro")}
    return frozenset(name for name, _ in rows) - of_values - _TABLE_FUNCTIONS


def _refused(reason: str) -> TVArgumentError:
    return TVArgumentError(f"The statement was refused: {reason}. {_PURPOSE}")
