"""Builders and origins of temporary instances."""

from __future__ import annotations

import pandas as pd
import pytest
from operated import INDEX, SHOUT

from tablevault import tv_errors

OTHER = SHOUT.replace("[loud]", "[louder]")


FAIL = "\ndef fail(word):\n    raise LookupError(word)\n"


@pytest.fixture
def paused(stories):
    stories.create_code_module("words", text=stories.get_code_module_str("words") + FAIL)
    stories.create_builder_file("stories", "loud", text=SHOUT.replace("function: shout", "function: fail"))
    with pytest.raises(LookupError):
        stories.execute_instance("stories", process_id="paused-one")
    return stories


def newest(vault, table_name="stories", version=""):
    return vault.get_table_instances(table_name, version)[-1]


def reused(vault, process_id, builder="loud"):
    return vault.get_process(process_id).progress[builder].reused


def test_instance_without_copy_has_no_origin(stories):
    stories.execute_instance("stories")
    stories.create_instance("stories")
    assert stories.get_builders_list("stories") == ["stories_index"]
    assert stories.get_builder_str("stories") != INDEX


def test_copy_without_any_instance_is_as_without_copy(stories):
    stories.create_table("images")
    stories.create_instance("images", copy=True)
    assert stories.get_builders_list("images") == ["images_index"]


def test_copy_takes_the_newest_active_instance_of_the_version_else_of_any(stories):
    stories.execute_instance("stories")
    stories.create_instance("stories", "new", copy=True)
    assert stories.get_builder_str("stories", "loud", version="new") == SHOUT
    stories.create_builder_file("stories", "louder", "new", text=OTHER)
    assert reused(stories, stories.execute_instance("stories", "new")) == 4
    stories.create_instance("stories", copy=True)
    assert stories.get_builders_list("stories") == ["loud", "stories_index"]
    stories.create_instance("stories", "new", copy=True)
    assert stories.get_builders_list("stories", version="new") == ["loud", "louder", "stories_index"]


def test_an_origin_is_taken_by_its_id(stories):
    stories.execute_instance("stories")
    first = newest(stories)
    stories.create_instance("stories", copy=True)
    stories.create_builder_file("stories", "louder", text=OTHER)
    stories.execute_instance("stories")
    stories.create_instance("stories", origin_id=first)
    assert stories.get_builders_list("stories") == ["loud", "stories_index"]
    assert reused(stories, stories.execute_instance("stories")) == 4


@pytest.mark.parametrize("options", [{}, {"copy": True}, {"origin_id": "by id"}])
def test_an_origin_in_another_table_has_its_index_builder_renamed(stories, options):
    stories.execute_instance("stories")
    if "origin_id" in options:
        options = {"origin_id": newest(stories)}
    stories.create_table("images")
    stories.create_instance("images", origin_table="stories", **options)
    assert stories.get_builders_list("images") == ["images_index", "loud"]
    assert stories.get_builder_str("images") == INDEX
    assert reused(stories, stories.execute_instance("images")) == 4


def test_builders_given_as_a_list_are_templates_with_an_index_builder(stories):
    stories.create_table("images")
    stories.create_instance("images", builders=["size", "colour"])
    assert stories.get_builders_list("images") == ["colour", "images_index", "size"]
    assert "IndexBuilder" in stories.get_builder_str("images")
    assert "ColumnBuilder" in stories.get_builder_str("images", "size")


def test_builders_given_as_texts_are_written_as_they_are(stories):
    stories.create_table("images")
    stories.create_instance("images", builders={"size": SHOUT})
    assert stories.get_builders_list("images") == ["images_index", "size"]
    assert stories.get_builder_str("images", "size") == SHOUT


def test_given_builders_are_added_to_those_of_the_origin(stories):
    stories.execute_instance("stories")
    stories.create_instance("stories", copy=True, builders={"louder": OTHER, "loud": OTHER})
    assert stories.get_builders_list("stories") == ["loud", "louder", "stories_index"]
    assert stories.get_builder_str("stories", "loud") == OTHER
    stories.create_instance("stories", "new", copy=True, builders=["loud"])
    assert stories.get_builder_str("stories", "loud", version="new") == SHOUT


@pytest.mark.parametrize("builders", ["loud", 7, {"loud": 7}, [None], [["loud"]], {7: "text"}])
@pytest.mark.parametrize("process_id", ["", "mine"])
def test_builders_of_a_wrong_type_are_an_argument_error(stories, builders, process_id):
    with pytest.raises(tv_errors.TVArgumentError):
        stories.create_instance("stories", "new", builders=builders, process_id=process_id)


