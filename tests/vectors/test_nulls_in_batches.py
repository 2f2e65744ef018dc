"""A null vector is given to batch functions in one form, whatever rows stand beside it."""

from __future__ import annotations

import pytest

from tablevault import TableVault

INDEX = """
builder_type: IndexBuilder
changed_columns: [k]
python_function: create_data_table_from_list
code_module: table_generation
arguments: {vals: [1, 2, 3]}
"""
COLUMN = """
builder_type: ColumnBuilder
changed_columns: [{name}]
python_function: {name}
code_module: m
is_custom: true
{more}
"""
CODE = """
import numpy as np
def a(x): return None if x == 2 else {made}
def seen(x): return ["None" if each is None else f"{{each.tolist()}} of {{each.dtype}}" for each in x]
"""


@pytest.mark.parametrize(
    ("declared", "made", "null"),
    [
        ("", "np.ones(2)", "None"),
        ("dtypes: {a: vector<float64>}", "np.ones(2)", "None"),
        ("dtypes: {a: 'vector<float64, 2>'}", "np.ones(2)", "[nan, nan] of float64"),
        ("dtypes: {a: vector<int8>}", "np.ones(2, 'int8')", "None"),
        ("dtypes: {a: 'vector<int8, 2>'}", "np.ones(2, 'int8')", "None"),
        ("dtypes: {a: 'tensor<float64, 1, 2>'}", "np.ones((1, 2))", "[[nan, nan]] of float64"),
    ],
)
def test_null_vector_has_the_same_form_in_every_batch(tmp_path, declared, made, null):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_code_module("m", text=CODE.format(made=made))
    vault.create_table("t")
    read, found = "return_type: batch\narguments: {x: '<<self.a[index]>>'}\nbatch_size: ", []
    for size in (1, 2, 3):
        builders = {
            "t_index": INDEX,
            "a": COLUMN.format(
                name="a", more=f"return_type: row-wise\narguments: {{x: '<<self.k[index]>>'}}\n{declared}"
            ),
            "seen": COLUMN.format(name="seen", more=f"{read}{size}"),
        }
        vault.create_instance("t", builders=builders)
        vault.execute_instance("t")
        found.append(vault.get_dataframe("t")[0]["seen"].tolist())
    assert found[0][1] == null
    assert found[1:] == found[:1] * 2
