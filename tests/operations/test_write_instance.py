"""Frames made elsewhere, which are accepted, stored unchanged, or refused."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest

from tablevault import tv_errors


@pytest.fixture
def written(vault):
    """A vault with a table `written` that waits for a frame."""
    vault.create_table("written")
    vault.create_instance("written", external_edit=True)
    return vault


def read_back(vault, frame, **options):
    vault.write_instance(frame, "written", **options)
    return vault.get_dataframe("written")[0]


FRAMES = {
    "pandas": lambda: pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}),
    "pandas with an index": lambda: pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}, index=[7, 3]),
    "polars": lambda: polars.DataFrame({"x": [1, 2], "y": ["a", "b"]}),
    "arrow": lambda: pa.table({"x": [1, 2], "y": ["a", "b"]}),
    "arrow capsule": lambda: Capsule(pa.table({"x": [1, 2], "y": ["a", "b"]})),
}


class Capsule:
    """Anything with Arrow's PyCapsule interface."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_of_every_library_are_written(written, kind):
    frame = read_back(written, FRAMES[kind]())
    assert frame.to_dict("list") == {"x": [1, 2], "y": ["a", "b"]}
    assert list(frame.index) == [0, 1]


@pytest.mark.parametrize("frame", [[1, 2], {"x": [1]}, "text", 7, pd.Series([1], name="x"), None])
def test_invalid_frame_is_refused(written, frame):
    with pytest.raises(tv_errors.TableVaultError):
        written.write_instance(frame, "written")


def test_column_types_are_preserved(written):
    frame = pd.DataFrame(
        {
            "small": np.array([1, 2], dtype="int8"),
            "unsigned": np.array([1, 2**64 - 1], dtype="uint64"),
            "real": [0.5, float("nan")],
            "flag": [True, False],
            "missing": pd.array([1, None], dtype="Int64"),
            "text": ["a", None],
            "kind": pd.Categorical(["u", "v"]),
            "when": pd.to_datetime(["2024-01-01", "2024-01-02"]),
            "zoned": pd.to_datetime(["2024-01-01", "2024-01-02"], utc=True),
            "span": pd.to_timedelta([1, 2], unit="s"),
        }
    )
    pd.testing.assert_frame_equal(read_back(written, frame), frame)


def test_values_without_a_type_of_their_own_are_kept(written):
    frame = read_back(
        written,
        pd.DataFrame(
            {
                "list": [[1, 2], []],
                "dict": [{"a": 1}, {"b": [2]}],
                "mixed": [1, "one"],
                "day": [date(2024, 1, 1), None],
            }
        ),
    )
    assert [list(cell) for cell in frame["list"]] == [[1, 2], []]
    assert list(frame["dict"]) == [{"a": 1}, {"b": [2]}]
    assert list(frame["mixed"]) == [1, "one"]
    assert frame["day"][0] == date(2024, 1, 1)


def test_an_empty_frame_is_written(written):
    frame = read_back(written, pd.DataFrame({"x": pd.array([], dtype="int64")}))
    assert list(frame.columns) == ["x"]
    assert len(frame) == 0


def test_dtypes_are_applied(written):
    frame = read_back(
        written,
        pd.DataFrame({"a": [1, 2], "b": ["1", "2"], "c": [[1], [2]], "d": [{"k": 1}, None]}),
        dtypes={"a": "float64", "b": "string", "c": "list<float32>", "d": "json"},
    )
    assert frame["a"].tolist() == [1.0, 2.0]
    assert str(frame["a"].dtype).lower() == "float64"
    assert frame["d"][0] == {"k": 1}


@pytest.mark.parametrize(
    ("frame", "dtypes", "match"),
    [
        ({"a": ["x"]}, {"a": "int64"}, r"'a'.*row 0"),
        ({"a": [1, 300]}, {"a": "int8"}, r"'a'.*row 1"),
        ({"a": [1.0, 1.5]}, {"a": "int64"}, r"'a'.*row 1"),
        ({"a": [datetime(2024, 1, 1), "noon"]}, {"a": "datetime64[ns]"}, r"'a'.*row 1"),
        ({"a": ["a", 1]}, {"a": "string"}, r"'a'.*row 1"),
        ({"a": ["yes"]}, {"a": "bool"}, r"'a'.*row 0"),
    ],
)
def test_value_outside_its_dtype_is_an_error_naming_column_and_row(written, frame, dtypes, match):
    with pytest.raises(tv_errors.TVTableError, match=match):
        written.write_instance(pd.DataFrame(frame), "written", dtypes=dtypes)


