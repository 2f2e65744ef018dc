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
        CatalogIdentity,
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
        EndedProcess,
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
    """A frame readable by references."""

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

    def values_by_row(self, column: str) -> Sequence[object]:
        """Return a column as `values`, for reading it row by row, which may take less memory."""
        ...

    def arrow_type(self, column: str) -> pa.DataType:
        """Return the column's Arrow type, into which the values of conditions are coerced."""
        ...

    def kinds(self, column: str) -> frozenset[type] | None:
        """Return the classes of the column's values, if its type determines them.

        The class of `None` is not included.
        """
        ...

    def data_frame(self, columns: Sequence[str] | None, positions: Sequence[int] | None) -> pd.DataFrame:
        """Return columns at the given positions, in pandas' nullable types.

        `None` means all columns, or all positions.

        The caller owns the result and may change it.
        """
        ...


class FrameSource(Protocol):
    """The frames available to references.

    They are the pinned inputs of one execution and the instance being built.
    """

    def frame(self, table: str, instance: str | None) -> Frame:
        """Return the frame that `table(instance)` names; `self` is the instance being built.

        Raises `LookupError` whose text fully describes the missing object and names the nearest existing one.
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
    """The exception (any `BaseException`) raised by the call."""
    seconds: float
    """Duration of the call."""
    is_invalid: bool = False
    """Whether its worker could not send the returned value; `error` has the reason."""
    has_died: bool = False
    """Whether it killed its worker; `error` describes how."""
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
    """Runs calls concurrently, with one adapter each for inline, threads, async, processes, Ray and provider jobs.

    All methods are called by one thread, the owner. An interrupt may arrive in any of them, and loses no call: a call
    counts as ended once it is in `ended`.
    """

    @property
    def workers(self) -> int:
        """Maximum number of calls in flight.

        An adapter may change it, to have calls ready for idle workers.

        No adapter begins such a call after another one has failed, until the owner waits after handling the failure.
        """
        ...

    @property
    def begun(self) -> Mapping[int, float]:
        """Start times of running calls on the monotonic clock.

        Other calls in flight wait for a worker.
        """
        ...

    @property
    def waiting(self) -> str:
        """Reason why workers cannot run calls yet, for progress; empty if they can."""
        ...

    @property
    def ended(self) -> deque[Ended]:
        """Calls that have ended, in the order of completion.

        The owner removes each once it has handled it.
        """
        ...

    def start(self, number: int, arguments: Mapping[str, object]) -> None:
        """Start a call under a number that is used once.

        The owner starts no more calls than `workers`.
        """
        ...

    def start_together(self, group: CallGroup) -> None:
        """Start several calls in order; equivalent to `start` for each."""
        ...

    def wait(self, seconds: float) -> None:
        """Return when a call has ended, at the latest after `seconds`."""
        ...

    def cancel_waiting(self) -> frozenset[int]:
        """Cancel started calls that no worker has begun; return their numbers.

        Those that a worker in another interpreter has received follow later: the adapter no longer `knows` them.
        """
        ...

    def knows(self, number: int) -> bool:
        """Return whether a call was started and neither cancelled nor removed from `ended`."""
        ...

    def reported(self, number: int) -> Mapping[str, float]:
        """Return the amounts reported so far by a call in flight, if its worker can tell."""
        ...

    def abandon(self, number: int) -> int:
        """Abandon a call that takes too long.

        Its worker is replaced, and it never appears in `ended`.

        Return the number of abandoned calls that are still running and cannot be ended.
        """
        ...

    def close(self) -> None:
        """Release the workers; calls in flight are dropped."""
        ...


class ArtifactStore(Protocol):
    """Records artifact files durably, on behalf of checkpoints."""

    def record(self, names: Iterable[str]) -> Mapping[str, ArtifactRecord | OSError | ValueError]:
        """Make the named files (and their folders) durable, all together.

        Return the record or error of each; names of files that do not exist yet are missing.
        """
        ...


class FileStore(Protocol):
    """The files of a vault by key: a path relative to the vault, as the catalog records it.

    Libraries open frames, artifacts and code as local files, whose paths `local` returns. All methods raise `OSError`
    if the store cannot be used, and `TVFileError` for a key that is not a path in the vault.
    """

    def local(self, key: str) -> Path:
        """Return the path of a file or folder on this machine, existing or not.

        What is written there belongs to the store once it is sealed, or moved by a step.
        """
        ...

    def exists(self, key: str) -> bool:
        """Return whether there is a file or folder."""
        ...

    def names(self, key: str) -> list[str]:
        """Return the names in a folder, sorted; empty for a missing one."""
        ...

    def read(self, key: str) -> bytes:
        """Return the content of a file.

        Raises `FileNotFoundError` for a missing file, and `TVFileError` for anything else in its place.
        """
        ...

    def write(self, key: str, content: bytes) -> None:
        """Write a file durably, whole or not at all, and the folders around it; replaces an existing file."""
        ...

    def seal(self, key: str, durable: str = "") -> None:
        """Make a folder with everything in it durable, and protect it from changes.

        `durable` is the name of a folder in it whose files are durable already.
        """
        ...

    def apply(self, step: Tidying) -> None:
        """Perform a step of a decision; idempotent.

        Steps without anything to do are no-ops: a missing source, or a target in a folder that was removed. Raises
        `OSError` for a step that fails now but may be repeated.
        """
        ...

    def put_again(self, step: Tidying, archived: str) -> bool:
        """Repeat a `PUT_FILE` that failed; return whether its target was edited by hand in the meantime.

        Then the target stays, and the staged file is moved to `archived`.
        """
        ...

    def was_edited(self, staged: str, target: str) -> bool:
        """Return whether a file was edited by hand after a staged one could not replace it."""
        ...


class StoredPart(NamedTuple):
    """A part of checkpoints: packed rows of one builder."""

    builder: str
    content: bytes
    place: str
    """Where it is stored, for messages."""


class CheckpointLog(Protocol):
    """The checkpoints of one process, in the order of appending.

    One attempt at a time appends, from one thread; other threads and interpreters may read meanwhile. A name for
    messages is its text.
    """

    def create(self) -> None:
        """Create an empty log; a no-op if it exists."""
        ...

    def prepare(self) -> None:
        """Do what the first `append` needs, so that no row has to wait for it; raises `OSError` as it does."""
        ...

    def append(self, parts: Sequence[tuple[str, bytes]]) -> None:
        """Append packed parts, each with its builder, all or none.

        They are durable on return. Raises `OSError` if they cannot be written; a reader may see them nevertheless, and
        the next call writes elsewhere.
        """
        ...

    def save_frame(self, builder: str, write: Callable[[Path], object]) -> str:
        """Save a whole frame durably, as a file that `write` writes; return its name."""
        ...

    def frame(self, name: str) -> Path:
        """Return a local file with a saved frame."""
        ...

    def close(self) -> None:
        """Mark the end durably, so that nothing can be missing there unnoticed."""
        ...

    def abandon(self) -> None:
        """Release all resources without marking the end.

        Used after errors, by forked children, and where the checkpoints are about to be removed.
        """
        ...

    def read(self, builder: str | None = None) -> Iterator[StoredPart]:
        """Yield the parts of one builder, or of all, in the order of appending.

        What an interrupted `append` left is not included. Raises `TVFileError` if anything is damaged or missing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Refused:
    """The limit for which a call has to wait."""

    service: str
    limit: str
    """The limit as written, such as `calls_per_minute`; empty while the service itself asked to wait."""
    seconds: float
    """Seconds until the next attempt."""

    @property
    def text(self) -> str:
        """The reason for waiting, as progress shows it."""
        seconds = f", {self.seconds:,.0f} s" if self.seconds >= 1 else ""
        return f"service {self.service}: {self.limit or 'asked to wait'}{seconds}"


