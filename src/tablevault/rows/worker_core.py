"""The core of every worker elsewhere: calls a function, and puts its end into bytes that an owner can read.

It knows nothing of vaults, and nothing of how the bytes travel: through the socket of a worker process, or as the
argument and the result of a method of a Ray actor. Whatever a call raises is its end, never an error of the worker.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from tablevault.notes import add_note, frames_of
from tablevault.ports import Ended, FunctionError
from tablevault.rows.forked import end_child
from tablevault.rows.sent_errors import receive_error, send_error

PLAIN, RETURNED, RAISED, UNSENDABLE = range(4)
"""Ends of a call: with a plain value, with any other, with an exception, with a value that cannot be pickled."""
PROTOCOL = 5

_PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})
"""Types of values that nothing can change before they are sent."""

Answer = tuple[int, float, int, Any, dict[str, float] | None]
"""Number, seconds, kind of end, content, and usage of a call."""


class CallCore:
    """Runs calls for a worker.

    Parameters
    ----------
    worker
        What the worker is called in notes on errors, such as `worker process`.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._process = os.getpid()

    def run(self, call: Callable[..., object], arguments: bytes) -> tuple[int, object]:
        """Return how a call ended, with its value as it is sent, or with an exception that `described` takes."""
        failure: BaseException | None = None
        value: object = None
        try:
            given = pickle.loads(arguments)
        except BaseException as error:  # noqa: BLE001 - whatever the class of an argument does
            return self._unreadable(error)
        try:
            value = call(**given)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
            failure = error
        return self._end(value, failure)

    async def run_async(self, call: Callable[..., Awaitable[object]], arguments: bytes) -> tuple[int, object]:
        """Do the same with a call that has to be awaited."""
        failure: BaseException | None = None
        value: object = None
        try:
            given = pickle.loads(arguments)
        except BaseException as error:  # noqa: BLE001 - whatever the class of an argument does
            return self._unreadable(error)
        try:
            value = await call(**given)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
            failure = error
        return self._end(value, failure)

    def _unreadable(self, error: BaseException) -> tuple[int, object]:
        """Return the end of a call whose arguments cannot be read."""
        add_note(error, f"raised while the arguments were read in the {self._worker}")
        return RAISED, error

    def _end(self, value: object, failure: BaseException | None) -> tuple[int, object]:
        """Return the end of a call that has returned or raised."""
        if os.getpid() != self._process:
            end_child(failure)
        return (RAISED, failure) if failure is not None else packed_result(value)


def packed_result(value: object) -> tuple[int, object]:
    """Return the end of a call that has returned: its kind, and the value as it is sent or why it cannot be."""
    if type(value) in _PLAIN_TYPES:
        return PLAIN, value
    try:
        return RETURNED, pickle.dumps(value, PROTOCOL)
    except BaseException as error:  # noqa: BLE001 - whatever the class of the value does
        return UNSENDABLE, error


def described(error: BaseException) -> bytes:
    """Return an exception as it is sent; frames of the worker are no part of its traceback."""
    original = error.original if type(error) is FunctionError else error
    frames: TracebackType | None = frames_of(original)
    while frames is not None and frames.tb_frame.f_globals.get("__name__") in _WORKERS:
        frames = frames.tb_next
    return send_error(original, frames)


def ended_call(answer: Answer) -> Ended:
    """Return the end of a call that a worker has answered, for its owner."""
    number, seconds, kind, content, usage = answer
    if kind == PLAIN:
        return Ended(number, content, None, seconds, usage=usage)
    if kind == RETURNED:
        try:
            return Ended(number, pickle.loads(content), None, seconds, usage=usage)
        except BaseException as error:  # noqa: BLE001 - its class is not found here, or does anything
            return Ended(number, None, _unsendable(error), seconds, is_invalid=True, usage=usage)
    raised = receive_error(content)
    if kind == UNSENDABLE:
        return Ended(number, None, _unsendable(raised), seconds, is_invalid=True, usage=usage)
    return Ended(number, None, raised, seconds, usage=usage)


def _unsendable(error: BaseException) -> TypeError:
    refused = TypeError(f"the result cannot be sent by the worker process ({type(error).__name__}: {error})")
    refused.__cause__ = error
    return refused


_WORKERS = frozenset(
    {__name__, "tablevault.rows.worker", "tablevault.rows.ray_worker", "tablevault.rows.pulled_rows", "__main__"}
)
"""Modules whose frames, at the beginning of a traceback, are those of a worker."""
