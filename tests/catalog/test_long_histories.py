"""Long histories and lists.

A page of them takes the same work as a page of ten, counted in steps of SQLite.

`make test-slow HISTORY=1000000` looks at more.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import contextmanager

import pandas as pd
import pytest

from tablevault import TableVault
from tablevault.catalog.sql.connection import Connection
from tablevault.presentation.processes import ProcessFilters, read_history

HISTORY = int(os.environ.get("HISTORY", "100000"))
"""Processes, and instances ten times fewer."""
STEPS = 10
"""Steps of SQLite that are counted at once."""

REPEATED = """
    INSERT INTO {table} ({columns})
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
    SELECT {values} FROM numbers, (SELECT * FROM {table} WHERE {which})
"""


def repeat(catalog, table, which, count, **replaced):
    """Insert a row of a table again and again, but for its key and some columns."""
    _, *columns = [row[1] for row in catalog.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(replaced.get(name, f'"{name}"') for name in columns)
    names = ", ".join(f'"{name}"' for name in columns)
    statement = REPEATED.format(table=table, columns=names, values=values, which=which)
    catalog.execute(statement, {"count": count})


def lengthen(folder, processes, instances):
    """Let a closed vault have a history of more processes, and a table with more instances."""
    catalog = sqlite3.connect(folder / "metadata" / "catalog.db")
    with catalog:
        last = "serial = (SELECT max(serial) FROM processes)"
        end = "(SELECT value FROM counters WHERE name = 'end_order') + n"
        repeat(catalog, "processes", last, processes, process_id="hex(randomblob(16))", end_order=end)
        (last_end,) = catalog.execute("SELECT max(end_order) FROM processes").fetchone()
        catalog.execute("UPDATE counters SET value = ? WHERE name = 'end_order'", [last_end])
        newest = "row_id = (SELECT max(row_id) FROM instances)"
        ids = "'base_1_' || lower(hex(randomblob(16)))"
        repeat(catalog, "instances", newest, instances, instance_id=ids)
    catalog.close()
    # The log has a line of each process already.
    with (folder / "metadata" / "logs.txt").open("a") as log:
        log.write(json.dumps({"end": last_end}) + "\n")


@contextmanager
def steps_counted(monkeypatch):
    """Count the steps of all statements that are sent inside the block."""
    counted = [0]
    send = Connection.send

    def note():
        counted[0] += STEPS

    def noted(connection, sql, *more, **options):
        connection.driver.set_progress_handler(note, STEPS)
        try:
            return send(connection, sql, *more, **options)
        finally:
            connection.driver.set_progress_handler(None, 0)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "send", noted)
        yield counted


def calls(vault):
    """Return what is asked of a vault, by a name."""
    newest = vault.get_history(limit=1)[0].process_id
    return {
        "history": vault.get_history,
        "history of a table": lambda: vault.get_history(table_name="stories"),
        "active processes": vault.get_active_processes,
        "process": lambda: vault.get_process(newest),
        "page of processes": lambda: read_history(vault, ProcessFilters(), None, 100),
        "page of instances": lambda: vault._listings().instances("stories", False, "", 100),
        "frame": lambda: vault.get_dataframe("stories", as_of=newest),
        "create_table": lambda: vault.create_table("further"),
        "create_tag": lambda: vault.create_tag("paper"),
        "delete_tag": lambda: vault.delete_tag("paper"),
    }


@pytest.mark.slow
def test_pages_of_long_histories_take_the_work_of_short_ones(tmp_path, monkeypatch):
    taken = {}
    for name, processes in (("short", 1_100), ("long", HISTORY)):
        TableVault(tmp_path / name, author="a", create=True).write("stories", pd.DataFrame({"x": [1, 2, 3]}))
        lengthen(tmp_path / name, processes, processes // 10)
        vault = TableVault(tmp_path / name, author="b")
        for what, call in calls(vault).items():
            with steps_counted(monkeypatch) as counted:
                call()
            assert counted[0], what
            taken.setdefault(what, []).append(counted[0])
    for what, (short, long) in taken.items():
        assert long <= 2 * short, f"{what}: {long} steps instead of {short}"
