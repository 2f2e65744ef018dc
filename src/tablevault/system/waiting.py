"""Polling for other threads, processes and interpreters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tablevault.system import clock

Answer = TypeVar("Answer")


def poll(ask: Callable[[], Answer | None], pauses: Iterable[float], timeout: float | None = None) -> Answer | None:
    """Call a function until it returns an answer.

    Parameters
    ----------
    ask
        Returns the answer, or `None` to keep waiting.
    pauses
        Pauses between calls in seconds; polling ends with the last one.
    timeout
        Seconds after which a last call is made; `None` for no limit.

    Returns
    -------
    Answer | None
        The answer; `None` if polling ended without one.
    """
    deadline = None if timeout is None else clock.monotonic() + timeout
    for pause in pauses:
        answer = ask()
        if answer is not None or (deadline is not None and clock.monotonic() >= deadline):
            return answer
        clock.sleep(pause)
    return None


def growing(shortest: float, longest: float) -> Iterator[float]:
    """Yield pauses that double from the shortest up to the longest."""
    pause = shortest
    while True:
        yield pause
        pause = min(pause * 2, longest)
