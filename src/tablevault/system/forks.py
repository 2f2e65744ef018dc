"""Fork hooks in an order that does not depend on imports."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass


def _do_nothing() -> None:
    return


@dataclass(frozen=True)
class ForkHooks:
    """One module's callbacks around a fork."""

    before: Callable[[], None] = _do_nothing
    in_parent: Callable[[], None] = _do_nothing
    in_child: Callable[[], None] = _do_nothing


_hooks: list[ForkHooks] = []
"""Hooks, outermost first; outer hooks run first before a fork, and last after it."""


def around_forks(hooks: ForkHooks, *, outermost: bool = False) -> None:
    """Register hooks for all future forks.

    Parameters
    ----------
    hooks
        The callbacks; the interpreter reports their errors, and all other hooks still run.
    outermost
        Whether the hooks enclose all others.
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
