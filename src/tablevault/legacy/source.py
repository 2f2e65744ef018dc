"""Read-only access to TableVault 0.1.x vaults; runs no code from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tablevault.errors import TVFileError
from tablevault.storage import files
from tablevault.values.contents import JsonObject

_METADATA = ("tables_history.json", "tables_temp.json", "active_logs.json", "logs.txt")


@dataclass(frozen=True)
class LegacyProcess:
    """An ended process, from one line of the log."""

    process_id: str
    parent_id: str | None
    author: str
    operation: str
    started_at: datetime
    ended_at: datetime
    data: JsonObject
    succeeded: bool
    error: tuple[str, str] | None
    user_given: bool

    def fact(self, name: str) -> str:
        """Return a text from the process's data; empty if missing."""
        value = self.data.get(name)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class LegacyTable:
    """The settings, author and creation time of a table."""

    name: str
    folder: Path
    description: str
    allow_multiple_artifacts: bool
    has_side_effects: bool
    artifact_instance: str
    """Id of the instance whose artifacts are in the table's folder, for a table with a single set."""
    author: str
    created_at: datetime | None


@dataclass(frozen=True)
class LegacyInstance:
    """A temporary or materialized instance."""

    table: str
    instance_id: str
    folder: Path
    temporary: bool
    active: bool
    success: bool
    external_edit: bool
    committed_at: datetime | None
    description: str
    author: str
    origin: str
    dependencies: tuple[str, ...]
    """Ids of the input instances."""

    @property
    def frame(self) -> Path:
        """The CSV file."""
        return self.folder / "table.csv"

    def __str__(self) -> str:
        return f"instance '{self.instance_id}' of table '{self.table}'"


