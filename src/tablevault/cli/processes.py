"""Commands about processes: what runs, what is paused, what was done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tablevault.cli.application import INTERRUPTED, PAUSED, Place, in_place
from tablevault.cli.completion import processes, tables
from tablevault.cli.showing import plain, show
from tablevault.cli.writing import process_id as own_process_id
from tablevault.display import duration, rows_done, time_left

if TYPE_CHECKING:
    from tablevault.records import BuilderProgress, ProcessInfo

_SECONDS_BETWEEN_LOOKS = 0.5
_COLUMNS = ("id", "operation", "table", "state", "rows", "age", "error")

process = click.argument("process_id", shell_complete=processes)


@click.command()
@in_place
def generate_process_id(place: Place) -> str:
    """Print a process id that nobody has used."""
    if place.db_dir is not None:
        return place.vault().generate_process_id()
    from tablevault.names import new_process_id

    return new_process_id()


@click.command()
@in_place
def get_active_processes(place: Place) -> None:
    """Show the running and paused processes with all that is known of them."""
    active = place.vault().get_active_processes()
    if place.as_json or not sys.stdout.isatty():
        show(place, active)
    else:
        show(
            place,
            [plain(info) for info in active.values()],
            ("process_id", "operation", "table_name", "status", "hint"),
        )


@click.command()
@in_place
def ps(place: Place) -> None:
    """Show the running and paused processes in short."""
    show(place, [_in_short(info) for info in place.vault().get_active_processes().values()], _COLUMNS)


@click.command()
@click.option("--table", "table_name", default="", shell_complete=tables, help="Only of this table.")
@click.option("--author", default="", help="Only by this author.")
@click.option("--operation", default="", help="Only this operation, for example execute_instance.")
@click.option("--state", "status", default="", help="Only in this state, for example succeeded.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="At most so many.")
@in_place
def log(place: Place, limit: int, **filters: str) -> None:
    """Show what was done to this vault, newest first."""
    history = place.vault().get_history(limit=limit, **filters)
    show(place, [{**_in_short(info), "author": info.author, "started": info.started_at} for info in history])


@click.command()
@click.option("--table-name", default="", shell_complete=tables, help="Only of this table.")
@click.option("--author", default="", help="Only by this author.")
@click.option("--operation", default="", help="Only this operation.")
@click.option("--status", default="", help="Only in this state.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="At most so many.")
@in_place
def get_history(place: Place, limit: int, **filters: str) -> None:
    """Show what was done to this vault with all that is known of it, newest first."""
    history = place.vault().get_history(limit=limit, **filters)
    show(place, [plain(info) for info in history], ("process_id", "operation", "table_name", "status", "started_at"))


@click.command()
@process
@in_place
def get_process(place: Place, process_id: str) -> None:
    """Show all that is known of a process."""
    show(place, place.vault().get_process(process_id))


@click.command()
@process
@in_place
def get_process_completion(place: Place, process_id: str) -> str:
    """Print whether a process has ended: True or False."""
    return str(place.vault().get_process_completion(process_id))


@click.command()
@click.argument("stopped_id", metavar="PROCESS_ID", shell_complete=processes)
@click.option("--force", is_flag=True, help="Also if it is running.")
@click.option("--materialize", is_flag=True, help="Make an instance of what it has computed.")
@own_process_id
@in_place
def stop_process(place: Place, stopped_id: str, force: bool, materialize: bool, process_id: str) -> str:
    """Revert a paused process, or a running one with --force."""
    return place.vault().stop_process(stopped_id, force, materialize, own_process_id=process_id)


@click.command()
@in_place
def restart(place: Place) -> None:
    """Go on with every paused process that can go on."""
    vault = place.vault(restart=True)
    show(place, [_in_short(info) for info in vault.get_active_processes().values()], _COLUMNS)


@click.command()
@process
@click.option("--timeout", type=float, default=None, help="Seconds to wait at most.")
@in_place
def wait_process(place: Place, process_id: str, timeout: float | None) -> str:
    """Wait until a process has ended, and exit as it would have."""
    info = place.vault().wait_process(process_id, timeout)
    if info.status == "paused":
        click.echo(info.hint, err=True)
        raise SystemExit(PAUSED)
    return info.process_id


@click.command()
@process
@in_place
def watch(place: Place, process_id: str) -> None:
    """Follow a process until it has ended or paused. Ctrl-C leaves it alone."""
    vault = place.vault()
    first: dict[str, tuple[float, int]] = {}
    try:
        from rich.live import Live

        with Live(refresh_per_second=4, transient=False) as live:
            while True:
                info = vault.get_process(process_id)
                live.update(_followed(info, first))
                if info.status not in ("running", "committing"):
                    break
                time.sleep(_SECONDS_BETWEEN_LOOKS)
    except KeyboardInterrupt:
        click.echo(f"Process '{process_id}' goes on.", err=True)
        raise SystemExit(INTERRUPTED) from None
    if info.hint:
        click.echo(info.hint, err=True)


def _followed(info: ProcessInfo, first: dict[str, tuple[float, int]]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title=f"{info.process_id}: {info.operation}, {info.status}")
    for name in ("builder", "rows", "reused", "rate", "left"):
        table.add_column(name, justify="left" if name == "builder" else "right")
    now = time.monotonic()
    for name, item in info.progress.items():
        began, computed = first.setdefault(name, (now, item.computed))
        rate = (item.computed - computed) / (now - began) if now > began else 0.0
        table.add_row(name, _rows(item), f"{item.reused:,}", _rate(rate), _left(item, rate))
    return table


def _rows(item: BuilderProgress) -> str:
    return rows_done(item.computed, item.reused, item.total)


def _rate(rate: float) -> str:
    return f"{rate:,.1f}/s" if rate else ""


def _left(item: BuilderProgress, rate: float) -> str:
    if item.done:
        return "done"
    return "" if item.total is None else time_left(item.total - item.computed - item.reused, rate)


def _in_short(info: ProcessInfo) -> dict[str, object]:
    ended = info.ended_at or datetime.now(UTC)
    return {
        "id": info.process_id,
        "operation": info.operation,
        "table": f"{info.table_name} {info.instance_id}".strip(),
        "state": info.status,
        "rows": _rows_done(info.progress.values()),
        "age" if info.ended_at is None else "took": duration((ended - info.started_at).total_seconds()),
        "error": f"{info.error.type}: {info.error.message}" if info.error else "",
    }


def _rows_done(progress: Iterable[BuilderProgress]) -> str:
    return ", ".join(map(_rows, progress))
