"""What the reading methods return: frozen records that a person can read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tablevault.hypertext import Branch, Count, Sheet, State
from tablevault.json_forms import json_form
from tablevault.texts import MOST_RECORDED, in_line, shown
from tablevault.values import BuilderProgress, ErrorInfo, JsonObject, OwnerInfo, Remedy

if TYPE_CHECKING:
    from rich.tree import Tree

__all__ = [
    "BuilderPlan",
    "BuilderProgress",
    "CodeVersion",
    "ErrorInfo",
    "InstancePlan",
    "Lineage",
    "LineageStep",
    "OwnerInfo",
    "Problem",
    "ProcessInfo",
    "Remedy",
    "VerifyReport",
]


@dataclass(frozen=True, repr=False)
class ProcessInfo:
    """A process, ended or not."""

    process_id: str
    """Its id, given by the user or made up."""
    operation: str
    """The name of the method that was called."""
    author: str
    """Who called it."""
    table_name: str
    """The table that it is about; empty if it is about none."""
    instance_id: str
    """The instance that it is about; empty if it is about none."""
    arguments: JsonObject
    """As recorded at its start; frames and texts by their content's digest."""
    parent_id: str | None
    """The process inside whose function it was called."""
    status: str
    """`running`, `paused`, `committing`, `succeeded`, `reverted` or `stopped`."""
    started_at: datetime
    """When it was first called, in UTC."""
    ended_at: datetime | None
    """When it ended, in UTC."""
    error: ErrorInfo | None
    """What it was paused or reverted by."""
    owner: OwnerInfo | None
    """Who runs it, or ran it last."""
    locks: tuple[str, ...]
    """What it holds while it is active."""
    progress: Mapping[str, BuilderProgress]
    """By builder, in the order in which they run."""
    hint: str
    """How to resume and stop it, when it is paused."""
    remedies: tuple[Remedy, ...] = ()
    """The same as values; of a running process, how to stop it."""

    def __repr__(self) -> str:
        lines = [("process", f"{self.process_id} ({self.status})"), *self._facts(), *self._described_progress()]
        if self.error is not None:
            lines.append(("error", self.error_line))
        text = "\n".join(f"{name}: {value}" for name, value in lines)
        return shown(f"{text}\n{self.hint}" if self.hint else text, MOST_RECORDED)

    def _repr_html_(self) -> str:
        sheet = Sheet()
        sheet.heading("Process", self.process_id, State(self.status))
        sheet.facts(self._facts())
        if self.progress:
            sheet.table(
                ("builder", "rows", "computed", "reused", "state"),
                [
                    (name, Count(item.total), Count(item.computed), Count(item.reused), _progress_state(item))
                    for name, item in self.progress.items()
                ],
            )
        if self.error is not None:
            sheet.card(State("wrong"), _error_sheet(self.error_line, self.error.traceback))
        if self.hint:
            sheet.remedies(self.remedies)
        return sheet.html

    @property
    def error_line(self) -> str:
        """The error as it is shown in one line, empty if there is none."""
        if self.error is None:
            return ""
        return in_line(f"{self.error.type.rpartition('.')[2]}: {self.error.message}".removesuffix(": "))

    def _facts(self) -> Iterable[tuple[str, str]]:
        yield "operation", f"{self.operation} by {self.author}"
        if self.table_name:
            yield "table", f"{self.table_name} {self.instance_id}".strip()
        if self.parent_id:
            yield "parent", self.parent_id
        yield "started", moment(self.started_at)
        if self.ended_at is not None:
            yield "ended", moment(self.ended_at)
        elif self.owner is not None:
            alive = "" if self.owner.alive else " (no longer runs it)"
            yield "owner", f"process number {self.owner.pid} on {self.owner.host}{alive}"

    def _described_progress(self) -> Iterable[tuple[str, str]]:
        for name, item in self.progress.items():
            total = "?" if item.total is None else f"{item.total:,}"
            done = "done" if item.done else "not done"
            yield f"builder {name}", f"{item.computed:,} computed, {item.reused:,} reused of {total} rows, {done}"


