"""Effects of Ctrl-C and SIGTERM on the caller and on kept rows."""

from __future__ import annotations

import signal
import time

import pytest
from jobs import OPENED, Job, ended
from waiting import until


@pytest.fixture
def threads(vault, tmp_path):
    """The job with four threads."""
    return Job(vault, tmp_path, threads=4)


@pytest.mark.usefixtures("no_collections")
def test_sigterm_reaches_the_caller_as_exit_143(job):
    job.signal_at(4, signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        job.execute("nightly")
    assert caught.value.code == 143
    assert "paused as 'nightly'" in caught.value.__notes__[-1]


@pytest.mark.slow
def test_sigterm_ends_an_interpreter_with_143(job):
    job.tell("hold", 4)
    other = job.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: job.noted("held"), other)
    other.send_signal(signal.SIGTERM)
    assert ended(other).status == 143
    assert job.vault.get_process("nightly").status == "paused"


def test_the_callers_own_handler_is_asked_and_stays(job):
    class OwnInterruptError(Exception):
        pass

    def own(number, frame):
        raise OwnInterruptError

    before = signal.signal(signal.SIGTERM, own)
    try:
        job.signal_at(4, signal.SIGTERM)
        with pytest.raises(OwnInterruptError):
            job.execute("nightly")
        assert signal.getsignal(signal.SIGTERM) is own
        assert job.vault.get_process("nightly").status == "paused"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_are_as_they_were_after_an_operation(job):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    job.execute()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.slow
def test_an_interrupt_waits_for_rows_in_flight_and_keeps_them(threads):
    threads.tell("hold", 0, 1, 2, 3)
    other = threads.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: set(threads.noted("held")) == {0, 1, 2, 3}, other)
    other.send_signal(signal.SIGINT)
    # The interrupt waits now; what it waits for may end.
    threads.tell("hold", 3)
    until(lambda: set(threads.noted("returned")) == {0, 1, 2}, other)
    left = ended(other)
    assert left.status == -signal.SIGINT
    assert "KeyboardInterrupt" in left.errors
    assert set(threads.noted("called")) == {0, 1, 2, 3}, "no new row starts"
    assert threads.vault.get_process("nightly").progress["answer"].computed == 3
    threads.forget()
    threads.tell("hold")
    threads.execute("nightly")
    assert sorted(threads.noted("called")) == [3, 4, 5, 6, 7, 8, 9]
    assert threads.answers() == threads.complete()


@pytest.mark.slow
def test_failed_row_lets_rows_in_flight_finish_and_starts_no_new_ones(threads):
    threads.tell("hold", 0, 1, 2)
    threads.tell("fail", 3)
    other = threads.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: set(threads.noted("called")) == {0, 1, 2, 3}, other)
    threads.tell("hold")
    assert "no answer for 3" in ended(other).errors
    assert threads.vault.get_process("nightly").progress["answer"].computed == 3
    threads.forget()
    threads.tell("fail")
    threads.execute("nightly")
    assert sorted(threads.noted("called")) == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_after_a_failed_row_keeps_rows_in_flight(threads, number):
    threads.tell("hold", 0, 1, 2)
    threads.tell("fail", 3)
    other = threads.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: set(threads.noted("called")) == {0, 1, 2, 3}, other)
    # By then the owner waits for the rows in flight because of the failure; if not, it is interrupted before.
    time.sleep(0.5)
    other.send_signal(number)
    time.sleep(0.5)
    threads.tell("hold")
    left = ended(other)
    assert left.status == (-number if number == signal.SIGINT else 128 + number), left.errors
    assert threads.vault.get_process("nightly").progress["answer"].computed == 3
    threads.forget()
    threads.tell("fail")
    threads.execute("nightly")
    assert sorted(threads.noted("called")) == [3, 4, 5, 6, 7, 8, 9]
    assert threads.answers() == threads.complete()


@pytest.mark.slow
def test_an_interrupt_while_another_operation_is_waited_for_ends_the_wait(job):
    job.tell("hold", 4)
    owner = job.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: job.noted("held"), owner)
    waiting = job.interpreter(
        f"vault = TableVault({str(job.path)!r}, lock_timeout=180)\n"
        "def terminate(*_):\n"
        "    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:\n"
        "        signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "signal.signal(signal.SIGALRM, terminate)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.3, 0.1)\n"
        "vault.delete_table('stories', process_id='waiting')"
    )
    assert ended(waiting).status == 143
    owner.kill()
    ended(owner)
    assert not job.vault.get_process_completion("waiting")


BOTH = """
class InterruptedError(RuntimeError):
    asked = 0

    def __str__(self):
        # The policies ask for the text first. Then it is recorded with the pause: the signal comes in the middle of that.
        self.asked += 1
        if self.asked > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return "no answer"

def answer(x, control):
    if x == 4:
        raise InterruptedError
    return f"{x}-ok"
"""


@pytest.mark.usefixtures("no_collections")
def test_an_interrupt_while_a_pause_is_recorded_is_not_lost(job):
    code = job.vault.get_code_module_str("jobs").partition("def answer")[0]
    job.vault.create_code_module("jobs", text=code + BOTH)
    with pytest.raises(SystemExit) as caught:
        job.execute("nightly")
    assert caught.value.code == 143
    assert "paused as 'nightly'" in caught.value.__context__.__notes__[-1]
    assert job.vault.get_process("nightly").status == "paused"
    assert job.vault.get_process("nightly").progress["answer"].computed == 4


FORKING = """
def answer(x, control):
    child = os.fork()
    if not child:
        time.sleep(20)
        os._exit(7)
    return os.waitpid(child, 0)[1]
"""
TERMINATED_AT_ONCE = """
import os, signal
# Other libraries have hooks of their own, and theirs may come first.
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
"""


@pytest.mark.slow
def test_a_forked_child_that_is_terminated_at_once_dies_of_it(job):
    code = job.vault.get_code_module_str("jobs").partition("def answer")[0]
    job.vault.create_code_module("jobs", text=code + FORKING)
    opened = OPENED.format(path=str(job.path))
    other = job.bare_interpreter(f"{opened}vault.execute_instance('stories')", first=TERMINATED_AT_ONCE)
    assert ended(other).status == 0
    assert set(job.answers()) == {signal.SIGTERM}
