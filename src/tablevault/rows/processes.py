"""Runs calls in worker processes, which are spawned, never forked, and exit with their owner.

A thread of the owner's interpreter starts the workers and exchanges messages with them, so that an interrupt loses
none. Each worker records its running call in shared memory, which identifies the call that killed a worker.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tablevault.ports import CallGroup, Ended, FunctionError, OpenFunction
from tablevault.rows.call_measure import AHEAD_SECONDS, CallMeasure
from tablevault.rows.remote_calls import RemoteCalls, TakenCalls, packed_opening
from tablevault.rows.sent_errors import receive_error
from tablevault.rows.worker import (
    ANSWERED,
    ANSWERS,
    BROKEN,
    GIVE_BACK,
    GIVEN_BACK,
    LENGTH,
    MARK,
    NO_CALL,
    NOT_CALLED,
    READY,
    SHARED_BYTES,
)
from tablevault.rows.worker_core import PROTOCOL, Answer
from tablevault.storage.files import anonymous_file
from tablevault.system import clock

_MAXIMUM_AHEAD = 2_000
"""Maximum number of calls queued on a worker."""
_MAXIMUM_BYTES_AHEAD = 16 * 1024 * 1024
"""Maximum size in bytes of the arguments queued on a worker."""
_LONG_SECONDS = 0.1
"""Seconds after which calls queued behind a long one are moved to a free worker."""
_LOOK_SECONDS = 0.1
"""Seconds between liveness checks of workers, in addition to noticing closed connections."""
_CLOSE_SECONDS = 5.0
"""Seconds that idle workers have to close their functions."""
_RECEIVED = 1 << 20


class ProcessExecutor:
    """Runs calls in worker processes.

    Parameters
    ----------
    processes
        Maximum number of worker processes; each is started on demand.
    open_function
        Returns the function; is pickled, and called once in each worker before its first call.
    locks
        File descriptors of locks, which each worker inherits and holds until it exits.
    on_death
        Called when a worker has died, with the seconds since its oldest call without an answer began. The calls are
        repeated, or fail. Called in another thread.
    ends_at_failure
        Whether no call begins after one has failed, until the owner has handled the failure.

    Raises
    ------
    FunctionError
        If `open_function` cannot be pickled.
    """

    waiting = ""

    def __init__(
        self,
        processes: int,
        open_function: OpenFunction,
        locks: Sequence[int] = (),
        on_death: Callable[[float], None] = lambda _: None,
        ends_at_failure: bool = False,
    ) -> None:
        opening = packed_opening(open_function, "worker processes")
        self._pool = _WorkerPool(processes, opening, tuple(locks), on_death, ends_at_failure)
        self._dismiss = weakref.finalize(self, self._pool.dismiss)
        self._dismiss.atexit = False

    @property
    def workers(self) -> int:
        """Maximum number of calls in flight; exceeds the processes while calls are short."""
        return self._pool.capacity

    @property
    def ended(self) -> deque[Ended]:
        """Calls that have ended; the caller removes them."""
        return self._pool.calls.ended

    @property
    def begun(self) -> Mapping[int, float]:
        """Start times of the running calls, on the monotonic clock."""
        marks = [worker.mark() for worker in self._pool.workers.copy()]
        return {number: began for number, began in marks if number != NO_CALL and began != NOT_CALLED}

    def start(self, number: int, arguments: Mapping[str, object]) -> None:
        """Queue a call for a free worker; unpicklable arguments become its error."""
        self._pool.calls.start(number, arguments)

    def start_together(self, group: CallGroup) -> None:
        """Queue calls for free workers."""
        self._pool.calls.start_together(group)

    def wait(self, seconds: float) -> None:
        """Return when a call has ended, at the latest after `seconds`."""
        self._pool.calls.release()
        self._pool.wake()
        self._pool.calls.wait(seconds)

    def cancel_waiting(self) -> frozenset[int]:
        """Take back calls not yet given to a worker; return their numbers.

        Calls that a worker has not begun follow as soon as it returns them.
        """
        taken = self._pool.calls.take_back()
        self._pool.wake()
        return taken

    def knows(self, number: int) -> bool:
        """Return whether the call is in flight or still in `ended`."""
        return self._pool.calls.knows(number)

    def reported(self, number: int) -> Mapping[str, float]:
        """Return an empty mapping, since a worker reports with its answer."""
        return {}

    def abandon(self, number: int) -> int:
        """Kill the worker of a call that has timed out; return 0."""
        self._pool.calls.abandoned.add(number)
        self._pool.wake()
        return 0

    def close(self) -> None:
        """Kill busy workers, and let idle ones close their functions and exit."""
        self._dismiss()
        self._pool.thread.join()


class _Worker:
    """The owner's view of a worker process."""

    def __init__(self, opening: bytes, locks: tuple[int, ...], ends_at_failure: bool) -> None:
        self.outstanding: dict[int, int] = {}
        """Its calls in flight, in order, with argument sizes in bytes."""
        self.is_ready = False
        self.is_fresh = True
        """Whether it has not been given a call yet."""
        self.is_alone = False
        """Whether it runs a suspected call, and must not be given others meanwhile."""
        self.is_giving_back = False
        """Whether it was asked to give back the calls queued behind a long one."""
        self.is_withdrawn = False
        """Whether it was asked to give back all of its calls that it has not begun."""
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self.connection, theirs = socket.socketpair()
        with anonymous_file() as memory, theirs:
            os.ftruncate(memory.fileno(), SHARED_BYTES)
            self._memory = mmap.mmap(memory.fileno(), SHARED_BYTES)
            MARK.pack_into(self._memory, 0, NO_CALL, 0.0)
            inherited = (theirs.fileno(), memory.fileno(), *locks)
            arguments = (os.getpid(), int(ends_at_failure), *inherited)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tablevault.rows.worker", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
            )
        self.connection.setblocking(False)
        self._put(opening)

    def mark(self) -> tuple[int, float]:
        """Return the running call and its start time."""
        while True:
            number, began = MARK.unpack_from(self._memory)
            if MARK.unpack_from(self._memory) == (number, began):
                return number, began

    @property
    def answered_at(self) -> float | None:
        """Time after which its calls without an answer began; `None` if it has run no call."""
        (found,) = ANSWERED.unpack_from(self._memory, MARK.size)
        return found or None

    @property
    def is_idle(self) -> bool:
        """Whether it is ready and has no call."""
        return self.is_ready and not self.outstanding

    def give(self, taken: TakenCalls) -> None:
        """Send calls; they run in this order."""
        self.is_fresh = self.is_withdrawn = False
        self.outstanding.update(taken.sizes)
        self._put(pickle.dumps(taken.calls, PROTOCOL))

    def ask_back(self) -> None:
        """Ask for the calls queued behind a long one."""
        running, began = self.mark()
        is_long = running in self.outstanding and clock.monotonic() - began > _LONG_SECONDS
        if is_long and len(self.outstanding) > 1 and not self.is_giving_back:
            self.is_giving_back = True
            self._put(pickle.dumps(GIVE_BACK, PROTOCOL))

    def withdraw(self) -> None:
        """Ask once for all calls that it has not begun."""
        if self.outstanding and not self.is_withdrawn:
            self.is_withdrawn = True
            self._put(pickle.dumps(GIVE_BACK, PROTOCOL))

    def end(self) -> None:
        """Let the worker finish its calls, close its function, and exit."""
        self._put(pickle.dumps(None, PROTOCOL))

    def flush(self) -> None:
        """Send as much as the connection accepts now."""
        with contextlib.suppress(BlockingIOError, ConnectionError, BrokenPipeError):
            while self._outgoing:
                del self._outgoing[: self.connection.send(self._outgoing)]

    @property
    def events(self) -> int:
        """Selector events to wait for on the connection."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)

    def receive(self) -> tuple[list[Any], bool]:
        """Return the messages that have arrived, and whether the connection is still open."""
        is_open = True
        try:
            while content := self.connection.recv(_RECEIVED):
                self._incoming += content
            is_open = False
        except BlockingIOError:
            pass
        except ConnectionError:
            is_open = False
        return list(self._messages()), is_open

    def kill(self) -> int:
        """Kill the process if it is alive; return its exit status."""
        self.process.kill()
        status = self.process.wait()
        self.connection.close()
        return status

    def _put(self, content: bytes) -> None:
        self._outgoing += LENGTH.pack(len(content))
        self._outgoing += content
        self.flush()

    def _messages(self) -> Iterator[Any]:
        start, held = 0, len(self._incoming)
        while held - start >= LENGTH.size:
            end = start + LENGTH.size + LENGTH.unpack_from(self._incoming, start)[0]
            if end > held:
                break
            yield pickle.loads(memoryview(self._incoming)[start + LENGTH.size : end].tobytes())
            start = end
        del self._incoming[:start]


class _WorkerPool:
    """The workers, and the thread that serves them.

    It does not refer to the executor, so that dropping the executor ends them.
    """

    def __init__(
        self,
        processes: int,
        opening: bytes,
        locks: tuple[int, ...],
        on_death: Callable[[float], None],
        ends_at_failure: bool,
    ) -> None:
        self.calls = RemoteCalls("worker process", "worker processes", ends_at_failure)
        self.workers: list[_Worker] = []
        self.capacity = processes
        self._processes = processes
        self._opening = opening
        self._locks = locks
        self._on_death = on_death
        self._measure = CallMeasure()
        self._is_over = False
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self._serve, name="tablevault-row-processes", daemon=True)
        self.thread.start()

    def wake(self) -> None:
        """Wake the thread to hand out calls."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake.send(b"\0")

    def dismiss(self) -> None:
        """End the workers and the thread."""
        self._is_over = True
        self.wake()

    # --- in the thread --------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        # Workers inherit the mask, so that a signal cannot end them before they can handle it.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            while not self._is_over:
                self._give_out()
                self._listen(_LOOK_SECONDS)
                self._kill_abandoned()
        except BaseException as error:  # noqa: BLE001 - a system error, which the owner raises
            self.calls.broken = FunctionError(error)
            while not self._is_over:
                self.calls.fail(list(self.calls.arguments))
                self._selector.select(_LOOK_SECONDS)
        finally:
            self._end()

    def _listen(self, seconds: float) -> None:
        """Handle messages and exits of workers; wait at most `seconds` for the first."""
        for worker in self.workers:
            if self._selector.get_key(worker.connection).events != worker.events:
                self._selector.modify(worker.connection, worker.events, worker)
        events = self._selector.select(seconds)
        for key, mask in events:
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(4096)
                continue
            if mask & selectors.EVENT_WRITE:
                key.data.flush()
            if mask & selectors.EVENT_READ:
                self._hear(key.data)
        if not events:
            for worker in [worker for worker in self.workers if worker.process.poll() is not None]:
                self._hear(worker, has_died=True)

    def _hear(self, worker: _Worker, has_died: bool = False) -> None:
        messages, is_open = worker.receive()
        for kind, content in messages:
            if kind == READY:
                worker.is_ready = True
                self.calls.opened()
            elif kind == BROKEN:
                self._remove(worker)
                self.calls.break_off(FunctionError(receive_error(content)))
                return
            elif kind == ANSWERS:
                self._take(worker, content)
            elif kind == GIVEN_BACK:
                worker.is_giving_back = False
                for number in content:
                    del worker.outstanding[number]
                self.calls.give_back(content[::-1])
        if has_died or not is_open:
            self._bury(worker)

    def _take(self, worker: _Worker, answers: list[Answer]) -> None:
        size = sum(worker.outstanding.pop(answer[0], 0) for answer in answers)
        self.calls.answer(answers)
        worker.is_alone = worker.is_alone and bool(worker.outstanding)
        self._measure.add(sum(answer[1] for answer in answers) / len(answers), size / len(answers))
        ahead = self._measure.calls_in(AHEAD_SECONDS, _MAXIMUM_BYTES_AHEAD, _MAXIMUM_AHEAD)
        self.capacity = self._processes * ahead

    def _give_out(self) -> None:
        """Give calls to free workers, and start workers for the remaining calls."""
        calls = self.calls
        if calls.broken is not None:
            calls.fail_waiting()
            return
        if calls.forgets_returned:
            for worker in self.workers:
                worker.withdraw()
        if calls.failed:
            return
        ahead = self.capacity // self._processes
        for worker in sorted(self.workers, key=lambda worker: len(worker.outstanding)):
            if not worker.is_ready or worker.is_alone:
                continue
            if calls.suspects and worker.is_fresh:
                worker.is_alone = True
                self._give(worker, calls.suspects, 1)
            elif len(worker.outstanding) <= ahead // 2:
                self._give(worker, calls.waiting, ahead - len(worker.outstanding))
        has_room = len(self.workers) < self._processes
        if not calls.waiting and (has_room or any(worker.is_idle for worker in self.workers)):
            for worker in self.workers:
                worker.ask_back()
        starting = sum(not worker.is_ready for worker in self.workers)
        wanted = len(calls.waiting) + len(calls.suspects) - starting
        for _ in range(min(wanted, self._processes - len(self.workers))):
            self._start_worker()

    def _give(self, worker: _Worker, numbers: deque[int], most: int) -> None:
        taken = self.calls.take(numbers, most)
        if taken.calls:
            worker.give(taken)
        elif not worker.outstanding:
            worker.is_alone = False

    def _start_worker(self) -> None:
        worker = _Worker(self._opening, self._locks, self.calls.ends_at_failure)
        self.workers.append(worker)
        self._selector.register(worker.connection, worker.events, worker)

    def _remove(self, worker: _Worker) -> int:
        """Remove a worker and kill it; return its exit status."""
        self.workers.remove(worker)
        self._selector.unregister(worker.connection)
        return worker.kill()

    def _bury(self, worker: _Worker) -> None:
        """Requeue the calls of a dead worker, and suspect the running one."""
        running, _ = worker.mark()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # The connection closes shortly before the process exits, and its exit status is needed.
            worker.process.wait(1.0)
        fate = _fate(self._remove(worker))
        if worker.outstanding and worker.answered_at is not None:
            # Before its calls end, so that the owner knows of it by then.
            self._on_death(clock.monotonic() - worker.answered_at)
        self.calls.give_back([number for number in worker.outstanding if number != running])
        if not worker.is_ready:
            self.calls.died_opening(fate)
        elif running not in worker.outstanding:
            self.calls.died_idle(fate)
        else:
            self.calls.suspect([running], fate)
        self.calls.wakeup.set()

    def _kill_abandoned(self) -> None:
        """Kill workers that run an abandoned call; their other calls are requeued."""
        abandoned = self.calls.abandoned
        for worker in self.workers.copy() if abandoned else ():
            running, _ = worker.mark()
            if running in abandoned and running in worker.outstanding:
                self._hear(worker)
                if worker in self.workers and worker.mark()[0] == running and running in worker.outstanding:
                    worker.process.kill()
                    self._hear(worker, has_died=True)

    def _end(self) -> None:
        """End all workers; idle ones close their functions first."""
        idle = [worker for worker in self.workers if worker.is_idle]
        for worker in self.workers:
            if worker in idle:
                worker.end()
            else:
                worker.process.kill()
        deadline = clock.monotonic() + _CLOSE_SECONDS
        for worker in idle:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - clock.monotonic()))
        for worker in self.workers:
            worker.kill()
        self.workers.clear()
        self._selector.close()
        self._wake.close()
        self._woken.close()


def _fate(status: int) -> str:
    """Return how a process ended."""
    if status >= 0:
        return f"exited with status {status}"
    reason = "out of memory?" if -status == signal.SIGKILL else signal.strsignal(-status)
    return f"was killed by signal {-status} ({reason})"
