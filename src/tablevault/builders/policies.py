"""Policies, which control how a builder's function runs.

They are not inputs: changing a policy does not invalidate any cells.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import msgspec

from tablevault.builders.fields import FieldPath, PolicyFields, RetryFields, validate_policies
from tablevault.builders.resources import ONE_CORE, Resources, resource_problem
from tablevault.errors import TVArgumentError
from tablevault.names import nearest

OnError = Literal["pause", "collect", "revert"]
ExecutorName = Literal["threads", "async", "processes", "ray", "jobs"]
JOBS: ExecutorName = "jobs"
"""Rows are submitted to a provider, which is polled for the results."""
FailedInputs = Literal["skip", "pass"]
ErrorName = int | str

TRANSIENT = "transient"
INVALID = "invalid"
TIMEOUT = "timeout"
DIED = "died"
WORDS = (TRANSIENT, INVALID, TIMEOUT, DIED)
"""Error kinds without an exception class."""

_CODE = "code:"
_STATUS_CLASS = re.compile(r"[1-5]xx")
_CLASS_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_PERCENT = re.compile(r"(\d{1,3})%")
_DEFAULT_RETRIES = 3
_BATCH_SIZE, _ROWS_OF_JOB = 32, 10_000
_MAXIMUM_PERCENT = 100

_OF_CLUSTERS = ("resources", "min_workers", "max_workers", "rows_per_worker")
_TAKEN_AS_GIVEN = (
    "on_error",
    "timeout",
    "failed_inputs",
    "executor",
    "batch_size",
    "poll_seconds",
    "wait",
    "min_workers",
    "max_workers",
    "rows_per_worker",
)
"""Fields copied to policies unchanged."""

RUN_BY_ROW = ("row-wise", "batch")
"""Return types with calls for single rows or batches."""


@dataclass(frozen=True)
class Share:
    """A limit as a percentage of the attempted rows."""

    percent: int


@dataclass(frozen=True)
class Retry:
    """Retry policy of a call."""

    max_retries: int = 0
    on: tuple[ErrorName, ...] = (TRANSIENT,)
    wait: float = 1.0
    """Seconds before the first retry; doubled for each subsequent one."""
    max_wait: float = 60.0
    """Maximum wait between retries, in seconds."""
    max_seconds: float = 3600.0
    """Seconds since the first call, waits included, after which the row fails."""


@dataclass(frozen=True)
class Policies:
    """The policies of a builder."""

    on_error: OnError = "pause"
    max_failures: int | Share = Share(10)
    max_consecutive_failures: int | None = 20
    stop_on: tuple[ErrorName, ...] = (401, 402, "code:insufficient_quota", "ImportError", "NameError")
    retry: Retry = field(default_factory=Retry)
    timeout: float | None = None
    """Maximum duration of a call, in seconds."""
    failed_inputs: FailedInputs = "skip"
    executor: ExecutorName | None = None
    """`None`: async for an async function, else threads."""
    max_concurrency: int | None = None
    """Maximum number of concurrent calls; `None`: chosen by the executor."""
    batch_size: int | None = None
    """Maximum number of rows per call or job; `None`: chosen by the executor."""
    poll_seconds: float = 60.0
    """Seconds between two polls of a job."""
    wait: bool = True
    """Whether a run waits for its jobs; otherwise it pauses once they are submitted."""
    max_poll_retries: int = 5
    """Maximum number of retries of a request about a job; `retry` overrides it."""
    services: tuple[str, ...] = ()
    """Services that each call uses."""
    budget: Mapping[str, float] | None = None
    """Limits on the total usage of the builder's calls in one process, by amount name."""
    resources: Resources = ONE_CORE
    """Resources of one cluster worker."""
    min_workers: int = 1
    """Minimum number of cluster workers while rows are pending."""
    max_workers: int | None = None
    """Maximum number of cluster workers; `None`: the cluster's capacity when the builder starts."""
    rows_per_worker: int | None = None
    """Maximum number of concurrent rows in one cluster worker; `None`: chosen for the function."""

    @property
    def given(self) -> dict[str, Any]:
        """The non-default fields, as JSON values."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: msgspec.to_builtins(value) for name, value in found.items() if value != getattr(_DEFAULTS, name)}

    @property
    def runs_elsewhere(self) -> bool:
        """Whether calls run in other interpreters, which may crash independently of this one."""
        return self.executor in ("processes", "ray")

    @property
    def runs_on_ray(self) -> bool:
        """Whether calls run on a Ray cluster."""
        return self.executor == "ray"

    @property
    def collects(self) -> bool:
        """Whether failed rows are recorded while the run continues."""
        return self.on_error == "collect"

    @property
    def reverts(self) -> bool:
        """Whether an error of the function reverts a process even if its id is the user's."""
        return self.on_error == "revert"

    @property
    def runs_jobs(self) -> bool:
        """Whether rows are submitted to a provider as jobs."""
        return self.executor == JOBS

    @property
    def rows_of_call(self) -> int:
        """Maximum number of rows per call of a batch function, or per job."""
        return self.batch_size or (_ROWS_OF_JOB if self.runs_jobs else _BATCH_SIZE)

    @property
    def are_plain(self) -> bool:
        """Whether the run fails fast, without retries or a timeout."""
        return not self.collects and self.retry.max_retries == 0 and self.timeout is None

    def changed(self, fields: PolicyFields) -> Policies:
        """Return a copy with the given fields applied."""
        given: dict[str, object] = {}
        for name in _TAKEN_AS_GIVEN:
            value = getattr(fields, name)
            if value is not None:
                given[name] = value
        if fields.max_failures is not None:
            given["max_failures"] = _limit(fields.max_failures)
        if fields.max_consecutive_failures is not None:
            none = fields.max_consecutive_failures == "none"
            given["max_consecutive_failures"] = None if none else fields.max_consecutive_failures
        if fields.service is not None:
            names = [fields.service] if isinstance(fields.service, str) else fields.service
            given["services"] = tuple(dict.fromkeys(names))
        if fields.budget is not None:
            given["budget"] = dict(fields.budget)
        if fields.resources is not None:
            given["resources"] = Resources.parse(fields.resources)
        if fields.stop_on is not None:
            given["stop_on"] = tuple(fields.stop_on)
        if fields.retry is not None:
            retry = _retry(fields.retry, self.retry)
            given["retry"], given["max_poll_retries"] = retry, retry.max_retries
        concurrency = fields.max_concurrency if fields.max_concurrency is not None else fields.n_threads
        if concurrency is not None:
            given["max_concurrency"] = concurrency
        return replace(self, **given)  # type: ignore[arg-type]  # the fields were validated by their names


