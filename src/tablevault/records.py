"""The values that reading methods return; the modules of `display` show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tablevault.display.cells import trace_html, trace_json, trace_text
from tablevault.display.comparison import diff_html, diff_json, diff_text
from tablevault.display.freshness import refresh_html, refresh_text, status_html, status_text
from tablevault.display.garbage import gc_html, gc_text
from tablevault.display.lineage import lineage_graph, lineage_html, lineage_text, lineage_tree, step_text
from tablevault.display.processes import overview_html, overview_text, process_html, process_text
from tablevault.display.reports import apply_plan_html, apply_plan_text, plan_html, plan_text, report_html, report_text
from tablevault.names import DEFAULT_VERSION
from tablevault.texts.plain import in_line
from tablevault.values.contents import InstanceRecord, JsonObject, TableRecord
from tablevault.values.outcomes import Remedy
from tablevault.values.processes import BuilderProgress, ErrorInfo, OwnerInfo

if TYPE_CHECKING:
    from rich.tree import Tree

__all__ = [
    "ApplyPlan",
    "BuilderDiff",
    "BuilderPlan",
    "BuilderProgress",
    "CellTrace",
    "ChangedCell",
    "CodeVersion",
    "ColumnDiff",
    "ComputedIn",
    "DefinitionDiff",
    "ErrorInfo",
    "FilePlan",
    "GcGroup",
    "GcItem",
    "GcPlan",
    "InstanceDiff",
    "InstancePlan",
    "Lineage",
    "LineageStep",
    "OwnerInfo",
    "Problem",
    "ProcessInfo",
    "RefreshPlan",
    "RefreshStep",
    "Remedy",
    "RowCounts",
    "TableStatus",
    "TagInfo",
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
    """The author that called it."""
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
    """The error that paused or reverted it."""
    owner: OwnerInfo | None
    """The interpreter that runs it, or ran it last."""
    locks: tuple[str, ...]
    """The locks that it holds while it is active."""
    progress: Mapping[str, BuilderProgress]
    """By builder, in the order in which they run."""
    hint: str
    """How to resume and stop it, when it is paused."""
    remedies: tuple[Remedy, ...] = ()
    """The same as values; of a running process, how to stop it."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """Calls, where they are counted, and the amounts that they reported, summed over its builders."""
    waiting: str = ""
    """The service that its calls wait for, the limit, and for how long; empty if they wait for none."""

    def __repr__(self) -> str:
        return process_text(self)

    def _repr_html_(self) -> str:
        return process_html(self)

    @property
    def error_line(self) -> str:
        """The error as it is shown in one line, empty if there is none."""
        if self.error is None:
            return ""
        return in_line(f"{self.error.type.rpartition('.')[2]}: {self.error.message}".removesuffix(": "))


@dataclass(frozen=True)
class TagInfo:
    """A tag of one table."""

    tag: str
    """As it was written; case does not count."""
    table_name: str
    """The table."""
    instance_id: str
    """The instance that it names."""
    description: str
    """Free text."""
    author: str
    """The author that created or moved it last."""
    created_at: datetime
    """When it was created or moved last, in UTC."""
    process_id: str
    """The process that did so."""


@dataclass(frozen=True)
class BuilderPlan:
    """The plan of one builder; counts are `None` where an earlier builder has to run first."""

    total: int | None
    """Rows that it has."""
    reused: int | None
    """Rows that it would take over from the origin."""
    computed: int | None
    """Rows for which, or to make which, its function would be called."""
    reasons: tuple[str, ...]
    """Why rows are computed, and why something is not known."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """Expected use of its calls, by the mean of the origin's; empty where that is not known."""


@dataclass(frozen=True, repr=False)
class InstancePlan:
    """The plan of an execution."""

    builders: Mapping[str, BuilderPlan]
    """By name, in the order in which they would run."""

    def __repr__(self) -> str:
        return plan_text(self)

    def _repr_html_(self) -> str:
        return plan_html(self)


@dataclass(frozen=True, repr=False)
class TableStatus:
    """Whether a table is up to date."""

    state: str
    """`running`, `paused`, `never`, `pending`, `external`, `stale`, `unknown` or `fresh`."""
    reasons: tuple[str, ...]
    """Why, in sentences."""
    instance_id: str
    """Its newest active instance; empty if it has none."""
    inputs: tuple[str, ...]
    """The tables that its builders read; one in another version as `t(v2)`."""
    used_by: tuple[str, ...]
    """The tables whose builders read it."""

    def __repr__(self) -> str:
        return status_text(self)

    def _repr_html_(self) -> str:
        return status_html(self)


