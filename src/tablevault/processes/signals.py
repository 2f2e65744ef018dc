"""Handling of Ctrl-C and SIGTERM, which interrupt user code at once but TableVault only between steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType, TracebackType
from typing import Any, Self

from tablevault.notes import outcome_of, set_outcome
from tablevault.system.forks import ForkHooks, around_forks
from tablevault.system.interrupts import deliver, is_interrupt
from tablevault.values.outcomes import Cause

_Handler = Callable[[int, FrameType | None], object]


class Interrupts:
    """Handles SIGINT and SIGTERM in the main thread while an operation runs.

    A signal that arrives while user code is exposed raises there; any other stays pending until the next `check`, the
    next `exposed` or the end.
    """

    def __init__(self) -> None:
        self._previous: dict[int, _Handler] = {}
        self._given_back: dict[int, Any] = {}
        """The handlers to restore, if they differ from those that are called."""
        self._exposed = False
        self._pending: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._take_over(number)
            _entered.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_back()
        # An error does not swallow an interrupt that arrived during its handling; another interrupt does.
        if error is None or isinstance(error, Exception):
            try:
                self.check()
            except BaseException as interrupt:
                ended = outcome_of(error) if error is not None else None
                if ended is not None:
                    set_outcome(interrupt, replace(ended, cause=Cause.INTERRUPT))
                raise

    def check(self) -> None:
        """Call the handler of a pending signal."""
        number, self._pending = self._pending, None
        if number is not None:
            deliver(self._previous[number], number, None)

    @contextmanager
    def exposed(self) -> Iterator[None]:
        """Let signals raise inside the block."""
        self._exposed = True
        try:
            self.check()
            yield
        finally:
            self._exposed = False

    def _give_back(self) -> None:
        if self in _entered:
            _entered.remove(self)
        for number, handler in self._previous.items():
            signal.signal(number, self._given_back.get(number, handler))

    def _take_over(self, number: int) -> None:
        handler = signal.getsignal(number)
        if number == signal.SIGTERM and (handler is signal.SIG_DFL or _is_of_ray(handler)):
            self._given_back[number] = handler
            handler = _terminate
        if callable(handler):
            self._previous[number] = handler
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._exposed:
            deliver(self._previous[number], number, frame)
        else:
            self._pending = number


def is_from_signal(error: BaseException) -> bool:
    """Return whether Ctrl-C or SIGTERM raised an exception while an operation ran."""
    # `isinstance` would call code of a user's exception class.
    return issubclass(type(error), KeyboardInterrupt | SystemExit) and is_interrupt(error)


def _is_of_ray(handler: object) -> bool:
    """Return whether a handler is from `ray.init()`, which replaces the default one but exits differently."""
    return str(getattr(handler, "__module__", "")).partition(".")[0] == "ray"


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


_entered: list[Interrupts] = []
"""The active instances, in the order of entering."""


_forking = threading.local()
"""The signals that the forking thread had already blocked."""


def _hold_signals() -> None:
    """Block signals while the interpreter forks.

    A child would receive them with these handlers, whose exceptions are lost between the hooks.
    """
    if _entered:
        _forking.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))


def _let_signals_go() -> None:
    blocked = vars(_forking).pop("blocked", None)
    if blocked is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _give_back_in_child() -> None:
    """Restore the previous handlers in a forked child.

    A pool that terminates its workers waits for their exit, so SIGTERM must not become a lost exception.
    """
    while _entered:
        _entered[-1]._give_back()
    _let_signals_go()


around_forks(ForkHooks(_hold_signals, _let_signals_go, _give_back_in_child), outermost=True)
