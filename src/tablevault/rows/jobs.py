"""Runs groups of rows as jobs of a provider, polled until they are done.

The compute thread makes all decisions; a second thread only makes requests. A job is recorded before it is submitted,
and its id immediately afterwards, so that a kill never loses a job that is paid for.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tablevault.builders.policies import Policies
from tablevault.code.loading import Function
from tablevault.notes import add_note, class_name_of, message_of
from tablevault.ports import CallGroup, Ended, FunctionError, OpenedFunction, OpenFunction
from tablevault.rows.error_names import ErrorRules, RowError, is_transient, status_of, stops_run, told_wait
from tablevault.rows.job_journal import JobJournal
from tablevault.rows.schedule import backoff
from tablevault.rows.threads import ThreadExecutor
from tablevault.system import clock
from tablevault.system.warnings import warn
from tablevault.values.processes import JobRecord

CANCEL_PATIENCE = 5.0
"""Seconds to wait for a provider to accept a cancellation."""


class Step(StrEnum):
    """A request about a job, named after its method."""

    SUBMIT = "submit"
    FIND = "find"
    POLL = "poll"
    CANCEL = "cancel"


@dataclass(frozen=True)
class JobPolicies:
    """Policies for running jobs."""

    text: str
    """Name of the class in messages."""
    policies: Policies
    stop_on: ErrorRules
    retry_on: ErrorRules
    can_find: bool
    """Whether the class has a method that finds a job by its token."""
    can_cancel: bool
    """Whether the class has a method that cancels a job."""
    are_left: bool
    """Whether jobs are left at the provider for a later attempt when a run ends early; else the run waits for them."""
    check: Callable[[object, int], object]
    """Raises if a result does not have the given number of rows."""


@dataclass(slots=True)
class _Job:
    """A tracked job."""

    number: int
    arguments: Mapping[str, object]
    """Arguments of `submit`."""
    step: Step
    """The next request, or the one in flight."""
    began: float | None = None
    """Submission time, on the monotonic clock."""
    not_before: float = 0.0
    """Earliest time of the next request, on the monotonic clock."""
    request: int | None = None
    """Number of the request in flight."""
    failures: int = 0
    """Number of consecutive failed requests."""
    error: BaseException | None = None
    """The submission error, while the job is searched for."""
    reports: dict[int, Mapping[str, float]] = field(default_factory=dict)
    """Usage reported by its requests, by request number."""

    @property
    def usage(self) -> dict[str, float]:
        """Total usage reported by its requests."""
        total: Counter[str] = Counter()
        for report in self.reports.values():
            total.update(report)
        return dict(total)


class JobExecutor:
    """Submits rows to a provider as jobs, and polls for their results.

    Parameters
    ----------
    workers
        Maximum number of jobs at the provider.
    open_function
        Returns the object of the class; called once, in the request thread.
    journal
        Records the jobs; must have assigned one to each started call.
    policies
        Policies for running jobs.
    """

    def __init__(
        self,
        workers: int,
        open_function: OpenFunction,
        journal: JobJournal,
        policies: JobPolicies,
    ) -> None:
        self.workers = workers
        self.ended: deque[Ended] = deque()
        self._journal = journal
        self._how = policies
        self._requests = ThreadExecutor(1, lambda: _OpenedJobs(open_function()))
        self._request = 0
        self._jobs: dict[int, _Job] = {}
        self._cancelled: deque[str] = deque()
        """Ids of jobs to cancel."""

    @property
    def begun(self) -> Mapping[int, float]:
        """Submission times of the jobs at the provider."""
        return {number: job.began for number, job in self._jobs.items() if job.began is not None}

    @property
    def waiting(self) -> str:
        """Status text on the unfinished jobs."""
        return self._journal.text

    def start(self, number: int, arguments: Mapping[str, object]) -> None:
        """Submit a job, or resume one left by an earlier attempt."""
        record = self._journal.of(number)
        job = _Job(number, arguments, Step.SUBMIT)
        if record.job_id is not None:
            job.step = Step.POLL
        elif self._journal.is_uncertain(number) and self._how.can_find:
            job.step = Step.FIND
        if record.job_id is not None or self._journal.is_uncertain(number):
            job.began = clock.monotonic() - max(0.0, clock.time() - record.created_at)
        self._jobs[number] = job
        self._make_requests()

    def start_together(self, group: CallGroup) -> None:
        """Start jobs, one after the other."""
        for number, arguments in zip(group.numbers, group.arguments(), strict=True):
            self.start(number, arguments)

    def wait(self, seconds: float) -> None:
        """Make due requests; return when a job has ended, at the latest after `seconds`."""
        self._make_requests()
        if not self.ended:
            due = [job.not_before for job in self._jobs.values() if job.request is None]
            until = min(due, default=None)
            if until is not None and self._requests_are_idle:
                seconds = max(0.0, min(seconds, until - clock.monotonic()))
            self._requests.wait(seconds)
        self._take_answers()
        self._make_requests()

    def cancel_waiting(self) -> frozenset[int]:
        """Withdraw unsubmitted jobs, and leave others to a later attempt.

        Others stay if there can be no later attempt. Returns the numbers of the removed jobs.
        """
        left = {
            number
            for number, job in self._jobs.items()
            if job.request is None and (job.began is None or self._how.are_left)
        }
        for number in left:
            del self._jobs[number]
        return frozenset(left)

    def knows(self, number: int) -> bool:
        """Return whether the job is tracked, or has ended and is still in `ended`."""
        return number in self._jobs or any(item.number == number for item in self.ended)

    def reported(self, number: int) -> Mapping[str, float]:
        """Return the amounts that the requests about a job have reported so far."""
        job = self._jobs.get(number)
        return {} if job is None else job.usage

    def abandon(self, number: int) -> int:
        """Give up a job that takes too long, and ask the provider to cancel it."""
        job = self._jobs.pop(number, None)
        if job is None:
            return 0
        record = self._journal.of(number)
        if record.job_id is not None and self._how.can_cancel:
            self._cancelled.append(record.job_id)
        if job.request is None:
            return 0
        running = self._requests.abandon(job.request)
        # The next request is made in another thread.
        self._request += 1
        return running

    def close(self) -> None:
        """Cancel abandoned jobs, and end the request thread."""
        deadline = clock.monotonic() + CANCEL_PATIENCE
        while (self._cancelled or not self._requests_are_idle) and clock.monotonic() < deadline:
            self._make_requests()
            self._requests.wait(0.1)
            self._take_answers()
        self._requests.close()

    # --- requests -------------------------------------------------------------------------------------------------

    @property
    def _requests_are_idle(self) -> bool:
        return not self._requests.knows(self._request)

    def _make_requests(self) -> None:
        """Make the next due request, unless one is in flight."""
        if not self._requests_are_idle:
            return
        if self._cancelled:
            self._make(Step.CANCEL, self._cancelled.popleft(), {})
            return
        now = clock.monotonic()
        due = [job for job in self._jobs.values() if job.request is None and job.not_before <= now]
        if due:
            job = min(due, key=lambda item: (item.step is Step.POLL, item.not_before))
            self._make_for(job)
        looks = [job.not_before for job in self._jobs.values() if job.step is Step.POLL]
        self._journal.next_look = min(looks, default=None)

    def _make_for(self, job: _Job) -> None:
        record = self._journal.of(job.number)
        if job.step is Step.SUBMIT:
            if self._journal.is_uncertain(job.number) and not self._how.can_find:
                warn(
                    f"It is unknown whether job {record.token} of {self._how.text} was submitted before. It is "
                    "submitted again, and may be charged twice. Define a method find(token) on the class to avoid this."
                )
            self._journal.begin(job.number)
            if job.began is None:
                job.began = clock.monotonic()
        subject = (record.job_id or "") if job.step is Step.POLL else record.token
        job.request = self._request + 1
        self._make(job.step, subject, job.arguments if job.step is Step.SUBMIT else {})

    def _make(self, step: Step, subject: str, arguments: Mapping[str, object]) -> None:
        self._request += 1
        self._requests.start(self._request, {"step": step, "subject": subject, "arguments": arguments})

    def _take_answers(self) -> None:
        while self._requests.ended:
            # Removed last, since an interrupt in between must not lose the id of a job.
            answer = self._requests.ended[0]
            job = next((job for job in self._jobs.values() if job.request == answer.number), None)
            if job is not None:
                self._take(job, answer)
            self._requests.ended.popleft()

    def _take(self, job: _Job, answer: Ended) -> None:
        """Apply an answer to its job."""
        job.reports[answer.number] = answer.usage or {}
        if answer.error is not None:
            self._take_error(job, answer.error)
        else:
            self._take_value(job, answer.value)
        job.request = None

    def _take_value(self, job: _Job, value: object) -> None:
        now = clock.monotonic()
        if job.step is Step.POLL:
            if value is None:
                self._journal.look(job.number)
                job.failures, job.not_before = 0, now + self._how.policies.poll_seconds
            else:
                self._take_rows(job, value)
        elif type(value) is str and value:
            self._journal.submitted(job.number, value)
            # A new job is first polled after the poll interval.
            self._journal.look(job.number)
            is_new = job.step is Step.SUBMIT or job.error is not None
            job.step, job.failures, job.error = Step.POLL, 0, None
            job.not_before = now + self._how.policies.poll_seconds if is_new else now
        elif job.step is Step.FIND and value is None:
            if job.error is not None:
                self._end_submission(job, job.error)
            else:
                job.step, job.not_before = Step.SUBMIT, now
        else:
            wanted = "a str that identifies the job" + (", or None" if job.step is Step.FIND else "")
            raised = TypeError(f"{job.step}() of {self._how.text} returned a {type(value).__name__}; return {wanted}")
            self._end(job, error=FunctionError(raised))

    def _take_rows(self, job: _Job, value: object) -> None:
        try:
            self._how.check(value, len(self._journal.of(job.number).positions))
        except Exception as error:  # noqa: BLE001 - a foreign container may raise anything
            # The job is done and paid for; a fixed poll() can read it again.
            raised = ValueError(f"poll() of {self._how.text}: {message_of(error)}")
            self._end(job, error=FunctionError(raised))
        else:
            self._end(job, value)

    def _take_error(self, job: _Job, error: BaseException) -> None:
        """Retry a request, search for a possibly submitted job, or end the job."""
        if type(error) is FunctionError:
            self._end(job, error=error)
            return
        add_note(error, f"raised by {job.step}() of {self._how.text}")
        if job.step is Step.SUBMIT and _was_not_accepted(error):
            self._journal.refused(job.number)
        named = RowError(error)
        is_final = stops_run(error) or self._how.stop_on.match(named)
        if not is_final and self._how.retry_on.match(named) and job.failures < self._how.policies.max_poll_retries:
            job.failures += 1
            retry = self._how.policies.retry
            wait = max(backoff(retry.wait, retry.max_wait, job.failures), told_wait(error) or 0.0)
            job.not_before = clock.monotonic() + wait
            if job.step is Step.SUBMIT and self._how.can_find and self._journal.is_uncertain(job.number):
                job.step = Step.FIND
            return
        if job.step is not Step.SUBMIT:
            self._end(job, error=FunctionError(job.error or error))
        elif not self._journal.is_uncertain(job.number) and not is_transient(error):
            self._journal.finish(job.number)
            self._end(job, error=error)
        elif self._how.can_find and not is_final and job.error is None:
            job.step, job.error, job.not_before = Step.FIND, error, clock.monotonic()
        else:
            self._end_submission(job, error)

    def _end_submission(self, job: _Job, error: BaseException) -> None:
        """End an unsubmitted job; a network failure is not its rows' error."""
        self._end(job, error=FunctionError(error) if is_transient(error) else error)

    def _end(self, job: _Job, value: object = None, error: BaseException | None = None) -> None:
        seconds = 0.0 if job.began is None else clock.monotonic() - job.began
        self.ended.append(Ended(job.number, value, error, seconds, usage=job.usage or None))
        self._jobs.pop(job.number, None)


