"""Code that cells depend on without running it.

It is names in text annotations, and docstrings that a program can read.
"""

from __future__ import annotations

import pytest

from tablevault.code.versions import CodeIndex, describe_changes


def counts(text, old, new, function="f", **others):
    """Whether an edit of a module `m` counts for a function of it."""
    assert old in text
    before, after = (CodeIndex({"m": module, **others}) for module in (text, text.replace(old, new, 1)))
    return before.version("m", function) != after.version("m", function)


FUTURE = "from __future__ import annotations\n"

READ_THROUGH_TEXT = [
    (FUTURE + "Label = 1\nclass Out(Base):\n    label: Label\ndef f(): return Out", "Label = 1", "Label = 2"),
    (FUTURE + "Item = 1\ndef f(x: Item): return x", "Item = 1", "Item = 2"),
    (FUTURE + "Item = 1\ndef f(x) -> Item: return x", "Item = 1", "Item = 2"),
    ("class Out(Base):\n    items: 'list[Item]'\nclass Item: a = 1\ndef f(): return Out", "a = 1", "a = 2"),
    ("class Out(Base):\n    items: list['Item']\nclass Item: a = 1\ndef f(): return Out", "a = 1", "a = 2"),
    ("class Out(Base):\n    items: 'list[\"Item\"] | None'\nclass Item: a = 1\ndef f(): return Out", "a = 1", "a = 2"),
    (FUTURE + "def check(n): return 1\nclass Out(Base):\n    n: Annotated[int, After(check)]\ndef f(): return Out", "return 1", "return 2"),
    ("def f(x: 'Item'): return hints(f)\nclass Item: a = 1", "a = 1", "a = 2"),
    ("def f(*args: 'Item', **more: int): return 1\nclass Item: a = 1", "a = 1", "a = 2"),
    ("def f(x): return cast('Item', x)\nclass Item: a = 1", "a = 1", "a = 2"),
    ("import typing\ndef f(x): return typing.cast('list[Item]', x)\nclass Item: a = 1", "a = 1", "a = 2"),
    ("T = TypeVar('T', bound='Item')\nclass Item: a = 1\ndef f(x: T): return x", "a = 1", "a = 2"),
    ("Items = list['Item']\nclass Item: a = 1\ndef f(): return Items", "a = 1", "a = 2"),
    ("class Out(Base['Item']): ...\nclass Item: a = 1\ndef f(): return Out", "a = 1", "a = 2"),
    ("Out = create_model('Out', item=('Item', 3))\nclass Item: a = 1\ndef f(): return Out", "a = 1", "a = 2"),
    ("P = NamedTuple('P', [('x', 'Item')])\nclass Item: a = 1\ndef f(): return P", "a = 1", "a = 2"),
    ("D = TypedDict('D', {'x': 'Item'})\nclass Item: a = 1\ndef f(): return D", "a = 1", "a = 2"),
    ("def f():\n    class Out(Base):\n        x: 'Item'\n    return Out\nclass Item: a = 1", "a = 1", "a = 2"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "old", "new"), READ_THROUGH_TEXT)
def test_name_in_an_annotation_that_is_text_counts(text, old, new):
    assert counts(text, old, new)


def test_name_of_another_module_in_an_annotation_counts():
    text = "import texts\nclass Out(Base):\n    x: 'texts.Item'\ndef f(): return Out"
    versions = [
        CodeIndex({"m": text, "texts": f"class Item: a = {value}\nother = {other}"}).version("m", "f")
        for value, other in [(1, 1), (2, 1), (1, 2)]
    ]
    assert versions[0] != versions[1]
    assert versions[0] == versions[2]


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("def f(row): return row['name']\ndef name(): return 1", "return 1", "return 2"),
        ("def f(x: Literal['name']): return x\ndef name(): return 1", "return 1", "return 2"),
        ("def f(x: 'not a type'): return x\ndef a(): return 1", "return 1", "return 2"),
        (FUTURE + "def f(x: int): return x\nclass Item: a = 1", "a = 1", "a = 2"),
    ],
)
def test_text_that_names_nothing_does_not_count(text, old, new):
    assert not counts(text, old, new)


