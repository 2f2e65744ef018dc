"""The cost of taking one call and 3,000 tokens, beside other limiters (P6).

`python -m benchmarks.peers.limits`
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.measuring import empty_folder
from benchmarks.peers.__main__ import OWN_PLACE, Peer, environment, version

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Limiter:
    """A peer, and the work that it does."""

    peer: Peer
    takes: int
    """How many are measured."""
    shared_by: str
    slots: str
    """Whether it limits calls in flight, and what becomes of those of a process that died."""


LIMITERS = (
    Limiter(Peer("tablevault", (str(HERE.parent.parent),), ""), 2_000, "interpreters", "yes; free at once"),
    Limiter(
        Peer("pyrate_limiter", ("pyrate-limiter>=4.5,<5", "filelock"), ""), 50, "interpreters (SQLite, file lock)", "no"
    ),
    Limiter(Peer("aiolimiter", ("aiolimiter>=1.2,<2",), ""), 2_000, "tasks of one event loop", "no"),
)


def main() -> int:
    """Measure all limiters, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.limits", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    lines = ["| limiter | a call and 3,000 tokens | shared by | slots |", "|---|---|---|---|"]
    for limiter in LIMITERS:
        python = environment(limiter.peer)
        seconds = median(_measured(python, limiter) for _ in range(rounds))
        name = f"{limiter.peer.name} {version(python, limiter.peer)}"
        lines.append(f"| {name} | {seconds / limiter.takes * 1e6:,.0f} µs | {limiter.shared_by} | {limiter.slots} |")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _measured(python: Path, limiter: Limiter) -> float:
    script = HERE / f"limiting_with_{limiter.peer.name}.py"
    with empty_folder() as folder:
        command = [str(python), str(script), str(limiter.takes), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, env=OWN_PLACE)
    return float(done.stdout)


if __name__ == "__main__":
    raise SystemExit(main())
