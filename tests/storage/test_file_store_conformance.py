"""Every store of a vault's files keeps the promises of the interface, and does the same as the others."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tablevault.errors import TVFileError
from tablevault.layout import VaultLayout
from tablevault.storage.local_files import LocalFiles
from tablevault.testing import FILE_STORE_CHECKS, MemoryFiles
from tablevault.values.changes import Tidying, TidyingAction

each_check = pytest.mark.parametrize("check", FILE_STORE_CHECKS, ids=lambda check: check.__name__)


def local_files(folder):
    layout = VaultLayout(folder / "vault")
    for place in (layout.root, *layout.own_folders):
        place.mkdir(parents=True, exist_ok=True)
    return LocalFiles(layout)


@each_check
def test_folder_conforms(check, tmp_path):
    check(lambda: local_files(tmp_path))


@each_check
def test_memory_conforms(check, tmp_path):
    check(lambda: MemoryFiles(tmp_path))


def are_apart(first, second):
    """Return whether neither of two keys is inside the other; no step has such a source and target."""
    return not (f"{first}/".startswith(f"{second}/") or f"{second}/".startswith(f"{first}/"))


KEYS = st.sampled_from(
    [
        "a",
        "b",
        "a/x",
        "a/y",
        "b/x",
        "a/x/table.parquet",
        "a/x/manifest.json",
        "a/x/artifacts",
        "a/x/artifacts/1",
        "../o",
    ]
)
STAGED = st.sampled_from(["staged/1", "staged/2"])
LINKS = (TidyingAction.LINK, TidyingAction.UNLINK)
FOLDERS = [action for action in TidyingAction if action not in (*LINKS, TidyingAction.PUT_FILE)]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.one_of(KEYS, STAGED), st.sampled_from([b"1", b"2", b""])),
        st.tuples(st.sampled_from(FOLDERS), KEYS, KEYS).filter(lambda step: are_apart(*step[1:])),
        st.tuples(st.sampled_from(LINKS), st.just("a/x/artifacts"), st.just("a/artifacts")),
        st.tuples(st.sampled_from([TidyingAction.PUT_FILE, "put again"]), STAGED, KEYS),
    ),
    max_size=12,
)


@settings(max_examples=300)
@given(STEPS)
def test_all_stores_do_the_same(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("stores")
    stores = [local_files(folder), MemoryFiles(folder / "memory")]
    for action, first, second in steps:
        outcomes = [outcome(store, action, first, second) for store in stores]
        assert outcomes[0] == outcomes[1], (action, first, second)
        assert content(stores[0], "a") == content(stores[1], "a"), (action, first, second)
        assert content(stores[0], "b") == content(stores[1], "b"), (action, first, second)


def outcome(store, action, first, second):
    try:
        if action == "write":
            return store.write(first, second)
        if action == "put again":
            return store.put_again(Tidying(TidyingAction.PUT_FILE, first, second), "b/archived")
        return store.apply(Tidying(action, first, second))
    except (OSError, TVFileError) as error:
        return TVFileError if isinstance(error, TVFileError) else OSError


def content(store, key):
    """Return all files below a key with their content, and all folders."""
    try:
        return store.read(key)
    except (OSError, TVFileError):
        pass
    try:
        return {name: content(store, f"{key}/{name}") for name in store.names(key)} if store.exists(key) else None
    except TVFileError:
        return "link"
