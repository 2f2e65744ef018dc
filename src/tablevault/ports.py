"""The boundaries between layers, as Protocols with their contracts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

    from tablevault.texts.plain import Secrets
    from tablevault.values.changes import Decision, Imported, Read, Remaining, Tidying
    from tablevault.values.clusters import RayOptions
    from tablevault.values.contents import (
        ArtifactRecord,
        InstanceRecord,
        JsonObject,
        ListedInstance,
        NamedInstance,
        Selected,
        Selection,
        TableRecord,
        TagRecord,
    )
    from tablevault.values.processes import (
        Begun,
        Blocked,
        ErrorInfo,
        Lock,
        NewProcess,
        Owner,
        Plan,
        ProcessRecord,
        Progress,
    )
    from tablevault.values.progress import ExecutionProgress


class Frame(Protocol):
    """A frame that references can look into."""

    @property
    def column_names(self) -> Sequence[str]:
        """Names in the frame's order; `index` is never one of them."""
        ...

    def __len__(self) -> int: ...

    def values(self, column: str) -> Sequence[object]:
        """Return a column as plain Python values (`None` for null), indexable in O(1).

        Cheap to call again. Raises `KeyError` for an unknown column.
        """
        ...

    def arrow_type(self, column: str) -> pa.DataType:
        """Return the column's Arrow type, into which the values of conditions are coerced."""
        ...

    def data_frame(self, columns: Sequence[str] | None, positions: Sequence[int] | None) -> pd.DataFrame:
        """Return the named columns (`None`: all) at the given positions (`None`: all), in pandas' nullable types.

        The caller owns the result and may change it.
        """
        ...


class FrameSource(Protocol):
    """Where references find frames: the pinned inputs of one execution, and the instance being built."""

    def frame(self, table: str, instance: str | None) -> Frame:
        """Return the frame that `table(instance)` names; `self` is the instance being built.

        Raises `LookupError` whose text says completely what does not exist and names the nearest that does.
        """
        ...


class CallGroup(NamedTuple):
    """Calls with arguments prepared together."""

    numbers: range
    """Numbers of the calls."""
    names: tuple[str, ...]
    """Parameter names, equal for all calls."""
    values: tuple[Sequence[object], ...]
    """Values of each parameter, one per call. Calls share immutable values only."""

    def arguments(self) -> Iterator[dict[str, object]]:
        """Yield the arguments of each call."""
        if not self.names:
            return ({} for _ in self.numbers)
        return map(dict, map(zip, repeat(self.names), zip(*self.values, strict=True)))


class Ended(NamedTuple):
    """A call that has ended."""

    number: int
    value: object
    error: BaseException | None
    """The exception (any `BaseException`) that it raised."""
    seconds: float
    """Time that it took."""
    is_invalid: bool = False
    """Whether it returned a value that its worker could not send; `error` says why."""
    has_died: bool = False
    """Whether its worker died of it; `error` says how."""
    usage: Mapping[str, float] | None = None
    """The amounts that it reported."""


class OpenedFunction(Protocol):
    """A function ready to be called by one worker."""

    @property
    def call(self) -> Callable[..., object]:
        """The function, or an object of the class that the builder names."""
        ...

    def close(self) -> object:
        """Close the object, if its class has a `close`; an awaitable is returned to be awaited."""
        ...


OpenFunction = Callable[[], OpenedFunction]
"""Returns the function for one worker; an exception of a constructor escapes as a `FunctionError`."""


