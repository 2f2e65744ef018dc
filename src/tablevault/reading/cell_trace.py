"""Trace of one cell, with its value, its computation and its arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tablevault import names
from tablevault.builders.document import read_document
from tablevault.builders.policies import RUN_BY_ROW
from tablevault.builders.spec import build_spec
from tablevault.code.loading import built_in_sources
from tablevault.code.source import definition_text
from tablevault.code.sources import Sources
from tablevault.errors import TableVaultError, TVArgumentError, TVTableError
from tablevault.execution.input_rows import read_input_counts, read_input_key
from tablevault.execution.inputs import PinnedFrames, PinnedInputs, PinnedKey, WithSelf
from tablevault.execution.preparation import Prepared
from tablevault.execution.provenance import BuilderFacts, InputFacts, in_catalog, read_provenance
from tablevault.layout import module_file
from tablevault.ports import Frame
from tablevault.reading.compared_instances import ComparedInstance, ComparedInstances
from tablevault.reading.failures import FailureReader
from tablevault.reading.lineage import LineageReader
from tablevault.reading.makers import maker_of
from tablevault.reading.queries import Queries
from tablevault.reading.requests import selection_of
from tablevault.records import CellTrace, ComputedIn
from tablevault.references import Evaluator, Placement, dependencies
from tablevault.state.context import VaultContext
from tablevault.state.imported import import_of
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.storage.cell_texts import shown_values, values_or_texts
from tablevault.storage.columns import plain_values
from tablevault.storage.frames import StoredFrame
from tablevault.values.contents import InstanceRecord
from tablevault.values.processes import ErrorInfo

_MAXIMUM_SUGGESTED = 100_000
"""Maximum number of keys that are searched for similar ones."""


@dataclass(frozen=True)
class _Cell:
    """One cell of one instance."""

    side: ComparedInstance
    column: str
    position: int

    @property
    def builder(self) -> BuilderFacts | None:
        """The builder that made it; `None` if a program wrote it."""
        return self.side.producer(self.column)

    def computation(self) -> tuple[str, bytes | None]:
        """Return the version and fingerprint of its row; `None` for an unrecorded fingerprint."""
        facts = self.builder
        if facts is None:
            return "", None
        records = self.side.records(facts.name)
        if records is None:
            return (facts.versions[-1] if facts.versions else ""), facts.whole
        fingerprint = records.fingerprints[self.position].as_py()
        return (records.versions[int(records.codes[self.position])] if records.versions else ""), fingerprint

    @property
    def is_recorded_by_row(self) -> bool:
        """Whether its builder recorded a fingerprint per row."""
        return self.builder is not None and self.side.records(self.builder.name) is not None

    @property
    def is_kept_by_row(self) -> bool:
        """Whether its IndexBuilder, which recorded a fingerprint per row, kept its row with `keep_old`."""
        facts = self.builder
        may_keep = facts is not None and facts.is_index and self.side.origin is not None
        return may_keep and self.is_recorded_by_row and self.computation()[1] is None

    def is_kept_from(self, before: BuilderFacts | None) -> bool:
        """Return whether its IndexBuilder kept its row with `keep_old` from the origin.

        Parameters
        ----------
        before
            The column's builder in the origin.
        """
        facts = self.builder
        if facts is None or not facts.is_index or self.is_recorded_by_row:
            return self.is_kept_by_row
        shown = before if facts.return_type == "generator" and "*" in facts.own_columns else None
        if shown is not None and (shown.versions, shown.arguments) == (facts.versions, facts.arguments):
            # Unchanged, it was shown the origin's rows, and appended to them.
            return self.position < facts.reused
        return self.position >= self.side.row_count - facts.reused


class CellTracer:
    """Traces cells of one vault.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._context = context
        self._lookup = Lookup(context)
        self._queries = Queries(context)
        self._instances = ComparedInstances(context)

    def trace(self, table_name: str, row: Any, column: str, instance_id: str, version: str) -> CellTrace:
        """Return the trace of a cell; parameters as of `TableVault.trace_cell`."""
        selection = selection_of(table_name, instance_id, version)

        def read() -> CellTrace:
            table, instance = self._queries.select(selection)
            if instance.temporary:
                raise TVArgumentError(
                    f"Instance '{instance.instance_id}' of table '{table.name}' is temporary, so its cells are not "
                    f"final. diff_instances('{table.name}', after='{instance.instance_id}') compares them."
                )
            side = self._instances.open(table, instance)
            if column not in side.types:
                raise TVTableError(
                    f"Instance '{instance.instance_id}' of table '{table.name}' has no column '{column}'"
                    f"{names.nearest(column, side.types)}"
                )
            return self._trace(_Cell(side, column, _position(side, row)))

        return self._queries.again_if_moved(table_name, read)

    def _trace(self, cell: _Cell) -> CellTrace:
        side, facts = cell.side, cell.builder
        value = values_or_texts(side.read(cell.column).slice(cell.position, 1), side.types[cell.column])[0]
        key = {name: _value(side, name, cell.position) for name in side.primary_key} or {"index": cell.position}
        found = CellTrace(
            table_name=side.table.name,
            instance_id=side.instance.instance_id,
            column=cell.column,
            key=key,
            value=value,
            state="external",
            error=None,
            builder="",
            function="",
            code_version="",
            source="",
            computed_in=self._computed_in(side),
            arguments=None,
            inputs=(),
            reused_through=(),
            notes=(),
        )
        if facts is None:
            return replace(found, inputs=self._inputs(side, cell.column))
        if side.failed_rows(cell.column)[cell.position]:
            return self._with_failure(found, cell, facts)
        if value is None and cell.is_recorded_by_row and cell.computation()[1] is None and not cell.is_kept_by_row:
            return replace(found, state="not computed", builder=facts.name, function=_function(facts), computed_in=None)
        return self._with_computation(replace(found, state="computed"), cell)

    def _with_computation(self, found: CellTrace, cell: _Cell) -> CellTrace:
        """Add the facts about the computation of a cell."""
        notes: list[str] = []
        cells = [cell, *self._earlier(cell, notes)]
        last = cells[-1]
        facts = last.builder
        through = tuple(item.side.instance.instance_id for item in cells[1:-1])
        if facts is None:
            # Its row was kept from an instance that a program wrote.
            return replace(
                found,
                state="external",
                computed_in=self._computed_in(last.side),
                inputs=self._inputs(last.side, last.column),
                reused_through=through,
                notes=tuple(notes),
            )
        version = last.computation()[0]
        source = self._source(last.side, facts, version, notes)
        return replace(
            found,
            builder=facts.name,
            function=_function(facts),
            code_version=version,
            source=source,
            computed_in=self._computed_in(last.side),
            arguments=self._arguments(last, facts, notes),
            inputs=self._inputs(last.side, last.column),
            input_row=self._input_row(last if cell.is_kept_by_row else cell),
            reused_through=through,
            notes=tuple(notes),
        )

    # --- failures -------------------------------------------------------------------------------------------------

    def _with_failure(self, found: CellTrace, cell: _Cell, facts: BuilderFacts) -> CellTrace:
        """Add the error of a failed cell, or the one that caused a skipped cell."""
        failures = FailureReader(self._context).of_instance(cell.side.table, cell.side.instance)
        shown = {(row["builder"], row["index"]): row for row in failures.shown()}
        row = shown[facts.name, cell.position]
        state, notes, cause = str(row["kind"]), [], row
        # The cause of a skipped row names the builder whose function failed.
        if state == "skipped" and row["cause"] is not None:
            builder, _, column = str(row["cause"]).partition(".")
            notes.append(f"skipped, because `{column}` of its row failed in builder {builder}")
            cause = shown.get((builder, cell.position), row)
        error = None
        if cause["error"] is not None:
            error = ErrorInfo(str(cause["error"]), str(cause["message"]), str(cause["traceback"]))
        version = str(row["code"])
        return replace(
            found,
            state=state,
            error=error,
            builder=facts.name,
            function=_function(facts),
            code_version=version,
            source=self._source(cell.side, facts, version, notes),
            arguments=self._arguments(cell, facts, notes) if state == "failed" else None,
            inputs=self._inputs(cell.side, cell.column),
            notes=tuple(notes),
        )

    # --- origins --------------------------------------------------------------------------------------------------

    def _earlier(self, cell: _Cell, notes: list[str]) -> Iterator[_Cell]:
        """Yield the chain of cells from which a cell was reused, newest first."""
        current: _Cell | None = cell
        while current is not None:
            current = self._origin(current, notes)
            if current is not None:
                yield current

    def _origin(self, cell: _Cell, notes: list[str]) -> _Cell | None:
        """Return the cell from which a cell was reused or kept; `None` if it was computed."""
        facts, origin = cell.builder, cell.side.origin
        if facts is None or origin is None or not (facts.reused or cell.is_kept_by_row):
            return None
        record = self._lookup.instance_by_row(origin.row_id)
        if self._lookup.contents.instance(record.table_id, record.instance_id) is None:
            notes.append(
                f"instance {record.instance_id} of table '{origin.table}' is not in the vault; if the cell was reused "
                "from it, it was computed earlier than shown"
            )
            return None
        side = self._instances.open(self._lookup.table_by_id(record.table_id), record)
        before = side.producer(cell.column)
        position = _counterpart(cell, side)
        if position is None or cell.column not in side.types:
            return None
        earlier = _Cell(side, cell.column, position)
        if cell.is_kept_from(before):
            return earlier
        if before is None or before.columns != facts.columns:
            return None
        computation = cell.computation()
        is_same = computation[1] is not None and computation == earlier.computation()
        return earlier if is_same else None

    def _computed_in(self, side: ComparedInstance) -> ComputedIn:
        """Return the instance and its maker, which for an imported instance is that of the source."""
        instance, imported = side.instance, None
        if import_of(self._context, instance.process_id) is not None:
            imported = read_provenance(self._lookup.folder(side.table, instance).provenance)
        maker = maker_of(instance, imported)
        return ComputedIn(instance.instance_id, maker.process_id, maker.author, maker.made_at)

    # --- how it was computed --------------------------------------------------------------------------------------

    def _inputs(self, side: ComparedInstance, column: str) -> tuple[Any, ...]:
        lineage = LineageReader(self._context).lineage(side.table.name, side.instance.instance_id, column)
        return lineage.columns[0].inputs

    def _source(self, side: ComparedInstance, facts: BuilderFacts, version: str, notes: list[str]) -> str:
        """Return the source of a function as it ran."""
        try:
            if not facts.is_custom:
                return definition_text(built_in_sources()[facts.module], facts.function)
            if not names.is_file_name(facts.module) or side.code is None:
                return ""
            folder = self._code(side, side.code, facts, version)
            return definition_text(files.read_source(module_file(folder, facts.module)), facts.function)
        except (KeyError, OSError, TableVaultError) as error:
            notes.append(f"the source cannot be shown: {error}")
            return ""

    def _code(self, side: ComparedInstance, code: Path, facts: BuilderFacts, version: str) -> Path:
        """Return the code folder of the attempt, last or earlier, that ran a version."""
        newest = files.unlinked(code)
        earlier = sorted(newest.glob("attempt-*"))
        if len(facts.versions) < 2 or not earlier:
            return newest
        path = side.builder_files[facts.name]
        spec = build_spec(read_document(files.read_text(path), path.name), facts.name, lambda value: value)
        inputs = PinnedInputs(self._lookup, ())
        for folder in (newest, *map(files.unlinked, earlier)):
            if Prepared((spec,), inputs, Sources.of_snapshot(folder)).builders[0].version == version:
                return folder
        return newest

    def _arguments(self, cell: _Cell, facts: BuilderFacts, notes: list[str]) -> dict[str, Any] | None:
        """Resolve the arguments of a call again; `None` if one of their inputs is gone."""
        own = self._own_frame(cell, facts, notes)
        inputs = self._pinned(cell, facts, notes)
        if own is None or inputs is None:
            return None
        by_row = facts.return_type in RUN_BY_ROW
        row = self._row_of_call(cell, facts) if by_row else None
        evaluator = Evaluator(WithSelf(inputs, own))
        placement = Placement.ROW_ARGUMENT if by_row else Placement.ARGUMENT
        try:
            return {
                name: evaluator.compile(value, placement=placement).evaluate(row)
                for name, value in facts.arguments.items()
            }
        except (TableVaultError, LookupError, ValueError, TypeError, OverflowError) as error:
            notes.append(f"the arguments cannot be resolved again: {error}")
            return None

    def _own_frame(self, cell: _Cell, facts: BuilderFacts, notes: list[str]) -> Callable[[], Frame] | None:
        """Return a function that opens the frame denoted by `self`."""
        side = cell.side
        if facts.is_index:
            if side.origin is None or not facts.own_columns:
                return self._frame_of(side.instance)
            record = self._lookup.instance_by_row(side.origin.row_id)
            if self._lookup.contents.instance(record.table_id, record.instance_id) is None:
                notes.append(f"the arguments read the origin {record.instance_id}, which is not in the vault")
                return None
            return self._frame_of(record)
        place = side.builders.index(facts)
        later = {column for other in side.builders[place:] for column in other.columns}
        lost = sorted(later & {column for other in side.builders[:place] for column in other.columns})
        if lost and ("*" in facts.own_columns or not later.isdisjoint(facts.own_columns)):
            notes.append(f"the arguments read column `{lost[0]}` as it was before a later builder overwrote it")
            return None
        return self._frame_of(side.instance)

    def _pinned(self, cell: _Cell, facts: BuilderFacts, notes: list[str]) -> PinnedFrames | None:
        """Return the frames of other tables read by the arguments."""
        read = [item for value in facts.arguments.values() for item in dependencies(value).reads]
        wanted = {PinnedKey(names.fold(item.table), item.instance): item for item in read if item.table != "self"}
        recorded = {item.row_id: item for item in self._recorded_inputs(cell.side)}
        candidates = [
            recorded[row_id] for row_id in dict.fromkeys(row for row, _ in facts.inputs) if row_id in recorded
        ]
        frames: dict[PinnedKey, Callable[[], Frame]] = {}
        found = self._pinned_to(list(wanted), candidates)
        for key, dependency in wanted.items():
            item = found.get(key)
            if item is None:
                notes.append(f"the instance that '{dependency.text}' referred to is not recorded")
                return None
            record = self._lookup.instance_by_row(item.row_id)
            if self._lookup.contents.instance(record.table_id, record.instance_id) is None:
                notes.append(
                    f"the arguments read instance {item.instance_id} of '{item.table}', which is not in the vault"
                )
                return None
            frames[key] = self._frame_of(record)
        return PinnedFrames(frames)

    def _pinned_to(self, keys: Sequence[PinnedKey], candidates: Sequence[InputFacts]) -> dict[PinnedKey, InputFacts]:
        """Return the instances to which references were pinned, where they can be determined.

        The record lists the instances that were read, but not by which reference. Several instances of one table are
        told apart by id, version or tag; a single remaining one belongs to the remaining reference.
        """
        found: dict[PinnedKey, InputFacts] = {}
        for table in dict.fromkeys(key.table for key in keys):
            left = [item for item in candidates if names.fold(item.table) == table]
            waiting = [key for key in keys if key.table == table]
            for key in waiting:
                named = [item for item in left if self._is_named(item, key.instance)]
                if len(named) == 1:
                    found[key] = named[0]
            others = [item for item in left if item not in found.values()]
            unknown = [key for key in waiting if key not in found]
            if len(others) == len(unknown) == 1 or (len(left) == 1 and unknown):
                found.update(dict.fromkeys(unknown, (others or left)[0]))
        return found

    def _is_named(self, item: InputFacts, instance: str | None) -> bool:
        """Return whether an id, a version or a tag names an instance."""
        if instance is None:
            return False
        record = self._lookup.instance_by_row(item.row_id)
        tag = names.tag_in(instance)
        if tag is not None:
            tagged = self._lookup.contents.tagged(record.table_id, tag)
            return tagged is not None and tagged.row_id == record.row_id
        return instance in (record.instance_id, record.version)

    def _recorded_inputs(self, side: ComparedInstance) -> tuple[InputFacts, ...]:
        path = self._lookup.folder(side.table, side.instance).provenance
        return in_catalog(read_provenance(path), self._lookup.contents).inputs

    def _input_row(self, cell: _Cell) -> dict[str, Any] | None:
        """Return the position and key of the input row that a row was made from, if any."""
        facts, folder = cell.builder, self._lookup.folder(cell.side.table, cell.side.instance)
        if facts is None or not facts.is_index or not folder.input_rows.is_file():
            return None
        position = self._row_of_call(cell, facts)
        if position >= len(read_input_counts(folder.input_rows)):
            # It was kept from an origin.
            return None
        values = read_input_key(folder.input_rows, position)
        named = self._input_key(cell.side, facts)
        return {"index": position, **(dict(zip(named, values, strict=True)) if len(named) == len(values) else {})}

    def _input_key(self, side: ComparedInstance, facts: BuilderFacts) -> tuple[str, ...]:
        """Return the primary key of the table that supplied the input rows; empty if it is not in the vault."""
        path = side.builder_files[facts.name]
        address = read_document(files.read_text(path), path.name).for_each
        read = {row_id for row_id, _ in facts.inputs}
        candidates = [item for item in self._recorded_inputs(side) if item.row_id in read]
        found = None
        if address is not None:
            key = PinnedKey(names.fold(address.table), address.instance)
            found = self._pinned_to([key], candidates).get(key)
        record = self._lookup.instance_by_row(found.row_id) if found is not None else None
        if record is None or self._lookup.contents.instance(record.table_id, record.instance_id) is None:
            return ()
        return read_provenance(self._lookup.folder_of(record).provenance).primary_key

    def _row_of_call(self, cell: _Cell, facts: BuilderFacts) -> int:
        """Return the row of the call, in the input table if the builder has input rows."""
        path = self._lookup.folder(cell.side.table, cell.side.instance).input_rows
        if not facts.is_index or not path.is_file():
            return cell.position
        counts = read_input_counts(path)
        return int(np.searchsorted(np.cumsum(counts), cell.position, side="right"))

    def _frame_of(self, instance: InstanceRecord) -> Callable[[], Frame]:
        folder = self._lookup.folder_of(instance)
        opened: list[Frame] = []

        def open_once() -> Frame:
            if not opened:
                opened.append(StoredFrame(folder.frame, folder.artifacts))
            return opened[0]

        return open_once


