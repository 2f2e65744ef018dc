"""What each kind of reference gives a function, in executions of real builders."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tablevault import TableVault, tv_errors

CODE = '''
import json
import pandas as pd

def rows(count):
    return pd.DataFrame({"id": range(count), "fruit": ["apple", "pear", None][:count]})

def plain(value):
    """Return a value with its type, as JSON."""
    if isinstance(value, pd.DataFrame):
        return ["DataFrame", {name: [plain(cell) for cell in value[name].astype(object)] for name in value}]
    if isinstance(value, list):
        return ["list", [plain(item) for item in value]]
    if isinstance(value, dict):
        return ["dict", {key: plain(item) for key, item in value.items()}]
    if value is pd.NA:
        return ["NoneType", "None"]
    return [type(value).__name__, str(value)]

def told(value):
    return json.dumps(plain(value))

def told_once(value):
    text = told(value)
    return pd.DataFrame({"told": [text] * 3})
'''

INDEX = """
builder_type: IndexBuilder
changed_columns: [id, fruit]
python_function: rows
code_module: made
is_custom: true
arguments: {count: 3}
"""

TOLD = """
builder_type: ColumnBuilder
changed_columns: [told]
python_function: FUNCTION
code_module: made
is_custom: true
return_type: RETURN
arguments:
  value: VALUE
