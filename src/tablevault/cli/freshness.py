"""Commands that keep tables up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tablevault.cli.application import CommandContext, end_with_failures, in_context, json_option, process_id_option
from tablevault.cli.completion import tables
from tablevault.cli.policies import budget, given_rules, policies
from tablevault.cli.showing import is_json, show

if TYPE_CHECKING:
    from tablevault.records import RefreshPlan, RefreshStep, TableStatus

_STATUS_COLUMNS = ("table", "state", "why")
_PLAN_COLUMNS = ("table", "action", "to compute", "to reuse", "after", "why")

table_names = click.argument("table_names", nargs=-1, metavar="[TABLE]...", shell_complete=tables)
version = click.option("--version", default="base", show_default=True, help="Version of the tables.")
run_index = click.option(
    "--run-index",
    is_flag=True,
    help="Run IndexBuilders that read outside the vault, to decide between fresh and stale.",
)


@click.command()
@table_names
@version
@run_index
@json_option
@in_context
def status(context: CommandContext, table_names: tuple[str, ...], version: str, run_index: bool) -> None:
    """Show whether tables are up to date, and why not.

    Without names, all tables of the version are shown.
    """
    found = context.vault().get_status(list(table_names) or None, version=version, run_index=run_index)
    if is_json(context):
        show(context, found)
    else:
        show(context, [_status(name, item) for name, item in found.items()], _STATUS_COLUMNS)


def _status(name: str, item: TableStatus) -> dict[str, object]:
    return {"table": name, "state": item.state, "why": "; ".join(item.reasons)}


@click.command()
@table_names
@click.option("--all", "all_tables", is_flag=True, help="All tables of the version.")
@version
@click.option("--no-upstream", "upstream", flag_value=False, default=True, help="Leave out the tables that these read.")
@click.option("--downstream", is_flag=True, help="Include the tables that read these.")
@click.option("--keep-going", is_flag=True, help="After a failure, first finish the tables that do not depend on it.")
@policies
@budget
@click.option("--background", is_flag=True, help="Run in a background process; `watch` and `wait-process` follow it.")
@process_id_option
@click.option("--dry-run", is_flag=True, help="Show the steps without running them.")
@run_index
@json_option
@in_context
def refresh(
    context: CommandContext,
    table_names: tuple[str, ...],
    all_tables: bool,
    dry_run: bool,
    run_index: bool,
    keep_going: bool,
    policy: tuple[str, ...],
    budget: tuple[str, ...],
    background: bool,
    process_id: str,
    **options: Any,
) -> str | None:
    """Bring tables up to date, after the tables that they read.

    The exit status is 5 if rows failed; get-errors --process-id lists them. A policy may be for TABLE.BUILDER, too.
    """
    if bool(table_names) == all_tables:
        raise click.UsageError("Name tables, or give --all.")
    named, vault = list(table_names) or None, context.vault()
    if dry_run:
        _show_plan(context, vault.plan_refresh(named, run_index=run_index, **options))
        return None
    if run_index:
        raise click.UsageError("--run-index goes with --dry-run: a refresh runs these IndexBuilders anyway.")
    process = vault.refresh(
        named,
        keep_going=keep_going,
        process_id=process_id,
        background=background,
        **given_rules(policy, budget),
        **options,
    )
    return process if background else end_with_failures(context, process)


def _show_plan(context: CommandContext, plan: RefreshPlan) -> None:
    if is_json(context):
        show(context, plan)
    else:
        show(context, list(map(_planned, plan.steps)), _PLAN_COLUMNS)


def _planned(step: RefreshStep) -> dict[str, object]:
    counts = {"to compute": step.computed, "to reuse": step.reused}
    known = {key: "?" if count is None else f"{count:,}" for key, count in counts.items()}
    named = {"table": step.text, "action": step.action}
    return {**named, **known, "after": ", ".join(step.after), "why": "; ".join(step.reasons)}
