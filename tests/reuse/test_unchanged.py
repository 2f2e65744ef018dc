"""Executions with `skip_unchanged`.

Without changes, no instance appears, and the origin is confirmed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from counted_desk import ASK, INDEX, NUMBER, SHOUT, Desk

from tablevault import TableVault, TableVaultWarning, TVArtifactError, TVLockError
from tablevault.operations import unchanged
from tablevault.state.lookup import Lookup

WHO = ASK.format(prompt="Who is")
FRAGILE = """
def fragile(name):
    _called("fragile", name)
    with open(@fragile@) as told:
        fragile_names = told.read().split()
    if name in fragile_names:
        raise ValueError(f"no {name}")
    return len(name)
"""
FRAGILE_BUILDER = """
builder_type: ColumnBuilder
changed_columns: [fragile]
python_function: fragile
code_module: llm
is_custom: true
return_type: row-wise
on_error: collect
max_failures: "100%"
arguments: {name: "<<self.name[index]>>"}
"""
DRAW = """
def draw(name, folder):
    _called("draw", name)
    with open(os.path.join(folder, f"{name}.txt"), "w") as file, open(@style@) as style:
        file.write(style.read() + name)
    return f"{name}.txt"
"""


def temporary_instances(vault: TableVault, table: str = "answers") -> list[str]:
    return [name for name in vault.get_table_instances(table, include_temp=True) if name.startswith("TEMP_")]


def confirmed(vault: TableVault, table: str = "answers") -> list[str]:
    """Return the ids of the instances that the newest instance was found unchanged against."""
    contents = Lookup(vault._context).contents
    newest = contents.newest(contents.table(table).table_id)
    return [contents.instance_by_row(row_id).instance_id for row_id in contents.confirmed_inputs(newest.row_id)]


class Skipping:
    """What becomes of a second execution of the desk's table."""

    def __init__(self, desk: Desk, builders: dict[str, str] | None = None, **arguments: object) -> None:
        before = desk.vault.get_table_instances("answers")
        self.process_id = desk.again(builders, skip_unchanged=True, **arguments)
        self.made = [name for name in desk.vault.get_table_instances("answers") if name not in before]
        self.instance_id = desk.vault.get_process(self.process_id).instance_id
        assert temporary_instances(desk.vault) == []
        assert self.instance_id == (self.made or before)[-1]
        assert desk.vault.verify().ok


def test_unchanged_execution_makes_no_instance_and_confirms_its_inputs(desk: Desk) -> None:
    desk.first()
    desk.people(["ann", "bob", "cleo", "dan"])
    newest_people = desk.vault.get_table_instances("people")[-1]
    assert confirmed(desk.vault) == []

    skipped = Skipping(desk, process_id="again")

    assert skipped.made == []
    assert desk.calls() == {}
    assert confirmed(desk.vault) == [newest_people]
    info = desk.vault.get_process("again")
    assert (info.status, info.locks) == ("succeeded", ())
    assert info.progress["ask"].reused == 4
    # The columns are still known to come from the first instance that was read.
    assert newest_people not in repr(desk.vault.get_lineage("answers"))
    with pytest.warns(TableVaultWarning, match="already succeeded"):
        desk.vault.execute_instance("answers", skip_unchanged=True, process_id="again")


def test_without_the_option_an_instance_appears(desk: Desk) -> None:
    desk.first()
    desk.again()
    assert len(desk.vault.get_table_instances("answers")) == 2


@pytest.mark.parametrize(
    "names", [["bob", "ann", "cleo", "dan"], ["ann", "bob", "cleo"], ["ann", "bob", "cleo", "dan", "eve"]]
)
def test_moved_missing_and_new_rows_make_an_instance(desk: Desk, names: list[str]) -> None:
    desk.first()
    desk.people(names)
    assert len(Skipping(desk).made) == 1
    assert desk.frame()["name"].tolist() == names


