"""Checkpoints keep rows across stores, interpreters, kills, full disks and interrupts."""

import datetime
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import PATIENCE, until

from tablevault.errors import TVFileError, TVImplementationError
from tablevault.storage.artifact_commits import ArtifactCommits
from tablevault.storage.checkpoint_parts import Part
from tablevault.storage.checkpoint_segments import SegmentFolder
from tablevault.storage.checkpoints import CheckpointStore, read_checkpoints
from tablevault.storage.frame_data import table_from_frame
from tablevault.storage.frames import read_frame
from tablevault.values.contents import ArtifactRecord

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
from checkpoint_files import write_sqlite_segment


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def open_store(folder):
    """Opens stores over the same folder and gives up those that a test leaves open."""
    stores = []

    def open_one(artifacts=None, on_interval=None):
        stores.append(CheckpointStore.open(SegmentFolder(folder), artifacts, on_interval))
        return stores[-1]

    yield open_one
    for store in stores:
        store.abandon()


def fingerprint(position):
    return position.to_bytes(16, "big")


def append_rows(store, positions, builder="fruit"):
    for position in positions:
        store.append(builder, position, (f"{position}-ok",), fingerprint(position))


def run_script(folder, script, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def output_of(folder, script):
    process = run_script(folder, script)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return output


class SlowStore:
    """An artifact store on a disk that answers only when it is allowed to."""

    def __init__(self):
        self.gate = threading.Event()

    def record(self, names):
        assert self.gate.wait(PATIENCE)
        return {name: ArtifactRecord(name, 0, "") for name in names}


class LargeArtifacts:
    """An artifact store that has files of one size."""

    def __init__(self, size):
        self.size = size

    def record(self, names):
        return {name: ArtifactRecord(name, self.size, "") for name in names}


def test_rows_that_wait_are_limited_by_the_size_of_their_files(open_store):
    store = open_store(LargeArtifacts(2**20))
    store.begin("fruit", ("name",), "code 1")
    assert store.room == 64
    for position in range(20):
        store.append("fruit", position, (f"{position}",), fingerprint(position), (f"{position}.bin",))
    store.flush()
    assert store.room == 63  # Of a mebibyte and a few bytes each, in 64 MiB.


# --- what comes back --------------------------------------------------------------------------------------------------


def test_flushed_rows_are_there_for_the_next_store(open_store):
    store = open_store()
    store.begin("fruit", ("name", "weight"), "code 1")
    values = [("apple", 1.5), (None, None), ("pear", [1, 2]), ("fig", datetime.date(2026, 1, 2))]
    for position, row in enumerate(values):
        store.append("fruit", position, row, fingerprint(position))
    store.close()
    state = open_store().load("fruit")
    assert state.columns == ("name", "weight")
    assert state.positions == [0, 1, 2, 3]
    assert list(zip(*state.values, strict=True)) == values
    assert state.fingerprints == [fingerprint(position) for position in range(4)]
    assert (state.done, state.total, state.frame) == (False, None, None)


def test_nothing_is_known_of_a_builder_that_never_began(open_store, folder):
    assert open_store().load("fruit") is None
    assert read_checkpoints(folder / "missing").states() == {}
    assert read_checkpoints(folder / "missing").load("fruit") is None


def test_rows_are_durable_without_being_asked_for(open_store, folder):
    store = open_store()
    store.begin("fruit", ("name",), "code")
    append_rows(store, [0])
    until(lambda: not store.unflushed)
    assert read_checkpoints(folder).load("fruit").positions == [0]


def test_of_two_rows_at_one_position_the_last_wins(open_store):
    store = open_store()
    store.begin("fruit", ("name",), "code")
    for name in ("first", "second"):
        store.append("fruit", 0, (name,), b"")
    append_rows(store, [5, 3])
    store.close()
    store = open_store()
    store.begin("fruit", ("name",), "code")
    store.append("fruit", 5, ("third",), b"")
    store.flush()
    state = store.load("fruit")
    assert state.positions == [0, 3, 5]
    assert state.values == (["second", "3-ok", "third"],)


def test_each_row_knows_the_code_that_computed_it(open_store):
    store = open_store()
    for code, position in (("old", 0), ("new", 2), ("old", 1)):
        store.begin("fruit", ("name",), code)
        append_rows(store, [position])
    store.flush()
    state = store.load("fruit")
    assert [state.code_versions[code] for code in state.codes] == ["old", "old", "new"]


def test_builders_are_listed_in_the_order_of_their_beginning(open_store, folder):
    store = open_store()
    for builder in ("b", "a", "c"):
        store.begin(builder, ("x",), "code")
    store.flush()
    assert list(read_checkpoints(folder).states()) == ["b", "a", "c"]
    assert store.load("c").positions == []


def test_a_finished_builder_is_done_until_rows_are_forgotten(open_store):
    store = open_store()
    store.begin("fruit", ("name",), "code")
    append_rows(store, range(3))
    store.finish("fruit", 3)
    store.flush()
    assert (store.load("fruit").done, store.load("fruit").total) == (True, 3)
    store.forget("fruit", [1])
    store.flush()
    state = store.load("fruit")
    assert (state.done, state.total, state.positions) == (False, None, [0, 2])


def test_a_forgotten_row_may_come_again(open_store):
    store = open_store()
    store.begin("fruit", ("name",), "code")
    append_rows(store, range(3))
    store.forget("fruit", [0, 2])
    store.append("fruit", 2, ("again",), b"")
    store.flush()
    assert store.load("fruit").values == (["1-ok", "again"],)


def test_rows_without_columns_count_as_rows(open_store):
    store = open_store()
    store.begin("nothing", (), "code")
    store.append("nothing", 0, (), b"")
    store.flush()
    assert store.load("nothing").positions == [0]


def test_columns_of_a_builder_cannot_change(open_store):
    store = open_store()
    store.begin("fruit", ("name",), "code")
    with pytest.raises(TVImplementationError, match="fruit"):
        store.begin("fruit", ("other",), "code")


def test_a_saved_frame_is_complete_and_exact(open_store, folder):
    (folder.parent / "artifacts").mkdir()
    (folder.parent / "artifacts" / "a.txt").write_text("a")
    data = table_from_frame(pa.table({"x": [1, 2, 3], "f": ["a.txt", None, "b.txt"]}), {})
    store = open_store(ArtifactCommits(folder.parent / "artifacts"))
    store.begin("whole", ("x", "f"), "code")
    store.save_frame("whole", data, b"fingerprint", ["a.txt", "b.txt"])
    state = read_checkpoints(folder).load("whole")
    assert (state.done, state.total, state.frame.fingerprint, state.frame.code) == (True, 3, b"fingerprint", "code")
    assert [record.path for record in state.frame.artifacts] == ["a.txt"]
    assert read_frame(state.frame.path).table.equals(data.table)


def test_a_frame_saved_again_replaces_the_one_before(open_store):
    store = open_store()
    for rows in (1, 2):
        store.begin("whole", ("x",), "code")
        store.save_frame("whole", table_from_frame(pa.table({"x": list(range(rows))}), {}), b"")
    state = store.load("whole")
    assert (state.total, len(read_frame(state.frame.path))) == (2, 2)


def test_all_rows_of_an_index_stay_known_while_rows_are_computed_again(open_store, folder):
    data = table_from_frame(pa.table({"name": ["old", "new", "old"]}), {})
    store = open_store()
    store.begin("fruit", ("name",), "code", is_nested=True)
    store.append("fruit", 1, (["new"],), fingerprint(1))
    store.finish("fruit", 3)
    store.save_rows("fruit", data, [ArtifactRecord("a.txt", 1, "digest")])
    store.close()
    state = read_checkpoints(folder).load("fruit")
    assert (state.done, state.total, state.finished_code, state.frame) == (True, 3, "code", None)
    assert (state.positions, state.values) == ([1], ([["new"]],))
    assert read_frame(state.rows.path).table.equals(data.table)
    assert list(state.all_artifacts()) == [ArtifactRecord("a.txt", 1, "digest")]
    store = open_store()
    store.begin("fruit", ("name",), "code", is_nested=True)
    store.forget("fruit", [1])
    store.flush()
    assert read_checkpoints(folder).states()["fruit"].rows == state.rows
    assert not read_checkpoints(folder).states()["fruit"].done


# --- artifacts --------------------------------------------------------------------------------------------------------


def test_files_that_exist_are_recorded_with_their_row(open_store, tmp_path):
    (tmp_path / "one.txt").write_text("one")
    store = open_store(ArtifactCommits(tmp_path))
    store.begin("fruit", ("file", "other"), "code")
    store.append("fruit", 0, ("one.txt", "later.txt"), b"", ("one.txt", "later.txt"))
    store.append("fruit", 1, ("later.txt", None), b"", ("later.txt",))
    store.append("fruit", 2, (None, None), b"")
    store.flush()
    (record,) = store.load("fruit").artifacts.pop(0)
    assert record == ArtifactCommits(tmp_path).record(["one.txt"])["one.txt"]
    assert store.load("fruit").artifacts.keys() == {0}
    store.append("fruit", 0, (None, None), b"")
    store.flush()
    assert store.load("fruit").artifacts == {}


def test_builder_with_a_refused_row_is_not_complete_despite_its_finish(open_store, tmp_path):
    (tmp_path / "good").write_text("x")
    store = open_store(ArtifactCommits(tmp_path))
    store.begin("fruit", ("file",), "code")
    store.append("fruit", 0, ("good",), fingerprint(0), ("good",))
    store.append("fruit", 1, ("../bad",), fingerprint(1), ("../bad",))
    store.finish("fruit", 2)
    with pytest.raises(ValueError, match="leaves the artifact folder"):
        store.flush()
    store.close()
    state = open_store(ArtifactCommits(tmp_path)).load("fruit")
    assert state.positions == [0]
    assert not state.done


def test_row_whose_artifact_leaves_the_folder_is_refused_alone(open_store, tmp_path):
    (tmp_path / "artifacts").mkdir()
    store = open_store(ArtifactCommits(tmp_path / "artifacts"))
    store.begin("fruit", ("file",), "code")
    for position, name in enumerate(["a", "../b", "c"]):
        store.append("fruit", position, (name,), b"", (name,))
    with pytest.raises(ValueError, match="leaves the artifact folder") as caught:
        store.flush()
    assert any("'fruit', row 1" in note for note in caught.value.__notes__)
    assert store.unflushed == 1
    store.flush()
    assert store.load("fruit").positions == [0, 2]


# --- values that cannot be stored -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        (("fine", object()), TypeError, "'fruit', row 1, column 'b'"),
        (("\ud800", 0), ValueError, "'fruit', row 1, column 'a'"),
        (("too", "many", "values"), ValueError, "'fruit', row 1: 3 values for the 2 columns"),
    ],
)
def test_a_row_that_cannot_be_stored_is_named_and_the_others_are_kept(open_store, values, kind, text):
    store = open_store()
    store.begin("fruit", ("a", "b"), "code")
    store.append("fruit", 0, ("x", 0), b"")
    store.append("fruit", 1, values, b"")
    store.append("fruit", 2, ("z", 2), b"")
    with pytest.raises(kind, match=text):
        store.close()
    assert store.unflushed == 1
    assert open_store().load("fruit").values == (["x", "z"], [0, 2])