@dataclass(frozen=True)
class BuilderPlan:
    """What an execution would do for one builder; `None` where an earlier builder has to run first."""

    total: int | None
    """Rows that it has."""
    reused: int | None
    """Rows that it would take over from the origin."""
    computed: int | None
    """Rows for which, or to make which, its function would be called."""
    reasons: tuple[str, ...]
    """Why rows are computed, and why something is not known."""


@dataclass(frozen=True, repr=False)
class InstancePlan:
    """What an execution would do."""

    builders: Mapping[str, BuilderPlan]
    """By name, in the order in which they would run."""

    def __repr__(self) -> str:
        return shown("\n".join(f"{name}: {value}" for name, value in self._facts()), MOST_RECORDED) or "nothing to do"

    def _repr_html_(self) -> str:
        sheet = Sheet()
        sheet.heading("", "What an execution would do")
        sheet.table(
            ("builder", "rows", "to compute", "to reuse", "why"),
            [
                (name, Count(item.total), Count(item.computed), Count(item.reused), item.reasons)
                for name, item in self.builders.items()
            ],
        )
        return sheet.html

    def _facts(self) -> Iterable[tuple[str, str]]:
        for name, item in self.builders.items():
            total = "rows not known yet" if item.total is None else f"{item.total:,} rows"
            computed = "" if item.computed is None else f", {item.computed:,} to compute"
            reused = "" if item.reused is None else f", {item.reused:,} to reuse"
            yield name, f"{total}{computed}{reused}" + "".join(f"; {reason}" for reason in item.reasons)


@dataclass(frozen=True)
class Problem:
    """One thing that is not as the catalog claims."""

    kind: str
    """What sort of problem, as one word or two."""
    path: str
    """The file or folder, from the vault's folder on."""
    detail: str
    """What is wrong with it."""


@dataclass(frozen=True, repr=False)
class VerifyReport:
    """Whether everything is as the catalog claims."""

    ok: bool
    """Whether there are no problems."""
    problems: tuple[Problem, ...]
    """All that were found."""
    checked: int
    """How many files and folders were looked at."""

    def __repr__(self) -> str:
        return shown("\n".join(f"{name}: {value}" for name, value in self._facts()), MOST_RECORDED)

    def _repr_html_(self) -> str:
        sheet = Sheet()
        state = State("as the catalog claims", "ok") if self.ok else State(self._counted, "wrong")
        sheet.heading("", "Verification", state)
        sheet.note(f"{self.checked:,} files and folders checked")
        if self.problems:
            sheet.table(("problem", "file", "detail"), [(item.kind, item.path, item.detail) for item in self.problems])
        return sheet.html

    @property
    def _counted(self) -> str:
        return "1 problem" if len(self.problems) == 1 else f"{len(self.problems):,} problems"

    def _facts(self) -> Iterable[tuple[str, str]]:
        yield "vault", f"{'ok' if self.ok else self._counted}, {self.checked:,} files checked"
        for problem in self.problems:
            yield problem.kind, f"{problem.path}: {problem.detail}"


@dataclass(frozen=True)
class CodeVersion:
    """The rows of a column that one version of a builder and its code computed."""

    version: str
    """Digest of the builder and of all code that its function reaches."""
    rows: int | None
    """How many rows; `None` where that was not recorded row by row."""
    ranges: tuple[tuple[int, int], ...]
    """Positions of the rows, as first and last of each run of them."""


