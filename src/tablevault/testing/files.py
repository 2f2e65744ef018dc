"""Conformance checks of the stores of a vault's files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tablevault.errors import TVFileError
from tablevault.ports import FileStore
from tablevault.values.changes import Tidying, TidyingAction

MakeStore = Callable[[], FileStore]
"""Returns an empty store."""
FileStoreCheck = Callable[[MakeStore], None]

_REMOVE, _PUT, _MOVE = TidyingAction.REMOVE, TidyingAction.PUT_FILE, TidyingAction.MOVE_FOLDER
_REPLACE, _PRUNE = TidyingAction.REPLACE_FOLDER, TidyingAction.PRUNE
_LINK, _UNLINK = TidyingAction.LINK, TidyingAction.UNLINK


def written_files_are_read(make: MakeStore) -> None:
    """A file has its last content, under its key only, and the folders around it exist."""
    store = make()
    for content in (b"", b"first", b"\0" * 100_000, b"last"):
        store.write("table/instance/a.txt", content)
        assert store.read("table/instance/a.txt") == content
        assert store.local("table/instance/a.txt").read_bytes() == content
    store.write("table/b", b"other")
    assert store.exists("table")
    assert store.exists("table/instance/a.txt")
    assert not store.exists("table/instance/a")
    assert store.names("table") == ["b", "instance"]
    assert store.names("table/instance") == ["a.txt"]
    assert store.names("missing") == store.names("table/b") == []


def missing_files_and_folders_are_told_apart(make: MakeStore) -> None:
    """Reading a missing file, a folder or a path outside the vault are different errors."""
    store = make()
    store.write("table/a", b"")
    _raises(FileNotFoundError, lambda: store.read("table/b"))
    _raises(TVFileError, lambda: store.read("table"))
    for key in ("../a", "/etc/passwd", "table/../../a", "", "table//a"):
        _raises(TVFileError, partial(store.read, key))
        _raises(TVFileError, partial(store.write, key, b""))
        _raises(TVFileError, partial(store.apply, Tidying(_REMOVE, key)))


def sealed_folders_keep_what_was_written_locally(make: MakeStore) -> None:
    """Files written by libraries belong to the store once their folder is sealed."""
    store = make()
    store.write("table/description", b"")
    folder = store.local("table/instance")
    (folder / "artifacts/deep").mkdir(parents=True)
    (folder / "artifacts/deep/1.txt").write_bytes(b"one")
    (folder / "frame").write_bytes(b"frame")
    (folder / "empty").mkdir()
    store.seal("table/instance", durable="artifacts")
    assert store.read("table/instance/artifacts/deep/1.txt") == b"one"
    assert store.read("table/instance/frame") == b"frame"
    assert store.names("table/instance") == ["artifacts", "empty", "frame"]
    store.apply(Tidying(_REMOVE, "table/instance"))
    assert store.names("table") == ["description"]


def files_are_put_in_place(make: MakeStore) -> None:
    """A staged file replaces its target; repeating the step changes nothing."""
    store = make()
    store.write("table/a", b"before")
    store.write("_temp/1/staged/a", b"after")
    for _ in range(2):
        store.apply(Tidying(_PUT, "_temp/1/staged/a", "table/a"))
        assert store.read("table/a") == b"after"
        assert not store.exists("_temp/1/staged/a")


def folders_are_moved(make: MakeStore) -> None:
    """A folder moves to a free path, or replaces another one; repeating the step changes nothing."""
    store = make()
    store.write("old/a/b", b"1")
    for _ in range(2):
        store.apply(Tidying(_MOVE, "old", "new/place"))
        assert store.read("new/place/a/b") == b"1"
        assert not store.exists("old")
    store.write("other/c", b"2")
    store.apply(Tidying(_MOVE, "other", "new/place"))
    assert store.read("other/c") == b"2"
    for _ in range(2):
        store.apply(Tidying(_REPLACE, "other", "new/place"))
        assert store.names("new/place") == ["c"]
        assert not store.exists("other")
    store.write("third/d", b"3")
    store.apply(Tidying(_REPLACE, "third", "missing/place"))
    assert store.exists("third/d")
    assert not store.exists("missing")


def removed_things_are_gone(make: MakeStore) -> None:
    """Files and folders are removed with everything in them; a missing one is a no-op."""
    store = make()
    store.write("table/a/b/c", b"1")
    store.write("table/ab", b"2")
    for _ in range(2):
        store.apply(Tidying(_REMOVE, "table/a"))
        assert store.names("table") == ["ab"]
    store.apply(Tidying(_REMOVE, "table/ab"))
    store.apply(Tidying(_REMOVE, "missing/folder"))
    assert store.names("table") == []
    assert store.exists("table")


def pruned_folders_keep_their_metadata(make: MakeStore) -> None:
    """Frames, artifacts and partial results go; everything else stays."""
    store = make()
    for place in ("trash/1_t", "trash/1_t/base_1"):
        for name in ("table.parquet", "artifacts/1.txt", "partial/checkpoints/x", "manifest.json", "builders/a.yaml"):
            store.write(f"{place}/{name}", b"")
    for _ in range(2):
        store.apply(Tidying(_PRUNE, "trash/1_t"))
        assert store.names("trash/1_t") == ["base_1", "builders", "manifest.json"]
        assert store.names("trash/1_t/base_1") == ["builders", "manifest.json"]
    store.apply(Tidying(_PRUNE, "missing"))


def links_lead_to_folders(make: MakeStore) -> None:
    """A link shows the files of a folder beside it, until it is replaced or removed."""
    store = make()
    for version in ("1", "2"):
        store.write(f"table/base_{version}/artifacts/a", version.encode())
    for version in ("1", "2", "2"):
        store.apply(Tidying(_LINK, f"table/base_{version}/artifacts", "table/artifacts"))
        assert store.read("table/artifacts/a") == version.encode()
    _raises(OSError, lambda: store.apply(Tidying(_MOVE, "table/artifacts", "table/moved")))
    for _ in range(2):
        store.apply(Tidying(_UNLINK, target="table/artifacts"))
        assert not store.exists("table/artifacts")
    assert store.read("table/base_2/artifacts/a") == b"2"
    store.apply(Tidying(_UNLINK, target="table/base_2"))
    assert store.exists("table/base_2")
    store.apply(Tidying(_LINK, "table/base_1/artifacts", "table/base_2"))
    assert store.read("table/base_2/artifacts/a") == b"2"
    store.write("elsewhere/a", b"")
    _raises(TVFileError, lambda: store.apply(Tidying(_LINK, "table/base_1", "elsewhere/link")))


def edits_by_hand_survive_a_step_that_failed(make: MakeStore) -> None:
    """A file that was edited after a step failed keeps its edit; the staged one is moved aside."""
    store = make()
    step = Tidying(_PUT, "_temp/1/staged/a", "table/code/a")
    store.write(step.source, b"staged")
    _raises(OSError, lambda: store.apply(step))
    assert not store.was_edited(step.source, step.target)
    store.write(step.target, b"edited by hand")
    assert store.was_edited(step.source, step.target)
    assert store.put_again(step, "trash/1_a")
    assert store.read(step.target) == b"edited by hand"
    assert store.read("trash/1_a") == b"staged"
    assert not store.exists(step.source)


def a_step_that_failed_is_repeated(make: MakeStore) -> None:
    """A failed step is repeated if its target is as it was."""
    store = make()
    step = Tidying(_PUT, "_temp/1/staged/a", "table/code/a")
    store.write(step.source, b"staged")
    _raises(OSError, lambda: store.apply(step))
    store.write("table/code/b", b"")
    assert not store.put_again(step, "trash/1_a")
    assert store.read(step.target) == b"staged"
    assert not store.exists("trash")


def _raises(kind: type[BaseException], act: Callable[[], object]) -> None:
    try:
        act()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


FILE_STORE_CHECKS: tuple[FileStoreCheck, ...] = (
    written_files_are_read,
    missing_files_and_folders_are_told_apart,
    sealed_folders_keep_what_was_written_locally,
    files_are_put_in_place,
    folders_are_moved,
    removed_things_are_gone,
    pruned_folders_keep_their_metadata,
    links_lead_to_folders,
    edits_by_hand_survive_a_step_that_failed,
    a_step_that_failed_is_repeated,
)
"""Checks of the `tablevault.ports.FileStore` contract."""
