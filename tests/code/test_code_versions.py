import ast
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_builders import column_builder, index_builder
from tablevault.code.versions import CodeIndex, builder_version, describe_changes
from tablevault.errors import TVBuilderError

PROMPTS = '''\
"""Prompts."""
from __future__ import annotations
import re
import texts
from texts import clean as tidy, SUFFIX

LIMIT = 3
OTHER = 4
PATTERN = re.compile("a")


def q1(text: str, limit=LIMIT):
    """Ask the first question."""
    return tidy(texts.shorten(text, limit)) + SUFFIX


def q5(text):
    return ask(text, OTHER)


def ask(text, number):
    def inner():
        return PATTERN.sub("", text) * number
    return inner()
'''

TEXTS = '''\
"""Texts."""
SUFFIX = "."
WIDTH = 80
UNUSED = 1

def clean(text):
    return text.strip()

def shorten(text, limit):
    return Cutter().cut(text)[:limit]

class Cutter:
    """Cuts."""
    def cut(self, text):
        return text[:WIDTH]

def unrelated():
    return 1
'''

SOURCES = {"prompts": PROMPTS, "texts": TEXTS}


def version(function="q1", module="prompts", **sources):
    return CodeIndex({**SOURCES, **sources}).version(module, function)


def edited(source, old, new):
    assert old in source
    return source.replace(old, new)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("prompts", "LIMIT = 3", "LIMIT = 5"),
        ("prompts", "+ SUFFIX", "- SUFFIX"),
        ("prompts", "import clean as tidy", "import shorten as tidy"),
        ("prompts", "limit=LIMIT", "limit=4"),
        ("texts", 'SUFFIX = "."', 'SUFFIX = "!"'),
        ("texts", "WIDTH = 80", "WIDTH = 81"),
        ("texts", "text.strip()", "text.lstrip()"),
        ("texts", "Cutter().cut(text)", "Cutter().cut(text)[1:]"),
        ("texts", "return text[:WIDTH]", "return text"),
        ("prompts", "LIMIT = 3", "LIMIT = True"),
        ("prompts", "LIMIT = 3", "LIMIT = 3.0"),
        ("texts", '"""Cuts."""', '"""Cuts text."""'),
    ],
)
def test_change_of_reached_code_changes_the_version(module, old, new):
    assert version(**{module: edited(SOURCES[module], old, new)}) != version()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("prompts", "return ask(text, OTHER)", "return ask(text, OTHER + 1)"),
        ("prompts", "OTHER = 4", "OTHER = 5"),
        ("prompts", "* number", "+ number"),
        ("prompts", '"""Prompts."""', '"""Other."""'),
        ("prompts", '"""Ask the first question."""', "# a comment"),
        ("prompts", "def q5(text):", "def q5(text, *, more: str = 'x'):"),
        ("prompts", "import re\n", "import re, json\nfrom math import pi\n"),
        ("prompts", "LIMIT = 3\n", "LIMIT = (  # three\n\n    3)\n\n"),
        ("texts", "UNUSED = 1", "UNUSED = [2]"),
        ("texts", "return 1", "return 2"),
        ("texts", "def unrelated", "def renamed"),
    ],
)
def test_changing_anything_else_does_not(module, old, new):
    assert version(**{module: edited(SOURCES[module], old, new)}) == version()


def test_order_of_functions_is_layout():
    first, second = "def a(): return b()\n", "def b(): return 1\n"
    assert version("a", "m", m=first + second) == version("a", "m", m=second + first)


def test_order_of_assignments_is_not():
    text = "X = 1\n{}\ndef f(): return X\n"
    assert version("f", "m", m=text.format("X += 1\nX = X * 2")) != version(
        "f", "m", m=text.format("X = X * 2\nX += 1")
    )


def test_adding_a_module_changes_nothing():
    assert version(more="import prompts\ndef q1(): ...") == version()


def test_module_with_a_syntax_error_counts_only_if_it_is_reached():
    assert version(broken="def f(:") == version()
    with pytest.raises(TVBuilderError, match=r"^texts\.py, line 1: "):
        version(texts="def f(:")


def test_unknown_module_is_refused_with_the_nearest():
    with pytest.raises(TVBuilderError, match=r"there is no code module 'prompt'; did you mean 'prompts'\?"):
        version(module="prompt")


