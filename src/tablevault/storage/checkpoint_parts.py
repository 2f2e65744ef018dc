"""Parts of checkpoints: the rows of one builder in one flush, as packed columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from tablevault.names import is_file_name
from tablevault.storage.fingerprints import FINGERPRINT_BYTES
from tablevault.storage.packing import bytes_header, list_header, pack_columns, size_of, unpack
from tablevault.values.processes import WHOLE_BUILDER, JobRecord, Usage

_PACKED_FIELDS = (9, 11, 12, 13, 14)
"""Fields of a part in formats 2, 3, 4 and 5, 6, and since 7."""
_MAXIMUM_EMPTY_ROWS = 2**20  # Per part: rows without columns take no space, so a file could claim any number.
_encode = msgspec.msgpack.Encoder().encode
_decode_fields = msgspec.msgpack.Decoder().decode


@dataclass(slots=True, eq=False)
class Part:
    """The rows of one builder in one flush.

    They are parallel lists, in the order of appending.
    """

    builder: str
    columns: tuple[str, ...]
    code: str
    """The code version under which the rows of this part were computed."""
    forgotten: tuple[int, ...] = ()
    """Positions whose earlier rows are void."""
    finished: dict[str, Any] | None = None
    """Set if the builder is complete: its row count and, if all rows are in a file, the facts about that file."""
    positions: Sequence[int] = field(default_factory=list)
    values: list[list[object]] = field(default_factory=list)
    """One list per column."""
    fingerprints: list[bytes] | bytes = field(default_factory=list)
    """16 bytes per row, joined; or a list with one per row; or a list with one that all rows share."""
    artifacts: dict[int, list[tuple[str, int, str]]] = field(default_factory=dict)
    """Path, size and SHA-256 of recorded files, by position."""
    failures: dict[int, bytes] = field(default_factory=dict)
    """Packed records of rows that failed or were skipped, by position."""
    is_nested: bool = False
    """Whether a cell is a list with the cells of several rows."""
    calls: dict[int, int] = field(default_factory=dict)
    """Number of calls of this process that have ended without a result, by position, where that is counted."""
    usage: dict[int, Usage] = field(default_factory=dict)
    """Usage of calls so far in this process, by position, where it is counted."""
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    """Jobs at a provider, by their tokens."""
    are_atoms: bool = False
    """Whether all values are known to have classes in `packing.ATOMS`; not stored."""

    def each_fingerprint(self) -> list[bytes]:
        """Return one fingerprint per row."""
        if isinstance(self.fingerprints, bytes):
            starts = range(0, len(self.fingerprints), FINGERPRINT_BYTES)
            return [self.fingerprints[start : start + FINGERPRINT_BYTES] for start in starts]
        return self.fingerprints * len(self.positions) if len(self.fingerprints) == 1 else self.fingerprints

    def packed(self) -> bytes:
        """Return the part as bytes; raises `TypeError` or `ValueError` if a value cannot be stored."""
        artifacts = [[position, *map(list, records)] for position, records in self.artifacts.items()]
        # Everything but the values consists of MessagePack types, so items need no individual check.
        before = [
            self.builder,
            self.columns,
            self.code,
            self.forgotten,
            self.finished,
            _packed_positions(self.positions),
        ]
        after = [
            self.fingerprints,
            artifacts,
            list(self.failures.items()),
            self.is_nested,
            list(self.calls.items()),
            list(self.usage.items()),
            list(self.jobs.values()),
        ]
        values = pack_columns(self.values, self.are_atoms)
        if len(values) == 1:
            return _encode([*before, values[0], *after])
        # Copy the bytes of arrays, which may be large, only once.
        header = list_header(len(before) + 1 + len(after))
        size = bytes_header(size_of(values))
        return b"".join([header, *map(_encode, before), size, *values, *map(_encode, after)])

    @classmethod
    def unpacked(cls, content: bytes) -> Self:
        """Decode and check a part from the bytes that `packed` returned."""
        fields: Any = _decode_fields(content)
        if len(fields) not in _PACKED_FIELDS:
            raise ValueError(f"a part has {_PACKED_FIELDS[-1]} fields, this one {len(fields)}")
        builder, columns, code, forgotten, finished, positions, values, fingerprints, artifacts, *rest = fields
        part = cls(
            builder,
            tuple(columns),
            code,
            tuple(forgotten),
            finished,
            range(positions["start"], positions["stop"]) if isinstance(positions, dict) else positions,
            unpack(values),
            fingerprints,
            {position: [tuple(record) for record in records] for position, *records in artifacts},
            dict(rest[0]) if rest else {},
            bool(rest and rest[1]),
            dict(rest[2]) if len(rest) > 2 else {},
            msgspec.convert(dict(rest[3]), type=dict[int, Usage]) if len(rest) > 3 else {},
            {job.token: job for job in msgspec.convert(rest[4], type=list[JobRecord])} if len(rest) > 4 else {},
        )
        part.check()
        return part

    def check(self) -> None:
        """Raise `ValueError` or `TypeError` if the fields are inconsistent; a digest guards only against accidents."""
        if not all(isinstance(name, str) for name in (self.builder, self.code, *self.columns)):
            raise ValueError("a name is not text")
        rows = len(self.positions)
        widths = [len(column) for column in self.values]
        if widths != [rows] * len(self.columns) or (not widths and rows > _MAXIMUM_EMPTY_ROWS):
            raise ValueError("its columns differ in length")
        if len(self.each_fingerprint()) != rows:
            raise ValueError("the number of fingerprints differs from the number of rows")
        listed = [
            self.forgotten,
            self.artifacts,
            self.failures,
            self.calls,
            self.calls.values(),
            self.positions if not isinstance(self.positions, range) else (),
        ]
        if not all(type(number) is int and number >= 0 for numbers in listed for number in numbers):
            raise ValueError("invalid row position or number of calls")
        if not all(isinstance(record, bytes) for record in self.failures.values()):
            raise ValueError("invalid record of a failed row")
        if any(position < WHOLE_BUILDER for position in self.usage):
            raise ValueError("invalid row position of usage")
        if any(position < 0 for job in self.jobs.values() for position in job.positions):
            raise ValueError("invalid row position of a job")
        if self.finished is not None:
            _check_finished(self.finished)


def _check_finished(finished: dict[str, Any]) -> None:
    total, frame = finished["total"], finished.get("frame")
    if type(total) is not int or total < 0:
        raise ValueError("invalid row count")
    if frame is not None and not (is_file_name(frame) and isinstance(finished["fingerprint"], bytes)):
        raise ValueError("invalid facts about its frame")
    if finished.get("rows") is not None and not (is_file_name(finished["rows"]) and "artifacts" in finished):
        raise ValueError("invalid facts about its rows")
    for path, size, digest in finished.get("artifacts", ()):
        if not (isinstance(path, str) and isinstance(size, int) and isinstance(digest, str)):
            raise ValueError("invalid record of an artifact")  # noqa: TRY004 - as everything else that is wrong


def _packed_positions(positions: Sequence[int]) -> object:
    return {"start": positions.start, "stop": positions.stop} if isinstance(positions, range) else positions
