"""Artifacts of frames that were made elsewhere, and of the functions that every vault has."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from tablevault import TableVault, tv_errors


@pytest.fixture(params=[False, True], ids=["one set", "several sets"])
def vault(request, tmp_path):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_table("scans", allow_multiple_artifacts=request.param)
    vault.create_instance("scans", external_edit=True)
    return vault


def put(vault, **files: str) -> Path:
    """Write files into the temporary instance's artifact folder."""
    folder = Path(vault.get_artifact_folder("scans"))
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def write(vault, *names: object) -> str:
    vault.write_instance(pd.DataFrame({"file": list(names)}), "scans", dtypes={"file": "artifact_string"})
    return vault.get_table_instances("scans")[-1]


def test_named_files_are_committed_with_the_frame(vault):
    put(vault, **{"a.txt": "a", "sub/Ünï 日本.txt": "b"})
    instance = write(vault, "a.txt", None, "./sub//Ünï 日本.txt")
    names, _ = vault.get_dataframe("scans", full_artifact_path=False)
    assert names["file"].tolist()[0::2] == ["a.txt", "sub/Ünï 日本.txt"]
    assert names["file"].isna().tolist() == [False, True, False]
    paths, _ = vault.get_dataframe("scans")
    assert [Path(path).read_text() for path in paths["file"].dropna()] == ["a", "b"]
    assert all(
        Path(path).is_relative_to(vault.get_artifact_folder("scans", instance)) for path in paths["file"].dropna()
    )
    assert vault.verify().ok


def test_all_files_that_fail_are_listed(vault):
    put(vault, **{"a.txt": "a", "stray.txt": "s", "sub/stray.txt": "t"})
    before = sorted(os.listdir(vault.get_artifact_folder("scans")))
    with pytest.raises(tv_errors.TVArtifactError) as caught:
        write(vault, "a.txt", "b.txt", "c.txt")
    for part in ("b.txt", "c.txt", "stray.txt", "sub/stray.txt", "'file'", "row 1", "row 2"):
        assert part in str(caught.value)
    assert sorted(os.listdir(vault.get_artifact_folder("scans"))) == before
    assert vault.get_table_instances("scans") == []


def test_a_missing_file_is_to_be_written_into_the_folder(vault):
    folder = put(vault)
    with pytest.raises(tv_errors.TVArtifactError) as caught:
        write(vault, "b.txt")
    assert str(caught.value).startswith(
        "Artifacts and artifact columns do not agree: b.txt (named in column 'file', row 0) does not exist. Write "
        f"every file that a cell names into {folder}."
    )
    assert "~ARTIFACT_FOLDER~" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["string", "category"])
def test_a_text_column_that_names_files_is_to_be_declared(vault, dtype):
    put(vault, **{"a.txt": "a", "b.txt": "b", "stray.txt": "s"})
    frame = pd.DataFrame({"n": [1, 2, 3], "file": pd.Series(["a.txt", "b.txt", None], dtype=dtype)})
    with pytest.raises(tv_errors.TVArtifactError) as caught:
        vault.write_instance(frame, "scans")
    for part in (
        "column 'file' names 2 files such as a.txt; declare its dtype as artifact_string",
        "stray.txt is not named by any cell. Name every file of the artifact folder in an artifact_string column",
    ):
        assert part in str(caught.value)
    assert "a.txt is not named" not in str(caught.value)


@pytest.mark.parametrize("name", ["/etc/hostname", "../x", "a/../../x", "way/hosts", "way2", ".", "sub"])
def test_paths_that_leave_the_folder_are_refused(vault, name):
    folder = put(vault, **{"a.txt": "a", "sub/.keep": ""})
    if name.startswith("way"):
        (folder / name.split("/")[0]).symlink_to("/etc" if "/" in name else "/etc/hostname")
    with pytest.raises(tv_errors.TVArtifactError) as caught:
        write(vault, "a.txt", name)
    assert "row 1" in str(caught.value)
    assert "'file'" in str(caught.value)
    assert vault.get_table_instances("scans") == []
    assert vault.get_active_processes() == {}


