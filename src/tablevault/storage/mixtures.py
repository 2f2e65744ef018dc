"""Incremental check of whether values without a declared type can share a column."""

from __future__ import annotations

import datetime
import decimal
import threading
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Sequence
from types import NoneType
from typing import Any

import numpy as np
import pandas as pd

from tablevault.storage.cells import unchanged_kinds
from tablevault.storage.column_types import CellError, ColumnType
from tablevault.storage.columns import build_column
from tablevault.storage.plain import shown
from tablevault.storage.vectors import EXACT_INTEGERS

EXACT_IN_FLOAT = 2**53
"""Largest whole number that can share a column with fractions."""

_EXACT = tuple(EXACT_INTEGERS.values())
_WHOLE = (EXACT_IN_FLOAT, 2**63 - 1, 2**63, 2**64 - 1)
"""Whole numbers up to each of these fit the same types."""
_ALIKE = frozenset({str, bool, bytes, dict, datetime.date, datetime.time})
"""Types whose values do not differ in traits."""
_NANOSECONDS = (datetime.datetime(1677, 9, 21), datetime.datetime(2262, 4, 12))
"""Datetimes between these days fit nanoseconds in any time zone; at the edges only some do."""
_EDGE = datetime.timedelta(days=2)
_MAXIMUM_IN_NANOSECONDS = datetime.timedelta(microseconds=(2**63 - 1) // 1000)


class Mixture:
    """The values of a column without a declared type, each checked on arrival.

    Whether values can share a column depends on a few of their traits. One value of each trait is kept as an example,
    and only values with a new trait are tested together with the examples.

    Parameters
    ----------
    column_type
        The declared type: `None`, or a category of any values.
    """

    def __init__(self, column_type: ColumnType | None = None) -> None:
        self._column_type = column_type
        self._traits: set[Hashable] = set()
        self._examples: list[object] = []
        self._adding = threading.Lock()
        self.unchanged: frozenset[type] = frozenset()
        """The `unchanged_kinds` whose values can be cells of this column."""

    def add(self, value: object) -> None:
        """Add a plain value; raises `ValueError` if it cannot share a column with those before it."""
        if type(value) is list:
            traits = set(_traits(value, 0))
            if not traits <= self._traits:
                self._add(value, traits)
        elif value is not None:
            trait = _trait(value)
            if self._column_type is not None and _is_zero(value):
                trait = trait, str(value)  # A category cannot be told from its equal.
            if trait not in self._traits:
                self._add(value, {trait})

    def add_kept(self, values: Sequence[object]) -> None:
        """Add values that were accepted earlier and so must not be refused."""
        zeros = {} if self._column_type is None else {str(each): each for each in values if _is_zero(each)}
        for value in [*_examples(values), *zeros.values()]:
            try:
                self.add(value)
            except ValueError:
                continue

    def _add(self, value: object, traits: set[Hashable]) -> None:
        with self._adding:
            together = [*self._examples, value]
            try:
                build_column(together, self._column_type)
            except CellError as error:
                if error.position == len(self._examples):
                    raise ValueError(str(error)) from error
                raise ValueError(
                    f"{shown(value)} cannot share a column with {shown(together[error.position])}: {error}"
                ) from error
            self._examples = together
            self._traits |= traits
            self.unchanged |= unchanged_kinds(self._column_type) & {type(value)}


def _examples(values: Sequence[Any]) -> Iterable[object]:
    """Return examples that cover the traits of all values, at C speed for simple types."""
    types = set(map(type, values))
    kinds = types - {NoneType}
    if kinds <= _ALIKE:
        return [next(value for value in values if type(value) is kind) for kind in kinds]
    there = values if NoneType not in types else [value for value in values if value is not None]
    if kinds == {int}:
        return [min(there), max(there)]
    if kinds == {float}:
        total = sum(there)
        return there[:1] if total - total == 0 else there
    return there


def _is_zero(value: object) -> bool:
    return isinstance(value, int | float | decimal.Decimal) and value == 0


def _trait(value: Any) -> Hashable:
    """Return the traits of a non-list value.

    They decide whether it can share a column with others.
    """
    kind: type[Any] = type(value)
    if kind is np.ndarray:
        return kind, value.dtype, value.size > 0, _extent(value)
    if kind in _ALIKE:
        return (kind,)
    if kind is int:
        is_exact = -EXACT_IN_FLOAT <= value <= EXACT_IN_FLOAT
        return kind, value < 0, 0 if is_exact else bisect_left(_WHOLE, abs(value))
    if kind is float:
        return kind, value - value == 0
    if kind is decimal.Decimal:
        return kind, max(-int(value.as_tuple().exponent), 0), max(value.adjusted() + 1, 0)
    if kind is datetime.datetime:
        return kind, value.tzinfo is None, _has_nanoseconds(value)
    if kind is pd.Timestamp:
        return kind, value.tzinfo is None
    if kind is datetime.timedelta or kind is pd.Timedelta:
        return kind, abs(value) <= _MAXIMUM_IN_NANOSECONDS
    return (kind,)


def _extent(array: np.ndarray) -> Hashable:
    """Return which types can hold the whole numbers of an array exactly, or whether all its fractions are finite."""
    if array.dtype.kind in "iu" and array.size:
        largest = max(-int(array.min()), int(array.max()))
        return next((limit for limit in _EXACT if largest <= limit), 0)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _has_nanoseconds(value: datetime.datetime) -> Hashable:
    """Return whether a datetime fits nanoseconds; return the datetime itself if that must be tested."""
    local = value.replace(tzinfo=None)
    first, last = _NANOSECONDS
    if abs(local - first) < _EDGE or abs(local - last) < _EDGE:
        return value
    return first < local < last


def _traits(value: Sequence[Any], depth: int) -> Iterable[Hashable]:
    """Yield the traits of a list and of its items, with their depths.

    Items of all levels are included.
    """
    yield depth, list
    kinds = set(map(type, value)) - {NoneType}
    if list in kinds:
        for item in value:
            if type(item) is list:
                yield from _traits(item, depth + 1)
        value = [item for item in value if type(item) is not list]
    for item in _examples(value):
        yield depth + 1, _trait(item)
