"""Notes, outcomes and descriptions of foreign exceptions that do not rely on their classes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from tablevault.system.interrupts import SuppressedErrors, is_interrupt
from tablevault.texts.plain import cut
from tablevault.values.outcomes import Outcome

_OUTCOME = "__tablevault_outcome__"
"""Attribute of an exception that holds the outcome of its process."""

_LOCATION = "__tablevault_location__"
"""Attribute of an exception that names the builder and row whose arguments raised it."""

_MAXIMUM_CHAINED = 100
"""Maximum number of causes and contexts to follow."""
_MAXIMUM_FORMATTED = 1_000_000
"""Maximum characters used of one part of an exception."""


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception of any class; a no-op if it takes none."""
    with SuppressedErrors():
        try:
            error.add_note(note)
        except BaseException as trouble:  # A frozen dataclass, for example, lets nothing be set.
            if is_interrupt(trouble):
                raise
            BaseException.__setattr__(error, "__notes__", [*notes_of(error), note])


def notes_of(error: BaseException) -> list[str]:
    """Return the notes of an exception that are text."""
    with SuppressedErrors():
        notes = vars(error).get("__notes__")
        return [str.__str__(note) for note in notes if isinstance(note, str)] if notes else []
    return []


def add_location(error: BaseException, location: str) -> None:
    """Attach the builder and row to an exception that they raised, also as a note."""
    with SuppressedErrors():
        BaseException.__setattr__(error, _LOCATION, location)
    add_note(error, location)


def location_of(error: BaseException) -> str:
    """Return the builder and row that an exception carries; empty without them."""
    with SuppressedErrors():
        found = vars(error).get(_LOCATION, "")
        return str.__str__(found) if isinstance(found, str) else ""
    return ""


def set_outcome(error: BaseException, outcome: Outcome) -> None:
    """Attach the outcome of a process to its exception."""
    with SuppressedErrors():
        BaseException.__setattr__(error, _OUTCOME, outcome)


def outcome_of(error: BaseException) -> Outcome | None:
    """Return the outcome that an exception carries, if any."""
    with SuppressedErrors():
        found = vars(error).get(_OUTCOME)
        return found if isinstance(found, Outcome) else None
    return None


def message_of(error: BaseException) -> str:
    """Return the text of an exception, or a placeholder if its class fails to give one."""
    try:
        return str.__str__(str(error))
    except BaseException as trouble:
        if is_interrupt(trouble):
            raise
        return f"<text unavailable: {type(trouble).__name__}>"


def class_name_of(error: BaseException) -> str:
    """Return the qualified name of an exception's class."""
    return name_of_class(type(error))


def name_of_class(kind: type) -> str:
    """Return the qualified name of a class, without the module of a built-in one."""
    with SuppressedErrors():
        module, name = type.__getattribute__(kind, "__module__"), type.__getattribute__(kind, "__qualname__")
        return str.__str__(name if module == "builtins" else f"{module}.{name}")
    return "Exception"


def origin_of(error: BaseException) -> dict[str, Any]:
    """Return an exception's cause and context, bypassing its class."""
    return {name: _own(error, name) for name in _ORIGIN}


def set_origin(error: BaseException, origin: Mapping[str, Any]) -> None:
    """Set an exception's cause and context to those of `origin_of`, bypassing its class."""
    for name, value in origin.items():
        vars(BaseException)[name].__set__(error, value)


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that Python prints before it, the latest first, bypassing their classes."""
    seen = set[int]()
    before: BaseException | None = error
    while before is not None and id(before) not in seen and len(seen) < _MAXIMUM_CHAINED:
        yield before
        seen.add(id(before))
        origin = origin_of(before)
        before = origin["__cause__"]
        if before is None and not origin["__suppress_context__"]:
            before = origin["__context__"]


def frames_of(error: BaseException) -> TracebackType | None:
    """Return the traceback of an exception, bypassing its class."""
    frames: TracebackType | None = _own(error, "__traceback__")
    return frames


def _own(error: BaseException, name: str) -> Any:
    return vars(BaseException)[name].__get__(error)


_ORIGIN = ("__cause__", "__context__", "__suppress_context__")


def traceback_of(
    error: BaseException, begin: TracebackType | None = None, notes: bool = True, chain: bool = True
) -> str:
    """Return an exception as Python prints it, even if its class prevents that.

    Parameters
    ----------
    error
        The exception.
    begin
        First frame of the traceback; all frames if omitted.
    notes
        Whether to include its notes.
    chain
        Whether to include its causes and contexts.
    """
    begin = begin or frames_of(error)
    if len(message_of(error)) <= _MAXIMUM_FORMATTED:
        with SuppressedErrors():
            lines = traceback.TracebackException(type(error), error, begin)
            if not notes:
                lines.__notes__ = None
            return "".join(map(str.__str__, lines.format(chain=chain)))
    return "".join(_formatted(error, begin, notes, chain))


def _formatted(error: BaseException, begin: TracebackType | None, notes: bool, chain: bool) -> Iterator[str]:
    """Yield the parts of a traceback, each made without calling the exception's class."""
    errors = list(chain_of(error)) if chain else [error]
    for place, each in reversed(list(enumerate(errors))):
        frames = begin if place == 0 else frames_of(each)
        if frames is not None:
            yield "Traceback (most recent call last):\n"
            yield from traceback.format_tb(frames)
        message = cut(message_of(each), _MAXIMUM_FORMATTED)
        yield f"{class_name_of(each)}: {message}\n" if message else f"{class_name_of(each)}\n"
        if notes or place:
            yield from (f"{note}\n" for note in notes_of(each))
        if place:
            yield (
                "\nThe above exception was the direct cause of the following exception:\n\n"
                if origin_of(errors[place - 1])["__cause__"] is not None
                else "\nDuring handling of the above exception, another exception occurred:\n\n"
            )


def note_missing_module(error: BaseException) -> None:
    """Add the path of the interpreter to the error of a missing module."""
    if type(error) is ModuleNotFoundError:
        add_note(error, f"The interpreter {sys.executable} has no module {error.name!r}; install it there.")
