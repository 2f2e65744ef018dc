"""Code that changes constants, classes and modules on import counts with what a function uses of them."""

from __future__ import annotations

import pytest

from tablevault.code.versions import CodeIndex

B = "T = {}\nX = 0\nclass K:\n    limit = 0\n"
CLASS = "class K:\n    limit = 0\n"
FILL = "def fill(k): k.limit = {0}\n"


def counts(text, **others):
    """Return whether a change of the placeholder changes the version of `f` in the module `a`."""
    before, after = (
        CodeIndex({name: each.replace("{0}", value) for name, each in {"a": text, "b": B, **others}.items()})
        for value in "12"
    )
    return before.version("a", "f") != after.version("a", "f")


@pytest.mark.parametrize(
    "text",
    [
        "T = {}\nT['x'] = {0}\ndef f(): return T",
        "T = {}\nfor x in range({0}): T[x] = x\ndef f(): return T",
        "T = {}\ndone = T.update(x={0})\ndef f(): return T",
        "T = {}\nclass Q:\n    T['x'] = {0}\ndef f(): return T",
        "T = [1, 2]\nclass Q:\n    del T[{0}]\ndef f(): return T",
        "T = []\nclass Q:\n    def put(x): T.append(x)\n    y = put({0})\ndef f(): return T",
        "T = []\ndef put(x):\n    T.append(x)\n    return int\ndef g(y: put({0})): ...\ndef f(): return T",
        "X = 0\ndef fill():\n    global X\n    X = {0}\ndone = fill()\ndef f(): return X",
        "X = 0\ndone = globals().update(X={0})\ndef f(): return X",
        f"{CLASS}K.limit = {{0}}\ndef f(): return K.limit",
        f"{CLASS}class Q:\n    K.limit = {{0}}\ndef f(): return K.limit",
        f"{CLASS}done = setattr(K, 'limit', {{0}})\ndef f(): return K.limit",
        f"{CLASS}L = K\ndone = setattr(L, 'limit', {{0}})\ndef f(): return K.limit",
        f"{CLASS}done = type.__setattr__(K, 'limit', {{0}})\ndef f(): return K.limit",
        f"{CLASS}{FILL}done = fill(K)\ndef f(): return K.limit",
        f"{CLASS}def fill(): K.limit = {{0}}\ndone = fill()\ndef f(): return K.limit",
        f"{CLASS}def fill(g):\n    K.limit = {{0}}\n    return g\n@fill\ndef g(): ...\ndef f(): return K.limit",
        "class K:\n    @classmethod\n    def put(cls, x): cls.limit = x\ndone = K.put({0})\ndef f(): return K.limit",
        f"{FILL}def g(): ...\ndone = fill(g)\ndef f(): return g.limit",
        "import os\ndef fill(): os.environ['A'] = '{0}'\ndone = fill()\ndef f(): return os.environ['A']",
        "import b\ndef fill(): b.X = {0}\ndone = fill()\ndef f(): return b.X",
        "import b\ndone = setattr(b, 'X', {0})\ndef f(): return b.X",
        "from b import K\ndone = setattr(K, 'limit', {0})\ndef f(): return K.limit",
    ],
)
def test_effects_on_used_objects_count(text):
    assert counts(text)


@pytest.mark.parametrize("imported", ["import c", "def load():\n    import c"])
@pytest.mark.parametrize("effect", ["b.T['x'] = {0}", "done = b.T.update(x={0})", "done = setattr(b.K, 'limit', {0})"])
def test_effects_of_an_imported_module_count(imported, effect):
    load = "load()" if "load" in imported else "..."
    assert counts(f"import b\n{imported}\ndef f():\n    {load}\n    return b.T, b.K", c=f"import b\n{effect}")


@pytest.mark.parametrize(
    "text",
    [
        # Instances of the same class.
        f"class P:\n    def __init__(self, x): self.x = x\n{CLASS}A = P(1)\nB = P({{0}})\ndef f(): return A",
        # Functions marked by the same decorator.
        "def mark(g):\n    g.marked = True\n    return g\n@mark\ndef q5(): return {0}\n@mark\ndef f(): return 1",
        # Other names, and attributes of other classes.
        f"{CLASS}class Q: ...\nX = 1\ndone = setattr(Q, 'limit', {{0}})\ndef f(): return K.limit, X",
        "X = 1\nY = 2\ndef fill():\n    global Y\n    Y = {0}\ndone = fill()\ndef f(): return X",
        # A class that is only called.
        f"{CLASS}def make(x):\n    k = K()\n    k.x = x\n    return k\nA = make({{0}})\ndef f(): return K.limit",
        "import os\nROOT = os.path.join('{0}')\ndef f(): return os.getcwd()",
    ],
)
def test_effects_on_other_objects_do_not_count(text):
    assert not counts(text)
