from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from legacy_files import DATA, instance_folder, snapshot

from tablevault import TableVault, import_legacy_vault, tv_errors

HISTORY = json.loads((DATA / "metadata" / "tables_history.json").read_text())
LOG = [json.loads(line) for line in (DATA / "metadata" / "logs.txt").read_text().splitlines()]


def moment(seconds):
    return datetime.fromtimestamp(seconds, UTC)


def test_all_tables_come_in_the_order_of_their_creation(imported):
    assert imported.get_tables() == ["fruits", "labels", "orders", "baskets", "empty"]


@pytest.mark.parametrize("table", HISTORY)
def test_instances_keep_their_ids_order_times_and_activity(imported, table):
    ids = imported.get_table_instances(table, version="")
    assert ids == sorted(HISTORY[table], key=lambda item: HISTORY[table][item][1])
    for instance_id in ids:
        _, committed, ended, success = HISTORY[table][instance_id]
        facts = imported.get_descriptions(instance_id, table)
        assert facts["created"] == moment(committed).isoformat()
        assert (facts["active"], facts["success"]) == (ended is None, success)
        assert facts["version"] == instance_id.split("_")[0]


def test_tables_keep_settings_descriptions_authors_and_times(imported):
    facts = imported.get_descriptions(table_name="fruits")
    assert facts["description"] == "What there is to buy"
    assert facts["author"] == "ada"
    created = next(entry for entry in LOG if entry["data"].get("table_name") == "fruits")
    assert facts["created"] == moment(created["log_time"]).isoformat()
    settings = {
        table: tuple(
            imported.get_descriptions(table_name=table)[name]
            for name in ("allow_multiple_artifacts", "has_side_effects")
        )
        for table in imported.get_tables()
    }
    assert settings == {
        "fruits": (True, False),
        "labels": (False, False),
        "orders": (False, True),
        "baskets": (False, False),
        "empty": (False, False),
    }
    assert imported.get_descriptions()["description"] == "Shopping lists, kept for years"


def test_instances_keep_descriptions_and_the_people_behind_them(imported):
    first = imported.get_table_instances("fruits")[0]
    assert imported.get_descriptions(first, "fruits")["description"] == "First harvest"
    assert imported.get_descriptions(first, "fruits")["author"] == "ada"
    newest = imported.get_table_instances("orders")[-1]
    assert imported.get_descriptions(newest, "orders")["author"] == "bob"
    assert imported.get_descriptions("TEMP_next", "fruits")["description"] == "Next harvest"


def test_frames_keep_their_values_and_types(imported):
    frame, instance_id = imported.get_dataframe("orders")
    assert instance_id == imported.get_table_instances("orders")[-1]
    expected = pd.DataFrame(
        {
            "who": pd.array(['Ann, of "Hill"', "NA", None], dtype="string"),
            "count": pd.array([2**53 + 1, None, -1], dtype="Int64"),
            "price": pd.array([0.1, 1e-300, None], dtype="Float64"),
            "paid": pd.array([True, None, False], dtype="boolean"),
            "when": pd.array(["2024-02-29 12:30", None, "1999-12-31"], dtype="string"),
            "kind": pd.Categorical(["big", "small", None]),
            "free": pd.array(["line\nbreak", "ümlaut", "null"], dtype="string"),
        }
    )
    assert [str(dtype) for dtype in frame.dtypes] == [str(dtype) for dtype in expected.dtypes]
    assert frame.astype(object).where(frame.notna(), None).values.tolist() == (
        expected.astype(object).where(expected.notna(), None).values.tolist()
    )


def test_artifacts_come_with_their_instances(imported):
    frame, instance_id = imported.get_dataframe("fruits", version="photos")
    assert Path(frame["photo"][0]).read_bytes() == bytes(range(256))
    assert pd.isna(frame["photo"][1])
    relative, _ = imported.get_dataframe("fruits", instance_id=instance_id, full_artifact_path=False)
    assert relative["photo"][0] == "small/plum.bin"


def test_single_set_of_artifacts_belongs_to_the_newest_instance(imported):
    frame, newest = imported.get_dataframe("labels")
    assert Path(frame["label"][0]).read_text() == "label of apple.txt\n"
    assert newest == imported.get_table_instances("labels")[-1]
    older = imported.get_table_instances("labels")[0]
    with pytest.raises(tv_errors.TVArtifactError, match="were removed when a newer instance replaced them"):
        imported.get_dataframe("labels", instance_id=older)
    frame, _ = imported.get_dataframe("labels", instance_id=older, full_artifact_path=False)
    assert list(frame["label"]) == ["apple.txt", "pear.txt", "fig.txt"]


def test_instance_of_a_stopped_execution_is_imported_as_unsuccessful(imported):
    with pytest.raises(tv_errors.TVArgumentError):
        imported.get_dataframe("fruits", version="broken", successful_only=True)
    frame, instance_id = imported.get_dataframe("fruits", version="broken")
    assert frame["bad"].isna().all()
    assert imported.get_descriptions(instance_id, "fruits")["process_id"] == "broken-run"


def test_builders_and_code_come_byte_for_byte(imported):
    for name in ("makers", "unused"):
        assert imported.get_code_module_str(name) == (DATA / "code_functions" / f"{name}.py").read_text()
    for instance_id in imported.get_table_instances("fruits", version="", include_temp=True):
        folder = DATA / "fruits" / instance_id / "builders"
        names = imported.get_builders_list("fruits", instance_id=instance_id)
        assert names == sorted(path.stem for path in folder.glob("*.yaml"))
        for name in names:
            text = imported.get_builder_str("fruits", name, instance_id=instance_id)
            assert text == (folder / f"{name}.yaml").read_text()


