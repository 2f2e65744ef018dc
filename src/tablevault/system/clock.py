"""Clocks for waiting and polling that go on when a program has frozen or replaced those of the standard library.

Recorded times are those that the program's own `datetime.now()` gives.
"""

from __future__ import annotations

import datetime as _library
import time as _time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime as datetime
else:
    # While a clock is frozen, the name in the library stands for a subclass.
    datetime = next(base for base in _library.datetime.__mro__ if base.__module__ == "datetime")


class _Originals:
    """The library's functions, where nothing that goes through modules' names finds them."""

    sleep = staticmethod(_time.sleep)
    monotonic = staticmethod(_time.monotonic)
    gettime = staticmethod(getattr(_time, "clock_gettime", lambda clock: _time.monotonic()))
    gettime_ns = staticmethod(getattr(_time, "clock_gettime_ns", lambda clock: _time.time_ns()))


_MONOTONIC = getattr(_time, "CLOCK_MONOTONIC", 0)
_REALTIME = getattr(_time, "CLOCK_REALTIME", 0)


def monotonic() -> float:
    """Return seconds that never go back, whatever `time.monotonic` says."""
    return float(_Originals.gettime(_MONOTONIC))


def time() -> float:
    """Return seconds since 1970 in UTC, whatever `time.time` says."""
    return float(_Originals.gettime(_REALTIME))


def sleep(seconds: float) -> None:
    """Wait, whatever `time.sleep` does."""
    _Originals.sleep(seconds)


def file_time_ns() -> int:
    """Return the time as file systems have it, in nanoseconds."""
    return int(_Originals.gettime_ns(_REALTIME))
