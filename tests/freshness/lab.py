"""Vaults with tables that read one another, for tests of states and refreshes."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tablevault import TableVault

CODE = """
import json
from pathlib import Path

CALLS = Path({calls!r})

def called(name):
    with CALLS.open("a") as file:
        file.write(name + "\\n")

def from_file(path):
    called("from_file")
    return json.loads(Path(path).read_text())

def each(word):
    called("each")
    return word

def split(word):
    called("split")
    return list(word)

def shout(word):
    called("shout")
    return word.upper()

def joined(words, word):
    called("joined")
    return f"{{word}} of {{words}}"

def count(frame):
    called("count")
    return [len(frame)] * len(frame)

def picky(word):
    called("picky")
    if word == "bad":
        raise ValueError(word)
    return word

def write(folder, word):
    called("write")
    (Path(folder) / f"{{word}}.txt").write_text(word * 2)
    return f"{{word}}.txt"
"""


class Lab:
    """One vault whose code module `lab` notes each call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls_file = folder / "calls"
        self.calls_file.touch()
        self.vault = TableVault(folder / "vault", author="ada", create=True)
        self.edit_code()

    def edit_code(self, *changes: tuple[str, str]) -> None:
        text = CODE.format(calls=str(self.calls_file))
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.vault.create_code_module("lab", text=text)

    @property
    def calls(self) -> list[str]:
        """The calls since this was asked last."""
        found = self.calls_file.read_text().split()
        self.calls_file.write_text("")
        return found

    def table(self, name: str, builders: dict[str, str], version: str = "base", execute: bool = True, **options) -> str:
        """Make a table and execute it; return the id of the instance."""
        self.vault.create_table(name, exist_ok=True, **options)
        self.vault.create_instance(name, version, builders=builders)
        return self.execute(name, version) if execute else ""

    def execute(self, name: str, version: str = "base") -> str:
        self.vault.execute_instance(name, version)
        return self.vault.get_table_instances(name, version)[-1]

    def again(self, name: str, builders: dict[str, str] | None = None, version: str = "base") -> str:
        """Execute a copy of the newest instance, with some builders replaced.

        Returns the id of the instance.
        """
        self.vault.create_instance(name, version, copy=True, builders=builders)
        return self.execute(name, version)

    def edit(self, name: str, builders: dict[str, str], version: str = "base") -> None:
        """Make a temporary instance whose builders differ from those of its origin."""
        self.vault.create_instance(name, version, copy=True, builders=builders)

    def status(self, *names: str, **options):
        return self.vault.get_status(list(names) or None, **options)

    def states(self, *names: str, **options) -> dict[str, str]:
        return {name: status.state for name, status in self.status(*names, **options).items()}

    def reasons(self, name: str, **options) -> tuple[str, ...]:
        return self.status(name, **options)[name].reasons

    def actions(self, *names: str, **options) -> dict[str, str]:
        plan = self.vault.plan_refresh(list(names) or None, **options)
        return {step.table_name: step.action for step in plan.steps}

    def steps(self, *names: str, **options):
        return {step.table_name: step for step in self.vault.plan_refresh(list(names) or None, **options).steps}


def words(name: str, *values: str, column: str = "word", **fields) -> dict[str, str]:
    """An independent table, whose words are in its builder."""
    return {
        f"{name}_index": builder(
            "IndexBuilder",
            [column],
            "table_generation.create_data_table_from_list",
            {"vals": list(values)},
            primary_key=[column],
            **fields,
        )
    }


def copied(name: str, of: str, column: str = "word", **fields) -> dict[str, str]:
    """A table with the rows of a column of another one."""
    return {
        f"{name}_index": builder(
            "IndexBuilder",
            [column],
            "table_generation.create_data_table_from_table",
            {"df": f"<<{of}.{{word}}>>"},
            primary_key=[column],
            **fields,
        )
    }


def from_file(name: str, path: Path, *values: str) -> dict[str, str]:
    """A table whose rows a function reads outside the vault."""
    if values:
        path.write_text(json.dumps(values))
    return {
        f"{name}_index": builder("IndexBuilder", ["word"], "lab.from_file", {"path": str(path)}, primary_key=["word"])
    }


def column(name: str, function: str, arguments: dict[str, object], **fields) -> dict[str, str]:
    """A row-wise column."""
    fields = {"return_type": "row-wise", **fields}
    return {name: builder("ColumnBuilder", [name], function, arguments, **fields)}


def shouted(name: str = "loud", word: str = "word") -> dict[str, str]:
    return column(name, "lab.shout", {"word": f"<<self.{word}[index]>>"})


def builder(kind: str, columns: list[str], function: str, arguments: dict[str, object], **fields) -> str:
    module, _, name = function.partition(".")
    content = {
        "builder_type": kind,
        "changed_columns": columns,
        "python_function": name,
        "code_module": module,
        "is_custom": module == "lab",
        "arguments": arguments,
        **fields,
    }
    return yaml.safe_dump(content, sort_keys=False)
