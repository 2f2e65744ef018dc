import datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from tablevault.errors import TVFileError
from tablevault.ports import Frame
from tablevault.storage import frame_files, reference_frames
from tablevault.storage.dtypes import build_column, parse_dtype
from tablevault.storage.frames import MemoryFrame, StoredFrame, check_frame, frame_of_columns, write_frame

COLUMNS = {
    "name": ["a", None, "c"],
    "size": [1, 2, None],
    "score": [{"x": 1}, None, [1, "a"]],
    "file": ["a.pdf", None, "c/d.pdf"],
    "group": ["u", "v", "u"],
    "when": [datetime.datetime(2020, 1, 1), None, datetime.datetime(2020, 1, 2, 3)],
}
TYPES = {"file": parse_dtype("artifact_string"), "group": parse_dtype("category")}
NAMES = list(COLUMNS)


@pytest.fixture
def path(tmp_path):
    built = {name: build_column(values, TYPES.get(name)) for name, values in COLUMNS.items()}
    write_frame(tmp_path / "frame", frame_of_columns(built))
    return tmp_path / "frame"


@pytest.fixture(params=["stored", "memory"])
def frame(request, path) -> Frame:
    return StoredFrame(path) if request.param == "stored" else MemoryFrame(COLUMNS, TYPES)


def test_a_frame_has_names_and_a_length(frame):
    assert list(frame.column_names) == NAMES
    assert len(frame) == 3


@pytest.mark.parametrize("name", NAMES)
def test_values_are_plain_python_values(frame, name):
    assert frame.values(name) == COLUMNS[name]
    assert [type(value) for value in frame.values(name)] == [type(value) for value in COLUMNS[name]]


def test_an_unknown_column_is_a_key_error(frame):
    for ask in (frame.values, frame.arrow_type, lambda name: frame.data_frame([name], None)):
        with pytest.raises(KeyError, match="colour"):
            ask("colour")


def test_the_types_of_values_are_arrow_types(frame):
    names = ["string", "int64", str(pa.json_()), "string", "string", "timestamp[us]"]
    assert [str(frame.arrow_type(name)) for name in NAMES] == names


def test_a_data_frame_has_the_columns_and_rows_asked_for_in_nullable_types(frame):
    dtypes = ["string", "Int64", "object", "string", "category", "datetime64[us]"]
    whole = frame.data_frame(None, None)
    assert [str(dtype) for dtype in whole.dtypes] == dtypes
    part = frame.data_frame(["size", "name"], [2, 0])
    assert_frame_equal(
        part, pd.DataFrame({"size": pd.array([None, 1], "Int64"), "name": pd.array(["c", "a"], "string")})
    )
    assert [str(dtype) for dtype in frame.data_frame(None, []).dtypes.iloc[:2]] == dtypes[:2] or isinstance(
        frame, MemoryFrame
    )


def test_changing_a_data_frame_changes_nothing_else(frame):
    first = frame.data_frame(["size"], None)
    first.loc[0, "size"] = 99
    assert frame.data_frame(["size"], None)["size"][0] == 1
    assert frame.values("size")[0] == 1


def test_paths_of_artifacts_are_full_where_the_folder_is_known(path, tmp_path):
    frame = StoredFrame(path, tmp_path / "artifacts")
    full = [f"{tmp_path}/artifacts/a.pdf", None, f"{tmp_path}/artifacts/c/d.pdf"]
    assert frame.values("file") == full
    assert frame.data_frame(["file"], [0, 2])["file"].tolist() == [full[0], full[2]]


@pytest.mark.parametrize("is_small", [True, False])
def test_a_stored_column_is_read_when_it_is_first_asked_for_and_only_once(path, monkeypatch, is_small):
    read = []
    original = reference_frames.read_frame

    def recording(path, columns):
        read.extend(columns)
        return original(path, columns)

    monkeypatch.setattr(reference_frames, "read_frame", recording)
    if not is_small:
        monkeypatch.setattr(reference_frames, "_SMALL_FILE", 0)
    frame = StoredFrame(path)
    assert read == []
    assert frame.values("name") is frame.values("name")
    # A small file is read as a whole, since opening it costs more.
    assert read == (list(frame.column_names) if is_small else ["name"])
    for name in frame.column_names:
        assert frame.values(name) is frame.values(name)
    assert sorted(read) == sorted(frame.column_names)


def test_fault_of_a_file_shows_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        StoredFrame(tmp_path / "missing")
    (tmp_path / "file").write_bytes(b"PAR1 and more")
    with pytest.raises(TVFileError):
        StoredFrame(tmp_path / "file")


def test_a_frame_being_built_shows_the_rows_that_are_there():
    columns = {"a": [1], "b": []}
    frame = MemoryFrame(columns, {})
    columns["a"].append(2)
    columns["b"].extend(["x", "y"])
    assert len(frame) == 2
    assert frame.data_frame(None, None).to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}


@pytest.fixture
def wide_path(tmp_path):
    built = {f"c{number}": build_column([number, None], None) for number in range(300)}
    write_frame(tmp_path / "wide", frame_of_columns(built))
    return tmp_path / "wide"


def count_reads(monkeypatch, module):
    reads = []
    original = module.read_frame

    def recording(path, columns=None):
        reads.append(columns)
        return original(path, columns)

    monkeypatch.setattr(module, "read_frame", recording)
    return reads


def test_columns_of_a_wide_frame_are_read_in_few_reads(wide_path, monkeypatch):
    reads = count_reads(monkeypatch, reference_frames)
    frame = StoredFrame(wide_path)
    assert [frame.values(name) for name in frame.column_names] == [[number, None] for number in range(300)]
    assert frame.data_frame(["c7", "c299"], None)["c299"].tolist()[0] == 299
    assert len(reads) <= 4


def test_a_damaged_column_of_a_wide_frame_spoils_no_other(wide_path):
    whole = wide_path.read_bytes()
    place = pq.ParquetFile(wide_path).metadata.row_group(0).column(7).data_page_offset
    wide_path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    frame = StoredFrame(wide_path)
    assert frame.values("c6") == [6, None]
    assert frame.values("c8") == [8, None]
    with pytest.raises(TVFileError, match="checksum"):
        frame.values("c7")


def test_a_wide_frame_is_checked_in_few_reads(wide_path, monkeypatch):
    reads = count_reads(monkeypatch, frame_files)
    check_frame(wide_path)
    assert sorted(name for block in reads for name in block) == sorted(StoredFrame(wide_path).column_names)
    assert len(reads) == 1