_DEFAULTS = Policies()


@dataclass(frozen=True)
class PolicyContext:
    """The properties of a builder that decide which policies apply."""

    is_index: bool
    return_type: str
    makes_artifacts: bool
    policies: Policies
    """The policies in force, unless a field overrides them."""
    overwrites_key: bool = False
    """Whether the builder overwrites a primary key column; known once all builders of the instance are."""
    executors: frozenset[str] = frozenset()
    """The executors that suit the function; empty while it is unknown."""

    @property
    def runs_by_row(self) -> bool:
        """Whether the function is called for single rows or batches."""
        return self.return_type in RUN_BY_ROW

    def may_run_on(self, executor: str | None) -> bool:
        """Return whether an executor supports the function."""
        if not self.suits(executor):
            return False
        if executor == JOBS:
            return self.return_type == "batch"
        if self.return_type == "dataframe":
            return executor in ("async", "processes", "ray")
        return self.runs_by_row or executor == "ray"

    def suits(self, executor: str | None) -> bool:
        """Return whether an executor suits the function, as far as that is known."""
        return executor is None or not self.executors or executor in self.executors

    def late_call_problem(self, executor: str | None, timeout: float | None) -> str | None:
        """Return the problem with a timeout if calls that exceed it could still write artifacts, or `None`."""
        in_threads = executor == "threads" or (executor is None and "threads" in self.executors)
        if timeout is None or not self.makes_artifacts or not in_threads:
            return None
        return (
            "a thread cannot be killed, so a late call could still write an artifact; use 'executor: processes' or "
            "'executor: async', or limit the time inside the function."
        )


