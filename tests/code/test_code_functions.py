import dataclasses
import sys
import threading
import traceback
import typing

import pytest

from made_builders import column_builder
from tablevault.builders.templates import module_template
from tablevault.code.loading import (
    CodeSnapshot,
    built_in,
    built_in_sources,
    check_accepts,
    describe_modules,
    read_sources,
)
from tablevault.code.source import check_source, definition_text
from tablevault.code.versions import CodeIndex
from tablevault.errors import TVBuilderError
from tablevault.rows.functions import BuilderFunction


@pytest.fixture
def load(tmp_path):
    """Return a function that writes modules into a separate folder.

    It opens a snapshot of the folder.
    """
    opened = []

    def open_snapshot(**modules):
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
        opened.append(CodeSnapshot(folder))
        return opened[-1]

    yield open_snapshot
    for snapshot in opened:
        snapshot.close()


def refusal(call, *arguments):
    with pytest.raises(TVBuilderError) as caught:
        call(*arguments)
    return str(caught.value)


def test_function_is_loaded_from_the_folder_and_writes_nothing_there(load, tmp_path):
    assert load(m="def f(x): return x + 1").load_function("m", "f")(1) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["0", "m.py"]


def test_stale_bytecode_is_never_run(load, tmp_path):
    load(m="def f(): return 'new'")
    cache = tmp_path / "0" / "__pycache__"
    cache.mkdir()
    (cache / f"m.{sys.implementation.cache_tag}.pyc").write_bytes(b"nonsense")
    assert CodeSnapshot(tmp_path / "0").load_function("m", "f")() == "new"


def test_two_snapshots_do_not_see_each_other(load):
    old, new = load(m="import n\ndef f(): return n.x", n="x = 1"), load(m="import n\ndef f(): return n.x", n="x = 2")
    assert (old.load_function("m", "f")(), new.load_function("m", "f")()) == (1, 2)


@pytest.mark.parametrize(
    "text",
    [
        "import other\ndef f(): return other.g()",
        "import other as o\ndef f(): return o.g()",
        "from other import g as h\ndef f(): return h()",
        "from other import *\ndef f(): return g()",
        "from . import other\ndef f(): return other.g()",
        "from .other import g\ndef f(): return g()",
        "def f():\n    import other\n    return other.g()",
        "def f():\n    from other import g\n    return g()",
        "def f(): return __import__('other').g()",
    ],
)
def test_module_imports_its_siblings_in_any_way(load, text):
    assert load(m=text, other="def g(): return 'sibling'").load_function("m", "f")() == "sibling"


def test_own_module_comes_before_the_standard_librarys(load):
    snapshot = load(m="import json\nfrom json import x\ndef f(): return json.x, x", json="x = 'ours'")
    assert snapshot.load_function("m", "f")() == ("ours", "ours")
    assert "tablevault_code" not in sys.modules["json"].__name__


def test_other_imports_are_the_interpreters_own(load):
    import os.path

    text = "import os.path\nfrom collections import abc\ndef f(): return os.path, abc"
    assert load(m=text).load_function("m", "f")() == (os.path, sys.modules["collections.abc"])


@pytest.mark.parametrize(
    "text",
    ["import nowhere_to_be_found", "from .gone import f", "from . import gone", "import m.inner", "from .. import m"],
)
def test_import_of_a_missing_module_is_an_import_error(load, text):
    with pytest.raises(ImportError):
        load(m=text).load_function("m", "f")


def test_modules_may_import_each_other(load):
    snapshot = load(a="import b\ndef f(): return b.g()", b="import a\ndef g(): return a.__name__.split('.')[-1]")
    assert snapshot.load_function("a", "f")() == "a"


def test_module_runs_once_and_keeps_its_state(load):
    snapshot = load(m="calls = []\ndef f(): calls.append(1); return len(calls)")
    assert [snapshot.load_function("m", "f")() for _ in range(3)] == [1, 2, 3]


