"""Exceptions of signal handlers, which may arrive anywhere and are not errors of the interrupted code."""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType, TracebackType


def deliver(handler: Callable[[int, FrameType | None], object], number: int, frame: FrameType | None) -> None:
    """Call a signal handler; `is_interrupt` recognizes its exception by the frame of this function."""
    handler(number, frame)


def is_interrupt(error: BaseException) -> bool:
    """Return whether a signal handler raised an exception."""
    # Read without the exception's class, which may be a user's.
    frames: TracebackType | None = vars(BaseException)["__traceback__"].__get__(error)
    while frames is not None:
        if frames.tb_frame.f_code is deliver.__code__:
            return True
        frames = frames.tb_next
    return False


class SuppressedErrors:
    """Context that suppresses every exception of foreign code, but no interrupt."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return error is not None and not is_interrupt(error)
