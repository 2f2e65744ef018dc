from __future__ import annotations

import json
import warnings
from pathlib import Path

import pandas as pd
import pytest
from legacy_files import change_metadata, instance_folder, rename_table

from tablevault import TableVault, TableVaultWarning, import_legacy_vault


def import_with_notes(legacy, target):
    """Import a vault; return it, and what was warned about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        process_id = import_legacy_vault(legacy, target)
    vault = TableVault(target)
    notes = [str(item.message) for item in caught]
    assert {item.category for item in caught} <= {TableVaultWarning}
    assert notes == [f"{note}." for note in vault.get_process(process_id).arguments["notes"]]
    return vault, notes


def test_a_name_that_is_not_allowed_any_more_is_changed_and_said_so(legacy, tmp_path):
    rename_table(legacy, "fruits", "my fruits")
    rename_table(legacy, "baskets", "Labels")
    rename_table(legacy, "empty", "self")
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert sorted(vault.get_tables()) == ["imported-Labels", "imported-self", "labels", "my-fruits", "orders"]
    assert sum("because its name is no longer valid" in note for note in notes) == 3
    assert "my-fruits_index" in vault.get_builders_list("my-fruits", version="next")
    assert vault.verify().ok


def test_invalid_id_is_replaced_with_a_note(legacy, tmp_path):
    former = instance_folder(legacy, "baskets", "base")
    former.rename(former.with_name("my_version_17_0123456789abcdef"))
    change_metadata(
        legacy,
        "tables_history.json",
        lambda content: content["baskets"].update(
            {"my_version_17_0123456789abcdef": content["baskets"].pop(former.name)}
        ),
    )
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert vault.get_table_instances("baskets", version="my-version") == ["my-version_17_0123456789abcdef"]
    assert any(
        "'my_version_17_0123456789abcdef' of table 'baskets' was renamed to 'my-version_17_" in note for note in notes
    )
    assert vault.get_dataframe("baskets", version="my-version")[0]["n"].tolist() == [1, 2]


def test_an_instance_without_files_is_left_out_and_the_others_come_in(legacy, tmp_path):
    (instance_folder(legacy, "fruits", "base") / "table.csv").unlink()
    change_metadata(legacy, "tables_temp.json", lambda content: content["labels"].append("TEMP_gone"))
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert len(vault.get_table_instances("fruits")) == 2
    assert len([note for note in notes if "was skipped, because its files are missing" in note]) == len(notes) == 2
    assert vault.verify().ok


def test_values_that_do_not_fit_their_dtype_come_in_as_text(legacy, tmp_path):
    folder = instance_folder(legacy, "baskets", "base")
    (folder / "table.csv").write_text("n\n1\nmany\n")
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert vault.get_dataframe("baskets")[0]["n"].tolist() == ["1", "many"]
    assert len(notes) == 1
    assert f"instance '{folder.name}' of table 'baskets': column 'n' was imported as text" in notes[0]


@pytest.mark.parametrize("cell", ["../../secret.txt", "/etc/hostname"])
def test_artifacts_outside_of_their_folder_are_not_followed(legacy, tmp_path, cell):
    folder = instance_folder(legacy, "fruits", "photos")
    (folder / "table.csv").write_text(f"fruit,photo\nplum,{cell}\n")
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert vault.get_dataframe("fruits", version="photos")[0]["photo"].tolist() == [cell]
    assert any("column 'photo' was imported as text" in note for note in notes)


def test_links_that_lead_out_of_the_vault_are_left_behind(legacy, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    artifacts = instance_folder(legacy, "fruits", "photos") / "artifacts" / "small"
    (artifacts / "plum.bin").unlink()
    (artifacts / "plum.bin").symlink_to(tmp_path / "secret.txt")
    (legacy / "code_functions" / "outside.py").symlink_to(tmp_path / "secret.txt")
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert vault.get_code_modules_list() == ["makers", "unused"]
    assert not [path for path in (tmp_path / "new").rglob("*") if path.is_file() and path.read_bytes() == b"secret"]
    assert any("was not copied" in note for note in notes)
    assert any("names artifacts that are missing: small/plum.bin" in note for note in notes)


def test_artifacts_that_no_cell_names_are_kept_and_said_so(legacy, tmp_path):
    (legacy / "labels" / "artifacts" / "stray.txt").write_text("stray")
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert (Path(vault.get_artifact_folder("labels", is_temp=False)) / "stray.txt").read_text() == "stray"
    assert [note for note in notes if "has artifacts that no cell names: stray.txt" in note] == notes


def test_a_process_that_had_not_ended_is_left_out_and_said_so(legacy, tmp_path):
    (legacy / "metadata" / "active_logs.json").write_text(json.dumps({"night-run": {"process_id": "night-run"}}))
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert [note for note in notes if "'night-run' had not ended" in note] == notes
    assert vault.get_active_processes() == {}


def test_lines_of_the_log_that_cannot_be_read_are_left_out_and_said_so(legacy, tmp_path):
    log = legacy / "metadata" / "logs.txt"
    count = len(log.read_text().splitlines())
    with log.open("a") as file:
        file.write('{"process_id": 7, "start_time": 1, "log_time": 1}\nnot json\n{"process_id": "cut')
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert [note.split(" cannot")[0] for note in notes] == [f"line {count + more} of the log" for more in (1, 2, 3)]
    assert len(vault.get_history(limit=1000)) == count + 1


def test_invalid_process_ids_are_replaced(legacy, tmp_path):
    log = legacy / "metadata" / "logs.txt"
    log.write_text(log.read_text().replace("ledger-2024", "ledger of 2024"))
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert any("process 'ledger of 2024' was renamed to '" in note for note in notes)
    newest = vault.get_table_instances("orders")[-1]
    made_by = vault.get_process(vault.get_descriptions(newest, "orders")["process_id"])
    assert (made_by.operation, made_by.author) == ("write_instance", "bob")


def test_a_vault_without_history_keeps_its_tables(legacy, tmp_path):
    (legacy / "metadata" / "logs.txt").unlink()
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert notes == []
    assert len(vault.get_history()) == 1
    assert [len(vault.get_table_instances(table, version="")) for table in ("fruits", "labels", "orders")] == [6, 2, 2]


# What stands in the file -> what comes of it, by the dtype recorded; the last cell of each column is empty.
DTYPES = {
    "datetime64[ns]": (["2024-02-29 12:30:00.123456789", "1999-12-31"], "datetime64[ns]", None),
    "timedelta64[ns]": (["1 days 02:03:04.000000005", "-1 days"], "timedelta64[ns]", None),
    "UInt64": (["18446744073709551615", "<NA>"], "UInt64", [2**64 - 1, None]),
    "Int8": (["3.0", "-128"], "Int8", [3, -128]),
    "Float64": (["0.1", "inf"], "Float64", [0.1, float("inf")]),
    "boolean": (["True", "False"], "boolean", [True, False]),
    "string": (["NA", " x "], "string", ["NA", " x "]),
    "object": (["[1, 2]", "NaN"], "string", ["[1, 2]", "NaN"]),
    "category": (["b", "b"], "category", ["b", "b"]),
    "whole numbers": (["1", "9007199254740993"], "Int64", [1, 2**53 + 1]),
    "numbers": (["1", "2.5"], "Float64", [1.0, 2.5]),
    "texts": (["1", "x"], "string", ["1", "x"]),
    "nothing": (["", "NA"], "string", [None, "NA"]),
}
NOT_RECORDED = {"whole numbers", "numbers", "texts", "nothing"}


def test_every_dtype_of_that_version_is_read(legacy, tmp_path):
    folder = instance_folder(legacy, "baskets", "base")
    pd.DataFrame({name: [*cells, ""] for name, (cells, _, _) in DTYPES.items()}).to_csv(
        folder / "table.csv", index=False
    )
    (folder / "dtypes.json").write_text(json.dumps({name: name for name in DTYPES if name not in NOT_RECORDED}))
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    frame, _ = vault.get_dataframe("baskets")
    assert notes == []
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        name: kind for name, (_, kind, _) in DTYPES.items()
    }
    assert frame.iloc[2].isna().all()
    assert frame["datetime64[ns]"].tolist()[:2] == [
        pd.Timestamp("2024-02-29 12:30:00.123456789"),
        pd.Timestamp("1999-12-31"),
    ]
    assert frame["timedelta64[ns]"].tolist()[:2] == [pd.Timedelta("1 days 02:03:04.000000005"), pd.Timedelta("-1 days")]
    for name, (_, _, values) in DTYPES.items():
        if values is not None:
            assert [None if pd.isna(value) else value for value in frame[name][:2]] == values, name


def test_a_dtype_that_is_not_known_any_more_comes_in_as_text(legacy, tmp_path):
    folder = instance_folder(legacy, "baskets", "base")
    (folder / "dtypes.json").write_text('{"n": "Period[D]"}')
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert vault.get_dataframe("baskets")[0]["n"].tolist() == ["1", "2"]
    assert ["Period[D]" in note for note in notes] == [True]


def test_a_frame_without_columns_is_one_all_the_same(legacy, tmp_path):
    folder = instance_folder(legacy, "baskets", "base")
    (folder / "table.csv").write_text("\n")
    (folder / "dtypes.json").write_text("")
    vault, notes = import_with_notes(legacy, tmp_path / "new")
    assert vault.get_dataframe("baskets")[0].shape == (0, 0)
    assert notes == []
