"""Rendering of processes and vault overviews as text and HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tablevault.display.html import Cell, Count, Sheet, State
from tablevault.texts.plain import MAXIMUM_RECORDED, counts_text, shown

if TYPE_CHECKING:
    from tablevault.records import Overview, ProcessInfo
    from tablevault.values.contents import InstanceRecord, TableRecord
    from tablevault.values.processes import BuilderProgress

_COLUMNS = ("table", "newest instance", "rows", "made", "by")


def process_text(process: ProcessInfo) -> str:
    """Return a process as text."""
    lines = [("process", f"{process.process_id} ({process.status})"), *_facts(process)]
    for name, item in process.progress.items():
        total = "?" if item.total is None else f"{item.total:,}"
        done = "done" if item.done else "not done"
        counts = [f"{item.computed:,} computed", f"{item.reused:,} reused"]
        counts += [text for text in (failed_text(item), f"{item.skipped:,} skipped" if item.skipped else "") if text]
        retries = [f"{item.retried:,} retried" if item.retried else "", retrying_text(item)]
        states = [f"{', '.join(counts)} of {total} rows", *filter(None, retries), done]
        lines.append((f"builder {name}", ", ".join(states)))
    if process.usage:
        lines.append(("usage", usage_text(process.usage)))
    if process.waiting:
        lines.append(("waiting for", process.waiting))
    if process.error is not None:
        lines.append(("error", process.error_line))
    text = "\n".join(f"{name}: {value}" for name, value in lines)
    return shown(f"{text}\n{process.hint}" if process.hint else text, MAXIMUM_RECORDED)


def process_html(process: ProcessInfo) -> str:
    """Return a process as HTML."""
    sheet = Sheet()
    sheet.heading("Process", process.process_id, State(process.status))
    sheet.facts(_facts(process))
    if process.progress:
        _add_builders(sheet, process)
    if process.usage:
        sheet.facts([("usage", usage_text(process.usage))])
    if process.waiting:
        sheet.facts([("waiting for", process.waiting)])
    if process.error is not None:
        error = Sheet()
        error.facts([("error", process.error_line)])
        error.folded("traceback", process.error.traceback)
        sheet.card(State("wrong"), error)
    if process.hint:
        sheet.remedies(process.remedies)
    return sheet.html


def failed_text(item: BuilderProgress, raised: int = 0) -> str:
    """Return the number of failed rows, with the most frequent errors; empty if there are none.

    Parameters
    ----------
    item
        The progress of a builder.
    raised
        Number of rows whose error ended the run.
    """
    failed, errors = item.failed + raised, counts_text(item.errors)
    return f"{failed:,} failed{f' ({errors})' if errors else ''}" if failed else ""


def retrying_text(item: BuilderProgress) -> str:
    """Return the number of rows that wait for a retry; empty if there are none."""
    return f"{item.retrying:,} waiting to be retried" if item.retrying else ""


def usage_text(usage: Mapping[str, float]) -> str:
    """Return usage amounts as text, with calls first."""
    ordered = sorted(usage.items(), key=lambda item: (item[0] != "calls", item[0]))
    return ", ".join(f"{_amount(value)} {name}" for name, value in ordered)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:,.4g}"


def _add_builders(sheet: Sheet, process: ProcessInfo) -> None:
    all_names = ("failed", "skipped", "retried", "retrying")
    names = [name for name in all_names if any(getattr(item, name) for item in process.progress.values())]
    with_errors = any(item.errors for item in process.progress.values())
    sheet.table(
        ("builder", "rows", "computed", "reused", *names, *(("most frequent errors",) if with_errors else ()), "state"),
        [
            (
                builder,
                Count(item.total),
                Count(item.computed),
                Count(item.reused),
                *(Count(getattr(item, name)) for name in names),
                *((counts_text(item.errors),) if with_errors else ()),
                "done" if item.done else "not done",
            )
            for builder, item in process.progress.items()
        ],
    )


def _facts(process: ProcessInfo) -> Iterable[tuple[str, str]]:
    yield "operation", f"{process.operation} by {process.author}"
    if process.table_name:
        yield "table", f"{process.table_name} {process.instance_id}".strip()
    if process.parent_id:
        yield "parent", process.parent_id
    yield "started", _moment(process.started_at)
    if process.ended_at is not None:
        yield "ended", _moment(process.ended_at)
    elif process.owner is not None:
        alive = "" if process.owner.alive else " (no longer runs it)"
        yield "owner", f"process number {process.owner.pid} on {process.owner.host}{alive}"


def overview_text(overview: Overview) -> str:
    """Return a vault overview as text."""
    lines = [f"vault: {overview.root}"]
    if overview.hidden_tables:
        lines.append(_of_hidden(overview))
    for table, newest in overview.tables:
        lines.append(f"table {table.name}: {newest.instance_id if newest else 'no materialized instance'}")
    for process in overview.processes:
        lines.append(f"process {process.process_id}: {process.operation}, {process.status}")
        lines.extend(f"    {line}" for line in process.hint.splitlines())
    return shown("\n".join(lines), MAXIMUM_RECORDED)


def overview_html(overview: Overview) -> str:
    """Return a vault overview as HTML."""
    sheet = Sheet()
    sheet.heading("Vault", str(overview.root))
    tables = "1 table" if overview.table_count == 1 else f"{overview.table_count:,} tables"
    sheet.note(f"{tables}, opened by {overview.author}")
    if overview.tables:
        sheet.table(_COLUMNS, [_table_row(table, newest) for table, newest in overview.tables])
    if overview.hidden_tables:
        sheet.note(_of_hidden(overview))
    for process in overview.processes:
        card = Sheet()
        card.heading("Process", process.process_id, State(process.status))
        card.facts(_facts_in_overview(process))
        card.remedies(process.remedies)
        sheet.card(State(process.status), card)
    return sheet.html


def _of_hidden(overview: Overview) -> str:
    return f"… {overview.hidden_tables:,} older tables; get_tables() lists all"


def _table_row(table: TableRecord, newest: InstanceRecord | None) -> tuple[Cell, ...]:
    if newest is None:
        return table.name, "none yet", "", "", ""
    return table.name, newest.instance_id, Count(newest.row_count), _moment(newest.created_at), newest.author


def _facts_in_overview(process: ProcessInfo) -> Iterable[tuple[str, Cell]]:
    of_table = f" on {process.table_name} {process.instance_id}".rstrip() if process.table_name else ""
    yield "operation", f"{process.operation}{of_table} by {process.author}, started {_moment(process.started_at)}"
    for name, item in process.progress.items():
        done = item.computed + item.reused
        total = "" if item.total is None else f" of {item.total:,}"
        yield f"builder {name}", f"{done:,}{total} rows{', done' if item.done else ''}"
    if process.error is not None:
        yield "error", process.error_line


def _moment(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
