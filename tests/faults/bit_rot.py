"""R10, stored files with flipped or missing bytes.

Every read gives the right content or a named error.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from experiment import Budget, Figures, Watch
from hostile_vaults import ReceivedVault, write
from side_by_side import Case, Tried, Trier, try_all

from tablevault import TableVault, TableVaultError

KINDS: dict[str, str] = {
    "marker": ".tablevault",
    "description": "description.yaml",
    "description of a table": "plain/description.yaml",
    "catalog": "metadata/catalog.db",
    "log": "metadata/logs.txt",
    "frame": "pictures/base_*/table.parquet",
    "frame with categories": "plain/base_*/table.parquet",
    "fingerprints": "pictures/base_*/fingerprints.parquet",
    "records of artifacts": "pictures/base_*/artifacts.parquet",
    "provenance": "pictures/base_*/provenance.json",
    "manifest": "pictures/base_*/manifest.json",
    "builder": "pictures/base_*/builders/draw.yaml",
    "code": "pictures/base_*/code/drawing.py",
    "artifact": "pictures/base_*/artifacts/1.txt",
    "description of an instance": "pictures/base_*/description.yaml",
    "checkpoints": "_temp/*/partial/checkpoints/segment-1.log",
    "end of checkpoints": "_temp/*/partial/checkpoints/segment-1.end",
    "frame of a checkpoint": "_temp/*/partial/checkpoints/paused_index-1.parquet",
    "checkpoints of a reverted run": "pictures/TEMP_base/partial/checkpoints/segment-1.log",
    "staged code": "_temp/*/code/1/drawing.py",
    "staged builder": "_temp/*/builders/draw.yaml",
    "provenance of what was deleted": "metadata/ARCHIVED_TRASH/*/provenance.json",
    "owner": "metadata/owners/owner-1-00000000000000000000000000000000",
}
"""What is damaged: each kind of file, with one of it."""

SEALED = frozenset(
    {"frame", "frame with categories", "fingerprints", "records of artifacts", "provenance", "manifest", "builder"}
    | {"code", "artifact", "description of an instance"}
)
"""Kinds of which `verify` finds every change, whatever it means."""

FRAMES = (("plain", ""), ("pictures", ""), ("pictures", "TEMP_base"), ("paused", "TEMP_base"))
TRIES_OF_EACH = 1_000


@dataclass(frozen=True)
class Answers:
    """Answers of a vault.

    Each question has an answer, or an error of TableVault.
    """

    of: dict[str, Any] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    """Errors that are not ours."""
    found: tuple[str, ...] = ()
    """Where `verify` sees problems."""


class Rotten:
    """A vault in which one file after the other is damaged and put back."""

    def __init__(self, root: Path) -> None:
        self._vault = ReceivedVault(root)
        (root / "template" / KINDS["owner"]).touch()
        self._vault.restore()
        self._right = ask(self._vault.folder).of

    def __call__(self, case: Case) -> Tried:
        """Damage one file; say what is wrong with what is read then."""
        self._vault.restore()
        path = next(self._vault.folder.glob(KINDS[case["kind"]]))
        original = path.read_bytes()
        damaged = damage(original, random.Random(case["seed"]))
        if damaged == original:
            return Tried()
        write(path, damaged)
        sealed = case["kind"] in SEALED
        answers = ask(self._vault.folder, files=sealed, verify=sealed or case["seed"].endswith("0"))
        wrong = [name for name, answer in answers.of.items() if answer is not None and answer != self._right[name]]
        if not sealed:
            # Texts may be edited by hand, and no reader can detect a wrong but valid statement of the catalog.
            wrong = [name for name in wrong if name.startswith("frame")]
        problems = [*answers.foreign, *(f"another {name} than was written" for name in wrong)]
        if sealed and str(path.relative_to(self._vault.folder)) not in answers.found:
            problems.append(f"verify does not find it in {path.name}")
        return Tried("; ".join(problems))


def damage(content: bytes, choice: random.Random) -> bytes:
    """Return bytes with one bit flipped, or cut off, as disks and crashes do."""
    if not content:
        return choice.randbytes(4)
    data = bytearray(content)
    place = choice.randrange(len(data))
    match choice.randrange(8):
        case 0:
            del data[place:]
        case 1:
            # A sector that was never written.
            start = place - place % 512
            data[start : start + 512] = bytes(len(data[start : start + 512]))
        case _:
            data[place] ^= 1 << choice.randrange(8)
    return bytes(data)


def ask(folder: Path, files: bool = True, verify: bool = True) -> Answers:
    """Read the frames of a vault.

    On request, also reads its other files, and runs `verify`.
    """
    answers: dict[str, Any] = {}
    foreign: list[str] = []
    found: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, question in _questions(folder, files, found if verify else None):
            answers[name] = None
            try:
                answers[name] = question()
            except TableVaultError:
                pass
            except Exception as error:
                foreign.append(f"{name}: {type(error).__name__}: {error!s:.200}")
    return Answers(answers, tuple(foreign), tuple(found))


def _questions(folder: Path, files: bool, found: list[str] | None) -> Iterator[tuple[str, Callable[[], Any]]]:
    opened: list[TableVault] = []
    yield "opening", lambda: opened.append(TableVault(folder, author="ada"))
    if not opened:
        return
    vault = opened[0]
    for table, instance in FRAMES:
        yield f"frame of {table} {instance}", partial(_frame, vault, table, instance)
    yield "tables", vault.get_tables
    yield "description", vault.get_descriptions
    if files:
        yield "lineage", lambda: repr(vault.get_lineage("pictures"))
        yield "builder", lambda: vault.get_builder_str("pictures", "draw", is_temp=False)
    if found is not None:
        yield "verification", lambda: found.extend(problem.path for problem in vault.verify().problems)


def _frame(vault: TableVault, table: str, instance: str) -> str:
    frame, _ = vault.get_dataframe(table, instance, full_artifact_path=False)
    assert isinstance(frame, pd.DataFrame)
    exact, _ = vault.get_dataframe(table, instance, full_artifact_path=False, format="arrow")
    return f"{frame.to_json()} {frame.dtypes.to_dict()} {exact.to_pydict()}"


@contextmanager
def rotten_vault() -> Iterator[Trier]:
    """Make a vault to be damaged."""
    shared = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="tablevault-rot-", dir=shared if os.access(shared, os.W_OK) else None))
    try:
        yield Rotten(root)
    finally:
        for folder, _, _ in os.walk(root):
            with contextlib.suppress(OSError):
                os.chmod(folder, 0o755)
        shutil.rmtree(root, ignore_errors=True)


class BitRot:
    """Every kind of file, each damaged many times."""

    code = "R10"
    title = f"bit rot: {len(KINDS)} kinds of files, flipped and cut off"
    unit = "damaged files"
    target = TRIES_OF_EACH * len(KINDS)
    minutes = 6.0

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Damage files of all kinds in turns."""
        kinds = list(KINDS)
        cases = ({"kind": kinds[n % len(kinds)], "seed": f"{budget.seed}-{n}"} for n in range(budget.tries))
        figures = try_all(cases, rotten_vault, budget, watch)
        return figures + Figures(measures={"of each kind": f"{figures.tried // len(kinds):,}"})

    def repeat(self, case: dict[str, Any]) -> str:
        """Damage one file again."""
        with rotten_vault() as trier:
            return trier(case).problem
