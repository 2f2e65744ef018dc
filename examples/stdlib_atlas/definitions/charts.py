"""Draw small charts as SVG."""

import math
from collections.abc import Mapping
from html import escape

WIDTH = 240
ROW = 22


def draw_bars(title: str, counts: Mapping[str, int], colour: str) -> str:
    """Return an SVG with one bar per count, on a logarithmic scale."""
    bars = "\n".join(_bar(row, name, count, colour) for row, (name, count) in enumerate(counts.items(), start=1))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{ROW * (len(counts) + 1)}" '
        f'font-family="sans-serif" font-size="11">\n'
        f'<text x="4" y="15" font-weight="bold">{escape(title)}</text>\n{bars}\n</svg>\n'
    )


def _bar(row: int, name: str, count: int, colour: str) -> str:
    length = round(30 * math.log10(1 + count))
    return (
        f'<text x="4" y="{row * ROW + 15}">{escape(name)}</text>'
        f'<rect x="70" y="{row * ROW + 4}" width="{length}" height="14" fill="{escape(colour)}"/>'
        f'<text x="{74 + length}" y="{row * ROW + 15}">{count}</text>'
    )
