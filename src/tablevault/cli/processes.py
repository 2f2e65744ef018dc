"""Commands about active and past processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tablevault.cli.application import (
    OPERATIONS,
    CommandContext,
    end_with_failures,
    in_context,
    json_option,
    process_id_option,
    say,
)
from tablevault.cli.completion import processes, tables
from tablevault.cli.showing import is_json, plain, show
from tablevault.texts.plain import duration
from tablevault.values.outcomes import command_of, operation_of
from tablevault.values.processes import Status, counts_at_least

if TYPE_CHECKING:
    from tablevault.records import ProcessInfo


_ACTIVE_COLUMNS = ("id", "operation", "table", "state", "rows", "age", "error")
_LOG_COLUMNS = ("started", "id", "operation", "table", "state", "rows", "took", "author", "error")
_STATES = tuple(map(str, Status))

process = click.argument("process_id", shell_complete=processes)


class _Operation(click.Choice[str]):
    """An operation, as the method or as the command is called."""

    def __init__(self) -> None:
        super().__init__(OPERATIONS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        named = command_of(str(value).replace("-", "_"))
        return operation_of(super().convert(named, param, ctx))


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the filters of the history."""
    for option in (
        click.option(
            "--limit", default=100, show_default=True, type=click.IntRange(1), help="Maximum number of processes."
        ),
        click.option(
            "--state", "--status", "status", default=None, type=click.Choice(_STATES), help="Filter by state."
        ),
        click.option(
            "--operation",
            default=None,
            type=_Operation(),
            metavar="OPERATION",
            help="Filter by operation, e.g. execute-instance.",
        ),
        click.option("--author", default="", help="Filter by author."),
        click.option(
            "--table", "--table-name", "table_name", default="", shell_complete=tables, help="Filter by table."
        ),
    ):
        command = option(command)
    return command


@click.command()
@in_context
def generate_process_id(context: CommandContext) -> str:
    """Print an unused process id."""
    if context.db_dir is not None:
        return context.vault().generate_process_id()
    from tablevault.names import new_process_id

    return new_process_id()


@click.command()
@json_option
@in_context
def get_active_processes(context: CommandContext) -> None:
    """Show the running and paused processes in full."""
    active = context.vault().get_active_processes()
    if is_json(context):
        show(context, active)
    else:
        say("\n\n".join(map(repr, active.values())) or "Nothing is running or paused.")


@click.command()
@json_option
@in_context
def ps(context: CommandContext) -> None:
    """List the running and paused processes."""
    show(context, [_active(info) for info in context.vault().get_active_processes().values()], _ACTIVE_COLUMNS)


@click.command()
@filters
@json_option
@in_context
def log(context: CommandContext, **chosen: Any) -> None:
    """Show the history of this vault, newest first."""
    rows = [_logged(info) for info in _history(context, chosen)]
    if not is_json(context):
        rows = [{**row, "started": str(row["started"]).replace("T", " ").removesuffix("+00:00")} for row in rows]
    show(context, rows, _LOG_COLUMNS)


@click.command()
@filters
@json_option
@in_context
def get_history(context: CommandContext, **chosen: Any) -> None:
    """Show the history of this vault in full, newest first."""
    history = _history(context, chosen)
    if is_json(context):
        show(context, history)
    else:
        say("\n\n".join(map(repr, history)) or "Nothing.")


@click.command()
@process
@json_option
@in_context
def get_process(context: CommandContext, process_id: str) -> None:
    """Show a process in full."""
    show(context, context.vault().get_process(process_id))


@click.command()
@process
@in_context
def get_process_completion(context: CommandContext, process_id: str) -> str:
    """Print True if a process has ended, else False."""
    return str(context.vault().get_process_completion(process_id))


@click.command()
@click.argument("stopped_id", metavar="PROCESS_ID", shell_complete=processes)
@click.option("--force", is_flag=True, help="Stop it even if it is running.")
@click.option("--materialize", is_flag=True, help="Materialize the cells computed so far.")
@click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for a running process to stop.")
@process_id_option
@in_context
def stop_process(context: CommandContext, stopped_id: str, process_id: str, **options: Any) -> str:
    """Revert a paused process, or a running one with --force."""
    return context.vault().stop_process(stopped_id, own_process_id=process_id, **options)


@click.command()
@json_option
@in_context
def restart(context: CommandContext) -> None:
    """Resume every paused process that can be resumed; show the outcome of each."""
    show(context, context.vault(restart=True).restart_report)


@click.command()
@process
@click.option("--timeout", type=float, default=None, help="Maximum number of seconds to wait.")
@in_context
def wait_process(context: CommandContext, process_id: str, timeout: float | None) -> str:
    """Wait until a process has ended, and exit as it would have."""
    from tablevault.cli.watching import left_alone

    vault = context.vault()
    with left_alone(vault, process_id):
        found = vault.wait_process(process_id, timeout).process_id
    return end_with_failures(context, found)


@click.command()
@process
@json_option
@in_context
def watch(context: CommandContext, process_id: str) -> None:
    """Follow a process until it has ended or paused. Ctrl-C stops only watching."""
    from tablevault.cli.watching import left_alone

    vault = context.vault()
    with left_alone(vault, process_id):
        info = vault.watch(process_id)
    if is_json(context):
        show(context, info)
    elif info.error is not None:
        click.echo(info.error_line, err=True)
    if info.hint:
        click.echo(info.hint, err=True)


def _history(context: CommandContext, chosen: Mapping[str, Any]) -> list[ProcessInfo]:
    return context.vault().get_history(**{name: value for name, value in chosen.items() if value is not None})


def _active(info: ProcessInfo) -> dict[str, object]:
    age = duration((datetime.now(UTC) - info.started_at).total_seconds())
    return {**_in_short(info), "age": age, "error": info.error_line}


def _logged(info: ProcessInfo) -> dict[str, object]:
    took = "" if info.ended_at is None else duration((info.ended_at - info.started_at).total_seconds())
    started = info.started_at.replace(microsecond=0)
    return {"started": plain(started), **_in_short(info), "took": took, "author": info.author, "error": info.error_line}


def _in_short(info: ProcessInfo) -> dict[str, object]:
    return {
        "id": info.process_id,
        "operation": info.operation,
        "table": f"{info.table_name} {info.instance_id}".strip(),
        "state": info.status,
        "rows": _rows(info),
    }


def _rows(info: ProcessInfo) -> str:
    """Return the progress of the current or last builder."""
    progress = info.progress
    if not progress:
        return ""
    from tablevault.display.processes import failed_text, retrying_text
    from tablevault.display.progress import rows_done

    name, item = next(((name, item) for name, item in progress.items() if not item.done), list(progress.items())[-1])
    skipped = f"{item.skipped:,} skipped" if item.skipped else ""
    others = filter(None, (failed_text(item), skipped, retrying_text(item)))
    is_paused = info.status == Status.PAUSED
    least = "at least " if is_paused and counts_at_least(info.error) and not item.done else ""
    return ", ".join([f"{least}{rows_done(item)} ({name})", *others])