class RowExecutor(Protocol):
    """Runs calls side by side. One adapter per way: inline, threads, async, processes, Ray, jobs of a provider.

    All methods are called by one thread, the owner. An interrupt may arrive in any of them, and loses no call: a call
    counts as ended once it is in `ended`.
    """

    @property
    def workers(self) -> int:
        """Calls that may be in flight; an adapter may change it, to have some at hand when a worker is free.

        No adapter begins such a call after another one has failed, until the owner waits after handling the failure.
        """
        ...

    @property
    def begun(self) -> Mapping[int, float]:
        """When the calls began that workers run now, on the monotonic clock; others in flight wait for a worker."""
        ...

    @property
    def waiting(self) -> str:
        """What workers wait for before they can run any call, as progress shows it; empty if for nothing."""
        ...

    @property
    def ended(self) -> deque[Ended]:
        """Calls that have ended, in the order of completion; the owner removes each once it has handled it."""
        ...

    def start(self, number: int, arguments: Mapping[str, object]) -> None:
        """Start a call under a number that is used once. The owner starts no more calls than `workers`."""
        ...

    def start_together(self, group: CallGroup) -> None:
        """Start several calls in order; equivalent to `start` for each."""
        ...

    def wait(self, seconds: float) -> None:
        """Return when a call has ended, at the latest after `seconds`."""
        ...

    def cancel_waiting(self) -> frozenset[int]:
        """Take back calls that were started and that no worker has begun; return their numbers."""
        ...

    def knows(self, number: int) -> bool:
        """Return whether a call was started and neither taken back nor removed from `ended`."""
        ...

    def reported(self, number: int) -> Mapping[str, float]:
        """Return the amounts that a call in flight has reported so far, as far as its worker can tell."""
        ...

    def abandon(self, number: int) -> int:
        """Give a call up that takes too long; its worker is replaced, and nothing of it appears in `ended`.

        Return how many calls that were given up are still running and cannot be ended.
        """
        ...

    def close(self) -> None:
        """Release the workers; calls in flight are dropped."""
        ...


class ArtifactStore(Protocol):
    """Records artifact files durably, on behalf of checkpoints."""

    def record(self, names: Iterable[str]) -> Mapping[str, ArtifactRecord | OSError | ValueError]:
        """Make the named files (and their folders) durable, all together.

        Return the record of each, or the error that it has none for; names whose file does not exist yet are missing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Refused:
    """The limit for which a call has to wait."""

    service: str
    limit: str
    """As it was written, such as `calls_per_minute`; empty while the service itself asked to wait."""
    seconds: float
    """When to ask again."""

    @property
    def text(self) -> str:
        """The reason for waiting, as progress shows it."""
        seconds = f", {self.seconds:,.0f} s" if self.seconds >= 1 else ""
        return f"service {self.service}: {self.limit or 'asked to wait'}{seconds}"


@dataclass(slots=True, eq=False)
class Permit:
    """Leave for one call, until it is settled."""

    services: tuple[str, ...]
    uses: list[tuple[str, str, str, int, float]]
    """Service, limit, amount, the part of time that it counts in, and the number that was taken."""
    taken_at: float
    """On the monotonic clock; later while the call has not begun."""


class ServiceLimits(Protocol):
    """Limits of services, counted together with all processes of the vault."""

    def take(self, services: Sequence[str], amounts: Mapping[str, float]) -> Permit | Refused:
        """Reserve the expected usage of one call: of all services, or of none.

        Raises
        ------
        OSError
            If the counters cannot be written.
        """
        ...

    def settle(self, permit: Permit, used: Mapping[str, float]) -> None:
        """Count the usage of a call, and free its slots; takes effect with `flush` at the latest."""
        ...

    def postpone(self, permits: Sequence[Permit]) -> None:
        """Count calls from now on that were taken and have not begun; at the latest with `flush`."""
        ...

    def hold_back(self, services: Sequence[str], seconds: float) -> None:
        """Let no process call the services for `seconds`; takes effect with `flush` at the latest."""
        ...

    def flush(self) -> None:
        """Write pending changes."""
        ...


class Interruptible(Protocol):
    """The owner of an execution: may be asked to stop, and hides secrets in errors."""

    stop_requested: bool

    @property
    def user_given(self) -> bool:
        """Whether the user chose the id of the process: an error from outside pauses it instead of reverting it."""
        ...

    @property
    def lock_descriptors(self) -> Sequence[int]:
        """Open files whose locks show the owner as alive; worker processes hold them, too."""
        ...

    @property
    def ray(self) -> RayOptions:
        """The cluster on which `executor: ray` runs rows."""
        ...

    @property
    def secrets(self) -> Secrets:
        """Values that functions were given; they are added before an error that may quote them is raised."""
        ...

    def raise_if_stopped(self) -> None:
        """Raise `TVForcedError` if a stop was requested."""
        ...


Request = TypeVar("Request", contravariant=True)
"""An operation with its arguments."""


class Children(Protocol[Request]):
    """Runs operations inside a process, each as a process of its own: a child.

    A child takes its own locks, which those of its ancestors do not block. It runs in the interpreter and thread of
    the parent, whose interrupts and stop requests reach it, and whose progress shows its rows. If the user chose the
    parent's id, an error from outside pauses the child, else it reverts it.
    """

    def run(self, operation: Request, process_id: str, shown_as: str) -> ProcessRecord:
        """Run a child to its end and return it: a paused one goes on, one that has succeeded is returned at once.

        `shown_as` stands before the names of its builders in the parent's progress. What the child warns of at its
        end is left to the parent.

        Raises `FunctionError` for an error that comes from outside for the parent as well, whatever its class: also
        for one of TableVault that left the child paused. Any other exception is raised as it is.
        """
        ...

    def raise_if_stopped(self) -> None:
        """Raise `TVForcedError` if the parent was asked to stop; to be called now and then between children."""
        ...


class Observer(Protocol):
    """Follows the work of a vault's processes, to show it to the user."""

    def working(self, progress: ExecutionProgress) -> AbstractContextManager[None]:
        """Return a context that the engine enters before the work of an attempt and leaves after it.

        `progress` counts meanwhile; it may be read at any time, from any thread. An error of the observer would be one
        of the work: it must not raise.
        """
        ...


