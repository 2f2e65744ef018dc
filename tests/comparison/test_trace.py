"""Traces of cells, with the place, code and arguments of their functions."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pandas as pd
import pytest
from survey import Survey

from tablevault import tv_errors


@pytest.fixture
def survey(vault, tmp_path):
    warnings.simplefilter("ignore", tv_errors.TableVaultWarning)
    return Survey(vault, tmp_path)


def test_reused_cell_is_traced_to_the_instance_that_computed_it(survey, vault):
    ids = [survey.next()]
    for number in range(4):
        survey.write(names=f"ann bob cy dee new{number}")
        ids.append(survey.next())
    trace = vault.trace_cell("survey", "bob", "q2")
    first = vault.get_process(trace.computed_in.process_id)
    assert trace.computed_in[:3] == (ids[0], first.process_id, "ada")
    assert trace.reused_through == tuple(reversed(ids[1:-1]))
    assert (trace.value, trace.state, trace.key) == ("HELLO BOB", "computed", {"name": "bob"})
    assert (trace.builder, trace.function) == ("q2", "questions.q2")
    assert trace.source == "def q2(first):\n    return first.upper()"
    assert trace.arguments == {"first": "Hello bob"}
    assert [step.column for step in trace.inputs] == ["q1"]
    assert trace.inputs[0].instance_id == ids[0]
    assert trace.notes == ()
    assert vault.trace_cell("survey", "new3", "q1").computed_in.instance_id == ids[-1]
    assert vault.trace_cell("survey", "bob", "q1", ids[2]).reused_through == (ids[1],)
    assert json.loads(json.dumps(trace.to_dict()))["arguments"] == {"first": "Hello bob"}
    assert "source:\n  def q2(first):" in repr(trace)
    assert "HELLO BOB" in trace._repr_html_()
    key = vault.trace_cell("survey", "bob", "name")
    assert (key.builder, key.computed_in.instance_id) == ("survey_index", ids[-1])
    vault.delete_instance(ids[1], "survey")
    cut = vault.trace_cell("survey", "bob", "q2")
    assert (cut.computed_in.instance_id, cut.reused_through) == (ids[2], (ids[3],))
    assert f"instance {ids[1]} of table 'survey' is not in the vault" in cut.notes[0]


KEPT = {
    "dataframe": ("import pandas as pd\ndef rows(v): return pd.DataFrame({'k': v, 'w': [x or None for x in v]})", ""),
    "generator": ("def rows(v): yield from ({'k': x, 'w': x or None} for x in v)", "return_type: generator"),
    "row-wise": ("def rows(v): return [{'k': v, 'w': v or None}]", "return_type: row-wise\nfor_each: words"),
    "continued": (
        "def rows(v, own):\n    for x in (0, 1, 2):\n        if len(own) <= x:\n            yield {'k': x, 'w': x or None}\n"
        "            return",
        "return_type: generator",
    ),
}


@pytest.mark.parametrize(("code", "more"), KEPT.values(), ids=KEPT)
def test_kept_rows_are_traced_to_the_instance_that_computed_them(vault, code, more):
    vault.create_code_module("made", text=code)
    vault.create_table("t")
    for rows in ([0], [1], [2]):
        vault.write("words", pd.DataFrame({"v": rows}))
        values = "'<<words.v[index]>>'" if "for_each" in more else rows
        arguments = "{v: 0, own: <<self>>}" if "own" in code else f"{{v: {values}}}"
        text = (
            "builder_type: IndexBuilder\nchanged_columns: [k, w]\npython_function: rows\ncode_module: made\n"
            f"is_custom: true\nprimary_key: [k]\nkeep_old: true\n{more}\narguments: {arguments}\n"
        )
        vault.create_instance("t", copy=True, builders={"t_index": text})
        vault.execute_instance("t")
    oldest, middle, newest = vault.get_table_instances("t")
    traces = [vault.trace_cell("t", key, "w") for key in (0, 1, 2)]
    assert [trace.computed_in.instance_id for trace in traces] == [oldest, middle, newest]
    assert [trace.reused_through for trace in traces] == [(middle,), (), ()]
    assert [trace.value for trace in traces] == [None, 1, 2]
    assert {trace.state for trace in traces} == {"computed"}


def test_row_kept_from_a_written_instance_is_external(vault):
    vault.create_table("t")
    vault.write("t", pd.DataFrame({"k": [0]}), primary_key="k")
    vault.create_code_module("made", text="def rows(): return [1]")
    text = (
        "builder_type: IndexBuilder\nchanged_columns: [k]\npython_function: rows\ncode_module: made\nis_custom: true\n"
        "primary_key: [k]\nkeep_old: true\n"
    )
    (written,) = vault.get_table_instances("t")
    vault.create_instance("t", origin_id=written, builders={"t_index": text})
    vault.execute_instance("t")
    trace = vault.trace_cell("t", 0, "k")
    assert (trace.state, trace.computed_in.instance_id, trace.builder) == ("external", written, "")
    assert vault.trace_cell("t", 1, "k").state == "computed"


def test_source_is_the_text_that_ran_for_the_row(survey, vault):
    survey.write(paused="")
    survey.prepare(vote=("on_error: collect", "on_error: pause"))
    with pytest.raises(RuntimeError):
        survey.run(process_id="run")
    survey.edit_code("def vote(name, folder):\n", "def vote(name, folder):\n    # fixed\n    folder = str(folder)\n")
    Path(survey.folder, "paused").unlink()
    survey.run(process_id="run")
    before, after = vault.trace_cell("survey", "ann", "vote"), vault.trace_cell("survey", "dee", "vote")
    assert before.code_version != after.code_version
    assert "# fixed" not in before.source
    assert "# fixed" in after.source
    assert after.arguments["folder"] == str(survey.folder)


def test_failed_and_skipped_cells_have_the_error(survey, vault):
    survey.write(bad="dee")
    survey.prepare()
    vault.create_builder_file(
        "survey",
        "after",
        text="builder_type: ColumnBuilder\nchanged_columns: [after]\npython_function: q2\ncode_module: questions\n"
        'is_custom: true\nreturn_type: row-wise\narguments: {first: "<<self.vote[index]>>"}\n',
    )
    survey.run()
    failed = vault.trace_cell("survey", "dee", "vote")
    assert (failed.state, failed.value) == ("failed", None)
    assert (failed.error.type, failed.error.message) == ("ValueError", "no vote about dee")
    assert "raise ValueError" in failed.error.traceback
    assert failed.arguments == {"name": "dee", "folder": str(survey.folder)}
    skipped = vault.trace_cell("survey", "dee", "after")
    assert (skipped.state, skipped.error.message) == ("skipped", "no vote about dee")
    assert skipped.notes == ("skipped, because `vote` of its row failed in builder vote",)


def test_arguments_from_other_tables_come_from_the_pinned_instances(vault, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "s3cret")
    vault.write("prices", pd.DataFrame({"fruit": ["fig", "kiwi"], "price": [3, 4]}), primary_key="fruit")
    vault.create_tag("old", "prices")
    vault.write("prices", pd.DataFrame({"fruit": ["fig", "kiwi"], "price": [30, 40]}), primary_key="fruit")
    code = "import pandas as pd\ndef rows():\n    return pd.DataFrame({'fruit': ['fig', 'kiwi']})\n"
    vault.create_code_module("made", text=code + "def cost(now, then, key, quiet):\n    return now - then\n")
    vault.create_table("costs")
    head = "code_module: made\nis_custom: true\n"
    vault.create_instance(
        "costs",
        builders={
            "costs_index": f"builder_type: IndexBuilder\nchanged_columns: [fruit]\npython_function: rows\n{head}",
            "cost": f"builder_type: ColumnBuilder\nchanged_columns: [cost]\npython_function: cost\n{head}"
            "return_type: row-wise\nuntracked: [quiet]\narguments:\n"
            "  now: <<prices.price[fruit::<<self.fruit[index]>>]>>\n"
            "  then: <<prices(@old).price[fruit::<<self.fruit[index]>>]>>\n"
            "  key: ~ENV:SECRET_KEY~\n  quiet: hidden\n",
        },
    )
    vault.execute_instance("costs")
    vault.write("prices", pd.DataFrame({"fruit": ["fig"], "price": [7]}), primary_key="fruit")
    trace = vault.trace_cell("costs", 1, "cost")
    assert trace.arguments == {"now": 40, "then": 4, "key": "~ENV:SECRET_KEY~"}
    assert {step.table_name for step in trace.inputs} == {"prices", "costs"}
    assert "s3cret" not in repr(trace) + json.dumps(trace.to_dict())
    external = vault.trace_cell("prices", "kiwi", "price", "@old")
    assert (external.state, external.value, external.builder, external.arguments) == ("external", 4, "", None)


def test_deleted_inputs_leave_the_arguments_unknown(vault):
    vault.write("prices", pd.DataFrame({"fruit": ["fig"], "price": [3]}))
    code = "import pandas as pd\ndef rows(prices):\n    return prices\n"
    vault.create_code_module("made", text=code)
    vault.create_table("copies")
    text = (
        "builder_type: IndexBuilder\nchanged_columns: [fruit, price]\npython_function: rows\ncode_module: made\n"
        "is_custom: true\narguments: {prices: <<prices>>}\n"
    )
    vault.create_instance("copies", builders={"copies_index": text})
    vault.execute_instance("copies")
    trace = vault.trace_cell("copies", 0, "price")
    assert trace.arguments["prices"].to_dict("list") == {"fruit": ["fig"], "price": [3]}
    (input_id,) = vault.get_table_instances("prices")
    vault.write("prices", pd.DataFrame({"fruit": ["fig"], "price": [9]}))
    vault.delete_instance(input_id, "prices")
    trace = vault.trace_cell("copies", 0, "price")
    assert trace.arguments is None
    assert trace.notes == (f"the arguments read instance {input_id} of 'prices', which is not in the vault",)


def test_rows_are_named_by_key_or_position(vault):
    frame = pd.DataFrame({"a": [1, 1], "b": ["x", "y"], "day": pd.to_datetime(["2024-02-01", "2024-02-02"])})
    vault.write("keyed", frame, primary_key=["a", "b"])
    vault.write("dated", frame[["day", "b"]], primary_key="day")
    vault.write("plain", frame)
    assert vault.trace_cell("keyed", (1, "y"), "day").value == pd.Timestamp("2024-02-02")
    assert vault.trace_cell("keyed", ("1", "x"), "b").value == "x"
    assert vault.trace_cell("dated", pd.Timestamp("2024-02-02"), "b").value == "y"
    assert vault.trace_cell("dated", "2024-02-02T00:00:00.000000", "b").key
    assert vault.trace_cell("plain", 1, "b").key == {"index": 1}
    vault.create_instance("plain", external_edit=True)
    for arguments, error, said in [
        (("keyed", 1, "b"), tv_errors.TVArgumentError, r"has 2 columns \(a, b\)"),
        (("keyed", (1, "z"), "b"), tv_errors.TVTableError, r"no row with a, b = \(1, 'z'\)"),
        (("dated", "2024-02-03", "b"), tv_errors.TVTableError, "did you mean '2024-02-02"),
        (("plain", 2, "b"), tv_errors.TVTableError, "has 2 rows; positions count from 0, so there is no row 2"),
        (("plain", "x", "b"), tv_errors.TVArgumentError, "has no primary key; name a row by its position"),
        (("plain", 0, "c"), tv_errors.TVTableError, "has no column 'c'"),
        (("plain", 0, "b", "TEMP_base"), tv_errors.TVArgumentError, "is temporary"),
    ]:
        with pytest.raises(error, match=said):
            vault.trace_cell(*arguments)
