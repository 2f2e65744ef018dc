"""The files and batches of the stand-in service: what is submitted today is done after a night, at half the price."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from email import message_from_bytes
from itertools import count
from typing import Any

Reply = dict[str, Any]


class BatchEndpoints:
    """Files and batches, as OpenAI's API has them.

    Parameters
    ----------
    answer
        Returns the reply to the body of a request.
    """

    def __init__(self, answer: Callable[[Reply], Reply]) -> None:
        self.answered = 0
        """Requests of batches that were answered, each at half the price."""
        self._answer = answer
        self._files: dict[str, str] = {}
        self._batches: dict[str, Reply] = {}
        self._numbers = count(1)
        self._lock = threading.Lock()

    def get(self, path: str) -> Reply | str | None:
        """Return the reply to a GET: plain text for the content of a file, `None` for an unknown path."""
        with self._lock:
            match path.partition("?")[0].strip("/").split("/"):
                case ["v1", "batches"]:
                    newest_first = list(reversed(self._batches.values()))
                    return {"object": "list", "data": newest_first, "has_more": False}
                case ["v1", "batches", batch]:
                    return self._batches.get(batch)
                case ["v1", "files", file, "content"]:
                    return self._files.get(file)
        return None

    def post(self, path: str, content_type: str, body: bytes) -> Reply | None:
        """Return the reply to a POST; `None` for an unknown path."""
        with self._lock:
            match path.strip("/").split("/"):
                case ["v1", "files"]:
                    return self._upload(content_type, body)
                case ["v1", "batches"]:
                    return self._create(json.loads(body))
                case ["v1", "batches", batch, "cancel"]:
                    self._batches[batch]["status"] = "cancelled"
                    return self._batches[batch]
        return None

    def pass_a_night(self, finished_before_expiry: int | None = None) -> None:
        """Compute every batch that is waiting.

        Parameters
        ----------
        finished_before_expiry
            The oldest batch expires when that many of its requests are done; `None`: all are done in time.
        """
        with self._lock:
            waiting = [batch for batch in self._batches.values() if batch["status"] == "in_progress"]
            for batch in waiting:
                is_first = batch is waiting[0]
                self._compute(batch, finished_before_expiry if is_first else None)

    @property
    def batches(self) -> int:
        """The batches that were submitted."""
        return len(self._batches)

    def _upload(self, content_type: str, body: bytes) -> Reply:
        form = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}
        return self._store(parts["file"].get_payload(decode=True).decode())

    def _store(self, text: str) -> Reply:
        file = f"file-{next(self._numbers)}"
        self._files[file] = text
        return {
            "id": file,
            "object": "file",
            "bytes": len(text),
            "created_at": 0,
            "filename": "requests.jsonl",
            "purpose": "batch",
            "status": "processed",
        }

    def _create(self, wanted: Reply) -> Reply:
        batch = f"batch-{next(self._numbers)}"
        total = len(self._files[wanted["input_file_id"]].splitlines())
        self._batches[batch] = {
            **wanted,
            "id": batch,
            "object": "batch",
            "created_at": 0,
            "status": "in_progress",
            "request_counts": {"total": total, "completed": 0, "failed": 0},
        }
        return self._batches[batch]

    def _compute(self, batch: Reply, finished: int | None) -> None:
        requests = [json.loads(line) for line in self._files[batch["input_file_id"]].splitlines()]
        done = requests[:finished]
        self.answered += len(done)
        answers = [
            {"custom_id": item["custom_id"], "response": {"status_code": 200, "body": self._answer(item["body"])}}
            for item in done
        ]
        lost = [{"custom_id": item["custom_id"], "error": {"code": "batch_expired"}} for item in requests[len(done) :]]
        batch["status"] = "expired" if lost else "completed"
        batch["output_file_id"] = self._store("\n".join(map(json.dumps, answers)))["id"]
        batch["error_file_id"] = self._store("\n".join(map(json.dumps, lost)))["id"]
        batch["request_counts"] = {"total": len(requests), "completed": len(done), "failed": len(lost)}
