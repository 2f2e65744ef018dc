"""Instances for display, as a page of the frame with its metadata or as one row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from tablevault.errors import TableVaultError, TVTableError
from tablevault.presentation.cells import (
    MAXIMUM_IN_FULL,
    ArtifactLink,
    ShownCell,
    ShownColumn,
    ShownFrame,
    artifact_names,
    indented,
    shown_frame,
)
from tablevault.presentation.content_types import content_type, shown_as
from tablevault.presentation.processes import ProcessLine, active_of
from tablevault.records import InstancePlan, LineageStep
from tablevault.texts.plain import shortened
from tablevault.values.addresses import Address

if TYPE_CHECKING:
    import pyarrow as pa

    from tablevault.reading.instance_details import InstanceFacts
    from tablevault.vault import TableVault

_MAXIMUM_TRACED_AT_ONCE = 200_000
"""Maximum number of cells of a frame whose rows are traced by default."""
_MAXIMUM_ARGUMENT_LENGTH = 2_000
"""Maximum number of characters of a text in the arguments of a call."""
_MAXIMUM_CODE_LENGTH = 200_000
"""Maximum number of characters shown of all code modules of an instance."""


@dataclass(frozen=True)
class BuilderText:
    """A builder, or a code module, of an instance."""

    name: str
    text: str


@dataclass(frozen=True)
class ColumnFacts:
    """The origin of a column."""

    name: str
    builder: str
    """Empty for an externally written column."""
    function: str
    computed: int | None
    reused: int | None
    inputs: tuple[str, ...]
    """The columns that it was computed from, in the notation of references."""
    code_versions: tuple[str, ...]


@dataclass(frozen=True)
class ActiveInstance:
    """An instance with its active processes."""

    facts: InstanceFacts
    processes: tuple[ProcessLine, ...]

    @property
    def is_running(self) -> bool:
        """Whether it changes without a user's action."""
        return any(process.status != "paused" for process in self.processes)


@dataclass(frozen=True)
class InstanceDetail:
    """An instance with a page of its frame."""

    facts: InstanceFacts
    address: str
    frame: ShownFrame
    problem: str
    """Reason for a missing frame; empty otherwise."""
    offset: int
    next_offset: int | None
    total: int | None
    builders: tuple[BuilderText, ...]
    code: tuple[BuilderText, ...]
    provenance: tuple[ColumnFacts, ...]
    processes: tuple[ProcessLine, ...]
    """Its active processes."""
    plan: InstancePlan | None = None
    """The plan of its execution, if it is temporary."""
    plan_problem: str = ""
    """Reason for a missing plan."""

    @property
    def is_running(self) -> bool:
        """Whether it changes without a user's action."""
        return any(process.status != "paused" for process in self.processes)


@dataclass(frozen=True)
class Trace:
    """The origin of a cell."""

    state: str
    builder: str
    function: str
    code_version: str
    source: str
    """Source of the function as it ran."""
    arguments: str
    """Arguments of the call as JSON; empty if one of their inputs no longer exists."""
    instance_id: str
    """The instance in which the function ran for it; empty if it did not."""
    process_id: str
    author: str
    when: datetime | None
    reused_through: tuple[str, ...]
    inputs: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RowDetail:
    """One row in full."""

    facts: InstanceFacts
    address: str
    position: int
    total: int | None
    has_next: bool
    """Whether a row follows."""
    columns: tuple[ShownColumn, ...]
    cells: tuple[ShownCell, ...]
    tracebacks: Mapping[str, str] = field(default_factory=dict)
    """Tracebacks of failed cells, by builder name."""
    traces: Mapping[str, Trace] | None = None
    """The origin of each cell, by column; `None` if omitted because the frame is large."""


def instance_address(table_name: str, instance: str) -> Address:
    """Parse an instance in a path.

    It is an id, `@tag`, `TEMP_version` or a version.
    """
    # A version has no underscore, and every id has one.
    if instance.startswith("@") or "_" in instance:
        return Address(table_name, instance)
    return Address(table_name, version=instance)


def address_text(table_name: str, instance_id: str) -> str:
    """Return the address of an instance."""
    return f"{table_name}({instance_id})"


def builder_texts(vault: TableVault, table_name: str, instance_id: str) -> dict[str, str]:
    """Return the texts of the builders of an instance.

    The text of an unreadable builder is its error.
    """
    texts = {}
    for name in vault.get_builders_list(table_name, instance_id):
        try:
            texts[name] = vault.get_builder_str(table_name, name, instance_id)
        except TableVaultError as error:
            texts[name] = f"# {error}"
    return texts


