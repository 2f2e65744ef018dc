"""Rows far from the beginning of a row group equal those of a full read."""

from __future__ import annotations

import decimal
import random
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tablevault.storage import frame_files
from tablevault.storage.distant_rows import UnknownPageError, read_distant_rows
from tablevault.storage.frames import read_frame, table_from_frame, write_frame
from tablevault.values.contents import Page

ROWS = 5_000


def columns():
    choice = random.Random(1)
    missing = [choice.random() < 0.2 for _ in range(ROWS)]

    def values(make):
        return [None if is_missing else make(row) for row, is_missing in enumerate(missing)]

    return {
        "row": pa.array(range(ROWS)),
        "few": pa.array(values(lambda row: f"word {row % 7}")),
        "text": pa.array(values(lambda row: "ü" * choice.randrange(60) + str(row))),
        "half": pa.array(values(lambda row: row / 2)),
        "flag": pa.array(values(lambda row: row % 3 == 0)),
        "price": pa.array(values(lambda row: decimal.Decimal(row) / 4), pa.decimal128(12, 2)),
        "when": pa.array(values(lambda row: datetime.fromtimestamp(row, UTC)), pa.timestamp("us", "UTC")),
        "nothing": pa.nulls(ROWS),
        "bytes": pa.array(values(lambda row: bytes([row % 256]) * 9), pa.binary(9)),
    }


def spans(metadata):
    found = {}
    for number in range(metadata.num_columns):
        chunk = metadata.row_group(0).column(number)
        start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        found[chunk.path_in_schema] = (start, chunk.total_compressed_size)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"data_page_version": "2.0", "write_statistics": False},
        {"use_dictionary": False, "compression": "none", "write_page_checksum": True},
        {"use_dictionary": False, "column_encoding": {"row": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY"}},
    ],
)
def test_rows_are_those_of_the_whole_column(tmp_path, options):
    table = pa.table(columns())
    path = tmp_path / "frame.parquet"
    pq.write_table(table, path, data_page_size=700, write_batch_size=64, **options)
    metadata = pq.read_metadata(path)
    assert metadata.num_row_groups == 1
    choice = random.Random(2)
    with path.open("rb") as file:
        for _ in range(20):
            offset = choice.randrange(ROWS)
            rows = choice.randrange(1, min(300, ROWS - offset) + 1)
            found = read_distant_rows(file, metadata, 0, spans(metadata), offset, rows)
            assert pa.table(found).combine_chunks() == table.slice(offset, rows).combine_chunks()


def test_damaged_headers_are_refused_or_read_as_they_say(tmp_path):
    path = tmp_path / "frame.parquet"
    pq.write_table(pa.table({"row": columns()["row"]}), path, data_page_size=700, write_batch_size=64)
    metadata = pq.read_metadata(path)
    ((start, size),) = spans(metadata).values()
    content, choice = path.read_bytes(), random.Random(3)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(choice.randrange(1, 4)):
            damaged[start + choice.randrange(min(size, 60))] = choice.randrange(256)
        path.write_bytes(damaged)
        with path.open("rb") as file:
            try:
                read_distant_rows(file, metadata, 0, {"row": (start, size)}, 4_000, 10)
            except UnknownPageError:
                refused += 1
            except (OSError, pa.ArrowException):
                pass
    assert refused


def test_pages_of_frames_are_read_from_the_middle(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_files, "_DISTANT", 100)
    path = tmp_path / "frame.parquet"
    frame = pd.DataFrame(
        {
            "row": range(70_000),
            "list": [[row, row] if row % 5 else None for row in range(70_000)],
            "word": pd.Categorical([f"w{row % 11}" for row in range(70_000)]),
        }
    )
    write_frame(path, table_from_frame(frame, {}))
    whole = read_frame(path).table
    for offset, rows, names in ((66_000, 3, None), (69_990, 100, ["word", "list"]), (65_600, 1, ["list"])):
        wanted = whole if names is None else whole.select(names)
        assert read_frame(path, names, Page(offset, rows)).table.equals(wanted.slice(offset, rows))
    # Without a known layout of its pages, everything before is decoded.
    read, decoded = frame_files._read, []
    monkeypatch.setattr(frame_files, "_read", lambda *given: decoded.append(1) or read(*given))
    assert read_frame(path, ["row"], Page(66_000, 1)).table["row"].to_pylist() == [66_000]
    assert decoded == []

    def unknown(*_given):
        raise UnknownPageError

    monkeypatch.setattr(frame_files, "read_distant_rows", unknown)
    assert read_frame(path, ["row"], Page(66_000, 1)).table["row"].to_pylist() == [66_000]
    assert decoded == [1]