def test_history_keeps_operations_authors_times_and_parents(imported):
    infos = {info.process_id: info for info in imported.get_history(limit=1000)}
    assert len(infos) == len(LOG) + 1
    for entry in LOG:
        info = infos[entry["process_id"]]
        assert info.operation == entry["operation"]
        assert info.author in ("ada", "bob")
        assert (info.started_at, info.ended_at) == (moment(entry["start_time"]), moment(entry["log_time"]))
        assert info.parent_id == (entry["author"] if entry["author"] in infos else None)
    assert {info.process_id for info in imported.get_history(author="bob", operation="write_instance")} >= {
        "ledger-2023",
        "ledger-2024",
    }


def test_history_keeps_how_processes_ended(imported):
    assert imported.get_process("ledger-2024").status == "succeeded"
    assert imported.get_process("broken-run").status == "stopped"
    reverted = imported.get_history(status="reverted")
    assert {(info.operation, info.error.type) for info in reverted} >= {("execute_instance", "TypeError")}
    assert imported.get_active_processes() == {}


def test_history_begins_the_log_of_the_new_vault(imported_dir):
    lines = [json.loads(line) for line in (imported_dir / "metadata" / "logs.txt").read_text().splitlines()]
    assert [line["process_id"] for line in lines[:-1]] == [entry["process_id"] for entry in LOG]
    assert lines[-1]["operation"] == "import_legacy_vault"


def test_provenance_of_an_imported_instance_names_its_inputs(imported, imported_dir):
    labels, fruits = imported.get_table_instances("labels")[-1], imported.get_table_instances("fruits")[-1]
    provenance = json.loads((imported_dir / "labels" / labels / "provenance.json").read_text())
    assert provenance["operation"] == "import_legacy_vault"
    (step,) = imported.get_lineage("labels", column="label").columns
    assert [(item.table_name, item.instance_id) for item in step.inputs] == [("fruits", fruits)]


def test_everything_that_the_new_vault_claims_holds(imported):
    report = imported.verify()
    assert report.ok, report


def test_remains_of_deleted_tables_are_kept(imported_dir):
    folders = list((imported_dir / "metadata" / "ARCHIVED_TRASH").iterdir())
    assert [folder.name.split("_", 1)[1] for folder in folders] == ["scratch"]
    assert len(list(folders[0].glob("base_*/dtypes.json"))) == 1


def test_the_source_stays_as_it_is_byte_for_byte(legacy, tmp_path):
    before = snapshot(legacy)
    process_id = import_legacy_vault(legacy, tmp_path / "new")
    assert snapshot(legacy) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["legacy", "new"]
    info = TableVault(tmp_path / "new").get_process(process_id)
    assert (info.operation, info.status) == ("import_legacy_vault", "succeeded")
    assert info.arguments == {"source_dir": str(legacy), "notes": []}


def test_a_read_only_source_can_be_imported(legacy, tmp_path):
    for path in (legacy, *legacy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        import_legacy_vault(str(legacy), str(tmp_path / "new"))
    finally:
        for path in (legacy, *legacy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert TableVault(tmp_path / "new").get_tables()[0] == "fruits"


def test_work_goes_on_in_the_new_vault(tmp_path):
    import_legacy_vault(DATA, tmp_path / "new")
    vault = TableVault(tmp_path / "new", author="eve")
    vault.create_builder_file(
        "fruits",
        "fruits_index",
        "next",
        text=vault.get_builder_str("fruits", "fruits_index", version="base", is_temp=False),
    )
    vault.delete_builder_file("fruits_fail", "fruits", "next")
    vault.execute_instance("fruits", "next")
    assert list(vault.get_dataframe("fruits", version="next")[0]["fruit"]) == ["apple", "pear", "fig"]
    vault.write_instance(pd.DataFrame({"who": ["Cy"]}), "orders", "ledger")
    assert list(vault.get_dataframe("orders", version="ledger")[0]["who"]) == ["Cy"]
    vault.create_instance("labels", copy=True)
    vault.execute_instance("labels")
    frame, _ = vault.get_dataframe("labels")
    assert [Path(path).read_text() for path in frame["label"]] == [f"label of {name}.txt\n" for name in frame["fruit"]]
    assert vault.verify().ok


def test_the_id_of_a_process_of_old_is_taken(tmp_path):
    import_legacy_vault(DATA, tmp_path / "new")
    vault = TableVault(tmp_path / "new")
    assert vault.get_process_completion("ledger-2024")
    vault.create_instance("orders", external_edit=True)
    with pytest.raises(tv_errors.TVProcessError, match="ledger-2024"):
        vault.write_instance(pd.DataFrame({"who": ["Cy"]}), "orders", process_id="ledger-2024")


def test_vault_without_its_empty_folders_can_be_imported(legacy, tmp_path):
    shutil.rmtree(legacy / "locks", ignore_errors=True)
    assert not (legacy / "_temp").exists()
    assert instance_folder(legacy, "orders", "base").is_dir()
    import_legacy_vault(legacy, tmp_path / "new")
    assert TableVault(tmp_path / "new").get_dataframe("baskets")[0]["n"].tolist() == [1, 2]


def test_the_examples_of_the_page_run_as_they_are_written(legacy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    legacy.rename("old_vault")
    page = (DATA.parents[2] / "docs" / "moving-from-0.1.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names = {}
    exec("".join(examples), names)
    assert len(examples) == 2
    assert names["notes"] == []
    assert names["vault"].get_dataframe("baskets")[0]["n"].tolist() == [1, 2]
