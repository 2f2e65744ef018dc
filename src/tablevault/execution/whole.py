"""Builders whose function is called once; ColumnBuilders reuse all cells or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from tablevault.builders.secrets import given_secrets, written_secrets
from tablevault.builders.spec import BuilderSpec
from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.reuse import reuse_whole
from tablevault.rows.artifacts import names_artifacts
from tablevault.rows.calls import ArgumentErrors, CallFacts, FunctionCall
from tablevault.rows.pulled_rows import RemoteRows
from tablevault.rows.results import read_frame_result
from tablevault.rows.single import Arguments, SinglePassage, call_once, pull_rows
from tablevault.rows.usage_log import UsageLog
from tablevault.storage.checkpoints import SavedFrame
from tablevault.storage.dtypes import plain_values
from tablevault.storage.frames import FrameData, read_frame

_Accepted = TypeVar("_Accepted")


@dataclass(frozen=True)
class SingleCall:
    """The single call of a function."""

    spec: BuilderSpec
    function: FunctionCall
    counted: Mapping[str, object]
    fingerprint: bytes
    unfinished: Mapping[str, list[object]]
    """The filled part of its own columns that the function sees."""

    @classmethod
    def prepare(cls, run: BuilderRun, unfinished: Mapping[str, list[object]]) -> SingleCall:
        """Evaluate the arguments that affect reuse.

        Parameters
        ----------
        run
            The builder.
        unfinished
            The filled part of its own columns that the function sees.
        """
        with ArgumentErrors(run.spec):
            call = FunctionCall(run.spec, run.execution.views(unfinished))
            counted = call.counted(None)
            return cls(run.spec, call, counted, call.fingerprint(None, counted), unfinished)

    def arguments(self, facts: CallFacts) -> dict[str, object]:
        """Evaluate the remaining arguments, and return all arguments."""
        with ArgumentErrors(self.spec):
            return self.function.completed(None, self.counted, facts)


class EndedCalls:
    """Counts a function's calls without a result in this process.

    Parameters
    ----------
    run
        The builder, whose function is called once.
    """

    _PLACE = 0
    """Row position of the number in checkpoints, which count by row."""

    def __init__(self, run: BuilderRun) -> None:
        self._checkpoints = run.execution.checkpoints
        self._builder = run.spec.name
        self.number = run.saved.calls.get(self._PLACE, 0) if run.saved is not None else 0

    def count(self) -> None:
        """Count one more call; durable with the next flush."""
        self.number += 1
        self._checkpoints.count_calls(self._builder, self._PLACE, self.number)

    def facts(self, facts: CallFacts, call: SingleCall, code: str) -> CallFacts:
        """Return the facts of the next call, with its id."""
        call_id = call.function.call_id(None, call.fingerprint, code, self.number + 1)
        return replace(facts, call_ids={self._PLACE: call_id})


def call_function(
    run: BuilderRun, call: SingleCall, ended: EndedCalls, usage: UsageLog, accept: Callable[[object], _Accepted]
) -> _Accepted:
    """Call the function, with retries by its policies, and return its accepted result.

    Raises
    ------
    FunctionError
        For its exception, or for a result that `accept` refuses with a `TypeError` or `ValueError`.
    """
    function, owner, policies = run.builder.loaded, run.execution.owner, run.spec.policies
    arguments = _arguments(run, call, ended)
    opener = function.opener(run.setup_arguments)
    passage = SinglePassage(run.gate(), usage, owner)
    artifacts = run.frame.artifacts
    return call_once(function, policies, opener, arguments, owner, artifacts, ended.count, passage, accept)


def pull_function(run: BuilderRun, call: SingleCall, ended: EndedCalls, usage: UsageLog) -> RemoteRows:
    """Return an iterator over the rows of a generator in a remote worker."""
    function, owner = run.builder.loaded, run.execution.owner
    arguments = _arguments(run, call, ended)(CallFacts())
    opener = function.worker_opener(run.setup_arguments)
    passage = SinglePassage(run.gate(), usage, owner)
    return pull_rows(function, run.spec.policies, opener, arguments, owner, run.frame.artifacts, passage)


def _arguments(run: BuilderRun, call: SingleCall, ended: EndedCalls) -> Arguments:
    """Return a callable that evaluates the arguments of each call."""
    owner = run.execution.owner

    def arguments(facts: CallFacts) -> dict[str, object]:
        # Each call gets its own arguments, since the previous one may have mutated them.
        fresh = call if facts.attempt == 1 else SingleCall.prepare(run, call.unfinished)
        given = fresh.arguments(ended.facts(facts, fresh, run.builder.version))
        owner.secrets.add(written_secrets(run.spec))
        owner.secrets.add(given_secrets(run.spec, given))
        return given

    return arguments


def run_dataframe(run: BuilderRun) -> None:
    """Load the saved frame, reuse the columns of an origin, or call the function."""
    saved, usage = _intact_frame(run), run.usage_log()
    if saved is not None and not run.execution.has_repeated_cells:
        _put_saved(run, saved)
        return
    call = SingleCall.prepare(run, {})
    if saved is not None and saved.fingerprint == call.fingerprint:
        _put_saved(run, saved)
    elif not reuse_whole(run, call.fingerprint):
        _put_frame(run, _compute_frame(run, call, usage))
        run.add_outcome(whole=call.fingerprint, usage=usage.rows)


def restore_dataframe(run: BuilderRun, reusing: bool) -> bool:
    """Put the saved frame or reusable columns into the frame; see `running.restore_builders`."""
    saved = run.saved.frame if run.saved is not None else None
    if saved is not None:
        _put_saved(run, saved)
        return True
    if reusing and run.saved is None and decide_dataframe(run):
        return True
    run.put_rows_so_far(run.rows_so_far())
    return run.is_done


def decide_dataframe(run: BuilderRun) -> bool:
    """Reuse an origin's columns without calling the function; return whether that was possible."""
    return reuse_whole(run, SingleCall.prepare(run, {}).fingerprint)


