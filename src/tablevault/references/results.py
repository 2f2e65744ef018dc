"""Shapes of results of references, which are cells, lists of cells or DataFrames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from tablevault.references.compiled import CONTAINERS, Evaluate, fresh
from tablevault.references.lookup import HashIndex, Lookups
from tablevault.references.parser import INDEX

if TYPE_CHECKING:
    import pandas as pd

    from tablevault.references.conditions import Key, SameValues

Shape: TypeAlias = Callable[[Sequence[int]], object]
"""Returns the result for the positions that conditions found."""


def cells_of(lookups: Lookups, column: str) -> Shape:
    """Return the shape of one column under conditions, which is `None`, a cell or a list."""

    def shape(positions: Sequence[int]) -> object:
        if not positions:
            return None
        values = lookups.column(column)
        if len(positions) == 1:
            return fresh(values[positions[0]])
        return [fresh(values[position]) for position in positions]

    return shape


def rows_of(lookups: Lookups, columns: Sequence[str]) -> Shape:
    """Return the shape of several columns under conditions, which is `None` or a DataFrame."""
    return lambda positions: data_frame(lookups, columns, positions) if positions else None


def whole_column(lookups: Lookups, column: str) -> object:
    """Return an unconditional column as its only cell or a list.

    Used where a frame makes no sense.
    """
    values = lookups.column(column)
    return fresh(values[0]) if len(values) == 1 else [fresh(value) for value in values]


def data_frame(lookups: Lookups, columns: Sequence[str], positions: Sequence[int] | None) -> pd.DataFrame:
    """Return columns at positions (`None` for all) as a DataFrame, including `index` if named."""
    stored = [column for column in columns if column != INDEX]
    if len(stored) == len(columns):
        return lookups.frame.data_frame(stored, positions)
    import pandas as pd

    found = range(len(lookups.frame)) if positions is None else positions
    indexes = pd.array(list(found), dtype="Int64")
    if not stored:
        return pd.DataFrame({INDEX: indexes})
    frame = lookups.frame.data_frame(stored, positions)
    frame.insert(columns.index(INDEX), INDEX, pd.Series(indexes, index=frame.index))
    return frame


def cell_at_current_row(lookups: Lookups, column: str) -> Evaluate:
    """Return a closure for `<<table.column[index]>>`, nearly as fast as plain indexing."""
    values: Sequence[Any] | None = None

    def evaluate(row: int) -> object:
        nonlocal values
        if values is None:
            values = lookups.column_by_row(column)
        try:
            value = values[row]
        except IndexError:
            return None
        return fresh(value) if type(value) in CONTAINERS else value

    return evaluate


def cells_with_value(lookups: Lookups, column: str, same: SameValues) -> Evaluate:
    """Return a fast closure for `<<table.column[key::value]>>`.

    It is nearly as fast as a dict lookup.
    """
    key: Key = same.keys[0]
    value_of, coerce, exact = key.value, key.coerce, key.exact
    shape = cells_of(lookups, column)
    index: HashIndex | None = None
    values: Sequence[Any] = ()

    def evaluate(row: int) -> object:
        nonlocal index, values
        if index is None:
            values = lookups.column(column)
            index = same.index()
        wanted: Any = value_of(row)
        if type(wanted) is not exact:
            wanted = coerce(wanted)
            if wanted is None:
                return None
        found = index.get(wanted)
        if type(found) is int:
            value = values[found]
            return fresh(value) if type(value) in CONTAINERS else value
        if found is None:
            # No row has the value. Coercion raises an error if no row could have it.
            coerce(wanted)
            return None
        return shape(found)  # type: ignore[arg-type]

    return evaluate