def test_recomputed_cells_make_an_instance_even_if_they_are_equal(desk: Desk) -> None:
    desk.first()
    before = desk.frame()
    desk.write_code(desk.code.replace('suffix(f"{prompt} {name}")', 'suffix(prompt + " " + name)'))
    assert len(Skipping(desk).made) == 1
    assert desk.calls() == {"ask": 4}
    assert desk.frame().equals(before)


def test_edited_policy_makes_an_instance_without_a_call(desk: Desk) -> None:
    desk.first()
    assert len(Skipping(desk, {"ask": WHO + "retry: 2\n"}).made) == 1
    assert desk.calls() == {}
    assert "retry: 2" in desk.vault.get_builder_str("answers", "ask", is_temp=False)


def test_comments_and_policies_of_the_call_make_no_instance(desk: Desk) -> None:
    desk.first()
    skipped = Skipping(desk, {"ask": f"# who they are\n{WHO}"}, policies={"ask": {"retry": 2}})
    assert skipped.made == []


def test_another_column_type_makes_an_instance(desk: Desk) -> None:
    index = yaml.safe_load(INDEX.format(key="[]", keep_old="false").replace("[name]", "[size]"))
    index |= {"arguments": {"source": "<<people.{city}>>"}}
    builders = {"answers_index": yaml.safe_dump(index)}
    desk.people(["ann"], ["1"])
    desk.vault.create_instance("answers", builders=builders)
    desk.run()
    assert Skipping(desk).made == []
    # The builder files are the same, and so is the text of each cell.
    desk.write_code(desk.code.replace("return source", "return source.astype({'city': 'category'})"))
    assert len(Skipping(desk).made) == 1
    assert str(desk.frame()["size"].dtype) == "category"


def test_added_and_removed_builders_make_an_instance(desk: Desk) -> None:
    desk.first({"ask": WHO})
    assert len(Skipping(desk, {"shout": SHOUT}).made) == 1
    desk.vault.create_instance("answers", copy=True)
    desk.vault.delete_builder_file("shout", "answers")
    desk.run(skip_unchanged=True)
    assert list(desk.frame().columns) == ["name", "answer"]


def test_forced_execution_makes_an_instance(desk: Desk) -> None:
    desk.first({"ask": WHO})
    assert len(Skipping(desk, force_execute=True).made) == 1


def test_generators_are_taken_over_as_a_whole(desk: Desk) -> None:
    desk.first({"number": NUMBER})
    assert Skipping(desk).made == []
    assert desk.calls() == {}


def test_origin_that_is_not_the_newest_makes_an_instance(desk: Desk) -> None:
    desk.first()
    first = desk.vault.get_table_instances("answers")[0]
    desk.again()
    desk.vault.create_instance("answers", origin_id=first)
    desk.run(skip_unchanged=True)
    assert len(desk.vault.get_table_instances("answers")) == 3


def test_origin_of_another_version_or_table_makes_an_instance(desk: Desk) -> None:
    desk.first()
    desk.vault.create_instance("answers", version="other", copy=True)
    desk.run(version="other", skip_unchanged=True)
    assert len(desk.vault.get_table_instances("answers", version="other")) == 1
    desk.vault.create_table("copies")
    desk.vault.create_instance("copies", origin_table="answers")
    desk.vault.execute_instance("copies", skip_unchanged=True)
    assert len(desk.vault.get_table_instances("copies")) == 1


def test_first_execution_makes_an_instance(desk: Desk) -> None:
    desk.vault.create_instance("answers", builders={"answers_index": INDEX.format(key="[name]", keep_old="false")})
    desk.run(skip_unchanged=True)
    assert len(desk.vault.get_table_instances("answers")) == 1


def test_renamed_table_is_compared_with_its_own_index_builder(desk: Desk) -> None:
    desk.first()
    desk.vault.rename_table("replies", "answers")
    desk.vault.create_instance("replies", copy=True)
    desk.vault.execute_instance("replies", skip_unchanged=True)
    assert len(desk.vault.get_table_instances("replies")) == 1


