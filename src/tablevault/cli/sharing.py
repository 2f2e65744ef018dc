"""Commands that share instances with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tablevault.cli.application import Place, in_place, json_option
from tablevault.cli.completion import tables
from tablevault.cli.reading import instance, table, version
from tablevault.cli.showing import show

_TARGET = click.Path(path_type=Path)


@click.command()
@table
@click.argument("target", type=_TARGET)
@instance
@version
@click.option("--format", default="", help="dataset for a folder; else the suffix of TARGET says how.")
@click.option("--column", "columns", multiple=True, metavar="COLUMN", help="Only this column; may be repeated.")
@click.option("--embed-artifacts", is_flag=True, help="Put images and audio into the frame of a dataset folder.")
@click.option("--license", default="", help="For the card of a dataset folder.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@json_option
@in_place
def export_table(place: Place, table_name: str, target: Path, columns: tuple[str, ...], **options: Any) -> None:
    """Write an instance to TARGET: a .parquet, .csv, .jsonl, .json or .arrow file, or a dataset folder."""
    path = place.vault().export_table(table_name, target, columns=columns or None, **options)
    show(place, {"exported": path} if place.as_json else path)


@click.command()
@click.argument("target", type=_TARGET)
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True, shell_complete=tables)
@click.option(
    "--inputs",
    type=click.Choice(["provenance", "frames"]),
    default="provenance",
    show_default=True,
    help="Of inputs, the metadata that lineages need, or their frames, too.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@json_option
@in_place
def export_vault(place: Place, target: Path, addresses: tuple[str, ...], **options: Any) -> None:
    """Write a vault that holds some instances to TARGET, a folder or NAME.tar.xz."""
    path = place.vault().export_vault(target, addresses, **options)
    show(place, {"exported": path} if place.as_json else path)
