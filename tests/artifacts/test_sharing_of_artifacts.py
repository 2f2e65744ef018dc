"""Artifacts shared by instances.

They are reused by hard link, compared by content, superseded, and dropped.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from gallery import INDEX, KINDS

from tablevault import tv_errors

kinds = pytest.mark.parametrize("kind", KINDS)

INPUT = """
builder_type: ColumnBuilder
changed_columns: [seen]
python_function: look
code_module: gallery
is_custom: true
return_type: row-wise
arguments: {{picture: "<<pictures({version}).picture[name::<<self.name[index]>>]>>", control: "{control}"}}
"""


def inode(path: Path) -> int:
    return path.stat().st_ino


def make_reader(gallery, version: str = "base") -> None:
    """Create a table whose rows look at the pictures of the table `pictures`."""
    gallery.vault.create_table("reviews")
    index = INDEX.format(control=gallery.control)
    look = INPUT.format(control=gallery.control, version=version)
    gallery.vault.create_instance("reviews", builders={"reviews_index": index, "look": look})


def reviewed(gallery, process_id: str = "") -> list[str]:
    """Execute the reviews; return the paths that were looked at."""
    (gallery.control / "seen").unlink(missing_ok=True)
    gallery.vault.execute_instance("reviews", process_id=process_id)
    return gallery.seen()


@kinds
def test_files_of_reused_cells_are_hard_links(archive, kind):
    first = archive.make(kind)
    second = archive.again()
    assert archive.painted() == []
    assert [inode(path) for path in archive.paths(first)] == [inode(path) for path in archive.paths(second)]
    assert archive.folder(first) != archive.folder(second)


def test_of_a_new_row_only_the_file_is_new(archive):
    first = archive.make()
    archive.plan(rows=["bob", "dan", "ann"])
    second = archive.again()
    assert archive.painted() == ["dan"]
    assert archive.cells(second) == ["bob.png", "dan.png", "ann.png"]
    assert archive.files(second) == ["ann.png", "bob.png", "dan.png"]
    assert inode(archive.paths(first)[0]) == inode(archive.paths(second)[2])


def test_reused_cells_have_paths_of_the_origin_while_executing(archive):
    first = archive.make()
    archive.plan(rows=["ann", "bob", "dan"])
    archive.vault.create_instance("pictures", copy=True, builders={"look": archive.builders(look=True)["look"]})
    second = archive.execute()
    old, new = str(archive.folder(first)), str(archive.folder(second))
    assert archive.seen() == [f"{old}/ann.png", f"{old}/bob.png", f"{new}/dan.png"]
    assert archive.cells(column="seen") == ["picture of ann", "picture of bob", "picture of dan"]


def test_artifact_folder_holds_only_files_of_this_run_during_functions(archive):
    archive.make()
    code = archive.vault.get_code_module_str("gallery") + (
        "\n\ndef list_folder(name, folder, control):\n"
        "    found = sorted(os.listdir(folder))\n"
        "    return '/'.join(found)\n"
    )
    archive.vault.create_code_module("gallery", text=code)
    listing = """