class _OpenedJobs:
    """Adapter that calls the object's methods in the request thread."""

    def __init__(self, opened: OpenedFunction) -> None:
        self._opened = opened

    def call(self, step: Step, subject: str, arguments: Mapping[str, object]) -> object:
        """Make a request about a job, given by its token or id."""
        method: Callable[..., object] = getattr(self._opened.call, step)
        return method(subject, **arguments)

    def close(self) -> object:
        """Close the object."""
        return self._opened.close()


def cancel_jobs(function: Function, open_function: OpenFunction, jobs: Sequence[JobRecord]) -> dict[str, str]:
    """Cancel jobs; return those that may still be charged, with reasons.

    Parameters
    ----------
    function
        The class.
    open_function
        Instantiates it.
    jobs
        The jobs that are, or may be, at the provider.
    """
    left: dict[str, str] = {}
    requests = ThreadExecutor(1, lambda: _OpenedJobs(open_function()))
    numbers = iter(range(2 * len(jobs)))

    def ask(step: Step, subject: str) -> object:
        """Make a request with a timeout."""
        number, deadline = next(numbers), clock.monotonic() + CANCEL_PATIENCE
        requests.start(number, {"step": step, "subject": subject, "arguments": {}})
        while not requests.ended:
            requests.wait(0.1)
            if clock.monotonic() > deadline and not requests.ended:
                requests.abandon(number)
                raise TimeoutError(f"{step}() has not returned within {CANCEL_PATIENCE:g} s")
        answer = requests.ended.popleft()
        if answer.error is not None:
            raise answer.error
        return answer.value

    try:
        for job in jobs:
            name = job.job_id or f"token {job.token}"
            try:
                job_id = job.job_id
                if job_id is None:
                    if not hasattr(function, Step.FIND):
                        left[name] = "unknown whether it was submitted"
                        continue
                    found = ask(Step.FIND, job.token)
                    if found is None:
                        continue
                    job_id = name = str(found)
                if not hasattr(function, Step.CANCEL):
                    left[name] = "its class has no method cancel(job)"
                    continue
                ask(Step.CANCEL, job_id)
            except Exception as error:  # noqa: BLE001 - the process ends in any case
                original = error.original if isinstance(error, FunctionError) else error
                left[name] = f"{class_name_of(original)}: {message_of(original)}"
    finally:
        requests.close()
    return left


def _was_not_accepted(error: BaseException) -> bool:
    """Return whether an error proves that the provider did not accept the job."""
    status = status_of(error)
    # A request that timed out may have arrived, and a conflict may be with the job itself.
    return status is not None and 400 <= status < 500 and status not in (408, 409)
