"""The polling loop of everything that waits for another thread, process or interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tablevault.system import clock

Answer = TypeVar("Answer")


def poll(ask: Callable[[], Answer | None], pauses: Iterable[float], timeout: float | None = None) -> Answer | None:
    """Call a function until it has an answer.

    Parameters
    ----------
    ask
        Returns the answer, `None` while there is none.
    pauses
        Seconds from each call to the next; the wait is over when they end.
    timeout
        Seconds after which there is only a last call; `None` for no limit.

    Returns
    -------
    Answer | None
        The answer; `None` if there was none in time.
    """
    deadline = None if timeout is None else clock.monotonic() + timeout
    for pause in pauses:
        answer = ask()
        if answer is not None or (deadline is not None and clock.monotonic() >= deadline):
            return answer
        clock.sleep(pause)
    return None


def growing(shortest: float, longest: float) -> Iterator[float]:
    """Yield pauses that double from the shortest to the longest."""
    pause = shortest
    while True:
        yield pause
        pause = min(pause * 2, longest)