@dataclass(frozen=True, eq=False, repr=False)
class LineageStep:
    """One column of one instance, with what made it, what it was made from, and what was made from it."""

    table_name: str
    """The table's name today."""
    instance_id: str
    """The instance that the column is of."""
    column: str
    """`*` where any column may have been read."""
    builder: str
    """Empty for what was written from outside."""
    function: str
    """`module.function`; empty for what was written from outside."""
    arguments: dict[str, Any]
    """As written in the builder, without untracked ones."""
    code_versions: tuple[CodeVersion, ...]
    """More than one after a fix in a paused run."""
    computed: int | None
    """Rows that the process computed."""
    reused: int | None
    """Rows that were taken over from an origin."""
    process_id: str
    """The process that made it."""
    author: str
    """Who called that process."""
    made_at: datetime
    """When that process took effect, in UTC."""
    success: bool
    """Whether its instance is complete; one that was stopped with `materialize=True` is not."""
    deleted: bool
    """Whether its instance was deleted meanwhile; what is shown is taken from what was archived."""
    inputs: tuple[LineageStep, ...] = ()
    """Columns that it was computed from, and what those were computed from."""
    origin: LineageStep | None = None
    """The column of the origin that its reused rows were taken from."""
    used_by: tuple[LineageStep, ...] = ()
    """Columns that were computed or copied from it, and what was made from those."""

    @property
    def name(self) -> str:
        """The column as a reference writes it."""
        return f"{self.table_name}({self.instance_id}).{self.column}"

    def __repr__(self) -> str:
        return shown(f"{self.name}: {_text(self)}", MOST_RECORDED)


@dataclass(frozen=True, eq=False, repr=False)
class Lineage:
    """Where the columns of an instance come from, and what was made from them."""

    table_name: str
    """The table's name today."""
    instance_id: str
    """The instance that was asked for, or the newest."""
    columns: tuple[LineageStep, ...]
    """Each column with its `inputs` and its `used_by`."""

    @property
    def used_by(self) -> tuple[LineageStep, ...]:
        """What was made directly from any of these columns."""
        return tuple(dict.fromkeys(user for step in self.columns for user in step.used_by))

    def to_dict(self) -> JsonObject:
        """Return everything as plain JSON data, in which each step is written once and named by its key.

        A step has the keys of its `inputs`, its `origin` and its `used_by`, where it has any and they were followed:
        upwards from what the columns were made from, downwards from what was made from them.
        """
        steps: dict[str, JsonObject] = {}
        roots = [_key(step) for step in self.columns]
        waiting = list(zip(roots, self.columns, strict=True))
        done: set[int] = set()
        while waiting:
            key, step = waiting.pop()
            if id(step) in done:
                continue
            done.add(id(step))
            facts = steps.setdefault(key, _plain_facts(step))
            for relation, others in _relations(step):
                named = [_key(other) for other in others]
                if named:
                    facts[relation] = list(dict.fromkeys([*facts.get(relation, ()), *named]))
                waiting.extend(zip(named, others, strict=True))
        return {"table": self.table_name, "instance": self.instance_id, "columns": roots, "steps": steps}

    def tree(self) -> Tree:
        """Return what `to_dict` tells as a tree for a terminal."""
        from rich.text import Text
        from rich.tree import Tree

        def grow(tree: Tree, branches: Iterable[Branch]) -> None:
            for branch in branches:
                # Not a string, whose brackets would be taken for markup.
                grow(tree.add(Text(branch.label)), branch.branches)

        root = Tree(Text(self._title))
        grow(root, self._branches())
        return root

    def __repr__(self) -> str:
        def lines(branches: Iterable[Branch], depth: int) -> Iterable[str]:
            for branch in branches:
                yield "  " * depth + branch.label
                yield from lines(branch.branches, depth + 1)

        return shown("\n".join([self._title, *lines(self._branches(), 1)]), MOST_RECORDED)

    def _repr_html_(self) -> str:
        sheet = Sheet()
        sheet.heading("Lineage of", f"{self.table_name}({self.instance_id})")
        sheet.tree(self._branches())
        return sheet.html

    @property
    def _title(self) -> str:
        return f"lineage of {self.table_name}({self.instance_id})"

    def _branches(self) -> tuple[Branch, ...]:
        shown: set[int] = set()
        return tuple(_branch("", step, shown, 1) for step in self.columns)