@dataclass(slots=True, eq=False)
class Permit:
    """Reservation for one call, until it is settled."""

    services: tuple[str, ...]
    uses: list[tuple[str, str, str, int, float]]
    """Service, limit, amount, number of the part of the window, and quantity taken."""
    taken_at: float
    """Time of the reservation on the monotonic clock, which `postpone` may move."""


class ServiceLimits(Protocol):
    """Limits of services, counted together with all processes of the vault."""

    def take(self, services: Sequence[str], amounts: Mapping[str, float]) -> Permit | Refused:
        """Reserve the expected usage of one call, of all services or of none.

        Raises
        ------
        OSError
            If the counters cannot be written.
        """
        ...

    def settle(self, permit: Permit, used: Mapping[str, float]) -> None:
        """Count the usage of a call, and free its slots.

        Takes effect with `flush` at the latest.
        """
        ...

    def postpone(self, permits: Sequence[Permit]) -> None:
        """Move reservations of calls that have not begun to the current time.

        Takes effect with `flush` at the latest.
        """
        ...

    def hold_back(self, services: Sequence[str], seconds: float) -> None:
        """Stop all calls to the services for `seconds`; takes effect with `flush` at the latest."""
        ...

    def flush(self) -> None:
        """Write pending changes."""
        ...


