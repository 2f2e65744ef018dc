"""The vault in the pictures of the page.

It has an evaluation, a paused run, and a running one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import warnings
from pathlib import Path

import pandas as pd

from tablevault import TableVault

EVALUATION = '''
"""Ask a model, grade its answers, and draw how it did."""

import struct
import zlib
from pathlib import Path

from tablevault.define import ARTIFACT_FOLDER, Table, ref

answers = Table("answers", description="What the model said, and whether it was right")
topics = Table("topics", description="How it did, by topic")
report = Table("report", description="One page for the meeting")

answers.index("number", "topic", "question", "expected", rows_of="questions")


class RateLimitError(Exception):
    """The service asks to come back later."""


@answers.column(on_error="collect", retry=0, arguments={"prompt": "Answer briefly:"})
def answer(number, question, expected, prompt):
    if number in (11, 29):
        raise RateLimitError("429: too many requests in this minute, come back in 12 s")
    if number == 34:
        raise ValueError("the model returned no text")
    return expected if number % 5 else f"Let me think. {question.removesuffix('?')} is {int(expected) + 1}."


@answers.column()
def right(answer, expected):
    return answer == expected


@topics.index("topic", primary_key=["topic"])
def topic():
    return ["addition", "division", "powers", "roots"]


@topics.column("share", arguments={"marks": ref("<<answers.right[topic::<<self.topic[index]>>]>>")})
def share(topic, marks):
    known = [mark for mark in marks if mark is not None]
    return round(sum(known) / max(len(known), 1), 3)


@topics.column("chart", arguments={"folder": ARTIFACT_FOLDER}, dtypes={"chart": "artifact_string"})
def chart(topic, share, folder):
    width, height, filled = 160, 24, int(160 * share)
    bar = b"".join(bytes((47, 111, 222) if x < filled else (203, 213, 225)) for x in range(width))

    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    content = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    content += part(b"IDAT", zlib.compress((b"\\0" + bar) * height)) + part(b"IEND", b"")
    Path(folder, f"{topic}.png").write_bytes(b"\\x89PNG\\r\\n\\x1a\\n" + content)
    return f"{topic}.png"


@report.index("title", primary_key=["title"])
def title():
    return ["Arithmetic"]


@report.column(arguments={"shares": ref("<<topics>>")})
def summary(shares):
    lines = [f"{row.topic}: {row.share:.0%} right" for row in shares.itertuples()]
    return "How the model did, by topic. " + "; ".join(lines) + "."
'''

REVIEWS = '''
"""Score reviews."""

import time

from tablevault.define import Table

reviews = Table("reviews", description="Scores of customer reviews")
SCALE = {"poor": 1, "fair": 2, "good": 3}


@reviews.index("number", "text", primary_key=["number"], return_type="generator")
def read_reviews():
    for number in range(40):
        yield number, f"{['poor', 'fair', 'good'][number % 3]} service, visit {number}" if number != 26 else "superb!"


@reviews.column()
def score(text):
    return SCALE[text.split()[0]]
'''

SIMULATION = '''
"""Long simulations."""

import time

from tablevault.define import Table, env

simulations = Table("simulations", description="Heat in a plate, by width")


@simulations.index("width", primary_key=["width"])
def width():
    return list(range(10, 410))


@simulations.column(arguments={"gate": env("PICTURES_GATE")}, untracked=["gate"])
def heat(width, gate):
    from pathlib import Path

    while width == 253 and not Path(gate).exists():
        time.sleep(0.05)
    return round(width ** 0.5 * 17.3, 2)
'''

_TERMS = (
    ("addition", "{} + {}", lambda a, b: a + b),
    ("division", "{} / {}", lambda a, b: a // b),
    ("powers", "{} to the power of {}", lambda a, b: a**b),
    ("roots", "root {1} of {0}", lambda a, b: round(a ** (1 / b))),
)


def questions() -> pd.DataFrame:
    """Return the questions of the evaluation."""
    rows = []
    for number in range(48):
        topic, text, solve = _TERMS[number % 4]
        one, other = 12 + number * 3, 2 + number % 3
        rows.append((number, topic, f"What is {text.format(one, other)}?", str(solve(one, other))))
    return pd.DataFrame(rows, columns=["number", "topic", "question", "expected"])


class PicturedVault:
    """Makes the vault; a run of it goes on until `close`.

    Parameters
    ----------
    folder
        An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._gate = folder / "gate"
        os.environ["PICTURES_GATE"] = str(self._gate)
        self.vault = vault = TableVault(
            folder / "arithmetic", author="ada", create=True, description="How well a model calculates"
        )
        evaluation = _written(folder / "evaluation.py", EVALUATION)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            vault.write("questions", questions(), primary_key="number", description="Forty-eight sums")
            vault.run(evaluation)
            vault.create_tag("meeting", description="As shown on Friday")
            evaluation.write_text(EVALUATION.replace("Answer briefly:", "Answer with the number only:").replace(
                "if number % 5 else", "if number % 9 else"))  # fmt: skip
            vault.run(evaluation, process_id="evaluation-2")
        with contextlib.suppress(KeyError):
            vault.run(_written(folder / "reviews.py", REVIEWS), process_id="reviews-friday")
        simulation = _written(folder / "simulations.py", SIMULATION)
        self._running = threading.Thread(target=vault.run, args=(simulation,), kwargs={"process_id": "heat-night-1"})
        self._running.start()
        self._wait_until_at_work()

    def close(self) -> None:
        """Let the run end."""
        self._gate.touch()
        self._running.join()

    def _wait_until_at_work(self) -> None:
        while True:
            active = self.vault.get_active_processes()
            if any(item.computed >= 243 for info in active.values() for item in info.progress.values()):
                return
            time.sleep(0.1)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
