"""Input rows of IndexBuilders called for each row of another table, and their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa

from tablevault.errors import TVFileError
from tablevault.execution.primary_keys import row_keys
from tablevault.storage.checkpoints import BuilderState
from tablevault.storage.columns import build_column, plain_values
from tablevault.storage.dtypes import type_of_arrow
from tablevault.storage.fingerprints import Fingerprints, RowFingerprints
from tablevault.storage.frames import frame_of_columns, read_frame, write_frame

_BYTES = type_of_arrow(pa.binary())
_INTEGER = type_of_arrow(pa.int64())
_KEY = "key:"

NestedCells = tuple[list[object], ...]
"""The cells made from one input row, as one list per column."""


@dataclass(frozen=True)
class InputRows:
    """The input rows of an origin, and the rows made from each of them."""

    keys: Sequence[object] | None
    """Hashable key of each input row; `None` if only fingerprints are known."""
    fingerprints: Sequence[bytes | None]
    versions: Sequence[str]
    """Version of builder and code that computed the rows of each input row."""
    cells: Callable[[int], NestedCells]
    """Returns the rows of the input row at a position."""

    @classmethod
    def of_state(cls, state: BuilderState) -> InputRows:
        """Return the finished input rows of an incomplete execution."""
        versions = [state.code_versions[code] for code in state.codes]

        def cells(place: int) -> NestedCells:
            nested = [column[place] for column in state.values]
            return tuple(list(each) if isinstance(each, list) else [] for each in nested)

        return cls(None, state.fingerprints, versions, cells)


def write_input_rows(
    path: Path,
    keys: Sequence[Sequence[object]],
    fingerprints: Fingerprints,
    codes: Iterable[int],
    counts: Iterable[int],
) -> None:
    """Write the input rows of an instance; the caller makes the file durable.

    Parameters
    ----------
    path
        The file.
    keys
        The columns of the input table's primary key; empty without one.
    fingerprints, codes
        Fingerprint and version index of each input row.
    counts
        The number of rows made from each input row.
    """
    columns = {f"{_KEY}{place}": build_column(cells, None) for place, cells in enumerate(keys)}
    columns["fingerprint"] = (fingerprints.column(), _BYTES)
    columns["version"] = build_column(list(codes), _INTEGER)
    columns["rows"] = build_column(list(counts), _INTEGER)
    write_frame(path, frame_of_columns(columns), plain=["fingerprint"])


def read_row_records(path: Path, versions: tuple[str, ...], row_count: int) -> RowFingerprints:
    """Return the fingerprint and version of each row's input row.

    Fingerprints are null for rows kept from an origin, which come last.

    Parameters
    ----------
    path
        The file of `write_input_rows`.
    versions
        The versions of builder and code, to which the file refers by index.
    row_count
        Number of rows of the instance.

    Raises
    ------
    TVFileError
        If the file is damaged.
    """
    data = read_frame(path)
    try:
        counts, codes = (data.table.column(name).to_numpy() for name in ("rows", "version"))
        inputs = np.repeat(np.arange(len(counts)), counts)
        if len(inputs) > row_count or (len(codes) and not 0 <= codes.min() <= codes.max() < len(versions)):
            raise ValueError("they are not those of the instance")
        fingerprints = data.table.column("fingerprint").combine_chunks().take(pa.array(inputs))
    except (KeyError, ValueError, TypeError) as error:
        raise TVFileError(f"The input rows in {path} are damaged ({error}).") from error
    kept = row_count - len(inputs)
    known = pa.chunked_array([fingerprints, pa.nulls(kept, fingerprints.type)])
    return RowFingerprints(known, np.concatenate([codes[inputs], np.zeros(kept, dtype=np.int64)]), versions)


def read_input_counts(path: Path) -> list[int]:
    """Return the number of rows per input row; raises `TVFileError` if damaged."""
    try:
        counts: list[int] = read_frame(path, ["rows"]).table.column(0).to_pylist()
    except KeyError as error:
        raise TVFileError(f"The input rows in {path} are damaged ({error}).") from error
    return counts


def read_input_key(path: Path, place: int) -> list[object]:
    """Return the primary key of one input row; empty without one. Raises `TVFileError` if the file is damaged."""
    data = read_frame(path)
    columns = [name for name in data.types if name.startswith(_KEY)]
    try:
        return [plain_values(data.table.column(name).slice(place, 1), data.types[name])[0] for name in columns]
    except (IndexError, ValueError, TypeError) as error:
        raise TVFileError(f"The input rows in {path} are damaged ({error}).") from error


def read_input_rows(path: Path, versions: Sequence[str], columns: Sequence[Sequence[object]]) -> InputRows | None:
    """Read the file of `write_input_rows`; `None` if it does not exist.

    Parameters
    ----------
    path
        The file.
    versions
        The versions of builder and code, to which the file refers by index.
    columns
        The builder's columns, with all rows.

    Raises
    ------
    TVFileError
        If the file is damaged.
    """
    if not path.is_file():
        return None
    data = read_frame(path)
    try:
        cells = {name: plain_values(data.table.column(name), data.types[name]) for name in data.types}
        counts, codes, fingerprints = cells["rows"], cells["version"], cells["fingerprint"]
        if any(type(count) is not int or count < 0 for count in [*counts, *codes]):
            raise ValueError("a number is missing or negative")
        starts = [0, *accumulate(counts)]
        if starts[-1] > min((len(column) for column in columns), default=0):
            raise ValueError("there are more rows than in the instance")
        named = [versions[code] for code in codes]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise TVFileError(f"The input rows in {path} are damaged ({error}).") from error
    keys = [cells[name] for name in cells if name.startswith(_KEY)]

    def rows(place: int) -> NestedCells:
        return tuple(list(column[starts[place] : starts[place + 1]]) for column in columns)

    return InputRows(row_keys(keys) if keys else None, fingerprints, named, rows)
