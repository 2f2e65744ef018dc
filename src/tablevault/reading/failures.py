"""Failed and skipped rows of instances, and of processes in any state."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from tablevault.builders.document import read_document
from tablevault.code.local_code import FOLDER as LOCAL_MODULES
from tablevault.code.parsing import lines_of
from tablevault.errors import TableVaultError, TVArgumentError, TVTableError
from tablevault.execution.failures import COLUMNS, FailedRow, read_failures
from tablevault.execution.provenance import read_provenance
from tablevault.execution.unfinished import UnfinishedRows
from tablevault.layout import CODE_FUNCTIONS, MODULE_SUFFIX, builder_file
from tablevault.names import index_builder_name, nearest
from tablevault.reading.queries import Queries, page_of
from tablevault.reading.records_of_rows import RowRecords, Unfinished
from tablevault.rows.failures import FrameRecord, RowFailure, unpack_failure
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.storage.cell_texts import json_cell
from tablevault.storage.checkpoints import read_checkpoints
from tablevault.storage.columns import build_column
from tablevault.storage.dtypes import ColumnType, json_type
from tablevault.storage.frames import FrameData, frame_of_columns
from tablevault.storage.manifest import check_listed
from tablevault.storage.plain import json_value
from tablevault.values.contents import InstanceRecord, Page, Selection, TableRecord

_WAYS = ("null", "drop", "raise")
"""Ways to treat failed rows of a frame; the first one reads the frame as it is."""
_COLUMNS = {
    **{name: COLUMNS[name] for name in ("builder", "index", "key", "kind", "error", "status", "message")},
    "traceback": COLUMNS["message"],
    "result": json_type(),
    **{name: COLUMNS[name] for name in ("calls", "seconds", "failed_at", "code", "cause")},
}
"""Columns of the frame that `get_errors` returns, with their types."""


@dataclass(frozen=True)
class ArchivedSources:
    """The source lines that tracebacks show.

    Records come from a vault that may have been received, so that they never choose a file to read: only lines of code
    in the vault are shown.
    """

    modules: Mapping[str, str] = field(default_factory=dict)
    """Source of each code module, by name."""
    local: Mapping[str, str] = field(default_factory=dict)
    """Source of each local module, by the end of its path."""

    @classmethod
    def read(cls, folder: Path) -> ArchivedSources:
        """Read a snapshot of the code; empty if there is none."""
        if not folder.is_dir():
            return cls()
        modules = {path.stem: text for path, text in _texts(folder.glob(f"*{MODULE_SUFFIX}"))}
        local = folder / LOCAL_MODULES
        others = _texts(local.rglob(f"*{MODULE_SUFFIX}"))
        return cls(modules, {f"/{path.relative_to(local).as_posix()}": text for path, text in others})

    def line(self, file: str, number: int) -> str:
        """Return a line of a file as it was recorded in a traceback; empty if the vault does not have it."""
        path = Path(file)
        text = self.modules.get(path.stem) if path.parent.name == CODE_FUNCTIONS else None
        if text is None:
            text = next((text for end, text in self.local.items() if path.as_posix().endswith(end)), "")
        lines = _lines(text)
        return lines[number - 1] if 0 < number <= len(lines) else ""


_lines = lru_cache(maxsize=32)(lines_of)


def _texts(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Yield files with their source, without links, which may lead out of the vault."""
    return ((path, files.read_source(path)) for path in sorted(paths) if not path.is_symlink())


