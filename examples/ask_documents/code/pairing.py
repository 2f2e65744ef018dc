"""Pairs of documents and questions."""

from collections.abc import Iterator, Mapping

import pandas as pd


def pair(documents: pd.DataFrame, questions: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield every question about every document, with its topic."""
    for document in documents["document"]:
        for topic, question in questions.items():
            yield document, topic, question
