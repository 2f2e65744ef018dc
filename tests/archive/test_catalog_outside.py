"""Vaults whose catalog is outside their folder.

Another vault neither uses nor changes it.
"""

import contextlib
import json
import lzma
import shutil
import sqlite3
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from tablevault import TableVault, TVArgumentError, TVFileError, compress_vault, decompress_vault, delete_vault

FRAME = pd.DataFrame({"x": [1]})


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    (tmp_path / "catalogs").mkdir()
    return tmp_path / "catalogs" / "stories.db"


@pytest.fixture
def folder(tmp_path: Path, catalog: Path) -> Path:
    """The folder of a vault with one table, whose catalog is elsewhere."""
    TableVault(tmp_path / "vault", "ada", create=True, catalog_url=url_of(catalog)).write("old", FRAME)
    return tmp_path / "vault"


def marker_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / ".tablevault").read_text())


def set_in_marker(folder: Path, **facts: object) -> None:
    (folder / ".tablevault").write_text(json.dumps({**marker_of(folder), **facts}))


def assert_whole(folder: Path, tables: list[str]) -> None:
    vault = TableVault(folder, "ada")
    assert vault.get_tables() == tables
    for name in tables:
        assert vault.get_dataframe(name)[0]["x"].tolist() == [1]
    assert vault.verify().ok


def test_unpacked_vault_has_its_own_catalog(folder: Path, tmp_path: Path) -> None:
    archive = Path(compress_vault(folder))
    archive.rename(tmp_path / "copy.tar.xz")
    decompress_vault(tmp_path / "copy")
    TableVault(tmp_path / "copy", "ada").write("new", FRAME)
    assert_whole(folder, ["old"])
    assert_whole(tmp_path / "copy", ["old", "new"])
    assert marker_of(tmp_path / "copy")["catalog"] is None


def test_archive_that_names_the_catalog_of_another_vault_uses_its_own(tmp_path: Path) -> None:
    TableVault(tmp_path / "vault", "ada", create=True).write("old", FRAME)
    sent = Path(compress_vault(tmp_path / "vault"))
    with tarfile.open(sent) as archive:
        archive.extractall(tmp_path / "forged", filter="fully_trusted")
    set_in_marker(tmp_path / "forged" / "vault", catalog=url_of(tmp_path / "vault" / "metadata" / "catalog.db"))
    with lzma.open(tmp_path / "received.tar.xz", "w") as file, tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(tmp_path / "forged" / "vault", "received")
    received = decompress_vault(tmp_path / "received")
    TableVault(received, "ada").write("new", FRAME)
    assert_whole(tmp_path / "vault", ["old"])
    assert_whole(Path(received), ["old", "new"])
    vault = TableVault(tmp_path / "importing", "ada", create=True)
    vault.import_instances(tmp_path / "received.tar.xz")
    assert vault.get_tables() == ["old"]
    assert_whole(tmp_path / "vault", ["old"])


def test_folder_that_names_the_catalog_inside_another_vault_is_refused(tmp_path: Path) -> None:
    TableVault(tmp_path / "vault", "ada", create=True).write("old", FRAME)
    shutil.copytree(tmp_path / "vault", tmp_path / "received")
    set_in_marker(tmp_path / "received", catalog=url_of(tmp_path / "vault" / "metadata" / "catalog.db"))
    with pytest.raises(TVFileError, match="inside another vault"):
        TableVault(tmp_path / "received")
    assert_whole(tmp_path / "vault", ["old"])