def _why_not_on(executor: str | None, context: PolicyContext) -> str:
    """Return why an executor does not support a function."""
    if not context.suits(executor):
        return f"{executor} does not suit the function, which needs {' or '.join(sorted(context.executors))}"
    if executor == JOBS:
        return "jobs applies only to 'return_type: batch'"
    if executor == "threads":
        return "threads applies only to row-wise and batch functions"
    return f"{executor} does not apply to generators"


BOTH_NAMES = "is the former name of max_concurrency; give only one of them."


def has_both_names(fields: PolicyFields) -> bool:
    """Return whether fields give the number of concurrent calls twice."""
    return fields.n_threads is not None and fields.max_concurrency is not None


KEY_OVERWRITTEN = "'collect' would leave nulls in the primary key that this builder overwrites; use pause."


def meaningless_field(fields: PolicyFields, context: PolicyContext) -> tuple[FieldPath, str] | None:
    """Return the first inapplicable policy field, with the reason and the remedy."""
    by_row = "applies only to row-wise and batch functions"
    before = context.policies
    executor = fields.executor or before.executor
    of_jobs = "applies only to 'executor: jobs'"
    checks: list[tuple[str, bool, str]] = [
        ("retry", context.return_type != "generator", "does not apply to generators"),
        ("timeout", context.return_type != "generator", "does not apply to generators"),
        ("failed_inputs", context.runs_by_row, by_row),
        ("executor", context.may_run_on(fields.executor), _why_not_on(fields.executor, context)),
        ("max_concurrency", context.runs_by_row, by_row),
        ("n_threads", context.runs_by_row, by_row),
        ("service", context.return_type != "generator", "does not apply to generators"),
        ("batch_size", context.return_type == "batch", "applies only to 'return_type: batch'"),
        ("poll_seconds", executor == JOBS, of_jobs),
        ("wait", executor == JOBS, of_jobs),
    ]
    on_ray = "applies only to 'executor: ray'"
    checks.extend((name, executor == "ray", on_ray) for name in _OF_CLUSTERS)
    checks.append(("rows_per_worker", context.runs_by_row, by_row))
    for name, has_meaning, reason in checks:
        if getattr(fields, name) is not None and not has_meaning:
            return (name,), f"{name} {reason}; remove it."
    if fields.on_error == "collect" and (context.is_index or context.return_type == "dataframe"):
        whose = "IndexBuilders, which create the rows" if context.is_index else "a function that is called once"
        return ("on_error",), f"'collect' does not apply to {whose}; use pause or revert."
    if fields.on_error == "collect" and context.overwrites_key:
        return ("on_error",), KEY_OVERWRITTEN
    if fields.timeout is not None or fields.executor is not None:
        problem = context.late_call_problem(executor, fields.timeout or before.timeout)
        if problem is not None:
            return ("executor" if fields.timeout is None else "timeout",), problem
    return _wrong_workers(fields, before)


def _wrong_workers(fields: PolicyFields, before: Policies) -> tuple[FieldPath, str] | None:
    """Return the first invalid or contradictory field about cluster workers."""
    if fields.resources is not None:
        problem = resource_problem(fields.resources)
        if problem is not None:
            return ("resources", problem[0]), problem[1]
    lowest = fields.min_workers if fields.min_workers is not None else before.min_workers
    highest = fields.max_workers or before.max_workers
    if highest is not None and lowest > highest:
        if fields.min_workers is not None:
            return ("min_workers",), f"min_workers is larger than max_workers, which is {highest}; lower it."
        if fields.max_workers is not None:
            return ("max_workers",), f"max_workers is smaller than min_workers, which is {lowest}; raise it."
    return None


