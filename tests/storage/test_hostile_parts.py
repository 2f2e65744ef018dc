"""Parts of checkpoints with any content and valid checksums: they are read, or the file is called damaged."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tablevault.errors import TVFileError
from tablevault.storage.checkpoint_segments import SegmentFolder
from tablevault.storage.checkpoints import read_checkpoints
from tablevault.storage.packing import _MAXIMUM_EMPTY_ARRAYS, pack, pack_columns, unpack

encode, Extension = msgspec.msgpack.encode, msgspec.msgpack.Ext
FIELDS = (
    *("builder", "columns", "code", "forgotten", "finished", "positions", "values", "fingerprints", "artifacts"),
    *("failures", "is_nested", "calls", "usage", "jobs"),
)
SOUND = dict(
    zip(
        FIELDS,
        ("b", ["x"], "code", [], None, {"start": 0, "stop": 2}, pack([[1, 2]]), [bytes(16)], [], [], False, [], [], []),
        strict=True,
    )
)
FRAME = {"total": 2, "frame": "b-1.parquet", "fingerprint": b"", "artifacts": []}


def load(folder, **fields):
    log = SegmentFolder(folder)
    log.create()
    log.append([("b", encode(list({**SOUND, **fields}.values())))])
    log.close()
    return read_checkpoints(folder).load("b")


def extension(code, content):
    return encode([[Extension(code, content), 1]])


def time_of_zone(zone):
    return extension(2, encode(["2020-01-01", zone, None, 0]))


def arrays(count, are_alike, shapes, content=b""):
    head = encode(["<f8", count, are_alike, shapes])
    return encode([Extension(12, len(head).to_bytes(4, "little") + head + content)])


def test_sound_part_is_read(tmp_path):
    state = load(tmp_path)
    assert (state.positions, state.values, state.fingerprints) == ([0, 1], ([1, 2],), [bytes(16)] * 2)


@pytest.mark.parametrize(
    "fields",
    [
        {"artifacts": [[0, ["a"]]]},
        {"artifacts": [[0, ["a", -1, "x"]]]},
        {"artifacts": [[0, ["../../kept.txt", 1, "x"]]]},
        {"artifacts": [[0, ["/etc/hostname", 1, "x"]]]},
        {"artifacts": [[2**40, ["a", 1, "x"]]]},
        {"finished": {**FRAME, "artifacts": [["a"]]}},
        {"finished": {name: fact for name, fact in FRAME.items() if name != "artifacts"}},
        {"finished": {**FRAME, "frame": "../x.parquet"}},
        {"finished": {"total": 2**62}},
        {"finished": {"total": True}},
        {"finished": [2]},
        {"values": time_of_zone("America")},
        {"values": time_of_zone("a" * 5000)},
        {"values": time_of_zone("../../etc/passwd")},
        {"values": extension(1, b"\1" * 100_000)},
        {"values": extension(99, b"")},
        {"values": pack(["ab"])},
        {"values": arrays(2, True, [-1], bytes(16))},
        {"values": arrays(10**7, True, [0])},
        {"values": arrays(10**15, True, [0])},
        {"values": arrays(2, False, [[-1], [-1]], bytes(16))},
        {"positions": [0, 2**40]},
        {"positions": [0, 2**64 - 1]},
        {"positions": {"start": 2**40, "stop": 2**40 + 2}},
        {"positions": {"start": -2, "stop": 0}},
        {"positions": {"start": 5, "stop": 2}},
        {"positions": [True, False]},
        {"positions": [0.0, 1.0]},
        {"positions": "ab"},
        {"columns": [], "values": pack([]), "positions": {"start": 0, "stop": 2**30}},
        {"columns": "x"},
        {"columns": ["x", "x"], "values": pack([[1, 2], [1, 2]])},
        {"fingerprints": ["0" * 16]},
        {"fingerprints": [b"0"]},
        {"fingerprints": b"0" * 33},
        {"forgotten": [2**63]},
        {"failures": [[2**40, b"x"]]},
        {"failures": [[0, "x"]]},
        {"is_nested": "x"},
        {"calls": [[0, -1]]},
        {"usage": [[2**50, [1, 2]]]},
        {"jobs": [["token", [2**40], "code", 0.0]]},
    ],
    ids=str,
)
def test_part_that_no_release_writes_is_damaged(tmp_path, fields):
    with pytest.raises(TVFileError, match=r"segment-1\.log: this checkpoint file is damaged"):
        load(tmp_path, **fields)


ITEMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([-1, 0, 1, 2, 2**31, 2**32, 2**40, 2**63, math.nan, math.inf, "", "x", "../x", b"", b"0" * 16]),
    st.text(max_size=5),
    st.binary(max_size=40),
    st.builds(Extension, st.integers(-5, 20), st.binary(max_size=20)),
)
CONTENTS = st.recursive(
    ITEMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["start", "stop", "total", "frame", "fingerprint", "artifacts"]), inner),
    ),
    max_leaves=8,
)


@settings(max_examples=500)
@given(st.dictionaries(st.sampled_from(FIELDS), CONTENTS, max_size=3), st.booleans())
def test_part_of_any_content_is_read_or_damaged(tmp_path_factory, fields, is_packed):
    if is_packed and "values" in fields:
        fields["values"] = encode(fields["values"])
    try:
        state = load(tmp_path_factory.mktemp("part"), **fields)
    except TVFileError:
        return
    if state is not None:
        rows = len(state.positions)
        assert all(len(column) == rows for column in state.values)
        assert len(state.fingerprints) == len(state.codes) == rows
        assert all(type(position) is int and 0 <= position < 2**32 for position in state.positions)


@pytest.mark.parametrize("count", [3, _MAXIMUM_EMPTY_ARRAYS, _MAXIMUM_EMPTY_ARRAYS + 1])
def test_arrays_without_items_come_back(count):
    empty = np.zeros((2, 0), np.float32)
    (column,) = unpack(b"".join(map(bytes, pack_columns([[empty] * count]))))
    assert len(column) == count
    assert {(array.shape, array.dtype.str) for array in column[:3] + column[-3:]} == {((2, 0), "<f4")}


@pytest.mark.parametrize(("field", "value"), [("positions", [0, 6]), ("finished", {"total": 7}), ("positions", [0, 9])])
def test_builder_with_more_rows_than_its_instance_is_damaged(tmp_path, field, value):
    load(tmp_path, **{field: value})
    assert read_checkpoints(tmp_path).load("b", 20 if field == "positions" else 7) is not None
    with pytest.raises(TVFileError, match="but the instance has 6"):
        read_checkpoints(tmp_path).load("b", 6)
