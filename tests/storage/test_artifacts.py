"""Artifacts lie inside their folder, are recorded as they are, and every stray one is found."""

import errno
import hashlib
import os
import stat
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tablevault.storage.artifact_commits import ArtifactCommits
from tablevault.storage.artifacts import ArtifactFolder, normalise_name
from tablevault.values.contents import ArtifactRecord


@pytest.fixture
def root(tmp_path):
    (tmp_path / "artifacts").mkdir()
    return tmp_path / "artifacts"


@pytest.fixture
def folder(root):
    return ArtifactFolder(root)


def recorded(folder, name):
    outcome = ArtifactCommits(folder.path).record([name]).get(name)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def put(root, name, text="content"):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("a.txt", "a.txt"),
        ("./a.txt", "a.txt"),
        ("a//b/./c", "a/b/c"),
        ("a/../b", "b"),
        ("..a/b..", "..a/b.."),
        ("~/a", "~/a"),
        (" a b ", " a b "),
        ("ä/😀", "ä/😀"),
        (PurePosixPath("a/b"), "a/b"),
    ],
)
def test_names_are_normalised(value, name):
    assert normalise_name(value) == name


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "empty"),
        (".", "folder itself"),
        ("a/..", "folder itself"),
        ("..", "leaves"),
        ("../a", "leaves"),
        ("a/../../b", "leaves"),
        ("/etc/passwd", "not absolute"),
        ("//server/share", "not absolute"),
        ("C:/a", "not absolute"),
        ("C:a", "not absolute"),
        ("..\\a", "use '/'"),
        ("a\\b", "use '/'"),
        ("a\0b", "characters"),
        ("a\ud800", "characters"),
        ("a/", "ends with '/'"),
        (3, "is a int, not text"),
        (None, "not text"),
        (b"a", "not text"),
    ],
)
def test_path_outside_the_folder_is_refused(value, reason):
    with pytest.raises(ValueError, match=reason):
        normalise_name(value)


@given(st.text(st.sampled_from("a./\\:~\0C "), max_size=12))
def test_a_name_that_is_accepted_stays_inside_and_is_its_own_normal_form(value):
    try:
        name = normalise_name(value)
    except ValueError:
        return
    assert normalise_name(name) == name
    assert os.path.commonpath(["/root", os.path.normpath(f"/root/{value}")]) == "/root"
    assert Path(os.path.normpath(f"/root/{value}")) == Path("/root") / name


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_record_holds_size_and_hash(root, folder):
    put(root, "deep/er/a.txt", "hello")
    assert recorded(folder, "deep/er/a.txt") == ArtifactRecord("deep/er/a.txt", 5, hashlib.sha256(b"hello").hexdigest())


@pytest.mark.parametrize("name", ["missing", "deep/missing", "a.txt/below"])
def test_missing_file_has_no_record(root, folder, name):
    put(root, "a.txt")
    assert recorded(folder, name) is None