@pytest.mark.parametrize("dtypes", [{"a": "int46"}, {"a": 7}, "int64", ["int64"]])
def test_a_wrong_dtype_is_an_argument_error(written, dtypes):
    with pytest.raises(tv_errors.TVArgumentError):
        written.write_instance(pd.DataFrame({"a": [1]}), "written", dtypes=dtypes)


def test_dtype_of_a_missing_column_is_refused(written):
    with pytest.raises(tv_errors.TableVaultError, match="did you mean 'a1'"):
        written.write_instance(pd.DataFrame({"a1": [1]}), "written", dtypes={"a2": "int64"})


WRONG_COLUMNS = {
    "index": pd.DataFrame({"index": [1]}),
    "empty": pd.DataFrame({"": [1]}),
    "duplicate": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "number": pd.DataFrame({7: [1]}),
    "none": pd.DataFrame({None: [1]}),
    "levels": pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
    "duplicate in arrow": pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]),
}


@pytest.mark.parametrize("kind", WRONG_COLUMNS)
def test_a_wrong_column_name_is_a_table_error(written, kind):
    with pytest.raises(tv_errors.TVTableError, match="(?i)column|name"):
        written.write_instance(WRONG_COLUMNS[kind], "written")


@pytest.mark.parametrize("name", ["Index", "with space", "üñí", "a.b", "<<x>>", "'quoted'", "\n", "x" * 300])
def test_any_other_text_is_a_column_name(written, name):
    frame = read_back(written, pd.DataFrame({name: [1, 2]}))
    assert list(frame) == [name]
    assert frame[name].tolist() == [1, 2]


KEYED = """
builder_type: IndexBuilder
changed_columns: [k, l]
primary_key: [k, l]
python_function: rows
code_module: words
"""


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"k": [1, None], "l": [1, 2]}, "'k' is null in row 1"),
        ({"k": [1, 2, 1], "l": ["a", "b", "a"]}, "rows 0 and 2"),
        ({"k": [1]}, "'l' is not in the frame"),
    ],
)
def test_a_null_duplicate_or_missing_primary_key_is_a_table_error(vault, keys, match):
    vault.create_table("written")
    vault.create_instance("written", external_edit=True, builders={"written_index": KEYED})
    with pytest.raises(tv_errors.TVTableError, match=match):
        vault.write_instance(pd.DataFrame(keys), "written")
    vault.write_instance(pd.DataFrame({"k": [1, 1], "l": [1, 2]}), "written")


def test_the_caller_s_frame_is_never_modified(written):
    frame = pd.DataFrame({"a": [1, 2], "b": [{"k": 1}, [2]], "c": [1.5, None]}, index=[7, 8])
    frame.attrs["note"] = "mine"
    before = frame.copy(deep=True)
    written.write_instance(frame, "written", dtypes={"a": "float64", "b": "json"})
    pd.testing.assert_frame_equal(frame, before)
    assert frame.attrs == {"note": "mine"}


def test_a_later_change_of_the_caller_s_frame_does_not_reach_the_vault(written):
    frame = pd.DataFrame({"a": [1, 2]})
    written.write_instance(frame, "written")
    frame.loc[0, "a"] = 99
    assert written.get_dataframe("written")[0]["a"].tolist() == [1, 2]


def test_dependencies_are_in_the_lineage(written):
    source = read_back(written, pd.DataFrame({"a": [1]}))
    assert len(source) == 1
    _, instance_id = written.get_dataframe("written")
    written.create_table("derived")
    written.create_instance("derived", external_edit=True)
    written.write_instance(pd.DataFrame({"b": [2]}), "derived", dependencies=[("written", instance_id)])
    assert instance_id in repr(written.get_lineage("derived"))


@pytest.mark.parametrize(
    "dependencies", [[("nothing", "base_1_2")], [("written", "base_1_2")], ["written"], [("written",)], [7], "written"]
)
def test_wrong_dependencies_are_an_argument_error(written, dependencies):
    with pytest.raises(tv_errors.TVArgumentError):
        written.write_instance(pd.DataFrame({"a": [1]}), "written", dependencies=dependencies)


def test_a_frame_is_only_written_where_no_builders_are(vault):
    vault.create_table("built")
    vault.create_instance("built")
    with pytest.raises(tv_errors.TVArgumentError, match="external_edit=True"):
        vault.write_instance(pd.DataFrame({"a": [1]}), "built")