def counts(text, change, function="f", **others):
    """Return whether a change of a module changes the version of its function.

    The module is `m` unless another one is given.
    """
    before = {"m": text, **others}
    return version(function, "m", **before) != version(function, "m", **{**before, **change})


@pytest.mark.parametrize(
    "importing",
    [
        "import n\ndef f(): return n.g()",
        "import n as o\ndef f(): return o.g()",
        "from n import g\ndef f(): return g()",
        "from n import *\ndef f(): return g()",
        "from . import n\ndef f(): return n.g()",
        "from .n import g\ndef f(): return g()",
        "def f():\n    import n\n    return n.g()",
        "def f():\n    import n as o\n    return o.g()",
        "def f():\n    from n import g\n    return g()",
        "import n\ndef f(): return getattr(n, 'g')()",
        "import n\ndef f(): return helper(n)\ndef helper(module): return module.g()",
        "from importlib import import_module\ndef f(): return import_module('n').g()",
        "import importlib\ndef f(): return importlib.import_module('n').g()",
        "def f(): return __import__('n').g()",
        "import n\ndef f(): return eval('n.g()')",
        "def f():\n    exec('import n')",
        "import sys, n\ndef f(): return sys.modules[n.__name__].g()",
        "if True:\n    from n import g\ndef f(): return g()",
        "try:\n    import n\nexcept ImportError:\n    n = None\ndef f(): return n.g()",
        "from n import g as f",
        "import n\nf = n.g",
    ],
)
def test_other_modules_are_reached_however_they_are_imported(importing):
    assert counts(importing, {"n": "def g(): return 2"}, n="def g(): return 1")


