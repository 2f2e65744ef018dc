"""`make torture`: faults at every point, for as long as is wanted, and the figures as one table.

`--point JSON` repeats a single experiment.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from faulted_operations import OPERATIONS
from sweeping import ERRORS, KILL, Figures, Interpreter, Point, Sweep, interpreter


def main() -> int:
    """Run experiments until the time is over; exit with 1 if an invariant was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--point", type=json.loads)
    arguments = parser.parse_args()
    with interpreter() as running:
        if arguments.point is not None:
            point = Point(**{**arguments.point, "recoveries": tuple(arguments.point["recoveries"])})
            problem = Sweep(running, point.operation, point.process_id).try_point(point)
            sys.stdout.write(f"{problem or 'all invariants hold'}\n")
            return 1 if problem else 0
        figures = torture(running, random.Random(arguments.seed), arguments.seconds)
    for kind, found in figures.items():
        sys.stdout.write(f"{kind:10} {found.points:7,} points {len(found.violations):4} violations\n")
    return 1 if any(found.violations for found in figures.values()) else 0


def torture(running: Interpreter, choice: random.Random, seconds: float) -> dict[str, Figures]:
    """Try points in a random order until the time is over, or all of them have been tried."""
    figures: dict[str, Figures] = defaultdict(Figures)
    sweeps = [Sweep(running, name, process_id) for name in OPERATIONS for process_id in ("", "mine")]
    points = [(sweep, kind, point) for sweep in sweeps for kind, point in all_points(sweep, choice)]
    choice.shuffle(points)
    end = time.monotonic() + seconds
    for number, (sweep, kind, point) in enumerate(points):
        if time.monotonic() > end:
            break
        problem = sweep.try_point(point)
        figures[kind].points += 1
        if problem:
            figures[kind].violations.append(problem)
            sys.stderr.write(f"\n{point.command()}\n{problem}\n")
        if number % 100 == 0:
            sys.stderr.write(f"\r{number:,} of {len(points):,} points")
    for sweep in sweeps:
        sweep.close()
    sys.stderr.write("\n")
    return figures


def all_points(sweep: Sweep, choice: random.Random) -> Iterator[tuple[str, Point]]:
    """Yield every point of one operation, each with the kind of its experiment."""
    for n in range(1, sweep.count + 1):
        yield "kill", Point(sweep.operation, n, KILL, process_id=sweep.process_id)
        recoveries = tuple(choice.randint(1, 40) for _ in range(3))
        yield "recovery", Point(sweep.operation, n, KILL, process_id=sweep.process_id, recoveries=recoveries)
        for error in ERRORS.values():
            for for_ever in (False, True):
                yield "error", Point(sweep.operation, n, error, for_ever, sweep.process_id)


if __name__ == "__main__":
    raise SystemExit(main())
