"""All benchmarks and their baselines in one table, as in `docs/performance.md`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from benchmarks import (
    agents,
    answers,
    artifacts,
    clusters,
    frames,
    freshness,
    growth,
    interpreters,
    looking,
    page,
    policies,
    processes,
    querying,
    report,
    rows,
    services,
    vectors,
)
from benchmarks.measuring import Result

Work = Callable[[int | None, int], list[Result]]
"""Takes a number of rows (`None`: the usual one) and of rounds."""

WORK: dict[str, Work] = {
    "W1": lambda count, rounds: rows.per_row((count,) if count else (1_000, 10_000, 100_000, 1_000_000), rounds),
    "W1r": lambda count, rounds: rows.look_up(count or 1_000_000, rounds),
    "W1g": lambda count, rounds: rows.generator(count or 1_000_000, rounds),
    "W2": lambda count, rounds: frames.whole_frames(count or 1_000_000, rounds),
    "W3": lambda count, rounds: rows.additions(count or 10_000, rounds),
    "W4": lambda _, rounds: interpreters.crash(rounds),
    "W5": lambda count, _: growth.latencies(count or 1_000),
    "W6": lambda count, rounds: rows.threads(rounds, count or 500),
    "W7": lambda _count, _rounds: interpreters.side_by_side(),
    "W8": lambda count, _: frames.memory(count or 1_000_000),
    "W9": lambda _, rounds: interpreters.start_up(rounds),
    "W10": lambda count, rounds: vectors.vectors(count or 100_000, rounds),
    "W11": lambda count, rounds: [
        *artifacts.new_files(count or 10_000, rounds),
        *artifacts.reused_files(count or 10_000, rounds),
    ],
    "W12": lambda count, rounds: answers.answers(count or 100_000, rounds),
    "P1": lambda count, rounds: policies.nothing_fails(count or 1_000_000, rounds),
    "P2": lambda count, rounds: policies.waiting(count or 10_000, rounds),
    "P3": lambda count, rounds: processes.computing(rounds, count),
    "C1": lambda count, rounds: clusters.computing(rounds, count),
    "P4": lambda count, rounds: policies.batches(count or 1_000_000, rounds),
    "P5": lambda count, rounds: policies.failing(count or 100_000, rounds),
    "P7": lambda count, rounds: rows.failed_again(count or 1_000_000, rounds),
    "P6": lambda count, rounds: [*services.taken(count or 5_000, rounds), *services.shared(count or 2_400)],
    "S1": lambda count, rounds: querying.statements(count or 10_000_000, rounds),  # And S2, of the same file.
    "S3": lambda count, rounds: querying.lazy_frames(count or 10_000_000, rounds),
    "S4": lambda count, rounds: looking.differences(count or 1_000_000, rounds),
    "S5": lambda count, rounds: page.large_vaults(count or 10_000, 1_000_000, rounds),
    "S6": lambda _, rounds: page.first_paint(rounds),
    "S7": lambda count, rounds: page.followed(count or 100_000, rounds),
    "S8": lambda count, rounds: looking.tags(1_000, count or 10_000, rounds),
    "S9": lambda count, rounds: looking.collections(count or 10_000, rounds),
    "S10": lambda count, rounds: [
        *freshness.fresh_tables(count or 100, rounds),
        *freshness.unchanged_file(count or 20, rounds),
    ],
    "S11": lambda _count, _rounds: agents.lists_of_tools(),
    "S12": lambda count, rounds: looking.datasets(count or 60, rounds),
}


def main() -> int:
    """Measure, print the table, and write it into the page if it is complete."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(WORK), help="measure only this work")
    parser.add_argument("--rows", type=int, help="instead of each work's usual number of rows, tables or instances")
    parser.add_argument("--rounds", type=int, default=5, help="rounds whose median counts (5)")
    arguments = parser.parse_args()
    chosen = arguments.only or list(WORK)
    results: list[Result] = []
    for name in chosen:
        start = time.perf_counter()
        results += WORK[name](arguments.rows, arguments.rounds)
        sys.stderr.write(f"{name}: {time.perf_counter() - start:.0f} s\n")
    sys.stdout.write(report.table(results))
    if len(chosen) == len(WORK) and arguments.rows is None:
        circumstances = report.circumstances("make bench", arguments.rounds)
        report.write_into("product", f"{report.table(results)}\n{circumstances}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
