"""Every checkpoint log keeps the promises of the interface."""

import pytest

from tablevault.storage.checkpoint_segments import SegmentFolder
from tablevault.storage.checkpoint_states import Checkpoints
from tablevault.storage.checkpoints import CheckpointStore
from tablevault.testing import CHECKPOINT_LOG_CHECKS, MemoryLog

each_check = pytest.mark.parametrize("check", CHECKPOINT_LOG_CHECKS, ids=lambda check: check.__name__)


@each_check
def test_folder_of_segments_conforms(check, tmp_path):
    check(lambda: SegmentFolder(tmp_path / "checkpoints"))


@each_check
def test_log_in_memory_conforms(check, tmp_path):
    first = MemoryLog(tmp_path / "frames")
    check(lambda: MemoryLog(tmp_path / "frames", first))


def test_store_of_checkpoints_accepts_any_log(tmp_path):
    log = MemoryLog(tmp_path / "frames")
    store = CheckpointStore.open(log, None, None)
    store.begin("fruit", ("name",), "code")
    for position in range(100):
        store.append("fruit", position, (f"{position}-ok",), position.to_bytes(16, "big"))
    store.close()
    state = Checkpoints(MemoryLog(tmp_path / "frames", log)).load("fruit")
    assert state.positions == list(range(100))
    assert state.values == ([f"{position}-ok" for position in range(100)],)