_DEEPEST = 40
"""How many levels people are shown; `to_dict` has all."""
_MOST_RANGES = 4
_LONGEST_ARGUMENT = 80


def _branch(relation: str, step: LineageStep, shown: set[int], depth: int) -> Branch:
    """Return a step as it is shown: what it leads to only where it stands first."""
    name, text = relation + step.name, _text(step)
    relations = [(kind, others) for kind, others in _relations(step) if others]
    if not relations:
        return Branch(name, text)
    if id(step) in shown:
        return Branch(f"{name} (shown above)", "")
    if depth >= _DEEPEST:
        return Branch(name, f"{text} (goes on; to_dict() has all of it)")
    shown.add(id(step))
    prefixes = {"inputs": "from ", "origin": "reused from ", "used_by": "used by "}
    return Branch(
        name,
        text,
        tuple(_branch(prefixes[kind], other, shown, depth + 1) for kind, others in relations for other in others),
    )


def _relations(step: LineageStep) -> tuple[tuple[str, tuple[LineageStep, ...]], ...]:
    origin = () if step.origin is None else (step.origin,)
    return ("inputs", step.inputs), ("origin", origin), ("used_by", step.used_by)


def _key(step: LineageStep) -> str:
    """Return a text that no other step of a lineage has: a builder may overwrite a column of another."""
    return f"{step.name} by {step.builder}" if step.builder else step.name


def _plain_facts(step: LineageStep) -> JsonObject:
    return {
        "table": step.table_name,
        "instance": step.instance_id,
        "column": step.column,
        "builder": step.builder,
        "function": step.function,
        "arguments": json_form(step.arguments),
        "code_versions": [
            {"version": item.version, "rows": item.rows, "ranges": [list(pair) for pair in item.ranges]}
            for item in step.code_versions
        ],
        "computed": step.computed,
        "reused": step.reused,
        "process_id": step.process_id,
        "author": step.author,
        "made_at": step.made_at.isoformat(),
        "success": step.success,
        "deleted": step.deleted,
    }


def _text(step: LineageStep) -> str:
    parts = []
    if step.builder:
        arguments = ", ".join(f"{name}={_shortened(value)}" for name, value in step.arguments.items())
        parts.append(f"builder {step.builder}: {step.function}({arguments})")
        parts.extend(_described_versions(step.code_versions))
    elif step.column != "*":
        parts.append("written from outside")
    if step.reused:
        parts.append(f"{step.computed:,} rows computed, {step.reused:,} reused")
    parts.append(f"by {step.author}, {step.made_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, process {step.process_id}")
    if not step.success:
        parts.append("not finished")
    if step.deleted:
        parts.append("deleted since")
    return "; ".join(parts)


def _described_versions(versions: tuple[CodeVersion, ...]) -> Iterable[str]:
    for item in versions:
        code = f"code {item.version[:12]}"
        if len(versions) == 1:
            yield code
        elif item.rows is None:
            yield f"some rows under {code}"
        elif item.rows:
            ranges = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in item.ranges[:_MOST_RANGES])
            more = ", ..." if len(item.ranges) > _MOST_RANGES else ""
            yield f"{item.rows:,} {'row' if item.rows == 1 else 'rows'} ({ranges}{more}) under {code}"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_ARGUMENT else f"{text[: _LONGEST_ARGUMENT - 3]}..."


def moment(when: datetime) -> str:
    """Return a moment as people read it."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _progress_state(item: BuilderProgress) -> str:
    return "done" if item.done else "not done"


def _error_sheet(line: str, traceback: str) -> Sheet:
    sheet = Sheet()
    sheet.facts([("error", line)])
    sheet.folded("traceback", traceback)
    return sheet
