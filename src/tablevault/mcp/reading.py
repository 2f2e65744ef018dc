"""Tools that only read."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from tablevault import names
from tablevault.errors import TVArgumentError, TVTableError
from tablevault.mcp.access import Access
from tablevault.mcp.answers import CELL_CHARACTERS, MAXIMUM_CHARACTERS, Answer, answer, rows_of, short
from tablevault.presentation.cells import shown_frame
from tablevault.presentation.errors import read_errors
from tablevault.presentation.instances import read_instance
from tablevault.presentation.processes import process_line, read_process
from tablevault.reading.listings import TableLine
from tablevault.values.addresses import Address

_MAXIMUM_TABLES = 200
_TABLES_AT_ONCE = 1_000
_SECONDS, _MEMORY = 30.0, "1GiB"
"""Limits of a statement."""
_MAXIMUM_ROWS = 1_000_000
_EXAMPLE_ROWS = 3
_NAMES_OF_STEP = ("table", "instance", "column", "inputs", "origin", "used_by")
_CHANGED_CELLS = 1_000
_EXAMPLES_PER_COLUMN = 5
_MAXIMUM_PROCESSES = 50


class ReadingTools:
    """The tools of the lowest level.

    Parameters
    ----------
    access
        The vault.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._vault = access.vault

    def overview(self, filter: str = "") -> Answer:
        """List tables (name contains `filter`): newest instance, rows, failed cells, tags, status; active processes."""
        wanted = names.fold(filter)
        found = [line for line in self._tables() if wanted in names.fold(line.table_name)]
        listed = found[:_MAXIMUM_TABLES]
        statuses = self._vault.get_status([line.table_name for line in listed]) if listed else {}
        rows = []
        for line in listed:
            newest, status = line.newest, statuses.get(line.table_name)
            rows.append(
                {
                    "table": line.table_name,
                    "instance": newest.instance_id if newest is not None else None,
                    "rows": newest.rows if newest is not None else None,
                    "failed": newest.failed_cells if newest is not None else 0,
                    "skipped": newest.skipped_cells if newest is not None else 0,
                    "tags": newest.tags if newest is not None else (),
                    "status": status.state if status is not None else None,
                    "description": line.description,
                }
            )
        active = [info for info in self._vault.get_active_processes().values() if self._access.sees_process(info)]
        return answer(
            rows,
            len(found),
            "Use filter to list fewer tables.",
            {"active_processes": list(map(process_line, active[:_MAXIMUM_PROCESSES]))},
        )

    def describe_table(self, table: str) -> Answer:
        """Describe an instance: columns, key, row, failed and skipped counts, tags, builders, status, 3 rows."""
        address = self._access.address(table)
        detail = read_instance(self._vault, address, 0, _EXAMPLE_ROWS)
        facts, line = detail.facts, detail.facts.line
        shown = {column.name: column.type_name for column in detail.frame.columns}
        types = {column.name: column.type_name for column in facts.columns} or shown
        status = self._vault.get_status([facts.table_name], version=line.version).get(facts.table_name)
        return answer(
            rows_of(detail.frame),
            line.rows,
            "Read more with query; DESCRIBE lists all columns.",
            {
                "table": facts.table_name,
                "instance": line.instance_id,
                "columns": types,
                "primary_key": facts.primary_key,
                "row_count": line.rows,
                "failed": line.failed_cells,
                "skipped": line.skipped_cells,
                "success": line.success,
                "tags": line.tags,
                "description": line.description,
                "author": line.author,
                "created_at": line.created_at,
                "builders": [builder.name for builder in detail.builders],
                "status": None if status is None else {"state": status.state, "reasons": status.reasons},
            },
        )

    def query(self, sql: str, limit: int = 50) -> Answer:
        """Run one SELECT (DuckDB). Tables are addresses: stories, "stories(v2)", "stories@paper". 30 s, 1 GiB."""
        _check_limit(limit)
        self._access.check_statement(sql)
        limits: dict[str, Any] = {"timeout": _SECONDS, "memory_limit": _MEMORY, "format": "arrow"}
        try:
            table, instances = self._vault.query(sql, rows=limit + 1, **limits)
        except TimeoutError:
            raise TVTableError(f"The statement took longer than {_SECONDS:.0f} s; ask for less.") from None
        total: int | None = table.num_rows
        if table.num_rows > limit:
            total = self._count(sql, limits)
        # More rows fit into no answer.
        shown = shown_frame(table.slice(0, min(limit, MAXIMUM_CHARACTERS // 2)), {}, most=CELL_CHARACTERS)
        advice = "Select fewer columns or rows, aggregate, or raise limit."
        return answer(rows_of(shown), total, advice, {"instances": instances})

    def _count(self, sql: str, limits: dict[str, Any]) -> int | None:
        """Return the number of rows of a statement; `None` if that takes too long."""
        try:
            counted, _ = self._vault.query(f"SELECT count(*) AS n FROM ({sql.strip().rstrip(';')}\n)", **limits)
        except (TimeoutError, TVTableError, TVArgumentError):
            # A valid statement need not be valid inside another one.
            return None
        return int(counted.column(0)[0].as_py())

    def diff(self, before: str, after: str) -> Answer:
        """Compare two instances (addresses): changes per column with causes, 5 examples each, builders and code."""
        old, new = self._access.address(before), self._access.address(after)
        difference = self._vault.diff_instances(
            old.table_name, _named(old), _named(new), after_table=new.table_name if old != new else ""
        )
        examples: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in difference.frame("cells", rows=_CHANGED_CELLS, format="arrow").to_pylist():
            if len(examples[row["column"]]) < _EXAMPLES_PER_COLUMN:
                examples[row["column"]].append(row)
        rows = [
            {"column": name, **asdict(column), "examples": examples.get(name, [])}
            for name, column in difference.columns.items()
        ]
        facts = {name: value for name, value in difference.to_dict().items() if name not in ("columns", "examples")}
        return answer(rows, advice="Compare single columns with query.", facts=facts)

    def trace(self, table: str, column: str, row: str = "") -> Answer:
        """Tell where a column comes from; with row (its primary key, or its position without one), one cell."""
        address = self._access.address(table)
        if not row:
            facts = self._vault.get_lineage(address.table_name, self._id_of(address), column).to_dict()
            facts["steps"] = {name: self._as_seen(step) for name, step in facts["steps"].items()}
            return answer(advice="Trace one column.", facts=facts)
        trace = self._vault.trace_cell(
            address.table_name, self._row_of(address, row), column, address.instance_id, address.version
        )
        facts = trace.to_dict()
        if not all(self._access.sees(step.table_name) for step in trace.inputs):
            facts["arguments"] = None
            facts["notes"] = [*facts["notes"], "Its arguments have values of tables that are not open."]
        return answer(advice="Read its inputs with query.", facts=facts)

    def _as_seen(self, step: dict[str, Any]) -> dict[str, Any]:
        """Return a step of a lineage.

        Of tables hidden from the client, it has only names and ids.
        """
        if self._access.sees(step["table"]):
            return step
        return {name: value for name, value in step.items() if name in _NAMES_OF_STEP}

    def get_errors(self, table: str = "", process_id: str = "", limit: int = 50) -> Answer:
        """List failed and skipped rows of an instance or a process: kinds of error with counts, then rows."""
        if bool(table) == bool(process_id):
            raise TVArgumentError("Give either table or process_id.")
        _check_limit(limit)
        if table:
            errors = read_errors(self._vault, self._access.address(table), "", limit)
            rows = [
                {name: value for name, value in asdict(row).items() if value is not None and name != "traceback"}
                for row in errors.rows
            ]
            return answer(rows, errors.total, "Use a smaller limit, or trace for one cell.", {"kinds": errors.kinds})
        self._access.process(process_id)
        found = self._vault.get_errors(process_id=process_id, format="arrow")
        listed = found.slice(0, limit).drop_columns(["traceback"]).to_pylist()
        kinds: dict[str, int] = defaultdict(int)
        for kind, error in zip(found.column("kind").to_pylist(), found.column("error").to_pylist(), strict=True):
            kinds[f"{kind}: {error}" if error else kind] += 1
        return answer(listed, found.num_rows, "Use a smaller limit.", {"kinds": dict(kinds)})

    def read_source(self, name: str, table: str = "") -> Answer:
        """Return the text of a code module, or with table of one of its builders."""
        if table:
            address = self._access.address(table)
            text = self._vault.get_builder_str(address.table_name, name, self._id_of(address))
        else:
            text = self._vault.get_code_module_str(name)
        return answer(text.splitlines(), advice="The source is cut.")

    def list_processes(self, status: str = "", table: str = "") -> Answer:
        """List processes, newest first, of a status (running, paused, succeeded, reverted, stopped) or table."""
        table_name = self._access.address(table).table_name if table else ""
        infos = list(islice(self._access.processes(table_name, status), _MAXIMUM_PROCESSES + 1))
        lines = list(map(process_line, infos[:_MAXIMUM_PROCESSES]))
        return answer(lines, len(lines) if len(lines) == len(infos) else None, "Filter by status or table.")

    def get_process(self, id: str) -> Answer:
        """Return one process: status, builders with their rows, error, what it waits for, how to resume or stop it."""
        self._access.process(id)
        detail = read_process(self._vault, id, self._access.rates)
        facts = {name: getattr(detail, name) for name in ("usage", "error", "locks", "children", "remedies")}
        return answer(detail.builders, facts={"process": detail.line, "log": detail.log[-2_000:], **facts})

    def plan_run(self, tables: list[str], version: str = "base") -> Answer:
        """Plan start_run without running anything: tables to execute, rows to compute, reasons."""
        plan = self._vault.plan_refresh(list(map(self._access.table, tables)), version=version, upstream=False)
        return answer(plan.steps, advice="Plan fewer tables.")

    # --- names ----------------------------------------------------------------------------------------------------

    def _tables(self) -> Iterable[TableLine]:
        after = ""
        while True:
            page = self._vault._listings().tables(after, _TABLES_AT_ONCE)
            yield from (line for line in page if self._access.sees(line.table_name))
            if len(page) < _TABLES_AT_ONCE:
                return
            after = page[-1].table_name

    def _id_of(self, address: Address) -> str:
        """Return the id of the instance that an address names."""
        return self._vault._instance_details().facts(address).line.instance_id

    def _row_of(self, address: Address, row: str) -> object:
        """Return a row in the form of `trace_cell`.

        It is a value of the primary key, or a position.
        """
        facts = self._vault._instance_details().facts(address)
        types = {column.name: column.type_name for column in facts.columns}
        if len(facts.primary_key) == 1 and types.get(facts.primary_key[0]) in ("string", "str", "artifact_string"):
            return row
        try:
            value = json.loads(row)
        except ValueError:
            return row
        return tuple(value) if isinstance(value, list) else value


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= _MAXIMUM_ROWS:
        raise TVArgumentError(f"limit is a number of rows from 1 to {_MAXIMUM_ROWS:,}, not {limit}.")


def _named(address: Address) -> str:
    return address.instance_id or address.version


def artifact_of(access: Access, table: str, row: int, column: str) -> Path:
    """Return the file that a cell names; raise `TVTableError` if it names no file."""
    address = access.address(table)
    details = access.vault._instance_details()
    facts = details.facts(address)
    table_name, instance_id = facts.table_name, facts.line.instance_id
    if row < 0:
        raise TVArgumentError(f"row is the position of a row, from 0, not {row}.")
    frame, _ = access.vault.get_dataframe(
        table_name, instance_id, rows=1, offset=row, columns=[column], full_artifact_path=False, format="arrow"
    )
    if frame.num_rows == 0:
        raise TVTableError(f"Instance '{instance_id}' of table '{table_name}' has no row {row}.")
    name = frame.column(column)[0].as_py()
    path = details.artifacts(Address(table_name, instance_id), [name]).get(name) if isinstance(name, str) else None
    if path is None:
        raise TVTableError(f"Row {row} of column '{column}' names no artifact that is there: {short(name)!r}.")
    return path
