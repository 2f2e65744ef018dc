"""Rows that exceed the maximum size of one part are stored in several; a row that exceeds it alone is refused."""

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tablevault.storage import packing
from tablevault.storage.checkpoint_segments import SegmentFolder
from tablevault.storage.checkpoints import CheckpointStore, read_checkpoints
from tablevault.storage.packing import MAXIMUM_BYTES, TooLargeError, bytes_header, checked_size
from tablevault.values.processes import Usage

LIMIT = 200_000
"""Maximum size in these tests, instead of 4 GiB."""
FITTING, TOO_LARGE = 120_000, 230_000
"""Bytes of rows that fit into a part, and that do not."""


@pytest.fixture
def limit(monkeypatch):
    monkeypatch.setattr(packing, "MAXIMUM_BYTES", LIMIT)


def value_of(kind, position, size):
    match kind:
        case "text":
            return str(position % 10) * size
        case "array":
            return np.full(size // 8, position, np.float64)
        case "list of arrays":
            return [np.full(size // 16, position, np.float64)] * 2
    return bytes([position % 251]) * size


def is_same(one, other):
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return np.array_equal(one, other)


def test_sizes_that_messagepack_cannot_express_are_refused():
    assert bytes_header(checked_size(MAXIMUM_BYTES)) == b"\xc6\xff\xff\xff\xff"
    with pytest.raises(TooLargeError, match="4,294,967,296 bytes"):
        bytes_header(MAXIMUM_BYTES + 1)


def test_value_that_messagepack_refuses_is_too_large(monkeypatch):
    def refuse(value):
        raise msgspec.EncodeError("Can't encode bytes-like objects longer than 2**32 - 1")

    monkeypatch.setattr(packing, "_encode", refuse)
    for write in (packing.pack, packing.pack_columns, lambda columns: packing.pack_columns(columns, are_atoms=True)):
        with pytest.raises(TooLargeError, match="longer than"):
            write([["x"]])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["text", "array", "list of arrays", "bytes"]),
    st.lists(st.one_of(st.integers(0, 2_000), st.integers(0, FITTING)), max_size=12),
    st.booleans(),
)
def test_rows_of_one_flush_are_split_before_the_limit(limit, tmp_path_factory, kind, sizes, is_wide):
    folder = tmp_path_factory.mktemp("parts")
    columns = ("x", "n") if is_wide else ("x",)
    store = CheckpointStore.open(SegmentFolder(folder), None, None)
    store.begin("b", columns, "code")
    store.append("b", 0, (None,) * len(columns), bytes(16))
    store.flush()
    store.forget("b", [0])
    values = [value_of(kind, position, size) for position, size in enumerate(sizes)]
    for position, value in enumerate(values):
        fingerprint = position.to_bytes(16, "big")
        store.append("b", position, (value, position) if is_wide else (value,), fingerprint)
    store.append_failure("b", len(values), b"failure")
    store.count_calls("b", len(values), 3)
    store.add_usage("b", 0, Usage(calls=2))
    store.finish("b", len(values) + 1)
    store.close()
    state = read_checkpoints(folder).load("b")
    assert state.positions == list(range(len(values)))
    assert all(map(is_same, state.values[0], values))
    assert not is_wide or state.values[1] == state.positions
    assert state.fingerprints == [position.to_bytes(16, "big") for position in state.positions]
    assert (state.done, state.total, state.failures) == (True, len(values) + 1, {len(values): b"failure"})
    assert (state.calls, state.usage) == ({len(values): 3}, {0: Usage(calls=2)})
    assert all(len(part.content) <= LIMIT for part in SegmentFolder(folder).read())


@pytest.mark.parametrize("kind", ["text", "array", "list of arrays", "bytes"])
def test_row_that_is_too_large_is_refused_alone(limit, tmp_path, kind):
    store = CheckpointStore.open(SegmentFolder(tmp_path), None, None)
    store.begin("b", ("x",), "code")
    for position in range(5):
        value = value_of(kind, position, TOO_LARGE if position == 3 else FITTING)
        store.append("b", position, (value,), bytes(16))
    with pytest.raises(ValueError, match=r"builder 'b', row 3, column 'x': the value cannot be stored \("):
        store.flush()
    store.flush()
    store.close()
    assert read_checkpoints(tmp_path).load("b").positions == [0, 1, 2, 4]


def test_row_whose_values_are_too_large_together_is_refused_alone(limit, tmp_path):
    store = CheckpointStore.open(SegmentFolder(tmp_path), None, None)
    store.begin("b", ("x", "y"), "code")
    for position in range(3):
        size = FITTING if position == 1 else 10
        store.append("b", position, (b"x" * size, b"y" * size), bytes(16))
    with pytest.raises(ValueError, match="builder 'b', row 1: its values cannot be stored together"):
        store.flush()
    store.flush()
    store.close()
    assert read_checkpoints(tmp_path).load("b").positions == [0, 2]


def test_artifacts_stay_with_their_rows_when_rows_are_split(limit, tmp_path):
    from tablevault.storage.artifact_commits import ArtifactCommits

    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    store = CheckpointStore.open(SegmentFolder(tmp_path / "c"), ArtifactCommits(artifacts), None)
    store.begin("b", ("name", "x"), "code")
    for position in range(6):
        (artifacts / f"{position}.txt").write_text(str(position))
        store.append("b", position, (f"{position}.txt", b"x" * FITTING), bytes(16), (f"{position}.txt",))
    store.close()
    state = read_checkpoints(tmp_path / "c").load("b")
    assert {position: [record.path for record in records] for position, records in state.artifacts.items()} == {
        position: [f"{position}.txt"] for position in range(6)
    }
