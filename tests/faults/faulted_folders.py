"""Operations on whole folders with injected faults.

They create, pack, unpack, delete and import.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from invariants import Expected, State, wrong_leftovers, wrong_modes

from tablevault import TableVault, TVArgumentError, compress_vault, decompress_vault, delete_vault, import_legacy_vault

LEGACY = Path(__file__).parents[1] / "legacy" / "vault-0.1.1"


@dataclass(frozen=True)
class FolderOperation:
    """One call that makes, packs or removes the vault in the folder `vault` of a place."""

    name: str
    run: Callable[[Path], object]
    """Takes the vault's folder; may be called again after a fault, until it returns."""
    make: Callable[[Path], None]
    """Prepares a place."""
    check: Callable[[Path], str]
    """Takes the vault's folder after the call has returned; says what is wrong."""
    left: frozenset[str]
    """What is in the place when the call has returned."""
    process_ids: tuple[str, ...] = ("",)
    stride: int = 1
    """Of how many calls one meets errors, by the seed."""
    kill_stride: int = 1
    """Of how many calls one is where it is killed, by the seed."""
    is_variant: bool = False
    """Whether it is mostly what another one is, so that not each call needs to meet each error."""

    def open(self, place: Path) -> Path:
        """Do what comes before the faults."""
        return place / "vault"

    def call(self, vault: Path, _: str) -> None:
        """Make the call."""
        self.run(vault)

    def look(self, place: Path, _: str) -> State | None:
        """Return `None`, since the expected result does not depend on earlier content."""
        return None

    def between(self, place: Path) -> tuple[()]:
        """Return nothing."""
        return ()

    def problem(self, place: Path, expected: Expected) -> str:
        """Return the problem after a fault and a repeated call.

        Returns an empty text if all is well.
        """
        vault = place / "vault"
        if not expected.acknowledged:
            self.run(vault)
        if problem := self.check(vault):
            return problem
        found = {path.name for path in place.iterdir()}
        return f"beside {sorted(self.left)} there is {sorted(found - self.left)}" if found != self.left else ""


def _small_vault(place: Path) -> None:
    vault = TableVault(place / "vault", create=True, author="a")
    vault.create_code_module("job", text="x = 1\n")
    vault.create_table("given")
    vault.create_instance("given", external_edit=True)
    vault.write_instance(pd.DataFrame({"x": [1, 2, 3]}), "given")


def _packed(place: Path) -> None:
    _small_vault(place)
    compress_vault(place / "vault", preset=0)
    delete_vault(place / "vault")


def _legacy(place: Path) -> None:
    shutil.copytree(LEGACY, place / "legacy", symlinks=True)


def _export_vault(folder: Path) -> None:
    """Export a vault, also if an earlier export is there."""
    TableVault(folder, author="b").export_vault(folder.with_name("exported"), "given", overwrite=True)


def _export_dataset(folder: Path) -> None:
    """Export a table as a dataset folder, as `_export_vault`."""
    TableVault(folder, author="b").export_table("given", folder.with_name("exported"), format="dataset", overwrite=True)


def _create(folder: Path) -> None:
    """Create a vault, or find that it was created."""
    try:
        TableVault(folder, create=True, author="b")
    except TVArgumentError:
        TableVault(folder, author="b")


def _unpack(folder: Path) -> None:
    """Unpack a vault, even if it exists.

    Leftovers of an interrupted call beside a whole vault are removed by the next one.
    """
    _delete(folder)
    decompress_vault(folder)


def _delete(folder: Path) -> None:
    """Delete a vault, or find that nothing of it is left."""
    if folder.exists():
        delete_vault(folder)


def _import(folder: Path) -> None:
    """Import a vault, also if it is there, as `_unpack`."""
    _delete(folder)
    import_legacy_vault(folder.parent / "legacy", folder)


def _is_whole(folder: Path) -> str:
    vault = TableVault(folder, author="check")
    frame, _ = vault.get_dataframe("given")
    if list(frame["x"]) != [1, 2, 3]:
        return f"the vault holds {list(frame['x'])}"
    return _is_well(folder)


def _is_well(folder: Path) -> str:
    vault = TableVault(folder, author="check")
    problems = vault.verify().problems
    return f"verify finds {problems}" if problems else wrong_leftovers(folder, 0) or wrong_modes(vault, folder)


def _can_be_unpacked(folder: Path) -> str:
    if problem := _is_whole(folder):
        return problem
    beside = folder.parent / "packed"
    beside.mkdir()
    shutil.copy(f"{folder}.tar.xz", beside / "vault.tar.xz")
    decompress_vault(beside / "vault")
    problem = _is_whole(beside / "vault")
    delete_vault(beside / "vault")
    shutil.rmtree(beside)
    return problem


def _is_imported(folder: Path) -> str:
    tables = TableVault(folder, author="check").get_tables()
    return _is_well(folder) if tables else "nothing was imported"


def _is_exported(folder: Path) -> str:
    return _is_whole(folder) or _is_whole(folder.with_name("exported"))


def _is_dataset(folder: Path) -> str:
    exported = folder.with_name("exported")
    described = json.loads((exported / "croissant.json").read_text())
    for item in described["distribution"]:
        if hashlib.sha256((exported / item["contentUrl"]).read_bytes()).hexdigest() != item["sha256"]:
            return f"{item['contentUrl']} is not what croissant.json says"
    return _is_whole(folder)


def _is_gone(folder: Path) -> str:
    return "it is still there" if folder.exists() else ""


FOLDER_OPERATIONS = {
    operation.name: operation
    for operation in (
        FolderOperation("create_vault", _create, lambda place: None, _is_well, frozenset({"vault"})),
        FolderOperation(
            "compress_vault",
            lambda folder: compress_vault(folder, preset=0),
            _small_vault,
            _can_be_unpacked,
            frozenset({"vault", "vault.tar.xz"}),
        ),
        FolderOperation("decompress_vault", _unpack, _packed, _is_whole, frozenset({"vault", "vault.tar.xz"})),
        FolderOperation(
            "export_vault", _export_vault, _small_vault, _is_exported, frozenset({"vault", "exported"}), stride=4
        ),
        FolderOperation(
            "export_table", _export_dataset, _small_vault, _is_dataset, frozenset({"vault", "exported"}), stride=2
        ),
        FolderOperation("delete_vault", _delete, _small_vault, _is_gone, frozenset()),
        # More than a thousand calls that all write into one hidden folder: each need not meet each error.
        FolderOperation(
            "import_legacy_vault", _import, _legacy, _is_imported, frozenset({"vault", "legacy"}), stride=8
        ),
    )
}
