"""Triggers of connections are complete, wherever an interrupt comes while they are created."""

import pytest

from tablevault import TableVault
from tablevault.catalog import sqlite_triggers
from tablevault.catalog.sqlite_triggers import LiveConnection


@pytest.mark.parametrize("is_created", [False, True])
@pytest.mark.parametrize("number", range(len(sqlite_triggers._TRIGGERS)))
def test_vault_is_writable_after_an_interrupt_between_triggers(tmp_path, monkeypatch, number, is_created):
    vault = TableVault(tmp_path / "vault", create=True)
    execute, interrupted = LiveConnection.execute, []

    def interrupt(self, statement, *values):
        if statement == sqlite_triggers._TRIGGERS[number] and not interrupted:
            interrupted.append(statement)
            if is_created:
                execute(self, statement, *values)
            raise KeyboardInterrupt
        return execute(self, statement, *values)

    monkeypatch.setattr(LiveConnection, "execute", interrupt)
    with pytest.raises(KeyboardInterrupt):
        vault.create_table("first")
    assert interrupted
    vault.create_table("second")
    assert vault.get_tables() == ["second"]
    assert vault.get_active_processes() == {}
    assert vault.verify().ok
