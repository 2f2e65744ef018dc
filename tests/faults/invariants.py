"""What must hold whatever happened: the same few checks after every experiment."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tablevault import TableVault


@dataclass(frozen=True)
class Content:
    """All that a vault shows, without what differs from run to run: ids of instances and times."""

    tables: str
    modules: str

    @classmethod
    def of(cls, vault: TableVault) -> Content:
        """Read a vault through its public methods."""
        tables = {name: _table(vault, name) for name in vault.get_tables()}
        modules = {name: vault.get_code_module_str(name) for name in vault.get_code_modules_list()}
        return cls(json.dumps(tables, sort_keys=True), json.dumps(modules, sort_keys=True))


def _table(vault: TableVault, name: str) -> list[Any]:
    return [_instance(vault, name, instance) for instance in vault.get_table_instances(name, "", include_temp=True)]


def _instance(vault: TableVault, table: str, instance: str) -> list[Any]:
    if instance.startswith("TEMP_"):
        version = instance.removeprefix("TEMP_")
        builders = vault.get_builders_list(table, version=version)
        return [instance, {builder: vault.get_builder_str(table, builder, version=version) for builder in builders}]
    frame, _ = vault.get_dataframe(table, instance, version="", active_only=False, full_artifact_path=False)
    folder = Path(vault.get_artifact_folder(table, instance, is_temp=False))
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*"))}
    return [instance.rsplit("_", 2)[0], frame.to_csv(), files]


def check(folder: Path, before: Content, after: Content, acknowledged: bool, process_id: str) -> str:
    """Return what is wrong with a vault after a fault; nothing if all invariants hold.

    Parameters
    ----------
    folder
        The vault, in which nobody works any more.
    before, after
        What it showed before the operation, and what it shows after an undisturbed one.
    acknowledged
        Whether the call had returned.
    process_id
        Given to the operation; empty if it was not to pause.
    """
    vault = TableVault(folder, author="check")
    active = vault.get_active_processes()
    if any(info.status != "paused" for info in active.values()):
        return f"processes are neither ended nor paused: { {key: info.status for key, info in active.items()} }"
    if set(active) - {process_id, "paused"}:
        return f"processes that nobody named are paused: {sorted(active)}"
    problems = vault.verify().problems
    if problems and all(problem.kind == "tidying failed" for problem in problems):
        # What could not be removed is reported, and in nobody's way; once the disk works again it can be.
        problems = vault.verify(repair=True).problems and vault.verify().problems
    if problems:
        return f"verify finds {problems}"
    here = Content.of(vault)
    if here not in (before, after):
        return f"the vault is neither as before nor as after: {here}"
    if acknowledged and here != after:
        return "an acknowledged change is not there"
    working = {path.name for path in (folder / "_temp").iterdir()} if (folder / "_temp").is_dir() else set()
    if len(working) > len(active) + 1:
        return f"_temp holds more than the active processes: {sorted(working)} for {sorted(active)}"
    return ""
