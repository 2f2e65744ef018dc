"""A worker process, which runs calls for its owner and exits with it.

Started by `processes.ProcessExecutor` as `python -m tablevault.rows.worker`; not a public command. It is independent of
vaults; the owner sends it a callable that opens the function, then calls.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from tablevault.rows.usage import CallMeter, meter_context
from tablevault.rows.worker_core import PROTOCOL, Answer, CallCore, ReceivedCall, described, received_calls

READY, BROKEN, ANSWERS, GIVEN_BACK = "ready", "broken", "answers", "given back"
"""Kinds of messages to the owner: function opened or failed to open, calls ended or returned unrun."""
GIVE_BACK = "give back"
"""Message that asks a worker for the calls that it has not begun."""

LENGTH = struct.Struct("=Q")
"""Header of each message, in both directions."""
MARK = struct.Struct("@qd")
"""The running call and its start on the monotonic clock, in memory shared with the owner."""
ANSWERED = struct.Struct("@d")
"""Time on the monotonic clock after which every call without an answer began, behind the mark; 0 before any call."""
SHARED_BYTES = MARK.size + ANSWERED.size
"""Size of the memory shared with the owner."""
NO_CALL = -1
NOT_CALLED = float("inf")
"""Start of a call whose arguments are being read, or whose error is being sent: its function is not running."""

_SOON = 0.005
"""Seconds for which answers are held back to be bundled, while calls are short."""
_LATE = 0.05
"""Seconds after which held answers are sent while a long call runs."""
_DIE_WITH_PARENT = 1
"""`PR_SET_PDEATHSIG` of `prctl`."""


class Worker:
    """Runs calls one after the other, and sends the answers in bundles.

    Parameters
    ----------
    connection
        Socket to the owner.
    mark
        Memory shared with the owner.
    ends_at_failure
        Whether the calls after a failed one are returned unrun, since the owner decides whether they may begin.
    """

    def __init__(self, connection: socket.socket, mark: mmap.mmap, ends_at_failure: bool) -> None:
        self._connection = connection
        self._mark = mark
        self._ends_at_failure = ends_at_failure
        self._calls: deque[ReceivedCall] = deque()
        """Calls that have not begun."""
        self._arrivals: SimpleQueue[bool] = SimpleQueue()
        """True when calls have arrived, false after the last ones."""
        self._answers: deque[Answer] = deque()
        self._meter = CallMeter()
        self._sending = threading.Lock()
        # Attributes of an object, so that a function that patches the clocks does not affect them.
        self._monotonic = time.monotonic
        self._sent = self._monotonic()
        self._core = CallCore("worker process")

    def run(self) -> int:
        """Open the function, run the owner's calls, and return the exit status."""
        try:
            opened = pickle.loads(self._receive())()
        except BaseException as error:  # noqa: BLE001 - the owner raises it
            self._send((BROKEN, described(error)))
            return 1
        # Calls run one at a time, so they share a meter.
        meter_context(self._meter)
        self._send((READY, b""))
        threading.Thread(target=self._listen, name="tablevault-owner", daemon=True).start()
        while self._arrivals.get():
            self._run_calls(opened.call)
        with contextlib.suppress(Exception):
            opened.close()
        return 0

    def _run_calls(self, call: Callable[..., object]) -> None:
        """Run calls one after the other, with little overhead for short ones."""
        calls, answers, run_call, monotonic = self._calls, self._answers, self._core.run, self._monotonic
        meter = self._meter
        number = NO_CALL

        def call_and_mark(**given: object) -> object:
            # Reading the arguments may import packages, which must not count for the timeout.
            MARK.pack_into(self._mark, 0, number, monotonic())
            return call(**given)

        now = self._answered_all(monotonic())
        while calls:
            try:
                number, arguments = calls.popleft()
            except IndexError:  # They were returned unrun.
                break
            if isinstance(arguments, bytes):
                MARK.pack_into(self._mark, 0, number, NOT_CALLED)
                kind, content = run_call(call_and_mark, arguments)
            else:
                MARK.pack_into(self._mark, 0, number, now)
                kind, content = run_call(call, arguments)
            ended = monotonic()
            usage = meter.take() if meter.amounts else None
            if isinstance(content, BaseException):
                # Serializing it may take longer than the call did.
                MARK.pack_into(self._mark, 0, number, NOT_CALLED)
                answers.append((number, ended - now, kind, described(content), usage))
                if self._ends_at_failure:
                    self._answer()
                    self._give_back()
                ended = monotonic()
            else:
                answers.append((number, ended - now, kind, content, usage))
            now = ended
            if now - self._sent > _SOON:
                self._answer()
                now = self._answered_all(monotonic())
        MARK.pack_into(self._mark, 0, NO_CALL, 0.0)
        self._answer()

    def _answered_all(self, now: float) -> float:
        """Note that no call is left without an answer before the next one; return the time."""
        self._sent = now
        ANSWERED.pack_into(self._mark, MARK.size, now)
        return now

    def _answer(self) -> None:
        """Send the held answers."""
        with self._sending:
            answers = []
            while self._answers:
                answers.append(self._answers.popleft())
            if answers:
                self._write((ANSWERS, answers))

    def _listen(self) -> None:
        """Receive calls while others run, and send answers delayed by a long call."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        while True:
            if not poll.poll(_LATE * 1000):
                if self._answers and self._monotonic() - self._sent > _LATE:
                    self._answer()
                continue
            message = pickle.loads(self._receive())
            if message is None:
                self._arrivals.put(False)
                return
            if message == GIVE_BACK:
                self._give_back()
            else:
                self._calls.extend(received_calls(message))
                self._arrivals.put(True)

    def _give_back(self) -> None:
        """Return calls that have not begun to the owner."""
        numbers = []
        with contextlib.suppress(IndexError):
            while True:
                numbers.append(self._calls.pop()[0])
        self._send((GIVEN_BACK, numbers))

    def _receive(self) -> bytearray:
        return self._read(LENGTH.unpack(self._read(LENGTH.size))[0])

    def _read(self, size: int) -> bytearray:
        content, done = bytearray(size), 0
        view = memoryview(content)
        while done < size:
            try:
                count = self._connection.recv_into(view[done:])
            except ConnectionError:
                count = 0
            if not count:
                # The owner is gone, and the worker must not outlive it.
                os._exit(1)
            done += count
        return content

    def _send(self, message: object) -> None:
        with self._sending:
            self._write(message)

    def _write(self, message: object) -> None:
        for stream in (sys.stdout, sys.stderr):
            # Output is flushed before the answer is sent, in case the worker dies.
            with contextlib.suppress(Exception):
                stream.flush()
        content = pickle.dumps(message, PROTOCOL)
        try:
            self._connection.sendall(LENGTH.pack(len(content)) + content)
        except OSError:
            os._exit(1)


def main(arguments: list[str]) -> int:
    """Serve an owner.

    Parameters
    ----------
    arguments
        The owner's process id; 1 to return the calls after a failed one unrun, or else 0; descriptors of the
        connection, of the shared memory, and of the owner's locks, which this process holds as well.
    """
    owner, ends_at_failure, connection, memory, *locks = map(int, arguments)
    _die_with(owner)
    _ignore_interrupts()
    inherited = (connection, memory, *locks)
    for descriptor in inherited:
        os.set_inheritable(descriptor, False)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _forget(inherited))
    mark = mmap.mmap(memory, SHARED_BYTES)
    return Worker(socket.socket(fileno=connection), mark, bool(ends_at_failure)).run()


def _die_with(owner: int) -> None:
    """Let the kernel kill this process when its owner dies, where supported."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != owner:
        os._exit(1)


def _ignore_interrupts() -> None:
    """Leave SIGINT and SIGTERM to the owner, which finishes rows in flight.

    Child programs still receive them.
    """

    def ignore(number: int, frame: object) -> None:
        """Do nothing; unlike SIG_IGN, a handler is not inherited by child programs."""

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ignore)
    # They were blocked while this interpreter started.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


def _forget(descriptors: tuple[int, ...]) -> None:
    """Close the owner's locks in a forked child, lest the owner appear alive."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
