"""Each operation does what it says and returns its process id."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from operated import INDEX, SHOUT, build, column_builder, index_builder, make_table

from tablevault import TableVault, tv_errors
from tablevault.code import versions

FRAME = pd.DataFrame({"x": [1, 2]})


def paused(vault, process_id="broken"):
    """Leave a paused execution of the table `failing`, and return its id."""
    code = "import pandas as pd\ndef rows():\n    return pd.DataFrame({'x': [1, 2]})\ndef fail(x):\n    return 1 // (2 - x)"
    build(
        vault,
        index_builder("x", "rows"),
        code,
        "failing",
        y=column_builder("y", "fail", '{x: "<<self.x[index]>>"}'),
    )
    with pytest.raises(ZeroDivisionError):
        vault.execute_instance("failing", process_id=process_id)
    return process_id


DEFINITIONS = Path(__file__).parent / "defined_rows.py"
CALLS = {
    "create_table": lambda vault, **own: vault.create_table("images", **own),
    "make_table": lambda vault, **own: vault.make_table("images", **own),
    "create_instance": lambda vault, **own: vault.create_instance("stories", "other", **own),
    "apply": lambda vault, **own: vault.apply(DEFINITIONS, **own),
    "run": lambda vault, **own: vault.run(DEFINITIONS, **own),
    "create_code_module": lambda vault, **own: vault.create_code_module("more", **own),
    "create_builder_file": lambda vault, **own: vault.create_builder_file("stories", "more", **own),
    "write_instance": lambda vault, **own: vault.write_instance(FRAME, "written", **own),
    "execute_instance": lambda vault, **own: vault.execute_instance("stories", **own),
    "rename_table": lambda vault, **own: vault.rename_table("tales", "stories", **own),
    "delete_table": lambda vault, **own: vault.delete_table("stories", **own),
    "delete_instance": lambda vault, **own: vault.delete_instance("TEMP_base", "stories", **own),
    "delete_code_module": lambda vault, **own: vault.delete_code_module("words", **own),
    "delete_builder_file": lambda vault, **own: vault.delete_builder_file("loud", "stories", **own),
}


@pytest.fixture
def ready(stories):
    stories.create_table("written")
    stories.create_instance("written", external_edit=True)
    return stories


@pytest.mark.parametrize("name", CALLS)
def test_an_operation_returns_the_id_of_a_process_that_succeeded(ready, name):
    process = ready.get_process(CALLS[name](ready))
    assert process.operation == name.replace("make", "create")
    assert (process.status, process.author, process.error, process.locks) == ("succeeded", "ada", None, ())


@pytest.mark.parametrize("name", CALLS)
def test_an_operation_runs_under_the_id_that_it_is_given(ready, name):
    assert CALLS[name](ready, process_id="mine_2026-11-23.a") == "mine_2026-11-23.a"
    assert ready.get_process("mine_2026-11-23.a").status == "succeeded"


@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_with_the_id_of_a_success_does_nothing_and_warns(ready, path, name):
    CALLS[name](ready, process_id="mine")
    before = len(ready.get_history())
    with pytest.warns(tv_errors.TableVaultWarning, match="already succeeded"):
        assert CALLS[name](TableVault(path), process_id="mine") == "mine"
    assert len(ready.get_history()) == before


def test_stop_process_returns_its_own_id_and_not_the_target_s(vault):
    own = vault.stop_process(paused(vault))
    assert own != "broken"
    assert vault.get_process(own).operation == "stop_process"
    assert vault.get_process("broken").status == "stopped"


@pytest.mark.parametrize(
    "call",
    [
        lambda vault: vault.stop_process(to_stop_process_id="broken", process_id="my-stop"),
        lambda vault: vault.stop_process("broken", False, False, "my-stop"),
    ],
)
def test_stop_process_runs_under_its_own_id_as_older_calls_give_it(vault, call):
    paused(vault)
    assert call(vault) == "my-stop"
    assert vault.get_process("broken").status == "stopped"
    assert vault.get_process("my-stop").status == "succeeded"


def test_stop_process_materializes_computed_rows(vault):
    vault.stop_process(paused(vault), materialize=True)
    frame, _ = vault.get_dataframe("failing")
    assert frame["x"].tolist() == [1, 2]
    assert frame["y"].isna().tolist() == [False, True]


def test_materialize_is_refused_for_other_operations(vault, path):
    vault.create_table("written")
    with pytest.raises(tv_errors.TVProcessError, match="ended"):
        vault.stop_process(vault.create_table("images"), materialize=True)
    with pytest.raises(tv_errors.TVProcessError, match="no process 'nobody'"):
        vault.stop_process("nobody", materialize=True)


# --- tables -------------------------------------------------------------------------------------------------------


def test_create_table_records_its_settings(vault, path):
    vault.create_table("stories", allow_multiple_artifacts=True, has_side_effects=True, description="told at night")
    assert vault.get_tables() == ["stories"]
    facts = vault.get_descriptions(table_name="stories")
    assert facts["description"] == "told at night"
    assert facts["allow_multiple_artifacts"] is True
    assert facts["has_side_effects"] is True
    assert "told at night" in (path / "stories" / "description.yaml").read_text()


def test_delete_table_leaves_its_metadata_in_the_trash(stories, path):
    stories.execute_instance("stories")
    stories.delete_table("stories")
    assert stories.get_tables() == []
    assert not (path / "stories").exists()
    kept = [item.name for item in (path / "metadata" / "ARCHIVED_TRASH").rglob("*") if item.is_file()]
    assert "loud.yaml" in kept
    assert "table.parquet" not in kept


def test_a_deleted_table_can_be_created_again(stories):
    stories.execute_instance("stories")
    stories.delete_table("stories")
    make_table(stories)
    assert stories.get_table_instances("stories") == []
    stories.execute_instance("stories")
    stories.delete_table("stories")
    stories.create_table("STORIES")
    assert stories.get_tables() == ["STORIES"]


# --- instances ----------------------------------------------------------------------------------------------------


def test_execute_instance_materializes_the_output_of_builders(stories, path):
    stories.execute_instance("stories")
    frame, instance_id = stories.get_dataframe("stories")
    assert frame["key"].tolist() == [0, 1, 2, 3]
    assert frame["loud"].tolist() == ["WORD0", "WORD1", "WORD2", "WORD3"]
    assert stories.get_table_instances("stories", include_temp=True) == [instance_id]
    assert not (path / "stories" / "TEMP_base").exists()
    version, seconds, rest = instance_id.split("_")
    assert (version, len(rest)) == ("base", 32)
    assert seconds.isdecimal()
    assert stories.get_builder_str("stories", "loud", instance_id) == SHOUT


def test_materialized_instance_is_read_only(stories, path):
    stories.execute_instance("stories")
    _, instance_id = stories.get_dataframe("stories")
    modes = {item.stat().st_mode & 0o222 for item in (path / "stories" / instance_id).rglob("*")}
    assert modes == {0}


def test_delete_instance_removes_the_frame_and_archives_metadata(stories, path):
    stories.execute_instance("stories")
    _, instance_id = stories.get_dataframe("stories")
    stories.delete_instance(instance_id, "stories")
    assert stories.get_table_instances("stories") == []
    assert not (path / "stories" / instance_id).exists()
    kept = [item.name for item in (path / "metadata" / "ARCHIVED_TRASH").rglob("*")]
    assert "provenance.json" in kept
    assert "table.parquet" not in kept


def test_a_deleted_temporary_instance_can_be_created_again(stories):
    stories.delete_instance("TEMP_base", "stories")
    stories.create_instance("stories")
    assert stories.get_table_instances("stories", include_temp=True) == ["TEMP_base"]


# --- code modules -------------------------------------------------------------------------------------------------


def test_create_code_module_writes_a_template_but_keeps_an_existing_file(vault):
    vault.create_code_module("fresh")
    compile(vault.get_code_module_str("fresh"), "fresh.py", "exec")
    vault.create_code_module("fresh", text="x = 1\n")
    vault.create_code_module("fresh")
    assert vault.get_code_module_str("fresh") == "x = 1\n"
    vault.create_code_module("fresh", text="x = 2\n")
    assert vault.get_code_module_str("fresh") == "x = 2\n"


def test_create_code_module_copies_a_file_or_all_of_a_folder(vault, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name, text in {"a.py": "a = 1\n", "b.py": "b = 1\n", "notes.txt": "no module"}.items():
        (source / name).write_text(text)
    vault.create_code_module("a", text="old = 1\n")
    vault.create_code_module(copy_dir=str(source))
    assert vault.get_code_modules_list() == ["a", "b"]
    assert vault.get_code_module_str("a") == "a = 1\n"
    vault.create_code_module(copy_dir=str(source / "b.py"))
    vault.create_code_module("c", copy_dir=str(source / "b.py"))
    assert vault.get_code_module_str("c") == "b = 1\n"
    assert sorted(item.name for item in source.iterdir()) == ["a.py", "b.py", "notes.txt"]
    assert (source / "a.py").read_text() == "a = 1\n"


def test_create_code_module_takes_one_file_of_a_folder(vault, tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(f"{name} = 1\n")
    vault.create_code_module("two", copy_dir=str(tmp_path))
    assert vault.get_code_modules_list() == ["two"]


def test_delete_code_module_removes_it(stories):
    stories.delete_code_module("words")
    assert stories.get_code_modules_list() == []


# --- builder files ------------------------------------------------------------------------------------------------


def test_create_builder_file_without_a_name_writes_the_index_builder(stories):
    stories.delete_builder_file("stories_index", "stories")
    stories.create_builder_file("stories")
    assert stories.get_builders_list("stories") == ["loud", "stories_index"]
    assert "builder_type: IndexBuilder" in stories.get_builder_str("stories")


def test_create_builder_file_writes_a_template_but_keeps_an_existing_file(stories):
    stories.create_builder_file("stories", "loud")
    assert stories.get_builder_str("stories", "loud") == SHOUT
    stories.create_builder_file("stories", "quiet")
    assert "builder_type: ColumnBuilder" in stories.get_builder_str("stories", "quiet")
    stories.create_builder_file("stories", "loud", text=INDEX)
    assert stories.get_builder_str("stories", "loud") == INDEX


def test_create_builder_file_copies_a_file_or_all_of_a_folder(stories, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "one.yaml").write_text(SHOUT)
    (source / "two.yml").write_text(SHOUT)
    stories.create_builder_file("stories", copy_dir=str(source))
    assert stories.get_builders_list("stories") == ["loud", "one", "stories_index", "two"]
    stories.create_builder_file("stories", "three", copy_dir=str(source / "one.yaml"))
    assert stories.get_builder_str("stories", "three") == SHOUT


def test_delete_builder_file_removes_it(stories):
    stories.delete_builder_file("loud", "stories")
    assert stories.get_builders_list("stories") == ["stories_index"]
    with pytest.raises(tv_errors.TVArgumentError, match="did you mean|stories_index"):
        stories.delete_builder_file("loud", "stories")


def test_templates_as_they_are_written_can_be_executed(vault):
    vault.create_table("fresh")
    vault.create_instance("fresh", builders=["extra"])
    vault.execute_instance("fresh")
    frame, _ = vault.get_dataframe("fresh")
    assert len(frame) == 3
    assert list(frame) == ["name", "extra"]


def test_process_names_the_instance_that_it_made(vault):
    make_table(vault)
    created = vault.get_history(operation="create_instance")[0]
    assert created.instance_id == "TEMP_base"
    executed = vault.execute_instance("stories")
    instance = vault.get_dataframe("stories")[1]
    assert vault.get_process(executed).instance_id == instance
    assert vault.get_history(operation="execute_instance")[0].instance_id == instance
    vault.create_table("frames")
    vault.create_instance("frames", external_edit=True)
    written = vault.write_instance(pd.DataFrame({"a": [1]}), "frames")
    assert vault.get_process(written).instance_id == vault.get_dataframe("frames")[1]
    last = Path(vault.db_dir, "metadata", "logs.txt").read_text().splitlines()[-1]
    assert json.loads(last)["instance_id"] == vault.get_dataframe("frames")[1]


def test_failed_process_names_the_temporary_instance(vault):
    make_table(vault)
    vault.create_code_module("words", text="def rows(count):\n    raise ValueError('no')\ndef shout(word): pass\n")
    with pytest.raises(ValueError, match="no"):
        vault.execute_instance("stories")
    assert vault.get_history(operation="execute_instance")[0].instance_id == "TEMP_base"


def test_a_module_is_taken_apart_once_for_all_builders(vault, monkeypatch):
    code = "import pandas as pd\ndef rows():\n    return pd.DataFrame({'x': [1, 2]})\ndef same(x):\n    return x\n"
    columns = {name: column_builder(name, "same", '{x: "<<self.x[index]>>"}') for name in ("a", "b", "c")}
    build(vault, index_builder("x", "rows"), code, "many", **columns)
    taken_apart = []
    original = versions.split_module

    def recording(name, *rest):
        taken_apart.append(name)
        return original(name, *rest)

    monkeypatch.setattr(versions, "split_module", recording)
    vault.execute_instance("many")
    assert len(taken_apart) == len(set(taken_apart)) > 0
