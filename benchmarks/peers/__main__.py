"""Make an environment per peer, run its script there, and show all results in one table.

Each script, run as `python with_PEER.py WORK ROWS FOLDER`, prints the seconds that the work took (W2 and W10: those of
writing and of reading), how often the function was called, and by how many megabytes its memory grew; or exits with
status 3 and prints why that work cannot be done with this peer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import report
from benchmarks.measuring import empty_folder

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent.parent / ".venv-peers"
NOT_POSSIBLE = 3
TIMEOUT = 600
Figures = tuple[float, ...]

OWN_PLACE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"DO_NOT_TRACK": "1"}
"""Environment variables that let no peer find the packages of another, or report that it is used."""


@dataclass(frozen=True)
class Work:
    """Figures of a script as one cell.

    There are two, the calls, and the growth of its memory.
    """

    rows: int
    cell: Callable[[int, Figures], str]
    cost: Callable[[Figures], float]
    """By which peers are compared: less is better."""

    script_name: str = ""
    """How a peer's script calls it, if not by the name of the work."""

    rounds: int = 0
    """How many times it is done, if not as often as the command says."""


def _per_row(rows: int, figures: Figures) -> str:
    return f"{figures[0] / rows * 1e6:,.1f} µs/row"


def _growth(_: int, figures: Figures) -> str:
    return f"{figures[1] * 1e3:,.1f} ms, {figures[1] / figures[0]:.2f} × the first"


def _megabytes(_: int, figures: Figures) -> str:
    return f"{figures[3]:,.0f} MB"


def _seconds(figures: Figures) -> float:
    return figures[0] + figures[1]


def _writing(figures: Figures) -> float:
    return figures[0]


def _reading(figures: Figures) -> float:
    return figures[1]


WORK = {
    "W1": Work(10_000, _per_row, _seconds),
    "W1r": Work(10_000, _per_row, _seconds),
    "W1g": Work(10_000, _per_row, _seconds),
    "W2": Work(100_000, lambda _, figures: f"{figures[0]:.2f} s / {figures[1]:.2f} s", _seconds),
    "W3": Work(10_000, lambda _, figures: f"{figures[0]:.3f} s, {figures[2]:,.0f} calls", _seconds),
    "W4": Work(2_000, lambda _, figures: f"{figures[2]:,.0f} rows again, {figures[0]:.2f} s", _seconds),
    "W5": Work(200, _growth, lambda figures: figures[1], rounds=1),
    "W6": Work(500, lambda _, figures: f"{figures[0]:.2f} s", _seconds),
    "W7": Work(
        0,
        lambda _, figures: f"{figures[1]:.0f} /s, {figures[1] / figures[0]:.2f} × one alone",
        lambda figures: 1 / figures[1],
    ),
    "W8, rows": Work(30_000, _megabytes, lambda figures: figures[3], script_name="W1", rounds=1),
    "W8, frame": Work(300_000, _megabytes, lambda figures: figures[3], script_name="W2", rounds=1),
    "W10": Work(100_000, _per_row, _writing),
    "W10, batches": Work(100_000, _per_row, _writing, script_name="W10b"),
    "W10, reading": Work(
        100_000, lambda rows, figures: f"{figures[1] / rows * 1e6:,.2f} µs/row", _reading, script_name="W10"
    ),
    "W11": Work(10_000, _per_row, _writing),
    "W11r": Work(10_000, lambda rows, figures: f"{_per_row(rows, figures)}, {figures[2]:,.0f} calls", _writing),
    "W12, texts": Work(100_000, _per_row, _writing, script_name="W12"),
    "W12, objects": Work(100_000, _per_row, _writing, script_name="W12j"),
}