def test_copied_folder_is_refused_and_a_moved_one_opened(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(TVFileError, match="is a copy of .*compress_vault"):
        TableVault(tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy")
    folder.rename(tmp_path / "moved")
    TableVault(tmp_path / "moved", "ada").write("new", FRAME)
    # The write has recorded the new folder, so that a later copy is found out, too.
    shutil.copytree(tmp_path / "moved", folder)
    with pytest.raises(TVFileError, match="is a copy of"):
        TableVault(folder)
    assert_whole(tmp_path / "moved", ["old", "new"])


def test_folder_seen_under_another_path_is_opened(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    TableVault(tmp_path / "link" / "vault", "ada").write("new", FRAME)
    assert_whole(folder, ["old", "new"])


def test_new_vault_never_takes_the_catalog_of_another(folder: Path, catalog: Path, tmp_path: Path) -> None:
    TableVault(tmp_path / "plain", "ada", create=True).write("plain", FRAME)
    for taken in (catalog, tmp_path / "plain" / "metadata" / "catalog.db"):
        with pytest.raises(TVArgumentError, match="catalog of another vault"):
            TableVault(tmp_path / "second", "ada", create=True, catalog_url=url_of(taken))
    # The interrupted creation goes on with a new file.
    second = TableVault(tmp_path / "second", "ada", create=True, catalog_url=url_of(tmp_path / "second.db"))
    second.write("own", FRAME)
    assert_whole(tmp_path / "second", ["own"])
    assert_whole(folder, ["old"])
    assert_whole(tmp_path / "plain", ["plain"])


def test_catalog_of_a_vault_is_the_one_in_its_marker(folder: Path, catalog: Path, tmp_path: Path) -> None:
    shutil.copyfile(catalog, tmp_path / "older.db")
    with pytest.raises(TVArgumentError, match="open the vault without catalog_url"):
        TableVault(folder, catalog_url=url_of(tmp_path / "older.db"))
    assert TableVault(folder, catalog_url=url_of(catalog)).get_tables() == ["old"]
    assert TableVault(folder, "ada", create=True, exist_ok=True, catalog_url=url_of(catalog)).get_tables() == ["old"]


@pytest.mark.parametrize("url", ["postgresql+psycopg://tv@db/tables?schema=atlas", "sqlite:///:memory:", "nonsense"])
def test_marker_that_names_no_sqlite_file_is_refused_as_such(folder: Path, url: str) -> None:
    set_in_marker(folder, catalog=url)
    with pytest.raises(TVArgumentError) as refused:
        TableVault(folder)
    assert str(refused.value).startswith(f"'catalog' in the file '{folder / '.tablevault'}' ")
    assert str(refused.value).endswith("or restore the file from a backup.")
    assert "catalog_url" not in str(refused.value)


def test_problems_of_a_catalog_outside_name_its_file(folder: Path, catalog: Path) -> None:
    with contextlib.closing(sqlite3.connect(catalog)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'reads_by_input'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    data = bytearray(catalog.read_bytes())
    data[(page - 1) * size : (page - 1) * size + 100] = b"\xff" * 100
    catalog.write_bytes(data)
    assert str(catalog) in {problem.path for problem in TableVault(folder).verify().problems}
    catalog.write_bytes(b"nothing")
    with pytest.raises(TVFileError, match=catalog.name):
        TableVault(folder).get_tables()


def test_worker_finds_a_catalog_outside(folder: Path) -> None:
    vault = TableVault(folder, "ada")
    vault.create_code_module("doubling", text="def double(x):\n    return x * 2\n")
    index = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: create_data_table_from_list
code_module: table_generation
arguments: {vals: [1, 2]}
"""
    column = """
builder_type: ColumnBuilder
changed_columns: [y]
python_function: double
code_module: doubling
is_custom: true
return_type: row-wise
arguments: {x: "<<self.x[index]>>"}
"""
    vault.create_table("t")
    vault.create_instance("t", builders={"t_index": index, "y": column})
    vault.execute_instance("t", background=True, process_id="behind")
    vault.wait_process("behind", timeout=120)
    assert vault.get_dataframe("t")[0]["y"].tolist() == [2, 4]


def test_deletion_removes_an_external_catalog_unless_another_vault_has_it(folder: Path, catalog: Path) -> None:
    moved = folder.with_name("moved")
    shutil.copytree(folder, moved)
    # The copy is not the vault that the catalog belongs to.
    delete_vault(moved)
    assert_whole(folder, ["old"])
    delete_vault(folder)
    assert not folder.exists()
    assert list(catalog.parent.iterdir()) == []


def test_data_kept_elsewhere_than_in_the_folder_are_refused(tmp_path: Path) -> None:
    TableVault(tmp_path / "vault", "ada", create=True)
    set_in_marker(tmp_path / "vault", storage="objects")
    with pytest.raises(TVArgumentError, match="keeps its data in 'objects'"):
        TableVault(tmp_path / "vault")