def _function(facts: BuilderFacts) -> str:
    return f"{facts.module}.{facts.function}"


# --- rows -----------------------------------------------------------------------------------------------------------


def _position(side: ComparedInstance, row: Any) -> int:
    """Return the position of a row.

    The row is given by its key or, without a key, by its position.
    """
    if not side.primary_key:
        return _checked_position(side, row)
    wanted = row if isinstance(row, tuple | list) else (row,)
    if len(wanted) != len(side.primary_key):
        raise TVArgumentError(
            f"The primary key of instance '{side.instance.instance_id}' of table '{side.table.name}' has "
            f"{len(side.primary_key)} columns ({', '.join(side.primary_key)}); give a value for each, not "
            f"{row!r:.200}."
        )
    columns = [_KeyValues(side, name) for name in side.primary_key]
    places = set(range(side.row_count))
    for column, value in zip(columns, wanted, strict=True):
        places &= column.places_of(value)
    if not places:
        shown = wanted[0] if len(wanted) == 1 else tuple(wanted)
        known = columns[0].texts() if len(columns) == 1 and side.row_count <= _MAXIMUM_SUGGESTED else []
        raise TVTableError(
            f"Instance '{side.instance.instance_id}' of table '{side.table.name}' has no row with "
            f"{', '.join(side.primary_key)} = {shown!r:.200}{names.nearest(str(shown), known) if known else '.'}"
        )
    return min(places)


