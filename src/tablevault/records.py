"""Return values of reading methods, which the modules of `display` show."""

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
    """Its id, given by the user or generated."""
    operation: str
    """The name of the method that was called."""
    author: str
    """The author that called it."""
    table_name: str
    """The table that it concerns; empty if none."""
    instance_id: str
    """The instance that it concerns; empty if none."""
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
    """Ways to resume and stop it while it is paused."""
    remedies: tuple[Remedy, ...] = ()
    """The same as values; for a running process, ways to stop it."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """Counted calls and the amounts that they reported, summed over its builders."""
    waiting: str = ""
    """What its rows wait for: a limit of a service, jobs of a provider or resources of a cluster; empty if nothing."""

    def __repr__(self) -> str:
        return process_text(self)

    def _repr_html_(self) -> str:
        return process_html(self)

    @property
    def error_line(self) -> str:
        """The error in one line; empty without an error."""
        if self.error is None:
            return ""
        return in_line(f"{self.error.type.rpartition('.')[2]}: {self.error.message}".removesuffix(": "))


@dataclass(frozen=True)
class TagInfo:
    """A tag of one table."""

    tag: str
    """The tag as written; case is ignored."""
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
    """The plan of one builder; counts are `None` if an earlier builder must run first."""

    total: int | None
    """Number of rows."""
    reused: int | None
    """Rows that it would reuse from the origin."""
    computed: int | None
    """Rows that its function would compute or make."""
    reasons: tuple[str, ...]
    """Reasons for computing rows, and for unknown counts."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """Expected usage of its calls, by the mean of the origin's; empty if unknown."""


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
    """Reasons, in sentences."""
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
    """`execute`, `skip`, or `look` if only running can tell whether there is anything to do."""
    reasons: tuple[str, ...]
    """Reasons, in sentences."""
    after: tuple[str, ...]
    """The tables whose steps come before, because this one reads them."""
    computed: int | None
    """Rows to compute, summed over builders; `None` if an IndexBuilder or an earlier step must run first."""
    reused: int | None
    """Rows to reuse, summed likewise; an IndexBuilder that always runs counts in neither."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """Expected usage of the calls, summed likewise; empty if unknown."""

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
    """A file of a vault as specified by a definitions file."""

    path: str
    """Relative to the vault's folder."""
    state: str
    """`new`, `same`, `changed`, `removed` or `edited since`."""
    diff: str
    """The change of an existing file, line by line; empty without a change."""


@dataclass(frozen=True, repr=False)
class ApplyPlan:
    """The effects of `apply`."""

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
    """The file or folder, relative to the vault's folder."""
    detail: str
    """A description of the problem."""


@dataclass(frozen=True, repr=False)
class VerifyReport:
    """The result of checking a vault's files against its catalog."""

    ok: bool
    """Whether there are no problems."""
    problems: tuple[Problem, ...]
    """All problems found."""
    checked: int
    """Number of checked files and folders."""

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
    """Number of rows; `None` if it was not recorded by row."""
    ranges: tuple[tuple[int, int], ...]
    """Positions of the rows, as the first and last of each run."""


@dataclass(frozen=True, eq=False, repr=False)
class LineageStep:
    """One column of one instance, with its builder, its inputs, and the columns that use it."""

    table_name: str
    """The table's name today."""
    instance_id: str
    """The instance of the column."""
    column: str
    """`*` if any column may have been read."""
    builder: str
    """Empty for an externally written column."""
    function: str
    """`module.function`; empty for an externally written column."""
    arguments: dict[str, Any]
    """As written in the builder, without untracked ones."""
    code_versions: tuple[CodeVersion, ...]
    """More than one after a fix in a paused run."""
    computed: int | None
    """Rows that the process computed."""
    reused: int | None
    """Rows reused from an origin."""
    process_id: str
    """The process that made it; of an imported instance, the process of the vault that computed it."""
    author: str
    """The author that called that process."""
    made_at: datetime
    """When that process took effect, in UTC."""
    success: bool
    """Whether its instance is complete; one that was stopped with `materialize=True` is not."""
    deleted: bool
    """Whether its instance was deleted; the facts then come from archived metadata."""
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
        """The column in the notation of references."""
        return f"{self.table_name}({self.instance_id}).{self.column}"

    def __repr__(self) -> str:
        return step_text(self)


