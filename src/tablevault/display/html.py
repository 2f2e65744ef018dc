"""Escaped HTML without scripts, for notebooks with light and dark themes.

Some frontends strip style sheets, and all add their own. Therefore every element has inline styles, and none sets a
text colour or background that clashes with a theme.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tablevault.texts.plain import shown
from tablevault.values.outcomes import Remedy

MAXIMUM_ROWS = 100
"""Maximum number of rows shown in a table; a note gives the number of omitted rows."""

_COLOURS = {
    "running": "#2f80ed",
    "committing": "#2f80ed",
    "paused": "#c77700",
    "succeeded": "#2a9d55",
    "ok": "#2a9d55",
    "stopped": "#808080",
    "reverted": "#d64545",
    "fresh": "#2a9d55",
    "external": "#2a9d55",
    "stale": "#c77700",
    "pending": "#c77700",
    "never": "#c77700",
    "execute": "#c77700",
    "wrong": "#d64545",
}
"""Colours of the dots before states, with equal contrast on white and on black."""

_RULE = "1px solid rgba(127,127,127,.3)"
_MONOSPACE = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_SHEET = (
    "font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:13px;line-height:1.5;"
    "color:inherit;background:transparent;text-align:left;max-width:64em;padding:4px 0;"
    "overflow-wrap:anywhere;overflow-x:auto"
)
_HEADING = "font-size:15px;font-weight:600;margin:0 0 2px;padding:0;color:inherit"
_MUTED = "opacity:.72"
_NOTE = f"margin:0 0 6px;{_MUTED}"
_TABLE = (
    "border-collapse:collapse;border:0;margin:6px 0 8px;font-size:13px;table-layout:auto;color:inherit;"
    "background:transparent"
)
_ROW = "background:transparent;border:0"
_CELL = (
    "text-align:left;vertical-align:top;padding:3px 18px 3px 0;white-space:normal;color:inherit;max-width:34em;"
    # Words would break in narrower columns.
    f"min-width:4em;overflow-wrap:anywhere;border:0;border-bottom:{_RULE};background:transparent;font-weight:400"
)
_NUMBER = f"{_CELL};text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap"
_HEAD = f"{_CELL};font-size:12px;white-space:nowrap"
_CODE = (
    f"display:block;font-family:{_MONOSPACE};font-size:12px;line-height:1.45;white-space:pre-wrap;color:inherit;"
    "background:rgba(127,127,127,.1);border:0;border-radius:4px;padding:3px 8px;margin:2px 0;overflow-wrap:anywhere"
)
_COPIED = f"{_CODE};user-select:all"
_CARD = "margin:8px 0;padding:2px 0 2px 12px;border-left:3px solid"
_LIST = f"list-style:none;margin:0;padding:0 0 0 14px;border-left:{_RULE}"
_ITEM = "margin:3px 0;padding:0"


@dataclass(frozen=True)
class State:
    """A state, shown with a coloured dot."""

    name: str
    colour_of: str | None = None
    """The state whose colour is used; defaults to `name`."""

    @property
    def colour(self) -> str:
        """The colour of the dot."""
        return _COLOURS.get(self.colour_of or self.name, "#808080")


@dataclass(frozen=True)
class Count:
    """A number; `None` if unknown."""

    value: int | None


@dataclass(frozen=True)
class Branch:
    """A node of a tree."""

    name: str
    text: str
    branches: tuple[Branch, ...] = ()

    @property
    def label(self) -> str:
        """The node as plain text, without its children."""
        return f"{self.name}: {self.text}" if self.text else self.name


@dataclass(frozen=True)
class Number:
    """A right-aligned number as text."""

    text: str


@dataclass(frozen=True)
class Muted:
    """A remark in place of a value."""

    text: str


@dataclass(frozen=True)
class Embedded:
    """An embedded file."""

    kind: str
    """`picture` or `sound`."""
    name: str
    uri: str
    """A `data:` URI."""


Cell = str | State | Count | Number | Muted | Embedded | Sequence[str]


class Sheet:
    """HTML of one record, built from top to bottom."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    @property
    def html(self) -> str:
        """The whole sheet."""
        return f'<div style="{_SHEET}">{"".join(self._parts)}</div>'

    def heading(self, kind: str, name: str, state: State | None = None) -> None:
        """Add the kind, name and state of the record."""
        after = f' <span style="font-weight:400;font-size:13px;padding-left:8px">{_cell(state)}</span>' if state else ""
        before = f'<span style="font-weight:400;{_MUTED}">{_escaped(kind)}</span> ' if kind else ""
        self._parts.append(f'<div style="{_HEADING}">{before}{_escaped(name)}{after}</div>')

    def note(self, text: str) -> None:
        """Add a muted line."""
        self._parts.append(f'<div style="{_NOTE}">{_escaped(text)}</div>')

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Add a table; columns of numbers are right-aligned."""
        shown = rows[:MAXIMUM_ROWS]
        numbers = [any(isinstance(row[place], Count | Number) for row in shown) for place in range(len(headers))]
        head = "".join(
            f'<th style="{_HEAD}{";text-align:right" if number else ""}"><span style="{_MUTED}">'
            f"{_escaped(text)}</span></th>"
            for text, number in zip(headers, numbers, strict=True)
        )
        body = "".join(f'<tr style="{_ROW}">{"".join(map(_table_cell, row))}</tr>' for row in shown)
        thead = f'<thead style="border:0"><tr style="{_ROW}">{head}</tr></thead>' if headers else ""
        self._parts.append(f'<table style="{_TABLE}">{thead}<tbody>{body}</tbody></table>')
        if len(rows) > MAXIMUM_ROWS:
            self.note(f"… and {len(rows) - MAXIMUM_ROWS:,} more")

    def facts(self, facts: Iterable[tuple[str, Cell]]) -> None:
        """Add a table of names and values."""
        body = "".join(
            f'<tr style="{_ROW}"><th style="{_CELL};white-space:nowrap"><span style="{_MUTED}">{_escaped(name)}'
            f"</span></th>{_table_cell(value)}</tr>"
            for name, value in facts
        )
        self._parts.append(f'<table style="{_TABLE}"><tbody>{body}</tbody></table>')

    def remedies(self, remedies: Iterable[Remedy]) -> None:
        """Add calls and commands, each in its own copyable block."""
        for place, remedy in enumerate(remedies):
            name = f"{'or ' if place else ''}{remedy.action} it with"
            codes = "".join(
                f'<code style="{_COPIED}">{_escaped(text)}</code>' for text in (remedy.python, remedy.command)
            )
            self._parts.append(
                f'<div style="margin:4px 0 0"><span style="{_MUTED}">{_escaped(name)}</span>{codes}</div>'
            )

    def folded(self, name: str, text: str) -> None:
        """Add a collapsible long text."""
        self._parts.append(
            f'<details style="margin:4px 0"><summary style="{_MUTED};cursor:pointer">{_escaped(name)}</summary>'
            f'<pre style="{_CODE};overflow-x:auto">{_escaped(text)}</pre></details>'
        )

    def card(self, state: State, inner: Sheet) -> None:
        """Add another sheet, with a border in the colour of a state."""
        self._parts.append(f'<div style="{_CARD} {state.colour}">{"".join(inner._parts)}</div>')

    def tree(self, branches: Iterable[Branch]) -> None:
        """Add a tree."""
        self._parts.append(_list(branches))


def _list(branches: Iterable[Branch]) -> str:
    return f'<ul style="{_LIST}">{"".join(map(_item, branches))}</ul>'


def _item(branch: Branch) -> str:
    text = f' <span style="{_MUTED}">{_escaped(branch.text)}</span>' if branch.text else ""
    below = _list(branch.branches) if branch.branches else ""
    return f'<li style="{_ITEM}">{_escaped(branch.name)}{text}{below}</li>'


def _escaped(text: str) -> str:
    return html.escape(shown(text))


def _table_cell(value: Cell) -> str:
    return f'<td style="{_NUMBER if isinstance(value, Count | Number) else _CELL}">{_cell(value)}</td>'


def _cell(value: Cell) -> str:
    if isinstance(value, State):
        return f'<span style="color:{value.colour}">●</span> {_escaped(value.name)}'
    if isinstance(value, Count):
        return f'<span style="{_MUTED}">?</span>' if value.value is None else f"{value.value:,}"
    if isinstance(value, Muted):
        return f'<span style="{_MUTED};font-style:italic">{_escaped(value.text)}</span>'
    if isinstance(value, Embedded):
        source, name = html.escape(value.uri), _escaped(value.name)
        if value.kind == "sound":
            return f'<audio controls preload="none" src="{source}" title="{name}"></audio>'
        return f'<img src="{source}" alt="{name}" title="{name}" style="max-width:16em;max-height:12em">'
    if isinstance(value, Number):
        return _escaped(value.text)
    if isinstance(value, str):
        return _escaped(value)
    return "".join(f"<div>{_escaped(text)}</div>" for text in value)
