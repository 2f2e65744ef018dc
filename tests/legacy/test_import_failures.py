from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from legacy_files import DATA, snapshot

from tablevault import TableVault, import_legacy_vault, tv_errors

pytestmark = pytest.mark.slow

IMPORT = "import sys; from tablevault import import_legacy_vault; import_legacy_vault(sys.argv[1], sys.argv[2])"


def start_import(source, target):
    return subprocess.Popen([sys.executable, "-c", IMPORT, source, target], stderr=subprocess.PIPE, text=True)


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_missing_source_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        import_legacy_vault(tmp_path / "nowhere", tmp_path / "new")
    assert entries(tmp_path) == []


def test_source_of_another_version_is_refused(tmp_path):
    TableVault(tmp_path / "vault", create=True)
    (tmp_path / "folder").mkdir()
    for name in ("vault", "folder"):
        with pytest.raises(tv_errors.TVArgumentError, match=r"not a vault of TableVault 0\.1\.x"):
            import_legacy_vault(tmp_path / name, tmp_path / "new")
    assert entries(tmp_path) == ["folder", "vault"]


def test_a_target_that_is_not_empty_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    TableVault(tmp_path / "vault", create=True)
    before = snapshot(tmp_path)
    for name in ("folder", "file", "vault"):
        with pytest.raises(tv_errors.TVArgumentError, match="is not empty"):
            import_legacy_vault(DATA, tmp_path / name)
    assert snapshot(tmp_path) == before


def test_an_empty_target_is_taken(tmp_path):
    (tmp_path / "new").mkdir()
    import_legacy_vault(DATA, tmp_path / "new")
    assert len(TableVault(tmp_path / "new").get_tables()) == 5
    assert entries(tmp_path) == ["new"]


def test_folders_above_the_target_are_made(tmp_path):
    import_legacy_vault(DATA, tmp_path / "a" / "b")
    assert len(TableVault(tmp_path / "a" / "b").get_tables()) == 5


@pytest.mark.parametrize("inside", ["", "new", "fruits/new"])
def test_a_target_inside_the_source_is_refused(legacy, inside):
    before = snapshot(legacy)
    with pytest.raises(tv_errors.TVArgumentError, match="is the legacy vault or a folder inside it"):
        import_legacy_vault(legacy, legacy / inside)
    assert snapshot(legacy) == before


@pytest.mark.parametrize("create", [False, True])
def test_opening_a_legacy_vault_is_refused_with_the_call_that_imports_it(legacy, create):
    before = snapshot(legacy)
    with pytest.raises(tv_errors.TVArgumentError, match=r"0\.1\.x; import_legacy_vault\('.*legacy', NEW_FOLDER\)"):
        TableVault(legacy, create=create)
    assert snapshot(legacy) == before


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("metadata/tables_history.json", '{"fruits": '),
        ("metadata/tables_history.json", "[]"),
        ("metadata/tables_history.json", '{"fruits": {"base_1_aaaaaaaa": [1]}}'),
        ("metadata/tables_history.json", '{"../elsewhere": {}}'),
        ("metadata/tables_temp.json", '{"fruits": {"TEMP_base": 7}, "labels": 7}'),
        ("metadata/tables_temp.json", '{"fruits": ["../../elsewhere"]}'),
        ("fruits/description.yaml", "summary: [unclosed"),
        ("fruits/TEMP_next/description.yaml", "!!python/object/apply:os.mkdir [executed]"),
    ],
)
def test_a_damaged_source_is_named_and_nothing_is_made(legacy, tmp_path, path, content):
    (legacy / path).write_text(content)
    with pytest.raises(tv_errors.TVFileError, match="legacy vault"):
        import_legacy_vault(legacy, tmp_path / "new")
    assert entries(tmp_path) == ["legacy"]


def test_invalid_csv_frame_is_named_and_no_vault_is_made(legacy, tmp_path):
    (path,) = legacy.glob("baskets/base_*/table.csv")
    path.write_bytes(b'n\n"1\n\xff')
    with pytest.raises(tv_errors.TVFileError, match=r"baskets.*table\.csv cannot be read as CSV"):
        import_legacy_vault(legacy, tmp_path / "new")
    assert entries(tmp_path) == ["legacy"]


@pytest.mark.parametrize("limit", [2_000, 60_000, 120_000])
def test_a_full_disk_leaves_nothing(tmp_path, limit):
    code = f"""
import resource, sys
from tablevault import import_legacy_vault
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    import_legacy_vault(sys.argv[1], sys.argv[2])
except OSError:
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code, DATA, tmp_path / "new"]).returncode == 7
    assert entries(tmp_path) == []


def interrupt_at_work(target, number):
    """Send a signal to an import when it has begun to write frames."""
    process = start_import(DATA, target)
    staged = target.with_name(f".{target.name}.importing") / "staged" / "vault"
    while not any(staged.glob("*/*/table.parquet")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    assert not target.exists()
    os.kill(process.pid, number)
    process.communicate()
    return process.returncode


def test_a_killed_import_leaves_no_vault_and_the_next_one_clears_its_rest(tmp_path):
    assert interrupt_at_work(tmp_path / "new", signal.SIGKILL) == -signal.SIGKILL
    assert entries(tmp_path) == [".new.importing"]
    import_legacy_vault(DATA, tmp_path / "new")
    assert entries(tmp_path) == ["new"]
    assert TableVault(tmp_path / "new").verify().ok


def test_an_interrupted_import_leaves_nothing(tmp_path):
    assert interrupt_at_work(tmp_path / "new", signal.SIGINT) != 0
    assert entries(tmp_path) == []


def test_two_imports_into_one_folder_exclude_each_other(tmp_path):
    process = start_import(DATA, tmp_path / "new")
    staged = tmp_path / ".new.importing" / "staged" / "vault"
    while not any(staged.glob("*/*/table.parquet")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(tv_errors.TVLockError, match="Another import"):
            import_legacy_vault(DATA, tmp_path / "new")
    finally:
        os.kill(process.pid, signal.SIGCONT)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert entries(tmp_path) == ["new"]


def test_a_source_that_is_written_meanwhile_is_not_imported(legacy, tmp_path):
    process = start_import(legacy, tmp_path / "new")
    staged = tmp_path / ".new.importing" / "staged" / "vault"
    while not any(staged.glob("*/*/table.parquet")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)
    with (legacy / "metadata" / "logs.txt").open("a") as log:
        log.write("\n")
    os.kill(process.pid, signal.SIGCONT)
    _, errors = process.communicate()
    assert "TVFileError" in errors
    assert "was changed while it was copied" in errors
    assert entries(tmp_path) == ["legacy"]
