"""How the tour speaks: chapters, the calls it makes, the promises it checks, and frames."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

_CHAPTER_NUMBERS = itertools.count(1)

# Where the output is not a terminal, in a log say, it has no width of its own.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


class BrokenPromise(AssertionError):
    """Something that the tour said does not hold."""


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
    """Check a promise: the tour ends here with `BrokenPromise` if it was not kept."""
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
