"""Detection of damage to every kind of file.

User files are left unchanged.
"""

from __future__ import annotations

import random
import sqlite3

import pytest
from damaged import add, delete, flip, found, instance_folder, rewrite, tree, truncate

from tablevault import TableVault, tv_errors

FILES = [
    "table.parquet",
    "provenance.json",
    "fingerprints.parquet",
    "artifacts.parquet",
    "manifest.json",
    "description.yaml",
    "builders/draw.yaml",
    "code/drawing.py",
    "artifacts/2.txt",
]


def test_a_whole_vault_has_no_problems_and_is_not_touched(db_dir, vault):
    before = tree(db_dir)
    report = vault.verify()
    assert report.ok
    assert report.problems == ()
    assert report.checked > 30
    assert tree(db_dir) == before


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip, truncate])
def test_changed_content_is_damage(db_dir, vault, name, damage):
    path = instance_folder(db_dir) / name
    damage(path)
    report = vault.verify()
    assert not report.ok
    assert found(report) == [("damaged", str(path.relative_to(db_dir)))]


@pytest.mark.parametrize("name", FILES)
def test_a_deleted_file_is_missing(db_dir, vault, name):
    path = instance_folder(db_dir) / name
    delete(path)
    assert ("missing", str(path.relative_to(db_dir))) in found(vault.verify())


@pytest.mark.parametrize("name", ["stray.txt", "builders/stray.yaml", "code/stray.py", "artifacts/stray.txt"])
def test_a_file_put_into_a_sealed_instance_is_unclaimed(db_dir, vault, name):
    path = instance_folder(db_dir) / name
    add(path)
    assert found(vault.verify()) == [("unclaimed", str(path.relative_to(db_dir)))]


@pytest.mark.parametrize("name", ["stray.txt", "metadata/stray", "_temp/77", "metadata/owners/1-2", "pictures/a.txt"])
def test_a_stray_file_in_the_vaults_own_folders_is_unclaimed(db_dir, vault, name):
    add(db_dir / name)
    assert found(vault.verify()) == [("unclaimed", name)]


@pytest.mark.parametrize("name", ["metadata/worker_logs/nobody.log", "metadata/ARCHIVED_TRASH/99_old"])
def test_files_of_processes_that_never_were_are_unclaimed(db_dir, vault, name):
    add(db_dir / name)
    assert found(vault.verify()) == [("unclaimed", name)]


def test_a_folder_that_looks_like_an_instance_is_unclaimed(db_dir, vault):
    name = f"pictures/base_1700000000_{'0' * 32}"
    (db_dir / name).mkdir()
    assert found(vault.verify()) == [("unclaimed", name)]
    vault.verify(repair=True)
    assert (db_dir / name).is_dir()  # TableVault did not make it.


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "pictures/.notes",
        "code_functions/notes.txt",
        "code_functions/.git",
        "pictures/TEMP_next/draft.txt",
        "pictures/TEMP_next/builders/more.yaml",
        "pictures/TEMP_next/artifacts/seen.png",
    ],
)
def test_files_of_users_are_fine(db_dir, vault, name):
    add(db_dir / name)
    assert vault.verify().ok
    vault.verify(repair=True)
    assert (db_dir / name).read_text() == "mine"


@pytest.mark.parametrize("kind", ["missing", "damaged"])
def test_the_link_to_the_artifacts_is_checked(db_dir, vault, kind):
    link = db_dir / "pictures" / "artifacts"
    link.unlink()
    if kind == "damaged":
        link.symlink_to("elsewhere")
    assert found(vault.verify()) == [(kind, "pictures/artifacts")]


def test_the_link_leads_nowhere_once_the_newest_instance_has_no_artifacts(vault, db_dir):
    vault.create_instance(
        "pictures",
        builders={
            "pictures_index": "builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: index\n"
            "code_module: drawing\nis_custom: true\narguments: {count: 2}\n"
        },
    )
    vault.execute_instance("pictures")
    assert not (db_dir / "pictures" / "artifacts").is_symlink()
    assert vault.verify().ok, vault.verify()


