"""The command that serves agents."""

from __future__ import annotations

from importlib.util import find_spec

import click

from tablevault.cli.application import CommandContext, in_context, say
from tablevault.errors import TVArgumentError


@click.command()
@click.option("--allow-writes", is_flag=True, help="Let the client tag, write rows, and start and stop runs.")
@click.option("--allow-code", is_flag=True, help="Let it also write code and builders: it can run any Python as you.")
@click.option(
    "--parent-id", default="", envvar="TABLEVAULT_PARENT", help="Make all operations children of this process."
)
@click.option("--tables", multiple=True, metavar="T", help="Show the client only this table; repeatable.")
@click.option(
    "--config",
    "client",
    type=click.Choice(["claude", "cursor", "vscode"]),
    help="Print the settings by which a client starts the server.",
)
@in_context
def mcp(
    context: CommandContext,
    allow_writes: bool,
    allow_code: bool,
    parent_id: str,
    tables: tuple[str, ...],
    client: str | None,
) -> None:
    """Answer an agent over the Model Context Protocol, on standard input and output.

    A client starts this command by itself; --config prints its settings. Without --allow-writes the agent can read
    only.
    """
    if find_spec("mcp") is None:
        raise TVArgumentError("Agents need mcp: run pip install '.[mcp]' in a clone of TableVault.")
    vault = context.vault(parent_id=parent_id) if parent_id else context.vault()
    if client is not None:
        from tablevault.mcp.clients import client_settings

        flags = [
            *(["--allow-code"] if allow_code else ["--allow-writes"] if allow_writes else []),
            *(["--parent-id", parent_id] if parent_id else []),
            *(part for table in tables for part in ("--tables", table)),
        ]
        say(client_settings(client, vault.db_dir, flags))  # type: ignore[arg-type]
        return
    from tablevault.mcp.server import serve

    serve(vault, "code" if allow_code else "write" if allow_writes else "read", tables)
