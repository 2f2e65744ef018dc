"""Signals that arrive while the owner handles results and errors of rows, in the middle of foreign code.

An interrupt is never taken for the error of a row, and costs no row that has been computed.
"""

from __future__ import annotations

import os
import signal
import threading

import pytest
from failing_tables import TOLD
from waiting import PATIENCE

pytestmark = pytest.mark.usefixtures("no_collections")


class OwnInterruptError(Exception):
    """The exception of a signal handler that the caller has installed."""


@pytest.fixture(params=["SIGINT", "SIGTERM", "own handler"])
def interrupt(request):
    """Return a function that interrupts this interpreter when first called, and the exception that arrives."""
    sent = []
    number = signal.SIGINT if request.param == "SIGINT" else signal.SIGTERM
    raised = {"SIGINT": KeyboardInterrupt, "SIGTERM": SystemExit, "own handler": OwnInterruptError}[request.param]

    def send():
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    def own(number, frame):
        raise OwnInterruptError

    before = signal.getsignal(number)
    if request.param == "own handler":
        signal.signal(number, own)
    yield send, raised
    signal.signal(number, before)


def interrupted(table, raised):
    """Execute, which an interrupt pauses."""
    with pytest.raises(raised) as caught:
        table.execute("night")
    assert type(caught.value) is raised
    assert table.vault.get_process("night").status == "paused"


@pytest.mark.parametrize("fails", [True, False], ids=["after a failed row", "alone"])
@pytest.mark.parametrize("threads", [1, 4])
def test_interrupt_while_a_result_is_validated_costs_no_row(make, interrupt, threads, fails):
    send, raised = interrupt
    failed = threading.Event()
    failing = [3] if fails else []

    def answer(x):
        if x == 3 and failing:
            failing.clear()
            failed.set()
            raise ConnectionError("no network")
        if threads > 1 and x < 3 and fails:
            assert failed.wait(PATIENCE)
        return f"a{x}"

    def check(answer):
        if answer == "a1":
            send()

    table = make(answer, validate="check", max_concurrency=threads)
    TOLD["check"] = check
    interrupted(table, raised)
    if threads == 1 and fails:
        with pytest.raises(ConnectionError):
            table.execute("night")
    table.execute("night")
    assert table.column() == [f"a{x}" for x in range(30)]
    assert [x for x in range(30) if table.calls[x] > 1] == ([3] if fails else []), "a row was computed again"


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("read", ["__str__", "status_code", "response", "headers"])
def test_interrupt_while_an_error_is_described_is_not_lost(make, interrupt, read, threads):
    send, raised = interrupt

    class Headers(dict):
        def get(self, name, default=None):
            return sends("headers", default)

    class Response:
        headers = Headers()

    class ServiceError(ConnectionError):
        def __str__(self):
            return sends("__str__", "no answer")

        def __getattr__(self, name):
            if name not in ("status_code", "response"):
                raise AttributeError(name)
            return sends(name, Response() if name == "response" else 503)

    def sends(name, value):
        if name == read:
            send()
        return value

    def answer(x):
        if x == 3 and table.calls[3] == 1:
            raise ServiceError
        return f"a{x}"

    table = make(answer, on_error="collect", retry={"max_retries": 1, "wait": 0}, max_concurrency=threads)
    interrupted(table, raised)
    table.execute("night")
    assert table.column() == [f"a{x}" for x in range(30)]
    assert [x for x in range(30) if table.calls[x] > 1] == [3]
