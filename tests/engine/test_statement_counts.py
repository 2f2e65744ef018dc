"""Limits on the number of SQL statements per public call.

This number determines the speed over a network.

A statement counts once even if it is executed for many rows. BEGIN, COMMIT and ROLLBACK do not count, because they can
be sent together with a statement.
"""

from contextlib import contextmanager

import pandas as pd
import pytest

from made_builders import builder_text
from tablevault import TableVault
from tablevault.catalog.sql.connection import Connection
from tablevault.processes.process import OwnerWatch
from tablevault.values.processes import Lock

CODE = """
import pandas as pd

def rows():
    return pd.DataFrame({"x": [1, 2, 3]})

def double(x):
    return 2 * x
"""

INDEX = builder_text(
    "IndexBuilder", changed_columns=["x"], python_function="rows", code_module="job", return_type="dataframe"
)
DOUBLE = builder_text(
    "ColumnBuilder",
    changed_columns=["double"],
    python_function="double",
    code_module="job",
    return_type="row-wise",
    arguments={"x": "<<self.x[index]>>"},
)


@contextmanager
def at_most(most):
    """Fail with the statements if more than `most` are sent inside the block."""
    sent = []
    send = Connection.send

    def noted(connection, sql, *more, **options):
        sent.append(" ".join(sql.split()))
        return send(connection, sql, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "send", noted)
        yield
    assert sent or not most
    assert len(sent) <= most, "\n".join(sent)


@pytest.fixture
def vault(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    vault.create_table("warm")
    return vault


def test_opening_sends_few_statements(tmp_path, vault):
    with at_most(4):
        TableVault(tmp_path / "vault", author="b")


def test_create_table_sends_few_statements(vault):
    with at_most(5):
        vault.create_table("stories")


def test_write_instance_sends_few_statements(vault):
    vault.create_table("stories")
    vault.create_instance("stories", external_edit=True)
    frame = pd.DataFrame({"x": [1, 2, 3]})
    with at_most(11):
        vault.write_instance(frame, "stories")


@pytest.mark.parametrize("format", ["pandas", "arrow"])
def test_get_dataframe_sends_one_statement(vault, format):
    vault.write("stories", pd.DataFrame({"x": [1, 2, 3]}))
    with at_most(1):
        vault.get_dataframe("stories", format=format)
    with at_most(1):
        vault.read("stories", format=format)


def test_create_instance_sends_few_statements(vault):
    vault.create_table("stories")
    vault.create_instance("stories", builders={"stories_index": INDEX})
    with at_most(10):
        vault.create_instance("stories", "other", builders={"stories_index": INDEX})


def test_execute_instance_sends_few_statements(vault, monkeypatch):
    # The polls of a slow run are not part of its budget.
    monkeypatch.setattr(OwnerWatch, "_STOP_SECONDS", 1e9)
    monkeypatch.setattr(OwnerWatch, "_FIRST_PROGRESS_SECONDS", 1e9)
    vault.create_code_module("job", text=CODE)
    vault.create_table("stories")
    builders = {"stories_index": INDEX, "double": DOUBLE}
    vault.create_instance("stories", builders=builders)
    with at_most(13):
        vault.execute_instance("stories")
    vault.create_instance("stories", copy=True)
    # Seven more look up the origin and its table: planning, work and sealing each read the catalog anew, since a resumed
    # process begins with the work. Seven more are the transaction that drops the artifacts of the instance before; it
    # follows the decision, because it must see the locks and tags of that moment.
    with at_most(27):
        vault.execute_instance("stories")


def test_status_sends_few_statements_per_table(vault):
    frame = pd.DataFrame({"x": [1, 2, 3]})
    vault.write("given", frame)
    vault.create_code_module("job", text=CODE)
    reading = DOUBLE.replace("<<self.x[index]>>", "<<given.x[x::<<self.x[index]>>]>>")
    names = ("first", "second")
    for name in names:
        vault.create_table(name)
        vault.create_instance(name, builders={f"{name}_index": INDEX, "double": reading})
        vault.execute_instance(name)
    with at_most(9 + 4 * len(names)):
        vault.get_status()
    with at_most(10 + 4 * len(names)):
        vault.plan_refresh()


def test_run_of_an_unchanged_file_sends_few_statements_per_table(tmp_path, vault, monkeypatch):
    monkeypatch.setattr(OwnerWatch, "_STOP_SECONDS", 1e9)
    monkeypatch.setattr(OwnerWatch, "_FIRST_PROGRESS_SECONDS", 1e9)
    source = tmp_path / "job.py"
    source.write_text(
        "from tablevault.define import Table\n\n"
        "first = Table('first')\nsecond = Table('second')\nthird = Table('third')\n\n"
        "@first.index('x', primary_key=['x'])\ndef rows():\n    return [1, 2, 3]\n\n"
        "second.index('x', rows_of='first')\nthird.index('x', rows_of='second')\n"
    )
    vault.run(source)
    with at_most(150):
        vault.run(source)


def test_tags_of_many_tables_send_few_statements(vault):
    names = [f"table{number}" for number in range(8)]
    for name in names:
        vault.create_table(name, allow_multiple_artifacts=True)
    for value in range(2):
        for name in names:
            vault.write(name, pd.DataFrame({"x": [value]}))
        with at_most(9):
            vault.create_tag("paper", move=True)
    with at_most(6):
        vault.delete_tag("paper", names[:4])
    with at_most(6):
        vault.delete_tag("paper")


def test_conflicts_of_many_locks_are_checked_together(vault):
    locks = [Lock(f"table/t{number}", False) for number in range(450)]
    with at_most(1):
        assert vault._context.catalog.processes.conflicts(locks, None) == ()


def test_listings_send_few_statements_however_long_they_are(vault):
    for number in range(12):
        vault.write("stories", pd.DataFrame({"x": [number]}))
    with at_most(2):
        assert len(vault.get_table_instances("stories")) == 12
    with at_most(1):
        assert len(vault.get_history()) > 12
