"""A table of questions with expensive answers.

Every call of a function appends a line to a file.
"""

from __future__ import annotations

import collections
import textwrap
from pathlib import Path

from tablevault import TableVault

CODE = '''
import os

def _called(name, *about):
    with open({calls!r}, "a") as file:
        file.write("|".join([name, *map(str, about)]) + "\\n")

def rows(source):
    _called("rows")
    return source

def ask(prompt, name):
    """Ask."""
    _called("ask", name)
    return suffix(f"{{prompt}} {{name}}")

def suffix(text):
    return text + "?"

def shout(text):
    _called("shout", text)
    return None if text is None else text.upper()

def length(frame):
    _called("length")
    return [len(name) for name in frame["name"]]

def number(names):
    _called("number")
    for name in names:
        _called("numbered", name)
        yield len(name)

def lookup(value):
    _called("lookup", value)
    return value

def unrelated():
    return 1
'''

INDEX = """
builder_type: IndexBuilder
changed_columns: [name]
python_function: rows
code_module: llm
is_custom: true
primary_key: {key}
keep_old: {keep_old}
arguments: {{source: "<<people.{{name}}>>"}}
"""

ASK = """
builder_type: ColumnBuilder
changed_columns: [answer]
python_function: ask
code_module: llm
is_custom: true
return_type: row-wise
arguments: {{prompt: "{prompt}", name: "<<self.name[index]>>"}}
"""

SHOUT = """
builder_type: ColumnBuilder
changed_columns: [loud]
python_function: shout
code_module: llm
is_custom: true
return_type: row-wise
arguments: {text: "<<self.answer[index]>>"}
"""

LENGTH = """
builder_type: ColumnBuilder
changed_columns: [letters]
python_function: length
code_module: llm
is_custom: true
arguments: {frame: "<<self.{name}>>"}
"""

NUMBER = """
builder_type: ColumnBuilder
changed_columns: [letters]
python_function: number
code_module: llm
is_custom: true
return_type: generator
arguments: {names: "<<self.name[index::0:1000]>>"}
"""

CITY = """
builder_type: ColumnBuilder
changed_columns: [town]
python_function: lookup
code_module: llm
is_custom: true
return_type: row-wise
arguments: {value: "<<people.city[name::<<self.name[index]>>]>>"}
"""


class Desk:
    """A vault with a table `people` (input) and a table `answers` (computed)."""

    def __init__(self, folder: Path) -> None:
        self.calls_file = folder / "calls.txt"
        self.vault = TableVault(folder / "vault", author="ada", create=True)
        self.vault.create_table("people")
        self.vault.create_table("answers")
        self.write_code(CODE.format(calls=str(self.calls_file)))
        self.people(["ann", "bob", "cleo", "dan"])

    @property
    def code(self) -> str:
        return self.vault.get_code_module_str("llm")

    def write_code(self, text: str) -> None:
        self.vault.create_code_module("llm", text=text)

    def people(self, names: list[str], cities: list[str] | None = None) -> None:
        import pandas as pd

        frame = pd.DataFrame({"name": names, "city": cities or [f"{name}ville" for name in names]})
        self.vault.create_instance("people", external_edit=True)
        self.vault.write_instance(frame, "people")

    def first(self, builders: dict[str, str] | None = None, *, key: str = "[name]", keep_old: str = "false") -> None:
        texts = {"answers_index": INDEX.format(key=key, keep_old=keep_old)}
        texts.update(builders or {"ask": ASK.format(prompt="Who is"), "shout": SHOUT})
        self.vault.create_instance("answers", builders=texts)
        self.run()

    def again(self, builders: dict[str, str] | None = None, **arguments: object) -> str:
        self.vault.create_instance("answers", copy=True, builders=builders)
        return self.run(**arguments)

    def run(self, **arguments: object) -> str:
        self.calls_file.unlink(missing_ok=True)
        return self.vault.execute_instance("answers", **arguments)

    def calls(self) -> dict[str, int]:
        """Function -> number of calls in the last run, without the IndexBuilder's."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        counted = collections.Counter(line.split("|")[0] for line in lines)
        counted.pop("rows", None)
        return dict(counted)

    def frame(self):
        return self.vault.get_dataframe("answers")[0]


def dedent(text: str) -> str:
    return textwrap.dedent(text).strip()