FlushListener = Callable[[], None]
"""Called on the checkpoint store's background thread after each interval, also when nothing was to be written."""


CAME_BACK_IN_CHILD = (
    "A child that was forked inside a function came back from it, and is not the one that executes; let it end with "
    "os._exit()."
)
"""Said to a forked child that goes on with the work of its parent."""


class FunctionError(Exception):
    """What escaped from a user's function, on its way to the engine; callers see the original.

    Parameters
    ----------
    original
        The exception itself, with its traceback.
    reverts
        Whether the builder asks to revert the process, even one with an id of the user's.
    """

    def __init__(self, original: BaseException, reverts: bool = False) -> None:
        super().__init__(original)
        self.original = original
        self.reverts = reverts


# --- the catalog --------------------------------------------------------------------------------------------------
#
# Every method is one transaction. A writing method returns only after its transaction is durable, and changes nothing
# if it raises, except for `UnknownOutcomeError`. Writing transactions run one at a time. Each method raises `OSError`
# if the database cannot be used, and `TVFileError` if it is damaged, is gone, or holds a row that no version writes.


class UnknownOutcomeError(OSError):
    """The catalog failed in the commit itself: whether the transaction holds can only be read from it later."""


class Contents(Protocol):
    """Tables and instances that are visible. Reading never waits for a writer."""

    def generation(self) -> int:
        """Return a number that grows whenever something becomes visible or a process releases its locks."""
        ...

    def table(self, name: str) -> TableRecord | None:
        """Return the table of this name, in any case of its letters."""
        ...

    def table_by_id(self, table_id: int) -> TableRecord | None:
        """Return a table by its immutable id, also a deleted one."""
        ...

    def tables(self) -> list[TableRecord]:
        """Return all tables in the order of their creation."""
        ...

    def instance(self, table_id: int, instance_id: str) -> InstanceRecord | None:
        """Return the instance of a table with exactly this id, temporary or materialized."""
        ...

    def instance_by_row(self, row_id: int) -> InstanceRecord | None:
        """Return an instance by its row id, also a deleted one."""
        ...

    def instances(
        self, table_id: int, version: str | None = None, temporary: bool | None = None
    ) -> list[InstanceRecord]:
        """Return the instances of a table in the order of their commits; `None` stands for any."""
        ...

    def instance_ids(
        self, table_id: int, version: str | None, with_temporary: bool, until: int | None = None
    ) -> list[str]:
        """Return the ids of the instances of a table in the order of their commits; reads no more of them.

        Parameters
        ----------
        table_id
            The table.
        version
            Only of this version; `None` for all.
        with_temporary
            Whether temporary instances are among them.
        until
            Only up to this row id; `None` for all.
        """
        ...

    def version_like(self, table_id: int, version: str) -> str | None:
        """Return a version of a table that differs from this one only in the case of its letters."""
        ...

    def newest(
        self, table_id: int, version: str | None = None, active_only: bool = True, successful_only: bool = False
    ) -> InstanceRecord | None:
        """Return the materialized instance that was committed last; `None` stands for any version."""
        ...

    def place_at(self, moment: datetime) -> int:
        """Return the row id of the last materialized instance up to the last commit that is not later than a moment.

        Commits are in their order, whatever clocks said meanwhile; 0 if there is none.
        """
        ...

    def place_of(self, serial: int) -> int | None:
        """Return the row id of the last materialized instance that a process has made."""
        ...

    def place_after(self, serial: int) -> int:
        """Return the row id of the last materialized instance whose process had ended when a process ended."""
        ...

    def newest_until(
        self, table_id: int, version: str, place: int, successful_only: bool = False
    ) -> InstanceRecord | None:
        """Return the materialized instance of a version that was committed last up to a row id, also a deleted one."""
        ...

    def current(self) -> list[InstanceRecord]:
        """Return all temporary instances, and the newest active materialized one of each table and version.

        In the order of their row ids, as of one moment.
        """
        ...

    def select(self, selection: Selection) -> Selected | None:
        """Return the instance that a selection means, with its table, both as of one moment."""
        ...

    def newest_successful(self, version: str) -> list[NamedInstance]:
        """Return the newest active successful instance of a version of each table, in the order of the tables."""
        ...

    def listed_tables(self, after: str, most: int) -> list[TableRecord]:
        """Return the first tables after a name, in the order of their names regardless of case."""
        ...

    def newest_listed(self, table_ids: Sequence[int]) -> dict[int, ListedInstance]:
        """Return the newest materialized instance of each table that has one, by the table's number."""
        ...

    def listed_instances(self, table_id: int, temporary: bool, before: int | None, most: int) -> list[ListedInstance]:
        """Return instances of a table, newest first; the time that it takes does not grow with their number.

        Parameters
        ----------
        table_id
            The table.
        temporary
            Whether the temporary ones, or the materialized ones.
        before
            Only up to this row id, without it; `None` for all.
        most
            Maximum number of instances.
        """
        ...

    def failure_counts(self, row_ids: Sequence[int] | None = None) -> dict[int, tuple[int, int]]:
        """Return the failed and skipped rows of the instances that have any, by row id; of some or of all."""
        ...

    def tags(
        self,
        *,
        tag: str | None = None,
        table_id: int | None = None,
        row_id: int | None = None,
        row_ids: Sequence[int] | None = None,
    ) -> list[TagRecord]:
        """Return tags ordered by tag, then table.

        Parameters
        ----------
        tag, table_id, row_id, row_ids
            Only this one, in any case of its letters; only those of a table, of an instance, of some instances.
        """
        ...

    def tagged_instances(self, tag: str, table_ids: Sequence[int] | None = None) -> list[NamedInstance]:
        """Return the instances that a tag names, in any case of its letters, in the order of the tables.

        Parameters
        ----------
        tag
            The tag.
        table_ids
            Only those of these tables; `None` for all.
        """
        ...

    def tagged(self, table_id: int, tag: str) -> InstanceRecord | None:
        """Return the instance of a table that a tag names, in any case of its letters."""
        ...

    def reads_of(self, row_id: int) -> list[Read]:
        """Return the columns that the columns of an instance were computed from, in the order of their recording."""
        ...

    def confirmed_inputs(self, row_id: int) -> list[int]:
        """Return the row ids of the instances that an instance was found unchanged against, in that order."""
        ...

    def share_artifacts(self, table_ids: Sequence[int]) -> bool:
        """Return whether any of the tables has one set of artifacts for all of its instances."""
        ...

    def services(self) -> Mapping[str, Mapping[str, float]]:
        """Return the limits of each service, by its name."""
        ...

    def readers_of(self, row_id: int) -> list[tuple[int, Read]]:
        """Return the row ids of the instances that were computed from an instance, each with the read column."""
        ...

    def instance_folders(self, table_id: int) -> set[str]:
        """Return the names of the folders of a table's instances, temporary and materialized; reads no more of them."""
        ...

    def instance_named(self, instance_id: str) -> InstanceRecord | None:
        """Return the instance of this id in any table, rather one that is there than a deleted one."""
        ...

    def input_pairs(self) -> list[tuple[int, int]]:
        """Return the row ids of instances and of those that they were computed from, also of deleted ones."""
        ...

    def origins(self) -> list[tuple[int, int]]:
        """Return the row ids of materialized instances that have an origin, also of deleted ones, each with it."""
        ...

    def side_effects_by(self, table_name: str) -> tuple[int, ...]:
        """Return the serial numbers of the processes that hold a whole table exclusively."""
        ...


