"""Places of definitions.

A definition is at the top level, on separate lines; each error names file and line.
"""

from __future__ import annotations

import re
from textwrap import dedent

import pytest

from tablevault import TableVault, tv_errors

HEAD = "from tablevault.define import ARTIFACT_FOLDER, Service, Table, env, ref, this\n\n"

WRONG = {
    "imported as a module": ("import tablevault.define", 1, "write 'from tablevault.define import"),
    "imported from the package": ("from tablevault import define", 1, "write 'from tablevault.define import"),
    "imported by a star": ("from tablevault.define import *", 1, "write 'from tablevault.define import"),
    "imported in a function": (
        "def f():\n    from tablevault.define import Table",
        2,
        "write 'from tablevault.define import",
    ),
    "table without a name": (HEAD + "Table('t')", 3, r"Table\(…\) is assigned to one name"),
    "table with two names": (HEAD + "a = b = Table('t')", 3, r"assign Table\(…\) to one name"),
    "table in a tuple": (HEAD + "a, b = Table('t'), 1", 3, r"Table\(…\) is assigned to one name"),
    "table in a block": (HEAD + "if True:\n    t = Table('t')", 4, r"Table\(…\) is assigned to one name"),
    "table in a function": (HEAD + "def f():\n    return Table('t')", 4, r"Table\(…\) is assigned to one name"),
    "table that is assigned twice": (HEAD + "t = Table('t')\nt = Table('u')", 4, "'t' is a Table already"),
    "two statements on a line": (HEAD + "t = Table('t'); x = 1", 3, "cannot share a line"),
    "two definitions on a line": (HEAD + "t = Table('t'); u = Table('u')", 3, "cannot share a line"),
    "use in a function": (HEAD + "t = Table('t')\ndef f():\n    return t.name", 5, "the Table 't' may be used in dec"),
    "use at the top level": (HEAD + "t = Table('t')\nprint(\n    t)", 5, "the Table 't' may be used in decorators"),
    "use as a default": (HEAD + "t = Table('t')\ndef f(x=t): ...", 4, "the Table 't' may be used in decorators"),
    "deleted": (HEAD + "t = Table('t')\ndel t", 4, "the Table 't' may be used in decorators"),
    "name that is bound again": (HEAD + "t = Table('t')\ndef t(): ...", 4, "the Table 't' may be used in decorators"),
    "decorator in a class": (
        HEAD + "t = Table('t')\nclass C:\n    @t.column()\n    def f(self): ...",
        5,
        "the Table 't' may be used in decorators of the file's top level",
    ),
    "decorator in a block": (
        HEAD + "t = Table('t')\nif True:\n    @t.column()\n    def f(): ...",
        5,
        "the Table 't' may be used in decorators of the file's top level",
    ),
    "decorator without a call": (HEAD + "t = Table('t')\n@t.column\ndef f(): ...", 4, r"write @t.column\(\) with"),
    "unknown decorator": (HEAD + "t = Table('t')\n@t.columns()\ndef f(): ...", 4, "has no decorator 'columns'"),
    "column that is no decorator": (HEAD + "t = Table('t')\nt.column('a')", 4, "this is not a decorator"),
    "rows_of as a decorator": (HEAD + "t = Table('t')\n@t.index(rows_of='u')\ndef f(): ...", 4, "without '@'"),
    "name of define in a function": (
        HEAD + "def f():\n    return ARTIFACT_FOLDER",
        4,
        "'ARTIFACT_FOLDER' of tablevault.define can only be used in decorators",
    ),
    "name of define in an annotation": (HEAD + "def f(x: Table): ...", 3, r"Table\(…\) is assigned to one name"),
    "function that is defined twice": (
        HEAD + "t = Table('t')\n@t.column()\ndef f(): ...\ndef f(): ...",
        6,
        r"'f' is the name of a decorated function \(line 5\)",
    ),
    "wrong limit of a service": (
        HEAD + "llm = Service('openai', calls_per_min=5)",
        3,
        "did you mean 'calls_per_minute'",
    ),
    "service that is something else in the end": (
        HEAD + "llm = Service('openai')\nglobals()['llm'] = 5",
        3,
        "'llm' is no longer a Service",
    ),
    "service with two limits": (
        HEAD + "a = Service('openai')\nb = Service('openai', max_concurrency=5)",
        4,
        "the service 'openai' is defined twice with different limits",
    ),
    "forbidden table": (HEAD + "t = Table('artifacts')", 3, "Forbidden Table Name: artifacts"),
    "one table twice": (HEAD + "t = Table('t')\nu = Table('T')", 4, r"there is a Table\('t'\) already"),
}


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    return TableVault(tmp_path_factory.mktemp("rules") / "vault", author="ada", create=True)


