"""The core of remote workers, which calls a function and serializes the outcome.

It is independent of vaults and of the transport, which is the socket of a worker process, or the arguments and results
of a Ray actor's method. Any exception of a call is the outcome of that call, never an error of the worker.
"""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from tablevault.notes import add_note, class_name_of, frames_of, message_of
from tablevault.ports import CallGroup, Ended, FunctionError
from tablevault.rows.forked import end_child
from tablevault.rows.sent_errors import receive_error, send_error

PLAIN, RETURNED, RAISED, UNSENDABLE = range(4)
"""Outcomes of a call: a plain value, any other value, an exception, a value that cannot be pickled."""
PROTOCOL = 5

PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})
"""Immutable types, whose values cannot change before they are sent."""

SentCall = tuple[int, bytes] | CallGroup
"""A call, by its number and pickled arguments, or several calls with plain arguments."""
ReceivedCall = tuple[int, bytes | dict[str, object]]
"""Number and arguments of a call; they are pickled, or belong to the call."""
Answer = tuple[int, float, int, Any, dict[str, float] | None]
"""Number, seconds, kind of outcome, content and usage of a call."""


def received_calls(sent: Iterable[SentCall]) -> Iterator[ReceivedCall]:
    """Yield the calls sent to a worker, one by one."""
    for calls in sent:
        if isinstance(calls, CallGroup):
            yield from zip(calls.numbers, calls.arguments(), strict=True)
        else:
            yield calls


class CallCore:
    """Runs calls for a worker.

    Parameters
    ----------
    worker
        Name of the worker in notes on errors, such as `worker process`.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._process = os.getpid()

    def run(self, call: Callable[..., object], arguments: bytes | dict[str, object]) -> tuple[int, object]:
        """Run a call; return the kind of outcome with the serialized value or exception."""
        failure: BaseException | None = None
        value: object = None
        try:
            given = pickle.loads(arguments) if isinstance(arguments, bytes) else arguments
        except BaseException as error:  # noqa: BLE001 - classes of arguments may raise anything
            return self._unreadable(error)
        try:
            value = call(**given)
        except BaseException as error:  # noqa: BLE001 - any exception is the outcome
            failure = error
        return self._end(value, failure)

    async def run_async(
        self, call: Callable[..., Awaitable[object]], arguments: bytes | dict[str, object]
    ) -> tuple[int, object]:
        """Run a call of an async function like `run`."""
        failure: BaseException | None = None
        value: object = None
        try:
            given = pickle.loads(arguments) if isinstance(arguments, bytes) else arguments
        except BaseException as error:  # noqa: BLE001 - classes of arguments may raise anything
            return self._unreadable(error)
        try:
            value = await call(**given)
        except BaseException as error:  # noqa: BLE001 - any exception is the outcome
            failure = error
        return self._end(value, failure)

    def _unreadable(self, error: BaseException) -> tuple[int, object]:
        """Return the outcome of a call whose arguments cannot be unpickled."""
        add_note(error, f"raised while the arguments were read in the {self._worker}")
        return RAISED, error

    def _end(self, value: object, failure: BaseException | None) -> tuple[int, object]:
        """Return the outcome of an ended call."""
        if os.getpid() != self._process:
            end_child(failure)
        return (RAISED, failure) if failure is not None else packed_result(value)


def packed_result(value: object) -> tuple[int, object]:
    """Serialize a returned value; return the kind of outcome and the content."""
    if type(value) in PLAIN_TYPES:
        return PLAIN, value
    _pickle_texts_of_numpy_exactly()
    try:
        return RETURNED, pickle.dumps(value, PROTOCOL) if _is_row_of_plain(value) else _pickled(value)
    except BaseException as error:  # noqa: BLE001 - the class of the value may raise anything
        return UNSENDABLE, error


def _is_row_of_plain(value: object) -> bool:
    """Return whether a value is a container of plain values, the most frequent kind of result."""
    kind = type(value)
    if kind is list or kind is tuple:
        return PLAIN_TYPES.issuperset(map(type, value))  # type: ignore[call-overload]
    return kind is dict and PLAIN_TYPES.issuperset(map(type, value.values()))  # type: ignore[attr-defined]


def _pickled(value: object) -> bytes:
    content = io.BytesIO()
    _ResultPickler(content, PROTOCOL).dump(value)
    return content.getvalue()


class _ResultPickler(pickle.Pickler):
    """Sends exceptions among results like raised ones, which need not be picklable."""

    def reducer_override(self, value: object) -> Any:
        """Return how to recreate an exception; other objects are pickled as usual."""
        if issubclass(type(value), BaseException):
            return receive_error, (described(value),)  # type: ignore[arg-type]
        return NotImplemented


def _pickle_texts_of_numpy_exactly() -> None:
    """Let pickle keep NUL characters at the end of NumPy's texts and bytes, which NumPy drops."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and numpy.str_ not in copyreg.dispatch_table:
        copyreg.pickle(numpy.str_, lambda value: (numpy.str_, (str.__str__(value),)))
        copyreg.pickle(numpy.bytes_, lambda value: (numpy.bytes_, (bytes.__getitem__(value, slice(None)),)))


def described(error: BaseException) -> bytes:
    """Return a serialized exception, without the worker's own frames in its traceback."""
    original = error.original if type(error) is FunctionError else error
    frames: TracebackType | None = frames_of(original)
    while frames is not None and frames.tb_frame.f_globals.get("__name__") in _WORKERS:
        frames = frames.tb_next
    return send_error(original, frames)


def ended_call(answer: Answer) -> Ended:
    """Return the outcome of a call from a worker's answer, on the owner's side."""
    number, seconds, kind, content, usage = answer
    if kind == PLAIN:
        return Ended(number, content, None, seconds, usage=usage)
    if kind == RETURNED:
        try:
            return Ended(number, pickle.loads(content), None, seconds, usage=usage)
        except BaseException as error:  # noqa: BLE001 - its class may be missing here, or raise anything
            return Ended(number, None, _unsendable(error), seconds, is_invalid=True, usage=usage)
    raised = receive_error(content)
    if kind == UNSENDABLE:
        return Ended(number, None, _unsendable(raised), seconds, is_invalid=True, usage=usage)
    return Ended(number, None, raised, seconds, usage=usage)


def _unsendable(error: BaseException) -> TypeError:
    reason = f"{class_name_of(error)}: {message_of(error)}"
    refused = TypeError(f"the result cannot be sent by the worker process ({reason})")
    refused.__cause__ = error
    return refused


_WORKERS = frozenset(
    {__name__, "tablevault.rows.worker", "tablevault.rows.ray_worker", "tablevault.rows.pulled_rows", "__main__"}
)
"""Modules whose frames at the beginning of a traceback belong to the worker."""
