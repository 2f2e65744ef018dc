"""Rows of large frames are reused only if their evaluated arguments are equal."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from tablevault import TableVault

ROWS = 400
CODE = """
import json
from pathlib import Path

import pandas as pd

def rows(count, first):
    return pd.DataFrame({"key": range(first, first + count), "text": [f"text {key}" for key in range(first, first + count)]})

def note(folder, name, key):
    with open(Path(folder, "calls"), "a") as file:
        file.write(f"{name} {key}\\n")

def answer(folder, key, **others):
    note(folder, "answer", key)
    return f"{key} {others}"

def page(folder, key, target):
    note(folder, "page", key)
    Path(target, f"{key}.txt").write_text(str(key))
    number = json.loads(Path(folder, "number").read_text())
    return f"{key}.txt", number

def after(folder, key, number):
    note(folder, "after", key)
    if key == 300 and not Path(folder, "go").exists():
        raise ConnectionError("gone")
    return number

def better(text):
    return text.upper()

def longer(frame):
    return [len(text) for text in frame["text"]]
"""

BUILDER = """
builder_type: {kind}
changed_columns: {columns}
code_module: work
is_custom: true
python_function: {function}
return_type: {return_type}
arguments: {arguments}
"""


class Bench:
    """A large table, each call of a function noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vault = TableVault(folder / "vault", author="tester", create=True)
        self.vault.create_code_module("work", text=CODE)
        self.vault.create_table("answers")
        self.vault.create_table("other")
        self.other(1)

    def other(self, value: int) -> None:
        """Replace the other table."""
        self.vault.create_instance("other", external_edit=True)
        self.vault.write_instance(pd.DataFrame({"key": [0], "value": [value]}), "other")

    def builder(
        self, columns: str, function: str, arguments: str, more: str = "", return_type: str = "row-wise"
    ) -> str:
        """Return the text of a ColumnBuilder."""
        arguments = arguments.replace("HERE", str(self.folder))
        fields = {"columns": columns, "function": function, "arguments": arguments, "return_type": return_type}
        return BUILDER.format(kind="ColumnBuilder", **fields) + more

    def answer(self, more: str = "", columns: str = "[answer]") -> str:
        """Return the builder that reads a cell, and another argument."""
        return self.builder(columns, "answer", '{folder: HERE, key: "<<self.key[index]>>"' + more + "}")

    def index(self, count: int = ROWS, first: int = 0) -> str:
        """Return the IndexBuilder."""
        arguments = f"{{count: {count}, first: {first}}}"
        fields = {"columns": "[key, text]", "function": "rows", "return_type": "dataframe", "arguments": arguments}
        return BUILDER.format(kind="IndexBuilder", **fields) + "primary_key: [key]\n"

    def run(self, **builders: str) -> list[str]:
        """Execute with the newest instance as the origin, and return the calls, sorted."""
        self.vault.create_instance("answers", copy=True, builders=builders)
        self.vault.execute_instance("answers")
        return self.calls()

    def calls(self) -> list[str]:
        """Return the calls since the last time, sorted."""
        path = self.folder / "calls"
        found = sorted(path.read_text().splitlines()) if path.exists() else []
        path.write_text("")
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_new_and_moved_rows_cost_the_new_ones(bench: Bench) -> None:
    assert len(bench.run(answers_index=bench.index(), answer=bench.answer())) == ROWS
    assert bench.run(answers_index=bench.index(first=3)) == [f"answer {ROWS + more}" for more in range(3)]
    assert bench.run(answers_index=bench.index(count=ROWS + 2, first=2)) == ["answer 2", f"answer {ROWS + 3}"]
    assert bench.run() == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (", more: 1", ", more: 1.0"),
        (", more: 1", ", more: true"),
        (', more: "<<self.key[index]>>"', ', more: "<<self.text[index]>>"'),
        (', more: ["<<self.key[index]>>", 1]', ', more: ["<<self.key[index]>>", 1.0]'),
        (', more: "a <<self.key[index]>>"', ', more: "b <<self.key[index]>>"'),
        (', more: "a"', ', others: "a"'),
    ],
)
def test_other_arguments_recompute_all_rows(bench: Bench, before: str, after: str) -> None:
    bench.run(answers_index=bench.index(), answer=bench.answer(before))
    assert bench.run() == []
    assert len(bench.run(answer=bench.answer(after))) == ROWS


