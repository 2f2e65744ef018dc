"""The same verdicts from the batch API of the service: ready after a night, at half the price."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from openai import OpenAI

from tablevault import report_usage
from tablevault.define import Table, env

INSTRUCTIONS = 'Grade the answer from 1 to 5. Reply with JSON only: {"grade": 3, "reason": "..."}'
PRICE_OF_TOKEN = 0.00001
AT_AN_END = ("completed", "expired", "failed", "cancelled")

overnight = Table("overnight")
overnight.index("number", "question", "answer", rows_of="answers")


class Expired(Exception):
    """The batch ended before the service came to this row."""


@overnight.column(
    "grade",
    "reason",
    builder="verdict",
    return_type="batch",
    executor="jobs",
    batch_size=200,
    wait=False,
    retry={"max_retries": 2, "on": ["transient", Expired], "wait": 0.05},
    setup_arguments={
        "client": {"base_url": env("OPENAI_BASE_URL"), "api_key": env("OPENAI_API_KEY"), "max_retries": 0}
    },
    dtypes={"grade": "Int64", "reason": "string"},
)
class OvernightJudge:
    """Submits batches, and reads those that are done."""

    def __init__(self, client: Mapping[str, Any]) -> None:
        self._client = OpenAI(**client)

    def submit(self, token: str, number: Sequence[int], question: Sequence[str], answer: Sequence[str]) -> str:
        """Submit a batch, marked with the token; return its id."""
        lines = [
            json.dumps({"custom_id": str(place), "method": "POST", "url": "/v1/chat/completions", "body": _body(*row)})
            for place, row in enumerate(zip(number, question, answer, strict=True))
        ]
        file = self._client.files.create(file=("requests.jsonl", "\n".join(lines).encode()), purpose="batch")
        batch = self._client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"token": token, "rows": str(len(lines))},
        )
        return batch.id

    def poll(self, job: str) -> list[object] | None:
        """Return `None` until the batch has come to an end, then a verdict or an error for each row."""
        batch = self._client.batches.retrieve(job)
        if batch.status not in AT_AN_END:
            return None
        replies: dict[int, Any] = {}
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            for line in self._client.files.content(file).text.splitlines():
                item = json.loads(line)
                replies[int(item["custom_id"])] = item.get("response")
        return [_verdict(replies.get(place)) for place in range(int(batch.metadata["rows"]))]

    def find(self, token: str) -> str | None:
        """Return the id of the batch that was submitted with a token."""
        return next((batch.id for batch in self._client.batches.list() if batch.metadata.get("token") == token), None)

    def cancel(self, job: str) -> None:
        """Cancel a batch."""
        self._client.batches.cancel(job)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _body(number: int, question: str, answer: str) -> dict[str, Any]:
    """Return the request for one answer."""
    messages = [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": f"#{number} {question}\n{answer}"},
    ]
    return {"model": "a-judge", "messages": messages}


def _verdict(reply: Mapping[str, Any] | None) -> object:
    """Return the grade and the reason of one row, or its error."""
    if reply is None:
        return Expired("the batch expired before this row was graded")
    body = reply["body"]
    report_usage(cost=body["usage"]["total_tokens"] * PRICE_OF_TOKEN)
    graded = json.loads(body["choices"][0]["message"]["content"])
    return {"grade": graded["grade"], "reason": graded["reason"]}