class Interruptible(Protocol):
    """The owner of an execution, which may be asked to stop and hides secrets in errors."""

    stop_requested: bool

    @property
    def user_given(self) -> bool:
        """Whether the user chose the process id.

        If so, an external error pauses the process instead of reverting it.
        """
        ...

    @property
    def lock_descriptors(self) -> Sequence[int]:
        """Open files whose locks prove that the owner is alive; worker processes hold them, too."""
        ...

    @property
    def ray(self) -> RayOptions:
        """Cluster for rows with `executor: ray`."""
        ...

    @property
    def secrets(self) -> Secrets:
        """Secret values passed to functions, added before raising an error that may quote them."""
        ...

    def raise_if_stopped(self) -> None:
        """Raise `TVForcedError` if a stop was requested."""
        ...


Request = TypeVar("Request", contravariant=True)
"""An operation with its arguments."""


class Lease(Protocol):
    """Proof that an attempt is alive, until it is released or its interpreter ends; forked children do not hold it."""

    @property
    def name(self) -> str:
        """Name of the owner, used once; it begins with its kind."""
        ...

    @property
    def is_inherited(self) -> bool:
        """Whether this interpreter is a forked child, which does not own the lease."""
        ...

    @property
    def descriptor(self) -> int:
        """An open file; a subprocess that inherits it keeps the lease alive."""
        ...

    def release(self) -> None:
        """End the lease; every process then sees this owner as dead."""
        ...


class Owners(Protocol):
    """The owners of attempts, as far as they are known by their names.

    An owner that is alive is never seen as dead.
    """

    @property
    def host(self) -> str:
        """Name of this machine."""
        ...

    def claim(self, kind: str = "owner") -> Lease:
        """Return the lease of a new owner.

        Raises `TVFileError` if there can be none, because the vault was moved, or cannot tell live owners from dead
        ones.
        """
        ...

    def is_alive(self, name: str | None) -> bool:
        """Return whether the owner of this name holds its lease; `False` for any other text."""
        ...

    def process_number(self, name: str) -> int:
        """Return the number of the owner's process on its host; 0 for other texts."""
        ...

    def forget(self, name: str | None) -> None:
        """Forget an owner that is known to be dead; a no-op for other texts."""
        ...

    def names(self) -> list[str]:
        """Return the names of all owners that are not forgotten, sorted."""
        ...

    def forget_dead(self) -> None:
        """Forget all dead owners."""
        ...


class Children(Protocol[Request]):
    """Runs operations inside a process, each as a child process.

    A child takes its own locks, which those of its ancestors do not block. It runs in the interpreter and thread of the
    parent, whose interrupts and stop requests reach it, and whose progress shows its rows. An external error pauses the
    child if the user chose the parent's id; otherwise it reverts the child.
    """

    def run(self, operation: Request, process_id: str, shown_as: str) -> ProcessRecord:
        """Run a child to its end and return it.

        Resumes a paused child, and returns a succeeded one immediately.

        `shown_as` prefixes the names of its builders in the parent's progress. Warnings at the child's end are left to
        the parent.

        Raises `FunctionError` for an error that is external for the parent as well, including one of TableVault that
        left the child paused. Any other exception is raised unchanged.
        """
        ...

    def raise_if_stopped(self) -> None:
        """Raise `TVForcedError` if the parent was asked to stop; to be polled between children."""
        ...


class Observer(Protocol):
    """Follows the work of a vault's processes, to show it to the user."""

    def working(self, progress: ExecutionProgress) -> AbstractContextManager[None]:
        """Return the context in which an attempt works.

        The engine enters it only for attempts that count rows.

        `progress` is updated meanwhile; it may be read at any time, from any thread. The observer must not raise, since
        its error would become an error of the work.
        """
        ...


