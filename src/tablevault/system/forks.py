"""Hooks around a fork of this interpreter, in an order that does not depend on imports."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass


def _do_nothing() -> None:
    return


@dataclass(frozen=True)
class ForkHooks:
    """The actions of one module around a fork."""

    before: Callable[[], None] = _do_nothing
    in_parent: Callable[[], None] = _do_nothing
    in_child: Callable[[], None] = _do_nothing


_hooks: list[ForkHooks] = []
"""The outermost first: those run first before a fork, and last after it."""


def around_forks(hooks: ForkHooks, *, outermost: bool = False) -> None:
    """Let hooks run around every fork from now on.

    Parameters
    ----------
    hooks
        The actions; an error is reported by the interpreter, and keeps no other hook from running.
    outermost
        Whether they enclose all others.
    """
    _hooks.insert(0 if outermost else len(_hooks), hooks)


def _before() -> None:
    with ExitStack() as stack:
        for hooks in reversed(_hooks):
            stack.callback(hooks.before)


def _in_parent() -> None:
    with ExitStack() as stack:
        for hooks in _hooks:
            stack.callback(hooks.in_parent)


def _in_child() -> None:
    with ExitStack() as stack:
        for hooks in _hooks:
            stack.callback(hooks.in_child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
