"""Triggers of SQLite connections, which make each transition of a process a single statement.

A statement of SQLite changes one table. What follows from the new state of a process in other tables (its locks, steps
on disk, counters) is therefore done by triggers. They are temporary, so the file holds none: a file with triggers is
refused, because it may come from elsewhere. An interrupt may come between two of them, and the connection is used
again, so each is created only if it is missing.
"""

from __future__ import annotations

import sqlite3

from tablevault.catalog.sql import schema
from tablevault.values.processes import Status

_UNDECIDED = f"'{Status.RUNNING.value}', '{Status.PAUSED.value}'"

_TRIGGERS = (
    """
    CREATE TEMP TRIGGER IF NOT EXISTS process_takes_locks AFTER INSERT ON main.processes WHEN NOT NEW.finished
    BEGIN
        INSERT INTO locks (serial, resource, exclusive)
            SELECT NEW.serial, json_extract(value, '$.resource'), json_extract(value, '$.exclusive')
            FROM json_each(NEW.plan, '$.locks');
    END
    """,
    # A refused process is finished from the start.
    """
    CREATE TEMP TRIGGER IF NOT EXISTS process_ends AFTER UPDATE OF end_order ON main.processes
    WHEN NEW.end_order IS NOT OLD.end_order
    BEGIN
        UPDATE counters SET value = CASE name WHEN 'end_order' THEN NEW.end_order ELSE value + (NOT OLD.finished) END;
    END
    """,
    f"""
    CREATE TEMP TRIGGER IF NOT EXISTS process_moves_on AFTER UPDATE OF status, finished ON main.processes
    WHEN NEW.end_order IS OLD.end_order AND (
        NEW.finished > OLD.finished OR (OLD.status IN ({_UNDECIDED}) AND NEW.status NOT IN ({_UNDECIDED}))
    )
    BEGIN
        UPDATE counters SET value = value + 1 WHERE name = 'generation';
    END
    """,
    """
    CREATE TEMP TRIGGER IF NOT EXISTS process_is_finished AFTER UPDATE OF finished ON main.processes
    WHEN NEW.finished > OLD.finished
    BEGIN
        DELETE FROM locks WHERE serial = NEW.serial;
        DELETE FROM tidying WHERE serial = NEW.serial AND problem IS NULL;
    END
    """,
    """
    CREATE TEMP TRIGGER IF NOT EXISTS process_is_withdrawn BEFORE DELETE ON main.processes
    BEGIN
        DELETE FROM locks WHERE serial = OLD.serial;
        DELETE FROM creates WHERE serial = OLD.serial;
    END
    """,
)


class LiveConnection(sqlite3.Connection):
    """A connection that can write to the catalog."""

    has_triggers = False

    def create_triggers(self) -> None:
        """Create the triggers, unless they exist or the catalog has no tables of the newest format yet."""
        if self.has_triggers:
            return
        found = self.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", [schema.creates.name])
        if found.fetchone() is None:
            return
        for trigger in _TRIGGERS:
            self.execute(trigger)
        self.has_triggers = True
