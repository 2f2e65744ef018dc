"""Garbage collection, with its rules, its protections and the freed space."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from operated import build, column_builder, index_builder, picture

from tablevault import TableVault, tv_errors
from tablevault.operations.garbage import Protection
from tablevault.reading.gc_plans import Rules

VAULTS = int(os.environ.get("RANDOM_VAULTS", "2000"))
"""More of them with `make test RANDOM_VAULTS=10000`."""

FILES = """
import pandas as pd
from pathlib import Path

def rows(count):
    return pd.DataFrame({"x": range(count)})

def write(x, folder):
    Path(folder, f"{x}.txt").write_text(f"text {x}" * 2000)
    return f"{x}.txt"
"""


def written(vault, table, count, **options):
    for number in range(count):
        vault.write(table, pd.DataFrame({"x": [number]}), **options)
    return vault.get_table_instances(table, options.get("version", "base"))


def removed(plan):
    return [item.instance_id for item in plan.removed]


def kept(plan):
    return {item.instance_id: item.reasons for group in plan.groups for item in group.keep}


def test_gc_removes_exactly_the_instances_that_no_rule_keeps(vault, path):
    ids = written(vault, "t", 5)
    vault.write("t", pd.DataFrame({"x": [7]}), version="v2")
    (other,) = vault.get_table_instances("t", "v2")
    plan = vault.plan_gc(keep_last=2)
    assert removed(plan) == [ids[2], ids[1], ids[0]]
    assert [(group.table_name, group.version) for group in plan.groups] == [("t", "base"), ("t", "v2")]
    assert kept(plan) == {
        ids[4]: ("keep_last=2", "newest active instance of version base", "newest successful instance of version base"),
        ids[3]: ("keep_last=2",),
        other: ("keep_last=2", "newest active instance of version v2", "newest successful instance of version v2"),
    }
    assert plan.bytes == sum(item.bytes for item in plan.removed) > 0
    assert f"remove  {ids[0]}" in repr(plan)
    assert f"keep  {ids[4]}  keep_last=2" in repr(plan)
    assert repr(plan).splitlines()[-1].startswith("keep_last=2: remove 3 instances (")
    assert "What gc would remove" in plan._repr_html_()
    before = picture(path)
    assert vault.get_table_instances("t") == ids
    process = vault.gc(plan)
    assert vault.get_table_instances("t") == ids[3:]
    assert vault.get_process(process).arguments["left"] == {}
    assert vault.get_lineage("t").columns
    assert vault.verify().ok
    archived = [item for item in picture(path) if "ARCHIVED_TRASH" in item and item.endswith("provenance.json")]
    assert len(archived) == 3
    assert not any("ARCHIVED_TRASH" in item and item.endswith(".parquet") and "table" in item for item in picture(path))
    assert len(picture(path)) < len(before)
    again = vault.gc(plan)
    assert set(vault.get_process(again).arguments["left"].values()) == {"already removed"}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({}, "needs at least one rule"),
        ({"keep_last": 0}, "keep_last must be a positive integer, not 0"),
        ({"keep_daily": -1}, "keep_daily must be a positive integer"),
        ({"keep_within": "30"}, "keep_within must be a positive duration, such as '12h'"),
        ({"keep_within": timedelta(0)}, "keep_within must be a positive duration"),
        ({"keep_last": 1, "worker_logs_older_than": "x"}, "worker_logs_older_than must be a positive duration"),
        ({"keep_last": 1, "table_name": "tt"}, "There is no table 'tt'"),
        ({"keep_last": 1, "table_name": "t", "version": "v3"}, "Table 't' has no instance of version 'v3'"),
        ({"keep_last": 1, "version": "bse"}, "Table 't' has no instance of version 'bse'; did you mean 'base'"),
    ],
)
def test_wrong_rules_are_errors_and_never_an_empty_plan(vault, rules, said):
    written(vault, "t", 1)
    with pytest.raises(tv_errors.TVArgumentError, match=said):
        vault.plan_gc(**rules)


def test_tagged_needed_and_held_instances_stay(vault):
    ids = written(vault, "t", 5)
    vault.create_tag("paper", f"t({ids[0]})")
    vault.create_instance("t", version="v9", origin_id=ids[1], origin_table="t", external_edit=True)
    build(vault, index_builder("x", "take", f'{{frame: "<<t({ids[2]})>>"}}'), "def take(frame):\n    return frame\n")
    vault.execute_instance("made")
    (made,) = vault.get_table_instances("made")
    plan = vault.plan_gc(keep_last=1, table_name="t")
    assert removed(plan) == [ids[3]]
    reasons = kept(plan)
    assert reasons[ids[0]] == ("tagged paper",)
    assert reasons[ids[1]] == ("origin of t(TEMP_v9)",)
    assert reasons[ids[2]] == (f"input of made({made})",)
    assert set(removed(vault.plan_gc(keep_last=1, table_name="t", keep_inputs=False))) == {ids[2], ids[3]}
    vault.create_tag("late", f"t({ids[3]})")
    process = vault.gc(plan)
    assert vault.get_process(process).arguments["left"] == {ids[3]: "tagged late"}
    assert vault.get_table_instances("t") == ids
    with pytest.raises(tv_errors.TVArgumentError, match="protects it"):
        vault.delete_instance(ids[0], "t")


def test_inputs_of_kept_instances_stay_through_deleted_ones(vault):
    (first,) = written(vault, "a", 1)
    vault.write("b", pd.DataFrame({"x": [1]}), dependencies=[("a", first)])
    (second,) = vault.get_table_instances("b")
    vault.write("c", pd.DataFrame({"x": [1]}), dependencies=[("b", second)])
    vault.write("a", pd.DataFrame({"x": [5]}))
    vault.write("b", pd.DataFrame({"x": [6]}))
    (third,) = vault.get_table_instances("c")
    plan = vault.plan_gc(keep_last=1)
    assert removed(plan) == []
    assert kept(plan)[first][-1].startswith("input of ")
    vault.delete_instance(second, "b")
    assert kept(vault.plan_gc(keep_last=1))[first] == (f"input of c({third})",)


def test_instances_that_a_paused_process_holds_stay_without_waiting(vault):
    ids = written(vault, "t", 3)
    code = "def take(frame):\n    raise RuntimeError('later')\n"
    build(vault, index_builder("x", "take", f'{{frame: "<<t({ids[0]})>>"}}'), code)
    plan = vault.plan_gc(keep_last=1, table_name="t")
    assert removed(plan) == [ids[1], ids[0]]
    with pytest.raises(RuntimeError):
        vault.execute_instance("made", process_id="run")
    assert kept(vault.plan_gc(keep_last=1, table_name="t"))[ids[0]] == ("locked by execute_instance 'run'",)
    process = vault.gc(plan)
    assert vault.get_process(process).arguments["left"] == {ids[0]: "locked by a process"}
    assert vault.get_table_instances("t") == [ids[0], ids[2]]


def test_newest_of_a_version_stays_after_a_later_one_was_deleted(vault):
    ids = written(vault, "t", 3)
    plan = vault.plan_gc(keep_last=1)
    vault.delete_instance(ids[2], "t")
    left = vault.get_process(vault.gc(plan)).arguments["left"]
    assert list(left) == [ids[1]]
    assert vault.get_table_instances("t") == [ids[1]]


def test_instance_before_one_that_is_being_deleted_stays(vault, monkeypatch):
    ids = written(vault, "t", 3)
    plan = vault.plan_gc(keep_last=1)
    from tablevault.operations import DeleteInstance

    def failing(self, plan, session):
        raise OSError("the disk is full")

    monkeypatch.setattr(DeleteInstance, "work", failing)
    with pytest.raises(OSError, match="full"):
        vault.delete_instance(ids[2], "t", process_id="delete")
    left = vault.get_process(vault.gc(plan)).arguments["left"]
    assert left == {ids[0]: "locked by a process", ids[1]: "locked by a process"}
    assert vault.get_table_instances("t") == ids
    vault.stop_process("delete")
    vault.gc(plan)
    assert vault.get_table_instances("t") == ids[2:]


def test_plan_of_another_vault_is_refused(vault, tmp_path):
    written(vault, "t", 2)
    other = TableVault(tmp_path / "other", create=True)
    written(other, "t", 2)
    with pytest.raises(tv_errors.TVArgumentError, match="another vault"):
        vault.gc(other.plan_gc(keep_last=1))
    with pytest.raises(tv_errors.TVArgumentError, match="gc needs a plan"):
        vault.gc(None)


def test_paused_collection_goes_on_with_its_recorded_plan(vault, monkeypatch):
    ids = written(vault, "t", 3)
    from tablevault.operations import Gc

    work = Gc.work

    def failing(self, plan, session):
        raise OSError("the disk is full")

    monkeypatch.setattr(Gc, "work", failing)
    with pytest.raises(OSError, match="full"):
        vault.gc(vault.plan_gc(keep_last=1), process_id="clean")
    monkeypatch.setattr(Gc, "work", work)
    assert vault.get_table_instances("t") == ids
    assert ".gc(None, process_id='clean')" in vault.get_process("clean").hint
    assert vault.gc(None, process_id="clean") == "clean"
    assert vault.get_table_instances("t") == ids[2:]


def test_freed_bytes_are_those_of_the_disk_with_hard_links(vault, path):
    vault.create_table("made", allow_multiple_artifacts=True)
    vault.create_code_module("made", text=FILES)
    arguments = '{x: "<<self.x[index]>>", folder: ~ARTIFACT_FOLDER~}'
    for count in (2, 3, 4):
        vault.create_instance(
            "made",
            builders={
                "made_index": index_builder("x", "rows", f"{{count: {count}}}"),
                "file": column_builder(
                    "file", "write", arguments, "return_type: row-wise\ndtypes: {file: artifact_string}"
                ),
            }
            if count == 2
            else None,
            copy=count > 2,
        )
        if count > 2:
            text = vault.get_builder_str("made", "made_index").replace(f"count: {count - 1}", f"count: {count}")
            vault.create_builder_file("made", "made_index", text=text)
        vault.execute_instance("made")
    folders = [
        Path(vault.get_artifact_folder("made", item, is_temp=False)) for item in vault.get_table_instances("made")
    ]
    assert (folders[0] / "0.txt").stat().st_nlink == 3
    plan = vault.plan_gc(keep_last=1)
    assert len(plan.removed) == 2
    before = space(path)
    vault.gc(plan)
    # The frames go; the archived folders and the catalog take some space of their own.
    frames = sum(item.bytes for item in plan.removed)
    assert frames == plan.bytes
    assert before["frames and artifacts"] - space(path)["frames and artifacts"] == plan.bytes
    assert vault.verify().ok


def space(folder):
    """The space of frames and artifacts in a vault, each file once."""
    files = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            found = Path(parent, name)
            if name == "table.parquet" or "artifacts" in Path(parent).parts:
                facts = found.lstat()
                files[facts.st_dev, facts.st_ino] = facts.st_blocks * 512
    return {"frames and artifacts": sum(files.values())}


def test_leftovers_and_old_worker_logs_are_removed_with_the_plan(vault, path):
    written(vault, "t", 1)
    half = path / "t" / f".{'0' * 32}.tablevault-temporary"
    half.write_text("half of")
    own = path / "t" / "notes.txt"
    own.write_text("mine")
    process = vault.write("t", pd.DataFrame({"x": [9]}))
    log = path / "metadata" / "worker_logs" / f"{process}.log"
    log.write_text("what it printed")
    plan = vault.plan_gc(keep_last=5, worker_logs_older_than=timedelta(microseconds=1))
    assert {(item.what, item.instance_id) for item in plan.other} == {
        ("leftover", half.relative_to(path).as_posix()),
        ("worker log", log.relative_to(path).as_posix()),
    }
    assert vault.plan_gc(keep_last=5, leftovers=False, worker_logs_older_than="1d").other == ()
    vault.gc(plan)
    assert (half.exists(), log.exists(), own.exists()) == (False, False, True)


def test_instance_whose_artifacts_the_table_shows_takes_the_link_along(vault, path):
    build(
        vault,
        index_builder("x", "rows", "{count: 1}"),
        FILES,
        file=column_builder(
            "file",
            "write",
            '{x: "<<self.x[index]>>", folder: ~ARTIFACT_FOLDER~}',
            "return_type: row-wise\ndtypes: {file: artifact_string}",
        ),
    )
    vault.execute_instance("made")
    vault.create_instance("made", copy=True)
    vault.execute_instance("made", force_execute=True)
    vault.gc(vault.plan_gc(keep_last=1))
    assert len(vault.get_table_instances("made")) == 1
    assert Path(vault.get_dataframe("made")[0]["file"][0]).read_text().startswith("text 0")
    assert vault.verify().ok


# --- rules ------------------------------------------------------------------------------------------------------------


def instance(row_id, moment, table_id=1, version="base", **facts):
    return SimpleNamespace(
        **{
            "row_id": row_id,
            "created_at": moment,
            "table_id": table_id,
            "version": version,
            "temporary": False,
            "active": True,
            "success": True,
            "origin": None,
            "instance_id": f"{version}_{row_id}",
            **facts,
        }
    )


def test_daily_weekly_and_monthly_rules_keep_the_newest_of_each_period():
    start = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
    moments = [start - timedelta(hours=12 * number) for number in range(120)]
    instances = [instance(120 - number, moment) for number, moment in enumerate(moments)]

    def dates(**rules):
        found = Rules.of(**rules).kept(instances, start)
        return [item.created_at.date().isoformat() for item in instances if item.row_id in found]

    assert dates(keep_daily=3) == ["2026-11-30", "2026-11-29", "2026-11-28"]
    assert dates(keep_weekly=3) == ["2026-11-30", "2026-11-29", "2026-11-22"]
    assert dates(keep_monthly=5) == ["2026-11-30", "2026-10-31"]
    assert dates(keep_within="1d") == ["2026-11-30", "2026-11-30", "2026-11-29"]
    assert len(dates(keep_last=200)) == 120
    assert Rules.of(keep_last=2, keep_monthly=1).policy == "keep_last=2, keep_monthly=1"


class Contents:
    """A random vault with tables, instances, tags and reads."""

    def __init__(self, seed):
        chance = random.Random(seed)
        self.rows = [
            instance(
                row_id,
                None,
                table_id=chance.randint(1, 3),
                version=chance.choice(["base", "v2"]),
                active=chance.random() < 0.8,
                success=chance.random() < 0.8,
                temporary=chance.random() < 0.1,
                origin=chance.choice([None, *range(1, row_id)]),
            )
            for row_id in range(1, chance.randint(2, 14))
        ]
        self.pairs = [
            (item.row_id, chance.randint(1, item.row_id - 1))
            for item in self.rows
            if item.row_id > 1 and chance.random() < 0.4
        ]
        self.tagged = {item.row_id for item in self.rows if chance.random() < 0.15 and not item.temporary}
        self.candidates = {item.row_id for item in self.rows if not item.temporary and chance.random() < 0.8}

    def tables(self):
        return [SimpleNamespace(table_id=number, name=f"t{number}") for number in (1, 2, 3)]

    def tags(self):
        return [SimpleNamespace(row_id=row_id, tag="paper") for row_id in self.tagged]

    def input_pairs(self):
        return self.pairs


def test_no_random_vault_loses_an_instance_that_is_needed():
    for seed in range(VAULTS):
        contents = Contents(seed)
        records = {item.row_id: item for item in contents.rows}
        found = Protection.find(SimpleNamespace(contents=contents), records, contents.candidates, keep_inputs=True)
        gone = contents.candidates - set(found.reasons)
        stays = {item.row_id for item in contents.rows} - gone
        materialized = [item for item in contents.rows if not item.temporary and item.active]
        for group in {(item.table_id, item.version) for item in materialized}:
            of_group = [item for item in materialized if (item.table_id, item.version) == group]
            assert max(item.row_id for item in of_group) in stays
            assert max((item.row_id for item in of_group if item.success), default=0) not in gone
        assert contents.tagged.isdisjoint(gone)
        assert gone.isdisjoint({item.origin for item in contents.rows if item.temporary})
        waiting = list(stays)
        while waiting:
            row_id = waiting.pop()
            inputs = {read for reader, read in contents.pairs if reader == row_id}
            assert inputs.isdisjoint(gone), seed
