"""Choice of executor and concurrency for a builder's calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from tablevault.builders.policies import Policies
from tablevault.ports import Interruptible, OpenFunction, RowExecutor
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.rows.batch_results import rows_of_batch
from tablevault.rows.coroutines import AsyncExecutor
from tablevault.rows.functions import BuilderFunction
from tablevault.rows.job_journal import JobJournal
from tablevault.rows.jobs import JobExecutor, JobPolicies
from tablevault.rows.processes import ProcessExecutor
from tablevault.rows.table import RowTable
from tablevault.rows.threads import InlineExecutor, ThreadExecutor
from tablevault.system.cores import usable_cores
from tablevault.values.clusters import RayOptions

_ASYNC_CONCURRENCY, _JOB_CONCURRENCY = 16, 4

Learn = Callable[[Iterable[tuple[str, str]]], None]
"""Registers secret values, each with its mark."""


@dataclass(frozen=True)
class CallPlan:
    """A builder's function with its execution options."""

    function: BuilderFunction
    open: OpenFunction
    """Opens the function for one worker."""
    policies: Policies
    batch_size: int | None = None
    """Rows per call; `None` for a function that takes a single row."""
    ray: RayOptions = field(default_factory=RayOptions)
    """The cluster for `executor: ray`."""

    @cached_property
    def concurrency(self) -> int:
        """Maximum number of calls in flight."""
        if self.function.runs_on_ray:
            from tablevault.rows.ray_cluster import connect

            return connect(self.ray).places(self.policies, self.function.is_async)
        if self.policies.max_concurrency is not None:
            return self.policies.max_concurrency
        if self.function.runs_in_processes:
            return usable_cores()
        if self.policies.runs_jobs:
            return _JOB_CONCURRENCY
        return _ASYNC_CONCURRENCY if self.function.is_async else 1

    @property
    def is_plain(self) -> bool:
        """Whether the innermost loop can call the function directly, row by row."""
        function = self.function
        simple = self.batch_size is None and function.validator is None
        simple = simple and not function.is_async and not function.is_class and not self.policies.runs_elsewhere
        return simple and self.concurrency == 1 and self.policies.timeout is None

    def executor(
        self, owner: Interruptible, learn: Learn, artifacts: InstanceArtifacts, one_by_one: bool
    ) -> RowExecutor:
        """Return the executor of the calls; its workers open the function lazily.

        Parameters
        ----------
        owner
            Provides the locks that worker processes hold as well.
        learn
            Registers the values of environment variables known only to workers.
        artifacts
            The files of the instance.
        one_by_one
            Whether calls must not be queued on workers long before they begin.
        """
        if self.function.runs_on_ray:
            from tablevault.rows.on_ray import open_on_ray

            return open_on_ray(self.function, self.policies, self.open, owner, learn, artifacts, one_by_one)
        if self.function.runs_in_processes:
            return ProcessExecutor(
                self.concurrency,
                self.open,
                owner.lock_descriptors,
                artifacts.doubt_call,
                ends_at_failure=not self.policies.collects,
            )
        if self.function.is_async:
            return AsyncExecutor(self.concurrency, self.open)
        if self.concurrency == 1 and self.policies.timeout is None:
            return InlineExecutor(self.open)
        return ThreadExecutor(self.concurrency, self.open)

    def job_executor(self, journal: JobJournal, table: RowTable, are_left: bool) -> RowExecutor:
        """Return the executor that runs the rows as jobs of a provider.

        Parameters
        ----------
        journal
            Records the jobs.
        table
            The rows.
        are_left
            Whether jobs may be left at the provider for a later attempt.
        """
        function, columns = self.function, table.spec.changed_columns
        how = JobPolicies(
            table.spec.function_text,
            self.policies,
            function.stop_on,
            function.retry_on,
            hasattr(function.call, "find"),
            hasattr(function.call, "cancel"),
            are_left,
            lambda value, rows: rows_of_batch(value, rows, columns),
        )
        return JobExecutor(self.concurrency, self.open, journal, how)
