"""`get_lineage` gives the sources and dependents of columns.

It names inputs, functions, authors and times.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from tablevault import LineageStep, TableVault, tv_errors

CODE = """
def rows(source):
    return source

def ask(prompt, name, key=""):
    if name == "cleo":
        raise RuntimeError("no answer")
    return prompt + name

def letters(frame):
    return [len(str(answer)) for answer in frame["answer"]]

def title(name):
    return name.title()
"""

FIXED = CODE.replace('raise RuntimeError("no answer")', 'return "?"')

INDEX = """
builder_type: IndexBuilder
changed_columns: [name]
python_function: rows
code_module: lab
is_custom: true
primary_key: [name]
arguments: {source: "<<people.{name}>>"}
"""

ASK = """
builder_type: ColumnBuilder
changed_columns: [answer]
python_function: ask
code_module: lab
is_custom: true
return_type: row-wise
arguments: {prompt: "Who is ", name: "<<self.name[index]>>", key: "very secret"}
untracked: [key]
"""

LETTERS = """
builder_type: ColumnBuilder
changed_columns: [letters]
python_function: letters
code_module: lab
is_custom: true
arguments: {frame: "<<self.{answer}>>"}
"""

TITLE = """
builder_type: ColumnBuilder
changed_columns: [name]
python_function: title
code_module: lab
is_custom: true
return_type: row-wise
arguments: {name: "<<self.name[index]>>"}
"""

BUILDERS = {"answers_index": INDEX, "ask": ASK, "letters": LETTERS}


class Desk:
    """A table `answers`, computed from a table `people`."""

    def __init__(self, folder: Path) -> None:
        self.vault = TableVault(folder / "vault", author="ada", create=True)
        self.vault.create_table("people")
        self.vault.create_table("answers")
        self.vault.create_code_module("lab", text=FIXED)
        self.people = self.write("people", pd.DataFrame({"name": ["ann", "bob", "cleo", "dan"]}))

    def write(self, table: str, frame: pd.DataFrame, *dependencies: tuple[str, str], version: str = "base") -> str:
        self.vault.create_instance(table, version, external_edit=True)
        self.vault.write_instance(frame, table, version, dependencies=list(dependencies))
        return self.newest(table, version)

    def execute(self, *, copy: bool = False, process_id: str = "", builders: dict[str, str] | None = None) -> str:
        chosen = builders or (None if copy else BUILDERS)
        self.vault.create_instance("answers", copy=copy, builders=chosen)
        self.vault.execute_instance("answers", process_id=process_id)
        return self.newest("answers")

    def newest(self, table: str, version: str = "base") -> str:
        return self.vault.get_table_instances(table, version)[-1]

    def step(self, column: str, instance_id: str = "") -> LineageStep:
        (step,) = self.vault.get_lineage("answers", instance_id, column).columns
        return step


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def names(steps: Iterable[LineageStep]) -> list[tuple[str, str, str]]:
    return [(step.table_name, step.instance_id, step.column) for step in steps]


# --- up -----------------------------------------------------------------------------------------------------------


def test_columns_are_followed_up_to_the_inputs(desk: Desk) -> None:
    answers = desk.execute()
    letters = desk.step("letters")
    assert names(letters.inputs) == [("answers", answers, "answer")]
    assert names(letters.inputs[0].inputs) == [("answers", answers, "name")]
    assert names(letters.inputs[0].inputs[0].inputs) == [("people", desk.people, "name")]
    assert letters.inputs[0].inputs[0].inputs[0].inputs == ()


def test_column_lineage_names_builder_code_arguments_author_and_process(desk: Desk) -> None:
    process_id = "night-1"
    desk.execute(process_id=process_id)
    step = desk.step("answer")
    assert (step.builder, step.function) == ("ask", "lab.ask")
    assert step.arguments == {"prompt": "Who is ", "name": "<<self.name[index]>>"}
    assert (step.author, step.process_id) == ("ada", process_id)
    process = desk.vault.get_process(process_id)
    assert process.ended_at is not None
    assert process.started_at <= step.made_at <= process.ended_at
    assert [(item.rows, item.ranges) for item in step.code_versions] == [(4, ((0, 3),))]
    assert (step.computed, step.reused) == (4, 0)
    assert step.success
    assert not step.deleted


def test_untracked_arguments_are_nowhere(desk: Desk) -> None:
    desk.execute()
    lineage = desk.vault.get_lineage("answers")
    assert "very secret" not in json.dumps(lineage.to_dict()) + repr(lineage) + lineage._repr_html_()


def test_rows_that_ran_under_other_code_after_a_fix_are_told_apart(desk: Desk) -> None:
    desk.vault.create_code_module("lab", text=CODE)
    with pytest.raises(RuntimeError, match="no answer"):
        desk.execute(process_id="night-1")
    desk.vault.create_code_module("lab", text=FIXED)
    desk.vault.execute_instance("answers", process_id="night-1")
    versions = {item.ranges: item.version for item in desk.step("answer").code_versions}
    assert set(versions) == {((0, 1),), ((2, 3),)}
    assert len(set(versions.values())) == 2
    assert "2 rows (0-1) under code" in repr(desk.vault.get_lineage("answers", column="answer"))


def test_reused_rows_lead_to_the_origin(desk: Desk) -> None:
    first = desk.execute()
    people = desk.write("people", pd.DataFrame({"name": ["ann", "bob", "cleo", "dan", "eve"]}))
    second = desk.execute(copy=True)
    step = desk.step("answer", second)
    assert (step.computed, step.reused) == (1, 4)
    assert step.origin is not None
    assert names([step.origin]) == [("answers", first, "answer")]
    assert names(step.origin.inputs[0].inputs) == [("people", desk.people, "name")]
    assert names(step.inputs[0].inputs) == [("people", people, "name")]
    assert desk.step("letters", second).origin is None


def test_lineage_of_an_overwritten_column_leads_to_its_earlier_cells(desk: Desk) -> None:
    answers = desk.execute(builders={**BUILDERS, "capital": TITLE})
    step = desk.step("name")
    assert step.builder == "capital"
    assert names(step.inputs) == [("answers", answers, "name")]
    assert step.inputs[0].builder == "answers_index"
    assert names(step.inputs[0].inputs) == [("people", desk.people, "name")]


def test_a_builder_that_reads_everything_names_every_column_before_it(desk: Desk) -> None:
    answers = desk.execute(builders={**BUILDERS, "letters": LETTERS.replace("<<self.{answer}>>", "<<self>>")})
    assert names(desk.step("letters").inputs) == [("answers", answers, "name"), ("answers", answers, "answer")]


def test_frames_written_from_outside_lead_to_their_declared_dependencies(desk: Desk) -> None:
    answers = desk.execute()
    desk.vault.create_table("report")
    report = desk.write("report", pd.DataFrame({"total": [1]}), ("answers", answers))
    (step,) = desk.vault.get_lineage("report").columns
    assert names([step]) == [("report", report, "total")]
    assert (step.builder, step.function, step.code_versions) == ("", "", ())
    assert names(step.inputs) == [("answers", answers, "*")]
    assert [item[2] for item in names(step.inputs[0].inputs)] == ["name", "answer", "letters"]
    assert "written from outside" in repr(step)


def test_stopped_execution_counts_only_computed_rows(desk: Desk) -> None:
    desk.vault.create_code_module("lab", text=CODE)
    with pytest.raises(RuntimeError, match="no answer"):
        desk.execute(process_id="night-1")
    desk.vault.stop_process("night-1", materialize=True)
    step = desk.step("answer")
    assert not step.success
    assert [(item.rows, item.ranges) for item in step.code_versions] == [(2, ((0, 1),))]
    assert "not finished" in repr(step)


# --- down ---------------------------------------------------------------------------------------------------------


def test_columns_are_followed_to_their_dependents(desk: Desk) -> None:
    answers = desk.execute()
    desk.vault.create_table("report")
    report = desk.write("report", pd.DataFrame({"total": [1]}), ("answers", answers))
    lineage = desk.vault.get_lineage("people")
    assert names(lineage.used_by) == [("answers", answers, "name")]
    name = lineage.used_by[0]
    assert names(name.used_by) == [("answers", answers, "answer"), ("report", report, "*")]
    assert names(name.used_by[0].used_by) == [("answers", answers, "letters"), ("report", report, "*")]


def test_only_readers_of_the_column_count_as_its_users(desk: Desk) -> None:
    desk.write("people", pd.DataFrame({"name": ["ann"], "age": [7]}))
    answers = desk.execute()
    assert names(desk.vault.get_lineage("people", column="name").used_by) == [("answers", answers, "name")]
    assert desk.vault.get_lineage("people", column="age").used_by == ()


def test_instances_that_took_rows_over_are_users(desk: Desk) -> None:
    first = desk.execute()
    second = desk.execute(copy=True)
    assert ("answers", second, "answer") in names(desk.step("answer", first).used_by)


# --- what happens later -------------------------------------------------------------------------------------------


def test_names_of_tables_are_todays(desk: Desk) -> None:
    answers = desk.execute()
    desk.vault.rename_table("folk", "people")
    desk.vault.rename_table("replies", "answers")
    (step,) = desk.vault.get_lineage("replies", column="name").columns
    assert names([step]) == [("replies", answers, "name")]
    assert names(step.inputs) == [("folk", desk.people, "name")]
    assert names(desk.vault.get_lineage("folk").used_by) == [("replies", answers, "name")]


def test_deleted_input_is_described_from_its_archived_metadata(desk: Desk) -> None:
    first = desk.execute()
    second = desk.execute(copy=True)
    desk.vault.delete_instance(first, "answers")
    origin = desk.step("answer", second).origin
    assert origin is not None
    assert origin.deleted
    assert (origin.builder, origin.function, origin.computed) == ("ask", "lab.ask", 4)
    assert [item.ranges for item in origin.code_versions] == [((0, 3),)]
    assert "deleted since" in repr(origin)


def test_the_lineage_outlives_a_deleted_table(desk: Desk) -> None:
    answers = desk.execute()
    desk.vault.create_table("report")
    desk.write("report", pd.DataFrame({"total": [1]}), ("answers", answers))
    desk.vault.delete_table("answers")
    desk.vault.delete_table("people")
    (step,) = desk.vault.get_lineage("report").columns
    letters = step.inputs[0].inputs[2]
    assert (letters.table_name, letters.builder, letters.deleted) == ("answers", "letters", True)
    people = letters.inputs[0].inputs[0].inputs[0]
    assert names([people]) == [("people", desk.people, "name")]
    assert people.deleted


def test_a_deleted_user_is_still_named(desk: Desk) -> None:
    answers = desk.execute()
    desk.vault.delete_instance(answers, "answers")
    (user,) = desk.vault.get_lineage("people").used_by
    assert names([user]) == [("answers", answers, "name")]
    assert user.deleted
    assert user.builder == "answers_index"


# --- which instance -----------------------------------------------------------------------------------------------


def test_the_newest_instance_of_the_base_version_is_meant_by_default(desk: Desk) -> None:
    newer = desk.write("people", pd.DataFrame({"name": ["eve"]}))
    desk.write("people", pd.DataFrame({"name": ["fay"]}), version="draft")
    assert desk.vault.get_lineage("people").instance_id == newer


def test_any_version_is_used_without_a_base_version(desk: Desk) -> None:
    desk.vault.create_table("notes")
    draft = desk.write("notes", pd.DataFrame({"note": ["a"]}), version="draft")
    assert desk.vault.get_lineage("notes").instance_id == draft


def test_missing_object_is_reported_with_the_existing_ones(desk: Desk) -> None:
    with pytest.raises(tv_errors.TVArgumentError, match="people"):
        desk.vault.get_lineage("peple")
    with pytest.raises(tv_errors.TVTableError, match="name"):
        desk.vault.get_lineage("people", column="nam")
    with pytest.raises(tv_errors.TVArgumentError, match="no instance"):
        desk.vault.get_lineage("people", "base_1_2")
    with pytest.raises(tv_errors.TVArgumentError, match="materialized instance"):
        desk.vault.get_lineage("answers")
    desk.vault.create_instance("answers", builders=BUILDERS)
    with pytest.raises(tv_errors.TVArgumentError, match="plan_instance"):
        desk.vault.get_lineage("answers", "TEMP_base")


# --- how it is shown ----------------------------------------------------------------------------------------------


def test_plain_data_has_every_step_once_and_survives_json(desk: Desk) -> None:
    answers = desk.execute()
    data = json.loads(json.dumps(desk.vault.get_lineage("answers").to_dict()))
    assert (data["table"], data["instance"]) == ("answers", answers)
    assert [data["steps"][key]["column"] for key in data["columns"]] == ["name", "answer", "letters"]
    assert len(data["steps"]) == 4
    name, answer, letters = (data["steps"][key] for key in data["columns"])
    assert letters["inputs"] == [data["columns"][1]]
    assert answer["used_by"] == [data["columns"][2]]
    assert answer["code_versions"][0]["ranges"] == [[0, 3]]
    assert data["steps"][name["inputs"][0]]["table"] == "people"


def test_a_tree_shows_references_as_they_are_written(desk: Desk) -> None:
    desk.execute()
    screen = io.StringIO()
    Console(file=screen, width=400).print(desk.vault.get_lineage("answers", column="letters").tree())
    shown = screen.getvalue()
    assert "lab.ask(prompt='Who is ', name='<<self.name[index]>>')" in shown
    assert f"from people({desk.people}).name" in shown
    assert len(shown.splitlines()) == 5


def test_html_is_escaped(desk: Desk) -> None:
    desk.execute()
    shown = desk.vault.get_lineage("answers")._repr_html_()
    assert "&lt;&lt;self.name[index]&gt;&gt;" in shown
    assert "<<" not in shown
    assert shown.count("<ul ") == shown.count("</ul>")


def test_input_with_several_paths_is_computed_and_shown_once(desk: Desk) -> None:
    frame = pd.DataFrame({"left": [1], "right": [2]})
    desk.vault.create_table("grid")
    ids = [desk.write("grid", frame)]
    for _ in range(24):
        # Two columns that each lead to two columns: 2 ** 25 ways up.
        ids.append(desk.write("grid", frame, ("grid", ids[-1])))
    lineage = desk.vault.get_lineage("grid")
    assert len(lineage.to_dict()["steps"]) == 25 * 2 + 24
    assert len(repr(lineage).splitlines()) < 400
    assert "truncated; see to_dict()" in repr(lineage)
    assert len(desk.vault.get_lineage("grid", ids[0]).to_dict()["steps"]) == 2 + 24
    step = lineage.columns[0]
    while step.inputs:
        step = step.inputs[0]
    assert step.instance_id == ids[0]
