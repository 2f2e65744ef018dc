"""What the reading methods return, of which instance, and in which form."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import polars
import pyarrow as pa
import pytest
from operated import CODE, INDEX, SHOUT, build, column_builder, index_builder
from rich.console import Console

from tablevault import TableVault, tv_errors


@pytest.fixture
def executed(stories):
    stories.execute_instance("stories")
    return stories


def test_rows_and_columns_are_chosen(executed):
    frame, _ = executed.get_dataframe("stories", rows=2, columns=["loud", "key"])
    assert frame.to_dict("list") == {"loud": ["WORD0", "WORD1"], "key": [0, 1]}
    assert len(executed.get_dataframe("stories", rows=0)[0]) == 0
    assert len(executed.get_dataframe("stories", rows=99)[0]) == 4
    assert list(executed.get_dataframe("stories", columns=[])[0].columns) == []


def test_pages_of_a_frame_are_read_by_offset(executed):
    pages = [executed.get_dataframe("stories", offset=start, rows=3)[0]["key"].tolist() for start in (0, 3, 6)]
    assert pages == [[0, 1, 2], [3], []]
    assert executed.get_dataframe("stories", offset=1)[0]["key"].tolist() == [1, 2, 3]
    assert executed.get_dataframe("stories", offset=1, rows=2, failed="drop")[0]["key"].tolist() == [1, 2]
    assert len(executed.get_dataframe("stories", offset=2**70, rows=2**70)[0]) == 0
    with pytest.raises(tv_errors.TVArgumentError, match="offset must be a non-negative integer, not -1"):
        executed.get_dataframe("stories", offset=-1)


@pytest.mark.parametrize("rows", [-1, 1.5, "2", True])
def test_a_wrong_number_of_rows_is_an_argument_error(executed, rows):
    with pytest.raises(tv_errors.TVArgumentError, match="rows"):
        executed.get_dataframe("stories", rows=rows)


@pytest.mark.parametrize("columns", ["key", [7], [["key"]], ["key", "key"]])
def test_columns_of_a_wrong_form_are_an_error(executed, columns):
    with pytest.raises(tv_errors.TableVaultError):
        executed.get_dataframe("stories", columns=columns)


def test_an_unknown_column_is_answered_with_the_nearest(executed):
    with pytest.raises(tv_errors.TVTableError, match="'loud'"):
        executed.get_dataframe("stories", columns=["lowd"])


def test_frames_come_in_the_library_that_is_asked_for(executed):
    assert isinstance(executed.get_dataframe("stories")[0], pd.DataFrame)
    arrow = executed.get_dataframe("stories", format="arrow", rows=2)[0]
    assert isinstance(arrow, pa.Table)
    assert arrow.column("loud").to_pylist() == ["WORD0", "WORD1"]
    frame = executed.get_dataframe("stories", format="polars", columns=["key"])[0]
    assert isinstance(frame, polars.DataFrame)
    assert frame["key"].to_list() == [0, 1, 2, 3]


def test_the_caller_owns_the_frame(executed):
    frame, _ = executed.get_dataframe("stories")
    frame.loc[0, "loud"] = "changed"
    frame["key"] += 1
    again, _ = executed.get_dataframe("stories")
    assert again["loud"][0] == "WORD0"
    assert again["key"].tolist() == [0, 1, 2, 3]


def test_without_an_id_the_newest_instance_of_the_version_is_read(executed):
    first = executed.get_dataframe("stories")[1]
    executed.create_instance("stories", copy=True)
    executed.execute_instance("stories")
    second = executed.get_dataframe("stories")[1]
    assert executed.get_table_instances("stories") == [first, second]
    assert executed.get_dataframe("stories", first)[1] == first


@pytest.fixture
def unfinished(vault):
    code = CODE + "\ndef fail(key):\n    return 10 // (2 - key)\n"
    vault.create_code_module("words", text=code)
    vault.create_table("stories")
    fail = SHOUT.replace("shout", "fail").replace('{word: "<<self.word[index]>>"}', '{key: "<<self.key[index]>>"}')
    vault.create_instance("stories", builders={"stories_index": INDEX, "loud": fail})
    return vault


def shown(vault, **options):
    frame, instance_id = vault.get_dataframe("stories", "TEMP_base", **options)
    assert instance_id == "TEMP_base"
    return frame.astype(object).where(frame.notna(), None).to_dict("list")


def test_a_temporary_instance_has_no_frame_before_it_is_executed(unfinished):
    with pytest.raises(tv_errors.TVTableError, match="nothing was computed"):
        unfinished.get_dataframe("stories", "TEMP_base")


@pytest.mark.parametrize("process_id", ["", "mine"])
def test_rows_of_a_paused_or_reverted_execution_can_be_read(unfinished, path, process_id):
    with pytest.raises(ZeroDivisionError):
        unfinished.execute_instance("stories", process_id=process_id)
    for vault in (unfinished, TableVault(path)):
        assert shown(vault)["loud"] == [5, 10, None, None]
        assert shown(vault, columns=["loud"], rows=1) == {"loud": [5]}
        with pytest.raises(tv_errors.TVTableError, match="'loud'"):
            vault.get_dataframe("stories", "TEMP_base", columns=["lowd"])
    with pytest.raises(tv_errors.TVArgumentError, match="no active"):
        unfinished.get_dataframe("stories")


def test_successful_only_skips_stopped_instances(unfinished):
    with pytest.raises(ZeroDivisionError):
        unfinished.execute_instance("stories", process_id="mine")
    unfinished.stop_process("mine", materialize=True)
    assert unfinished.get_descriptions(unfinished.get_dataframe("stories")[1], "stories")["success"] is False
    with pytest.raises(tv_errors.TVArgumentError, match="successful"):
        unfinished.get_dataframe("stories", successful_only=True)


def test_the_names_of_tables_and_instances_are_listed_oldest_first(executed):
    executed.create_table("images")
    executed.create_instance("stories", "b", builders=["loud"])
    assert executed.get_table_instances() == executed.get_tables() == ["stories", "images"]
    assert executed.get_table_instances("stories", "b") == []
    assert executed.get_table_instances("stories", "b", include_temp=True) == ["TEMP_b"]
    assert executed.get_table_instances("stories", "", include_temp=True)[-1] == "TEMP_b"


def test_builders_and_code_of_materialized_instances_are_read(executed):
    instance_id = executed.get_dataframe("stories")[1]
    assert executed.get_builders_list("stories", instance_id) == ["loud", "stories_index"]
    assert executed.get_builders_list("stories", is_temp=False) == ["loud", "stories_index"]
    assert executed.get_builder_str("stories", is_temp=False) == INDEX
    assert executed.get_code_module_str("words") == CODE


def test_file_tree_shows_the_requested_parts(executed):
    def printed(**options):
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(executed.get_file_tree(**options))
        return console.export_text()

    assert "words.py" in printed()
    assert "loud.yaml" in printed()
    assert "catalog.db" not in printed()
    assert "catalog.db" in printed(metadata_files=True)
    assert "words.py" not in printed(code_files=False)
    assert "loud.yaml" not in printed(builder_files=False)
    assert "words" not in printed(table_name="stories", code_files=False, builder_files=False)
    instance_id = executed.get_dataframe("stories")[1]
    assert "table.parquet" in printed(table_name="stories", instance_id=instance_id)


def test_descriptions_need_a_table_for_an_instance(executed):
    with pytest.raises(tv_errors.TVArgumentError, match="table_name"):
        executed.get_descriptions("base_1_2")


def test_history_is_filtered_and_newest_first(executed, path):
    TableVault(path, author="bob").create_table("images")
    with pytest.raises(tv_errors.TVArgumentError):
        executed.create_table("artifacts")
    operations = [process.operation for process in executed.get_history()]
    assert operations[0] == "create_table"
    assert operations[-1] == "create_code_module"
    assert [process.table_name for process in executed.get_history(author="bob")] == ["images"]
    assert len(executed.get_history(operation="create_table", status="succeeded")) == 2
    assert len(executed.get_history(status="reverted")) == 1
    assert len(executed.get_history(limit=2)) == 2
    assert {process.operation for process in executed.get_history("stories")} == {
        "create_table",
        "create_instance",
        "execute_instance",
    }


# --- renaming -----------------------------------------------------------------------------------------------------


def test_a_renamed_table_keeps_its_instances_and_their_ids(executed, path):
    before, instance_id = executed.get_dataframe("stories")
    executed.rename_table("tales", "stories")
    assert executed.get_tables() == ["tales"]
    assert (path / "tales" / instance_id).is_dir()
    assert not (path / "stories").exists()
    after, same = executed.get_dataframe("tales")
    pd.testing.assert_frame_equal(before, after)
    assert same == instance_id
    with pytest.raises(tv_errors.TVArgumentError, match="no table 'stories'"):
        executed.get_dataframe("stories")


def test_a_renamed_table_can_be_executed_as_it_was(executed):
    executed.create_instance("stories", copy=True)
    executed.rename_table("tales", "stories")
    assert executed.get_builders_list("tales") == ["loud", "tales_index"]
    process = executed.get_process(executed.execute_instance("tales"))
    assert process.progress["loud"].reused == 4
    executed.create_instance("tales", copy=True)
    assert executed.get_builders_list("tales") == ["loud", "tales_index"]


def test_the_lineage_follows_a_new_name(executed):
    build(executed, index_builder("l", "take", '{l: "<<stories.loud>>"}'), "def take(l):\n    return l\n")
    executed.execute_instance("made")
    executed.rename_table("tales", "stories")
    assert "tales(" in repr(executed.get_lineage("made"))
    assert "made(" in repr(executed.get_lineage("tales"))


def test_the_old_name_is_free_after_renaming(executed):
    executed.rename_table("tales", "stories")
    executed.create_table("stories")
    assert executed.get_tables() == ["tales", "stories"]
    with pytest.raises(tv_errors.TVArgumentError, match="already"):
        executed.rename_table("tales", "stories")
    executed.rename_table("legends", "tales")
    executed.rename_table("tales", "stories")
    assert executed.get_tables() == ["legends", "tales"]
    assert len(executed.get_dataframe("legends")[0]) == 4


def test_table_read_by_a_paused_process_is_not_renamed(executed):
    build(
        executed,
        index_builder("l", "take", '{l: "<<stories.loud>>"}'),
        "def take(l):\n    raise LookupError(len(l))\n",
        one=column_builder("one", "take", "{l: 1}"),
    )
    with pytest.raises(LookupError):
        executed.execute_instance("made", process_id="mine")
    for call in (
        lambda: executed.rename_table("tales", "stories"),
        lambda: executed.delete_table("stories"),
        lambda: executed.delete_instance(executed.get_dataframe("stories")[1], "stories"),
    ):
        with pytest.raises(tv_errors.TVLockError, match="mine"):
            call()
    executed.create_instance("stories", "new")


def test_tree_shows_names_of_files_as_they_are(vault):
    Path(vault.db_dir, "code_functions", "[bold]note \x1b[31m.py").write_text("x")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(vault.get_file_tree())
    text = console.export_text()
    assert "[bold]note \\x1b[31m.py" in text
    assert "\x1b" not in text
