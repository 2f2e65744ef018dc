"""Commands about whole vaults."""

from __future__ import annotations

from pathlib import Path

import click

from tablevault.cli.application import CommandContext, in_context, json_option, say
from tablevault.cli.showing import show

_EXISTING = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--description", default="", help="Free text.")
@click.option("--exist-ok", is_flag=True, help="Do nothing if the vault exists.")
@in_context
def init(context: CommandContext, folder: Path, description: str, exist_ok: bool) -> None:
    """Create a vault in a missing or empty folder."""
    context.db_dir = folder
    context.vault(create=True, description=description, exist_ok=exist_ok)
    say(str(folder))


@click.command()
@click.argument("db_dir", type=_EXISTING)
@click.option("--preset", default=6, show_default=True, type=click.IntRange(0, 9), help="Compression level.")
@json_option
@in_context
def compress(context: CommandContext, db_dir: Path, preset: int) -> None:
    """Pack a vault into DB_DIR.tar.xz, whole or not at all."""
    from tablevault import compress_vault

    archive = compress_vault(db_dir, preset)
    show(context, {"archive": archive} if context.as_json else f"Compressed → {Path(archive).name}")


@click.command()
@click.argument("archive", type=_EXISTING)
@json_option
@in_context
def decompress(context: CommandContext, archive: Path) -> None:
    """Unpack a vault from ARCHIVE, which is NAME.tar.xz, into the folder NAME.

    The folder appears only once it is complete.
    """
    from tablevault import decompress_vault

    folder = decompress_vault(archive)
    show(context, {"db_dir": folder} if context.as_json else f"Decompressed → {Path(folder).name}/")


@click.command()
@click.argument("db_dir", type=_EXISTING)
@click.option("--yes", is_flag=True, help="Do not ask.")
@in_context
def delete_vault(context: CommandContext, db_dir: Path, yes: bool) -> None:
    """Delete a whole vault, irreversibly."""
    from tablevault import delete_vault as delete

    del context
    if not yes:
        click.confirm(f"Delete the vault {db_dir} with everything in it, permanently?", abort=True, err=True)
    delete(db_dir)
    say("Vault deleted ✔")


@click.command()
@click.argument("source", type=_EXISTING)
@click.argument("folder", type=click.Path(path_type=Path))
@in_context
def import_legacy(context: CommandContext, source: Path, folder: Path) -> None:
    """Create a vault in FOLDER from a vault of TableVault 0.1.x, which stays unchanged."""
    from tablevault import import_legacy_vault

    show(context, import_legacy_vault(source, folder))
