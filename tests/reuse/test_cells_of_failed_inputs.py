"""Cells computed from failed cells, with `failed_inputs: pass`."""

from __future__ import annotations

import pytest

from tablevault import TableVault

pytestmark = pytest.mark.filterwarnings("ignore::tablevault.errors.TableVaultWarning")

INDEX = """
builder_type: IndexBuilder
changed_columns: [k]
python_function: create_data_table_from_list
code_module: table_generation
arguments: {{vals: {rows}}}
primary_key: [k]
"""
COLUMN = """
builder_type: ColumnBuilder
changed_columns: [{name}]
python_function: {name}
code_module: m
is_custom: true
return_type: {kind}
arguments: {{x: '<<self.{read}[index]>>'}}
{more}
"""
CODE = """
def a(x):
    {failing}
    return None if x == 2 else x

def b(x):
    return [str(each) for each in x] if isinstance(x, list) else str(x)
"""
FAILING = "if x == 2: raise ValueError('no')"


@pytest.fixture
def run(tmp_path):
    """Return a function that executes the next instance; it returns how many cells of `b` were computed."""
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_table("t")

    def run(failing, rows=3, kind="row-wise", passes="pass"):
        vault.create_code_module("m", text=CODE.format(failing=failing))
        builders = {
            "t_index": INDEX.format(rows=list(range(1, rows + 1))),
            "a": COLUMN.format(name="a", read="k", kind="row-wise", more="on_error: collect\ndtypes: {a: Int64}"),
            "b": COLUMN.format(name="b", read="a", kind=kind, more=f"failed_inputs: {passes}"),
        }
        vault.create_instance("t", copy=True, builders=builders)
        run.plan = vault.plan_instance("t", run_index=True).builders["b"]
        return vault.get_process(vault.execute_instance("t")).progress["b"].computed

    return run


@pytest.mark.parametrize(("rows", "kind"), [(3, "row-wise"), (3, "batch"), (300, "row-wise")])
def test_cell_is_reused_while_its_input_fails(run, rows, kind):
    assert run(FAILING, rows, kind) == rows
    assert run(FAILING, rows, kind) == 0
    assert run.plan.reasons == ("unknown for 1 row until `a` has run",)
    assert run(FAILING.replace("'no'", "'other'"), rows, kind) == 0
    assert run(FAILING, rows, kind) == 0


@pytest.mark.parametrize("rows", [3, 300])
def test_cell_is_computed_again_once_its_input_is_a_computed_null(run, rows):
    assert run(FAILING, rows) == rows
    assert run("", rows, passes="skip") == 1
    assert run(FAILING, rows) == 1
    assert run("", rows) == 1
