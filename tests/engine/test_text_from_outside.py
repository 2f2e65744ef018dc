"""Errors of hostile classes and texts.

They are recorded, bounded, and shown without being interpreted.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest
from waiting import PATIENCE, until

from tablevault import TableVault, tv_errors
from tablevault.notes import add_note, message_of, notes_of, traceback_of
from tablevault.texts.plain import MAXIMUM_IN_LINE, MAXIMUM_RECORDED, cut, in_line, shown, shown_json, storable

CLASSES = """
import pandas as pd


def rows():
    return pd.DataFrame({"x": [1, 2, 3]})


class Getattr(Exception):
    def __getattr__(self, name):
        raise KeyError(name)


class Getattribute(Exception):
    def __getattribute__(self, name):
        raise RuntimeError(name)


class Text(Exception):
    def __str__(self):
        raise ValueError("no text")

    __repr__ = __str__


class Ending(Exception):
    def __str__(self):
        raise SystemExit(0)

    def __repr__(self):
        raise KeyboardInterrupt


class Lying(Exception):
    @property
    def __class__(self):
        raise TypeError("no class")


class Notes(Exception):
    @property
    def __notes__(self):
        raise OSError("no notes")

    def add_note(self, note):
        raise SystemExit(1)


class BadNotes(Exception):
    __notes__ = 5

    def __init__(self):
        self.__dict__["__notes__"] = [b"bytes", object(), "a note"]


class Context(Exception):
    __cause__ = __context__ = property(lambda self: 1 / 0)


class Reduce(Exception):
    def __reduce__(self):
        raise TypeError("never pickled")


class Meta(type):
    def __getattribute__(cls, name):
        if name in ("__module__", "__qualname__", "__name__"):
            return 7
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=Meta):
    pass


class Circular(Exception):
    def __init__(self):
        self.__cause__ = ValueError("inner")
        self.__cause__.__context__ = self


def f(x):
    if x == 2:
        RAISE
    return x
