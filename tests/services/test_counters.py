"""Counters of services.

No window exceeds its limit, despite deaths, damage and clocks that go back.
"""

from __future__ import annotations

import errno
import heapq
import os
import random
import shutil
from bisect import bisect_left

import pytest

from tablevault.ports import Permit, Refused
from tablevault.storage import counter_file
from tablevault.storage.service_counters import ServiceCounters


class World:
    """A machine with a clock that the test moves, and attempts that share counters."""

    def __init__(self, folder, **limits):
        self.path = folder / "limits.db"
        self.limits = {"api": limits}
        self.now = 1000.0
        self.wall = 1e9
        self.boot = "first"
        self.dead = set()

    def attempt(self, name):
        return ServiceCounters(
            self.path,
            name,
            lambda: self.limits,
            lambda owner: owner not in self.dead,
            lambda: self.now,
            lambda: self.wall,
            self.boot,
        )


def taken(counters, most=1000, **amounts):
    """Take until it is refused; return the permits and the refusal."""
    permits = []
    while len(permits) < most:
        found = counters.take(["api"], amounts)
        if isinstance(found, Refused):
            return permits, found
        permits.append(found)
    return permits, None


def most_in_any_window(uses, seconds):
    """Return the largest sum of amounts that lie less than a window apart."""
    times = [at for at, _ in uses]
    sums = [0.0]
    for _, amount in uses:
        sums.append(sums[-1] + amount)
    return max(sums[bisect_left(times, at + seconds)] - sums[place] for place, at in enumerate(times))


@pytest.mark.parametrize("seed", range(3))
def test_no_window_holds_more_than_the_limit_and_nearly_all_of_it_is_used(tmp_path, seed):
    world, chance = World(tmp_path, calls_per_second=50, tokens_per_minute=100_000), random.Random(seed)
    attempts = [world.attempt(f"owner-{number}") for number in range(4)]
    calls, tokens, events = [], [], [(world.now, number, None) for number in range(4)]
    heapq.heapify(events)
    end = world.now + 300
    while events[0][0] < end:
        at, number, _ = heapq.heappop(events)
        world.now = max(world.now, at)
        amount = chance.choice([10, 30, 60])
        found = attempts[number].take(["api"], {"tokens": amount})
        if isinstance(found, Refused):
            heapq.heappush(events, (world.now + found.seconds, number, None))
            continue
        calls.append((world.now, 1))
        tokens.append((world.now, amount))
        attempts[number].settle(found, {"tokens": amount})
        heapq.heappush(events, (world.now + chance.random() / 1000, number, None))
    assert most_in_any_window(calls, 1) <= 50
    assert most_in_any_window(tokens, 60) <= 100_000
    assert len(calls) >= 0.97 * 50 * 300 or sum(amount for _, amount in tokens) >= 0.97 * 100_000 * 5


def test_unused_amounts_are_returned_and_excess_delays_later_calls(tmp_path):
    world = World(tmp_path, tokens_per_minute=100)
    first = world.attempt("owner-1")
    permits, refused = taken(first, tokens=40)
    assert (len(permits), refused.limit) == (2, "tokens_per_minute")
    first.settle(permits[0], {"tokens": 10})
    assert len(taken(first, tokens=40, most=5)[0]) == 1
    first.settle(permits[1], {"tokens": 300})
    first.flush()
    world.now += 10
    assert isinstance(first.take(["api"], {}), Refused)
    world.now += 51
    assert isinstance(first.take(["api"], {}), Permit)


def test_a_call_that_needs_more_than_a_window_waits_for_an_empty_one(tmp_path):
    world = World(tmp_path, tokens_per_minute=100)
    first = world.attempt("owner-1")
    assert isinstance(first.take(["api"], {"tokens": 1}), Permit)
    refused = first.take(["api"], {"tokens": 1000})
    assert 60 <= refused.seconds <= 60.61
    world.now += refused.seconds
    assert isinstance(first.take(["api"], {"tokens": 1000}), Permit)
    assert isinstance(first.take(["api"], {"tokens": 1}), Refused)


def test_slots_of_a_dead_attempt_are_free_at_once(tmp_path):
    world = World(tmp_path, max_concurrency=3)
    first, second = world.attempt("owner-1"), world.attempt("owner-2")
    permits, refused = taken(first)
    assert (len(permits), refused.limit) == (3, "max_concurrency")
    assert isinstance(second.take(["api"], {}), Refused)
    first.settle(permits[0], {})
    first.flush()
    assert len(taken(second)[0]) == 1
    world.dead.add("owner-1")
    assert len(taken(second)[0]) == 2


def test_services_are_taken_atomically(tmp_path):
    world = World(tmp_path, calls_per_minute=5)
    world.limits["other"] = {"calls_per_minute": 1}
    first = world.attempt("owner-1")
    assert isinstance(first.take(["api", "other"], {}), Permit)
    assert first.take(["api", "other"], {}).service == "other"
    assert len(taken(first)[0]) == 4


