"""Columns that are reused as a whole keep the types that their functions gave them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pandas as pd
import pytest

from tablevault import TableVault

CODE = """
import json
from pathlib import Path

import numpy as np
import pandas as pd

def rows(count):
    group = pd.Series(["b", "a"] * count, dtype="category")
    return pd.DataFrame({"key": np.arange(2 * count, dtype="int16"), "group": group})

def size(frame):
    return pd.DataFrame({"size": np.arange(len(frame), dtype="int32")})

def answer(folder, key):
    if key in json.loads(Path(folder, "bad").read_text()):
        raise ValueError(key)
    return key

def nothing(key):
    return None
"""

BUILDER = """
builder_type: {kind}
changed_columns: {columns}
code_module: work
is_custom: true
python_function: {function}
return_type: {return_type}
arguments: {arguments}
"""


@pytest.fixture
def vault(tmp_path: Path) -> TableVault:
    (tmp_path / "bad").write_text("[1]")
    vault = TableVault(tmp_path / "vault", author="tester", create=True)
    vault.create_code_module("work", text=CODE)
    vault.create_table("answers")
    builders = {
        "answers_index": ("IndexBuilder", "[key, group]", "rows", "dataframe", "{count: 2}", "primary_key: [key]\n"),
        "size": ("ColumnBuilder", "[size]", "size", "dataframe", '{frame: "<<self.{key,group}>>"}', ""),
        "answer": (
            "ColumnBuilder",
            "[answer]",
            "answer",
            "row-wise",
            f'{{folder: {tmp_path}, key: "<<self.key[index]>>"}}',
            "on_error: collect\n",
        ),
        "nothing": (
            "ColumnBuilder",
            "[nothing]",
            "nothing",
            "row-wise",
            '{key: "<<self.key[index]>>"}',
            "dtypes: {nothing: category}\n",
        ),
    }
    names = ("kind", "columns", "function", "return_type", "arguments")
    texts = {
        name: BUILDER.format(**dict(zip(names, fields, strict=False))) + fields[-1] for name, fields in builders.items()
    }
    vault.create_instance("answers", builders=texts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vault.execute_instance("answers")
    return vault


def types(vault: TableVault) -> dict[str, str]:
    frame = vault.get_dataframe("answers")[0]
    return {str(name): str(dtype) for name, dtype in frame.dtypes.items()}


def test_retried_instance_keeps_the_types_of_its_columns(vault: TableVault, tmp_path: Path) -> None:
    before = types(vault)
    assert before == {"key": "Int16", "group": "category", "size": "Int32", "answer": "Int64", "nothing": "category"}
    (tmp_path / "bad").write_text(json.dumps([]))
    vault.retry_failed("answers")
    assert types(vault) == before


def test_column_reused_as_a_whole_keeps_its_type(vault: TableVault) -> None:
    before = types(vault)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vault.create_instance("answers", copy=True)
        vault.execute_instance("answers")
    assert types(vault) == before


def test_category_without_values_is_read_back(vault: TableVault) -> None:
    found = vault.get_dataframe("answers")[0]["nothing"]
    assert isinstance(found.dtype, pd.CategoricalDtype)
    assert found.isna().all()


def test_column_without_rows_is_not_reused_from_other_code(tmp_path):
    vault = TableVault(tmp_path / "empty", create=True)
    code = "import pandas as pd\n\ndef size(frame):\n    return pd.Series([], dtype='{}')\n"
    vault.create_code_module("work", text=CODE + code.format("int32"))
    vault.create_table("t")
    index = BUILDER.format(
        kind="IndexBuilder", columns="[key, group]", function="rows", return_type="dataframe", arguments="{count: 0}"
    )
    size = BUILDER.format(
        kind="ColumnBuilder",
        columns="[size]",
        function="size",
        return_type="dataframe",
        arguments='{frame: "<<self.{key,group}>>"}',
    )
    vault.create_instance("t", builders={"t_index": index, "size": size})
    vault.execute_instance("t")
    vault.create_code_module("work", text=CODE + code.format("float32"))
    vault.create_instance("t", copy=True)
    vault.execute_instance("t")
    assert str(vault.read("t").dtypes["size"]) == "Float32"


INDEX_OF_KEYS = """
builder_type: IndexBuilder
changed_columns: [k]
python_function: create_data_table_from_list
code_module: table_generation
primary_key: [k]
arguments: {{vals: {keys}}}
"""
CELL_OF_KEY = """
builder_type: ColumnBuilder
changed_columns: [cell]
python_function: cell
code_module: cells
is_custom: true
return_type: row-wise
arguments: {x: '<<self.k[index]>>'}
"""


@pytest.mark.parametrize("others", ["[1, x]", "'text'", "None", "{'b': x}", "x", "[]"])
def test_json_column_gets_the_same_type_with_and_without_reuse(tmp_path, others):
    def types(*runs):
        vault = TableVault(tmp_path / str(len(runs)) / str(runs[0][0]), author="ada", create=True)
        vault.create_code_module("cells", text=f"def cell(x): return {{'a': 1}} if x == 1 else {others}")
        vault.create_table("t")
        for keys in runs:
            builders = {"t_index": INDEX_OF_KEYS.format(keys=keys), "cell": CELL_OF_KEY}
            vault.create_instance("t", copy=True, builders=builders)
            vault.execute_instance("t")
        frame = vault.get_dataframe("t")[0]
        return str(frame["cell"].dtype), frame["cell"].tolist()

    assert str(types([1, 2, 3], [2, 3])) == str(types([2, 3]))
    assert str(types([2, 3], [1, 2, 3])) == str(types([1, 2, 3]))
