"""One set of artifacts for a table, or one for each instance."""

from __future__ import annotations

from pathlib import Path

import pytest
from operated import build, column_builder, index_builder, picture

from tablevault import tv_errors

CODE = """
import pandas as pd
from pathlib import Path

def rows():
    return pd.DataFrame({"x": [1, 2]})

def write(x, folder, text):
    Path(folder, f"{x}.txt").write_text(f"{text} {x}")
    return f"{x}.txt"

def lost(x, folder, text):
    return f"{x}.txt"

def stray(x, folder, text):
    Path(folder, "stray.txt").write_text("stray")
    return write(x, folder, text)

def fail(x, folder, text):
    if x == 2:
        raise LookupError("no file")
    return write(x, folder, text)
"""


def files(function="write", text="first"):
    arguments = f'{{x: "<<self.x[index]>>", folder: ~ARTIFACT_FOLDER~, text: {text}}}'
    return column_builder("file", function, arguments, "return_type: row-wise\ndtypes: {file: artifact_string}")


def made(vault, several=False, function="write"):
    vault.create_code_module("made", text=CODE)
    vault.create_table("made", allow_multiple_artifacts=several)
    again(vault, "first", function)
    return vault


def again(vault, text, function="write"):
    vault.create_instance("made", builders={"made_index": index_builder("x", "rows"), "file": files(function, text)})


def executed(vault, **options):
    vault.execute_instance("made", **options)
    return vault.get_dataframe("made")[1]


def texts(vault, instance_id=""):
    return [Path(cell).read_text() for cell in vault.get_dataframe("made", instance_id)[0]["file"]]


def test_a_table_with_one_set_shows_that_of_its_newest_instance(vault, path):
    first = executed(made(vault))
    assert (path / "made" / "artifacts").is_symlink()
    assert (path / "made" / "artifacts" / "1.txt").read_text() == "first 1"
    again(vault, "second")
    second = executed(vault)
    assert (path / "made" / "artifacts" / "1.txt").read_text() == "second 1"
    assert texts(vault) == ["second 1", "second 2"]
    assert Path(vault.get_dataframe("made")[0]["file"][0]).parent == path / "made" / second / "artifacts"
    assert not list((path / "made" / first / "artifacts").glob("*.txt"))


def test_a_superseded_frame_stays_readable_but_not_its_paths(vault):
    first = executed(made(vault))
    again(vault, "second")
    executed(vault)
    frame, _ = vault.get_dataframe("made", first, full_artifact_path=False)
    assert frame["file"].tolist() == ["1.txt", "2.txt"]
    with pytest.raises(tv_errors.TVArtifactError, match="full_artifact_path=False"):
        vault.get_dataframe("made", first)
    assert vault.get_dataframe("made", first, columns=["x"])[0]["x"].tolist() == [1, 2]


def test_a_table_with_several_sets_keeps_them_all(vault, path):
    first = executed(made(vault, several=True))
    again(vault, "second")
    executed(vault)
    assert texts(vault, first) == ["first 1", "first 2"]
    assert texts(vault) == ["second 1", "second 2"]
    assert not (path / "made" / "artifacts").exists()


def test_artifacts_read_by_a_paused_process_are_dropped_after_its_end(vault):
    first = executed(made(vault))
    code = "def fail(file):\n    raise LookupError(file)\n"
    vault.create_code_module("reader", text=code)
    vault.create_table("reading")
    reader = f"""
builder_type: IndexBuilder
changed_columns: [y]
python_function: fail
code_module: reader
is_custom: true
arguments: {{file: "<<made({first}).file[x::1]>>"}}
"""
    vault.create_instance("reading", builders={"reading_index": reader})
    with pytest.raises(LookupError) as caught:
        vault.execute_instance("reading", process_id="reader")
    again(vault, "second")
    executed(vault)
    assert Path(str(caught.value)).read_text() == "first 1"
    assert texts(vault, first) == ["first 1", "first 2"]
    vault.stop_process("reader")
    again(vault, "third")
    executed(vault)
    assert not Path(str(caught.value)).exists()
    with pytest.raises(tv_errors.TVArtifactError):
        vault.get_dataframe("made", first)


def test_a_stopped_execution_keeps_its_artifacts_beside_the_table_s(vault, path):
    executed(made(vault))
    again(vault, "second", "fail")
    with pytest.raises(LookupError):
        vault.execute_instance("made", process_id="mine")
    vault.stop_process("mine", materialize=True)
    assert (path / "made" / "artifacts" / "1.txt").read_text() == "first 1"
    frame, stopped = vault.get_dataframe("made")
    assert Path(frame["file"][0]).read_text() == "second 1"
    assert frame["file"].isna().tolist() == [False, True]
    assert vault.get_dataframe("made", successful_only=True)[1] != stopped
    again(vault, "third")
    executed(vault)
    assert Path(frame["file"][0]).read_text() == "second 1"


def test_a_deleted_instance_takes_the_link_with_it(vault, path):
    vault.delete_instance(executed(made(vault)), "made")
    assert not (path / "made" / "artifacts").is_symlink()
    again(vault, "second")
    executed(vault)
    assert (path / "made" / "artifacts" / "1.txt").read_text() == "second 1"


def test_a_deleted_table_does_not_take_linked_files_twice(vault, path):
    executed(made(vault))
    vault.delete_table("made")
    assert not (path / "made").exists()
    assert not list((path / "metadata" / "ARCHIVED_TRASH").rglob("*.txt"))


