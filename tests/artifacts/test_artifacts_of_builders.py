"""Naming, checks, records and commits of builders' artifacts."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest
from gallery import KINDS

from tablevault import tv_errors

UNDECLARED = """
from pathlib import Path

from tablevault.define import Table

notes = Table("notes")


@notes.index("k")
def rows():
    return [1, 2]


@notes.column(arguments={"k": "<<self.k[index]>>", "folder": "~ARTIFACT_FOLDER~"})
def note(k, folder):
    Path(folder, f"{k}.txt").write_text("x")
    return f"{k}.txt"
"""

kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_files_of_cells_are_committed_with_the_instance(gallery, kind):
    instance = gallery.make(kind, look=True)
    assert gallery.cells() == ["ann.png", "bob.png", "cleo.png"]
    assert gallery.files(instance) == ["ann.png", "bob.png", "cleo.png"]
    assert [path.read_text() for path in gallery.paths()] == ["picture of ann", "picture of bob", "picture of cleo"]
    assert all(path.is_relative_to(gallery.path / "pictures" / instance) for path in gallery.paths())
    assert gallery.cells(column="seen") == ["picture of ann", "picture of bob", "picture of cleo"]
    assert gallery.vault.verify().ok


@kinds
def test_committed_files_and_folders_are_read_only(gallery, kind):
    gallery.plan(files={"ann": {"deep/er/ann.png": "x"}}, cells={"ann": "deep/er/ann.png"})
    folder = gallery.folder(gallery.make(kind))
    modes = [stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]]
    assert not [oct(mode) for mode in modes if mode & 0o222]


@kinds
def test_a_named_file_that_is_missing_is_listed_with_all_others_that_fail(gallery, kind):
    gallery.plan(
        files={"ann": {}, "bob": {"bob.png": "b", "stray.txt": "s", "sub/stray.txt": "t"}}, cells={"cleo": "other.png"}
    )
    gallery.create(kind)
    with pytest.raises(tv_errors.TVArtifactError) as caught:
        gallery.execute(process_id="night")
    text = str(caught.value)
    for part in ("ann.png", "other.png", "stray.txt", "sub/stray.txt", "cleo.png", "'picture'", "row 0", "row 2"):
        assert part in text
    assert "bob.png" not in text
    assert gallery.vault.get_process("night").status == "reverted"
    assert gallery.vault.get_table_instances("pictures") == []


@kinds
def test_after_a_stray_file_the_work_is_taken_over_with_reuse_partial(gallery, kind):
    gallery.plan(files={"ann": {"ann.png": "a"}, "bob": {"bob.png": "b", "stray.txt": "s"}})
    gallery.create(kind, look=True)
    with pytest.raises(tv_errors.TVArtifactError, match=r"stray\.txt"):
        gallery.execute()
    partial, _ = gallery.vault.get_dataframe("pictures", instance_id="TEMP_base")
    assert [Path(path).read_text() for path in partial["picture"]] == ["a", "b", "picture of cleo"]
    instance = gallery.execute(reuse_partial=True)
    assert gallery.painted() == []
    assert gallery.seen() == []
    assert gallery.files(instance) == ["ann.png", "bob.png", "cleo.png"]
    assert gallery.cells(column="seen") == ["a", "b", "picture of cleo"]
    assert gallery.vault.verify().ok


def test_a_second_stray_file_does_not_cost_the_work_that_the_first_left(gallery):
    gallery.plan(files={"bob": {"bob.png": "b", "stray.txt": "s"}})
    gallery.create()
    with pytest.raises(tv_errors.TVArtifactError):
        gallery.execute()
    gallery.plan(rows=["ann", "bob", "cleo", "dan"], files={"dan": {"dan.png": "d", "other.txt": "s"}})
    with pytest.raises(tv_errors.TVArtifactError):
        gallery.execute(reuse_partial=True)
    assert gallery.painted() == ["dan"]
    gallery.execute(reuse_partial=True)
    assert gallery.painted() == []
    assert gallery.cells() == ["ann.png", "bob.png", "cleo.png", "dan.png"]
    assert [path.read_text() for path in gallery.paths()] == ["picture of ann", "b", "picture of cleo", "d"]


@kinds
@pytest.mark.parametrize(
    ("cell", "links", "folders", "reason"),
    [
        pytest.param("/etc/hostname", {}, [], "absolute", id="absolute path"),
        pytest.param("../../outside.txt", {}, [], "leaves", id="parent folder"),
        pytest.param("a/../../outside.txt", {}, [], "leaves", id="parent folder inside"),
        pytest.param("way/hosts", {"way": "/etc"}, [], "outside", id="through a link to a folder"),
        pytest.param("way", {"way": "/etc/hosts"}, [], "outside", id="a link to a file"),
        pytest.param("sub", {}, ["sub"], "folder", id="a folder"),
        pytest.param("bad\ud800.png", {}, [], "", id="lone surrogate"),
        pytest.param("", {}, [], "", id="empty"),
        pytest.param(".", {}, [], "", id="the folder itself"),
        pytest.param("a\0b", {}, [], "", id="a null character"),
        pytest.param(7, {}, [], "", id="a number"),
    ],
)
def test_invalid_artifact_path_is_an_error_of_the_function_and_pauses(gallery, kind, cell, links, folders, reason):
    gallery.plan(cells={"bob": cell}, files={"bob": {}}, links={"bob": links}, folders={"bob": folders})
    gallery.create(kind)
    with pytest.raises((ValueError, TypeError), match=reason or None) as caught:
        gallery.execute(process_id="night")
    assert type(caught.value) in (ValueError, TypeError)
    text = str(caught.value)
    assert "'paint'" in text
    assert "'picture'" in text
    assert "row 1" in text
    assert gallery.vault.get_process("night").status == "paused"
    for link in links:
        (gallery.running_folder() / link).unlink()
    for folder in folders:
        (gallery.running_folder() / folder).rmdir()
    gallery.plan()
    gallery.execute(process_id="night")
    if kind == "row-wise":
        assert gallery.painted() == ["bob", "cleo"]
    assert gallery.cells() == ["ann.png", "bob.png", "cleo.png"]


@kinds
def test_links_inside_the_folder_are_followed(gallery, kind):
    gallery.plan(links={"bob": {"bob2.png": "bob.png"}}, cells={"cleo": "bob2.png"}, files={"cleo": {}})
    instance = gallery.make(kind)
    assert [path.read_text() for path in gallery.paths()] == ["picture of ann", "picture of bob", "picture of bob"]
    assert gallery.files(instance) == ["ann.png", "bob.png", "bob2.png"]


@kinds
def test_names_are_kept_in_one_form(gallery, kind):
    gallery.plan(
        cells={"ann": "./ann.png", "bob": "x/../bob.png", "cleo": "sub//cleo.png"},
        files={"bob": {"bob.png": "b", "x/.keep": ""}, "cleo": {"sub/cleo.png": "c"}},
    )
    gallery.make(kind)
    assert gallery.cells() == ["ann.png", "bob.png", "sub/cleo.png"]
    assert gallery.vault.verify().ok
    gallery.again()
    assert gallery.painted() == []


@kinds
def test_names_may_be_any_text_and_lie_in_folders(gallery, kind):
    names = {"ann": "Ünïcödé 日本 \U0001f600.png", "bob": "a/b/c/d with space.txt", "cleo": "quote'\"\n<<x>>.bin"}
    gallery.plan(cells=names, files={row: {name: name} for row, name in names.items()})
    instance = gallery.make(kind, look=True)
    assert gallery.cells() == list(names.values())
    assert gallery.files(instance) == sorted(names.values())
    assert gallery.cells(column="seen") == list(names.values())
    assert gallery.vault.verify().ok
    gallery.again()
    assert gallery.painted() == []


def test_hidden_and_system_files_need_no_name(gallery):
    gallery.plan(files={"ann": {"ann.png": "a", ".hidden": "h", "Thumbs.db": "t", ".cache/x": "x"}})
    gallery.make()
    assert gallery.cells() == ["ann.png", "bob.png", "cleo.png"]


def test_files_may_be_empty_and_cells_null(gallery):
    gallery.plan(files={"ann": {"ann.png": ""}, "bob": {}}, cells={"bob": None})
    gallery.make(look=True)
    assert gallery.cells() == ["ann.png", None, "cleo.png"]
    assert gallery.cells(column="seen") == ["", None, "picture of cleo"]


def test_several_rows_may_name_one_file(gallery):
    shared = {"shared.png": "all"}
    gallery.plan(
        files=dict.fromkeys(["ann", "bob", "cleo"], shared), cells=dict.fromkeys(["ann", "bob", "cleo"], "shared.png")
    )
    instance = gallery.make()
    assert gallery.files(instance) == ["shared.png"]
    assert gallery.vault.verify().ok


@kinds
def test_file_rewritten_by_a_later_row_is_recorded_with_its_last_content(gallery, kind):
    gallery.plan(
        files={"ann": {"log.png": "one"}, "bob": {"log.png": "one two"}, "cleo": {"log.png": "one two three"}},
        cells=dict.fromkeys(["ann", "bob", "cleo"], "log.png"),
    )
    gallery.make(kind)
    assert gallery.paths()[0].read_text() in ("one", "one two", "one two three")
    assert gallery.vault.verify().problems == ()


def test_a_file_whose_name_is_not_text_is_reported_as_any_other(gallery):
    gallery.plan(files={"ann": {"ann.png": "a", "bad\udcff.txt": "x"}})
    gallery.create()
    with pytest.raises(tv_errors.TVArtifactError, match="bad"):
        gallery.execute(process_id="night")
    assert gallery.vault.get_process("night").status == "reverted"
    assert "bad" in gallery.vault.get_process("night").error.message


@pytest.mark.slow
def test_thousands_of_files_and_large_ones(gallery):
    rows = [f"r{number}" for number in range(1000)]
    gallery.plan(
        rows=rows,
        files={"r7": {"r7.png": 30_000_000}, "r8": {"sub/r8.png": "8"}},
        cells={"r8": "sub/r8.png"},
    )
    instance = gallery.make("threads")
    assert len(gallery.files(instance)) == 1000
    large = gallery.folder(instance) / "r7.png"
    assert large.stat().st_size == 30_000_000
    newer = gallery.again()
    assert gallery.painted() == []
    assert len(gallery.files(newer)) == 1000
    assert (
        hashlib.sha256((gallery.folder(newer) / "r7.png").read_bytes()).hexdigest()
        == hashlib.sha256(b"x" * 30_000_000).hexdigest()
    )


def test_altered_files_are_found_by_verify(gallery):
    instance = gallery.make()
    target = gallery.folder(instance) / "bob.png"
    target.chmod(0o644)
    target.write_text("picture of bab")
    problems = gallery.vault.verify().problems
    assert [problem for problem in problems if "bob.png" in problem.path or "bob.png" in problem.detail]


def test_file_written_after_its_row_counts_with_its_last_content(gallery, tmp_path):
    code = gallery.vault.get_code_module_str("gallery") + (
        "\n\ndef late(picture, folder):\n"
        "    Path(folder, 'ann.png').write_text('painted over')\n"
        "    return Path(picture).name\n"
    )
    gallery.vault.create_code_module("gallery", text=code)
    late = gallery.builders(look=True)["look"].replace("look", "late").replace("seen", "late")
    late = late.replace(f'control: "{gallery.control}"', "folder: ~ARTIFACT_FOLDER~")
    gallery.vault.create_instance("pictures", builders=gallery.builders() | {"late": late})
    gallery.execute()
    assert gallery.paths()[0].read_text() == "painted over"
    assert gallery.vault.verify().problems == ()


def test_full_disk_pauses_and_finished_rows_are_not_recomputed(gallery):
    gallery.plan(fail={"cleo": "no room"})
    gallery.create()
    with pytest.raises(RuntimeError, match="no room"):
        gallery.execute(process_id="night")
    gallery.plan()
    gallery.execute(process_id="night")
    assert gallery.painted() == ["cleo"]
    assert os.listdir(gallery.path / "_temp") == []


def test_a_text_column_that_names_files_is_to_be_declared_by_its_builder(gallery, tmp_path):
    (tmp_path / "notes.py").write_text(UNDECLARED)
    with pytest.raises(tv_errors.TVArtifactError, match="column 'note' names 2 files such as 1.txt; declare its dtype"):
        gallery.vault.run(tmp_path / "notes.py")
