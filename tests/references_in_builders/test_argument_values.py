"""YAML values under `arguments`.

They reach function, provenance, plan and reuse unchanged, or are refused.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tablevault import TableVault, TableVaultWarning, tv_errors
from tablevault.builders.document import read_document
from tablevault.texts.json_forms import from_json_form, json_form

INDEX = """\
builder_type: IndexBuilder
changed_columns: [k]
python_function: create_data_table_from_list
code_module: table_generation
arguments: {vals: [1, 2]}
"""
COLUMN = """\
builder_type: ColumnBuilder
changed_columns: [out]
python_function: show
code_module: shown
is_custom: true
return_type: row-wise
arguments:
  value: """

VALUES = {
    "{yes: 1, no: 0, null: 2, ~: 3}": None,
    "{yes: 1, no: 0, null: 2}": {True: 1, False: 0, None: 2},
    "{1: a, '1': b, 1.5: c, '1.5': d}": {1: "a", "1": "b", 1.5: "c", "1.5": "d"},
    "{true: a, 1: b}": None,
    "{2024-01-01: a, 2024-01-01 10:00:00: b}": {dt.date(2024, 1, 1): "a", dt.datetime(2024, 1, 1, 10): "b"},
    "[.inf, -.inf, -0.0, 1e400, 123456789012345678901234567890]": [math.inf, -math.inf, -0.0, "1e400", 123456789012345678901234567890],
    "{.nan: 1}": None,
    "2024-01-01T10:00:00.25+02:00": dt.datetime(2024, 1, 1, 10, 0, 0, 250000, dt.timezone(dt.timedelta(hours=2))),
    "{'!!map': [[1, 2]]}": {"!!map": [[1, 2]]},
    "{'!!timestamp': x}": {"!!timestamp": "x"},
    "&a [1, *b]": None,
    "&a [1, *a]": None,
    "{&a x: &b {y: 1}, <<: *b}": {"y": 1, "x": {"y": 1}},
    "!!set {a, b}": None,
    "!!binary aGk=": None,
    "!!omap [a: 1]": None,
    "!!python/tuple [1]": None,
    "{[1, 2]: a}": None,
    "{? {a: 1} : b}": None,
    '"\\ud83d\\ude00"': None,
    '"\\ud83d"': None,
    '"\\U0001F600 \\0 \\x7f"': "\U0001f600 \0 \x7f",
    "2024-13-01": None,
    "9" * 5000: None,
}  # fmt: skip
"""Value as written -> what the function gets; `None`: refused before anything runs."""


def vault_with(path, value):
    vault = TableVault(path / "vault", author="ada", create=True)
    vault.create_code_module("shown", text="def show(value):\n    return repr(value)\n")
    vault.create_table("t")
    vault.create_instance("t", builders={"t_index": INDEX, "out": COLUMN + value})
    return vault


@pytest.mark.parametrize("written", [key for key, value in VALUES.items() if value is not None])
@pytest.mark.filterwarnings("ignore::tablevault.TableVaultWarning")
def test_argument_reaches_function_and_records_as_it_is(written, tmp_path):
    vault, expected = vault_with(tmp_path, written), VALUES[written]
    vault.execute_instance("t", process_id="once")
    assert vault.get_dataframe("t")[0]["out"].tolist() == [repr(expected)] * 2
    lineage = vault.get_lineage("t", column="out")
    assert repr(lineage.columns[0].arguments) == repr({"value": expected})
    [step] = [step for step in json.loads(json.dumps(lineage.to_dict()))["steps"].values() if step["column"] == "out"]
    assert repr(from_json_form(step["arguments"])) == repr({"value": expected})
    vault.create_instance("t", copy=True)
    assert vault.plan_instance("t", run_index=True).builders["out"].reasons == ("nothing changed",)
    vault.execute_instance("t", process_id="twice")
    assert vault.get_process("twice").progress["out"].reused == 2


@pytest.mark.parametrize("written", [key for key, value in VALUES.items() if value is None])
def test_argument_that_cannot_be_kept_is_refused_with_its_line(written, tmp_path):
    vault = vault_with(tmp_path, written)
    with pytest.raises(tv_errors.TVBuilderError, match=r"^out\.yaml, line 8"):
        vault.execute_instance("t", process_id="once")
    assert vault.get_process("once").status == "reverted"
    assert vault.get_process("once").progress == {}


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(dt.UTC)).map(lambda moment: moment.replace(fold=0))
)
KEYS = PLAIN | st.sampled_from(["!!map", "!!timestamp", "!!float", "!!int"])


@settings(max_examples=200, deadline=None)
@given(st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)))
def test_json_form_is_read_back_equal(value):
    assert repr(from_json_form(json.loads(json.dumps(json_form(value))))) == repr(value)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[NO, DK]", r"\[0\]: NO is read as false. Quote it \('NO'\) to mean text, or write false"),
        ("012", r"012 is read as 10. Quote it \('012'\)"),
        ("-012", "-012 is read as -10"),
        ("12:30:00", "12:30:00 is read as 45000"),
        ("12:30:00.5", "12:30:00.5 is read as 45000.5"),
        ("1_000", "1_000 is read as 1000"),
        ("1_000.5", "1_000.5 is read as 1000.5"),
        ("{on: 1}", "on is read as true"),
        ("1e-4", "1e-4 is read as text. Write 0.0001 to mean the number"),
        ("1e-7", "1e-7 is read as text. Write 1.0e-07 to mean the number"),
        ("2.5E3", "2.5E3 is read as text. Write 2500.0"),
        ("0o17", "0o17 is read as text. Write 15"),
        ("1e309", r"1e309 is read as text, since the number is outside the range of a float. Quote it \('1e309'\)"),
        ("1.0e+309", r"1.0e\+309 is read as inf, since the number is outside the range of a float. Quote it"),
        ("1.0e-400", "1.0e-400 is read as 0.0, since the number is outside the range of a float"),
        ("2024-01-01T12:00:00.123456789", "is read as 2024-01-01 12:00:00.123456. Quote it"),
    ],
)
def test_value_that_is_read_otherwise_than_it_looks_is_warned_about(written, said, tmp_path):
    vault = vault_with(tmp_path, written)
    with pytest.warns(TableVaultWarning, match=rf"^out\.yaml, line 8, arguments\.value.*{said}"):
        vault.plan_instance("t")


@pytest.mark.parametrize(
    "written",
    ["[true, FALSE, 0, 10, 0.5, 0x1F, -1, .5, 1.5e+3]", "'NO'", '"012"', "{a: 08, b: 1.2.3}", "12:30:00 o'clock"],
)
def test_value_that_is_read_as_it_looks_is_not_warned_about(written):
    assert read_document(COLUMN + written, "out.yaml").doubts == ()


def test_yes_and_no_in_other_fields_are_booleans(tmp_path):
    text = COLUMN.replace("is_custom: true", "is_custom: yes") + "1"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_document(text, "out.yaml").fields["is_custom"] is True


def test_surrogate_pair_is_named_with_its_remedy(tmp_path):
    with pytest.raises(tv_errors.TVBuilderError, match=r"\\ud83d\\ude00 is a JSON surrogate pair.*ensure_ascii=False"):
        read_document(COLUMN + '"\\ud83d\\ude00"', "out.yaml")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("~PROCES_ID~", "did you mean ~PROCESS_ID~"),
        ("~process_id~", "did you mean ~PROCESS_ID~"),
        ("'run ~PROCESS-ID~'", "did you mean ~PROCESS_ID~"),
        ("~ARTIFACTS_FOLDER~/x.txt", "did you mean ~ARTIFACT_FOLDER~"),
        ("'~ARTIFACT_FOLDER/x.txt'", "did you mean ~ARTIFACT_FOLDER~"),
        ("'PROCESS_ID~'", "did you mean ~PROCESS_ID~"),
        ("{deep: ['~PROCESSID~']}", "did you mean ~PROCESS_ID~"),
        ("'~ENV:API_KEY'", "written ~ENV:NAME~"),
        ("'~ENV:~'", "written ~ENV:NAME~"),
        ("'~ENV: API_KEY~'", "written ~ENV:NAME~"),
        ("'~ENV:API KEY~'", "written ~ENV:NAME~"),
        ("'~env:API_KEY~'", "written ~ENV:NAME~"),
        ("'~ENV_API_KEY~'", "written ~ENV:NAME~"),
        ("'~ENV.API_KEY~'", "written ~ENV:NAME~"),
    ],
)
def test_misspelt_placeholder_is_refused_with_the_nearest(written, said, tmp_path):
    vault = vault_with(tmp_path, written)
    with pytest.raises(tv_errors.TVBuilderError, match=rf"^out\.yaml, line 8, arguments\.value: .*{said}"):
        vault.plan_instance("t")


@pytest.mark.parametrize(
    "written", ["~/folder", "about ~5~ or ~approx~", "~environment", "~project~", "'~env/bin'", "a~b~c"]
)
def test_single_tilde_in_a_text_is_literal(written, tmp_path):
    vault = vault_with(tmp_path, written)
    vault.execute_instance("t")
    assert vault.get_dataframe("t")[0]["out"][0] == repr(written.strip("'"))