def test_a_new_name_keeps_the_link(vault, path):
    executed(made(vault))
    vault.rename_table("renamed", "made")
    assert (path / "renamed" / "artifacts" / "1.txt").read_text() == "first 1"
    frame, _ = vault.get_dataframe("renamed")
    assert Path(frame["file"][0]).read_text() == "first 1"


@pytest.mark.parametrize(("function", "named"), [("lost", ["1.txt", "2.txt"]), ("stray", ["stray.txt"])])
def test_all_missing_or_unnamed_files_are_listed_and_the_work_is_kept(vault, path, function, named):
    made(vault, function=function)
    before = picture(path)
    with pytest.raises(tv_errors.TVArtifactError) as caught:
        vault.execute_instance("made")
    assert all(name in str(caught.value) for name in named)
    after = picture(path)
    assert {name: what for name, what in after.items() if "/TEMP_base/partial" not in name} == before
    assert any("/TEMP_base/partial" in name for name in after)


def test_a_stray_artifact_does_not_cost_the_night_s_work(vault):
    made(vault, function="stray")
    with pytest.raises(tv_errors.TVArtifactError, match=r"stray\.txt"):
        vault.execute_instance("made")
    text = vault.get_code_module_str("made").replace('Path(folder, "stray.txt").write_text("stray")', "pass")
    vault.create_code_module("made", text=text)
    vault.create_builder_file("made", "other", text=column_builder("y", "double", '{x: "<<self.x[index]>>"}'))
    vault.create_code_module("made", text=text + "\ndef double(x):\n    return 2 * x\n")
    process = vault.get_process(vault.execute_instance("made", reuse_partial=True))
    assert process.progress["other"].computed == 2
    assert texts(vault) == ["first 1", "first 2"]


def test_reuse_partial_takes_over_cells_and_their_files(vault):
    made(vault)
    broken = index_builder("x", "rows"), column_builder("y", "broken", '{f: "<<self.file[index]>>"}')
    vault.create_code_module("made", text=CODE + "\ndef broken(f):\n    raise LookupError(f)\n")
    vault.create_builder_file("made", "z", text=broken[1])
    with pytest.raises(LookupError) as caught:
        vault.execute_instance("made")
    assert "4 computed cells are kept" in caught.value.__notes__[-1]
    partial, _ = vault.get_dataframe("made", "TEMP_base")
    assert Path(partial["file"][0]).read_text() == "first 1"
    vault.create_code_module("made", text=CODE + "\ndef broken(f):\n    return len(Path(f).read_text())\n")
    process = vault.get_process(vault.execute_instance("made", reuse_partial=True))
    assert (process.progress["file"].reused, process.progress["file"].computed) == (2, 0)
    assert texts(vault) == ["first 1", "first 2"]
    assert vault.get_dataframe("made")[0]["y"].tolist() == [7, 7]


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_failures_while_partial_results_are_reused_keep_them(vault, failures):
    made(vault)
    vault.create_builder_file("made", "z", text=column_builder("y", "broken", '{f: "<<self.file[index]>>"}'))
    vault.create_code_module("made", text=CODE + "\ndef broken(f):\n    raise LookupError(f)\n")
    with pytest.raises(LookupError):
        vault.execute_instance("made")
    for _ in range(failures):
        with pytest.raises(LookupError):
            vault.execute_instance("made", reuse_partial=True)
    vault.create_code_module("made", text=CODE + "\ndef broken(f):\n    return 1\n")
    process = vault.get_process(vault.execute_instance("made", reuse_partial=True))
    assert (process.progress["file"].reused, process.progress["file"].computed) == (2, 0)
    assert texts(vault) == ["first 1", "first 2"]


def test_a_plain_run_that_fails_leaves_only_its_own_partial_results(vault, path):
    made(vault, function="fail")
    for options in ({}, {"reuse_partial": True}, {}):
        with pytest.raises(LookupError):
            vault.execute_instance("made", **options)
    kept = [item.name for item in (path / "made" / "TEMP_base" / "partial").rglob("*.txt")]
    assert kept == ["1.txt", "2.txt"] or kept == ["1.txt"]


def test_reuse_partial_with_nothing_kept_is_a_plain_run(vault):
    made(vault)
    executed(vault, reuse_partial=True)
    assert texts(vault) == ["first 1", "first 2"]


def test_without_reuse_partial_everything_is_built_again(vault):
    made(vault, function="fail")
    with pytest.raises(LookupError):
        vault.execute_instance("made")
    vault.create_code_module("made", text=CODE.replace("if x == 2:", "if x == 3:"))
    process = vault.get_process(vault.execute_instance("made"))
    assert (process.progress["file"].reused, process.progress["file"].computed) == (0, 2)


def test_versions_with_artifacts_wait_for_each_other_only_with_one_set(vault):
    build(vault, index_builder("x", "rows"), CODE, "one", file=files("fail"))
    with pytest.raises(LookupError):
        vault.execute_instance("one", process_id="mine")
    vault.create_instance("one", "b", builders={"one_index": index_builder("x", "rows"), "file": files()})
    with pytest.raises(tv_errors.TVLockError, match="'mine'"):
        vault.execute_instance("one", "b")
    vault.create_instance("one", "c", builders={"one_index": index_builder("x", "rows")})
    vault.execute_instance("one", "c")
