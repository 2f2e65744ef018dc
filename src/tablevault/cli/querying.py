"""The command that runs SQL."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from tablevault.cli.application import CommandContext, in_context, json_option, say
from tablevault.cli.reading import as_of
from tablevault.cli.showing import echo_text, is_json, show
from tablevault.texts.json_forms import exact_float
from tablevault.texts.plain import shown_json

_MAXIMUM_ROWS = 1000
"""Printed without being told to."""


def _named(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Return parameters by name.

    Values that are valid JSON are parsed; others are texts.
    """
    del ctx, parameter
    given = {}
    for item in values:
        name, is_pair, text = item.partition("=")
        if not name or not is_pair:
            raise click.BadParameter(f"'{item}' is not NAME=VALUE.")
        try:
            given[name] = json.loads(text, parse_float=exact_float)
        except ValueError:
            given[name] = text
    return given


@click.command()
@click.argument("statement")
@click.option("--param", "parameters", multiple=True, callback=_named, metavar="NAME=VALUE", help="Value of $NAME.")
@as_of
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write, without a limit of rows; its suffix selects the format.",
)
@click.option(
    "--rows", type=click.IntRange(0), default=None, help=f"Maximum number of rows. [default: {_MAXIMUM_ROWS}]"
)
@click.option("--timeout", type=float, default=None, help="Seconds.")
@click.option("--explain", is_flag=True, help="Print the plan of the statement instead.")
@json_option
@in_context
def sql(
    context: CommandContext,
    statement: str,
    parameters: dict[str, Any],
    as_of: datetime | str | None,
    output: Path | None,
    rows: int | None,
    timeout: float | None,
    explain: bool,
) -> None:
    """Run one SQL statement.

    The statement reads tables, or addresses in double quotes; - takes it from standard input.
    """
    from tablevault.storage.exports import export_frame, format_of, json_records
    from tablevault.storage.frames import FrameData

    if output is not None:
        format_of(output)
    text = sys.stdin.read() if statement == "-" else statement
    limit = _MAXIMUM_ROWS if rows is None and output is None and not explain else rows
    # One more row tells whether any are left out.
    asked = None if limit is None else limit + 1
    data = context.vault()._query_rows(text, parameters, as_of, asked, timeout, explain)
    kept = data if limit is None else FrameData(data.table.slice(0, limit), data.types)
    if output is not None:
        export_frame(kept, output)
        show(context, {"rows": len(kept), output.suffix.lower().removeprefix(".") or "csv": str(output)})
    elif explain:
        echo_text("\n".join(data.table.column("explain_value").to_pylist()))
    elif is_json(context):
        for row in json_records(kept):
            say(shown_json(json.dumps(row)))
    else:
        show(context, list(json_records(kept)), list(kept.types))
    if len(kept) < len(data):
        click.echo(f"There are more than {limit:,} rows; --rows shows more.", err=True)
