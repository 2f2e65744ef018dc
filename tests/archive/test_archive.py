"""Packing, unpacking and deleting whole vaults.

No other file is touched.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from waiting import PATIENCE, until

import tablevault
from tablevault import TableVault, compress_vault, decompress_vault, delete_vault, tv_errors

WORKING = """
import json, sys, time
from pathlib import Path
from tablevault import TableVault
vault = TableVault(sys.argv[1])
vault.create_code_module("slow", text='''
import time
from pathlib import Path
import pandas as pd
def index(control):
    Path(control, "started").touch()
    while not Path(control, "go").exists():
        time.sleep(0.01)
    return pd.DataFrame({"n": [1, 2]})
''')
vault.create_table("slow")
builder = "builder_type: IndexBuilder\\nchanged_columns: [n]\\npython_function: index\\ncode_module: slow\\n"
builder += f"is_custom: true\\narguments: {{control: {sys.argv[2]}}}\\n"
vault.create_instance("slow", builders={"slow_index": builder})
vault.execute_instance("slow", process_id="slow-1")
"""


def tree(folder, modes=True):
    """Return every file with content and mode, and every link.

    Files of the catalog and of locks are left out.
    """
    seen = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.name.startswith("catalog.db") or path.suffix == ".lock":
            continue
        mode = stat.S_IMODE(path.lstat().st_mode) & (stat.S_IWUSR if not path.is_symlink() else 0)
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        seen[str(path.relative_to(folder))] = (mode if modes else 0, content)
    return seen


@pytest.fixture
def worker(db_dir, tmp_path):
    """Another interpreter in the midst of an execution."""
    environment = {**os.environ, "PYTHONPATH": str(Path(tablevault.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", WORKING, str(db_dir), str(tmp_path)], env=environment)
    until((tmp_path / "started").exists)
    yield process
    process.kill()
    process.wait()


def test_a_vault_that_was_packed_and_unpacked_is_the_same(db_dir, tmp_path):
    before = tree(db_dir)
    archive = compress_vault(db_dir, preset=1)
    assert archive == f"{db_dir}.tar.xz"
    assert tree(db_dir) == before
    delete_vault(db_dir)
    assert decompress_vault(db_dir) == str(db_dir)
    assert tree(db_dir) == before
    assert (db_dir / "pictures" / "artifacts").is_symlink()
    vault = TableVault(db_dir)
    assert vault.verify().ok, vault.verify()
    assert Path(vault.get_dataframe("pictures")[0]["picture"][0]).read_text() == "a picture"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vault", "vault.tar.xz"]


def test_an_archive_can_be_unpacked_under_another_name(db_dir, tmp_path):
    archive = Path(compress_vault(str(db_dir)))
    archive.rename(tmp_path / "moved.tar.xz")
    decompress_vault(tmp_path / "moved.tar.xz")
    vault = TableVault(tmp_path / "moved")
    assert vault.get_tables() == ["pictures"]
    vault.create_table("another")
    assert TableVault(db_dir).get_tables() == ["pictures"]


def test_content_of_the_write_ahead_log_is_packed(db_dir):
    vault = TableVault(db_dir)
    for number in range(3):
        vault.create_table(f"t{number}")
    compress_vault(db_dir)
    vault.create_table("later")  # The open vault goes on.
    delete_vault(db_dir)
    decompress_vault(db_dir)
    assert TableVault(db_dir).get_tables() == ["pictures", "t0", "t1", "t2"]


def test_a_paused_process_survives_the_move(db_dir, worker, tmp_path):
    worker.kill()
    worker.wait()
    assert TableVault(db_dir).get_process("slow-1").status == "paused"
    compress_vault(db_dir)
    delete_vault(db_dir)
    (tmp_path / "vault.tar.xz").rename(tmp_path / "elsewhere.tar.xz")
    vault = TableVault(decompress_vault(tmp_path / "elsewhere"))
    assert vault.get_process("slow-1").status == "paused"
    (tmp_path / "go").touch()
    vault.execute_instance("slow", process_id="slow-1")
    assert len(vault.get_dataframe("slow")[0]) == 2
    assert vault.verify().ok, vault.verify()


@pytest.mark.slow
@pytest.mark.parametrize("function", [compress_vault, delete_vault])
def test_a_vault_at_work_is_refused(db_dir, worker, tmp_path, function):
    with pytest.raises(tv_errors.TVProcessError, match=f"process number {worker.pid}"):
        function(db_dir)
    assert not (tmp_path / "vault.tar.xz").exists()
    (tmp_path / "go").touch()
    assert worker.wait(PATIENCE) == 0
    assert TableVault(db_dir).verify().ok


@pytest.mark.parametrize("function", [compress_vault, decompress_vault, delete_vault])
def test_missing_archive_or_folder_raises_file_not_found(tmp_path, function):
    with pytest.raises(FileNotFoundError):
        function(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", [compress_vault, delete_vault])
def test_other_folder_is_refused_and_unchanged(tmp_path, function):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "me.jpg").write_text("me")
    (tmp_path / "plain").write_text("text")
    for path in (folder, tmp_path / "plain"):
        with pytest.raises(tv_errors.TVArgumentError, match="not a vault"):
            function(path)
    assert (folder / "me.jpg").read_text() == "me"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "plain"]


@pytest.mark.parametrize("preset", [-1, 10, "6", True, None])
def test_a_wrong_preset_is_refused(db_dir, preset):
    with pytest.raises(tv_errors.TVArgumentError, match="preset"):
        compress_vault(db_dir, preset)


def test_unpacking_never_replaces_existing_files(db_dir):
    compress_vault(db_dir)
    before = tree(db_dir)
    with pytest.raises(tv_errors.TVArgumentError, match="exists already"):
        decompress_vault(db_dir)
    assert tree(db_dir) == before


def test_links_to_files_outside_are_packed_as_files(db_dir, tmp_path):
    (tmp_path / "shared.py").write_text("x = 1\n")
    (db_dir / "code_functions" / "shared.py").symlink_to(tmp_path / "shared.py")
    compress_vault(db_dir)
    delete_vault(db_dir)
    assert (tmp_path / "shared.py").exists()
    decompress_vault(db_dir)
    copy = db_dir / "code_functions" / "shared.py"
    assert not copy.is_symlink()
    assert copy.read_text() == "x = 1\n"


def test_links_to_folders_outside_are_refused(db_dir, tmp_path):
    (db_dir / "code_functions" / "all").symlink_to(tmp_path)
    with pytest.raises(tv_errors.TVFileError, match="points outside the vault"):
        compress_vault(db_dir)
    assert [path.name for path in tmp_path.iterdir()] == ["vault"]


def test_a_full_disk_leaves_the_older_archive_and_nothing_else(db_dir, tmp_path):
    archive = Path(compress_vault(db_dir))
    before = archive.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    (db_dir / "code_functions" / "noise.bin").write_bytes(os.urandom(1 << 20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, limit[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            compress_vault(db_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert archive.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vault", "vault.tar.xz"]


# --- archives of strangers ----------------------------------------------------------------------------------------


def entry(name, kind=tarfile.REGTYPE, leads_to="", **headers):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.pax_headers = kind, leads_to, headers
    return member


@pytest.mark.parametrize(
    "members",
    [
        [entry("/etc/stranger")],
        [entry("vault/../../stranger")],
        [entry("..")],
        [entry("vault/code_functions/pipe", tarfile.FIFOTYPE)],
        [entry("vault/device", tarfile.CHRTYPE)],
        [entry("vault/out", tarfile.SYMTYPE, "/etc")],
        [entry("vault/out", tarfile.SYMTYPE, "../..")],
        [entry("vault/a/b", tarfile.DIRTYPE), entry("vault/a/up", tarfile.SYMTYPE, "b/../..")],
        [entry("vault/in", tarfile.SYMTYPE, "metadata"), entry("vault/in/stranger")],
        [entry("vault/in", tarfile.SYMTYPE, linkpath="meta\0data")],
        [entry("vault/in", tarfile.SYMTYPE, linkpath="a/" * 3000)],
        [entry("vault/hard", tarfile.LNKTYPE, linkpath="vault/meta\0data")],
        [entry("vault/hard", tarfile.LNKTYPE, "/etc/passwd")],
        [entry("vault/hard", tarfile.LNKTYPE, "vault/../../shadow")],
        [entry("vault/hard", tarfile.LNKTYPE, "vault/not there")],
        [entry("vault/twice"), entry("vault/twice")],
        [entry("vault/.tablevault")],
    ],
    ids=lambda members: "-".join((members[-1].name, members[-1].linkname, *members[-1].pax_headers)).replace("/", "-"),
)
def test_an_archive_that_reaches_out_is_refused_and_leaves_nothing(db_dir, tmp_path, members):
    archive = Path(compress_vault(db_dir))
    delete_vault(db_dir)
    with tarfile.open(archive, "r:xz") as source:
        original = [(member, source.extractfile(member) if member.isreg() else None) for member in source]
        with tarfile.open(tmp_path / "forged.tar.xz", "w:xz", preset=0) as forged:
            for member, content in original:
                forged.addfile(member, content)
            for member in members:
                forged.addfile(member)
    with pytest.raises(tv_errors.TVFileError, match="refused"):
        decompress_vault(tmp_path / "forged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forged.tar.xz", "vault.tar.xz"]


def test_an_archive_of_something_else_is_refused(tmp_path):
    with tarfile.open(tmp_path / "photos.tar.xz", "w:xz") as archive:
        archive.addfile(entry("photos/me.jpg"))
    with pytest.raises(tv_errors.TVArgumentError, match="not the archive of a vault"):
        decompress_vault(tmp_path / "photos")
    assert [path.name for path in tmp_path.iterdir()] == ["photos.tar.xz"]


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_archive_is_a_named_error_and_leaves_nothing(db_dir, tmp_path, place, damage):
    archive = Path(compress_vault(db_dir, preset=0))
    delete_vault(db_dir)
    data = bytearray(archive.read_bytes())
    position = int(len(data) * place)
    if damage == "flip":
        data[position] ^= 1
    archive.write_bytes(data if damage == "flip" else data[:position])
    with pytest.raises(tv_errors.TVFileError, match="damaged"):
        decompress_vault(db_dir)
    assert [path.name for path in tmp_path.iterdir()] == ["vault.tar.xz"]


def test_a_header_without_end_is_refused(tmp_path):
    long = entry("vault/x")
    long.pax_headers = {"comment": "x" * (1 << 25)}
    with tarfile.open(tmp_path / "bomb.tar.xz", "w:xz", preset=0, format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(long)
    with pytest.raises(tv_errors.TVFileError, match="header without end"):
        decompress_vault(tmp_path / "bomb")


# --- deleting -----------------------------------------------------------------------------------------------------


def test_deleting_removes_everything_and_follows_no_link(db_dir, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep.txt").write_text("keep")
    (db_dir / "code_functions" / "link").symlink_to(outside)
    delete_vault(str(db_dir))
    assert not db_dir.exists()
    assert (outside / "keep.txt").read_text() == "keep"


def test_a_link_to_a_vault_is_refused(db_dir, tmp_path):
    (tmp_path / "link").symlink_to(db_dir)
    with pytest.raises(tv_errors.TVArgumentError, match="symbolic link"):
        delete_vault(tmp_path / "link")
    assert TableVault(db_dir).verify().ok


def test_a_vault_with_a_damaged_catalog_can_be_deleted(db_dir):
    (db_dir / "metadata" / "catalog.db").write_bytes(b"rubbish")
    delete_vault(db_dir)
    assert not db_dir.exists()


def test_interrupted_deletion_is_not_a_vault_and_can_be_repeated(db_dir):
    # The first step of a deletion, and nothing else.
    (db_dir / ".tablevault").rename(db_dir / ".tablevault-deleting")
    with pytest.raises(tv_errors.TVArgumentError, match=r"deletion.*interrupted"):
        TableVault(db_dir)
    with pytest.raises(tv_errors.TVArgumentError, match=r"deletion.*interrupted"):
        compress_vault(db_dir)
    delete_vault(db_dir)
    assert not db_dir.exists()


def test_a_vault_may_be_made_again_in_its_place(db_dir):
    old = TableVault(db_dir)
    delete_vault(db_dir)
    new = TableVault(db_dir, create=True)
    assert new.get_tables() == []
    assert json.loads((db_dir / ".tablevault").read_text())["format"] == 2
    assert old.get_tables() == []
