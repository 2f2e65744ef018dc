"""Modules outside the vault that code modules import.

They count as whole files, and run with the content that was counted.
"""

from __future__ import annotations

import importlib
import json
import pickle
import subprocess
import sys
import textwrap
import threading
from importlib.machinery import ModuleSpec

import pytest
from waiting import PATIENCE

from tablevault import TableVault
from tablevault.code.loading import CodeSnapshot
from tablevault.code.local_code import find_local_code

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
return_type: row-wise
arguments: {x: '<<self.k[index]>>'}
"""


@pytest.fixture
def local(tmp_path, monkeypatch):
    """Return a function that writes files into a folder of the import path."""
    folder = tmp_path / "local"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)

    def write(**texts):
        for name, text in texts.items():
            path = folder / f"{name.replace('__', '/').replace('/init', '/__init__')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")

    write.folder = folder
    yield write
    for name in set(sys.modules) - before:
        if name.startswith(("tv_", "tablevault_local")):
            del sys.modules[name]


@pytest.fixture
def vault(tmp_path):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_table("t")
    return vault


def run(vault, code, **more):
    """Execute the next instance with this code.

    Returns its cells, and how many of them were computed.
    """
    vault.create_code_module("m", text=textwrap.dedent(code))
    vault.create_instance("t", copy=True, builders={"t_index": INDEX, "out": COLUMN} if not more.get("again") else None)
    process_id = vault.execute_instance("t")
    return vault.get_dataframe("t")[0]["out"].tolist(), vault.get_process(process_id).progress["out"].computed


IMPORTS = {
    "module": ("import tv_a\ndef f(x): return tv_a.times(x)", {"tv_a": "def times(x): return x * {}"}),
    "name": ("from tv_a import times\ndef f(x): return times(x)", {"tv_a": "def times(x): return x * {}"}),
    "in a function": ("def f(x):\n    import tv_a\n    return tv_a.times(x)", {"tv_a": "def times(x): return x * {}"}),
    "star": ("from tv_a import *\ndef f(x): return times(x)", {"tv_a": "def times(x): return x * {}"}),
    "side effect": (
        "import tv_b\nimport tv_a\ndef f(x): return tv_b.FACTOR[0] * x",
        {"tv_a": "import tv_b\ntv_b.FACTOR[0] = {}", "tv_b": "FACTOR = [1]"},
    ),
    "transitive": (
        "from tv_a import times\ndef f(x): return times(x)",
        {"tv_a": "import tv_b\ndef times(x): return x * tv_b.FACTOR", "tv_b": "FACTOR = {}"},
    ),
    "package": ("import tv_p\ndef f(x): return tv_p.times(x)", {"tv_p__init": "def times(x): return x * {}"}),
    "module of a package": (
        "import tv_p.a.b\ndef f(x): return tv_p.a.b.times(x)",
        {"tv_p__init": "", "tv_p__a__init": "", "tv_p__a__b": "def times(x): return x * {}"},
    ),
    "file of a package that is passed": (
        "from tv_p.a import b\ndef f(x): return b.times(x)",
        {"tv_p__init": "FACTOR = {}", "tv_p__a__init": "", "tv_p__a__b": "import tv_p\ndef times(x): return x * tv_p.FACTOR"},
    ),
    "relative": (
        "from tv_p import times\ndef f(x): return times(x)",
        {
            "tv_p__init": "from .a import times",
            "tv_p__a__init": "from .b import c as d\ndef times(x): return x * d.e()",
            "tv_p__a__b__init": "",
            "tv_p__a__b__c": "from ... import a\nfrom ...g import h\nfrom ...g import *\ndef e(): return h",
            "tv_p__g": "__all__ = ['h']\nh = {}",
        },
    ),
    "namespace package": (
        "import tv_n.a\nfrom tv_n import b\ndef f(x): return tv_n.a.times(x) * b.ONE",
        {"tv_n__a": "def times(x): return x * {}", "tv_n__b": "ONE = 1"},
    ),
    "by a name in the text": (
        "import importlib\ndef f(x): return importlib.import_module('tv_a').times(x)",
        {"tv_a": "def times(x): return x * {}"},
    ),
    "circular": (
        "import tv_a\ndef f(x): return tv_a.times(x)",
        {"tv_a": "import tv_b\ndef times(x): return tv_b.times(x)", "tv_b": "import tv_a\ndef times(x): return x * {}"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "files"), IMPORTS.values(), ids=IMPORTS)
def test_local_module_counts_and_runs_as_it_is_now(code, files, vault, local):
    local(**{name: text.replace("{}", "10") for name, text in files.items()})
    assert run(vault, code) == ([10, 20], 2)
    assert run(vault, code, again=True) == ([10, 20], 0)
    local(**{name: text.replace("{}", "7000") for name, text in files.items()})
    assert run(vault, code, again=True) == ([7000, 14000], 2)
    local(**{name: text.replace("{}", "10") for name, text in files.items()})
    assert run(vault, code, again=True) == ([10, 20], 2)


def test_module_that_this_interpreter_has_loaded_does_not_run_old_code(vault, local):
    local(tv_a="def times(x): return x * 10")
    import tv_a

    code = "from tv_a import times\ndef f(x): return times(x)"
    assert run(vault, code) == ([10, 20], 2)
    local(tv_a="def times(x): return x * 7000")
    assert run(vault, code, again=True) == ([7000, 14000], 2)
    assert tv_a.times(1) == 10
    assert sys.modules["tv_a"] is tv_a
    importlib.reload(tv_a)
    assert tv_a.times(1) == 7000
    local(tv_a="def times(x): return x * 9")
    assert run(vault, code, again=True) == ([9, 18], 2)


def test_local_module_that_only_another_function_uses_does_not_count(vault, local):
    local(tv_a="def times(x): return x * 10", tv_b="def other(): return 1")
    code = "import tv_a, tv_b\ndef f(x): return tv_a.times(x)\ndef g(): return tv_b.other()"
    assert run(vault, code)[1] == 2
    local(tv_b="def other(): return 2")
    assert run(vault, code, again=True)[1] == 0


def test_plan_and_provenance_name_local_modules_and_packages(vault, local, tmp_path):
    local(tv_p__init="from . import a", tv_p__a="import yaml\nFACTOR = 1  # one")
    code = "import pandas, tv_p\nimport json\ndef f(x): return x * tv_p.a.FACTOR if pandas else json"
    run(vault, code)
    [provenance] = (tmp_path / "vault" / "t").glob("base_*/provenance.json")
    [facts] = [item for item in json.loads(provenance.read_text())["builders"] if item["name"] == "out"]
    assert set(facts["packages"]) == {"pandas", "yaml"}
    assert facts["packages"]["pandas"] == importlib.import_module("pandas").__version__
    assert (provenance.parent / "code" / "local" / "tv_p" / "a.py").read_text() == "import yaml\nFACTOR = 1  # one"
    assert vault.verify().ok
    local(tv_p__a="import yaml\nFACTOR = 1  # still one")
    vault.create_instance("t", copy=True)
    reasons = vault.plan_instance("t", run_index=True).builders["out"].reasons
    assert reasons == ("local module 'tv_p.a' changed",)


def test_plan_names_versions_of_packages_that_changed(vault, local, monkeypatch):
    code = "import pandas\ndef f(x): return x"
    run(vault, code)
    vault.create_instance("t", copy=True)
    monkeypatch.setattr("tablevault.code.packages._version", {"pandas": "9.9"}.get)
    planned = vault.plan_instance("t", run_index=True).builders["out"]
    assert (planned.reused, planned.computed) == (2, 0)
    assert planned.reasons[0] == "nothing changed"
    assert planned.reasons[1].startswith("package `pandas` is 9.9, was ")


def test_installed_packages_and_python_itself_are_not_local():
    found = find_local_code(
        {"m": "import pandas, yaml, json, tablevault, tv_missing, os.path\nfrom collections import abc"}
    )
    assert found.modules == {}


def test_editable_install_is_local(vault, local):
    """Such a package is found by a finder of its own, not by the import path."""

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name != "tv_editable":
                return None
            spec = ModuleSpec(name, None, origin=str(local.folder / "elsewhere" / "code.py"))
            spec.has_location = True
            return spec

    local(elsewhere__code="def times(x): return x * 3")
    sys.meta_path.insert(0, Finder)
    try:
        code = "from tv_editable import times\ndef f(x): return times(x)"
        assert run(vault, code) == ([3, 6], 2)
        local(elsewhere__code="def times(x): return x * 4")
        assert run(vault, code, again=True) == ([4, 8], 2)
    finally:
        sys.meta_path.remove(Finder)


def test_two_versions_side_by_side_do_not_mix(tmp_path, local):
    """Each snapshot uses its own files, even for late imports."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "m.py").write_text("def f():\n    from tv_a import g\n    return g()\n")
    text = "def g():\n    import tv_b\n    return ({0}, tv_b.VALUE)"
    snapshots = []
    for number in (1, 2):
        local(tv_a=text.format(number), tv_b=f"VALUE = {number}")
        found = find_local_code({"m": (tmp_path / "code" / "m.py").read_text()})
        snapshots.append(CodeSnapshot(tmp_path / "code", local=found))
    functions = [snapshot.load_function("m", "f") for snapshot in snapshots]
    results = {}
    threads = [threading.Thread(target=lambda n=n: results.setdefault(n, functions[n % 2]())) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == {n: (n % 2 + 1, n % 2 + 1) for n in range(8)}


@pytest.mark.slow
def test_unchanged_module_of_a_script_is_the_scripts_own(tmp_path):
    """Its state is not loaded twice, and its objects can be pickled.

    The script's classes are those of the functions.
    """
    helper, script = tmp_path / "tv_helper.py", tmp_path / "script.py"
    helper.write_text("class Model:\n    loaded = 0\nModel.loaded += 1\ncalls = []\n")
    script.write_text(
        textwrap.dedent(f"""\
        import pickle
        import tv_helper
        from tablevault import TableVault
        vault = TableVault({str(tmp_path / "vault")!r}, author="ada", create=True)
        vault.create_table("t")
        vault.create_code_module("m", text='''
        import pickle, tv_helper
        def f(x):
            tv_helper.calls.append(x)
            return len(pickle.dumps(tv_helper.Model()))
        ''')
        vault.create_instance("t", builders={{"t_index": {INDEX!r}, "out": {COLUMN!r}}})
        vault.execute_instance("t")
        print(tv_helper.calls)
        """)
    )
    import os

    old = os.stat(helper).st_ctime
    while old > __import__("time").time() - 2.5:
        __import__("time").sleep(0.1)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1, 2]"


