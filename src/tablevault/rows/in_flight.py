"""Calls in flight, from their start until the owner handles them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

from tablevault.rows.schedule import Task
from tablevault.storage.fingerprints import FINGERPRINT_BYTES


class Call(NamedTuple):
    """A call in flight."""

    task: Task
    fingerprints: bytes
    """16 bytes for each of its rows."""
    is_counted: bool = False
    """Whether it is already counted in the usage of its rows."""


class _Group(NamedTuple):
    """First calls of single rows, started together."""

    first: int
    positions: Sequence[int]
    fingerprints: bytes

    def call(self, number: int) -> Call:
        """Return one of the calls."""
        place = number - self.first
        start = place * FINGERPRINT_BYTES
        return Call(Task((self.positions[place],)), self.fingerprints[start : start + FINGERPRINT_BYTES])


class CallsInFlight:
    """Calls by number; calls started together share one entry, which keeps rows cheap."""

    def __init__(self) -> None:
        self._calls: dict[int, Call | _Group] = {}
        self._next_number = 0

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._calls))

    def __contains__(self, number: object) -> bool:
        return number in self._calls

    def numbers(self, count: int) -> range:
        """Return unused numbers."""
        first = self._next_number
        self._next_number += count
        return range(first, self._next_number)

    def add(self, number: int, call: Call) -> None:
        """Add a call."""
        self._calls[number] = call

    def add_together(self, numbers: range, positions: Sequence[int], fingerprints: bytes) -> None:
        """Add the first call of each row."""
        self._calls.update(zip(numbers, repeat(_Group(numbers.start, positions, fingerprints))))

    def get(self, number: int) -> Call | None:
        """Return a call, or `None` if it is not in flight."""
        found = self._calls.get(number)
        return found.call(number) if isinstance(found, _Group) else found

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove calls; unknown numbers are ignored."""
        for number in numbers:
            self._calls.pop(number, None)

    def rows(self, numbers: Iterable[int]) -> Iterator[tuple[int, bytes] | None]:
        """Yield the first row and fingerprint of each call, `None` if not in flight."""
        for number in numbers:
            found = self._calls.get(number)
            if isinstance(found, _Group):
                # As in `call`, without the cost of a call.
                place = number - found.first
                start = place * FINGERPRINT_BYTES
                yield found.positions[place], found.fingerprints[start : start + FINGERPRINT_BYTES]
            else:
                yield None if found is None else (found.task.positions[0], found.fingerprints[:FINGERPRINT_BYTES])