FlushListener = Callable[[], None]
"""Called on the checkpoint store's background thread after each interval, even if nothing was written."""


CAME_BACK_IN_CHILD = (
    "A child process that was forked inside a function returned from it, but only the parent can continue the "
    "execution. End the child with os._exit()."
)
"""Error message for a forked child that continues the work of its parent."""


class FunctionError(Exception):
    """Wrapper of an error of a user's function on its way to the engine: an exception, or a refused result.

    Callers see the original.

    Parameters
    ----------
    original
        The exception itself, with its traceback.
    reverts
        Whether the builder asks to revert the process, even one with a user-given id.
    """

    def __init__(self, original: BaseException, reverts: bool = False) -> None:
        super().__init__(original)
        self.original = original
        self.reverts = reverts


# --- the catalog --------------------------------------------------------------------------------------------------
#
# Every method is one transaction. A writing method returns only after its transaction is durable, and changes nothing
# if it raises, except for `UnknownOutcomeError`. Writing transactions run one at a time. Each method raises `OSError`
# if the database cannot be used, and `TVFileError` if it is damaged, is gone, or holds a row that no version writes. A
# write that contradicts the content, by a name that is in use or a table that does not exist, raises
# `TVImplementationError`: locks and ids prevent that.


class UnknownOutcomeError(OSError):
    """The catalog failed in the commit itself.

    Only a later read can tell whether the transaction is durable.
    """


