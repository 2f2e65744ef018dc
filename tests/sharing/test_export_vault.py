"""Exported vaults have the same instances and lineages, and nothing else."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pandas as pd
import pytest

from tablevault import TableVault, decompress_vault, tv_errors


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def test_exported_vault_has_the_instances_with_their_lineage(gallery, tmp_path):
    path = gallery.export_vault(tmp_path / "paper", "pictures@paper")
    assert path == str(tmp_path / "paper")
    made = TableVault(path, author="eve")
    assert made.verify().ok
    (instance_id,) = gallery.get_table_instances("pictures")
    assert made.get_tables() == ["pictures"]
    assert made.get_table_instances("pictures") == [instance_id]
    assert made.get_lineage("pictures").to_dict() == gallery.get_lineage("pictures").to_dict()
    frame, _ = made.get_dataframe("pictures", "@paper")
    assert frame["title"].tolist() == ["Fox", "Owl", "Sea"]
    assert Path(frame["draw"][0]).read_bytes()
    assert made.get_errors("pictures")["message"].tolist() == ["too wet"]
    assert [item.description for item in made.get_tags()] == [""]
    trace = made.trace_cell("pictures", "Fox", "draw")
    assert trace.source == gallery.trace_cell("pictures", "Fox", "draw").source
    assert trace.arguments["title"] == "Fox"
    process = gallery.get_history("pictures", operation="execute_instance")[0]
    assert made.get_process(process.process_id).author == "ada"
    assert made.get_code_module_str("drawing") == gallery.get_code_module_str("drawing")
    assert not any("secret" in name or "xyzzy" in name for name in files_of(path))
    assert not any(name.startswith("titles/") for name in files_of(path))
    assert [name for name in files_of(path) if "titles" in name and name.endswith("table.parquet")] == []
    made.write("own", pd.DataFrame({"x": [1]}))
    assert made.verify().ok
    assert made.query('SELECT count(*) AS n FROM provenance."pictures"')[0]["n"].tolist() == [10]


def test_frames_of_inputs_come_along_when_asked_for(gallery, tmp_path):
    made = TableVault(gallery.export_vault(tmp_path / "paper", ["pictures"], inputs="frames"), author="eve")
    assert made.get_tables() == ["titles", "pictures"]
    assert made.get_dataframe("titles")[0].equals(gallery.get_dataframe("titles")[0])
    assert made.get_lineage("pictures").to_dict() == gallery.get_lineage("pictures").to_dict()
    assert made.get_lineage("titles").to_dict() == gallery.get_lineage("titles").to_dict()
    assert made.verify().ok
    made.create_instance("pictures", copy=True)
    assert made.plan_instance("pictures").builders["shades"].reused in (3, None)


def test_archive_is_unpacked_like_any_other(gallery, tmp_path):
    path = gallery.export_vault(tmp_path / "paper.tar.xz", ["pictures@paper"])
    with tarfile.open(path) as archive:
        members = archive.getnames()
    assert {name.split("/")[0] for name in members} == {"paper"}
    assert not any("secret" in name for name in members)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["paper.tar.xz"]
    made = TableVault(decompress_vault(path), author="eve")
    assert made.verify().ok
    assert made.get_lineage("pictures").to_dict() == gallery.get_lineage("pictures").to_dict()


def test_origins_and_deleted_inputs_stay_in_the_lineage(vault, tmp_path):
    code = "import pandas as pd\ndef rows(frame):\n    return frame\ndef double(x):\n    return 2 * x\n"
    vault.create_code_module("m", text=code)
    vault.write("given", pd.DataFrame({"x": [1, 2]}))
    (given,) = vault.get_table_instances("given")
    head = "code_module: m\nis_custom: true\n"
    vault.create_table("made")
    vault.create_instance(
        "made",
        builders={
            "made_index": f"builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: rows\n{head}"
            "primary_key: [x]\narguments: {frame: <<given>>}\n",
            "double": f"builder_type: ColumnBuilder\nchanged_columns: [double]\npython_function: double\n{head}"
            'return_type: row-wise\narguments: {x: "<<self.x[index]>>"}\n',
        },
    )
    vault.execute_instance("made")
    first = vault.get_table_instances("made")[0]
    vault.write("given", pd.DataFrame({"x": [1, 2, 3]}))
    vault.create_instance("made", copy=True)
    vault.execute_instance("made")
    vault.delete_instance(given, "given")
    reads = "SELECT DISTINCT input_table, input_instance_id FROM vault.reads ORDER BY ALL"
    inputs = vault.query(reads)[0].values.tolist()
    assert ["given", given] in inputs
    made = TableVault(vault.export_vault(tmp_path / "out", "made"), author="eve")
    assert {tuple(pair) for pair in made.query(reads)[0].values.tolist()} <= {tuple(pair) for pair in inputs}
    assert made.verify().ok
    assert made.get_lineage("made").to_dict() == vault.get_lineage("made").to_dict()
    note = made.trace_cell("made", 1, "double").notes[0]
    assert note.startswith(f"instance {first} of table 'made' is not in the vault")
    assert vault.trace_cell("made", 1, "double").computed_in.instance_id == first
    vault.delete_table("given")
    assert vault.query(reads)[0].values.tolist() == inputs


def test_one_set_of_artifacts_is_shown_by_the_exported_table(vault, tmp_path):
    for text in ("one", "two"):
        if text == "one":
            vault.create_table("t")
        vault.create_instance("t", external_edit=True)
        Path(vault.get_artifact_folder("t"), "a.txt").write_text(text)
        vault.write_instance(pd.DataFrame({"file": ["a.txt"]}), "t", dtypes={"file": "artifact_string"})
        if text == "one":
            vault.create_tag("first", "t")
    made = TableVault(vault.export_vault(tmp_path / "out", "t@first"), author="eve")
    assert made.verify().ok
    assert Path(made.db_dir, "t", "artifacts", "a.txt").read_text() == "one"
    made.delete_tag("first")
    assert made.verify().ok
    assert Path(made.get_dataframe("t")[0]["file"][0]).read_text() == "one"


def test_wrong_exports_of_vaults_are_refused(gallery, tmp_path):
    mine = tmp_path / "mine"
    TableVault(mine, create=True)
    for arguments, said in [
        ({"target": mine, "addresses": "pictures"}, "exists already"),
        ({"target": mine, "addresses": "pictures", "overwrite": True}, "not an earlier export"),
        ({"target": tmp_path / "x", "addresses": []}, "no instances to export"),
        ({"target": tmp_path / "x", "addresses": "picture"}, "did you mean 'pictures'"),
        ({"target": tmp_path / "x", "addresses": "pictures(TEMP_base)"}, "TEMP_base"),
        ({"target": tmp_path / "x", "addresses": "pictures", "inputs": "frame"}, "did you mean 'frames'"),
        ({"target": Path(gallery.db_dir) / "x", "addresses": "pictures"}, "inside the vault"),
    ]:
        with pytest.raises(tv_errors.TVArgumentError, match=said):
            gallery.export_vault(**arguments)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["mine"]
    gallery.export_vault(tmp_path / "x", "pictures")
    gallery.export_vault(tmp_path / "x", "titles", overwrite=True)
    assert TableVault(tmp_path / "x").get_tables() == ["titles"]


def test_damaged_instance_is_not_exported(vault, tmp_path):
    vault.write("t", pd.DataFrame({"x": [1]}))
    path = Path(vault.get_frame_path("t"))
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(tv_errors.TVFileError, match="damaged"):
        vault.export_vault(tmp_path / "out", "t")
    assert [item.name for item in tmp_path.iterdir()] == ["vault"]


def _write(folder):
    TableVault(folder, author="eve").write("mine", pd.DataFrame({"x": [1]}))


def _pause(folder):
    vault = TableVault(folder, author="eve")
    vault.create_code_module("job", text="def rows():\n    raise ValueError('no')\n")
    vault.create_table("mine")
    index = "builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: rows\ncode_module: job\n"
    vault.create_instance("mine", builders={"mine_index": index + "is_custom: true\n"})
    with pytest.raises(ValueError, match="no"):
        vault.execute_instance("mine", process_id="paused")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (_write, r"has been written to since it was exported, by process '\w+' \(write, eve\)"),
        (_pause, r"since it was exported, by process 'paused' \(execute_instance, eve\)"),
        (lambda folder: Path(folder, "notes.md").write_text("mine"), "was changed after the export, 'notes.md'"),
        (lambda folder: Path(folder, "t", "notes.md").write_text("mine"), "'t/notes.md'"),
        (lambda folder: Path(folder, "code_functions", "m.py").write_text("y = 1\n"), "code_functions/m.py"),
    ],
)
def test_exported_vault_with_work_in_it_is_not_overwritten(work, said, vault, tmp_path):
    vault.write("t", pd.DataFrame({"x": [1]}))
    folder = vault.export_vault(tmp_path / "out", "t")
    TableVault(folder, author="eve").read("t")
    vault.export_vault(folder, "t", overwrite=True)
    work(folder)
    before = {name for name in files_of(folder) if "catalog.db-" not in name}
    with pytest.raises(tv_errors.TVArgumentError, match=said):
        vault.export_vault(folder, "t", overwrite=True)
    assert files_of(folder) >= before


def test_exported_vault_with_code_can_be_overwritten(gallery, tmp_path):
    folder = gallery.export_vault(tmp_path / "out", "pictures")
    assert gallery.export_vault(folder, "pictures", overwrite=True) == folder
