"""Failed and skipped rows of an instance: the file that keeps them, and the rows that have to be skipped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa

from tablevault.errors import TVFileError
from tablevault.execution.builder_run import BuilderRun
from tablevault.json_forms import json_form
from tablevault.rows.failures import RowFailure, counted_kinds, skipped
from tablevault.rows.table import RowTable
from tablevault.storage.columns import build_column, plain_values
from tablevault.storage.dtypes import json_type, parse_dtype, type_of_arrow
from tablevault.storage.frames import frame_of_columns, read_frame, write_frame

_TEXT = type_of_arrow(pa.string())
_INTEGER = type_of_arrow(pa.int64())
_FLOAT = type_of_arrow(pa.float64())
_TIME = parse_dtype("timestamp[us, tz=UTC]")
_KINDS = ("failed", "skipped")

COLUMNS = {
    "builder": _TEXT,
    "index": _INTEGER,
    "key": json_type(),
    "kind": _TEXT,
    "error": _TEXT,
    "status": _INTEGER,
    "message": _TEXT,
    "frames": json_type(),
    "notes": json_type(),
    "result": json_type(),
    "calls": _INTEGER,
    "seconds": _FLOAT,
    "failed_at": _TIME,
    "code": _TEXT,
    "cause": json_type(),
}
"""Columns of `errors.parquet`, with their types."""


@dataclass(frozen=True)
class FailedRow:
    """One failed or skipped row."""

    builder: str
    index: int
    key: Mapping[str, object] | None
    """Its primary key; `None` without one."""
    failure: RowFailure


def write_failures(path: Path, rows: Iterable[FailedRow]) -> None:
    """Write failed and skipped rows; the caller makes the file durable."""
    cells: dict[str, list[object]] = {name: [] for name in COLUMNS}
    for row in rows:
        failure = row.failure
        values = {
            "builder": row.builder,
            "index": row.index,
            "key": None if row.key is None else {name: json_form(value) for name, value in row.key.items()},
            "kind": failure.kind,
            "error": failure.error or None,
            "status": failure.status,
            "message": failure.message if failure.kind == "failed" else None,
            "frames": [[item.file, item.line, item.function] for item in failure.frames],
            "notes": list(failure.notes),
            "result": None if failure.result is None else {"text": failure.result},
            "calls": failure.calls,
            "seconds": failure.seconds,
            "failed_at": datetime.fromtimestamp(failure.failed_at, UTC) if failure.failed_at else None,
            "code": failure.code,
            "cause": None if failure.cause is None else list(failure.cause),
        }
        for name, value in values.items():
            cells[name].append(value)
    columns = {name: build_column(cells[name], kind) for name, kind in COLUMNS.items()}
    # `index` means a row's position in frames, so no frame can have a column of this name.
    renamed = {f"row_{name}" if name == "index" else name: column for name, column in columns.items()}
    write_frame(path, frame_of_columns(renamed))


def read_failures(path: Path) -> list[FailedRow]:
    """Read what `write_failures` wrote; nothing if there is no such file.

    Raises
    ------
    TVFileError
        If the file is damaged, or is something else.
    """
    if not path.is_file():
        return []
    data = read_frame(path)
    try:
        cells = {name: plain_values(data.table.column(name), data.types[name]) for name in data.types}
        return [_row({name: column[place] for name, column in cells.items()}) for place in range(len(data))]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise TVFileError(f"The failed rows in {path} are damaged ({error}).") from error


def _row(cells: Mapping[str, object]) -> FailedRow:
    moment, result = cells["failed_at"], cells["result"]
    failure = msgspec.convert(
        [
            cells["kind"],
            cells["code"],
            cells["error"] or "",
            cells["status"],
            cells["message"] or "",
            cells["frames"],
            cells["notes"],
            result["text"] if isinstance(result, dict) else None,
            cells["calls"],
            cells["seconds"],
            moment.timestamp() if isinstance(moment, datetime) else 0.0,
            cells["cause"],
        ],
        type=RowFailure,
    )
    builder, index, key = cells["builder"], cells["row_index"], cells["key"]
    if not isinstance(builder, str) or type(index) is not int or not (key is None or isinstance(key, dict)):
        raise ValueError("invalid builder, position or key")
    return FailedRow(builder, index, key, failure)


# --- rows that are skipped ----------------------------------------------------------------------------------------


def skip_rows(run: BuilderRun, table: RowTable) -> None:
    """Skip missing rows whose function would read a cell of their own row that failed or was skipped."""
    failed = run.frame.failures
    columns = [name for name in run.spec.own_row_columns if name in failed]
    if not columns or run.spec.policies.failed_inputs == "pass":
        return
    for position in table.missing():
        cause = next((failed[name][position] for name in columns if position in failed[name]), None)
        if cause is not None:
            table.fail(position, skipped(table.version, cause))


def passed_rows(run: BuilderRun) -> frozenset[int]:
    """Return the rows that are computed although a cell of their own row failed: they are never reused."""
    if run.spec.policies.failed_inputs != "pass":
        return frozenset()
    failed = run.frame.failures
    return frozenset(position for name in run.spec.own_row_columns for position in failed.get(name, ()))


def failure_summary(failures: Mapping[str, Sequence[RowFailure]]) -> str | None:
    """Return how many rows failed and were skipped, by builder; `None` if none did.

    Parameters
    ----------
    failures
        The failures of each builder, by its name.
    """
    failed: list[str] = []
    skips: list[str] = []
    for builder, items in failures.items():
        kinds = counted_kinds(items)
        total = sum(kinds.values())
        if total:
            listed = ", ".join(f"{count:,} {name}" for name, count in list(kinds.items())[:3])
            failed.append(f"{total:,} failed {'row' if total == 1 else 'rows'} in '{builder}' ({listed})")
        rest = len(items) - total
        if rest:
            skips.append(f"{rest:,} skipped in '{builder}'")
    return ", ".join([*failed, *skips]) or None
