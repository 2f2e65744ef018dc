"""`plan_instance` says what `execute_instance` then does, and does nothing itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from tablevault import TableVault, tv_errors

CODE = """
def _called(name):
    with open({calls!r}, "a") as file:
        file.write(name + "\\n")

def rows(source):
    _called("rows")
    return source

def each_row(name):
    _called("each_row")
    return name

def more_rows(old, limit):
    _called("more_rows")
    for number in range(len(old), limit):
        yield f"name {{number}}"

def ask(prompt, name):
    _called("ask")
    return ending(prompt + name)

def ending(text):
    return text + "?"

def shout(text):
    _called("shout")
    return text.upper()

def letters(frame):
    _called("letters")
    return [len(name) for name in frame["name"]]

def numbers(count):
    _called("numbers")
    yield from range(count)

def write(folder, name):
    _called("write")
    with open(f"{{folder}}/{{name}}.txt", "w") as file:
        file.write(name)
    return f"{{name}}.txt"

def fails(source):
    _called("fails")
    raise OSError("no network")
"""

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
arguments: {prompt: "Who is ", name: "<<self.name[index]>>"}
"""

SHOUT = """
builder_type: ColumnBuilder
changed_columns: [loud]
python_function: shout
code_module: lab
is_custom: true
return_type: row-wise
arguments: {text: "<<self.answer[index]>>"}
"""

LETTERS = """
builder_type: ColumnBuilder
changed_columns: [letters]
python_function: letters
code_module: lab
is_custom: true
arguments: {frame: "<<self.{name}>>"}
"""

NUMBERS = """
builder_type: ColumnBuilder
changed_columns: [number]
python_function: numbers
code_module: lab
is_custom: true
return_type: generator
arguments: {count: 3}
"""

FILES = """
builder_type: ColumnBuilder
changed_columns: [file]
python_function: write
code_module: lab
is_custom: true
return_type: row-wise
dtypes: {file: artifact_string}
arguments: {folder: "~ARTIFACT_FOLDER~", name: "<<self.name[index]>>"}
"""

ALL = {"ask": ASK, "shout": SHOUT, "letters": LETTERS, "numbers": NUMBERS}
NAMES = ["ann", "bob", "cleo"]