builder_type: ColumnBuilder
changed_columns: [listing]
python_function: list_folder
code_module: gallery
is_custom: true
return_type: row-wise
arguments: {name: "<<self.picture[index]>>", folder: ~ARTIFACT_FOLDER~, control: x}
"""
    archive.plan(rows=["ann", "dan"])
    archive.vault.create_instance("pictures", copy=True, builders={"zlist": listing})
    archive.execute()
    assert archive.cells(column="listing") == ["dan.png", "dan.png"]
    assert [path.name for path in archive.paths()] == ["ann.png", "dan.png"]


def test_new_file_under_a_reused_name_is_refused_and_not_committed(archive):
    first = archive.make()
    archive.plan(rows=["ann", "dan"], files={"dan": {"ann.png": "by dan"}}, cells={"dan": "ann.png"})
    with pytest.raises(ValueError, match="row 1: 'ann.png' is also the file of a reused cell"):
        archive.again()
    assert archive.painted() == ["dan"]
    assert archive.paths(first)[0].read_text() == "picture of ann"


def test_the_same_content_under_another_name_counts_as_the_same(archive):
    archive.make(look=True)
    archive.plan(
        cells={"bob": "renamed/bob.png"},
        files={
            "ann": {"ann.png": "picture of ann"},
            "bob": {"renamed/bob.png": "picture of bob"},
            "cleo": {"cleo.png": "new"},
        },
    )
    code = archive.vault.get_code_module_str("gallery")
    archive.vault.create_code_module("gallery", text=code.replace("plan = told(control)", "plan = dict(told(control))"))
    second = archive.again()
    assert archive.painted() == ["ann", "bob", "cleo"]
    assert [Path(path).name for path in archive.seen()] == ["cleo.png"]
    assert archive.cells(column="seen") == ["picture of ann", "picture of bob", "new"]
    assert archive.cells(second)[1] == "renamed/bob.png"


def test_files_of_another_table_count_by_content(archive):
    archive.make()
    make_reader(archive)
    assert len(reviewed(archive)) == 3
    archive.plan(files={"bob": {"bob.png": "repainted"}})
    archive.create()
    archive.execute(force_execute=True)
    archive.vault.create_instance("reviews", copy=True)
    seen = reviewed(archive)
    assert [Path(path).name for path in seen] == ["bob.png"]


def test_a_table_with_one_set_links_to_the_newest_successful_one(gallery):
    first = gallery.make()
    link = gallery.path / "pictures" / "artifacts"
    assert link.is_symlink()
    assert link.resolve() == gallery.folder(first)
    assert not os.path.isabs(os.readlink(link))
    second = gallery.again()
    assert link.resolve() == gallery.folder(second)
    assert sorted(os.listdir(link)) == ["ann.png", "bob.png", "cleo.png"]


def test_a_table_with_several_sets_has_no_link_and_keeps_them_all(archive):
    first = archive.make()
    second = archive.again()
    assert not (archive.path / "pictures" / "artifacts").exists()
    assert archive.files(first) == archive.files(second) == ["ann.png", "bob.png", "cleo.png"]
    assert all(path.exists() for path in archive.paths(first))


def test_a_superseded_set_is_dropped_and_its_frame_stays(gallery):
    first = gallery.make()
    folder = gallery.folder(first)
    second = gallery.again()
    assert not folder.exists()
    assert gallery.cells(first) == ["ann.png", "bob.png", "cleo.png"]
    with pytest.raises(tv_errors.TVArtifactError, match=first):
        gallery.paths(first)
    assert all(path.exists() for path in gallery.paths(second))
    assert gallery.vault.verify().ok


def test_of_a_dropped_set_other_columns_can_be_read(gallery):
    first = gallery.make()
    gallery.again()
    frame, _ = gallery.vault.get_dataframe("pictures", first, columns=["name"])
    assert list(frame["name"]) == ["ann", "bob", "cleo"]


def test_a_builder_that_names_pictures_that_are_gone_is_refused(gallery):
    first = gallery.make()
    gallery.again()
    make_reader(gallery, version=first)
    with pytest.raises(tv_errors.TVArtifactError, match=first):
        reviewed(gallery)
    assert gallery.seen() == []


def test_only_existing_artifacts_of_an_origin_are_reused(gallery):
    first = gallery.make(look=True)
    gallery.again()
    gallery.vault.create_instance("pictures", origin_id=first)
    gallery.execute()
    assert gallery.painted() == ["ann", "bob", "cleo"]
    assert gallery.seen() == []
    assert all(path.exists() for path in gallery.paths())


def test_a_paused_process_keeps_the_set_that_it_reads(gallery):
    first = gallery.make()
    make_reader(gallery)
    kept = gallery.folder(first) / "bob.png"
    shutil.copy(kept, gallery.control / "saved")
    hidden = gallery.vault.get_code_module_str("gallery")
    broken = hidden.replace("    return Path(picture).read_text()", "    raise RuntimeError('not yet')")
    gallery.vault.create_code_module("gallery", text=broken)
    with pytest.raises(RuntimeError, match="not yet"):
        reviewed(gallery, "review")
    gallery.vault.create_code_module("gallery", text=hidden)
    gallery.again()
    assert kept.read_text() == "picture of bob"
    assert len(reviewed(gallery, "review")) == 3
    frame, _ = gallery.vault.get_dataframe("reviews")
    assert list(frame["seen"]) == ["picture of ann", "picture of bob", "picture of cleo"]
    assert not kept.exists()


def test_a_set_is_dropped_when_the_process_that_held_it_is_stopped(gallery):
    first = gallery.make()
    make_reader(gallery)
    kept = gallery.folder(first)
    text = gallery.vault.get_code_module_str("gallery")
    broken = text.replace("    return Path(picture).read_text()", "    raise RuntimeError('not yet')")
    gallery.vault.create_code_module("gallery", text=broken)
    with pytest.raises(RuntimeError):
        reviewed(gallery, "review")
    gallery.vault.create_code_module("gallery", text=text)
    gallery.again()
    assert kept.exists()
    gallery.vault.stop_process("review")
    assert not kept.exists()


def test_materialized_stop_keeps_the_files_of_computed_cells(gallery):
    first = gallery.make()
    gallery.plan(rows=["ann", "dan", "eve"], files={"dan": {"dan.png": "d", "scratch.txt": "s"}}, fail={"eve": "stop"})
    gallery.create()
    with pytest.raises(RuntimeError, match="stop"):
        gallery.execute(process_id="night")
    gallery.vault.stop_process("night", materialize=True)
    stopped = gallery.vault.get_table_instances("pictures")[-1]
    assert gallery.files(stopped) == ["ann.png", "dan.png"]
    assert gallery.cells(stopped) == ["ann.png", "dan.png", None]
    assert (gallery.path / "pictures" / "artifacts").resolve() == gallery.folder(first)
    assert [path.read_text() for path in gallery.paths(first)] == [
        "picture of ann",
        "picture of bob",
        "picture of cleo",
    ]
    assert gallery.cells(successful_only=True) == ["ann.png", "bob.png", "cleo.png"]
    assert gallery.vault.verify().ok
    gallery.plan()
    newer = gallery.make()
    assert not gallery.folder(first).exists()
    assert gallery.files(stopped) == ["ann.png", "dan.png"]
    assert gallery.folder(newer).exists()


@kinds
def test_on_resume_the_files_of_a_finished_builder_are_looked_at_too(gallery, kind):
    text = gallery.vault.get_code_module_str("gallery")
    broken = text.replace("    return Path(picture).read_text()", "    raise RuntimeError('not yet')")
    gallery.vault.create_code_module("gallery", text=broken)
    gallery.create(kind, look=True)
    with pytest.raises(RuntimeError, match="not yet"):
        gallery.execute(process_id="night")
    (gallery.running_folder() / "bob.png").unlink()
    gallery.vault.create_code_module("gallery", text=text)
    gallery.execute(process_id="night")
    if kind in ("row-wise", "threads"):
        assert gallery.painted() == ["bob"]
    assert gallery.cells(column="seen") == ["picture of ann", "picture of bob", "picture of cleo"]
    assert gallery.vault.verify().ok


@pytest.mark.parametrize("damage", ["deleted", "altered", "same size"])
@kinds
def test_on_resume_a_row_whose_file_is_not_as_recorded_is_computed_again(gallery, kind, damage):
    gallery.plan(fail={"cleo": "stop"})
    gallery.create(kind)
    with pytest.raises(RuntimeError, match="stop"):
        gallery.execute(process_id="night")
    file = gallery.running_folder() / "bob.png"
    if damage == "deleted":
        file.unlink()
    else:
        file.write_text("picture of bob, altered" if damage == "altered" else "picture of BOB")
    gallery.plan()
    gallery.execute(process_id="night")
    if kind == "row-wise":
        assert gallery.painted() == ["bob", "cleo"]
    assert [path.read_text() for path in gallery.paths()] == ["picture of ann", "picture of bob", "picture of cleo"]
    assert gallery.vault.verify().ok


def test_artifacts_of_the_origin_that_are_kept_with_old_rows_come_along(archive):
    index = """
