"""Usage of calls of instances, and of processes in any state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tablevault.execution.usage import FLOAT, INTEGER, TEXT, RowUsage, read_usage
from tablevault.reading.records_of_rows import RowRecords, Unfinished
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup
from tablevault.storage.checkpoints import read_checkpoints
from tablevault.storage.columns import build_column
from tablevault.storage.frames import FrameData, frame_of_columns
from tablevault.storage.manifest import check_listed
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.processes import WHOLE_BUILDER


class UsageReader:
    """Finds the usage of rows of one vault.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._lookup = Lookup(context)
        self._records: RowRecords[list[RowUsage]] = RowRecords(
            context, "get_usage", [], self._of_materialized, _of_unfinished
        )

    def frame(self, table_name: str, instance_id: str, version: str, process_id: str) -> FrameData:
        """Return the `get_usage` frame of a process or instance; parameters as of `RowRecords.find`."""
        found = self._records.find(table_name, instance_id, version, process_id)
        if isinstance(found, Mapping):
            return _frame([(table, row) for table, rows in found.items() for row in rows], with_table=True)
        return _frame([("", row) for row in found], with_table=False)

    def _of_materialized(self, table: TableRecord, instance: InstanceRecord) -> list[RowUsage]:
        folder = self._lookup.folder(table, instance)
        if folder.usage.is_file():
            check_listed(folder.manifest, instance.manifest, folder.usage)
        return read_usage(folder.usage)


def _of_unfinished(place: Unfinished) -> list[RowUsage]:
    return [
        RowUsage(name, position, usage)
        for name, state in read_checkpoints(place.checkpoints).states().items()
        for position, usage in sorted(state.usage.items())
    ]


def _frame(rows: Iterable[tuple[str, RowUsage]], with_table: bool) -> FrameData:
    listed = list(rows)
    usages = [row.usage for _, row in listed]
    columns = {
        "builder": build_column([row.builder for _, row in listed], TEXT),
        "index": build_column([None if row.index == WHOLE_BUILDER else row.index for _, row in listed], INTEGER),
        "calls": build_column([float(usage.calls) for usage in usages], FLOAT),
        "seconds": build_column([usage.seconds for usage in usages], FLOAT),
    }
    for name in sorted({name for usage in usages for name in usage.amounts}):
        amounts = [usage.amounts.get(name) for usage in usages]
        columns[name] = build_column([None if amount is None else float(amount) for amount in amounts], FLOAT)
    if with_table:
        columns = {"table": build_column([table for table, _ in listed], TEXT), **columns}
    return frame_of_columns(columns)
