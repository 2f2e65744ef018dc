"""Conditions of references, matched against the rows of a frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from tablevault.errors import TableReferenceError
from tablevault.references.coerce import Coerce
from tablevault.references.compiled import Evaluate
from tablevault.references.lookup import HashIndex, Lookups, SortedIndex
from tablevault.references.parser import INDEX

Match: TypeAlias = Callable[[int | None], Sequence[int]]
"""Returns the positions that satisfy all conditions of a reference for the current row, in frame order."""


@dataclass(frozen=True, slots=True)
class Key:
    """The value with which a condition compares a column."""

    column: str
    value: Evaluate
    """The value for a row, either literal or from an inner reference."""
    coerce: Coerce
    """Coerces it to the type of the column; `None` matches nothing. Raises `TableReferenceError`."""
    exact: type | None
    """Values of exactly this type can be looked up uncoerced."""
    fault: Callable[[str], TableReferenceError]
    """Creates an error that marks the column in the text of the reference."""

    def find(self, row: int | None) -> object:
        """Return the value to search the column for."""
        return self.coerce(self.value(row))


class Matching(Protocol):
    """One or several conditions on one frame."""

    def candidates(self, row: int | None) -> Sequence[int]:
        """Return the matching positions, in frame order."""
        ...

    def narrowed(self, positions: Sequence[int], row: int | None) -> Sequence[int]:
        """Return the matching ones of some positions."""
        ...


@dataclass(frozen=True, slots=True)
class Position:
    """The pseudo-column `index` equals a value."""

    key: Key
    count: int
    """Number of rows in the frame."""

    def candidates(self, row: int | None) -> Sequence[int]:
        """Return the position itself, if it exists in the frame."""
        position = self.key.find(row)
        return (position,) if isinstance(position, int) and 0 <= position < self.count else ()

    def narrowed(self, positions: Sequence[int], row: int | None) -> Sequence[int]:
        """Return the position itself, if it is among the given ones."""
        wanted = self.key.find(row)
        return [position for position in positions if position == wanted]


@dataclass(frozen=True, slots=True)
class SameValues:
    """Columns equal values; one hash index over all of them finds the rows."""

    lookups: Lookups
    keys: tuple[Key, ...]

    def candidates(self, row: int | None) -> Sequence[int]:
        """Return the positions found in the hash index."""
        values = [key.find(row) for key in self.keys]
        if None in values:
            return ()
        found = self.index().get(values[0] if len(values) == 1 else tuple(values))
        if found is None:
            return ()
        return (found,) if isinstance(found, int) else found

    def narrowed(self, positions: Sequence[int], row: int | None) -> Sequence[int]:
        """Compare the values at the given positions."""
        for key in self.keys:
            wanted, values = key.find(row), self.lookups.keys(key.column)
            positions = [position for position in positions if wanted is not None and values[position] == wanted]
        return positions

    def index(self) -> HashIndex:
        """Return the hash index, built on first use."""
        try:
            return self.lookups.hashed(tuple(key.column for key in self.keys))
        except TypeError as error:
            raise self.keys[0].fault("a column that holds lists or dicts cannot be compared with a value") from error


@dataclass(frozen=True, slots=True)
class Within:
    """start <= a column < end; a sorted index finds the rows."""

    lookups: Lookups
    start: Key
    end: Key

    def candidates(self, row: int | None) -> Sequence[int]:
        """Return the positions found in the sorted index."""
        start, end = self.start.find(row), self.end.find(row)
        if start is None or end is None:
            return ()
        if isinstance(start, int) and isinstance(end, int) and self.start.column == INDEX:
            return range(len(self.lookups.frame))[max(start, 0) : max(end, 0)]
        return self._index().between(start, end)

    def narrowed(self, positions: Sequence[int], row: int | None) -> Sequence[int]:
        """Compare the values at the given positions."""
        start, end = self.start.find(row), self.end.find(row)
        if start is None or end is None:
            return ()
        values = self.lookups.column(self.start.column)
        try:
            return [at for at in positions if values[at] is not None and start <= values[at] < end]
        except TypeError as error:
            raise self._without_order() from error

    def _index(self) -> SortedIndex:
        try:
            return self.lookups.sorted(self.start.column)
        except TypeError as error:
            raise self._without_order() from error

    def _without_order(self) -> TableReferenceError:
        return self.start.fault("a column that holds lists, dicts or mixed values has no order to take a range of")


def matcher(matchings: Sequence[Matching]) -> Match:
    """Combine conditions; the first one finds candidates, and the others narrow them down."""
    first, *others = matchings

    def match(row: int | None) -> Sequence[int]:
        positions = first.candidates(row)
        for matching in others:
            # Even with no positions left, because errors in values must not depend on other conditions.
            positions = matching.narrowed(positions, row)
        return positions

    return match
