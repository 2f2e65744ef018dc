"""Exports of one instance, as files or as dataset folders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tablevault import tv_errors


def test_files_are_written_by_suffix(gallery, tmp_path):
    frame, _ = gallery.get_dataframe("pictures", full_artifact_path=False)
    for suffix in ("parquet", "csv", "jsonl", "json", "arrow"):
        path = gallery.export_table("pictures", tmp_path / f"pictures.{suffix}")
        assert path == str(tmp_path / f"pictures.{suffix}")
    assert pq.read_table(tmp_path / "pictures.parquet").column("draw").to_pylist() == ["Fox.png", "Owl.png", None]
    read = pd.read_csv(tmp_path / "pictures.csv")
    assert read["draw"].tolist()[:2] == ["Fox.png", "Owl.png"]
    assert json.loads(read["facts"][0]) == {"letters": 3}
    assert json.loads(read["shades"][0]) == [1.5, 1.0]
    lines = (tmp_path / "pictures.jsonl").read_text().splitlines()
    assert json.loads(lines[2]) == {"title": "Sea", "draw": None, "facts": {"letters": 3}, "shades": [1.5, 1.0]}
    assert pa.ipc.open_file(tmp_path / "pictures.arrow").read_all().num_rows == len(frame)
    gallery.export_table("pictures", tmp_path / "titles", format="csv", columns=["title"])
    assert (tmp_path / "titles").read_text().splitlines()[0] == "title"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_targets_are_checked_before_anything_is_written(gallery, tmp_path):
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    inside = Path(gallery.db_dir) / "out.csv"
    for arguments, said in [
        ({"target": tmp_path / "there.csv"}, "exists already; overwrite=True replaces it"),
        ({"target": tmp_path / "x.doc"}, "Use .parquet, .csv, .jsonl, .json, .arrow"),
        ({"target": tmp_path / "x"}, "or format='dataset' for a folder"),
        ({"target": tmp_path / "x", "format": "datset"}, "no format 'datset'; did you mean 'dataset'"),
        ({"target": inside}, "is inside the vault"),
        ({"target": tmp_path / "no" / "x.csv"}, "There is no folder"),
        ({"target": tmp_path / "folder", "format": "dataset", "overwrite": True}, "is not an earlier export"),
        ({"target": tmp_path / "x.csv", "columns": ["title", "title"]}, "columns contains duplicates"),
        ({"target": tmp_path / "x.csv", "columns": []}, "columns is empty; name at least one"),
        ({"target": tmp_path / "x.csv", "license": "mit"}, "for dataset folders"),
        ({"target": tmp_path / "x.csv", "instance_id": "@no"}, "has no tag 'no'"),
    ]:
        with pytest.raises(tv_errors.TVArgumentError, match=said):
            gallery.export_table("pictures", **arguments)
    assert (tmp_path / "folder" / "mine.txt").read_text() == "mine"
    assert (tmp_path / "there.csv").read_text() == "mine"
    gallery.export_table("pictures", tmp_path / "there.csv", overwrite=True)
    assert (tmp_path / "there.csv").read_text() != "mine"


def test_newest_successful_instance_is_exported_and_never_a_temporary_one(vault, tmp_path):
    vault.write("t", pd.DataFrame({"x": [1]}))
    vault.create_code_module("m", text="import pandas as pd\ndef rows():\n    yield 1\n    raise RuntimeError\n")
    index = "builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: rows\ncode_module: m\n"
    vault.create_instance("t", builders={"t_index": f"{index}is_custom: true\nreturn_type: generator\n"})
    with pytest.raises(RuntimeError):
        vault.execute_instance("t", process_id="run")
    vault.stop_process("run", materialize=True)
    vault.create_instance("t", external_edit=True)
    unfinished = vault.get_table_instances("t")[-1]
    vault.export_table("t", tmp_path / "t.csv")
    assert len(pd.read_csv(tmp_path / "t.csv")) == 1
    vault.export_table("t", tmp_path / "u.csv", unfinished)
    assert pd.read_csv(tmp_path / "u.csv")["x"].tolist() == [1]
    with pytest.raises(tv_errors.TVArgumentError, match="temporary and cannot be exported"):
        vault.export_table("t", tmp_path / "v.csv", "TEMP_base")


def test_dataset_folder_has_card_frame_artifacts_and_provenance(gallery, tmp_path):
    folder = Path(gallery.export_table("pictures", tmp_path / "data set", "@paper", format="dataset", license="mit"))
    card = (folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head == {
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/pictures.parquet"}]}],
        "license": "mit",
    }
    assert "1 cells failed" in card
    assert "`drawing.draw(title='<<self.title[index]>>', folder='~ARTIFACT_FOLDER~')`" in card
    described = json.loads((folder / "croissant.json").read_text())
    listed = {item["contentUrl"]: item["sha256"] for item in described["distribution"]}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == {*listed, "croissant.json"}
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    made = {item["name"]: item["prov:wasGeneratedBy"] for item in described["recordSet"][0]["field"]}
    assert made["facts"]["prov:wasAssociatedWith"]["softwareVersion"]
    assert made["facts"]["prov:used"] == [{"@id": "pictures/title"}]
    assert [item["name"] for item in described["prov:wasDerivedFrom"]] == ["titles"]
    assert {"artifacts/Fox.png", "artifacts/Owl.png", "data/pictures.parquet"} <= set(listed)
    assert {"provenance/provenance.json", "provenance/lineage.json", "provenance/errors.parquet"} <= set(listed)
    assert {"provenance/code/drawing.py", "provenance/builders/draw.yaml"} <= set(listed)
    assert "license" not in yaml.safe_load(
        (Path(gallery.export_table("titles", tmp_path / "plain", format="croissant")) / "README.md")
        .read_text()
        .split("---")[1]
    )
    again = gallery.export_table("pictures", folder, format="huggingface", overwrite=True, columns=["title"])
    assert not (Path(again) / "artifacts").exists()


def test_dataset_folder_keeps_categories_of_durations(vault, tmp_path):
    durations = pa.array([1_000_000, None], pa.duration("us"))
    vault.write("laps", pa.table({"lap": durations.dictionary_encode()}))
    vault.export_table("laps", tmp_path / "laps", format="dataset")
    assert pq.read_table(tmp_path / "laps" / "data" / "laps.parquet").column("lap").combine_chunks().equals(durations)


def test_damaged_artifact_is_not_exported(vault, tmp_path):
    vault.create_table("t")
    vault.create_instance("t", external_edit=True)
    Path(vault.get_artifact_folder("t"), "a.txt").write_text("one")
    vault.write_instance(pd.DataFrame({"file": ["a.txt"]}), "t", dtypes={"file": "artifact_string"})
    path = Path(vault.get_artifact_folder("t", is_temp=False), "a.txt")
    path.parent.chmod(0o755)
    path.chmod(0o644)
    path.write_text("two")
    with pytest.raises(tv_errors.TVFileError, match="damaged"):
        vault.export_table("t", tmp_path / "out", format="dataset")
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(tv_errors.TVFileError, match="outside"):
        vault.export_table("t", tmp_path / "out", format="dataset")
    assert [item.name for item in tmp_path.iterdir()] == ["vault"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_libraries_read_a_dataset_folder_offline(gallery, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    import datasets
    import mlcroissant

    plain = gallery.export_table("pictures", tmp_path / "plain", format="dataset", license="mit")
    loaded = datasets.load_dataset(plain, cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded["title"][:] == ["Fox", "Owl", "Sea"]
    assert loaded["draw"][:] == ["Fox.png", "Owl.png", None]
    embedded = gallery.export_table("pictures", tmp_path / "embedded", format="dataset", embed_artifacts=True)
    pictures = datasets.load_dataset(embedded, cache_dir=str(tmp_path / "cache"))["train"]
    assert isinstance(pictures.features["draw"], datasets.Image)
    assert pictures[0]["draw"].getpixel((0, 0)) == (3, 0, 0)
    assert pictures[2]["draw"] is None
    described = mlcroissant.Dataset(str(Path(plain) / "croissant.json"))
    assert described.metadata.issues.errors == set()
    facts = described.metadata.to_json()
    (title,) = gallery.get_table_instances("titles")
    assert facts["prov:wasDerivedFrom"]["name"] == "titles"
    assert facts["prov:wasDerivedFrom"]["@id"].endswith(f"/{title}")
    assert (facts["prov:wasGeneratedBy"]["name"], facts["prov:wasAttributedTo"]["name"]) == ("execute_instance", "ada")
    fields = {field["name"]: field["prov:wasGeneratedBy"] for field in facts["recordSet"][0]["field"]}
    assert fields["draw"]["prov:wasAssociatedWith"]["name"] == "drawing.draw"
    assert fields["draw"]["prov:used"]["@id"] == "pictures/title"
    assert fields["title"]["prov:used"]["@id"].startswith(facts["prov:wasDerivedFrom"]["@id"])
    records = list(described.records("pictures"))
    assert [record["pictures/title"] for record in records] == [b"Fox", b"Owl", b"Sea"]


def _edit(path):
    path.write_text(path.read_text() + "mine")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda folder: (folder / "notes.md").write_text("mine"), "has a file that was not exported, 'notes.md'"),
        (lambda folder: _edit(folder / "README.md"), "has a file that was changed after the export, 'README.md'"),
        (lambda folder: _edit(folder / "provenance" / "lineage.json"), "'provenance/lineage.json'"),
        (lambda folder: (folder / "croissant.json").write_text('{"distribution": 1}'), "is not an earlier export"),
        (lambda folder: (folder / "link").symlink_to(folder), "has a file that was not exported, 'link'"),
    ],
)
def test_dataset_folder_with_work_in_it_is_not_overwritten(work, said, vault, tmp_path):
    vault.write("t", pd.DataFrame({"x": [1]}))
    folder = Path(vault.export_table("t", tmp_path / "out", format="dataset"))
    vault.export_table("t", folder, format="dataset", overwrite=True)
    work(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(tv_errors.TVArgumentError, match=said):
        vault.export_table("t", folder, format="dataset", overwrite=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
