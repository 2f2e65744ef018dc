"""Failed and skipped rows of an instance, and the file that stores them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import xxhash

from tablevault.errors import TVFileError
from tablevault.execution.builder_run import BuilderRun
from tablevault.rows.failures import FrameRecord, RowFailure, counted_kinds, skipped
from tablevault.rows.table import RowTable
from tablevault.storage.canonical import canonical
from tablevault.storage.cell_texts import json_cell
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
    "frames": _TEXT,
    "notes": _TEXT,
    "result": _TEXT,
    "calls": _INTEGER,
    "seconds": _FLOAT,
    "failed_at": _TIME,
    "code": _TEXT,
    "cause": _TEXT,
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
    texts: dict[tuple[object, ...], str] = {}

    def text_of(parts: tuple[object, ...]) -> str:
        # Rows fail in few places, so that most frames and notes are alike.
        text = texts.get(parts)
        if text is None:
            text = texts[parts] = _json(parts).decode()
        return text

    cells: dict[str, list[object]] = {name: [] for name in COLUMNS}
    appends = [column.append for column in cells.values()]
    for row in rows:
        failure = row.failure
        values = {
            "builder": row.builder,
            "index": row.index,
            "key": None if row.key is None else {name: json_cell(value) for name, value in row.key.items()},
            "kind": failure.kind,
            "error": failure.error or None,
            "status": failure.status,
            "message": failure.message if failure.kind == "failed" else None,
            "frames": text_of(failure.frames),
            "notes": text_of(failure.notes),
            "result": failure.result,
            "calls": failure.calls,
            "seconds": failure.seconds,
            "failed_at": datetime.fromtimestamp(failure.failed_at, UTC) if failure.failed_at else None,
            "code": failure.code,
            "cause": None if failure.cause is None else _json(failure.cause).decode(),
        }
        for append, value in zip(appends, values.values(), strict=True):
            append(value)
    columns = {name: build_column(cells[name], kind) for name, kind in COLUMNS.items()}
    # `index` means a row's position in frames, so no frame can have a column of this name.
    renamed = {f"row_{name}" if name == "index" else name: column for name, column in columns.items()}
    write_frame(path, frame_of_columns(renamed))


def read_failures(path: Path) -> list[FailedRow]:
    """Read the file of `write_failures`; a missing file is empty.

    Raises
    ------
    TVFileError
        If the file is damaged or of another kind.
    """
    if not path.is_file():
        return []
    data = read_frame(path)
    try:
        if data.types != {f"row_{name}" if name == "index" else name: kind for name, kind in COLUMNS.items()}:
            raise ValueError("its columns are not those of failed rows")
        cells = [plain_values(data.table.column(name), kind) for name, kind in data.types.items()]
        return [_row(dict(zip(COLUMNS, values, strict=True))) for values in zip(*cells, strict=True)]
    except (ValueError, TypeError, AttributeError, msgspec.DecodeError) as error:
        raise TVFileError(f"The failed rows in {path} are damaged ({error}).") from error


def _row(cells: Mapping[str, Any]) -> FailedRow:
    """Build a row from its cells, keyed by the names in `COLUMNS`."""
    if (
        cells["kind"] not in _KINDS
        or cells["index"] < 0
        or any(cells[name] is None for name in ("builder", "calls", "seconds", "code"))
    ):
        raise ValueError("a row has an invalid form")
    failed_at, cause = cells["failed_at"], cells["cause"]
    failure = RowFailure(
        kind=cells["kind"],
        code=cells["code"],
        error=cells["error"] or "",
        status=cells["status"],
        message=cells["message"] or "",
        frames=_frames_of(cells["frames"]),
        notes=_texts_of(cells["notes"]),
        result=cells["result"],
        calls=cells["calls"],
        seconds=cells["seconds"],
        failed_at=0.0 if failed_at is None else failed_at.timestamp(),
        cause=None if cause is None else _cause_of(cause),
    )
    return FailedRow(cells["builder"], cells["index"], cells["key"], failure)


_json = msgspec.json.Encoder().encode

# Most failures of a run share their frames.
_frames_of = lru_cache(maxsize=1024)(msgspec.json.Decoder(tuple[FrameRecord, ...]).decode)
_texts_of = lru_cache(maxsize=1024)(msgspec.json.Decoder(tuple[str, ...]).decode)
_cause_of = lru_cache(maxsize=1024)(msgspec.json.Decoder(tuple[str, str]).decode)


# --- rows that are skipped ----------------------------------------------------------------------------------------


def skip_rows(run: BuilderRun, table: RowTable) -> None:
    """Skip missing rows that would read a failed or skipped cell."""
    failed = run.frame.failures
    columns = [name for name in run.spec.own_row_columns if name in failed]
    if not columns or run.spec.policies.failed_inputs == "pass":
        return
    for position in table.missing():
        cause = next((failed[name][position] for name in columns if position in failed[name]), None)
        if cause is not None:
            table.fail(position, skipped(table.version, cause))


def passed_rows(run: BuilderRun) -> frozenset[int]:
    """Return the rows computed despite a failed cell, which are reused only while the same cells fail."""
    if run.spec.policies.failed_inputs != "pass":
        return frozenset()
    failed = run.frame.failures
    return frozenset(position for name in run.spec.own_row_columns for position in failed.get(name, ()))


def fingerprint_of_passed(run: BuilderRun, position: int, fingerprint: bytes) -> bytes:
    """Return the fingerprint of a row that reads failed cells, which differs from that of the same row with nulls."""
    failed = run.frame.failures
    names = [name for name in run.spec.own_row_columns if position in failed.get(name, ())]
    return xxhash.xxh3_128_digest(canonical([fingerprint, "failed", *names]))


def failure_summary(failures: Mapping[str, Sequence[RowFailure]]) -> str | None:
    """Summarize the failed and skipped rows by builder; `None` without any.

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