builder_type: IndexBuilder
changed_columns: [name, picture]
python_function: scan
code_module: scanner
is_custom: true
primary_key: [name]
keep_old: true
dtypes: {{picture: artifact_string}}
arguments: {{folder: ~ARTIFACT_FOLDER~, control: "{control}"}}
"""
    archive.vault.create_code_module(
        "scanner",
        text="""
import pandas as pd
from pathlib import Path
import gallery

def scan(folder, control):
    names = gallery.told(control)["rows"]
    for name in names:
        Path(folder, name).write_text("scan of " + name)
    return pd.DataFrame({"name": names, "picture": names})
""",
    )
    archive.vault.create_instance("pictures", builders={"pictures_index": index.format(control=archive.control)})
    archive.execute()
    archive.plan(rows=["dan", "bob"])
    archive.again()
    assert archive.cells() == ["dan", "bob", "ann", "cleo"]
    assert [path.read_text() for path in archive.paths()] == [
        "scan of dan",
        "scan of bob",
        "scan of ann",
        "scan of cleo",
    ]


def test_a_column_that_is_overwritten_leaves_no_files_of_the_old_cells(archive):
    archive.vault.create_code_module(
        "twice",
        text="""
from pathlib import Path
import pandas as pd

def first(name, folder):
    Path(folder, name + ".raw").write_text("raw " + name)
    return name, name + ".raw"

