"""Details of one instance, including its unset cells, artifacts and code."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tablevault.execution.provenance import read_artifact_records, read_provenance
from tablevault.reading.failures import FailureReader, Failures
from tablevault.reading.listings import InstanceLine, instance_lines
from tablevault.reading.queries import Queries
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.storage.manifest import check_listed
from tablevault.values.addresses import Address
from tablevault.values.contents import ArtifactState, ColumnRecord, InstanceRecord, TableRecord


@dataclass(frozen=True)
class FailedCell:
    """Failure or skip that left a cell without a value."""

    state: str
    """`failed` or `skipped`."""
    builder: str
    error: str
    """Qualified name of the exception's class; empty for a skipped cell."""
    message: str
    cause: str
    """Builder and column whose failure caused the skip."""


@dataclass(frozen=True)
class UnsetCells:
    """Cells without a value, by position and column."""

    failed: Mapping[tuple[int, str], FailedCell]
    """Cells of failed and skipped rows."""
    missing: frozenset[tuple[int, str]]
    """Cells not computed yet."""


@dataclass(frozen=True)
class InstanceFacts:
    """The known facts about one instance."""

    table_name: str
    line: InstanceLine
    columns: tuple[ColumnRecord, ...]
    """Empty while it is temporary."""
    primary_key: tuple[str, ...]
    origin_id: str
    """Instance of the same table from which it was copied; empty if that no longer exists."""


class InstanceDetails:
    """Reads single instances, temporary or materialized.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._context = context
        self._contents = context.catalog.contents
        self._lookup = Lookup(context)
        self._queries = Queries(context)
        self._failures = FailureReader(context)

    def facts(self, address: Address) -> InstanceFacts:
        """Return the facts about the instance at an address."""

        def read() -> InstanceFacts:
            with self._context.catalog.snapshot():
                table, record = self._select(address)
                found = self._contents.listed_instances(table.table_id, record.temporary, record.row_id + 1, 1)
                (line,) = instance_lines(self._contents, found).values()
                origin_id = self._origin_id(record)
            key: tuple[str, ...] = ()
            if not record.temporary:
                key = read_provenance(self._lookup.folder(table, record).provenance).primary_key
            return InstanceFacts(table.name, line, record.columns, key, origin_id)

        return self._queries.again_if_moved(address.table_name, read)

    def unset_cells(self, address: Address, positions: range) -> UnsetCells:
        """Return the cells without a value in some rows."""

        def read() -> UnsetCells:
            table, instance = self._select(address)
            failures = self._failures.of_instance(table, instance)
            failed = _failed_cells(failures, positions)
            return UnsetCells(failed, _missing_cells(failures, positions, failed))

        return self._queries.again_if_moved(address.table_name, read)

    def artifacts(self, address: Address, names: Iterable[str]) -> dict[str, Path]:
        """Return the existing files of artifacts recorded under exactly these names.

        Raises
        ------
        TVFileError
            If one of them, or a folder on its path, is a symbolic link.
        """
        table, instance = self._select(address)
        if instance.temporary or instance.artifact_state is ArtifactState.DROPPED:
            return {}
        folder = self._lookup.folder(table, instance)
        if folder.artifact_hashes.is_file():
            check_listed(folder.manifest, instance.manifest, folder.artifact_hashes)
        records = read_artifact_records(folder.artifact_hashes)
        paths = {name: _unlinked(folder.artifacts, records[name].path) for name in names if name in records}
        return {name: path for name, path in paths.items() if path.is_file()}

    def code(self, address: Address) -> dict[str, str]:
        """Return the code modules that computed an instance, by name; empty for a temporary one."""

        def read() -> dict[str, str]:
            return self._failures.sources(*self._select(address))

        return self._queries.again_if_moved(address.table_name, read)

    def _select(self, address: Address) -> tuple[TableRecord, InstanceRecord]:
        return self._queries.select(self._queries.selection_at(address, None))

    def _origin_id(self, record: InstanceRecord) -> str:
        origin = None if record.origin is None else self._contents.instance_by_row(record.origin)
        if origin is None or origin.table_id != record.table_id:
            return ""
        is_there = self._contents.instance(origin.table_id, origin.instance_id) is not None
        return origin.instance_id if is_there else ""


def _unlinked(folder: Path, path: str) -> Path:
    """Return a path below a folder; raise `TVFileError` if it contains a symbolic link."""
    found = files.unlinked(folder)
    for part in path.split("/"):
        found = files.unlinked(found / part)
    return found


def _failed_cells(failures: Failures, positions: range) -> dict[tuple[int, str], FailedCell]:
    found: dict[tuple[int, str], FailedCell] = {}
    for row in failures.own_rows:
        if row.index in positions:
            failure = row.failure
            cause = "" if failure.cause is None else ".".join(failure.cause)
            cell = FailedCell(failure.kind, row.builder, failure.error, failure.message, cause)
            found.update(((row.index, column), cell) for column in failures.columns.get(row.builder, ()))
    return found


def _missing_cells(
    failures: Failures, positions: range, failed: Mapping[tuple[int, str], FailedCell]
) -> frozenset[tuple[int, str]]:
    return frozenset(
        (position, column)
        for builder, computed in failures.computed.items()
        for position in positions
        if not _is_in(computed, position)
        for column in failures.columns[builder]
        if (position, column) not in failed
    )


def _is_in(ordered: Sequence[int], position: int) -> bool:
    place = bisect_left(ordered, position)
    return place < len(ordered) and ordered[place] == position