def _compute_frame(run: BuilderRun, call: SingleCall, usage: UsageLog) -> FrameData:
    """Call the function, and save its result."""
    spec, frame, checkpoints = run.spec, run.frame, run.execution.checkpoints
    run.counter.total = None if spec.is_index else frame.row_count
    if run.is_done:
        # It was complete, but its files have changed since.
        run.begin()

    def accept(returned: object) -> FrameData:
        return read_frame_result(spec, returned, run.counter.total, frame.artifacts.name_of)

    data = call_function(run, call, EndedCalls(run), usage, accept)
    run.counter.computed = len(data)
    artifacts = _artifacts_of(data)
    checkpoints.save_frame(spec.name, data, call.fingerprint, artifacts)
    if artifacts:
        run.saved = checkpoints.load(spec.name)
        saved = _intact_frame(run)
        if saved is not None:
            frame.artifacts.add_computed(saved.artifacts)
    return data


def _intact_frame(run: BuilderRun) -> SavedFrame | None:
    """Return the frame saved by an earlier attempt, unless its files have changed since."""
    saved = run.saved.frame if run.saved is not None and run.saved.done else None
    is_intact = saved is None or run.frame.artifacts.are_intact(saved.artifacts)
    run.execution.has_repeated_cells |= not is_intact or (run.saved is not None and run.saved.has_repeated_rows)
    return saved if is_intact else None


def _put_saved(run: BuilderRun, saved: SavedFrame) -> None:
    run.frame.artifacts.add_computed(saved.artifacts)
    data = read_frame(saved.path)
    run.counter.computed = len(data)
    _put_frame(run, data)
    usage = run.saved.usage if run.saved is not None else {}
    run.add_outcome(whole=saved.fingerprint, versions=(saved.code,), usage=usage)


def _put_frame(run: BuilderRun, data: FrameData) -> None:
    frame = run.frame
    if run.spec.is_index:
        frame.row_count = len(data)
    run.counter.total = frame.row_count
    for name, column_type in data.types.items():
        frame.put(name, data.table.column(name), column_type)
    if run.spec.is_index:
        run.keep_old_rows()


def _artifacts_of(data: FrameData) -> list[str]:
    names: list[str] = []
    for name, column_type in data.types.items():
        if names_artifacts(column_type):
            cells = plain_values(data.table.column(name), column_type)
            names.extend(str(cell) for cell in cells if cell is not None)
    return names
