"""Ends whatever a run of the tests has started and left behind, however the run ends.

A run marks its environment, which every process inherits that it starts, detached ones too. The guardian is one more
process, which reads from a pipe that the run holds open: when the run has gone, by its own end, by Ctrl-C or by SIGKILL, the
pipe ends, and the guardian kills every process that still carries the mark, and removes the run's folder in memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid

import psutil

MARK = "TABLEVAULT_TEST_RUN"


def mark_environment() -> str:
    """Mark this process and whatever it starts from now on; return the mark."""
    return os.environ.setdefault(MARK, uuid.uuid4().hex)


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes that carry a mark.

    This process, its ancestors and the guardian are left out.
    """
    me = psutil.Process()
    spared = {me.pid, *(parent.pid for parent in me.parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid in spared or process.environ().get(MARK) != mark or process.cmdline()[1:2] == [__file__]:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def left_behind(mark: str, patience: float) -> list[str]:
    """Return the command lines of the processes that are still there after so many seconds."""
    deadline = time.monotonic() + patience
    while found := marked(mark):
        if time.monotonic() >= deadline:
            return [_command(process) for process in found]
        time.sleep(0.1)
    return []


def start(mark: str, folder: str | None) -> subprocess.Popen[bytes]:
    """Start the guardian of the run that carries this mark.

    It watches as long as its standard input is open.

    In the end it removes the folder, if the run has one of its own.
    """
    return subprocess.Popen(
        [sys.executable, __file__, mark, *([folder] if folder else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill(mark: str) -> None:
    """Kill every process that carries a mark, also those that they start meanwhile."""
    while found := marked(mark):
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(found, timeout=1)


def _command(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:300]}"
    except psutil.NoSuchProcess:
        return f"{process.pid}: ended meanwhile"


if __name__ == "__main__":
    sys.stdin.read()
    kill(sys.argv[1])
    for folder in sys.argv[2:]:
        shutil.rmtree(folder, ignore_errors=True)
