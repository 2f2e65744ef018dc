import errno
import os
import stat
from pathlib import Path

import pytest

from tablevault.storage import files


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def synced(monkeypatch):
    """The files and folders that were fsynced, in order, by inode."""
    inodes = []
    fsync = os.fsync

    def recording(descriptor):
        inodes.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    return inodes


@pytest.fixture
def failing_fsync(monkeypatch):
    calls = []

    def fail(descriptor):
        calls.append(descriptor)
        raise OSError(errno.EIO, "no such luck")

    monkeypatch.setattr(os, "fsync", fail)
    return calls


def test_a_written_file_and_its_folder_are_synchronised(tmp_path, synced):
    path = tmp_path / "file"
    files.write_text(path, "né\n")
    assert path.read_bytes() == "né\n".encode()
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]


def test_writing_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old and longer")
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_fsync_leaves_no_file_and_is_not_repeated(tmp_path, failing_fsync):
    with pytest.raises(OSError, match="no such luck"):
        files.write_bytes(tmp_path / "file", b"x")
    assert list(tmp_path.iterdir()) == []
    assert len(failing_fsync) == 1


def test_new_file_is_removed_when_its_sync_fails(tmp_path, failing_fsync):
    files.write_unsynced(tmp_path / "file", "x")
    with pytest.raises(OSError, match="no such luck"):
        files.sync_new_file(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_file_written_unsynced_is_synced_with_its_folder(tmp_path, synced):
    path = tmp_path / "file"
    files.write_unsynced(path, "né\n")
    assert synced == []
    files.sync_new_file(path)
    assert path.read_bytes() == "né\n".encode()
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]


def test_a_failed_replacement_keeps_the_old_file(tmp_path, failing_fsync):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="no such luck"):
        files.write_bytes(path, b"new")
    assert path.read_text() == "old"


def test_names_as_long_as_the_file_system_allows_can_be_written(tmp_path):
    path = tmp_path / ("n" * 255)
    files.write_bytes(path, b"x")
    assert path.read_bytes() == b"x"


def test_every_new_folder_is_synchronised_in_its_parent(tmp_path, synced):
    files.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert synced == [tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino]
    synced.clear()
    files.make_folder(tmp_path / "a" / "b")
    assert synced == []


def test_a_tree_is_synchronised_files_first_and_its_root_last(tmp_path, synced):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    (tmp_path / "link").symlink_to("/")
    os.mkfifo(tmp_path / "pipe")
    files.fsync_tree(tmp_path)
    expected = [deep / "file", deep, tmp_path / "a", tmp_path]
    assert synced == [path.stat().st_ino for path in expected]


def test_read_only_trees_are_removed(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "file").write_text("x")
    files.make_read_only(root)
    assert [mode(path) for path in (root, root / "sub", root / "sub" / "file")] == [0o555, 0o555, 0o444]
    files.remove_tree(root)
    assert not root.exists()
    files.remove_tree(root)


def test_links_are_removed_or_protected_but_never_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    before = mode(outside), mode(outside / "file")
    root = tmp_path / "root"
    root.mkdir()
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "file")
    files.make_read_only(root)
    assert (mode(outside), mode(outside / "file")) == before
    files.remove_tree(root)
    (tmp_path / "link").symlink_to(outside)
    files.remove_tree(tmp_path / "link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside"]
    assert (outside / "file").read_text() == "x"


def test_removing_a_tree_does_not_change_the_mode_of_files_it_shares(tmp_path):
    committed = tmp_path / "committed"
    committed.write_text("x")
    committed.chmod(0o444)
    (tmp_path / "tree").mkdir()
    os.link(committed, tmp_path / "tree" / "file")
    files.remove_tree(tmp_path / "tree")
    assert mode(committed) == 0o444


def test_a_copy_has_the_content_but_not_the_mode(tmp_path, synced):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x" * 100_000)
    source.chmod(0o400)
    files.copy_file(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert mode(target) != 0o400
    assert synced == [target.stat().st_ino, tmp_path.stat().st_ino]


def test_a_link_shares_the_file_even_through_a_symbolic_link(tmp_path):
    (tmp_path / "source").write_text("x")
    (tmp_path / "alias").symlink_to("source")
    files.link_or_copy(tmp_path / "alias", tmp_path / "target")
    assert (tmp_path / "target").samefile(tmp_path / "source")
    assert not (tmp_path / "target").is_symlink()


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def test_files_are_copied_where_links_are_not_supported(tmp_path, monkeypatch, number):
    def refuse(source, target):
        raise OSError(number, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source").write_text("x")
    files.link_or_copy(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "x"
    assert not (tmp_path / "target").samefile(tmp_path / "source")
    with pytest.raises(FileExistsError):
        files.link_or_copy(tmp_path / "source", tmp_path / "target")


def test_other_errors_of_linking_are_left_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.link_or_copy(tmp_path / "missing", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_moving_synchronises_both_folders(tmp_path, synced):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("x")
    files.replace(tmp_path / "a" / "file", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x"
    assert set(synced) == {tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino}


def test_a_link_is_replaced_in_one_step(tmp_path, monkeypatch):
    link = tmp_path / "link"
    files.replace_link(link, "first")
    seen = []
    replace = Path.replace

    def watching(self, target):
        seen.append(os.readlink(link))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watching)
    files.replace_link(link, "second")
    assert seen == ["first"]
    assert os.readlink(link) == "second"
    assert list(tmp_path.iterdir()) == [link]


def test_a_digest_is_that_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert files.sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_is_inside_follows_links(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "folder-too").mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "in").symlink_to(folder / "sub")
    (folder / "loop").symlink_to(folder / "loop")
    assert files.is_inside(folder, folder / "sub" / "missing.txt")
    assert files.is_inside(folder, folder / "in" / "x")
    assert not files.is_inside(folder, folder)
    assert not files.is_inside(folder, folder / "..")
    assert not files.is_inside(folder, folder / "out" / "x")
    assert not files.is_inside(folder, tmp_path / "folder-too" / "x")


def test_scratch_folders_of_numbers_that_are_no_process_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = tmp_path / f"tablevault-worker-{2**31 - 1}-x"
    others = [tmp_path / f"tablevault-worker-{number}-x" for number in ("9" * 30, "²", "x", os.getpid())]
    for folder in (dead, *others):
        folder.mkdir()
    files.remove_scratch_folders_of_dead_processes()
    assert sorted(tmp_path.iterdir()) == sorted(others)