class Contents(Protocol):
    """Visible tables and instances. Reads never wait for a writer."""

    def generation(self) -> int:
        """Return a number that grows whenever a process is decided or finished.

        Every visible change, and every release of locks except by a withdrawal, comes with a larger number.
        """
        ...

    def table(self, name: str) -> TableRecord | None:
        """Return the table of this name, regardless of case."""
        ...

    def table_by_id(self, table_id: int) -> TableRecord | None:
        """Return a table, even a deleted one, by its immutable id."""
        ...

    def tables(self) -> list[TableRecord]:
        """Return all tables in the order of their creation."""
        ...

    def instance(self, table_id: int, instance_id: str) -> InstanceRecord | None:
        """Return the instance of a table with exactly this id, temporary or materialized."""
        ...

    def instance_by_row(self, row_id: int) -> InstanceRecord | None:
        """Return an instance, even a deleted one, by its row id."""
        ...

    def instances(
        self, table_id: int, version: str | None = None, temporary: bool | None = None
    ) -> list[InstanceRecord]:
        """Return the instances of a table in the order of their commits; `None` means any version."""
        ...

    def instance_ids(
        self, table_id: int, version: str | None, with_temporary: bool, until: int | None = None
    ) -> list[str]:
        """Return the ids of a table's instances in commit order, without reading the instances.

        Parameters
        ----------
        table_id
            The table.
        version
            The version; `None` for all.
        with_temporary
            Whether to include temporary instances.
        until
            Last row id; `None` for all.
        """
        ...

    def version_like(self, table_id: int, version: str) -> str | None:
        """Return a version of a table that differs from this one only in case."""
        ...

    def newest(
        self, table_id: int, version: str | None = None, active_only: bool = True, successful_only: bool = False
    ) -> InstanceRecord | None:
        """Return the materialized instance that was committed last; `None` means any version."""
        ...

    def place_at(self, moment: datetime) -> int:
        """Return the row id of the last materialized instance at a moment.

        Returns 0 if no instance existed.

        That is the last one up to the latest commit not after the moment. Commits are ordered independently of clocks.
        """
        ...

    def place_of(self, serial: int) -> int | None:
        """Return the row id of the last materialized instance that a process has made."""
        ...

    def place_after(self, serial: int) -> int:
        """Return the row id of the last instance materialized by a process's end.

        Its process had ended when this process ended. If this one has not ended, that is the last of all instances.
        """
        ...

    def newest_until(
        self, table_id: int, version: str, place: int, successful_only: bool = False
    ) -> InstanceRecord | None:
        """Return the last materialized instance of a version up to a row id.

        The instance may be deleted.
        """
        ...

    def current(self) -> list[InstanceRecord]:
        """Return all temporary instances, and the newest active materialized one of each table and version.

        In the order of row ids, from one snapshot.
        """
        ...

    def select(self, selection: Selection) -> Selected | None:
        """Return the selected instance with its table, both from one snapshot."""
        ...

    def newest_successful(self, version: str) -> list[NamedInstance]:
        """Return the newest active successful instance of each table.

        All are of one version, in the order of the tables.
        """
        ...

    def listed_tables(self, after: str, most: int) -> list[TableRecord]:
        """Return the first tables after a name, in the order of their names regardless of case."""
        ...

    def newest_listed(self, table_ids: Sequence[int]) -> dict[int, ListedInstance]:
        """Return the newest materialized instance of each table that has one, by table id."""
        ...

    def listed_instances(self, table_id: int, temporary: bool, before: int | None, most: int) -> list[ListedInstance]:
        """Return instances of a table, newest first, in time independent of their number.

        Parameters
        ----------
        table_id
            The table.
        temporary
            Whether to return the temporary or the materialized ones.
        before
            Upper bound of row ids, exclusive; `None` for all.
        most
            Maximum number of instances.
        """
        ...

    def failure_counts(self, row_ids: Sequence[int] | None = None) -> dict[int, tuple[int, int]]:
        """Return the counts of failed and skipped rows of instances that have any, even deleted ones, by row id."""
        ...

    def tags(
        self,
        *,
        tag: str | None = None,
        table_id: int | None = None,
        row_id: int | None = None,
        row_ids: Sequence[int] | None = None,
    ) -> list[TagRecord]:
        """Return tags ordered by tag, then table, even those of deleted tables and instances.

        Parameters
        ----------
        tag, table_id, row_id, row_ids
            Filters: the tag, regardless of case; the table; the instance; some instances.
        """
        ...

    def tagged_instances(self, tag: str, table_ids: Sequence[int] | None = None) -> list[NamedInstance]:
        """Return the existing instances that a tag names, regardless of case, in the order of the tables.

        Parameters
        ----------
        tag
            The tag.
        table_ids
            The tables; `None` for all.
        """
        ...

    def tagged(self, table_id: int, tag: str) -> InstanceRecord | None:
        """Return the existing instance of a table that a tag names, regardless of case."""
        ...

    def reads_of(self, row_id: int) -> list[Read]:
        """Return the columns that an instance's columns were computed from, in recorded order."""
        ...

    def confirmed_inputs(self, row_id: int) -> list[int]:
        """Return the row ids of the instances that an instance was confirmed against, in order."""
        ...

    def share_artifacts(self, table_ids: Sequence[int]) -> bool:
        """Return whether any of the tables shares one set of artifacts among its instances."""
        ...

    def services(self) -> Mapping[str, Mapping[str, float]]:
        """Return the limits of each service, by its name."""
        ...

    def readers_of(self, row_id: int) -> list[tuple[int, Read]]:
        """Return the row ids of the instances computed from an instance.

        Each is listed with the column that it read.
        """
        ...

    def instance_folders(self, table_id: int) -> set[str]:
        """Return the folder names of a table's temporary and materialized instances, without reading the instances."""
        ...

    def instance_named(self, instance_id: str) -> InstanceRecord | None:
        """Return the materialized instance of this id in any table, preferring existing to deleted ones."""
        ...

    def input_pairs(self) -> list[tuple[int, int]]:
        """Return pairs of row ids of instances and their inputs, including deleted ones."""
        ...

    def origins(self) -> list[tuple[int, int]]:
        """Return pairs of row ids of materialized instances and their origins, including deleted ones."""
        ...

    def side_effects_by(self, table_name: str) -> tuple[int, ...]:
        """Return the serial numbers of the processes that hold a whole table exclusively."""
        ...


