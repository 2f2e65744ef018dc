"""The class TableVault, which turns method calls into operations and queries."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tablevault import names, operations
from tablevault.definitions.source_files import find_source, source_of_text
from tablevault.display.progress import ProgressDisplay
from tablevault.errors import TVArgumentError, TVProcessError
from tablevault.processes.engine import Engine
from tablevault.processes.failing import tell_unread
from tablevault.processes.messages import in_report, resuming
from tablevault.reading.overview import read_overview
from tablevault.reading.processes import ProcessReader
from tablevault.reading.requests import Reading, page
from tablevault.records import (
    ApplyPlan,
    CellTrace,
    GcPlan,
    InstanceDiff,
    InstancePlan,
    Lineage,
    Overview,
    ProcessInfo,
    RefreshPlan,
    TableStatus,
    TagInfo,
    VerifyReport,
)
from tablevault.state.formats import migrate
from tablevault.state.lookup import Lookup
from tablevault.state.opening import Settings, create_vault, open_context
from tablevault.surface import public_class
from tablevault.system.extras import imported
from tablevault.system.warnings import warn
from tablevault.values.addresses import Address, parse_address

if TYPE_CHECKING:
    from rich.tree import Tree

    from tablevault.definitions.source_files import SourceFiles
    from tablevault.presentation.frame_view import FrameView
    from tablevault.reading.instance_details import InstanceDetails
    from tablevault.reading.listings import Listings
    from tablevault.reading.queries import Queries
    from tablevault.reading.runs import TableOutcome
    from tablevault.reading.sql import Sql
    from tablevault.sql_engine.relations import DuckDBPyConnection
    from tablevault.storage.frames import FrameData
    from tablevault.values.contents import Page, Selection
    from tablevault.web.server import Server

_logger = logging.getLogger("tablevault")

_MINIMUM_PEAK_TO_RELEASE = 2**26
"""Minimum peak of Arrow's memory in bytes; below it, a release would cost more than it saves."""