class Processes(Protocol):
    """Processes as readers see them. Reading never waits for a writer."""

    def get(self, serial: int) -> ProcessRecord | None:
        """Return a process by its serial number."""
        ...

    def get_now(self, serial: int) -> ProcessRecord | None:
        """Return a process as it is at this moment, also inside a snapshot."""
        ...

    def may_go_on(self, serial: int, attempt: int) -> bool:
        """Return whether an attempt of a process is the newest one, and was not asked to stop."""
        ...

    def find(self, process_id: str) -> ProcessRecord | None:
        """Return the process with this id: the one that was not reverted if there is one, else the newest."""
        ...

    def waiting(self, serials: Sequence[int]) -> Mapping[int, str]:
        """Return what processes wait for, by their serial numbers; those that wait for nothing are missing."""
        ...

    def unfinished(self) -> list[ProcessRecord]:
        """Return the processes that have not ended or are not tidied up, oldest first."""
        ...

    def children(self, serial: int) -> list[ProcessRecord]:
        """Return the unfinished processes that were begun inside a process, oldest first."""
        ...

    def begun_inside(self, serial: int) -> list[ProcessRecord]:
        """Return the processes that were begun inside a process, ended or not, oldest first."""
        ...

    def locks_of(self, serial: int) -> tuple[Lock, ...]:
        """Return the locks that a process holds, in the order of their taking."""
        ...

    def locks_of_each(self, serials: Sequence[int]) -> dict[int, tuple[Lock, ...]]:
        """Return the locks that processes hold, by serial number, in the order of their taking."""
        ...

    def ids_of(self, serials: Sequence[int]) -> dict[int, str]:
        """Return the ids of processes, by serial number."""
        ...

    def history(self, filters: Mapping[str, str], limit: int, before: int | None = None) -> list[ProcessRecord]:
        """Return processes whose fields equal `filters`, newest first, at most `limit` of them.

        With `before`, only those with a smaller serial number.
        """
        ...

    def ended_after(self, end_order: int) -> list[tuple[int, ProcessRecord]]:
        """Return the processes that ended since, in the order of their ends, each with its place in that order."""
        ...

    def is_ancestor(self, serial: int, of: int | None) -> bool:
        """Return whether a process is `of` itself or one of its ancestors."""
        ...

    def begun(self) -> int:
        """Return the serial number of the process that began last; 0 if none ever did."""
        ...

    def created(self, path: str) -> bool:
        """Return whether a process that is over, without success, had planned to create this path of the vault."""
        ...

    def check_id_is_free(self, process_id: str) -> None:
        """Raise `TVProcessError` if a process with this id exists and was not reverted."""
        ...

    def conflicts(self, wanted: Sequence[Lock], parent_serial: int | None) -> tuple[int, ...]:
        """Return the serial numbers of the processes that hold locks which a child of `parent_serial` needs."""
        ...