@dataclass(frozen=True)
class Failures:
    """The failed and skipped rows of an instance or process."""

    rows: list[FailedRow]
    """Rows of the instance, and input rows of an IndexBuilder with `for_each`."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The columns of each builder."""
    sources: ArchivedSources = field(default_factory=lambda: ArchivedSources())
    """The code as it ran."""
    computed: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Rows computed so far by each builder of an unfinished execution, in order."""
    input_builders: frozenset[str] = frozenset()
    """The builders whose failed rows are input rows."""
    _rendered: dict[tuple[FrameRecord, ...], str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def own_rows(self) -> Iterator[FailedRow]:
        """The rows of the instance, without input rows, whose positions are those of another table."""
        return (row for row in self.rows if row.builder not in self.input_builders)

    def positions(self, columns: list[str]) -> frozenset[int]:
        """Return the rows of the instance that failed or were skipped in any of these columns."""
        builders = {name for name, own in self.columns.items() if not set(columns).isdisjoint(own)}
        return frozenset(row.index for row in self.own_rows if row.builder in builders)

    def frame(self) -> FrameData:
        """Return the rows as `get_errors` shows them."""
        return _frame_of(_COLUMNS, self.shown())

    def shown(self) -> Iterator[dict[str, object]]:
        """Yield the rows as `get_errors` shows them, by column."""
        return map(self._shown, self.rows)

    def _traceback(self, failure: RowFailure) -> str:
        """Return a traceback as Python prints it."""
        # Most failures of a run share their frames.
        head = self._rendered.get(failure.frames)
        if head is None:
            head = self._rendered[failure.frames] = _frames(failure.frames, self.sources)
        last = f"{failure.error}: {failure.message}" if failure.message else failure.error
        return head + "\n".join([last, *failure.notes])

    def _shown(self, row: FailedRow) -> dict[str, object]:
        failure = row.failure
        failed = failure.kind == "failed"
        return {
            "builder": row.builder,
            "index": row.index,
            "key": row.key,
            "kind": failure.kind,
            "error": failure.error if failed else None,
            "status": failure.status,
            "message": failure.message if failed else None,
            "traceback": self._traceback(failure) if failed else None,
            "result": None if failure.result is None else _json(failure.result),
            "calls": failure.calls,
            "seconds": failure.seconds,
            "failed_at": datetime.fromtimestamp(failure.failed_at, UTC) if failure.failed_at else None,
            "code": failure.code,
            "cause": None if failure.cause is None else ".".join(failure.cause),
        }


@dataclass(frozen=True)
class FailuresByTable:
    """The failed and skipped rows of a process that executes several tables."""

    tables: Mapping[str, Failures]
    """Failures by table name, or by `t(v2)` for a version other than that of the process."""

    def frame(self) -> FrameData:
        """Return the rows of all tables as `get_errors` shows them."""
        rows = ({"table": name, **row} for name, failures in self.tables.items() for row in failures.shown())
        return _frame_of({"table": COLUMNS["builder"], **_COLUMNS}, rows)


class FailureReader:
    """Finds the failed and skipped rows of one vault.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._lookup = Lookup(context)
        self._queries = Queries(context)
        self._records = RowRecords(context, "get_errors", Failures([]), self._of_materialized, _unfinished)

    def find(self, table_name: str, instance_id: str, version: str, process_id: str) -> Failures | FailuresByTable:
        """Return the failures of a process or instance; parameters as of `RowRecords.find`."""
        found = self._records.find(table_name, instance_id, version, process_id)
        return FailuresByTable(found) if isinstance(found, Mapping) else found

    def of_instance(self, table: TableRecord, instance: InstanceRecord) -> Failures:
        """Return the failures of an instance, temporary or materialized."""
        return self._records.of_instance(table, instance)

    def sources(self, table: TableRecord, instance: InstanceRecord) -> dict[str, str]:
        """Return the code modules that computed an instance, by name; empty for a temporary one."""
        if instance.temporary:
            return {}
        return dict(ArchivedSources.read(self._lookup.folder(table, instance).code).modules)

    def frame_without(
        self, failed: str, selection: Selection, columns: Sequence[str] | None, page: Page, full_paths: bool
    ) -> tuple[FrameData, str]:
        """Return a frame without its failed rows, and the id of its instance.

        Parameters
        ----------
        failed
            `drop`, or `raise` to refuse a frame with failed rows.
        selection, columns, page, full_paths
            As in `Queries.frame`.

        Raises
        ------
        TVArgumentError
            If `failed` is anything else.
        TVTableError
            If a row failed or was skipped, and `failed` is `raise`.
        """
        if failed not in _WAYS:
            meant = nearest(failed, _WAYS)
            raise TVArgumentError(
                f"failed of get_dataframe cannot be {failed!r:.80}; it is 'null', 'drop' or 'raise'{meant}"
            )
        data, instance_id = self._queries.frame(selection, columns, Page(), full_paths)
        failures = self._records.of_named(selection.table_name, instance_id, selection.version)
        found = failures.positions(list(data.types))
        if found and failed == "raise":
            count = "1 row" if len(found) == 1 else f"{len(found):,} rows"
            raise TVTableError(
                f"{count} of instance '{instance_id}' of table '{selection.table_name}' failed or were skipped in the "
                f"columns read; get_errors('{selection.table_name}', '{instance_id}') lists the errors, and "
                "failed='drop' leaves the rows out."
            )
        if found:
            kept = [position for position in range(len(data)) if position not in found]
            data = FrameData(data.table.take(kept), data.types)
        return page_of(data, page), instance_id

    def _of_materialized(self, table: TableRecord, instance: InstanceRecord) -> Failures:
        folder = self._lookup.folder(table, instance)
        if not folder.errors.is_file():
            return Failures([])
        check_listed(folder.manifest, instance.manifest, folder.errors)
        facts = read_provenance(folder.provenance).builders
        columns = {item.name: item.columns for item in facts}
        # Without for_each, rows of an IndexBuilder cannot fail one by one.
        of_inputs = frozenset(item.name for item in facts if item.is_index)
        sources = ArchivedSources.read(folder.code)
        return Failures(read_failures(folder.errors), columns, sources, input_builders=of_inputs)


