"""Make an environment per peer, run its script there, and show all results in one table.

Each script, run as `python with_PEER.py WORK ROWS FOLDER`, prints the seconds that the work took (W2: two figures) and
how often the function was called; or exits with status 3 and prints why that work cannot be done with this peer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import report
from benchmarks.measuring import empty_folder

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent.parent / ".venv-peers"
NOT_POSSIBLE = 3
TIMEOUT = 600

OWN_PLACE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
"""Environment variables that let no peer find the packages of another."""

WORK = {"W1": 10_000, "W2": 100_000, "W3": 10_000, "W4": 2_000, "W6": 500}
"""What is measured, and with how many rows."""


@dataclass(frozen=True)
class Peer:
    """Something else that does such work."""

    name: str
    requirements: tuple[str, ...]
    durable: str
    """What is durable when, with the settings used."""


PEERS = (
    Peer("tablevault", (str(HERE.parent.parent),), "every row, at most 50 ms after it is there"),
    Peer("tablevault_old", ("tablevault==0.1.1", "pandas<3"), "nothing: it never calls fsync"),
    Peer("pixeltable", ("pixeltable",), "a table when the insert is over; PostgreSQL as it comes (fsync on)"),
    Peer("datachain", ("datachain",), "the result when the chain is saved; SQLite as it comes"),
    Peer("dbos", ("dbos",), "every step before the next begins; SQLite as it comes"),
    Peer("joblib", ("joblib", "pandas", "pyarrow"), "nothing: files are written, not synced"),
)


def main() -> int:
    """Measure all peers, print the table, and write it into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--only", action="append", choices=[peer.name for peer in PEERS])
    parser.add_argument("--work", action="append", choices=list(WORK))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    chosen = [peer for peer in PEERS if not arguments.only or peer.name in arguments.only]
    work = arguments.work or list(WORK)
    lines = [("Peer", *work, "Durable"), ("---",) * (len(work) + 2)]
    notes: list[str] = []
    ours: dict[str, float] = {}
    """The seconds of the first peer, which is this checkout."""
    for peer in chosen:
        python = _environment(peer)
        cells = []
        for name in work:
            cell, seconds, note = _measured(python, peer, name, arguments.rounds)
            ratio = f" ({seconds / ours.setdefault(name, seconds):.3g} ×)" if seconds else ""
            cells.append(cell + ratio)
            notes += [f"- **{peer.name}, {name}**: {note}"] if note else []
            sys.stderr.write(f"{peer.name} {name}: {cell}\n")
        lines.append((f"{peer.name} {_version(python, peer)}", *cells, peer.durable))
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n" + "\n".join(notes) + "\n"
    sys.stdout.write(text)
    if len(chosen) == len(PEERS) and len(work) == len(WORK):
        report.write_into("peers", f"{text}\n{report.circumstances('make bench-peers', arguments.rounds)}")
    return 0


def _environment(peer: Peer) -> Path:
    """Return the interpreter of an environment that has the peer, made when it is missing."""
    folder = ENVIRONMENTS / peer.name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        sys.stderr.write(f"{peer.name}: making {folder}\n")
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *peer.requirements], check=True, env=OWN_PLACE)
        (folder / "complete").touch()
    return python


def _measured(python: Path, peer: Peer, work: str, rounds: int) -> tuple[str, float, str]:
    """Return a peer's cell for some work, its seconds, and what is to be said about it."""
    figures: list[tuple[float, ...]] = []
    for _ in range(rounds):
        with empty_folder() as folder:
            command = [str(python), str(HERE / f"with_{peer.name}.py"), work, str(WORK[work]), str(folder)]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, cwd=folder, timeout=TIMEOUT, env=OWN_PLACE
                )
            except subprocess.TimeoutExpired:
                return "–", 0.0, f"not over after {TIMEOUT} s."
        if done.returncode == NOT_POSSIBLE:
            return "–", 0.0, done.stdout.strip()
        if done.returncode:
            return "–", 0.0, f"failed: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]}"
        figures.append(tuple(map(float, done.stdout.split()[-3:])))
    first, second, calls = (median(column) for column in zip(*figures, strict=True))
    return _cell(work, first, second, calls), first + second, ""


def _cell(work: str, first: float, second: float, calls: float) -> str:
    if work == "W1":
        return f"{first / WORK[work] * 1e6:,.1f} µs/row"
    if work == "W2":
        return f"{first:.2f} s / {second:.2f} s"
    if work == "W4":
        return f"{calls:,.0f} rows again, {first:.2f} s"
    if work == "W3":
        return f"{first:.3f} s, {calls:,.0f} calls"
    return f"{first:.2f} s"


def _version(python: Path, peer: Peer) -> str:
    package = "tablevault" if peer.name.startswith("tablevault") else peer.name
    command = [str(python), "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=OWN_PLACE).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
