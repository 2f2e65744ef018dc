"""Rows of a generator that runs in a remote worker, pulled by its owner in batches."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import NamedTuple

from tablevault.ports import Ended, FunctionError, OpenedFunction
from tablevault.rows.opened import SnapshotFunction
from tablevault.rows.sent_errors import receive_error
from tablevault.rows.worker_core import PLAIN, RAISED, RETURNED, described, ended_call, packed_result
from tablevault.rows.worker_texts import WorkerTexts

_MORE = "more rows"
"""The only argument of calls after the first. It is not a valid parameter name."""
_SECONDS = 0.1
"""Seconds after which the yielded rows are sent to the owner."""
_MAXIMUM_ROWS = 10_000
_MAXIMUM_BYTES = 4 * 1024 * 1024


class PulledRows(NamedTuple):
    """The rows that a generator has yielded since the last call."""

    rows: list[tuple[int, object]]
    """Kind and content of each, as for results of calls; a yielded exception has the kind of an exception."""
    is_over: bool = False
    raised: bytes | None = None
    """The exception that ended the generator."""
    no_iterator: str = ""
    """The class of the function's result, if it is not iterable."""
    is_lost: bool = False
    """Whether this worker has not begun the generator, since the worker that did is lost."""

    @property
    def values(self) -> list[object]:
        """The rows as the function yielded them, without errors."""
        sent = [content for kind, content in self.rows if kind == PLAIN]
        return sent + [pickle.loads(content) for kind, content in self.rows if kind == RETURNED]  # type: ignore[arg-type]


@dataclass(frozen=True)
class GeneratorOpener:
    """Plain data that opens a builder's generator in another interpreter."""

    opener: SnapshotFunction

    def filled(self, texts: WorkerTexts) -> GeneratorOpener:
        """Return a copy whose constructor arguments are resolved on the worker."""
        return replace(self, opener=self.opener.filled(texts))

    def __call__(self) -> OpenedGenerator:
        """Open the function; raises `FunctionError` like `SnapshotFunction`."""
        return OpenedGenerator(self.opener())


class OpenedGenerator:
    """A generator in a worker.

    The first call begins it, and each call returns the next rows.

    Parameters
    ----------
    opened
        The function.
    """

    def __init__(self, opened: OpenedFunction) -> None:
        self._opened = opened
        self._iterator: Iterator[object] | None = None

    @property
    def call(self) -> Callable[..., object]:
        """Return the next rows."""
        return self._pull

    def close(self) -> object:
        """Close the function, if it is an object of a class."""
        return self._opened.close()

    def _pull(self, **arguments: object) -> PulledRows:
        rows: list[tuple[int, object]] = []
        try:
            if _MORE not in arguments:
                returned = self._opened.call(**arguments)
                try:
                    self._iterator = iter(returned)  # type: ignore[call-overload]
                except TypeError:
                    return PulledRows(rows, no_iterator=type(returned).__name__)
            if self._iterator is None:
                return PulledRows(rows, is_lost=True)
            until, size = monotonic() + _SECONDS, 0
            for value in self._iterator:
                # Packed at once, since a generator may yield the same object again.
                kind, content = (RAISED, value) if isinstance(value, BaseException) else packed_result(value)
                rows.append((kind, described(content) if isinstance(content, BaseException) else content))
                size += len(content) if isinstance(content, str | bytes) else 0
                if len(rows) >= _MAXIMUM_ROWS or size >= _MAXIMUM_BYTES or monotonic() >= until:
                    return PulledRows(rows)
        except BaseException as error:  # noqa: BLE001 - the owner raises it after these rows
            return PulledRows(rows, raised=described(error))
        return PulledRows(rows, is_over=True)


class RemoteRows(Iterator[object]):
    """Iterator over the rows of a remote generator.

    Parameters
    ----------
    call
        Calls the worker's `OpenedGenerator`, and waits for the result.
    arguments
        Of the generator.
    close
        Ends the worker.
    text
        Name of the function in messages.
    """

    def __init__(
        self,
        call: Callable[[Mapping[str, object]], Ended],
        arguments: Mapping[str, object],
        close: Callable[[], None],
        text: str,
    ) -> None:
        self._call = call
        self._arguments = arguments
        self._close = close
        self._text = text
        self._rows: Iterator[object] = iter(())
        self._last = PulledRows([])

    def __enter__(self) -> RemoteRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __next__(self) -> object:
        """Return the next row, or the exception that was yielded in its place.

        Raises
        ------
        BaseException
            An exception of the generator.
        """
        while True:
            for row in self._rows:
                return row
            if self._last.raised is not None:
                raise receive_error(self._last.raised)
            if self._last.is_over:
                raise StopIteration
            self._last = self._pull()
            self._rows = map(_received, self._last.rows)

    def _pull(self) -> PulledRows:
        ended = self._call(self._arguments)
        self._arguments = {_MORE: True}
        if ended.error is not None:
            raise ended.error.original if type(ended.error) is FunctionError else ended.error
        pulled = PulledRows(*ended.value)  # type: ignore[misc]
        if pulled.no_iterator:
            raise TypeError(
                f"{self._text} must return an iterator or be a generator function, not return {pulled.no_iterator}."
            )
        if pulled.is_lost:
            raise ChildProcessError(
                f"the Ray worker that ran {self._text} was lost; the yielded rows are kept, and the next "
                "run begins it again"
            )
        return pulled


def _received(row: tuple[int, object]) -> object:
    kind, content = row
    ended = ended_call((0, 0.0, kind, content, None))
    return ended.value if ended.error is None else ended.error
