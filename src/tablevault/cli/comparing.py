"""Commands that compare instances, and trace cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tablevault.cli.application import DIFFERENT, CommandContext, in_context, json_option
from tablevault.cli.completion import tables
from tablevault.cli.reading import instance, table, version
from tablevault.cli.showing import echo_text, is_json, show
from tablevault.values.addresses import parse_address

_NAMES = ("table", "before", "after")


def _compared(words: Sequence[str]) -> dict[str, str]:
    """Return the two instances that the arguments of a command name.

    They are a table and two versions, ids or tags, or two addresses.
    """
    if not any("(" in word or "@" in word[1:] for word in words):
        table, before, after = [*words, "", ""][:3]
        return {"table_name": table, "before": before, "after": after}
    if len(words) > 2:
        raise click.UsageError(
            "Two addresses name the instances, as in 'stories@paper stories'; with a table first, write ids, versions "
            "or @tags after it."
        )
    first, *others = map(parse_address, words)
    second = others[0] if others else None
    return {
        "table_name": first.table_name,
        "before": first.instance_id or first.version,
        "after": "" if second is None else second.instance_id or second.version,
        "after_table": "" if second is None else second.table_name,
    }


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="TABLE [BEFORE] [AFTER]", shell_complete=tables)
@click.option("--on", multiple=True, metavar="COLUMN", help="Match rows by this column; repeatable.")
@click.option("--column", "columns", multiple=True, metavar="COLUMN", help="Only this column; repeatable.")
@click.option("--stat", is_flag=True, help="Print only the counts.")
@click.option("--cells", type=click.IntRange(1), default=None, metavar="N", help="Maximum number of changed cells.")
@click.option("--builders", is_flag=True, help="Print the changes of builders and code line by line.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the changed cells; its suffix selects the format.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 6 if the instances differ.")
@json_option
@in_context
def diff(
    context: CommandContext,
    words: tuple[str, ...],
    on: tuple[str, ...],
    columns: tuple[str, ...],
    stat: bool,
    cells: int | None,
    builders: bool,
    output: Path | None,
    exit_code: bool,
) -> None:
    """Show which rows and cells of two instances differ, and why.

    BEFORE and AFTER are ids, versions or @tags; by default the newest instance is compared with its origin, else with
    the one before it. Two addresses work as well: diff stories@paper stories.

    With --exit-code the status is 6 if a row, a cell or a dtype differs, and 0 if not.
    """
    from tablevault.display.comparison import counts_text, definition_text
    from tablevault.storage.exports import export_frame, format_of
    from tablevault.storage.frames import table_from_frame

    if len(words) > len(_NAMES):
        raise click.UsageError(
            f"diff takes a table and at most two instances; these arguments are too many: {' '.join(words[3:])}"
        )
    if output is not None:
        format_of(output)
    why = not stat or builders or cells is not None or output is not None
    found = context.vault().diff_instances(**_compared(words), on=on or None, columns=columns or None, why=why)
    listed = found.frame(rows=cells).replace({float("nan"): None}) if cells is not None else None
    if output is not None:
        export_frame(table_from_frame(found.frame(), {}), output)
    if is_json(context):
        facts = found.to_dict()
        parts: dict[str, Any] = {"rows": facts["rows"], "columns": facts["columns"]} if stat else {}
        parts |= {"definition": facts["definition"]} if builders else {}
        parts |= {"cells": listed.to_dict("records")} if listed is not None else {}
        show(context, parts or facts)
    else:
        texts = [counts_text(found)] if stat else []
        texts += [definition_text(found)] if builders else []
        if texts or listed is None:
            echo_text("\n".join(texts) if texts else repr(found))
        if listed is not None:
            show(context, listed.to_dict("records"), list(listed.columns))
    if exit_code and found.differs:
        raise click.exceptions.Exit(DIFFERENT)


@click.command()
@table
@click.argument("column")
@click.argument("row", nargs=-1, required=True)
@instance
@version
@json_option
@in_context
def blame(
    context: CommandContext, table_name: str, column: str, row: tuple[str, ...], instance_id: str, version: str
) -> None:
    """Show where the value of one cell comes from.

    ROW is the value of the primary key, one for each of its columns; the position of the row if there is no key.
    """
    show(context, context.vault().trace_cell(table_name, row, column, instance_id, version))
