"""Output and checks of the examples, and the folder that they run in."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from tablevault import delete_vault

_CHAPTER_NUMBERS = itertools.count(1)

# Output that is not a terminal, such as a log, has no width.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


class CheckFailed(AssertionError):
    """A claim of an example does not hold."""


def chapter(title: str, text: str) -> None:
    """Print the heading and introduction of a chapter."""
    console.print()
    console.rule(f"[bold]{next(_CHAPTER_NUMBERS)} · {title}", align="left")
    explain(text)


def explain(text: str) -> None:
    """Print an explanation."""
    console.print(Padding(" ".join(text.split()), (0, 0, 1, 0)))


def show_call(code: str) -> None:
    """Print the code of the next calls."""
    console.print(Syntax(code, "python", background_color="default", word_wrap=True))


def show_text(title: str, text: str) -> None:
    """Print a text unchanged, below a title."""
    console.print(f"[yellow]{title}")
    console.print(Padding(Text(text.rstrip()), (0, 0, 1, 2)))


def check(claim: str, holds: bool) -> None:
    """Check a claim; raise `CheckFailed` if it does not hold."""
    if not holds:
        raise CheckFailed(claim)
    console.print(f"[green]✓[/] {claim}")


def show_frame(frame: pd.DataFrame, columns: Sequence[str], rows: int) -> None:
    """Print some columns of evenly spaced rows of a frame."""
    table = Table(caption=f"{min(rows, len(frame))} of {len(frame)} rows", row_styles=["", "dim"])
    for column in columns:
        numeric = pd.api.types.is_numeric_dtype(frame[column])
        table.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    chosen = frame.iloc[:: max(1, len(frame) // rows)].head(rows)
    for values in chosen[list(columns)].itertuples(index=False):
        table.add_row(*("–" if pd.isna(value) else str(value) for value in values))
    console.print(table)


def run_example(title: str, run: Callable[[Path], None]) -> None:
    """Run an example in the folder from the command line, or in a temporary one.

    Parameters
    ----------
    title
        Description for `--help`.
    run
        The example; it takes an existing, empty folder.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("folder", nargs="?", type=Path, help="an empty or new folder that keeps the vault")
    folder: Path | None = parser.parse_args().folder
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="tablevault_example_") as temporary:
            try:
                _run_in(Path(temporary), run)
            finally:
                # Instances and their folders are read-only.
                for marker in Path(temporary).glob("*/.tablevault"):
                    delete_vault(str(marker.parent))
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        parser.error(f"{folder} is not an empty folder. Name a new one.")
    folder.mkdir(parents=True, exist_ok=True)
    _run_in(folder.resolve(), run)
    console.print(f"The vault is in {folder}. You can open its files with any tool.")


def _run_in(folder: Path, run: Callable[[Path], None]) -> None:
    started_at = time.monotonic()
    run(folder)
    console.print(f"\n[bold green]All checks passed[/] ({time.monotonic() - started_at:.1f} s).")
