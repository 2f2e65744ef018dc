"""`plan_refresh` lists the steps of a refresh.

It makes the same checks before the first function.
"""

from __future__ import annotations

import json

import pandas as pd
import pytest
from click.testing import CliRunner
from lab import builder, column, copied, from_file, shouted, words

from tablevault import tv_errors
from tablevault.cli.application import application


@pytest.fixture
def diamond(lab):
    """Four tables.

    `a` is read by `b` and `c`, which are read by `d`.
    """
    lab.table("a", {**words("a", "x", "y"), **shouted()})
    lab.table("c", copied("c", "a"))
    lab.table("b", copied("b", "a"))
    both = column("joined", "lab.joined", {"words": "<<c.word>>", "word": "<<self.word[index]>>"})
    lab.table("d", {**copied("d", "b"), **both})
    return lab


def change(lab) -> None:
    lab.edit("a", words("a", "x", "y", "z"))


# --- steps and their order ----------------------------------------------------------------------------------------


def test_steps_are_in_the_order_of_dependencies_and_names(diamond):
    change(diamond)
    steps = diamond.vault.plan_refresh().steps
    assert [step.table_name for step in steps] == ["a", "b", "c", "d"]
    assert [step.after for step in steps] == [(), ("a",), ("a",), ("b", "c")]
    assert [step.action for step in steps] == ["execute", "look", "look", "look"]
    assert [step.version for step in steps] == ["base"] * 4


def test_fresh_tables_are_skipped(diamond):
    assert set(diamond.actions().values()) == {"skip"}
    assert {(step.computed, step.reused, step.reasons) for step in diamond.steps().values()} == {(0, 0, ())}


@pytest.mark.parametrize(
    ("named", "options", "steps"),
    [
        (["b"], {}, ["a", "b"]),
        (["b"], {"upstream": False}, ["b"]),
        (["b"], {"downstream": True}, ["a", "b", "d"]),
        (["b"], {"upstream": False, "downstream": True}, ["b", "d"]),
        (["a"], {"downstream": True}, ["a", "b", "c", "d"]),
        (["d", "a"], {"upstream": False}, ["a", "d"]),
        ("d", {}, ["a", "b", "c", "d"]),
        ([], {}, []),
    ],
)
def test_options_select_steps(diamond, named, options, steps):
    plan = diamond.vault.plan_refresh(named, **options)
    assert [step.table_name for step in plan.steps] == steps


def test_tables_of_other_versions_are_steps_where_they_are_read(lab):
    lab.table("terms", words("terms", "a"), version="v2")
    lab.table("notes", copied("notes", "terms(v2)"))
    lab.edit("terms", words("terms", "b"), version="v2")
    first, second = lab.vault.plan_refresh().steps
    assert (first.table_name, first.version, first.action) == ("terms", "v2", "execute")
    assert (second.table_name, second.after) == ("notes", ("terms(v2)",))
    assert [step.text for step in (first, second)] == ["terms(v2)", "notes"]
    assert [step.table_name for step in lab.vault.plan_refresh(upstream=False).steps] == ["notes"]


# --- actions and counts -------------------------------------------------------------------------------------------


def test_actions_follow_states(lab):
    lab.table("changed", {**words("changed", "a", "b"), **shouted()})
    lab.table("below", copied("below", "changed"))
    lab.table("outside", from_file("outside", lab.folder / "words.json", "a"))
    lab.table("new", words("new", "a"), execute=False)
    lab.table("edited", words("edited", "a"))
    lab.edit("edited", words("edited", "b"))
    lab.vault.write("given", pd.DataFrame({"word": ["a"]}))
    lab.table("same", words("same", "a"))
    lab.edit_code(("word.upper()", "word.title()"))
    assert lab.actions() == {
        "changed": "execute",
        "below": "look",
        "outside": "look",
        "new": "execute",
        "edited": "execute",
        "given": "skip",
        "same": "skip",
    }
    assert lab.states() == {
        "changed": "stale",
        "below": "stale",
        "outside": "unknown",
        "new": "never",
        "edited": "pending",
        "given": "external",
        "same": "fresh",
    }


