"""The table of results, on standard output and in the page."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from benchmarks.measuring import Result

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
HEAD = ("Work", "What", "TableVault", "Compared with", "Ratio", "Target", "Spread")


def table(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table."""
    lines = [HEAD, tuple("---" for _ in HEAD), *map(_cells, results)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_into(name: str, text: str) -> None:
    """Replace what stands between the marks of this name in the page."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, after = page.split(begin)[0], page.split(end)[1]
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def circumstances(command: str, rounds: int) -> str:
    """Return when, where and with what was measured."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("pandas", "pyarrow", "SQLAlchemy"))
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} by `{command}`, {rounds} rounds (the median counts; the spread is "
        f"half the distance between the fastest and the slowest): {_processor()}, {os.cpu_count()} cores, "
        f"{platform.system()}, Python {platform.python_version()}, {versions}.\n"
    )


def _cells(result: Result) -> tuple[str, ...]:
    ratio = f"{result.value:.0f}" if result.unit == " rows" else f"{result.value:.2f}"
    reached = "" if not result.target else " ✓" if result.is_reached else " ✗"
    return (
        result.work,
        result.what,
        result.measured,
        result.baseline,
        f"{ratio}{result.unit if result.unit != '×' else ' ×'}",
        f"{result.target}{reached}",
        f"± {result.spread:.0%}" if result.spread else "",
    )


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
