"""The calls that an executor was given and whose outcomes have not been handled."""

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
    """First calls for one row each, which were started together."""

    first: int
    positions: Sequence[int]
    fingerprints: bytes

    def call(self, number: int) -> Call:
        """Return one of the calls."""
        place = number - self.first
        start = place * FINGERPRINT_BYTES
        return Call(Task((self.positions[place],)), self.fingerprints[start : start + FINGERPRINT_BYTES])


class CallsInFlight:
    """Calls by their numbers. Those that are started together cost next to nothing until one of them fails."""

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
        """Return numbers that were never used."""
        first = self._next_number
        self._next_number += count
        return range(first, self._next_number)

    def add(self, number: int, call: Call) -> None:
        """Add a call."""
        self._calls[number] = call

    def add_together(self, numbers: range, positions: Sequence[int], fingerprints: bytes) -> None:
        """Add the first calls for some rows, one each."""
        self._calls.update(zip(numbers, repeat(_Group(numbers.start, positions, fingerprints))))

    def get(self, number: int) -> Call | None:
        """Return a call; `None` if it is not in flight."""
        found = self._calls.get(number)
        return found.call(number) if isinstance(found, _Group) else found

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove calls, as far as they are in flight."""
        for number in numbers:
            self._calls.pop(number, None)

    def rows(self, numbers: Iterable[int]) -> Iterator[tuple[int, bytes] | None]:
        """Yield the first row of each call, with its fingerprint; `None` if the call is not in flight."""
        for number in numbers:
            found = self._calls.get(number)
            if isinstance(found, _Group):
                # As in `call`, without the cost of a call.
                place = number - found.first
                start = place * FINGERPRINT_BYTES
                yield found.positions[place], found.fingerprints[start : start + FINGERPRINT_BYTES]
            else:
                yield None if found is None else (found.task.positions[0], found.fingerprints[:FINGERPRINT_BYTES])
