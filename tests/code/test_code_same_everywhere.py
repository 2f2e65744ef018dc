"""Code versions do not depend on the interpreter.

An upgrade of Python recomputes nothing.
"""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

import pytest
from compare_interpreters import differences, source_files

from tablevault.code.syntax import split_module
from tablevault.code.syntax_text import syntax_text

CONSTRUCTS = """
import typing as t
x, w, y, z = 1, 2, 3, 4
f"{x:>{w}}", f"{x}", f"{x:}", f"{x!r:^{w}.{w}}", f"{x=}", f"a{{b}}{x}" f"c" "d", f"", f"{'a'}{'b'}"
f"{x:%Y-%m-%d}", f"{x:{w}{w}}", f"{x:{w}}", f"{x:a{w}b}", f'''{
    x
}''', rf"\\d{x}", F"{f'{x}'}"
u"a", "a" "b", b"a" b"b", "\\N{BULLET}", "é", "\\U0001FAE8", "\\ud800", 1_000, 0x10, 1e400, 1j, -0.0, ..., None, 10 ** 5
lambda a, /, b=1, *c, d, e=2, **g: (yield)
try:
    pass
except* (ValueError, TypeError) as error:
    raise
match x:
    case {"a": [1, *rest], **more} if y: pass
    case t.Any(a=-1, b=1 + 2j) as whole: pass
    case True | "x" | (1 | 2): pass
with (open(x) as a, open(y) as b): pass
[a := 1, *x, *(i for i in x if i if i), {**x, 1: 2}, {i: i for i in x}]
async def run():
    async with x as a, y: [i async for i in x]; await x
@t.final
class A(t.Generic[x], metaclass=y):
    '''Doc.

        indented
    '''
    a: int = 1
    b: "str"
    __slots__ = ()
    def m(self, *args: *x) -> "A":
        'doc'
        nonlocal_ = __class__
        return super().m()
if True: x = 2
while 0: break
for x in y: continue
else: pass
del x, (y, z)
global q
assert x, y
x: (int) = 1
(x): int
x[1:2, ::3, *y] @= z
print(x if y else z, not x, x is not y, x not in y, x < y <= z, ~x // y ** -z)
"""


def everything(text):
    return [vars(statement) for statement in split_module("m", text, ["m"])]


def test_empty_pieces_of_an_f_string_do_not_count():
    """Some releases of Python 3.12 write them down."""
    plain = ast.parse('f"{x:>{w}}"')
    spec = plain.body[0].value.values[0].format_spec
    cut = ast.parse('f"{x:>{w}}"')
    cut.body[0].value.values[0].format_spec.values = [
        ast.Constant(""),
        ast.Constant(">"),
        ast.Constant(""),
        spec.values[1],
        ast.Constant(""),
    ]
    assert syntax_text(cut) == syntax_text(plain)
    assert syntax_text(ast.parse('f"{x:<{w}}"')) != syntax_text(plain)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ('"a" f"{x}" "b" "c"', 'f"a{x}bc"'),
        ("u'a'", "'a'"),
        ("except_ = (ValueError)", "except_ = ValueError"),
        ("def f(): return 1", "def f():\n\n  return  1  # one"),
        ("'\\U0001FAE8'", "'\U0001fae8'"),
        ("with (a as b): ...", "with a as b: ..."),
    ],
)
def test_same_code_has_the_same_text(left, right):
    assert syntax_text(ast.parse(left)) == syntax_text(ast.parse(right))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1", "1.0"),
        ("1", "True"),
        ("'1'", "1"),
        ("'a'", "b'a'"),
        ("0.0", "-0.0"),
        ("f'{x}'", "f'{x!s}'"),
        ("f'{x:}'", "f'{x:a}'"),
        ("'\\ud800'", "'?'"),
        ("x = None", "x = ..."),
        ("try: a\nexcept* B: c", "try: a\nexcept B: c"),
        ("match a:\n case None: b", "match a:\n case True: b"),
        ("def f(a, /): ...", "def f(a): ..."),
        ("return_: int", "return_: int = 1"),
    ],
)
def test_other_code_has_another_text(left, right):
    assert syntax_text(ast.parse(left)) != syntax_text(ast.parse(right))


def test_texts_are_of_characters_that_every_version_writes_alike():
    assert syntax_text(ast.parse("'é\U0001fae8'")).isascii()


def interpreters():
    """The interpreters of other versions that are found here, of the newest patch release each."""
    found = {}
    for minor in range(11, 16):
        for path in (
            shutil.which(f"python3.{minor}"),
            *sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")),
        ):
            if path is not None and minor != sys.version_info.minor:
                found[minor] = str(path)
    return list(found.values())


@pytest.mark.slow
@pytest.mark.skipif(not interpreters(), reason="there is no other version of Python here")
def test_code_counts_the_same_under_every_interpreter(tmp_path):
    constructs = tmp_path / "constructs.py"
    constructs.write_text(CONSTRUCTS, encoding="utf-8")
    files = [constructs, *list(source_files())[::60]]
    count, found = differences([sys.executable, *interpreters()], files)
    assert found == []
    assert count > 1000


def test_every_construct_is_taken_apart():
    assert len(everything(CONSTRUCTS)) > 20
