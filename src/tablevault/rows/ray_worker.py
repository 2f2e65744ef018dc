"""A Ray actor that runs calls, and exits when its owner's heartbeat stops.

It imports Ray only to read files that are sent with calls. All of its answers are plain data, since Ray alters
exceptions in transit.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import pickle
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from platform import python_version_tuple
from typing import Any, NamedTuple

from tablevault.code.packages import installed_versions
from tablevault.ports import FunctionError, OpenedFunction
from tablevault.rows.opened import SnapshotFunction
from tablevault.rows.pulled_rows import GeneratorOpener, PulledRows
from tablevault.rows.ray_files import InputFile, SentFile, WorkerFiles
from tablevault.rows.usage import CallMeter, Metered, meter_context
from tablevault.rows.worker_core import (
    PLAIN,
    RAISED,
    RETURNED,
    Answer,
    CallCore,
    ReceivedCall,
    SentCall,
    described,
    received_calls,
)
from tablevault.rows.worker_texts import WorkerTexts
from tablevault.values import clusters

READY, BROKEN, DIFFERS = "ready", "broken", "differs"
"""Answers to a greeting: the function is open, cannot be opened, or was not opened because versions differ."""
NAME = "{NAME}"
"""Placeholder for the name of a variable in a message."""
CONTROL = "control"
"""The concurrency group of methods that are served while calls run."""

_TICK = 1.0


class Greeting(NamedTuple):
    """A worker's greeting before its first call, of built-in types that any version can read."""

    versions: dict[str, str]
    opening: bytes
    """Opens the function."""
    digits: str
    """Digits of the marks in arguments."""
    variables: list[str]
    """Environment variables named in arguments."""
    missing_text: str
    """The message if one of them is not set, with `NAME` in place of its name."""
    silence: float
    """Seconds without a heartbeat of the owner after which the worker exits."""
    makes_files: bool
    """Whether calls get a folder for their files."""
    has_files: bool
    """Whether files may be sent with calls."""


class SentTask(NamedTuple):
    """Calls to run one after the other."""

    number: int
    calls: list[SentCall]
    ends_at_failure: bool
    """Whether the calls after a failed one are returned unrun."""


class TaskAnswer(NamedTuple):
    """The outcomes of the calls of a task."""

    answers: list[Answer]
    given_back: list[int]
    """Calls that were not run."""
    files: dict[int, list[SentFile]]
    """Files that results name; they stay on the worker until the owner has copied them."""
    unnamed: dict[int, list[str]]
    """Files that no result names."""


def versions(ray: Any) -> dict[str, str]:
    """Return the versions that must be the same for an owner and its workers."""
    return {
        "TableVault": installed_versions(["tablevault"]).get("tablevault", "unknown"),
        "Ray": str(ray.__version__),
        "Python": ".".join(python_version_tuple()[:2]),
    }


@dataclass
class _RunningTask:
    """A task that a worker has begun."""

    number: int
    calls: deque[ReceivedCall]
    """Calls that have not begun; two threads take from them."""
    ends_at_failure: bool
    found: TaskAnswer = field(default_factory=lambda: TaskAnswer([], [], {}, {}))

    def next_call(self) -> ReceivedCall | None:
        """Return the next call; `None` if none is left."""
        try:
            return self.calls.popleft()
        except IndexError:
            return None

    def hand_over(self) -> tuple[list[Answer], list[int] | None]:
        """Return the answers so far, and the calls that will not begin."""
        with contextlib.suppress(IndexError):
            while True:
                self.found.given_back.append(self.calls.popleft()[0])
        ended = [answer for answer in self.found.answers.copy() if answer[0] not in self.found.files]
        return ended, self.found.given_back.copy()