def test_a_service_that_asks_to_wait_is_held_back_for_all(tmp_path):
    world = World(tmp_path)
    first, second = world.attempt("owner-1"), world.attempt("owner-2")
    first.hold_back(["api"], 30)
    first.hold_back(["api"], 5)
    first.flush()
    refused = second.take(["api"], {})
    assert (refused.seconds, refused.text) == (30, "service api: asked to wait, 30 s")
    world.now += 30
    assert isinstance(second.take(["api"], {}), Permit)


def test_other_limits_hold_within_two_seconds(tmp_path):
    world = World(tmp_path, calls_per_minute=2)
    first = world.attempt("owner-1")
    assert len(taken(first)[0]) == 2
    world.limits["api"] = {"calls_per_minute": 5}
    world.now += 1.5
    assert len(taken(first)[0]) == 3
    world.limits["api"] = {"calls_per_minute": 0}
    world.now += 120
    assert isinstance(first.take(["api"], {}), Refused)
    del world.limits["api"]
    world.now += 2
    assert isinstance(first.take(["api"], {}), Permit)


def test_a_call_that_begins_late_counts_from_its_beginning(tmp_path):
    world = World(tmp_path, calls_per_second=2)
    first = world.attempt("owner-1")
    permits, _ = taken(first)
    world.now += 0.9
    first.postpone(permits[:1])
    first.flush()
    world.now += 0.2
    assert len(taken(first)[0]) == 1
    world.now += 0.85
    assert len(taken(first)[0]) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(os.urandom(20_000)),
        lambda path: os.truncate(path, 100),
        lambda path: path.write_bytes(path.read_bytes()[:16] + os.urandom(16384)),
        lambda path: (path.unlink(), path.symlink_to(path.with_name("elsewhere"))),
        lambda path: (path.unlink(), os.mkfifo(path)),
    ],
)
def test_deleted_or_damaged_counters_are_reset(tmp_path, damage):
    world = World(tmp_path, calls_per_minute=3, max_concurrency=10)
    first, second = world.attempt("owner-1"), world.attempt("owner-2")
    permits, _ = taken(first)
    assert len(permits) == 3
    damage(world.path)
    assert len(taken(second)[0]) == 3
    first.settle(permits[0], {})
    first.flush()
    assert isinstance(first.take(["api"], {}), Refused)
    assert not (tmp_path / "elsewhere").exists()
    # What the first still holds is shown again.
    world.limits["api"] = {"max_concurrency": 6}
    world.now += 2
    assert len(taken(second)[0]) == 1


def test_a_change_that_was_cut_off_did_not_happen(tmp_path):
    world = World(tmp_path, calls_per_minute=10)
    first = world.attempt("owner-1")
    taken(first, most=4)
    before = world.path.read_bytes()
    taken(first, most=1)
    after = world.path.read_bytes()
    changed = [place for place in range(len(before)) if before[place] != after[place]]
    for cut in (changed[0] + 1, changed[len(changed) // 2], changed[-1]):
        world.path.write_bytes(after[:cut] + before[cut:])
        assert len(taken(world.attempt("owner-2"), most=20)[0]) == 6


def test_a_full_disk_is_an_error_and_changes_nothing(tmp_path, monkeypatch):
    world = World(tmp_path, calls_per_minute=2)
    first = world.attempt("owner-1")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(counter_file.os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            first.take(["api"], {})
    assert len(taken(first)[0]) == 2


def test_after_a_restart_of_the_machine_the_time_that_has_passed_counts(tmp_path):
    world = World(tmp_path, calls_per_day=10, max_concurrency=100)
    assert len(taken(world.attempt("owner-1"), most=7)[0]) == 7
    world.boot, world.now, world.wall = "second", 5.0, world.wall + 3600
    assert len(taken(world.attempt("owner-2"))[0]) == 3
    world.now += 84_000
    assert len(taken(world.attempt("owner-3"))[0]) == 7


def test_a_clock_that_was_set_back_frees_nothing(tmp_path):
    world = World(tmp_path, calls_per_hour=10)
    first = world.attempt("owner-1")
    taken(first)
    world.wall -= 1e7
    assert isinstance(first.take(["api"], {}), Refused)
    world.boot, world.now = "second", 5.0
    world.wall -= 1e7
    assert isinstance(world.attempt("owner-2").take(["api"], {}), Refused)
    world.now += 3700
    assert isinstance(world.attempt("owner-2").take(["api"], {}), Permit)


def test_many_services_make_the_file_grow(tmp_path):
    world = World(tmp_path, calls_per_minute=1)
    names = [f"service-{number}" for number in range(300)]
    world.limits = {name: {"calls_per_minute": 1, "tokens_per_day": 5} for name in names}
    first, second = world.attempt("owner-1"), world.attempt("owner-2")
    for name in names:
        assert isinstance(first.take([name], {"tokens": 1}), Permit)
    assert all(isinstance(second.take([name], {}), Refused) for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["limits.db"]
    shutil.rmtree(tmp_path)
