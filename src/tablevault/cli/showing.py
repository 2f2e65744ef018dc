"""Output of commands, as tables on a terminal and as JSON elsewhere."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from io import StringIO
from typing import TYPE_CHECKING, Any

from tablevault.cli.application import CommandContext, is_terminal, say
from tablevault.texts.plain import in_line, shown, shown_json

if TYPE_CHECKING:
    from rich.tree import Tree

_WIDER_THAN_ANY_LINE = 100_000
_SPACE = 2
"""Between two columns."""
_LEAST_OF_LAST = 20
"""Minimum width of the last column, which may wrap."""


def show(context: CommandContext, value: object, columns: Sequence[str] = ()) -> None:
    """Print a text unchanged, or lists and records as tables or JSON.

    Tables are for terminals.

    Parameters
    ----------
    context
        Has the option for JSON.
    value
        Text, a list, a mapping or a record.
    columns
        Of a list of mappings: those that the table has.
    """
    if isinstance(value, str):
        echo_text(value)
    elif is_json(context):
        say(_json(plain(value)))
    elif dataclasses.is_dataclass(value):
        # Records have a readable `__repr__`.
        say(repr(value))
    elif isinstance(value, Mapping):
        _print_table((), [(key, item) for key, item in plain(value).items() if item not in (None, "", [], {})])
    elif columns:
        rows = [plain(item) for item in value]  # type: ignore[attr-defined]
        _print_table(columns, [tuple(row.get(name) for name in columns) for row in rows])
    else:
        for item in value:  # type: ignore[attr-defined]
            say(in_line(str(item)))


def show_tree(context: CommandContext, tree: Tree) -> None:
    """Print a tree; as JSON only if that is asked for."""
    if context.as_json:
        say(_json({str(tree.label): _branches(tree)}))
        return
    from rich.console import Console

    # At a terminal's own width, rich would cut off longer lines.
    lines = _Lines()
    Console(file=lines, width=_WIDER_THAN_ANY_LINE).print(tree, highlight=False)
    say(lines.getvalue(), nl=False)


def echo_text(text: str) -> None:
    """Print a text unchanged into a pipe or file, and escaped on a terminal."""
    if is_terminal():
        say(shown(text, len(text)))
    else:
        # A stream that cannot encode a character would print a replacement.
        say(text.encode("utf-8", "surrogateescape"))


def _json(value: Any) -> str:
    is_unicode = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    return shown_json(json.dumps(value, indent=2, default=str, ensure_ascii=not is_unicode))


class _Lines(StringIO):
    """Takes lines for standard output, limited to the characters of its encoding."""

    encoding = property(lambda self: getattr(sys.stdout, "encoding", None) or "utf-8")


def _branches(tree: Tree) -> dict[str, Any]:
    return {str(branch.label): _branches(branch) for branch in tree.children}


def is_json(context: CommandContext) -> bool:
    """Return whether lists and records are to be printed as JSON."""
    return context.as_json or not is_terminal()


def plain(value: Any) -> Any:
    """Return a value as lists, dicts and scalars."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = [name.replace("_", " ") for name in columns] or ["", ""]
    texts = [[Text(_text(cell)) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(columns))
    widths = [max([len(name), *(row[place].cell_len for row in texts)]) for place, name in enumerate(names[:-1])]
    for name, width in zip(names, widths, strict=False):
        # Ids must stay whole, so that they can be copied.
        table.add_column(name, min_width=width, no_wrap=True)
    table.add_column(names[-1], overflow="fold")
    for row in texts:
        table.add_row(*row)
    console = Console()
    taken = sum(widths) + _SPACE * len(widths)
    if console.width < taken + _LEAST_OF_LAST:
        # Lines wrapped by the terminal are better than truncated columns.
        console.width = taken + max([len(names[-1]), *(row[-1].cell_len for row in texts)])
    console.print(table)


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return in_line(json.dumps(cell, default=str, ensure_ascii=False) if isinstance(cell, dict | list) else str(cell))
