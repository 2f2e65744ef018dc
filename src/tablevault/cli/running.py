"""The command that makes tables of a definitions file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tablevault.cli.application import CommandContext, end_with_failures, in_context, process_id_option
from tablevault.cli.freshness import version
from tablevault.cli.policies import budget, given_rules, policies
from tablevault.errors import TVArgumentError

if TYPE_CHECKING:
    from tablevault.reading.runs import TableOutcome
    from tablevault.vault import TableVault


@click.command()
@click.argument("source", type=click.Path(), required=False)
@version
@policies
@budget
@click.option("--background", is_flag=True, help="Run in a background process; `watch` and `wait-process` follow it.")
@process_id_option
@in_context
def run(
    context: CommandContext,
    source: str | None,
    process_id: str,
    policy: tuple[str, ...],
    budget: tuple[str, ...],
    background: bool,
    **options: Any,
) -> str:
    """Apply a definitions file, or a folder of them, and compute its tables.

    The vault is the folder `vault` beside the file, made if it is missing, unless --db-dir names another. After an
    error, a kill or an edit, the same command resumes, and --process-id alone resumes without reading the file again.
    The exit status is 3 if the file itself fails, 4 if the run has paused, and 5 if rows failed.
    """
    if not source and not process_id:
        raise click.UsageError("Name a definitions file, or a folder of them, or give --process-id of a paused run.")
    vault = _opened_beside(context, source) if source else _opened_for(context, process_id)
    process = vault.run(
        source or "", process_id=process_id, background=background, **given_rules(policy, budget), **options
    )
    if background:
        return process
    for outcome in vault._run_outcomes(process):
        click.echo(_line(outcome), err=True)
        if outcome.is_new:
            click.echo(f"Read it: {_reading(vault, outcome, options['version'])}", err=True)
    return end_with_failures(context, process)


def _opened_beside(context: CommandContext, source: str) -> TableVault:
    """Open the vault, by default the one beside a source.

    It is created if it is missing and the source can be read.
    """
    from tablevault.definitions.source_files import find_source
    from tablevault.layout import VaultLayout

    if not Path(source).exists():
        raise TVArgumentError(f"There is no file or folder '{source}' to run.")
    resolved = Path(source).resolve()
    folder = resolved if resolved.is_dir() else resolved.parent
    if context.db_dir is None:
        context.db_dir = folder / "vault"
    _make_importable(folder)
    is_new = not VaultLayout(context.db_dir.expanduser().absolute()).marker.exists()
    if is_new:
        find_source(source)
    vault = context.vault(create=True, exist_ok=True)
    if is_new:
        click.echo(f"Vault created in {vault.db_dir} (--db-dir names another folder).", err=True)
    return vault


def _opened_for(context: CommandContext, process_id: str) -> TableVault:
    """Open the vault of a paused run."""
    vault = context.vault()
    process = vault.get_process(process_id)
    if process.operation == "run":
        place = Path(process.arguments["source"])
        _make_importable(place if place.is_dir() else place.parent)
    return vault


def _make_importable(folder: Path) -> None:
    """Let packages beside a file be imported, as for a script."""
    sys.path.append(str(folder))


def _line(outcome: TableOutcome) -> str:
    if not outcome.is_new:
        return f"{outcome.table_name}: unchanged, instance {outcome.instance_id}."
    skipped = f", {outcome.skipped:,} skipped" if outcome.skipped else ""
    rows = f"{outcome.rows:,} row{'' if outcome.rows == 1 else 's'}"
    return (
        f"{outcome.table_name}: instance {outcome.instance_id}, {rows}: {outcome.computed:,} "
        f"cell{'' if outcome.computed == 1 else 's'} computed, "
        f"{outcome.reused:,} reused, {outcome.failed:,} failed{skipped}."
    )


def _reading(vault: TableVault, outcome: TableOutcome, version: str) -> str:
    from tablevault.names import DEFAULT_VERSION
    from tablevault.operations.remedies import shell_command

    name = outcome.table_name
    address = name if version == DEFAULT_VERSION else f"{name}({version})"
    return shell_command(Path(vault.db_dir), "read", address)
