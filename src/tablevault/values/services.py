"""Limits of services, which are named external resources, and the amounts used by calls."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tablevault.errors import TVArgumentError
from tablevault.names import nearest

CALLS = "calls"
"""The amount counted by TableVault itself."""
MAX_CONCURRENCY = "max_concurrency"
WINDOWS: Mapping[str, float] = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
"""Lengths of the windows of limits, in seconds."""
RESERVED_AMOUNTS = frozenset({CALLS, "seconds", "builder", "index", "table", MAX_CONCURRENCY})
"""Names that functions may not report."""
UNLIMITED_AMOUNTS = RESERVED_AMOUNTS - {CALLS}
"""Names that are no amounts, so that nothing can be limited by them."""

_RATE = re.compile(r"([^\W\d]\w*)_per_(second|minute|hour|day)")
_SHAPE = "AMOUNT_per_second, AMOUNT_per_minute, AMOUNT_per_hour, AMOUNT_per_day or max_concurrency"
_EXAMPLES = (*(f"{CALLS}_per_{window}" for window in WINDOWS), "tokens_per_minute", MAX_CONCURRENCY)


@dataclass(frozen=True, slots=True)
class Rate:
    """Maximum of an amount in any window of a given length."""

    name: str
    """As written, such as `calls_per_minute`."""
    amount: str
    seconds: float
    """Length of the window."""
    most: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one service."""

    rates: tuple[Rate, ...] = ()
    max_concurrency: int | None = None

    @property
    def amounts(self) -> frozenset[str]:
        """The amounts limited by a rate."""
        return frozenset(rate.amount for rate in self.rates)


def check_limits(service: str, limits: Mapping[str, object]) -> dict[str, float]:
    """Check the limits of a service; return them in recorded form.

    Raises
    ------
    TVArgumentError
        If the name or number of a limit is invalid; suggests the nearest name.
    """
    return {name: _checked(service, name, value) for name, value in limits.items()}


def check_budget(budget: Mapping[str, object] | None) -> None:
    """Raise `TVArgumentError` unless a budget is `None` or has nonnegative numbers of amounts."""
    for name, most in (budget or {}).items():
        if name in UNLIMITED_AMOUNTS:
            raise TVArgumentError(
                f"A budget cannot limit '{name}', which is not an amount; it limits '{CALLS}', and the amounts that "
                "functions report by report_usage."
            )
        is_number = isinstance(most, int | float) and not isinstance(most, bool)
        if not is_number or not math.isfinite(most) or most < 0:  # type: ignore[arg-type, operator]
            shown = f"{most:g}" if is_number else type(most).__name__
            raise TVArgumentError(f"budget[{name!r}] must be a non-negative number, not {shown}.")


def read_limits(recorded: Mapping[str, float]) -> Limits:
    """Parse recorded limits."""
    rates = []
    for name, most in recorded.items():
        match = _RATE.fullmatch(name)
        if match is not None:
            rates.append(Rate(name, match[1], WINDOWS[match[2]], float(most)))
    concurrency = recorded.get(MAX_CONCURRENCY)
    return Limits(tuple(rates), None if concurrency is None else int(concurrency))


def _checked(service: str, name: str, value: object) -> float:
    match = _RATE.fullmatch(name) if isinstance(name, str) else None
    if match is None and name != MAX_CONCURRENCY:
        raise TVArgumentError(
            f"Service '{service}' cannot have a limit {name!r:.80}; a limit is {_SHAPE}{nearest(str(name), _EXAMPLES)}"
        )
    is_whole = match is None or match[1] == CALLS
    if match is not None and match[1] in UNLIMITED_AMOUNTS:
        raise TVArgumentError(f"Service '{service}' cannot have a limit {name!r}: '{match[1]}' is not an amount.")
    shape = "a non-negative integer" if is_whole else "a non-negative number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TVArgumentError(f"{name} of service '{service}' must be {shape}, not {type(value).__name__}.")
    if not math.isfinite(value) or value < 0 or (is_whole and value != int(value)):
        raise TVArgumentError(f"{name} of service '{service}' must be {shape}, not {value:g}.")
    return int(value) if value == int(value) else float(value)
