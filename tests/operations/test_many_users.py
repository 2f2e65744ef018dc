"""Threads and interpreters that use one vault at the same time."""

from __future__ import annotations

import threading
import warnings
from itertools import pairwise

import pandas as pd
import pytest
from operated import build, column_builder, index_builder, interpreter, make_table
from waiting import PATIENCE, until

from tablevault import TableVault, tv_errors

CREATE = """
import sys
from tablevault import TableVault
vault = TableVault(sys.argv[1], lock_timeout=180)
for number in range(5):
    vault.create_table(f"{sys.argv[2]}-{number}")
"""


def run_all(*calls):
    """Run calls in separate threads at the same moment.

    Returns the result or error of each.
    """
    outcomes = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(place, call):
        barrier.wait()
        try:
            outcomes[place] = call()
        except Exception as error:
            outcomes[place] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.slow
def test_interpreters_and_threads_create_tables_at_once(path):
    vault = TableVault(path, create=True, lock_timeout=PATIENCE)
    others = [interpreter(CREATE, str(path), f"process{number}") for number in range(3)]
    calls = [lambda name=f"thread-{number}": vault.create_table(name) for number in range(8)]
    outcomes = run_all(*calls)
    assert all(isinstance(outcome, str) for outcome in outcomes), outcomes
    for other in others:
        _, errors = other.communicate(timeout=PATIENCE)
        assert other.returncode == 0, errors
    expected = {f"thread-{number}" for number in range(8)}
    expected |= {f"process{process}-{number}" for process in range(3) for number in range(5)}
    assert set(vault.get_tables()) == expected
    assert len(vault.get_history(operation="create_table", status="succeeded")) == len(expected)


def test_of_many_that_create_the_same_table_one_does(path):
    TableVault(path, create=True)
    vaults = [TableVault(path, lock_timeout=PATIENCE) for _ in range(6)]
    outcomes = run_all(*[lambda vault=vault: vault.create_table("stories") for vault in vaults])
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    refused = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert all(type(error) is tv_errors.TVArgumentError for error in refused), refused
    assert vaults[0].get_tables() == ["stories"]


def test_of_many_with_one_process_id_one_runs(path):
    TableVault(path, create=True)
    vaults = [TableVault(path, lock_timeout=PATIENCE) for _ in range(5)]
    # Who comes after the end of the one that ran is warned, and has nothing to do.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tv_errors.TableVaultWarning)
        outcomes = run_all(*[lambda vault=vault: vault.create_table("stories", process_id="mine") for vault in vaults])
    done = [outcome for outcome in outcomes if outcome == "mine"]
    assert done
    assert all(outcome == "mine" or type(outcome) is tv_errors.TVProcessError for outcome in outcomes), outcomes
    assert len(vaults[0].get_history(operation="create_table", status="succeeded")) == 1


def read_until(stop, vault, read):
    """Read in a loop until told to stop.

    Returns the number of reads, or the first unexpected error.
    """
    count = 0
    while not stop.is_set() or not count:
        read(vault)
        count += 1
    return count


def reading(path, read, write):
    """Let two threads read while `write` runs; return the outcomes of the readers."""
    stop = threading.Event()
    outcomes = []

    def reader():
        try:
            outcomes.append(read_until(stop, TableVault(path), read))
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        write()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return outcomes


def test_readers_never_fail_while_a_table_is_renamed(stories, path):
    stories.execute_instance("stories")
    instance_id = stories.get_dataframe("stories")[1]
    names = ["stories", *(f"tales-{number}" for number in range(8))]

    def read(vault):
        (name,) = vault.get_tables()
        try:
            frame, found = vault.get_dataframe(name)
        except tv_errors.TVArgumentError as error:
            # Between the two looks it may have got another name: that is what the error says, and nothing else.
            if f"no table '{name}'" not in str(error):
                raise
            return
        assert found == instance_id
        assert len(frame) == 4

    def write():
        for old, new in pairwise(names):
            stories.rename_table(new, old)

    outcomes = reading(path, read, write)
    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes


@pytest.mark.slow
def test_readers_never_fail_while_other_tables_come_and_go(stories, path):
    stories.execute_instance("stories")

    def read(vault):
        assert len(vault.get_dataframe("stories")[0]) == 4
        assert vault.get_tables()[0] == "stories"
        assert len(vault.get_table_instances("stories")) == 1

    def write():
        for number in range(5):
            make_table(stories, f"other-{number}")
            stories.execute_instance(f"other-{number}")
            stories.delete_table(f"other-{number}")

    outcomes = reading(path, read, write)
    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes


