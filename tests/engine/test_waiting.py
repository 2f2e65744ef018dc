"""The polling loop, and the hooks around forks."""

from __future__ import annotations

import os
from itertools import islice, repeat

import pytest

from tablevault.system import forks
from tablevault.system.forks import ForkHooks
from tablevault.system.waiting import growing, poll

FORKING = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
"""Newer interpreters warn of forks beside threads."""


def test_poll_returns_the_first_answer():
    answers = iter([None, None, "done"])
    assert poll(lambda: next(answers), repeat(0.0)) == "done"


def test_poll_takes_false_for_an_answer():
    assert poll(lambda: False, repeat(60.0)) is False


def test_poll_asks_once_without_time_left():
    asked = []
    assert poll(lambda: asked.append(1), repeat(60.0), timeout=0) is None
    assert asked == [1]


def test_poll_ends_with_its_pauses():
    asked = []
    assert poll(lambda: asked.append(1), [0.0, 0.0]) is None
    assert asked == [1, 1]


def test_pauses_double_up_to_the_longest():
    assert list(islice(growing(1.0, 5.0), 5)) == [1.0, 2.0, 4.0, 5.0, 5.0]


@FORKING
def test_outermost_hooks_run_first_before_a_fork_and_last_after_it(monkeypatch):
    order = []

    def hooks(name):
        return ForkHooks(*(lambda what=what: order.append(f"{what} {name}") for what in ("before", "parent", "child")))

    monkeypatch.setattr(forks, "_hooks", [])
    forks.around_forks(hooks("inner"))
    forks.around_forks(hooks("outer"), outermost=True)
    forks.around_forks(hooks("last"))
    child = os.fork()
    if child == 0:
        os._exit(order != ["before outer", "before inner", "before last", "child last", "child inner", "child outer"])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert order == ["before outer", "before inner", "before last", "parent last", "parent inner", "parent outer"]


@FORKING
def test_error_of_one_hook_keeps_no_other_from_running(monkeypatch):
    order = []
    monkeypatch.setattr(forks, "_hooks", [])
    monkeypatch.setattr("sys.unraisablehook", lambda raised: order.append(type(raised.exc_value).__name__))
    forks.around_forks(ForkHooks(in_parent=lambda: order.append("parent")))
    forks.around_forks(ForkHooks(in_parent=lambda: {}["no such key"]))
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert order == ["parent", "KeyError"]