class Transitions(Protocol):
    """The life of a process: begin, claim, pause, decide, finish.

    An attempt owns its process until another attempt claims it: methods that take an attempt's number raise
    `TVProcessError` and change nothing once that has happened, or once the process is decided.
    """

    def begin(self, new: NewProcess, plan: Plan, owner: Owner) -> Begun | Blocked:
        """Record a process with its plan and take all its locks; if a lock conflicts, do nothing.

        Raises
        ------
        TVProcessError
            If a process with an id that the user gave exists and was not reverted.
        """
        ...

    def save_plan(self, serial: int, plan: Plan) -> None:
        """Replace the plan of a process that has not begun to work; it has the same locks."""
        ...

    def withdraw(self, serial: int) -> None:
        """Forget a process that has not begun to work, and release its locks."""
        ...

    def record_refused(self, new: NewProcess, table_name: str, error: ErrorInfo) -> None:
        """Record a process that failed while it was planned: it has ended, and never held a lock."""
        ...

    def claim(self, record: ProcessRecord, owner: Owner) -> ProcessRecord | None:
        """Take a process over, if it is unfinished and still in the attempt of `record`.

        Returns the process as it is now, in its next attempt, or `None` if there was nothing to take over. The former
        owner may have decided in between: only the returned record is beyond doubt.
        """
        ...

    def replace_arguments(self, serial: int, attempt: int, arguments: JsonObject) -> None:
        """Replace the recorded arguments of a claimed process, some of which a later call may give again."""
        ...

    def set_running(self, serial: int, attempt: int) -> None:
        """Show a claimed process as running again."""
        ...

    def pause(
        self,
        serial: int,
        attempt: int,
        error: ErrorInfo | None,
        progress: Progress | None,
        waiting: str | None = None,
    ) -> None:
        """Pause a process: it keeps its locks. `None` keeps the former error, progress or wait reason."""
        ...

    def save_progress(self, serial: int, attempt: int, progress: Progress, waiting: str = "") -> None:
        """Record the progress of an execution, and the reason why its calls wait."""
        ...

    def request_stop(self, serial: int) -> None:
        """Ask the owner of a process to stop; the next claim forgets the request."""
        ...

    def decide(self, decisions: Sequence[Decision]) -> Mapping[int, Remaining]:
        """Commit the whole visible effect of one or more processes: all of them or none.

        A process that leaves nothing to be tidied up is finished at once: its locks are released. The others keep
        theirs until `finish`; their remaining work is returned, by their serial numbers. The generation grows.

        Raises
        ------
        TVProcessError
            If one of the processes is not in the attempt that decides.
        UnknownOutcomeError
            If the commit itself fails.
        """
        ...

    def finish(self, serial: int, problems: Iterable[tuple[int, str]] = ()) -> None:
        """Record that a decided process is tidied up, and release its locks; no-op if it is finished.

        `problems` are the steps that failed for good, by their ids, each with its reason; they stay recorded.
        """
        ...