def test_readers_see_whole_instances_while_new_ones_are_written(vault, path):
    vault.create_table("numbers")
    vault.create_instance("numbers", external_edit=True)
    vault.write_instance(pd.DataFrame({"x": [0] * 50}), "numbers")

    def read(reader):
        cells = reader.get_dataframe("numbers")[0]["x"].tolist()
        assert cells == [cells[0]] * 50

    def write():
        for number in range(1, 8):
            vault.create_instance("numbers", external_edit=True)
            vault.write_instance(pd.DataFrame({"x": [number] * 50}), "numbers")

    outcomes = reading(path, read, write)
    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes


def test_a_reader_of_a_deleted_instance_is_told_so(stories, path):
    stories.execute_instance("stories")
    instance_id = stories.get_dataframe("stories")[1]

    def read(vault):
        try:
            assert len(vault.get_dataframe("stories", instance_id)[0]) == 4
        except (tv_errors.TVArgumentError, tv_errors.TVTableError):
            return

    outcomes = reading(path, read, lambda: stories.delete_instance(instance_id, "stories"))
    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes


# --- locks --------------------------------------------------------------------------------------------------------

HOLD = """
import pandas as pd
import time
from pathlib import Path

def hold(folder):
    Path(folder, "held").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.01)
    return pd.DataFrame({"x": [1]})
"""

EXECUTE = """
import sys
from tablevault import TableVault
TableVault(sys.argv[1]).execute_instance("made", process_id="holder")
"""


@pytest.fixture
def held(vault, path, tmp_path):
    """Another interpreter that executes the table `made` until it is let go."""
    build(vault, index_builder("x", "hold", f"{{folder: {tmp_path}}}"), HOLD)
    other = interpreter(EXECUTE, str(path))
    until((tmp_path / "held").exists, other)
    yield other
    (tmp_path / "go").touch()
    _, errors = other.communicate(timeout=PATIENCE)
    assert other.returncode == 0, errors


@pytest.mark.slow
def test_a_live_process_is_waited_for_and_then_named(held, path):
    vault = TableVault(path, lock_timeout=0.3)
    for call in (
        lambda: vault.delete_instance("TEMP_base", "made"),
        lambda: vault.rename_table("other", "made"),
        lambda: vault.create_instance("made"),
    ):
        with pytest.raises(tv_errors.TVLockError, match=r"running process 'holder'.*waited 0\.3 s"):
            call()
    vault.create_table("unrelated")
    vault.create_instance("made", "b")
    assert vault.get_active_processes()["holder"].status == "running"


@pytest.mark.slow
def test_a_lock_is_had_as_soon_as_it_is_released(held, path, tmp_path):
    vault = TableVault(path, lock_timeout=PATIENCE)
    timer = threading.Timer(0.3, (tmp_path / "go").touch)
    timer.start()
    vault.rename_table("other", "made")
    assert vault.get_tables() == ["other"]
    assert len(vault.get_dataframe("other")[0]) == 1
    timer.join()


@pytest.mark.slow
def test_waiting_process_blocks_no_other_process(held, path):
    waiting = threading.Thread(target=lambda: _refused(TableVault(path, lock_timeout=2)))
    waiting.start()
    vault = TableVault(path, lock_timeout=0)
    vault.create_table("unrelated")
    vault.create_code_module("unrelated")
    assert waiting.is_alive()
    waiting.join()


def _refused(vault):
    with pytest.raises(tv_errors.TVLockError):
        vault.rename_table("other", "made")


@pytest.mark.slow
def test_a_running_process_is_not_resumed_nor_stopped_without_force(held, path):
    vault = TableVault(path)
    with pytest.raises(tv_errors.TVProcessError, match="cannot be taken over"):
        vault.execute_instance("made", process_id="holder")
    with pytest.raises(tv_errors.TVProcessError, match="force=True"):
        vault.stop_process("holder")
    assert TableVault(path, restart=True).restart_report == {"holder": "left running"}


def test_a_paused_process_is_not_waited_for(vault, path):
    build(vault, index_builder("x", "rows"), "def rows():\n    raise LookupError('no rows')\n")
    with pytest.raises(LookupError):
        vault.execute_instance("made", process_id="mine")
    patient = TableVault(path, lock_timeout=3600)
    with pytest.raises(tv_errors.TVLockError, match="paused process 'mine'"):
        patient.delete_table("made")


