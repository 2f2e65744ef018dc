"""Invalid return values of functions.

The error names builder, column and row, and only pauses.
"""

from __future__ import annotations

import pytest
from operated import build, column_builder, index_builder

from tablevault import tv_errors

ROWS = """
import pandas as pd
from pathlib import Path

def rows():
    return pd.DataFrame({"x": [1, 2, 3]})

class Failing(list):
    def __iter__(self):
        raise KeyError("gone")

"""
X = '{x: "<<self.x[index]>>"}'
FOLDER = '{x: "<<self.x[index]>>", folder: ~ARTIFACT_FOLDER~}'

# What is there: columns, arguments and dtypes of the builder `y`, the function, and what the error says.
ROW_WISE = {
    "too few values": ("a, b", "", "return 1, ", "row 0.*length 1 for the 2 columns"),
    "too many values": ("a, b", "", "return 1, 2, 3", "row 0.*length 3 for the 2 columns"),
    "no sequence": ("a, b", "", "return 7", "row 0.*not int"),
    "a text for two columns": ("a, b", "", "return 'ab'", "row 0.*not str"),
    "a mapping of other names": ("a, b", "", "return {'a': 1, 'c': 2}", "row 0.*'c'"),
    "a value outside its dtype": ("a", "dtypes: {a: int64}", "return 'word' if x == 2 else x", "'a', row 1"),
    "a number too large": ("a", "dtypes: {a: int8}", "return 100 * x", "'a', row 1"),
    "a fraction for an int": ("a", "dtypes: {a: int64}", "return x / 2", "'a', row 0"),
    "a value that cannot be stored": ("a", "", "return object()", "'a', row 0"),
    "a frame": ("a", "", "return pd.DataFrame({'b': [1, 2]})", "'a', row 0: b 0 1 1 2 is of type pandas.DataFrame"),
    "a function": ("a", "", "return rows", "'a', row 0"),
    "a wrong list": ("a", "dtypes: {a: list<float32>}", "return ['word']", "'a', row 0"),
    "a list that contains itself": ("a", "", "a = [1]\n    a.append(a)\n    return a", "'a', row 0.*contains itself"),
    "a dict that contains itself": ("a", "", "a = {}\n    a['a'] = a\n    return a", "'a', row 0.*contains itself"),
    "a number of too many digits": ("a", "", "return 10**5000 if x == 2 else x", "'a', row 1"),
    "such a number in a dict": ("a", "", "return {'a': 10**5000}", "'a', row 0"),
    "a value whose class fails": ("a", "", "return Failing([1])", "'a', row 0.*of type made.Failing.*KeyError: 'gone'"),
    "an absolute artifact": ("a", "dtypes: {a: artifact_string}", "return '/etc/hostname'", "'a', row 0"),
    "an artifact outside": ("a", "dtypes: {a: artifact_string}", "return '../a.txt'", "'a', row 0"),
    "an artifact whose name is too long": (
        "a",
        "dtypes: {a: artifact_string}",
        "return 'a' * 300",
        "'a', row 0.*too long",
    ),
    "no path of an artifact": ("a", "dtypes: {a: artifact_string}", "return 7", "'a', row 0"),
}

DATAFRAME = {
    "too few columns": (
        "a, b",
        "",
        "return pd.DataFrame({'a': [1, 2, 3]})",
        "the columns a; expected as many as changed_columns, which are a, b",
    ),
    "too many columns": ("a", "", "return pd.DataFrame({'a': [1, 2, 3], 'b': 1})", "the columns a, b; expected"),
    "too few rows": ("a", "", "return pd.DataFrame({'a': [1, 2]})", "2 rows; the instance has 3"),
    "too many rows": ("a", "", "return pd.DataFrame({'a': [1, 2, 3, 4]})", "4 rows; the instance has 3"),
    "no frame": ("a, b", "", "return 7", "not int"),
    "nothing": ("a", "", "return None", "not NoneType"),
    "a value outside its dtype": (
        "a",
        "dtypes: {a: int64}",
        "return pd.DataFrame({'a': [1, 'word', 3]})",
        "'a', row 1",
    ),
    "a value that cannot be stored": ("a", "", "return pd.DataFrame({'a': [1, object(), 3]})", "'a', row 1"),
    "an artifact outside": (
        "a",
        "dtypes: {a: artifact_string}",
        "return pd.DataFrame({'a': [None, '../b.txt', None]})",
        "'a', row 1",
    ),
}

GENERATOR = {
    "too few rows": ("a", "", "yield 1\n    yield 2", "yielded 2 rows, but 3"),
    "too many rows": ("a", "", "yield from range(4)", "more rows than the instance's 3"),
    "no iterator": ("a", "", "return 7", "not return int"),
    "too few values": ("a, b", "", "yield 1, 2\n    yield 3,", "row 1.*length 1 for the 2 columns"),
    "a value outside its dtype": ("a", "dtypes: {a: int64}", "yield 1\n    yield 'word'", "'a', row 1"),
}


