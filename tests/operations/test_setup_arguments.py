"""The arguments of a class's constructor count like those of a function."""

from __future__ import annotations

import pandas as pd
import pytest

from tablevault import TableVault
from tablevault.errors import TableReferenceError, TVLockError

CODE = """
class Times:
    def __init__(self, factors, stops=False):
        values = factors if isinstance(factors, list) else factors.iloc[:, 0]
        self.factor, self.stops = int(sum(values)), stops
    def __call__(self, x):
        if self.stops:
            raise ValueError("stopped")
        return [item * self.factor for item in x] if isinstance(x, list) else x * self.factor
"""
INDEX = """
builder_type: IndexBuilder
changed_columns: [k]
python_function: create_data_table_from_list
code_module: table_generation
arguments: {{vals: {rows}}}
"""
COLUMN = """
builder_type: ColumnBuilder
changed_columns: [out]
python_function: Times
code_module: m
is_custom: true
return_type: {kind}
arguments: {{x: '<<self.k[index]>>'}}
setup_arguments: {{factors: {factors}}}
"""
REFERENCE = "'<<factors.v>>'"


@pytest.fixture
def vault(tmp_path):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_code_module("m", text=CODE)
    vault.create_table("t")
    vault.create_table("factors")
    put(vault, [1, 2])
    return vault


def put(vault, values):
    vault.create_instance("factors", external_edit=True)
    vault.write_instance(pd.DataFrame({"v": values}), "factors")


def create(vault, factors, kind="row-wise", rows="[1, 2]"):
    vault.create_instance(
        "t",
        copy=True,
        builders={"t_index": INDEX.format(rows=rows), "out": COLUMN.format(factors=factors, kind=kind)},
    )


def run(vault):
    """Execute the table; return its cells, and how many of them were computed."""
    computed = vault.get_process(vault.execute_instance("t")).progress["out"].computed
    return vault.get_dataframe("t")[0]["out"].tolist(), computed


@pytest.mark.parametrize("kind", ["row-wise", "batch"])
def test_cells_are_computed_again_if_a_table_of_the_constructor_changed(vault, kind):
    create(vault, REFERENCE, kind)
    assert run(vault) == ([3, 6], 2)
    put(vault, [1, 2])
    create(vault, REFERENCE, kind)
    assert run(vault) == ([3, 6], 0)
    put(vault, [5, 6])
    assert vault.get_status()["t"].state == "stale"
    create(vault, REFERENCE, kind)
    plan = vault.plan_instance("t", run_index=True).builders["out"]
    assert plan.computed == 2
    assert "values of arguments changed in 2 rows" in plan.reasons
    assert run(vault) == ([11, 22], 2)
    assert vault.get_status()["t"].state == "fresh"
    assert "factors(" in str(vault.get_lineage("t", column="out"))


def test_cells_are_computed_again_if_a_value_of_the_constructor_changed(vault):
    create(vault, "[1, 2]")
    assert run(vault) == ([3, 6], 2)
    create(vault, "[1, 3]")
    assert run(vault) == ([4, 8], 2)


def test_cells_are_computed_again_if_an_own_column_in_setup_changed(vault):
    create(vault, "'<<self.k>>'")
    assert run(vault) == ([3, 6], 2)
    create(vault, "'<<self.k>>'", rows="[1, 2, 3]")
    assert vault.plan_instance("t", run_index=True).builders["out"].computed == 3
    assert run(vault) == ([6, 12, 18], 3)


def test_table_of_the_constructor_is_locked(vault):
    create(vault, f"{REFERENCE}, stops: true")
    with pytest.raises(ValueError, match="stopped"):
        vault.execute_instance("t", process_id="one")
    with pytest.raises(TVLockError):
        TableVault(vault.db_dir, author="bob", lock_timeout=0).delete_table("factors")
    vault.stop_process("one", force=True)


def test_constructor_cannot_read_the_current_row(vault):
    create(vault, "['<<self.k[index]>>']")
    with pytest.raises(TableReferenceError, match=r"(?s)setup_arguments\.factors.*current row is available only"):
        vault.plan_instance("t")
