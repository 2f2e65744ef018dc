"""A job of all return types and executors.

It records each computed row, and fails, sleeps and dies at random.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forking import append, opened_log, work_and_exit

from tablevault import TableVault

PROCESS = "nightly"
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)

CODE = """
import asyncio
import os
import random
import signal
import time
from pathlib import Path

import local_answer
import local_file
import texts

LOG = os.open(os.environ["JOB_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
CHANCE = random.Random(time.monotonic_ns())
FAILING, LONGEST_SECONDS = float(os.environ["JOB_FAILING"]), float(os.environ["JOB_LONGEST"])
OWNER = int(os.environ["JOB_OWNER"])  # Whose row it is that a worker interpreter computes.


def note(*words):
    os.write(LOG, (" ".join(map(str, words)) + "\\n").encode())


if os.getpid() == OWNER:
    note("begun", 0, time.monotonic(), OWNER)


def pause():
    return CHANCE.uniform(0, LONGEST_SECONDS) if CHANCE.random() < 0.97 else LONGEST_SECONDS * 10


def fail_at_random(x, chance=FAILING):
    if CHANCE.random() < chance:
        raise ConnectionError(f"no network for row {x}")


def work(builder, x):
    # What is replayed from its first row would else never come to its end.
    fail_at_random(x, FAILING / 20 if builder == "replayed" else FAILING)
    time.sleep(pause())
    note(builder, x, time.monotonic(), OWNER)


def frame_index(count):
    import pandas as pd  # Only here, so that worker interpreters start sooner.

    work("index", 0)
    return pd.DataFrame({"x": range(count)})


def replayed_index(count):
    for x in range(count):
        work("replayed", x)
        yield x


def continuing_index(frame, count):
    for x in range(len(frame), count):
        work("index", x)
        yield x


def answer(x):
    work("answer", x)
    return f"{x}-answer" + texts.of_answer() + local_answer.text()


def file(x, folder):
    (Path(folder) / f"{x}.txt").write_text(f"text {x}" + texts.of_file() + local_file.text())
    work("file", x)
    return f"{x}.txt"


def work_together(builder, x):
    for each in x:
        fail_at_random(each, FAILING / 5)
    time.sleep(pause())
    for each in x:
        note(builder, each, time.monotonic(), OWNER)


def scored(x):
    work_together("scored", x)
    return [f"{each}-scored" for each in x]


async def spoken(x):
    fail_at_random(x)
    await asyncio.sleep(pause())
    note("spoken", x, time.monotonic(), OWNER)
    return f"{x}-spoken"


class Judge:
    def __init__(self, mark):
        self.mark = mark

    def __call__(self, x):
        die_once(x)
        if x % 7 == 3:
            raise ValueError(f"row {x}")
        work("judged", x)
        return f"{x}-{self.mark}"


def die_once(x):
    mark = Path(os.environ["JOB_LOG"]).with_name(f"died-{x}")
    if os.getpid() != OWNER and x % 5 == 1 and CHANCE.random() < 0.5 and not mark.exists():
        mark.touch()
        note("died", 0, time.monotonic(), OWNER)
        os.kill(os.getpid(), signal.SIGKILL)


def followed(judged):
    work("followed", int(judged.partition("-")[0]))
    return judged.partition("-")[0] + "-followed"


def embedded(x):
    import numpy as np

    work("embedded", x)
    return np.full(48, x, dtype=np.float32)


def stacked(x):
    import numpy as np

    work_together("stacked", x)
    return np.array([np.full(48, each, dtype=np.float32) for each in x])


def whole(xs):
    import pandas as pd

    work("whole", 0)
    return pd.DataFrame({"whole": [f"{x}-whole" for x in xs["x"]]})


def filling(frame):
    for x in range(int(frame["filling"].notna().sum()), len(frame)):
        work("filling", x)
        yield f"{x}-filling"
"""

TEXTS = """
import typing


def of_answer():
    return "{of_answer}" + (Prompt.__doc__ or "") + str(typing.get_type_hints(Prompt)["field"].value)


class Prompt:
    \"\"\"{docstring}\"\"\"
    field: "Field"


class Field:
    value = "{annotation}"


def of_file():
    return "{of_file}"


def unrelated():
    return "{unrelated}"  # {comment}
"""
"""A code module beside the job's, of which each function reaches a part."""

LOCAL = {
    "local_answer": "from local_package import common\n\n\ndef text():\n    return '{local_answer}' + common.TEXT\n",
    "local_file": "def text():\n    return '{local_file}'\n",
    "local_package/__init__": "",
    "local_package/common": "from .deep import TEXT\n",
    "local_package/deep": "TEXT = '{local_common}'\n",
    "local_unused": "TEXT = '{unrelated}'\n",
}
"""Modules beside the vault, which count as whole files."""

READ_BY = {
    "answer": ("of_answer", "docstring", "annotation", "local_answer", "local_common"),
    "file": ("of_file", "local_file"),
}
"""For each builder the parts of the code that its cells are made of, in their order."""
PARTS = (*READ_BY["answer"], *READ_BY["file"], "unrelated", "comment")

INDEXES = {
    "dataframe": ("frame_index", "dataframe", ""),
    "replayed": ("replayed_index", "generator", ""),
    "continuing": ("continuing_index", "generator", "frame: <<self>>, "),
}

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
primary_key: [x]
python_function: {function}
code_module: job
is_custom: true
return_type: {return_type}
arguments: {{{frame}count: {rows}}}
"""

COLUMN = """
builder_type: ColumnBuilder
changed_columns: [{name}]
python_function: {name}
code_module: job
is_custom: true
return_type: {return_type}
n_threads: {threads}
arguments: {{{arguments}}}
"""

ROW = 'x: "<<self.x[index]>>"'

BATCH = 5
"""Rows of one call of `scored` and `stacked`."""

VECTOR = "vector<float32, 48>"

FURTHER = {
    "scored": {"scored": f"return_type: batch\nbatch_size: {BATCH}\nretry: {{max_retries: 1, wait: 0}}"},
    "spoken": {"spoken": "return_type: row-wise\nmax_concurrency: 4"},
    "judged": {
        "judged": "return_type: row-wise\non_error: collect\nstop_on: [ConnectionError]\nmax_failures: 50%\n"
        "setup_arguments: {mark: judged}",
        "followed": "return_type: row-wise",
    },
    "vectors": {
        "embedded": f'return_type: row-wise\ndtypes: {{embedded: "{VECTOR}"}}',
        "stacked": f'return_type: batch\nbatch_size: {BATCH}\ndtypes: {{stacked: "{VECTOR}"}}',
    },
}
"""Policies of further builders, some of which each job has."""

FURTHER_COLUMN = """
builder_type: ColumnBuilder
changed_columns: [{name}]
python_function: {function}
code_module: job
is_custom: true
{policies}
arguments: {{{arguments}}}
"""


@dataclass
class Texts:
    """What the code's parts say at one time; nothing at first."""

    parts: dict[str, str] = field(default_factory=lambda: dict.fromkeys(PARTS, ""))

    def edit(self, folder: Path, chance: random.Random) -> None:
        """Change one part, and write what it stands in, as an editor does."""
        part = chance.choice(PARTS)
        self.parts[part] = chance.choice(["", f"-{part}1", f"-{part}2"])
        self.write(folder)

    def write(self, folder: Path) -> None:
        """Write the modules of the vault, and the local ones beside it."""
        written = {folder / "code_functions" / "texts.py": TEXTS}
        written |= {folder.parent / "local" / f"{name}.py": text for name, text in LOCAL.items()}
        for path, text in written.items():
            path.parent.mkdir(exist_ok=True, parents=True)
            filled = text.format(**self.parts)
            if not path.exists() or path.read_text() != filled:
                path.write_text(filled)

    def read_by(self, builder: str) -> str:
        """Return what a cell of a builder ends with."""
        return "".join(self.parts[part] for part in READ_BY[builder])


@dataclass(frozen=True)
class Job:
    """One shape of the job, drawn from a seed."""

    rows: int
    index: str
    threads: int
    failing: float
    longest: float
    """Of the pauses that rows make, in seconds."""
    further: str
    """Which of the further builders there are."""
    in_workers: bool
    """Whether rows of `judged` are computed by worker interpreters."""

    @classmethod
    def drawn(cls, chance: random.Random) -> Job:
        """Draw one."""
        threads = chance.choice([1, 1, 4])
        return cls(
            rows=chance.randint(20, 90),
            index=chance.choice(list(INDEXES)),
            threads=threads,
            failing=chance.choice([0, 0.05, 0.2, 0.3]),
            longest=chance.choice([0.0005, 0.002, 0.004]) * (2 if threads > 1 else 1),
            further=chance.choice(list(FURTHER)),
            in_workers=chance.random() < 0.3,
        )

    @property
    def most_in_flight(self) -> int:
        """Rows that may be computed and not kept when an interrupt comes."""
        return max(self.threads, {"scored": BATCH, "spoken": 4, "judged": 2, "vectors": BATCH}[self.further])

    def is_failed(self, builder: str, x: int) -> bool:
        """Return whether a row has no cell."""
        return builder in ("judged", "followed") and x % 7 == 3

    def create(self, folder: Path) -> None:
        """Make the vault with the job, ready to be executed."""
        vault = TableVault(folder, create=True, author="a")
        vault.create_code_module("job", text=CODE)
        Texts().write(folder)
        vault.create_table("made")
        vault.create_instance("made", builders=self._builders())

    def _builders(self) -> dict[str, str]:
        function, return_type, frame = INDEXES[self.index]
        index = INDEX.format(function=function, return_type=return_type, frame=frame, rows=self.rows)
        return {
            "made_index": index,
            "answer": self._column("answer", "row-wise", ROW),
            "file": self._column("file", "row-wise", f"{ROW}, folder: ~ARTIFACT_FOLDER~")
            + "dtypes: {file: artifact_string}\n",
            "whole": self._column("whole", "dataframe", "xs: <<self.x>>"),
            "filling": self._column("filling", "generator", "frame: <<self>>"),
            **{name: self._further_column(name, policies) for name, policies in FURTHER[self.further].items()},
        }

    def _further_column(self, name: str, policies: str) -> str:
        if name == "judged" and self.in_workers:
            policies += "\nexecutor: processes\nmax_concurrency: 2"
        function = "Judge" if name == "judged" else name
        arguments = 'judged: "<<self.judged[index]>>"' if name == "followed" else ROW
        return FURTHER_COLUMN.format(name=name, function=function, policies=policies, arguments=arguments)

    def _column(self, name: str, return_type: str, arguments: str) -> str:
        threads = self.threads if return_type == "row-wise" else 1
        return COLUMN.format(name=name, return_type=return_type, threads=threads, arguments=arguments)

    def prepare(self, folder: Path, log: Path) -> None:
        """Let this interpreter run the job's functions."""
        told = {"LOG": log, "FAILING": self.failing, "LONGEST": self.longest, "OWNER": os.getpid()}
        os.environ.update({f"JOB_{name}": str(value) for name, value in told.items()})
        sys.path.insert(0, str(folder.parent / "local"))

    def expected(self) -> dict[str, list[object]]:
        """Return the columns that an undisturbed run gives."""
        count = range(self.rows)
        made = {
            name: [self._expected_cell(name, x) for x in count]
            for name in ("answer", "whole", "filling", *FURTHER[self.further])
        }
        return {"x": list(count), "file": [f"{x}.txt" for x in count], **made}

    def _expected_cell(self, builder: str, x: int) -> object:
        if self.is_failed(builder, x):
            return None
        return [float(x)] * 48 if builder in FURTHER["vectors"] else f"{x}-{builder}"

    def expected_errors(self) -> list[tuple[str, int, str]]:
        """Return builder, row and kind of each failed or skipped row of an undisturbed run."""
        kinds = {"judged": "failed", "followed": "skipped"}
        return sorted(
            (name, x, kinds[name])
            for name in FURTHER[self.further]
            for x in range(self.rows)
            if self.is_failed(name, x)
        )


def attempt(folder: Path, log: Path, job: Job, restarting: bool) -> None:
    """Take the job up again and again, whatever its functions raise, until it is done.

    Runs in a fork, or in a fresh interpreter; both are born with interrupts blocked.
    """
    job.prepare(folder, log)
    descriptor = opened_log(log)
    threading.Thread(target=_beat, args=(folder.parent / f"beats-{os.getpid()}", descriptor), daemon=True).start()
    while True:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)
            if _taken_up(folder, restarting):
                append(descriptor, "done", 0, time.monotonic(), os.getpid())
                return
            append(descriptor, "paused", 0, time.monotonic(), os.getpid())
        except (KeyboardInterrupt, SystemExit):
            append(descriptor, "interrupted", 0, time.monotonic(), os.getpid())


def _taken_up(folder: Path, restarting: bool) -> bool:
    vault = TableVault(folder, author="a", restart=restarting)
    try:
        vault.execute_instance("made", process_id=PROCESS)
    except ConnectionError:
        return False
    return True


def _beat(path: Path, log: int) -> None:
    """Write and fsync a byte every 50 ms, like checkpoints.

    Records the begin of each.
    """
    descriptor = opened_log(path)
    while True:
        time.sleep(0.05)
        begun = time.monotonic()
        os.write(descriptor, b".")
        os.fsync(descriptor)
        append(log, "beat", 0, begun, os.getpid())


def attempt_afresh(request: dict[str, Any]) -> None:
    """Make an attempt in this interpreter, which was started for it."""
    os.write(request["begun"], b".")
    os.set_inheritable(request["begun"], False)
    log = Path(request["log"])
    append(opened_log(log), "fresh", 0, time.monotonic(), os.getpid())
    attempt(Path(request["folder"]), log, Job(**request["job"]), request["restarting"])


if __name__ == "__main__":
    work_and_exit(lambda: attempt_afresh(json.loads(sys.argv[1])))
