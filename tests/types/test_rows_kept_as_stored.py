"""Rows that are kept as Arrow arrays while others are computed make the same frame as rows kept as objects."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import builder, new_vault

from tablevault import tv_errors
from tablevault.rows import table as row_table

CODE = """
import datetime
import pandas as pd

VALUES = {values!r}
STOPS = {stops!r}

def rows():
    return pd.DataFrame({{"i": range(len(VALUES))}})

def value(i):
    if i in STOPS:
        raise ValueError(i)
    return VALUES[i]

def all_values():
    yield from VALUES

def batch(i):
    return pd.Series([value(x) for x in i], dtype=object)

def length(y):
    return None if y is None else len(str(y))
"""
ROWS = {"built_index": builder("rows", ["i"], index=True, primary_key="[i]")}
ROW = '{i: "<<self.i[index]>>"}'
READ = builder("length", ["n"], "row-wise", arguments='{y: "<<self.y[index]>>"}')

VALUES = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-(2**53), 2**53)), max_size=20),
    st.lists(st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=3)), max_size=20),
    st.lists(st.sampled_from([1, 1.5, None, "a", True, "é", {"a": 1}, {"a": [None, 0.5]}, [1], b"x"]), max_size=20),
    st.lists(st.sampled_from([1, 2, 0.5]), max_size=20),
    st.builds(
        list.__add__,
        st.lists(st.sampled_from([1, 2, 0.5, None]), min_size=8, max_size=12),
        st.lists(st.sampled_from([1, 0.5, "a", True, {"a": 1}, [1]]), max_size=8),
    ),
)


def frame_of(folder, values, kind, dtype, stops, stored_rows, monkeypatch):
    """Return the frame that a function with these results makes, or the error, keeping so many rows together."""
    monkeypatch.setattr(row_table, "_STORED_ROWS", stored_rows)
    vault = new_vault(folder, "built")
    vault.create_code_module("made", text=CODE.format(values=values, stops=stops))
    function, more = {
        "row-wise": ("value", {"arguments": ROW}),
        "threads": ("value", {"arguments": ROW, "max_concurrency": 3}),
        "batch": ("batch", {"arguments": ROW, "batch_size": 3}),
        "generator": ("all_values", {}),
    }[kind]
    if dtype:
        more["dtypes"] = f"{{y: {dtype}}}"
    if stops:
        more["on_error"] = "collect"
        more["max_failures"] = "100%"
    text = builder(function, ["y"], "row-wise" if kind == "threads" else kind, **more)
    vault.create_instance("built", builders=ROWS | {"y": text, "z": READ})
    try:
        vault.execute_instance("built", process_id="work")
    except Exception as error:
        return type(error), str(error).partition("\n")[0].replace(str(folder), "")
    found, _ = vault.get_dataframe("built", format="arrow")
    assert vault.verify().ok
    return found


@settings(max_examples=25)
@given(VALUES, st.data())
@pytest.mark.parametrize("kind", ["row-wise", "threads", "batch", "generator"])
def test_rows_kept_as_stored_make_the_same_frame(tmp_path_factory, kind, values, data):
    dtype = data.draw(st.sampled_from(["", "json", "string", "Int64", "float64"]))
    stops = data.draw(st.sets(st.integers(0, 20), max_size=2)) if kind in ("row-wise", "threads") else set()
    frames = []
    for stored_rows in (10**9, 1, 4):
        with pytest.MonkeyPatch.context() as patch:
            folder = tmp_path_factory.mktemp("kept")
            frames.append(frame_of(folder, values, kind, dtype, stops, stored_rows, patch))
    assert all(type(frame) is type(frames[0]) for frame in frames), frames
    if isinstance(frames[0], pa.Table):
        assert all(frame.equals(frames[0], check_metadata=True) for frame in frames), frames
    else:
        assert frames[1:] == frames[:1] * 2


def test_whole_numbers_kept_beside_fractions_stay_whole(tmp_path, monkeypatch):
    values = [1, 0.5, 3, 2.5, {"a": 1}]
    frames = [frame_of(tmp_path / str(rows), values, "row-wise", "", set(), rows, monkeypatch) for rows in (4, 10**9)]
    assert frames[0].equals(frames[1])
    assert frames[0]["y"].to_pylist()[:2] == ["1", "0.5"]


def test_cell_that_fits_no_others_is_refused_after_rows_were_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(row_table, "_STORED_ROWS", 4)
    vault = new_vault(tmp_path, "built")
    values = [*range(10), b"x"]
    vault.create_code_module("made", text=CODE.format(values=values, stops=set()))
    vault.create_instance("built", builders=ROWS | {"y": builder("value", ["y"], "row-wise", arguments=ROW)})
    with pytest.raises((ValueError, tv_errors.TableVaultError), match="row 10"):
        vault.execute_instance("built", process_id="work")
    vault.create_code_module("made", text=CODE.format(values=[*range(11)], stops=set()))
    vault.execute_instance("built", process_id="work")
    frame, _ = vault.get_dataframe("built")
    pd.testing.assert_series_equal(frame["y"], pd.Series(range(11), dtype="Int64", name="y"))
    assert vault.get_process("work").progress["y"].computed == 11