@pytest.mark.parametrize(
    "argument",
    ['"<<other.value[index::0]>>"', '"<<other.value[index::0]>> <<self.key[index]>>"', '"<<other.{value}>>"'],
)
def test_other_table_recomputes_all_rows(bench: Bench, argument: str) -> None:
    bench.run(answers_index=bench.index(), answer=bench.answer(f", more: {argument}"))
    bench.other(1)
    assert bench.run() == []
    bench.other(2)
    assert len(bench.run()) == ROWS


def test_position_counts_if_it_is_an_argument(bench: Bench) -> None:
    bench.run(answers_index=bench.index(), answer=bench.answer(', more: "<<self.index>>"'))
    assert bench.run() == []
    assert len(bench.run(answers_index=bench.index(first=1))) == ROWS


def test_whole_column_counts_if_it_is_an_argument(bench: Bench) -> None:
    bench.run(answers_index=bench.index(), answer=bench.answer(', more: "<<self.{text}>>"'))
    assert bench.run() == []
    assert len(bench.run(answers_index=bench.index(count=ROWS + 1))) == ROWS + 1


def test_arguments_written_otherwise_with_equal_values_are_reused(bench: Bench) -> None:
    bench.run(answers_index=bench.index(), answer=bench.answer(', more: "text <<self.key[index]>>"'))
    assert bench.run(answer=bench.answer(', more: "<<self.text[index]>>"')) == []


def test_column_overwritten_afterwards_counts_as_it_was_read(bench: Bench) -> None:
    better = bench.builder("[text]", "better", '{text: "<<self.text[index]>>"}')
    answer = bench.answer(', more: "<<self.text[index]>>"')
    first = bench.run(answers_index=bench.index(), better=better, answer=answer)
    assert len(first) == ROWS
    assert bench.run() == []
    assert len(bench.run(answers_index=bench.index(count=ROWS + 1))) == 1


def test_rows_read_before_their_files_were_lost_are_recomputed(bench: Bench) -> None:
    (bench.folder / "number").write_text("1")
    page = bench.builder(
        "[file, number]",
        "page",
        '{folder: HERE, key: "<<self.key[index]>>", target: ~ARTIFACT_FOLDER~}',
        "dtypes: {file: artifact_string, number: Int64}\n",
    )
    after = bench.builder(
        "[after]", "after", '{folder: HERE, key: "<<self.key[index]>>", number: "<<self.number[index]>>"}'
    )
    bench.vault.create_instance("answers", builders={"answers_index": bench.index(), "page": page, "after": after})
    with pytest.raises(ConnectionError):
        bench.vault.execute_instance("answers", process_id="work")
    (lost,) = bench.folder.glob("vault/**/7.txt")
    os.unlink(lost)
    (bench.folder / "number").write_text("2")
    (bench.folder / "go").write_text("")
    bench.calls()
    bench.vault.execute_instance("answers", process_id="work")
    # The cell that row 7 of `after` was computed from is not the one in the frame any more.
    assert {"page 7", "after 7"} <= set(bench.calls())
    assert bench.run() == []


def test_rows_of_a_very_large_origin_are_reused(bench: Bench) -> None:
    count = 100_000
    upper = bench.builder("[upper]", "better", '{text: "<<self.text[index]>>"}')
    bench.run(answers_index=bench.index(count=count), upper=upper)
    bench.vault.create_instance("answers", copy=True, builders={"answers_index": bench.index(count=count, first=2)})
    progress = bench.vault.get_process(bench.vault.execute_instance("answers")).progress
    assert (progress["upper"].computed, progress["upper"].reused) == (2, count - 2)
    frame = bench.vault.get_dataframe("answers")[0]
    assert frame["upper"].tolist() == [f"TEXT {key}" for key in range(2, count + 2)]