class _RayWorker:
    """Base of workers of plain and of async functions."""

    def __init__(self) -> None:
        self._core = CallCore("Ray worker")
        self._opened: OpenedFunction | None = None
        self._texts: WorkerTexts | None = None
        self._makes_files = False
        self._yields = False
        """Whether all calls belong to one generator and share a folder."""
        self._files = WorkerFiles()
        self._tasks: dict[int, _RunningTask] = {}
        """Running tasks."""
        self._newest_task = -1
        self._returned: set[int] = set()
        """Tasks that have not begun and whose calls run elsewhere."""
        self._silent = 0.0
        self._silence = float("inf")
        # Attributes of an object, so that a function that patches the clocks does not affect them.
        self._monotonic, self._sleep = time.monotonic, time.sleep
        threading.Thread(target=self._watch, name="tablevault-owner", daemon=True).start()

    # --- while calls run ------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Accept a heartbeat from the owner."""
        self._silent = 0.0

    def hand_over(self, tasks: Sequence[int]) -> dict[int, tuple[list[Answer], list[int] | None]]:
        """Return the answers of long tasks so far, and their calls not begun.

        These calls will not run here. `None` means all calls of a task that has not begun. The answer to the
        task repeats everything.
        """
        found: dict[int, tuple[list[Answer], list[int] | None]] = {}
        for number in tasks:
            task = self._tasks.get(number)
            if task is not None:
                found[number] = task.hand_over()
            elif number > self._newest_task:
                self._returned.add(number)
                found[number] = [], None
        return found

    def read_file(self, call: int, name: str, offset: int, size: int) -> bytes:
        """Return a piece of a file created by a call."""
        return self._files.read(call, name, offset, size)

    def drop_files(self, call: int) -> None:
        """Remove the files named in a call's result, once copied by the owner."""
        self._files.remove_sent(call) if self._yields else self._files.remove(call)

    def _watch(self) -> None:
        """End this process when the owner has been silent for too long.

        Only ticks count, not the time in between, so that a process that was suspended, or whose function held the
        interpreter lock, first receives the heartbeats that arrived meanwhile.
        """
        while self._silent < self._silence:
            self._sleep(_TICK)
            self._silent += _TICK
        self._files.close()
        os._exit(1)

    # --- setting up -----------------------------------------------------------------------------------------------

    def _open(self, content: bytes, environment: Mapping[str, str]) -> tuple[str, object]:
        """Open the function; return the outcome with environment variables or the error."""
        import ray

        found, *rest = pickle.loads(content)
        own = versions(ray)
        if found != own:
            return DIFFERS, own
        greeting = Greeting(found, *rest)
        os.environ.update(environment)
        clusters.runs_rows = True
        self._silence, self._silent = greeting.silence, 0.0
        try:
            variables = _variables(greeting)
            if variables or greeting.makes_files or greeting.has_files:
                self._texts = WorkerTexts(greeting.digits, variables)
            self._makes_files = greeting.makes_files
            opener = pickle.loads(greeting.opening)
            self._yields = isinstance(opener, GeneratorOpener)
            if self._texts is not None and isinstance(opener, SnapshotFunction | GeneratorOpener):
                opener = opener.filled(self._texts)
            self._opened = opener()
        except BaseException as error:  # noqa: BLE001 - the owner raises it
            return BROKEN, described(error)
        return READY, variables

    # --- calls ----------------------------------------------------------------------------------------------------

    def _call(self, number: int, files: Mapping[str, Sequence[Any]]) -> Callable[..., Any]:
        """Return the function for one call, which fills in this worker's texts."""
        assert self._opened is not None  # the owner sends calls once the function is open
        call, texts = self._opened.call, self._texts
        if texts is None:
            return call
        folder = str(self._files.make(number, keeps=self._yields)) if self._makes_files else ""

        def filled_call(**arguments: object) -> object:
            found = {
                name: texts.filled(value, folder, lambda key: self._files.fetched(InputFile(*files[key])))
                for name, value in arguments.items()
            }
            return call(**found)

        return filled_call

    def _begin(self, content: bytes) -> _RunningTask:
        """Begin a task; it is empty if its calls run elsewhere."""
        sent = SentTask(*pickle.loads(content))
        task = _RunningTask(sent.number, deque(received_calls(sent.calls)), sent.ends_at_failure)
        self._tasks[sent.number] = task
        self._newest_task = max(self._newest_task, sent.number)
        if sent.number in self._returned:
            self._returned.discard(sent.number)
            task.hand_over()
        return task

    def _end(self, task: _RunningTask) -> tuple[Any, ...]:
        """Return the answer to a task."""
        task.hand_over()
        del self._tasks[task.number]
        _flush()
        return tuple(task.found)

    def _answer(self, number: int, began: float, kind: int, content: object, meter: CallMeter) -> Answer:
        seconds = self._monotonic() - began
        if isinstance(content, BaseException):
            content = described(content)
        return number, seconds, kind, content, meter.amounts or None

    def _add_files(self, answer: Answer, found: TaskAnswer) -> None:
        """Add the files of a call to its task's answer, or remove them if it failed."""
        number, _, kind, content, _ = answer
        if not self._makes_files:
            return
        if kind in (PLAIN, RETURNED):
            value = content if kind == PLAIN else pickle.loads(content)
            is_over = not isinstance(value, PulledRows) or value.is_over
            named, unnamed = self._files.found(number, value.values if isinstance(value, PulledRows) else value)
            # A later row of a generator may name a file that exists already.
            if unnamed and is_over:
                found.unnamed[number] = unnamed
            if named:
                found.files[number] = named
                return
            if not is_over:
                return
        self._files.remove(number)


