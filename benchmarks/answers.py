"""Functions that return answers of language models (W12).

The answers are long texts, and JSON objects.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import baselines, vaults
from benchmarks.measuring import Result, interleaved


@dataclass(frozen=True)
class Answer:
    """One kind of answer.

    Attributes
    ----------
    what
        For the table.
    function
        Its name in the vault's code.
    dtype
        Of the column; empty for none.
    call
        The same function, for the baseline.
    text
        Returns an answer as the baseline stores it.
    """

    what: str
    function: str
    dtype: str
    call: Callable[[int], Any]
    text: Callable[[Any], str]


def long_text(x: int) -> str:
    """Return 4 kB of text, as the function in the vault does."""
    vaults.CALLS.called()
    return f"{x:8}" * 512


def judgement(x: int) -> dict[str, Any]:
    """Return a JSON object of 0.5 kB, as the function in the vault does."""
    vaults.CALLS.called()
    reasons = [f"reason {number} of {x}: it says what it is about, and how it is done" for number in range(5)]
    return {"id": x, "verdict": "good", "score": x / 7, "reasons": reasons, "usage": {"input": x % 900, "output": 64}}


ANSWERS = (
    Answer("texts of 4 kB", "long_text", "", long_text, str),
    Answer("JSON objects of 0.5 kB", "judgement", "json", judgement, json.dumps),
)


def answers(rows: int, rounds: int) -> list[Result]:
    """A row-wise function that returns model answers (W12).

    The baseline is the same loop with group commit and Parquet.
    """
    return [_compared(answer, rows, rounds) for answer in ANSWERS]


def _compared(answer: Answer, rows: int, rounds: int) -> Result:
    def product(folder: Path) -> float:
        vault = vaults.new_vault(folder)
        vault.create_table("answers")
        builder = vaults.row_builder(function=answer.function)
        builder += f"dtypes: {{y: {answer.dtype}}}\n" if answer.dtype else ""
        vault.create_instance("answers", builders={"answers_index": vaults.index_builder(rows), "answer": builder})
        called = vaults.count_calls()
        start = time.perf_counter()
        vault.execute_instance("answers", process_id="work")
        seconds = time.perf_counter() - start
        assert called() == rows
        frame, _ = vault.get_dataframe("answers")
        assert all(found == answer.call(x) for x, found in enumerate(frame["y"]))
        return seconds

    def baseline(folder: Path) -> float:
        called = vaults.count_calls()
        start = time.perf_counter()
        baselines.group_commit(lambda x: answer.text(answer.call(x)), range(rows), folder / "baseline.parquet")
        seconds = time.perf_counter() - start
        assert called() == rows
        return seconds

    samples = interleaved({"product": product, "baseline": baseline}, rounds)
    ratio = samples["product"].median / samples["baseline"].median
    return Result(
        "W12",
        f"{rows:,} {answer.what}",
        f"{samples['product'].median / rows * 1e6:.1f} µs/row",
        f"{samples['baseline'].median / rows * 1e6:.1f} µs/row",
        ratio,
        "≤ 1.3 ×",
        ratio <= 1.3,
        samples["product"].spread,
    )