# --- failed rows ------------------------------------------------------------------------------------------------------


class Fragile:
    """A column whose function fails for the names in a file."""

    def __init__(self, desk: Desk, path: Path, *names: str) -> None:
        self.path = path
        self.fail_for(*names)
        desk.write_code(desk.code + FRAGILE.replace("@fragile@", repr(str(path))))
        with pytest.warns(TableVaultWarning, match="failed row"):
            desk.first({"fragile": FRAGILE_BUILDER})

    def fail_for(self, *names: str) -> None:
        self.path.write_text(" ".join(names))


def test_rows_that_fail_again_make_no_instance_and_are_told(desk: Desk, tmp_path: Path) -> None:
    Fragile(desk, tmp_path / "fragile", "bob")
    errors = desk.vault.get_errors("answers")
    with pytest.warns(TableVaultWarning, match=r"1 failed row in 'fragile' \(1 ValueError\).*get_errors\('answers'\)"):
        skipped = Skipping(desk)
    assert skipped.made == []
    assert desk.calls() == {"fragile": 1}
    assert desk.vault.get_process(skipped.process_id).progress["fragile"].failed == 1
    assert desk.vault.get_errors(process_id=skipped.process_id).equals(errors)


def test_failed_row_that_succeeds_makes_an_instance(desk: Desk, tmp_path: Path) -> None:
    fragile = Fragile(desk, tmp_path / "fragile", "bob", "dan")
    fragile.fail_for("dan")
    with pytest.warns(TableVaultWarning, match="1 failed row"):
        skipped = Skipping(desk)
    assert len(skipped.made) == 1
    assert desk.vault.get_errors(process_id=skipped.process_id)["index"].tolist() == [3]


def test_incomplete_origin_makes_an_instance(desk: Desk, tmp_path: Path) -> None:
    desk.write_code(desk.code + FRAGILE.replace("@fragile@", repr(str(tmp_path / "fragile"))))
    (tmp_path / "fragile").write_text("dan")
    builder = FRAGILE_BUILDER.replace("collect", "pause").replace('max_failures: "100%"\n', "")
    index = INDEX.format(key="[name]", keep_old="false")
    desk.vault.create_instance("answers", builders={"answers_index": index, "fragile": builder})
    with pytest.raises(ValueError, match="no dan"):
        desk.run(process_id="night")
    desk.vault.stop_process("night", materialize=True)
    desk.vault.create_instance("answers", copy=True)
    (tmp_path / "fragile").write_text("")
    desk.run(skip_unchanged=True)
    assert desk.calls() == {"fragile": 1}
    assert len(desk.vault.get_table_instances("answers")) == 2


def test_cells_of_a_reverted_execution_make_an_instance(desk: Desk, tmp_path: Path) -> None:
    fragile = Fragile(desk, tmp_path / "fragile", "bob", "dan")
    fragile.fail_for("dan")
    builder = FRAGILE_BUILDER + "max_consecutive_failures: 1\n"
    desk.vault.create_instance("answers", copy=True, builders={"fragile": builder})
    with pytest.raises(ValueError, match="no dan"):
        desk.run()
    desk.vault.create_builder_file("answers", "fragile", text=FRAGILE_BUILDER)
    with pytest.warns(TableVaultWarning, match="1 failed row"):
        desk.run(reuse_partial=True, skip_unchanged=True)
    # Of the two rows that had failed, one was computed before the revert, and only taken over now.
    assert desk.calls() == {"fragile": 1}
    assert len(desk.vault.get_table_instances("answers")) == 2


