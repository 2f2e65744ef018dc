"""Legibility of records in notebooks, in light and dark.

Names and errors may contain any text.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from browser import THEMES, look_at

from tablevault import TableVault

HOSTILE = "<script>document.title='hacked'</script><b>&amp;"
LONG = "x" * 300

CODE = f"""
import pandas as pd

def questions():
    return pd.DataFrame({{"question": ["one", "two", "three"]}})

def answer(question):
    if question == "three":
        raise ConnectionError({HOSTILE!r} + {LONG!r})
    return question.upper()
"""
INDEX = """
builder_type: IndexBuilder
changed_columns: [question]
primary_key: [question]
python_function: questions
code_module: asking
is_custom: true
"""
ANSWER = f"""
builder_type: ColumnBuilder
changed_columns: ["{HOSTILE}"]
python_function: answer
code_module: asking
is_custom: true
return_type: row-wise
arguments: {{question: "<<self.question[index]>>"}}
"""

KINDS = ("vault", "empty-vault", "paused-process", "ended-process", "lineage", "plan", "sound-report", "damage-report")


def records(folder: Path) -> dict[str, str]:
    """Return one record of each kind as HTML."""
    empty = TableVault(folder / "empty", author="ada", create=True)
    vault = TableVault(folder / "it's a <b>vault</b>", author=HOSTILE, create=True)
    vault.create_table("questions")
    vault.create_table("answers-" + "very-" * 20 + "long")
    vault.create_code_module("asking", text=CODE.replace('"three"])', '"two"])').replace('== "three"', "is None"))
    vault.create_instance("questions", builders={"questions_index": INDEX, "answer": ANSWER})
    vault.execute_instance("questions", process_id="first")
    vault.create_code_module("asking", text=CODE)
    vault.create_instance("questions", copy=True)
    plan = vault.plan_instance("questions", run_index=True)._repr_html_()
    with pytest.raises(ConnectionError):
        vault.execute_instance("questions", process_id="nightly")
    shown = {
        "vault": vault._repr_html_(),
        "empty-vault": empty._repr_html_(),
        "paused-process": vault.get_process("nightly")._repr_html_(),
        "ended-process": vault.get_process("first")._repr_html_(),
        "lineage": vault.get_lineage("questions")._repr_html_(),
        "plan": plan,
        "sound-report": vault.verify()._repr_html_(),
    }
    damaged = TableVault(folder / "damaged", author="ada", create=True)
    damaged.create_table("words")
    damaged.create_instance("words", external_edit=True)
    damaged.write_instance(pd.DataFrame({"word": ["one"]}), "words")
    for path in Path(damaged.db_dir).rglob("*.parquet"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-10])
    return {**shown, "damage-report": damaged.verify()._repr_html_()}


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    return look_at(records(folder), folder)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_record_can_be_read(looked, kind, theme):
    seen = looked[kind, theme]
    assert seen.scripts == 0
    assert "b" not in seen.elements
    assert [text for text, contrast in seen.texts if contrast < (3 if text == "●" else 4.5)] == []
    assert seen.outside == []
    assert _share_of_text(seen.picture, theme) > 0.003


def _share_of_text(picture, theme) -> float:
    """Return the share of a picture that differs from its background.

    Its edges are background.
    """
    background = tuple(int(THEMES[theme][0][start : start + 2], 16) for start in (1, 3, 5))
    grey, behind = picture.convert("L"), sum(background) // 3
    for edge in ((0, 0, 10, picture.height), (picture.width - 10, 0, picture.width, picture.height)):
        assert grey.crop(edge).getextrema() == (behind, behind)
    distances = grey.point(lambda value: 255 if abs(value - behind) > 120 else 0).histogram()
    return distances[255] / (picture.width * picture.height)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("vault", ["questions", "nightly", "2 of 3 rows", ".stop_process('nightly')", "execute-instance questions"]),
        ("empty-vault", ["0 tables"]),
        ("paused-process", ["nightly", "ConnectionError", HOSTILE, "resume it with", "process_id='nightly'"]),
        ("ended-process", ["succeeded", "first"]),
        ("lineage", ["questions(", HOSTILE, "asking.answer"]),
        ("plan", ["to compute", "answer", "questions_index"]),
        ("sound-report", ["matches the catalog"]),
        ("damage-report", ["damaged", "table.parquet"]),
    ],
)
def test_record_shows_its_main_fields(looked, kind, texts):
    seen = looked[kind, "light"].text
    assert [text for text in texts if text not in seen] == []
