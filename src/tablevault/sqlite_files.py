"""SQLite files that may come from anybody: what in them could do more than hold rows is refused before it is used."""

from __future__ import annotations

import re
import sqlite3

_PLAIN = re.compile(r"\s*CREATE\s+(?:TABLE|(?:UNIQUE\s+)?INDEX)\b", re.IGNORECASE)
_COMPUTED = re.compile(r"\bAS\b", re.IGNORECASE)
"""Only columns whose values an expression makes need this word in the definition of a table or an index."""


class StrangeSchemaError(sqlite3.DatabaseError):
    """The file would do more than hold rows."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def distrust(connection: sqlite3.Connection) -> None:
    """Prepare a new connection to a file that may be damaged, or made to deceive.

    The file is data: its schema must not be able to call anything, and a name that reads like one of our tables must
    not be a query that somebody else wrote, which may never end.

    Raises
    ------
    sqlite3.DatabaseError
        If the file is damaged, or its schema holds anything but plain tables and indexes.
    """
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    try:
        for kind, name, text in connection.execute("SELECT type, name, sql FROM sqlite_master"):
            if kind not in ("table", "index") or not _is_plain(text):
                raise StrangeSchemaError(f"its schema has a {kind!s:.40} {name!s:.100}, which TableVault never makes")
    except UnicodeDecodeError as error:
        raise StrangeSchemaError(f"its schema is no text ({error})") from error


def _is_plain(text: object) -> bool:
    if text is None:  # An index that SQLite makes by itself.
        return True
    return isinstance(text, str) and bool(_PLAIN.match(text)) and not _COMPUTED.search(text)