def _frame_of(types: Mapping[str, ColumnType | None], rows: Iterable[Mapping[str, object]]) -> FrameData:
    cells: dict[str, list[object]] = {name: [] for name in types}
    for row in rows:
        for name, value in row.items():
            cells[name].append(value)
    return frame_of_columns({name: build_column(cells[name], kind) for name, kind in types.items()})


def _unfinished(place: Unfinished) -> Failures:
    """Return the failures in the checkpoints of an unfinished execution."""
    cells = UnfinishedRows.read(read_checkpoints(place.checkpoints))
    index = index_builder_name(place.table.name)
    keys = _keys(cells, index, declared_primary_key(builder_file(place.builders, index)))
    of_inputs = frozenset(name for name, state in cells.states.items() if state.is_nested)
    rows = [
        FailedRow(name, position, None if name in of_inputs else keys.get(position), unpack_failure(content))
        for name, state in cells.states.items()
        for position, content in sorted(state.failures.items())
    ]
    columns = {name: state.columns for name, state in cells.states.items()}
    computed = {name: cells.positions(name) for name in cells.states}
    sources = ArchivedSources.read(place.code) if place.code is not None else ArchivedSources()
    return Failures(rows, columns, sources, computed, of_inputs)


def _keys(cells: UnfinishedRows, index: str, names: Sequence[str]) -> dict[int, dict[str, object]]:
    """Return the primary keys of the rows that failed or were skipped, by position."""
    own = cells.states[index].columns if index in cells.states else ()
    failed = {position for state in cells.states.values() for position in state.failures}
    if not (names and failed and set(names) <= set(own)):
        return {}
    columns = {name: cells.values(index, own.index(name)) for name in names}
    known = failed.intersection(cells.positions(index))
    return {position: {name: json_cell(values[position]) for name, values in columns.items()} for position in known}


def declared_primary_key(path: Path) -> tuple[str, ...]:
    """Return the primary key declared by an IndexBuilder; empty if its file is unreadable."""
    try:
        declared = read_document(files.read_text(path), path.name).fields.get("primary_key")
    except (TableVaultError, OSError, UnicodeDecodeError):
        return ()
    return tuple(str(name) for name in declared) if isinstance(declared, list) else ()


def _frames(frames: tuple[FrameRecord, ...], sources: ArchivedSources) -> str:
    """Format traceback frames as Python does, with the lines of the archived code."""
    if not frames:
        return ""
    summary = traceback.StackSummary.from_list(
        [(item.file, item.line, item.function, sources.line(item.file, item.line)) for item in frames]
    )
    return "".join(["Traceback (most recent call last):\n", *summary.format()])


def _json(text: str) -> object:
    """Decode a refused result; its text is returned if it is truncated or cannot be a cell, such as a list with NaN."""
    try:
        return json_value(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return text
