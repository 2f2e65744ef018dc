"""Commands that share instances with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tablevault.cli.application import CommandContext, in_context, json_option, process_id_option
from tablevault.cli.completion import tables
from tablevault.cli.reading import instance, table, version
from tablevault.cli.showing import show

_TARGET = click.Path(path_type=Path)


@click.command()
@table
@click.argument("target", type=_TARGET)
@instance
@version
@click.option("--format", default="", help="dataset for a folder; by default the suffix of TARGET selects the format.")
@click.option("--column", "columns", multiple=True, metavar="COLUMN", help="Only this column; repeatable.")
@click.option("--embed-artifacts", is_flag=True, help="Put images and audio into the frame of a dataset folder.")
@click.option("--license", default="", help="License for the card of a dataset folder.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@json_option
@in_context
def export_table(
    context: CommandContext, table_name: str, target: Path, columns: tuple[str, ...], **options: Any
) -> None:
    """Write an instance to TARGET.

    TARGET is a .parquet, .csv, .jsonl, .json or .arrow file, or a dataset folder.
    """
    path = context.vault().export_table(table_name, target, columns=columns or None, **options)
    show(context, {"exported": path} if context.as_json else path)


@click.command()
@click.argument("target", type=_TARGET)
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True, shell_complete=tables)
@click.option(
    "--inputs",
    type=click.Choice(["provenance", "frames"]),
    default="provenance",
    show_default=True,
    help="Inputs: only the metadata for lineages, or frames too.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@json_option
@in_context
def export_vault(context: CommandContext, target: Path, addresses: tuple[str, ...], **options: Any) -> None:
    """Export instances as a vault to TARGET, a folder or NAME.tar.xz."""
    path = context.vault().export_vault(target, addresses, **options)
    show(context, {"exported": path} if context.as_json else path)


def _renamed(words: tuple[str, ...]) -> list[str] | dict[str, str] | None:
    """Return the tables of a command, as names or as a mapping to new names."""
    if not any("=" in word for word in words):
        return list(words) or None
    pairs = (word.partition("=") for word in words)
    return {there: here or there for there, _, here in pairs}


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("words", metavar="[TABLE|THERE=HERE]...", nargs=-1)
@process_id_option
@in_context
def import_instances(context: CommandContext, source: Path, words: tuple[str, ...], process_id: str) -> str:
    """Import the instances of tables from another vault.

    The vault is a folder or NAME.tar.xz. None of its code is executed.
    """
    return context.vault().import_instances(source, _renamed(words), process_id=process_id)