def _checked_position(side: ComparedInstance, row: Any) -> int:
    position = int(row) if isinstance(row, str) and row.strip().lstrip("-").isdecimal() else row
    if isinstance(position, tuple | list) and len(position) == 1:
        return _checked_position(side, position[0])
    if isinstance(position, bool) or not isinstance(position, int | np.integer):
        raise TVArgumentError(
            f"Instance '{side.instance.instance_id}' of table '{side.table.name}' has no primary key; name a row by "
            f"its position, not {row!r:.200}."
        )
    if not 0 <= position < side.row_count:
        raise TVTableError(
            f"Instance '{side.instance.instance_id}' of table '{side.table.name}' has {side.row_count:,} rows; "
            f"positions count from 0, so there is no row {position}."
        )
    return int(position)


class _KeyValues:
    """The values of one column of the primary key."""

    def __init__(self, side: ComparedInstance, name: str) -> None:
        self._column = side.read(name)
        self._type = side.types[name]

    def places_of(self, value: Any) -> set[int]:
        """Return the rows with a value, which may also be given as text."""
        found = {place for place, known in enumerate(plain_values(self._column, self._type)) if _is_same(known, value)}
        if not found and isinstance(value, str):
            found = {place for place, known in enumerate(self.texts()) if known == value}
        return found

    def texts(self) -> list[str]:
        """Return the values as text."""
        return [str(value) for value in shown_values(self._column, self._type)]


def _is_same(known: object, value: object) -> bool:
    if isinstance(known, bool) != isinstance(value, bool):
        return False
    try:
        return bool(known == value)
    except (TypeError, ValueError):
        return False


def _value(side: ComparedInstance, column: str, position: int) -> Any:
    return shown_values(side.read(column).slice(position, 1), side.types[column])[0]


def _counterpart(cell: _Cell, side: ComparedInstance) -> int | None:
    """Return the position of a cell's row in an origin; `None` if it is missing there."""
    key: Sequence[str] = cell.side.primary_key
    if not key:
        return cell.position if cell.position < side.row_count else None
    if not set(key) <= set(side.types):
        return None
    places = set(range(side.row_count))
    for name in key:
        value = plain_values(cell.side.read(name).slice(cell.position, 1), cell.side.types[name])[0]
        places &= _KeyValues(side, name).places_of(value)
    return min(places, default=None)
