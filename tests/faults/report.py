"""The table of figures, on standard output and in `docs/reliability.md`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from experiment import Experiment, Figures

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- torture: begin -->\n", "<!-- torture: end -->\n"
HEAD = ("Experiment", "What", "Target", "Tried", "Violations", "Measured", "Date", "Seed", "Took")


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
        reached = "✓" if figures.tried >= experiment.target and not figures.violations else "✗"
        return (
            experiment.code,
            experiment.title,
            f"≥ {experiment.target:,} {experiment.unit} {reached}",
            f"{figures.tried:,}",
            f"{len(figures.violations):,}",
            "; ".join(f"{name}: {value}" for name, value in figures.measures.items()),
            f"{datetime.now(UTC):%Y-%m-%d}",
            str(self.seed),
            f"{int(self.seconds // 60)} min {int(self.seconds % 60)} s",
        )


def table(rows: list[tuple[str, ...]]) -> str:
    """Return rows as a Markdown table."""
    lines = [HEAD, tuple("---" for _ in HEAD), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_into_page(rows: list[tuple[str, ...]], codes: list[str], page: Path = PAGE) -> None:
    """Put rows in the place of those of the same experiments, and keep all others; `codes` gives their order."""
    text = page.read_text(encoding="utf-8")
    before, between, after = text.split(BEGIN)[0], text.split(BEGIN)[1].split(END)[0], text.split(END)[1]
    found = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in between.split("\n")[3:] if line]
    known = {row[0]: row for row in [*found, *rows] if row[0] in codes}
    content = table([known[code] for code in codes if code in known])
    page.write_text(f"{before}{BEGIN}\n{content}\n{END}{after}", encoding="utf-8")