# --- files, side effects ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", [False, True])
def test_files_of_the_index_builder_count_by_content(desk: Desk, tmp_path: Path, changed: bool) -> None:
    style = tmp_path / "style"
    style.write_text("plain ")
    draw = DRAW.replace("@style@", repr(str(style)))
    code = f"\ndef drawn(source, folder):\n    return [draw(name, folder) for name in source['name']]\n{draw}"
    desk.write_code(desk.code + code)
    index = yaml.safe_load(INDEX.format(key="[]", keep_old="false"))
    index |= {"python_function": "drawn", "changed_columns": ["file"], "dtypes": {"file": "artifact_string"}}
    index["arguments"] |= {"folder": "~ARTIFACT_FOLDER~"}
    desk.vault.create_instance("answers", builders={"answers_index": yaml.safe_dump(index)})
    desk.run()
    if changed:
        style.write_text("fancy ")
    assert len(Skipping(desk).made) == int(changed)


def test_artifacts_that_do_not_agree_are_still_refused(desk: Desk) -> None:
    index = yaml.safe_load(INDEX.format(key="[name]", keep_old="false"))
    index["arguments"]["folder"] = "~ARTIFACT_FOLDER~"
    desk.write_code(desk.code.replace("rows(source)", "rows(source, folder)"))
    desk.vault.create_instance("answers", builders={"answers_index": yaml.safe_dump(index)})
    desk.run()
    stray = "    with open(folder + '/x', 'w'):\n        pass\n    return source\n"
    desk.write_code(desk.code.replace("    return source\n", stray))
    desk.vault.create_instance("answers", copy=True)
    with pytest.raises(TVArtifactError, match="not named by any cell"):
        desk.run(skip_unchanged=True)


def test_side_effects_leave_older_instances_active(desk: Desk) -> None:
    desk.vault.create_table("sent", has_side_effects=True)
    index = INDEX.format(key="[name]", keep_old="false")
    desk.vault.create_instance("sent", builders={"sent_index": index, "ask": WHO})
    desk.vault.execute_instance("sent")
    desk.vault.create_instance("sent", copy=True)
    desk.vault.execute_instance("sent", skip_unchanged=True)
    [only] = desk.vault.get_table_instances("sent")
    assert desk.vault.get_dataframe("sent")[1] == only


# --- the process ------------------------------------------------------------------------------------------------------


def test_instance_written_meanwhile_is_seen_by_the_decision(desk: Desk) -> None:
    desk.first()
    desk.vault.create_instance("answers", copy=True)
    wrapped = unchanged._newest_of_version
    with pytest.MonkeyPatch.context() as patch:

        def look(plan: object, session: object) -> object:
            found = wrapped(plan, session)
            desk.vault.write("answers", desk.frame(), skip_unchanged=False)
            return found

        patch.setattr(unchanged, "_newest_of_version", look)
        with pytest.raises(TVLockError, match="was created while this execution confirmed"):
            desk.run(skip_unchanged=True)
    assert temporary_instances(desk.vault) == ["TEMP_base"]
    assert len(desk.vault.get_table_instances("answers")) == 2
    assert confirmed(desk.vault) == []


def test_paused_execution_keeps_the_option(desk: Desk, tmp_path: Path) -> None:
    Fragile(desk, tmp_path / "fragile", "bob")
    desk.vault.create_instance("answers", copy=True)
    options = {"skip_unchanged": True, "process_id": "night"}
    with pytest.raises(ValueError, match="no bob"):
        desk.run(policies={"fragile": {"max_failures": 0}}, **options)
    info = desk.vault.get_process("night")
    assert "skip_unchanged=True" in info.hint
    assert "--skip-unchanged" in info.hint
    with pytest.warns(TableVaultWarning, match="1 failed row"):
        desk.run(policies={"fragile": {"max_failures": "100%"}}, process_id="night")
    assert desk.vault.get_process("night").instance_id == desk.vault.get_table_instances("answers")[0]
    assert temporary_instances(desk.vault) == []


@pytest.mark.slow
def test_background_worker_skips_too(desk: Desk) -> None:
    desk.first()
    desk.vault.create_instance("answers", copy=True)
    desk.run(skip_unchanged=True, background=True, process_id="later")
    assert desk.vault.wait_process("later").instance_id == desk.vault.get_table_instances("answers")[0]
