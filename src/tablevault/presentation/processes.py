"""Processes for display, with progress, errors and remedies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tablevault.display.progress import Rates
from tablevault.records import ErrorInfo, OwnerInfo, ProcessInfo, Remedy
from tablevault.values.contents import JsonObject
from tablevault.values.processes import BuilderProgress

if TYPE_CHECKING:
    from tablevault.vault import TableVault

_MAXIMUM_LOG_LENGTH = 16 * 1024
"""Number of trailing bytes shown of a worker's output."""
_ACTIVE = ("running", "paused", "committing")
RESUMABLE = ("execute_instance", "retry_failed", "refresh", "run")
"""Operations that a background worker can resume, because their calls are self-contained."""
_WITH_CHILDREN = ("refresh", "run")


@dataclass(frozen=True)
class BuilderLine:
    """Progress of one builder of a process."""

    name: str
    total: int | None
    computed: int
    reused: int
    failed: int
    skipped: int
    retrying: int
    done: bool
    per_second: float | None
    """Rows computed per second; `None` if unknown."""
    seconds_left: float | None
    usage: Mapping[str, float]
    errors: Mapping[str, int]
    """The two most frequent errors of failed rows, by exception class."""

    @property
    def processed(self) -> int:
        """Number of rows that need no further work."""
        return self.computed + self.reused + self.failed + self.skipped


@dataclass(frozen=True)
class ProcessLine:
    """One process of a list."""

    process_id: str
    operation: str
    table_name: str
    instance_id: str
    author: str
    status: str
    parent_id: str | None
    started_at: datetime
    ended_at: datetime | None
    error_line: str
    rows_done: int
    """Rows computed and reused by the current or last builder."""
    rows_total: int | None
    failed: int
    skipped: int
    waiting: str

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.status in _ACTIVE


@dataclass(frozen=True)
class ProcessDetail:
    """One process in full."""

    line: ProcessLine
    arguments: JsonObject
    builders: tuple[BuilderLine, ...]
    usage: Mapping[str, float]
    error: ErrorInfo | None
    owner: OwnerInfo | None
    locks: tuple[str, ...]
    children: tuple[ProcessLine, ...]
    log: str
    """The end of the output of its background worker."""
    remedies: tuple[Remedy, ...]
    """Ways to resume and stop it."""
    resumable_id: str
    """The process to resume: itself or its ancestor; empty if only its command can."""
    failed_rows: int
    """Rows that failed or were skipped, in all builders."""

    @property
    def is_running(self) -> bool:
        """Whether it changes without a user's action."""
        return self.line.status in ("running", "committing")


@dataclass(frozen=True)
class ProcessFilters:
    """Filters of a list of processes; empty fields match any."""

    table_name: str = ""
    author: str = ""
    operation: str = ""
    status: str = ""


@dataclass(frozen=True)
class ProcessList:
    """A page of the history, newest first."""

    filters: ProcessFilters
    processes: tuple[ProcessLine, ...]
    before: int | None
    """The serial number of the last process of this page, if there are older ones."""


def process_line(info: ProcessInfo) -> ProcessLine:
    """Return a process as a line of a list."""
    done, total = _rows(info.progress)
    return ProcessLine(
        info.process_id,
        info.operation,
        info.table_name,
        info.instance_id,
        info.author,
        info.status,
        info.parent_id,
        info.started_at,
        info.ended_at,
        info.error_line,
        done,
        total,
        sum(item.failed for item in info.progress.values()),
        sum(item.skipped for item in info.progress.values()),
        info.waiting,
    )


def process_lines(infos: Iterable[ProcessInfo]) -> tuple[ProcessLine, ...]:
    """Return processes as lines of a list."""
    return tuple(map(process_line, infos))


def active_of(vault: TableVault, table_name: str) -> tuple[ProcessLine, ...]:
    """Return the active processes of a table."""
    infos = vault.get_active_processes().values()
    return process_lines(info for info in infos if info.table_name == table_name)


def read_history(vault: TableVault, filters: ProcessFilters, before: int | None, most: int) -> ProcessList:
    """Return a page of the history of a vault."""
    wanted = {
        "table_name": filters.table_name,
        "author": filters.author,
        "operation": filters.operation,
        "status": filters.status,
    }
    found = vault._listings().history(wanted, before, most + 1)
    serials, lines = list(found), process_lines(found.values())
    return ProcessList(filters, lines[:most], serials[most - 1] if len(serials) > most else None)


def read_process(vault: TableVault, process_id: str, rates: Rates) -> ProcessDetail:
    """Return a process in full.

    Parameters
    ----------
    vault
        The vault.
    process_id
        The process.
    rates
        Samples each builder to compute the rows per second.
    """
    info = vault.get_process(process_id)
    line = process_line(info)
    listings = vault._listings()
    return ProcessDetail(
        line,
        info.arguments,
        tuple(_builder(info, name, item, rates) for name, item in info.progress.items()),
        info.usage,
        info.error,
        info.owner,
        info.locks,
        process_lines(listings.children(process_id)),
        listings.worker_log(process_id, _MAXIMUM_LOG_LENGTH),
        info.remedies,
        _resumable(vault, info),
        line.failed + line.skipped,
    )


def _builder(info: ProcessInfo, name: str, item: BuilderProgress, rates: Rates) -> BuilderLine:
    rate = rates.rate(f"{info.process_id}/{name}", item.computed) if info.status == "running" else 0.0
    missing = 0 if item.total is None else item.total - item.computed - item.reused - item.failed - item.skipped
    is_at_work = rate > 0 and not item.done
    return BuilderLine(
        name,
        item.total,
        item.computed,
        item.reused,
        item.failed,
        item.skipped,
        item.retrying,
        item.done,
        round(rate, 1) if is_at_work else None,
        round(missing / rate, 1) if is_at_work and missing > 0 else None,
        item.usage,
        item.errors,
    )


def _rows(progress: Mapping[str, BuilderProgress]) -> tuple[int, int | None]:
    if not progress:
        return 0, None
    at_work = next((item for item in progress.values() if not item.done), list(progress.values())[-1])
    return at_work.computed + at_work.reused, at_work.total


def _resumable(vault: TableVault, info: ProcessInfo) -> str:
    """Return the process to resume in order to continue a paused one.

    Returns an empty text if no worker can run it.
    """
    if info.status != "paused":
        return ""
    whole = info
    while whole.parent_id is not None:
        parent = vault.get_process(whole.parent_id)
        if parent.operation not in _WITH_CHILDREN or parent.status not in _ACTIVE:
            break
        whole = parent
    return whole.process_id if whole.operation in RESUMABLE and whole.status == "paused" else ""
