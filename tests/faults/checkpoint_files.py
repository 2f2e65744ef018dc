"""Segments of checkpoints with other parts, also in the format of earlier versions."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

import xxhash

from tablevault.storage.checkpoint_segments import SegmentFolder

Parts = Sequence[tuple[str, bytes]]


def parts_in(folder: Path) -> Parts:
    """Return the packed parts in a folder of segments, each with its builder."""
    return [(part.builder, part.content) for part in SegmentFolder(folder).read()]


def write_segment(segment: Path, parts: Parts, is_closed: bool = True) -> None:
    """Replace the first segment of a folder."""
    end = segment.with_suffix(".end")
    with tempfile.TemporaryDirectory() as folder:
        log = SegmentFolder(Path(folder))
        for part in parts:
            log.append([part])
        if parts and is_closed:
            log.close()
        log.abandon()
        for path in (segment, end):
            made = Path(folder) / path.name
            path.unlink(missing_ok=True)
            if made.exists():
                path.write_bytes(made.read_bytes())


def write_sqlite_segment(segment: Path, parts: Parts) -> None:
    """Write a segment as earlier versions did."""
    with contextlib.closing(sqlite3.connect(segment, isolation_level=None)) as connection:
        connection.execute("PRAGMA application_id=1414947696")
        connection.execute("PRAGMA user_version=7")
        connection.execute(
            "CREATE TABLE part (number INTEGER PRIMARY KEY, builder TEXT NOT NULL, content BLOB NOT NULL,"
            " digest BLOB NOT NULL)"
        )
        connection.execute("PRAGMA journal_mode=WAL")
        for number, (builder, content) in enumerate(parts, start=1):
            digest = xxhash.xxh3_128(f"{number}:{builder}:".encode() + content).digest()
            connection.execute("INSERT INTO part VALUES (?, ?, ?, ?)", (number, builder, content, digest))


def make_sqlite(segment: Path) -> Path:
    """Replace a segment by the same in the format of earlier versions; return its path."""
    parts = parts_in(segment.parent)
    earlier = segment.with_suffix(".db")
    write_sqlite_segment(earlier, parts)
    segment.unlink()
    segment.with_suffix(".end").unlink(missing_ok=True)
    return earlier
