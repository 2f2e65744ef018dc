"""Shell completion of arguments with names from the vault."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from tablevault.cli.application import CommandContext
from tablevault.errors import TableVaultError


def tables(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the names of tables."""
    del parameter
    return _offered(ctx, incomplete, lambda context: context.vault().get_tables())


def instances(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the ids of a table's instances."""
    del parameter
    table = _table(ctx)
    return _offered(ctx, incomplete, lambda context: context.vault().get_table_instances(table, "", include_temp=True))


def tags(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the tags."""
    del parameter
    return _offered(ctx, incomplete, lambda context: {item.tag for item in context.vault().get_tags()})


def builders(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the names of the builders of a table's temporary instance."""
    del parameter
    table, version = _table(ctx), str(ctx.params.get("version") or "")
    return _offered(ctx, incomplete, lambda context: context.vault().get_builders_list(table, version=version))


def modules(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the names of the code modules."""
    del parameter
    return _offered(ctx, incomplete, lambda context: context.vault().get_code_modules_list())


def processes(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the ids of active processes."""
    del parameter
    return _offered(ctx, incomplete, lambda context: context.vault().get_active_processes())


def _table(ctx: click.Context) -> str:
    named = (ctx.params.get(name) for name in ("table_name", "table", "table_option"))
    return str(next(filter(None, named), ""))


def _offered(ctx: click.Context, incomplete: str, names: Callable[[CommandContext], Iterable[str]]) -> list[str]:
    root = ctx.find_root()
    context = CommandContext(root.params.get("db_dir"), "", as_json=False)
    try:
        return [name for name in names(context) if name.startswith(incomplete)]
    except (TableVaultError, OSError, click.UsageError):
        return []
