"""Waiting for a process that another interpreter runs, without touching it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from tablevault.cli.application import INTERRUPTED, REFUSED
from tablevault.display.following import has_stopped

if TYPE_CHECKING:
    from tablevault.vault import TableVault


@contextmanager
def left_alone(vault: TableVault, process_id: str) -> Iterator[None]:
    """End the command without affecting the process, on Ctrl-C or a timeout."""
    try:
        yield
    except (KeyboardInterrupt, TimeoutError) as error:
        if has_stopped(vault.get_process(process_id)):
            raise
        if isinstance(error, TimeoutError):
            click.echo(str(error), err=True)
            raise click.exceptions.Exit(REFUSED) from None
        click.echo(f"Process '{process_id}' continues.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