def test_counts_are_of_rows_to_compute_and_to_reuse(lab):
    lab.table("terms", {**words("terms", "a", "b"), **shouted(), **column("each", "lab.each", {"word": "x"})})
    lab.table("notes", {**copied("notes", "terms"), **shouted()})
    lab.edit_code(("word.upper()", "word.title()"))
    steps = lab.steps()
    assert (steps["terms"].computed, steps["terms"].reused) == (2, 2)
    assert (steps["notes"].computed, steps["notes"].reused) == (None, None)
    lab.edit("terms", words("terms", "a", "b", "c"))
    assert (lab.steps()["terms"].computed, lab.steps()["terms"].reused) == (4, 2)


def test_rows_that_an_index_would_copy_are_counted_as_they_are_now(lab):
    lab.table("terms", words("terms", "a", "b"))

    def notes(nrows: int) -> dict[str, str]:
        arguments = {"df": "<<terms.{word}>>", "nrows": nrows}
        function = "table_generation.create_data_table_from_table"
        return {"notes_index": builder("IndexBuilder", ["word"], function, arguments, primary_key=["word"])}

    def counts() -> tuple[str, int | None, int | None]:
        step = lab.steps("notes")["notes"]
        return step.action, step.computed, step.reused

    lab.table("notes", {**notes(2), **shouted()})
    assert counts() == ("skip", 0, 0)
    lab.edit("notes", notes(1))
    # The row that is left is known, although the index has not run.
    assert counts() == ("execute", 0, 1)
    lab.vault.delete_instance("TEMP_base", "notes")
    lab.again("terms", words("terms", "a", "c"))
    assert counts() == ("execute", 1, 1)


def test_counts_of_a_table_that_reads_outside_need_its_index(lab):
    source = lab.folder / "words.json"
    lab.table("files", {**from_file("files", source, "a"), **shouted()})
    assert lab.steps()["files"].computed is None
    source.write_text(json.dumps(["a", "b"]))
    step = lab.steps(run_index=True)["files"]
    assert (step.action, step.computed, step.reused) == ("execute", 1, 1)


def test_counts_of_a_new_table(lab):
    lab.table("terms", {**words("terms", "a", "b"), **shouted()}, execute=False)
    lab.table("notes", {**copied("notes", "terms"), **shouted()}, execute=False)
    steps = lab.steps()
    assert (steps["terms"].computed, steps["terms"].reused) == (2, 0)
    assert (steps["notes"].action, steps["notes"].computed, steps["notes"].reused) == ("execute", None, None)


# --- side effects -------------------------------------------------------------------------------------------------


@pytest.fixture
def mails(lab):
    """A table with side effects between two others."""
    lab.table("terms", {**words("terms", "a"), **shouted()})
    lab.table("mails", {**copied("mails", "terms"), **shouted()}, has_side_effects=True)
    lab.table("notes", copied("notes", "mails"))
    return lab


def test_side_effects_run_only_if_they_are_named(mails):
    mails.edit_code(("word.upper()", "word.title()"))
    assert mails.actions("mails") == {"terms": "execute", "mails": "execute"}
    assert mails.actions("mails", "notes")["mails"] == "execute"
    step = mails.steps(upstream=False)["mails"]
    assert (step.action, step.computed) == ("skip", 0)
    assert step.reasons[-1] == "it has side effects and is not named"


def test_fresh_table_with_side_effects_does_not_block_a_refresh(mails):
    assert mails.actions("notes") == {"terms": "skip", "mails": "skip", "notes": "skip"}
    assert mails.steps("notes")["mails"].reasons == ()


@pytest.mark.slow
def test_needed_side_effects_that_are_not_named_are_refused(mails):
    mails.edit_code(("word.upper()", "word.title()"))
    for names in (["notes"], None):
        with pytest.raises(tv_errors.TVArgumentError, match="'notes' reads 'mails', which is stale, has side effects"):
            mails.vault.plan_refresh(names)
    assert mails.actions("notes", upstream=False) == {"notes": "look"}
    mails.edit("mails", shouted("louder"))
    with pytest.raises(tv_errors.TVArgumentError, match="which is pending"):
        mails.vault.plan_refresh("notes")


def test_unknown_side_effects_are_read_as_they_are(lab):
    lab.table("mails", from_file("mails", lab.folder / "words.json", "a"), has_side_effects=True)
    lab.table("notes", copied("notes", "mails"))
    assert lab.actions("notes") == {"mails": "skip", "notes": "look"}


# --- refused ------------------------------------------------------------------------------------------------------


