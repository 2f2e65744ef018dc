"""How the examples speak (chapters, calls they make, promises they check, frames), and where they are told."""

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

# Where the output is not a terminal, in a log say, it has no width of its own.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


class BrokenPromise(AssertionError):
    """Something that an example said does not hold."""


def chapter(title: str, text: str) -> None:
    """Begin a chapter."""
    console.print()
    console.rule(f"[bold]{next(_CHAPTER_NUMBERS)} · {title}", align="left")
    say(text)


def say(text: str) -> None:
    """Tell the reader something."""
    console.print(Padding(" ".join(text.split()), (0, 0, 1, 0)))


def call(code: str) -> None:
    """Show a call that is made now."""
    console.print(Syntax(code, "python", background_color="default", word_wrap=True))


def quote(title: str, text: str) -> None:
    """Show what somebody was told, word for word."""
    console.print(f"[yellow]{title}")
    console.print(Padding(Text(text.rstrip()), (0, 0, 1, 2)))


def promise(text: str, kept: bool) -> None:
    """Check a promise: the story ends here with `BrokenPromise` if it was not kept."""
    if not kept:
        raise BrokenPromise(text)
    console.print(f"[green]✓[/] {text}")


def show_frame(frame: pd.DataFrame, columns: Sequence[str], rows: int) -> None:
    """Show some columns of evenly spaced rows of a frame."""
    table = Table(caption=f"{min(rows, len(frame))} of {len(frame)} rows", row_styles=["", "dim"])
    for column in columns:
        numeric = pd.api.types.is_numeric_dtype(frame[column])
        table.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    chosen = frame.iloc[:: max(1, len(frame) // rows)].head(rows)
    for values in chosen[list(columns)].itertuples(index=False):
        table.add_row(*("–" if pd.isna(value) else str(value) for value in values))
    console.print(table)


def tell(title: str, story: Callable[[Path], None]) -> None:
    """Read the command line and tell a story: in the folder named there, or in a temporary one that is removed.

    Parameters
    ----------
    title
        What the example is, for `--help`.
    story
        Takes the folder to work in, which is there and empty.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("folder", nargs="?", type=Path, help="an empty or new folder that keeps the vault")
    folder: Path | None = parser.parse_args().folder
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="tablevault_example_") as temporary:
            try:
                _tell_in(Path(temporary), story)
            finally:
                # Instances are read-only, and their folders with them.
                for marker in Path(temporary).glob("*/.tablevault"):
                    delete_vault(str(marker.parent))
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        parser.error(f"{folder} is not an empty folder: name a new one")
    folder.mkdir(parents=True, exist_ok=True)
    _tell_in(folder.resolve(), story)
    console.print(f"The vault is in {folder}; its files can be looked at with any tool.")


def _tell_in(folder: Path, story: Callable[[Path], None]) -> None:
    started_at = time.monotonic()
    story(folder)
    console.print(f"\n[bold green]Every promise was kept[/] ({time.monotonic() - started_at:.1f} s).")