@dataclass(frozen=True)
class Peer:
    """Something else that does such work."""

    name: str
    requirements: tuple[str, ...]
    durable: str
    """What is durable when, with the settings used."""

    module: str = ""
    """What its users import, if not its name."""

    package: str = ""
    """What its users install, if not its name."""

    fewer: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Rows of the works that would take it minutes, by the names that its script has for them."""

    def rows(self, script_name: str, most: int) -> int:
        """Return with how many rows it does some work."""
        return self.fewer.get(script_name, most)


MINUTES = dict.fromkeys(("W10", "W12", "W12j"), 10_000)
"""For a peer that takes about a millisecond for a row."""


PEERS = (
    Peer("tablevault", (str(HERE.parent.parent),), "every row, at most 50 ms after it is computed"),
    Peer(
        "tablevault_old",
        ("tablevault==0.1.1", "pandas<3"),
        "nothing: it never calls fsync",
        "tablevault.core",
        "tablevault",
    ),
    Peer("pixeltable", ("pixeltable",), "a table after the insert; PostgreSQL with its defaults (fsync on)"),
    Peer(
        "datachain",
        ("datachain",),
        "the result when the chain is saved; SQLite with its defaults",
        fewer=MINUTES | {"W10": 5_000},
    ),
    Peer(
        "dbos",
        ("dbos", "numpy"),
        "every step before the next begins; SQLite with its defaults",
        fewer=dict.fromkeys(MINUTES, 2_000),
    ),
    Peer("joblib", ("joblib", "pandas", "pyarrow"), "nothing: files are written, not synced", fewer=MINUTES),
    Peer("daft", ("daft", "pandas"), "nothing: a job writes files at its end, which are not synced"),
    Peer(
        "lance",
        ("pylance", "pandas"),
        "nothing: a commit at the end makes a version, which is not synced; with a checkpoint file (W4), each batch",
        package="pylance",
    ),
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
    pythons = {peer: environment(peer) for peer in chosen}
    found: dict[tuple[str, int], dict[Peer, Figures | str]] = {}
    """By the name of the work for scripts, and its rows; two lines of the table may show the same runs."""
    for name in work:
        key = (WORK[name].script_name or name, WORK[name].rows)
        if key not in found:
            found[key] = _alternately(pythons, *key, WORK[name].rounds or arguments.rounds)
    columns = [("", *(f"**{name}**" for name in work), "**W9**", "durable")]
    notes: list[str] = []
    ours: dict[str, float] = {}
    """What the first peer, which is this checkout, needs for each work."""
    for peer, python in pythons.items():
        cells = []
        for name in work:
            figures = found[WORK[name].script_name or name, WORK[name].rows][peer]
            if isinstance(figures, str):
                cells.append("–")
                notes.append(f"- **{peer.name}, {name}**: {figures}")
            else:
                cell, cost = _cell(peer, name, figures)
                cells.append(f"{cell} ({cost / ours.setdefault(name, cost):.3g} ×)")
        starting = _import_time(python, peer, max(arguments.rounds, 3))
        ratio = f" ({starting / ours.setdefault('W9', starting):.3g} ×)"
        columns.append((f"{peer.name} {version(python, peer)}", *cells, f"{starting:.2f} s{ratio}", peer.durable))
    lines = list(zip(*columns, strict=True))
    lines.insert(1, ("---",) * len(columns))
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n" + "\n".join(notes) + "\n"
    sys.stdout.write(text)
    if len(chosen) == len(PEERS) and len(work) == len(WORK):
        report.write_into("peers", f"{text}\n{report.circumstances('make bench-peers', arguments.rounds)}")
    return 0


def environment(peer: Peer) -> Path:
    """Return the interpreter of an environment that has the peer, made when it is missing."""
    folder = ENVIRONMENTS / peer.name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        sys.stderr.write(f"{peer.name}: making {folder}\n")
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *peer.requirements], check=True, env=OWN_PLACE)
        (folder / "complete").touch()
    return python


def _cell(peer: Peer, name: str, figures: Figures) -> tuple[str, float]:
    """Return a peer's cell for some work, and what it costs.

    Where the peer does the work with fewer rows, the cell says so, and its cost is taken to grow with the rows.
    """
    work = WORK[name]
    rows = peer.rows(work.script_name or name, work.rows)
    cell = work.cell(rows, figures)
    if rows == work.rows:
        return cell, work.cost(figures)
    return f"{cell}, {rows:,} rows", work.cost(figures) * work.rows / rows


def _alternately(pythons: Mapping[Peer, Path], script_name: str, rows: int, rounds: int) -> dict[Peer, Figures | str]:
    """Let the peers work in turn, several times.

    Returns the medians of each, or the reason why it has none.
    """
    samples: dict[Peer, list[Figures]] = {peer: [] for peer in pythons}
    reasons: dict[Peer, str] = {}
    for _ in range(rounds):
        for peer, python in pythons.items():
            if peer in reasons:
                continue
            figures = _figures(python, peer, script_name, peer.rows(script_name, rows))
            sys.stderr.write(f"{script_name} {peer.name}: {figures}\n")
            if isinstance(figures, str):
                reasons[peer] = figures
            else:
                samples[peer].append(figures)
    return {
        peer: reasons.get(peer) or tuple(median(column) for column in zip(*samples[peer], strict=True))
        for peer in pythons
    }


def _figures(python: Path, peer: Peer, script_name: str, rows: int) -> Figures | str:
    """Return what a peer's script prints, or why it prints nothing."""
    script = HERE / f"with_{peer.name}.py"
    os.sync()  # What another peer has left to be written does not slow this one down.
    with empty_folder() as folder:
        command = [str(python), str(script), script_name, str(rows), str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=TIMEOUT, env=OWN_PLACE)
        except subprocess.TimeoutExpired:
            return f"not over after {TIMEOUT} s."
    if done.returncode == NOT_POSSIBLE:
        return done.stdout.strip()
    if done.returncode:
        message = (done.stderr.strip().splitlines() or ["no message"])[-1].replace(str(folder), "…")
        return f"failed: {message[:200]}"
    return tuple(map(float, done.stdout.split()[-4:]))


def _import_time(python: Path, peer: Peer, rounds: int) -> float:
    """Return the seconds of a fresh interpreter that imports the peer (W9)."""
    command = [str(python), "-c", f"import {peer.module or peer.name}"]
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, env=OWN_PLACE, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])  # The first one also compiles.


def version(python: Path, peer: Peer) -> str:
    """Return the version of a peer in its environment."""
    package = peer.package or peer.name
    command = [str(python), "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=OWN_PLACE).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