class LegacyVault:
    """A vault of version 0.1.x.

    Parameters
    ----------
    root
        The vault's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.code_functions = root / "code_functions"
        self.trash = root / "metadata" / "ARCHIVED_TRASH"
        self._read = {name: self._metadata(name) for name in _METADATA}
        self.problems: list[str] = []
        """Descriptions of unreadable parts."""

    def has_changed(self) -> bool:
        """Return whether the vault has been written to since it was opened."""
        return any(self._metadata(name) != data for name, data in self._read.items())

    def is_file(self, path: Path) -> bool:
        """Return whether a path is a file inside this vault, with links resolved."""
        return path.is_file() and files.is_inside(self.root, path)

    def texts(self, folder: Path, suffix: str) -> list[Path]:
        """Return the sorted, non-hidden files of a folder with a suffix."""
        found = sorted(folder.glob(f"*{suffix}")) if folder.is_dir() else []
        return [path for path in found if self.is_file(path) and not path.name.startswith(".")]

    def description(self) -> str:
        """Return the description of the vault."""
        return _text(self._yaml(self.root).get("summary"))

    def unfinished(self) -> list[str]:
        """Return the ids of the unfinished processes."""
        return sorted(self._json("active_logs.json"))

    def dtypes(self, instance: LegacyInstance) -> dict[str, str]:
        """Return the recorded dtypes of an instance's columns."""
        path = instance.folder / "dtypes.json"
        with _damaged(path):
            content = path.read_text(encoding="utf-8").strip() if self.is_file(path) else ""
            return {str(column): str(dtype) for column, dtype in json.loads(content or "{}").items()}

    # --- tables and instances -------------------------------------------------------------------------------------

    def tables(self) -> list[LegacyTable]:
        """Return the tables in creation order."""
        found = [self._table(name) for name in self._json("tables_history.json")]
        first = datetime.min.replace(tzinfo=UTC)
        return sorted(found, key=lambda table: table.created_at or first)

    def materialized(self) -> list[LegacyInstance]:
        """Return all materialized instances in commit order."""
        found = []
        with _damaged(self._path("tables_history.json")):
            for table, history in self._json("tables_history.json").items():
                for instance_id, (_, committed, ended, success) in history.items():
                    found.append(self._instance(table, instance_id, (committed, ended is None, bool(success))))
        return sorted(found, key=lambda item: item.committed_at or datetime.min.replace(tzinfo=UTC))

    def temporary(self) -> list[LegacyInstance]:
        """Return all temporary instances."""
        with _damaged(self._path("tables_temp.json")):
            known = self._json("tables_history.json")
            listed = {table: ids for table, ids in self._json("tables_temp.json").items() if table in known}
            return [self._instance(table, instance_id, None) for table, ids in listed.items() for instance_id in ids]

    def maker_of(self, instance: LegacyInstance) -> LegacyProcess | None:
        """Return the process that created an instance."""
        if instance.temporary:
            return self._creations.get((instance.table, instance.instance_id))
        return self._makers.get(instance.instance_id)

    def _table(self, name: str) -> LegacyTable:
        folder = self._folder(self.root, name)
        facts = self._yaml(folder)
        creation = self._creations.get((name, ""))
        return LegacyTable(
            name=name,
            folder=folder,
            description=_text(facts.get("summary")),
            allow_multiple_artifacts=bool(facts.get("multiple_artifacts")),
            has_side_effects=bool(facts.get("side_effects")),
            artifact_instance=_text(facts.get("artifact_instance")),
            author=creation.author if creation else "",
            created_at=creation.ended_at if creation else self._first_commit(name),
        )

    def _first_commit(self, table: str) -> datetime | None:
        with _damaged(self._path("tables_history.json")):
            moments = [_moment_if_valid(history[1]) for history in self._json("tables_history.json")[table].values()]
        return min((moment for moment in moments if moment is not None), default=None)

    def _instance(self, table: str, instance_id: str, history: tuple[Any, bool, bool] | None) -> LegacyInstance:
        folder = self._folder(self._folder(self.root, table), instance_id)
        facts = self._yaml(folder)
        committed, active, success = history or (None, False, True)
        origin = facts.get("origin") or [""]
        dependencies = facts.get("dependencies") or []
        return LegacyInstance(
            table=table,
            instance_id=instance_id,
            folder=folder,
            temporary=history is None,
            active=active,
            success=bool(facts.get("success", success)),
            external_edit=bool(facts.get("external_edit")),
            committed_at=_moment_if_valid(committed),
            description=_text(facts.get("summary")),
            author=_person(_text(facts.get("author")), self._authors),
            origin=_text(origin[0]) if isinstance(origin, list) else "",
            # Pairs of table and instance, some of them swapped by version 0.1.x; the caller matches instance ids only.
            dependencies=tuple(str(part) for pair in dependencies if isinstance(pair, list) for part in pair),
        )

    def _folder(self, parent: Path, name: str) -> Path:
        if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise TVFileError(f"The legacy vault '{self.root}' names a folder {name!r}, which is not a valid name.")
        return parent / name

    # --- history --------------------------------------------------------------------------------------------------

    @cached_property
    def processes(self) -> list[LegacyProcess]:
        """The processes of the log, in the order in which they ended."""
        entries = list(self._log_entries())
        authors = {entry["process_id"]: _text(entry["author"]) for entry in entries}
        ids = authors.keys()
        found = []
        for entry in entries:
            parent = _parent(entry["process_id"], ids)
            found.append(_process(entry, parent, _person(_text(entry["author"]), authors)))
        return sorted(found, key=lambda process: process.ended_at)

    def _log_entries(self) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(self._read["logs.txt"].decode("utf-8", "replace").splitlines(), start=1):
            try:
                entry = json.loads(line)
                moments = map(_moment_if_valid, (entry["start_time"], entry["log_time"]))
                if all(moments) and isinstance(entry["process_id"], str):
                    yield {"author": "", "operation": "", **entry}
                    continue
            except (ValueError, KeyError, TypeError):
                pass
            if line.strip():
                self.problems.append(f"line {number} of the log cannot be read and was left out of the history")

    @cached_property
    def _makers(self) -> dict[str, LegacyProcess]:
        """The processes that created materialized instances, by instance id."""
        makers = {}
        for process in self.processes:
            made = process.fact("perm_instance_id")
            if made and process.operation in ("execute_instance", "write_instance"):
                makers[made] = process
        return makers

    @cached_property
    def _creations(self) -> dict[tuple[str, str], LegacyProcess]:
        """The processes that created tables (`""` as id) and temporary instances, by the table's current name."""
        creations: dict[tuple[str, str], LegacyProcess] = {}
        for process in self.processes:
            table = process.fact("table_name")
            if process.succeeded and process.operation == "create_table":
                creations[table, ""] = process
            elif process.succeeded and process.operation == "create_instance":
                creations[table, process.fact("instance_id")] = process
            elif process.succeeded and process.operation == "rename_table":
                for key in [key for key in creations if key[0] == table]:
                    creations[process.fact("new_table_name"), key[1]] = creations.pop(key)
        return creations

    @cached_property
    def _authors(self) -> dict[str, str]:
        return {process.process_id: process.author for process in self.processes}

    # --- files ----------------------------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        return self.root / "metadata" / name

    def _metadata(self, name: str) -> bytes:
        path = self._path(name)
        return path.read_bytes() if path.is_file() else b""

    def _json(self, name: str) -> dict[str, Any]:
        with _damaged(self._path(name)):
            content = json.loads(self._read[name] or b"{}")
            if not isinstance(content, dict):
                raise TypeError("it is not a JSON object")
            return content

    def _yaml(self, folder: Path) -> Mapping[str, Any]:
        path = folder / "description.yaml"
        if not self.is_file(path):
            return {}
        with _damaged(path):
            facts = yaml.safe_load(path.read_text(encoding="utf-8"))
        return facts if isinstance(facts, dict) else {}


def _process(entry: dict[str, Any], parent_id: str | None, author: str) -> LegacyProcess:
    data, error = entry.get("data"), entry.get("error")
    described = (_text(error[0]), _text(error[1])) if isinstance(error, list) and len(error) == 2 else ("", "")
    return LegacyProcess(
        process_id=entry["process_id"],
        parent_id=parent_id,
        author=author,
        operation=_text(entry["operation"]),
        started_at=_moment(entry["start_time"]),
        ended_at=_moment(entry["log_time"]),
        data=data if isinstance(data, dict) else {},
        succeeded=entry.get("execution_success") is True,
        error=described if any(described) else None,
        user_given=entry.get("force_takedown") is False,
    )


def _person(author: str, authors: Mapping[str, str]) -> str:
    """Return the actual author; version 0.1.x recorded the parent's process id for nested processes."""
    seen = set()
    while author in authors and author not in seen:
        seen.add(author)
        author = authors[author]
    return author


def _parent(process_id: str, known: Any) -> str | None:
    """Return the id of a process's parent, which is the longest known prefix of its id."""
    parts = process_id.split("_")
    prefixes = ("_".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((prefix for prefix in prefixes if prefix in known), None)


def _moment(seconds: Any) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)


def _moment_if_valid(seconds: Any) -> datetime | None:
    try:
        return _moment(seconds)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError) as error:
        raise TVFileError(f"The file {path} of the legacy vault is damaged ({error}).") from error