def test_a_paused_process_in_the_way_is_refused(lab):
    lab.table("terms", {**words("terms", "good"), **column("picked", "lab.picky", {"word": "<<self.word[index]>>"})})
    lab.table("notes", copied("notes", "terms"))
    lab.edit("terms", words("terms", "good", "bad"))
    with pytest.raises(ValueError, match="bad"):
        lab.vault.execute_instance("terms", process_id="night")
    with pytest.raises(tv_errors.TVLockError, match=r"'night' \(execute_instance of table 'terms'\).*ValueError: bad"):
        lab.vault.plan_refresh("notes")
    assert lab.actions("notes", upstream=False) == {"notes": "look"}


def test_a_paused_process_that_holds_the_place_of_a_copy_is_refused(lab):
    lab.edit_code(("return word.upper()", "raise OSError(word)"))
    lab.vault.write("terms", pd.DataFrame({"word": ["a"]}))
    lab.table("notes", copied("notes", "terms"))
    lab.vault.create_instance("terms", "v2", builders={**words("terms", "a"), **shouted()})
    with pytest.raises(OSError, match="a"):
        lab.vault.execute_instance("terms", "v2", process_id="night")
    # Another version is not in the way.
    assert lab.actions() == {"terms": "skip", "notes": "skip"}
    assert lab.states(version="v2") == {"terms": "paused"}
    with pytest.raises(tv_errors.TVLockError, match="'night'"):
        lab.vault.plan_refresh(version="v2")


def test_a_table_without_instance_and_builders_is_refused(lab):
    lab.vault.create_table("empty")
    with pytest.raises(tv_errors.TVArgumentError, match="'empty' has no instance of version 'base', and no builders"):
        lab.vault.plan_refresh("empty")
    lab.vault.create_instance("empty", external_edit=True)
    with pytest.raises(tv_errors.TVArgumentError, match="no builders"):
        lab.vault.plan_refresh()
    lab.table("notes", copied("notes", "empty"), execute=False)
    with pytest.raises(tv_errors.TVArgumentError, match="'empty' has no instance"):
        lab.vault.plan_refresh("notes")


def test_a_temporary_instance_in_the_place_of_a_copy_is_refused(lab):
    lab.table("terms", {**words("terms", "a"), **shouted()})
    lab.vault.create_instance("terms", external_edit=True)
    assert lab.actions() == {"terms": "skip"}
    lab.edit_code(("word.upper()", "word.title()"))
    with pytest.raises(tv_errors.TVArgumentError, match="write_instance.*delete_instance"):
        lab.vault.plan_refresh()


def test_builders_of_all_steps_are_checked(diamond):
    diamond.edit("d", column("more", "lab.nothing", {"word": "x"}))
    with pytest.raises(tv_errors.TVBuilderError, match="nothing"):
        diamond.vault.plan_refresh()
    diamond.vault.delete_instance("TEMP_base", "d")
    diamond.edit("d", column("more", "lab.each", {"word": "<<b.missing>>"}))
    with pytest.raises(tv_errors.TableReferenceError, match="missing"):
        diamond.vault.plan_refresh()
    diamond.vault.create_builder_file("d", "more", text="builder_type: [")
    with pytest.raises(tv_errors.TVBuilderError, match=r"more\.yaml"):
        diamond.vault.plan_refresh()
    assert diamond.actions("b") == {"a": "skip", "b": "skip"}


def test_a_column_that_a_step_before_makes_may_be_read(diamond):
    diamond.edit("a", column("new", "lab.each", {"word": "<<self.word[index]>>"}))
    lookup = "<<a.new[word::<<self.word[index]>>]>>"
    diamond.edit("b", column("read", "lab.each", {"word": lookup}))
    assert diamond.actions() == {"a": "execute", "b": "execute", "c": "look", "d": "look"}
    with pytest.raises(tv_errors.TableReferenceError, match="new"):
        diamond.vault.plan_refresh("b", upstream=False)
    diamond.vault.create_builder_file("b", "read", text=column("read", "lab.each", {"word": "<<a.old>>"})["read"])
    with pytest.raises(tv_errors.TableReferenceError, match="old"):
        diamond.vault.plan_refresh()


def test_new_tables_that_read_one_another_are_checked(lab):
    lab.table("terms", {**words("terms", "a"), **shouted()}, execute=False)
    lab.table(
        "notes", {**copied("notes", "terms"), **column("x", "lab.each", {"word": "<<terms.loud>>"})}, execute=False
    )
    assert lab.actions() == {"terms": "execute", "notes": "execute"}
    lab.vault.create_builder_file("notes", "x", text=column("x", "lab.each", {"word": "<<terms.quiet>>"})["x"])
    with pytest.raises(tv_errors.TableReferenceError, match="quiet"):
        lab.vault.plan_refresh()


