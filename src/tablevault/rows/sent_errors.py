"""Transfer of exceptions from worker processes, with tracebacks, notes and causes."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from itertools import pairwise
from types import CodeType, TracebackType
from typing import Any, NamedTuple

from tablevault.notes import (
    add_note,
    class_name_of,
    frames_of,
    message_of,
    notes_of,
    origin_of,
    set_origin,
    traceback_of,
)
from tablevault.system.interrupts import SuppressedErrors

_MAXIMUM_CHAINED = 20
"""Maximum number of causes and contexts sent along."""
_MAXIMUM_FRAMES = 200
"""Maximum number of frames sent along; the innermost ones are kept."""
_PROTOCOL = 5


class SentFrame(NamedTuple):
    """One frame of a traceback."""

    file: str
    line: int
    function: str


class SentError(NamedTuple):
    """An exception as plain data of built-in types, which can always be sent."""

    pickled: bytes | None
    """The exception itself; `None` if it cannot be pickled and read again."""
    kind: str
    """Qualified name of its class."""
    message: str
    notes: list[str]
    frames: list[SentFrame]
    traceback: str
    """As Python prints it; empty if the exception itself is sent."""
    facts: tuple[Any, ...]
    """The fields of `ErrorFacts`, by which policies recognize it."""
    follows: str
    """Its link to the next exception of the chain: `__cause__`, `__context__`, or empty."""
    hides_context: bool


def send_error(error: BaseException, begin: TracebackType | None) -> bytes:
    """Serialize an exception with its causes and contexts.

    Parameters
    ----------
    error
        The exception.
    begin
        First entry of its traceback.
    """
    chain: list[SentError] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(chain) < _MAXIMUM_CHAINED:
        seen.add(id(current))
        origin = origin_of(current)
        follows = "__cause__" if origin["__cause__"] is not None else "__context__"
        before = origin[follows]
        frames = begin if current is error else frames_of(current)
        chain.append(_sent(current, frames, follows if before is not None else "", origin["__suppress_context__"]))
        current = before
    # As plain tuples, since unpickling looks up the type of each named tuple.
    return pickle.dumps([tuple(item) for item in chain], _PROTOCOL)


def receive_error(content: bytes) -> BaseException:
    """Return the exception sent by `send_error`, or a `RuntimeError` that describes it."""
    chain = [SentError(*item) for item in pickle.loads(content)]
    errors = [_received(item) for item in chain]
    for item, (error, before) in zip(chain, pairwise(errors), strict=False):
        if item.follows:
            set_origin(error, {item.follows: before, "__suppress_context__": item.hides_context})
    return errors[0]


def _sent(error: BaseException, frames: TracebackType | None, follows: str, hides_context: bool) -> SentError:
    # Imported on demand, since a worker without errors does not need it.
    from tablevault.rows.error_names import ErrorFacts

    pickled = _pickled(error)
    described = "" if pickled is not None else _or_empty(lambda: traceback_of(error, frames))
    return SentError(
        pickled,
        class_name_of(error),
        message_of(error),
        notes_of(error),
        _frames(frames),
        described,
        tuple(ErrorFacts.of(error)),
        follows,
        bool(hides_context),
    )


def _pickled(error: BaseException) -> bytes | None:
    try:
        content = pickle.dumps(error, _PROTOCOL)
        # Many exceptions can be pickled but not be recreated from their arguments.
        return content if type(pickle.loads(content)) is type(error) else None
    except BaseException:  # noqa: BLE001 - a foreign class may raise anything
        return None


def _received(item: SentError) -> BaseException:
    from tablevault.rows.error_names import ErrorFacts, set_facts

    error = _unpickled(item.pickled, item.kind) if item.pickled is not None else None
    if error is None:
        error = RuntimeError(f"{item.kind}: {item.message}")
        add_note(
            error,
            f"The exception could not be sent from the worker process. Its traceback there:\n{item.traceback}"
            if item.traceback
            else "The exception of the worker process could not be recreated here; this one stands for it.",
        )
    set_facts(error, ErrorFacts(*item.facts))
    known = notes_of(error)
    for note in item.notes:
        if note not in known:
            add_note(error, note)
    with contextlib.suppress(BaseException):
        vars(BaseException)["__traceback__"].__set__(error, _traceback(item.frames))
    return error


def _unpickled(content: bytes, kind: str) -> BaseException | None:
    """Return a pickled exception; `None` if its class is missing here, or raises anything."""
    with SuppressedErrors():
        error = pickle.loads(content)
        return error if issubclass(type(error), BaseException) and class_name_of(error) == kind else None
    return None


def _frames(traceback: TracebackType | None) -> list[SentFrame]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(SentFrame(code.co_filename, traceback.tb_lineno or code.co_firstlineno, code.co_name))
        traceback = traceback.tb_next
    return frames[-_MAXIMUM_FRAMES:]


def _traceback(frames: list[SentFrame]) -> TracebackType | None:
    """Return a traceback with stand-ins for the frames of the worker."""
    made = None
    for frame in reversed(frames):
        code = _RAISING.replace(co_filename=frame.file, co_name=frame.function, co_firstlineno=frame.line)
        raised = None
        try:
            exec(code, {"__name__": frame.function})
        except ZeroDivisionError as error:
            raised = error.__traceback__
        if raised is not None and raised.tb_next is not None:
            # Without an instruction, Python marks no part of the line.
            made = TracebackType(made, raised.tb_next.tb_frame, -1, frame.line)
    return made


def _or_empty(make: Callable[[], str]) -> str:
    try:
        return make()
    except BaseException:  # noqa: BLE001 - a foreign class may raise anything
        return ""


_RAISING: CodeType = compile("0 / 0", "<worker>", "exec", dont_inherit=True)
