"""Errors for common mistakes in builders and code.

Each names a remedy, and quotes the text in question.
"""

from __future__ import annotations

import sys
import traceback

import pytest

from tablevault import TableVault, tv_errors

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
python_function: f
code_module: m
is_custom: true
"""


@pytest.fixture
def execute(tmp_path):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_table("t")

    def call(code, more="return_type: row-wise\narguments: {x: '<<self.k[index]>>'}\n", process_id=""):
        vault.create_code_module("m", text=code)
        vault.create_instance("t", builders={"t_index": INDEX, "out": COLUMN + more})
        return vault.execute_instance("t", process_id=process_id)

    call.vault = vault
    return call


def refusal(execute, *arguments, of=tv_errors.TVBuilderError):
    with pytest.raises(of) as caught:
        execute(*arguments)
    return str(caught.value)


def test_forgotten_row_wise_is_named_where_the_current_row_is_meant(execute):
    text = refusal(
        execute, "def f(x): return x", "arguments: {x: '<<self.k[index]>>'}\n", of=tv_errors.TableReferenceError
    )
    assert "or 'return_type: row-wise' in the builder for a function that is called once per row" in text


def test_forgotten_row_wise_is_named_where_a_cell_comes_back(execute):
    text = refusal(execute, "def f(): return 'one cell'", "", of=TypeError)
    assert "not str. A function that is called once per row, and returns a cell, needs 'return_type: row-wise'." in text


@pytest.mark.parametrize("code", ["def f(x): return x", "def f(x): return x['k']"])
def test_whole_column_in_a_row_wise_function_is_named(execute, code):
    text = refusal(execute, code, "return_type: row-wise\narguments: {x: '<<self.k>>'}\n", of=TypeError)
    assert text.endswith(
        "The argument 'x', <<self.k>>, is the whole column; write <<self.k[index]>> for the cell of the current row."
    )


@pytest.mark.parametrize(
    "code",
    [
        "async def f(x): return x",
        "def keep(g): return g\n@keep\nasync def f(x): return x",
        "import functools\ndef keep(g):\n    @functools.wraps(g)\n    async def h(x): return await g(x)\n    return h\n@keep\nasync def f(x): return x",
        "async def g(x): return x\nf = g",
    ],
)
def test_async_function_is_awaited_however_it_is_named(execute, code):
    execute(code)
    assert execute.vault.get_dataframe("t")[0]["out"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("code", "fields", "remedy"),
    [
        ("async def f(x):\n    yield x", "return_type: row-wise", "return one result for each call"),
        ("async def f(x): return x", "return_type: generator", "use 'row-wise'"),
        ("async def f(x): return x", "return_type: row-wise\nexecutor: threads", "write 'executor: async'"),
        ("def f(x): return x", "return_type: row-wise\nexecutor: async", "write 'async def f'"),
    ],
)
def test_function_that_no_executor_runs_is_refused_before_anything_runs(execute, code, fields, remedy):
    argument = "<<self.k>>" if "generator" in fields else "<<self.k[index]>>"
    text = refusal(execute, code, f"{fields}\narguments: {{x: '{argument}'}}\n", "night")
    assert text.startswith("out.yaml, line 3, python_function: f() is ")
    assert remedy in text
    assert execute.vault.get_process("night").progress == {}


def test_missing_package_is_told_with_the_interpreter(execute):
    for code in ("import tv_missing\ndef f(x): return x", "def f(x):\n    import tv_missing"):
        with pytest.raises(ModuleNotFoundError) as caught:
            execute(code)
        assert (
            f"The interpreter {sys.executable} has no module 'tv_missing'; install it there." in caught.value.__notes__
        )
        execute.vault.delete_instance("TEMP_base", "t")


def test_syntax_error_quotes_the_modules_own_line(execute, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text("OTHER = 'an unrelated file'\n")
    text = refusal(execute, "def f(x)\n    return x\n")
    assert text == "out.yaml, line 4, code_module: m.py, line 1: expected ':': def f(x); correct the module."


def test_traceback_quotes_the_code_that_ran(execute, tmp_path):
    """Also where the file was edited while it ran."""
    path = tmp_path / "vault" / "code_functions" / "m.py"
    code = f"def f(x):\n    __import__('pathlib').Path({str(path)!r}).write_text('\\n# edited')\n    raise KeyError(x)  # as it ran\n"
    with pytest.raises(KeyError) as caught:
        execute(code, process_id="night")
    assert "raise KeyError(x)  # as it ran" in execute.vault.get_process("night").error.traceback
    assert str(path) in "".join(traceback.format_exception(caught.value))


def test_unused_module_that_is_not_text_stops_nothing(execute, tmp_path):
    folder = tmp_path / "vault" / "code_functions"
    (folder / "notes.py").write_bytes(b"x = '\xff'\n")
    (folder / "folder.py").mkdir()
    __import__("os").mkfifo(folder / "pipe.py")
    execute("def f(x): return x")
    assert execute.vault.get_code_modules_list() == ["m", "notes"]


def test_module_that_is_not_text_is_refused_where_a_builder_names_it(execute, tmp_path):
    (tmp_path / "vault" / "code_functions" / "notes.py").write_bytes(b"x = 1\ny = '\xff'\n")
    text = refusal(execute, "from notes import x as f")
    assert "notes.py, line 2: this is not text in the encoding of the file; save it as UTF-8." in text


def test_code_module_can_import_siblings_by_name_and_pickle_its_objects(execute):
    code = (
        "import importlib, pickle\nclass A:\n    x = 7\n"
        "def f(x): return pickle.loads(pickle.dumps(A())).x + importlib.import_module('other').Y"
    )
    execute.vault.create_code_module("other", text="Y = 1")
    execute(code)
    assert execute.vault.get_dataframe("t")[0]["out"].tolist() == [8, 8]


def test_plain_wrapper_of_an_async_function_is_called(execute):
    code = (
        "import asyncio, functools\ndef plain(g):\n    @functools.wraps(g)\n    def h(**given): return asyncio.run(g(**given))\n"
        "    return h\n@plain\nasync def f(x): return x + 1"
    )
    execute(code)
    assert execute.vault.get_dataframe("t")[0]["out"].tolist() == [2, 3]


def test_classes_of_code_modules_are_shown_by_the_modules_own_name(execute):
    with pytest.raises(Exception, match="no") as caught:
        execute("class Down(Exception): ...\ndef f(x): raise Down('no')", process_id="night")
    error = execute.vault.get_process("night").error
    assert (error.type, error.message) == ("m.Down", "no")
    assert "\nm.Down: no" in error.traceback
    assert "tablevault_code" not in error.traceback
    assert type(caught.value).__module__.endswith(".m")


def test_modules_of_the_same_code_have_the_same_name_in_every_execution(execute):
    """So that caches that go by the name of a function find their entries again."""
    code = "def f(x): return __name__"
    names = []
    for _ in range(2):
        execute(code)
        names += execute.vault.get_dataframe("t")[0]["out"].tolist()
    assert len(set(names)) == 1
    execute(code + " + ''")
    assert execute.vault.get_dataframe("t")[0]["out"][0] != names[0]