def test_an_instance_for_an_external_edit_has_no_builders(stories):
    stories.create_table("written")
    stories.create_instance("written", external_edit=True)
    assert stories.get_builders_list("written") == []
    with pytest.raises(tv_errors.TVArgumentError, match="write_instance"):
        stories.execute_instance("written")


def test_existing_temporary_instance_is_refused_with_the_call_to_remove_it(stories):
    with pytest.raises(tv_errors.TVArgumentError, match=r"delete_instance\('TEMP_base', 'stories'\)"):
        stories.create_instance("stories")
    stories.delete_instance("TEMP_base", "stories")
    stories.create_instance("stories")


def test_several_versions_are_built_side_by_side(stories):
    stories.create_instance("stories", "b", builders={"stories_index": INDEX})
    stories.execute_instance("stories")
    stories.execute_instance("stories", "b")
    assert [name.partition("_")[0] for name in stories.get_table_instances("stories", "")] == ["base", "b"]
    assert stories.get_table_instances("stories") == [newest(stories, version="base")]
    assert list(stories.get_dataframe("stories", version="b")[0]) == ["key", "word"]
    with pytest.raises(tv_errors.TVArgumentError, match="no active materialized instance of version 'c'"):
        stories.get_dataframe("stories", version="c")


def test_the_description_is_kept_with_the_instance(stories):
    stories.create_instance("stories", "new", description="with other prompts")
    assert stories.get_descriptions("TEMP_new", "stories")["description"] == "with other prompts"


def test_deleted_instance_cannot_be_an_origin(stories):
    stories.execute_instance("stories")
    first = newest(stories)
    stories.create_instance("stories", copy=True)
    stories.delete_instance(first, "stories")
    assert reused(stories, stories.execute_instance("stories")) == 0
    assert stories.get_dataframe("stories")[0]["loud"].tolist() == ["WORD0", "WORD1", "WORD2", "WORD3"]


def test_an_unsuccessful_instance_is_an_origin_like_any_other(paused):
    paused.stop_process("paused-one", materialize=True)
    paused.create_instance("stories", copy=True)
    paused.create_builder_file("stories", "loud", text=SHOUT)
    paused.execute_instance("stories")
    assert paused.get_dataframe("stories", successful_only=True)[0]["loud"].notna().all()


def test_a_written_instance_is_an_origin_without_builders(stories):
    stories.create_table("written")
    stories.create_instance("written", external_edit=True)
    stories.write_instance(pd.DataFrame({"x": [1]}), "written")
    stories.create_instance("written", copy=True, external_edit=True)
    stories.write_instance(pd.DataFrame({"x": [2]}), "written")
    assert stories.get_dataframe("written")[0]["x"].tolist() == [2]


# --- locks come before existence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda vault: vault.create_instance("stories"),
        lambda vault: vault.create_instance("STORIES"),
        lambda vault: vault.delete_instance("TEMP_base", "stories"),
        lambda vault: vault.create_builder_file("stories", "new"),
        lambda vault: vault.delete_builder_file("nothing", "stories"),
        lambda vault: vault.execute_instance("stories"),
        lambda vault: vault.write_instance(pd.DataFrame({"x": [1]}), "stories"),
        lambda vault: vault.rename_table("tales", "stories"),
        lambda vault: vault.rename_table("stories", "stories"),
        lambda vault: vault.delete_table("stories"),
        lambda vault: vault.create_table("stories"),
    ],
)
def test_lock_error_names_the_paused_process(paused, call):
    with pytest.raises(tv_errors.TVLockError) as caught:
        call(paused)
    text = str(caught.value)
    assert "'paused-one'" in text
    assert "execute_instance" in text
    assert "LookupError: word0" in text
    assert "stop_process('paused-one')" in text
    assert "process_id='paused-one'" in text


def test_tables_without_locks_of_a_paused_process_are_free(paused):
    paused.create_instance("stories", "new")
    paused.create_table("images")
    paused.create_code_module("words", text="")
    paused.delete_code_module("words")
    assert paused.get_table_instances("stories", "new", include_temp=True) == ["TEMP_new"]
    assert paused.get_tables() == ["stories", "images"]
    assert "words" not in paused.get_code_modules_list()


def test_builder_text_that_is_not_unicode_is_refused(stories):
    with pytest.raises(tv_errors.TVArgumentError, match="The text of builder 'loud' has a lone surrogate"):
        stories.create_instance("stories", builders={"loud": "# \udcff"})
    assert stories.get_active_processes() == {}
