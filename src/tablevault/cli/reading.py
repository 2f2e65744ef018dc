"""Commands that read a vault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tablevault.cli.application import REFUSED, CommandContext, in_context, json_option
from tablevault.cli.completion import builders, instances, modules, tables
from tablevault.cli.showing import is_json, show, show_tree
from tablevault.errors import TVArgumentError

if TYPE_CHECKING:
    from tablevault.records import BuilderPlan

_ERROR_COLUMNS = ("builder", "index", "key", "kind", "error", "message", "cause")
_TAG_COLUMNS = ("tag", "table_name", "instance_id", "author", "created_at", "description")
_PLAN_COLUMNS = ("builder", "rows", "to compute", "to reuse", "why")


def _moment(ctx: click.Context, parameter: click.Parameter, text: str | None) -> datetime | str | None:
    del ctx, parameter
    if text is None:
        return None
    from tablevault.reading.moments import parse_moment

    try:
        return parse_moment(text)
    except TVArgumentError as error:
        raise click.BadParameter(str(error)) from None


table = click.argument("table_name", shell_complete=tables)
instance = click.option(
    "--instance-id", default="", shell_complete=instances, help="Instance id or @TAG; the newest instance by default."
)
version = click.option("--version", default="base", show_default=True, help="Version of the table.")
as_of = click.option(
    "--as-of",
    default=None,
    callback=_moment,
    metavar="TIME|PROCESS_ID",
    help="State at a time, e.g. 2026-11-01T12:00Z, or at the commit of a process.",
)
temporary = click.option(
    "--temp/--materialised", default=True, help="Read the temporary instance instead of a materialized one."
)


def table_if_given(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a command take its table as an argument or as the option of 0.1.

    The command receives `table_name`.
    """

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def run(*args: Any, table: str, table_option: str, **kwargs: Any) -> Any:
            if table and table_option and table != table_option:
                raise click.UsageError(f"Which table, '{table}' or '{table_option}'?")
            return command(*args, table_name=table or table_option, **kwargs)

        names = ("--table-name", "--table_name", "table_option")
        option = click.option(*names, default="", shell_complete=tables, help=help_text)
        argument = click.argument("table", required=False, default="", metavar="[TABLE_NAME]", shell_complete=tables)
        return argument(option(run))

    return decorated


@click.command()
@json_option
@in_context
def get_tables(context: CommandContext) -> None:
    """List the tables."""
    show(context, context.vault().get_tables())


@click.command()
@table_if_given("Only this table.")
@json_option
@in_context
def get_tags(context: CommandContext, table_name: str) -> None:
    """List tags with the instances that they name."""
    show(context, context.vault().get_tags(table_name), _TAG_COLUMNS)


@click.command()
@table_if_given("The table; without one the tables are listed.")
@version
@click.option("--temp/--no-temp", default=False, show_default=True, help="Include temporary instances.")
@as_of
@json_option
@in_context
def get_table_instances(
    context: CommandContext, table_name: str, version: str, temp: bool, as_of: datetime | str | None
) -> None:
    """List the instances of a table, oldest first; of all versions with --version ''."""
    show(context, context.vault().get_table_instances(table_name, version, include_temp=temp, as_of=as_of))


@click.command()
@table_if_given("Table to describe; the vault by default.")
@click.option("--instance-id", default="", shell_complete=instances, help="Instance of that table to describe.")
@json_option
@in_context
def get_descriptions(context: CommandContext, table_name: str, instance_id: str) -> None:
    """Show the description of the vault, a table or an instance."""
    show(context, context.vault().get_descriptions(instance_id, table_name))


@click.command()
@table_if_given("Only this table.")
@click.option("--instance-id", default="", shell_complete=instances, help="Only this instance.")
@click.option("--code-files/--no-code-files", default=True, help="Include code modules.")
@click.option("--builder-files/--no-builder-files", default=True, help="Include builder files.")
@click.option("--metadata-files/--no-metadata-files", default=False, help="Include metadata.")
@click.option("--artifact-files/--no-artifact-files", default=False, help="Include artifacts.")
@json_option
@in_context
def get_file_tree(context: CommandContext, instance_id: str, table_name: str, **files: bool) -> None:
    """Show the files of the vault as a tree."""
    show_tree(context, context.vault().get_file_tree(instance_id, table_name, **files))