@dataclass(frozen=True)
class RefreshStep:
    """One table, in one version, of a refresh."""

    table_name: str
    """The table."""
    version: str
    """Its version."""
    action: str
    """`execute`; `look`, where only running can tell whether there is something to do; or `skip`."""
    reasons: tuple[str, ...]
    """Why, in sentences."""
    after: tuple[str, ...]
    """The tables whose steps come before, because this one reads them."""
    computed: int | None
    """Rows to compute, summed over builders; `None` where an IndexBuilder or a step before has to run first."""
    reused: int | None
    """Rows to take over, summed likewise; an IndexBuilder that always runs counts in neither."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """Expected use of the calls, summed likewise; empty where it is not known."""

    @property
    def text(self) -> str:
        """The table, with its version unless that is the default one."""
        return self.table_name if self.version == DEFAULT_VERSION else f"{self.table_name}({self.version})"


@dataclass(frozen=True, repr=False)
class RefreshPlan:
    """The plan of a refresh."""

    steps: tuple[RefreshStep, ...]
    """In the order of execution."""

    def __repr__(self) -> str:
        return refresh_text(self)

    def _repr_html_(self) -> str:
        return refresh_html(self)


@dataclass(frozen=True)
class FilePlan:
    """A file of a vault as a definitions file says it should be."""

    path: str
    """From the vault's folder on."""
    state: str
    """`new`, `same`, `changed`, `removed` or `edited since`."""
    diff: str
    """The change of an existing file, line by line; empty if there is none."""


@dataclass(frozen=True, repr=False)
class ApplyPlan:
    """What `apply` would do."""

    files: tuple[FilePlan, ...]
    """Code modules, then builders by table."""
    tables: tuple[str, ...]
    """Tables to be created."""
    services: Mapping[str, str]
    """By name, whether a service is `new`, `same` or has `other limits`, which it keeps."""

    def __repr__(self) -> str:
        return apply_plan_text(self)

    def _repr_html_(self) -> str:
        return apply_plan_html(self)


@dataclass(frozen=True)
class Problem:
    """One mismatch between the catalog and the files."""

    kind: str
    """The kind of problem, in one or two words."""
    path: str
    """The file or folder, from the vault's folder on."""
    detail: str
    """A description of the problem."""


@dataclass(frozen=True, repr=False)
class VerifyReport:
    """The result of checking a vault's files against its catalog."""

    ok: bool
    """Whether there are no problems."""
    problems: tuple[Problem, ...]
    """All that were found."""
    checked: int
    """How many files and folders were checked."""

    def __repr__(self) -> str:
        return report_text(self)

    def _repr_html_(self) -> str:
        return report_html(self)


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
    """One column of one instance, with its builder, its inputs, and the columns that use it."""

    table_name: str
    """The table's name today."""
    instance_id: str
    """The instance that the column is of."""
    column: str
    """`*` where any column may have been read."""
    builder: str
    """Empty for a column that was written from outside."""
    function: str
    """`module.function`; empty for a column that was written from outside."""
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
    """The author that called that process."""
    made_at: datetime
    """When that process took effect, in UTC."""
    success: bool
    """Whether its instance is complete; one that was stopped with `materialize=True` is not."""
    deleted: bool
    """Whether its instance was deleted since; the facts come from its archived metadata."""
    imported_from: str = ""
    """Id of the vault that its instance was imported from; empty if it was made here."""
    inputs: tuple[LineageStep, ...] = ()
    """Columns that it was computed from, each with its own inputs."""
    origin: LineageStep | None = None
    """The column of the origin that its reused rows were taken from."""
    used_by: tuple[LineageStep, ...] = ()
    """Columns that were computed or copied from it, each with the columns that use it."""

    @property
    def name(self) -> str:
        """The column as a reference writes it."""
        return f"{self.table_name}({self.instance_id}).{self.column}"

    def __repr__(self) -> str:
        return step_text(self)


