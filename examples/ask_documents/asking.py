"""The documents of a folder, and the answers of a language model to questions about each of them."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from openai import OpenAI

from tablevault.define import Table, env

INSTRUCTIONS = "Answer with one sentence of the document, and nothing else."
# The text of the document that a row is about.
TEXT = "<<documents.text[document::<<self.document[index]>>]>>"

documents = Table("documents")
answers = Table("answers")


@documents.index(
    "document",
    "text",
    primary_key=["document"],
    return_type="generator",
    arguments={"folder": env("ASK_DOCUMENTS_FOLDER")},
)
def read_texts(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each file of a folder."""
    for path in sorted(Path(folder).glob("*.txt")):
        yield path.stem, path.read_text(encoding="utf-8")


@answers.index(
    "document",
    "topic",
    "question",
    for_each=documents,
    primary_key=["document", "topic"],
    arguments={
        "questions": {
            "age": "When was it built?",
            "keeper": "Who is its keeper?",
            "fame": "What is it known for?",
            "visits": "When may visitors come?",
        }
    },
)
def ask_each(document: str, questions: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return every question about a document, with its topic."""
    return [(document, topic, question) for topic, question in questions.items()]


# The answer of the service, which is paid for. No question may be answered twice.
@answers.column(
    "answer",
    max_concurrency=4,
    arguments={
        "text": TEXT,
        "model": "a-small-model",
        "client": {
            "base_url": env("OPENAI_BASE_URL"),
            "api_key": env("OPENAI_API_KEY"),
            "timeout": 2.0,
            "max_retries": 2,
        },
    },
    untracked=["client"],
    dtypes={"answer": "string"},
)
def ask(text: str, question: str, model: str, client: Mapping[str, Any]) -> str:
    """Return the model's answer; exceptions of the client pass through."""
    reply = _client(**client).chat.completions.create(
        model=model,
        messages=[
            {"role": "system", "content": INSTRUCTIONS},
            {"role": "user", "content": f"{text}\nQuestion: {question}"},
        ],
    )
    answer = reply.choices[0].message.content
    if not answer:
        raise ValueError(f"The model gave no answer to {question!r}")
    return answer.strip()


# One client with one connection pool for all rows and threads.
@functools.cache
def _client(base_url: str, api_key: str, timeout: float, max_retries: int) -> OpenAI:
    return OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=max_retries)


@answers.column("quoted", arguments={"text": TEXT}, dtypes={"quoted": "boolean"})
def is_quoted(text: str, answer: str) -> bool:
    """Return whether a text contains an answer verbatim."""
    return answer in text
