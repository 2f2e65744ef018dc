"""Errors of foreign classes, as functions of users raise them."""

from __future__ import annotations

import random
from collections.abc import Callable


class WithoutText(Exception):
    """Cannot be made text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Unreachable(Exception):
    """Raises for whatever is asked of it."""

    def __getattr__(self, name: str) -> object:
        raise KeyError(name)


class WithoutRoom(Exception):
    """Takes no notes and cannot be pickled."""

    __slots__ = ()

    def add_note(self, note: str) -> None:
        raise RuntimeError(note)

    def __reduce__(self) -> str:
        raise RuntimeError("not to be pickled")


class Strange(Exception):
    """Has arguments that it cannot be made from again."""

    def __init__(self, first: int, *, second: int) -> None:
        super().__init__(first)


class TextOfAnotherKind(Exception):
    """Has a text that is none."""

    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


def _with_notes() -> Exception:
    error = ValueError("with notes")
    error.__notes__ = "no list"  # type: ignore[assignment]
    return error


def _in_a_ring() -> Exception:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    return first


ERRORS: tuple[Callable[[], BaseException], ...] = (
    WithoutText,
    Unreachable,
    WithoutRoom,
    lambda: Strange(1, second=2),
    TextOfAnotherKind,
    _with_notes,
    _in_a_ring,
    lambda: ValueError("\udcff lone"),
    lambda: ValueError("\0 \x1b[2J \r\n \u2028"),
    lambda: ValueError("x" * 100_000),
    lambda: KeyError(("a", object())),
    lambda: StopIteration(1),
    lambda: ExceptionGroup("some", [ValueError(1), ExceptionGroup("more", [TypeError(2)])]),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    lambda: OSError(28, "No space left on device", b"caf\xe9"),
    lambda: type("", (Exception,), {})("a class without a name"),
    lambda: type("Örror", (Exception,), {"__module__": None})("no module"),
    lambda: RecursionError("deep"),
    lambda: MemoryError(),
    lambda: AssertionError(),
    lambda: GeneratorExit(),
)


def error(draw: random.Random) -> BaseException:
    """Make an error."""
    return draw.choice(ERRORS)()
