"""Resources after heavy use.

Descriptors, threads, memory and `_temp` return to their initial values.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
from experiment import Budget, Figures, Violation, Watch

from tablevault import TableVault

CODE = """
from pathlib import Path

import pandas as pd


def names(count):
    return pd.DataFrame({"name": [f"{n // 1000}/{n}.txt" for n in range(count)]})


def draw(name, folder):
    path = Path(folder, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(name)
    return name
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [name]
python_function: names
code_module: drawing
is_custom: true
arguments: {{count: {count}}}
"""

DRAW = """
builder_type: ColumnBuilder
changed_columns: [file]
dtypes: {file: artifact_string}
python_function: draw
code_module: drawing
is_custom: true
return_type: row-wise
arguments: {name: "<<self.name[index]>>", folder: ~ARTIFACT_FOLDER~}
"""

VECTOR_CODE = """
import numpy as np
import pandas as pd


def numbers(count):
    return pd.DataFrame({"n": range(count)})


def embed(n):
    return np.full(768, n, dtype=np.float32)
"""

NUMBERS = """
builder_type: IndexBuilder
changed_columns: [n]
python_function: numbers
code_module: embedding
is_custom: true
arguments: {{count: {count}}}
"""

EMBED = """
builder_type: ColumnBuilder
changed_columns: [vector]
dtypes: {vector: "vector<float32, 768>"}
python_function: embed
code_module: embedding
is_custom: true
return_type: row-wise
arguments: {n: "<<self.n[index]>>"}
"""

MAXIMUM_MEMORY_LEFT = 300 << 20
"""Bytes that may stay: allocators cannot return a page of which a part is in use."""


@dataclass(frozen=True)
class Amounts:
    """The amounts of everything."""

    artifacts: int = 100_000
    instances: int = 10_000
    tables: int = 1_000
    frame_bytes: int = 2_000_000_000
    open_vaults: int = 500
    vectors: int = 100_000


@dataclass(frozen=True)
class Held:
    """What this interpreter holds at one moment."""

    descriptors: int
    threads: int
    memory: int

    @classmethod
    def now(cls) -> Held:
        """Count when garbage is gone, ending threads have ended, and allocators hold no free memory."""
        process = psutil.Process()
        end = time.monotonic() + 10
        while True:
            gc.collect()
            pa.default_memory_pool().release_unused()
            _return_free_memory()
            held = cls(len(os.listdir("/proc/self/fd")), threading.active_count(), process.memory_info().rss)
            if held.threads == 1 or time.monotonic() > end:
                return held
            time.sleep(0.05)

    def growth_since(self, before: Held) -> str:
        """Return what has become more, or nothing."""
        found = []
        # One pool of connections may stay open as long as the vault is.
        if self.descriptors > before.descriptors:
            found.append(f"{self.descriptors - before.descriptors} descriptors are left open")
        if self.threads > before.threads:
            found.append(f"{self.threads - before.threads} threads go on")
        if self.memory > before.memory + MAXIMUM_MEMORY_LEFT:
            found.append(f"{(self.memory - before.memory) >> 20} MB stay in memory")
        return "; ".join(found)


class Resources:
    """Heavy uses of one vault, one after the other.

    Each must leave nothing behind.
    """

    code = "resources"
    title = (
        "100,000 artifacts, 10,000 instances, 1,000 tables, a frame of 2 GB, 500 open vault objects, "
        "100,000 vectors of 768 numbers"
    )
    unit = "kinds of load"
    target = 6
    minutes = 20.0

    def __init__(self, amounts: Amounts | None = None) -> None:
        self._amounts = amounts or Amounts()
        self._seconds = 0.0

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Do all of it, one after the other."""
        end = time.monotonic() + budget.seconds
        figures = Figures()
        for name in self._kinds():
            if time.monotonic() > end:
                break
            self._seconds = 0.0
            problem = self.repeat({"kind": name})
            violations = [Violation({"kind": name}, problem)] if problem else []
            figures += Figures(1, violations, {name: self._duration(name)})
            watch(figures)
        return figures

    def repeat(self, case: dict[str, Any]) -> str:
        """Do one of it in a vault of its own; say what it leaves behind."""
        root = Path(tempfile.mkdtemp(prefix="tablevault-resources-"))
        try:
            folder = root / "vault"
            TableVault(folder, author="ada", create=True).create_table("warm")
            self._warm_up(root / "warm")
            before = Held.now()
            begun = time.monotonic()
            self._kinds()[case["kind"]](folder)
            self._seconds = time.monotonic() - begun
            problem = Held.now().growth_since(before)
            left = [path.name for path in (folder / "_temp").iterdir()]
            report = TableVault(folder).verify() if case["kind"] != "frame" else None
            problems = [problem, f"_temp holds {left}" if left else "", str(report) if report and not report.ok else ""]
            return "; ".join(filter(None, problems))
        finally:
            for place, _, _ in os.walk(root):
                os.chmod(place, 0o755)
            shutil.rmtree(root)

    def _warm_up(self, folder: Path) -> None:
        """Use everything a little.

        Modules and caches that are loaded once must not count as leftovers.
        """
        TableVault(folder, author="ada", create=True)
        small = Resources(Amounts(3, 2, 2, 1_000, 2, 3))
        for kind in small._kinds().values():
            kind(folder)

    def _kinds(self) -> dict[str, Callable[[Path], None]]:
        return {
            "artifacts": self._make_artifacts,
            "instances": self._make_instances,
            "tables": self._make_tables,
            "frame": self._make_frame,
            "open vaults": self._open_vaults,
            "vectors": self._make_vectors,
        }

    def _duration(self, kind: str) -> str:
        """Return the time of the last use, and the time of each of its objects where there are many."""
        objects = {
            "artifacts": self._amounts.artifacts,
            "instances": self._amounts.instances,
            "tables": self._amounts.tables,
            "vectors": self._amounts.vectors,
        }
        if kind not in objects:
            return f"{self._seconds:.0f} s"
        return f"{self._seconds:.0f} s ({self._seconds / objects[kind] * 1000:.2g} ms each)"

    def _make_artifacts(self, folder: Path) -> None:
        vault = TableVault(folder, author="ada")
        vault.create_code_module("drawing", text=CODE)
        vault.create_table("drawings")
        index = INDEX.format(count=self._amounts.artifacts)
        vault.create_instance("drawings", builders={"drawings_index": index, "draw": DRAW})
        vault.execute_instance("drawings")
        assert len(vault.get_dataframe("drawings")[0]) == self._amounts.artifacts

    def _make_vectors(self, folder: Path) -> None:
        vault = TableVault(folder, author="ada")
        vault.create_code_module("embedding", text=VECTOR_CODE)
        vault.create_table("vectors")
        index = NUMBERS.format(count=self._amounts.vectors)
        vault.create_instance("vectors", builders={"vectors_index": index, "embed": EMBED})
        vault.execute_instance("vectors")
        frame, _ = vault.get_dataframe("vectors")
        assert all((vector == n).all() for n, vector in zip(frame["n"], frame["vector"], strict=True))

    def _make_instances(self, folder: Path) -> None:
        vault = TableVault(folder, author="ada")
        vault.create_table("many")
        frame = pd.DataFrame({"n": [1]})
        for _ in range(self._amounts.instances):
            vault.create_instance("many", external_edit=True)
            vault.write_instance(frame, "many")
        assert len(vault.get_table_instances("many")) == self._amounts.instances

    def _make_tables(self, folder: Path) -> None:
        vault = TableVault(folder, author="ada")
        before = len(vault.get_tables())
        for number in range(self._amounts.tables):
            vault.create_table(f"table{number}")
        assert len(vault.get_tables()) == before + self._amounts.tables

    def _make_frame(self, folder: Path) -> None:
        vault = TableVault(folder, author="ada")
        vault.create_table("large")
        vault.create_instance("large", external_edit=True)
        rows = self._amounts.frame_bytes // 32
        numbers = np.random.default_rng(1).standard_normal((rows, 4))
        vault.write_instance(pd.DataFrame(numbers, columns=list("abcd"), copy=False), "large")
        del numbers
        frame, _ = vault.get_dataframe("large")
        assert len(frame) == rows

    def _open_vaults(self, folder: Path) -> None:
        vaults = [TableVault(folder, author=f"user{number}") for number in range(self._amounts.open_vaults)]
        assert len({tuple(vault.get_tables()) for vault in vaults}) == 1


def _return_free_memory() -> None:
    """Let the allocator of the C library return its free memory, which it keeps for a next use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
    if trim is not None:
        trim(0)
