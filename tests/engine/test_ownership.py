"""Ownership of processes.

A process has one owner at a time, who is dead as soon as its interpreter is.
"""

from __future__ import annotations

import os
import signal

import pytest
from jobs import ended
from waiting import until

from tablevault import TableVault, tv_errors


def test_a_live_owner_is_never_robbed(job):
    job.tell("hold", 4)
    owner = job.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: job.noted("held"), owner)
    with pytest.raises(tv_errors.TVProcessError, match=f"process number {owner.pid} [^!]*cannot be taken over"):
        job.execute("nightly")
    with pytest.raises(tv_errors.TVProcessError, match="force=True"):
        job.vault.stop_process("nightly")
    assert TableVault(job.path, restart=True).restart_report == {"nightly": "left running"}
    info = job.vault.get_process("nightly")
    assert (info.status, info.owner.pid, info.owner.alive) == ("running", owner.pid, True)
    job.tell("hold")
    assert ended(owner).status == 0
    assert job.noted("called") == list(range(10))


@pytest.mark.slow
def test_lock_of_a_live_owner_is_awaited_and_then_named(job):
    job.tell("hold", 4)
    owner = job.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: job.noted("held"), owner)
    hasty = TableVault(job.path, lock_timeout=0.2)
    with pytest.raises(tv_errors.TVLockError, match=rf"'nightly'.*process number {owner.pid}.*waited 0.2 s"):
        hasty.delete_table("stories")
    waiting = job.interpreter(f"TableVault({str(job.path)!r}, lock_timeout=180).delete_table('stories')")
    hasty.create_table("unrelated")
    job.tell("hold")
    assert ended(owner).status == 0
    assert ended(waiting).status == 0
    assert job.vault.get_tables() == ["unrelated"]


# --- forks --------------------------------------------------------------------------------------------------------

FORKING = """
import subprocess
import sys

def answer(x, control):
    note(control, "called", x)
    if x == 4 and not os.path.exists(f"{control}/forked"):
        %s
    note(control, "returned", x)
    return f"{x}-ok"
"""


def forking(job, text):
    """Let row 4 run this text, once."""
    code = job.vault.get_code_module_str("jobs").partition("def answer")[0]
    job.vault.create_code_module("jobs", text=code + FORKING % text.strip().replace("\n", "\n        "))


@pytest.mark.slow
def test_a_killed_owner_with_a_living_forked_child_is_dead(job):
    forking(
        job,
        """
child = os.fork()
if child == 0:
    os.close(1)
    os.close(2)
    note(control, "forked", os.getpid())
    time.sleep(60)
    os._exit(0)
while not os.path.exists(f"{control}/forked"):
    time.sleep(0.01)
time.sleep(60)
""",
    )
    owner = job.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: job.noted("forked"), owner)
    (child,) = job.noted("forked")
    try:
        assert job.vault.get_process("nightly").owner.alive
        owner.kill()
        ended(owner)
        os.kill(child, 0)
        info = job.vault.get_process("nightly")
        assert (info.status, info.owner.alive) == ("paused", False)
        job.execute("nightly")
        assert job.answers() == job.complete()
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_a_program_that_a_killed_owner_started_does_not_keep_it_alive(job):
    forking(
        job,
        """
started = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
note(control, "forked", started.pid)
time.sleep(60)
""",
    )
    owner = job.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: job.noted("forked"), owner)
    owner.kill()
    ended(owner)
    try:
        job.execute("nightly")
        assert job.answers() == job.complete()
    finally:
        os.kill(job.noted("forked")[0], signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("leaving", ["sys.exit(0)", "raise RuntimeError('in the child')", "return 7"])
def test_a_forked_child_that_leaves_the_function_by_an_error_ends_nothing(job, leaving):
    forking(
        job,
        f"""
child = os.fork()
if child == 0:
    note(control, "forked", 1)
    {leaving}
os.waitpid(child, 0)
from tablevault import TableVault
info = TableVault({str(job.path)!r}).get_process("nightly")
note(control, "seen", f"{{info.status}} {{info.owner.alive}}")
""",
    )
    left = job.run("vault.execute_instance('stories', process_id='nightly')")
    assert left.status == 0, left.errors
    assert (job.control / "seen").read_text() == "running True\n"
    assert job.noted("called") == list(range(10))
    assert job.vault.get_process("nightly").status == "succeeded"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("leaving", "status"),
    [("return 7", 1), ("raise RuntimeError('in the child')", 1), ("sys.exit(0)", 0), ("sys.exit(5)", 5)],
)
def test_child_forked_in_a_thread_that_comes_back_ends(job, leaving, status):
    job.build(threads=3)
    forking(
        job,
        f"""
child = os.fork()
if child == 0:
    note(control, "forked", 1)
    {leaving}
for _ in range(3000):
    ended, left = os.waitpid(child, os.WNOHANG)
    if ended:
        break
    time.sleep(0.01)
else:
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise TimeoutError("the child waits for ever")
note(control, "left", os.waitstatus_to_exitcode(left))
""",
    )
    left = job.run("vault.execute_instance('stories', process_id='nightly')")
    assert left.status == 0, left.errors
    assert job.noted("left") == [status]
    assert sorted(job.noted("called")) == list(range(10))
    assert job.answers() == job.complete()


@pytest.mark.slow
def test_a_pool_that_a_function_forks_and_ends_leaves_the_process_alone(job):
    forking(
        job,
        """
note(control, "forked", 1)
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
""",
    )
    left = job.run("vault.execute_instance('stories', process_id='nightly')")
    assert left.status == 0, left.errors
    assert job.answers() == job.complete()


@pytest.mark.slow
def test_forked_child_dies_of_a_signal_sent_to_it(job):
    forking(
        job,
        """
note(control, "forked", 1)
import signal
ready, telling = os.pipe()
child = os.fork()
if child == 0:
    try:
        os.write(telling, b".")
        time.sleep(60)
    finally:
        os._exit(1)
os.read(ready, 1)
os.kill(child, signal.SIGTERM)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
""",
    )
    left = job.run("vault.execute_instance('stories', process_id='nightly')")
    assert left.status == 0, left.errors


USED_IN_CHILD = """
def child():
    vault.execute_instance("stories", process_id="nightly")
    os._exit(0)

vault.create_table("before")
number = os.fork()
if number == 0:
    try:
        child()
    finally:
        os._exit(1)
vault.create_table("beside")
print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
print(vault.get_process("nightly").status)
vault.create_table("after")
"""


@pytest.mark.slow
def test_a_vault_can_be_used_in_a_forked_child_and_in_its_parent(job):
    left = job.run(USED_IN_CHILD)
    assert left.errors == ""
    assert left.output == "0\nsucceeded\n"
    assert job.vault.get_tables() == ["stories", "before", "beside", "after"]
    assert job.answers() == job.complete()


@pytest.mark.slow
def test_a_forked_child_of_an_idle_vault_owns_nothing_of_its_parents(job):
    job.tell("hold", 4)
    left = job.run(
        "import multiprocessing\n"
        "def run():\n    vault.execute_instance('stories', process_id='nightly')\n"
        "child = multiprocessing.get_context('fork').Process(target=run)\n"
        "child.start()\n"
        f"while not os.path.exists({str(job.control / 'held')!r}): time.sleep(0.01)\n"
        "print(vault.get_process('nightly').owner.pid == child.pid)\n"
        "child.kill()\nchild.join()\n"
        "print(vault.get_process('nightly').status)\n"
    )
    assert left.output == "True\npaused\n", left.errors
