"""Structural metrics of the package, statically and at run time.

`make structure` prints them as one table.

Metrics:

- *files*, *functions*, *depth* of a main path: number of files and functions of the package that a call enters, and its
  maximum stack depth in any thread;
- *once-called*: private functions and methods with exactly one reference, out of all functions;
- *imports*: number of the package's modules that a module imports, as the 95th percentile;
- *top level*: number of modules and packages directly inside the package.
"""

from __future__ import annotations

import ast
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pandas as pd

import tablevault
from tablevault import TableVault

PACKAGE = Path(tablevault.__file__).parent

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: create_data_table_from_list
code_module: table_generation
arguments: {vals: [1, 2, 3, 4]}
"""
COLUMN = """
builder_type: ColumnBuilder
changed_columns: [y]
python_function: answer
code_module: answers
is_custom: true
return_type: row-wise
arguments: {x: "<<self.x[index]>>"}
"""


@dataclass
class Entered:
    """What of the package a call enters."""

    codes: set[CodeType] = field(default_factory=set)
    depth: int = 0

    def __enter__(self) -> Entered:
        threading.setprofile(self._see)
        sys.setprofile(self._see)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    @property
    def files(self) -> int:
        """How many files."""
        return len({code.co_filename for code in self.codes})

    @property
    def functions(self) -> int:
        """How many functions; comprehensions and class bodies are part of what they stand in."""
        return sum(code.co_name == "<lambda>" or not code.co_name.startswith("<") for code in self.codes)

    def _see(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not _is_ours(frame.f_code):
            return
        self.codes.add(frame.f_code)
        depth, above = 0, frame
        while above is not None:
            depth += _is_ours(above.f_code)
            above = above.f_back  # type: ignore[assignment]
        self.depth = max(self.depth, depth)


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(str(PACKAGE))


def entered(prepare: Callable[[TableVault], object], call: Callable[[TableVault], object]) -> Entered:
    """Return what a call enters in a vault that is prepared for it."""
    with tempfile.TemporaryDirectory() as folder:
        # Everything is imported, and every cache filled, by a first vault.
        for name in ("first", "second"):
            vault = TableVault(f"{folder}/{name}", author="a", create=True)
            prepare(vault)
            with Entered() as seen:
                call(vault)
        return seen


def _with_builders(vault: TableVault) -> None:
    vault.create_code_module("answers", text="def answer(x):\n    return x\n")
    vault.create_table("t")
    vault.create_instance("t", builders={"t_index": INDEX, "y": COLUMN})


def _with_frame(vault: TableVault) -> None:
    vault.write("t", pd.DataFrame({"x": [1, 2, 3]}))


def _waiting(vault: TableVault) -> None:
    vault.create_table("t")
    vault.create_instance("t", external_edit=True)


PATHS: dict[str, tuple[Callable[[TableVault], object], Callable[[TableVault], object]]] = {
    "execute_instance, 2 builders, 4 rows": (_with_builders, lambda vault: vault.execute_instance("t")),
    "plan_instance, the same": (_with_builders, lambda vault: vault.plan_instance("t")),
    "create_table": (lambda vault: None, lambda vault: vault.create_table("t")),
    "write_instance, 3 rows": (_waiting, lambda vault: vault.write_instance(pd.DataFrame({"x": [1, 2, 3]}), "t")),
    "get_dataframe": (_with_frame, lambda vault: vault.get_dataframe("t")),
}


# --- the source ------------------------------------------------------------------------------------------------------


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield the modules of the package with their dotted names and syntax trees."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), ast.parse(path.read_text())


def once_called() -> tuple[int, int]:
    """Return the number of once-called private functions, and of all functions.

    A once-called function is named in exactly one place.
    """
    defined: Counter[str] = Counter()
    named: Counter[str] = Counter()
    total = 0
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                total += 1
                if node.name.startswith("_") and not node.name.startswith("__") and not node.decorator_list:
                    defined[node.name] += 1
            elif isinstance(node, ast.Name):
                named[node.id] += 1
            elif isinstance(node, ast.Attribute):
                named[node.attr] += 1
    once = sum(count for name, count in defined.items() if named[name] == count)
    return once, total


def imports() -> list[int]:
    """Return for each module how many others of the package it imports, fewest first."""
    known = {name for name, _ in trees()}
    counts = []
    for name, tree in trees():
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} & known
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names} & known
        counts.append(len(found - {name, "tablevault"}))
    return sorted(counts)


def percentile(ordered: list[int], share: float) -> int:
    """Return the smallest value that so large a share of the values does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def top_level() -> int:
    """Return how many modules and packages stand directly inside the package."""
    names = [path.name for path in PACKAGE.iterdir()]
    return sum(name.endswith(".py") or (PACKAGE / name / "__init__.py").is_file() for name in names)


def main() -> None:
    """Print the table."""
    print("| path | files | functions | depth |\n|---|---|---|---|")
    for name, (prepare, call) in PATHS.items():
        seen = entered(prepare, call)
        print(f"| {name} | {seen.files} | {seen.functions} | {seen.depth} |")
    once, total = once_called()
    sizes = [len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")]
    print("\n| source | |\n|---|---|")
    print(f"| private functions named once, of all functions | {once} of {total:,}, {once / total:.0%} |")
    print(f"| imports of a module, 95th percentile | {percentile(imports(), 0.95)} |")
    print(f"| modules and packages at the top level | {top_level()} |")
    print(f"| files, lines, largest file | {len(sizes)}, {sum(sizes):,}, {max(sizes)} |")


if __name__ == "__main__":
    main()
