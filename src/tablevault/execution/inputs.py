"""The frames that references find while an instance is built: its pinned inputs, and itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tablevault.names import fold, nearest
from tablevault.ports import Frame, FrameSource
from tablevault.storage.dtypes import Kind
from tablevault.storage.frames import StoredFrame, read_schema
from tablevault.values import ArtifactRecord

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SELF = "self"


@dataclass(frozen=True)
class PinnedKey:
    """What a builder wrote to name another instance."""

    table: str
    """Folded name of the table."""
    instance: str | None
    """Instance id or version as written; `None` for the newest of any version."""


class PinnedFrames:
    """Finds the frames that an execution pinned when it started; nothing else can be read.

    Parameters
    ----------
    frames
        How each pinned frame is opened, when it is first needed.
    """

    def __init__(self, frames: Mapping[PinnedKey, Callable[[], Frame]]) -> None:
        self._openers = dict(frames)
        self._opened: dict[PinnedKey, Frame] = {}

    def frame(self, table: str, instance: str | None) -> Frame:
        """Return a pinned frame; raises `LookupError` for anything else."""
        key = PinnedKey(fold(table), instance)
        if key not in self._openers:
            known = sorted({pinned.table for pinned in self._openers})
            if key.table in known:
                raise LookupError(
                    f"instance '{instance}' of table '{table}' was not pinned when the process started; "
                    f"name it in the builder, or leave the instance out and declare 'dependencies: [{table}.*]'"
                )
            raise LookupError(
                f"table '{table}' is not one that this builder was known to read{nearest(table, known)}; "
                f"declare 'dependencies: [{table}.*]'"
            )
        if key not in self._opened:
            self._opened[key] = self._openers[key]()
        return self._opened[key]


class WithSelf:
    """Adds the instance being built to the pinned inputs.

    Parameters
    ----------
    inputs
        Finds other tables.
    own
        Returns the frame of the instance being built, as far as it is built by then.
    """

    def __init__(self, inputs: FrameSource, own: Callable[[], Frame]) -> None:
        self._inputs = inputs
        self._own = own

    def frame(self, table: str, instance: str | None) -> Frame:
        """Return the frame that `table(instance)` names."""
        if table != SELF:
            return self._inputs.frame(table, instance)
        if instance is not None:
            raise LookupError("'self' is the instance being built; it has no other instances")
        return self._own()


class ContentFrame:
    """A frame as it counts in fingerprints: artifact paths are replaced by what the files contain.

    Parameters
    ----------
    frame
        The frame with its artifact columns as they are stored.
    contents
        Hash of each artifact, by its stored path, for each artifact column.
    """

    def __init__(self, frame: Frame, contents: Mapping[str, Callable[[object], object]]) -> None:
        self._frame = frame
        self._contents = contents
        self._values: dict[str, Sequence[object]] = {}

    @classmethod
    def of_stored(cls, path: Path, records: Mapping[str, ArtifactRecord]) -> Self:
        """Return a committed frame with the recorded contents of its artifacts.

        Parameters
        ----------
        path
            The frame's file.
        records
            The instance's artifacts, by name.
        """
        types, _ = read_schema(path)
        artifacts = [name for name, column_type in types.items() if column_type.kind is Kind.ARTIFACT]

        def content(name: object) -> object:
            record = records.get(str(name))
            return record.sha256 if record is not None else name

        return cls(StoredFrame(path), dict.fromkeys(artifacts, content))

    @property
    def column_names(self) -> Sequence[str]:
        """Names in the frame's order."""
        return self._frame.column_names

    def __len__(self) -> int:
        return len(self._frame)

    def values(self, column: str) -> Sequence[object]:
        """Return a column, with contents in the place of artifact paths."""
        if column not in self._contents:
            return self._frame.values(column)
        if column not in self._values:
            content = self._contents[column]
            self._values[column] = [None if value is None else content(value) for value in self._frame.values(column)]
        return self._values[column]

    def arrow_type(self, column: str) -> pa.DataType:
        """Return the column's Arrow type."""
        return self._frame.arrow_type(column)

    def data_frame(self, columns: Sequence[str] | None, positions: Sequence[int] | None) -> pd.DataFrame:
        """Return the named columns at the given positions, with contents in the place of artifact paths."""
        import pandas as pd

        frame = self._frame.data_frame(columns, positions)
        for column in frame.columns.intersection(list(self._contents)):
            values = self.values(column)
            chosen = values if positions is None else [values[position] for position in positions]
            frame[column] = pd.Series(list(chosen), dtype="string", index=frame.index)
        return frame
