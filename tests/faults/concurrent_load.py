"""What each interpreter of the concurrent history does to the vault that all of them share."""

from __future__ import annotations

import random
import re
import uuid
from pathlib import Path
from typing import Any

import pandas as pd
from history import Recorder

from tablevault import TableVault, TVArgumentError

WRITTEN = tuple(f"written-{number}" for number in range(3))
EXECUTED = tuple(f"executed-{number}" for number in range(3))
MODULES = tuple(f"module_{number}" for number in range(3))
MAXIMUM_INSTANCES = 12
"""Of a table, that are left before some are deleted."""

CODE = """
import time

import pandas as pd


def index(token):
    return pd.DataFrame({"x": range(int(token.rsplit("-", 1)[1]))})


def answer(x, token):
    time.sleep(0.001)
    return token
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: index
code_module: job
is_custom: true
arguments: {{token: "{token}"}}
"""

ANSWER = """
builder_type: ColumnBuilder
changed_columns: [token]
python_function: answer
code_module: job
is_custom: true
return_type: row-wise
arguments: {{x: "<<self.x[index]>>", token: "{token}"}}
"""


def create(folder: Path, recorder: Recorder) -> None:
    """Make the vault."""
    vault = TableVault(folder, create=True, author="a")
    vault.create_code_module("job", text=CODE)
    for table in (*WRITTEN, *EXECUTED):
        recorder.call("create_table", lambda table=table: vault.create_table(table), table=table)


def frame(token: str) -> pd.DataFrame:
    """Return the frame of a token.

    All of its rows carry the token, which encodes their number.
    """
    return pd.DataFrame({"token": [token] * int(token.rsplit("-", 1)[1])})