@dataclass(frozen=True, eq=False, repr=False)
class Lineage:
    """The origins and uses of the columns of an instance."""

    table_name: str
    """The table's name today."""
    instance_id: str
    """The requested instance, or the newest."""
    columns: tuple[LineageStep, ...]
    """Each column with its `inputs` and its `used_by`."""

    @property
    def used_by(self) -> tuple[LineageStep, ...]:
        """The columns that were made directly from any of these."""
        return tuple(dict.fromkeys(user for step in self.columns for user in step.used_by))

    def to_dict(self) -> JsonObject:
        """Return everything as plain JSON data, with each step written once and named by its key.

        A step has the keys of its `inputs`, its `origin` and its `used_by`, where it has any and they were followed:
        `inputs` and `origin` upwards from the columns, `used_by` downwards.
        """
        return lineage_graph(self)

    def tree(self) -> Tree:
        """Return the content of `to_dict` as a tree for a terminal."""
        return lineage_tree(self)

    def __repr__(self) -> str:
        return lineage_text(self)

    def _repr_html_(self) -> str:
        return lineage_html(self)


@dataclass(frozen=True)
class RowCounts:
    """Counts of the shared and differing rows of two instances."""

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
    """`same`, `changed`, `added`, `removed`, or `retyped` if the dtype differs."""
    changed: int
    """Changed cells in rows of both instances."""
    recomputed_same: int
    """Cells that were recomputed with an equal value."""
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
    """Cause of the difference, such as `arguments: answer`; `None` if causes were not requested."""


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
    """The columns by which rows were matched; empty if they were matched by position."""
    rows: RowCounts
    """Rows that were added, removed and changed."""
    columns: Mapping[str, ColumnDiff]
    """The compared columns."""
    definition: DefinitionDiff
    """The changes of builders, their code and inputs."""
    examples: tuple[ChangedCell, ...]
    """The first changed cells."""
    read_frame: Callable[[str, int | None, str], Any] = field(compare=False)
    """Reads the result of `frame`."""

    @property
    def differs(self) -> bool:
        """Whether a row, cell, dtype or column differs; a changed definition alone does not count."""
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
            Maximum number of rows.
        format
            `pandas`, `arrow` or `polars`.

        Raises
        ------
        TVArgumentError
            If the kind or format is unknown.
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
    """The id of the instance, or the path of a file relative to the vault's folder."""
    reasons: tuple[str, ...]
    """Reasons for keeping or removing it."""
    bytes: int
    """Freed disk space in bytes; 0 if it is kept."""
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
    """Freed disk space in bytes; a file counts only if all its hard links are removed."""
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
    """The instance and process that computed a cell."""

    instance_id: str
    """The instance."""
    process_id: str
    """The process that made it; of an imported instance, the process of the vault that computed it."""
    author: str
    """The author that called that process."""
    when: datetime
    """When that process took effect, in UTC."""


@dataclass(frozen=True, eq=False, repr=False)
class CellTrace:
    """The origin of one cell's value."""

    table_name: str
    """The table."""
    instance_id: str
    """The requested instance."""
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
    """The arguments of the call, resolved again; `None` if one of their inputs no longer exists."""
    inputs: tuple[LineageStep, ...]
    """The columns that its column was computed from."""
    reused_through: tuple[str, ...]
    """The instances between the computing and the requested one, newest first, excluding both."""
    notes: tuple[str, ...]
    """Sentences about missing or unusual facts."""
    input_row: Mapping[str, Any] | None = None
    """The input row that the row was made from, if its builder has `for_each`: its position in the input table, as
    `index`, and its primary key."""

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
    """Number of tables."""
    tables: tuple[tuple[TableRecord, InstanceRecord | None], ...]
    """The newest tables, each with its newest materialized instance."""
    processes: tuple[ProcessInfo, ...]
    """The active processes."""

    @property
    def hidden_tables(self) -> int:
        """Number of older tables that are not among `tables`."""
        return self.table_count - len(self.tables)

    def __repr__(self) -> str:
        return overview_text(self)

    def _repr_html_(self) -> str:
        return overview_html(self)