def read_active(vault: TableVault, address: Address) -> ActiveInstance:
    """Return an instance with its active processes, without its frame."""
    facts = vault._instance_details().facts(address)
    return ActiveInstance(facts, _active(vault, facts))


def _active(vault: TableVault, facts: InstanceFacts) -> tuple[ProcessLine, ...]:
    return tuple(
        process for process in active_of(vault, facts.table_name) if process.instance_id in (facts.line.instance_id, "")
    )


def read_instance(vault: TableVault, address: Address, offset: int, most: int) -> InstanceDetail:
    """Return an instance with a page of its frame."""
    details = vault._instance_details()
    facts = details.facts(address)
    # From here on, use the id, which always names the same instance.
    instance_id, table_name = facts.line.instance_id, facts.table_name
    exact = Address(table_name, instance_id)
    frame, problem, has_more = read_page(vault, facts, offset, most)
    is_temporary = facts.line.temporary
    active = _active(vault, facts)
    plan, plan_problem = instance_plan(vault, facts) if is_temporary and not active else (None, "")
    return InstanceDetail(
        facts,
        address_text(table_name, instance_id),
        frame,
        problem,
        offset,
        offset + most if has_more else None,
        facts.line.rows,
        _texts(builder_texts(vault, table_name, instance_id)),
        _texts(_shortened(details.code(exact))),
        () if is_temporary else _provenance(vault, table_name, instance_id),
        active,
        plan,
        plan_problem,
    )


def read_row(vault: TableVault, address: Address, position: int, traces: bool = False) -> RowDetail:
    """Return one row in full.

    Parameters
    ----------
    vault
        The vault.
    address
        The instance.
    position
        The row.
    traces
        Whether to trace cells even in a large frame, which may take seconds.

    Raises
    ------
    TVTableError
        If the row does not exist.
    """
    details = vault._instance_details()
    facts = details.facts(address)
    table_name, instance_id = facts.table_name, facts.line.instance_id
    table = _rows(vault, facts, position, 2)
    has_next, table = table.num_rows > 1, table.slice(0, 1)
    if table.num_rows == 0:
        raise TVTableError(f"Instance '{instance_id}' of table '{table_name}' has no row {position}.")
    exact = Address(table_name, instance_id)
    types = _type_names(facts)
    unset = details.unset_cells(exact, range(position, position + 1))
    frame = shown_frame(table, types, position, unset, _artifacts(vault, facts, table, types), most=MAXIMUM_IN_FULL)
    cells = tuple(
        ShownCell(cell.state, indented(cell.text), cell.length, cell.artifact, cell.failure)
        if cell.state == "json"
        else cell
        for cell in frame.rows[0].cells
    )
    return RowDetail(
        facts,
        address_text(table_name, instance_id),
        position,
        facts.line.rows,
        has_next,
        frame.columns,
        cells,
        _tracebacks(vault, exact, position) if unset.failed else {},
        _traces(vault, facts, table, position) if traces or _is_traced_at_once(facts) else None,
    )


def _is_traced_at_once(facts: InstanceFacts) -> bool:
    return (facts.line.rows or 0) * max(len(facts.columns), 1) <= _MAXIMUM_TRACED_AT_ONCE


def _traces(vault: TableVault, facts: InstanceFacts, table: pa.Table, position: int) -> dict[str, Trace]:
    """Return the traces of the cells of a row; empty for a temporary instance."""
    if facts.line.temporary:
        return {}
    row: object = position
    if facts.primary_key:
        key = tuple(table.column(name)[0].as_py() for name in facts.primary_key)
        row = key if len(key) > 1 else key[0]
    return {name: _trace(vault, facts, row, name) for name in table.column_names}


def _trace(vault: TableVault, facts: InstanceFacts, row: object, column: str) -> Trace:
    try:
        trace = vault.trace_cell(facts.table_name, row, column, facts.line.instance_id)
    except TableVaultError as error:
        return Trace("unknown", "", "", "", "", "", "", "", "", None, (), (), (str(error),))
    computed = trace.computed_in
    arguments = trace.to_dict()["arguments"]
    return Trace(
        trace.state,
        trace.builder,
        trace.function,
        trace.code_version,
        trace.source,
        ""
        if arguments is None
        else json.dumps(shortened(arguments, _MAXIMUM_ARGUMENT_LENGTH), indent=2, ensure_ascii=False),
        "" if computed is None else computed.instance_id,
        "" if computed is None else computed.process_id,
        "" if computed is None else computed.author,
        None if computed is None else computed.when,
        trace.reused_through,
        tuple(_input_name(step, facts.table_name, facts.line.instance_id) for step in trace.inputs),
        trace.notes,
    )


