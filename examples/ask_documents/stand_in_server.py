"""An unreliable local service that speaks OpenAI's protocol and logs its requests.

It may refuse the first request of a question (429), fail (500) or drop the connection; it answers the next one. During
an outage it stalls, or reports that it is overloaded (503).
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# The outcomes of first requests, in turn.
FIRST_OUTCOMES = ("answered", "refused (429)", "failed (500)", "dropped")
STATUS = {"answered": 200, "refused (429)": 429, "failed (500)": 500, "overloaded (503)": 503}


@dataclass(frozen=True)
class Request:
    """A received request."""

    text: str
    question: str
    model: str
    outcome: str
    """One of `FIRST_OUTCOMES`, `stalled` or `overloaded (503)`."""


class StandInServer:
    """The service; it runs while its context is entered."""

    def __init__(self) -> None:
        self._log: list[Request] = []
        self._log_lock = threading.Lock()
        self._answers_left: int | None = None
        self._outage_is_over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> StandInServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._outage_is_over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def base_url(self) -> str:
        """The address of the service."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def break_down_after(self, answers: int) -> None:
        """Start an outage after this number of answers."""
        self._answers_left = answers
        self._outage_is_over.clear()

    def recover(self) -> None:
        """End the outage."""
        self._answers_left = None
        self._outage_is_over.set()

    def requests(self) -> list[Request]:
        """Return all requests in order of arrival."""
        with self._log_lock:
            return list(self._log)

    def outcomes(self) -> Counter[str]:
        """Return the number of requests per outcome."""
        return Counter(request.outcome for request in self.requests())

    def _record(self, text: str, question: str, model: str) -> Request:
        """Choose the outcome of a request, and log it."""
        with self._log_lock:
            attempts = [request for request in self._log if (request.text, request.question) == (text, question)]
            if self._answers_left == 0:
                outcome = "overloaded (503)" if any(request.outcome == "stalled" for request in attempts) else "stalled"
            elif attempts:
                outcome = "answered"
            else:
                questions = {(request.text, request.question) for request in self._log}
                outcome = FIRST_OUTCOMES[len(questions) % len(FIRST_OUTCOMES)]
            if outcome == "answered" and self._answers_left:
                self._answers_left -= 1
            self._log.append(Request(text, question, model, outcome))
            return self._log[-1]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text, _, question = body["messages"][-1]["content"].partition("\nQuestion: ")
                request = service._record(text, question, body["model"])
                if request.outcome == "stalled":
                    service._outage_is_over.wait()
                if request.outcome not in STATUS:
                    self.close_connection = True
                    return
                self._send(STATUS[request.outcome], _reply(request))

            def _send(self, status: int, reply: dict[str, Any]) -> None:
                content = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Retry-After-Ms", "20")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _reply(request: Request) -> dict[str, Any]:
    if request.outcome != "answered":
        return {"error": {"message": request.outcome, "type": "stand-in", "code": None, "param": None}}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": request.model,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": _best_sentence(request.text, request.question)},
            }
        ],
    }


def _best_sentence(text: str, question: str) -> str:
    """Return the line that shares the most words with a question."""
    asked = _words(question)
    return max(text.splitlines(), key=lambda line: len(asked & _words(line)))


def _words(text: str) -> set[str]:
    return {word.strip(".,?") for word in text.lower().split()} - {"the", "it", "is", "was", "its"}