"""
INDEX = "builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: rows\ncode_module: m\nis_custom: true\n"
OUT = (
    "builder_type: ColumnBuilder\nchanged_columns: [out]\npython_function: f\ncode_module: m\nis_custom: true\n"
    "return_type: row-wise\narguments: {x: '<<self.x[index]>>'}\n"
)
HOSTILE = [
    "Getattr('x')", "Getattribute('x')", "Text()", "Ending()", "Lying('x')", "Notes('x')", "BadNotes()",
    "Context('x')", "Reduce('x')", "Nameless('x')", "Circular()", "SyntaxError('x')", "UnicodeDecodeError('utf-8', b'x', 0, 1, 'r')",
]  # fmt: skip


@pytest.fixture
def vault(tmp_path):
    return TableVault(tmp_path / "vault", author="ada", create=True)


def prepare(vault, statement):
    vault.create_code_module("m", text=CLASSES.replace("RAISE", statement))
    vault.create_table("t")
    vault.create_instance("t", builders={"t_index": INDEX, "out": OUT})


@pytest.mark.parametrize("process_id", ["", "night"])
@pytest.mark.parametrize("raised", HOSTILE)
def test_exception_of_any_class_is_recorded_and_the_callers(vault, raised, process_id):
    prepare(vault, f"raise {raised}")
    with pytest.raises(BaseException) as caught:
        vault.execute_instance("t", process_id=process_id)
    assert type.__getattribute__(type(caught.value), "__name__") == raised.partition("(")[0]
    [info] = vault.get_history(operation="execute_instance")
    assert info.status == ("paused" if process_id else "reverted")
    assert info.error is not None
    assert "in f" in info.error.traceback
    assert info.progress["out"].computed == 1
    assert all(map(str.isprintable, info.error_line))
    repr(info), info._repr_html_(), repr(vault), vault._repr_html_()
    if process_id:
        with pytest.raises(tv_errors.TVLockError, match="paused process 'night'"):
            vault.delete_table("t")


ACTIVE = "\x1b[31mred\x1b[0m \x9b2J \x00 \u202egnp.exe \u2066x\u2069 \ud800 \udce9 \u2028 \U000e0041 \r over \x07"
"""Escapes of terminals, overrides of direction, what cannot be encoded."""
OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff\U000e0000-\U000e007f]"
)


def harmless(text):
    """Return a text in which nothing is obeyed, and that can be encoded."""
    assert not OBEYED.search(text), ascii(OBEYED.search(text))
    text.encode("utf-8")
    return text


def test_active_text_of_an_error_is_obeyed_nowhere(vault):
    prepare(vault, f"raise ValueError({ACTIVE!r})")
    with pytest.raises(ValueError, match="red") as caught:
        vault.execute_instance("t", process_id="night")
    assert str(caught.value) == ACTIVE, "the caller's exception is as it was"
    info = vault.get_process("night")
    info.error.message.encode("utf-8")
    with pytest.raises(tv_errors.TVLockError) as locked:
        vault.delete_table("t")
    with pytest.warns(tv_errors.TableVaultWarning) as warned:
        again = TableVault(vault.db_dir, restart=True)
    assert again.restart_report == {"night": "paused again"}
    with pytest.raises(ValueError, match="red") as waited:
        vault.wait_process("night")
    vault.stop_process("night")
    log = Path(vault.db_dir, "metadata", "logs.txt").read_text(encoding="utf-8")
    for text in (
        repr(info),
        info._repr_html_(),
        info.error_line,
        repr(vault),
        vault._repr_html_(),
        str(locked.value),
        str(waited.value),
        *(str(warning.message) for warning in warned),
        *waited.value.__notes__,
        log.replace("\n", ""),
    ):
        harmless(text.replace("\n", ""))
    assert [json.loads(line)["operation"] for line in log.splitlines()][-1] == "execute_instance"


def test_error_text_of_megabytes_is_bounded_where_it_is_shown(vault):
    prepare(vault, "raise ValueError('<p>' + 'ab' * 2_000_000 + '</p>')")
    with pytest.raises(ValueError, match="<p>"):
        vault.execute_instance("t", process_id="night")
    info = vault.get_process("night")
    assert MAXIMUM_RECORDED <= len(info.error.message) < MAXIMUM_RECORDED + 100
    assert "characters omitted" in info.error.message
    assert info.error.message.endswith("</p>")
    assert len(repr(info)) < 5_000
    assert len(info._repr_html_()) < 100_000
    with pytest.raises(tv_errors.TVLockError) as locked:
        vault.delete_table("t")
    assert len(str(locked.value)) < 2_000
    assert max(map(len, Path(vault.db_dir, "metadata", "logs.txt").read_text().splitlines())) < 50_000


def test_worker_logs_and_prints_any_text_of_a_function(vault, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    prepare(vault, "print('\\N{SNOWMAN} \\ud800')")
    process = vault.execute_instance("t", background=True)
    assert vault.wait_process(process, timeout=PATIENCE).status == "succeeded"
    log = Path(vault.db_dir, "metadata", "worker_logs", f"{process}.log").read_text(encoding="utf-8")
    assert log == "\N{SNOWMAN} \\ud800\n"


@pytest.mark.slow
def test_traceback_in_a_worker_log_is_obeyed_by_nothing(vault):
    prepare(vault, f"raise ValueError({ACTIVE!r})")
    process = vault.execute_instance("t", background=True)
    with pytest.raises(ValueError, match="red"):
        vault.wait_process(process, timeout=PATIENCE)
    path = Path(vault.db_dir, "metadata", "worker_logs", f"{process}.log")
    # The worker prints its error after the process has ended.
    until(lambda: "ValueError" in path.read_text(encoding="utf-8"))
    assert "ValueError" in harmless(path.read_text(encoding="utf-8"))


def test_shown_text_keeps_ordinary_writing():
    for text in (
        "naïve — “quoted” 日本語",
        "family \U0001f469\u200d\U0001f4bb",
        "می\u200cخواهم",
        "tab\tand\nlines",
        "a\u00a0b",
    ):
        assert shown(text) == text
        assert storable(text) == text
        assert json.loads(shown_json(json.dumps(text, ensure_ascii=False))) == text
    assert in_line("one\ntwo") == "one two"
    assert len(in_line("x" * 10_000)) < MAXIMUM_IN_LINE + 60
    assert cut("abc", 3) == "abc"


def test_shown_json_says_the_same():
    text = json.dumps(
        {ACTIVE.replace("\ud800", "").replace("\udce9", ""): ["\x85\U000e0041"]}, ensure_ascii=False, indent=1
    )
    assert json.loads(shown_json(text)) == json.loads(text)
    harmless(shown_json(text).replace("\n", ""))


def test_notes_of_any_class_can_be_added_and_read():
    error = ValueError("x")
    add_note(error, "one")
    assert notes_of(error) == ["one"]
    error.__notes__ = "text"
    assert notes_of(error) == ["t", "e", "x", "t"] or notes_of(error) == []
    assert message_of(error) == "x"
    assert traceback_of(error).startswith("ValueError: x")


def test_findings_of_verify_show_names_of_files_escaped(vault):
    vault.create_table("t")
    Path(vault.db_dir, "t", "a\x1b[31m\udce9.txt").write_text("x")
    report = vault.verify()
    assert [problem.kind for problem in report.problems] == ["unclaimed"]
    harmless(repr(report).replace("\n", ""))
    harmless(report._repr_html_())
    json.dumps([problem.path for problem in report.problems]).encode()


def test_refused_arguments_of_any_content_are_recorded(vault):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(tv_errors.TVArgumentError) as refused:
            vault.create_table("\x1b[31m\ud800")
    harmless(repr(vault.get_history()[0]).replace("\n", ""))
    assert refused.value