class User:
    """A user who makes random calls, and records them.

    Parameters
    ----------
    folder
        The vault.
    recorder
        Where every call is noted.
    chance
        What is drawn from.
    """

    def __init__(self, folder: Path, recorder: Recorder, chance: random.Random) -> None:
        self._folder = folder
        self._vault = TableVault(folder, author="user", lock_timeout=0.5)
        self._record = recorder.call
        self._chance = chance
        self._seen: set[str] = set()

    # --- reading --------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Read something."""
        reads = [self._list_tables, self._read_module, self._read_newest, self._look_around]
        self._chance.choice([self._list_some, self._list_some, *reads])()

    def _list_tables(self) -> None:
        self._record("get_tables", self._vault.get_tables)

    def _read_module(self) -> None:
        module = self._chance.choice(MODULES)
        if module in self._vault.get_code_modules_list():
            self._record(
                "get_code_module_str",
                lambda: _token_in(self._vault.get_code_module_str(module)),
                module=module,
            )

    def _list_some(self) -> None:
        self.list_instances(self._table())

    def list_instances(self, table: str) -> None:
        """List a table's instances, and read those that are new."""
        listed = self._record("get_table_instances", lambda: self._vault.get_table_instances(table, ""), table=table)
        new = [instance for instance in listed or () if instance not in self._seen]
        again = [self._chance.choice(listed)] if listed else []
        for instance in [*new, *again]:
            self._record(
                "get_dataframe", lambda instance=instance: self._read(table, instance), table=table, instance=instance
            )
            self._seen.add(instance)

    def _read_newest(self) -> None:
        table = self._table()
        if self._vault.get_table_instances(table, "") and self._chance.random() < 0.5:
            # All of them may be deleted by now; there is nothing to be named then.
            self._record("newest", lambda: self._newest(table), table=table)

    def _newest(self, table: str) -> dict[str, Any] | None:
        """Read the newest instance.

        If it is deleted between the two reads, it is no longer the newest.
        """
        while instances := self._vault.get_table_instances(table, ""):
            try:
                return self._read(table, instances[-1])
            except TVArgumentError:
                if instances[-1] in self._vault.get_table_instances(table, ""):
                    raise
        return None

    def _read(self, table: str, instance: str) -> dict[str, Any]:
        found, read = self._vault.get_dataframe(table, instance, version="")
        return {"instance": read, "rows": len(found), "tokens": sorted(found["token"].unique().tolist())}

    def _look_around(self) -> None:
        chosen = self._chance.random()
        if chosen < 0.4:
            self._record("get_active_processes", lambda: len(self._vault.get_active_processes()))
        elif chosen < 0.7:
            self._record("get_history", lambda: len(self._vault.get_history(limit=5)))
        else:
            self._record("get_process_completion", lambda: self._vault.get_process_completion("nobody"))

    # --- writing --------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Change something."""
        writes = {
            self._write_instance: 5,
            self._execute_instance: 4,
            self._delete_instance: 4,
            self._change_tables: 3,
            self._write_module: 2,
            self._tend: 3,
        }
        self._chance.choices(list(writes), list(writes.values()))[0]()

    def _table(self) -> str:
        return self._chance.choice((*WRITTEN, *EXECUTED))

    def _version(self) -> str:
        return self._chance.choice(["base", "other", f"v{self._chance.randint(0, 9)}"])

    def _token(self) -> str:
        return f"{uuid.uuid4().hex}-{self._chance.randint(1, 40)}"

    def _write_instance(self) -> None:
        table, version, token = self._chance.choice(WRITTEN), self._version(), self._token()
        if f"TEMP_{version}" not in self._vault.get_table_instances(table, "", include_temp=True):
            self._record("create_instance", lambda: self._vault.create_instance(table, version, external_edit=True))
        self._write(table, version, token, self._process_id("write", table, version, token))

    def _write(self, table: str, version: str, token: str, process_id: str) -> None:
        self._record(
            "write_instance",
            lambda: self._vault.write_instance(frame(token), table, version, process_id=process_id),
            table=table,
            token=token,
        )

    def _execute_instance(self) -> None:
        """Make an instance and execute it; one that is there already was meant for another token."""
        table, token = self._chance.choice(EXECUTED), self._token()
        version = f"e{uuid.uuid4().hex[:6]}"
        builders = {f"{table}_index": INDEX.format(token=token), "answer": ANSWER.format(token=token)}
        if self._record("create_instance", lambda: self._vault.create_instance(table, version, builders=builders)):
            self._execute(table, version, token, self._process_id("execute", table, version, token))

    def _execute(self, table: str, version: str, token: str, process_id: str) -> None:
        self._record(
            "execute_instance",
            lambda: self._vault.execute_instance(table, version, process_id=process_id),
            table=table,
            token=token,
        )

    def _process_id(self, kind: str, table: str, version: str, token: str) -> str:
        """Return a descriptive process id, or often an empty text.

        Any interpreter can resume the process by it.
        """
        return f"{kind}.{table}.{version}.{token}" if self._chance.random() < 0.5 else ""

    def _delete_instance(self) -> None:
        table = self._table()
        instances = self._vault.get_table_instances(table, "")
        if len(instances) > MAXIMUM_INSTANCES * self._chance.random():
            instance = self._chance.choice(instances)
            self._record(
                "delete_instance",
                lambda: self._vault.delete_instance(instance, table),
                table=table,
                instance=instance,
            )

    def _change_tables(self) -> None:
        passing = [table for table in self._vault.get_tables() if table.startswith("passing-")]
        new = f"passing-{uuid.uuid4().hex}"
        if not passing or len(passing) < self._chance.randint(0, 8):
            self._record("create_table", lambda: self._vault.create_table(new), table=new)
            return
        table = self._chance.choice(passing)
        if self._chance.random() < 0.5:
            self._record("rename_table", lambda: self._vault.rename_table(new, table), table=table, new=new)
        else:
            self._record("delete_table", lambda: self._vault.delete_table(table), table=table)

    def _write_module(self) -> None:
        module, token = self._chance.choice(MODULES), uuid.uuid4().hex
        text = f"# {'filling ' * 200}\ntoken = '{token}'\n"
        self._record(
            "create_code_module",
            lambda: self._vault.create_code_module(module, text=text),
            module=module,
            token=token,
        )

    def _tend(self) -> None:
        """Take up or stop what others have left paused."""
        paused = [name for name, info in self._vault.get_active_processes().items() if info.status == "paused"]
        if not paused:
            return
        process_id = self._chance.choice(paused)
        kind, table, version, token = process_id.split(".")
        if self._chance.random() < 0.3:
            self._record("stop_process", lambda: self._vault.stop_process(process_id))
        else:
            {"write": self._write, "execute": self._execute}[kind](table, version, token, process_id)


class Neighbour:
    """A user with tables of their own."""

    def __init__(self, folder: Path, recorder: Recorder, name: str) -> None:
        self._vault = TableVault(folder, author=name)
        self._record = recorder.call
        self._name = name
        self._number = 0

    def work(self) -> None:
        """Make a table, fill it, read it, and now and then remove it."""
        self._number += 1
        table, token = f"{self._name}-{self._number}", f"{uuid.uuid4().hex}-3"
        self._record("create_table", lambda: self._vault.create_table(table), table=table)
        self._record("create_instance", lambda: self._vault.create_instance(table, external_edit=True))
        self._record(
            "write_instance", lambda: self._vault.write_instance(frame(token), table), table=table, token=token
        )
        self._record("get_dataframe", lambda: self._read(table), table=table, instance=None)
        self._record("delete_table", lambda: self._vault.delete_table(table), table=table)

    def _read(self, table: str) -> dict[str, Any]:
        found, instance = self._vault.get_dataframe(table)
        return {"instance": instance, "rows": len(found), "tokens": sorted(found["token"].unique().tolist())}


def _token_in(text: str) -> str:
    found = re.search("token = '(.*)'\n$", text)
    return found[1] if found and text.startswith(f"# {'filling ' * 200}\n") else f"torn: {text}"
