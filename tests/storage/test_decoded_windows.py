"""Long columns are decoded in windows, with the values of the whole column."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tablevault.storage import decoded_windows
from tablevault.storage.columns import natural_type, plain_values
from tablevault.storage.decoded_windows import DecodedWindows

sys.path.insert(0, str(Path(__file__).parents[1] / "types"))
from kinds import build, builder, new_vault

CODE = """
import pandas as pd

CALLS = []


def rows(count):
    return pd.DataFrame({"i": range(count), "text": [None if i % 5 == 3 else f"text {i}" for i in range(count)]})


def both(i, text):
    CALLS.append(i)
    return f"{i} {text}"


def list_of(i, text):
    return [[i, text] for i, text in zip(i, text)]
"""


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(decoded_windows, "ROWS", 7)


@given(
    cells=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=3),
    asked=st.lists(st.integers(0, 70) | st.tuples(st.integers(0, 70), st.integers(0, 70)), max_size=30),
)
def test_windows_have_the_values_of_the_whole_column(cells, cuts, asked):
    edges = [0, *sorted(min(cut, len(cells)) for cut in cuts), len(cells)]
    column = pa.chunked_array([pa.array(cells[a:b], pa.int64()) for a, b in itertools.pairwise(edges)])
    kind = natural_type(cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoded_windows, "ROWS", 7)
        windows = DecodedWindows("x", column, kind)
        assert len(windows) == len(cells)
        for place in asked:
            if isinstance(place, tuple):
                assert windows[slice(*place)] == cells[slice(*place)]
            elif place < len(cells):
                assert windows[place] == cells[place]
            else:
                with pytest.raises(IndexError):
                    windows[place]
        assert list(windows) == plain_values(column, kind)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("way", [{}, {"n_threads": 4}, {"executor": "processes", "max_concurrency": 2}])
def test_functions_get_the_cells_of_their_rows(tmp_path, way):
    vault = new_vault(tmp_path, "built", "readers")
    own = '{i: "<<self.i[index]>>", text: "<<self.text[index]>>"}'
    index = {"built_index": builder("rows", ["i", "text"], index=True, arguments="{count: 50}", primary_key="[i]")}
    build(vault, CODE, index | {"both": builder("both", ["both"], "row-wise", arguments=own, **way)})
    expected = [f"{i} {None if i % 5 == 3 else f'text {i}'}" for i in range(50)]
    assert vault.read("built")["both"].tolist() == expected
    other = '{i: "<<built.i[index]>>", text: "<<built.text[index]>>"}'
    vault.create_instance(
        "readers",
        builders={
            "readers_index": builder("rows", ["i", "text"], index=True, arguments="{count: 60}", primary_key="[i]"),
            "both": builder("both", ["both"], "row-wise", arguments=other, **way),
            "listed": builder("list_of", ["listed"], "batch", arguments=own, batch_size=9),
        },
    )
    vault.execute_instance("readers")
    frame = vault.read("readers")
    assert frame["both"].tolist() == [*expected, *["None None"] * 10]
    assert [list(cell) for cell in frame["listed"]] == [[i, None if i % 5 == 3 else f"text {i}"] for i in range(60)]
