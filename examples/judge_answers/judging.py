"""A verdict for each answer: a grade and a reason, from any service that speaks OpenAI's protocol."""

import json
from collections.abc import Mapping
from typing import Any

from openai import AsyncOpenAI

from tablevault import report_usage
from tablevault.define import LAST_ERROR, Table, env

INSTRUCTIONS = 'Grade the answer from 1 to 5. Reply with JSON only: {"grade": 3, "reason": "..."}'
PRICE_OF_TOKEN = 0.00002

verdicts = Table("verdicts")
verdicts.index("number", "question", "answer", rows_of="answers")


def is_on_the_scale(grade: int, reason: str) -> None:
    """Refuse a grade outside the scale."""
    if grade not in range(1, 6):
        raise ValueError(f"the grade is {grade}, not one of 1 to 5")


# The verdict of the service, which is paid for.
@verdicts.column(
    "grade",
    "reason",
    builder="verdict",
    max_concurrency=32,
    on_error="collect",
    retry={"max_retries": 2, "on": ["transient", "invalid", ValueError], "wait": 0.05},
    timeout=10,
    validate=is_on_the_scale,
    arguments={"last_error": LAST_ERROR},
    setup_arguments={
        "client": {"base_url": env("OPENAI_BASE_URL"), "api_key": env("OPENAI_API_KEY"), "max_retries": 0}
    },
    dtypes={"grade": "Int64", "reason": "string"},
)
class Judge:
    """Grades one answer per call; all calls share one client with one connection pool."""

    def __init__(self, client: Mapping[str, Any]) -> None:
        self._client = AsyncOpenAI(**client)

    async def __call__(self, number: int, question: str, answer: str, last_error: str | None) -> Mapping[str, Any]:
        """Return the grade and its reason; exceptions of the client pass through."""
        messages = [
            {"role": "system", "content": INSTRUCTIONS},
            {"role": "user", "content": f"#{number} {question}\n{answer}"},
        ]
        if last_error is not None:
            messages.insert(1, {"role": "system", "content": f"Your last reply was refused: {last_error}"})
        reply = await self._client.chat.completions.create(model="a-judge", messages=messages)
        report_usage(cost=reply.usage.total_tokens * PRICE_OF_TOKEN)
        graded = json.loads(reply.choices[0].message.content)
        return {"grade": graded["grade"], "reason": graded["reason"]}

    async def close(self) -> None:
        """Close the connections, once all rows are done."""
        await self._client.close()