"""

STOCK = pd.DataFrame(
    {
        "id": [0, 1, 2],
        "name": ["apple", "pear", "fig"],
        "price": [1.5, 2.0, None],
        "fresh": [True, False, True],
        "since": pd.to_datetime(["2024-01-01", "2024-06-01", "2025-01-01"]),
        "odd name": ["a", "b", "c"],
        "tags": [["red", "round"], [], ["blue"]],
        "kind": ["tree", "tree", "tree"],
        "key": ['a"], x', "]>>", "it's"],
    }
)


@pytest.fixture
def vault(tmp_path):
    """A vault with a table `stock` to read."""
    vault = TableVault(tmp_path / "vault", create=True)
    vault.create_code_module("made", text=CODE)
    vault.create_table("stock")
    vault.create_instance("stock", external_edit=True)
    vault.write_instance(STOCK, "stock")
    vault.create_table("made")
    return vault


def builder(value, row_wise=True):
    text = TOLD.replace("VALUE", value if value.startswith(("{", "[", "|")) else json.dumps(value))
    return text.replace("FUNCTION", "told" if row_wise else "told_once").replace(
        "RETURN", "row-wise" if row_wise else "dataframe"
    )


def told(vault, value, row_wise=True, more=""):
    """Execute a builder whose argument is `value`; return what its function got, for each row."""
    vault.create_instance("made", builders={"made_index": INDEX, "t": builder(value, row_wise) + more})
    vault.execute_instance("made")
    return [json.loads(cell) for cell in vault.get_dataframe("made")[0]["told"]]


def text(value):
    return ["str", value]


NULL = ["NoneType", "None"]
IDS = {"id": [["int", "0"], ["int", "1"], ["int", "2"]]}

ONCE = {
    "no conditions, one column": ("<<stock.id>>", ["DataFrame", IDS]),
    "no conditions, several columns": (
        "<<stock.{id, name}>>",
        ["DataFrame", {**IDS, "name": [text("apple"), text("pear"), text("fig")]}],
    ),
    "no row matches": ("<<stock.name[id::99]>>", NULL),
    "no row matches, all columns": ("<<stock[id::99]>>", NULL),
    "one cell, a text": ("<<stock.name[id::1]>>", text("pear")),
    "one cell, an int": ("<<stock.id[name::pear]>>", ["int", "1"]),
    "one cell, a float": ("<<stock.price[id::0]>>", ["float", "1.5"]),
    "one cell, a bool": ("<<stock.fresh[id::1]>>", ["bool", "False"]),
    "one cell, a null": ("<<stock.price[id::2]>>", NULL),
    "one cell, a list": ("<<stock.tags[id::0]>>", ["list", [text("red"), text("round")]]),
    "one column, several rows": ("<<stock.name[kind::tree]>>", ["list", [text("apple"), text("pear"), text("fig")]]),
    "several columns, one row": (
        "<<stock.{id, name}[id::1]>>",
        ["DataFrame", {"id": [["int", "1"]], "name": [text("pear")]}],
    ),
    "a range": ("<<stock.name[id::0:2]>>", ["list", [text("apple"), text("pear")]]),
    "a range of dates": ("<<stock.name[since::'2024-02-01':'2025-01-01']>>", text("pear")),
    "several conditions": ("<<stock.name[kind::tree, fresh::true, id::1:9]>>", text("fig")),
    "a number as text": ("<<stock.name[price::2.0]>>", text("pear")),
    "a position": ("<<stock.name[index::2]>>", text("fig")),
    "a range of positions": ("<<stock.name[index::0:2]>>", ["list", [text("apple"), text("pear")]]),
    "a quoted column": ("<<stock.'odd name'[id::0]>>", text("a")),
    "white space": ("<< stock . name [ id :: 1 ] >>", text("pear")),
    "an escaped reference": (r"\<<stock.name[id::1]>>", text("<<stock.name[id::1]>>")),
    "inside a text": ("the <<stock.name[id::1]>> costs <<stock.price[id::1]>>", text("the pear costs 2.0")),
    "a nested reference": ("<<stock.name[id::<<stock.id[name::fig]>>]>>", text("fig")),
    "a version": ("<<stock(base).name[id::1]>>", text("pear")),
    "bare self": (
        "<<self>>",
        ["DataFrame", {**IDS, "fruit": [text("apple"), text("pear"), NULL]}],
    ),
    "a column of self": ("<<self.id>>", ["DataFrame", IDS]),
    "a cell of self": ("<<self.fruit[id::1]>>", text("pear")),
    "nested structures": (
        '{"a": ["<<stock.id[name::fig]>>", {"b": "<<stock.name[id::0]>>"}], "c": 7}',
        ["dict", {"a": ["list", [["int", "2"], ["dict", {"b": text("apple")}]]], "c": ["int", "7"]}],
    ),
}


@pytest.mark.parametrize("kind", ONCE)
def test_a_reference_that_is_resolved_once(vault, kind):
    value, expected = ONCE[kind]
    assert told(vault, value, row_wise=False) == [expected] * 3


PER_ROW = {
    "this row's cell": ("<<self.fruit[index]>>", [text("apple"), text("pear"), NULL]),
    "the position": ("<<self.index>>", [["int", "0"], ["int", "1"], ["int", "2"]]),
    "another table's row of this position": ("<<stock.name[id]>>", [text("apple"), text("pear"), text("fig")]),
    "another table's position": ("<<stock.name[index]>>", [text("apple"), text("pear"), text("fig")]),
    "a value looked up; a null matches nothing": (
        "<<stock.price[name::<<self.fruit[index]>>]>>",
        [["float", "1.5"], ["float", "2.0"], NULL],
    ),
    "the rows before": (
        "<<self.id[index::0:<<self.index>>]>>",
        [NULL, ["int", "0"], ["list", [["int", "0"], ["int", "1"]]]],
    ),
    "a text": (
        "row <<self.index>>: <<self.fruit[index]>>",
        [text("row 0: apple"), text("row 1: pear"), text("row 2: None")],
    ),
    "a constant": ("<<stock.name[id::1]>>", [text("pear")] * 3),
    "values that look like syntax": (
        "<<stock.name[key::<<stock.key[id]>>]>>",
        [text("apple"), text("pear"), text("fig")],
    ),
}


@pytest.mark.parametrize("kind", PER_ROW)
def test_a_reference_that_is_resolved_for_each_row(vault, kind):
    value, expected = PER_ROW[kind]
    assert told(vault, value) == expected


def test_instance_is_selected_by_id_or_version_or_is_the_newest(vault):
    first = vault.get_dataframe("stock")[1]
    vault.create_instance("stock", "new", external_edit=True)
    vault.write_instance(STOCK.assign(name=["a", "b", "c"]), "stock", "new")
    for reference, expected in (
        ("<<stock.name[id::0]>>", "a"),
        (f"<<stock({first}).name[id::0]>>", "apple"),
        ("<<stock(base).name[id::0]>>", "apple"),
        ("<<stock(new).name[id::0]>>", "a"),
    ):
        assert told(vault, reference) == [text(expected)] * 3


def test_table_named_by_a_reference_needs_declared_dependencies(vault):
    vault.create_table("names")
    vault.create_instance("names", external_edit=True)
    vault.write_instance(pd.DataFrame({"id": [0], "table": ["stock"]}), "names")
    reference = "<<<<names.table[id::0]>>.name[id::1]>>"
    with pytest.raises(tv_errors.TVBuilderError, match="dependencies"):
        told(vault, reference)
    vault.delete_instance("TEMP_base", "made")
    assert told(vault, reference, more="dependencies: [stock.*]\n") == [text("pear")] * 3


def test_fields_other_than_arguments_take_cells_and_columns(vault):
    vault.create_table("settings")
    vault.create_instance("settings", external_edit=True)
    frame = pd.DataFrame({"function": ["told", "told"], "columns": ["told", "told"], "threads": [2, 2], "id": [0, 1]})
    vault.write_instance(frame, "settings")
    more = builder("<<self.index>>")
    more = more.replace("function: told", "function: <<settings.function[id::0]>>")
    more = more.replace("return_type", 'n_threads: "<<settings.threads[id::0]>>"\nreturn_type')
    more = more.replace("[told]", '["<<settings.columns[id::0]>>"]')
    vault.create_instance("made", builders={"made_index": INDEX, "t": more})
    vault.execute_instance("made")
    assert len(vault.get_dataframe("made")[0]["told"]) == 3


def test_one_column_without_conditions_is_a_list_in_a_field(vault):
    vault.create_table("keys")
    vault.create_instance("keys", external_edit=True)
    vault.write_instance(pd.DataFrame({"key": ["id", "fruit"]}), "keys")
    vault.create_instance("made", builders={"made_index": INDEX.replace("[id, fruit]", '"<<keys.key>>"')})
    vault.execute_instance("made")
    assert list(vault.get_dataframe("made")[0]) == ["id", "fruit"]


def test_artifacts_come_back_as_full_paths(vault):
    vault.create_table("files")
    vault.create_instance("files", external_edit=True)
    Path(vault.get_artifact_folder("files"), "a.txt").write_text("content")
    vault.write_instance(pd.DataFrame({"file": ["a.txt"]}), "files", dtypes={"file": "artifact_string"})
    (found, *_) = told(vault, "<<files.file[index::0]>>")
    assert Path(found[1]).read_text() == "content"
    (whole, *_) = told(vault, "<<files>>", row_wise=False)
    assert whole == ["DataFrame", {"file": [found]}]


def test_placeholders_are_filled_in(vault, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    vault.create_instance(
        "made",
        builders={"made_index": INDEX, "t": builder('["~PROCESS_ID~", "key ~ENV:SOME_KEY~", "~ARTIFACT_FOLDER~"]')},
    )
    vault.execute_instance("made", process_id="mine")
    frame, instance_id = vault.get_dataframe("made")
    kind, (process_id, key, folder) = json.loads(frame["told"][0])
    assert (kind, process_id, key) == ("list", text("mine"), text("key secret"))
    assert folder[1] == vault.get_artifact_folder("made", instance_id)


def test_a_row_wise_index_builder_reads_the_origin_as_self(vault):
    told(vault, "<<self.fruit[index]>>")
    vault.create_instance("made", copy=True)
    code = vault.get_code_module_str("made") + "\ndef again(i, fruit):\n    return 10 + i, fruit\n"
    vault.create_code_module("made", text=code)
    index = INDEX.replace("function: rows", "function: again").replace("{count: 3}", ROW_ARGUMENTS)
    vault.create_builder_file("made", text=index + "return_type: row-wise\n")
    vault.execute_instance("made")
    frame, _ = vault.get_dataframe("made")
    assert frame["id"].tolist() == [10, 11, 12]
    assert frame["fruit"].tolist()[:2] == ["apple", "pear"]


ROW_ARGUMENTS = '{i: "<<self.id[index]>>", fruit: "<<self.fruit[index]>>"}'

WRONG = {
    "a value that cannot be coerced": ("<<stock.name[id::pear]>>", "pear"),
    "a fraction for an int": ("<<stock.name[id::1.5]>>", "1.5"),
    "no date": ("<<stock.name[since::noon]>>", "noon"),
    "a column that is missing": ("<<stock.nam[id::1]>>", "'name'"),
    "a table that is missing": ("<<stok.name[id::1]>>", "'stock'"),
    "a bracket that is missing": ("<<stock.name[id::1>>", r"\^"),
    "a condition that is cut off": ("<<stock.name[id::]>>", r"\^"),
    "self with an instance": ("<<self(base).id[index]>>", "self"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_reference_is_an_error_of_the_vault_that_says_where(vault, kind):
    value, match = WRONG[kind]
    with pytest.raises((tv_errors.TableReferenceError, tv_errors.TVBuilderError), match=match):
        told(vault, value)
    assert vault.get_active_processes() == {}


def test_dates_are_plain_values(vault):
    assert told(vault, "<<stock.since[id::1]>>")[0][1].startswith("2024-06-01")


# --- built-in functions -------------------------------------------------------------------------------------------

BUILT_IN = """
builder_type: {kind}
changed_columns: [{columns}]
python_function: {function}
code_module: {module}
return_type: {returns}
arguments: {arguments}
{more}
"""


def built_in(vault, function, columns, arguments, more="", **others):
    index = BUILT_IN.format(
        kind="IndexBuilder",
        columns=columns,
        function=function,
        module="table_generation",
        returns="dataframe",
        arguments=arguments,
        more=more,
    )
    vault.create_instance("made", builders={"made_index": index, **others})
    vault.execute_instance("made")
    return vault.get_dataframe("made")[0]


def test_a_table_from_a_list(vault):
    assert built_in(vault, "create_data_table_from_list", "word", "{vals: [a, b]}")["word"].tolist() == ["a", "b"]


def test_a_table_from_a_csv_file(vault, tmp_path):
    (tmp_path / "data.csv").write_text("a,b\n1,x\n,y\n")
    frame = built_in(vault, "create_data_table_from_csv", "a, b", f"{{csv_file_path: {tmp_path}/data.csv}}")
    assert frame["b"].tolist() == ["x", "y"]
    assert frame["a"].isna().tolist() == [False, True]


def test_a_table_from_a_table(vault):
    arguments = '{df: "<<stock.{id, name}>>", nrows: 2}'
    assert built_in(vault, "create_data_table_from_table", "id, name", arguments)["name"].tolist() == ["apple", "pear"]


def test_a_table_of_papers_from_a_folder(vault, tmp_path):
    (tmp_path / "papers").mkdir()
    for name in ("b.pdf", "a.pdf", "notes.txt"):
        (tmp_path / "papers" / name).write_text(name)
    arguments = f"{{folder_dir: {tmp_path}/papers, copies: 1, artifact_folder: ~ARTIFACT_FOLDER~}}"
    columns = "file_name, artifact_name, original_path"
    more = "dtypes: {artifact_name: artifact_string}"
    frame = built_in(vault, "create_paper_table_from_folder", columns, arguments, more)
    assert frame["file_name"].tolist() == ["a", "b"]
    assert [Path(cell).read_text() for cell in frame["artifact_name"]] == ["a.pdf", "b.pdf"]


@pytest.mark.parametrize(
    ("function", "returns", "arguments"),
    [
        ("random_column_string", "dataframe", '{df: "<<self>>", column_names: [r, s], unused: 1}'),
        ("random_row_string", "row-wise", "{column_names: [r, s], unused: 1}"),
        ("random_gen_string", "generator", '{df: "<<self>>", column_names: [r, s], unused: 1}'),
    ],
)
def test_columns_of_random_strings(vault, function, returns, arguments):
    column = BUILT_IN.format(
        kind="ColumnBuilder",
        columns="r, s",
        function=function,
        module="random_string",
        returns=returns,
        arguments=arguments,
        more="",
    )
    frame = built_in(vault, "create_data_table_from_list", "word", "{vals: [a, b, c]}", r=column)
    assert list(frame) == ["word", "r", "s"]
    assert frame[["r", "s"]].map(len).gt(0).all(axis=None)


def json_column(vault, values, dtypes=None):
    """Write a table `mixed` whose column `n` is JSON."""
    vault.create_table("mixed")
    vault.create_instance("mixed", external_edit=True)
    frame = pd.DataFrame({"at": range(len(values)), "n": pd.Series(values, dtype=object)})
    vault.write_instance(frame, "mixed", dtypes=dtypes or {"n": "json"})


def test_a_condition_on_json_compares_values_with_their_types(vault):
    json_column(vault, ["x", 2, "2", True, 1, None])
    found = [told(vault, f"<<mixed.at[n::<<mixed.n[index::{position}]>>]>>")[0] for position in range(6)]
    assert found == [["int", "0"], ["int", "1"], ["int", "2"], ["int", "3"], ["int", "4"], NULL]
    assert told(vault, "<<mixed.at[at::4, n::<<mixed.n[index::3]>>]>>")[0] == NULL
    assert told(vault, "<<mixed.at[n::x]>>")[0] == ["int", "0"]


@pytest.mark.parametrize("written", ["2", "1.5", "true", "null"])
def test_literal_that_may_be_text_or_number_is_refused_for_json(vault, written):
    json_column(vault, [1, 2, 3])
    with pytest.raises(tv_errors.TableReferenceError, match=f"{written} is ambiguous in a JSON column"):
        told(vault, f"<<mixed.at[n::{written}]>>")


def test_undeclared_mixture_is_looked_up_by_its_values(vault):
    code = CODE.replace('"fruit": ["apple", "pear", None][:count]', '"fruit": pd.Series([1, "1", 2.5], dtype=object)')
    vault.create_code_module("made", text=code)
    assert told(vault, "<<self.index[fruit::<<self.fruit[index]>>]>>") == [["int", "0"], ["int", "1"], ["int", "2"]]


@pytest.mark.parametrize("row_wise", [True, False])
def test_positions_come_with_other_columns_if_they_are_named(vault, row_wise):
    expected = ["DataFrame", {"index": [["int", "1"]], "name": [text("pear")]}]
    assert told(vault, "<<stock.{index, name}[id::1]>>", row_wise)[0] == expected
    assert told(vault, "<<stock.index>>", row_wise)[0] == ["DataFrame", {"index": IDS["id"]}]
    vault.create_instance("made", copy=True)
    assert vault.plan_instance("made", run_index=True).builders["t"].computed == 0


def test_an_error_in_the_arguments_names_the_builder_and_the_row(vault):
    vault.create_instance(
        "made", builders={"made_index": INDEX, "t": builder("<<stock.name[price::<<self.fruit[index]>>]>>")}
    )
    with pytest.raises(tv_errors.TableReferenceError, match="'apple' is not a number") as caught:
        vault.execute_instance("made")
    assert "raised by the arguments of told() of builder 't', row 0" in caught.value.__notes__[0]
    vault.create_builder_file("made", "t", text=builder("<<self.fruit[nothing::1]>>"))
    with pytest.raises(tv_errors.TableVaultError) as caught:
        vault.execute_instance("made")
    assert "t.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("<<stock.name[price::abc]>>", "'abc' is not a number"),
        ("<<stock.name[since::soon:later]>>", "'soon' is not"),
        ("<<stock.name[tags::red]>>", "cannot be compared"),
        ("<<stock.name[id::<<stock.id[price::abc]>>]>>", "'abc' is not a number"),
    ],
)
def test_literal_that_fits_no_column_fails_before_any_function_runs(vault, tmp_path, reference, said):
    code = CODE.replace("def rows(count):\n", f"def rows(count):\n    open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    vault.create_code_module("made", text=code)
    vault.create_instance("made", builders={"made_index": INDEX, "t": builder(reference)})
    with pytest.raises(tv_errors.TableReferenceError, match=f"(?s)t.yaml, line .*, arguments.value:.*{said}"):
        vault.execute_instance("made")
    assert not (tmp_path / "ran").exists()
