"""Following a process that another interpreter runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import repeat
from typing import TYPE_CHECKING

import click

from tablevault.cli.application import INTERRUPTED, REFUSED
from tablevault.display.progress import Rates, builder_lines, duration
from tablevault.waiting import poll

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tablevault.records import ProcessInfo
    from tablevault.vault import TableVault

_SECONDS_BETWEEN_UPDATES = 0.5


@contextmanager
def left_alone(vault: TableVault, process_id: str) -> Iterator[None]:
    """End the command without touching the process if the waiting ends before it: by Ctrl-C, or by a time-out."""
    try:
        yield
    except (KeyboardInterrupt, TimeoutError) as error:
        if _is_over(vault, process_id):
            raise
        if isinstance(error, TimeoutError):
            click.echo(str(error), err=True)
            raise click.exceptions.Exit(REFUSED) from None
        click.echo(f"Process '{process_id}' goes on.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


def follow(vault: TableVault, process_id: str) -> ProcessInfo:
    """Show a process, if standard output is a terminal, until it has ended or paused; return it as it is then."""
    if not sys.stdout.isatty():
        poll(lambda: _is_over(vault, process_id) or None, repeat(_SECONDS_BETWEEN_UPDATES))
        return vault.get_process(process_id)
    from rich.live import Live

    rates = Rates()
    with Live(auto_refresh=False) as live:

        def show() -> bool | None:
            over = _is_over(vault, process_id)
            live.update(_shown(vault.get_process(process_id), rates), refresh=True)
            return over or None

        poll(show, repeat(_SECONDS_BETWEEN_UPDATES))
    return vault.get_process(process_id)


def _is_over(vault: TableVault, process_id: str) -> bool:
    """Return whether a process has ended or paused, after dealing with one whose owner has died."""
    from tablevault import TableVault

    info = vault.get_process(process_id)
    if not _has_stopped(info) and info.owner is not None and not info.owner.alive:
        # Opening a vault recovers processes of dead owners.
        TableVault(vault.db_dir, vault.author)
        info = vault.get_process(process_id)
    return _has_stopped(info)


def _has_stopped(info: ProcessInfo) -> bool:
    return info.ended_at is not None or info.status == "paused"


def _shown(info: ProcessInfo, rates: Rates) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from tablevault.display.terminal import table_of

    until = info.ended_at or datetime.now(UTC)
    table = f" on {info.table_name} {info.instance_id}".rstrip() if info.table_name else ""
    age = duration((until - info.started_at).total_seconds())
    title = Text(f"{info.process_id}: {info.operation}{table}, {info.status}, {age}")
    waiting = [Text(f"waiting for {info.waiting}")] if info.waiting else []
    return Group(title, table_of(builder_lines(info.progress, rates)), *waiting)
