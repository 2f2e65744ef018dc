"""Runs a builder's function for each missing row, under the builder's policies."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import repeat, starmap
from types import FunctionType

from tablevault.errors import BudgetSpent, JobsPending, TableReferenceError
from tablevault.notes import message_of
from tablevault.ports import CallGroup, Ended, FunctionError, Interruptible, Permit, Refused, RowExecutor
from tablevault.rows.batch_results import is_exception, rows_of_batch
from tablevault.rows.call_plan import CallPlan
from tablevault.rows.calls import FIRST_CALL, ArgumentErrors, CallFacts, FunctionCall
from tablevault.rows.collector import InlineMeter, RowCollector, prepared
from tablevault.rows.error_handling import ErrorHandler, rows_text
from tablevault.rows.error_names import RowError, TimedOut, error_of, is_a, stuck_text, timeout_text
from tablevault.rows.gate import CallGate
from tablevault.rows.in_flight import Call, CallsInFlight
from tablevault.rows.job_journal import JobJournal
from tablevault.rows.results import ForEachReader
from tablevault.rows.schedule import FailurePolicy, Schedule, Task
from tablevault.rows.table import RowTable, consecutive
from tablevault.rows.usage import Metered
from tablevault.storage.columns import without_arrays
from tablevault.storage.dtypes import ColumnType, holds_arrays
from tablevault.storage.fingerprints import Fingerprints
from tablevault.system import clock
from tablevault.system.interrupts import is_interrupt

INTERRUPT_PATIENCE = 5.0
"""Seconds for which an interrupt or a stop waits for rows in flight in other threads."""

_LONG_CALL = 60.0
"""Seconds after which progress shows the running time of a call on another machine."""
_MAXIMUM_WAIT = 0.1
"""Seconds between two checks for a stop request."""


_MINIMUM_TOGETHER = 4
"""Number of calls from which preparing their arguments together is faster."""
_MAXIMUM_TOGETHER = 256
"""Maximum number of calls prepared together, between two checks for ended ones."""


class RowRunner:
    """Calls the function of a builder for the missing rows of its table.

    Parameters
    ----------
    table
        Holds the existing rows, and receives the computed ones.
    call
        The arguments of the function.
    plan
        The function with its execution options.
    owner
        Polled for stop requests; registers secrets, which must not be quoted.
    reader
        Splits results of several rows; `None` for one row per result.
    gate
        Admits calls; `None` if neither services nor budgets limit them.
    jobs
        Records the rows' jobs; `None` if the function computes them itself.
    """

    def __init__(
        self,
        table: RowTable,
        call: FunctionCall,
        plan: CallPlan,
        owner: Interruptible,
        reader: ForEachReader | None = None,
        gate: CallGate | None = None,
        jobs: JobJournal | None = None,
    ) -> None:
        self._table = table
        self._gate = gate
        self._jobs = jobs
        self._call = call
        self._plan = plan
        self._owner = owner
        self._schedule = Schedule(plan.batch_size or 1)
        policy = FailurePolicy(
            plan.policies,
            plan.function.stop_on,
            plan.function.retry_on,
            table.spec.name,
            table.counter,
            call.process_id,
        )
        errors = ErrorHandler(table, call, policy, self._schedule, owner, gate, joins_retries=jobs is not None)
        self._errors = errors
        # A reference to `self` would keep all cells alive until the next collection of garbage.
        self._collector = RowCollector(table, owner, reader=reader)
        self._is_uniform = (
            plan.batch_size is None
            and gate is None
            and jobs is None
            and plan.function.validator is None
            and not call.differs_by_call
            and not table.artifact_columns
        )
        """Whether calls only need their results kept, so that many can be handled together."""
        self._in_flight = CallsInFlight()
        self._noted = -1
        """Number of the call whose usage was added last."""

    def run(self) -> None:
        """Compute all missing rows, untried ones before those that failed earlier.

        Under `pause` and `revert` the first error ends the run: rows in flight are finished and kept, no new ones
        start, and the error is raised. Under `collect` it is recorded, and an exceeded limit ends the run.

        Raises
        ------
        FunctionError
            For an exception of the function or its arguments.
        TypeError, ValueError
            If a result is not a valid row; names its location.
        """
        missing = self._table.missing()
        if not missing:
            return
        self._errors.expect_failures(self._table.failed())
        try:
            if self._plan.is_plain and self._gate is None and not self._call.differs_by_call:
                with Metered(InlineMeter(self._table.usage, self._collector)):
                    missing = self._run_inline(missing)
            if self._errors.failure is None and not self._owner.stop_requested and (missing or self._schedule.waiting):
                self._run_scheduled(missing)
        finally:
            self._table.counter.retrying = 0
            # Jobs also continue while the process is paused.
            self._table.counter.waiting = self._jobs.text if self._jobs is not None and self._jobs.open else ""
        if self._errors.failure is not None:
            raise self._errors.failure
        self._owner.raise_if_stopped()

    # --- one after the other --------------------------------------------------------------------------------------

    def _run_inline(self, missing: Sequence[int]) -> Sequence[int]:
        """Call the function row by row; return rows left to the schedule."""
        try:
            self._call_each(missing)
        except TableReferenceError:
            # The schedule evaluates the arguments row by row, so that it can attribute the error.
            waiting = self._schedule.waiting_positions
            return [position for position in missing if not self._table.filled[position] and position not in waiting]
        return ()

    def _call_each(self, missing: Sequence[int]) -> None:
        order, function = _positional(self._plan.function.call, self._call.names)
        for calls in prepared(self._table, self._call.calls, missing, lambda: self._collector.most_rows):
            results: Iterator[object]
            if order:
                results = map(function, *(calls.arguments[place] for place in order))
            else:
                results = starmap(function, repeat((), len(calls.positions)))
            done, total = 0, len(calls.positions)
            while done < total:
                if self._owner.stop_requested:
                    return
                positions = calls.positions[done:]
                began = clock.monotonic()
                kept, error = self._collector.collect_until_error(positions, calls.fingerprints.after(done), results)
                self._errors.succeed(kept)
                done += kept
                if error is not None and self._errors.failure is None:
                    # The start of the call is known exactly only if it was the first one.
                    if kept:
                        began = self._collector.next_began or began
                    task = Task((positions[kept],), first_call=began, seconds=clock.monotonic() - began)
                    self._errors.fail(task, error)
                    done += 1
                if self._errors.failure is None and self._schedule.waiting:
                    self._run_due()
                if self._errors.failure is not None:
                    return

    def _run_due(self) -> None:
        """Retry the calls whose wait is over, in this thread."""
        executor = self._executor()
        while self._errors.failure is None and not self._owner.stop_requested:
            now = clock.monotonic()
            if self._schedule.next_time is None or self._schedule.next_time > now:
                return
            task = self._schedule.take(now)
            if task is not None:
                self._start(executor, task)
                self._handle(executor)
            self._table.counter.retrying = self._schedule.waiting

    def _executor(self) -> RowExecutor:
        if self._jobs is not None:
            return self._plan.job_executor(self._jobs, self._table, self._owner.user_given)
        return self._plan.executor(
            self._owner, self._errors.learn, self._table.artifacts, one_by_one=self._gate is not None
        )

    # --- side by side ---------------------------------------------------------------------------------------------

    def _run_scheduled(self, missing: Sequence[int]) -> None:
        """Run calls through an executor, in the order of the schedule."""
        self._call.make_ready()
        executor = self._executor()
        try:
            if self._jobs is not None:
                missing = self._take_up_jobs(executor, self._jobs, missing)
            self._schedule.add(missing)
            while self._continue(executor):
                self._handle(executor)
        finally:
            # Left early only on an interrupt or an error; rows in flight may still finish.
            try:
                self._drain(executor)
            finally:
                executor.close()
                if self._gate is not None:
                    self._gate.close()

    def _take_up_jobs(self, executor: RowExecutor, jobs: JobJournal, missing: Sequence[int]) -> Sequence[int]:
        """Resume the jobs of earlier attempts; return the missing rows outside of them."""
        rest = set(missing)
        for record in jobs.open:
            if not rest.isdisjoint(record.positions):
                rest.difference_update(record.positions)
                self._start(executor, Task(record.positions), is_left=True)
        new = [position for position in missing if position in rest]
        jobs.expect(-(-len(new) // (self._plan.batch_size or 1)))
        return new

    def _is_pending(self, executor: RowExecutor, jobs: JobJournal, now: float) -> bool:
        """Return whether all possible jobs are submitted and only waiting is left."""
        if not self._in_flight or executor.ended or not all(map(jobs.is_awaited, self._in_flight)):
            return False
        is_full = len(self._in_flight) >= executor.workers or (self._gate is not None and self._gate.opens_at > now)
        return is_full or not (self._schedule.is_ready(now) or self._schedule.waiting)

    def _continue(self, executor: RowExecutor) -> bool:
        """Start calls and wait until one has ended; return whether any are left."""
        if self._errors.failure is not None or self._owner.stop_requested:
            return False
        now = clock.monotonic()
        if self._gate is None:
            ended = executor.ended
            while self._errors.failure is None and not ended and (room := executor.workers - len(self._in_flight)) > 0:
                if self._is_uniform and room >= _MINIMUM_TOGETHER:
                    positions = self._schedule.take_new(min(room, _MAXIMUM_TOGETHER), now)
                    if positions:
                        self._start_first(executor, positions)
                        continue
                task = self._schedule.take(now)
                if task is None:
                    break
                self._start(executor, task)
        else:
            self._start_admitted(executor, self._gate, now)
        self._table.counter.retrying = self._schedule.waiting
        self._tell_waiting(executor, now)
        if not self._in_flight and self._schedule.next_time is None and not self._schedule.is_ready(now):
            return False
        if self._jobs is not None and not self._plan.policies.wait and self._is_pending(executor, self._jobs, now):
            pending = JobsPending(f"{self._jobs.text}. Make the same call again to poll them.")
            self._errors.end_with(pending)
            return False
        executor.wait(self._seconds_to_wait(executor, now))
        self._expire(executor)
        return True

    def _tell_waiting(self, executor: RowExecutor, now: float) -> None:
        """Report in progress why rows on other machines wait."""
        if self._gate is not None and self._gate.opens_at > now:
            return
        if self._jobs is not None:
            self._table.counter.waiting = executor.waiting
        if not self._plan.function.runs_on_ray:
            return
        text = executor.waiting
        if not text:
            begun = executor.begun
            number, began = min(begun.items(), key=lambda item: item[1], default=(-1, now))
            call = self._in_flight.get(number)
            if call is not None and now - began > _LONG_CALL:
                text = f"{rows_text(call.task.positions)}, running for up to {now - began:,.0f} s"
        self._table.counter.waiting = text

    def _start_admitted(self, executor: RowExecutor, gate: CallGate, now: float) -> None:
        """Start the calls that services and budgets allow now."""
        # No call is submitted before a worker is free, since it would count before it begins.
        most = min(executor.workers, self._plan.concurrency)
        while self._errors.failure is None and len(self._in_flight) < most and not executor.ended:
            if not self._schedule.is_ready(now) or gate.opens_at > now:
                break
            admitted = gate.admit()
            if isinstance(admitted, BudgetSpent):
                if not gate.in_flight:
                    self._errors.end_with(admitted)
                break
            if isinstance(admitted, Refused):
                break
            task = self._schedule.take(now)
            assert task is not None  # one was ready, and no other thread takes tasks
            self._start(executor, task, admitted)
        gate.look(executor.begun)

    def _seconds_to_wait(self, executor: RowExecutor, now: float) -> float:
        until = list(self._deadlines(executor).values())
        if len(self._in_flight) < self._plan.concurrency:
            if self._schedule.next_time is not None:
                until.append(self._schedule.next_time)
            if self._gate is not None and self._gate.opens_at > now:
                until.append(self._gate.opens_at)
        return max(0.0, min([_MAXIMUM_WAIT, *(time - now for time in until)]))

    def _deadlines(self, executor: RowExecutor) -> dict[int, float]:
        """Return the deadlines of the running calls, on the monotonic clock."""
        timeout = self._plan.policies.timeout
        if timeout is None:
            return {}
        return {number: began + timeout for number, began in executor.begun.items() if number in self._in_flight}

    def _start_first(self, executor: RowExecutor, positions: Sequence[int]) -> None:
        """Start the first calls of rows, with arguments prepared together."""
        while positions:
            try:
                with ArgumentErrors(self._table.spec, positions[0]):
                    calls = self._call.calls(positions)
            except TableReferenceError as error:
                self._fail_arguments(Task(positions[:1]), error)
                if self._errors.failure is not None:
                    return
                positions = positions[1:]
                continue
            numbers = self._in_flight.numbers(len(calls.positions))
            self._in_flight.add_together(numbers, calls.positions, calls.fingerprints.content)
            values = tuple(map(list, calls.arguments))
            executor.start_together(CallGroup(numbers, self._call.names, values))
            positions = positions[len(calls.positions) :]

    def _fail_arguments(self, task: Task, error: TableReferenceError) -> None:
        """Fail a call on an error in its arguments, as its row's error."""
        self._errors.fail(task._replace(attempt=task.attempt - 1), RowError(error, note=""), was_called=False)

    def _start(self, executor: RowExecutor, task: Task, permit: Permit | None = None, is_left: bool = False) -> None:
        """Start a call; `is_left` for a job of an earlier attempt, which has counted it."""
        position = task.positions[0]
        try:
            with ArgumentErrors(self._table.spec, position):
                if self._plan.batch_size is None:
                    counted = self._call.counted(position)
                    fingerprints = Fingerprints(self._call.fingerprint(position, counted))
                    arguments = self._call.completed(position, counted, self._facts(task, fingerprints))
                else:
                    batch = self._call.batch(task.positions)
                    fingerprints = batch.fingerprints
                    arguments = self._call.batch_arguments(batch, self._facts(task, fingerprints))
        except TableReferenceError as error:
            if self._gate is not None:
                self._gate.cancel(permit)
            self._fail_arguments(task, error)
            return
        (number,) = self._in_flight.numbers(1)
        is_counted = is_left and self._table.usage.has_calls(position)
        if self._gate is not None and not is_counted:
            self._gate.begin(number, permit)
            self._table.usage.begin(task.positions)
            is_counted = True
        if self._jobs is not None:
            self._jobs.assign(number, task.positions)
        self._in_flight.add(number, Call(task, fingerprints.content, is_counted))
        executor.start(number, arguments)

    def _facts(self, task: Task, fingerprints: Fingerprints) -> CallFacts:
        """Return the values of placeholders for the next call of a task."""
        if task.attempt == 1 and task.last_error is None and not self._call.has_call_ids:
            return FIRST_CALL
        ids: dict[int, str] = {}
        if self._call.has_call_ids:
            for place, position in enumerate(task.positions):
                number = self._table.calls.get(position, 0) + 1
                ids[position] = self._call.call_id(position, fingerprints[place] or b"", self._table.version, number)
        return CallFacts(task.attempt, task.last_error, ids)

    def _handle(self, executor: RowExecutor) -> None:
        """Handle the calls that have ended."""
        ended = executor.ended
        while ended:
            # Removed last, so that an interrupt in between does not lose a row.
            group = self._results(ended) if len(ended) > 1 and self._is_uniform else ()
            if len(group) > 1:
                self._take_together(group)
                self._in_flight.remove([outcome.number for outcome, _, _ in group])
                for _ in group:
                    ended.popleft()
            else:
                self._take(ended[0])
                ended.popleft()

    def _results(self, ended: deque[Ended]) -> Sequence[tuple[Ended, int, bytes]]:
        """Return the first ended calls that only need their results kept.

        Each comes with its row and fingerprint.
        """
        filled, found = self._table.filled, []
        # Copied in one step: other threads append meanwhile.
        items = list(ended)[: self._collector.most_rows]
        for item, row in zip(items, self._in_flight.rows([item.number for item in items]), strict=True):
            if row is None or item.error is not None or item.usage or filled[row[0]]:
                break
            found.append((item, *row))
        return found

    def _take_together(self, ended: Sequence[tuple[Ended, int, bytes]]) -> None:
        """Keep the results of calls for one row each."""
        outcomes, rows, fingerprints = zip(*ended, strict=True)
        positions, joined = consecutive(rows), Fingerprints(b"".join(fingerprints))
        results = [outcome.value for outcome in outcomes]
        for place, refused in self._collected(positions, joined, results, set(map(type, results))):
            call = self._in_flight.get(outcomes[place].number)
            assert call is not None  # they are removed afterwards
            self._errors.fail(_after_call(call.task, outcomes[place].seconds), refused)

    def _collected(
        self, positions: Sequence[int], fingerprints: Fingerprints, results: Sequence[object], kinds: Set[type]
    ) -> Iterator[tuple[int, RowError]]:
        """Keep results in groups; yield the index and error of each rejected one.

        Parameters
        ----------
        positions, fingerprints
            Positions and fingerprints of the rows.
        results
            One result per row.
        kinds
            Classes of the results; empty for those of `read_together` of the collector.
        """
        done = 0
        while done < len(results):
            rest, numbers = positions[done:], fingerprints.rows(done)
            kept, refused = self._collector.collect_batch(rest, numbers, results[done:], kinds)
            self._errors.succeed(kept)
            done += kept
            if refused is not None:
                if _is_interrupt(refused.error):  # The results are kept, and handled again.
                    raise refused.error
                yield done, refused
                done += 1

    def _take(self, ended: Ended) -> None:
        call = self._in_flight.get(ended.number)
        if call is None:
            return
        task = _after_call(call.task, ended.seconds)
        self._note_usage(ended.number, call, ended.seconds, ended.usage or {})
        if 0 not in self._table.marks(task.positions):
            # An interrupt came after the rows were kept and before the call was removed.
            pass
        elif ended.error is not None:
            error = error_of(ended, f"computing {rows_text(task.positions)}")
            if self._jobs is not None:
                # The executor has already used up the retries of the request.
                task = task._replace(retries=self._plan.policies.retry.max_retries)
            self._errors.fail(task, error, is_setup=type(ended.error) is FunctionError)
        elif self._plan.batch_size is None:
            self._take_row(task, ended.value, call.fingerprints)
        elif self._jobs is not None:
            self._take_job(self._jobs, ended.number, task, ended.value, Fingerprints(call.fingerprints))
        else:
            self._take_batch(task, ended.value, Fingerprints(call.fingerprints))
        self._in_flight.remove((ended.number,))

    def _note_usage(self, number: int, call: Call, seconds: float, amounts: Mapping[str, float]) -> None:
        """Add the usage of an ended call, if calls are counted or it reported any."""
        if number == self._noted:
            # An interrupt came before the call was removed.
            return
        self._noted = number
        positions = call.task.positions
        if self._gate is not None:
            self._gate.end(number, amounts, seconds)
        elif not amounts:
            return
        elif not call.is_counted:
            self._table.usage.begin(positions)
        self._table.usage.end(positions, seconds, amounts)

    def _take_row(self, task: Task, value: object, fingerprint: bytes, place: int = 0) -> None:
        """Keep the result of one row, unless it is rejected."""
        position, spec = task.positions[place], self._table.spec
        if self._table.filled[position]:
            return
        note = ""
        try:
            cells = self._collector.read(value, position)
            if self._plan.function.validator is not None:
                note = f"raised by {spec.validator}() of builder '{spec.name}' for row {position}"
                given = [
                    _as_given(cell, spec.dtypes.get(name))
                    for name, cell in zip(spec.changed_columns, cells, strict=True)
                ]
                self._plan.function.validator(**dict(zip(spec.changed_columns, given, strict=True)))
        except BaseException as error:  # The policies decide on any exception of a validator.
            if _is_interrupt(error):
                # The result is kept, and handled again before the run ends.
                raise
            refused = RowError(error, is_invalid=True, result=value, is_local=True, note=note)
            self._errors.fail(task._replace(positions=(position,)), refused, task.positions)
            return
        self._table.keep(position, cells, fingerprint)
        self._errors.succeed(1)

    def _take_job(self, jobs: JobJournal, number: int, task: Task, value: object, fingerprints: Fingerprints) -> None:
        """Keep the results of a job under the version of the code that submitted it."""
        self._errors.begin_job()
        with self._table.computed_under(jobs.of(number).code, task.positions):
            self._take_batch(task, value, fingerprints)
            jobs.finish(number)

    def _take_batch(self, task: Task, value: object, fingerprints: Fingerprints) -> None:
        """Keep the results of a batch; exceptions among them are their rows' errors."""
        try:
            results = rows_of_batch(value, len(task.positions), self._table.spec.changed_columns)
        except Exception as error:  # noqa: BLE001 - foreign containers may raise anything
            located: Exception = error
            if not is_a(error, MemoryError):
                text = f"{self._table.spec.function_text}, {rows_text(task.positions)}: {message_of(error)}"
                located = ValueError(text)
            self._errors.fail(task, RowError(located, is_invalid=True, result=value, is_local=True, note=""))
            return
        kinds = set(map(type, results))
        simple = self._plan.function.validator is None and not any(issubclass(kind, BaseException) for kind in kinds)
        marks = self._table.marks(task.positions)
        if simple and marks.count(0) == len(marks):
            together = self._collector.read_together(value)
            if together is not None:
                results, kinds = together, set()
            for place, refused in self._collected(task.positions, fingerprints, results, kinds):
                self._errors.fail(task._replace(positions=(task.positions[place],)), refused, task.positions)
            return
        for place, result in enumerate(results):
            if self._table.filled[task.positions[place]]:
                continue
            if is_exception(result):
                self._errors.fail(task._replace(positions=(task.positions[place],)), RowError(result), task.positions)
            else:
                self._take_row(task, result, fingerprints.rows(place, place + 1).content, place)

    def _expire(self, executor: RowExecutor) -> None:
        """Abandon calls that have timed out."""
        if self._plan.policies.timeout is None:
            return
        now = clock.monotonic()
        ended = {item.number for item in list(executor.ended)}
        late = [
            (number, call)
            for number, deadline in self._deadlines(executor).items()
            if deadline <= now
            and number not in ended
            and (self._jobs is None or self._jobs.is_late(number, deadline))
            and (call := self._in_flight.get(number)) is not None
        ]
        for number, call in late:
            reported = executor.reported(number)
            running = executor.abandon(number)
            self._in_flight.remove((number,))
            seconds = self._plan.policies.timeout or 0.0
            error = TimedOut(timeout_text(self._plan.function.spec, seconds))
            task = _after_call(call.task, seconds)
            self._note_usage(number, call, seconds, reported)
            if self._jobs is None:
                self._errors.fail(task, RowError(error))
            else:
                self._expire_job(self._jobs, number, task, error)
            if running > self._plan.concurrency and self._errors.failure is None:
                error.add_note(stuck_text(running))
                self._errors.end(task, RowError(error), is_of_run=True)

    def _expire_job(self, jobs: JobJournal, number: int, task: Task, error: TimedOut) -> None:
        """Fail a timed-out job's rows individually, since smaller jobs are not faster."""
        self._errors.begin_job()
        for position in task.positions:
            if not self._table.filled[position]:
                self._errors.fail(task._replace(positions=(position,)), RowError(error), task.positions)
        jobs.finish(number)

    def _drain(self, executor: RowExecutor) -> None:
        """Wait for rows in flight.

        After a failure, there is no time limit until an interrupt sets one.
        """
        patient = self._errors.failure is not None and not self._owner.stop_requested
        try:
            self._await_in_flight(executor, patient)
        except BaseException as error:
            if patient and _is_interrupt(error):
                self._await_in_flight(executor, patient=False)
            raise

    def _await_in_flight(self, executor: RowExecutor, patient: bool) -> None:
        """Handle rows in flight until all have ended; for `INTERRUPT_PATIENCE` seconds unless `patient`."""
        self._take_back(executor)
        deadline = clock.monotonic() + INTERRUPT_PATIENCE
        self._handle(executor)
        while self._in_flight and (patient or clock.monotonic() < deadline):
            executor.wait(_MAXIMUM_WAIT)
            self._expire(executor)
            self._handle(executor)
            self._take_back(executor)
            patient = patient and not self._owner.stop_requested

    def _take_back(self, executor: RowExecutor) -> None:
        """Take back calls that have not begun, and jobs left to a later attempt."""
        reported = {number: executor.reported(number) for number in self._in_flight} if self._jobs is not None else {}
        executor.cancel_waiting()
        for number in self._in_flight:
            call = self._in_flight.get(number)
            if call is None or executor.knows(number):
                continue
            # It was taken back, or interrupted before it was submitted.
            self._in_flight.remove((number,))
            if self._jobs is not None and self._jobs.is_out(number):
                self._note_usage(number, call, 0.0, reported[number])
                continue
            if self._jobs is not None:
                self._jobs.finish(number)
            if self._gate is not None:
                self._gate.withdraw(number)
                self._table.usage.withdraw(call.task.positions)


