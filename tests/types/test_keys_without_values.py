"""Primary keys whose cells are NaN, and the errors that show keys."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tablevault import TableVault, tv_errors
from tablevault.execution import primary_keys

NAN = float("nan")
DEFINITIONS = """
import polars as pl
from tablevault.define import Table

nan = float("nan")
t = Table("t")


@t.index("k", "x", {options})
def rows():
    return pl.DataFrame({{"k": {keys}, "x": {cells}}}, strict=False)


@t.column()
def y(x):
    with open({log!r}, "a") as log:
        log.write(".")
    return 10 * x
"""
COPIES = """
from tablevault.define import Table

copies = Table("copies")


@copies.index("k", "z", for_each="t", primary_key=["z"])
def each(x):
    with open({log!r}, "a") as log:
        log.write(".")
    return [(0.5, x)]
"""


class Defined:
    """A vault, a definitions file, and a count of the calls of its functions."""

    def __init__(self, folder: Path) -> None:
        self.vault = TableVault(folder / "vault", author="ada", create=True)
        self.folder = folder
        self.log = folder / "log"
        self.log.write_text("")

    def run(self, keys: list[float], cells: list[int], options: str) -> int:
        """Run the definitions with these rows; return the number of calls."""
        return self._run("t.py", DEFINITIONS.format(keys=keys, cells=cells, options=options, log=str(self.log)))

    def run_copies(self) -> int:
        """Run a function for each of these rows; return the number of calls."""
        return self._run("copies.py", COPIES.format(log=str(self.log)))

    def _run(self, name: str, text: str) -> int:
        before = len(self.log.read_text())
        (self.folder / name).write_text(text)
        self.vault.run(self.folder / name)
        return len(self.log.read_text()) - before


@pytest.fixture
def defined(tmp_path):
    return Defined(tmp_path)


@pytest.mark.parametrize(
    ("frame", "key"),
    [
        (pa.table({"k": [1.0, NAN, NAN]}), "k"),
        (pl.DataFrame({"k": pl.Series([1.0, NAN], dtype=pl.Float32)}), "k"),
        (pd.DataFrame({"k": pd.array(pa.array([1.0, NAN]), dtype=pd.ArrowDtype(pa.float64()))}), "k"),
        (pa.table({"k": [1.0, NAN], "l": ["a", "a"]}), ["k", "l"]),
    ],
    ids=["arrow", "polars", "pandas", "two columns"],
)
def test_nan_in_a_key_is_refused_like_null(defined, frame, key):
    with pytest.raises(tv_errors.TVTableError, match="'k' is NaN in row 1; every row needs a value there"):
        defined.vault.write("a", frame, primary_key=key)


def test_nan_in_the_key_of_an_index_builder_is_refused(defined):
    with pytest.raises(tv_errors.TVTableError, match="'k' is NaN in row 1"):
        defined.run([1.0, NAN], [1, 2], "primary_key=['k']")


def test_old_rows_without_a_key_cannot_be_kept(defined):
    defined.run([1.0, NAN], [1, 2], "")
    with pytest.raises(tv_errors.TVBuilderError, match="row 1 of the origin has no value in the key column 'k'"):
        defined.run([5.0], [3], "primary_key=['k'], keep_old=True")
    assert defined.run([1.0, 5.0], [1, 3], "primary_key=['k']") == 1


@pytest.fixture
def earlier(monkeypatch):
    """Let keys be NaN, as they could be in vaults of earlier versions."""
    with monkeypatch.context() as patches:
        patches.setattr(primary_keys, "first_missing", lambda values: None)
        yield patches


def test_old_instances_with_nan_as_a_key_can_be_compared_and_traced(defined, earlier):
    defined.run([NAN, 1.0], [1, 2], "primary_key=['k']")
    assert defined.run([1.0, NAN, 5.0], [2, 1, 3], "primary_key=['k']") == 1
    earlier.undo()
    found = defined.vault.diff_instances("t").rows
    assert (found.added, found.removed, found.changed, found.same) == (1, 0, 0, 2)
    assert defined.vault.trace_cell("t", "NaN", "y").value == 10
    assert defined.run([1.0, 4.0], [2, 3], "primary_key=['k']") == 1


def test_input_rows_with_nan_as_a_key_are_reused(defined, earlier):
    frame = pa.table({"k": [NAN, 1.0], "x": [1, 2]})
    defined.vault.write("t", frame, primary_key="k")
    assert defined.run_copies() == 2
    defined.vault.write("t", frame.take([1, 0]), primary_key="k")
    assert defined.run_copies() == 0


def test_diff_refuses_nan_in_the_columns_of_on(defined):
    defined.vault.write("a", pa.table({"k": [1.0, NAN]}))
    defined.vault.write("a", pa.table({"k": [1.0, 2.0]}))
    with pytest.raises(tv_errors.TVTableError, match="Key column 'k' is NaN in row 1 of the instance before"):
        defined.vault.diff_instances("a", on="k")


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({"k": [[1], [1]]}, r"\[1\]"),
        ({"k": [True, True]}, "True"),
        ({"k": [{"a": 1, "b": 2}, {"b": 2, "a": 1}]}, r"\{'b': 2, 'a': 1\}"),
        ({"k": [True, True], "l": ["x", "x"]}, r"\(True, 'x'\)"),
    ],
)
def test_repeated_keys_are_shown_as_cells(defined, columns, shown):
    with pytest.raises(tv_errors.TVTableError, match=f"rows 0 and 1 both have {shown}. Correct"):
        defined.vault.write("a", pd.DataFrame(columns), primary_key=list(columns))