DOCUMENTED = [
    ("class A(Base):\n    '''Doc.'''\n    x: int\ndef f(): return A.model_json_schema()", True),
    ("class A:\n    class B:\n        '''Doc.'''\ndef f(): return A", True),
    ("def f():\n    class A(Base):\n        '''Doc.'''\n    return A", True),
    ("@tool\ndef search(q):\n    '''Doc.'''\ndef f(): return search('x')", True),
    ("@tool\ndef f(q):\n    '''Doc.'''", True),
    ("class A:\n    @tool\n    def m(self):\n        '''Doc.'''\ndef f(): return A().m()", True),
    ("def f():\n    @tool\n    def search(q):\n        '''Doc.'''\n    return search('x')", True),
    ("def search(q):\n    '''Doc.'''\ndef f(): return agent(tools=[search])", True),
    ("def search(q):\n    '''Doc.'''\nTOOLS = {'s': search}\ndef f(): return agent(TOOLS)", True),
    ("def f():\n    def search(q):\n        '''Doc.'''\n    return agent(search)", True),
    ("class A:\n    def m(self):\n        '''Doc.'''\ndef f(): return agent(A().m)", True),
    ("def g():\n    '''Doc.'''\ndef f(): return g.__doc__ + g()", True),
    ("import inspect\ndef g():\n    '''Doc.'''\ndef f(): return inspect.getdoc(globals()['g']) + g()", True),
    ("from inspect import getdoc\ndef g():\n    '''Doc.'''\ndef f(): return g() + getdoc(h())", True),
    ("'''Doc.'''\ndef f(): return __doc__", True),
    ("'''Doc.'''\nimport inspect, sys\ndef f(): return inspect.getdoc(sys.modules[__name__])", True),
    ("'''Doc.'''\ndef f(): return 1", False),
    ("def f():\n    '''Doc.'''\n    return 1", False),
    ("def g():\n    '''Doc.'''\ndef f(): return g()", False),
    ("class A:\n    def m(self):\n        '''Doc.'''\ndef f(): return A().m()", False),
    ("class A:\n    '''Doc.'''\ndef f(): return 1", False),
    ("def g():\n    '''Doc.'''\n    return 1\ndef h(): return g.__doc__\ndef f(): return g()", False),
]


@pytest.mark.parametrize(("text", "read"), DOCUMENTED)
def test_docstring_counts_where_a_program_can_read_it(text, read):
    assert counts(text, "Doc.", "Other.") is read


def test_docstring_of_a_renamed_import_counts_where_it_is_read():
    text = "from texts import search as tool\ndef f(): return agent(tool)\ndef g(): return tool(1)"
    first, second = (CodeIndex({"m": text, "texts": f"def search(q):\n    '''{doc}.'''"}) for doc in ("Doc", "Other"))
    assert first.version("m", "f") != second.version("m", "f")
    assert first.version("m", "g") == second.version("m", "g")


def test_comments_count_where_the_source_is_read():
    text = "import inspect\ndef g(): return 1  # one\ndef f(): return inspect.getsource(g)\ndef h(): return g()"
    assert counts(text, "# one", "# 1")
    assert not counts(text, "# one", "# 1", function="h")


def test_changes_of_read_code_are_reported_by_name():
    text = "'''Doc.'''\nclass A:\n    '''Doc.'''\ndef f(): return A, __doc__"
    before, after = (CodeIndex({"m": module}).parts("m", "f") for module in (text, text.replace("Doc.", "Other.")))
    assert describe_changes(before, after) == ("code of 'm.py' changed: A, __doc__",)


SCOPES = [
    ("def f(x): return [y for y in x]", set()),
    ("def f(): return [y for x in z if (y := x)]", {"z"}),
    ("def f():\n    x = 1\n    return lambda y=w: x + y + v", {"w", "v"}),
    ("def f():\n    global g\n    g = 1", {"g"}),
    ("def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = y\n    return g", {"y"}),
    ("class f:\n    x = x\n    def m(self): return x", {"x"}),
    ("class f:\n    y = 1\n    def m(self): return y", {"y"}),
    ("def f(a, *b, c=d, **e): return a, b, c, e", {"d"}),
    ("def f():\n    try: ...\n    except E as e: return e", {"E"}),
    ("def f():\n    import a.b, c as d\n    from e import g as h\n    return a, d, h", set()),
    ("def f(p):\n    match p:\n        case [a, *b]: return a, b\n        case {'k': c, **d}: return c, d\n        case Q(x=e) as g: return e, g", {"Q"}),
    ("def f():\n    for a in b: ...\n    with c as d: return a, d", {"b", "c"}),
    ("def f():\n    x: Local = 1\n    return x", set()),
    ("async def f(x): return [y async for y in x(z)]", {"z"}),
    ("def f(): return __debug__ and g if False else h", {"__debug__", "g", "h"}),
    ("def f():\n    assert check(1)", {"check"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "names"), SCOPES)
def test_names_that_are_looked_up_in_the_module_are_found(text, names):
    import ast

    from tablevault.code.scopes import global_names

    assert global_names(ast.parse(text).body) == {*names, "f"}
