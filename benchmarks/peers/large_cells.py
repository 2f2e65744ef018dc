"""Functions with large results (W10, W11 and W12).

Runs in the peers' environments, so it needs nothing but Python and NumPy. The functions return the same as those of
`benchmarks.vectors`, `benchmarks.artifacts` and `benchmarks.answers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

SIZE = 768
"""Of a vector."""

BATCH = 256
FILE_SIZE = 10_000
TEMPLATES: FloatArray = np.random.default_rng(7).standard_normal((64, SIZE)).astype(np.float32)


def embed(x: int) -> FloatArray:
    """Return a new vector."""
    found: FloatArray = TEMPLATES[x % 64] + np.float32(x)
    return found


def embed_batch(x: NDArray[np.int64] | Sequence[int]) -> FloatArray:
    """Return the vectors of some rows."""
    numbers = np.asarray(x)
    found: FloatArray = TEMPLATES[numbers % 64] + numbers.astype(np.float32)[:, None]
    return found


def content(x: int) -> bytes:
    """Return the bytes of a file."""
    return f"{x:8}".encode() * (FILE_SIZE // 8)


def write_file(x: int, folder: str) -> str:
    """Write a file and return its name."""
    name = f"{x}.bin"
    with Path(folder, name).open("wb") as file:
        file.write(content(x))
    return name


def long_text(x: int) -> str:
    """Return 4 kB of text."""
    return f"{x:8}" * 512


def judgement(x: int) -> dict[str, Any]:
    """Return a JSON object of 0.5 kB."""
    reasons = [f"reason {number} of {x}: it says what it is about, and how it is done" for number in range(5)]
    return {"id": x, "verdict": "good", "score": x / 7, "reasons": reasons, "usage": {"input": x % 900, "output": 64}}


def batches(count: int) -> list[range]:
    """Return the rows of each batch."""
    return [range(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]


def check_vectors(found: FloatArray, numbers: NDArray[np.int64] | range) -> None:
    """Raise AssertionError unless these are the vectors of these rows, exactly."""
    assert found.dtype == np.float32
    assert found.shape == (len(numbers), SIZE)
    for start in range(0, len(numbers), 10_000):
        part = np.asarray(numbers[start : start + 10_000])
        assert (found[start : start + 10_000] == embed_batch(part)).all()


def check_contents(found: Iterable[bytes], count: int) -> None:
    """Raise AssertionError unless these are the contents of all files, in any order."""
    assert sorted(found) == sorted(map(content, range(count)))


def check_texts(found: Iterable[str], count: int) -> None:
    """Raise AssertionError unless these are the texts of all rows, in any order."""
    assert sorted(found) == [long_text(x) for x in range(count)]


def check_judgements(found: Iterable[dict[str, Any]], count: int) -> None:
    """Raise AssertionError unless these are the objects of all rows, in any order."""
    assert sorted(found, key=lambda each: each["id"]) == [judgement(x) for x in range(count)]
