"""What a person wants to see of a vault at a glance: its tables, their newest instances, and what is under way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tablevault.hypertext import Cell, Count, Sheet, State
from tablevault.lookup import VaultContext
from tablevault.records import ProcessInfo, moment
from tablevault.texts import MOST_RECORDED, shown
from tablevault.values import InstanceRecord, TableRecord

_MOST_TABLES = 20
"""Tables that are shown, the newest; `get_tables()` has all."""

_COLUMNS = ("table", "newest instance", "rows", "made", "by")


@dataclass(frozen=True, repr=False)
class Overview:
    """A vault at one moment."""

    root: Path
    author: str
    table_count: int
    tables: tuple[tuple[TableRecord, InstanceRecord | None], ...]
    """The newest tables, each with its newest materialized instance."""
    processes: tuple[ProcessInfo, ...]
    """The active ones."""

    def __repr__(self) -> str:
        lines = [f"vault: {self.root}"]
        if self._hidden:
            lines.append(self._hidden)
        for table, newest in self.tables:
            lines.append(f"table {table.name}: {newest.instance_id if newest else 'no materialized instance'}")
        for process in self.processes:
            lines.append(f"process {process.process_id}: {process.operation}, {process.status}")
            lines.extend(f"    {line}" for line in process.hint.splitlines())
        return shown("\n".join(lines), MOST_RECORDED)

    @property
    def html(self) -> str:
        """The vault as HTML."""
        sheet = Sheet()
        sheet.heading("Vault", str(self.root))
        tables = "1 table" if self.table_count == 1 else f"{self.table_count:,} tables"
        sheet.note(f"{tables}, opened by {self.author}")
        if self.tables:
            sheet.table(_COLUMNS, [_table_row(table, newest) for table, newest in self.tables])
        if self._hidden:
            sheet.note(self._hidden)
        for process in self.processes:
            sheet.card(State(process.status), self._process(process))
        return sheet.html

    @property
    def _hidden(self) -> str:
        hidden = self.table_count - len(self.tables)
        return f"… {hidden:,} older tables; get_tables() lists all" if hidden else ""

    def _process(self, process: ProcessInfo) -> Sheet:
        sheet = Sheet()
        sheet.heading("Process", process.process_id, State(process.status))
        sheet.facts(_process_facts(process))
        sheet.remedies(process.remedies)
        return sheet


def read_overview(context: VaultContext, processes: Iterable[ProcessInfo]) -> Overview:
    """Return what is to be seen of a vault now."""
    contents = context.catalog.contents
    tables = contents.tables()
    shown = tuple((table, contents.newest(table.table_id)) for table in tables[-_MOST_TABLES:])
    return Overview(context.layout.root, context.author, len(tables), shown, tuple(processes))


def _table_row(table: TableRecord, newest: InstanceRecord | None) -> tuple[Cell, ...]:
    if newest is None:
        return table.name, "none yet", "", "", ""
    return table.name, newest.instance_id, Count(newest.row_count), moment(newest.created_at), newest.author


def _process_facts(process: ProcessInfo) -> Iterable[tuple[str, Cell]]:
    of_table = f" on {process.table_name} {process.instance_id}".rstrip() if process.table_name else ""
    yield "operation", f"{process.operation}{of_table} by {process.author}, started {moment(process.started_at)}"
    for name, item in process.progress.items():
        done = item.computed + item.reused
        total = "" if item.total is None else f" of {item.total:,}"
        yield f"builder {name}", f"{done:,}{total} rows{', done' if item.done else ''}"
    if process.error is not None:
        yield "error", process.error_line