class Desk:
    """A table `answers` computed from a table `people`.

    Every call of a function appends a line to a file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "vault"
        self.calls_file = folder / "calls.txt"
        self.vault = TableVault(self.folder, author="ada", create=True)
        self.vault.create_table("people")
        self.vault.create_table("answers")
        self.write_code(CODE.format(calls=str(self.calls_file)))
        self.people(NAMES)

    def write_code(self, text: str) -> None:
        self.vault.create_code_module("lab", text=text)

    def change_code(self, before: str, after: str) -> None:
        text = self.vault.get_code_module_str("lab")
        assert before in text
        self.write_code(text.replace(before, after))

    def people(self, names: list[str]) -> None:
        self.vault.create_instance("people", external_edit=True)
        self.vault.write_instance(pd.DataFrame({"name": names}), "people")

    def first(self, builders: dict[str, str], index: str = INDEX) -> None:
        self.vault.create_instance("answers", builders={"answers_index": index, **builders})
        self.vault.execute_instance("answers")

    def copy(self, builders: dict[str, str] | None = None) -> None:
        self.vault.create_instance("answers", copy=True, builders=builders)

    def plan(self, **arguments: bool):
        """Return the plan, once it is certain that nothing was called (but by `run_index`) or changed."""
        before = self.snapshot()
        self.calls_file.unlink(missing_ok=True)
        plan = self.vault.plan_instance("answers", **arguments)
        called = set(self.calls())
        assert not called or (arguments.get("run_index") and called <= {"rows", "each_row", "more_rows"})
        assert self.snapshot() == before
        return plan.builders

    def execute(self, **arguments: bool):
        process_id = self.vault.execute_instance("answers", **arguments)
        return self.vault.get_process(process_id).progress

    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def snapshot(self) -> dict[str, object]:
        found: dict[str, object] = {"processes": list(self.vault.get_active_processes())}
        found["history"] = [item.process_id for item in self.vault.get_history()]
        for path in sorted(self.folder.rglob("*")):
            if not path.name.startswith("catalog.db"):
                content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
                found[str(path.relative_to(self.folder))] = (path.lstat().st_mode, content)
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def _nothing(desk: Desk) -> None:
    """Leave everything as it is."""


def _new_row(desk: Desk) -> None:
    desk.people([*NAMES, "dan"])


def _fewer_rows(desk: Desk) -> None:
    desk.people(NAMES[1:])


def _other_order(desk: Desk) -> None:
    desk.people(NAMES[::-1])


def _other_prompt(desk: Desk) -> None:
    desk.vault.create_builder_file("answers", "ask", text=ASK.replace("Who", "Where"))


def _other_code(desk: Desk) -> None:
    desk.change_code('text + "?"', 'text + "!"')


def _other_comment(desk: Desk) -> None:
    desk.change_code('return text + "?"', 'return text + "?"  # polite')


def _other_dtype(desk: Desk) -> None:
    desk.vault.create_builder_file("answers", "letters", text=f"{LETTERS}dtypes: {{letters: Float64}}\n")


@pytest.mark.parametrize(
    "change",
    [_nothing, _new_row, _fewer_rows, _other_order, _other_prompt, _other_code, _other_comment, _other_dtype],
)
@pytest.mark.parametrize("force_execute", [False, True])
def test_execution_follows_its_plan(desk: Desk, change, force_execute: bool) -> None:
    builders = {"ask": ASK, "shout": SHOUT, "letters": LETTERS}
    desk.first(builders)
    desk.copy()
    change(desk)
    planned = desk.plan(run_index=True, force_execute=force_execute)
    done = desk.execute(force_execute=force_execute)
    assert list(planned) == list(done)
    for name, plan in planned.items():
        assert plan.total == done[name].total
        if plan.computed is not None:
            assert (plan.computed, plan.reused) == (done[name].computed, done[name].reused), name
        else:
            assert name == "shout"
            assert change in (_other_prompt, _other_code)


def test_nothing_changed_means_that_everything_is_reused(desk: Desk) -> None:
    desk.first(ALL)
    desk.copy()
    planned = desk.plan(run_index=True)
    for name in ALL:
        assert (planned[name].total, planned[name].reused, planned[name].computed) == (3, 3, 0)
        assert planned[name].reasons == ("nothing changed",)
    assert desk.calls() == ["rows"]


def test_new_rows_are_counted_also_where_they_depend_on_other_new_cells(desk: Desk) -> None:
    desk.first({"ask": ASK, "shout": SHOUT})
    desk.copy()
    desk.people([*NAMES, "dan", "eve"])
    planned = desk.plan(run_index=True)
    for name in ("ask", "shout"):
        assert (planned[name].total, planned[name].reused, planned[name].computed) == (5, 3, 2)
        assert planned[name].reasons == ("2 new rows",)


def test_a_changed_argument_is_named(desk: Desk) -> None:
    desk.first({"ask": ASK, "letters": LETTERS})
    desk.copy()
    _other_prompt(desk)
    for run_index in (False, True):
        planned = desk.plan(run_index=run_index)
        assert "argument `prompt` changed" in planned["ask"].reasons
        assert not any("prompt" in reason for reason in planned["letters"].reasons)


def test_added_and_removed_arguments_are_named(desk: Desk) -> None:
    desk.first({"ask": ASK})
    desk.copy()
    desk.change_code("def ask(prompt, name):", "def ask(name, style='', prompt=''):")
    desk.vault.create_builder_file("answers", "ask", text=ASK.replace('prompt: "Who is "', "style: terse"))
    reasons = desk.plan()["ask"].reasons
    assert "argument `style` was added" in reasons
    assert "argument `prompt` was removed" in reasons


def test_changed_code_is_named_by_module_and_function(desk: Desk) -> None:
    desk.first({"ask": ASK, "letters": LETTERS})
    desk.copy()
    _other_code(desk)
    planned = desk.plan()
    assert "code of 'lab.py' changed: ending" in planned["ask"].reasons
    assert planned["ask"].reused == 0
    assert not any("changed" in reason for reason in planned["letters"].reasons)


def test_another_function_is_named(desk: Desk) -> None:
    desk.first({"shout": SHOUT, "ask": ASK})
    desk.copy()
    desk.change_code("def letters", "def whisper(text):\n    return text.lower()\n\ndef letters")
    desk.vault.create_builder_file(
        "answers", "shout", text=SHOUT.replace("python_function: shout", "python_function: whisper")
    )
    assert "function changed from lab.shout to lab.whisper" in desk.plan()["shout"].reasons


def test_a_changed_dtype_is_named(desk: Desk) -> None:
    desk.first({"letters": LETTERS})
    desk.copy()
    _other_dtype(desk)
    assert "dtype of `letters` changed from Int64 to Float64" in desk.plan()["letters"].reasons


def test_a_newer_input_is_named_with_both_its_instances(desk: Desk) -> None:
    desk.first({"ask": ASK})
    desk.copy()
    _new_row(desk)
    old, new = desk.vault.get_table_instances("people")
    assert f"input `people` is instance {new}, was {old}" in desk.plan()["answers_index"].reasons


def test_without_an_origin_everything_is_computed(desk: Desk) -> None:
    desk.vault.create_instance("answers", builders={"answers_index": INDEX, **ALL})
    assert (desk.plan()["ask"].total, desk.plan()["ask"].reused, desk.plan()["ask"].computed) == (None, 0, None)
    planned = desk.plan(run_index=True)
    for name in ("answers_index", *ALL):
        assert (planned[name].total, planned[name].reused, planned[name].computed) == (3, 0, 3)
        assert "there is no origin to reuse cells from" in planned[name].reasons


def test_force_execute_computes_everything_and_says_so(desk: Desk) -> None:
    desk.first(ALL)
    desk.copy()
    planned = desk.plan(run_index=True, force_execute=True)
    for name in ALL:
        assert (planned[name].reused, planned[name].computed) == (0, 3)
        assert planned[name].reasons == ("force_execute=True reuses nothing",)


def test_the_rows_are_unknown_until_the_index_builder_has_run(desk: Desk) -> None:
    desk.first({"ask": ASK})
    desk.copy()
    planned = desk.plan()
    index, ask = planned["answers_index"], planned["ask"]
    assert (index.total, index.computed) == (None, None)
    assert (ask.total, ask.reused, ask.computed) == (None, None, None)
    assert "unknown until `answers_index` has run" in ask.reasons


def test_values_that_do_not_exist_yet_are_waited_for(desk: Desk) -> None:
    whole = LETTERS.replace('{frame: "<<self.{name}>>"}', '{frame: "<<self.{name, answer}>>"}')
    desk.first({"ask": ASK, "shout": SHOUT, "letters": whole})
    desk.copy()
    _other_prompt(desk)
    planned = desk.plan(run_index=True)
    assert (planned["ask"].reused, planned["ask"].computed) == (0, 3)
    assert planned["shout"].reasons == ("unknown for 3 rows until `ask` has run",)
    assert planned["letters"].reasons == ("unknown until `ask` has run",)
    for name in ("shout", "letters"):
        assert (planned[name].total, planned[name].reused, planned[name].computed) == (3, None, None)


def test_a_look_up_in_a_column_that_does_not_exist_yet_is_waited_for(desk: Desk) -> None:
    search = SHOUT.replace("<<self.answer[index]>>", "<<self.answer[name::<<self.name[index]>>]>>")
    desk.first({"ask": ASK, "shout": search})
    desk.copy()
    _other_prompt(desk)
    assert desk.plan(run_index=True)["shout"].reasons == ("unknown for 3 rows until `ask` has run",)


def test_changed_values_are_counted_where_the_builder_is_as_it_was(desk: Desk) -> None:
    index = INDEX.replace("[name]", "[name, city]").replace("<<people.{name}>>", "<<people.{name, city}>>")
    index = index.replace("primary_key: [name, city]", "primary_key: [name]")
    city = ASK.replace("<<self.name[index]>>", "<<self.city[index]>>")

    def people(cities: list[str]) -> None:
        desk.vault.create_instance("people", external_edit=True)
        desk.vault.write_instance(pd.DataFrame({"name": NAMES, "city": cities}), "people")

    people(["Rome", "Oslo", "Bern"])
    desk.first({"ask": city}, index)
    people(["Rome", "Oslo", "Kyiv"])
    desk.copy()
    ask = desk.plan(run_index=True)["ask"]
    assert (ask.reused, ask.computed) == (2, 1)
    assert ask.reasons == ("values of arguments changed in 1 row",)


def test_a_row_wise_index_builder_is_decided_without_running(desk: Desk) -> None:
    each = INDEX.replace("python_function: rows", "python_function: each_row\nreturn_type: row-wise")
    each = each.replace('{source: "<<people.{name}>>"}', '{name: "<<self.name[index]>>"}')
    desk.first({"ask": ASK})
    desk.copy({"answers_index": each})
    desk.vault.execute_instance("answers")
    desk.copy()
    planned = desk.plan()
    for name in ("answers_index", "ask"):
        assert (planned[name].total, planned[name].reused, planned[name].computed) == (3, 3, 0)
    done = desk.execute()
    assert [(item.reused, item.computed) for item in done.values()] == [(3, 0), (3, 0)]


def test_a_row_wise_index_builder_that_has_to_run_leaves_keys_unknown(desk: Desk) -> None:
    each = INDEX.replace("python_function: rows", "python_function: each_row\nreturn_type: row-wise")
    each = each.replace('{source: "<<people.{name}>>"}', '{name: "<<self.name[index]>>"}')
    desk.first({"ask": ASK})
    desk.copy({"answers_index": each})
    planned = desk.plan()
    assert (planned["answers_index"].total, planned["answers_index"].computed) == (3, 3)
    assert planned["ask"].computed is None
    assert "unknown until `answers_index` has run" in planned["ask"].reasons
    assert desk.plan(run_index=True)["ask"].reused == 3


def test_a_generator_that_goes_on_after_the_origin_says_so(desk: Desk) -> None:
    index = INDEX.replace("python_function: rows", "python_function: more_rows\nreturn_type: generator\nkeep_old: true")
    index = index.replace('{source: "<<people.{name}>>"}', '{old: "<<self>>", limit: "<<people.count[index::0]>>"}')

    def limit(count: int) -> None:
        desk.vault.create_instance("people", external_edit=True)
        desk.vault.write_instance(pd.DataFrame({"count": [count]}), "people")

    limit(3)
    desk.first({"ask": ASK}, index)
    limit(5)
    desk.copy()
    assert "it continues after the 3 rows of the origin" in desk.plan()["answers_index"].reasons
    planned = desk.plan(run_index=True)
    done = desk.execute()
    for name, plan in planned.items():
        assert (plan.total, plan.reused, plan.computed) == (5, 3, 2)
        assert (plan.total, plan.reused, plan.computed) == (done[name].total, done[name].reused, done[name].computed)


def test_rows_that_the_origin_keeps_are_counted(desk: Desk) -> None:
    desk.first({"ask": ASK}, INDEX + "keep_old: true\n")
    desk.copy()
    desk.people(["dan"])
    planned = desk.plan(run_index=True)
    done = desk.execute()
    assert (planned["ask"].total, planned["ask"].reused, planned["ask"].computed) == (4, 3, 1)
    assert {name: (plan.reused, plan.computed) for name, plan in planned.items()} == {
        name: (item.reused, item.computed) for name, item in done.items()
    }


def test_cells_that_name_artifacts_are_planned_with_their_files(desk: Desk) -> None:
    desk.first({"write": FILES})
    desk.copy()
    planned = desk.plan(run_index=True)["write"]
    assert (planned.reused, planned.computed) == (3, 0)
    folder = desk.vault.get_artifact_folder("answers", is_temp=False)
    Path(folder).chmod(0o755)
    (Path(folder) / "bob.txt").unlink()
    planned = desk.plan(run_index=True)["write"]
    assert (planned.reused, planned.computed) == (2, 1)
    assert planned.reasons == ("values of arguments changed, or files that cells name are gone, in 1 row",)


def test_error_of_the_index_builder_is_raised_and_leaves_nothing(desk: Desk) -> None:
    desk.vault.create_instance("answers", builders={"answers_index": INDEX.replace("rows", "fails")})
    before = desk.snapshot()
    with pytest.raises(OSError, match="no network"):
        desk.vault.plan_instance("answers", run_index=True)
    assert desk.snapshot() == before


def test_plan_raises_the_errors_of_builders(desk: Desk) -> None:
    desk.vault.create_instance("answers", builders={"answers_index": INDEX.replace("people", "peple")})
    with pytest.raises(tv_errors.TableReferenceError, match="people"):
        desk.vault.plan_instance("answers")
    with pytest.raises(tv_errors.TVArgumentError, match="no temporary instance"):
        desk.vault.plan_instance("people")


def test_a_plan_does_not_stand_in_the_way_of_an_execution(desk: Desk) -> None:
    desk.first({"ask": ASK})
    desk.copy()
    desk.plan()
    assert desk.vault.get_active_processes() == {}
    desk.execute()


@pytest.mark.slow
def test_a_hundred_thousand_unchanged_rows_are_decided_without_a_call(desk: Desk) -> None:
    stop = desk.calls_file.with_suffix(".stop")
    guarded = f'    import os\n    if os.path.exists({str(stop)!r}):\n        raise AssertionError("called")\n'
    desk.change_code('    _called("ask")\n', guarded)
    desk.people([f"name {number}" for number in range(100_000)])
    desk.first({"ask": ASK})
    desk.copy()
    stop.touch()
    planned = desk.plan(run_index=True)["ask"]
    assert (planned.total, planned.reused, planned.computed) == (100_000, 100_000, 0)
    with pytest.raises(AssertionError, match="called"):
        desk.vault.execute_instance("answers", force_execute=True)


def test_people_can_read_a_plan(desk: Desk) -> None:
    desk.first({"ask": ASK})
    desk.copy()
    _new_row(desk)
    plan = desk.vault.plan_instance("answers", run_index=True)
    assert "ask: 4 rows, 1 to compute, 3 to reuse; 1 new row" in repr(plan).splitlines()
    assert "1 new row" in plan._repr_html_()