def test_all_paths_that_cannot_be_are_listed(vault):
    put(vault, **{"a.txt": "a"})
    with pytest.raises(tv_errors.TVArtifactError) as caught:
        write(vault, "/etc/hostname", "a.txt", "../x", "missing.txt")
    for part in ("/etc/hostname", "../x", "missing.txt", "row 0", "row 2", "row 3"):
        assert part in str(caught.value)


def test_frame_is_refused_if_an_artifact_cell_is_not_a_text(vault):
    put(vault, **{"a.txt": "a"})
    with pytest.raises(tv_errors.TVTableError, match="row 1"):
        write(vault, "a.txt", 7)


def test_the_callers_files_stay_until_the_frame_is_committed(vault):
    folder = put(vault, **{"a.txt": "a"})
    with pytest.raises(tv_errors.TVArtifactError):
        write(vault, "b.txt")
    assert (folder / "a.txt").read_text() == "a"
    write(vault, "a.txt")
    assert not folder.exists()


def test_a_newer_frame_supersedes_the_artifacts_of_a_table_with_one_set(tmp_path):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_table("scans")
    instances = []
    for text in ("old", "new"):
        vault.create_instance("scans", external_edit=True)
        put(vault, **{"a.txt": text})
        instances.append(write(vault, "a.txt"))
    with pytest.raises(tv_errors.TVArtifactError, match=instances[0]):
        vault.get_dataframe("scans", instances[0])
    assert (tmp_path / "vault" / "scans" / "artifacts" / "a.txt").read_text() == "new"
    vault.create_instance("scans", external_edit=True)
    vault.write_instance(pd.DataFrame({"x": [1]}), "scans")
    link = tmp_path / "vault" / "scans" / "artifacts"
    assert link.exists() or not link.is_symlink()


PAPERS = """
builder_type: IndexBuilder
changed_columns: [file_name, artifact_name, original_path]
primary_key: [file_name]
python_function: create_paper_table_from_folder
code_module: table_generation
arguments: {{folder_dir: "{folder}", copies: {copies}, artifact_folder: ~ARTIFACT_FOLDER~}}
dtypes: {{artifact_name: artifact_string}}
"""

RANDOM = {
    "dataframe": """
builder_type: ColumnBuilder
changed_columns: [a, b]
python_function: random_column_string
code_module: random_string
arguments: {column_names: [a, b], df: "<<self.file_name>>"}
return_type: dataframe
""",
    "row-wise": """
builder_type: ColumnBuilder
changed_columns: [a, b]
python_function: random_row_string
code_module: random_string
arguments: {column_names: [a, b]}
return_type: row-wise
n_threads: 2
""",
    "generator": """
builder_type: ColumnBuilder
changed_columns: [a, b]
python_function: random_gen_string
code_module: random_string
arguments: {column_names: [a, b], df: <<self>>}
return_type: generator
""",
}


@pytest.fixture
def papers(tmp_path):
    folder = tmp_path / "papers"
    folder.mkdir()
    for name in ("b.pdf", "a.pdf", "notes.txt", "é ü.pdf"):
        (folder / name).write_bytes(b"%PDF " + name.encode())
    (folder / "a.pdf").chmod(0o444)
    return folder


@pytest.mark.parametrize("kind", RANDOM)
def test_papers_of_a_folder_become_artifacts_and_get_random_columns(tmp_path, papers, kind):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_table("papers")
    builders = {"papers_index": PAPERS.format(folder=papers, copies=2), "noise": RANDOM[kind]}
    vault.create_instance("papers", builders=builders)
    vault.execute_instance("papers")
    frame, _ = vault.get_dataframe("papers")
    assert frame["file_name"].tolist() == ["a_0", "a_1", "b_0", "b_1", "é ü_0", "é ü_1"]
    assert [Path(path).read_bytes() for path in frame["artifact_name"]][:3] == [
        b"%PDF a.pdf",
        b"%PDF a.pdf",
        b"%PDF b.pdf",
    ]
    assert all(len(cell) == 20 for name in ("a", "b") for cell in frame[name])
    assert frame["a"].nunique() == 6
    vault.create_instance("papers", copy=True)
    process = vault.execute_instance("papers")
    again, _ = vault.get_dataframe("papers")
    assert again["a"].tolist() == frame["a"].tolist()
    assert vault.get_process(process).progress["noise"].reused == 6