def test_object_of_a_changed_local_module_can_be_pickled(vault, local):
    local(tv_a="class A:\n    x = 1")
    import tv_a

    local(tv_a="class A:\n    x = 2")
    code = "import pickle, tv_a\ndef f(x): return pickle.loads(pickle.dumps(tv_a.A())).x"
    assert run(vault, code) == ([2, 2], 2)
    assert pickle.loads(pickle.dumps(tv_a.A())).x == 1


def test_error_of_a_local_module_is_the_users_own(vault, local):
    local(tv_a="raise ZeroDivisionError('mine')")
    with pytest.raises(ZeroDivisionError, match="mine"):
        run(vault, "import tv_a\ndef f(x): return x")
    local(tv_a="x = = 1")
    vault.delete_instance("TEMP_base", "t")
    with pytest.raises(SyntaxError, match="invalid syntax"):
        run(vault, "import tv_a\ndef f(x): return x")


def test_finished_builder_keeps_reused_cells_after_an_edit_while_paused(vault, tmp_path):
    """It never runs again in this execution.

    The next execution computes the cells that were reused under the old code.
    """
    code = "from pathlib import Path\ndef f(x): return x * {}\ndef g(x):\n    if Path({!r}).read_text(): raise OSError('down')\n    return x"
    switch = tmp_path / "switch"
    switch.write_text("")
    later = COLUMN.replace("[out]", "[z]").replace("function: f", "function: g")
    vault.create_code_module("m", text=code.format(10, str(switch)))
    vault.create_instance("t", builders={"t_index": INDEX, "out": COLUMN, "z": later})
    vault.execute_instance("t")
    switch.write_text("down")
    vault.create_instance("t", copy=True)
    vault.create_builder_file("t", "z", text=later + "untracked: []\ndtypes: {z: Int32}\n")
    with pytest.raises(OSError, match="down"):
        vault.execute_instance("t", process_id="night")
    switch.write_text("")
    vault.create_code_module("m", text=code.format(7, str(switch)))
    vault.execute_instance("t", process_id="night")
    progress = vault.get_process("night").progress["out"]
    assert (progress.computed, progress.reused) == (0, 2)
    assert vault.get_dataframe("t")[0]["out"].tolist() == [10, 20]
    vault.create_instance("t", copy=True)
    vault.execute_instance("t", process_id="next")
    assert vault.get_process("next").progress["out"].computed == 2
    assert vault.get_dataframe("t")[0]["out"].tolist() == [7, 14]
