"""Differing cells of two instances and their causes, read column by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tablevault.execution.provenance import BuilderFacts
from tablevault.reading.compared_instances import ComparedInstance
from tablevault.reading.row_matching import Positions, RowMatch
from tablevault.records import ChangedCell, ColumnDiff, RowCounts
from tablevault.storage.cell_comparison import Mask, aligned, different_cells
from tablevault.storage.cell_texts import shown_values
from tablevault.storage.columns import build_column
from tablevault.storage.dtypes import ColumnType, Kind, json_type, type_of_arrow
from tablevault.storage.fingerprints import RowFingerprints
from tablevault.storage.frames import FrameData, frame_of_columns

POSITION = "index"
"""Replaces the key if rows are matched by position."""
_INTEGER, _TEXT = type_of_arrow(pa.int64()), type_of_arrow(pa.string())
_NEW, _REMOVED = "new row", "removed row"
_MAXIMUM_NAMED_INPUTS = 62


@dataclass(frozen=True)
class _Cells:
    """Cells of one column that are listed together."""

    column: str
    before: Positions | None
    """Their rows; `None` for cells of added rows."""
    after: Positions | None
    """Their rows; `None` for cells of removed rows."""
    causes: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.causes)

    def first(self, count: int) -> _Cells:
        """Return the first of these cells, up to a maximum number."""
        before = None if self.before is None else self.before[:count]
        return _Cells(self.column, before, None if self.after is None else self.after[:count], self.causes[:count])


class RowComparison:
    """Compares the matched rows of two instances.

    Parameters
    ----------
    before, after
        The instances.
    key
        The columns by which rows were matched; empty for positions.
    match
        The rows to compare, all of them computed.
    not_computed
        Number of rows left out, because they are not computed.
    columns
        The common columns to compare.
    why
        Whether to determine causes.
    """

    def __init__(
        self,
        before: ComparedInstance,
        after: ComparedInstance,
        key: tuple[str, ...],
        match: RowMatch,
        not_computed: int,
        columns: Sequence[str],
        why: bool,
    ) -> None:
        self.before = before
        self.after = after
        self.key = key
        self.match = match
        self._not_computed = not_computed
        self._columns = columns
        self._why = why
        self._changed: dict[str, Mask] = {}

    def counts(self) -> RowCounts:
        """Return the numbers of added, removed and changed rows."""
        any_changed = np.zeros(len(self.match.after), dtype=np.bool_)
        for column in self._columns:
            any_changed |= self.changed(column)
        changed = int(any_changed.sum())
        return RowCounts(
            len(self.match.added), len(self.match.removed), changed, len(any_changed) - changed, self._not_computed
        )

    def column_diff(self, column: str) -> ColumnDiff:
        """Return the changes of a column of either instance."""
        names = [side.types[column].name if column in side.types else "" for side in (self.before, self.after)]
        types = names[0], names[1]
        failed = int(self.before.failed_rows(column).sum()), int(self.after.failed_rows(column).sum())
        if column not in self._columns:
            return ColumnDiff("added" if not types[0] else "removed", 0, 0, {}, types, failed)
        changed = int(self.changed(column).sum())
        is_retyped = bool(types[1]) and types[0] != types[1]
        status = "retyped" if is_retyped else "changed" if changed else "same"
        if not self._why:
            return ColumnDiff(status, changed, 0, {}, types, failed)
        causes = Counter(cause.partition(":")[0] for cells in self._listed(column) for cause in cells.causes if cause)
        return ColumnDiff(status, changed, self._recomputed_same(column), dict(causes), types, failed)

    def changed(self, column: str) -> Mask:
        """Return the mask of matched rows whose cell in a column differs."""
        if column not in self._changed:
            self._changed[column] = self._compare(column)
        return self._changed[column]

    def examples(self, count: int) -> tuple[ChangedCell, ...]:
        """Return some of the cells in `frame("cells")`, from as many columns as possible."""
        with_cells = [column for column in self._columns if any(map(len, self._listed(column)))]
        share = max(count // max(len(with_cells), 1), 1)
        parts = [part for column in with_cells for part in _first(self._listed(column), share)]
        frame = self._cells_frame(list(_first(parts, count)))
        names = list(self.key or [POSITION])
        rows = zip(*(shown_values(frame.table.column(name), frame.types[name]) for name in frame.types), strict=True)
        width = len(names)
        return tuple(ChangedCell(dict(zip(names, row[:width], strict=True)), *row[width:]) for row in rows)

    # --- frames ---------------------------------------------------------------------------------------------------

    def cells(self, rows: int | None) -> FrameData:
        """Return the changed cells, and those of added and removed rows, with their causes."""
        return self._cells_frame(list(_first((part for name in self._columns for part in self._listed(name)), rows)))

    def _cells_frame(self, parts: Sequence[_Cells]) -> FrameData:
        columns = self._key_columns([(part.before, part.after) for part in parts])
        columns["column"] = build_column([part.column for part in parts for _ in range(len(part))], _TEXT)
        for name, side in (("before", self.before), ("after", self.after)):
            listed: list[Any] = []
            for part in parts:
                positions = part.before if side is self.before else part.after
                listed += [None] * len(part) if positions is None else _json_cells(side, part.column, positions)
            columns[name] = build_column(listed, json_type())
        columns["cause"] = build_column([cause for part in parts for cause in part.causes], _TEXT)
        return frame_of_columns(columns)

    def rows_of_one_side(self, kind: str, rows: int | None) -> FrameData:
        """Return the whole rows that were `added` or `removed`."""
        side, positions = (self.after, self.match.added) if kind == "added" else (self.before, self.match.removed)
        chosen = positions[:rows]
        columns = {} if self.key else {POSITION: (pa.array(chosen), _INTEGER)}
        columns.update({name: (_taken(side, name, chosen), side.types[name]) for name in side.types})
        return frame_of_columns(columns)

    def changed_rows(self, rows: int | None) -> FrameData:
        """Return the rows with a changed cell, with both cells of each compared column."""
        any_changed = np.zeros(len(self.match.after), dtype=np.bool_)
        for column in self._columns:
            any_changed |= self.changed(column)
        pairs = np.flatnonzero(any_changed)[:rows]
        before, after = self.match.before[pairs], self.match.after[pairs]
        columns = self._key_columns([(before, after)])
        for name in self._columns:
            if name not in self.key:
                columns[f"{name}.before"] = (_taken(self.before, name, before), self.before.types[name])
                columns[f"{name}.after"] = (_taken(self.after, name, after), self.after.types[name])
        return frame_of_columns(columns)

    def _listed(self, column: str) -> Iterator[_Cells]:
        """Yield the changed cells of a column outside the key.

        Cells of added and removed rows follow.
        """
        if column in self.key:
            return
        match, pairs = self.match, np.flatnonzero(self.changed(column))
        none: list[str | None] = [None]
        causes = self._causes(column, pairs) if self._why else none * len(pairs)
        yield _Cells(column, match.before[pairs], match.after[pairs], causes)
        yield _Cells(column, None, match.added, [_NEW if self._why else None] * len(match.added))
        yield _Cells(column, match.removed, None, [_REMOVED if self._why else None] * len(match.removed))

    def _key_columns(
        self, parts: Sequence[tuple[Positions | None, Positions | None]]
    ) -> dict[str, tuple[pa.ChunkedArray, ColumnType]]:
        """Return the keys of rows after the change, or before it for removed rows."""
        if not self.key:
            positions = [before if after is None else after for before, after in parts]
            numbers = [pa.array(item, pa.int64()) for item in positions if item is not None]
            return {POSITION: (pa.chunked_array(numbers, type=pa.int64()), _INTEGER)}
        found = {}
        for name in self.key:
            chunks: list[pa.Array] = []
            column_type = self._key_type(name)
            for before, after in parts:
                if after is not None:
                    cells = _taken(self.after, name, after)
                elif before is not None:
                    cells = _taken(self.before, name, before)
                chunks += cells.cast(column_type.arrow).chunks
            found[name] = (pa.chunked_array(chunks, type=column_type.arrow), column_type)
        return found

    def _key_type(self, name: str) -> ColumnType:
        """Return a common type of a key column on both sides."""
        before, after = self.before.types[name], self.after.types[name]
        if before.arrow == after.arrow or not len(self.match.removed):
            return after
        pair = aligned(self.before.read(name), self.after.read(name))
        return after if pair is None else type_of_arrow(pair[0].type)

    # --- differences ----------------------------------------------------------------------------------------------

    def _compare(self, column: str) -> Mask:
        if not len(self.match.after):
            return np.zeros(0, dtype=np.bool_)
        failed = [side.failed_rows(column)[rows] for side, rows in self._sides]
        differ = self._different_values(column)
        return np.where(failed[0] | failed[1], failed[0] != failed[1], differ)

    @property
    def _sides(self) -> tuple[tuple[ComparedInstance, Positions], tuple[ComparedInstance, Positions]]:
        return (self.before, self.match.before), (self.after, self.match.after)

    def _different_values(self, column: str) -> Mask:
        if self._is_whole and self._is_stored_alike(column):
            return np.zeros(len(self.match.after), dtype=np.bool_)
        (before, before_type), (after, after_type) = (side.compared(column) for side, _ in self._sides)
        if not self._is_whole:
            before, after = before.take(pa.array(self.match.before)), after.take(pa.array(self.match.after))
        return different_cells(before, before_type, after, after_type)

    @cached_property
    def _is_whole(self) -> bool:
        """Whether both instances have the same rows at the same positions."""
        count = len(self.match.after)
        return self.before.row_count == self.after.row_count == count and self.match.is_in_place

    def _is_stored_alike(self, column: str) -> bool:
        stored = self.before.stored.get(column), self.after.stored.get(column)
        return stored[0] is not None and stored[0] == stored[1] and stored[0].type.kind is not Kind.ARTIFACT

    # --- causes ---------------------------------------------------------------------------------------------------

    def _causes(self, column: str, pairs: Positions) -> list[str]:
        """Return the causes of changed cells in matched rows."""
        if not len(pairs):
            return []
        failed = [side.failed_rows(column)[rows[pairs]] for side, rows in self._sides]
        causes = self._causes_of_computed(column, pairs)
        causes = np.where(failed[0] & ~failed[1], "failed: before", causes)
        listed: list[str] = np.where(failed[1] & ~failed[0], "failed: after", causes).tolist()
        return listed

    def _causes_of_computed(self, column: str, pairs: Positions) -> np.ndarray[Any, Any]:
        """Return the causes derived from fingerprints."""
        before, after = self.before.producer(column), self.after.producer(column)
        if before is None or after is None:
            return np.full(len(pairs), "external", dtype=object)
        if before.whole is not None and after.whole is not None:
            cause = _CAUSES[set(before.versions) != set(after.versions), before.whole != after.whole]
            return np.full(len(pairs), cause, dtype=object)
        records = self._records(before, after)
        if records is None:
            changed = before.versions and after.versions and not set(before.versions) & set(after.versions)
            return np.full(len(pairs), "code" if changed else "not recorded", dtype=object)
        versions, fingerprints, is_recorded = self._compared_records(*records, pairs)
        causes = np.full(len(pairs), _CAUSES[False, False], dtype=object)
        for (has_version, has_fingerprint), cause in _CAUSES.items():
            causes[(versions == has_version) & (fingerprints == has_fingerprint)] = cause
        named = self._named_inputs(after, pairs)
        if named is not None:
            causes = np.where(fingerprints & (named != ""), causes + named, causes)
        return np.where(is_recorded, causes, "not recorded")

    def _records(self, before: BuilderFacts, after: BuilderFacts) -> tuple[RowFingerprints, RowFingerprints] | None:
        found = self.before.records(before.name), self.after.records(after.name)
        return None if found[0] is None or found[1] is None else (found[0], found[1])

    def _compared_records(
        self, before: RowFingerprints, after: RowFingerprints, pairs: Positions
    ) -> tuple[Mask, Mask, Mask]:
        """Return masks of differing versions, differing fingerprints, and recorded pairs."""
        numbers = {version: number for number, version in enumerate(dict.fromkeys([*before.versions, *after.versions]))}
        sides = ((before, self.match.before[pairs]), (after, self.match.after[pairs]))
        versions = [
            np.array([numbers[version] for version in records.versions] or [0])[records.codes[rows]]
            for records, rows in sides
        ]
        cells = [records.fingerprints.combine_chunks().take(pa.array(rows)) for records, rows in sides]
        differ = np.asarray(pc.fill_null(pc.not_equal(*cells), False).to_numpy(zero_copy_only=False), dtype=np.bool_)
        is_recorded = np.asarray(
            pc.and_(cells[0].is_valid(), cells[1].is_valid()).to_numpy(zero_copy_only=False), dtype=np.bool_
        )
        return versions[0] != versions[1], differ, is_recorded

    def _named_inputs(self, after: BuilderFacts, pairs: Positions) -> np.ndarray[Any, Any] | None:
        """Return the changed input columns of each row, as text for its cause; empty for none."""
        own = [name for name in self.after.own_inputs(after) if name in self.before.types][:_MAXIMUM_NAMED_INPUTS]
        if not own:
            return None
        bits = np.zeros(len(pairs), dtype=np.int64)
        for place, name in enumerate(own):
            bits |= self.changed(name)[pairs].astype(np.int64) << place
        found, places = np.unique(bits, return_inverse=True)
        texts = [", ".join(name for place, name in enumerate(own) if number >> place & 1) for number in found.tolist()]
        return np.array([f": {text}" if text else "" for text in texts], dtype=object)[places]

    def _recomputed_same(self, column: str) -> int:
        """Return the number of recomputed cells that are equal."""
        before, after = self.before.producer(column), self.after.producer(column)
        if before is None or after is None or column in self.key:
            return 0
        failed = [side.failed_rows(column)[rows] for side, rows in self._sides]
        same = np.flatnonzero(~self.changed(column) & ~failed[0] & ~failed[1])
        if after.reused == 0 and not self.after.instance.temporary:
            return len(same)
        records = self._records(before, after) if after.whole is None else None
        if records is None:
            return 0
        versions, fingerprints, is_recorded = self._compared_records(*records, same)
        return int(((versions | fingerprints) & is_recorded).sum())


_CAUSES: Mapping[tuple[bool, bool], str] = {
    (True, False): "code",
    (False, True): "arguments",
    (True, True): "code and arguments",
    (False, False): "result",
}
"""Causes by whether the version and the fingerprint differ."""


def _first(parts: Iterable[_Cells], count: int | None) -> Iterator[_Cells]:
    """Yield the first of the listed cells, up to a maximum number."""
    left = count
    for part in parts:
        if left == 0:
            return
        shown = part if left is None else part.first(left)
        if len(shown):
            yield shown
        left = None if left is None else left - len(shown)


def _taken(side: ComparedInstance, column: str, positions: Positions) -> pa.ChunkedArray:
    return side.read(column).take(pa.array(positions, pa.int64()))


def _json_cells(side: ComparedInstance, column: str, positions: Positions) -> list[Any]:
    """Return cells as JSON values, or as text if JSON cannot represent them."""
    return shown_values(_taken(side, column, positions), side.types[column])
