"""Vectors of texts, computed in batches by a small model that its package ships."""

import functools
import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import wordllama

log = logging.getLogger("embedding")


def embed_new_texts(
    texts: pd.DataFrame, known: pd.DataFrame, batch_size: int, artifact_folder: str
) -> Iterator[tuple[str, str]]:
    """Yield each text that is not known yet, and the place of its vector, relative to the artifact folder."""
    new = texts["text"][~texts["text"].isin(known["text"])].tolist()
    for start in range(0, len(new), batch_size):
        batch = new[start : start + batch_size]
        for text, vector in zip(batch, embed(batch), strict=True):
            file_name = f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.npy"
            np.save(Path(artifact_folder) / file_name, vector)
            yield text, file_name


def embed(texts: Sequence[str]) -> np.ndarray:
    """Return a row of length 1 for each text: the closer two texts are in meaning, the larger the product of theirs."""
    vectors = _model().embed(list(texts), norm=True)
    log.info("embedded %d texts", len(texts))
    return vectors


@functools.cache
def _model() -> wordllama.inference.WordLlamaInference:
    # The package's own folder is where a cache would be: all that it needs is there, and nothing is downloaded.
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
