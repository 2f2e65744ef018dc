"""Invariants, checked after every experiment."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tablevault import Problem, ProcessInfo, TableVault, TVLockError

_OWN_OF_CATALOG = re.compile(r"metadata/(catalog\.db.*|logs\.(txt|lock)|limits\.db.*|worker_logs/.*)$|_temp/")


_INSTANCE_ID = re.compile(r"[A-Za-z0-9-]+_\d+_[0-9a-f]{32}$")

UNREADABLE = "a table with side effects is being executed"


@dataclass(frozen=True)
class Content:
    """Everything that a vault shows.

    Ids of instances and times are left out, since they differ from run to run.
    """

    tables: dict[str, str]
    modules: dict[str, str]
    processes: list[str]
    """Ids of the active ones."""
    services: dict[str, dict[str, float]]

    @classmethod
    def of(cls, vault: TableVault, without: str = "") -> Content:
        """Read a vault through its public methods.

        `without` is a process to ignore, with its children.
        """
        tables = {name: _table(vault, name) for name in vault.get_tables()}
        modules = {name: vault.get_code_module_str(name) for name in vault.get_code_modules_list()}
        active = vault.get_active_processes()
        others = (name for name in active if name != without and not (without and name.startswith(f"{without}.")))
        return cls(tables, modules, sorted(others), vault.get_services())

    def readable(self, other: Content) -> Content:
        """Leave out what cannot be read in another content, because a paused process holds it."""
        held = {name for name, table in other.tables.items() if table == UNREADABLE}
        return Content(
            {name: UNREADABLE if name in held else table for name, table in self.tables.items()},
            self.modules,
            self.processes,
            self.services,
        )

    def without_artifacts(self) -> Content:
        """Leave out the files of the instances."""
        tables = {name: _without_artifacts(table) for name, table in self.tables.items()}
        return Content(tables, self.modules, self.processes, self.services)


def _table(vault: TableVault, name: str) -> str:
    instances = vault.get_table_instances(name, "", include_temp=True)
    tags = vault.get_tags(name)
    try:
        return json.dumps(
            [
                [*_instance(vault, name, instance), [item.tag for item in tags if item.instance_id == instance]]
                for instance in instances
            ],
            sort_keys=True,
        )
    except TVLockError:
        return UNREADABLE


def _instance(vault: TableVault, table: str, instance: str) -> list[Any]:
    if instance.startswith("TEMP_"):
        version = instance.removeprefix("TEMP_")
        builders = vault.get_builders_list(table, version=version)
        return [instance, {builder: vault.get_builder_str(table, builder, version=version) for builder in builders}]
    frame, _ = vault.get_dataframe(
        table, instance, version="", active_only=False, full_artifact_path=False, format="arrow"
    )
    folder = Path(vault.get_artifact_folder(table, instance, is_temp=False))
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*"))}
    cells = {name: [str(value) for value in frame.column(name).to_pylist()] for name in frame.column_names}
    errors = vault.get_errors(table, instance, version="", format="arrow")
    failed = [str(row) for row in errors.select(["builder", "index", "key", "kind", "message", "cause"]).to_pylist()]
    return [instance.rsplit("_", 2)[0], cells, files, failed]


def _without_artifacts(table: str) -> str:
    return (
        table if table == UNREADABLE else json.dumps([[*instance[:2], *instance[3:]] for instance in json.loads(table)])
    )


@dataclass(frozen=True)
class Tree:
    """The files of a vault, each with its mode and the digest of its content.

    Without what is not undone: the catalog's own files, the log, and what active processes have staged.
    """

    entries: dict[str, tuple[int, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Tree:
        """Read the tree below a folder."""
        return cls({path: entry for path, entry in _entries(folder) if not _OWN_OF_CATALOG.match(path)})

    def difference(self, other: Tree) -> list[str]:
        """Return the paths that are not the same in another tree."""
        paths = self.entries.keys() | other.entries.keys()
        return sorted(path for path in paths if self.entries.get(path) != other.entries.get(path))

    def without_partial(self) -> Tree:
        """Leave out what a reverted execution keeps."""
        kept = {path: entry for path, entry in self.entries.items() if not re.search(r"/TEMP_[^/]+/partial", path)}
        return Tree(kept)

    def shape(self) -> set[str]:
        """Return the paths, with what differs from run to run left out of them."""
        paths = (re.sub(r"_\d+_[0-9a-f]{32}", "_ID", path) for path in self.entries)
        return {re.sub(r"ARCHIVED_TRASH/\d+_", "ARCHIVED_TRASH/", path) for path in paths}


def _entries(folder: Path) -> Iterator[tuple[str, tuple[int, str]]]:
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(parent, name)
            about = path.lstat()
            if stat.S_ISREG(about.st_mode):
                content = hashlib.sha256(_without_format(path)).hexdigest()
            else:
                content = os.readlink(path) if path.is_symlink() else ""
            yield path.relative_to(folder).as_posix(), (about.st_mode, content)


def _without_format(path: Path) -> bytes:
    """Return the content of a file.

    Of a vault's marker, returns only the owner, since its format follows that of the catalog.
    """
    data = path.read_bytes()
    if path.name == ".tablevault" and data:
        marker = json.loads(data)
        assert marker["format"] in (1, 2), marker
        return f"{marker['vault_id']} {marker['created']}".encode()
    return data


@dataclass(frozen=True)
class State:
    """A vault at one moment, with its content and its files."""

    content: Content
    tree: Tree

    @classmethod
    def of(cls, folder: Path, without: str = "") -> State:
        """Open a vault and look at it; `without` is a process that does not count."""
        return cls(Content.of(TableVault(folder, author="check"), without), Tree.of(folder))


@dataclass(frozen=True)
class Expected:
    """What a vault may look like after a fault."""

    before: State
    after: State
    between: tuple[Content, ...] = ()
    """What operations inside an operation may leave, which are not undone with it."""
    acknowledged: bool = False
    """Whether the call returned, so that only `after` is right."""
    process_id: str = ""
    """Given to the operation, so that it may be paused; empty if it was not to pause."""


@dataclass(frozen=True)
class Seen:
    """A vault after a fault."""

    folder: Path
    vault: TableVault
    content: Content
    active: dict[str, ProcessInfo]
    problems: tuple[Problem, ...]
    """What `verify` finds."""
    unrepaired: Content | None
    """What was seen before the vault was repaired, if the disk had refused to tidy up what was decided."""

    @classmethod
    def of(cls, folder: Path, without: str, damaged: bool = False, verified: bool = True) -> Seen:
        """Open an idle vault, read it, and let it verify itself.

        It is repaired if it is known to be `damaged`, or if something could not be removed, which is
        harmless, and can be removed once the disk works again. `without` is a process that does not count.
        """
        vault = TableVault(folder, author="check", lock_timeout=0)
        content = Content.of(vault, without)
        problems = vault.verify().problems if verified else ()
        unfinished = any(problem.kind == "tidying failed" for problem in problems)
        unrepaired = content if unfinished else None
        if damaged or unfinished:
            problems = vault.verify(repair=True).problems
            content = Content.of(vault, without)
        return cls(folder, vault, content, vault.get_active_processes(), problems, unrepaired)


def check(seen: Seen, expected: Expected) -> str:
    """Return what is wrong with a vault after a fault; nothing if all is well."""
    return (
        _wrong_process(seen.active)
        or (f"verify finds {seen.problems}" if seen.problems else "")
        or wrong_content(seen, expected)
        or wrong_locks(seen.folder, seen.active)
        or wrong_leftovers(seen.folder, len(seen.active))
        or wrong_modes(seen.vault, seen.folder)
        or _wrong_tree(seen, expected)
    )


def _wrong_process(active: dict[str, ProcessInfo]) -> str:
    wrong = {key: info.status for key, info in active.items() if info.status != "paused"}
    return f"processes are neither ended nor paused: {wrong}" if wrong else ""


def wrong_content(seen: Seen, expected: Expected) -> str:
    """Return what is neither as before nor as after; nothing if everything is."""
    before, after = (expected.before.content, *expected.between), expected.after.content
    wrong = _neither(seen.content, before, after, seen, expected)
    if seen.unrepaired is None or wrong:
        return wrong
    # Until the disk removes them, readers may still meet files that are superseded: these, and nothing else.
    allowed = tuple(content.without_artifacts() for content in before)
    return _neither(seen.unrepaired.without_artifacts(), allowed, after.without_artifacts(), seen, expected)


def _neither(here: Content, before: tuple[Content, ...], after: Content, seen: Seen, expected: Expected) -> str:
    if here == after:
        return ""
    if expected.acknowledged:
        return f"an acknowledged change is not there: {here}"
    if expected.process_id in seen.active:
        before = tuple(content.readable(here) for content in before)
    return "" if here in before else f"the vault is neither as before nor as after: {here}"


def wrong_locks(folder: Path, active: dict[str, ProcessInfo]) -> str:
    """Return which locks are held by processes that are not active; nothing if there are none."""
    with contextlib.closing(sqlite3.connect(f"file:{folder}/metadata/catalog.db?mode=ro", uri=True)) as catalog:
        held = catalog.execute(
            "SELECT processes.process_id, locks.resource FROM locks LEFT JOIN processes USING (serial)"
        ).fetchall()
    wrong = [(process, resource) for process, resource in held if process not in active]
    return f"locks are held by processes that are not active: {wrong}" if wrong else ""


def wrong_leftovers(folder: Path, active: int) -> str:
    """Return the leftovers in `_temp` and in the folder of owners.

    Files that the paused processes need are not leftovers.
    """
    temporary = sorted(path.name for path in (folder / "_temp").iterdir())
    if len(temporary) > active or not all(name.isdecimal() for name in temporary):
        return f"_temp holds {temporary} for {active} active processes"
    owners = sorted(path.name for path in (folder / "metadata" / "owners").iterdir())
    return f"lock files of owners are left: {owners}" if owners else ""


def wrong_modes(vault: TableVault, folder: Path) -> str:
    """Return which files of materialized instances can be written to; nothing if none can."""
    for table in vault.get_tables():
        for instance in vault.get_table_instances(table, ""):
            root = folder / table / instance
            for path in (root, *root.rglob("*")):
                if not path.is_symlink() and path.stat().st_mode & 0o222:
                    return f"{path} is not read-only"
    return ""


def _wrong_tree(seen: Seen, expected: Expected) -> str:
    """Return unexpected files in the vault's tree.

    Earlier files are known to the byte, later ones by their paths.
    """
    if expected.process_id in seen.active or seen.content in expected.between:
        return ""
    here = Tree.of(seen.folder).without_partial()
    different = here.difference(expected.before.tree.without_partial())
    strange = here.shape() ^ expected.after.tree.without_partial().shape()
    if seen.content == expected.after.content and not strange:
        return ""
    # The instance of an active process is not visible yet.
    shown = [path for path in different if not (seen.active and _is_hidden(path, seen.vault))]
    if seen.content == expected.before.content and not shown:
        return ""
    if seen.content == expected.after.content:
        return f"the tree has, or lacks, {sorted(strange)}"
    return f"the tree is not as before: {shown}"


def _is_hidden(path: str, vault: TableVault) -> bool:
    """Tell whether a path belongs to an instance that is not listed."""
    table, _, inside = path.partition("/")
    instance = inside.partition("/")[0]
    return bool(_INSTANCE_ID.match(instance)) and instance not in vault.get_table_instances(table, "")
