"""Values without a declared type as they come: whether each can stand in one column with those before it."""

from __future__ import annotations

import datetime
import decimal
import threading
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
"""Whole numbers up to this one can stand among fractions."""

_EXACT = tuple(EXACT_INTEGERS.values())
_ALIKE = frozenset({str, bool, bytes, dict, datetime.date, datetime.time})
"""Types of which any value stands beside the same as any other."""
_NANOSECONDS = (datetime.datetime(1677, 9, 21), datetime.datetime(2262, 4, 12))
"""Between the days that these begin moments have nanoseconds, in any time zone; at the edges only some have."""
_EDGE = datetime.timedelta(days=2)
_LONGEST_IN_NANOSECONDS = datetime.timedelta(microseconds=(2**63 - 1) // 1000)


class Mixture:
    """The values of a column whose type is not declared, of which each is looked at when it comes.

    Whether values can stand in one column depends on few of their traits. Of each trait one value is kept, and only a
    value with a new trait is tried together with these.

    Parameters
    ----------
    column_type
        The type that was declared: `None`, or a category of any values.
    """

    def __init__(self, column_type: ColumnType | None = None) -> None:
        self._column_type = column_type
        self._traits: set[Hashable] = set()
        self._examples: list[object] = []
        self._adding = threading.Lock()
        self.unchanged: frozenset[type] = frozenset()
        """The types whose values, as `unchanged_kinds` says, are cells as they are and can stand here."""

    def add(self, value: object) -> None:
        """Take a plain value in; raises `ValueError` if it cannot stand in one column with those before it."""
        if type(value) is list:
            traits = set(_traits(value, 0))
            if not traits <= self._traits:
                self._add(value, traits)
        elif value is not None:
            trait = _trait(value)
            if trait not in self._traits:
                self._add(value, {trait})

    def add_kept(self, values: Sequence[object]) -> None:
        """Take values in that have been kept before, and so are not to be refused."""
        for value in _examples(values):
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
                    f"{shown(value)} cannot stand in one column with {shown(together[error.position])}: {error}"
                ) from error
            self._examples = together
            self._traits |= traits
            self.unchanged |= unchanged_kinds(self._column_type) & {type(value)}


def _examples(values: Sequence[Any]) -> Iterable[object]:
    """Return values of which all others share the traits, at the speed of C for those of simple types."""
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


def _trait(value: Any) -> Hashable:
    """Return the traits of a value that is not a list; they decide whether it can share a column with others."""
    kind: type[Any] = type(value)
    if kind is np.ndarray:
        exact = value.dtype.kind not in "iu" or not value.size or max(-int(value.min()), int(value.max()))
        return kind, value.dtype, exact if exact is True else next((n for n in _EXACT if exact <= n), 0)
    if kind in _ALIKE:
        return (kind,)
    if kind is int:
        return kind, -EXACT_IN_FLOAT <= value <= EXACT_IN_FLOAT
    if kind is float:
        return kind, value - value == 0
    if kind is decimal.Decimal:
        return kind, max(-int(value.as_tuple().exponent), 0), max(value.adjusted() + 1, 0)
    if kind is datetime.datetime:
        return kind, value.tzinfo is None, _has_nanoseconds(value)
    if kind is pd.Timestamp:
        return kind, value.tzinfo is None
    if kind is datetime.timedelta or kind is pd.Timedelta:
        return kind, abs(value) <= _LONGEST_IN_NANOSECONDS
    return (kind,)


def _has_nanoseconds(value: datetime.datetime) -> Hashable:
    """Return whether a moment could have nanoseconds; return the moment itself where that has to be tried."""
    local = value.replace(tzinfo=None)
    first, last = _NANOSECONDS
    if abs(local - first) < _EDGE or abs(local - last) < _EDGE:
        return value
    return first < local < last


def _traits(value: Sequence[Any], depth: int) -> Iterable[Hashable]:
    """Yield the traits of a list and of all that is in it, each with how deep it lies."""
    yield depth, list
    kinds = set(map(type, value)) - {NoneType}
    if list in kinds:
        for item in value:
            if type(item) is list:
                yield from _traits(item, depth + 1)
        value = [item for item in value if type(item) is not list]
    for item in _examples(value):
        yield depth + 1, _trait(item)