def test_module_runs_once_when_threads_load_it_at_once(load):
    snapshot = load(m="import time\ntime.sleep(0.05)\ntoken = object()\ndef f(): return token")
    found = []
    threads = [threading.Thread(target=lambda: found.append(snapshot.load_function("m", "f")())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_dataclasses_type_hints_and_tracebacks_work(load):
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
        "@dataclass\nclass Point:\n    x: int\n    zero: ClassVar[int] = 0\n"
        "def make(x: int) -> Point: return Point(x)\ndef fail(): raise KeyError('broken here')\n"
    )
    snapshot = load(m=text)
    make = snapshot.load_function("m", "make")
    assert dataclasses.asdict(make(3)) == {"x": 3}
    assert typing.get_type_hints(make)["return"] is type(make(3))
    with pytest.raises(KeyError) as caught:
        snapshot.load_function("m", "fail")()
    assert "raise KeyError('broken here')" in "".join(traceback.format_exception(caught.value))


def test_closing_takes_the_modules_out_of_the_interpreter(load):
    before = set(sys.modules)
    with load(m="import n\ndef f(): return n.x", n="x = 1") as snapshot:
        function = snapshot.load_function("m", "f")
        names = {name.rpartition(".")[2] for name in set(sys.modules) - before}
        assert {"m", "n"} <= names
    assert set(sys.modules) == before
    assert function() == 1


def test_missing_module_or_function_is_refused_with_the_nearest(load):
    snapshot = load(prompts="def ask(): ...\nlimit = 3")
    assert refusal(snapshot.load_function, "promts", "ask") == (
        "there is no code module 'promts'; did you mean 'prompts'?"
    )
    assert refusal(snapshot.load_function, "prompts", "aks") == (
        "prompts.py has no function 'aks'; did you mean 'ask'?"
    )
    assert "'limit' in prompts.py is a int, not a function" in refusal(snapshot.load_function, "prompts", "limit")


@pytest.mark.parametrize("separator", ["\u2028", "\x0c", "\x85", "\x1c"])
def test_lines_are_those_that_python_counts(load, separator):
    text = f'"""before{separator}after"""\ndef wrong():\n    return 1 / 0\n'
    assert definition_text(text, "wrong") == "def wrong():\n    return 1 / 0"
    function = load(m=text).load_function("m", "wrong")
    with pytest.raises(ZeroDivisionError) as caught:
        function()
    assert traceback.extract_tb(caught.value.__traceback__)[-1].line == "return 1 / 0"
    wrong = load(m=f'"""before{separator}after"""\ndef (')
    assert refusal(wrong.load_function, "m", "f").endswith(": def (; correct the module.")


def test_syntax_error_names_file_and_line(load):
    assert refusal(load(m="x = 1\ndef f(:\n  pass").load_function, "m", "f").startswith("m.py, line 2: ")


@pytest.mark.parametrize("text", ["def f(): pass\n\x00", "def f(): return " + "(" * 5000 + ")" * 5000])
def test_invalid_code_is_refused(load, text):
    assert refusal(load(m=text).load_function, "m", "f").startswith("m.py")


def test_exception_of_a_modules_top_level_escapes_and_leaves_nothing(load):
    before = set(sys.modules)
    snapshot = load(m="raise ZeroDivisionError('mine')")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="mine"):
            snapshot.load_function("m", "f")
    assert set(sys.modules) == before


def test_modules_of_a_folder_are_described(tmp_path):
    for name in ["b.py", "a.py", "notes.txt", ".hidden.py", "has space.py"]:
        (tmp_path / name).write_text("x = 1", encoding="utf-8")
    (tmp_path / "folder.py").mkdir()
    assert describe_modules(tmp_path) == ("a", "b")
    assert read_sources(tmp_path) == {"a": "x = 1", "b": "x = 1"}


def test_module_that_is_not_text_is_refused_where_it_is_used(tmp_path):
    (tmp_path / "m.py").write_bytes(b"x = 1\ny = '\xff'")
    (tmp_path / "n.py").write_bytes(b"# coding: latin-1\nx = '\xff'\ndef f(): return x")
    index = CodeIndex(read_sources(tmp_path))
    assert index.version("n", "f")
    assert refusal(index.version, "m", "x") == (
        "m.py, line 2: this is not text in the encoding of the file; save it as UTF-8."
    )


def test_built_in_functions_are_found_by_name():
    assert set(built_in_sources()) == {"random_string", "sql", "table_generation"}
    assert len(built_in("table_generation", "create_data_table_from_list")([1, 2])) == 2


def test_unknown_built_in_module_is_refused_with_the_nearest():
    assert "did you mean 'random_string'?" in refusal(built_in, "random_strings", "x")
    assert "there is no built-in module 'os'" in refusal(built_in, "os", "system")
    assert "did you mean 'random_row_string'" in refusal(built_in, "random_string", "random_row_strings")
    for hidden in ("random", "_random_string", "pd"):
        assert "has no function" in refusal(built_in, "random_string", hidden)


def plain(x, y, *, z=1): ...


def open_ended(x, **others): ...


def by_position(x, /): ...


@pytest.mark.parametrize(
    ("function", "given", "sentence"),
    [
        (plain, ["x"], "plain() is missing the argument 'y'"),
        (plain, [], "plain() is missing the arguments 'x' and 'y'"),
        (plain, ["x", "y", "zz"], "plain() takes no argument 'zz'; did you mean 'z'?"),
        (plain, ["x", "y", "z", "w"], "plain() takes no argument 'w'; remove it"),
        (open_ended, ["y"], "open_ended() is missing the argument 'x'"),
        (by_position, ["x"], "by_position() takes 'x' by position only"),
    ],
)
def test_arguments_that_a_function_does_not_accept_are_refused(function, given, sentence):
    assert sentence in refusal(check_accepts, function, given)


