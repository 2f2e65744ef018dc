"""The command that serves the page."""

from __future__ import annotations

import errno
from itertools import count

import click

from tablevault.cli.application import CommandContext, in_context

_LAST_PORT = 65_535


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8420,
    show_default=True,
    type=click.IntRange(0, _LAST_PORT),
    help="Port; if taken, the next free one.",
)
@click.option("--allow-writes", is_flag=True, help="Offer to resume, stop, execute, retry and tag.")
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="NAME", help="Additional host name to accept.")
@click.option("--no-open", "open_browser", flag_value=False, default=True, help="Do not open a browser.")
@in_context
def serve(
    context: CommandContext, host: str, port: int, allow_writes: bool, allow_hosts: tuple[str, ...], open_browser: bool
) -> None:
    """Show the vault as a web page, until Ctrl-C.

    Prints the address, with the token that it needs.
    """
    vault = context.vault()
    for tried in count(port):
        try:
            vault.serve(tried, host=host, allow_writes=allow_writes, allow_hosts=allow_hosts, open_browser=open_browser)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or tried >= _LAST_PORT:
                raise
            click.echo(f"Port {tried} is taken.", err=True)
        else:
            return