class Processes(Protocol):
    """Read access to processes. Reads never wait for a writer.

    The plan of a finished process is returned without its creations.
    """

    def get(self, serial: int) -> ProcessRecord | None:
        """Return a process by its serial number."""
        ...

    def get_now(self, serial: int) -> ProcessRecord | None:
        """Return the current state of a process, even inside a snapshot."""
        ...

    def may_go_on(self, serial: int, attempt: int) -> bool:
        """Return whether an attempt of a process is the newest and was not asked to stop."""
        ...

    def find(self, process_id: str) -> ProcessRecord | None:
        """Return the process that holds an id, or else the newest with it.

        A process holds its id until it is reverted and tidied up.
        """
        ...

    def waiting(self, serials: Sequence[int]) -> Mapping[int, str]:
        """Return the wait reasons of processes by serial number, without those that do not wait.

        A process that has succeeded keeps its last reason.
        """
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
        """Return the locks that a process holds, in order of acquisition."""
        ...

    def locks_of_each(self, serials: Sequence[int]) -> dict[int, tuple[Lock, ...]]:
        """Return the locks of each process, by serial number, in order of acquisition; `()` if it holds none."""
        ...

    def ids_of(self, serials: Sequence[int]) -> dict[int, str]:
        """Return the ids of processes, by serial number."""
        ...

    def history(self, filters: Mapping[str, str], limit: int, before: int | None = None) -> list[ProcessRecord]:
        """Return processes whose text fields equal `filters`, newest first, at most `limit` of them.

        With `before`, only those with a smaller serial number.
        """
        ...

    def ended_after(self, end_order: int) -> list[EndedProcess]:
        """Return the processes that ended later, in order of their end.

        Each is listed with its position in that order. A process that succeeds ends once it is tidied up, any other one
        with its decision.
        """
        ...

    def is_ancestor(self, serial: int, of: int | None) -> bool:
        """Return whether a process is `of` itself or one of its ancestors."""
        ...

    def begun(self) -> int:
        """Return the serial number of the process that began last, or 0."""
        ...

    def created(self, path: str) -> bool:
        """Return whether an ended, unsuccessful process had planned to create this path of the vault."""
        ...

    def check_id_is_free(self, process_id: str) -> None:
        """Raise `TVProcessError` if a process holds this id, until it is reverted and tidied up."""
        ...

    def conflicts(self, wanted: Sequence[Lock], parent_serial: int | None) -> tuple[int, ...]:
        """Return the serial numbers of the processes that hold locks which a child of `parent_serial` needs.

        A lock covers everything below its resource. Locks of ancestors block only exclusive ones.
        """
        ...


class Transitions(Protocol):
    """Transitions between the states of a process.

    An attempt owns its process until another attempt claims it: methods that take an attempt's number raise
    `TVProcessError` and change nothing once that has happened, or once the process is decided.
    """

    def begin(self, new: NewProcess, plan: Plan, owner: Owner) -> Begun | Blocked:
        """Record a process with its plan and take all its locks.

        Does nothing if a lock conflicts, as `Processes.conflicts` tells. Drops failed steps whose source is a path that
        the plan creates.

        Raises
        ------
        TVProcessError
            If the user gave the id, and a process holds it.
        """
        ...

    def save_plan(self, serial: int, plan: Plan) -> None:
        """Replace the plan of a process that has not begun to work.

        The locks must be the same. Drops failed steps as `begin` does.
        """
        ...

    def withdraw(self, serial: int) -> None:
        """Forget a process that has not begun to work, and release its locks."""
        ...

    def record_refused(self, new: NewProcess, table_name: str, error: ErrorInfo) -> None:
        """Record a process that failed during planning, which has ended without ever holding a lock."""
        ...

    def claim(self, record: ProcessRecord, owner: Owner) -> ProcessRecord | None:
        """Claim a process if it is unfinished, even if decided, and still in the attempt of `record`.

        Returns the current process, in its next attempt, or `None` if it cannot be claimed. The former owner may have
        decided in between, so only the returned record is reliable.
        """
        ...

    def replace_arguments(self, serial: int, attempt: int, arguments: JsonObject) -> None:
        """Replace the recorded arguments of a claimed process, some of which a later call may change."""
        ...

    def set_running(self, serial: int, attempt: int) -> None:
        """Mark a claimed process as running again."""
        ...

    def pause(
        self,
        serial: int,
        attempt: int,
        error: ErrorInfo | None,
        progress: Progress | None,
        waiting: str | None = None,
    ) -> None:
        """Pause a process, which keeps its locks. `None` keeps the former error, progress or wait reason."""
        ...

    def save_progress(self, serial: int, attempt: int, progress: Progress, waiting: str = "") -> None:
        """Record the progress of an execution, and the reason why its calls wait."""
        ...

    def request_stop(self, serial: int) -> None:
        """Ask the owner of a process to stop; the next claim clears the request."""
        ...

    def decide(self, decisions: Sequence[Decision]) -> Mapping[int, Remaining | EndedProcess]:
        """Commit the whole visible effect of one or more processes atomically.

        A process without remaining tidying is finished at once, which releases its locks, and returned as it ended. The
        others keep theirs until `finish`, and their remaining work is returned. The generation grows.

        Changes are applied in order, whatever the status; then the process is without its creations, unless it
        succeeds. A process that materializes, writes or confirms an instance is recorded with the id of the last one;
        the first of several processes with that of the first process that does. A success clears the error.

        Failed steps that new ones override are dropped, and those in a renamed folder follow it.

        Raises
        ------
        TVProcessError
            If one of the processes is not in the attempt that decides.
        TVLockError
            If an instance to be confirmed as unchanged is no longer the newest active one of its version.
        UnknownOutcomeError
            If the commit itself fails.
        """
        ...

    def finish(self, serial: int, problems: Iterable[tuple[int, str]] = ()) -> EndedProcess | None:
        """Record that a decided process is tidied up, and release its locks.

        Returns the process as it ended.

        `None`, and a no-op, if it is finished.
        `problems` are the ids of permanently failed steps, each with its reason; they stay recorded.
        """
        ...


