"""Differences of instances, with cells, causes and definitions."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from survey import Survey

from tablevault import tv_errors

REVERSED = {
    "new row": "removed row",
    "removed row": "new row",
    "failed: before": "failed: after",
    "failed: after": "failed: before",
}


@pytest.fixture
def survey(vault, tmp_path):
    warnings.simplefilter("ignore", tv_errors.TableVaultWarning)
    return Survey(vault, tmp_path)


def causes(frame):
    """The causes of a frame of cells, by row and column."""
    return {(row["name"], row["column"]): row["cause"] for _, row in frame.iterrows()}


@pytest.mark.parametrize(
    ("number", "kind", "equal"),
    [(2**53 + 2, "int64", True), (2**63, "uint64", True), (2**53 + 1, "int64", False), (2**63 - 1, "int64", False)],
)
def test_large_whole_numbers_equal_the_fractions_that_have_their_value(vault, number, kind, equal):
    vault.write("t", pa.table({"x": pa.array([1, number], kind)}))
    vault.write("t", pa.table({"x": [1.0, float(number)]}))
    assert vault.diff_instances("t").columns["x"].changed == (0 if equal else 2)


def test_long_vectors_are_shown_by_their_first_numbers_and_length(vault):
    for last in (1.0, 2.0):
        frame = pd.DataFrame({"v": [[0.5, 1.0, -2.0, 3.0] + [last] * 764]})
        vault.write("t", frame, dtypes={"v": "vector<float32, 768>"})
    text = str(vault.diff_instances("t"))
    assert "[0.5, 1.0, -2.0, 3.0, ...] (768 numbers)" in text


def test_diff_gives_each_changed_cell_its_cause(survey, vault):
    survey.next()
    survey.write(names="ann cy dee eve", vote="8")
    survey.next(force=True, q1=("prompt: Hello", "prompt: Bye"))
    diff = vault.diff_instances("survey")
    assert diff.key == ("name",)
    assert (diff.rows.added, diff.rows.removed, diff.rows.changed, diff.rows.same) == (1, 1, 3, 0)
    found = causes(diff.frame())
    old = ["ann", "cy", "dee"]
    assert found == {
        **{(name, "q1"): "arguments" for name in old},
        **{(name, "q2"): "arguments: q1" for name in old},
        **{(name, "vote"): "result" for name in old},
        **{("eve", column): "new row" for column in ("q1", "q2", "vote")},
        **{("bob", column): "removed row" for column in ("q1", "q2", "vote")},
    }
    assert diff.columns["q2"].causes == {"arguments": 3, "new row": 1, "removed row": 1}
    assert {name: item.status for name, item in diff.columns.items()} == {
        "name": "same",
        "q1": "changed",
        "q2": "changed",
        "vote": "changed",
    }
    assert diff.definition.builders["q1"].reasons == ("argument `prompt` changed",)
    assert "-arguments: {prompt: Hello" in diff.definition.builders["q1"].text
    assert set(diff.definition.builders) == {"q1"}
    assert diff.definition.code == {}
    changed = diff.frame("changed")
    assert list(changed.columns) == ["name", *(f"{n}.{s}" for n in ("q1", "q2", "vote") for s in ("before", "after"))]
    assert changed["vote.after"].tolist() == ["8"] * 3
    assert diff.frame("added")["name"].tolist() == ["eve"]
    assert diff.frame("removed", format="arrow")["q1"].to_pylist() == ["Hello bob"]
    assert len(diff.frame(rows=4)) == 4
    assert json.loads(json.dumps(diff.to_dict()))["rows"]["removed"] == 1
    assert "q2: 3 changed (100.0%); arguments: 3, new row: 1, removed row: 1" in repr(diff)
    assert "arguments: q1" in diff._repr_html_()
    plain = vault.diff_instances("survey", why=False)
    assert plain.columns["q1"].causes == {}
    assert plain.definition.builders == {}
    assert plain.frame()["cause"].isna().all()


def test_diff_after_a_fix_shows_the_code_of_that_function_alone(survey, vault):
    survey.next()
    survey.edit_code("first.upper()", "first.title()")
    survey.edit_code('return f"{prompt} {name}"', 'return f"{prompt} " + name')
    survey.edit_code('return f"{prompt} " + name', 'return f"{prompt} {name}"')
    survey.next()
    diff = vault.diff_instances("survey")
    assert set(causes(diff.frame()).values()) == {"code"}
    assert {name: item.changed for name, item in diff.columns.items()} == {"name": 0, "q1": 0, "q2": 4, "vote": 0}
    assert list(diff.definition.code) == ["questions.q2"]
    assert "-    return first.upper()\n+    return first.title()" in diff.definition.code["questions.q2"]
    assert diff.definition.builders["q2"].reasons == ("code of 'questions.py' changed: q2",)
    assert set(diff.definition.builders) == {"q2"}
    assert diff.columns["q1"].recomputed_same == 0


def test_recomputed_cells_with_equal_values_are_counted(survey, vault):
    survey.next()
    survey.edit_code("first.upper()", "first.upper().strip()")
    survey.next()
    diff = vault.diff_instances("survey")
    assert not diff.differs
    assert diff.columns["q2"].recomputed_same == 4
    assert "q2: 4 recomputed without change" in repr(diff)
    survey.next(force=True)
    found = {name: item.recomputed_same for name, item in vault.diff_instances("survey").columns.items()}
    assert found == {"name": 0, "q1": 4, "q2": 4, "vote": 4}


def test_diff_of_an_unfinished_instance_counts_rows_that_are_not_computed(survey, vault):
    survey.next()
    survey.write(paused="", names="ann bob cy dee eve")
    survey.prepare(q1=("prompt: Hello", "prompt: Bye"), vote=("on_error: collect", "on_error: pause"))
    survey.edit_code('return Path(folder, "vote").read_text()', "return Path(folder, 'vote').read_text() + '!'")
    with pytest.raises(RuntimeError, match="no vote today"):
        survey.run(process_id="run")
    paused = vault.diff_instances("survey", after="TEMP_base")
    assert paused.after_id == "TEMP_base"
    assert (paused.rows.not_computed, paused.rows.changed, paused.rows.removed, paused.rows.added) == (3, 2, 0, 0)
    assert set(causes(paused.frame())) == {(name, column) for name in ("ann", "bob") for column in ("q1", "q2", "vote")}
    assert causes(paused.frame())["ann", "q2"] == "arguments: q1"
    assert causes(paused.frame())["ann", "vote"] == "code"
    assert paused.definition.builders["q1"].reasons == ("argument `prompt` changed",)
    assert list(paused.definition.code) == ["questions.vote"]
    Path(survey.folder, "paused").unlink()
    survey.run(process_id="run")
    finished = vault.diff_instances("survey")
    assert (finished.rows.not_computed, finished.rows.changed, finished.rows.added) == (0, 4, 1)
    expected = causes(finished.frame())
    assert {cell: cause for cell, cause in expected.items() if cell[0] in ("ann", "bob")} == causes(paused.frame())


def test_failed_cells_differ_from_computed_ones_even_if_null(survey, vault):
    survey.write(bad="ann bob cy")
    first = survey.next()
    survey.write(bad="")
    vault.retry_failed("survey")
    diff = vault.diff_instances("survey")
    assert diff.before_id == first
    assert causes(diff.frame()) == {(name, "vote"): "failed: before" for name in ("ann", "bob", "cy")}
    assert diff.columns["vote"].failed == (3, 0)
    assert diff.columns["vote"].causes == {"failed": 3}
    back = vault.diff_instances("survey", diff.after_id, first)
    assert set(causes(back.frame()).values()) == {"failed: after"}


def test_null_that_fails_now_is_a_changed_cell(survey, vault):
    survey.edit_code('return Path(folder, "vote").read_text()', "return None")
    survey.next()
    survey.write(bad="dee")
    survey.next(force=True)
    diff = vault.diff_instances("survey")
    assert causes(diff.frame()) == {("dee", "vote"): "failed: after"}
    trace = vault.trace_cell("survey", "dee", "vote")
    assert (trace.state, trace.value, trace.error.message) == ("failed", None, "no vote about dee")


def test_artifacts_are_compared_by_content(vault):
    code = """