@click.command()
@json_option
@in_context
def get_code_modules_list(context: CommandContext) -> None:
    """List the Python modules."""
    show(context, context.vault().get_code_modules_list())


get_modules_list = get_code_modules_list
"""The name that this command had in 0.1."""


@click.command()
@click.argument("module_name", shell_complete=modules)
@in_context
def get_code_module_str(context: CommandContext, module_name: str) -> None:
    """Show the text of a Python module."""
    show(context, context.vault().get_code_module_str(module_name))


@click.command()
@table
@instance
@version
@temporary
@json_option
@in_context
def get_builders_list(context: CommandContext, table_name: str, instance_id: str, version: str, temp: bool) -> None:
    """List the builders of an instance."""
    show(context, context.vault().get_builders_list(table_name, instance_id, version, temp))


@click.command()
@table
@click.option("--builder-name", default="", shell_complete=builders, help="By default the IndexBuilder.")
@instance
@version
@temporary
@in_context
def get_builder_str(
    context: CommandContext, table_name: str, builder_name: str, instance_id: str, version: str, temp: bool
) -> None:
    """Show the text of a builder."""
    show(context, context.vault().get_builder_str(table_name, builder_name, instance_id, version, temp))


@click.command()
@table
@instance
@version
@temporary
@in_context
def get_artifact_folder(context: CommandContext, table_name: str, instance_id: str, version: str, temp: bool) -> None:
    """Print the artifact folder of an instance."""
    show(context, str(context.vault().get_artifact_folder(table_name, instance_id, version, temp)))


@click.command()
@table
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file ending in .csv, .tsv, .parquet, .json, .jsonl, .arrow, .feather or .xlsx.",
)
@instance
@version
@click.option("--rows", type=int, default=None, help="Maximum number of rows.")
@click.option("--offset", type=int, default=0, help="Number of rows to skip.")
@as_of
@click.option("--include-inactive", is_flag=True, help="Include inactive instances.")
@click.option("--no-artifact-path", is_flag=True, help="Names of artifacts instead of full paths.")
@click.option(
    "--failed",
    type=click.Choice(["null", "drop", "raise"]),
    default="null",
    show_default=True,
    help="Rows that failed or were skipped: show null, leave them out, or refuse to write.",
)
@json_option
@in_context
def get_dataframe(
    context: CommandContext,
    table_name: str,
    output: Path,
    instance_id: str,
    version: str,
    rows: int | None,
    offset: int,
    as_of: datetime | str | None,
    include_inactive: bool,
    no_artifact_path: bool,
    failed: str,
) -> None:
    """Write the frame of an instance to a file; its suffix selects the format."""
    if not output.parent.is_dir():
        raise click.UsageError(f"There is no folder '{output.parent}' to write '{output.name}' into.")
    found, count = context.vault()._export_dataframe(
        output,
        table_name,
        instance_id,
        version,
        not include_inactive,
        rows,
        not no_artifact_path,
        failed,
        offset,
        as_of,
    )
    show(context, {"instance_id": found, "rows": count, output.suffix.lower().removeprefix(".") or "csv": str(output)})


@click.command()
@table
@instance
@version
@in_context
def get_frame_path(context: CommandContext, table_name: str, instance_id: str, version: str) -> None:
    """Check the Parquet file of an instance, and print its path."""
    show(context, context.vault().get_frame_path(table_name, instance_id, version))


@click.command()
@json_option
@in_context
def get_services(context: CommandContext) -> None:
    """List the services of the vault with their limits."""
    services = context.vault().get_services()
    if is_json(context):
        show(context, services)
    else:
        show(context, [{"service": name, **limits} for name, limits in services.items()], _service_columns(services))


def _service_columns(services: Mapping[str, Mapping[str, float]]) -> list[str]:
    return ["service", *dict.fromkeys(name for limits in services.values() for name in limits)]


