"""Every executor keeps the promises of the port."""

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from waiting import PATIENCE, until

from tablevault.rows.coroutines import AsyncExecutor
from tablevault.rows.processes import ProcessExecutor
from tablevault.rows.threads import InlineExecutor, ThreadExecutor
from tablevault.testing import EXECUTOR_CHECKS, LOCAL_EXECUTOR_CHECKS, Awaited

LOCAL_MAKERS = {
    "inline": InlineExecutor,
    "one thread": lambda open_function: ThreadExecutor(1, open_function),
    "four threads": lambda open_function: ThreadExecutor(4, open_function),
    "async": lambda open_function: AsyncExecutor(4, Awaited(open_function)),
}


def two_processes(open_function):
    return ProcessExecutor(2, open_function)


@pytest.mark.parametrize("make", LOCAL_MAKERS.values(), ids=LOCAL_MAKERS.keys())
@pytest.mark.parametrize("check", LOCAL_EXECUTOR_CHECKS, ids=lambda check: check.__name__)
def test_executor_conforms(check, make, tmp_path):
    check(make, tmp_path)


@pytest.mark.parametrize("check", EXECUTOR_CHECKS, ids=lambda check: check.__name__)
def test_process_executor_conforms(check, tmp_path):
    check(two_processes, tmp_path)


@dataclass(frozen=True)
class Opened:
    call: Callable[..., object]

    def close(self):
        pass


def test_calls_ahead_of_a_deaf_coroutine_begin_when_it_is_abandoned():
    async def work(is_over):
        while is_over is not None and not is_over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    executor, is_over = AsyncExecutor(1, lambda: Opened(work)), threading.Event()
    deadline, first = time.monotonic() + PATIENCE, 0
    while executor.workers < 3 and time.monotonic() < deadline:
        executor.start(first, {"is_over": None})
        first += 1
        while not executor.ended:
            executor.wait(0.05)
        executor.ended.clear()
    executor.start(first, {"is_over": is_over})
    while first not in executor.begun and time.monotonic() < deadline:
        executor.wait(0.01)
    executor.start(first + 1, {"is_over": None})
    executor.wait(0.1)
    assert not executor.ended
    executor.abandon(first)
    while not executor.ended and time.monotonic() < deadline:
        executor.wait(0.05)
    assert [(item.number, item.error) for item in executor.ended] == [(first + 1, None)]
    is_over.set()
    executor.close()


@pytest.mark.parametrize("name", ["one thread", "async"])
def test_time_of_a_call_starts_once_its_function_is_open(name):
    opening, is_open, is_over = threading.Event(), threading.Event(), threading.Event()

    def open_function():
        opening.set()
        is_open.wait(PATIENCE)
        return Opened(lambda: is_over.wait(PATIENCE))

    executor = LOCAL_MAKERS[name](open_function)
    executor.start(0, {})
    until(opening.is_set)
    assert not executor.begun
    is_open.set()
    until(lambda: 0 in executor.begun)
    is_over.set()
    until(lambda: executor.ended)
    executor.close()


@dataclass(frozen=True)
class SlowToRead:
    folder: Path

    def __reduce__(self):
        return read_slowly, (self.folder,)


def read_slowly(folder):
    (folder / "reading").touch()
    until((folder / "read").exists)
    return folder


def call_slowly(given):
    until((given / "over").exists)


def open_slow_function():
    return Opened(call_slowly)


def test_time_of_a_call_starts_once_a_worker_has_read_its_arguments(tmp_path):
    executor = ProcessExecutor(1, open_slow_function)
    executor.start(0, {"given": SlowToRead(tmp_path)})
    until((tmp_path / "reading").exists)
    assert not executor.begun
    (tmp_path / "read").touch()
    until(lambda: 0 in executor.begun)
    (tmp_path / "over").touch()
    until(lambda: executor.ended)
    assert executor.ended[0].error is None
    executor.close()


def test_tasks_that_a_function_leaves_behind_end_with_the_executor(caplog):
    left = []

    async def work():
        left.append(asyncio.create_task(asyncio.sleep(3600)))

    executor = AsyncExecutor(1, lambda: Opened(work))
    executor.start(0, {})
    until(lambda: executor.ended)
    executor.close()
    until(lambda: left[0].cancelled())
    left.clear()
    gc.collect()
    assert not caplog.records


@pytest.mark.slow
def test_task_that_ignores_its_end_is_dropped_without_a_word(caplog):
    begun = threading.Event()

    async def work():
        while True:
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    executor = AsyncExecutor(1, lambda: Opened(work))
    executor.start(0, {})
    assert begun.wait(PATIENCE)
    thread = executor._loop.thread
    executor.close()
    thread.join(PATIENCE)
    executor = None
    gc.collect()
    assert not caplog.records