import pandas as pd
from pathlib import Path

def rows(names):
    return pd.DataFrame({"x": range(len(names))})

def save(x, names, texts, folder):
    Path(folder, names[x]).write_text(texts[x])
    return names[x]
"""
    index = "builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: rows\ncode_module: made\n"
    column = "builder_type: ColumnBuilder\nchanged_columns: [file]\npython_function: save\ncode_module: made\n"
    vault.create_code_module("made", text=code)
    vault.create_table("made")
    for names, texts in (("[a, b, c]", "[one, two, three]"), ("[z, b, c]", "[one, other, three]")):
        vault.create_instance(
            "made",
            builders={
                "made_index": f"{index}is_custom: true\narguments: {{names: {names}}}\n",
                "file": f"{column}is_custom: true\nreturn_type: row-wise\ndtypes: {{file: artifact_string}}\n"
                f'arguments: {{x: "<<self.x[index]>>", names: {names}, texts: {texts}, folder: ~ARTIFACT_FOLDER~}}\n',
            },
        )
        vault.execute_instance("made")
    diff = vault.diff_instances("made")
    assert diff.key == ()
    assert diff.frame().to_dict("records") == [
        {"index": 1, "column": "file", "before": "b", "after": "b", "cause": "arguments"}
    ]


def test_rows_match_by_position_without_a_key(vault):
    vault.write("t", pd.DataFrame({"x": [1, 2, 3]}))
    vault.write("t", pd.DataFrame({"x": [0, 1, 2, 3]}))
    diff = vault.diff_instances("t")
    assert (diff.rows.changed, diff.rows.added) == (3, 1)
    assert "inserted row makes every later row look changed" in repr(diff)
    assert diff.frame("added").to_dict("list") == {"index": [3], "x": [3]}
    assert diff.frame()["cause"].tolist() == ["external"] * 3 + ["new row"]
    by_value = vault.diff_instances("t", on="x")
    assert (by_value.rows.same, by_value.rows.added, by_value.rows.removed) == (3, 1, 0)


def test_several_key_columns_match_together(vault):
    first = pd.DataFrame({"a": [1, 1, 2], "b": ["x", "y", "x"], "v": [1, 2, 3]})
    second = pd.DataFrame({"a": [2, 1, 1], "b": ["x", "z", "x"], "v": [3, 2, 9]})
    vault.write("t", first, primary_key=["a", "b"])
    vault.write("t", second, primary_key=["a", "b"])
    diff = vault.diff_instances("t")
    assert (diff.rows.same, diff.rows.changed, diff.rows.added, diff.rows.removed) == (1, 1, 1, 1)
    listed = diff.frame().to_dict("records")
    assert [(row["a"], row["b"], row["before"], row["after"]) for row in listed] == [
        (1, "x", 1, 9),
        (1, "z", None, 2),
        (1, "y", 2, None),
    ]


@pytest.mark.parametrize(
    ("before", "after", "changed", "status"),
    [
        (pa.array([1, 2, None]), pa.array([1.0, 2.5, None]), [1], "retyped"),
        (pa.array([2**60 + 1]), pa.array([1.5]), [0], "retyped"),
        (pa.array([1, 2], pa.int8()), pa.array([1, 2], pa.uint64()), [], "retyped"),
        (pa.array(["1", None]), pa.array([1, None]), [0], "retyped"),
        (pa.array(["a"]), pa.array(["a"], pa.large_string()), [], "retyped"),
        (pa.array([0], pa.timestamp("s")), pa.array([0], pa.timestamp("ns")), [], "retyped"),
        (pa.array([0], pa.timestamp("s", "UTC")), pa.array([0], pa.timestamp("s", "Asia/Tokyo")), [], "retyped"),
        (pa.array([0], pa.timestamp("s", "UTC")), pa.array([0], pa.timestamp("s")), [0], "retyped"),
        (pa.array([[1, 2], [3]]), pa.array([[1.0, 2.0], [4.0]]), [1], "retyped"),
        (pa.array([float("nan"), 0.0]), pa.array([float("nan"), -0.0]), [], "same"),
        (pa.array([[1, None], None, []]), pa.array([[1, None], [], None]), [1, 2], "changed"),
        (
            pa.array([{"a": 1, "b": [1]}, {"a": 1, "b": [2]}]),
            pa.array([{"a": 1, "b": [1]}, {"a": 1, "b": []}]),
            [1],
            "changed",
        ),
        (pa.array([1.5, 2.5]).cast("float16"), pa.array([1.5, 3.5]).cast("float16"), [1], "changed"),
    ],
)
def test_columns_compare_by_value_within_one_kind(vault, before, after, changed, status):
    vault.write("t", pa.table({"x": before}))
    vault.write("t", pa.table({"x": after}))
    if len(vault.get_table_instances("t")) == 1:
        assert (changed, status) == ([], "same")
        return
    diff = vault.diff_instances("t")
    assert diff.frame()["index"].tolist() == changed
    assert diff.columns["x"].status == status


def test_json_counts_by_structure(vault):
    vault.write("t", pd.DataFrame({"x": [{"a": 1, "b": 2}, {"a": 1}]}), dtypes={"x": "json"})
    vault.write("t", pd.DataFrame({"x": [{"b": 2, "a": 1}, {"a": "1"}]}), dtypes={"x": "json"})
    diff = vault.diff_instances("t")
    assert diff.frame().to_dict("records") == [
        {"index": 1, "column": "x", "before": {"a": 1}, "after": {"a": "1"}, "cause": "external"}
    ]


def test_columns_of_one_side_are_named_and_not_listed(vault):
    vault.write("t", pd.DataFrame({"x": [1], "old": [2]}))
    vault.write("t", pd.DataFrame({"x": [1], "new": [3]}))
    diff = vault.diff_instances("t")
    assert {name: item.status for name, item in diff.columns.items()} == {"x": "same", "new": "added", "old": "removed"}
    assert (len(diff.frame()), diff.rows.same, diff.differs) == (0, 1, True)
    assert diff.columns["new"].types == ("", "Int64")
    assert list(vault.diff_instances("t", columns=["x"]).columns) == ["x"]


def test_before_is_the_origin_else_the_instance_before(vault):
    for values in ([1], [2], [3]):
        vault.write("t", pd.DataFrame({"x": values}))
    vault.write("t", pd.DataFrame({"x": [2]}), version="v2")
    vault.write("other", pd.DataFrame({"x": [1]}))
    first, second, third = vault.get_table_instances("t")
    vault.create_tag("paper", f"t({first})")
    assert (vault.diff_instances("t").before_id, vault.diff_instances("t").after_id) == (second, third)
    assert vault.diff_instances("t", after=second).before_id == first
    assert vault.diff_instances("t", "@paper").before_id == first
    assert not vault.diff_instances("t", second, "v2").differs
    elsewhere = vault.diff_instances("t", first, after_table="other")
    assert (elsewhere.after_table, elsewhere.differs) == ("other", False)
    for arguments, said in [
        ({"after": first}, "has no origin or predecessor in table"),
        ({"after": "v2"}, "no origin or predecessor"),
        ({"after_table": "other"}, "no origin or predecessor in table 't'"),
        ({"before": "v3"}, "v3"),
        ({"before": "@no"}, "has no tag 'no'"),
    ]:
        with pytest.raises(tv_errors.TVArgumentError, match=said):
            vault.diff_instances("t", **arguments)


def test_wrong_keys_and_columns_are_refused(vault):
    vault.write("t", pd.DataFrame({"x": [1, 1], "y": [1, None]}))
    vault.write("t", pd.DataFrame({"x": [1, 2], "y": [1, 2]}))
    for arguments, said in [
        ({"on": "x"}, r"Key \(x\) is not unique in the instance before: rows 0 and 1 both have 1"),
        ({"on": "y"}, "Key column 'y' is null in row 1 of the instance before"),
        ({"on": "z"}, "has no column 'z'"),
        ({"columns": ["q"]}, "has no column 'q'"),
    ]:
        with pytest.raises(tv_errors.TVTableError, match=said):
            vault.diff_instances("t", **arguments)
    with pytest.raises(tv_errors.TVArgumentError, match="on must be a non-empty list of distinct columns"):
        vault.diff_instances("t", on=[])
    diff = vault.diff_instances("t")
    with pytest.raises(tv_errors.TVArgumentError, match="no differences of kind 'cels'; did you mean 'cells'"):
        diff.frame("cels")
    vault.delete_instance(diff.before_id, "t")
    with pytest.raises(tv_errors.TVTableError, match="missing"):
        diff.frame("removed") if diff.rows.removed else diff.frame()


def test_diff_mirrors_its_reverse(vault):
    random = np.random.default_rng(7)
    for number in range(2):
        keys = random.permutation(40)[:30]
        vault.write(
            "t",
            pd.DataFrame(
                {
                    "key": keys,
                    "a": random.integers(0, 3, 30),
                    "b": pd.array(random.choice(["x", "y", None], 30), dtype="string"),
                    "c": random.choice([0.5, np.nan], 30),
                }
            ),
            primary_key="key",
            description=str(number),
        )
    one, other = vault.get_table_instances("t")
    there, back = vault.diff_instances("t", one, other), vault.diff_instances("t", other, one)
    assert there.rows.changed
    assert (there.rows.added, there.rows.removed, there.rows.changed, there.rows.same) == (
        back.rows.removed,
        back.rows.added,
        back.rows.changed,
        back.rows.same,
    )
    cells = [Counter(), Counter()]
    for counter, frame, names in (
        (cells[0], there.frame(), ("before", "after")),
        (cells[1], back.frame(), ("after", "before")),
    ):
        for _, row in frame.iterrows():
            cause = row["cause"] if names[0] == "before" else REVERSED.get(row["cause"], row["cause"])
            counter[row["key"], row["column"], repr(row[names[0]]), repr(row[names[1]]), cause] += 1
    assert cells[0] == cells[1]
    frames = {instance: vault.get_dataframe("t", instance)[0].set_index("key") for instance in (one, other)}
    both = frames[one].index.intersection(frames[other].index)
    expected = sum(
        not (pd.isna(x) and pd.isna(y)) and (pd.isna(x) != pd.isna(y) or x != y)
        for column in ("a", "b", "c")
        for x, y in zip(frames[one].loc[both, column], frames[other].loc[both, column], strict=True)
    )
    assert sum(item.changed for item in there.columns.values()) == expected