@pytest.mark.parametrize(
    "importing",
    [
        "import n\ndef f(): return n.g()",
        "from n import g\ndef f(): return g()",
        "def f():\n    import n\n    return n.g()",
    ],
)
def test_only_used_parts_of_another_module_count(importing):
    n = "def g(): return 1\ndef h(): return 1"
    assert not counts(importing, {"n": "def g(): return 1\ndef h(): return 2"}, n=n)


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("R = {}\nR['x'] = 1\ndef f(): return R", "= 1", "= 2"),
        ("R = []\nfor i in range(3): R.append(i)\ndef f(): return R", "range(3)", "range(4)"),
        ("if True: X = 1\nelse: X = 2\ndef f(): return X", "X = 1", "X = 3"),
        ("X = 1\nX += 1\ndef f(): return X", "+= 1", "+= 2"),
        ("R = []\nS = R\nS += [1]\ndef f(): return R", "+= [1]", "+= [2]"),
        ("R = {}\nY = R.setdefault('a', 1)\ndef f(): return R", "'a', 1", "'a', 2"),
        ("R = {}\ndef add(k): R[k] = 1\nY = add('a')\ndef f(): return R", "('a')", "('b')"),
        (
            "R = {}\ndef reg(g): R[g.__name__] = g\n@reg\ndef a(): return 1\ndef f(): return R['a']()",
            "return 1",
            "return 2",
        ),
        ("R = {}\ndef reg(g): R[1] = g\ndef a(x=reg(lambda: 1)): ...\ndef f(): return R", "lambda: 1", "lambda: 2"),
        (
            "from functools import singledispatch\n@singledispatch\ndef show(x): ...\n@show.register\n"
            "def _(x: int): return 1\ndef f(x): return show(x)",
            "return 1",
            "return 2",
        ),
        (
            "class Base:\n    all = []\n    def __init_subclass__(cls): Base.all.append(cls)\n"
            "class A(Base):\n    x = 1\ndef f(): return Base.all",
            "x = 1",
            "x = 2",
        ),
        ("class Base: ...\nclass A(Base):\n    x = 1\ndef f(): return Base.__subclasses__()", "x = 1", "x = 2"),
        ("class K: ...\nsetattr(K, 'v', 1)\ndef f(): return K.v", "'v', 1", "'v', 2"),
        ("A = []\ndef put(held): held.append(1)\nput(A)\ndef f(): return A", "append(1)", "append(2)"),
        ("A = 0\ndef init():\n    global A\n    A = 1\ninit()\ndef f(): return A", "A = 1", "A = 2"),
        ("import json\njson.extra = 1\ndef f():\n    import json as j\n    return j.extra", "= 1", "= 2"),
        ("import os\nos.environ['A'] = '1'\ndef f(): return os.environ['A']", "'1'", "'2'"),
        ("import random\nrandom.seed(1)\nV = random.random()\ndef f(): return V", "seed(1)", "seed(2)"),
        ("import abc\nclass A(abc.ABC): ...\nclass B: ...\nA.register(B)\ndef f(): return A", "(B)", "(int)"),
        ("class A:\n    locals()['z'] = 1\ndef f(): return A.z", "= 1", "= 2"),
        ("A = 1\ndef f(): return '{A}'.format(**globals())", "A = 1", "A = 2"),
        ("A = 1\ndef f(): return eval(chr(65))", "A = 1", "A = 2"),
        ("import sys\nA = 1\ndef f(): return getattr(sys.modules[__name__], chr(65))", "A = 1", "A = 2"),
        ("A = 1\ndef f():\n    import m\n    return m.A", "A = 1", "A = 2"),
        ("def f(): return str(1)", "1", "1.0"),
        ("def f(): return str(1)", "1", "True"),
        ("def f(): return str(0.0)", "0.0", "-0.0"),
        ("def f(): return list({'a': 1, 'b': 2})", "'a': 1, 'b': 2", "'b': 2, 'a': 1"),
        ("def g(a: int): ...\ndef f(): return g.__annotations__", "def g", "from __future__ import annotations\ndef g"),
        ("class A:\n    x = 1\ndef f(): return A.x", "x = 1", "x = 2"),
        ("def g(): return 1\ndef f(): return globals()['g']()", "return 1", "return 2"),
        ("def g(): return 1\ndef f(): return f.__globals__['g']()", "return 1", "return 2"),
        ("def __getattr__(name): return 1\ndef h(): ...\nfrom m2 import y\ndef f(): return y", "y", "z"),
        ("def d(g): return g\n@d\ndef f(): return 1", "return g", "return None"),
        ("f = (lambda: 1)", "1", "2"),
        (
            "def g(): return 1\ndef f():\n    def inner(): return [g() for _ in range(2)]\n    return inner()",
            "return 1",
            "return 2",
        ),
        ("x = 1\ndef f():\n    global x\n    x += 1", "x = 1", "x = 2"),
        ("def f(): return 1\ndef f(): return 2", "return 1", "return 3"),
        ("X = 0x" + "9" * 6000 + "\ndef f(): return X", "0x9", "0x8"),
        ("def f(): return None", "None", "..."),
        ("def f(): return 'a'", "'a'", "b'a'"),
        ("def f(): return '\\ud800'", "ud800", "ud801"),
        ("def f(x):\n    match x:\n        case None: return 1", "None", "True"),
    ],
)
def test_import_time_code_counts_if_it_touches_reached_names(text, old, new):
    assert counts(text, {"m": edited(text, old, new)})


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("def d(g): return g\nN = 3\n@d\ndef f(): return N\n@d\ndef q5(): return 1", "return 1", "return 2"),
        (
            "class P:\n    def __init__(self, t): self.t = t\nA = P('a')\nB = P('b')\ndef f(): return A",
            "P('b')",
            "P('c')",
        ),
        (
            "class P: ...\nclass A(P):\n    x = 1\nclass B(P):\n    x = 1\ndef f(): return A",
            "B(P):\n    x = 1",
            "B(P):\n    x = 2",
        ),
        ("import logging\nlog = logging.getLogger()\nX = log.name\ndef f(): return log", "log.name", "log.level"),
        ("def f(): return 1\nif __name__ == '__main__':\n    f()", "    f()", "    print(f())"),
        ("A = 'x'\nB = A + 'y'\ndef f(): return A", "'y'", "'z'"),
        ("def f(result): return result\ndef result(): return 1", "return 1", "return 2"),
        (
            "class A:\n    '''Doc.'''\n    def m(self):\n        'doc'\n        return 1\ndef f(): return A",
            "'doc'",
            "'other'",
        ),
        ("def f(): return u'a'", "u'a'", "'a'"),
        ("def f(): return 0x10", "0x10", "16"),
    ],
)
def test_import_time_code_does_not_count_if_it_touches_nothing_reached(text, old, new):
    assert not counts(text, {"m": edited(text, old, new)})


def test_import_for_its_side_effects_counts():
    patches = "import m\nm.LIMIT = 2"
    assert counts(
        "import patches\nLIMIT = 1\ndef f(): return LIMIT", {"patches": edited(patches, "2", "3")}, patches=patches
    )