@click.command()
@table_if_given("The table.")
@instance
@version
@click.option("--process-id", default="", help="Rows of a running, paused or ended execution instead.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; its suffix selects the format."
)
@json_option
@in_context
def get_errors(
    context: CommandContext, table_name: str, instance_id: str, version: str, process_id: str, output: Path | None
) -> None:
    """List the rows of an instance that failed or were skipped, with their errors."""
    if output is not None:
        count = context.vault()._export_errors(output, table_name, instance_id, version, process_id)
        show(context, {"rows": count, output.suffix.lower().removeprefix(".") or "csv": str(output)})
        return
    rows = context.vault().get_errors(table_name, instance_id, version, process_id, format="arrow").to_pylist()
    show(context, rows, () if is_json(context) else _ERROR_COLUMNS)


@click.command()
@table_if_given("The table.")
@instance
@version
@click.option("--process-id", default="", help="Rows of a running, paused or ended execution instead.")
@json_option
@in_context
def get_usage(context: CommandContext, table_name: str, instance_id: str, version: str, process_id: str) -> None:
    """List the usage of calls by row.

    Usage is calls, seconds, and the amounts that functions reported.
    """
    frame = context.vault().get_usage(table_name, instance_id, version, process_id, format="arrow")
    show(context, frame.to_pylist(), () if is_json(context) else frame.column_names)


@click.command()
@click.argument("address", shell_complete=tables)
@click.option("--column", "columns", multiple=True, help="Only this column; repeatable, in this order.")
@click.option("--rows", type=int, default=None, help="Maximum number of rows.")
@as_of
@json_option
@in_context
def read(
    context: CommandContext, address: str, columns: tuple[str, ...], rows: int | None, as_of: datetime | str | None
) -> None:
    """Print the frame at ADDRESS.

    An address is TABLE, 'TABLE(VERSION)', 'TABLE(INSTANCE_ID)' or TABLE@TAG.
    """
    names, listed = context.vault()._read_rows(address, list(columns) or None, rows, as_of)
    show(context, listed, names)


@click.command()
@table
@instance
@click.option("--column", default="", help="Only this column.")
@json_option
@in_context
def get_lineage(context: CommandContext, table_name: str, instance_id: str, column: str) -> None:
    """Show the inputs of an instance, and the instances computed from it."""
    lineage = context.vault().get_lineage(table_name, instance_id, column)
    if is_json(context):
        show(context, lineage)
    else:
        show_tree(context, lineage.tree())


@click.command()
@table
@version
@click.option("--force", is_flag=True, help="Plan to recompute all cells.")
@click.option("--run-index", is_flag=True, help="Run the IndexBuilder to know the rows.")
@json_option
@in_context
def plan_instance(context: CommandContext, table_name: str, version: str, force: bool, run_index: bool) -> None:
    """Show which cells an execution would compute, and which it would reuse."""
    plan = context.vault().plan_instance(table_name, version, force, run_index=run_index)
    if is_json(context):
        show(context, plan)
    else:
        has_usage = any(item.usage for item in plan.builders.values())
        columns = (*_PLAN_COLUMNS[:-1], *(["expected usage"] if has_usage else []), _PLAN_COLUMNS[-1])
        show(context, [_planned(name, item) for name, item in plan.builders.items()], columns)


def _planned(name: str, item: BuilderPlan) -> dict[str, object]:
    from tablevault.display.processes import usage_text

    counts = {"rows": item.total, "to compute": item.computed, "to reuse": item.reused}
    known = {key: "?" if count is None else f"{count:,}" for key, count in counts.items()}
    usage = {"expected usage": usage_text(item.usage)} if item.usage else {}
    return {"builder": name, **known, **usage, "why": "; ".join(item.reasons)}


@click.command()
@click.option("--repair", is_flag=True, help="Finish or remove leftovers of crashes.")
@json_option
@in_context
def verify(context: CommandContext, repair: bool) -> None:
    """Check every file of the vault; exit with 1 if something is wrong."""
    report = context.vault().verify(repair=repair)
    show(context, report)
    if not report.ok:
        raise click.exceptions.Exit(REFUSED)
