"""Bounded records of failed and skipped rows, as plain data without secrets."""

from __future__ import annotations

import json
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec

from tablevault.errors import TVFileError
from tablevault.names import without_namespaces
from tablevault.notes import frames_of, notes_of
from tablevault.rows.error_names import RowError, raised_class, raised_message
from tablevault.texts.plain import cut, storable

MAXIMUM_MESSAGE_BYTES = 4 * 1024
MAXIMUM_RESULT_BYTES = 16 * 1024
_MAXIMUM_BYTES_PER_CHARACTER = 4
_MAXIMUM_FRAMES = 50
_MAXIMUM_NOTES = 20


class FrameRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One frame of a traceback."""

    file: str
    line: int
    function: str


class RowFailure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The reason why a row has no cells."""

    kind: Literal["failed", "skipped"]
    code: str
    """Version of the builder and its code that was tried."""
    error: str = ""
    """Qualified name of the exception's class."""
    status: int | None = None
    """HTTP status that the exception carried."""
    message: str = ""
    frames: tuple[FrameRecord, ...] = ()
    notes: tuple[str, ...] = ()
    result: str | None = None
    """The rejected result, as JSON."""
    calls: int = 0
    """Number of calls for the row in its last try."""
    seconds: float = 0.0
    """Duration of these calls."""
    failed_at: float = 0.0
    """Seconds since 1970 in UTC."""
    cause: tuple[str, str] | None = None
    """Builder and column whose failure caused the skip."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RowFailure).decode


def pack_failure(failure: RowFailure) -> bytes:
    """Return a record as bytes."""
    return _encode(failure)


def unpack_failure(content: bytes) -> RowFailure:
    """Return the record packed by `pack_failure`; raise `TVFileError` if it is damaged."""
    try:
        return _decode(content)
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        raise TVFileError(f"The record of a failed row is damaged ({error}).") from error


def describe_failure(
    error: RowError, code: str, calls: int, seconds: float, failed_at: float, hide: Callable[[str], str]
) -> RowFailure:
    """Return the record of a row's error.

    Parameters
    ----------
    error
        The error.
    code
        Version of the builder and its code.
    calls, seconds, failed_at
        As in `RowFailure`.
    hide
        Replaces secrets in a text by their names.
    """

    def text(value: str, most: int) -> str:
        return _cut_bytes(storable(hide(without_namespaces(value))), most)

    raised = error.error
    frames = deque(traceback.walk_tb(frames_of(raised)), _MAXIMUM_FRAMES)
    return RowFailure(
        kind="failed",
        code=code,
        error=text(raised_class(raised), MAXIMUM_MESSAGE_BYTES),
        status=error.status,
        message=text(raised_message(raised), MAXIMUM_MESSAGE_BYTES),
        frames=tuple(
            _frame_record(frame.f_code.co_filename, line, frame.f_code.co_name)
            for frame, line in frames
            if not _is_ours(frame.f_code.co_filename)
        ),
        notes=tuple(text(note, MAXIMUM_MESSAGE_BYTES) for note in notes_of(raised)[:_MAXIMUM_NOTES]),
        result=_json_of(error.result, hide) if error.is_invalid else None,
        calls=calls,
        seconds=seconds,
        failed_at=failed_at,
    )


def skipped(code: str, cause: tuple[str, str]) -> RowFailure:
    """Return the record of a row skipped after a failure in another column."""
    return RowFailure(kind="skipped", code=code, cause=cause)


def counted_kinds(failures: Iterable[RowFailure]) -> dict[str, int]:
    """Count failed rows by unqualified exception name, most frequent first."""
    counts: dict[str, int] = {}
    for failure in failures:
        if failure.kind == "failed":
            name = failure.error.rpartition(".")[2]
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _json_of(result: object, hide: Callable[[str], str]) -> str | None:
    try:
        text = json.dumps(result, ensure_ascii=False, allow_nan=True, default=_shown)
    except Exception:  # noqa: BLE001 - a foreign object may raise anything
        text = json.dumps(f"<a {type(result).__name__} that cannot be shown>")
    return _cut_bytes(storable(hide(text)), MAXIMUM_RESULT_BYTES)


def _shown(value: object) -> str:
    return cut(repr(value), MAXIMUM_RESULT_BYTES)


def _cut_bytes(text: str, most: int) -> str:
    """Cut a text to a maximum size in UTF-8 bytes, and mark the cut."""
    if len(text) * _MAXIMUM_BYTES_PER_CHARACTER <= most:
        return text
    content = text.encode("utf-8", "surrogatepass")
    if len(content) <= most:
        return text
    return content[: most - 3].decode("utf-8", "ignore") + "…"


@lru_cache(maxsize=1_000)
def _frame_record(file: str, line: int, function: str) -> FrameRecord:
    """Return the record of a frame; cached, since rows fail in few places."""
    return FrameRecord(storable(file), line, storable(without_namespaces(function)))


def _is_ours(file: str) -> bool:
    return file.startswith(_PACKAGE)


_PACKAGE = str(Path(__file__).parent.parent) + "/"
