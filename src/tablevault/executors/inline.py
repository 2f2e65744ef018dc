"""Runs one row after the other in the caller's thread."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

from tablevault.interfaces import RowRun

Task = TypeVar("Task")
Result = TypeVar("Result")


class InlineExecutor:
    """Runs each task when its outcome is asked for; an interrupt inside the function is that task's error."""

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> RowRun[Task, Result]:
        """Start running `function` over `tasks`."""
        return _InlineRun(_outcomes(function, tasks))


class _InlineRun(Generic[Task, Result]):
    def __init__(self, outcomes: Generator[tuple[Task, Result | None, BaseException | None]]) -> None:
        self._outcomes = outcomes

    def __iter__(self) -> Iterator[tuple[Task, Result | None, BaseException | None]]:
        return self._outcomes  # A loop over the generator itself is spared a call per row.

    def __next__(self) -> tuple[Task, Result | None, BaseException | None]:
        return next(self._outcomes)

    def drain(self, timeout: float | None) -> list[tuple[Task, Result | None, BaseException | None]]:
        self._outcomes.close()
        return []


def _outcomes(
    function: Callable[[Task], Result], tasks: Iterable[Task]
) -> Generator[tuple[Task, Result | None, BaseException | None]]:
    for task in tasks:
        try:
            result = function(task)
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is the outcome)
            outcome: tuple[Task, Result | None, BaseException | None] = (task, None, error)
        else:
            outcome = (task, result, None)
        yield outcome