def test_file_and_folders_are_made_durable(root, folder, monkeypatch):
    synced = []
    fsync = os.fsync

    def watch(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    put(root, "b/c/a.txt")
    monkeypatch.setattr(os, "fsync", watch)
    recorded(folder, "b/c/a.txt")
    assert synced == [root / "b/c/a.txt", root / "b/c", root / "b", root]


def test_links_that_leave_the_folder_are_refused(root, folder):
    outside = put(root.parent, "outside/secret.txt").parent
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret.txt")
    (root / "dangling").symlink_to(outside / "missing")
    for name in ("folder/secret.txt", "file", "dangling"):
        with pytest.raises(ValueError, match="outside its folder"):
            recorded(folder, name)
        assert not folder.matches(ArtifactRecord(name, 7, hashlib.sha256(b"content").hexdigest()))
        assert folder.missing([name]) == [name]


def test_links_inside_the_folder_are_followed(root, folder):
    put(root, "a.txt")
    (root / "b.txt").symlink_to("a.txt")
    assert recorded(folder, "b.txt").sha256 == recorded(folder, "a.txt").sha256
    assert folder.missing(["a.txt", "b.txt"]) == []


def test_the_folder_itself_may_be_reached_through_a_link(root):
    put(root, "a.txt")
    (root.parent / "link").symlink_to(root)
    assert recorded(ArtifactFolder(root.parent / "link"), "a.txt") == recorded(ArtifactFolder(root), "a.txt")


def test_folders_and_special_files_are_not_artifacts(root, folder):
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe")
    with pytest.raises(ValueError, match="is a folder"):
        recorded(folder, "folder")
    with pytest.raises(ValueError, match="is a special file"):
        recorded(folder, "pipe")
    assert folder.missing(["folder", "pipe"]) == ["folder", "pipe"]
    assert folder.unnamed([]) == ["pipe"]


def test_a_file_matches_until_it_changes(root, folder):
    path = put(root, "a.txt", "12345")
    record = recorded(folder, "a.txt")
    assert folder.matches(record)
    path.write_text("54321")
    assert not folder.matches(record)
    path.write_text("123456")
    assert not folder.matches(record)
    path.unlink()
    assert not folder.matches(record)
    path.mkdir()
    assert not folder.matches(record)


# --- all that is there ------------------------------------------------------------------------------------------------


def test_hidden_and_system_files_are_set_aside(root, folder):
    names = {"a.txt", "deep/b.txt"}
    for name in names | {".hidden", "deep/.DS_Store", ".git/config", "Thumbs.db", "desktop.ini", "m/__pycache__/x.pyc"}:
        put(root, name)
    assert folder.listing() == names
    assert folder.unnamed(["a.txt"]) == ["deep/b.txt"]
    assert folder.unnamed(names) == []


def test_a_hidden_file_may_be_named(root, folder):
    put(root, ".hidden")
    assert folder.missing([".hidden", ".other"]) == [".other"]


def test_all_that_is_missing_is_told(root, folder):
    put(root, "a.txt")
    assert folder.missing(["c", "a.txt", "b", "c"]) == ["b", "c"]


def test_an_unnamed_link_is_found_and_not_followed(root, folder):
    (root / "loop").symlink_to(root)
    assert folder.unnamed([]) == ["loop"]


# --- reuse ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def origin(tmp_path):
    (tmp_path / "origin").mkdir()
    return tmp_path / "origin"


def test_adopted_files_are_the_same_files(root, folder, origin):
    records = []
    for name in ("a.txt", "deep/b.txt"):
        put(origin, name).chmod(0o444)
        records.append(recorded(ArtifactFolder(origin), name))
    folder.adopt(origin, records)
    for record in records:
        assert folder.matches(record)
        assert (root / record.path).samefile(origin / record.path)
        assert stat.S_IMODE((origin / record.path).stat().st_mode) == 0o444


def test_adopting_again_is_fine(root, folder, origin):
    put(origin, "a.txt")
    record = recorded(ArtifactFolder(origin), "a.txt")
    folder.adopt(origin, [record])
    folder.adopt(origin, [record, record])
    assert folder.listing() == {"a.txt"}


def test_adopting_makes_a_file_durable_that_is_there_already(root, folder, origin, monkeypatch):
    put(origin, "a.txt")
    record = recorded(ArtifactFolder(origin), "a.txt")
    put(root, "a.txt")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    folder.adopt(origin, [record])
    assert synced == [root / "a.txt", root]


def test_adopting_never_replaces_another_file(root, folder, origin):
    put(origin, "a.txt", "theirs")
    put(root, "a.txt", "mine")
    with pytest.raises(FileExistsError):
        folder.adopt(origin, [recorded(ArtifactFolder(origin), "a.txt")])
    assert (root / "a.txt").read_text() == "mine"


def test_adopting_a_file_missing_in_the_origin_is_an_error(folder, origin):
    with pytest.raises(FileNotFoundError):
        folder.adopt(origin, [ArtifactRecord("a.txt", 1, "")])


def test_a_link_in_the_origin_is_followed_to_the_file_that_it_names(root, folder, origin, tmp_path):
    put(origin, "real/a.txt")
    (origin / "a.txt").symlink_to("real/a.txt")
    (origin / "way").symlink_to("real")
    records = [recorded(ArtifactFolder(origin), name) for name in ("a.txt", "way/a.txt")]
    folder.adopt(origin, records)
    for record in records:
        assert (root / record.path).samefile(origin / "real" / "a.txt")
        assert not (root / record.path).is_symlink()


@pytest.mark.parametrize("number", [errno.EMLINK, errno.EXDEV, errno.EPERM])
def test_files_that_cannot_be_linked_are_copied(root, folder, origin, monkeypatch, number):
    def link(*_, **__):
        raise OSError(number, os.strerror(number))

    put(origin, "deep/a.txt")
    monkeypatch.setattr(os, "link", link)
    record = recorded(ArtifactFolder(origin), "deep/a.txt")
    folder.adopt(origin, [record])
    assert folder.matches(record)
    assert (root / "deep/a.txt").stat().st_nlink == 1


def test_names_are_looked_for_in_each_folder_once(root, folder):
    for name in ("a.txt", "deep/b.txt", ".hidden", "deep/.c/d.txt", "Thumbs.db"):
        put(root, name)
    names = {"a.txt", "deep/b.txt", ".hidden", "deep/.c/d.txt", "Thumbs.db"}
    assert folder.existing(names | {"b.txt", "deep/a.txt", ".other"}) == names
