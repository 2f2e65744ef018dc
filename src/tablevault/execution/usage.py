"""The usage of an instance's calls, in its file `usage.parquet`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tablevault.errors import TVFileError
from tablevault.storage.columns import build_column, plain_values
from tablevault.storage.dtypes import named_type
from tablevault.storage.frames import frame_of_columns, read_frame, write_frame
from tablevault.values.processes import WHOLE_BUILDER, Usage
from tablevault.values.services import CALLS

TEXT, INTEGER, FLOAT = named_type("string"), named_type("Int64"), named_type("Float64")
_COLUMNS = {"builder": TEXT, "row_index": INTEGER, "calls": FLOAT, "seconds": FLOAT, "amounts": TEXT}
"""Columns of `usage.parquet`, with their types."""


@dataclass(frozen=True)
class RowUsage:
    """Usage of the calls for one row."""

    builder: str
    index: int
    """Position of the row; `WHOLE_BUILDER` for a function called once per builder."""
    usage: Usage


def write_usage(path: Path, rows: Iterable[RowUsage]) -> None:
    """Write the usage of rows; the caller makes the file durable."""
    cells: dict[str, list[object]] = {name: [] for name in _COLUMNS}
    for row in rows:
        cells["builder"].append(row.builder)
        cells["row_index"].append(None if row.index == WHOLE_BUILDER else row.index)
        cells["calls"].append(float(row.usage.calls))
        cells["seconds"].append(row.usage.seconds)
        cells["amounts"].append(msgspec.json.encode(row.usage.amounts).decode())
    write_frame(path, frame_of_columns({name: build_column(cells[name], kind) for name, kind in _COLUMNS.items()}))


def read_usage(path: Path) -> list[RowUsage]:
    """Read the file of `write_usage`; a missing file is empty.

    Raises
    ------
    TVFileError
        If the file is damaged or of another kind.
    """
    if not path.is_file():
        return []
    data = read_frame(path)
    try:
        if data.types != _COLUMNS:
            raise ValueError("its columns are not those of usage")
        cells = [plain_values(data.table.column(name), kind) for name, kind in data.types.items()]
        return [
            RowUsage(
                builder,
                WHOLE_BUILDER if index is None else index,
                Usage(calls, seconds, msgspec.json.decode(amounts, type=dict[str, int | float])),
            )
            for builder, index, calls, seconds, amounts in zip(*cells, strict=True)
        ]
    except (ValueError, TypeError, msgspec.DecodeError) as error:
        raise TVFileError(f"The usage of calls in {path} is damaged ({error}).") from error


def mean_usage(rows: Iterable[RowUsage]) -> dict[str, dict[str, float]]:
    """Return the mean usage per called row, by builder and amount."""
    sums: dict[str, dict[str, float]] = {}
    counts: dict[str, int] = {}
    for row in rows:
        used = sums.setdefault(row.builder, {})
        counts[row.builder] = counts.get(row.builder, 0) + 1
        for name, value in _amounts(row.usage).items():
            used[name] = used.get(name, 0.0) + value
    return {builder: {name: value / counts[builder] for name, value in used.items()} for builder, used in sums.items()}


def _amounts(usage: Usage) -> Mapping[str, float]:
    return {CALLS: usage.calls, **usage.amounts}
