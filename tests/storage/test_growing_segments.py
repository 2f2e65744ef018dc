"""Segments that another interpreter appends to while they are read, and folders that lack a file of one."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tablevault.errors import TVFileError
from tablevault.storage.checkpoint_segments import SegmentFolder, _Reader
from tablevault.storage.checkpoints import CheckpointStore, read_checkpoints

SIZES = st.lists(st.integers(0, 40_000), min_size=1, max_size=8)


class GrowingFile:
    """A file that grows to the next size before each call."""

    def __init__(self, file, content, sizes):
        self._file = file
        self._rest = [content[start:stop] for start, stop in zip([0, *sizes], [*sizes, len(content)], strict=True)]
        self._path = file.name
        self.grow()

    def grow(self):
        if self._rest:
            with open(self._path, "ab") as target:
                target.write(self._rest.pop(0))

    def read(self, size=-1):
        self.grow()
        return self._file.read(size)

    def seek(self, *place):
        self.grow()
        return self._file.seek(*place)

    def fileno(self):
        self.grow()
        return self._file.fileno()


def records_of(folder, sizes):
    """Append records of these sizes; return the file and the parts."""
    log = SegmentFolder(folder)
    log.create()
    parts = [("fruit", bytes([number % 251]) * size) for number, size in enumerate(sizes)]
    for part in parts:
        log.append([part])
    log.abandon()
    return folder / "segment-1.log", parts


@settings(max_examples=200)
@given(SIZES, st.data())
def test_segment_that_grows_while_it_is_read_is_not_damaged(tmp_path_factory, sizes, data):
    folder = tmp_path_factory.mktemp("growing")
    source, parts = records_of(folder / "whole", sizes)
    content = source.read_bytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=12)))
    path = folder / "segment-1.log"
    path.touch()
    with path.open("rb") as file:
        found = list(_Reader(path, GrowingFile(file, content, cuts), is_closed=False).parts())
    assert found == parts[: len(found)]
    path.write_bytes(content)
    assert [(part.builder, part.content) for part in SegmentFolder(folder).read()] == parts
    shutil.rmtree(folder)


@pytest.mark.parametrize("place", [3, 20, 60, 400])
def test_damage_before_a_later_record_is_found_while_a_segment_grows(tmp_path, place):
    source, _ = records_of(tmp_path / "whole", [300, 300, 300])
    content = bytearray(source.read_bytes())
    content[place] ^= 1
    path = tmp_path / "segment-1.log"
    path.touch()
    with path.open("rb") as file, pytest.raises(TVFileError, match="damaged"):
        list(_Reader(path, GrowingFile(file, bytes(content), [0, 30, 700, 900]), is_closed=False).parts())


def attempt(folder, position):
    store = CheckpointStore.open(SegmentFolder(folder), None, None)
    store.begin("fruit", ("name",), "code")
    store.append("fruit", position, (f"{position}-ok",), bytes(16))
    store.close()


def test_last_segment_that_was_deleted_without_its_end_is_missed(tmp_path):
    attempt(tmp_path, 0)
    attempt(tmp_path, 1)
    (tmp_path / "segment-2.log").unlink()
    with pytest.raises(TVFileError, match="segment-2 of its checkpoints is missing"):
        read_checkpoints(tmp_path).load("fruit")
    attempt(tmp_path, 2)
    assert (tmp_path / "segment-3.log").exists()
    with pytest.raises(TVFileError, match="segment-2 of its checkpoints is missing"):
        read_checkpoints(tmp_path).load("fruit")


def test_segment_with_two_files_is_refused(tmp_path):
    attempt(tmp_path, 0)
    (tmp_path / "segment-1.db").touch()
    with pytest.raises(TVFileError, match=r"segment-1\.db and segment-1\.log"):
        read_checkpoints(tmp_path).load("fruit")


@pytest.mark.parametrize("name", ["segment-1.db", "segment-1.log", "segment-1.end"])
def test_folder_in_place_of_a_segment_is_refused(tmp_path, name):
    attempt(tmp_path, 0)
    if name != "segment-1.end":
        (tmp_path / "segment-1.log").unlink()
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    with pytest.raises(TVFileError, match=name):
        read_checkpoints(tmp_path).load("fruit")
