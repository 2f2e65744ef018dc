"""Compiled values of builders, which are closures over plain Python values."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

from tablevault.errors import TVImplementationError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Evaluate: TypeAlias = Callable[[Any], Any]
"""Returns the value for a row position, or for `None` if there is no current row."""

CONTAINERS = frozenset({list, dict, tuple, set})
"""Types of cells that must be copied before they are passed to a user's function."""

_IMMUTABLE = (str, int, float, type(None), bytes, Decimal, dt.date, dt.time, dt.timedelta)
_IMMUTABLE_TYPES = frozenset({*_IMMUTABLE, bool, dt.datetime})


@dataclass(frozen=True, slots=True)
class Compiled:
    """A value of a builder, ready to be evaluated for any number of rows.

    The caller owns the result and may change it.
    """

    evaluate: Evaluate
    """The bare closure, for fast loops over rows."""
    is_constant: bool
    """Whether the value is the same for every row."""

    column: Callable[[], Sequence[Any]] | None = None
    """If set, returns the values by row position, which may end before the last row."""
    column_type: Callable[[], pa.DataType] | None = None
    """Returns the Arrow type of the values of `column`."""
    kinds: Callable[[], frozenset[type] | None] | None = None
    """Returns the classes of the values of `column`, besides that of `None`, if its type tells them."""

    def evaluate_rows(self, rows: Sequence[int]) -> list[object]:
        """Return the values for several rows, by slicing for a range of rows if possible.

        Unlike those of `evaluate`, the values may be shared, so callers must check `are_immutable`.
        """
        if self.column is not None and isinstance(rows, range) and rows.step == 1:
            cells = list(self.column()[rows.start : rows.stop])
            if len(cells) == len(rows):
                return cells
        return list(map(self.evaluate, rows))

    def __call__(self, row: int | None = None) -> object:
        """Return the value for the row at this position.

        Raises
        ------
        TableReferenceError
            If a referenced table, column or row does not exist, or a value of a condition does not fit its column.
        TVImplementationError
            If the value depends on the row and none is given.
        """
        if row is None and not self.is_constant:
            raise TVImplementationError("a value that depends on the current row was evaluated without one")
        return self.evaluate(row)


def once(compute: Callable[[], object]) -> Compiled:
    """Return a lazily computed constant, of which every caller gets its own copy."""
    copy: Callable[[], object] | None = None
    computing = threading.Lock()

    def evaluate(_: object) -> object:
        nonlocal copy
        if copy is None:
            with computing:
                if copy is None:
                    copy = _copier(compute())
        return copy()

    return Compiled(evaluate, is_constant=True)


def are_immutable(values: Collection[Any], kinds: Set[type]) -> bool:
    """Return whether all of these values, of these classes, are immutable."""
    kinds = kinds - _IMMUTABLE_TYPES
    if not kinds:
        return True
    # Arrays from cells are read-only.
    return all(map(_is_array_type, kinds)) and not any(
        value.flags.writeable for value in values if _is_array_type(type(value))
    )


def _is_array_type(kind: type) -> bool:
    return kind.__module__ == "numpy" and kind.__name__ == "ndarray"


def fresh(value: Any) -> Any:
    """Return a deep copy of a value that shares only immutable parts with it."""
    if isinstance(value, _IMMUTABLE):
        return value
    if isinstance(value, dict):
        return {key: fresh(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)(map(fresh, value))
    return _copier_of_frame(value)()


def _copier(value: object) -> Callable[[], object]:
    if isinstance(value, _IMMUTABLE):
        return lambda: value
    if type(value) in CONTAINERS:
        return lambda: fresh(value)
    return _copier_of_frame(value)


def _copier_of_frame(value: Any) -> Callable[[], object]:
    import pandas as pd

    if not isinstance(value, pd.DataFrame):
        return lambda: value
    frame = value
    shared = [position for position, dtype in enumerate(frame.dtypes) if pd.api.types.is_object_dtype(dtype)]

    def copy() -> pd.DataFrame:
        # pandas copies a column when either frame first writes to it, but not the lists and dicts in its cells.
        copied = frame.copy(deep=False)
        for position in shared:
            cells = [fresh(cell) for cell in frame.iloc[:, position]]
            copied.isetitem(position, pd.Series(cells, index=frame.index, dtype=object).array)
        return copied

    return copy