@public_class
class TableVault:
    """A folder of tables, each a series of immutable instances, with the history of all operations.

    Every writing method is one atomic operation and returns its process id. Given a `process_id`, an error or an
    interrupt pauses it instead of reverting it: it keeps its locks and computed rows, and the same call with the same
    id continues after the last finished row, from any interpreter.

    Parameters
    ----------
    db_dir
        The vault's folder.
    author
        The author that operations are recorded under; the system user's name if empty.
    description
        Description of a new vault.
    create
        Create a new vault; the folder must be empty or missing.
    restart
        Resume or recover every active process without a live owner, as after a crash (see `restart_report`).
    verbose
        Log each operation with `logging`, logger `tablevault`.
    parent_id
        The process inside whose function this vault is opened; its operations become children of it.
    lock_timeout
        Seconds that an operation waits for locks of running processes.
    catalog_url
        URL of the catalog of a new vault, as `sqlite:////folder/catalog.db`; by default a SQLite file in the vault.
        The vault remembers it, so that later openings omit it. Databases other than SQLite are refused.
    exist_ok
        With `create`, open the vault if it exists. Of several concurrent interpreters, one creates it.
    ray
        The cluster on which builders with `executor: ray` run: a mapping with any of `address` (by default
        `RAY_ADDRESS`, or else a separate cluster on this machine), `runtime_env`, and `forward_env`, a list of
        environment variables that workers get.

    Raises
    ------
    TVArgumentError
        If the folder is not a vault; with `create`, if it is not empty, or is a vault and `exist_ok` is not set.
    TVProcessError
        If `parent_id` is not a running process.

    Examples
    --------
    >>> vault = TableVault("stories", author="ada", create=True)
    >>> vault.create_table("short_stories", process_id="make-table")
    'make-table'
    """

    def __init__(
        self,
        db_dir: str | Path,
        author: str = "",
        description: str = "",
        create: bool = False,
        restart: bool = False,
        verbose: bool = False,
        parent_id: str = "",
        *,
        lock_timeout: float = 5.0,
        catalog_url: str | None = None,
        exist_ok: bool = False,
        ray: Mapping[str, Any] | None = None,
    ) -> None:
        if operations.loaded_when_opened:
            operations.load()
        settings = Settings(author, lock_timeout, parent_id, catalog_url, ray)
        if create:
            create_vault(db_dir, description, settings, exist_ok)
        self._settings = settings
        self._context = open_context(db_dir, settings)
        self._verbose = verbose
        self._engine = Engine(self._context, ProgressDisplay())
        self._sql_reader: Sql | None = None
        self._processes = ProcessReader(self._context, self._engine.recovery.recover)
        self.restart_report: dict[str, str] = {}
        """Outcome of each active process when this vault was opened with `restart=True`."""
        if restart:
            self.restart_report = {name: in_report(outcome) for name, outcome in self._engine.restart().items()}
        self._engine.recovery.recover_all()

    def __reduce__(self) -> tuple[Callable[[], TableVault], tuple[()]]:
        """Make a copy, even in another interpreter, reopen the vault; connections and locks are not copied."""
        return partial(TableVault, self.db_dir, verbose=self._verbose, **asdict(self._settings)), ()

    @cached_property
    def _queries(self) -> Queries:
        from tablevault.reading.queries import Queries  # Imports Arrow, which a listing of processes avoids.

        return Queries(self._context)

    @property
    def db_dir(self) -> str:
        """The vault's folder, as an absolute path."""
        return str(self._context.layout.root)

    @property
    def author(self) -> str:
        """The author that operations are recorded under."""
        return self._context.author

    # --- tables ---------------------------------------------------------------------------------------------------

    def create_table(
        self,
        table_name: str,
        allow_multiple_artifacts: bool = False,
        has_side_effects: bool = False,
        description: str = "",
        process_id: str = "",
        *,
        exist_ok: bool = False,
    ) -> str:
        """Create a table without instances.

        Parameters
        ----------
        table_name
            ASCII letters, digits, `-`, `_`; unique regardless of case.
        allow_multiple_artifacts
            Whether each instance keeps its own artifacts; otherwise the table has one set, that of its newest
            successful instance.
        has_side_effects
            Whether executing an instance changes something outside the vault. If so, only one execution runs at a time,
            reading raises `TVLockError` meanwhile, and older instances become inactive.
        description
            Free text.
        process_id
            Id of the process; if given, errors pause it instead of reverting it.
        exist_ok
            Change nothing if the table exists with the same `allow_multiple_artifacts` and `has_side_effects`.

        Raises
        ------
        TVArgumentError
            If the name is not allowed, or taken; with `exist_ok`, if the table of this name has other settings.
        """
        operation = operations.CreateTable(
            table_name, allow_multiple_artifacts, has_side_effects, description, exist_ok
        )
        return self._run(operation, process_id)

    make_table = create_table

    def rename_table(self, new_table_name: str, table_name: str, process_id: str = "") -> str:
        """Rename a table; its instances, their ids and their lineage are unchanged."""
        return self._run(operations.RenameTable(new_table_name, table_name), process_id)

    def delete_table(self, table_name: str, process_id: str = "") -> str:
        """Delete a table with its frames and artifacts; metadata stays in `metadata/ARCHIVED_TRASH`."""
        return self._run(operations.DeleteTable(table_name), process_id)

    def write(
        self,
        table_name: str,
        frame: Any,
        *,
        version: str = names.DEFAULT_VERSION,
        primary_key: Sequence[str] | str | None = None,
        dtypes: Mapping[str, str] | None = None,
        dependencies: Sequence[tuple[str, str]] | None = None,
        description: str = "",
        skip_unchanged: bool = True,
        process_id: str = "",
    ) -> str:
        """Write a frame as the newest instance of a table, in one operation.

        A missing table is created.

        A temporary instance of the version is unchanged.

        Parameters
        ----------
        table_name
            The table.
        frame
            A frame of pandas, polars, pyarrow or anything with Arrow's PyCapsule interface; never modified.
        version
            The version of the instance.
        primary_key
            Columns whose values are unique and not null; checked and recorded.
        dtypes
            Column -> dtype, as in builder files; other columns keep their own.
        dependencies
            `(table_name, instance_id)` of its inputs, for its lineage.
        description
            Description of the instance.
        skip_unchanged
            Make no instance if the newest one of the version has the same rows, types and primary key.
        process_id
            Id of the process; if given, errors pause it instead of reverting it.

        Raises
        ------
        TVTableError
            If a column's name or a value is invalid, or the primary key is null or not unique; names column and row.

        Examples
        --------
        >>> vault.write("prices", pandas.DataFrame({"fruit": ["fig"], "price": [0.3]}))  # doctest: +SKIP
        """
        operation = operations.Write(
            table_name, frame, version, _listed(primary_key), _mapped(dtypes), dependencies, description, skip_unchanged
        )
        return self._run(operation, process_id)

    # --- instances ------------------------------------------------------------------------------------------------

    def create_instance(
        self,
        table_name: str,
        version: str = names.DEFAULT_VERSION,
        origin_id: str = "",
        origin_table: str = "",
        external_edit: bool = False,
        copy: bool = False,
        builders: Sequence[str] | Mapping[str, str] | None = None,
        *,
        process_id: str = "",
        description: str = "",
    ) -> str:
        """Create a temporary instance of a table, to be filled by its builders or by `write_instance`.

        Parameters
        ----------
        table_name, version
            The instance is `TEMP_<version>` of this table.
        origin_id, origin_table
            Copy the builders of this instance, and reuse its cells on execution.
        external_edit
            The frame will come from `write_instance`.
        copy
            Use the newest active instance of this version as the origin, or else the newest of any version, if any.
        builders
            Names of builders (templates are written), or name -> YAML text.
        process_id
            Id of the process; if given, errors pause it instead of reverting it.
        description
            Free text.
        """
        given = list(builders) if isinstance(builders, tuple) else builders
        operation = operations.CreateInstance(
            table_name, version, origin_id, origin_table, external_edit, copy, given, description
        )
        return self._run(operation, process_id)

    def write_instance(
        self,
        table_df: Any,
        table_name: str,
        version: str = names.DEFAULT_VERSION,
        dependencies: Sequence[tuple[str, str]] | None = None,
        dtypes: Mapping[str, str] | None = None,
        process_id: str = "",
    ) -> str:
        """Materialize a frame into a temporary instance created with `external_edit=True`.

        Parameters
        ----------
        table_df
            A frame of pandas, polars, pyarrow or anything with Arrow's PyCapsule interface; never modified.
        table_name, version
            The instance.
        dependencies
            `(table_name, instance_id)` of its inputs, for its lineage.
        dtypes
            Column -> dtype, as in builder files; other columns keep their own.
        process_id
            Id of the process; if given, errors pause it instead of reverting it.

        Raises
        ------
        TVTableError
            If a column's name or a value is invalid; names column and row.
        TVArtifactError
            If named and existing artifacts do not agree.
        """
        operation = operations.WriteInstance(table_df, table_name, version, dependencies, _mapped(dtypes))
        return self._run(operation, process_id)

    def execute_instance(
        self,
        table_name: str,
        version: str = names.DEFAULT_VERSION,
        force_execute: bool = False,
        process_id: str = "",
        background: bool = False,
        reuse_partial: bool = False,
        *,
        policies: Mapping[str, Mapping[str, Any]] | None = None,
        budget: Mapping[str, float] | None = None,
        skip_unchanged: bool = False,
    ) -> str:
        """Run the builders of a temporary instance and materialize it.

        Parameters
        ----------
        table_name, version
            The instance.
        force_execute
            Compute all cells without reusing any.
        process_id
            Id of the process; if given, errors pause it, and the same call continues after the last finished row.
        background
            Return after all checks, and let a detached worker run it (see `wait_process`).
        reuse_partial
            Reuse the computed cells of an execution that was reverted.
        policies
            Policy fields that replace those of the builder files, from the name of a builder, or `*` for all, to a
            mapping of fields, such as ``{"answer": {"on_error": "collect", "retry": 3}}``. Given again when a paused
            process is resumed, they replace the earlier ones for the rest of the run.
        budget
            Limits of the usage of all calls in all attempts of the process: `calls`, or amounts that functions report,
            such as ``{"calls": 1000, "cost": 5}``. Once it is spent, the run ends with `BudgetSpent`. Given again when
            a paused process is resumed, it replaces the earlier one.
        skip_unchanged
            Make no instance if the newest one of the version is the origin and would not change: the same rows and
            builders, and all other cells reused. The temporary instance is then removed, and the process refers to the
            origin.

        Raises
        ------
        TVArgumentError
            If `policies` names a builder that does not exist, or an invalid or meaningless field.
        TVBuilderError, TableReferenceError
            If a builder is invalid; before any function runs.
        Exception
            Any exception of a function, unchanged, with a note on the outcome of the process.
        """
        operation = operations.ExecuteInstance(
            table_name, version, force_execute, reuse_partial, skip_unchanged, policies, budget
        )
        return self._run(operation, process_id, background)

    def retry_failed(
        self,
        table_name: str,
        instance_id: str = "",
        version: str = names.DEFAULT_VERSION,
        process_id: str = "",
        background: bool = False,
        *,
        policies: Mapping[str, Mapping[str, Any]] | None = None,
        budget: Mapping[str, float] | None = None,
    ) -> str:
        """Compute the failed, skipped and missing rows of a materialized instance into a new one.

        Version, rows, builders and inputs are those of the instance; the code is the current one. Later builders
        recompute rows whose arguments change as a result. All other cells are reused, even if their code has changed.
        If there is nothing to retry, it warns and makes no instance.

        Parameters
        ----------
        table_name, instance_id, version
            The instance; without an id, the newest of the version.
        process_id
            Id of the process; if given, errors pause it, and the same call continues after the last finished row.
        background
            Return after all checks, and let a detached worker run it (see `wait_process`).
        policies, budget
            Policy fields that replace those of the builder files, and limits of usage, as for `execute_instance`.

        Raises
        ------
        TVTableError
            If an input of the instance was deleted; before any function runs.
        TVBuilderError, TableReferenceError
            If a builder does not fit the current code; before any function runs.
        Exception
            Any exception of a function, unchanged, with a note on the outcome of the process.
        """
        return self._run(
            operations.RetryFailed(table_name, instance_id, version, policies, budget), process_id, background
        )

    def plan_instance(
        self,
        table_name: str,
        version: str = names.DEFAULT_VERSION,
        force_execute: bool = False,
        *,
        run_index: bool = False,
    ) -> InstancePlan:
        """Return the plan of `execute_instance`; runs no function except the IndexBuilder's with `run_index`."""
        from tablevault.freshness.planning import plan_execution

        return plan_execution(self._context, operations.ExecuteInstance(table_name, version, force_execute), run_index)

    def get_status(
        self,
        table_names: Sequence[str] | str | None = None,
        *,
        version: str = names.DEFAULT_VERSION,
        run_index: bool = False,
    ) -> dict[str, TableStatus]:
        """Return whether tables are up to date with their builders, code and input tables.

        Nothing is written, locked or recorded. A table is never assumed to be fresh: if only running an IndexBuilder
        can tell, it is `unknown`.

        Parameters
        ----------
        table_names
            A table, a list of tables, or `None`: all that have an instance of the version.
        version
            The version.
        run_index
            Run IndexBuilders that read outside the vault, discarding their results, to tell fresh from stale.

        Raises
        ------
        TVArgumentError
            If a table does not exist.
        TVBuilderError
            If tables read one another in a cycle.
        """
        from tablevault.freshness.status import named_tables, read_status

        checked = names.check_version(version)
        return read_status(self._context, named_tables(self._context, table_names, checked), checked, run_index)

    def plan_refresh(
        self,
        table_names: Sequence[str] | str | None = None,
        *,
        version: str = names.DEFAULT_VERSION,
        upstream: bool = True,
        downstream: bool = False,
        run_index: bool = False,
    ) -> RefreshPlan:
        """Return the plan of `refresh` in order of execution.

        Makes the same checks as `refresh` before it calls any function.

        Parameters
        ----------
        table_names
            A table, a list of tables, or `None`: all that have an instance of the version.
        version
            The version.
        upstream
            Include the tables that these read, directly or indirectly.
        downstream
            Include the tables that read these, directly or indirectly.
        run_index
            Run IndexBuilders that read outside the vault, discarding their results, to tell fresh from stale.

        Raises
        ------
        TVArgumentError
            If a table does not exist or has neither an instance nor builders, or a step reads a table with side effects
            that is neither up to date nor named.
        TVBuilderError, TableReferenceError
            If tables read one another in a cycle, or the builders of a step are invalid.
        TVLockError
            If a paused process blocks a step.
        """
        from tablevault.freshness.status import named_tables
        from tablevault.freshness.steps import RefreshSelection, plan_refresh

        checked = names.check_version(version)
        named = named_tables(self._context, table_names, checked)
        return plan_refresh(self._context, RefreshSelection(checked, named, upstream, downstream), run_index)

    def delete_instance(self, instance_id: str, table_name: str, process_id: str = "") -> str:
        """Delete an instance with its frame and artifacts; its metadata stays archived."""
        return self._run(operations.DeleteInstance(instance_id, table_name), process_id)

    def refresh(
        self,
        table_names: Sequence[str] | str | None = None,
        *,
        version: str = names.DEFAULT_VERSION,
        upstream: bool = True,
        downstream: bool = False,
        keep_going: bool = False,
        process_id: str = "",
        background: bool = False,
        policies: Mapping[str, Mapping[str, Any]] | None = None,
        budget: Mapping[str, float] | None = None,
    ) -> str:
        """Execute the tables that are not up to date, each after the tables that it reads.

        Each table is a child process `<process id>.<table>`, an `execute_instance` with `skip_unchanged` and
        `reuse_partial`. If a table is recomputed to equal values, the tables that read it are not executed.

        Parameters
        ----------
        table_names
            A table, or several; without it, all tables of the version. A table with side effects is only executed if
            it is named.
        version
            The version of the tables.
        upstream
            Also refresh the tables that these read, directly or indirectly.
        downstream
            Also refresh the tables that read these, directly or indirectly.
        keep_going
            After a failure, first finish the tables that do not depend on it.
        process_id
            Id of the process; if given, errors pause it, and the same call continues with the remaining tables.
        background
            Return after all checks, and let a detached worker run it (see `wait_process`).
        policies
            Policy fields that replace those of the builder files, as for `execute_instance`; also for `table.builder`,
            which takes precedence over `builder`, and that over `*`.
        budget
            Limits of the usage of all tables together, as for `execute_instance`.

        Raises
        ------
        TVBuilderError, TableReferenceError
            If a builder is invalid, or tables read one another in a cycle; before any function runs.
        TVArgumentError
            If a table has neither an instance nor builders; if a table with side effects is needed and not named; if
            `policies` matches no builder.
        TVLockError
            If a paused process blocks the refresh.
        Exception
            Any exception of a function, unchanged, with a note on the outcome of the process.

        Examples
        --------
        >>> vault.refresh("report", process_id="nightly-2026-11-28")  # doctest: +SKIP
        """
        from tablevault.freshness.refresh import Refresh

        given = [table_names] if isinstance(table_names, str) else table_names
        named = None if given is None else list(given)
        operation = Refresh(named, version, upstream, downstream, keep_going, policies, budget)
        return self._run(operation, process_id, background)

    # --- definitions ----------------------------------------------------------------------------------------------

    def apply(
        self,
        source: str | Path,
        *,
        version: str = names.DEFAULT_VERSION,
        overwrite: bool = False,
        process_id: str = "",
    ) -> str:
        """Write the builders and code modules of a definitions file in one operation.

        Missing tables are created.

        The file is run once, in this interpreter. Manually written builders and modules are unchanged.

        Parameters
        ----------
        source
            A Python file that defines tables with `tablevault.define`, or a folder of Python files.
        version
            The version of the tables: builders are written into `TEMP_<version>`.
        overwrite
            Replace files that were edited since they were applied.
        process_id
            Id of the process; if given, errors pause it instead of reverting it.

        Raises
        ------
        TVArgumentError
            If a file was edited since it was applied, with the difference; if the source does not exist, or a table
            exists with other flags.
        TVBuilderError, TableReferenceError
            If a definition is invalid; names file and line.
        Exception
            An exception of the file itself, unchanged; nothing is recorded.

        Examples
        --------
        >>> vault.apply("answers.py")  # doctest: +SKIP
        """
        operation = self._read_source(find_source(str(source)), version, overwrite)
        return self._run(operation, process_id)

    def plan_apply(
        self, source: str | Path, *, version: str = names.DEFAULT_VERSION, overwrite: bool = False
    ) -> ApplyPlan:
        """Return the effect of `apply` on each file; runs the source, but changes nothing.

        Parameters
        ----------
        source, version, overwrite
            As for `apply`.

        Raises
        ------
        TVArgumentError, TVBuilderError, TableReferenceError, Exception
            As `apply`, except that files edited since are listed.
        """
        operation = self._read_source(find_source(str(source)), version, overwrite)
        return operation.preview(Lookup(self._context))

    def _read_source(self, source: SourceFiles, version: str, overwrite: bool) -> operations.Apply:
        try:
            return operations.Apply.read(self._context, source, version, overwrite)
        except BaseException as error:
            tell_unread(self._context, error, None)
            raise

    def _apply_text(self, name: str, text: str, version: str, overwrite: bool) -> ApplyPlan:
        """Apply a text as `apply` does with a file of this name; return the changes."""
        operation = self._read_source(source_of_text(name, text), version, overwrite)
        plan = operation.preview(Lookup(self._context))
        self._run(operation, "")
        return plan

    def run(
        self,
        source: str | Path,
        *,
        version: str = names.DEFAULT_VERSION,
        process_id: str = "",
        background: bool = False,
        policies: Mapping[str, Mapping[str, Any]] | None = None,
        budget: Mapping[str, float] | None = None,
    ) -> str:
        """Apply a definitions file, then execute its tables that are not up to date.

        This is one operation, whose children are an `apply` and an execution for each table, in topological order.
        After an error, the same call continues with the code and policies as edited meanwhile. Tables that the source
        reads but does not define are not brought up to date.

        Parameters
        ----------
        source
            A Python file that defines tables with `tablevault.define`, or a folder of Python files; empty to continue
            the run of `process_id` without reading the source again.
        version
            The version of the tables.
        process_id
            The id of the run. Without one, the newest paused run of the same source and version is continued, or a new
            one begins with an id made of the source's name and the time. Errors always pause a run.
        background
            Return after checking the definitions, and let a detached worker continue (see `wait_process`).
        policies, budget
            Policy fields that replace those of the builders, and limits of usage, as for `refresh`.

        Raises
        ------
        TVArgumentError
            If the source does not exist or defines no table, or a file of the vault was edited since it was applied.
        TVBuilderError, TableReferenceError
            If a definition is invalid; names file and line.
        TVProcessError
            If another interpreter runs the source, or an edit of the source keeps its paused run from continuing.
        Exception
            An exception of the source or of a function, unchanged.

        Examples
        --------
        >>> vault.run("answers.py")  # doctest: +SKIP
        """
        from tablevault.freshness.run import check_not_running, choose_run, paused_run

        place = str(source)
        try:
            recover = self._engine.recovery.recover
            call = choose_run(self._context, place, version, process_id, policies, budget, recover)
        except BaseException as error:
            tell_unread(self._context, error, paused_run(self._context, place, version, process_id))
            raise
        if call.continues is not None:
            warn(resuming(call.continues))
        try:
            return self._run(call.operation, call.process_id, background)
        except TVProcessError:
            # Two runs that begin within one second choose the same id; the error names the other one.
            check_not_running(self._context, self._context.layout.source_place(call.operation.source), version)
            raise

    def _run_outcomes(self, process_id: str) -> list[TableOutcome]:
        """Return the result of a run for each of its tables."""
        from tablevault.reading.runs import table_outcomes

        return table_outcomes(self._context, process_id)

    # --- tags -----------------------------------------------------------------------------------------------------

    def create_tag(
        self,
        tag: str,
        instances: str | Sequence[str] | Mapping[str, str] | None = None,
        *,
        version: str = names.DEFAULT_VERSION,
        move: bool = False,
        description: str = "",
        process_id: str = "",
    ) -> str:
        """Tag materialized instances, at most one of each table, in one operation.

        A tagged instance cannot be deleted and keeps its artifacts. `@tag` replaces its id in all methods with an
        `instance_id`, `table@tag` in addresses, and `<<table(@tag)>>` in references.

        Parameters
        ----------
        tag
            ASCII letters, digits, `-`, `_`; case is ignored.
        instances
            An address such as `stories(v2)`, a list of addresses, or table -> instance id. `None` is the newest active
            successful instance of `version` of every table that has one.
        version
            Version of the instances, if none are named.
        move
            Allow moving the tag from another instance of the same table.
        description
            Free text.
        process_id
            Id of the process; if given, errors pause it instead of reverting it.

        Raises
        ------
        TVArgumentError
            If the tag is invalid, or names another instance of a table; if an instance does not exist.

        Examples
        --------
        >>> vault.create_tag("paper-v1", ["stories", "reviews(v2)"])  # doctest: +SKIP
        """
        given = instances if instances is None or isinstance(instances, str) else _plain(instances)
        return self._run(operations.CreateTag(tag, given, version, move, description), process_id)

    def delete_tag(self, tag: str, table_names: Sequence[str] | str | None = None, *, process_id: str = "") -> str:
        """Delete a tag of one table, of several tables, or of all (`None`).

        The instances are kept.

        Artifacts that were kept only by the tag are deleted.
        """
        given = [table_names] if isinstance(table_names, str) else table_names
        return self._run(operations.DeleteTag(tag, None if given is None else list(given)), process_id)

    def get_tags(self, table_name: str = "") -> list[TagInfo]:
        """Return the tags of a table, or of all tables, ordered by tag and table."""
        return self._queries.tags(table_name)

    # --- code and builders ----------------------------------------------------------------------------------------

    def create_code_module(
        self, module_name: str = "", copy_dir: str | Path = "", text: str = "", process_id: str = ""
    ) -> str:
        """Write a code module from a text, file or folder, or from a template.

        The template is used if no module exists yet.
        """
        return self._run(operations.CreateCodeModule(module_name, str(copy_dir), text or None), process_id)

    def delete_code_module(self, module_name: str, process_id: str = "") -> str:
        """Delete a code module; instances keep their archived copies."""
        return self._run(operations.DeleteCodeModule(module_name), process_id)

    def create_builder_file(
        self,
        table_name: str,
        builder_name: str = "",
        version: str = names.DEFAULT_VERSION,
        copy_dir: str | Path = "",
        text: str = "",
        process_id: str = "",
    ) -> str:
        """Write a builder file from a text, file or folder, or from a template.

        The template is used if no file exists yet.
        """
        operation = operations.CreateBuilderFile(table_name, builder_name, version, str(copy_dir), text or None)
        return self._run(operation, process_id)

    def delete_builder_file(
        self, builder_name: str, table_name: str, version: str = names.DEFAULT_VERSION, process_id: str = ""
    ) -> str:
        """Delete a builder file of a temporary instance."""
        return self._run(operations.DeleteBuilderFile(builder_name, table_name, version), process_id)

    # --- services -------------------------------------------------------------------------------------------------

    def set_service(self, name: str, limits: Mapping[str, Any] | None) -> str:
        """Set the limits of an external service, for all builders and processes of the vault together.

        Running executions follow new limits within two seconds.

        Parameters
        ----------
        name
            The service, as named in the field `service` of builders.
        limits
            Each `AMOUNT_per_second`, `_per_minute`, `_per_hour` or `_per_day`, or `max_concurrency`, to a number. The
            amount is `calls`, or any name that functions report with `tablevault.report_usage`. `None` removes the
            service.

        Raises
        ------
        TVArgumentError
            If a limit or its number is invalid, or the service to remove does not exist.

        Examples
        --------
        >>> vault.set_service("openai", {"calls_per_minute": 500, "max_concurrency": 50})  # doctest: +SKIP
        """
        return self._run(operations.SetService(name, limits), "")

    def get_services(self) -> dict[str, dict[str, float]]:
        """Return the limits of each service, by its name."""
        return {name: dict(limits) for name, limits in self._context.catalog.contents.services().items()}

    # --- processes ------------------------------------------------------------------------------------------------

    def stop_process(
        self,
        process_id: str = "",
        force: bool = False,
        materialize: bool = False,
        own_process_id: str = "",
        *,
        to_stop_process_id: str = "",
        timeout: float = 5.0,
    ) -> str:
        """Revert an active process and release its locks; return the id of the stop itself.

        Parameters
        ----------
        process_id
            The process to stop; the stop's own id if `to_stop_process_id` is given.
        force
            Stop even a running process, which is asked to stop at its next row or batch.
        materialize
            Make the computed cells an active instance, marked as not successful.
        own_process_id
            The stop's own id.
        to_stop_process_id
            The process to stop, in the form of older calls.
        timeout
            Seconds to wait for a live owner.
        """
        from tablevault.processes.stopping import StopProcess

        target, own = (to_stop_process_id, process_id) if to_stop_process_id else (process_id, own_process_id)
        return self._run(StopProcess(target, force, materialize, timeout), own or own_process_id)

    def generate_process_id(self) -> str:
        """Return a new, unused process id."""
        return names.new_process_id()

    def get_active_processes(self) -> dict[str, ProcessInfo]:
        """Return the running and paused processes by id, oldest first."""
        return self._processes.active()

    def get_process(self, process_id: str) -> ProcessInfo:
        """Return everything about a process, ended or not; raise `TVProcessError` for an unknown id."""
        return self._processes.info(self._processes.record(process_id))

    def get_process_completion(self, process_id: str) -> bool:
        """Return whether a process has ended, successfully or not."""
        return self._processes.has_ended(process_id)

    def wait_process(self, process_id: str, timeout: float | None = None) -> ProcessInfo:
        """Wait for a process that another interpreter runs, and raise its error.

        Raises
        ------
        TimeoutError
            If it has not ended after `timeout` seconds.
        Exception
            The error of the process: a `TableVaultError` or built-in exception by its own class, any other as a
            `TVProcessError` with its type, text and traceback.
        """
        return self._processes.wait(process_id, timeout)

    def watch(self, process_id: str) -> ProcessInfo:
        """Show a process of another interpreter live until it has ended or paused.

        It is shown below the cell in a notebook, as lines on a terminal, and not at all elsewhere. An interrupt does
        not affect the process.

        Parameters
        ----------
        process_id
            The process.

        Returns
        -------
        ProcessInfo
            The process at that time. Its error is not raised; `wait_process` does that.

        Examples
        --------
        >>> process_id = vault.run("stories.py", background=True)  # doctest: +SKIP
        >>> vault.watch(process_id)  # doctest: +SKIP
        """
        from tablevault.display.following import follow

        def read() -> ProcessInfo:
            info = self.get_process(process_id)
            if info.ended_at is None and info.owner is not None and not info.owner.alive:
                # Its owner has died: it is paused or reverted.
                self._engine.recovery.recover_all()
                info = self.get_process(process_id)
            return info

        return follow(read)

    def show(
        self,
        table_name: str,
        instance_id: str = "",
        version: str = names.DEFAULT_VERSION,
        *,
        rows: int = 20,
        offset: int = 0,
        columns: Sequence[str] | None = None,
    ) -> FrameView:
        """Return a page of a frame with its artifacts, for display in a notebook.

        Pictures of at most 256 KiB are shown, sounds of at most 1 MiB have a player, other artifacts are shown by name.
        Failed and skipped cells show the reason.

        Parameters
        ----------
        table_name, instance_id, version
            The instance; `TEMP_<version>` shows the cells computed so far.
        rows, offset
            Maximum number of rows, and the position of the first.
        columns
            The columns; all if left out.

        Examples
        --------
        >>> vault.show("stories", rows=5)  # doctest: +SKIP
        """
        from tablevault.presentation.frame_view import read_view

        if rows < 1 or offset < 0:
            raise TVArgumentError(f"show takes rows from 1 and an offset from 0, not {rows} and {offset}.")
        return read_view(self, Address(table_name, instance_id, version), rows, offset, _listed(columns))

    def get_history(
        self, table_name: str = "", author: str = "", operation: str = "", status: str = "", limit: int = 100
    ) -> list[ProcessInfo]:
        """Return the history of this vault, newest first.

        Parameters
        ----------
        table_name, author, operation, status
            Filters; empty values match any.
        limit
            Maximum number of processes.

        Raises
        ------
        TVArgumentError
            If the operation or status is unknown, the table never existed, or `limit` is less than 1.
        """
        filters = {"table_name": table_name, "author": author, "operation": operation, "status": status}
        return self._processes.history(filters, limit)

    # --- reading --------------------------------------------------------------------------------------------------

    def get_dataframe(
        self,
        table_name: str,
        instance_id: str = "",
        version: str = names.DEFAULT_VERSION,
        active_only: bool = True,
        successful_only: bool = False,
        rows: int | None = None,
        full_artifact_path: bool = True,
        *,
        columns: Sequence[str] | None = None,
        format: Literal["pandas", "arrow", "polars"] = "pandas",
        failed: Literal["null", "drop", "raise"] = "null",
        offset: int = 0,
        as_of: datetime | str | None = None,
    ) -> tuple[Any, str]:
        """Return a frame and the id of its instance.

        Parameters
        ----------
        table_name, instance_id
            The instance, by its id or `@tag`; without an id the newest of `version`. `TEMP_<version>` reads what an
            unfinished execution has computed.
        version, active_only, successful_only
            Filters for the instance if there is no id.
        rows
            Maximum number of rows, counted from the first one or from `offset`.
        full_artifact_path
            Whether artifact columns hold full paths instead of names in the instance's artifact folder.
        columns
            Names of the columns, in this order; all if left out.
        format
            `pandas`, `arrow` or `polars`.
        failed
            How to treat rows that failed or were skipped in a column that is read: `null` shows their cells as null,
            `drop` leaves the rows out, `raise` raises a `TVTableError`.
        offset
            Number of rows to skip. Only the needed parts of the file are read.
        as_of
            Without an id: the newest instance at an earlier moment, a `datetime` with an offset from UTC; or when a
            process had committed, by its id. `active_only` does not apply, since past activity is not recorded.

        Raises
        ------
        TVTableError
            If a column does not exist, the instance has no frame, or the instance of that moment was deleted since.
        TVArgumentError
            If the table or instance does not exist, or did not exist at that moment.
        """
        read = partial(
            self._frame,
            self._queries.selection(table_name, instance_id, version, active_only, successful_only, as_of),
            columns,
            page(offset, rows),
            full_artifact_path,
            failed,
        )
        return self._converted(format, read)

    def scan(
        self,
        table_name: str,
        instance_id: str = "",
        version: str = names.DEFAULT_VERSION,
        *,
        active_only: bool = True,
        successful_only: bool = False,
        as_of: datetime | str | None = None,
        columns: Sequence[str] | None = None,
        format: Literal["polars", "arrow", "duckdb"] = "polars",
        full_artifact_path: bool = True,
        check_content: bool = True,
    ) -> tuple[Any, str]:
        """Return a lazy frame and the id of its instance.

        The instance is chosen now; its file is read with the lazy frame. If the instance is deleted meanwhile, reading
        raises an error of that library.

        Parameters
        ----------
        table_name, instance_id, version, active_only, successful_only, as_of, columns
            As for `get_dataframe`; a temporary instance has no file.
        format
            `polars`: a `LazyFrame`; `arrow`: a `pyarrow.dataset.Dataset`; `duckdb`: a `DuckDBPyRelation` on a
            separate connection. `polars` and `arrow` have the exact types of the columns.
        full_artifact_path
            Whether artifact columns hold full paths; with `arrow` they cannot.
        check_content
            Verify the checksums of the columns when they are first read through this object. Footer and seal of the
            file are always checked.

        Raises
        ------
        TVFileError
            If the file is damaged.
        TVArgumentError
            If the library is not installed, or the instance is temporary or does not exist.

        Examples
        --------
        >>> lazy, instance_id = vault.scan("stories")  # doctest: +SKIP
        >>> lazy.filter(polars.col("score") > 3).collect()  # doctest: +SKIP
        """
        selection = self._queries.selection(table_name, instance_id, version, active_only, successful_only, as_of)
        return self._queries.scan(selection, columns, format, full_artifact_path, check_content)

    def get_frame_path(
        self,
        table_name: str,
        instance_id: str = "",
        version: str = names.DEFAULT_VERSION,
        *,
        check_content: bool = True,
    ) -> str:
        """Return the path of an instance's frame, a read-only Parquet file for other programs.

        Parameters
        ----------
        table_name, instance_id, version
            The instance; without an id the newest active one of `version`.
        check_content
            Verify the checksums of all columns, once per object.
        """
        selection = self._queries.selection(table_name, instance_id, version, True, False, None)
        return str(self._queries.frame_path(selection, check_content))

    def query(
        self,
        sql: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        as_of: datetime | str | None = None,
        frames: Mapping[str, Any] | None = None,
        format: Literal["pandas", "arrow", "polars"] = "pandas",
        rows: int | None = None,
        timeout: float | None = None,
        memory_limit: str = "",
        full_artifact_path: bool = False,
        check_content: bool = True,
    ) -> tuple[Any, dict[str, str]]:
        """Run one SQL statement that reads instances; return its rows, and the instances that it read.

        A name in `FROM` is a table, or any address as a quoted identifier: `FROM stories JOIN "stories@paper"`. The
        statement runs in an isolated engine that can read the named frames and nothing else.

        Parameters
        ----------
        sql
            A statement in DuckDB's dialect: SELECT, FROM, VALUES, TABLE, DESCRIBE, SUMMARIZE or UNPIVOT.
        parameters
            Values for `?`, or name -> value for `$name`.
        as_of
            An earlier moment, as for `get_dataframe`; addresses with an id or a tag are unaffected.
        frames
            Name -> frame of further tables; local variables are never read.
        format
            `pandas`, `arrow` or `polars`.
        rows
            Maximum number of rows.
        timeout
            Seconds.
        memory_limit
            Maximum memory, such as `1GiB`; empty for DuckDB's default.
        full_artifact_path
            Whether artifact columns hold full paths instead of names.
        check_content
            Verify the checksums of frames when they are first read through this object.

        Returns
        -------
        tuple
            The rows, and address as written -> instance id.

        Raises
        ------
        TVArgumentError
            If the statement may not run, or names no table.
        TVTableError
            For any other error of the statement.
        TVFileError
            If a frame is damaged.
        TimeoutError
            If it has not ended after `timeout` seconds.

        Examples
        --------
        >>> vault.query("SELECT author, count(*) AS n FROM stories GROUP BY author")  # doctest: +SKIP
        """
        convert = self._queries.result_converter(format)
        reading = Reading(as_of, full_artifact_path, check_content)
        limit = page(0, rows).rows
        data, instances = self._sql().query(sql, parameters, frames or {}, reading, limit, timeout, memory_limit)
        return convert(data), instances

    def connect(
        self,
        tables: Sequence[str] | None = None,
        *,
        as_of: datetime | str | None = None,
        full_artifact_path: bool = False,
        check_content: bool = True,
    ) -> DuckDBPyConnection:
        """Return an ordinary DuckDB connection in memory with a view for each address.

        The instances are chosen now. The connection belongs to the caller and has no limits. It also has the views
        `vault.*`, and `artifacts`, `provenance` and `errors` for each address.

        Parameters
        ----------
        tables
            Addresses; `None` for every table that has an active instance of version `base`.
        as_of, full_artifact_path, check_content
            As for `query`.

        Raises
        ------
        TVArgumentError
            If a table does not exist, or there are more than 1,000 without `tables`.

        Examples
        --------
        >>> vault.connect().sql("FROM stories LIMIT 5").show()  # doctest: +SKIP
        """
        reading = Reading(as_of, full_artifact_path, check_content)
        return self._sql().connect(None if tables is None else list(tables), reading)

    def _query_rows(
        self,
        statement: str,
        parameters: Mapping[str, Any],
        as_of: datetime | str | None,
        rows: int | None,
        timeout: float | None,
        explain: bool,
    ) -> FrameData:
        """Return the rows of a statement for the command line."""
        reading = Reading(as_of, False, True)
        return self._sql().query(statement, parameters or None, {}, reading, rows, timeout, "", explain)[0]

    def _listings(self) -> Listings:
        """Return the reader of long lists, for the page."""
        from tablevault.reading.listings import Listings

        return Listings(self._context, self._processes)

    def _tables_named_in(self, statement: str) -> list[tuple[str, str]]:
        """Return the tables that a statement names, each with its schema.

        For servers that show a part of the vault.
        """
        from tablevault.reading.sql import tables_named_in

        return tables_named_in(statement)

    def _for_author(self, author: str) -> TableVault:
        """Open the same vault for another author."""
        return TableVault(self.db_dir, verbose=self._verbose, **{**asdict(self._settings), "author": author})

    def _instance_details(self) -> InstanceDetails:
        """Return the reader of single instances, for the page."""
        from tablevault.reading.instance_details import InstanceDetails

        return InstanceDetails(self._context)

    def _sql(self) -> Sql:
        if self._sql_reader is None:
            from tablevault.reading.sql import Sql

            self._sql_reader = Sql(self._context, self._queries)
        return self._sql_reader

    def get_errors(
        self,
        table_name: str = "",
        instance_id: str = "",
        version: str = names.DEFAULT_VERSION,
        process_id: str = "",
        *,
        format: Literal["pandas", "arrow", "polars"] = "pandas",
    ) -> Any:
        """Return a frame of the failed and skipped rows.

        Parameters
        ----------
        table_name, instance_id, version
            The instance; without an id the newest of `version`. `TEMP_<version>` shows an unfinished execution.
        process_id
            A running, paused or ended execution, instead of an instance. With the id of a refresh, the frame has the
            rows of all its tables, and `table` as first column.
        format
            `pandas`, `arrow` or `polars`.

        Returns
        -------
        pandas.DataFrame, pyarrow.Table or polars.DataFrame
            With the columns `builder`, `index` (position of the row), `key` (its primary key), `kind` (`failed` or
            `skipped`), `error` (qualified class), `status` (HTTP status), `message`, `traceback`, `result` (the refused
            result), `calls` and `seconds` of the last try, `failed_at` (UTC), `code` (version of builder and code), and
            `cause` (builder and column whose failure caused the skip).

        Raises
        ------
        TVArgumentError
            If neither a table nor a process is given, or the instance does not exist.
        TVProcessError
            If the process does not exist or runs no rows.
        """
        from tablevault.reading.failures import FailureReader

        convert = self._queries.converter(format)
        return convert(FailureReader(self._context).find(table_name, instance_id, version, process_id).frame())

    def get_usage(
        self,
        table_name: str = "",
        instance_id: str = "",
        version: str = names.DEFAULT_VERSION,
        process_id: str = "",
        *,
        format: Literal["pandas", "arrow", "polars"] = "pandas",
    ) -> Any:
        """Return a frame of the usage of calls, by row.

        Calls are counted if a builder names a service, a budget applies, or a function reports usage.

        Parameters
        ----------
        table_name, instance_id, version
            The instance; without an id the newest of `version`. `TEMP_<version>` shows an unfinished execution.
        process_id
            A running, paused or ended execution, instead of an instance. With the id of a refresh or run, the frame
            has the rows of all its tables, and `table` as first column.
        format
            `pandas`, `arrow` or `polars`.

        Returns
        -------
        pandas.DataFrame, pyarrow.Table or polars.DataFrame
            With the columns `builder`, `index` (position of the row; null for a function that is called once), `calls`
            (a batch call counts in equal shares for its rows), `seconds`, and one for each reported amount.

        Raises
        ------
        TVArgumentError
            If neither a table nor a process is given, or the instance does not exist.
        TVProcessError
            If the process does not exist or runs no rows.
        """
        from tablevault.reading.usage import UsageReader

        convert = self._queries.converter(format)
        return convert(UsageReader(self._context).frame(table_name, instance_id, version, process_id))

    def read(
        self,
        address: str,
        *,
        columns: Sequence[str] | None = None,
        rows: int | None = None,
        as_of: datetime | str | None = None,
        format: Literal["pandas", "arrow", "polars"] = "pandas",
    ) -> Any:
        """Return the frame at an address.

        Parameters
        ----------
        address
            `table` (the newest active instance of version `base`), `table(version)`, `table(instance id)`,
            `table(TEMP_version)` or `table@tag`.
        columns
            Names of the columns, in this order; all if left out.
        rows
            Maximum number of rows.
        as_of
            An earlier moment, as for `get_dataframe`; addresses with an id or a tag are unaffected.
        format
            `pandas`, `arrow` or `polars`.

        Returns
        -------
        pandas.DataFrame, pyarrow.Table or polars.DataFrame
            Its instance is in `frame.attrs["tablevault"]` in pandas, and as JSON under `tablevault` in the schema
            metadata of Arrow: `table`, `instance_id` and `vault_id`.

        Raises
        ------
        TVArgumentError
            If the address is invalid, or the table, version or instance does not exist.
        TVTableError
            If a column does not exist, or the instance has no frame.

        Examples
        --------
        >>> vault.read("stories", columns=["hero"], rows=10)  # doctest: +SKIP
        """
        from tablevault.reading.queries import labelled

        named = parse_address(address)
        frame, found = self._converted(format, partial(self._frame_at, named, columns, rows, as_of))
        return labelled(frame, table=named.table_name, instance_id=found, vault_id=self._queries.vault_id())

    def _read_rows(
        self, address: str, columns: Sequence[str] | None, rows: int | None, as_of: datetime | str | None
    ) -> tuple[list[str], list[dict[str, Any]]]:
        """Return the column names and rows of a frame as JSON data, for the command line."""
        from tablevault.storage.exports import json_records

        data, _ = self._frame_at(parse_address(address), columns, rows, as_of)
        return list(data.types), list(json_records(data))

    def _frame(
        self, selection: Selection, columns: Sequence[str] | None, page: Page, full_paths: bool, failed: str
    ) -> tuple[FrameData, str]:
        if failed == "null":
            return self._queries.frame(selection, columns, page, full_paths)
        from tablevault.reading.failures import FailureReader

        return FailureReader(self._context).frame_without(failed, selection, columns, page, full_paths)

    def _export_dataframe(
        self,
        output: Path,
        table_name: str,
        instance_id: str,
        version: str,
        active_only: bool,
        rows: int | None,
        full_artifact_path: bool,
        failed: str,
        offset: int,
        as_of: datetime | str | None,
    ) -> tuple[str, int]:
        """Write a frame to a file for the command line.

        Returns the id of its instance and its number of rows.
        """
        from tablevault.storage.exports import export_frame, format_of

        format_of(output)
        selection = self._queries.selection(table_name, instance_id, version, active_only, False, as_of)
        data, found = self._frame(selection, None, page(offset, rows), full_artifact_path, failed)
        export_frame(data, output)
        return found, len(data)

    def _export_errors(self, output: Path, table_name: str, instance_id: str, version: str, process_id: str) -> int:
        """Write failed and skipped rows to a file for the command line; return their number."""
        from tablevault.reading.failures import FailureReader
        from tablevault.storage.exports import export_frame, format_of

        format_of(output)
        data = FailureReader(self._context).find(table_name, instance_id, version, process_id).frame()
        export_frame(data, output)
        return len(data)

    def get_tables(self) -> list[str]:
        """Return the names of all tables, oldest first."""
        return [table.name for table in self._context.catalog.contents.tables()]

    def get_table_instances(
        self,
        table_name: str = "",
        version: str = names.DEFAULT_VERSION,
        include_temp: bool = False,
        *,
        as_of: datetime | str | None = None,
    ) -> list[str]:
        """Return the ids of a table's instances, oldest first; without a table the tables' names.

        An empty `version` means all versions; one that the table does not have is a `TVArgumentError`. With `as_of`,
        as for `get_dataframe`, the instances that were committed until then and still exist.
        """
        if not table_name:
            if as_of is not None:
                raise TVArgumentError("as_of needs table_name, since it selects among the instances of one table.")
            return self.get_tables()
        return self._queries.instance_ids(table_name, version, include_temp, as_of)

    def get_descriptions(self, instance_id: str = "", table_name: str = "") -> dict[str, Any]:
        """Return the description of the vault, a table or an instance."""
        if instance_id and not table_name:
            raise TVArgumentError("instance_id needs table_name, since an instance is looked up in its table.")
        return self._queries.descriptions(table_name, instance_id)

    def get_lineage(self, table_name: str, instance_id: str = "", column: str = "") -> Lineage:
        """Return the inputs and dependents of an instance's columns."""
        from tablevault.reading.lineage import LineageReader

        return LineageReader(self._context).lineage(table_name, instance_id, column)

    def diff_instances(
        self,
        table_name: str,
        before: str = "",
        after: str = "",
        *,
        after_table: str = "",
        on: Sequence[str] | str | None = None,
        columns: Sequence[str] | None = None,
        why: bool = True,
    ) -> InstanceDiff:
        """Return the differing rows and cells of two instances, with causes.

        Parameters
        ----------
        table_name
            The table.
        before
            An instance id, `@tag` or version; by default the origin of `after`, else the instance before it.
        after
            Likewise; by default the newest active instance of version `base`. `TEMP_<version>` compares what an
            unfinished execution has computed.
        after_table
            The table of `after`, if it is another one.
        on
            Columns whose values match rows; by default the primary key that both instances have, else positions.
        columns
            Names of the columns to compare; all if left out.
        why
            Whether to find the causes of changes, and the changes of builders and code.

        Raises
        ------
        TVArgumentError
            If an instance does not exist, or has none before it.
        TVTableError
            If a column does not exist, or a key is null or repeated.

        Examples
        --------
        >>> vault.diff_instances("stories", "@paper").frame("changed")  # doctest: +SKIP
        """
        from tablevault.reading.diff import InstanceDiffer

        differ = InstanceDiffer(self._context)
        return differ.diff(table_name, before, after, after_table, _given_columns(on), columns, why)

    def trace_cell(
        self,
        table_name: str,
        row: Any,
        column: str,
        instance_id: str = "",
        version: str = names.DEFAULT_VERSION,
    ) -> CellTrace:
        """Return the origin of the value of one cell.

        Reused cells are followed to the instance in which the function ran. The arguments of the call are resolved
        again from the instances that were read.

        Parameters
        ----------
        table_name
            The table.
        row
            The value of the primary key, a tuple for several columns; the position of the row if there is no key.
        column
            The column.
        instance_id, version
            The instance; without an id the newest active one of `version`.

        Raises
        ------
        TVArgumentError
            If the instance does not exist or is temporary.
        TVTableError
            If the row or column does not exist.

        Examples
        --------
        >>> vault.trace_cell("stories", "Fox", "summary").arguments  # doctest: +SKIP
        """
        from tablevault.reading.cell_trace import CellTracer

        return CellTracer(self._context).trace(table_name, row, column, instance_id, version)

    def get_artifact_folder(
        self, table_name: str, instance_id: str = "", version: str = names.DEFAULT_VERSION, is_temp: bool = True
    ) -> str:
        """Return the folder of an instance's artifacts; by default of the temporary instance."""
        table, instance = self._queries.instance(table_name, instance_id, version, is_temp)
        return str(self._queries.folder(table, instance).artifacts)

    def get_builders_list(
        self, table_name: str, instance_id: str = "", version: str = names.DEFAULT_VERSION, is_temp: bool = True
    ) -> list[str]:
        """Return the names of an instance's builders; by default of the temporary instance."""
        return list(self._queries.builders(*self._queries.instance(table_name, instance_id, version, is_temp)))

    def get_builder_str(
        self,
        table_name: str,
        builder_name: str = "",
        instance_id: str = "",
        version: str = names.DEFAULT_VERSION,
        is_temp: bool = True,
    ) -> str:
        """Return the text of a builder; of the index builder if no name is given."""

        def find() -> Path:
            table, instance = self._queries.instance(table_name, instance_id, version, is_temp)
            found = self._queries.builders(table, instance)
            name = names.check_builder_name(builder_name) if builder_name else names.index_builder_name(table.name)
            if name not in found:
                place = f"Instance '{instance.instance_id}' of table '{table.name}'"
                raise TVArgumentError(f"{place} has no builder '{name}'{names.nearest(name, found)}")
            return self._queries.sealed(table, instance, found[name])

        return self._queries.text(find)

    def get_code_modules_list(self) -> list[str]:
        """Return the names of the code modules."""
        return list(self._queries.code_modules())

    def get_code_module_str(self, module_name: str) -> str:
        """Return the text of a code module."""

        def find() -> Path:
            found, name = self._queries.code_modules(), names.check_module_name(module_name)
            if name not in found:
                raise TVArgumentError(f"There is no code module '{name}'{names.nearest(name, found)}")
            return found[name]

        return self._queries.text(find)

    def get_file_tree(
        self,
        instance_id: str = "",
        table_name: str = "",
        code_files: bool = True,
        builder_files: bool = True,
        metadata_files: bool = False,
        artifact_files: bool = False,
    ) -> Tree:
        """Return the files of the vault, a table or an instance as a tree."""
        hidden = {
            **({} if code_files else dict.fromkeys(("code_functions", "code"))),
            **({} if builder_files else {"builders": None}),
            **({} if artifact_files else {"artifacts": None}),
            **({} if metadata_files else dict.fromkeys(("metadata", "_temp", ".tablevault"))),
        }
        wanted: Callable[[Path], bool] = lambda path: path.name not in hidden  # noqa: E731
        return self._queries.tree(table_name, instance_id, wanted)

    def verify(self, repair: bool = False) -> VerifyReport:
        """Check the files of the vault against the catalog.

        Parameters
        ----------
        repair
            Finish or remove leftovers of crashes; files of users are never touched.
        """
        from tablevault.reading.verification import Verification

        if repair:
            self._context.check_writable()
            migrate(self._context)
            self._engine.recovery.recover_all()
            self._engine.decisions.retry_tidying(tell=True)
            self._engine.recovery.remove_leftovers()
        return Verification(self._context).report()

    def serve(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        allow_writes: bool = False,
        allow_hosts: Sequence[str] = (),
        open_browser: bool = False,
        block: bool = True,
    ) -> Server:
        """Serve this vault as a web page, whose address contains a token.

        The server reads: closing it, killing it or running several changes nothing. No code of the vault runs in it.

        Parameters
        ----------
        port
            0 for any free port.
        host
            The address to listen on. One that other machines reach needs `allow_hosts`, and there is no encryption.
        allow_writes
            Whether pages offer to resume, stop, execute, retry and tag.
        allow_hosts
            Further accepted values of the header `Host`, such as the name of this machine.
        open_browser
            Open the address in a browser.
        block
            Print the address, and return when the server is closed or interrupted by Ctrl-C; otherwise serve in a
            thread, until `close()` or the end of the interpreter.

        Returns
        -------
        Server
            With its `url`, and `close()`.

        Raises
        ------
        TVArgumentError
            If starlette, uvicorn or jinja2 is not installed, or other machines could connect and no host is allowed.
        OSError
            If the port is taken.

        Examples
        --------
        >>> server = vault.serve(block=False)  # doctest: +SKIP
        >>> server.url  # doctest: +SKIP
        'http://127.0.0.1:40123/?token=…'
        """
        for module in ("starlette", "uvicorn", "jinja2"):
            imported(module, "The page", "web")
        from tablevault.web.server import start

        server = start(self, host, port, allow_writes, allow_hosts, open_browser)
        if block:
            server.wait()
        return server

    # --- sharing --------------------------------------------------------------------------------------------------

    def export_table(
        self,
        table_name: str,
        target: str | Path,
        instance_id: str = "",
        version: str = names.DEFAULT_VERSION,
        *,
        format: str = "",
        columns: Sequence[str] | None = None,
        embed_artifacts: bool = False,
        license: str = "",
        overwrite: bool = False,
    ) -> str:
        """Export an instance atomically to a file or a dataset folder; return the path.

        Parameters
        ----------
        table_name, instance_id, version
            The instance; without an id the newest active successful one of `version`.
        target
            A file whose suffix sets the format: `.parquet`, `.csv`, `.jsonl`, `.json` or `.arrow`; or a folder.
        format
            `dataset` (or `huggingface`, `croissant`): a folder with a card, the frame, artifacts, provenance and a
            Croissant description, as `datasets.load_dataset` and `mlcroissant` read it. Empty: by the suffix.
        columns
            Names of the columns, in this order; all if left out.
        embed_artifacts
            Put images and audio into the frame of a dataset folder, so that `datasets` decodes them.
        license
            License for the card of a dataset folder.
        overwrite
            Replace a file, or an earlier export of a dataset folder in which no file was added or changed.

        Raises
        ------
        TVArgumentError
            If the target exists, has changed since it was exported, is in the vault, or has an unknown suffix; if the
            instance does not exist.

        Examples
        --------
        >>> vault.export_table("stories", "stories-dataset", format="dataset", license="cc-by-4.0")  # doctest: +SKIP
        """
        from tablevault.archiving.table_exports import TableExports

        exports = TableExports(self._context)
        return exports.export(
            table_name, target, instance_id, version, format, columns, embed_artifacts, license, overwrite
        )

    def export_vault(
        self,
        target: str | Path,
        addresses: Sequence[str] | str,
        *,
        inputs: str = "provenance",
        overwrite: bool = False,
    ) -> str:
        """Export instances atomically as a separate vault; return its path.

        It has the same instance ids, processes, builders, code, artifacts and tags, and no file of any other table.

        Parameters
        ----------
        target
            A folder, or an archive `NAME.tar.xz`.
        addresses
            The instances, such as `stories@paper`; without id or tag the newest active successful one.
        inputs
            `provenance` exports the metadata of inputs and origins that lineages need; `frames` their frames, too.
        overwrite
            Replace an archive, or an earlier export that has not been written to since.

        Raises
        ------
        TVArgumentError
            If the target exists, has been written to since it was exported, or is in the vault; if an instance does not
            exist.
        TVFileError
            If a file of an instance is damaged.

        Examples
        --------
        >>> vault.export_vault("paper.tar.xz", ["stories@paper", "reviews@paper"])  # doctest: +SKIP
        """
        from tablevault.archiving.vault_exports import VaultExport

        named = [addresses] if isinstance(addresses, str) else list(addresses)
        return VaultExport(self._context).export(target, named, inputs, overwrite)

    def import_instances(
        self, source: str | Path, tables: Sequence[str] | Mapping[str, str] | None = None, *, process_id: str = ""
    ) -> str:
        """Import the materialized instances of another vault's tables in one operation.

        They keep their ids, and their tags unless a tag names another instance here. They become the newest instances
        of their versions, in the order of the source. The source is untrusted: everything is checked first, and nothing
        of it is executed.

        Parameters
        ----------
        source
            A vault, or an archive `NAME.tar.xz`.
        tables
            Names of tables, or name there -> name here; `None` for all.
        process_id
            Id of the process; if given, errors pause it instead of reverting it.

        Raises
        ------
        TVArgumentError
            If the vault or a table does not exist, or an instance of the same id has other content here.
        TVFileError
            If a file is damaged, or does not belong in a vault.

        Examples
        --------
        >>> vault.import_instances("review.tar.xz", {"stories": "their-stories"})  # doctest: +SKIP
        """
        from tablevault.archiving.imports import ImportInstances

        given = tables if tables is None else _plain(tables)
        return self._run(ImportInstances(str(Path(source).expanduser().absolute()), given), process_id)

    # --- cleaning up ----------------------------------------------------------------------------------------------

    def plan_gc(
        self,
        *,
        keep_last: int | None = None,
        keep_within: timedelta | str | None = None,
        keep_daily: int | None = None,
        keep_weekly: int | None = None,
        keep_monthly: int | None = None,
        table_name: str = "",
        version: str = "",
        keep_inputs: bool = True,
        leftovers: bool = True,
        worker_logs_older_than: timedelta | str | None = None,
    ) -> GcPlan:
        """Return the materialized instances that no rule keeps.

        They are listed by table and version, with the space they free.

        An instance stays if any rule keeps it. Regardless of the rules, the newest active and the newest active
        successful instance of each version, tagged instances, origins of temporary instances, and instances that an
        active or paused process holds all stay.

        Parameters
        ----------
        keep_last
            Number of newest instances to keep of each table and version.
        keep_within
            Maximum age of instances to keep, as a `timedelta` or a text such as `12h`, `30d` or `8w`.
        keep_daily, keep_weekly, keep_monthly
            Number of days, ISO weeks or months (UTC, counting back, only those with an instance) of which to keep the
            newest instance.
        table_name, version
            Only instances of these; empty for all.
        keep_inputs
            Keep all instances that a kept one was computed from, directly or not.
        leftovers
            Also list leftovers of crashes that `verify(repair=True)` would remove.
        worker_logs_older_than
            Also list the logs of background workers whose processes ended longer ago.

        Raises
        ------
        TVArgumentError
            If there is no rule, a rule is invalid, or the table or version does not exist.

        Examples
        --------
        >>> vault.plan_gc(keep_last=3, keep_within="30d")  # doctest: +SKIP
        """
        from tablevault.reading.gc_plans import GcPlanner, Rules, checked_time

        rules = Rules.of(
            keep_last=keep_last,
            keep_within=keep_within,
            keep_daily=keep_daily,
            keep_weekly=keep_weekly,
            keep_monthly=keep_monthly,
        )
        age = checked_time("worker_logs_older_than", worker_logs_older_than)
        return GcPlanner(self._context).plan(rules, table_name, version, keep_inputs, leftovers, age)

    def gc(self, plan: GcPlan | None, *, process_id: str = "") -> str:
        """Remove the frames and artifacts of a plan's instances in one decision; metadata stays archived.

        Instances that are meanwhile tagged, held, needed or gone are skipped and listed in
        `get_process(id).arguments["left"]`. This cannot be undone.

        Parameters
        ----------
        plan
            A result of `plan_gc` of this vault; `None` continues the paused process of `process_id` with the plan that
            it recorded.
        process_id
            Id of the process; if given, errors pause it instead of reverting it.
        """
        if plan is None:
            return self._run(self._recorded_gc(process_id), process_id)
        operation = operations.Gc(
            [item.row_id for item in plan.removed],
            [item.instance_id for item in plan.other],
            plan.policy,
            plan.keep_inputs,
            plan.vault_id,
            plan.logs_before,
        )
        return self._run(operation, process_id)

    def _recorded_gc(self, process_id: str) -> operations.Gc:
        record = self._processes.record(process_id) if process_id else None
        if record is None or record.operation != operations.Gc.name:
            raise TVArgumentError(
                "gc needs a plan, as plan_gc returns it. To continue a paused gc without its plan, pass its process_id."
            )
        return operations.Gc.restore(record.arguments)

    # --- display --------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return repr(self._overview())

    def _repr_html_(self) -> str:
        return self._overview()._repr_html_()

    def _hide_secrets(self, text: str) -> str:
        """Return a text without the secret values passed to functions."""
        return self._engine.secrets(text)

    def _overview(self) -> Overview:
        return read_overview(self._context, self._processes.active().values())

    def _frame_at(
        self, address: Address, columns: Sequence[str] | None, rows: int | None, as_of: datetime | str | None
    ) -> tuple[FrameData, str]:
        selection = self._queries.selection_at(address, as_of)
        return self._queries.frame(selection, columns, page(0, rows), full_paths=True)

    def _converted(self, format_name: str, read: Callable[[], tuple[FrameData, str]]) -> tuple[Any, str]:
        """Convert a frame to a library's type, without keeping both in memory longer than needed."""
        convert = self._queries.converter(format_name)
        data, found = read()
        frame = convert(data)
        del data
        _release_memory()
        return frame, found

    def _run(self, operation: operations.Operation[Any], process_id: str, background: bool = False) -> str:
        finished = self._engine.run(operation, process_id or None, background).process_id
        _release_memory()
        if self._verbose:
            _logger.info("%s %s: process %s", operation.name, operation.summary(), finished)
        return finished


def _mapped(dtypes: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if dtypes is None else dict(dtypes)


def _plain(instances: Sequence[str] | Mapping[str, str]) -> list[str] | dict[str, str]:
    return dict(instances) if isinstance(instances, Mapping) else list(instances)


def _given_columns(columns: Sequence[str] | str | None) -> list[str] | None:
    return None if columns is None else [columns] if isinstance(columns, str) else list(columns)


def _listed(columns: Sequence[str] | str | None) -> list[str] | None:
    return [columns] if isinstance(columns, str) else list(columns) if columns else None


def _release_memory() -> None:
    """Return freed memory that Arrow's allocator retains to the system.

    Without this, a notebook that once read a large frame would retain its memory indefinitely.
    """
    arrow = sys.modules.get("pyarrow")
    if arrow is None:
        return
    pool = arrow.default_memory_pool()
    if (pool.max_memory() or 0) >= _MINIMUM_PEAK_TO_RELEASE:
        pool.release_unused()