def test_missing_folders_are_named(db_dir, vault):
    for name in ("code_functions", "pictures/TEMP_next/builders"):
        for path in (db_dir / name).iterdir():
            path.unlink()
        (db_dir / name).rmdir()
    assert found(vault.verify()) == [("missing", "code_functions"), ("missing", "pictures/TEMP_next/builders")]


def test_a_missing_instance_and_a_missing_table_are_named(db_dir, vault):
    instance = instance_folder(db_dir, "plain")
    instance.rename(db_dir.parent / "elsewhere")
    (db_dir / "pictures").rename(db_dir.parent / "elsewhere as well")
    problems = found(vault.verify())
    assert ("missing", f"plain/{instance.name}") in problems
    assert ("missing", "pictures") in problems


def test_an_artifact_that_became_a_link_out_of_its_folder_is_damaged(db_dir, vault, tmp_path):
    path = instance_folder(db_dir) / "artifacts" / "1.txt"
    copy = tmp_path / "copy.txt"
    copy.write_bytes(path.read_bytes())
    delete(path)
    path.symlink_to(copy)
    assert found(vault.verify()) == [("damaged", str(path.relative_to(db_dir)))]


def test_a_damaged_marker_is_named(db_dir, vault):
    rewrite(db_dir / ".tablevault", b"{")
    assert ("damaged", ".tablevault") in found(vault.verify())
    with pytest.raises(tv_errors.TVFileError, match="marker"):
        TableVault(db_dir)


def test_edited_log_is_reported(db_dir, vault):
    log = db_dir / "metadata" / "logs.txt"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(["no json\n", *lines[1:]]))
    assert found(vault.verify()) == [("damaged", "metadata/logs.txt")]


def test_a_catalog_whose_index_does_not_fit_its_table_is_damaged(db_dir):
    path = db_dir / "metadata" / "catalog.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'locks') "
        "WHERE name = 'reads_by_input'"
    )
    connection.commit()
    connection.close()
    with pytest.raises(tv_errors.TVFileError) as caught:
        _raise_if_not_ok(TableVault(db_dir).verify())
    assert "catalog.db" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough to be read as one" * 40])
def test_invalid_catalog_is_an_error_that_names_the_file(db_dir, content):
    for path in (db_dir / "metadata").glob("catalog.db-*"):
        path.unlink()
    rewrite(db_dir / "metadata" / "catalog.db", content)
    with pytest.raises(tv_errors.TVFileError, match=r"catalog\.db"):
        TableVault(db_dir).verify()


def test_missing_catalog_is_a_named_error_and_not_recreated(db_dir):
    for path in (db_dir / "metadata").glob("catalog.db*"):
        path.unlink()
    with pytest.raises(tv_errors.TVFileError, match=r"catalog\.db"):
        TableVault(db_dir)
    assert not (db_dir / "metadata" / "catalog.db").exists()


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("artifacts/")])
def test_each_flipped_bit_is_found(db_dir, vault, name):
    path = instance_folder(db_dir) / name
    original = path.read_bytes()
    chosen = random.Random(name)
    for _ in range(5):
        flip(path, chosen.randrange(len(original)))
        assert ("damaged", str(path.relative_to(db_dir))) in found(vault.verify())
        rewrite(path, original)
    assert vault.verify().ok


def test_reading_a_damaged_frame_is_a_named_error(db_dir, vault):
    path = instance_folder(db_dir) / "table.parquet"
    original = path.read_bytes()
    expected = vault.get_dataframe("pictures", full_artifact_path=False)[0]
    chosen = random.Random(7)
    for _ in range(40):
        flip(path, chosen.randrange(len(original)))
        try:
            frame, _ = vault.get_dataframe("pictures", full_artifact_path=False)
        except tv_errors.TVFileError as error:
            named = "table.parquet" in str(error)
        else:
            named = frame.equals(expected)
        assert named
        rewrite(path, original)


def _raise_if_not_ok(report):
    for problem in report.problems:
        raise tv_errors.TVFileError(f"{problem.path}: {problem.detail}")
