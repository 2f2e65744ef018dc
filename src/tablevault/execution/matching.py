"""Matching of the rows of an instance with those of an origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tablevault.execution.primary_keys import KeyColumn, compares_as_python_does
from tablevault.storage.columns import Column
from tablevault.storage.fingerprints import Mask, Positions

_NONE = -1
_MAXIMUM_VALUE_SET = 2**30
"""Bytes; larger keys may not fit into one Arrow array."""


class Matches(Sequence["int | None"]):
    """For each row of an instance, its position in an origin, or `None`.

    Parameters
    ----------
    places
        The positions; negative without one.
    """

    def __init__(self, places: Positions) -> None:
        self.places = places

    @classmethod
    def of(cls, places: Iterable[int | None]) -> Self:
        """Return the matches of positions that may be `None`."""
        return cls(np.array([_NONE if place is None else place for place in places], np.int64))

    @classmethod
    def by_position(cls, count: int, known: int) -> Self:
        """Return the matches of rows with the same positions as in an origin of `known` rows."""
        places = np.arange(count, dtype=np.int64)
        places[known:] = _NONE
        return cls(places)

    @classmethod
    def none(cls, count: int) -> Self:
        """Return the matches of rows without counterparts."""
        return cls(np.full(count, _NONE, np.int64))

    @property
    def are_there(self) -> Mask:
        """Whether each row has a counterpart."""
        return self.places >= 0

    def are_all(self, count: int) -> bool:
        """Return whether the rows are all of an origin's, in its order."""
        return len(self.places) == count and bool((self.places == np.arange(count)).all())

    def left(self, count: int) -> Mask:
        """Return whether each of an origin's rows is without counterpart here."""
        left = np.ones(count, np.bool_)
        left[self.places[self.are_there]] = False
        return left

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, row: int) -> int | None: ...

    @overload
    def __getitem__(self, row: slice) -> Matches: ...

    def __getitem__(self, row: int | slice) -> int | Matches | None:
        if isinstance(row, slice):
            return Matches(self.places[row])
        place = int(self.places[row])
        return None if place < 0 else place

    def __iter__(self) -> Iterator[int | None]:
        return (None if place < 0 else place for place in self.places.tolist())


def match_stored(new: Sequence[KeyColumn], old: Sequence[KeyColumn]) -> Matches | None:
    """Match rows by unique keys, without a Python object per row.

    Returns `None` if Arrow may compare differently from Python.

    Of equal keys in the origin, which may have had another primary key, the last one counts.
    """
    for (_, new_type), (_, old_type) in zip(new, old, strict=True):
        is_same = (new_type.kind, new_type.arrow) == (old_type.kind, old_type.arrow)
        if not is_same or not compares_as_python_does(new_type):
            return None
    count, known = len(new[0][0]), len(old[0][0])
    if known <= count and all(
        _chunked(mine).slice(0, known).equals(_chunked(theirs)) for (mine, _), (theirs, _) in zip(new, old, strict=True)
    ):
        # Keys are unique, so the following ones are all new.
        return Matches.by_position(count, known)
    if len(new) > 1 or old[0][0].nbytes > _MAXIMUM_VALUE_SET:
        return None
    found = pc.index_in(_chunked(new[0][0]), value_set=_reversed(old[0][0]))
    # Numbers of the reversed keys, so that the first one found is the last one in the origin.
    places: np.ndarray[Any, Any] = known - 1 - found.fill_null(known).to_numpy().astype(np.int64)
    return Matches(places)


def _reversed(column: Column) -> pa.Array:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.take(pa.array(np.arange(len(whole) - 1, -1, -1)))


def _chunked(column: Column) -> pa.ChunkedArray:
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column], type=column.type)