def test_a_frame_written_twice_needs_a_new_instance(written):
    written.write_instance(pd.DataFrame({"a": [1]}), "written")
    with pytest.raises(tv_errors.TVArgumentError, match="create_instance"):
        written.write_instance(pd.DataFrame({"a": [1]}), "written")


def test_another_frame_under_the_id_of_a_success_is_refused(written):
    written.write_instance(pd.DataFrame({"a": [1]}), "written", process_id="mine")
    with pytest.raises(tv_errors.TVProcessError, match="table_df"):
        written.write_instance(pd.DataFrame({"a": [2]}), "written", process_id="mine")
    with pytest.warns(tv_errors.TableVaultWarning, match="already succeeded"):
        written.write_instance(pa.table({"a": [1]}), "written", process_id="mine")


# --- artifacts ----------------------------------------------------------------------------------------------------

ARTIFACT = {"file": "artifact_string"}


def put(vault, *names):
    folder = Path(vault.get_artifact_folder("written"))
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_artifacts_are_taken_over_and_read_back_as_full_paths(written):
    folder = put(written, "a.txt", "deep/b.txt")
    frame = read_back(written, pd.DataFrame({"file": ["a.txt", "deep/b.txt", None]}), dtypes=ARTIFACT)
    assert [Path(cell).read_text() for cell in frame["file"].dropna()] == ["a.txt", "deep/b.txt"]
    assert not folder.exists()
    bare, instance_id = written.get_dataframe("written", full_artifact_path=False)
    assert bare["file"].tolist()[:2] == ["a.txt", "deep/b.txt"]
    assert Path(written.get_artifact_folder("written", instance_id)) == Path(frame["file"][0]).parent


def test_every_missing_and_every_unnamed_file_is_listed(written):
    put(written, "stray.txt", "other.txt")
    with pytest.raises(tv_errors.TVArtifactError) as caught:
        written.write_instance(pd.DataFrame({"file": ["a.txt", "b.txt"]}), "written", dtypes=ARTIFACT)
    for name in ("a.txt", "b.txt", "stray.txt", "other.txt"):
        assert name in str(caught.value)
    assert "row 1" in str(caught.value)


def test_hidden_files_need_no_name(written):
    put(written, "a.txt", ".DS_Store", ".hidden")
    read_back(written, pd.DataFrame({"file": ["a.txt"]}), dtypes=ARTIFACT)


@pytest.mark.parametrize("name", ["/etc/hostname", "../outside.txt", "deep/../../outside.txt", "", ".", 7])
def test_a_path_that_leaves_the_folder_is_an_artifact_error(written, name):
    put(written, "a.txt")
    with pytest.raises((tv_errors.TVArtifactError, tv_errors.TVTableError), match="row 1"):
        written.write_instance(pd.DataFrame({"file": ["a.txt", name]}), "written", dtypes=ARTIFACT)


def test_a_link_that_leaves_the_folder_is_an_artifact_error(written, tmp_path):
    (tmp_path / "outside.txt").write_text("secret")
    folder = put(written, "a.txt")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(tv_errors.TVArtifactError, match=r"link\.txt"):
        written.write_instance(pd.DataFrame({"file": ["a.txt", "link.txt"]}), "written", dtypes=ARTIFACT)


def test_a_time_zone_is_kept(written):
    moment = datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert read_back(written, pd.DataFrame({"t": [moment]}))["t"][0] == moment


def test_texts_of_polars_are_plain_texts_wherever_they_are(written):
    frame = polars.DataFrame(
        {"text": ["a", None], "list": [["x"], []], "struct": [{"k": "v"}, {"k": "w"}], "bytes": [b"1", b"2"]}
    ).with_columns(polars.col("text").cast(polars.Categorical).alias("kind"))
    back = read_back(written, frame)
    assert back["text"].isna().tolist() == [False, True]
    assert back["kind"].tolist()[0] == "a"
    assert [list(cell) for cell in back["list"]] == [["x"], []]
    assert back["struct"].tolist() == [{"k": "v"}, {"k": "w"}]
    assert back["bytes"].tolist() == [b"1", b"2"]
    again = written.get_dataframe("written", format="polars")[0]
    assert again["text"].to_list() == ["a", None]
    assert again["list"].to_list() == [["x"], []]
