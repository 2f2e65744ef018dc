"""What the reading methods return: frozen records that a person can read."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tablevault.model import BuilderProgress, ErrorInfo, JsonObject, OwnerInfo

__all__ = [
    "BuilderPlan",
    "BuilderProgress",
    "ErrorInfo",
    "InstancePlan",
    "Lineage",
    "LineageStep",
    "OwnerInfo",
    "Problem",
    "ProcessInfo",
    "VerifyReport",
]


@dataclass(frozen=True, repr=False)
class ProcessInfo:
    """A process, ended or not."""

    process_id: str
    operation: str
    author: str
    table_name: str
    instance_id: str
    arguments: JsonObject
    """As recorded at its start; frames and texts by their content's digest."""
    parent_id: str | None
    status: str
    """`running`, `paused`, `committing`, `succeeded`, `reverted` or `stopped`."""
    started_at: datetime
    ended_at: datetime | None
    error: ErrorInfo | None
    owner: OwnerInfo | None
    locks: tuple[str, ...]
    progress: Mapping[str, BuilderProgress]
    """By builder, in the order in which they run."""
    hint: str
    """How to resume and stop it, when it is paused."""

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self._facts())

    def _repr_html_(self) -> str:
        return _html_table(self._facts())

    def _facts(self) -> Iterable[tuple[str, str]]:
        yield "process", f"{self.process_id} ({self.status})"
        yield "operation", f"{self.operation} by {self.author}"
        if self.table_name:
            yield "table", f"{self.table_name} {self.instance_id}".strip()
        if self.parent_id:
            yield "parent", self.parent_id
        yield "started", f"{self.started_at:%Y-%m-%d %H:%M:%S} UTC"
        if self.ended_at is not None:
            yield "ended", f"{self.ended_at:%Y-%m-%d %H:%M:%S} UTC"
        for name, item in self.progress.items():
            total = "?" if item.total is None else f"{item.total:,}"
            done = "done" if item.done else "not done"
            yield f"builder {name}", f"{item.computed:,} computed, {item.reused:,} reused of {total} rows, {done}"
        if self.error is not None:
            yield "error", f"{self.error.type}: {self.error.message}"
        if self.hint:
            yield "hint", self.hint


@dataclass(frozen=True)
class BuilderPlan:
    """What an execution would do for one builder; `None` where an earlier builder has to run first."""

    total: int | None
    reused: int | None
    computed: int | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class InstancePlan:
    """What an execution would do."""

    builders: Mapping[str, BuilderPlan]

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self._facts()) or "nothing to do"

    def _repr_html_(self) -> str:
        return _html_table(self._facts())

    def _facts(self) -> Iterable[tuple[str, str]]:
        for name, item in self.builders.items():
            counts = "rows not known yet" if item.computed is None else f"{item.computed:,} to compute"
            reused = "" if item.reused is None else f", {item.reused:,} to reuse"
            yield name, f"{counts}{reused}" + "".join(f"; {reason}" for reason in item.reasons)


@dataclass(frozen=True)
class Problem:
    """One thing that is not as the catalog claims."""

    kind: str
    path: str
    detail: str


@dataclass(frozen=True, repr=False)
class VerifyReport:
    """Whether everything is as the catalog claims."""

    ok: bool
    problems: tuple[Problem, ...]
    checked: int
    """How many files and folders were looked at."""

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self._facts())

    def _repr_html_(self) -> str:
        return _html_table(self._facts())

    def _facts(self) -> Iterable[tuple[str, str]]:
        yield "vault", f"{'ok' if self.ok else f'{len(self.problems)} problems'}, {self.checked:,} files checked"
        for problem in self.problems:
            yield problem.kind, f"{problem.path}: {problem.detail}"


@dataclass(frozen=True)
class LineageStep:
    """One column of one instance, with what made it and what it was made from."""

    table_name: str
    instance_id: str
    column: str
    builder: str
    function: str
    """`module.function`; empty for what was written from outside."""
    arguments: JsonObject
    """As written in the builder, without untracked ones."""
    code_versions: tuple[str, ...]
    process_id: str
    author: str
    made_at: datetime | None
    inputs: tuple[LineageStep, ...] = field(default=())


@dataclass(frozen=True, repr=False)
class Lineage:
    """Where the columns of an instance come from, and what was made from them."""

    columns: tuple[LineageStep, ...]
    """Each column with its inputs, and theirs."""
    used_by: tuple[LineageStep, ...]
    """Columns of other instances that were computed from this one, and (as their `inputs`) what they led to."""

    def __repr__(self) -> str:
        lines = [line for step in self.columns for line in _step_lines(step, 0)]
        if self.used_by:
            lines.append("used by:")
            lines.extend(line for step in self.used_by for line in _step_lines(step, 1))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def _step_lines(step: LineageStep, depth: int) -> Iterable[str]:
    made_by = f" <- {step.function}() in {step.builder}" if step.function else ""
    when = f", {step.made_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if step.made_at else ""
    yield f"{'  ' * depth}{step.table_name}({step.instance_id}).{step.column}{made_by} by {step.author}{when}"
    for item in step.inputs:
        yield from _step_lines(item, depth + 1)


def _html_table(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in facts
    )
    return f"<table>{rows}</table>"
