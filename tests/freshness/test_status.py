"""`get_status` tells whether tables are up to date, and never calls one fresh by guess."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
from lab import builder, column, copied, from_file, shouted, words

from tablevault import TableVault, tv_errors


def tree(folder: Path) -> dict[str, bytes]:
    # What the catalog holds is compared on its own: SQLite's files change when they are read.
    files = (path for path in folder.rglob("*") if path.is_file() and "catalog.db" not in path.name)
    return {str(path): path.read_bytes() for path in files}


def rows_of_catalog(folder: Path) -> dict[str, list]:
    with sqlite3.connect(folder / "metadata" / "catalog.db") as catalog:
        names = [name for (name,) in catalog.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: catalog.execute(f"SELECT * FROM {name}").fetchall() for name in names}


# --- states -------------------------------------------------------------------------------------------------------


def test_fresh_tables_name_their_inputs_and_readers(lab):
    terms = lab.table("terms", {**words("terms", "a", "b"), **shouted()})
    notes = lab.table("notes", copied("notes", "terms"))
    status = lab.status()
    assert list(status) == ["terms", "notes"]
    assert (status["terms"].state, status["terms"].reasons) == ("fresh", ())
    assert (status["terms"].inputs, status["terms"].used_by) == ((), ("notes",))
    assert (status["notes"].state, status["notes"].inputs, status["notes"].used_by) == ("fresh", ("terms",), ())
    assert (status["terms"].instance_id, status["notes"].instance_id) == (terms, notes)


def test_status_writes_and_calls_nothing(lab):
    lab.table("terms", {**words("terms", "a"), **shouted()})
    lab.table("files", from_file("files", lab.folder / "words.json", "a"))
    lab.edit("terms", shouted("louder"))
    before = tree(lab.folder / "vault"), rows_of_catalog(lab.folder / "vault")
    lab.calls  # noqa: B018
    lab.status()
    lab.vault.plan_refresh()
    assert lab.calls == []
    lab.status(run_index=True)
    assert lab.calls == ["from_file"]
    assert (tree(lab.folder / "vault"), rows_of_catalog(lab.folder / "vault")) == before


def test_never_is_a_table_without_materialized_instance(lab):
    lab.table("terms", words("terms", "a"), execute=False)
    status = lab.status("terms")["terms"]
    assert (status.state, status.instance_id) == ("never", "")
    assert status.reasons == ("it has no materialized instance of version 'base'",)
    lab.vault.create_table("empty")
    assert lab.states("empty") == {"empty": "never"}
    assert "empty" not in lab.status()


def test_pending_is_a_table_with_edited_builders(lab):
    lab.table("terms", {**words("terms", "a"), **shouted()})
    lab.edit("terms", shouted("louder"))
    assert lab.states() == {"terms": "pending"}
    assert lab.reasons("terms") == ("TEMP_base differs from its origin in louder.yaml",)


def test_a_deleted_builder_is_an_edit(lab):
    lab.table("terms", {**words("terms", "a"), **shouted()})
    lab.vault.create_instance("terms", copy=True)
    lab.vault.delete_builder_file("loud", "terms")
    assert lab.reasons("terms") == ("TEMP_base differs from its origin in loud.yaml",)


def test_an_unedited_temporary_instance_does_not_count(lab):
    lab.table("terms", {**words("terms", "a"), **shouted()})
    lab.vault.create_instance("terms", copy=True)
    assert lab.states() == {"terms": "fresh"}
    text = lab.vault.get_builder_str("terms", "loud")
    lab.vault.create_builder_file("terms", "loud", text=f"# a remark\n{text}")
    assert lab.states() == {"terms": "fresh"}
    lab.vault.create_builder_file("terms", "loud", text=f"{text}\nn_threads: 2\n")
    assert lab.states() == {"terms": "pending"}


def test_an_unedited_copy_of_a_renamed_table_does_not_count(lab):
    lab.table("terms", {**words("terms", "a"), **shouted()})
    lab.vault.rename_table("names", "terms")
    lab.vault.create_instance("names", copy=True)
    assert lab.states() == {"names": "fresh"}


def test_a_copy_of_another_version_is_pending(lab):
    lab.table("terms", words("terms", "a"))
    first = lab.vault.get_table_instances("terms")[-1]
    lab.table("terms", words("terms", "b"), version="v2")
    lab.vault.create_instance("terms", "v2", origin_id=first)
    assert lab.reasons("terms", version="v2") == ("TEMP_v2 is not a copy of an instance of this table and version",)


def test_external_is_a_table_that_a_program_wrote(lab):
    lab.vault.write("given", pd.DataFrame({"word": ["a"]}))
    lab.table("notes", copied("notes", "given"))
    assert lab.states() == {"given": "external", "notes": "fresh"}
    lab.vault.write("given", pd.DataFrame({"word": ["b"]}))
    assert lab.states() == {"given": "external", "notes": "stale"}
    lab.vault.create_instance("given", external_edit=True)
    assert lab.states("given") == {"given": "external"}


def test_running_and_paused_name_the_process(lab):
    lab.table("terms", {**words("terms", "good"), **column("picked", "lab.picky", {"word": "<<self.word[index]>>"})})
    lab.table("notes", copied("notes", "terms"))
    lab.edit("terms", words("terms", "good", "bad"))
    with pytest.raises(ValueError, match="bad"):
        lab.vault.execute_instance("terms", process_id="night")
    assert lab.states() == {"terms": "paused", "notes": "unknown"}
    assert lab.reasons("terms") == ("process 'night' (execute_instance) was paused by ValueError: bad",)
    assert lab.reasons("notes") == ("`terms` is paused",)
    lab.vault.stop_process("night")
    assert lab.states() == {"terms": "pending", "notes": "stale"}


def test_running_is_seen_from_inside_the_function(lab):
    lab.edit_code(("return word.upper()", "return look(word)"), ("def each(", LOOK))
    lab.table("terms", {**words("terms", "a"), **shouted()})
    assert json.loads((lab.folder / "seen").read_text()) == {"terms": "running"}


LOOK = """def look(word):
    from tablevault import TableVault
    folder = CALLS.parent
    states = {name: status.state for name, status in TableVault(folder / "vault").get_status().items()}
    (folder / "seen").write_text(json.dumps(states))
    return word