def second(picture, folder):
    name = Path(picture).stem + ".png"
    Path(folder, name).write_text(Path(picture).read_text() + " finished")
    return Path(picture).name

def start(names):
    return pd.DataFrame({"name": names})
""",
    )
    archive.vault.create_table("names")
    start = """
builder_type: IndexBuilder
changed_columns: [name]
python_function: start
code_module: twice
is_custom: true
arguments: {names: [ann, bob]}
"""
    archive.vault.create_instance("names", builders={"names_index": start})
    archive.vault.execute_instance("names")
    index = """
builder_type: IndexBuilder
changed_columns: [name, picture]
python_function: first
code_module: twice
is_custom: true
return_type: row-wise
dtypes: {picture: artifact_string}
arguments: {name: "<<self.name[index]>>", folder: ~ARTIFACT_FOLDER~}
"""
    archive.vault.create_instance("pictures", origin_table="names", builders={"pictures_index": index})
    archive.execute()
    assert archive.cells() == ["ann.raw", "bob.raw"]
    archive.again()
    assert archive.cells() == ["ann.raw", "bob.raw"]
    assert archive.vault.verify().ok


def test_the_folder_of_each_instance_can_be_asked_for(gallery):
    vault = gallery.vault
    gallery.create()
    temporary = Path(vault.get_artifact_folder("pictures"))
    assert temporary == Path(vault.get_artifact_folder("pictures", version="base", is_temp=True))
    assert temporary.is_dir()
    instance = gallery.execute()
    newest = Path(vault.get_artifact_folder("pictures", is_temp=False))
    assert (
        newest
        == Path(vault.get_artifact_folder("pictures", instance))
        == gallery.path / "pictures" / instance / "artifacts"
    )
    with pytest.raises(tv_errors.TVArgumentError):
        vault.get_artifact_folder("pictures")
    with pytest.raises(tv_errors.TVArgumentError):
        vault.get_artifact_folder("pictures", "base_1_x")