def read_page(
    vault: TableVault, facts: InstanceFacts, offset: int, most: int, columns: Sequence[str] | None = None
) -> tuple[ShownFrame, str, bool]:
    """Return a page of a frame or the reason for its absence, and whether rows follow."""
    try:
        table = _rows(vault, facts, offset, most + 1, columns)
    except TVTableError as error:
        return ShownFrame((), ()), str(error), False
    has_more, table = table.num_rows > most, table.slice(0, most)
    exact = Address(facts.table_name, facts.line.instance_id)
    types = _type_names(facts)
    is_whole = not (facts.line.temporary or facts.line.failed_cells or facts.line.skipped_cells)
    unset = None
    if not is_whole:
        unset = vault._instance_details().unset_cells(exact, range(offset, offset + table.num_rows))
    return shown_frame(table, types, offset, unset, _artifacts(vault, facts, table, types)), "", has_more


def _rows(
    vault: TableVault, facts: InstanceFacts, offset: int, rows: int, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return rows of an instance, with artifacts by their names."""
    table, _ = vault.get_dataframe(
        facts.table_name,
        facts.line.instance_id,
        rows=rows,
        offset=offset,
        columns=columns,
        full_artifact_path=False,
        format="arrow",
    )
    return table


def _type_names(facts: InstanceFacts) -> dict[str, str]:
    return {column.name: column.type_name for column in facts.columns}


def _artifacts(
    vault: TableVault, facts: InstanceFacts, table: pa.Table, types: Mapping[str, str]
) -> dict[str, ArtifactLink]:
    """Return the artifacts that cells name, by name."""
    wanted = artifact_names(table, types)
    if not wanted:
        return {}
    exact = Address(facts.table_name, facts.line.instance_id)
    found = vault._instance_details().artifacts(exact, wanted)
    absent = "replaced since" if facts.line.artifacts_replaced else "missing"
    return {
        name: ArtifactLink(name, shown_as(content_type(found[name])) if name in found else absent) for name in wanted
    }


def instance_plan(vault: TableVault, facts: InstanceFacts) -> tuple[InstancePlan | None, str]:
    """Return the plan of a temporary instance, or the reason for its absence."""
    if facts.line.external:
        return None, "A program writes its frame, with write_instance."
    try:
        return vault.plan_instance(facts.table_name, facts.line.version), ""
    except TableVaultError as error:
        return None, str(error)


def _provenance(vault: TableVault, table_name: str, instance_id: str) -> tuple[ColumnFacts, ...]:
    try:
        steps: Sequence[LineageStep] = vault.get_lineage(table_name, instance_id).columns
    except TVTableError:
        return ()
    return tuple(
        ColumnFacts(
            step.column,
            step.builder,
            step.function,
            step.computed,
            step.reused,
            tuple(_input_name(item, table_name, instance_id) for item in step.inputs),
            tuple(item.version for item in step.code_versions),
        )
        for step in steps
    )


def _input_name(step: LineageStep, table_name: str, instance_id: str) -> str:
    """Return the name of a column in a reference of an instance."""
    is_own = (step.table_name, step.instance_id) == (table_name, instance_id)
    return f"self.{step.column}" if is_own else step.name


def _tracebacks(vault: TableVault, exact: Address, position: int) -> dict[str, str]:
    errors = vault.get_errors(exact.table_name, exact.instance_id, format="arrow").select(
        ["builder", "index", "traceback"]
    )
    return {
        row["builder"]: row["traceback"]
        for row in errors.to_pylist()
        if row["index"] == position and row["traceback"] is not None
    }


def _texts(texts: Mapping[str, str]) -> tuple[BuilderText, ...]:
    return tuple(BuilderText(name, text) for name, text in texts.items())


def _shortened(modules: Mapping[str, str]) -> dict[str, str]:
    """Return modules, truncated to the displayed length."""
    left, shown = _MAXIMUM_CODE_LENGTH, {}
    for name, text in modules.items():
        shown[name] = text[:left] if len(text) > left else text
        left -= len(shown[name])
        if left <= 0:
            break
    return shown
