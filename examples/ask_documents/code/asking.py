"""Ask a language model about a text, over any service that speaks OpenAI's protocol."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openai import OpenAI

INSTRUCTIONS = "Answer with one sentence of the document, and nothing else."


def ask(text: str, question: str, model: str, client: Mapping[str, Any]) -> str:
    """Return the model's answer. What the client raises when it has given up is left as it is."""
    reply = _client(**client).chat.completions.create(
        model=model,
        messages=[
            {"role": "system", "content": INSTRUCTIONS},
            {"role": "user", "content": f"{Path(text).read_text(encoding='utf-8')}\nQuestion: {question}"},
        ],
    )
    answer = reply.choices[0].message.content
    if not answer:
        raise ValueError(f"The model answered nothing to {question!r}")
    return answer.strip()


def is_quoted(text: str, answer: str) -> bool:
    """Tell whether a text contains an answer, word for word."""
    return answer in Path(text).read_text(encoding="utf-8")


# One client, and so one pool of connections, for all rows and threads.
@functools.cache
def _client(base_url: str, api_key: str, timeout: float, max_retries: int) -> OpenAI:
    return OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=max_retries)
