"""Builders are checked completely before any function runs.

The error names file, field and remedy.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from operated import column_builder, index_builder, picture

from tablevault import tv_errors

CODE = """
import pandas as pd
from pathlib import Path

def rows(path):
    Path(path).write_text("called")
    return pd.DataFrame({"x": [1, 2]})

def column(x):
    return x

def column_of(path, x=1):
    Path(path).write_text("called")
    return x
"""

X = '{x: "<<self.x[index]>>"}'


def column(columns="y", arguments=X, more="return_type: row-wise", function="column"):
    return column_builder(columns, function, arguments, more)


WRONG = {
    "a function that is missing": ({"y": column(function="colum")}, "y.yaml.*'column'"),
    "a module that is missing": ({"y": column().replace("module: made", "module: mode")}, "y.yaml.*'made'"),
    "an argument too many": ({"y": column(arguments='{x: "<<self.x[index]>>", z: 1}')}, "y.yaml.*'?z'?"),
    "an argument too few": ({"y": column(arguments="{}")}, "y.yaml.*x"),
    "an unknown table": ({"y": column(arguments='{x: "<<others.a[index]>>"}')}, "y.yaml.*'other'"),
    "an unknown column": ({"y": column(arguments='{x: "<<other.aa[index]>>"}')}, "y.yaml.*'a'"),
    "an unknown column of a condition": ({"y": column(arguments='{x: "<<other.a[idd::1]>>"}')}, "y.yaml.*'id'"),
    "an unknown instance": ({"y": column(arguments='{x: "<<other(base_1_2).a[index]>>"}')}, "y.yaml"),
    "an unknown version": ({"y": column(arguments='{x: "<<other(new).a[index]>>"}')}, "y.yaml.*new"),
    "a table without an instance": ({"y": column(arguments='{x: "<<empty.a[index]>>"}')}, "y.yaml.*empty"),
    "an unknown column of its own": ({"y": column(arguments='{x: "<<self.xx[index]>>"}')}, "y.yaml.*'x'"),
    "a cycle of one": ({"y": column(arguments='{x: "<<self.y[index]>>"}')}, "y.yaml.*'y'"),
    "a cycle of two": (
        {
            "y": column(arguments='{x: "<<self.z[index]>>"}'),
            "z": column("z", '{x: "<<self.y[index]>>"}'),
        },
        "circular dependency: y reads from z",
    ),
    "two producers": ({"y": column(), "z": column()}, "'y' is produced by y.yaml already"),
    "two that overwrite": ({"y": column("x"), "z": column("x")}, "'x' is produced by y.yaml already"),
    "two index builders": ({"more": index_builder("z", "rows")}, "more.yaml.*exactly one IndexBuilder"),
    "an environment variable that is not set": (
        {"y": column(arguments="{x: [~ENV:NO_SUCH_KEY~]}")},
        "y.yaml, line.*KEY",
    ),
    "a column named index": ({"y": column("index")}, "'index'"),
    "a column named twice": ({"y": column("y, y")}, "listed twice"),
    "an empty column": ({"y": column('""')}, "y.yaml"),
    "no column": ({"y": column("")}, "y.yaml.*changed_columns"),
    "a misspelt field": ({"y": column(more="return_typ: row-wise")}, "'?return_type'?"),
    "a misspelt value": ({"y": column(more="return_type: rowwise")}, "row-wise"),
    "a wrong type": ({"y": column(more="return_type: row-wise\nn_threads: many")}, "n_threads"),
    "no threads": ({"y": column(more="return_type: row-wise\nn_threads: 0")}, "n_threads"),
    "an unknown dtype": ({"y": column(more="return_type: row-wise\ndtypes: {y: int46}")}, "int64"),
    "a dtype of another column": ({"y": column(more="return_type: row-wise\ndtypes: {z: int64}")}, "'z'"),
    "a primary key of a column builder": ({"y": column(more="return_type: row-wise\nprimary_key: [y]")}, "primary_key"),
    "an untracked argument that is not there": (
        {"y": column(more="return_type: row-wise\nuntracked: [key]")},
        "'key' is not an argument",
    ),
    "a row's position where there is none": ({"y": column(more="return_type: dataframe")}, "index"),
    "self outside arguments": (
        {"y": column(more="return_type: row-wise\ndtypes: {y: <<self.x[x::1]>>}")},
        "self",
    ),
    "a reference that is cut off": ({"y": column(arguments='{x: "<<self.x[index"}')}, r"y.yaml(.|\n)*\^"),
    "no YAML": ({"y": "builder_type: [ColumnBuilder"}, "y.yaml"),
    "a tag that runs code": ({"y": "!!python/object/apply:os.system ['true']"}, "y.yaml"),
    "an empty file": ({"y": " "}, "y.yaml"),
    "a list": ({"y": "- builder_type"}, "y.yaml"),
    "a table that cannot be known, undeclared": (
        {"y": column(arguments='{x: "<<<<other.a[id::1]>>.b[index]>>"}')},
        "dependencies",
    ),
    "a built-in module that is not there": (
        {"y": column().replace("is_custom: true", "is_custom: false")},
        "is_custom: true",
    ),
}


@pytest.fixture
def ready(vault, tmp_path):
    """A vault with a table to read.

    An index builder writes a file when it runs.
    """
    vault.create_code_module("made", text=CODE)
    vault.create_table("other")
    vault.create_instance("other", external_edit=True)
    vault.write_instance(pd.DataFrame({"id": [1, 2], "a": ["other", "b"]}), "other")
    vault.create_table("empty")
    vault.create_table("made")
    vault.create_instance("made")
    arguments = f"{{path: {tmp_path}/called}}"
    vault.create_builder_file("made", text=index_builder("x", "rows", arguments))
    vault.create_builder_file("made", "first", text=column_builder("w", "column_of", arguments))
    return vault


@pytest.mark.parametrize("process_id", ["", "mine"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_builder_is_refused_before_any_function_runs(ready, path, tmp_path, wrong, process_id):
    builders, match = WRONG[wrong]
    for name, text in builders.items():
        ready.create_builder_file("made", name, text=text)
    before = picture(path)
    with pytest.raises((tv_errors.TVBuilderError, tv_errors.TableReferenceError), match=f"(?s){match}"):
        ready.execute_instance("made", process_id=process_id)
    assert not (tmp_path / "called").exists()
    assert picture(path) == before
    assert ready.get_active_processes() == {}


def test_valid_builders_run(ready, tmp_path):
    ready.create_builder_file("made", "y", text=column())
    ready.execute_instance("made")
    assert ready.get_dataframe("made")[0].columns.tolist() == ["x", "w", "y"]
    assert (tmp_path / "called").exists()


def test_an_instance_without_an_index_builder_is_refused(ready, tmp_path):
    ready.delete_builder_file("made_index", "made")
    with pytest.raises(tv_errors.TVBuilderError, match=r"made_index\.yaml"):
        ready.execute_instance("made")
    ready.create_builder_file("made", text=column())
    with pytest.raises(tv_errors.TVBuilderError, match=r"made_index\.yaml"):
        ready.execute_instance("made")
    assert not (tmp_path / "called").exists()


def test_a_row_wise_index_builder_needs_an_origin(ready):
    ready.create_builder_file("made", text=index_builder("x", "column", X, "return_type: row-wise"))
    with pytest.raises(tv_errors.TVBuilderError, match="copy=True"):
        ready.execute_instance("made")


def test_unparsable_module_is_refused_before_any_function_runs(ready, tmp_path):
    ready.create_code_module("broken", text="def column(x:\n    return x\n")
    ready.create_builder_file("made", "y", text=column().replace("module: made", "module: broken"))
    with pytest.raises(tv_errors.TVBuilderError, match=r"broken(.|\n)*line 1"):
        ready.execute_instance("made")
    assert not (tmp_path / "called").exists()


def test_several_faults_of_a_file_are_all_named(ready):
    text = column(more="return_type: rowwise\nn_threads: many\nis_costum: true")
    ready.create_builder_file("made", "y", text=text)
    with pytest.raises(tv_errors.TVBuilderError) as caught:
        ready.execute_instance("made")
    for word in ("row-wise", "n_threads", "is_custom"):
        assert word in str(caught.value)


def test_the_line_of_the_fault_is_named(ready):
    ready.create_builder_file("made", "y", text=column(function="colum"))
    with pytest.raises(tv_errors.TVBuilderError, match=r"y\.yaml, line 3, python_function"):
        ready.execute_instance("made")


@pytest.mark.parametrize(
    "more", ["return_type: row-wise", "return_type: row-wise\nn_threads: 4", "return_type: generator"]
)
def test_reused_cells_do_not_need_their_environment_variables(ready, monkeypatch, more):
    monkeypatch.setenv("SOME_KEY", "12")
    ready.create_builder_file("made", "y", text=column(arguments="{x: ~ENV:SOME_KEY~}", more=more))
    ready.execute_instance("made")
    made = ready.get_dataframe("made")[0]["y"].tolist()
    monkeypatch.delenv("SOME_KEY")
    ready.create_instance("made", copy=True)
    assert ready.plan_instance("made", run_index=True).builders["y"].computed == 0
    process = ready.get_process(ready.execute_instance("made"))
    assert (process.progress["y"].computed, process.progress["y"].reused) == (0, 2)
    assert ready.get_dataframe("made")[0]["y"].tolist() == made


def test_column_builder_overwrites_an_index_column_and_reads_old_values(ready, tmp_path):
    ready.create_code_module("made", text=CODE + "\ndef tenfold(x):\n    return 10 * x\n")
    ready.create_builder_file("made", "y", text=column("x", X, function="tenfold"))
    ready.execute_instance("made")
    assert ready.get_dataframe("made")[0]["x"].tolist() == [10, 20]
    assert Path(tmp_path / "called").exists()
