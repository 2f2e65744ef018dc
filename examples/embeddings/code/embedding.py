"""Text embeddings, computed in batches by a small bundled model."""

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
    """Yield each unknown text with the path of its vector, relative to the artifact folder."""
    new = texts["text"][~texts["text"].isin(known["text"])].tolist()
    for start in range(0, len(new), batch_size):
        batch = new[start : start + batch_size]
        for text, vector in zip(batch, embed(batch), strict=True):
            file_name = f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.npy"
            np.save(Path(artifact_folder) / file_name, vector)
            yield text, file_name


def embed(texts: Sequence[str]) -> np.ndarray:
    """Return a unit vector per text; similar texts have a large dot product."""
    vectors = _model().embed(list(texts), norm=True)
    log.info("embedded %d texts", len(texts))
    return vectors


@functools.cache
def _model() -> wordllama.inference.WordLlamaInference:
    # The model is in the folder of the package; used as the cache, it makes a download unnecessary.
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