@dataclass(frozen=True, eq=False, repr=False)
class Lineage:
    """The origins and uses of the columns of an instance."""

    table_name: str
    """The table's name today."""
    instance_id: str
    """The instance that was asked for, or the newest."""
    columns: tuple[LineageStep, ...]
    """Each column with its `inputs` and its `used_by`."""

    @property
    def used_by(self) -> tuple[LineageStep, ...]:
        """The columns that were made directly from any of these."""
        return tuple(dict.fromkeys(user for step in self.columns for user in step.used_by))

    def to_dict(self) -> JsonObject:
        """Return everything as plain JSON data, in which each step is written once and named by its key.

        A step has the keys of its `inputs`, its `origin` and its `used_by`, where it has any and they were followed:
        `inputs` and `origin` upwards from the columns, `used_by` downwards.
        """
        return lineage_graph(self)

    def tree(self) -> Tree:
        """Return the same as `to_dict` as a tree for a terminal."""
        return lineage_tree(self)

    def __repr__(self) -> str:
        return lineage_text(self)

    def _repr_html_(self) -> str:
        return lineage_html(self)


@dataclass(frozen=True)
class RowCounts:
    """How many rows two instances share, and how many not."""

    added: int
    """Rows of the second instance only."""
    removed: int
    """Rows of the first instance only."""
    changed: int
    """Rows of both with a changed cell."""
    same: int
    """Rows of both without one."""
    not_computed: int
    """Rows of a temporary instance of which some cells are not computed yet; they are counted here only."""


@dataclass(frozen=True)
class ColumnDiff:
    """The changes of one column."""

    status: str
    """`same`, `changed`, `added`, `removed`, or `retyped` where the dtype is another one."""
    changed: int
    """Changed cells in rows of both instances."""
    recomputed_same: int
    """Cells that were computed anew, with an equal value."""
    causes: Mapping[str, int]
    """Listed cells by their causes, such as `code`, `arguments` or `new row`."""
    types: tuple[str, str]
    """Its dtype before and after; empty where the column is missing."""
    failed: tuple[int, int]
    """Failed and skipped cells before and after."""


@dataclass(frozen=True)
class BuilderDiff:
    """The changes of one builder."""

    text: str
    """Its file, as a unified diff; empty if only its code has changed."""
    reasons: tuple[str, ...]
    """Descriptions of the changes, as in the plan of an execution."""


@dataclass(frozen=True)
class DefinitionDiff:
    """The changes of builders, their code and inputs."""

    builders: Mapping[str, BuilderDiff]
    """The builders that have changed."""
    code: Mapping[str, str]
    """The changed definitions that their functions reach, by `module.name`, as unified diffs."""
    inputs: Mapping[str, tuple[str, str]]
    """The instances of other tables that were read before and after, by table, where they differ."""


@dataclass(frozen=True)
class ChangedCell:
    """One cell that differs."""

    key: Mapping[str, Any]
    """The values of the key of its row; without a key the position of the row, as `index`."""
    column: str
    """Its column."""
    before: Any
    """Its value before, as JSON; `None` also for a failed cell and in an added row."""
    after: Any
    """Its value after, likewise."""
    cause: str | None
    """Why it differs, such as `arguments: answer`; `None` if causes were not asked for."""


@dataclass(frozen=True, eq=False, repr=False)
class InstanceDiff:
    """The differences of two instances."""

    table_name: str
    """The table of the first instance."""
    after_table: str
    """The table of the second instance."""
    before_id: str
    """The first instance."""
    after_id: str
    """The second instance."""
    key: tuple[str, ...]
    """The columns by which rows were matched; empty where they were matched by position."""
    rows: RowCounts
    """Rows that were added, removed and changed."""
    columns: Mapping[str, ColumnDiff]
    """The compared columns."""
    definition: DefinitionDiff
    """The changes of builders, their code and inputs."""
    examples: tuple[ChangedCell, ...]
    """The first changed cells."""
    read_frame: Callable[[str, int | None, str], Any] = field(compare=False)
    """Reads what `frame` returns."""

    @property
    def differs(self) -> bool:
        """Whether a row, a cell or a dtype differs, or a column; a changed definition alone does not count."""
        rows = self.rows
        return bool(rows.added or rows.removed or rows.changed) or any(
            item.status != "same" for item in self.columns.values()
        )

    def frame(self, kind: str = "cells", rows: int | None = None, format: str = "pandas") -> Any:
        """Return the differences as a frame.

        Parameters
        ----------
        kind
            `cells`: a row for each changed cell, and for each cell of an added or removed row, with the key and
            `column`, `before`, `after`, `cause`. `added`, `removed`: the whole rows. `changed`: the rows with a changed
            cell, with the key, and `NAME.before` and `NAME.after` for each compared column.
        rows
            Maximum number.
        format
            `pandas`, `arrow` or `polars`.

        Raises
        ------
        TVArgumentError
            If there is no such kind or format.
        TVTableError
            If an instance was deleted meanwhile.
        """
        return self.read_frame(kind, rows, format)

    def to_dict(self) -> JsonObject:
        """Return everything but the frames as plain JSON data."""
        return diff_json(self)

    def __repr__(self) -> str:
        return diff_text(self)

    def _repr_html_(self) -> str:
        return diff_html(self)


