"""The innermost loop: what a function makes, read and kept row by row, at the least cost per row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tablevault.execution.table import RowTable
from tablevault.notes import add_note
from tablevault.ports import FunctionError
from tablevault.rows.results import RowReader
from tablevault.storage.checkpoints import RowBatch
from tablevault.storage.fingerprints import Fingerprints
from tablevault.storage.mixtures import EXACT_IN_FLOAT


class _UnreadableError(Exception):
    """What a function returned is no row; carries the error that says why."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class RowFilling:
    """Fills rows of a table with what a function makes, each kept as soon as it is there.

    Parameters
    ----------
    table
        The table.
    blame
        Returns the note for an error that the function raised at a position.
    may_end
        Whether results may end before the positions do, as those of a generator. A function that is called for each
        row may not: a `StopIteration` of it is an error as any other.
    """

    def __init__(self, table: RowTable, blame: Callable[[int], str], may_end: bool = False) -> None:
        self._table = table
        self._blame = blame
        self._may_end = may_end
        self._checkpoints = table.execution.checkpoints
        self._owner = table.execution.owner
        self._reader = RowReader(table.spec, table.execution.building.artifact_name, table.columns)
        self.read = self._reader.read
        self._learn()

    @property
    def most_rows(self) -> int:
        """How many rows may be filled at once."""
        return 1 if self._table.names_artifacts else self._checkpoints.batch_rows

    def fill(self, positions: Sequence[int], fingerprints: Fingerprints | bytes, results: Iterator[object]) -> int:
        """Take results over until there are no more, or somebody wants to be heard. Return how many.

        Raises `FunctionError` for what escapes from the function, and a located `TypeError` or `ValueError` for a
        result that is no row. The rows before are kept in any case.

        Parameters
        ----------
        positions, fingerprints
            Of the rows; at least as many as there are results.
        results
            Calls the function whenever the next one is asked for.
        """
        table = self._table
        batch = self._batch(positions, fingerprints)
        computed = table.counter.computed
        table.counter.count_along(batch.cells)
        try:
            self._append(batch, results)
        except _UnreadableError as unreadable:
            table.counter.failed += 1
            self._blame(positions[len(batch.cells)])
            raise unreadable.error from unreadable.error.__cause__
        except BaseException as error:
            table.counter.failed += isinstance(error, Exception)
            add_note(error, self._blame(positions[len(batch.cells)] if len(batch.cells) < len(positions) else -1))
            raise FunctionError(error) from error
        finally:
            batch.is_closed = True
            if table.names_artifacts:
                table.counter.computed = computed
                for position, cells in zip(positions, batch.cells, strict=False):
                    table.resize(max(position + 1, len(table.filled)))
                    table.keep(position, cells if batch.is_wide else (cells,), batch.fingerprint)
            else:
                table.take(batch)
                table.counter.computed = computed + len(batch.cells)
        return len(batch.cells)

    def _batch(self, positions: Sequence[int], fingerprints: Fingerprints | bytes) -> RowBatch:
        if self._table.names_artifacts:  # Which files a row names is known only when it is there.
            return RowBatch(positions, fingerprints, is_wide=len(self._table.columns) > 1)
        return self._checkpoints.batch(self._table.spec.name, positions, fingerprints)

    def _append(self, batch: RowBatch, results: Iterator[object]) -> None:
        append, read, positions, cells = batch.cells.append, self._read, batch.positions, batch.cells
        text, whole, unchanged = self._text, self._whole, self._unchanged
        checkpoints, owner = self._checkpoints, self._owner
        # Not `for`, to which a StopIteration of the function would look like the end of the rows.
        next_result = results.__next__
        try:
            while True:
                result = next_result()
                kind = type(result)
                if (
                    (kind is text and result.isascii())  # type: ignore[attr-defined]
                    or kind in unchanged
                    or (kind is whole and -EXACT_IN_FLOAT <= result <= EXACT_IN_FLOAT)  # type: ignore[operator]
                ):
                    append(result)
                else:
                    append(read(result, positions[len(cells)]))
                    text, whole, unchanged = self._text, self._whole, self._unchanged
                if checkpoints.room < 0 or owner.stop_requested:
                    return
        except StopIteration:
            if len(cells) < len(positions) and not self._may_end:
                raise

    def _read(self, result: object, position: int) -> object:
        try:
            row = self.read(result, position)
        except Exception as error:
            raise _UnreadableError(error) from error
        if self._known is not self._reader.unchanged:
            self._learn()
        return row if len(row) != 1 else row[0]

    def _learn(self) -> None:
        """Take note of the types of results that are cells as they are."""
        self._known = self._reader.unchanged
        self._text = str if str in self._known else None
        self._whole = int if int in self._known else None
        self._unchanged = self._known - {str, int}
