"""What a shell offers for an argument: names that are in the vault."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from tablevault.cli.application import Place
from tablevault.errors import TableVaultError


def tables(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the names of tables."""
    del parameter
    return _offered(ctx, incomplete, lambda place: place.vault().get_tables())


def instances(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the ids of a table's instances."""
    del parameter
    table = str(ctx.params.get("table_name") or "")
    return _offered(ctx, incomplete, lambda place: place.vault().get_table_instances(table, version=""))


def processes(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the ids of active processes."""
    del parameter
    return _offered(ctx, incomplete, lambda place: place.vault().get_active_processes())


def _offered(ctx: click.Context, incomplete: str, names: Callable[[Place], Iterable[str]]) -> list[str]:
    root = ctx.find_root()
    place = Place(root.params.get("db_dir"), "", as_json=False)
    try:
        return [name for name in names(place) if name.startswith(incomplete)]
    except (TableVaultError, OSError, click.UsageError):
        return []