# --- a model ----------------------------------------------------------------------------------------------------------

BUILDERS = st.sampled_from(["a", "b"])
POSITIONS = st.integers(0, 12)
STEPS = st.one_of(
    st.tuples(st.just("append"), BUILDERS, POSITIONS, st.integers(-5, 5)),
    st.tuples(st.just("append"), BUILDERS, POSITIONS, st.integers(-5, 5)),
    st.tuples(st.just("finish"), BUILDERS, st.integers(0, 12)),
    st.tuples(st.just("forget"), BUILDERS, st.lists(POSITIONS, max_size=4)),
    st.tuples(st.just("begin"), BUILDERS, st.sampled_from(["old", "new"])),
    st.tuples(st.just("flush")),
    st.tuples(st.just("reopen")),
)


class Model:
    """Model of a store, with a dict of rows per builder."""

    def __init__(self):
        self.rows = {"a": {}, "b": {}}
        self.code = {"a": "first", "b": "first"}
        self.total = {"a": None, "b": None}

    def append(self, builder, position, value):
        self.rows[builder][position] = (value, self.code[builder])

    def finish(self, builder, total):
        self.total[builder] = total

    def begin(self, builder, code):
        self.code[builder] = code

    def forget(self, builder, positions):
        for position in positions:
            self.rows[builder].pop(position, None)
        if positions:
            self.total[builder] = None


