"""Valid names of tables, versions, builders, modules and processes.

Also the answers to unknown names.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from operated import INDEX

from tablevault import TableVault, tv_errors
from tablevault.layout import InstanceFolder, ProcessFolder, VaultLayout

FORBIDDEN = [
    "",
    "self",
    "Self",
    "artifacts",
    "ARTIFACTS",
    "metadata",
    "code_functions",
    "locks",
    "builders",
    "_temp",
    "ARCHIVED_TRASH",
    "archived_trash",
    "Worker_Logs",
    "owners",
    "con",
    "NUL",
    "Com1",
    "lpt9",
    "with space",
    "a/b",
    "..",
    ".hidden",
    "a.b",
    "naïve",
    "tab\t",
    "end\n",
    "TEMP_base",
    "x" * 129,
]
ALLOWED = ["a", "A1", "with-dash", "under_score", "7", "x" * 128, "_private", "-", "index"]

CREATE = {
    "Table Name": lambda vault, name: vault.create_table(name),
    "Code Module Name": lambda vault, name: vault.create_code_module(name),
    "Builder Name": lambda vault, name: vault.create_instance("stories", "new", builders=[name]),
    "Version": lambda vault, name: vault.create_instance("stories", name),
}


# An empty version means `base`.
@pytest.mark.parametrize(("kind", "name"), [case for case in product(CREATE, FORBIDDEN) if case != ("Version", "")])
def test_a_forbidden_name_is_an_argument_error(stories, kind, name):
    with pytest.raises(tv_errors.TVArgumentError) as caught:
        CREATE[kind](stories, name)
    assert str(caught.value).startswith(f"Forbidden {kind}: ")


def test_folder_names_of_a_vault_are_refused_as_table_names(path, vault):
    vault.create_table("stories")
    instance = InstanceFolder(path / "stories" / "TEMP_base")
    own = [
        value.name
        for place in (VaultLayout(path), ProcessFolder(path / "_temp" / "1"), instance)
        for attribute in dir(place)
        if attribute != "root" and isinstance(value := getattr(place, attribute), Path) and not value.suffix
    ]
    assert {"worker_logs", "checkpoints", "builders"} <= set(own)
    for name in own:
        if not name.startswith("."):
            with pytest.raises(tv_errors.TVArgumentError, match="Forbidden Table Name"):
                vault.create_table(name.upper())


def test_a_forbidden_name_is_all_that_the_error_says_of_reserved_ones(vault):
    with pytest.raises(tv_errors.TVArgumentError, match="^Forbidden Table Name: artifacts$"):
        vault.create_table("artifacts")


@pytest.mark.parametrize("name", ALLOWED)
def test_an_allowed_name_is_accepted_everywhere(stories, name):
    for kind, create in CREATE.items():
        if kind != "Version" or "_" not in name:
            create(stories, name)
            stories.delete_instance("TEMP_new", "stories") if kind == "Builder Name" else None


@pytest.mark.parametrize("name", [None, 7, b"bytes", ["stories"], object()])
@pytest.mark.parametrize("kind", CREATE)
def test_value_other_than_text_is_an_argument_error(stories, kind, name):
    with pytest.raises(tv_errors.TVArgumentError):
        CREATE[kind](stories, name)


def test_a_version_cannot_contain_an_underscore(stories):
    with pytest.raises(tv_errors.TVArgumentError, match="use '-'"):
        stories.create_instance("stories", "a_b")


def test_an_empty_version_means_base(stories):
    with pytest.raises(tv_errors.TVArgumentError, match="of version 'base'"):
        stories.create_instance("stories", "")
    stories.execute_instance("stories", "")
    assert stories.get_dataframe("stories", version="")[1].startswith("base_")


def test_names_are_unique_regardless_of_case(stories):
    with pytest.raises(tv_errors.TVArgumentError, match="Table 'stories' already exists"):
        stories.create_table("Stories")
    with pytest.raises(tv_errors.TVArgumentError, match="code module 'words' already"):
        stories.create_code_module("Words", text="x = 1")
    with pytest.raises(tv_errors.TVArgumentError, match="builder 'loud' already"):
        stories.create_builder_file("stories", "LOUD")
    with pytest.raises(tv_errors.TVArgumentError, match=r"LOUD|loud"):
        stories.create_instance("stories", "new", builders={"loud": INDEX, "LOUD": INDEX})
    with pytest.raises(tv_errors.TVArgumentError, match="'base'"):
        stories.create_instance("stories", "BASE")


def test_a_table_can_be_given_another_case(stories):
    stories.rename_table("Stories", "stories")
    assert stories.get_tables() == ["Stories"]
    stories.execute_instance("Stories")


def test_a_table_is_found_in_any_case(stories):
    assert stories.get_builders_list("STORIES") == ["loud", "stories_index"]


def test_endings_of_files_are_tolerated(stories):
    stories.create_code_module("more.py")
    stories.create_builder_file("stories", "extra.yaml")
    assert "more" in stories.get_code_modules_list()
    assert "extra" in stories.get_builders_list("stories")


UNKNOWN = {
    "a table": (lambda vault: vault.execute_instance("storeis"), "stories"),
    "a table that is read": (lambda vault: vault.get_dataframe("storeis"), "stories"),
    "an instance": (lambda vault: vault.delete_instance("TEMP_bsae", "stories"), "TEMP_base"),
    "a version": (lambda vault: vault.execute_instance("stories", "bsae"), "base"),
    "a builder": (lambda vault: vault.delete_builder_file("lod", "stories"), "loud"),
    "a builder that is read": (lambda vault: vault.get_builder_str("stories", "lod"), "loud"),
    "a module": (lambda vault: vault.delete_code_module("word"), "words"),
    "a module that is read": (lambda vault: vault.get_code_module_str("word"), "words"),
    "a format": (lambda vault: vault.get_dataframe("stories", "TEMP_base", format="panda"), "pandas"),
}


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_name_is_answered_with_the_nearest(stories, unknown):
    call, nearest = UNKNOWN[unknown]
    with pytest.raises(tv_errors.TVArgumentError, match=f"'{nearest}'"):
        call(stories)


PROCESS_IDS = ["", "a b", "-a", "_a", ".a", "a/b", "ä", "x" * 201, "a\n"]


@pytest.mark.parametrize("process_id", PROCESS_IDS[1:])
def test_a_forbidden_process_id_is_an_argument_error(vault, process_id):
    with pytest.raises(tv_errors.TVArgumentError, match="^Forbidden Process Id: "):
        vault.create_table("stories", process_id=process_id)
    assert vault.get_tables() == []


@pytest.mark.parametrize("process_id", ["a", "7.b-c_d", "x" * 200, "a_b_c"])
def test_an_allowed_process_id_is_used_whole(vault, process_id):
    assert vault.create_table("stories", process_id=process_id) == process_id
    assert vault.get_process_completion(process_id)
    assert not vault.get_process_completion(process_id[:-1] or "b")


def test_generated_process_ids_are_new_and_allowed(vault):
    generated = {vault.generate_process_id() for _ in range(20)}
    assert len(generated) == 20
    process_id = generated.pop()
    assert vault.create_table("stories", process_id=process_id) == process_id


def test_misspelt_versions_ids_and_filters_get_the_nearest_name(tmp_path):
    vault = TableVault(tmp_path / "vault", create=True, author="ada")
    vault.create_table("stories", process_id="make-table")
    vault.create_instance("stories", version="draft", external_edit=True)
    vault.write_instance(pd.DataFrame({"x": [1]}), "stories", version="draft")
    for call, meant in (
        (lambda: vault.get_dataframe("stories", version="drat"), "'draft'"),
        (lambda: vault.get_process("mak-table"), "'make-table'"),
        (lambda: vault.stop_process("mak-table"), "'make-table'"),
        (lambda: TableVault(vault.db_dir, parent_id="mak-table"), "'make-table'"),
        (lambda: vault.get_history(table_name="storys"), "'stories'"),
        (lambda: vault.get_history(operation="create_tabl"), "'create_table'"),
        (lambda: vault.get_history(status="succeded"), "'succeeded'"),
    ):
        with pytest.raises(tv_errors.TableVaultError, match=f"did you mean {meant}"):
            call()
    assert vault.get_history(status="paused", operation="execute_instance") == []


@pytest.mark.parametrize("limit", [0, -1])
def test_invalid_limit_of_processes_is_refused(vault, limit):
    with pytest.raises(tv_errors.TVArgumentError, match="limit must be a positive integer"):
        vault.get_history(limit=limit)