@dataclass(frozen=True)
class GcItem:
    """An instance, leftover or worker log."""

    what: str
    """`instance`, `leftover` or `worker log`."""
    instance_id: str
    """The id of the instance; of a file its path, from the vault's folder on."""
    reasons: tuple[str, ...]
    """Why it is kept or removed."""
    bytes: int
    """The space that the disk gets back; 0 if it is kept."""
    row_id: int | None = field(repr=False)
    """Number of the instance in the catalog."""


@dataclass(frozen=True)
class GcGroup:
    """The materialized instances of one table and version."""

    table_name: str
    """The table."""
    version: str
    """The version."""
    keep: tuple[GcItem, ...]
    """The instances that stay, newest first."""
    remove: tuple[GcItem, ...]
    """The instances that would be removed, newest first."""


@dataclass(frozen=True, repr=False)
class GcPlan:
    """The plan of a garbage collection; `gc` removes exactly the instances and files in it."""

    policy: str
    """The rules."""
    groups: tuple[GcGroup, ...]
    """By table and version."""
    other: tuple[GcItem, ...]
    """Leftovers of crashes, and worker logs."""
    bytes: int
    """The space that the disk gets back; a file counts only if all of its hard links go."""
    keep_inputs: bool
    """Whether inputs of instances that stay are kept."""
    logs_before: str
    """The moment before which the processes of the worker logs had ended; empty if none are removed."""
    vault_id: str
    """The vault that it was made for."""

    @property
    def removed(self) -> tuple[GcItem, ...]:
        """The instances that would be removed, of all groups."""
        return tuple(item for group in self.groups for item in group.remove)

    def __repr__(self) -> str:
        return gc_text(self)

    def _repr_html_(self) -> str:
        return gc_html(self)


class ComputedIn(NamedTuple):
    """Where a cell was computed."""

    instance_id: str
    """The instance."""
    process_id: str
    """The process that made it."""
    author: str
    """The author that called that process."""
    when: datetime
    """When that process took effect, in UTC."""


@dataclass(frozen=True, eq=False, repr=False)
class CellTrace:
    """One cell: where its value comes from."""

    table_name: str
    """The table."""
    instance_id: str
    """The instance that was asked for."""
    column: str
    """The column."""
    key: Mapping[str, Any]
    """The values of the primary key of its row; without one the position of the row, as `index`."""
    value: Any
    """Its value; `None` for null, and for a cell without a value."""
    state: str
    """`computed`, `failed`, `skipped`, `not computed`, or `external` for a cell that a program wrote."""
    error: ErrorInfo | None
    """The error of a failed cell; of a skipped one, the error of the cell that caused the skip."""
    builder: str
    """The builder that made it; empty for an external cell."""
    function: str
    """`module.function`; empty for an external cell."""
    code_version: str
    """Digest of the builder and of all code that its function reaches, as it ran for this row."""
    source: str
    """The text of the function as it ran."""
    computed_in: ComputedIn | None
    """The instance in which the function ran for it; `None` if it did not."""
    arguments: dict[str, Any] | None
    """The arguments of the call, resolved again; `None` where something that they read is gone."""
    inputs: tuple[LineageStep, ...]
    """The columns that its column was computed from."""
    reused_through: tuple[str, ...]
    """The instances between the one that computed it and the one asked for, newest first, without either."""
    notes: tuple[str, ...]
    """Sentences about missing or unusual facts."""

    def to_dict(self) -> JsonObject:
        """Return everything as plain JSON data, inputs by their names."""
        return trace_json(self)

    def __repr__(self) -> str:
        return trace_text(self)

    def _repr_html_(self) -> str:
        return trace_html(self)


@dataclass(frozen=True, repr=False)
class Overview:
    """A vault at one moment."""

    root: Path
    """The vault's folder."""
    author: str
    """The author that opened it."""
    table_count: int
    """How many tables it has."""
    tables: tuple[tuple[TableRecord, InstanceRecord | None], ...]
    """The newest tables, each with its newest materialized instance."""
    processes: tuple[ProcessInfo, ...]
    """The active ones."""

    @property
    def hidden_tables(self) -> int:
        """How many older tables are not among `tables`."""
        return self.table_count - len(self.tables)

    def __repr__(self) -> str:
        return overview_text(self)

    def _repr_html_(self) -> str:
        return overview_html(self)