def test_different_versions_execute_side_by_side(vault, path):
    code = HOLD + "\ndef shout(x):\n    return x\n"
    build(vault, index_builder("x", "hold", f"{{folder: {path.parent}}}"), code)
    (path.parent / "go").touch()
    loud = column_builder("y", "shout", '{x: "<<self.x[index]>>"}')
    index = vault.get_builder_str("made")
    for version in ("b", "c", "d"):
        vault.create_instance("made", version, builders={"made_index": index, "y": loud})
    calls = [lambda version=version: TableVault(path).execute_instance("made", version) for version in ("b", "c", "d")]
    outcomes = run_all(*calls)
    assert all(isinstance(outcome, str) for outcome in outcomes), outcomes
    assert len(vault.get_table_instances("made", "")) == 3


def test_the_same_instance_is_executed_once(path):
    vault = TableVault(path, create=True, lock_timeout=PATIENCE)
    make_table(vault)
    vaults = [TableVault(path, lock_timeout=PATIENCE) for _ in range(3)]
    outcomes = run_all(*[lambda one=one: one.execute_instance("stories") for one in vaults])
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    assert len(vault.get_table_instances("stories")) == 1


HOLDING = """
import sys, time
from pathlib import Path
from tablevault import TableVault
vault = TableVault(sys.argv[1], author="grace")
vault.execute_instance(sys.argv[2], process_id="night")
"""


def holding(path, vault):
    """Let another interpreter execute the table `reader`, which reads `stories`, and hold in a row."""
    make_table(vault)
    vault.execute_instance("stories")
    code = f"""
import time
from pathlib import Path
def rows(frame):
    return frame
def wait(word):
    Path({str(path.parent)!r}, "held").touch()
    while not Path({str(path.parent)!r}, "go").exists():
        time.sleep(0.01)
    return word
"""
    index = index_builder("word", "rows", '{frame: "<<stories.{word}>>"}')
    build(vault, index, code, "reader", out=column_builder("out", "wait", '{word: "<<self.word[index]>>"}'))
    other = interpreter(HOLDING, str(path), "reader")
    until((path.parent / "held").exists, other)
    return other


@pytest.mark.slow
def test_lock_error_names_the_resource_and_whether_it_is_read_or_built(path, vault):
    other = holding(path, vault)
    try:
        instance = vault.get_table_instances("stories")[0]
        with pytest.raises(
            tv_errors.TVLockError, match=f"^Instance '{instance}' of table 'stories' is read by the running"
        ):
            vault.delete_instance(instance, "stories")
        with pytest.raises(
            tv_errors.TVLockError, match=f"^Instance '{instance}' of table 'stories' is read by the running"
        ):
            vault.delete_table("stories")
        with pytest.raises(
            tv_errors.TVLockError, match="^Instance 'TEMP_base' of table 'reader' is built by the running"
        ):
            vault.rename_table("other", "reader")
        refused = vault.get_history(status="reverted")
        assert [info.table_name for info in refused] == ["reader", "stories", "stories"]
    finally:
        other.kill()
        other.communicate()
    with pytest.raises(tv_errors.TVLockError, match="^Instance 'TEMP_base' of table 'reader' is built by the paused"):
        vault.delete_instance("TEMP_base", "reader")
    vault.stop_process("night")


def test_refused_call_is_logged_with_its_table(vault):
    for name in ("nothing", "\udce9", "x" * 1000):
        with pytest.raises(tv_errors.TVArgumentError):
            vault.execute_instance(name)
    names = [info.table_name for info in vault.get_history(operation="execute_instance")]
    assert names == ["x" * 128, "\\udce9", "nothing"]
    assert len(vault.get_history(table_name="nothing")) == 1


def test_unknown_version_of_a_table_names_the_known_ones(vault):
    make_table(vault)
    vault.create_instance("stories", "long", external_edit=True)
    assert vault.get_table_instances("stories") == []
    assert vault.get_table_instances("stories", "long") == []
    assert vault.get_table_instances("stories", "long", include_temp=True) == ["TEMP_long"]
    with pytest.raises(tv_errors.TVArgumentError, match="has no version 'lang'; did you mean 'long'"):
        vault.get_table_instances("stories", "lang")