def apply_step(store, name, arguments):
    if name == "append":
        builder, position, value = arguments
        store.append(builder, position, (value,), fingerprint(position))
    elif name == "begin":
        builder, code = arguments
        store.begin(builder, ("x",), code)
    else:
        getattr(store, name)(*arguments)


def assert_equal(store, model):
    for builder, rows in model.rows.items():
        state = store.load(builder)
        found = zip(state.values[0], [state.code_versions[code] for code in state.codes], strict=True)
        assert dict(zip(state.positions, found, strict=True)) == rows
        assert state.positions == sorted(rows)
        assert state.fingerprints == [fingerprint(position) for position in state.positions]
        assert (state.done, state.total) == (model.total[builder] is not None, model.total[builder])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=40))
def test_any_sequence_of_calls_equals_a_model(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("model")
    model = Model()
    store = CheckpointStore.open(SegmentFolder(folder), None, None)
    try:
        for builder in model.rows:
            store.begin(builder, ("x",), "first")
        for name, *arguments in steps:
            if name == "reopen":
                store.close()
                store = CheckpointStore.open(SegmentFolder(folder), None, None)
                for builder, code in model.code.items():
                    store.begin(builder, ("x",), code)
            else:
                apply_step(store, name, arguments)
                if name != "flush":
                    getattr(model, name)(*arguments)
        store.flush()
        assert store.unflushed == 0
        assert_equal(store, model)
    finally:
        store.abandon()


# --- open and closed --------------------------------------------------------------------------------------------------


def test_closing_twice_is_fine_and_afterwards_nothing_is_taken(open_store):
    store = open_store()
    store.begin("fruit", ("name",), "code")
    store.close()
    store.close()
    store.abandon()
    with pytest.raises(TVImplementationError, match="closed"):
        store.flush()
    with pytest.raises(TVImplementationError, match="closed"):
        append_rows(store, [0])
    with pytest.raises(TVImplementationError, match="closed"):
        store.finish("fruit", 0)


def test_abandoned_rows_are_either_durable_or_counted(open_store):
    store = open_store()
    store.begin("fruit", ("name",), "code")
    append_rows(store, range(1000))
    store.abandon()
    durable = open_store().load("fruit")
    assert (len(durable.positions) if durable is not None else 0) + store.unflushed == 1000


def test_no_thread_outlives_a_store(open_store):
    before = threading.active_count()
    stores = [open_store(), open_store()]
    assert threading.active_count() == before + 2
    stores[0].close()
    stores[1].abandon()
    assert threading.active_count() == before


def test_listener_is_called_without_pending_rows(open_store):
    calls = threading.Semaphore(0)
    open_store(on_interval=calls.release)
    for _ in range(3):
        assert calls.acquire(timeout=PATIENCE)


def test_error_of_the_listener_is_raised_in_the_compute_thread(open_store):
    raised = threading.Event()

    def ask_to_stop():
        if not raised.is_set():
            raised.set()
            raise LookupError("please stop")

    store = open_store(on_interval=ask_to_stop)
    store.begin("fruit", ("name",), "code")
    assert raised.wait(PATIENCE)
    with pytest.raises(LookupError, match="please stop"):
        store.flush()
    append_rows(store, [0])
    store.flush()
    assert store.load("fruit").positions == [0]


def test_listener_may_use_the_store(open_store):
    done = threading.Event()
    store = None

    def look():
        if store is not None:
            store.flush()
            done.set()

    store = open_store(on_interval=look)
    assert done.wait(PATIENCE)


# --- slow disks and interrupts ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_disk_that_cannot_follow_slows_the_rows_down(open_store):
    disk = SlowStore()
    store = open_store(disk)
    store.begin("fruit", ("name",), "code")
    store.append("fruit", 0, ("slow",), b"", ("slow",))
    rows = threading.Thread(target=append_rows, args=(store, range(1, 30_000)))
    rows.start()
    rows.join(0.5)
    assert rows.is_alive()
    assert store.unflushed < 10_000
    disk.gate.set()
    rows.join(PATIENCE)
    store.flush()
    assert store.load("fruit").positions == list(range(30_000))


def test_flush_gives_up_waiting_but_nothing_is_lost(open_store):
    disk = SlowStore()
    store = open_store(disk)
    store.begin("fruit", ("name",), "code")
    store.append("fruit", 0, ("slow",), b"", ("slow",))
    with pytest.raises(TimeoutError):
        store.flush(timeout=0.1)
    disk.gate.set()
    store.flush(timeout=PATIENCE)
    assert store.load("fruit").positions == [0]


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("count", [1, 20_000])
def test_an_interrupt_while_waiting_loses_no_row(open_store, count):
    disk = SlowStore()
    store = open_store(disk)
    store.begin("fruit", ("name",), "code")
    store.append("fruit", 0, ("slow",), b"", ("slow",))
    timer = threading.Timer(0.3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    taken = []

    def append_all():
        for position in range(1, count):  # With many rows the backlog is full before the end of the loop.
            taken.append(position)
            append_rows(store, [position])
        store.flush()

    with pytest.raises(KeyboardInterrupt):
        append_all()
    timer.join()
    disk.gate.set()
    store.close()
    assert open_store().load("fruit").positions == [0, *taken]


# --- real faults ------------------------------------------------------------------------------------------------------


def test_rows_older_than_a_flush_survive_a_kill(folder):
    appending = run_script(
        folder,
        """
        import sys, time
        from pathlib import Path
        from tablevault.storage.checkpoint_segments import SegmentFolder
        from tablevault.storage.checkpoints import CheckpointStore
        store = CheckpointStore.open(SegmentFolder(Path(sys.argv[1])), None, None)
        store.begin("fruit", ("name",), "code")
        for position in range(100_000):
            store.append("fruit", position, (f"{position}-ok",), bytes(16))
            print(position, time.monotonic(), flush=True)
            time.sleep(0.001)
        """,
    )
    times = []
    while len(times) < 500:
        times.append(float(appending.stdout.readline().split()[1]))
    killed = time.monotonic()
    appending.kill()
    appending.communicate()
    state = read_checkpoints(folder).load("fruit")
    assert state.positions == list(range(len(state.positions)))
    margin = 0.05 + 0.25  # One interval, and one flush on a busy machine.
    assert len(state.positions) >= sum(1 for appended in times if appended < killed - margin) > 0


def test_a_row_is_on_the_disk_while_the_next_one_takes_for_ever(folder):
    waiting = run_script(
        folder,
        """
        import sys, time
        from pathlib import Path
        from tablevault.storage.checkpoint_segments import SegmentFolder
        from tablevault.storage.checkpoints import CheckpointStore
        store = CheckpointStore.open(SegmentFolder(Path(sys.argv[1])), None, None)
        store.begin("fruit", ("name",), "code")
        store.append("fruit", 7, ("only",), bytes(16))
        print("appended", flush=True)
        time.sleep(3600)
        """,
    )
    assert waiting.stdout.readline() == "appended\n"
    time.sleep(0.5)
    waiting.kill()
    waiting.communicate()
    assert read_checkpoints(folder).load("fruit").positions == [7]


FULL_DISK = """
    import resource, signal, sys, time
    from pathlib import Path
    from tablevault.storage.checkpoint_segments import SegmentFolder
    from tablevault.storage.checkpoints import CheckpointStore, read_checkpoints
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    folder = Path(sys.argv[1])
    store = CheckpointStore.open(SegmentFolder(folder), None, None)
    store.begin("fruit", ("text",), "code")
    store.append("fruit", 0, ("durable",), bytes(16))
    store.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    position = 0
    try:
        while position < 10_000:
            position += 1
            store.append("fruit", position, ("x" * 1000,), bytes(16))
            time.sleep(0.001)
    except OSError as error:
        print("append raised", type(error).__name__)
    for attempt in range(2):
        try:
            store.append("fruit", position + 1 + attempt, ("y" * 300_000,), bytes(16))
        except OSError:
            print("append raises still")
        try:
            store.flush()
        except OSError:
            print("flush raised")
    last = position + 2
    assert store.unflushed + len(store.load("fruit").positions) == last + 1
    assert store.unflushed >= 2
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.flush()
    assert store.unflushed == 0
    store.append("fruit", last + 1, ("after",), bytes(16))
    store.close()
    assert read_checkpoints(folder).load("fruit").positions == list(range(last + 2))
    print("all there")
"""


def test_a_full_disk_is_reported_and_survived(folder):
    lines = output_of(folder, FULL_DISK).splitlines()
    assert lines[0].startswith("append raised")
    assert lines[1:] == ["append raises still", "flush raised"] * 2 + ["all there"]


def test_a_store_that_cannot_be_written_tells_so_when_it_is_closed(open_store, folder):
    store = open_store()
    folder.rename(folder.with_name("moved"))
    store.begin("fruit", ("name",), "code")

    appended = []

    def append_all():
        for position in range(1000):
            appended.append(position)
            append_rows(store, [position])
            time.sleep(0.01)

    with pytest.raises(OSError):
        append_all()
    with pytest.raises(OSError):
        store.close()
    assert store.unflushed == len(appended) > 0


def test_a_reader_elsewhere_sees_whole_flushes_and_does_not_disturb(folder, open_store):
    store = open_store()
    store.begin("fruit", ("name",), "code")
    append_rows(store, [0])
    store.flush()
    reading = run_script(
        folder,
        """
        import sys
        from pathlib import Path
        from tablevault.storage.checkpoints import read_checkpoints
        seen = 0
        while seen < 2000:
            positions = read_checkpoints(Path(sys.argv[1])).load("fruit").positions
            assert positions == list(range(len(positions))) and len(positions) >= seen
            seen = len(positions)
        print("seen")
        """,
    )
    position = 0
    while reading.poll() is None:
        position += 1
        append_rows(store, [position])
        time.sleep(0.0002)
    output, errors = reading.communicate(timeout=PATIENCE)
    assert (output, errors) == ("seen\n", "")
    store.close()
    assert read_checkpoints(folder).load("fruit").positions == list(range(position + 1))


def test_a_read_only_folder_can_be_read(open_store, folder):
    store = open_store()
    store.begin("fruit", ("name",), "code")
    append_rows(store, [0])
    store.close()
    before = sorted(folder.iterdir())
    folder.chmod(0o555)
    try:
        assert read_checkpoints(folder).load("fruit").positions == [0]
        if os.geteuid() != 0:  # To root every folder is writable.
            assert sorted(folder.iterdir()) == before
    finally:
        folder.chmod(0o755)


@pytest.mark.slow
def test_a_forked_child_leaves_the_store_alone(folder):
    script = """
        import os, sys, warnings
        from pathlib import Path
        from tablevault.errors import TVProcessError
        from tablevault.storage.checkpoint_segments import SegmentFolder
        from tablevault.storage.checkpoints import CheckpointStore
        warnings.simplefilter("ignore")
        store = CheckpointStore.open(SegmentFolder(Path(sys.argv[1])), None, None)
        store.begin("fruit", ("name",), "code")
        for position in range(300):
            store.append("fruit", position, ("x",), bytes(16))
            if position % 30 == 10:
                store.flush()
                child = os.fork()
                if child == 0:
                    try:
                        store.flush()
                    except TVProcessError:
                        store.close()
                        del store
                        sys.exit(7)
                _, status = os.waitpid(child, 0)
                assert os.waitstatus_to_exitcode(status) == 7, status
        store.close()
        print(len(CheckpointStore.open(SegmentFolder(Path(sys.argv[1])), None, None).load("fruit").positions))
    """
    assert output_of(folder, script) == "300\n"


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def segment(open_store, folder):
    store = open_store()
    store.begin("fruit", ("name",), "code")
    append_rows(store, range(100))
    store.flush()
    append_rows(store, range(100, 200))
    store.close()
    return folder / "segment-1.log"


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]


@pytest.mark.parametrize("name", ["segment-1.log", "segment-1.end"])
def test_a_damaged_file_is_never_read_wrongly(segment, folder, name):
    damaged = folder / name
    sound = damaged.read_bytes()
    for place in range(0, len(sound), max(1, len(sound) // 300)):
        damaged.write_bytes(flipped(sound, place))
        with pytest.raises(TVFileError, match=r"segment-1\.(log|end)"):
            read_checkpoints(folder).load("fruit")


@pytest.fixture
def crashed(open_store, folder, tmp_path):
    """A segment with three flushes of 20 rows, as a kill would leave it, and its size after each flush."""
    store = open_store()
    store.begin("fruit", ("name",), "code")
    store.flush()
    sizes = []
    for start in (0, 20, 40):
        append_rows(store, range(start, start + 20))
        store.flush()
        sizes.append((folder / "segment-1.log").stat().st_size)
    shutil.copytree(folder, tmp_path / "crashed")
    return tmp_path / "crashed" / "segment-1.log", sizes


def rows_in(segment):
    """Return the number of rows in a segment's folder, each of which must be as it was appended."""
    state = read_checkpoints(segment.parent).load("fruit")
    if state is None:
        return 0
    assert state.positions == list(range(len(state.positions)))
    assert state.values[0] == [f"{position}-ok" for position in state.positions]
    return len(state.positions)


def test_a_segment_that_was_cut_off_by_a_crash_lacks_the_last_flush_only(crashed):
    segment, sizes = crashed
    sound = segment.read_bytes()
    assert rows_in(segment) == 60
    for size in range(len(sound)):
        segment.write_bytes(sound[:size])
        assert rows_in(segment) == 20 * sum(whole <= size for whole in sizes)


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\xf1TVr" * 1000, b"x", os.urandom(3000)])
def test_bytes_that_were_not_written_to_the_end_are_ignored(crashed, tail):
    segment, _ = crashed
    segment.write_bytes(segment.read_bytes() + tail)
    assert rows_in(segment) == 60


def test_a_flipped_bit_before_the_last_flush_is_an_error_after_a_crash(crashed):
    segment, sizes = crashed
    sound = segment.read_bytes()
    for place in range(len(sound)):
        segment.write_bytes(flipped(sound, place))
        if place < sizes[1]:
            with pytest.raises(TVFileError, match=r"segment-1\.log"):
                rows_in(segment)
        else:
            assert rows_in(segment) == 40


def test_a_next_attempt_goes_on_after_a_segment_that_was_cut_off(crashed):
    segment, _ = crashed
    segment.write_bytes(segment.read_bytes()[:-1])
    store = CheckpointStore.open(SegmentFolder(segment.parent), None, None)
    store.begin("fruit", ("name",), "code")
    append_rows(store, range(40, 70))
    store.close()
    assert rows_in(segment) == 70


def test_a_truncated_file_is_refused(segment, folder):
    sound = segment.read_bytes()
    for size in range(0, len(sound), 100):
        segment.write_bytes(sound[:size])
        with pytest.raises(TVFileError, match=r"segment-1\.log"):
            read_checkpoints(folder).load("fruit")


def test_a_missing_segment_is_noticed(segment, open_store, folder):
    store = open_store()
    store.begin("fruit", ("name",), "code")
    store.close()
    segment.unlink()
    with pytest.raises(TVFileError, match="segment-1 of its checkpoints is missing"):
        read_checkpoints(folder).load("fruit")


def test_a_file_of_a_newer_format_is_refused(segment, folder):
    content = bytearray(segment.read_bytes())
    content[8] = 99
    segment.write_bytes(content)
    with pytest.raises(TVFileError, match="newer TableVault"):
        read_checkpoints(folder).load("fruit")


# --- earlier versions -------------------------------------------------------------------------------------------------


def earlier_segment(folder, number, *flushes):
    """Write a segment as earlier versions did, with some rows in each flush; return its path."""
    path = folder / f"segment-{number}.db"
    parts = []
    for flush in flushes:
        rows = list(flush)
        values, fingerprints = [[f"{row}-ok" for row in rows]], [*map(fingerprint, rows)]
        parts.append(("fruit", Part("fruit", ("name",), "code", (), None, rows, values, fingerprints).packed()))
    write_sqlite_segment(path, parts)
    return path


def test_segments_of_earlier_versions_are_read_and_continued(folder):
    folder.mkdir()
    first = earlier_segment(folder, 1, range(5), range(5, 9))
    earlier_segment(folder, 2, range(8, 12))
    assert rows_in(first) == 12
    store = CheckpointStore.open(SegmentFolder(folder), None, None)
    store.begin("fruit", ("name",), "code")
    append_rows(store, range(12, 20))
    store.close()
    assert rows_in(first) == 20
    assert (folder / "segment-3.log").exists()


def test_damage_in_a_segment_of_an_earlier_version_is_an_error(folder):
    folder.mkdir()
    segment = earlier_segment(folder, 1, range(100))
    sound = segment.read_bytes()
    errors = []
    for place in range(0, len(sound), 37):
        segment.write_bytes(flipped(sound, place))
        try:
            assert rows_in(segment) == 100
        except TVFileError as error:
            errors.append(str(error))
    assert len(errors) > 50
    assert all("segment-1.db" in error for error in errors)