def each("""


def test_unknown_is_a_table_that_reads_outside_the_vault(lab):
    source = lab.folder / "words.json"
    lab.table("files", {**from_file("files", source, "a", "b"), **shouted()})
    lab.table("notes", copied("notes", "files"))
    assert lab.states() == {"files": "unknown", "notes": "unknown"}
    assert lab.reasons("files") == ("`files_index` reads outside the vault: only running it can tell",)
    assert lab.reasons("notes") == ("`files` is unknown",)
    assert lab.states(run_index=True) == {"files": "fresh", "notes": "fresh"}


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (("a", "b", "c"), "1 new row"),
        (("a",), "the rows that `files_index` makes changed"),
        (("b", "a"), "the rows that `files_index` makes changed"),
    ],
)
def test_running_the_index_tells_stale_from_fresh(lab, now, reason):
    source = lab.folder / "words.json"
    lab.table("files", {**from_file("files", source, "a", "b"), **shouted()})
    source.write_text(json.dumps(now))
    assert lab.states() == {"files": "unknown"}
    assert lab.states(run_index=True) == {"files": "stale"}
    assert lab.reasons("files", run_index=True) == (reason,)


def test_an_index_that_fails_leaves_its_table_unknown(lab):
    source = lab.folder / "words.json"
    lab.table("files", {**from_file("files", source, "a"), **shouted()})
    lab.table("terms", words("terms", "a"))
    source.unlink()
    assert lab.states(run_index=True) == {"files": "unknown", "terms": "fresh"}
    (reason,) = lab.reasons("files", run_index=True)
    assert reason.startswith("`files_index` raised FileNotFoundError: ")


def test_a_random_sample_reads_outside_the_vault(lab):
    lab.table("terms", words("terms", "a", "b"))
    sampled = copied("some", "terms")
    arguments = {"df": "<<terms.{word}>>", "nrows": 1, "random_sample": True}
    function = "table_generation.create_data_table_from_table"
    sampled = {"some_index": builder("IndexBuilder", ["word"], function, arguments)}
    lab.table("some", sampled)
    assert lab.states("some") == {"some": "unknown"}


def test_wrong_builders_leave_a_table_unknown(lab):
    lab.table("terms", {**words("terms", "a"), **shouted()})
    lab.vault.create_code_module("lab", text="def other():\n    return 1\n")
    assert lab.states() == {"terms": "unknown"}
    (reason,) = lab.reasons("terms")
    assert "shout" in reason
    assert "\n" not in reason
    with pytest.raises(tv_errors.TVBuilderError, match="shout"):
        lab.vault.plan_refresh()


# --- stale --------------------------------------------------------------------------------------------------------


def test_changed_code_makes_stale(lab):
    lab.table("terms", {**words("terms", "a"), **shouted()})
    lab.table("files", {**from_file("files", lab.folder / "words.json", "a"), **shouted()})
    lab.edit_code(("word.upper()", "word.title()"))
    assert lab.states() == {"files": "stale", "terms": "stale"}
    assert lab.reasons("terms") == lab.reasons("files") == ("code of 'lab.py' changed: shout",)


def test_status_does_not_mind_that_another_thread_imports(lab, monkeypatch):
    lab.table("terms", {**words("terms", "a"), **shouted()})

    class Importing:
        """Disturbs look-ups of new files, as importing threads sometimes do."""

        errors: ClassVar = [RuntimeError("dictionary changed size during iteration"), KeyError("folder")]

        def find_spec(self, *_):
            return None

        def invalidate_caches(self):
            if self.errors:
                raise self.errors.pop()

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Importing()])
    assert lab.states() == {"terms": "fresh"}
    assert Importing.errors == []


def test_changed_code_of_an_empty_table_makes_stale(lab):
    source = lab.folder / "words.json"
    source.write_text("[]")
    lab.table("files", {**from_file("files", source), **shouted()})
    lab.table("terms", {**words("terms"), **shouted()})
    lab.edit_code(("word.upper()", "word.title()"))
    assert lab.states() == lab.states(run_index=True) == {"files": "stale", "terms": "stale"}
    assert lab.reasons("terms") == lab.reasons("files") == ("code of 'lab.py' changed: shout",)
    lab.vault.refresh()
    assert lab.states(run_index=True) == {"files": "fresh", "terms": "fresh"}


def test_failed_cells_make_stale(lab):
    picked = column("picked", "lab.picky", {"word": "<<self.word[index]>>"}, on_error="collect")
    with pytest.warns(tv_errors.TableVaultWarning):
        lab.table("terms", {**words("terms", "good", "bad"), **picked})
    assert lab.reasons("terms") == ("1 row failed in the origin (1 ValueError)",)
    with pytest.warns(tv_errors.TableVaultWarning):
        lab.table("files", {**from_file("files", lab.folder / "words.json", "good", "bad"), **picked})
    assert lab.states("files") == {"files": "stale"}
    assert lab.reasons("files") == ("1 row failed in the origin (1 ValueError)",)


def test_a_stopped_execution_leaves_its_table_stale(lab):
    picked = column("picked", "lab.picky", {"word": "<<self.word[index]>>"})
    lab.table("terms", {**words("terms", "good", "bad"), **picked}, execute=False)
    with pytest.raises(ValueError, match="bad"):
        lab.vault.execute_instance("terms", process_id="night")
    lab.vault.stop_process("night", materialize=True)
    status = lab.status()["terms"]
    assert status.state == "stale"
    assert "the execution of its newest instance was stopped" in status.reasons


def test_never_computed_rows_make_stale_before_the_index_has_run(lab):
    picked = column("picked", "lab.picky", {"word": "<<self.word[index]>>"})
    lab.table("files", {**from_file("files", lab.folder / "words.json", "good", "bad"), **picked}, execute=False)
    with pytest.raises(ValueError, match="bad"):
        lab.vault.execute_instance("files", process_id="night")
    lab.vault.stop_process("night", materialize=True)
    assert "never computed in 1 row" in lab.reasons("files")


def test_a_missing_artifact_makes_stale(lab):
    file = column(
        "file",
        "lab.write",
        {"folder": "~ARTIFACT_FOLDER~", "word": "<<self.word[index]>>"},
        dtypes={"file": "artifact_string"},
    )
    lab.table("terms", {**words("terms", "a"), **file})
    assert lab.states() == {"terms": "fresh"}
    (path,) = lab.vault.get_dataframe("terms")[0]["file"]
    Path(path).parent.chmod(0o700)
    Path(path).unlink()
    assert lab.states() == {"terms": "stale"}


def test_a_table_downstream_of_a_stale_one_is_stale(lab):
    lab.table("terms", {**words("terms", "a"), **shouted()})
    lab.table("notes", copied("notes", "terms"))
    lab.table("ends", copied("ends", "notes"))
    lab.edit_code(("word.upper()", "word.title()"))
    assert lab.states() == {"terms": "stale", "notes": "stale", "ends": "stale"}
    assert (lab.reasons("notes"), lab.reasons("ends")) == (("`terms` is stale",), ("`notes` is stale",))


def test_a_table_downstream_of_a_pending_or_missing_one_is_stale(lab):
    lab.table("terms", words("terms", "a"))
    lab.table("notes", copied("notes", "terms"))
    lab.edit("terms", words("terms", "b"))
    assert lab.reasons("notes") == ("`terms` is pending",)
    lab.vault.delete_instance("TEMP_base", "terms")
    lab.vault.delete_instance(lab.vault.get_table_instances("terms")[-1], "terms")
    assert lab.status("notes")["notes"].state == "stale"
    assert lab.reasons("notes") == ("`terms` is never",)


@pytest.mark.parametrize("by_row", ["for_each", "row-wise"])
def test_an_index_called_by_row_is_computed_again_only_once(lab, by_row):
    lab.table("terms", words("terms", "ab", "c"))
    word = "<<terms.word[index]>>" if by_row == "for_each" else "<<self.letter[index]>>"
    fields = {"for_each": "terms"} if by_row == "for_each" else {}
    function = "lab.split" if by_row == "for_each" else "lab.each"
    index = builder("IndexBuilder", ["letter"], function, {"word": word}, return_type="row-wise", **fields)
    first = {"letters_index": index} if by_row == "for_each" else words("letters", "ab", "c", column="letter")
    lab.table("letters", first)
    if by_row == "row-wise":
        lab.again("letters", {"letters_index": index})
    assert lab.states() == {"terms": "fresh", "letters": "fresh"}
    lab.edit_code(
        ("return list(word)", "return [*word]"), ("return word\n\ndef split", "return str(word)\n\ndef split")
    )
    assert lab.states() == {"terms": "fresh", "letters": "stale"}
    lab.vault.create_instance("letters", copy=True)
    lab.vault.execute_instance("letters", skip_unchanged=True)
    assert lab.states() == {"terms": "fresh", "letters": "fresh"}


# --- newer values -------------------------------------------------------------------------------------------------


def looked_up(name: str, of: str, where: str = "") -> dict[str, str]:
    """A row-wise column that reads one cell of another table."""
    return column(name, "lab.shout", {"word": f"<<{of}{where}.loud[word::<<self.word[index]>>]>>"})


def test_an_input_with_newer_values_makes_stale(lab):
    first = lab.table("terms", {**words("terms", "a", "b"), **shouted()})
    lab.table("notes", {**words("notes", "a"), **looked_up("read", "terms")})
    second = lab.again("terms", words("terms", "a", "c"))
    # The cell that is read has not changed; the column has.
    assert lab.reasons("notes") == (f"input `terms` is instance {second}, was {first}",)
    assert lab.actions("notes") == {"terms": "skip", "notes": "execute"}


def test_an_input_with_equal_values_is_not_newer(lab):
    lab.table("terms", {**words("terms", "a", "b"), **shouted()})
    lab.table("notes", {**words("notes", "a"), **looked_up("read", "terms")})
    lab.again("terms", shouted("louder"))
    assert lab.states() == {"terms": "fresh", "notes": "fresh"}


def test_rows_in_another_order_are_newer(lab):
    lab.table("terms", {**words("terms", "a", "b"), **shouted()})
    lab.table("notes", {**words("notes", "a"), **looked_up("read", "terms")})
    lab.again("terms", words("terms", "b", "a"))
    assert lab.states("notes") == {"notes": "stale"}


def test_columns_that_are_not_read_do_not_count(lab):
    lab.table("terms", {**words("terms", "a"), **shouted(), **shouted("other")})
    lab.table("notes", {**words("notes", "a"), **looked_up("read", "terms")})
    lab.again("terms", column("other", "lab.each", {"word": "<<self.word[index]>>"}))
    assert lab.states("notes") == {"notes": "fresh"}


def test_a_reader_of_all_columns_sees_a_new_one(lab):
    lab.table("terms", words("terms", "a"))
    lab.table("notes", {**words("notes", "a"), **column("joined", "lab.joined", {"words": "<<terms>>", "word": "a"})})
    lab.again("terms", shouted())
    assert lab.states("notes") == {"notes": "stale"}


@pytest.mark.parametrize(
    ("values", "others"),
    [
        ([1.5, float("inf"), None], [1.5, 2.0, None]),
        ([1, 2, 3], [1, 2, 4]),
        (["a", None, "c"], ["a", "", "c"]),
        ([[1], None, [2, 3]], [[1], None, [2, 4]]),
        ([{"a": 1}, {}, None], [{"a": 2}, {}, None]),
        ([True, False, None], [True, True, None]),
    ],
)
def test_values_of_every_kind_are_compared(lab, values, others):
    def write(cells, *, more: bool = False):
        frame = pd.DataFrame({"word": ["a", "b", "c"], "value": pd.Series(cells, dtype="object")})
        lab.vault.write("given", frame.assign(added=1) if more else frame, skip_unchanged=False)

    reader = column("joined", "lab.joined", {"words": "<<given.value>>", "word": "a"})
    write(values)
    lab.table("notes", {**words("notes", "a"), **reader})
    write(values, more=True)
    assert lab.states("notes") == {"notes": "fresh"}
    write(others)
    assert lab.states("notes") == {"notes": "stale"}


def test_large_columns_are_compared_across_row_groups(lab):
    def write(last: int) -> None:
        frame = pd.DataFrame({"value": [*range(50_000), last], "other": "x"})
        lab.vault.write("given", frame, skip_unchanged=False)

    write(1)
    lab.table("notes", {**words("notes", "a"), **column("n", "lab.joined", {"words": "<<given.value>>", "word": "a"})})
    write(1)
    assert lab.states("notes") == {"notes": "fresh"}
    write(2)
    assert lab.states("notes") == {"notes": "stale"}


def test_artifacts_are_compared_by_content(lab):
    file = column(
        "file",
        "lab.write",
        {"folder": "~ARTIFACT_FOLDER~", "word": "<<self.word[index]>>"},
        dtypes={"file": "artifact_string"},
    )
    lab.table("terms", {**words("terms", "a"), **file}, allow_multiple_artifacts=True)
    lab.table("notes", {**words("notes", "a"), **column("j", "lab.joined", {"words": "<<terms.file>>", "word": "a"})})
    lab.again("terms", shouted())
    assert lab.states("notes") == {"notes": "fresh"}
    lab.edit_code(("word * 2", "word * 3"))
    lab.again("terms")
    assert lab.states("notes") == {"notes": "stale"}


def test_a_deleted_input_counts_as_newer(lab):
    first = lab.table("terms", {**words("terms", "a"), **shouted()})
    lab.table("notes", {**words("notes", "a"), **looked_up("read", "terms")})
    second = lab.again("terms", shouted("more"))
    assert lab.states("notes") == {"notes": "fresh"}
    lab.vault.delete_instance(first, "terms")
    assert lab.reasons("notes") == (f"input `terms` is instance {second}, was {first}",)


def test_a_confirmed_input_is_compared_from_then_on(lab):
    lab.table("terms", {**words("terms", "a", "b"), **shouted()})
    lab.table("notes", {**words("notes", "a"), **looked_up("read", "terms")})
    second = lab.again("terms", words("terms", "a", "c"))
    lab.vault.create_instance("notes", copy=True)
    lab.vault.execute_instance("notes", skip_unchanged=True)
    assert lab.states() == {"terms": "fresh", "notes": "fresh"}
    third = lab.again("terms", words("terms", "a", "b"))
    assert lab.reasons("notes") == (f"input `terms` is instance {third}, was {second}",)


# --- the graph ----------------------------------------------------------------------------------------------------


def test_a_reference_to_a_version_is_an_edge_to_it(lab):
    lab.table("terms", words("terms", "a"))
    lab.table("terms", words("terms", "b"), version="v2")
    lab.table("notes", copied("notes", "terms(v2)"))
    status = lab.status()
    assert status["notes"].inputs == ("terms(v2)",)
    assert status["terms"].used_by == ()
    lab.edit("terms", words("terms", "c"), version="v2")
    assert lab.reasons("notes") == ("`terms(v2)` is pending",)


def test_a_reference_without_version_is_an_edge_to_the_version(lab):
    lab.table("terms", words("terms", "a"))
    lab.table("terms", words("terms", "a"), version="v2")
    lab.table("notes", copied("notes", "terms"))
    lab.table("notes", copied("notes", "terms"), version="v2")
    assert lab.status()["notes"].inputs == ("terms",)
    assert lab.status(version="v2")["notes"].inputs == ("terms",)
    lab.edit("terms", words("terms", "b"), version="v2")
    assert lab.states() == {"terms": "fresh", "notes": "fresh"}
    assert lab.states(version="v2") == {"terms": "pending", "notes": "stale"}


def test_a_reference_without_version_falls_back_to_the_newest_instance(lab):
    lab.table("terms", words("terms", "a"), version="v1")
    lab.table("terms", words("terms", "a"), version="v2")
    lab.table("notes", copied("notes", "terms"))
    assert lab.status()["notes"].inputs == ("terms(v2)",)


def test_reference_to_an_instance_does_not_make_an_edge(lab):
    first = lab.table("terms", words("terms", "a"))
    lab.table("notes", copied("notes", f"terms({first})"))
    lab.edit("terms", words("terms", "b"))
    assert lab.status("notes")["notes"].inputs == ()
    assert lab.states() == {"notes": "fresh", "terms": "pending"}


def test_reference_to_the_table_itself_does_not_make_an_edge(lab):
    lab.table("terms", words("terms", "a"))
    lab.again("terms", column("joined", "lab.joined", {"words": "<<terms.word>>", "word": "<<self.word[index]>>"}))
    assert lab.status()["terms"].inputs == ()


def test_builders_of_an_edited_temporary_instance_make_the_graph(lab):
    lab.table("terms", words("terms", "a"))
    lab.table("more", words("more", "a"))
    lab.table("notes", copied("notes", "terms"))
    lab.edit("notes", copied("notes", "more"))
    assert lab.status()["notes"].inputs == ("more",)


def test_for_each_and_dependencies_are_edges(lab):
    lab.table("terms", words("terms", "ab", "c"))
    letters = builder(
        "IndexBuilder",
        ["letter"],
        "lab.split",
        {"word": "<<terms.word[index]>>"},
        return_type="row-wise",
        for_each="terms",
    )
    lab.table("letters", {"letters_index": letters})
    lab.table(
        "notes", {**words("notes", "a"), **column("w", "lab.each", {"word": "x"}, dependencies=["letters.letter"])}
    )
    assert lab.status()["letters"].inputs == ("terms",)
    assert lab.status()["notes"].inputs == ("letters",)
    assert lab.states() == {"terms": "fresh", "letters": "fresh", "notes": "fresh"}
    lab.again("terms", words("terms", "ab"))
    assert lab.states() == {"terms": "fresh", "letters": "stale", "notes": "stale"}
    lab.again("letters")
    assert lab.states("letters") == {"letters": "fresh"}


def test_a_cycle_names_its_tables(lab):
    lab.table("a", words("a", "x"))
    lab.table("b", copied("b", "a"))
    lab.table("c", copied("c", "b"))
    lab.table("other", words("other", "x"))
    lab.edit("a", copied("a", "c"))
    for call in (lab.vault.get_status, lab.vault.plan_refresh):
        with pytest.raises(tv_errors.TVBuilderError, match="in a cycle: 'a' reads 'c' reads 'b' reads 'a'") as caught:
            call()
        assert "a_index.yaml, line " in str(caught.value)
    assert lab.states("other") == {"other": "fresh"}


# --- arguments ----------------------------------------------------------------------------------------------------


def test_names_are_a_name_a_list_or_left_out(lab):
    lab.table("terms", words("terms", "a"))
    lab.table("notes", copied("notes", "terms"))
    assert list(lab.vault.get_status("NOTES")) == ["notes"]
    assert list(lab.vault.get_status(["notes", "terms"])) == ["terms", "notes"]
    assert lab.vault.get_status([]) == {}
    assert lab.vault.get_status(version="v2") == {}
    with pytest.raises(tv_errors.TVArgumentError, match="There is no table 'term'.*terms"):
        lab.vault.get_status("term")
    with pytest.raises(tv_errors.TVArgumentError, match="version"):
        lab.vault.get_status(version="a_b")


def test_a_vault_of_another_user_can_be_asked(lab):
    lab.table("terms", words("terms", "a"))
    assert TableVault(lab.vault.db_dir, author="ben").get_status("terms")["terms"].state == "fresh"


def test_records_show_themselves(lab):
    lab.table("terms", words("terms", "a"))
    lab.table("notes", copied("notes", "terms"))
    lab.edit("terms", words("terms", "<b>"))
    status = lab.status()["notes"]
    assert repr(status).splitlines()[:2] == ["stale", "  `terms` is pending"]
    assert "`terms` is pending" in status._repr_html_()
    plan = lab.vault.plan_refresh()
    assert repr(plan).splitlines()[1] == "look notes; `terms` is pending"
    assert "TEMP_base differs" in plan._repr_html_()


def test_an_empty_vault_has_no_states(lab):
    assert lab.status() == {}
    assert lab.vault.plan_refresh().steps == ()


def test_deleted_tables_are_not_there(lab):
    lab.table("terms", words("terms", "a"))
    lab.table("notes", copied("notes", "terms"))
    lab.vault.delete_table("terms")
    assert lab.states() == {"notes": "unknown"}
    (reason,) = lab.reasons("notes")
    assert reason.startswith("notes_index.yaml, line 8, arguments.df: There is no table 'terms'")


def test_builder_that_is_not_a_regular_file_leaves_its_table_unknown(lab):
    lab.table("terms", words("terms", "a"))
    lab.table("more", words("more", "a"))
    lab.vault.create_instance("terms", copy=True)
    file = lab.folder / "vault" / "terms" / "TEMP_base" / "builders" / "terms_index.yaml"
    file.unlink()
    file.symlink_to(lab.folder / "calls")
    assert lab.states("more") == {"more": "fresh"}
    assert lab.states("terms") == {"terms": "unknown"}
    assert "symbolic link" in lab.reasons("terms")[0]
    with pytest.raises(tv_errors.TVFileError, match="symbolic link"):
        lab.vault.plan_refresh("terms")


def test_an_overwritten_column_of_the_index_is_reused(lab):
    index = {name: text.replace("primary_key:\n- word\n", "") for name, text in words("terms", "A", "b").items()}
    arguments = {"word": "<<self.word[index]>>"}
    over = builder("ColumnBuilder", ["word"], "lab.shout", arguments, return_type="row-wise")
    lab.table("terms", {**index, "over": over})
    assert lab.states() == {"terms": "fresh"}
    lab.edit_code(("word.upper()", "word.title()"))
    assert lab.states() == {"terms": "stale"}


def test_a_row_whose_reference_cannot_be_resolved_is_left_to_its_execution(lab):
    lab.vault.write("given", pd.DataFrame({"n": [1, 2], "v": ["a", "b"]}))
    read = column("read", "lab.each", {"word": "<<given.v[n::<<self.word[index]>>]>>"})
    lab.table("notes", {**words("notes", "1"), **read})
    lab.vault.write("given", pd.DataFrame({"n": pd.to_datetime(["2024-01-01"]), "v": ["a"]}))
    status = lab.status()["notes"]
    assert status.state == "unknown"
    assert "'1'" in status.reasons[0]
    assert lab.actions() == {"given": "skip", "notes": "look"}


@pytest.mark.parametrize("missing", ["table.parquet", "fingerprints.parquet", "provenance.json", "builders"])
def test_a_missing_file_leaves_its_table_unknown(lab, missing):
    lab.table("more", words("more", "a"))
    instance = lab.table("terms", {**words("terms", "a"), **shouted()})
    folder = lab.folder / "vault" / "terms" / instance
    folder.chmod(0o755)
    (folder / missing).chmod(0o755)
    shutil.rmtree(folder / missing) if missing == "builders" else (folder / missing).unlink()
    status = lab.status()
    assert status["more"].state == "fresh"
    assert status["terms"].state == ("stale" if missing == "fingerprints.parquet" else "unknown")
    if missing != "fingerprints.parquet":
        assert "verify() lists all problems" in status["terms"].reasons[0]


def test_instances_that_go_meanwhile_are_read_again(lab):
    lab.table("terms", {**words("terms", "a"), **shouted()})
    lab.table("notes", {**copied("notes", "terms"), **looked_up("read", "terms")})
    other = TableVault(lab.vault.db_dir, author="ben")

    def replace():
        for _ in range(4):
            other.create_instance("terms", copy=True)
            other.execute_instance("terms")
            other.delete_instance(other.get_table_instances("terms")[0], "terms")

    thread = threading.Thread(target=replace)
    thread.start()
    while thread.is_alive():
        states = lab.states()
        assert states["terms"] in ("fresh", "running"), lab.reasons("terms")
        assert states["notes"] in ("fresh", "unknown", "stale")
    thread.join()