class RayWorker(_RayWorker):
    """Runs calls of plain functions, one task at a time in each thread."""

    def hello(self, greeting: bytes, environment: Mapping[str, str]) -> tuple[str, object]:
        """Open the function."""
        return self._open(greeting, environment)

    def run(self, content: bytes, files: Mapping[str, Sequence[Any]]) -> tuple[Any, ...]:
        """Run the calls of a task; return a `TaskAnswer`."""
        task = self._begin(content)
        while (given := task.next_call()) is not None:
            number, arguments = given
            began, meter = self._monotonic(), CallMeter()
            with Metered(meter):
                kind, value = self._core.run(self._call(number, files), arguments)
            answer = self._answer(number, began, kind, value, meter)
            self._add_files(answer, task.found)
            task.found.answers.append(answer)
            if kind == RAISED and task.ends_at_failure:
                break
        return self._end(task)

    def finish(self) -> None:
        """Close the function."""
        if self._opened is not None:
            self._opened.close()
        self._files.close()


class AsyncRayWorker(_RayWorker):
    """Runs calls of async functions on one event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[int, asyncio.Task[tuple[int, object]]] = {}
        self._cancelled: set[int] = set()

    async def hello(self, greeting: bytes, environment: Mapping[str, str]) -> tuple[str, object]:
        """Open the function on the event loop of the calls."""
        return self._open(greeting, environment)

    async def run(self, content: bytes, files: Mapping[str, Sequence[Any]]) -> tuple[Any, ...]:
        """Run the calls of a task; return a `TaskAnswer`."""
        task = self._begin(content)
        while (given := task.next_call()) is not None:
            number, arguments = given
            if number in self._cancelled:
                self._cancelled.discard(number)
                continue
            began, meter = self._monotonic(), CallMeter()
            context = contextvars.copy_context()
            context.run(meter_context, meter)
            coroutine = self._core.run_async(self._call(number, files), arguments)
            running = asyncio.get_running_loop().create_task(coroutine, context=context)
            self._running[number] = running
            try:
                kind, value = await running
            except asyncio.CancelledError as error:
                kind, value = RAISED, error
            finally:
                del self._running[number]
            answer = self._answer(number, began, kind, value, meter)
            self._add_files(answer, task.found)
            task.found.answers.append(answer)
            if kind == RAISED and task.ends_at_failure:
                break
        return self._end(task)

    async def cancel(self, number: int) -> None:
        """Cancel a call that has timed out."""
        running = self._running.get(number)
        if running is None:
            self._cancelled.add(number)
        else:
            running.get_loop().call_soon_threadsafe(running.cancel)

    async def finish(self) -> None:
        """Close the function."""
        if self._opened is not None:
            closed = self._opened.close()
            if inspect.isawaitable(closed):
                await closed
        self._files.close()


def _variables(greeting: Greeting) -> dict[str, str]:
    """Return the environment variables named in arguments; raises `FunctionError` if one is not set."""
    for name in greeting.variables:
        if name not in os.environ:
            raise FunctionError(LookupError(greeting.missing_text.replace(NAME, name)))
    return {name: os.environ[name] for name in greeting.variables}


def _flush() -> None:
    """Flush output, so that it arrives before the answers to its calls."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
