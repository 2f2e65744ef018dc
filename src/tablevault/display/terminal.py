"""Progress lines at the bottom of a terminal, below the output of functions."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

SECONDS_BETWEEN_UPDATES = 0.2


class TerminalView:
    """Shows progress lines on standard error, below all other output.

    Parameters
    ----------
    lines
        Returns the current lines.
    """

    def __init__(self, lines: Callable[[], Sequence[Sequence[str]]]) -> None:
        self._lines = lines
        self._above: list[StreamProxy] = []
        self._console = Console(file=sys.stderr)
        self._live = Live(
            console=self._console,
            get_renderable=self._renderable,
            auto_refresh=False,
            # Rich's redirection would wrap long lines, and parse square brackets as markup.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="tablevault-progress", daemon=True)

    def start(self) -> None:
        """Show the lines, and redirect the terminal's streams above them."""
        self._live.start()
        if sys.stdout.isatty():  # A redirected stream stays redirected.
            sys.stdout = self._taken_over(sys.stdout)
        sys.stderr = self._taken_over(sys.stderr)
        self._thread.start()

    def stop(self) -> None:
        """Stop updating the lines, and restore the streams."""
        self._ended.set()
        self._thread.join()
        for above in self._above:
            above.give_back()
        with suppress(OSError):  # The terminal may be gone.
            self._live.stop()

    def _taken_over(self, stream: TextIO) -> Any:
        above = StreamProxy(stream, self._console)
        self._above.append(above)
        return above

    def _refresh(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_UPDATES):
            try:
                for above in self._above:
                    above.show()
                self._live.refresh()
            except OSError:  # The terminal is gone; stop updating.
                return

    def _renderable(self) -> RenderableType:
        begun = [Text(text, no_wrap=True, overflow="crop") for above in self._above if (text := above.begun)]
        return Group(*begun, table_of(self._lines()))


def table_of(lines: Iterable[Sequence[str]]) -> Table:
    """Return lines as a borderless table, with left-aligned names."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for line in lines:
        while len(table.columns) < len(line):
            table.add_column(justify="right" if table.columns else "left", no_wrap=True)
        table.add_row(*map(Text, line))
    return table


class StreamProxy:
    """Proxy for a terminal stream that writes above the progress lines.

    Complete lines are written unchanged. An incomplete line is shown among the progress lines until it is complete.

    Parameters
    ----------
    stream
        The stream.
    console
        The console of the progress lines.
    """

    def __init__(self, stream: TextIO, console: Console) -> None:
        self._stream = stream
        self._console = console
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._whole: list[str] = []
        self._begun: dict[int, str] = {}
        self._handlers = list(_handlers_of(stream))
        for handler in self._handlers:
            handler.setStream(self)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def begun(self) -> str:
        """The incomplete lines, as a terminal would show them."""
        with self._lock:
            return " ".join(text.rpartition("\r")[2] for text in self._begun.values() if text)

    def write(self, text: str) -> int:
        """Buffer a text; lines of different threads are not interleaved."""
        if os.getpid() != self._process:
            # The refresh thread does not survive a fork.
            return self._stream.write(text)
        thread = threading.get_ident()
        with self._lock:
            whole, end, begun = (self._begun.get(thread, "") + text).rpartition("\n")
            self._begun[thread] = begun
            if end:
                self._whole.append(whole + end)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Buffer several texts."""
        self.write("".join(lines))

    def flush(self) -> None:
        """No-op, except in a forked child; the refresh thread writes complete lines shortly."""
        if os.getpid() != self._process:
            self._stream.flush()

    def show(self) -> None:
        """Write the complete lines."""
        with self._lock:
            text, self._whole = "".join(self._whole), []
        if text:
            self._console.print(_AsItIs(text), soft_wrap=True)

    def give_back(self) -> None:
        """Flush incomplete lines, and restore the stream."""
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is self:
                setattr(sys, name, self._stream)
        for handler in self._handlers:
            taken: object = handler.stream
            if taken is self:
                handler.setStream(self._stream)
        with self._lock:
            self._whole.extend(f"{text}\n" for text in self._begun.values() if text)
            self._begun.clear()
        with suppress(OSError):
            self.show()


class _AsItIs:
    """A text that the console writes verbatim."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(self._text)


def _handlers_of(stream: TextIO) -> Iterator[logging.StreamHandler[TextIO]]:
    """Yield the log handlers that hold a reference to a stream."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
                yield handler