def invalid_error_name(entry: ErrorName) -> str | None:
    """Return the problem with an entry of `stop_on` or `retry.on`; `None` if it is valid."""
    if isinstance(entry, int):
        return None if 100 <= entry <= 599 else f"{entry} is not an HTTP status; write a number from 100 to 599."
    if entry in WORDS or _STATUS_CLASS.fullmatch(entry) or (entry.startswith(_CODE) and len(entry) > len(_CODE)):
        return None
    if _CLASS_NAME.fullmatch(entry):
        return None
    return (
        f"{entry[:60]!r} is not a known error; write an HTTP status (429 or 5xx), 'code:TEXT', the name of an "
        f"exception class, or one of {', '.join(WORDS)}."
    )


def is_class_name(entry: ErrorName) -> bool:
    """Return whether an entry of `stop_on` or `retry.on` names an exception class."""
    return (
        isinstance(entry, str)
        and entry not in WORDS
        and not entry.startswith(_CODE)
        and not _STATUS_CLASS.fullmatch(entry)
    )


def _limit(value: int | str) -> int | Share:
    if isinstance(value, int):
        return value
    match = _PERCENT.fullmatch(value)
    assert match is not None  # the pattern of the field
    return Share(min(int(match[1]), _MAXIMUM_PERCENT))


def _retry(value: int | RetryFields, before: Retry) -> Retry:
    if isinstance(value, int):
        return replace(before, max_retries=value)
    given = {name: item for name, item in value.model_dump().items() if item is not None}
    if "on" in given:
        given["on"] = tuple(given["on"])
    return replace(before, **{"max_retries": before.max_retries or _DEFAULT_RETRIES, **given})


EVERY_BUILDER = "*"

Overrides = Mapping[str, Mapping[str, object]]
"""Policies of one call: builder names, or `*`, mapped to policy fields and their values."""


def check_overrides(overrides: Overrides, builders: Collection[str]) -> dict[str, PolicyFields]:
    """Validate the policies of a call, by builder name or `*`.

    Raises
    ------
    TVArgumentError
        If a builder does not exist, or a field or its value is invalid.
    """
    found = {}
    for name, values in overrides.items():
        if name != EVERY_BUILDER and name not in builders:
            raise TVArgumentError(f"policies names a builder '{name}', which does not exist{nearest(name, builders)}")
        fields = validate_policies(values)
        if isinstance(fields, list):
            problem = fields[0]
            path = "".join(f"[{part!r}]" for part in problem.path)
            raise TVArgumentError(f"policies['{name}']{path}: {problem.sentence}")
        for entry in (
            *(fields.stop_on or ()),
            *((fields.retry.on or ()) if isinstance(fields.retry, RetryFields) else ()),
        ):
            wrong = invalid_error_name(entry)
            if wrong is not None:
                raise TVArgumentError(f"policies['{name}']: {wrong}")
        if has_both_names(fields):
            raise TVArgumentError(f"policies['{name}']: n_threads {BOTH_NAMES}")
        found[name] = fields
    return found


def overridden(
    policies: Policies, name: str, context: PolicyContext, overrides: Mapping[str, PolicyFields]
) -> Policies:
    """Apply the policies of a call to a builder's own.

    Parameters
    ----------
    policies, name, context
        The builder's policies, name and context.
    overrides
        The result of `check_overrides`. Inapplicable fields under `*` are ignored.

    Raises
    ------
    TVArgumentError
        If a field given for this builder does not apply to it.
    """
    general = overrides.get(EVERY_BUILDER)
    if general is not None:
        policies = policies.changed(_meaningful(general, context))
        context = replace(context, policies=policies)
    own = overrides.get(name)
    if own is not None:
        problem = meaningless_field(own, context)
        if problem is not None:
            raise TVArgumentError(f"policies['{name}']: {problem[1]}")
        policies = policies.changed(own)
    return policies


def _meaningful(fields: PolicyFields, context: PolicyContext) -> PolicyFields:
    """Return the fields that apply to a builder."""
    while (problem := meaningless_field(fields, context)) is not None:
        fields = fields.model_copy(update={str(problem[0][0]): None})
    return fields
