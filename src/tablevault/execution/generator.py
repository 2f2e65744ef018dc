"""Generator functions, which yield rows in order and may continue after existing rows."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import NoReturn

from tablevault.errors import TVArtifactError
from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.origins import Origin
from tablevault.execution.reuse import reuse_first_rows, reuse_whole
from tablevault.execution.whole import EndedCalls, SingleCall, call_function, pull_function
from tablevault.notes import add_note
from tablevault.ports import FunctionError
from tablevault.rows.artifacts import names_artifacts
from tablevault.rows.batch_results import is_exception
from tablevault.rows.collector import RowCollector
from tablevault.rows.error_handling import collect_failure
from tablevault.rows.error_names import RowError
from tablevault.rows.results import normal_values
from tablevault.rows.schedule import FailurePolicy, Task, Verdict
from tablevault.rows.single import SingleMeter
from tablevault.rows.table import FAILED, RowTable
from tablevault.rows.usage import Metered
from tablevault.storage.packing import pack
from tablevault.system.interrupts import is_interrupt


def run_generator(run: BuilderRun, spared: Collection[int] = frozenset()) -> None:
    """Restore or reuse rows, and pull the others from the generator.

    Parameters
    ----------
    run
        The builder.
    spared
        Rows that get cells of an origin afterwards, so that their failures do not count.
    """
    table = run.restored_table(_outdated_rows(run))
    table.spare(spared)
    table.keep_failures()
    total = None if run.spec.is_index else run.frame.row_count
    run.counter.total = total
    prefix = _show_old_rows(run, table)
    if run.saved is not None and run.saved.done and not table.is_incomplete:
        _finish(run, table, len(table), run.saved.fingerprints[0] if run.saved.fingerprints else b"")
        return
    continues = _continues(run)
    if continues:
        table.cut_at_first_missing()
    filled = len(table)
    call = SingleCall.prepare(run, _own_rows(run, table, total) if continues else {})
    if total is not None and not filled and reuse_whole(run, call.fingerprint):
        return
    first = filled if continues else prefix
    ended = EndedCalls(run)
    source: AbstractContextManager[object] = (
        pull_function(run, call, ended, table.usage)
        if run.builder.loaded.runs_on_ray
        else nullcontext(call_function(run, call, ended, table.usage, lambda returned: returned))
    )
    try:
        # The generator's body runs while its rows are pulled.
        with source as values, Metered(SingleMeter(table.usage)):
            Yields(run, table, call.fingerprint, first, total).append(values, filled - first)
    except Exception:
        ended.count()
        raise
    _finish(run, table, len(table) if total is None else total, call.fingerprint)


def _outdated_rows(run: BuilderRun) -> Sequence[int]:
    """Return all finished rows if the arguments have changed, because cells that they read were computed again."""
    if run.saved is None or not run.execution.has_repeated_cells or _continues(run):
        return ()
    fingerprint = SingleCall.prepare(run, {}).fingerprint
    return () if all(known == fingerprint for known in run.saved.fingerprints) else run.saved.positions


def restore_generator(run: BuilderRun, reusing: bool) -> bool:
    """Put reusable columns or finished rows into the frame; see `running.restore_builders`."""
    if reusing and run.saved is None and decide_generator(run):
        return True
    run.put_rows_so_far(run.rows_so_far())
    return run.is_done


def decide_generator(run: BuilderRun) -> bool:
    """Reuse an origin's columns without calling the function; return whether that was possible."""
    own = _own_rows(run, run.empty_table(), run.frame.row_count) if _continues(run) else {}
    return reuse_whole(run, SingleCall.prepare(run, own).fingerprint)


def shown_origin(run: BuilderRun) -> Origin | None:
    """Return the origin whose rows the generator appends to, if any."""
    spec, origins = run.spec, run.execution.origins if run.execution.reuses_cells else ()
    if not (spec.is_index and spec.keep_old and spec.reads.reads_whole_self and origins):
        return None
    facts = origins[-1].facts(spec.changed_columns, is_index=True)
    if facts is None or facts.versions != (run.reused_version,):
        return None
    return origins[-1] if facts.arguments == spec.tracked_arguments else None


