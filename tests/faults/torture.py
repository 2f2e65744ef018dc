"""`make torture`, which injects faults many thousand times, and prints one table.

Without `--seconds` every experiment goes on until it has reached its target; with it, the time is shared out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import report
from bit_rot import BitRot
from concurrent_history import ConcurrentHistory
from experiment import Budget, CannotRunHereError, Experiment, Figures, command
from feeding import ForeignValues
from fuzzing import FUZZING
from model_checking import ModelCheck
from power_loss import PowerLoss
from racing import Racing
from resources import Resources
from resuming import Resuming
from sweeps import ErrorSweep, FaultyRecovery, KillSweep

EXPERIMENTS: tuple[Experiment, ...] = (
    KillSweep(),
    ErrorSweep(),
    PowerLoss(),
    FaultyRecovery(),
    ModelCheck(),
    ConcurrentHistory(),
    Resuming(),
    Racing(),
    *FUZZING,
    BitRot(),
    ForeignValues(),
    Resources(),
)
"""All of them, in the order of the table."""

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> int:
    """Run experiments; exit with 1 if an invariant was violated."""
    # A terminated run also ends the interpreters that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = _parser().parse_args()
    if arguments.repeat is not None:
        code, case = arguments.repeat
        problem = next(each for each in EXPERIMENTS if each.code == code).repeat(json.loads(case))
        sys.stdout.write(f"{problem or 'all invariants hold'}\n")
        return 1 if problem else 0
    results = list(_run(_chosen(arguments.only), arguments))
    rows = [result.cells() for result in results]
    sys.stdout.write(report.table(rows))
    report.write_into_page(rows, [each.code for each in EXPERIMENTS])
    return 1 if any(result.figures.violations for result in results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=math.inf, help="at most this long, all together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="codes of experiments, such as 'R1 R9'; R9 means R9a and R9b, too")
    parser.add_argument("--workers", type=int, default=CORES, help="interpreters side by side (as many as cores)")
    parser.add_argument("--tries", type=int, help="how many of each, instead of its target")
    parser.add_argument("--repeat", nargs=2, metavar=("CODE", "CASE"), help="try one case again")
    return parser


def _chosen(only: str) -> list[Experiment]:
    wanted = only.split()
    chosen = [each for each in EXPERIMENTS if not wanted or {each.code, each.code.rstrip("abcdefgh")} & set(wanted)]
    if not chosen:
        raise SystemExit(f"There is no experiment '{only}'; there are {' '.join(each.code for each in EXPERIMENTS)}.")
    return chosen


def _run(experiments: Sequence[Experiment], arguments: argparse.Namespace) -> list[report.Result]:
    end = time.monotonic() + arguments.seconds
    results = []
    for number, experiment in enumerate(experiments):
        # What one leaves over, those after it get.
        share = experiment.minutes / sum(each.minutes for each in experiments[number:])
        seconds = max(0.0, end - time.monotonic()) * share
        budget = Budget(seconds, arguments.tries or experiment.target, arguments.seed, arguments.workers)
        begun = time.monotonic()
        try:
            figures = experiment.run(budget, _Progress(experiment))
        except CannotRunHereError as error:
            sys.stderr.write(f"{experiment.code} is left out: {error}\n")
            continue
        sys.stderr.write("\n")
        for violation in figures.violations:
            sys.stderr.write(f"{command(experiment.code, violation.case)}\n    {violation.problem}\n")
        results.append(report.Result(experiment, figures, arguments.seed, time.monotonic() - begun))
    return results


class _Progress:
    """Says how far an experiment is, and tells of each violation when it is found."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._begun = self._said = time.monotonic()
        self._told = 0

    def __call__(self, figures: Figures) -> None:
        now = time.monotonic()
        for violation in figures.violations[self._told :]:
            sys.stderr.write(f"\n{command(self._experiment.code, violation.case)}\n    {violation.problem}\n")
        self._told = len(figures.violations)
        often, start = (1, "\r") if sys.stderr.isatty() else (30, "\n")
        if now - self._said > often:
            self._said = now
            sys.stderr.write(
                f"{start}{self._experiment.code}: {figures.tried:,} of {self._experiment.target:,} "
                f"{self._experiment.unit}, {len(figures.violations)} violations, {int(now - self._begun)} s"
            )
            sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
