"""Admission of a builder's calls by service limits and budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tablevault.errors import BudgetSpent
from tablevault.ports import Permit, Refused, ServiceLimits
from tablevault.system import clock
from tablevault.values.progress import BuilderCounter
from tablevault.values.services import CALLS

MAXIMUM_REFUSAL_SECONDS = 1.0
"""Maximum seconds between two requests to the services, whose limits may change."""
_LATE_SECONDS = 0.002
"""Seconds of delay after which the start of an admitted call is postponed in the counters."""


@dataclass(frozen=True)
class Budget:
    """The maximum usage of calls in one process."""

    owner: str
    """The owner of the budget, as named in errors."""
    most: Mapping[str, float]
    spent: Callable[[], Mapping[str, float]]
    """Returns the usage so far, including calls that have begun."""

    def exceeded_by(self, mean: Mapping[str, float], in_flight: int) -> str | None:
        """Return a message on the exhausted amount; `None` if another call is allowed.

        Parameters
        ----------
        mean
            Expected usage of this call and of each call in flight.
        in_flight
            Calls in flight.
        """
        spent = self.spent()
        for name, most in self.most.items():
            used = spent.get(name, 0.0)
            if name == CALLS:
                is_over = used + 1 > most
            else:
                # Tolerates rounding errors in a sum of many fractions.
                is_over = used >= most or used + (in_flight + 1) * mean.get(name, 0.0) > most * (1 + 1e-9)
            if is_over:
                return (
                    f"The budget of {self.owner} allows no further call: {used:,.10g} of {most:,.10g} {name} "
                    f"{'is' if used == 1 else 'are'} spent. Make the same call with a larger budget to continue."
                )
        return None


@dataclass
class CallGate:
    """Admits calls of one builder when the services and budgets allow it."""

    counter: BuilderCounter
    services: tuple[str, ...] = ()
    limits: ServiceLimits | None = None
    """Limits of the services; `None` without services."""
    budgets: Sequence[Budget] = ()
    _in_flight: dict[int, Permit | None] = field(default_factory=dict, init=False)
    _not_begun: dict[int, Permit] = field(default_factory=dict, init=False)
    _ask_again: float = field(default=0.0, init=False)
    """Time of the next request to the services, on the monotonic clock."""

    def admit(self) -> Permit | Refused | BudgetSpent | None:
        """Return a permit for a call, `None` if unneeded, or the reason for refusal.

        Raises
        ------
        OSError
            If the counters of the services cannot be written.
        """
        mean = self._mean()
        for budget in self.budgets:
            exceeded = budget.exceeded_by(mean, len(self._in_flight))
            if exceeded is not None:
                return BudgetSpent(exceeded)
        if self.limits is None:
            return None
        found = self.limits.take(self.services, mean)
        if isinstance(found, Refused):
            self.counter.waiting = found.text
            self._ask_again = clock.monotonic() + min(found.seconds, MAXIMUM_REFUSAL_SECONDS)
        else:
            self.counter.waiting = ""
        return found

    @property
    def in_flight(self) -> int:
        """Calls in flight."""
        return len(self._in_flight)

    @property
    def opens_at(self) -> float:
        """Time of the next attempt, on the monotonic clock; in the past for an immediate one."""
        return self._ask_again

    def begin(self, number: int, permit: Permit | None) -> None:
        """Record that a call was given to a worker."""
        self._in_flight[number] = permit
        if permit is not None:
            self._not_begun[number] = permit

    def end(self, number: int, used: Mapping[str, float], seconds: float) -> None:
        """Settle an ended or abandoned call, given its duration."""
        permit = self._not_begun.get(number)
        is_late = permit is not None and clock.monotonic() - seconds - permit.taken_at > _LATE_SECONDS
        if permit is not None and self.limits is not None and is_late:
            # It began late, and ended between two refreshes.
            self.limits.postpone([permit])
        self._settle(number, used)

    def withdraw(self, number: int) -> None:
        """Settle a call that never began."""
        self._settle(number, {CALLS: 0.0})

    def cancel(self, permit: Permit | None) -> None:
        """Return an unused permit."""
        if permit is not None and self.limits is not None:
            self.limits.settle(permit, {CALLS: 0.0})

    def hold_back(self, seconds: float) -> None:
        """Block calls to the services in all processes for `seconds`, at a service's request."""
        if self.limits is not None:
            self.limits.hold_back(self.services, seconds)

    def look(self, begun: Mapping[int, float]) -> None:
        """Postpone calls that have not begun, and flush pending changes.

        Parameters
        ----------
        begun
            Start times of the running calls.
        """
        if self.limits is None:
            return
        now = clock.monotonic()
        late = [
            permit
            for number, permit in self._not_begun.items()
            if begun.get(number, now) - permit.taken_at > _LATE_SECONDS
        ]
        for number in [number for number in self._not_begun if number in begun]:
            del self._not_begun[number]
        for permit in late:
            permit.taken_at = now
        if late:
            self.limits.postpone(late)
        self.limits.flush()

    def close(self) -> None:
        """Settle the remaining calls."""
        for number in list(self._in_flight):
            self._settle(number, {})
        self.counter.waiting = ""
        if self.limits is not None:
            # On an error, the slots are released when the attempt ends.
            with suppress(OSError):
                self.limits.flush()

    def _settle(self, number: int, used: Mapping[str, float]) -> None:
        self._not_begun.pop(number, None)
        permit = self._in_flight.pop(number, None)
        if permit is not None and self.limits is not None:
            self.limits.settle(permit, used)
            # A slot became free, or an amount was returned.
            self._ask_again = 0.0

    def _mean(self) -> dict[str, float]:
        """Return the mean usage of the finished calls of this builder."""
        ended = self.counter.usage[CALLS] - len(self._in_flight)
        if ended <= 0:
            return {}
        return {name: value / ended for name, value in self.counter.usage.items() if name != CALLS}
