"""The owner's bookkeeping of calls in remote workers.

Two threads share it: the owner, which starts calls and takes their outcomes, and one that serves the workers.
"""

from __future__ import annotations

import contextlib
import pickle
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

from tablevault.notes import add_note
from tablevault.ports import CallGroup, Ended, FunctionError, OpenFunction
from tablevault.rows.wakeup import Wakeup
from tablevault.rows.worker_core import (
    PLAIN,
    PLAIN_TYPES,
    PROTOCOL,
    RAISED,
    UNSENDABLE,
    Answer,
    SentCall,
    ended_call,
)

_MAXIMUM_DEATHS = 3
"""Number of consecutive worker deaths, during setup or between calls, that ends the run."""


def packed_opening(open_function: OpenFunction, workers: str) -> bytes:
    """Pickle the callable with which workers open the function.

    Parameters
    ----------
    open_function
        Returns the function; called once in each worker before its first call.
    workers
        Name of the workers in notes on errors, such as `worker processes`.

    Raises
    ------
    FunctionError
        If it cannot be pickled.
    """
    try:
        return pickle.dumps(open_function, PROTOCOL)
    except Exception as error:
        add_note(error, f"raised while the function was sent to its {workers}")
        raise FunctionError(error) from error


class _PlainGroup(NamedTuple):
    """Calls with plain arguments, pickled together when they are sent."""

    calls: CallGroup
    size: int
    """Approximate bytes of the arguments of one call."""

    @classmethod
    def of(cls, calls: CallGroup) -> _PlainGroup | None:
        """Return the group, or `None` if any argument is not plain."""
        size = 0
        for values in calls.values:
            kinds = set(map(type, values))
            if not kinds <= PLAIN_TYPES:
                return None
            size += sum(len(value) for value in values if isinstance(value, str)) if str in kinds else 8 * len(values)
        return cls(calls, size // len(calls.numbers))

    def part(self, numbers: range) -> CallGroup:
        """Return some of the calls."""
        if numbers == self.calls.numbers:
            return self.calls
        first = self.calls.numbers.start
        here = slice(numbers.start - first, numbers.stop - first)
        return self.calls._replace(numbers=numbers, values=tuple(values[here] for values in self.calls.values))


class TakenCalls(NamedTuple):
    """Calls to send to a worker."""

    calls: list[SentCall]
    sizes: dict[int, int]
    """Argument size in bytes of each call, by number and in order."""


@dataclass
class RemoteCalls:
    """The calls of an executor with remote workers."""

    worker: str
    """Name of a worker in messages, such as `worker process`."""
    workers: str
    """Its plural."""
    ends_at_failure: bool = False
    """Whether no call is given to a worker after one has failed, until the owner has handled the failure."""
    arguments: dict[int, bytes | _PlainGroup] = field(default_factory=dict)
    """Arguments of calls in flight by number, pickled or as a group."""
    waiting: deque[int] = field(default_factory=deque)
    """Calls that have not been sent to a worker."""
    suspects: deque[int] = field(default_factory=deque)
    """Calls that may have killed a worker, to be retried once, each alone."""
    ended: deque[Ended] = field(default_factory=deque)
    wakeup: Wakeup = field(default_factory=Wakeup)
    """Wakes the owner when a call has ended."""
    abandoned: set[int] = field(default_factory=set)
    """Calls that the owner has abandoned."""
    forgets_returned: bool = False
    """Whether returned and suspected calls are dropped, because the owner is finishing."""
    failed: set[int] = field(default_factory=set)
    """Failed calls not yet handled by the owner, if they keep others from beginning."""
    broken: BaseException | None = None
    """The error that prevents workers from running further calls."""
    _suspected: set[int] = field(default_factory=set)
    """Calls that may have killed a worker, until they end."""
    _deaths_opening: int = 0
    """Consecutive deaths of workers that had not opened the function."""
    _deaths_idle: int = 0
    """Consecutive deaths of idle workers."""

    # --- the owner ------------------------------------------------------------------------------------------------

    def start(self, number: int, arguments: Mapping[str, object]) -> bool:
        """Queue a call for a free worker; unpicklable arguments become its error.

        Return whether it was queued.
        """
        self.forgets_returned = False
        try:
            content = pickle.dumps(arguments, PROTOCOL)
        except Exception as error:  # noqa: BLE001 - classes of arguments may raise anything
            add_note(error, f"raised while the arguments were sent to a {self.worker}")
            # Memory that this interpreter lacks is an error of the run.
            failure = FunctionError(error) if isinstance(error, MemoryError) else error
            self.ended.append(Ended(number, None, failure, 0.0))
            return False
        self.arguments[number] = content
        self.waiting.append(number)
        return True

    def start_together(self, group: CallGroup) -> None:
        """Queue calls as `start` does."""
        self.forgets_returned = False
        plain = _PlainGroup.of(group)
        if plain is None:
            for number, arguments in zip(group.numbers, group.arguments(), strict=True):
                self.start(number, arguments)
        else:
            self.arguments.update(zip(group.numbers, repeat(plain)))
            self.waiting.extend(group.numbers)

    def wait(self, seconds: float) -> None:
        """Return when a call has ended, at the latest after `seconds`."""
        if not self.ended:
            self.wakeup.wait(seconds)

    def release(self) -> None:
        """Let calls be given out again once the owner has handled all that have failed."""
        for number in list(self.failed):
            if not self.knows(number):
                self.failed.discard(number)

    def take_back(self) -> frozenset[int]:
        """Take back the calls not yet sent to a worker; return their numbers.

        Until another call is started, calls that workers return unrun are dropped.
        """
        self.forgets_returned = True
        taken = frozenset([*_emptied(self.waiting), *_emptied(self.suspects)])
        for number in taken:
            self.arguments.pop(number, None)
        return taken

    def knows(self, number: int) -> bool:
        """Return whether the call is in flight or still in `ended`."""
        return number in self.arguments or any(item.number == number for item in list(self.ended))

    # --- the thread that serves the workers -----------------------------------------------------------------------

    def take(self, numbers: deque[int], most: int, most_bytes: float = float("inf")) -> TakenCalls:
        """Remove calls from a queue and return them; the last one may exceed `most_bytes`.

        Parameters
        ----------
        numbers
            The queue: `waiting` or `suspects`.
        most
            Maximum number of calls.
        most_bytes
            Maximum bytes of arguments.
        """
        taken = TakenCalls([], {})
        group: _PlainGroup | None = None
        first, following, size = 0, 0, 0
        while len(taken.sizes) < most and size < most_bytes:
            try:
                number = numbers.popleft()
            except IndexError:
                break
            arguments = self.arguments.get(number)
            if arguments is None:
                continue
            if group is not None and (arguments is not group or number != following):
                taken.calls.append(group.part(range(first, following)))
                group = None
            if isinstance(arguments, bytes):
                taken.calls.append((number, arguments))
                length = len(arguments)
            else:
                if group is None:
                    group, first = arguments, number
                following, length = number + 1, arguments.size
            taken.sizes[number] = length
            size += length
        if group is not None:
            taken.calls.append(group.part(range(first, following)))
        return taken

    def is_suspected(self, number: int) -> bool:
        """Return whether a call is suspected of having killed a worker."""
        return number in self._suspected

    def opened(self) -> None:
        """Record that a worker has opened the function."""
        self._deaths_opening = 0

    def answer(self, answers: Sequence[Answer]) -> None:
        """End the calls that a worker has answered."""
        self._deaths_idle = 0
        suspected, abandoned, end, forget = self._suspected, self.abandoned, self.ended.append, self.arguments.pop
        for answer in answers:
            number, seconds, kind, content, usage = answer
            if suspected:
                suspected.discard(number)
            if number not in abandoned:
                if kind == PLAIN:
                    # Inlined for the most frequent kind of outcome.
                    end(Ended(number, content, None, seconds, False, False, usage))
                else:
                    if self.ends_at_failure and kind in (RAISED, UNSENDABLE):
                        self.failed.add(number)
                    end(ended_call(answer))
            forget(number, None)
        self.wakeup.set()

    def end(self, number: int, error: BaseException) -> None:
        """End a call with an error."""
        self._suspected.discard(number)
        if self.arguments.pop(number, None) is not None and number not in self.abandoned:
            self.ended.append(Ended(number, None, error, 0.0))
        self.wakeup.set()

    def give_back(self, numbers: Sequence[int]) -> None:
        """Requeue calls that a worker has not begun, ahead of the others."""
        if self.forgets_returned:
            self._forget(numbers)
            return
        for number in reversed(numbers):
            (self.suspects if number in self._suspected else self.waiting).appendleft(number)

    def suspect(self, numbers: Sequence[int], fate: str, was_alone: bool = True) -> None:
        """Suspect calls of having killed a worker; a repeated suspect ends with an error.

        Parameters
        ----------
        numbers
            The calls.
        fate
            How the worker ended.
        was_alone
            Whether no other call can have killed the worker.
        """
        for number in numbers:
            if number in self.abandoned or (self.forgets_returned and number not in self._suspected):
                self.arguments.pop(number, None)
            elif number in self._suspected and was_alone:
                self._suspected.discard(number)
                if self.ends_at_failure:
                    self.failed.add(number)
                self.ended.append(Ended(number, None, ChildProcessError(fate), 0.0, has_died=True))
                self.arguments.pop(number, None)
            else:
                self._suspected.add(number)
                self.suspects.append(number)
        self.wakeup.set()

    def _forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.arguments.pop(number, None)
        self.wakeup.set()

    def died_opening(self, fate: str) -> None:
        """Count the death of a worker during setup; too many in a row end the run."""
        self._deaths_opening += 1
        self._break_after(self._deaths_opening, f"while they opened the function; the last one {fate}")

    def died_idle(self, fate: str) -> None:
        """Count the death of an idle worker; too many in a row end the run."""
        self._deaths_idle += 1
        self._break_after(self._deaths_idle, f"between two calls; the last one {fate}")

    def _break_after(self, deaths: int, when: str) -> None:
        if deaths >= _MAXIMUM_DEATHS:
            self.break_off(FunctionError(ChildProcessError(f"{deaths} {self.workers} in a row died {when}")))

    def break_off(self, error: BaseException) -> None:
        """End all calls not sent to a worker with an error; the first error wins."""
        self.broken = self.broken or error
        self.fail_waiting()

    def fail_waiting(self) -> None:
        """End the queued calls, which can no longer run."""
        self.fail([*_emptied(self.suspects), *_emptied(self.waiting)])

    def fail(self, numbers: Sequence[int]) -> None:
        """End calls with the error that prevents them from running."""
        for number in numbers:
            if self.arguments.pop(number, None) is not None:
                self.ended.append(Ended(number, None, self.broken, 0.0))
                self.wakeup.set()


def _emptied(numbers: deque[int]) -> list[int]:
    """Remove and return numbers one by one, since other threads may take some."""
    taken = []
    with contextlib.suppress(IndexError):
        while True:
            taken.append(numbers.popleft())
    return taken
