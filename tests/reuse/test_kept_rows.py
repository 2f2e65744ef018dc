"""`keep_old: true` keeps rows of the origin that the new run does not produce."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tablevault import TableVault, tv_errors

CODE = """
from pathlib import Path

import pandas as pd

ROWS = pd.DataFrame({{"a": [1, 2], "c": ["x", "y"], "d": [0.5, 1.5]}})


def rows():
    wanted = Path({wanted!r}).read_text().split(",")
    a = [int(text) for text in wanted]
    return pd.DataFrame({{"a": a, "c": [f"c{{n}}" for n in a], "d": [n / 2 for n in a]}})[{columns}]


def loud(c):
    return c.upper()


def shifted(a):
    return a + 100
"""
INDEX = """
builder_type: IndexBuilder
changed_columns: {columns}
primary_key: {key}
keep_old: true
python_function: rows
code_module: m
is_custom: true
"""
OVER = """
builder_type: ColumnBuilder
changed_columns: [{column}]
python_function: {function}
code_module: m
is_custom: true
return_type: row-wise
arguments: {{{column}: "<<self.{column}[index]>>"}}
"""


class Kept:
    """A table whose IndexBuilder gives what a file says."""

    def __init__(self, folder: Path) -> None:
        self.wanted = folder / "wanted"
        self.vault = TableVault(folder / "vault", author="ada", create=True)
        self.vault.create_table("t")

    def run(
        self, wanted: str, columns: str = "[a, c]", key: str = "[a]", copy: bool = True, **more: str
    ) -> list[object]:
        self.wanted.write_text(wanted)
        quoted = "[" + ", ".join(repr(name.strip()) for name in columns.strip("[]").split(",")) + "]"
        self.vault.create_code_module("m", text=CODE.format(wanted=str(self.wanted), columns=quoted))
        builders = {"t_index": INDEX.format(columns=columns, key=key), **more}
        self.vault.create_instance("t", copy=copy, builders=builders)
        self.vault.execute_instance("t")
        return self.vault.get_dataframe("t")[0]["a"].tolist()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


@pytest.mark.parametrize("columns", ["[a, c]", "[c, a]", "[a, c, d]", "[a]"])
def test_old_rows_stay_when_columns_are_reordered_added_or_removed(kept: Kept, columns: str) -> None:
    assert kept.run("1,2", copy=False) == [1, 2]
    assert kept.run("3", columns) == [3, 1, 2]
    frame = kept.vault.get_dataframe("t")[0]
    if "c" in columns:
        assert frame["c"].tolist() == ["c3", "c1", "c2"]
    if "d" in columns:
        assert frame["d"].isna().tolist() == [False, True, True]
    assert kept.vault.verify().ok


def test_rows_of_a_written_origin_stay(kept: Kept) -> None:
    kept.vault.create_instance("t", external_edit=True)
    kept.vault.write_instance(pd.DataFrame({"a": [1, 2], "c": ["x", "y"]}), "t")
    assert kept.run("2,3") == [2, 3, 1]
    assert kept.vault.get_dataframe("t")[0]["c"].tolist() == ["c2", "c3", "x"]


def test_old_rows_stay_when_a_column_of_theirs_is_overwritten(kept: Kept) -> None:
    over = OVER.format(column="c", function="loud")
    assert kept.run("1,2", copy=False, over=over) == [1, 2]
    assert kept.run("2,3", over=over) == [2, 3, 1]
    assert kept.run("3,4", over=over) == [3, 4, 2, 1]
    assert kept.vault.get_dataframe("t")[0]["c"].tolist() == ["C3", "C4", "C2", "C1"]


def test_a_key_that_is_overwritten_cannot_tell_old_rows_from_new_ones(kept: Kept) -> None:
    with pytest.raises(tv_errors.TVBuilderError, match=r"keep_old.*'over' overwrites 'a' of the primary key"):
        kept.run("1,2", copy=False, over=OVER.format(column="a", function="shifted"))


def test_an_origin_without_the_key_is_refused(kept: Kept) -> None:
    kept.vault.create_instance("t", external_edit=True)
    kept.vault.write_instance(pd.DataFrame({"c": ["x", "y"]}), "t")
    with pytest.raises(tv_errors.TVBuilderError, match="the origin has no column 'a'"):
        kept.run("1,2")
