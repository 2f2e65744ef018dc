"""Imports of instances with ids, tags and lineages.

A received vault is not trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from tablevault import TableVault, TableVaultWarning, compress_vault, tv_errors


def test_imported_instances_keep_ids_tags_and_lineage(gallery, vault, tmp_path):
    archive = gallery.export_vault(tmp_path / "paper.tar.xz", "pictures@paper")
    process = vault.import_instances(archive)
    (instance_id,) = gallery.get_table_instances("pictures")
    assert vault.get_tables() == ["pictures"]
    assert vault.get_table_instances("pictures") == [instance_id]
    assert vault.get_tags()[0].tag == "paper"
    assert vault.verify().ok
    assert vault.get_code_modules_list() == []
    frame, _ = vault.get_dataframe("pictures", "@paper")
    assert Path(frame["draw"][0]).read_bytes().startswith(b"\x89PNG")
    assert vault.get_errors("pictures")["message"].tolist() == ["too wet"]
    arguments = vault.get_process(process).arguments
    assert arguments["imported"] == [instance_id]
    lineage = vault.get_lineage("pictures", column="draw")
    (draw,) = lineage.columns
    assert draw.imported_from == arguments["vault_id"]
    assert f"imported from {arguments['vault_id']}" in repr(lineage)
    titles = next(step for step in draw.inputs[0].inputs if step.table_name == "titles")
    assert (titles.instance_id, titles.deleted) == (gallery.get_table_instances("titles")[0], False)
    trace = vault.trace_cell("pictures", "Fox", "draw")
    assert trace.source == gallery.trace_cell("pictures", "Fox", "draw").source
    again = vault.get_process(vault.import_instances(archive)).arguments
    assert (again["imported"], again["skipped"]) == ([], [instance_id])
    assert vault.get_table_instances("pictures") == [instance_id]
    vault.write("own", pd.DataFrame({"x": [1]}))
    assert vault.verify().ok


def test_cells_of_imported_instances_keep_their_maker(gallery, vault, tmp_path):
    process = gallery.get_history("pictures", operation="execute_instance")[0]
    vault.import_instances(gallery.db_dir)
    exported = TableVault(vault.export_vault(tmp_path / "exported", "pictures"), author="zoe")
    last = TableVault(tmp_path / "last", author="zoe", create=True)
    last.import_instances(exported.db_dir)
    for place in (vault, exported, last):
        made = {(place.trace_cell("pictures", "Fox", "draw").computed_in[1:3])}
        draw, title = place.get_lineage("pictures", column="draw").columns[0], "titles"
        made.add((draw.process_id, draw.author))
        assert made == {(process.process_id, "ada")}
        assert process.started_at <= draw.made_at <= process.ended_at
        (source,) = (step for step in draw.inputs[0].inputs if step.table_name == title)
        assert source.author == "ada"
        folder = Path(
            place.export_table("pictures", tmp_path / f"{place.author}-data", format="dataset", overwrite=True)
        )
        assert "made by ada on" in (folder / "README.md").read_text()
        described = json.loads((folder / "croissant.json").read_text())
        assert described["creator"]["name"] == "ada"
        assert described["prov:wasGeneratedBy"]["@id"].endswith(f"/process/{process.process_id}")
        assert draw.imported_from in described["prov:wasGeneratedBy"]["@id"]
    # The import is their commit in this vault.
    assert last.get_descriptions(draw.instance_id, "pictures")["author"] == "zoe"


def test_import_extends_a_table_and_renames_others(gallery, vault):
    vault.write("titles", pd.DataFrame({"title": ["mine"]}))
    mine = vault.get_table_instances("titles")
    vault.import_instances(gallery.db_dir, ["titles"])
    vault.import_instances(gallery.db_dir, {"titles": "their-titles", "pictures": "pictures"})
    theirs = gallery.get_table_instances("titles")
    assert vault.get_table_instances("titles") == [*mine, *theirs]
    assert vault.get_table_instances("their-titles") == theirs
    assert vault.get_dataframe("titles")[1] == theirs[0]
    assert vault.read("their-titles")["title"].tolist() == ["Fox", "Owl", "Sea"]
    (title,) = vault.get_lineage("pictures", column="title").columns
    assert {step.table_name for step in title.inputs} <= {"titles", "their-titles"}
    assert vault.verify().ok
    vault.create_code_module("drawing", text=gallery.get_code_module_str("drawing"))
    vault.create_instance("pictures", copy=True)
    assert vault.plan_instance("pictures", run_index=True).builders["shades"].reused == 3


def test_origins_and_reuse_work_over_imported_instances(vault, tmp_path):
    source = TableVault(tmp_path / "source", author="bob", create=True)
    for number in range(3):
        source.write("filler", pd.DataFrame({"x": [number]}))
    code = "import pandas as pd\ndef rows(count):\n    return pd.DataFrame({'x': range(count)})\n"
    source.create_code_module("m", text=f"{code}def double(x):\n    return 2 * x\n")
    head = "code_module: m\nis_custom: true\n"
    source.create_table("made")
    for count in (2, 3):
        source.create_instance(
            "made",
            copy=count > 2,
            builders={
                "made_index": f"builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: rows\n{head}"
                f"primary_key: [x]\narguments: {{count: {count}}}\n",
                "double": f"builder_type: ColumnBuilder\nchanged_columns: [double]\npython_function: double\n{head}"
                'return_type: row-wise\narguments: {x: "<<self.x[index]>>"}\n',
            },
        )
        source.execute_instance("made")
    vault.import_instances(source.db_dir, ["made"])
    ids = source.get_table_instances("made")
    trace = vault.trace_cell("made", 1, "double")
    assert (trace.computed_in.instance_id, trace.arguments) == (ids[0], {"x": 1})
    diff = vault.diff_instances("made")
    assert (diff.before_id, diff.rows.added, diff.rows.same) == (ids[0], 1, 2)


def _write_file(place, text):
    place.create_instance("t", external_edit=True)
    Path(place.get_artifact_folder("t"), "a.txt").write_text(text)
    place.write_instance(pd.DataFrame({"file": ["a.txt"]}), "t", dtypes={"file": "artifact_string"})
    return place.get_table_instances("t")[-1]


def test_one_set_of_artifacts_is_that_of_the_newest_imported_instance(vault, tmp_path):
    source = TableVault(tmp_path / "source", author="bob", create=True)
    for place in (vault, source):
        place.create_table("t")
        _write_file(place, place.author)
    mine, theirs = vault.get_table_instances("t")[0], source.get_table_instances("t")[0]
    with pytest.warns(TableVaultWarning, match=f"now the imported '{theirs}'; those of '{mine}' are removed. Tags"):
        vault.import_instances(source.db_dir)
    assert Path(vault.db_dir, "t", "artifacts", "a.txt").read_text() == "bob"
    assert Path(vault.get_dataframe("t")[0]["file"][0]).read_text() == "bob"
    assert vault.verify().ok
    with pytest.raises(tv_errors.TVArtifactError, match="were removed when a newer instance replaced them"):
        vault.get_dataframe("t", mine)


def test_import_names_the_instances_that_get_no_artifacts(vault, tmp_path):
    source = TableVault(tmp_path / "source", author="bob", create=True)
    source.create_table("t", allow_multiple_artifacts=True)
    first, second, third = (_write_file(source, text) for text in ("one", "two", "three"))
    source.create_tag("kept", f"t({second})")
    vault.create_table("single")
    with pytest.warns(TableVaultWarning, match=f"'{third}'; those of '{first}' are removed") as warned:
        vault.import_instances(source.db_dir, {"t": "single"})
    assert len(warned) == 1
    vault.import_instances(source.db_dir)
    assert Path(vault.get_dataframe("t", first)[0]["file"][0]).read_text() == "one"
    assert Path(vault.get_dataframe("single", second)[0]["file"][0]).read_text() == "two"


def test_import_warns_when_the_newest_instance_lost_its_artifacts_before(vault, tmp_path):
    source = TableVault(tmp_path / "source", author="bob", create=True)
    source.create_table("t")
    first, second = (_write_file(source, text) for text in ("one", "two"))
    vault.import_instances(source.export_vault(tmp_path / "both", [f"t({first})", f"t({second})"]), {"t": "both"})
    vault.import_instances(source.export_vault(tmp_path / "new", f"t({second})"))
    older = source.export_vault(tmp_path / "old", f"t({first})")
    with pytest.warns(TableVaultWarning, match=f"'{first}' of table 't', now the newest of version 'base', no longer"):
        vault.import_instances(older)
    for table in ("t", "both"):
        with pytest.raises(tv_errors.TVArtifactError, match="did not exist any more in the vault .* it was imported"):
            vault.get_dataframe(table, first)
        assert Path(vault.get_dataframe(table, second)[0]["file"][0]).read_text() == "two"


@pytest.mark.filterwarnings("ignore:.*artifacts:tablevault.TableVaultWarning")
@pytest.mark.parametrize("removed", ["instance", "superseded instance", "table"])
@pytest.mark.parametrize("allow_multiple", [False, True])
def test_instance_that_was_deleted_can_be_imported_again(vault, tmp_path, allow_multiple, removed):
    vault.create_table("t", allow_multiple_artifacts=allow_multiple)

    def write(text):
        vault.create_instance("t", external_edit=True)
        Path(vault.get_artifact_folder("t"), "a.txt").write_text(text)
        vault.write_instance(pd.DataFrame({"file": ["a.txt"]}), "t", dtypes={"file": "artifact_string"})
        return vault.get_table_instances("t")[-1]

    first = write("first")
    exported = vault.export_vault(tmp_path / "exported", ["t"])
    if removed == "superseded instance":
        # Nothing removes its artifacts before the tag is gone.
        vault.create_tag("kept", "t")
        write("second")
        vault.delete_tag("kept")
    if removed == "table":
        vault.delete_table("t")
    else:
        vault.delete_instance(first, "t")
    for _ in range(2):  # The second import finds the instance.
        vault.import_instances(exported, ["t"])
        assert vault.verify().problems == ()
        frame, _ = vault.get_dataframe("t", first)
        assert Path(frame["file"][0]).read_text() == "first"
    vault.write("other", pd.DataFrame({"x": [1]}))
    assert vault.verify().problems == ()
    write("third")
    assert vault.verify().problems == ()
    if allow_multiple:
        assert Path(vault.get_dataframe("t", first)[0]["file"][0]).read_text() == "first"


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_deleted_instance_is_restored_from_a_copy_of_the_vault(vault, tmp_path, kind):
    for number in (1, 2):
        vault.write("t", pd.DataFrame({"x": [number]}), primary_key="x")
    first, second = vault.get_table_instances("t")
    vault.write("made", pd.DataFrame({"y": [1]}), dependencies=[("t", first)])
    vault.create_tag("kept", f"t({first})")
    if kind == "archive":
        copy = Path(compress_vault(vault.db_dir, preset=0)).rename(tmp_path / "backup.tar.xz")
    else:
        copy = Path(shutil.copytree(vault.db_dir, tmp_path / "copy", symlinks=True))
    arguments = vault.get_process(vault.import_instances(copy)).arguments
    assert (arguments["imported"], len(arguments["skipped"])) == ([], 3)
    vault.delete_tag("kept")
    vault.delete_instance(first, "t")
    arguments = vault.get_process(vault.import_instances(copy)).arguments
    assert (arguments["imported"], len(arguments["skipped"])) == ([first], 2)
    assert vault.read(f"t({first})")["x"].tolist() == vault.read("t@kept")["x"].tolist() == [1]
    assert vault.read(f"t({second})")["x"].tolist() == [2]
    assert vault.get_lineage("made").columns[0].inputs[0].instance_id == first
    vault.delete_table("made")
    vault.import_instances(copy, ["made"])
    assert vault.get_lineage("made").columns[0].inputs[0].deleted is False
    assert vault.verify().problems == ()


def test_tags_of_two_tables_with_the_same_instance_stay_apart(vault, tmp_path):
    source = TableVault(tmp_path / "source", author="bob", create=True)
    source.write("t", pd.DataFrame({"x": [1]}))
    for table in ("a", "b"):
        vault.import_instances(source.db_dir, {"t": table})
        vault.create_tag(f"of-{table}", table)
    expected = [("of-a", "a"), ("of-b", "b")]
    made = TableVault(vault.export_vault(tmp_path / "made", ["a", "b"]))
    assert [(tag.tag, tag.table_name) for tag in made.get_tags()] == expected
    other = TableVault(tmp_path / "other", create=True)
    other.import_instances(made.db_dir)
    assert [(tag.tag, tag.table_name) for tag in other.get_tags()] == expected
    assert other.verify().ok


@pytest.mark.filterwarnings("ignore:.*artifacts:tablevault.TableVaultWarning")
def test_superseded_artifacts_stay_where_each_instance_has_a_set(vault, tmp_path):
    source = TableVault(tmp_path / "source", author="bob", create=True)
    source.create_table("t")
    for text in ("one", "two"):
        source.create_instance("t", external_edit=True)
        Path(source.get_artifact_folder("t"), "a.txt").write_text(text)
        source.write_instance(pd.DataFrame({"file": ["a.txt"]}), "t", dtypes={"file": "artifact_string"})
        if text == "one":
            source.create_tag("first", "t")
    first, second = source.get_table_instances("t")
    vault.create_table("many", allow_multiple_artifacts=True)
    vault.import_instances(source.db_dir, {"t": "many"})
    vault.import_instances(source.db_dir)
    vault.delete_tag("first")
    for instance_id, text in ((first, "one"), (second, "two")):
        assert Path(vault.get_dataframe("many", instance_id)[0]["file"][0]).read_text() == text
    assert Path(vault.get_dataframe("t", second)[0]["file"][0]).read_text() == "two"
    with pytest.raises(tv_errors.TVArtifactError):
        vault.get_dataframe("t", first)
    # The older instance becomes the newest one, with a set of its own or without.
    vault.delete_instance(first, "t")
    vault.import_instances(source.db_dir)
    assert Path(vault.get_dataframe("t", first)[0]["file"][0]).read_text() == "one"
    source.delete_tag("first")
    vault.delete_instance(second, "t")
    vault.import_instances(source.db_dir)
    vault.delete_tag("first")
    vault.delete_instance(first, "t")
    vault.import_instances(source.db_dir)
    assert vault.get_dataframe("t", full_artifact_path=False)[1] == first
    assert Path(vault.get_dataframe("t", second)[0]["file"][0]).read_text() == "two"
    assert vault.verify().ok


def test_tag_of_another_instance_stays_with_a_warning(gallery, vault):
    vault.write("pictures", pd.DataFrame({"x": [1]}))
    vault.create_tag("paper", "pictures")
    mine = vault.get_table_instances("pictures")[0]
    with pytest.warns(TableVaultWarning, match="Tag 'paper' of table 'pictures' already names instance"):
        vault.import_instances(gallery.db_dir, ["pictures"])
    assert [item.instance_id for item in vault.get_tags()] == [mine]


def test_wrong_imports_are_refused_and_leave_nothing(gallery, vault, tmp_path):
    for arguments, said in [
        ((tmp_path / "no",), "There is no vault"),
        ((tmp_path / "no.tar.xz",), "There is no archive"),
        ((vault.db_dir,), "is this vault itself"),
        ((gallery.db_dir, ["title"]), "did you mean 'titles'"),
        ((gallery.db_dir, []), "tables is empty"),
        ((gallery.db_dir, {"titles": "x", "secret": "X"}), "maps two tables to the same name"),
        ((gallery.db_dir, {"titles": "artifacts"}), "Forbidden Table Name"),
    ]:
        with pytest.raises(tv_errors.TVArgumentError, match=said):
            vault.import_instances(*arguments)
    assert vault.get_tables() == []
    assert vault.verify().ok


@pytest.fixture
def received(gallery, tmp_path):
    """A copy of a vault that a test tampers with."""
    folder = tmp_path / "received"
    shutil.copytree(gallery.db_dir, folder, symlinks=True)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    return folder


def statement(folder, text, *values):
    with contextlib.closing(sqlite3.connect(folder / "metadata" / "catalog.db")) as connection:
        connection.execute(text, values)
        connection.commit()


def frame_of(folder):
    path = next((folder / "titles").glob("base_*/table.parquet"))
    path.chmod(0o644)
    return path


def flip(folder):
    path = frame_of(folder)
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)


def link(folder):
    path = frame_of(folder)
    path.unlink()
    path.symlink_to("/etc/passwd")


def pipe(name):
    def replace(folder):
        path = next((folder / "pictures").glob(f"base_*/{name}"))
        path.unlink()
        os.mkfifo(path)

    return replace


def link_folder(folder):
    instance = next((folder / "titles").glob("base_*"))
    instance.rename(folder.parent / "elsewhere")
    instance.symlink_to(folder.parent / "elsewhere")


def link_artifact(folder):
    path = next((folder / "pictures").glob("base_*/artifacts/Fox.png"))
    path.unlink()
    path.symlink_to("/etc/passwd")


ATTACKS = {
    "flipped bit": flip,
    "link in place of a frame": link,
    **{
        f"pipe in place of {name}": pipe(name)
        for name in ("manifest.json", "table.parquet", "code/drawing.py", "artifacts/Fox.png")
    },
    "link in place of an instance": link_folder,
    "link in place of an artifact": link_artifact,
    "path as folder": lambda folder: statement(folder, "UPDATE instances SET folder = '../../outside'"),
    "path as id": lambda folder: statement(folder, "UPDATE instances SET instance_id = '../' || instance_id"),
    "path as table": lambda folder: statement(folder, "UPDATE tables SET folder = '../outside'"),
    "path as name": lambda folder: statement(
        folder, "UPDATE tables SET name = '../' || name, name_key = '../' || name_key"
    ),
    "wrong version": lambda folder: statement(folder, "UPDATE instances SET version = 'other'"),
    "view": lambda folder: statement(folder, "CREATE VIEW evil AS SELECT * FROM tables"),
    "trigger": lambda folder: statement(
        folder, "CREATE TRIGGER evil AFTER INSERT ON processes BEGIN DELETE FROM tables; END"
    ),
    "wrong manifest": lambda folder: statement(folder, "UPDATE instances SET manifest = ?", "0" * 64),
    "wrong tag": lambda folder: statement(folder, "UPDATE tags SET tag = '../x', tag_key = '../x'"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_vault_is_refused_whole(attack, received, vault, tmp_path):
    vault.write("mine", pd.DataFrame({"x": [1]}))
    ATTACKS[attack](received)
    with pytest.raises(tv_errors.TableVaultError):
        vault.import_instances(received)
    assert vault.get_tables() == ["mine"]
    assert vault.verify().ok
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "elsewhere") == ["received", "vault"]
    assert not any(path.name == "table.parquet" for path in Path(vault.db_dir, "_temp").rglob("*"))


def test_instance_of_the_same_id_with_other_content_is_refused(gallery, vault, tmp_path):
    vault.import_instances(gallery.db_dir, ["titles"])
    source = TableVault(tmp_path / "source", create=True)
    source.write("titles", pd.DataFrame({"title": ["forged"]}))
    (forged,) = source.get_table_instances("titles")
    real = vault.get_table_instances("titles")[0]
    folder = Path(source.db_dir, "titles")
    (folder / forged).chmod(0o755)
    (folder / forged).rename(folder / real)
    statement(Path(source.db_dir), "UPDATE instances SET instance_id = ?, folder = ?", real, real)
    with pytest.raises(tv_errors.TVArgumentError, match="already exists with different content; nothing was imported"):
        vault.import_instances(source.db_dir)
    assert vault.read("titles")["title"].tolist() == ["Fox", "Owl", "Sea"]


def test_source_that_changes_while_its_import_is_paused_is_refused(received, vault, monkeypatch):
    from tablevault.archiving import imports

    copy = imports.copy_whole

    def failing(*arguments):
        raise OSError("the disk is full")

    monkeypatch.setattr(imports, "copy_whole", failing)
    with pytest.raises(OSError, match="full"):
        vault.import_instances(received, process_id="take")
    monkeypatch.setattr(imports, "copy_whole", copy)
    statement(received, "UPDATE instances SET manifest = ?", "0" * 64)
    with pytest.raises(tv_errors.TVFileError, match="was replaced or deleted in the source"):
        vault.import_instances(received, process_id="take")
    assert vault.get_tables() == []
    vault.stop_process("take")
    assert vault.verify().ok


def test_paused_import_goes_on(gallery, vault, monkeypatch):
    from tablevault.archiving import imports

    copy = imports.copy_whole

    def failing(*arguments):
        raise OSError("the disk is full")

    monkeypatch.setattr(imports, "copy_whole", failing)
    with pytest.raises(OSError, match="full"):
        vault.import_instances(gallery.db_dir, process_id="take")
    monkeypatch.setattr(imports, "copy_whole", copy)
    assert vault.get_tables() == []
    assert TableVault(vault.db_dir, restart=True).restart_report == {"take": "resumed"}
    assert vault.get_tables() == ["titles", "secret", "pictures"]
    assert vault.verify().ok
