"""Live display of a process that runs in another interpreter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import repeat
from typing import TYPE_CHECKING, Any

from tablevault.display.progress import Rates, builder_lines, in_notebook
from tablevault.system.waiting import poll
from tablevault.texts.plain import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tablevault.records import ProcessInfo

_SECONDS_BETWEEN_UPDATES = 0.5


def follow(read: Callable[[], ProcessInfo]) -> ProcessInfo:
    """Show a process until it ends or pauses, then return its final state.

    Nothing is shown unless standard output is a notebook or a terminal. An interrupt propagates; it ends the display,
    not the process.

    Parameters
    ----------
    read
        Returns the current state of the process.
    """
    show = _shower()

    def look() -> ProcessInfo | None:
        info = read()
        show(info)
        return info if has_stopped(info) else None

    try:
        found = poll(look, repeat(_SECONDS_BETWEEN_UPDATES))
    finally:
        show.close()
    assert found is not None  # polls without a timeout
    return found


def has_stopped(info: ProcessInfo) -> bool:
    """Return whether a process has ended or paused."""
    return info.ended_at is not None or info.status == "paused"


class _Shower:
    """A display that shows nothing."""

    def __call__(self, info: ProcessInfo) -> None:
        """Show the current state of the process."""

    def close(self) -> None:
        """Stop updating; the last output stays on the screen."""


class _InMarimo(_Shower):
    """Replaces the output of the cell."""

    def __init__(self, marimo: Any) -> None:
        self._marimo = marimo

    def __call__(self, info: ProcessInfo) -> None:
        self._marimo.output.replace(self._marimo.Html(info._repr_html_()))


class _InNotebook(_Shower):
    """Updates one output of the cell by its display id."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, info: ProcessInfo) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(info, display_id=True)
        else:
            self._handle.update(info)


class _OnTerminal(_Shower):
    """Updates lines at the bottom of the terminal."""

    def __init__(self) -> None:
        from rich.live import Live

        self._rates = Rates()
        self._live = Live(auto_refresh=False)
        self._live.start()

    def __call__(self, info: ProcessInfo) -> None:
        self._live.update(_lines(info, self._rates), refresh=True)

    def close(self) -> None:
        self._live.stop()


def _shower() -> _Shower:
    marimo = sys.modules.get("marimo")
    if marimo is not None and marimo.running_in_notebook():
        return _InMarimo(marimo)
    if in_notebook():
        return _InNotebook()
    return _OnTerminal() if sys.stdout is not None and sys.stdout.isatty() else _Shower()


def _lines(info: ProcessInfo, rates: Rates) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from tablevault.display.terminal import table_of

    until = info.ended_at or datetime.now(UTC)
    table = f" on {info.table_name} {info.instance_id}".rstrip() if info.table_name else ""
    age = duration((until - info.started_at).total_seconds())
    title = Text(f"{info.process_id}: {info.operation}{table}, {info.status}, {age}")
    waiting = [Text(f"waiting for {info.waiting}")] if info.waiting else []
    return Group(title, table_of(builder_lines(info.progress, rates)), *waiting)
