"""The gate that calls of one builder pass before they begin: limits of services, and budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tablevault.errors import BudgetSpent
from tablevault.ports import Permit, Refused, ServiceLimits
from tablevault.system import clock
from tablevault.values.progress import BuilderCounter
from tablevault.values.services import CALLS

LONGEST_REFUSAL = 1.0
"""Seconds after which the services are asked again at the latest: their limits may have changed."""
_LATE_SECONDS = 0.002
"""Seconds after which a call that was let through and has not begun counts from a later moment."""


@dataclass(frozen=True)
class Budget:
    """The most that calls may use in one process."""

    owner: str
    """Whose budget it is, as errors name it."""
    most: Mapping[str, float]
    spent: Callable[[], Mapping[str, float]]
    """Returns what has been used, calls that have begun included."""

    def exceeded_by(self, mean: Mapping[str, float], in_flight: int) -> str | None:
        """Return the amount that does not allow another call, as a sentence; `None` if all do.

        Parameters
        ----------
        mean
            Expected use of each call in flight, and of this one.
        in_flight
            Calls that have begun and not ended.
        """
        spent = self.spent()
        for name, most in self.most.items():
            used = spent.get(name, 0.0)
            if name == CALLS:
                is_over = used + 1 > most
            else:
                # The sum of many fractions may be a little more than it should.
                is_over = used >= most or used + (in_flight + 1) * mean.get(name, 0.0) > most * (1 + 1e-9)
            if is_over:
                return (
                    f"The budget of {self.owner} allows no further call: {used:,.10g} of {most:,.10g} {name} "
                    f"{'is' if used == 1 else 'are'} spent. Make the same call with a larger budget to go on."
                )
        return None


@dataclass
class CallGate:
    """Lets calls of one builder begin when the services and the budgets allow it."""

    counter: BuilderCounter
    services: tuple[str, ...] = ()
    limits: ServiceLimits | None = None
    """Of the services; `None` if there are none."""
    budgets: Sequence[Budget] = ()
    _in_flight: dict[int, Permit | None] = field(default_factory=dict, init=False)
    _not_begun: dict[int, Permit] = field(default_factory=dict, init=False)
    _ask_again: float = field(default=0.0, init=False)
    """When to ask the services again, on the monotonic clock."""

    def admit(self) -> Permit | Refused | BudgetSpent | None:
        """Return a permit for one more call, `None` if it needs none; or the reason why it may not begin now.

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
            self._ask_again = clock.monotonic() + min(found.seconds, LONGEST_REFUSAL)
        else:
            self.counter.waiting = ""
        return found

    @property
    def in_flight(self) -> int:
        """Calls that have begun and not ended."""
        return len(self._in_flight)

    @property
    def opens_at(self) -> float:
        """When to ask again, on the monotonic clock; in the past if at once."""
        return self._ask_again

    def begin(self, number: int, permit: Permit | None) -> None:
        """Note that a call has been handed over to a worker."""
        self._in_flight[number] = permit
        if permit is not None:
            self._not_begun[number] = permit

    def end(self, number: int, used: Mapping[str, float], seconds: float) -> None:
        """Settle a call that has ended or was given up, with its duration."""
        permit = self._not_begun.get(number)
        is_late = permit is not None and clock.monotonic() - seconds - permit.taken_at > _LATE_SECONDS
        if permit is not None and self.limits is not None and is_late:
            # It began late, and ended between two looks.
            self.limits.postpone([permit])
        self._settle(number, used)

    def withdraw(self, number: int) -> None:
        """Settle a call that has never begun."""
        self._settle(number, {CALLS: 0.0})

    def cancel(self, permit: Permit | None) -> None:
        """Give back a permit that no call was made with."""
        if permit is not None and self.limits is not None:
            self.limits.settle(permit, {CALLS: 0.0})

    def hold_back(self, seconds: float) -> None:
        """Let no process call the services for `seconds`, because one of them asked for it."""
        if self.limits is not None:
            self.limits.hold_back(self.services, seconds)

    def look(self, begun: Mapping[int, float]) -> None:
        """Let calls that have been handed over and have not begun count from now on, and write what is to be written.

        Parameters
        ----------
        begun
            The calls that run.
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
        """Settle the calls that are left."""
        for number in list(self._in_flight):
            self._settle(number, {})
        self.counter.waiting = ""
        if self.limits is not None:
            # The slots are free once the attempt has ended, in any case.
            with suppress(OSError):
                self.limits.flush()

    def _settle(self, number: int, used: Mapping[str, float]) -> None:
        self._not_begun.pop(number, None)
        permit = self._in_flight.pop(number, None)
        if permit is not None and self.limits is not None:
            self.limits.settle(permit, used)
            # A slot is free, or an amount was given back.
            self._ask_again = 0.0

    def _mean(self) -> dict[str, float]:
        """Return the mean use of the calls of this builder that have ended."""
        ended = self.counter.usage[CALLS] - len(self._in_flight)
        if ended <= 0:
            return {}
        return {name: value / ended for name, value in self.counter.usage.items() if name != CALLS}