class TidyingSteps(Protocol):
    """Steps on disk that decided processes have left."""

    def of(self, serial: int) -> list[tuple[int, Tidying]]:
        """Return the steps of a process in their order, each with its id."""
        ...

    def settle(self, serial: int, problems: Iterable[tuple[int, str]]) -> None:
        """Record which steps of a finished process still fail, each with its reason; the others are done.

        Steps of other processes stay as they are, whatever ids they have been given meanwhile.
        """
        ...

    def while_undone(self, serial: int, tidying_id: int, do: Callable[[], None]) -> None:
        """Do a step that had failed, if it is still recorded: nothing is begun or decided while this runs.

        Others may have done it since it was read, and its id may by now be that of another process's step.
        """
        ...

    def processes_with_failed(self) -> list[int]:
        """Return the serial numbers of the processes with steps that failed."""
        ...

    def failed(self) -> list[tuple[Tidying, str]]:
        """Return the steps that failed, in their order, each with its reason."""
        ...

    def drop_superseded(
        self, serial: int, folder_of: Callable[[TableRecord, InstanceRecord], str]
    ) -> list[tuple[int, Tidying]]:
        """Let a decided process remove all superseded sets of artifacts, each from its folder; return all its steps.

        Those of instances that are tagged, or held by other processes, stay.
        """
        ...

    def pending_moves(self) -> Mapping[str, str]:
        """Return the files that are about to be put in place or removed: target -> staged source (or "")."""
        ...


class Catalog(Protocol):
    """One vault's catalog: the truth about its tables, instances, processes and locks."""

    is_newest: bool
    """Whether catalog and marker are known to have the newest format."""

    @property
    def contents(self) -> Contents:
        """Tables and instances."""
        ...

    @property
    def processes(self) -> Processes:
        """Processes, to be read."""
        ...

    @property
    def transitions(self) -> Transitions:
        """Processes, to be changed."""
        ...

    @property
    def tidying(self) -> TidyingSteps:
        """Steps on disk."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Let all reads of this thread inside the block see one state; its own writes meanwhile are not in it."""
        ...

    def create(self, vault_id: str, created_at: str) -> str:
        """Create an empty catalog; no-op where one exists. Return the id of the vault that it belongs to."""
        ...

    def identity(self) -> tuple[int, str | None]:
        """Return the format of the catalog and the id of its vault, which format 1 does not hold."""
        ...

    def migrate(self, vault_id: str, created_at: str, check: Callable[[Sequence[ProcessRecord]], None]) -> None:
        """Bring an older catalog to the newest format; no-op for one that has it.

        `check` is given the unfinished processes inside the transaction, and raises if one of them is in the way.
        """
        ...

    def record_imported(self, imported: Imported) -> None:
        """Put the content of another catalog into this one, which is empty."""
        ...

    def faults(self) -> list[str]:
        """Return the problems that the database itself finds."""
        ...

    def backup(self, target: Path) -> None:
        """Write a copy of the catalog, as it is at this moment, to a file."""
        ...

    def close(self) -> None:
        """Close all idle connections."""
        ...
