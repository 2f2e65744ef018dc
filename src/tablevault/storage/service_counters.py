"""Counters of services.

They limit the usage of all processes of a vault per window of time.

A window is divided into a hundred parts. Usage in a part counts until the whole part is older than the window, so that
the limit holds for every sliding window, at the cost of at most a hundredth of the time.

Times are from the monotonic clock, which all processes of a machine share and which cannot be set. After a reboot they
are shifted by the time elapsed on the wall clock, or not at all if it was set back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec

from tablevault.ports import Permit, Refused
from tablevault.storage.counter_file import CounterFile
from tablevault.system import clock
from tablevault.values.services import CALLS, MAX_CONCURRENCY, Limits, Rate, read_limits

PARTS = 100
"""Number of parts of a window."""
_LOOK_SECONDS = 1.0
"""Seconds between two polls for changed limits."""
_SLOT_SECONDS = 0.02
"""Seconds between two polls for a slot freed by another process."""
_MAXIMUM_EARLY = 1.0
"""Seconds by which the clock may lag behind the counters without implying a reboot."""
_STOPPED_SECONDS = 1.0
"""Seconds between two polls of a limit of zero, which only a new limit lifts."""


class _Service(msgspec.Struct, array_like=True):
    """The counters of one service."""

    hold_until: float = 0.0
    uses: dict[str, dict[int, float]] = {}
    """Usage in each part of the window, by limit."""
    slots: dict[str, int] = {}
    """Calls in flight of each attempt, by the name of its lock file."""


class Counters(msgspec.Struct, array_like=True):
    """The counters of all services."""

    boot: str = ""
    """Identifies the boot of the machine to which the times belong."""
    monotonic: float = 0.0
    """Time of the last change on the monotonic clock; `wall` is the same in seconds since 1970."""
    wall: float = 0.0
    services: dict[str, _Service] = {}


class ServiceCounters:
    """The limits of services for one attempt of a process; an adapter of `ServiceLimits`.

    Parameters
    ----------
    path
        The file of the counters.
    owner
        Name of the lock file that proves that the attempt is alive.
    limits
        Returns the recorded limits of each service.
    is_alive
        Returns whether the attempt that holds a lock file is alive.
    monotonic, wall, boot
        The clocks, and the id of the machine's current boot.
    """

    def __init__(
        self,
        path: Path,
        owner: str,
        limits: Callable[[], Mapping[str, Mapping[str, float]]],
        is_alive: Callable[[str], bool],
        monotonic: Callable[[], float] = clock.monotonic,
        wall: Callable[[], float] = clock.time,
        boot: str | None = None,
    ) -> None:
        self._file = CounterFile(path, Counters)
        self._owner = owner
        self._read_limits = limits
        self._is_alive = is_alive
        self._monotonic = monotonic
        self._wall = wall
        self._boot = _boot_id() if boot is None else boot
        self._limits: dict[str, Limits] = {}
        self._looked_at = -math.inf
        self._held: dict[str, int] = {}
        """Calls in flight of this attempt, by service."""
        self._waiting: list[Callable[[Counters, float], None]] = []
        """Pending changes, written with the next one."""

    def take(self, services: Sequence[str], amounts: Mapping[str, float]) -> Permit | Refused:
        """Reserve the expected usage of one call, of all services or of none.

        Parameters
        ----------
        services
            The services to call.
        amounts
            The expected amounts, besides the one call.

        Raises
        ------
        OSError
            If the counters cannot be written.
        """
        self._look_at_limits()
        wanted = {**amounts, CALLS: 1.0}
        with self._file.change() as counters:
            now = self._apply_waiting(counters)
            refused = [item for name in services if (item := self._refused(counters, name, wanted, now)) is not None]
            permit = Permit(tuple(services), [], now)
            for name in () if refused else services:
                self._use(counters, permit, name, wanted)
        self._waiting.clear()
        if refused:
            return max(refused, key=lambda item: item.seconds)
        for name in services:
            self._held[name] = self._held.get(name, 0) + 1
        return permit

    def _look_at_limits(self) -> None:
        now = self._monotonic()
        if not 0 <= now - self._looked_at < _LOOK_SECONDS:
            self._limits = {name: read_limits(item) for name, item in self._read_limits().items()}
            self._looked_at = now

    def settle(self, permit: Permit, used: Mapping[str, float]) -> None:
        """Count the usage of a call, and free its slots.

        Takes effect with `flush` at the latest.
        """
        for name in permit.services:
            self._held[name] = max(0, self._held.get(name, 0) - 1)

        def change(counters: Counters, now: float) -> None:
            for name in permit.services:
                self._show_held(_of(counters, name), self._held.get(name, 0))
            for name, limit, amount, part, taken in permit.uses:
                # A call was made unless `used` says otherwise.
                difference = used.get(amount, taken if amount == CALLS else 0.0) - taken
                if difference:
                    parts = _of(counters, name).uses.setdefault(limit, {})
                    # Unused amounts are returned where they were reserved; the excess counts from now on.
                    place = part if difference < 0 else _part(_seconds_of(limit), now)
                    parts[place] = max(0.0, parts.get(place, 0.0) + difference)

        self._waiting.append(change)

    def postpone(self, permits: Sequence[Permit]) -> None:
        """Move reservations of calls that have not begun to the current time.

        Takes effect with `flush` at the latest.
        """

        def change(counters: Counters, now: float) -> None:
            for permit in permits:
                _move(counters, permit, now)

        self._waiting.append(change)

    def hold_back(self, services: Sequence[str], seconds: float) -> None:
        """Stop all calls to the services for `seconds`; takes effect with `flush` at the latest."""
        until = self._monotonic() + seconds

        def change(counters: Counters, now: float) -> None:
            for name in services:
                service = _of(counters, name)
                service.hold_until = max(service.hold_until, until)

        self._waiting.append(change)

    def flush(self) -> None:
        """Write pending changes; after an error they stay pending."""
        if self._waiting:
            with self._file.change() as counters:
                self._apply_waiting(counters)
            self._waiting.clear()

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            self.flush()
        self._file.close()

    # --- inside a change ------------------------------------------------------------------------------------------

    def _apply_waiting(self, counters: Counters) -> float:
        """Advance the counters to the current time, apply pending changes, and return that time."""
        # Read under the lock, so that no other process has written a later time.
        now, wall = self._monotonic(), self._wall()
        if counters.boot != self._boot or counters.monotonic > now + _MAXIMUM_EARLY:
            _move_to_this_boot(counters, self._boot, now, wall)
        counters.monotonic, counters.wall = now, wall
        for change in self._waiting:
            change(counters, now)
        for name, service in list(counters.services.items()):
            _forget_expired(service, now)
            if not service.uses and not service.slots and service.hold_until <= now:
                del counters.services[name]
        return now

    def _refused(self, counters: Counters, name: str, wanted: Mapping[str, float], now: float) -> Refused | None:
        """Return the limit of a service that a call would exceed now, with the longest wait."""
        service, limits = _of(counters, name), self._limits.get(name, Limits())
        found = []
        if service.hold_until > now:
            found.append(Refused(name, "", service.hold_until - now))
        for rate in limits.rates:
            seconds = _seconds_until_free(service.uses.get(rate.name, {}), rate, wanted.get(rate.amount, 0.0), now)
            if seconds > 0:
                found.append(Refused(name, rate.name, seconds))
        if limits.max_concurrency is not None and not self._has_slot(service, name, limits.max_concurrency):
            found.append(Refused(name, MAX_CONCURRENCY, _SLOT_SECONDS))
        return max(found, key=lambda item: item.seconds, default=None)

    def _has_slot(self, service: _Service, name: str, most: int) -> bool:
        mine = self._held.get(name, 0)
        if mine + sum(held for owner, held in service.slots.items() if owner != self._owner) < most:
            return True
        for owner in list(service.slots):
            if owner != self._owner and not self._is_alive(owner):
                del service.slots[owner]
        return mine + sum(held for owner, held in service.slots.items() if owner != self._owner) < most

    def _use(self, counters: Counters, permit: Permit, name: str, wanted: Mapping[str, float]) -> None:
        service = _of(counters, name)
        for rate in self._limits.get(name, Limits()).rates:
            amount = wanted.get(rate.amount, 0.0)
            part = _part(rate.seconds, permit.taken_at)
            parts = service.uses.setdefault(rate.name, {})
            parts[part] = parts.get(part, 0.0) + amount
            permit.uses.append((name, rate.name, rate.amount, part, amount))
        self._show_held(service, self._held.get(name, 0) + 1)

    def _show_held(self, service: _Service, held: int) -> None:
        """Record the total number of slots of this attempt, so that new counters get it, too."""
        if held:
            service.slots[self._owner] = held
        else:
            service.slots.pop(self._owner, None)


def _of(counters: Counters, name: str) -> _Service:
    return counters.services.setdefault(name, _Service())


def _part(seconds: float, now: float) -> int:
    """Return the number of the part that contains a time, for windows of a given length."""
    return math.floor(now * PARTS / seconds)


@cache
def _seconds_of(limit: str) -> float:
    """Return the length of the window of a recorded limit."""
    rates = read_limits({limit: 0.0}).rates
    return rates[0].seconds if rates else 1.0


def _seconds_until_free(parts: Mapping[int, float], rate: Rate, wanted: float, now: float) -> float:
    """Return the seconds until an amount may be taken; 0 if now.

    A call that needs more than a whole window waits for an empty one and then proceeds.
    """
    used = sum(parts.values())
    if rate.most <= 0:
        # An amount that calls have not reported yet may be 0 for one call only.
        return _STOPPED_SECONDS
    if used + wanted <= rate.most and (wanted or used < rate.most):
        return 0.0
    if wanted > rate.most and used <= 0:
        return 0.0
    for part in sorted(parts):
        used -= parts[part]
        if (used + wanted <= rate.most and (wanted or used < rate.most)) or used <= 0:
            return max((part + 1) * rate.seconds / PARTS + rate.seconds - now, 1e-4)
    return 1e-4


def _forget_expired(service: _Service, now: float) -> None:
    for limit, parts in list(service.uses.items()):
        seconds = _seconds_of(limit)
        newest = _part(seconds, now)
        for part in list(parts):
            # A part in the future is corrupt.
            if (part + 1) * seconds / PARTS + seconds <= now or part > newest:
                del parts[part]
        if not parts:
            del service.uses[limit]


def _move(counters: Counters, permit: Permit, now: float) -> None:
    """Count a call from now on."""
    for place, (name, limit, amount, part, taken) in enumerate(permit.uses):
        newest = _part(_seconds_of(limit), now)
        parts = _of(counters, name).uses.setdefault(limit, {})
        if part < newest:
            if part in parts:
                parts[part] = max(0.0, parts[part] - taken)
            parts[newest] = parts.get(newest, 0.0) + taken
            permit.uses[place] = name, limit, amount, newest, taken


def _move_to_this_boot(counters: Counters, boot: str, now: float, wall: float) -> None:
    """Convert times of an earlier boot to the clock of this one."""
    moved = now - counters.monotonic - max(0.0, wall - counters.wall)
    for service in counters.services.values():
        service.hold_until += moved
        # No attempt outlives its machine.
        service.slots.clear()
        for limit, parts in service.uses.items():
            length = _seconds_of(limit) / PARTS
            newest = _part(_seconds_of(limit), now)
            shifted: dict[int, float] = {}
            for part, amount in parts.items():
                place = min(newest, math.ceil((part * length + moved) / length))
                shifted[place] = shifted.get(place, 0.0) + amount
            service.uses[limit] = shifted
    counters.boot = boot


def _boot_id() -> str:
    """Return an id that changes with every boot; empty if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
