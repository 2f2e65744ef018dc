"""A job that fails, holds and counts on request.

It runs in this interpreter and in others.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
from waiting import PATIENCE, until

import tablevault
from tablevault import TableVault

CODE = """
import os
import signal
import time
from pathlib import Path

import pandas as pd


def index(count):
    return pd.DataFrame({"x": range(count)})


def note(control, name, text):
    descriptor = os.open(f"{control}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{text}\\n".encode())
    os.close(descriptor)


def is_told(control, name, x):
    path = Path(control) / name
    try:
        return str(x) in path.read_text().split()
    except FileNotFoundError:
        return False


def answer(x, control):
    note(control, "called", x)
    if is_told(control, "fail", x):
        try:
            {}["nothing"]
        except KeyError:
            raise RuntimeError(f"no answer for {x}")
    while is_told(control, "hold", x):
        note(control, "held", x)
        time.sleep(0.01)
    if is_told(control, "signal", x):
        os.kill(os.getpid(), int((Path(control) / "number").read_text()))
        time.sleep(20)
    note(control, "returned", x)
    return f"{x}-ok"
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: index
code_module: jobs
is_custom: true
primary_key: [x]
arguments: {{count: {count}}}
"""

ANSWER = """
builder_type: ColumnBuilder
changed_columns: [answer]
python_function: answer
code_module: jobs
is_custom: true
return_type: row-wise
n_threads: {threads}
arguments: {{x: "<<self.x[index]>>", control: "{control}"}}
"""

OPENING = """
import os, signal, sys, threading, time, warnings
from tablevault import TableVault, tv_errors
"""

OPENED = """
vault = TableVault({path!r}, author="grace", lock_timeout=2.0)
"""


class Job:
    """The table `stories`, and the files through which its function is told what to do."""

    def __init__(self, vault: TableVault, folder: Path, count: int = 10, threads: int = 1) -> None:
        self.vault = vault
        self.path = folder / "vault"
        self.control = folder / "control"
        self.control.mkdir(exist_ok=True)
        vault.create_code_module("jobs", text=CODE)
        vault.create_table("stories")
        vault.create_instance("stories")
        self.build(count, threads)

    def build(self, count: int = 10, threads: int = 1) -> None:
        """Write the builders."""
        self.vault.create_builder_file("stories", text=INDEX.format(count=count))
        text = ANSWER.format(threads=threads, control=self.control)
        self.vault.create_builder_file("stories", "answer", text=text)

    def execute(self, process_id: str = "", **options: object) -> str:
        """Execute the instance."""
        return self.vault.execute_instance("stories", process_id=process_id, **options)

    # --- telling the function what to do ---

    def tell(self, what: str, *rows: object) -> None:
        """Make these rows `fail`, `hold` or `signal`.

        Without rows, the request is withdrawn.
        """
        (self.control / "new").write_text(" ".join(map(str, rows)))
        (self.control / "new").rename(self.control / what)

    def signal_at(self, row: int, number: signal.Signals) -> None:
        """Let the function send its own interpreter a signal at a row."""
        (self.control / "number").write_text(str(int(number)))
        self.tell("signal", row)

    def noted(self, what: str) -> list[int]:
        """Return the rows that were `called`, `held` or `returned`, in order."""
        path = self.control / what
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def forget(self) -> None:
        """Forget what was noted."""
        for what in ("called", "held", "returned"):
            (self.control / what).unlink(missing_ok=True)

    # --- other interpreters ---

    def interpreter(self, text: str) -> subprocess.Popen[str]:
        """Start another interpreter that has opened the vault as `vault` and runs this text."""
        return self.bare_interpreter(OPENED.format(path=str(self.path)) + text)

    def bare_interpreter(self, text: str, first: str = "") -> subprocess.Popen[str]:
        """Start another interpreter that runs this text.

        It has not opened a vault; `first` runs before it imports TableVault.
        """
        source = str(Path(tablevault.__file__).parents[1])
        return subprocess.Popen(
            [sys.executable, "-c", first + OPENING + text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": source, "PYTHONWARNINGS": ""},
        )

    def run(self, text: str) -> Ended:
        """Run a text in another interpreter to its end."""
        return ended(self.interpreter(text))

    def killed_at(self, row: int, process_id: str = "") -> None:
        """Let another interpreter execute, and be killed inside a row."""
        self.tell("hold", row)
        other = self.interpreter(f"vault.execute_instance('stories', process_id={process_id!r})")
        until(lambda: row in self.noted("held"), other)
        other.kill()
        assert ended(other).status == -signal.SIGKILL
        self.tell("hold")

    # --- what is there ---

    def answers(self, **options: object) -> list[object]:
        """Return the column `answer` of the newest instance, or of another."""
        frame, _ = self.vault.get_dataframe("stories", **options)
        return [None if pd.isna(value) else value for value in frame["answer"]]

    def complete(self, count: int = 10) -> list[str]:
        """Return the column as it has to be in the end."""
        return [f"{x}-ok" for x in range(count)]


class Ended:
    """What an interpreter left."""

    def __init__(self, status: int, output: str, errors: str) -> None:
        self.status = status
        self.output = output
        self.errors = errors


def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for an interpreter's end."""
    output, errors = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, output, errors)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return every file of a vault with its content.

    The log, the catalog's own files and `partial/` are left out.
    """
    own = re.compile(r"metadata/(catalog\.db.*|logs\.txt.*|owners/.*|worker_logs/.*)|.*/partial(/.*)?")
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not own.fullmatch(name):
            found[name] = path.read_bytes() if path.is_file() else None
    return found