def _is_interrupt(error: BaseException) -> bool:
    """Return whether an exception interrupts the run, instead of being the error of a result."""
    return is_a(error, KeyboardInterrupt) or is_interrupt(error)


def _as_given(cell: object, column_type: ColumnType | None) -> object:
    """Return a cell in the form for functions, converting arrays to lists."""
    if column_type is None or holds_arrays(column_type):
        return cell
    return without_arrays([cell])[0]


def _after_call(task: Task, seconds: float) -> Task:
    """Return a task with a further call and its duration counted."""
    first_call = clock.monotonic() - seconds if task.first_call is None else task.first_call
    # Faster than `replace`, which would double the cost of a row.
    return Task(
        task.positions, task.attempt, task.retries, first_call, task.seconds + seconds, task.last_error, task.joins
    )


def _positional(function: Callable[..., object], names: Sequence[str]) -> tuple[tuple[int, ...], Callable[..., object]]:
    """Return the order of the named arguments, and the callable to pass them to.

    Passing by position is cheaper than by name; it is used only if it is equivalent.
    """
    if isinstance(function, FunctionType):
        parameters = function.__code__.co_varnames[: function.__code__.co_argcount][: len(names)]
        if set(parameters) == set(names):
            return tuple(names.index(name) for name in parameters), function

    def call(*values: object) -> object:
        return function(**dict(zip(names, values, strict=True)))

    return tuple(range(len(names))), call