@pytest.mark.parametrize("name", WRONG)
def test_definition_in_a_wrong_place_is_refused_with_file_and_line(name, vault, save):
    text, line, message = WRONG[name]
    with pytest.raises(tv_errors.TVBuilderError, match=message) as caught:
        vault.plan_apply(save(text))
    assert str(caught.value).startswith(f"answers.py, line {line}: ")


def module_of(vault, save, text):
    """The module that a file becomes, without the comment."""
    file = save(text)
    vault.apply(file, overwrite=True)
    *lines, comment = vault.get_code_module_str("answers").split("\n")[:-1]
    assert re.fullmatch("# from answers.py, applied [0-9a-f]{32}", comment)
    return lines


KEPT = '''
    """Questions."""
    from __future__ import annotations

    import functools
    from tablevault.define import (
        Table,
        this as row,
    )

    t: Table = Table(
        "kept",
        description="""two
    lines""",
    )  # a comment
    STYLE = "short"


    @functools.cache
    @t.column(
        arguments={"word": STYLE},  # the style
    )
    @t.column("other", builder="twice", arguments={"word": row.a})
    @functools.cache
    def shout(word=""):
        t = word
        return [t for row in word]


    class Rows:
        """Rows."""

        def __call__(self): ...


    t.index(
        "a", rows_of="other",
    )


    if __name__ == "__main__":
        print(t)
'''


def test_definitions_become_empty_lines_and_all_other_lines_stay(vault, save):
    before = dedent(KEPT).lstrip("\n").split("\n")
    lines = module_of(vault, save, "\n".join(before))
    assert all(line in ("", before[number]) for number, line in enumerate(lines))
    gone = [
        line.strip() for number, line in enumerate(before) if line and (lines[number : number + 1] or [""]) != [line]
    ]
    assert gone == [
        "from tablevault.define import (",
        "Table,",
        "this as row,",
        ")",
        "t: Table = Table(",
        '"kept",',
        'description="""two',
        'lines""",',
        ")  # a comment",
        "@t.column(",
        'arguments={"word": STYLE},  # the style',
        ")",
        '@t.column("other", builder="twice", arguments={"word": row.a})',
        "t.index(",
        '"a", rows_of="other",',
        ")",
        'if __name__ == "__main__":',
        "print(t)",
    ]


def test_local_names_may_be_those_of_definitions(vault, save):
    text = "from tablevault.define import Table, ref, this\n\nlocal = Table('local')\n\n\n" + dedent(
        """
        @local.column()
        def words(ref, local=None):
            this = [ref for ref in (ref, local)]
            return len(this)


        @local.index("ref")
        def rows():
            return ["a"]
        """
    )
    assert "    this = [ref for ref in (ref, local)]" in module_of(vault, save, text)


def test_file_without_definitions_stays_as_it_is(vault, save):
    text = "import os\n\n\ndef here():\n    return os.getcwd()\n"
    assert module_of(vault, save, text) == text.split("\n")[:-1]


def test_block_of_a_script_is_not_part_of_the_module(vault, save):
    text = "x = 1\n\nif __name__ == '__main__':\n    raise SystemExit(x)\n"
    assert module_of(vault, save, text) == ["x = 1"]
