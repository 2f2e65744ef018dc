"""Vaults that other users may or may not write, and the modes of their files."""

from __future__ import annotations

import gc
import os
import stat
import subprocess
import tarfile
import tempfile
import warnings
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from operated import CODE, INDEX, SHOUT, build, column_builder, index_builder
from other_users import COLLEAGUE, OWNER, as_user, needs_root, remove, shared_folder, tree

from tablevault import TableVault, tv_errors

FAILS = """
import pandas as pd
from pathlib import Path


def rows():
    return pd.DataFrame({"key": range(4)})


def file(key, folder):
    if key == 2 and not Path("/tmp/tablevault-permissions-GO").exists() and not Path(folder, "go").exists():
        raise ValueError("not yet")
    Path(folder, f"{key}.txt").write_text(str(key))
    return f"{key}.txt"
"""
FORMAT_1 = Path(__file__).parents[1] / "migration" / "vault-format-1.tar.xz"
FILES = "dtypes: {file: artifact_string}\nreturn_type: row-wise"


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Import everything that a vault imports.

    Other users may not be allowed to read this interpreter's files.
    """
    path = tmp_path_factory.mktemp("imported") / "vault"
    make(path)
    read_everything(path)


@pytest.fixture
def shared(imported):
    """A folder of a group, with two users of it."""
    needs_root()
    folder = shared_folder()
    yield folder
    remove(folder)


def make(path):
    """Make a vault with one instance of four rows."""
    vault = TableVault(path, author="ada", create=True)
    vault.create_code_module("words", text=CODE)
    vault.create_table("stories")
    vault.create_instance("stories", builders={"stories_index": INDEX, "loud": SHOUT})
    vault.execute_instance("stories")
    return vault


def read_everything(path):
    """Call every method that reads; return what two of them said."""
    vault = TableVault(path)
    frame, instance = vault.get_dataframe("stories")
    process = vault.get_history(operation="execute_instance")[0].process_id
    vault.get_process(process)
    vault.wait_process(process)
    vault.get_process_completion(process)
    vault.get_active_processes()
    vault.get_descriptions()
    vault.get_lineage("stories")
    vault.get_artifact_folder("stories", instance, is_temp=False)
    vault.get_builders_list("stories", instance, is_temp=False)
    vault.get_code_module_str("words")
    vault.get_file_tree()
    vault.get_frame_path("stories")
    vault.get_status()
    vault.get_tags()
    vault.get_usage("stories")
    vault.get_errors("stories")
    vault.show("stories")
    vault.trace_cell("stories", 0, "loud")
    vault.plan_gc(keep_last=1)
    vault.plan_refresh(["stories"])
    assert vault.read("stories", format="arrow").num_rows == 4
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".csv", ".json", ".parquet"):
            vault.export_table("stories", Path(folder, f"stories{suffix}"))
        vault.export_vault(Path(folder, "part"), ["stories"])
    assert vault.verify().ok, vault.verify().problems
    repr(vault)
    return vault.get_tables(), frame["loud"].tolist()


WRITES = {
    "table": lambda vault: vault.create_table("mine"),
    "module": lambda vault: vault.create_code_module("mine", text="X = 1\n"),
    "instance": lambda vault: vault.create_instance("stories", copy=True),
    "frame": lambda vault: vault.write("mine", pd.DataFrame({"a": [1]})),
    "tag": lambda vault: vault.create_tag("mine", "stories"),
    "service": lambda vault: vault.set_service("mine", {"requests_per_minute": 5}),
    "name": lambda vault: vault.rename_table("mine", "stories"),
    "deletion": lambda vault: vault.delete_table("stories"),
    "repair": lambda vault: vault.verify(repair=True),
    "stop": lambda vault: vault.stop_process("none"),
}
EVERYTHING = (["stories"], ["WORD0", "WORD1", "WORD2", "WORD3"])


def test_reading_colleague_changes_nothing_for_the_owner(shared):
    path = shared / "vault"
    as_user(OWNER, lambda: make(path) and None)
    assert as_user(COLLEAGUE, partial(read_everything, path)) == EVERYTHING
    as_user(OWNER, lambda: TableVault(path).create_table("more"))
    assert {found.stat().st_uid for found in path.rglob("*")} == {OWNER}


@pytest.mark.parametrize("mode", [0o2775, 0o2755])
def test_reader_without_permission_to_write_leaves_no_trace(shared, mode):
    path = shared / "vault"
    as_user(OWNER, lambda: make(path) and None, umask=0o022)
    path.chmod(mode)
    (path / "metadata").chmod(mode)
    before = tree(path)
    assert as_user(COLLEAGUE, partial(read_everything, path)) == EVERYTHING
    for write in WRITES.values():
        with pytest.raises(tv_errors.TVFileError, match=r"can be read but not changed"):
            as_user(COLLEAGUE, lambda write=write: write(TableVault(path)))
    with pytest.raises(tv_errors.TVFileError, match=r"can be read but not changed"):
        as_user(COLLEAGUE, lambda: TableVault(path, restart=True))
    assert tree(path) == before


@pytest.mark.parametrize("mode", [0o2775, 0o2755])
def test_vault_of_format_1_that_may_not_be_written_is_read_as_it_is(shared, mode):
    with tarfile.open(FORMAT_1) as archive:
        archive.extractall(shared, filter="fully_trusted")
    path = shared / "format-1"
    for found in (path, *path.rglob("*")):
        os.chown(found, OWNER, -1)
    path.chmod(mode)
    (path / "metadata").chmod(mode)
    before = tree(path)

    def read():
        vault = TableVault(path)
        assert vault.verify().ok
        return vault.get_tables(), vault.read("made", columns=["x"])["x"].tolist(), vault.get_process("night").status

    assert as_user(COLLEAGUE, read) == (["made", "given"], list(range(6)), "paused")
    for write in (lambda vault: vault.execute_instance("made", process_id="night"), *WRITES.values()):
        with pytest.raises(tv_errors.TVFileError, match=r"can be read but not changed"):
            as_user(COLLEAGUE, lambda write=write: write(TableVault(path)))
    with pytest.raises(tv_errors.TVFileError, match=r"can be read but not changed"):
        as_user(COLLEAGUE, lambda: TableVault(path, restart=True))
    assert tree(path) == before
    as_user(OWNER, lambda: TableVault(path).create_table("more"))
    assert as_user(COLLEAGUE, lambda: TableVault(path).get_tables()) == ["made", "given", "more"]


@pytest.mark.slow
def test_reader_sees_committed_instances_while_the_owner_works(shared):
    path = shared / "vault"
    as_user(OWNER, lambda: make(path) and None, umask=0o022)
    owner = os.fork()
    if owner == 0:
        os.setgid(5000)
        os.setuid(OWNER)
        vault = TableVault(path)
        for number in range(20):
            vault.create_table(f"t{number}")
        os._exit(0)

    def look():
        vault, seen = TableVault(path), [0]
        while seen[-1] < 20:
            seen.append(sum(name != "stories" for name in vault.get_tables()))
        return seen

    try:
        seen = as_user(COLLEAGUE, look)
    finally:
        os.waitpid(owner, 0)
    assert seen == sorted(seen)
    as_user(OWNER, lambda: TableVault(path).create_table("last"))
    assert "last" in as_user(COLLEAGUE, lambda: TableVault(path).get_tables())


@pytest.mark.slow
def test_reader_sees_committed_instances_of_a_killed_owner(shared):
    path = shared / "vault"
    as_user(OWNER, lambda: make(path) and None, umask=0o022)
    child = os.fork()
    if child == 0:
        os.setgid(5000)
        os.setuid(OWNER)
        vault = TableVault(path)
        vault.create_table("late")
        # The connection is not closed: its WAL stays.
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert (path / "metadata" / "catalog.db-wal").stat().st_size, "there is something in the WAL"
    assert "late" in as_user(COLLEAGUE, lambda: TableVault(path).get_tables())
    (path / "metadata" / "catalog.db-shm").unlink()
    before = tree(path)
    assert "late" in as_user(COLLEAGUE, lambda: TableVault(path).get_tables())
    assert tree(path) == before


def paused(path):
    """Make a vault with an execution of artifacts that fails at its third row."""
    vault = TableVault(path, author="ada", create=True)
    code = FAILS.replace("/tmp/tablevault-permissions-GO", str(path.parent / "go"))
    file = column_builder("file", "file", '{key: "<<self.key[index]>>", folder: ~ARTIFACT_FOLDER~}', FILES)
    build(vault, index_builder("key", "rows"), code, file=file)
    with pytest.raises(ValueError, match="not yet"):
        vault.execute_instance("made", process_id="night")


def test_colleague_sees_and_finishes_a_paused_run(shared):
    path = shared / "vault"
    as_user(OWNER, partial(paused, path))

    def partial_rows():
        frame, _ = TableVault(path).get_dataframe("made", instance_id="TEMP_base", full_artifact_path=False)
        return frame["file"].dropna().tolist()

    assert as_user(COLLEAGUE, partial_rows) == ["0.txt", "1.txt"]

    def resume():
        (shared / "go").touch()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            vault = TableVault(path, author="grace")
            vault.execute_instance("made", process_id="night")
            assert vault.verify().ok, vault.verify().problems
            return vault.get_dataframe("made", full_artifact_path=False)[0]["file"].tolist()

    assert as_user(COLLEAGUE, resume) == [f"{key}.txt" for key in range(4)]
    as_user(OWNER, lambda: TableVault(path).create_instance("made", copy=True))


def test_partial_rows_can_be_read_without_permission_to_write(shared):
    path = shared / "vault"
    as_user(OWNER, partial(paused, path), umask=0o022)
    before = tree(path)

    def look():
        vault = TableVault(path)
        assert vault.get_process("night").status == "paused"
        frame, _ = vault.get_dataframe("made", instance_id="TEMP_base", full_artifact_path=False)
        assert vault.verify().ok, vault.verify().problems
        return frame["file"].dropna().tolist()

    assert as_user(COLLEAGUE, look) == ["0.txt", "1.txt"]
    assert tree(path) == before


@pytest.mark.slow
def test_colleague_replaces_artifacts_and_the_owner_clears_the_old_away(shared):
    path = shared / "vault"
    as_user(OWNER, partial(paused, path))
    (shared / "go").touch()
    as_user(OWNER, lambda: TableVault(path).execute_instance("made", process_id="night"))

    def again():
        with warnings.catch_warnings():
            # The owner's sealed folder is read-only for everybody else.
            warnings.simplefilter("ignore", tv_errors.TableVaultWarning)
            vault = TableVault(path)
            vault.create_instance("made", copy=True)
            vault.execute_instance("made", force_execute=True)
            old = vault.get_table_instances("made")[0]
            vault.delete_instance(old, "made")

    as_user(COLLEAGUE, again)
    report = as_user(OWNER, lambda: TableVault(path).verify(repair=True))
    assert report.ok, report.problems
    assert len(list((path / "made").glob("base_*"))) == 1


@pytest.mark.parametrize("umask", [0o002, 0o027])
def test_group_reads_frames_whose_artifacts_were_superseded_or_untagged(shared, umask):
    path = shared / "vault"

    def supersede():
        (shared / "go").touch()
        vault = TableVault(path, author="ada", create=True)
        code = FAILS.replace("/tmp/tablevault-permissions-GO", str(shared / "go"))
        file = column_builder("file", "file", '{key: "<<self.key[index]>>", folder: ~ARTIFACT_FOLDER~}', FILES)
        build(vault, index_builder("key", "rows"), code, file=file)
        for number in range(3):
            if number:
                vault.create_instance("made", copy=True)
            vault.execute_instance("made", force_execute=True)
            if number == 0:
                vault.create_tag("paper")
        vault.delete_tag("paper")
        return vault.get_table_instances("made")

    instances = as_user(OWNER, supersede, umask=umask)
    assert [(path / "made" / item / "artifacts").exists() for item in instances] == [False, False, True]
    modes = {(path / "made" / item).stat().st_mode & 0o777 for item in instances}
    assert modes == {0o555 & ~umask}

    def read():
        vault = TableVault(path)
        return [len(vault.get_dataframe("made", item, full_artifact_path=False)[0]) for item in instances]

    assert as_user(COLLEAGUE, read) == [4, 4, 4]


def test_vault_on_a_read_only_mount_can_be_read(tmp_path):
    needs_root()
    path, mount = tmp_path / "vault", tmp_path / "mount"
    vault = make(path)
    mount.mkdir()
    if subprocess.run(["mount", "--bind", "-o", "ro", path, mount], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", mount], check=True)
        before = tree(path)
        assert read_everything(mount) == EVERYTHING
        assert tree(path) == before
        reader = TableVault(mount)
        vault.create_table("more")
        assert reader.get_tables() == ["stories", "more"]
        with pytest.raises(tv_errors.TVFileError, match=r"can be read but not changed"):
            reader.create_table("mine")
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)


def test_user_without_name_and_home_makes_and_reads_a_vault(shared):
    path = shared / "vault"
    author = as_user(12345, lambda: TableVault(path, create=True).author, umask=0, environment={})
    assert author == "uid-12345"


@pytest.fixture
def umask(request):
    """A umask, for as long as the test runs."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize(
    "umask",
    [0o002, *(pytest.param(mask, marks=pytest.mark.slow) for mask in (0o000, 0o022, 0o027, 0o077))],
    indirect=True,
    ids=oct,
)
def test_modes_of_all_files_are_those_of_the_umask(tmp_path, umask):
    path = tmp_path / "vault"
    paused(path)
    assert_modes(path, umask)
    assert list(path.rglob("*.db")), "the checkpoints are there"
    (tmp_path / "go").touch()
    vault = TableVault(path)
    vault.execute_instance("made", process_id="night")
    vault.create_instance("made", copy=True)
    vault.execute_instance("made", force_execute=True)
    assert_modes(path, umask)
    assert sorted(len(list(folder.glob("artifacts"))) for folder in (path / "made").glob("base_*")) == [0, 1]


def assert_modes(path, umask):
    """Check all modes in a vault.

    Sealed files are read-only; the umask determines all other modes.
    """
    # A vault that is not used any more closes its connections at any moment.
    gc.collect()
    for found in [path, *path.rglob("*")]:
        if found.is_symlink():
            continue
        instance = path.joinpath(*found.relative_to(path).parts[:2])
        sealed = (instance / "manifest.json").exists()
        mode = (0o777 if found.is_dir() else 0o666) & (0o555 if sealed else 0o777) & ~umask
        assert stat.S_IMODE(found.stat().st_mode) == mode, f"{found} {oct(found.stat().st_mode)}"


def test_frames_written_under_a_umask_have_its_modes(tmp_path):
    before = os.umask(0o027)
    try:
        vault = TableVault(tmp_path / "vault", create=True)
        vault.create_table("t")
        vault.create_instance("t", external_edit=True)
        vault.write_instance(pd.DataFrame({"a": [1]}), "t")
        assert_modes(tmp_path / "vault", 0o027)
    finally:
        os.umask(before)
