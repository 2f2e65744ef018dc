"""An unreliable local service that grades answers, speaks OpenAI's protocol and logs its requests.

Of every 25 questions one is throttled (429 with `Retry-After`), one fails (500), one gets an answer that is not JSON,
one gets a truncated answer, and one never gets an answer, the first time that it is asked. Some questions get a grade
outside the scale until the service has been repaired. Batches of requests are answered overnight, at half the price.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from batch_endpoints import BatchEndpoints

FIRST_OUTCOMES = {3: "throttled (429)", 7: "failed (500)", 11: "not JSON", 15: "truncated", 19: "hangs"}
"""Outcomes of the first request of a question, by the remainder of its number."""
EVERY = 25
STATUS = {"throttled (429)": 429, "failed (500)": 500}
TOKENS = 100
"""Tokens of a request and its reply."""
PRICE = 0.002
"""Price of a request that is answered at once."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # all connections of a client are opened at once


class JudgingServer:
    """The service; it runs while its context is entered.

    Parameters
    ----------
    confused_by
        Numbers of the questions that get a grade outside the scale.
    """

    def __init__(self, confused_by: Collection[int]) -> None:
        self._confused_by = frozenset(confused_by)
        self._log: list[tuple[int, str]] = []
        self._log_lock = threading.Lock()
        self._closing = threading.Event()
        self.batches = BatchEndpoints(lambda body: _reply("graded", _number_in(body)))
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> JudgingServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def base_url(self) -> str:
        """The address of the service."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def repair(self) -> None:
        """Let the service grade every question."""
        self._confused_by = frozenset()

    def requests(self) -> list[tuple[int, str]]:
        """Return the number of the question and the outcome of every request, in order of arrival."""
        with self._log_lock:
            return list(self._log)

    def outcomes(self) -> Counter[str]:
        """Return the number of requests per outcome."""
        return Counter(outcome for _, outcome in self.requests())

    def earned(self) -> float:
        """Return what the service has charged: for replies, and half of that for those of batches."""
        replies = sum(outcome not in (*STATUS, "hangs") for _, outcome in self.requests())
        return PRICE * (replies + self.batches.answered / 2)

    def _record(self, number: int) -> str:
        with self._log_lock:
            asked_before = any(question == number for question, _ in self._log)
            if number in self._confused_by:
                outcome = "off the scale"
            elif asked_before:
                outcome = "graded"
            else:
                outcome = FIRST_OUTCOMES.get(number % EVERY, "graded")
            self._log.append((number, outcome))
        return outcome

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if not self.path.endswith("/chat/completions"):
                    self._send_found(service.batches.post(self.path, self.headers["Content-Type"] or "", content))
                    return
                number = _number_in(json.loads(content))
                outcome = service._record(number)
                if outcome == "hangs":
                    service._closing.wait()
                    self.close_connection = True
                    return
                self._send(STATUS.get(outcome, 200), _reply(outcome, number))

            def do_GET(self) -> None:
                self._send_found(service.batches.get(self.path))

            def _send_found(self, reply: dict[str, Any] | str | None) -> None:
                self._send(404, {"error": {"message": "not found"}}) if reply is None else self._send(200, reply)

            def _send(self, status: int, reply: dict[str, Any] | str) -> None:
                content = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                if status == 429:
                    self.send_header("Retry-After", "1")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _number_in(body: dict[str, Any]) -> int:
    """Return the number of the question that a request is about."""
    return int(body["messages"][-1]["content"].partition(" ")[0].removeprefix("#"))


def grade_of(number: int) -> int:
    """Return the grade that the service gives to the answer of a question."""
    return number % 5 + 1


def _reply(outcome: str, number: int) -> dict[str, Any]:
    if outcome in STATUS:
        return {"error": {"message": outcome, "type": "stand-in", "code": None, "param": None}}
    grade = 11 if outcome == "off the scale" else grade_of(number)
    text = json.dumps({"grade": grade, "reason": f"because of question {number}"})
    if outcome == "not JSON":
        text = f"Gladly! The grade is {grade}."
    if outcome == "truncated":
        text = text[:20]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "a-judge",
        "usage": {"prompt_tokens": TOKENS - 10, "completion_tokens": 10, "total_tokens": TOKENS},
        "choices": [
            {
                "index": 0,
                "finish_reason": "length" if outcome == "truncated" else "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
    }