class Yields:
    """Adds the rows of a generator to a table.

    Parameters
    ----------
    run, table
        The builder, and its rows so far.
    fingerprint
        Fingerprint of the arguments.
    first
        Position of the generator's first row.
    total
        Required number of rows; `None` if the generator decides.
    """

    def __init__(self, run: BuilderRun, table: RowTable, fingerprint: bytes, first: int, total: int | None) -> None:
        self._table = table
        self._owner = run.execution.owner
        self._refused = run.refused
        self._primary_key = run.execution.primary_key
        self._fingerprint = fingerprint
        self._first = first
        self._total = total
        self._collector = RowCollector(table, self._owner, may_end=True)
        self._collects = run.spec.policies.collects
        self._policy = FailurePolicy(
            run.spec.policies,
            run.builder.loaded.stop_on,
            run.builder.loaded.retry_on,
            run.spec.name,
            table.counter,
            run.execution.process_id,
        )

    def append(self, values: object, repeated: int) -> None:
        """Append the rows yielded by the function.

        Parameters
        ----------
        values
            The result of the function.
        repeated
            Number of existing rows, which the generator repeats; they are compared and dropped.
        """
        iterator = self._iterator(values)
        for position in range(self._first, self._first + repeated):
            if not self._repeat(iterator, position):
                raise self._wrong_count(position, self._first + repeated if self._total is None else self._total)
        position = self._first + repeated
        end = sys.maxsize if self._total is None else self._total
        while position < end:
            count = min(self._collector.most_rows, end - position)
            self._table.resize(max(position, len(self._table)))
            taken = self._take(iterator, position, count)
            position += taken
            self._owner.raise_if_stopped()
            if not taken:
                break
        if self._total is not None:
            self._check_end(iterator, position, self._total)

    def _take(self, iterator: Iterator[object], position: int, count: int) -> int:
        """Take rows, including failed ones; return their number."""
        rows = range(position, position + count)
        kept, failure = self._collector.collect_until_error(rows, self._fingerprint, islice(iterator, count))
        exceeded = self._policy.succeed(kept)
        if exceeded is not None and self._policy.last is not None:
            last, error = self._policy.last
            add_note(error.error, exceeded)
            self._raise(error, last.positions[0])
        if failure is None:
            return kept
        if not failure.is_invalid:
            # It was raised, which ends the generator, so that no row can follow.
            self._raise(failure, position + kept)
        self._fail(RowError(failure.result) if is_exception(failure.result) else failure, position + kept)
        return kept + 1

    def _fail(self, failure: RowError, position: int) -> None:
        """Record the error of a yielded row; raise it if it ends the run."""
        task = Task((position,))
        if not self._collects or self._policy.decide(task, failure, "", 0.0).verdict is Verdict.RAISE:
            self._raise(failure, position)
        self._table.resize(max(position + 1, len(self._table)))
        if not collect_failure(self._table, self._policy, task, failure, self._owner.secrets):
            self._raise(failure, position)

    def _raise(self, failure: RowError, position: int) -> NoReturn:
        if not is_interrupt(failure.error):
            self._table.counter.raised += 1
        if not failure.is_invalid:
            add_note(failure.error, self._note(position))
        raise FunctionError(failure.error, self._policy.reverts(failure)) from failure.error

    def _repeat(self, iterator: Iterator[object], position: int) -> bool:
        """Pull a row that may already exist; return whether the generator yielded one."""
        try:
            value = next(iterator)
        except StopIteration:
            return False
        except BaseException as error:
            raise self._function_error(error, position) from error
        if is_exception(value):
            failure = RowError(value)
            # A row that is there keeps its cells.
            if not self._table.filled[position] or self._policy.is_of_run(failure):
                self._fail(failure, position)
            return True
        if self._table.filled[position] == FAILED:
            return True
        try:
            cells = self._collector.read(value, position)
        except (TypeError, ValueError) as error:
            if not (self._collects and self._table.filled[position]):
                self._fail(RowError(error, is_invalid=True, result=value, note=""), position)
            return True
        if self._table.filled[position]:
            self._compare_key(position, cells)
        else:
            self._table.keep(position, cells, self._fingerprint)
        self._owner.raise_if_stopped()
        return True

    def _check_end(self, iterator: Iterator[object], position: int, total: int) -> None:
        spec = self._table.spec
        if position < total:
            raise self._wrong_count(position, total)
        try:
            next(iterator)
        except StopIteration:
            return
        except BaseException as error:
            raise self._function_error(error, position) from error
        text = f"Builder '{spec.name}': {spec.python_function}() yielded more rows than the instance's {total}."
        raise self._refused(ValueError(text))

    def _compare_key(self, position: int, cells: tuple[object, ...]) -> None:
        spec = self._table.spec
        for name in self._primary_key:
            if name in spec.changed_columns:
                place = spec.changed_columns.index(name)
                before = self._table.columns[place][position]
                if not _are_equal(cells[place], before):
                    text = (
                        f"Builder '{spec.name}', column '{name}', row {position}: the restarted generator "
                        f"yields {cells[place]!r} instead of {before!r}. Make it yield the same rows each time, or let "
                        "it take <<self>> and continue after the existing rows."
                    )
                    raise self._refused(ValueError(text))

    def _iterator(self, values: object) -> Iterator[object]:
        try:
            return iter(values)  # type: ignore[call-overload, no-any-return]
        except TypeError:
            text = (
                f"{self._table.spec.function_text} must return an iterator or be a generator function, "
                f"not return {type(values).__name__}."
            )
            raise self._refused(TypeError(text)) from None

    def _wrong_count(self, position: int, end: int) -> FunctionError:
        name, function = self._table.spec.name, self._table.spec.python_function
        text = f"Builder '{name}': {function}() yielded {position - self._first} rows, "
        return self._refused(ValueError(f"{text}but {end - self._first} were expected."))

    def _function_error(self, error: BaseException, position: int) -> FunctionError:
        add_note(error, self._note(position))
        return FunctionError(error, self._policy.reverts(RowError(error)))

    def _note(self, position: int) -> str:
        return f"raised by {self._table.spec.function_text} after {position} rows"


