"""Usage reported by running functions, such as tokens or cost."""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import Protocol

from tablevault.errors import TVArgumentError
from tablevault.values.services import RESERVED_AMOUNTS


class Meter(Protocol):
    """Receiver of the amounts that a call reports."""

    def add(self, amounts: dict[str, float]) -> None:
        """Add amounts to the usage of the running call."""
        ...


class CallMeter:
    """Sums the amounts of one call."""

    def __init__(self) -> None:
        self.amounts: dict[str, float] = {}

    def add(self, amounts: dict[str, float]) -> None:
        """Add amounts to the usage of the call."""
        for name, value in amounts.items():
            self.amounts[name] = self.amounts.get(name, 0) + value

    def take(self) -> dict[str, float]:
        """Return the sums, and reset them for the next call."""
        taken, self.amounts = self.amounts, {}
        return taken


_MAXIMUM_AMOUNT = 1e18
"""Totals of any number of calls stay finite."""

_running: ContextVar[Meter | None] = ContextVar("tablevault_usage", default=None)


def report_usage(**amounts: float) -> None:
    """Add to the usage of the running call, also if the call fails afterwards.

    Works in every executor, and in coroutines and threads that share the context of the call, as those of
    `asyncio.to_thread` do. Outside a call that TableVault makes, it does nothing.

    Parameters
    ----------
    amounts
        Numbers from 0 to 1e18 by name, such as ``tokens=1200, cost=0.002``.

    Raises
    ------
    TVArgumentError
        If an amount is not such a number, or its name is one of TableVault's own.
    """
    checked = {name: _checked(name, value) for name, value in amounts.items()}
    meter = _running.get()
    if meter is not None:
        meter.add(checked)


class Metered:
    """Directs the amounts reported inside the block to a meter.

    Not a generator-based context manager, which sets a traceback on passing errors; some classes reject that.

    Parameters
    ----------
    meter
        Receives the amounts.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __enter__(self) -> None:
        self._token = _running.set(self._meter)

    def __exit__(self, *error: object) -> None:
        _running.reset(self._token)


def meter_context(meter: Meter) -> None:
    """Direct the amounts reported in this context from now on to a meter."""
    _running.set(meter)


def _checked(name: str, value: object) -> float:
    if name in RESERVED_AMOUNTS:
        raise TVArgumentError(f"report_usage cannot take '{name}', which TableVault counts itself; use another name.")
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]  # numbers of NumPy and others, too
    except (TypeError, ValueError):
        raise TVArgumentError(f"{name} of report_usage must be a number, not {type(value).__name__}.") from None
    except OverflowError:
        number = math.inf
    if not 0 <= number <= _MAXIMUM_AMOUNT:
        raise TVArgumentError(f"{name} of report_usage must be a number from 0 to 1e18, not {number:g}.")
    return int(number) if isinstance(value, int) else number
