"""Artifacts of an interval become durable together, whatever the disk answers."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import sys
import time
from pathlib import Path

import pytest

from tablevault.storage import artifact_commits, files
from tablevault.storage.artifact_commits import ArtifactCommits, SyncChoice
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.file_systems import FileSystem
from tablevault.system import mounts as system_mounts
from tablevault.values.contents import ArtifactRecord

MANY = [f"{folder}{number}.bin" for folder in ("", "a/", "a/b/") for number in range(5)]
LONG_AGO = 1_600_000_000


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "artifacts"
    root.mkdir()
    return root


def put(root, names, content="content of {}"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content.format(name))


def expected(root, names):
    return {name: described(root / name, name) for name in names}


def described(path, name):
    content = path.read_bytes()
    return ArtifactRecord(name, len(content), hashlib.sha256(content).hexdigest())


class Disk:
    """A file system that notes how often it is synced, and does something else first."""

    def __init__(self, before=lambda: None):
        self.synced = 0
        self.before = before

    def sync(self):
        self.synced += 1
        self.before()


def on(monkeypatch, disk):
    monkeypatch.setattr(FileSystem, "of", lambda folder: disk)


def failing_fsync(monkeypatch, fails):
    """Make fsync fail for some files.

    Returns the inodes of the files for which it was called, in order.
    """
    real, asked = os.fsync, []

    def fsync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        asked.append((os.fstat(descriptor).st_ino, path))
        if fails(path, len(asked)):
            raise OSError(errno.EIO, "the disk has failed", str(path))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return asked


@pytest.mark.parametrize("disk", [None, Disk()], ids=["one by one", "all at once"])
@pytest.mark.parametrize("names", [MANY, MANY[:3], []], ids=len)
def test_records_say_size_and_content(root, monkeypatch, disk, names):
    put(root, names)
    on(monkeypatch, disk)
    assert ArtifactCommits(root).record([*names, "missing", "a/missing", *names]) == expected(root, names)


def test_many_files_cost_one_sync_and_few_files_their_own(root, monkeypatch):
    put(root, MANY)
    disk = Disk()
    on(monkeypatch, disk)
    asked = failing_fsync(monkeypatch, lambda path, number: False)
    commits = ArtifactCommits(root)
    commits.record(MANY)
    assert (disk.synced, asked) == (1, [])
    commits.record(MANY[:2])
    assert disk.synced == 1
    assert [path for _, path in asked] == [root / MANY[0], root / MANY[1], root]


def test_folders_are_synced_after_their_files_deepest_first(root, monkeypatch):
    put(root, MANY)
    on(monkeypatch, None)
    asked = failing_fsync(monkeypatch, lambda path, number: False)
    ArtifactCommits(root).record(MANY)
    assert {path for _, path in asked[:-3]} == {root / name for name in MANY}
    assert [path for _, path in asked[-3:]] == [root / "a/b", root / "a", root]


def test_invalid_file_costs_only_its_own_row(root, monkeypatch):
    put(root, MANY)
    on(monkeypatch, None)
    (root / "folder").mkdir()
    (root / "leads_out").symlink_to(root.parent)
    outcomes = ArtifactCommits(root).record([*MANY, "folder", "../outside", "leads_out/x"])
    assert {name: outcomes.pop(name) for name in MANY} == expected(root, MANY)
    assert "is a folder" in str(outcomes.pop("folder"))
    assert "leaves the artifact folder" in str(outcomes.pop("../outside"))
    assert "outside its folder" in str(outcomes.pop("leads_out/x"))
    assert outcomes == {}


# --- a sync that fails ------------------------------------------------------------------------------------------------


def test_file_whose_sync_fails_is_rewritten_and_never_synced_again(root, monkeypatch):
    put(root, MANY)
    on(monkeypatch, None)
    before = (root / "a/1.bin").stat().st_ino
    asked = failing_fsync(monkeypatch, lambda path, number: path == root / "a/1.bin")
    outcomes = ArtifactCommits(root).record(MANY)
    monkeypatch.undo()
    assert outcomes == expected(root, MANY)
    assert (root / "a/1.bin").stat().st_ino != before
    assert [inode for inode, _ in asked].count(before) == 1
    assert ArtifactFolder(root).listing() == set(MANY)


def test_file_that_cannot_be_rewritten_costs_its_row(root, monkeypatch):
    put(root, MANY)
    on(monkeypatch, None)
    failing_fsync(monkeypatch, lambda path, number: path == root / "a/1.bin" or path.name.startswith("."))
    outcomes = ArtifactCommits(root).record(MANY)
    monkeypatch.undo()
    failed = outcomes.pop("a/1.bin")
    assert isinstance(failed, OSError)
    assert failed.errno == errno.EIO
    assert outcomes == expected(root, [name for name in MANY if name != "a/1.bin"])
    assert sorted(path.name for path in (root / "a").iterdir()) == [*(f"{number}.bin" for number in range(5)), "b"]


def test_failed_sync_of_a_folder_loses_no_rewritable_file(root, monkeypatch):
    put(root, MANY)
    on(monkeypatch, None)
    failed = []

    def once(path, _number):
        if path == root / "a" and not failed:
            failed.append(path)
            return True
        return False

    failing_fsync(monkeypatch, once)
    before = {name: (root / name).stat().st_ino for name in MANY}
    outcomes = ArtifactCommits(root).record(MANY)
    monkeypatch.undo()
    assert outcomes == expected(root, MANY)
    renewed = {name for name in MANY if (root / name).stat().st_ino != before[name]}
    assert renewed == {name for name in MANY if name.startswith("a/")}


def test_all_files_are_rewritten_when_syncing_the_file_system_fails(root, monkeypatch):
    def fail():
        raise OSError(errno.EIO, "something has failed")

    put(root, MANY)
    on(monkeypatch, Disk(fail))
    before = {name: (root / name).stat().st_ino for name in MANY}
    outcomes = ArtifactCommits(root).record(MANY)
    assert all((root / name).stat().st_ino != before[name] for name in MANY)
    assert outcomes == expected(root, MANY)


def test_full_disk_costs_the_rows_that_cannot_be_rewritten(root, monkeypatch):
    def fail():
        raise OSError(errno.ENOSPC, "full")

    def copyfile(source, target):
        if "a/b" in str(source):
            raise OSError(errno.ENOSPC, "full", str(target))
        Path(target).write_bytes(Path(source).read_bytes())

    put(root, MANY)
    on(monkeypatch, Disk(fail))
    monkeypatch.setattr(files.shutil, "copyfile", copyfile)
    outcomes = ArtifactCommits(root).record(MANY)
    assert {name for name in MANY if isinstance(outcomes[name], OSError)} == {
        name for name in MANY if name.startswith("a/b/")
    }


# --- files that are still written to ----------------------------------------------------------------------------------


@pytest.mark.parametrize("replaced", [False, True], ids=["written to", "replaced"])
def test_file_that_changes_before_the_sync_is_recorded_as_it_is_after_it(root, monkeypatch, replaced):
    def write_on():
        target = root / "3.bin"
        if replaced:
            (root / "new").write_text("the end")
            (root / "new").replace(target)
        else:
            target.write_text("the end")

    put(root, MANY)
    on(monkeypatch, Disk(write_on))
    outcomes = ArtifactCommits(root).record(MANY)
    assert (root / "3.bin").read_text() == "the end"
    assert outcomes == expected(root, MANY)


@pytest.mark.skipif(sys.platform != "linux", reason="mapped files are listed by Linux only")
def test_mapped_file_is_recorded_as_it_is_at_the_end(root, monkeypatch):
    put(root, MANY)
    with (root / "3.bin").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = b"a"
        wait_until_old(root, MANY)
        # A store into a page that is not written to the disk yet changes no attribute of the file.
        on(monkeypatch, Disk(lambda: mapped.__setitem__(slice(0, 1), b"b")))
        commits = ArtifactCommits(root)
        commits.record(MANY)
    assert commits.describe(MANY) == list(expected(root, MANY).values())


def test_file_that_goes_before_the_sync_has_no_record(root, monkeypatch):
    put(root, MANY)
    on(monkeypatch, Disk(lambda: (root / "3.bin").unlink()))
    assert "3.bin" not in ArtifactCommits(root).record(MANY)


def test_file_that_a_link_replaces_has_no_record(root, monkeypatch):
    def replace():
        (root / "3.bin").unlink()
        (root / "3.bin").symlink_to("/etc/hostname")

    put(root, MANY)
    on(monkeypatch, Disk(replace))
    commits = ArtifactCommits(root)
    assert "3.bin" not in commits.record(MANY)
    with pytest.raises(ValueError, match="outside its folder"):
        commits.describe(MANY)


def wait_until_old(root, names):
    """Make files look as if they had been written long before they are recorded."""
    deadline = time.time_ns() + 10**10
    while max((root / name).stat().st_ctime_ns for name in names) + 10**8 > time.time_ns():
        assert time.time_ns() < deadline
        time.sleep(0.01)


def test_files_are_not_read_again_at_the_end_unless_they_have_changed(root, monkeypatch):
    put(root, MANY)
    wait_until_old(root, MANY)
    on(monkeypatch, Disk())
    commits = ArtifactCommits(root)
    commits.record(MANY)
    read = []
    monkeypatch.setattr(files, "sha256", lambda path, real=files.sha256: read.append(path) or real(path))
    assert commits.describe(MANY) == list(expected(root, MANY).values())
    read.clear()
    (root / "3.bin").write_text("content of 4.bin")
    os.utime(root / "3.bin", (LONG_AGO, LONG_AGO))
    (root / "4.bin").unlink()
    records = dict(zip(MANY, commits.describe(MANY), strict=True))
    assert read == [root / "3.bin"]
    assert records["4.bin"] is None
    assert records["3.bin"] == expected(root, ["3.bin"])["3.bin"]


def test_files_written_a_moment_before_they_were_recorded_are_read_again(root, monkeypatch):
    on(monkeypatch, Disk())
    monkeypatch.setattr(artifact_commits, "_SETTLED_NANOSECONDS", 3600 * 10**9)
    put(root, MANY)
    commits = ArtifactCommits(root)
    commits.record(MANY)
    read = []
    monkeypatch.setattr(files, "sha256", lambda path, real=files.sha256: read.append(path) or real(path))
    commits.describe(MANY)
    assert sorted(read) == sorted(root / name for name in MANY)


# --- which sync -------------------------------------------------------------------------------------------------------


def test_cheaper_way_is_chosen_by_the_recent_costs_of_both():
    choice = SyncChoice()
    assert not choice.is_for_all(8)
    assert choice.is_for_all(9)
    choice.note_all(0.010)
    assert not choice.is_for_all(100), "each file was never measured"
    choice.note_each(0.001)
    for _ in range(70):
        if not choice.is_for_all(100):
            choice.note_each(0.001)
    assert choice.is_for_all(100)
    assert not choice.is_for_all(9)
    for _ in range(10):
        choice.note_all(2.0)  # Another program fills the disk.
    assert [choice.is_for_all(100) for _ in range(64)].count(True) == 1


def test_file_systems_that_may_hide_errors_are_synced_file_by_file(tmp_path, monkeypatch):
    mounts = tmp_path / "mountinfo"
    lines = [
        ("/", "ext4"),
        (f"{tmp_path}", "xfs"),
        (f"{tmp_path}/with\\040space", "btrfs"),
        (f"{tmp_path}/with\\040space/nested", "nfs4"),
        (f"{tmp_path}/covered", "ext4"),
        (f"{tmp_path}/covered", "overlay"),
    ]
    mounts.write_text("".join(f"36 35 98:0 / {point} rw - {kind} /dev/disk rw\n" for point, kind in lines))
    monkeypatch.setattr(system_mounts, "_MOUNTS", mounts)
    trusted = {"a": True, "with space": True, "with space/nested": False, "with": True, "covered": False}
    for name in trusted:
        (tmp_path / name).mkdir(exist_ok=True)
    assert {name: FileSystem.of(tmp_path / name) is not None for name in trusted} == trusted
    now = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*now[:2], "5.4.0-generic", *now[3:])))
    assert FileSystem.of(tmp_path) is None


def test_a_file_system_is_synced_or_says_why_not(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    FileSystem(descriptor).sync()
    broken = FileSystem(os.open(tmp_path, os.O_RDONLY))
    os.close(broken._descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        broken.sync()
    broken._descriptor = os.open(tmp_path, os.O_RDONLY)
