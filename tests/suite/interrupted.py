"""Interrupts a run of the tests in every way.

Checks that no process of it is left.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
import uuid

from guardian import MARK, left_behind
from waiting import PATIENCE


def interrupt(how: signal.Signals, seconds: float, arguments: list[str]) -> list[str]:
    """Start the tests, and send them a signal after some seconds.

    Returns the processes that are left.
    """
    mark = uuid.uuid4().hex
    running = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", *arguments],
        env={**os.environ, MARK: mark},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    assert running.poll() is None, "the tests were over before they could be interrupted"
    if how is signal.SIGINT:
        os.killpg(running.pid, how)  # As a terminal does it.
    else:
        running.send_signal(how)
    running.wait(PATIENCE)
    return left_behind(mark, PATIENCE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="how often with each signal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("pytest", nargs="*", help="arguments of pytest")
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    failed = False
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL) * asked.rounds:
        seconds = chance.uniform(10, 60)
        left = interrupt(how, seconds, asked.pytest)
        print(f"{how.name} after {seconds:.0f} s: {len(left)} processes left", *left, sep="\n  ", flush=True)
        failed = failed or bool(left)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
