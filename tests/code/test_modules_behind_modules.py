"""Modules that code reaches through the imports of other modules count like those that it imports itself."""

from __future__ import annotations

import pytest

from tablevault import TableVault
from tablevault.code.versions import CodeIndex

C = "X = {0}\nUNUSED = {1}\ndef g(): return {0}\nclass Base:\n    LIMIT = {0}\n"


def counts(a, b, *, x=2, unused=0, **others):
    """Return whether a change of the module `c` changes the version of `f` in `a`, which only `b` connects with it."""
    before, after = (
        CodeIndex({"a": a, "b": b, "c": text, **others}).version("a", "f")
        for text in (C.format(1, 0), C.format(x, unused))
    )
    return before != after


IMPORTED = {
    "call": ("import b\ndef f(): return b.c.g()", "import c"),
    "constant": ("import b\ndef f(): return b.c.X", "from . import c"),
    "alias": ("import b as c2\ndef f(): return c2.c.g()", "import c"),
    "alias behind": ("import b\ndef f(): return b.d.X", "import c as d"),
    "from": ("from b import c\ndef f(): return c.X", "import c"),
    "from with alias": ("from b import d as e\ndef f(): return e.g()", "import c as d"),
    "in a function": ("def f():\n    from b import c\n    return c.X", "import c"),
    "in a block": ("if True:\n    import b\ndef f(): return b.c.X", "if True:\n    import c"),
    "alternatives": ("import b\ndef f(): return b.m.X", "if 1:\n    import c as m\nelse:\n    import d as m"),
    "re-exported": ("import b\ndef f(): return b.k()", "from c import g as k"),
    "behind two": ("import b\ndef f(): return b.d.c.X", "import d"),
    "re-exported twice": ("from b import e\ndef f(): return e.X", "from d import c as e"),
    "circular": ("import b\ndef f(): return b.h()", "import a, c\ndef h(): return a.b.c.X"),
}


@pytest.mark.parametrize(("a", "b"), IMPORTED.values(), ids=IMPORTED)
def test_module_behind_a_module_counts_by_its_used_parts(a, b):
    assert counts(a, b, d="import c")
    assert not counts(a, b, x=1, unused=1, d="import c")


WHOLE = {
    "star": ("from b import *\ndef f(): return c.X", "import c"),
    "local name": ("import b\ndef f():\n    d = b.c\n    return d.X", "import c"),
    "global name": ("import b\nd = b\ndef f(): return d.c.X", "import c"),
    "argument": ("import b\ndef f(): return k(b.c)\ndef k(m): return m.X", "import c"),
    "argument that holds it": ("import b\ndef f(): return k(b)\ndef k(m): return m.c.X", "import c"),
    "default": ("import b\ndef f(m=b.c): return m.X", "import c"),
    "getattr": ("import b\ndef f(): return getattr(b, 'c').X", "import c"),
    "namespace": ("import b\ndef f(): return b.__dict__['c'].X", "import c"),
    "namespace behind": ("import b\ndef f(): return vars(b.c)['X']", "import c"),
    "globals": ("from b import h\ndef f(): return h()", "import c\ndef h(): return globals()['c'].X"),
    "sys.modules": ("import b\ndef f(): return 1\nb.h()", "from sys import modules\ndef h(): return modules"),
    "name in a class": ("import b\ndef f(): return b.K.m.X", "class K:\n    import c as m"),
    "name from a function": (
        "import b\ndef f():\n    b.load()\n    return b.c.X",
        "def load():\n    global c\n    import c",
    ),
    "annotation": ("import b\ndef f(x: 'b.c.Base'): return x", "import c"),
}


@pytest.mark.parametrize(("a", "b"), WHOLE.values(), ids=WHOLE)
def test_module_behind_a_module_counts_however_it_is_passed_on(a, b):
    assert counts(a, b)


def test_module_that_is_only_imported_behind_a_module_does_not_count():
    assert not counts("import b\ndef f(): return b.h()", "import c\ndef h(): return 1\ndef unused(): return c.X")


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
code_module: a
is_custom: true
return_type: row-wise
arguments: {x: '<<self.k[index]>>'}
"""


def test_cells_are_computed_again_after_a_change_behind_two_modules(tmp_path, monkeypatch):
    (tmp_path / "tv_behind.py").write_text("FACTOR = 10")
    monkeypatch.syspath_prepend(str(tmp_path))
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    for name, text in {
        "a": "import b\ndef f(x): return x * b.c.FACTOR + b.tv_behind.FACTOR",
        "b": "import c\nimport tv_behind",
        "c": "FACTOR = 1",
    }.items():
        vault.create_code_module(name, text=text)
    vault.create_table("t")
    vault.create_instance("t", builders={"t_index": INDEX, "out": COLUMN})

    def cells():
        computed = vault.get_process(vault.execute_instance("t")).progress["out"].computed
        values = vault.get_dataframe("t")[0]["out"].tolist()
        vault.create_instance("t", copy=True)
        return values, computed

    assert cells() == ([11, 12], 2)
    assert cells() == ([11, 12], 0)
    vault.create_code_module("c", text="FACTOR = 2")
    assert cells() == ([12, 14], 2)
    (tmp_path / "tv_behind.py").write_text("FACTOR = 7000")
    assert cells() == ([7002, 7004], 2)
