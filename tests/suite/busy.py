"""Runs the tests repeatedly on a busy machine.

Stops at the first run that fails.

`make test-busy` runs them twenty times beside eight loops that never rest; ROUNDS and LOOPS change that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOOP = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1_000_000):\n        pass\n"


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Keep so many processes computing meanwhile; they end by themselves when this one does."""
    loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--loops", type=int, default=8)
    parser.add_argument("pytest", nargs="*", help="arguments of pytest")
    asked = parser.parse_args()
    with busy_loops(asked.loops):
        for number in range(1, asked.rounds + 1):
            started = time.monotonic()
            status = subprocess.call([sys.executable, "-m", "pytest", "-q", *asked.pytest], env=os.environ)
            print(f"round {number} of {asked.rounds}: status {status}, {time.monotonic() - started:.0f} s", flush=True)
            if status:
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
