"""What commands print: tables for people at a terminal, JSON for everything else."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tablevault.cli.application import Place


def show(place: Place, value: object, columns: Sequence[str] = ()) -> None:
    """Print a value: text as it is; lists and records as JSON, or as a table on a terminal.

    Parameters
    ----------
    place
        Says whether JSON is asked for.
    value
        Text, a list, a mapping or a record.
    columns
        Of a list of mappings: those that the table has.
    """
    if isinstance(value, str):
        click.echo(value)
    elif place.as_json or not sys.stdout.isatty():
        click.echo(json.dumps(plain(value), indent=2, default=str, ensure_ascii=False))
    else:
        _print_table(plain(value), columns)


def plain(value: Any) -> Any:
    """Return a value as lists, dicts and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def _print_table(value: Any, columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    rows: list[tuple[Any, ...]]
    if isinstance(value, dict):
        table.show_header = False
        rows = [(key, item) for key, item in value.items() if item not in (None, "", [], {})]
    elif value and isinstance(value[0], dict):
        names = columns or list(value[0])
        for name in names:
            table.add_column(name.replace("_", " "))
        rows = [tuple(item.get(name) for name in names) for item in value]
    else:
        table.show_header = False
        rows = [(item,) for item in value]
    for row in rows:
        table.add_row(*(Text(_text(cell)) for cell in row))
    Console().print(table)


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return json.dumps(cell, default=str, ensure_ascii=False) if isinstance(cell, dict | list) else str(cell)
