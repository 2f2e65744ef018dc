"""The table of figures, on standard output and in `docs/reliability.md`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from experiment import Experiment, Figures

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- torture: begin -->\n", "<!-- torture: end -->\n"
HEAD = ("Experiment", "What", "Target", "Tried", "Violations", "Measured", "Date", "Commit", "Seed", "Took")


REACHED = "✓"


@dataclass(frozen=True)
class Result:
    """One row."""

    experiment: Experiment
    figures: Figures
    seed: int
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """Return the row as texts."""
        experiment, figures = self.experiment, self.figures
        reached = REACHED if figures.tried >= experiment.target and not figures.violations else "✗"
        return (
            experiment.code,
            experiment.title,
            f"≥ {experiment.target:,} {experiment.unit} {reached}",
            f"{figures.tried:,}",
            f"{len(figures.violations):,}",
            "; ".join(f"{name}: {value}" for name, value in figures.measures.items()),
            f"{datetime.now(UTC):%Y-%m-%d}",
            commit(),
            str(self.seed),
            f"{int(self.seconds // 60)} min {int(self.seconds % 60)} s",
        )


def commit() -> str:
    """Return the commit of the source, with a `+` for uncommitted changes."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=PAGE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def table(rows: list[tuple[str, ...]]) -> str:
    """Return rows as a Markdown table."""
    lines = [HEAD, tuple("---" for _ in HEAD), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_into_page(rows: list[tuple[str, ...]], codes: list[str], page: Path = PAGE) -> None:
    """Replace the rows of the same experiments, and keep all others.

    `codes` gives their order.

    A sample without violations does not replace a run that reached its target.
    """
    text = page.read_text(encoding="utf-8")
    before, between, after = text.split(BEGIN)[0], text.split(BEGIN)[1].split(END)[0], text.split(END)[1]
    found = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in between.split("\n")[3:] if line]
    known = {row[0]: row for row in found if row[0] in codes}
    for row in rows:
        is_sample = REACHED not in row[2] and row[4] == "0"
        if not (is_sample and row[0] in known and REACHED in known[row[0]][2]):
            known[row[0]] = row
    content = table([known[code] for code in codes if code in known])
    page.write_text(f"{before}{BEGIN}\n{content}\n{END}{after}", encoding="utf-8")