class TidyingSteps(Protocol):
    """Remaining steps on disk of decided processes."""

    def of(self, serial: int) -> list[tuple[int, Tidying]]:
        """Return the steps of a process in their order, each with its id."""
        ...

    def keep_failed(self, serial: int, problems: Iterable[tuple[int, str]]) -> None:
        """Record the steps of a finished process that still fail, with reasons.

        All other steps are done.

        Steps of other processes are unchanged, even if they have these ids now.
        """
        ...

    def while_undone(self, serial: int, tidying_id: int, do: Callable[[], None]) -> None:
        """Retry a failed step if it is still recorded; no process begins or is decided meanwhile.

        Another process may have done it since it was read, and its id may now be that of another process's step.
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
        """Add steps to a decided process that remove all superseded artifacts; return all its steps.

        Those of deleted instances were removed with them; an import may have put the same instance into their place.
        Artifacts of instances that are tagged, or held by other processes, stay. A finished process gets no steps.
        """
        ...

    def pending_moves(self) -> Mapping[str, str]:
        """Return pending and failed file replacements and removals, as target -> staged source (or "")."""
        ...


class Catalog(Protocol):
    """One vault's catalog, the source of truth about its tables, instances, processes and locks."""

    is_newest: bool
    """Whether catalog and marker are known to have the newest format."""

    @property
    def url(self) -> str:
        """URL of the database, without a password."""
        ...

    @property
    def contents(self) -> Contents:
        """Tables and instances."""
        ...

    @property
    def processes(self) -> Processes:
        """Read access to processes."""
        ...

    @property
    def transitions(self) -> Transitions:
        """Write access to processes."""
        ...

    @property
    def tidying(self) -> TidyingSteps:
        """Steps on disk."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Make all reads of this thread in the block use one snapshot, taken at the first of them or before.

        The snapshot does not include later writes, even those of this thread. A block inside another one uses the same
        snapshot.
        """
        ...

    def create(self, vault_id: str, created_at: str, address: str | None = None) -> CatalogIdentity:
        """Create an empty catalog, a no-op if one exists; return the vault that it belongs to."""
        ...

    def identity(self) -> CatalogIdentity:
        """Return the format of the catalog, and the vault that it belongs to."""
        ...

    def migrate(
        self,
        vault_id: str,
        created_at: str,
        address: str | None,
        check: Callable[[Sequence[ProcessRecord]], None],
    ) -> None:
        """Migrate an older catalog to the newest format, and record the vault's folder, in one transaction.

        `check` gets the unfinished processes of an older catalog, and raises if one of them blocks the migration.
        """
        ...

    def record_imported(self, imported: Imported) -> None:
        """Copy the content of another catalog into this empty one."""
        ...

    def faults(self) -> list[str]:
        """Return the problems found by the database's own checks."""
        ...

    def backup(self, target: Path) -> None:
        """Write a copy of the catalog's current state to a file."""
        ...

    def close(self) -> None:
        """Close all idle connections."""
        ...
