"""Differences of two instances in rows, cells and definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tablevault import names
from tablevault.errors import TVArgumentError, TVFileError, TVTableError
from tablevault.reading.compared_instances import ComparedInstance, ComparedInstances
from tablevault.reading.definition_comparison import compare_definitions
from tablevault.reading.queries import Queries
from tablevault.reading.requests import page, selection_of
from tablevault.reading.row_comparison import RowComparison
from tablevault.reading.row_matching import KeyColumn, RowMatch, match_keys, match_positions
from tablevault.records import DefinitionDiff, InstanceDiff
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup
from tablevault.storage.frames import FrameData
from tablevault.values.contents import InstanceRecord, TableRecord

_KINDS = ("cells", "added", "removed", "changed")
_EXAMPLES = 5
_NO_DEFINITIONS = DefinitionDiff({}, {}, {})


class InstanceDiffer:
    """Compares two instances of one vault.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._context = context
        self._lookup = Lookup(context)
        self._queries = Queries(context)

    def diff(
        self,
        table_name: str,
        before: str,
        after: str,
        after_table: str,
        on: Sequence[str] | None,
        columns: Sequence[str] | None,
        why: bool,
    ) -> InstanceDiff:
        """Return the differences of two instances; parameters as of `TableVault.diff_instances`."""

        def read() -> InstanceDiff:
            return self._compare(table_name, before, after, after_table, on, columns, why)

        try:
            return self._queries.again_if_moved(table_name, read)
        except ValueError as error:
            raise TVFileError(f"Column metadata does not match a stored frame: {error}.") from error

    def _compare(
        self,
        table_name: str,
        before: str,
        after: str,
        after_table: str,
        on: Sequence[str] | None,
        columns: Sequence[str] | None,
        why: bool,
    ) -> InstanceDiff:
        with self._context.catalog.snapshot():
            other_table, second = self._select(after_table or table_name, after)
            table, first = self._first(table_name, before, other_table, second)
        instances = ComparedInstances(self._context)
        one, other = instances.open(table, first), instances.open(other_table, second)
        key = _key(one, other, on)
        shared, listed = _columns(one, other, columns)
        match, not_computed = _match(one, other, key, is_given=on is not None)
        rows = RowComparison(one, other, key, match, not_computed, shared, why)
        return InstanceDiff(
            table.name,
            other_table.name,
            first.instance_id,
            second.instance_id,
            key,
            rows.counts(),
            {name: rows.column_diff(name) for name in listed},
            compare_definitions(one, other) if why else _NO_DEFINITIONS,
            rows.examples(_EXAMPLES),
            lambda kind, limit, form: self._frame(rows, kind, limit, form),
        )

    def _frame(self, comparison: RowComparison, kind: str, rows: int | None, format_name: str) -> Any:
        if kind not in _KINDS:
            raise TVArgumentError(f"There are no differences of kind '{kind}'{names.nearest(str(kind), _KINDS)}")
        convert, limit = self._queries.converter(format_name), page(0, rows).rows

        def read() -> FrameData:
            if kind == "cells":
                return comparison.cells(limit)
            return comparison.changed_rows(limit) if kind == "changed" else comparison.rows_of_one_side(kind, limit)

        try:
            return convert(self._queries.again_if_moved(comparison.after.table.name, read))
        except ValueError as error:
            raise TVFileError(f"Column metadata does not match a stored frame: {error}.") from error

    # --- instances ------------------------------------------------------------------------------------------------

    def _select(self, table_name: str, text: str) -> tuple[TableRecord, InstanceRecord]:
        """Return the instance named by an id, a tag or a version."""
        is_id = "_" in text or names.tag_in(text) is not None
        return self._queries.select(selection_of(table_name, text if is_id else "", "" if is_id else text))

    def _first(
        self, table_name: str, before: str, other_table: TableRecord, after: InstanceRecord
    ) -> tuple[TableRecord, InstanceRecord]:
        """Return the instance `before`, or else the origin of `after`, or else its predecessor."""
        if before:
            table, instance = self._select(table_name, before)
            if instance.temporary:
                raise TVArgumentError(
                    f"Instance '{instance.instance_id}' of table '{table.name}' is temporary, which only 'after' may "
                    "be. Swap the two arguments."
                )
            return table, instance
        table = self._lookup.table(table_name)
        contents = self._lookup.contents
        origin = contents.instance_by_row(after.origin) if after.origin is not None else None
        if origin is not None and origin.table_id == table.table_id:
            found = contents.instance(table.table_id, origin.instance_id)
            if found is not None:
                return self._queries.select(selection_of(table.name, found.instance_id, ""))
        if table.table_id == other_table.table_id:
            of_version = contents.instances(table.table_id, after.version, temporary=False)
            earlier = [item for item in of_version if after.temporary or item.row_id < after.row_id]
            if earlier:
                return self._queries.select(selection_of(table.name, earlier[-1].instance_id, ""))
        raise TVArgumentError(
            f"Instance '{after.instance_id}' of table '{other_table.name}' has no origin or predecessor in table "
            f"'{table.name}'. Pass the instance to compare it with as 'before'."
        )


def _key(one: ComparedInstance, other: ComparedInstance, on: Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns by which rows are matched; empty for positions."""
    if on is None:
        key = one.primary_key if one.primary_key == other.primary_key else ()
        return key if all(name in other.types for name in key) else ()
    for name in on:
        for side in (one, other):
            _check_known(side, name)
    if not on or len(set(on)) < len(on):
        raise TVArgumentError(f"on must be a non-empty list of distinct columns, not {list(on)!r:.100}.")
    return tuple(on)


def _columns(
    one: ComparedInstance, other: ComparedInstance, columns: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Return the common columns, and all listed columns."""
    # In an unfinished instance, the builder of a column may not have begun.
    later = [name for facts in other.builders for name in facts.columns if name not in other.types]
    known = list(dict.fromkeys([*other.types, *one.types, *later]))
    for name in columns or ():
        if name not in known:
            _check_known(other, name)
    listed = known if columns is None else list(dict.fromkeys(columns))
    return [name for name in listed if name in one.types and (name in other.types or name in later)], listed


def _check_known(side: ComparedInstance, column: str) -> None:
    if column not in side.types:
        raise TVTableError(
            f"Instance '{side.instance.instance_id}' of table '{side.table.name}' has no column '{column}'"
            f"{names.nearest(column, side.types)}"
        )


def _match(one: ComparedInstance, other: ComparedInstance, key: Sequence[str], is_given: bool) -> tuple[RowMatch, int]:
    """Return the rows to compare, and the number left out as not computed yet."""
    if key:
        columns = [
            KeyColumn(name, one.read(name), one.types[name], other.read(name), other.types[name]) for name in key
        ]
        is_unique = (not is_given and one.has_unique_key, not is_given and other.has_unique_key)
        match = match_keys(columns, is_unique)
    else:
        match = match_positions(one.row_count, other.row_count)
    is_computed = ~other.missing
    not_computed = int(other.missing.sum())
    removed = match.removed
    if not other.has_all_rows:
        not_computed, removed = not_computed + len(removed), np.zeros(0, dtype=np.int64)
    compared = is_computed[match.after]
    return (
        RowMatch(match.before[compared], match.after[compared], match.added[is_computed[match.added]], removed),
        not_computed,
    )
