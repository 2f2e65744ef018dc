"""A service on this machine that speaks OpenAI's protocol, stumbles like a real one, and keeps books of it.

The first time that it is asked something it may refuse (429), break (500), or hang up without an answer; asked again,
it answers. During an outage it is silent, or says that it is overloaded (503), until the outage is over.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What becomes of the first attempt at a question, by turns.
STUMBLES = ("answered", "refused (429)", "broke (500)", "hung up")
STATUS = {"answered": 200, "refused (429)": 429, "broke (500)": 500, "overloaded (503)": 503}


@dataclass(frozen=True)
class Request:
    """A request that has arrived."""

    text: str
    question: str
    model: str
    outcome: str
    """A word of `STUMBLES`, or `silent` or `overloaded (503)`."""


class StandInServer:
    """The service, and its books. It serves from entering to leaving it as a context."""

    def __init__(self) -> None:
        self._books: list[Request] = []
        self._one_entry_at_a_time = threading.Lock()
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
        """Where the service is found."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def break_down_after(self, answers: int) -> None:
        """Give so many answers more, and then have an outage."""
        self._answers_left = answers
        self._outage_is_over.clear()

    def recover(self) -> None:
        """End the outage."""
        self._answers_left = None
        self._outage_is_over.set()

    def requests(self) -> list[Request]:
        """Return all requests that have arrived, in their order."""
        with self._one_entry_at_a_time:
            return list(self._books)

    def outcomes(self) -> Counter[str]:
        """Return how many requests ended in which way."""
        return Counter(request.outcome for request in self.requests())

    def _enter(self, text: str, question: str, model: str) -> Request:
        """Decide what becomes of a request, and enter it into the books."""
        with self._one_entry_at_a_time:
            attempts = [request for request in self._books if (request.text, request.question) == (text, question)]
            if self._answers_left == 0:
                outcome = "overloaded (503)" if any(request.outcome == "silent" for request in attempts) else "silent"
            elif attempts:
                outcome = "answered"
            else:
                questions = {(request.text, request.question) for request in self._books}
                outcome = STUMBLES[len(questions) % len(STUMBLES)]
            if outcome == "answered" and self._answers_left:
                self._answers_left -= 1
            self._books.append(Request(text, question, model, outcome))
            return self._books[-1]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text, _, question = body["messages"][-1]["content"].partition("\nQuestion: ")
                request = service._enter(text, question, body["model"])
                if request.outcome == "silent":
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
        return {"error": {"message": f"The service {request.outcome}", "type": "stumble", "code": None, "param": None}}
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
    """Return the line of a text that shares the most words with a question."""
    asked = _words(question)
    return max(text.splitlines(), key=lambda line: len(asked & _words(line)))


def _words(text: str) -> set[str]:
    return {word.strip(".,?") for word in text.lower().split()} - {"the", "it", "is", "was", "its"}
