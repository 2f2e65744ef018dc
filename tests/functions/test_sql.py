"""The built-in module `sql`, which derives tables from other tables."""

from __future__ import annotations

import pandas as pd
import pytest

from tablevault import TableVault, tv_errors
from tablevault.functions.sql import select

BUILDER = """
builder_type: IndexBuilder
changed_columns: [author, n]
python_function: select
code_module: sql
arguments:
  query: "SELECT author, count(*) AS n FROM Stories GROUP BY author ORDER BY author"
  stories: <<stories>>
primary_key: [author]
"""


@pytest.fixture
def vault(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    vault.write("stories", pd.DataFrame({"title": ["Fox", "Owl", "Sea"], "author": ["ann", "bob", "ann"]}))
    vault.create_table("authors")
    vault.create_instance("authors", builders={"authors_index": BUILDER})
    return vault


def test_derived_table_has_instances_lineage_and_reuse(vault):
    vault.execute_instance("authors")
    frame, _ = vault.get_dataframe("authors")
    assert frame.to_dict("list") == {"author": ["ann", "bob"], "n": [2, 1]}
    step = next(item for item in vault.get_lineage("authors", column="n").columns)
    assert {item.table_name for item in step.inputs} == {"stories"}
    # A statement may call random() or now(): only running it can tell.
    assert vault.get_status("authors")["authors"].state == "unknown"
    vault.refresh("authors")
    assert len(vault.get_table_instances("authors")) == 1
    vault.write("stories", pd.DataFrame({"title": ["Fox"], "author": ["eve"]}))
    vault.refresh("authors")
    assert vault.read("authors").to_dict("list") == {"author": ["eve"], "n": [1]}


def test_select_takes_and_returns_columns_of_any_type():
    given = pd.DataFrame({"j": [{"a": 1}, None], "d": pd.to_timedelta([1, 2], unit="s")})
    assert select("SELECT j, d FROM t", t=given)["j"].tolist() == [{"a": 1}, None]
    assert select("SELECT max(d) AS d FROM t", t=given)["d"].tolist() == [pd.Timedelta(2, "s")]
    assert select("SELECT 1 AS one")["one"].tolist() == [1]


def test_select_reads_its_arguments_and_nothing_else(vault):
    with pytest.raises(LookupError, match="names 'storys', which is not an argument; did you mean 'stories'"):
        select("FROM storys", stories=pd.DataFrame({"x": [1]}))
    with pytest.raises(TypeError, match="argument 'stories' of select must be a frame, such as <<stories>>"):
        select("FROM stories", stories=["x"])
    with pytest.raises(tv_errors.TVArgumentError, match="table function 'read_text'"):
        select("FROM read_text('/etc/passwd')")
    with pytest.raises(tv_errors.TVArgumentError, match="unknown schema"):
        select("FROM vault.tables")
    vault.create_builder_file("authors", "authors_index", text=BUILDER.replace("GROUP", "COPY"))
    with pytest.raises(tv_errors.TVArgumentError, match="syntax error"):
        vault.execute_instance("authors", process_id="mine")
    assert vault.get_process("mine").status == "paused"