@pytest.mark.parametrize(
    ("function", "given"),
    [(plain, ["x", "y"]), (plain, ["z", "y", "x"]), (open_ended, ["x", "any"]), (min, ["k"])],
)
def test_arguments_that_a_function_accepts_or_may_accept_pass(function, given):
    assert check_accepts(function, given) is None


def test_decorated_function_may_take_other_arguments_than_the_one_it_wraps(load):
    text = (
        "import functools\ndef with_client(f):\n    @functools.wraps(f)\n"
        "    def wrapper(**given): return f(client='c', **given)\n    return wrapper\n"
        "@with_client\ndef ask(client, text): return client + text\n"
    )
    function = BuilderFunction.load(asking(arguments={"text": "t"}), load(prompts=text)).call
    assert function(text="t") == "ct"


def asking(**fields):
    return column_builder("answers", python_function="ask", code_module="prompts", **fields)


@pytest.mark.parametrize("check", ["static", "loaded"])
@pytest.mark.parametrize(
    ("modules", "fields", "message"),
    [
        (
            {"promts": ""},
            {},
            "answers.yaml, line 5, code_module: there is no code module 'prompts'; did you mean 'promts'?",
        ),
        (
            {"prompts": "def asks(): ..."},
            {},
            "answers.yaml, line 4, python_function: prompts.py has no function 'ask'; did you mean 'asks'?",
        ),
        ({"prompts": "def ask(text): ..."}, {"arguments": {"txt": 1}}, "takes no argument 'txt'; did you mean 'text'?"),
        ({"prompts": "def ask(text, n): ..."}, {"arguments": {"n": 1}}, "is missing the argument 'text'"),
        ({"prompts": "x = 1\ndef ask(:"}, {}, "prompts.py, line 2: "),
    ],
)
def test_invalid_builder_is_refused_before_and_after_loading_its_code(load, check, modules, fields, message):
    if check == "static":
        found = refusal(check_source, modules, asking(**fields))
    else:
        found = refusal(BuilderFunction.load, asking(**fields), load(**modules)).replace(
            "python_function: there", "code_module: there"
        )
    assert found.startswith("answers.yaml, line ")
    assert message.removeprefix("answers.yaml, line 5, ").removeprefix("answers.yaml, line 4, ") in found


@pytest.mark.parametrize(
    "text",
    [
        "def ask(text): ...",
        "def ask(**anything): ...",
        "def ask(text, /, **rest): ...\nask = print",
        "from other import ask",
        "from other import *",
        "import functools\n@functools.cache\ndef ask(): ...",
        "ask = lambda text: text",
        "if True:\n    def ask(): ...",
        "try:\n    from fast import ask\nexcept ImportError as ask:\n    raise",
        "class ask:\n    def __init__(self, text): ...",
        "globals()['ask'] = print",
        "def __getattr__(name): ...",
        "def set_up():\n    global ask\n    ask = print",
        "for ask in [print]: ...",
        "def ask(): ...\ndef ask(text): ...",
    ],
)
def test_check_passes_if_the_text_is_inconclusive(text):
    assert check_source({"prompts": text}, asking(arguments={"text": 1})) is None


def test_checking_a_source_runs_nothing_and_warns_of_nothing():
    text = "raise SystemExit\ndef ask(text='\\d'): return text is 1"
    assert check_source({"prompts": text}, asking()) is None


def test_built_in_builders_are_checked_against_the_built_in_modules():
    def spec(module, **arguments):
        return column_builder(
            "x", is_custom=False, code_module=module, python_function="random_row_string", arguments=arguments
        )

    assert check_source(built_in_sources(), spec("random_string", column_names=["x"], anything=1)) is None
    assert "is missing the argument 'column_names'" in refusal(check_source, built_in_sources(), spec("random_string"))
    assert "a module of the vault needs 'is_custom: true'" in refusal(check_source, built_in_sources(), spec("mine"))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["b", "e"], None),
        (["b", "c", "e", "g", "other"], None),
        (["e"], "ask() in prompts.py is missing the argument 'b'"),
        (["b"], "ask() in prompts.py is missing the argument 'e'"),
    ],
)
def test_signature_is_read_from_the_source_text(given, sentence):
    modules = {"prompts": "def ask(b, c=1, *d, e, g=2, **h): ..."}
    spec = asking(arguments=dict.fromkeys(given, 1))
    if sentence is None:
        assert check_source(modules, spec) is None
    else:
        assert sentence in refusal(check_source, modules, spec)


def test_required_positional_only_parameter_is_refused():
    spec = asking(arguments={"a": 1})
    assert "takes 'a' by position only" in refusal(check_source, {"prompts": "def ask(a, /, b=1): ..."}, spec)


def test_template_of_a_module_can_be_loaded(load):
    assert load(mine=module_template("mine")).load_function("mine", "shout")(text="a") == "A"


def test_concurrent_snapshots_of_the_same_code_have_distinct_names(load):
    first, second = load(m="def f(): return __name__"), load(m="def f(): return __name__")
    assert first.load_function("m", "f")() != second.load_function("m", "f")()