def _are_equal(cell: object, other: object) -> bool:
    """Compare two cells; NaN equals NaN, and arrays are compared as a whole."""
    return (cell == other) is True or pack(cell) == pack(other)


def _finish(run: BuilderRun, table: RowTable, total: int, fingerprint: bytes) -> None:
    run.complete(table, total)
    whole = fingerprint or None
    if len(table.versions) == 1:
        run.add_outcome(whole=whole, failures=table.failures, usage=table.usage.rows)
    else:
        # Some rows were computed by code that was replaced while the process was paused.
        run.add_row_outcome(table, whole)


def _continues(run: BuilderRun) -> bool:
    """Return whether the generator reads its own rows and thus continues after them."""
    reads = run.spec.reads
    return reads.reads_whole_self or bool(set(reads.own_columns) & set(run.spec.changed_columns))


def _own_rows(run: BuilderRun, table: RowTable, total: int | None) -> dict[str, list[object]]:
    """Return the filled part of the generator's own columns as it sees them."""
    shown = {}
    for name, kept in zip(run.spec.changed_columns, table.columns, strict=True):
        cells = normal_values(run.spec, name, kept)
        old = run.frame.columns.get(name)
        rest = 0 if total is None else total - len(cells)
        unfilled = list(old.values[len(cells) :]) if old is not None else [None] * rest
        if names_artifacts(run.spec.dtypes.get(name)):
            shown[name] = run.frame.full_paths([*cells, *unfilled], table.adopted[name])
        else:
            shown[name] = [*cells, *unfilled]
    return shown


def _show_old_rows(run: BuilderRun, table: RowTable) -> int:
    """Start with the origin's rows if the generator appends; return their number."""
    origin = shown_origin(run)
    rows = origin.rows(run.spec.changed_columns, is_index=True) if origin is not None else None
    if origin is None or rows is None:
        return 0
    table.resize(max(origin.row_count, len(table)))
    reused = reuse_first_rows(table, origin, rows, run.reused_version, origin.row_count)
    if reused < origin.row_count:
        raise TVArtifactError(
            f"Builder '{run.spec.name}' cannot keep the rows of its origin: a file that row {reused} names is missing."
        )
    return origin.row_count
