"""Clocks for waiting and polling that ignore patched standard library clocks.

A program may freeze or replace those. Recorded timestamps, in contrast, come from its `datetime.now()`.
"""

from __future__ import annotations

import datetime as _library
import time as _time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime as datetime
else:
    # A frozen clock replaces the library's class with a subclass.
    datetime = next(base for base in _library.datetime.__mro__ if base.__module__ == "datetime")


class _Originals:
    """The original functions, hidden from tools that patch module attributes."""

    sleep = staticmethod(_time.sleep)
    monotonic = staticmethod(_time.monotonic)
    gettime = staticmethod(getattr(_time, "clock_gettime", lambda clock: _time.monotonic()))
    gettime_ns = staticmethod(getattr(_time, "clock_gettime_ns", lambda clock: _time.time_ns()))


_MONOTONIC = getattr(_time, "CLOCK_MONOTONIC", 0)
_REALTIME = getattr(_time, "CLOCK_REALTIME", 0)


def monotonic() -> float:
    """Return monotonic seconds, even if `time.monotonic` is patched."""
    return float(_Originals.gettime(_MONOTONIC))


def time() -> float:
    """Return the Unix time in seconds, even if `time.time` is patched."""
    return float(_Originals.gettime(_REALTIME))


def sleep(seconds: float) -> None:
    """Sleep, even if `time.sleep` is patched."""
    _Originals.sleep(seconds)


def file_time_ns() -> int:
    """Return the time in nanoseconds, on the clock of file timestamps."""
    return int(_Originals.gettime_ns(_REALTIME))
