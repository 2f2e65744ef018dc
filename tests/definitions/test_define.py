"""Plain values imported by definitions files, which need no vault."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import tablevault
from tablevault import tv_errors
from tablevault.builders.fields import FIELD_NAMES
from tablevault.define import ATTEMPT, ColumnFields, IndexFields, Service, Table, env, ref, this
from tablevault.definitions.yaml_layout import ordered

SOURCE = str(Path(tablevault.__file__).parents[1])


def test_decorated_functions_and_classes_stay_as_they_are():
    table = Table("t")

    def shout(word):
        return word.upper()

    async def wait(word):
        return word

    class Model:
        def __call__(self, word):
            return len(word)

    kept = [table.column(retry=3)(shout), table.index("a")(wait), table.column("b", "c")(Model)]
    assert kept[0] is shout
    assert kept[1] is wait
    assert kept[2] is Model
    assert (shout("a"), asyncio.run(wait("b")), Model()("abc")) == ("A", "b", 3)
    assert not hasattr(shout, "__wrapped__")
    assert vars(shout) == {}


def test_values_are_plain_texts():
    assert (env("KEY"), ATTEMPT, this.index, str(this)) == ("~ENV:KEY~", "~ATTEMPT~", "<<self.index>>", "<<self>>")
    assert [str(cell) for cell in (this.name, this["odd name"], this["it's\n\\"])] == [
        "<<self.name[index]>>",
        "<<self.'odd name'[index]>>",
        r"<<self.'it\'s\n\\'[index]>>",
    ]
    assert (repr(Table("t")), repr(Service("s", calls_per_minute=5))) == ("Table('t')", "Service('s')")
    assert this.name == this["name"]


def test_syntax_of_a_reference_is_checked_at_once():
    assert ref("<<prices.price[fruit::'fig']>>, please") == "<<prices.price[fruit::'fig']>>, please"
    with pytest.raises(tv_errors.TableReferenceError, match=r"<<prices\.\["):
        ref("<<prices.[fruit]>>")


def test_define_imports_nothing_else_of_the_package():
    program = (
        "import sys, tablevault; before = set(sys.modules); import tablevault.define; "
        "print(sorted(name for name in set(sys.modules) - before if 'tablevault' in name), 'pandas' in sys.modules)"
    )
    environment = {"PYTHONPATH": SOURCE}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "['tablevault.define'] False\n"


def test_fields_of_decorators_are_those_of_builder_files():
    given = {"builder_type", "changed_columns", "python_function", "code_module", "is_custom", "name"}
    of_index, of_column = set(IndexFields.__annotations__), set(ColumnFields.__annotations__)
    assert of_index == FIELD_NAMES - given
    assert of_index - of_column == {"primary_key", "keep_old", "for_each"}
    fields = dict.fromkeys(sorted(FIELD_NAMES - {"name"}), 1)
    assert sorted(ordered({**fields, "later": 1})) == sorted([*fields, "later"])
    assert list(ordered({"later": 1, **dict.fromkeys(reversed(list(ordered(fields))), 1)})) == [
        *ordered(fields),
        "later",
    ]


TYPED = """
from pathlib import Path

from tablevault.define import ARTIFACT_FOLDER, Table, env, ref, this

answers = Table("answers", allow_multiple_artifacts=True)
words = Table("words")


@answers.index(primary_key=["question"], arguments={"path": Path("x").name})
def question(path: str) -> list[str]:
    return path.split()


@answers.column(retry={"on": [ValueError, 429]}, stop_on=["code:x", KeyError], arguments={"key": env("KEY")})
async def answer(question: str, key: str) -> str:
    return question


@answers.column("a", "b", executor="processes", setup_arguments={"x": this.answer}, dtypes={"a": "Int64"})
class Model:
    def __call__(self, answer: str) -> tuple[int, int]:
        return 1, 2


words.index("question", rows_of=answers)
text: list[str] = question("a b")
"""


@pytest.mark.slow
def test_strict_type_checker_accepts_decorated_code_and_finds_wrong_fields(tmp_path):
    (tmp_path / "right.py").write_text(TYPED)
    (tmp_path / "wrong.py").write_text(
        TYPED.replace("retry={", "retries={").replace('executor="processes"', 'executor="process"') + "answer(1, 2)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(tmp_path / "cache")]
    environment = {"MYPYPATH": SOURCE, "PATH": ""}
    words = [*command, "right.py", "wrong.py"]
    found = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=tmp_path).stdout
    assert "right.py" not in found, found
    assert 'wrong.py:15: error: Unexpected keyword argument "retries"' in found
    assert 'Argument "executor" to "column"' in found
    assert 'Argument 1 to "answer" has incompatible type "int"' in found
    assert found.endswith("(checked 2 source files)\n")
