"""Ask a language model about a text, over any service that speaks OpenAI's protocol."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openai import OpenAI

INSTRUCTIONS = "Answer with one sentence of the document, and nothing else."


def ask(text: str, question: str, model: str, client: Mapping[str, Any]) -> str:
    """Return the model's answer; exceptions of the client pass through."""
    reply = _client(**client).chat.completions.create(
        model=model,
        messages=[
            {"role": "system", "content": INSTRUCTIONS},
            {"role": "user", "content": f"{Path(text).read_text(encoding='utf-8')}\nQuestion: {question}"},
        ],
    )
    answer = reply.choices[0].message.content
    if not answer:
        raise ValueError(f"The model gave no answer to {question!r}")
    return answer.strip()


def is_quoted(text: str, answer: str) -> bool:
    """Return whether a text contains an answer verbatim."""
    return answer in Path(text).read_text(encoding="utf-8")


# One client with one connection pool for all rows and threads.
@functools.cache
def _client(base_url: str, api_key: str, timeout: float, max_retries: int) -> OpenAI:
    return OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=max_retries)
