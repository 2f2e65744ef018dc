"""Locks on files.

A lock has one holder at a time, is not inherited by forked children, and ends with its holder.
"""

import multiprocessing
import os
import threading

import pytest
from waiting import PATIENCE

from tablevault.system.kernel_locks import KernelLock


def is_held(path):
    try:
        KernelLock.take(path, longest=0).release()
    except TimeoutError:
        return True
    return False


def test_a_lock_has_one_holder_until_it_is_released(tmp_path):
    with KernelLock.take(tmp_path / "lock") as lock:
        assert is_held(tmp_path / "lock")
    lock.release()
    assert not is_held(tmp_path / "lock")


def test_a_lock_goes_with_its_object(tmp_path):
    lock = KernelLock.take(tmp_path / "lock")
    assert is_held(tmp_path / "lock")
    del lock
    assert not is_held(tmp_path / "lock")


def test_a_thread_waits_for_the_holder_and_for_the_newer_file(tmp_path):
    path, taken = tmp_path / "lock", []
    held = KernelLock.take(path)
    waiting = threading.Thread(target=lambda: taken.append(KernelLock.take(path)))
    waiting.start()
    path.unlink()
    held.release()
    waiting.join(PATIENCE)
    assert os.path.samestat(os.fstat(taken[0].descriptor), path.stat())
    assert is_held(path)
    taken[0].release()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_neither_holds_nor_releases_a_lock(tmp_path):
    path, (told, tell) = tmp_path / "lock", os.pipe()
    context = multiprocessing.get_context("fork")
    lock = KernelLock.take(path)

    def child():
        lock.release()
        os.read(told, 1)

    process = context.Process(target=child)
    process.start()
    try:
        assert is_held(path)
        lock.release()
        assert not is_held(path)
    finally:
        os.write(tell, b"x")
        process.join(PATIENCE)
    assert process.exitcode == 0


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "target").touch()
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        KernelLock.take(tmp_path / "lock", longest=0)
