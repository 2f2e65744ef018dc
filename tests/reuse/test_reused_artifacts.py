"""The file of a reused cell never changes.

Rows computed beside it may write any files.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tablevault import TableVault

CODE = """
import os
from pathlib import Path

import pandas as pd


def rows():
    return pd.DataFrame({{"k": [int(text) for text in Path({keys!r}).read_text().split()]}})


def draw(k, folder):
    name = {name}
    Path(folder, name).{write}
    return name
"""
INDEX = """
builder_type: IndexBuilder
changed_columns: [k]
primary_key: [k]
python_function: rows
code_module: drawing
is_custom: true
"""
DRAW = """
builder_type: ColumnBuilder
changed_columns: [{column}]
dtypes: {{{column}: artifact_string}}
python_function: {function}
code_module: drawing
is_custom: true
return_type: row-wise
n_threads: {threads}
arguments: {{k: "<<self.k[index]>>", folder: ~ARTIFACT_FOLDER~}}
"""
COUNTED = "f'{len(os.listdir(folder))}.txt'"
BY_KEY = "f'{k}.txt'"


class Drawings:
    """A table whose rows each have a file."""

    def __init__(self, folder: Path) -> None:
        self.keys = folder / "keys"
        self.vault = TableVault(folder / "vault", author="ada", create=True)
        self.vault.create_table("t")

    def code(self, name: str, write: str = "write_text(f'drawing of {k}')", more: str = "") -> None:
        self.vault.create_code_module("drawing", text=CODE.format(keys=str(self.keys), name=name, write=write) + more)

    def first(self, *keys: int, threads: int = 1, **more: str) -> None:
        self.keys.write_text(" ".join(map(str, keys)))
        draw = DRAW.format(column="file", function="draw", threads=threads)
        self.vault.create_instance("t", builders={"t_index": INDEX, "draw": draw, **more})
        self.vault.execute_instance("t")

    def again(self, *keys: int, **options: str) -> None:
        self.keys.write_text(" ".join(map(str, keys)))
        self.vault.create_instance("t", copy=True)
        self.vault.execute_instance("t", **options)

    def contents(self, column: str = "file") -> list[str]:
        return [Path(path).read_text() for path in self.vault.get_dataframe("t")[0][column]]


@pytest.fixture
def drawings(tmp_path: Path) -> Drawings:
    return Drawings(tmp_path)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_new_row_cannot_take_the_name_of_a_reused_file(drawings: Drawings, threads: int) -> None:
    drawings.code(COUNTED)
    drawings.first(10, 11) if threads == 1 else drawings.first(10, threads=threads)
    before = drawings.contents()
    with pytest.raises(ValueError, match=r"'draw', column 'file', row \d: '0.txt' is also the file of a reused"):
        drawings.again(10, 11, 12, process_id="nightly")
    drawings.code(BY_KEY)
    drawings.vault.execute_instance("t", process_id="nightly")
    assert drawings.contents()[: len(before)] == before
    assert drawings.contents() == ["drawing of 10", "drawing of 11", "drawing of 12"]
    assert drawings.vault.verify().ok


def test_two_rows_at_once_cannot_take_the_name_of_a_reused_file(drawings: Drawings) -> None:
    meeting = """
import threading

both = threading.Barrier(2)

def meet(k):
    if k > 10:
        both.wait(180)
"""
    drawings.code("'0.txt'", "write_text(f'drawing of {k}'), meet(k)", meeting)
    drawings.first(10, threads=3)
    with pytest.raises(ValueError, match="'0.txt' is also the file of a reused"):
        drawings.again(10, 11, 12, process_id="nightly")
    assert drawings.vault.get_process("nightly").progress["draw"].computed == 0


def test_rows_may_share_a_file_that_is_the_same_for_all(drawings: Drawings) -> None:
    drawings.code("'legend.txt'", "write_text('legend')")
    drawings.first(10, 11)
    drawings.again(10, 11, 12)
    assert drawings.contents() == ["legend"] * 3
    info = drawings.vault.get_history(operation="execute_instance")[0]
    assert (info.progress["draw"].computed, info.progress["draw"].reused) == (1, 2)
    assert drawings.vault.verify().ok


def test_row_is_recomputed_if_another_column_took_its_file_name(drawings: Drawings) -> None:
    second = """
def write(k, folder):
    Path(folder, f"{k}-second.txt").write_text(f"second of {k}")
    return f"{k}-second.txt"
"""
    drawings.code(BY_KEY, more=second)
    drawings.first(10, 11, second=DRAW.format(column="other", function="write", threads=1))
    # From now on the first column's files have the names that the second column's have had.
    drawings.code("f'{k}-second.txt'", more=second.replace("-second.txt", "-third.txt"))
    drawings.again(10, 11)
    assert drawings.contents() == ["drawing of 10", "drawing of 11"]
    assert drawings.contents("other") == ["second of 10", "second of 11"]
    assert drawings.vault.verify().ok


def test_a_row_whose_file_was_altered_is_computed_again(drawings: Drawings) -> None:
    drawings.code(BY_KEY)
    drawings.first(10, 11)
    altered = Path(drawings.vault.get_dataframe("t")[0]["file"][0])
    altered.chmod(0o644)
    altered.write_text("altered by hand")
    drawings.again(10, 11)
    assert drawings.contents() == ["drawing of 10", "drawing of 11"]
    assert drawings.vault.verify().ok