def test_registry_that_another_imported_module_fills_counts():
    plugins = "from registry import register\n@register\ndef a(): return 1"
    registry = "R = {}\ndef register(g): R[g.__name__] = g\n"
    text = "import plugins\nfrom registry import R\ndef f(): return R['a']()"
    change = {"plugins": edited(plugins, "return 1", "return 2")}
    assert counts(text, change, plugins=plugins, registry=registry)


def test_name_that_is_not_in_the_module_takes_the_whole_module():
    text = "exec('def f(): return g()')\ndef g(): return 1"
    assert counts(text, {"m": edited(text, "return 1", "return 2")})


def test_deeply_nested_expressions_have_versions():
    text = "def f(): return " + " + ".join(["'a'"] * 1500) + "\nX = " + " + ".join(["1"] * 1500)
    assert counts(text, {"m": edited(text, "def f(): return 'a'", "def f(): return 'b'")})


def test_reached_names_are_listed_by_module():
    assert CodeIndex(SOURCES).reaches("prompts", "q1") == {
        "prompts": ("LIMIT", "SUFFIX", "module level", "q1", "texts", "tidy"),
        "texts": ("Cutter", "SUFFIX", "WIDTH", "clean", "shorten"),
    }


def test_changes_are_explained_by_module_and_name():
    before = CodeIndex(SOURCES).parts("prompts", "q1")
    texts = edited(edited(TEXTS, "text.strip()", "text"), "WIDTH = 80", "WIDTH = 9")
    after = CodeIndex({**SOURCES, "texts": texts}).parts("prompts", "q1")
    assert describe_changes(before, after) == ("code of 'texts.py' changed: WIDTH, clean",)
    assert describe_changes(before, before) == ()


def test_built_in_functions_have_versions_of_their_own():
    index = CodeIndex.of_built_ins()
    assert index.version("random_string", "random_row_string") != index.version("random_string", "random_gen_string")
    assert "_random_row" in index.reaches("random_string", "random_row_string")["random_string"]


def test_version_of_a_builder_covers_all_fields_that_affect_cells():
    def of(code="1", **fields):
        return builder_version(column_builder("b", changed_columns=["x", "y"], **fields), code)

    same = [of(n_threads=4), of(arguments={"k": 1}, untracked=["k"]), of(dtypes={})]
    other = [
        of("2"),
        of(dtypes={"x": "string"}),
        of(return_type="row-wise"),
        of(python_function="g"),
        of(code_module="n"),
    ]
    assert set(same) == {of()}
    assert len({of(), *other, of(is_custom=False)}) == 7
    assert builder_version(column_builder("b", changed_columns=["y", "x"]), "1") != of()
    assert builder_version(index_builder(), "1") != builder_version(column_builder("b", changed_columns=["title"]), "1")


NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=3).map(lambda text: f"extra_{text}")
LINES = st.sampled_from(["", "# a comment", "   ", "\t# more"])


@st.composite
def relaid(draw, source):
    """Draw equivalent code.

    It has other comments, blank lines and docstrings of functions, and unreachable functions.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and draw(st.booleans()) and ast.get_docstring(node) is None:
            node.body.insert(0, ast.Expr(ast.Constant(draw(st.text(string.printable, max_size=5)))))
    for name in draw(st.lists(NAMES, max_size=2, unique=True)):
        extra = ast.parse(f"def {name}(text): return {name}2 + text\n{name}2 = {draw(st.integers())}").body
        position = draw(st.integers(2, len(tree.body)))
        tree.body[position:position] = extra
    lines = ast.unparse(tree).splitlines()
    return "\n".join(part for line in lines for part in [*draw(st.lists(LINES, max_size=1)), line])


@settings(max_examples=25, deadline=None)
@given(prompts=relaid(PROMPTS), texts=relaid(TEXTS))
def test_layout_docstrings_and_unrelated_functions_never_change_a_version(prompts, texts):
    assert version(prompts=prompts, texts=texts) == version()


CONSTANTS = [
    (module, position)
    for module, source in SOURCES.items()
    for position, node in enumerate(ast.walk(ast.parse(source)))
    if isinstance(node, ast.Constant) and node.value in (3, ".", 80)
]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(CONSTANTS), st.one_of(st.integers(100), st.text(min_size=2), st.floats(), st.none()))
def test_changed_constant_in_reached_code_changes_the_version(place, value):
    module, position = place
    tree = ast.parse(SOURCES[module])
    list(ast.walk(tree))[position].value = value
    assert version(**{module: ast.unparse(tree)}) != version()