def paused_by_a_plain_error(vault, builder, body, match, arguments="x"):
    code = f"{ROWS}def made({arguments}):\n    {body}\n"
    build(vault, index_builder("x", "rows"), code, y=builder)
    with pytest.raises((TypeError, ValueError), match=f"(?s)'y'.*{match}|(?s:y.*{match})") as caught:
        vault.execute_instance("made", process_id="mine")
    assert type(caught.value) in (TypeError, ValueError)
    assert "paused as 'mine'" in caught.value.__notes__[-1]
    assert vault.get_process("mine").status == "paused"


@pytest.mark.usefixtures("no_collections")  # Where values contain themselves, callbacks would have no room.
@pytest.mark.parametrize("wrong", ROW_WISE)
def test_a_row_wise_function(vault, wrong):
    columns, dtypes, body, match = ROW_WISE[wrong]
    paused_by_a_plain_error(vault, column_builder(columns, "made", X, f"return_type: row-wise\n{dtypes}"), body, match)


@pytest.mark.parametrize("wrong", ["a number of too many digits"])
def test_unstorable_cells_are_recomputed_after_a_fix(vault, wrong):
    columns, dtypes, body, match = ROW_WISE[wrong]
    paused_by_a_plain_error(vault, column_builder(columns, "made", X, f"return_type: row-wise\n{dtypes}"), body, match)
    vault.create_code_module("made", text=f"{ROWS}def made(x):\n    return x\n")
    vault.execute_instance("made", process_id="mine")
    assert vault.get_dataframe("made")[0]["a"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("wrong", DATAFRAME)
def test_a_function_that_returns_a_whole_frame(vault, wrong):
    columns, dtypes, body, match = DATAFRAME[wrong]
    paused_by_a_plain_error(vault, column_builder(columns, "made", "{}", dtypes), body, match, "")


@pytest.mark.parametrize("wrong", GENERATOR)
def test_a_generator(vault, wrong):
    columns, dtypes, body, match = GENERATOR[wrong]
    builder = column_builder(columns, "made", "{}", f"return_type: generator\n{dtypes}")
    paused_by_a_plain_error(vault, builder, body, match, "")


INDEXES = {
    "too few columns": ("dataframe", "return pd.DataFrame({'a': [1]})", "the columns a; expected"),
    "no frame": ("dataframe", "return 'rows'", "not str"),
    "a generator of too few values": ("generator", "yield 1,", "row 0.*length 1"),
    "a generator that is none": ("generator", "return 7", "not return int"),
}


@pytest.mark.parametrize("wrong", INDEXES)
def test_an_index_builder(vault, wrong):
    returns, body, match = INDEXES[wrong]
    code = f"import pandas as pd\ndef made():\n    {body}\n"
    build(vault, index_builder("a, b", "made", more=f"return_type: {returns}"), code)
    with pytest.raises((TypeError, ValueError), match=f"(?s)made_index.*{match}") as caught:
        vault.execute_instance("made", process_id="mine")
    assert not isinstance(caught.value, tv_errors.TableVaultError)
    assert vault.get_process("mine").status == "paused"


def test_after_the_function_is_fixed_the_rest_of_the_rows_run(vault):
    body = "return 'word' if x == 2 else x"
    builder = column_builder("a", "made", X, "return_type: row-wise\ndtypes: {a: int64}")
    paused_by_a_plain_error(vault, builder, body, "'a', row 1")
    vault.create_code_module("made", text=f"{ROWS}def made(x):\n    return 10 * x\n")
    vault.execute_instance("made", process_id="mine")
    assert vault.get_dataframe("made")[0]["a"].tolist() == [1, 20, 30]


MIXED = "datetime.date(2020, 1, 1) if x < 2 else datetime.datetime(2020, 1, 1)"


def mixed(vault, returns):
    arguments, body = {
        "row-wise": (X, f"def made(x):\n    return {MIXED}\n"),
        "generator": ("{}", f"def made():\n    for x in (1, 2, 3):\n        yield {MIXED}\n"),
    }[returns]
    code = f"import datetime\n{ROWS}{body}"
    build(vault, index_builder("x", "rows"), code, y=column_builder("a", "made", arguments, f"return_type: {returns}"))
    with pytest.raises(ValueError, match="'y', column 'a', row 1: .* cannot share a column with"):
        vault.execute_instance("made", process_id="mine")
    assert vault.get_process("mine").progress["y"].computed == 1
    return code


@pytest.mark.parametrize("returns", ["row-wise", "generator"])
def test_rows_that_do_not_fit_the_first_are_recomputed_after_a_fix(vault, returns):
    code = mixed(vault, returns)
    vault.create_code_module("made", text=code.replace(MIXED, "datetime.date(2020, 1, x)"))
    vault.execute_instance("made", process_id="mine")
    assert [day.day for day in vault.get_dataframe("made")[0]["a"]] == [1, 2, 3]


@pytest.mark.parametrize("returns", ["row-wise", "generator"])
def test_rows_that_do_not_fit_the_first_are_null_after_a_stop(vault, returns):
    mixed(vault, returns)
    vault.stop_process("mine", materialize=True)
    assert vault.get_dataframe("made", successful_only=False)[0]["a"].isna().tolist() == [False, True, True]


def test_a_link_out_of_the_artifact_folder_is_refused(vault, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    body = f"Path(folder, 'link.txt').symlink_to({str(tmp_path / 'secret.txt')!r})\n    return 'link.txt'"
    builder = column_builder("a", "made", FOLDER, "return_type: row-wise\ndtypes: {a: artifact_string}")
    paused_by_a_plain_error(vault, builder, body, "'a', row 0", "x, folder")


def test_special_file_is_refused_as_artifact(vault):
    body = 'import os\n    os.mkfifo(f"{folder}/pipe")\n    return "pipe"'
    builder = column_builder("a", "made", FOLDER, "return_type: row-wise\ndtypes: {a: artifact_string}")
    paused_by_a_plain_error(vault, builder, body, "'a', row 0.*special file", "x, folder")


def test_an_error_of_the_vault_inside_a_function_is_the_function_s(vault, path):
    body = f"from tablevault import TableVault\n    TableVault({str(path)!r}).create_table('artifacts')"
    code = f"{ROWS}def made(x):\n    {body}\n"
    build(vault, index_builder("x", "rows"), code, y=column_builder("a", "made", X))
    with pytest.raises(tv_errors.TVArgumentError, match="^Forbidden Table Name: artifacts") as caught:
        vault.execute_instance("made", process_id="mine")
    assert "paused as 'mine'" in caught.value.__notes__[-1]


RIGHT = {
    "a cell": ("a", "return x", [1, 2, 3]),
    "a 1-tuple": ("a", "return x,", [1, 2, 3]),
    "a list is a list": ("a", "return [x]", [[1], [2], [3]]),
    "null": ("a", "return None", [None] * 3),
    "a dict for one column is a cell": ("a", "return {'b': x}", [{"b": 1}, {"b": 2}, {"b": 3}]),
}


@pytest.mark.parametrize("right", RIGHT)
def test_return_value_is_the_cell_of_a_single_column(vault, right):
    columns, body, expected = RIGHT[right]
    code = f"{ROWS}def made(x):\n    {body}\n"
    build(vault, index_builder("x", "rows"), code, y=column_builder(columns, "made", X))
    vault.execute_instance("made")
    cells = vault.get_dataframe("made", format="arrow")[0].column("a").to_pylist()
    if right == "a dict for one column is a cell":
        cells = vault.get_dataframe("made")[0]["a"].tolist()
    assert cells == expected


@pytest.mark.parametrize(
    "body", ["return x, -x", "return [x, -x]", "return {'b': -x, 'a': x}", "return pd.Series([x, -x])"]
)
def test_several_columns_take_a_sequence_or_a_mapping(vault, body):
    code = f"{ROWS}def made(x):\n    {body}\n"
    build(vault, index_builder("x", "rows"), code, y=column_builder("a, b", "made", X))
    vault.execute_instance("made")
    frame, _ = vault.get_dataframe("made")
    assert frame["a"].tolist() == [1, 2, 3]
    assert frame["b"].tolist() == [-1, -2, -3]


@pytest.mark.parametrize(
    "body",
    [
        "return pd.DataFrame({'a': [1, 2, 3], 'b': [4, 5, 6]}, index=[7, 8, 9])",
        "return pd.DataFrame({'b': [4, 5, 6], 'a': [1, 2, 3]})",
        "return pd.DataFrame({'u': [1, 2, 3], 'v': [4, 5, 6]})",
        "import pyarrow as pa\n    return pa.table({'b': [4, 5, 6], 'a': [1, 2, 3]})",
        "import polars\n    return polars.DataFrame({'u': [1, 2, 3], 'v': [4, 5, 6]})",
    ],
)
def test_the_columns_of_a_frame_are_taken_by_name_or_in_order(vault, body):
    code = f"{ROWS}def made():\n    {body}\n"
    build(vault, index_builder("x", "rows"), code, y=column_builder("a, b", "made", more=""))
    vault.execute_instance("made")
    frame, _ = vault.get_dataframe("made")
    assert frame["a"].tolist() == [1, 2, 3]
    assert frame["b"].tolist() == [4, 5, 6]
