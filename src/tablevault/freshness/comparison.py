"""Column-wise comparison of instances, to find inputs with newer values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from tablevault.builders.spec import BuilderSpec
from tablevault.execution.inputs import ARTIFACT_COLUMN, ContentFrame, PinnedKey
from tablevault.execution.provenance import read_artifact_records
from tablevault.names import fold
from tablevault.state.lookup import Lookup
from tablevault.storage.canonical import typed_digest
from tablevault.storage.frames import read_frame, stored_columns
from tablevault.values.contents import InstanceRecord
from tablevault.values.plans import PinnedInput


class InputComparison:
    """Compares instances that were read with those that would be read now, each column once.

    Parameters
    ----------
    lookup
        Finds instances and their files.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._stored = cache(lambda path: stored_columns(path))
        self._differs = cache(self._column_differs)

    def newer_inputs(
        self, instance: InstanceRecord, builders: Iterable[BuilderSpec], pins: Sequence[PinnedInput]
    ) -> Iterator[str]:
        """Yield descriptions of the inputs of an instance that have newer values.

        Parameters
        ----------
        instance
            The instance; its inputs are those that it was computed from or last confirmed against.
        builders
            Its builders.
        pins
            The instances that they would read now.
        """
        now = {PinnedKey(pin.table, pin.instance): pin.row_id for pin in pins}
        read = self.read_by(instance)
        for builder in builders:
            for dependency in builder.reads.tables:
                current = self._lookup.instance_by_row(now[PinnedKey(fold(dependency.table), dependency.instance)])
                if current.row_id in read:
                    continue
                earlier = _counterpart(current, read.values())
                if earlier is None or self._are_newer(earlier, current, dependency.columns):
                    table = self._lookup.table_by_id(current.table_id).name
                    was = f", was {earlier.instance_id}" if earlier is not None else ""
                    yield f"input `{table}` is instance {current.instance_id}{was}"

    def read_by(self, instance: InstanceRecord) -> dict[int, InstanceRecord]:
        """Return the instances that an instance was computed from, then those that it was confirmed against."""
        contents = self._lookup.contents
        computed_from = sorted({read.input_row_id for read in contents.reads_of(instance.row_id)})
        confirmed = contents.confirmed_inputs(instance.row_id)
        # Keep the last occurrence of each instance, since the newest confirmation comes last.
        rows = reversed(dict.fromkeys(reversed([*computed_from, *confirmed])))
        found = map(contents.instance_by_row, rows)
        return {record.row_id: record for record in found if record is not None}

    def _are_newer(self, before: InstanceRecord, after: InstanceRecord, columns: frozenset[str] | None) -> bool:
        """Return whether columns differ in values, rows or order; `None` means all columns."""
        if before.row_count != after.row_count:
            return True
        if columns is None and before.columns != after.columns:
            return True
        if self._lookup.contents.instance(before.table_id, before.instance_id) is None:
            # It was deleted, so its values are unknown.
            return True
        names = [column.name for column in after.columns] if columns is None else sorted(columns)
        return any(self._differs(before.row_id, after.row_id, name) for name in names)

    def _column_differs(self, before_row: int, after_row: int, name: str) -> bool:
        before, after = self._lookup.instance_by_row(before_row), self._lookup.instance_by_row(after_row)
        types = [{column.name: column.type_name for column in item.columns}.get(name) for item in (before, after)]
        if types[0] != types[1]:
            return True
        folders = [self._lookup.folder_of(item) for item in (before, after)]
        stored = [self._stored(folder.frame)[name] for folder in folders]
        is_artifact = types[0] == ARTIFACT_COLUMN
        if stored[0] == stored[1] and not is_artifact:
            return False
        if stored[0].type != stored[1].type:
            return True
        if is_artifact:
            frames = [
                ContentFrame.of_stored(folder.frame, read_artifact_records(folder.artifact_hashes))
                for folder in folders
            ]
            return list(frames[0].values(name)) != list(frames[1].values(name))
        column_type = stored[0].type
        digests = [typed_digest(read_frame(folder.frame, [name]).table.column(0), column_type) for folder in folders]
        return digests[0] != digests[1]


def _counterpart(current: InstanceRecord, read: Iterable[InstanceRecord]) -> InstanceRecord | None:
    """Return the last instance read of the same table, preferably of the same version."""
    of_table = [item for item in read if item.table_id == current.table_id]
    of_version = [item for item in of_table if item.version == current.version]
    return next(reversed(of_version or of_table), None)
