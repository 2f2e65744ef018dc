"""An interpreter that starts command lines in copies of itself.

All of them start at the same moment.

    python starting.py

It reads lines of JSON: a folder, the words of a command line, and how many copies run it. For each copy, as it ends, it
writes a line with its exit status and what it said on standard error. A copy has the modules already, so that thousands
of them can be started, and comes to the vault sooner after the start than a new interpreter would.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import tablevault.cli
from tablevault import operations
from tablevault.freshness import run  # noqa: F401 - imported before the copies are made
from tablevault.reading import queries  # noqa: F401

operations.load()


def copy(folder: Path, words: list[str], number: int, starting: int) -> int:
    """Start a copy that waits for a byte from the pipe `starting`; return its process number."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.chdir(folder)
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"started-{number}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        sys.argv = ["tablevault", *words]
        os.read(starting, 1)
        try:
            tablevault.cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def main() -> None:
    """Serve until standard input is closed."""
    for line in sys.stdin:
        folder, words, count = json.loads(line)
        starting, begin = os.pipe()
        numbers = {}
        for number in range(count):
            numbers[copy(Path(folder), words, number, starting)] = number
        os.close(starting)
        for _ in range(count):
            os.write(begin, b".")
        os.close(begin)
        while numbers:
            child, status = os.wait()
            said = Path(folder, f"started-{numbers.pop(child)}.err").read_text()
            sys.stdout.write(json.dumps([os.waitstatus_to_exitcode(status), said]) + "\n")
            sys.stdout.flush()


main()
