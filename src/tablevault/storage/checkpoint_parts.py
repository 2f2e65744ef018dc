"""Parts of checkpoints: the rows of one builder in one flush, as packed columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import msgspec

from tablevault.names import is_file_name, is_inner_path
from tablevault.storage.fingerprints import FINGERPRINT_BYTES
from tablevault.storage.packing import (
    TooLargeError,
    bytes_header,
    checked_size,
    list_header,
    pack_columns,
    size_of,
    unpack,
)
from tablevault.values.processes import WHOLE_BUILDER, JobRecord, Usage

_PACKED_FIELDS = (9, 11, 12, 13, 14)
"""Fields of a part in formats 2, 3, 4 and 5, 6, and since 7."""
_MAXIMUM_EMPTY_ROWS = 2**20  # Per part: rows without columns take no space, so a file could claim any number.
_MAXIMUM_ROWS = 2**32  # Of a builder: a position takes no space either, but all rows before it take memory.
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

    def packed_in_parts(self) -> list[bytes]:
        """Return the part as bytes, in several parts if it would be too large.

        Raises `TypeError` or `ValueError` if a value cannot be stored.
        """
        try:
            return [self.packed()]
        except TooLargeError:
            if len(self.positions) < 2:
                raise
        first, second = self._halves()
        return [*first.packed_in_parts(), *second.packed_in_parts()]

    def _halves(self) -> tuple[Self, Self]:
        """Return two parts that mean the same in this order."""
        middle = len(self.positions) // 2
        later = set(self.positions[middle:])
        first = replace(
            self._with_rows(slice(middle)),
            finished=None,
            artifacts={position: records for position, records in self.artifacts.items() if position not in later},
            failures={},
            calls={},
            usage={},
            jobs={},
        )
        second = replace(
            self._with_rows(slice(middle, None)),
            forgotten=(),
            artifacts={position: records for position, records in self.artifacts.items() if position in later},
        )
        return first, second

    def _with_rows(self, rows: slice) -> Self:
        fingerprints = self.fingerprints
        if isinstance(fingerprints, bytes) or len(fingerprints) != 1:
            fingerprints = self.each_fingerprint()[rows]
        values = [column[rows] for column in self.values]
        return replace(self, positions=self.positions[rows], values=values, fingerprints=fingerprints)

    def packed(self) -> bytes:
        """Return the part as bytes; raises `TypeError` or `ValueError` if a value cannot be stored.

        The latter is a `TooLargeError` if the rows may be stored in several parts.
        """
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
        size = bytes_header(size_of(values))
        if len(values) == 1:
            content = _encode([*before, values[0], *after])
            checked_size(len(content))
            return content
        # Copy the bytes of arrays, which may be large, only once.
        header = list_header(len(before) + 1 + len(after))
        pieces = [header, *map(_encode, before), size, *values, *map(_encode, after)]
        checked_size(size_of(pieces))
        return b"".join(pieces)

    @classmethod
    def unpacked(cls, content: bytes) -> Self:
        """Decode and check a part from the bytes that `packed` returned.

        Raises `ValueError` or `TypeError` for other bytes; a digest guards only against accidents.
        """
        fields: Any = _decode_fields(content)
        if len(fields) not in _PACKED_FIELDS:
            raise ValueError(f"a part has {_PACKED_FIELDS[-1]} fields, this one {len(fields)}")
        builder, columns, code, forgotten, finished, positions, values, fingerprints, artifacts, *rest = fields
        _check_names(builder, code, columns)
        _check_finished(finished)
        part = cls(
            builder,
            tuple(columns),
            code,
            tuple(_checked_positions(forgotten)),
            finished,
            _checked_positions(range(positions["start"], positions["stop"]) if type(positions) is dict else positions),
            unpack(values),
            fingerprints,
            {position: [tuple(record) for record in _checked_records(records)] for position, *records in artifacts},
            dict(rest[0]) if rest else {},
            rest[1] if len(rest) > 1 else False,
            msgspec.convert(dict(rest[2]), type=dict[int, int]) if len(rest) > 2 else {},
            msgspec.convert(dict(rest[3]), type=dict[int, Usage]) if len(rest) > 3 else {},
            {job.token: job for job in msgspec.convert(rest[4], type=list[JobRecord])} if len(rest) > 4 else {},
        )
        part._check_rows()
        part._check_facts_about_rows()
        return part

    def _check_rows(self) -> None:
        rows = len(self.positions)
        if type(self.values) is not list or not all(type(column) is list for column in self.values):
            raise ValueError("its values are not columns")
        widths = [len(column) for column in self.values]
        if widths != [rows] * len(self.columns) or (not widths and rows > _MAXIMUM_EMPTY_ROWS):
            raise ValueError("its columns differ in length")
        if not self._has_fingerprints(rows):
            raise ValueError("the fingerprints do not fit the rows")

    def _has_fingerprints(self, rows: int) -> bool:
        found: Any = self.fingerprints
        if type(found) is bytes:
            return len(found) == rows * FINGERPRINT_BYTES
        if type(found) is not list or not set(map(type, found)) <= {bytes}:
            return False
        return len(found) in (1, rows) and set(map(len, found)) <= {0, FINGERPRINT_BYTES}

    def _check_facts_about_rows(self) -> None:
        for positions in (self.artifacts, self.failures, self.calls):
            _checked_positions(list(positions))
        for job in self.jobs.values():
            _checked_positions(job.positions)
        _checked_positions([position for position in self.usage if position != WHOLE_BUILDER])
        if any(number < 0 for number in self.calls.values()):
            raise ValueError("invalid number of calls")
        if not all(type(record) is bytes for record in self.failures.values()):
            raise ValueError("invalid record of a failed row")
        if type(self.is_nested) is not bool:
            raise ValueError("invalid mark of nested cells")


def _check_names(builder: object, code: object, columns: object) -> None:
    if type(columns) is not list or not all(type(name) is str for name in (builder, code, *columns)):
        raise ValueError("a name is not text")
    if len(set(columns)) != len(columns):
        raise ValueError("two columns have one name")


def _checked_positions(positions: Any) -> Any:
    """Return positions of rows; raises `ValueError` unless they are a list or range of such numbers."""
    if type(positions) is range:
        is_valid = 0 <= positions.start <= positions.stop <= _MAXIMUM_ROWS
    else:
        is_valid = type(positions) is list and set(map(type, positions)) <= {int}
        if is_valid and positions:
            is_valid = min(positions) >= 0 and max(positions) < _MAXIMUM_ROWS
    if not is_valid:
        raise ValueError("invalid row position")
    return positions


def _checked_records(records: list[Any]) -> list[Any]:
    """Return records of artifacts; raises `ValueError` if one is invalid, or names a file elsewhere."""
    for record in records:
        path, size, digest = record
        if not (type(path) is str and is_inner_path(path) and type(size) is int and size >= 0 and type(digest) is str):
            raise ValueError("invalid record of an artifact")
    return records


def _check_finished(finished: Any) -> None:
    if finished is None:
        return
    total, frame = finished["total"], finished.get("frame")
    if type(total) is not int or not 0 <= total <= _MAXIMUM_ROWS:
        raise ValueError("invalid row count")
    if frame is not None and not (is_file_name(frame) and type(finished["fingerprint"]) is bytes):
        raise ValueError("invalid facts about its frame")
    rows = finished.get("rows")
    if rows is not None and not is_file_name(rows):
        raise ValueError("invalid facts about its rows")
    if frame is not None or rows is not None:
        _checked_records(finished["artifacts"])


def _packed_positions(positions: Sequence[int]) -> object:
    return {"start": positions.start, "stop": positions.stop} if isinstance(positions, range) else positions
