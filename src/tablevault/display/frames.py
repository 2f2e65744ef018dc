"""Rendering of frames as text and HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tablevault.display.html import Cell, Embedded, Muted, Number, Sheet
from tablevault.texts.plain import shown

_WIDEST = 60
"""Maximum width of a text column, in characters."""


def frame_text(title: str, note: str, headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return rows as aligned text, with numbers right-aligned."""
    cells = [[_as_text(cell) for cell in row] for row in rows]
    widths = [max([len(header), *(len(row[place]) for row in cells)]) for place, header in enumerate(headers)]
    numbers = [any(isinstance(row[place], Number) for row in rows) for place in range(len(headers))]

    def line(texts: Sequence[str]) -> str:
        aligned = (
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(texts, widths, numbers, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join([title, *_lines(note), line(headers), *map(line, cells)])


def frame_html(title: str, note: str, headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return rows as self-contained HTML; images and audio are embedded."""
    sheet = Sheet()
    sheet.heading("table", title)
    if note:
        sheet.note(note)
    sheet.table(headers, rows)
    return sheet.html


def _as_text(cell: Cell) -> str:
    if isinstance(cell, Muted | Number):
        text = cell.text
    elif isinstance(cell, Embedded):
        text = cell.name
    else:
        text = str(cell)
    text = shown(text).replace("\n", " ")
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _lines(note: str) -> Iterator[str]:
    if note:
        yield note
