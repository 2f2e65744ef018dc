"""The boundaries between layers, as Protocols with their contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from tablevault.progress import ExecutionProgress
    from tablevault.texts import Secrets
    from tablevault.values import ArtifactRecord

Task = TypeVar("Task")
Result = TypeVar("Result")
Task_co = TypeVar("Task_co", covariant=True)
Result_co = TypeVar("Result_co", covariant=True)


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

        The caller owns what is returned: changing it changes nothing else.
        """
        ...


class FrameSource(Protocol):
    """Where references find frames: the pinned inputs of one execution, and the instance being built."""

    def frame(self, table: str, instance: str | None) -> Frame:
        """Return the frame that `table(instance)` names; `self` is the instance being built.

        Raises `LookupError` whose text says completely what does not exist and names the nearest that does.
        """
        ...


class Executor(Protocol):
    """How rows are run side by side. One adapter per way: threads (later: processes, a cluster)."""

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> RowRun[Task, Result]:
        """Start running `function` over `tasks`; takes a task from the iterator only when it can start at once."""
        ...


class RowRun(Protocol[Task_co, Result_co]):
    """One `map` under way: an iterator over `(task, result, error)` in the order of completion.

    `error` is `None` or the exception (any `BaseException`) that the function raised for this task; it never escapes
    from `__next__`. An interrupt that arrives while the caller waits in `__next__` does escape from it.
    """

    def __iter__(self) -> Iterator[tuple[Task_co, Result_co | None, BaseException | None]]: ...

    def __next__(self) -> tuple[Task_co, Result_co | None, BaseException | None]: ...

    def drain(self, timeout: float | None) -> Iterator[tuple[Task_co, Result_co | None, BaseException | None]]:
        """Start no new task, wait for those in flight (at most `timeout` seconds), and yield each outcome as it comes.

        What finishes later is dropped. Afterwards the run is exhausted and its resources are released.
        """
        ...


class ArtifactStore(Protocol):
    """Records artifact files durably, on behalf of checkpoints."""

    def record(self, name: str) -> ArtifactRecord | None:
        """Make the named file (and its folders) durable and return its record; `None` if it does not exist yet."""
        ...


class Interruptible(Protocol):
    """The owner of an execution: may be asked to stop, and hides secrets in errors."""

    stop_requested: bool

    @property
    def secrets(self) -> Secrets:
        """Values that functions were given; they are added before an error that may quote them is raised."""
        ...

    def raise_if_stopped(self) -> None:
        """Raise `TVForcedError` if a stop was requested."""
        ...


class Observer(Protocol):
    """Follows the work of a vault's processes, to show it to people."""

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
    """

    def __init__(self, original: BaseException) -> None:
        super().__init__(original)
        self.original = original
