"""One interpreter that gives hostile input to a target.

Coverage of TableVault guides it where atheris is installed.

Started by `fuzzing`; counts its tries in a file, and writes each input that does harm into another.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import mmap
import random
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

INSTRUMENTED = [
    "tablevault.references",
    "tablevault.builders.document",
    "tablevault.builders.spec",
    "tablevault.archiving.unpacking",
]
INSTRUMENTED += [
    "tablevault.storage",
    "tablevault.catalog",
    "tablevault.reading.lineage",
    "tablevault.reading.queries",
    "tablevault.reading.inspection",
    "tablevault.presentation",
    "tablevault.web",
    "tablevault.mcp",
    "tablevault.sql_engine",
]
SLOWEST = 60
"""Seconds that one case may take."""
MAXIMUM_MEMORY = 6 << 30
MAXIMUM_LENGTH = {
    "references": 120,
    "builders": 1_000,
    "archives": 200,
    "vaults": 100,
    "requests": 100,
    "calls": 100,
    "statements": 100,
    "statements-of-user": 100,
}


class Tries:
    """What one worker has tried, for who started it to see."""

    def __init__(self, folder: Path, make_target: Callable[[], Any]) -> None:
        (folder / "count").write_bytes(bytes(8))
        with (folder / "count").open("r+b") as file:
            self._count = mmap.mmap(file.fileno(), 8)
        self._violations = (folder / "violations").open("a")
        # It may go on as another user, who cannot open these files.
        self._target = make_target()
        self._number = 0

    def __call__(self, data: bytes) -> None:
        self._number += 1
        self._count[:] = struct.pack("<Q", self._number)
        problem = self._target(bytes(data))
        if problem:
            self._violations.write(json.dumps([data.hex(), problem]) + "\n")
            self._violations.flush()


def main() -> None:
    request = json.loads(sys.argv[1])
    folder = Path(request["folder"])
    resource.setrlimit(resource.RLIMIT_AS, (MAXIMUM_MEMORY, MAXIMUM_MEMORY))
    guided = importlib.util.find_spec("atheris") is not None
    with _instrumented() if guided else contextlib.nullcontext():
        targets = importlib.import_module("hostile_targets")
    name = request["target"]
    sandbox = folder / "sandbox"
    sandbox.mkdir()
    tries = Tries(folder, lambda: targets.TARGETS[name](targets.Sandbox(sandbox)))
    if guided:
        _guided(request, folder, tries)
    else:
        _random(request, targets.seeds(name), tries)


@contextlib.contextmanager
def _instrumented() -> Iterator[None]:
    import atheris

    # All else first: what they import is not ours, and would only be slower.
    for module in (
        "pandas",
        "pyarrow.parquet",
        "sqlalchemy",
        "pydantic",
        "yaml",
        "rich.tree",
        "starlette",
        "jinja2",
        "duckdb",
    ):
        importlib.import_module(module)
    with atheris.instrument_imports(include=INSTRUMENTED):
        yield


def _guided(request: dict[str, Any], folder: Path, tries: Tries) -> None:
    import atheris

    limits = [f"-runs={request['tries']}", f"-max_total_time={max(1, int(request['seconds']))}"]
    limits += [f"-timeout={SLOWEST}", f"-max_len={MAXIMUM_LENGTH[request['target']]}", "-rss_limit_mb=4096"]
    corpus = folder / "corpus"
    corpus.mkdir()
    arguments = [f"-seed={request['seed'] + 1}", f"-artifact_prefix={folder}/crash-", "-verbosity=0", str(corpus)]
    kept = importlib.import_module("hostile_targets").corpus(request["target"])
    atheris.Setup([sys.argv[0], *limits, *arguments, str(kept)], tries)
    atheris.Fuzz()


def _random(request: dict[str, Any], seeds: list[bytes], tries: Tries) -> None:
    from hostile_mutations import mutate_bytes

    choice = random.Random(request["seed"])
    end = time.monotonic() + request["seconds"]
    for _ in range(request["tries"]):
        if time.monotonic() > end:
            break
        signal.alarm(SLOWEST)
        tries(mutate_bytes(choice.choice(seeds), choice)[: MAXIMUM_LENGTH[request["target"]]])
        signal.alarm(0)


if __name__ == "__main__":
    main()