def test_fields_that_a_new_table_decides_are_checked_when_it_is_there(lab):
    lab.table("terms", words("terms", "shout"), execute=False)
    named = builder("ColumnBuilder", ["x"], "lab.shout", {"word": "a"}, return_type="row-wise")
    named = named.replace("python_function: shout", "python_function: <<terms.word[index::0]>>")
    lab.table("notes", {**words("notes", "a"), "x": named}, execute=False)
    assert lab.actions() == {"terms": "execute", "notes": "execute"}
    lab.execute("terms")
    assert lab.steps()["notes"].computed == 1


def test_an_index_that_needs_an_origin_is_checked(lab):
    row_wise = builder("IndexBuilder", ["word"], "lab.each", {"word": "a"}, return_type="row-wise")
    lab.table("terms", {"terms_index": row_wise}, execute=False)
    with pytest.raises(tv_errors.TVBuilderError, match="called once per row of the origin"):
        lab.vault.plan_refresh()


def test_a_paused_process_that_holds_an_input_is_refused(lab):
    picked = column("picked", "lab.picky", {"word": "<<self.word[index]>>"})
    lab.table("mails", {**words("mails", "good"), **picked}, has_side_effects=True)
    lab.table("notes", {**from_file("notes", lab.folder / "words.json", "a"), **column("x", "lab.each", READ)})
    lab.edit("mails", words("mails", "bad"))
    assert lab.actions("notes", upstream=False) == {"notes": "look"}
    with pytest.raises(ValueError, match="bad"):
        lab.vault.execute_instance("mails", process_id="night")
    with pytest.raises(tv_errors.TVLockError, match="'night'"):
        lab.vault.plan_refresh("notes", upstream=False)


READ = {"word": "<<mails.word[index::0]>>"}


# --- commands -----------------------------------------------------------------------------------------------------


def test_commands_print_states_and_steps(lab):
    lab.table("terms", words("terms", "a"))
    lab.table("notes", copied("notes", "terms"))
    lab.edit("terms", words("terms", "b"))

    def run(*given: str):
        result = CliRunner().invoke(application, ["--db-dir", lab.vault.db_dir, *given])
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    found = run("status")
    assert list(found) == ["terms", "notes"]
    assert found["notes"]["state"] == "stale"
    assert found["notes"]["reasons"] == ["`terms` is pending"]
    assert list(run("status", "notes", "--run-index", "--json")) == ["notes"]
    assert run("status", "--version", "v2") == {}
    steps = run("refresh", "--all", "--dry-run")["steps"]
    assert [(step["table_name"], step["action"], step["after"]) for step in steps] == [
        ("terms", "execute", []),
        ("notes", "look", ["terms"]),
    ]
    assert [step["table_name"] for step in run("refresh", "notes", "--no-upstream", "--dry-run")["steps"]] == ["notes"]
    assert len(run("refresh", "terms", "--downstream", "--dry-run", "--run-index")["steps"]) == 2


@pytest.mark.parametrize("given", [["refresh", "--dry-run"], ["refresh", "terms", "--all", "--dry-run"]])
def test_refresh_takes_tables_or_all(lab, given):
    lab.table("terms", words("terms", "a"))
    result = CliRunner().invoke(application, ["--db-dir", lab.vault.db_dir, *given])
    assert result.exit_code == 2
    assert "Name tables, or give --all." in result.output


def test_people_read_tables(lab, monkeypatch):
    monkeypatch.setattr("tablevault.cli.freshness.is_json", lambda place: False)
    monkeypatch.setattr("tablevault.cli.showing.is_json", lambda place: False)
    lab.table("terms", words("terms", "a"))
    lab.table("notes", copied("notes", "terms"))
    lab.edit("terms", words("terms", "b"))
    status = CliRunner().invoke(application, ["--db-dir", lab.vault.db_dir, "status"]).output
    assert [line.split()[:2] for line in status.splitlines()[1:]] == [["terms", "pending"], ["notes", "stale"]]
    plan = CliRunner().invoke(application, ["--db-dir", lab.vault.db_dir, "refresh", "notes", "--dry-run"]).output
    # The last column may take several lines.
    begins = [line.split()[:2] for line in plan.splitlines() if not line.startswith(" ")]
    assert begins == [["table", "action"], ["terms", "execute"], ["notes", "look"]]
