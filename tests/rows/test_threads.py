"""What threads promise beyond the interface: interrupts, patience with what is in flight, nothing left behind."""

import contextvars
import itertools
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from tablevault.rows import threads
from tablevault.rows.threads import ThreadExecutor

VARIABLE = contextvars.ContextVar("VARIABLE", default=0)


def interrupt_main_thread():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_tasks_run_side_by_side():
    barrier = threading.Barrier(4, timeout=10)
    assert len([*ThreadExecutor(4).map(lambda _: barrier.wait(), range(8))]) == 8


def test_outcomes_come_in_order_of_completion():
    gate = threading.Event()

    def wait_or_open(task):
        if task == 0:
            assert gate.wait(10)
        return task

    run = ThreadExecutor(2).map(wait_or_open, range(3))
    seen = [next(run)[0], next(run)[0]]
    gate.set()
    assert seen + [task for task, _, _ in run] == [1, 2, 0]


def test_no_more_threads_than_tasks():
    run = ThreadExecutor(64).map(lambda task: threading.active_count(), range(2))
    assert max(count for _, count, _ in run) <= threading.active_count() + 2


@pytest.mark.usefixtures("no_collections")
def test_interrupt_escapes_and_drain_collects_what_was_in_flight():
    gate = threading.Event()

    def interrupt_or_wait(task):
        if task == 0:
            time.sleep(0.1)
            interrupt_main_thread()
        assert gate.wait(10)
        return task

    run = ThreadExecutor(3).map(interrupt_or_wait, range(100))
    with pytest.raises(KeyboardInterrupt):
        next(run)
    gate.set()
    assert sorted(run.drain(10)) == [(0, 0, None), (1, 1, None), (2, 2, None)]
    assert next(run, None) is None


@pytest.mark.usefixtures("no_collections")
def test_drain_that_is_interrupted_can_be_repeated():
    gate = threading.Event()
    run = ThreadExecutor(2).map(lambda task: task if task == 0 else gate.wait(10), range(2))
    assert next(run) == (0, 0, None)
    timer = threading.Timer(0.1, interrupt_main_thread)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        list(run.drain(10))
    timer.join()
    gate.set()
    assert list(run.drain(10)) == [(1, True, None)]


def test_drain_hands_over_each_outcome_when_it_is_there():
    gates = [threading.Event() for _ in range(3)]
    run = ThreadExecutor(3).map(lambda task: gates[task].wait(10), range(3))
    gates[0].set()
    assert next(run) == (0, True, None)
    drained = run.drain(10)
    gates[1].set()
    assert next(drained) == (1, True, None)
    gates[2].set()
    assert list(drained) == [(2, True, None)]


def test_after_an_interrupt_at_any_line_drain_waits_for_nothing_that_never_began():
    for line in itertools.count(1):
        begun, seen = [], []
        run = ThreadExecutor(2).map(begun.append, range(5))
        interrupted = _interrupted_at(line, lambda run=run, seen=seen: seen.extend(task for task, _, _ in run))
        started = time.monotonic()
        seen += [task for task, _, _ in run.drain(30)]
        assert time.monotonic() - started < 15, f"interrupted at line {line}"
        # The one that is being handed over goes with the interrupt.
        assert len(begun) - len(seen) <= interrupted
        if not interrupted:
            return


def _interrupted_at(line, call):
    """Make a call, and interrupt it at its n-th line in the executor; return whether it has as many."""
    lines = itertools.count(1)

    def trace(frame, event, _):
        if frame.f_code.co_filename != threads.__file__:
            return None
        if event == "line" and next(lines) == line:
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def test_drain_drops_what_is_not_ready_in_time():
    gate = threading.Event()
    run = ThreadExecutor(2).map(lambda task: task if task == 0 else gate.wait(10), range(2))
    assert next(run) == (0, 0, None)
    before = time.monotonic()
    assert list(run.drain(0.1)) == []
    assert time.monotonic() - before < 5
    assert list(run) == []
    gate.set()
    assert list(run.drain(10)) == []


def test_several_errors_in_flight_are_all_handed_over_before_anything_new_starts():
    barrier = threading.Barrier(3, timeout=10)
    started = []

    def fail_together(task):
        started.append(task)
        if task < 3:
            barrier.wait()
            raise ValueError(task)
        return task

    run = ThreadExecutor(3).map(fail_together, range(10))
    errors = [next(run)[2]]
    time.sleep(0.1)  # By now the other two have failed as well.
    errors += [next(run)[2] for _ in range(2)]
    assert sorted(error.args[0] for error in errors) == [0, 1, 2]
    assert sorted(started) == [0, 1, 2]
    assert list(run.drain(10)) == []


def test_a_function_that_never_returns_does_not_keep_the_interpreter_alive():
    script = """
        import threading
        from tablevault.rows.threads import ThreadExecutor
        run = ThreadExecutor(2).map(lambda task: threading.Event().wait() if task else task, range(2))
        assert next(run) == (0, 0, None)
        assert list(run.drain(0.05)) == []
        print("ended")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "ended\n"
    assert done.stderr == ""


def test_what_one_task_sets_in_the_context_no_other_task_sees():
    def count(_):
        VARIABLE.set(VARIABLE.get() + 1)
        return VARIABLE.get()

    assert {result for _, result, _ in ThreadExecutor(2).map(count, range(20))} == {1}
