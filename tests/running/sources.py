"""A definitions file whose functions record calls.

They fail, hold and die on request.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from waiting import PATIENCE

from tablevault import TableVault

TEXT = '''
"""Questions, answers and words."""
import os
import time
from pathlib import Path

from tablevault.define import Table

HERE = Path({folder!r})
LOG = os.open(HERE / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

questions = Table("questions")
answers = Table("answers")
words = Table("words")


def note(*words):
    os.write(LOG, (" ".join(map(str, words)) + "\\n").encode())


note("import", os.getpid(), 0)


def act(name, x):
    """Fail, or hold, where the test says so; then note the call."""
    if (HERE / f"fail-{{name}}-{{x}}").exists():
        raise ConnectionError(f"no {{name}} for {{x}}")
    while (HERE / f"hold-{{name}}-{{x}}").exists():
        time.sleep(0.01)
    note(name, x, time.monotonic())


@questions.index(primary_key=["x"])
def x(count={rows}):
    while (HERE / "hold-x-0").exists():
        time.sleep(0.01)
    note("x", 0, time.monotonic())
    return list(range(count))


@questions.column()
def question(x):
    act("question", x)
    return f"q{{x}}"


answers.index(rows_of="questions")


@answers.column(retry=0, arguments={{"style": "one"}})
def answer(x, question, style):
    act("answer", x)
    return f"{{question}} {{style}}"


words.index("x", rows_of="answers")


@words.column("count", arguments={{"answer": "<<answers.answer[x::<<self.x[index]>>]>>"}})
def counted(answer):
    act("count", (answer or "q?").partition(" ")[0][1:])
    return len((answer or "").split())
'''


class Source:
    """A definitions file in a folder of its own, with the vault beside it.

    Parameters
    ----------
    folder
        The folder, which is made.
    rows
        Rows of each of its three tables.
    """

    def __init__(self, folder: Path, rows: int = 6) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.file = folder / "answers.py"
        self.vault = folder / "vault"
        self.rows = rows
        self.file.write_text(TEXT.format(folder=str(folder), rows=rows).lstrip())

    def edit(self, old: str, new: str) -> None:
        """Replace a part of the file."""
        text = self.file.read_text()
        assert text.count(old) == 1, old
        self.file.write_text(text.replace(old, new))

    def tell(self, what: str, name: str, x: object) -> Path:
        """Make the function of a column `fail` or `hold` for a row.

        Removing the returned file ends this.
        """
        path = self.folder / f"{what}-{name}-{x}"
        path.touch()
        return path

    def calls(self) -> Counter[tuple[str, str]]:
        """Return how often each function returned for each row."""
        return Counter((name, x) for name, x, _ in self.log() if name != "import")

    def log(self) -> list[list[str]]:
        """Return what was noted, in order."""
        path = self.folder / "log"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def forget(self) -> None:
        """Forget what was noted."""
        os.truncate(self.folder / "log", 0)

    def command(self, *words: object, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end."""
        return subprocess.run(
            [sys.executable, "-m", "tablevault.cli", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=self.folder,
            **options,  # type: ignore[call-overload]
        )

    def start(self) -> subprocess.Popen[str]:
        """Start `tablevault run` of the file."""
        return subprocess.Popen(
            [sys.executable, "-m", "tablevault.cli", "run", str(self.file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )

    def check_end(self, vault: TableVault) -> None:
        """Check that the vault is as after an undisturbed run."""
        assert vault.get_active_processes() == {}
        for table in ("questions", "answers", "words"):
            assert len(vault.get_table_instances(table, include_temp=True)) == 1, table
        count = range(self.rows)
        assert vault.read("questions")["question"].tolist() == [f"q{x}" for x in count]
        assert vault.read("answers")["answer"].tolist() == [f"q{x} one" for x in count]
        assert vault.read("words")["count"].tolist() == [2] * self.rows
        assert vault.verify().problems == ()
