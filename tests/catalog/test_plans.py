"""Round trips of plans, locks and errors through the catalog.

Records of earlier versions are included.
"""

import json
from datetime import UTC, datetime

import pytest

from tablevault.catalog import sqlite_catalog
from tablevault.values.changes import Imported
from tablevault.values.plans import (
    CreateTablePlan,
    DeleteInstancePlan,
    Dependency,
    ExecutePlan,
    PinnedInput,
    RenameTablePlan,
    StopPlan,
    UnchangedPlan,
    Unplanned,
    WriteInstancePlan,
    WritePlan,
    WriteTablePlan,
    decode_plan,
    encode_plan,
)
from tablevault.values.processes import (
    Creation,
    ErrorInfo,
    Lock,
    NewProcess,
    Owner,
    ProcessRecord,
    Status,
)

LOCKS = (Lock("code", True), Lock("table/a/instance/b", False))
EXECUTE = ExecutePlan(
    table_name="a",
    instance_id="TEMP_base",
    locks=LOCKS,
    creates=(Creation("a/base_1_x", "base_1_x"),),
    table_id=1,
    temporary=2,
    temporary_folder="a/TEMP_base",
    new_instance_id="base_1_x",
    inputs=(PinnedInput("b", None, 3), PinnedInput("c", "v2", 4)),
    origin=None,
    variables={"KEY": "calls.yaml, line 3"},
)


@pytest.fixture
def catalog(tmp_path):
    catalog = sqlite_catalog(tmp_path / "catalog.db")
    catalog.create("id", "now")
    return catalog


def begin(catalog, operation, plan):
    new = NewProcess("p", operation, "me", {}, None, True, False)
    return catalog.transitions.begin(new, plan, Owner("owner-1", "here", 1)).serial


@pytest.mark.parametrize(
    ("operation", "plan"),
    [
        ("execute_instance", EXECUTE),
        ("create_table", CreateTablePlan(table_name="a", locks=LOCKS, creates=(Creation("a"),), folder="a")),
        ("create_table", UnchangedPlan(table_name="a")),
        ("stop_process", StopPlan(serial=7)),
        ("delete_table", Unplanned(table_name="a")),
        ("an_operation_of_another_version", Unplanned()),
    ],
)
def test_recorded_plan_is_read_back_equal(catalog, operation, plan):
    serial = begin(catalog, operation, plan)
    assert catalog.processes.get(serial).plan == plan
    assert catalog.processes.unfinished()[0].plan == plan


def test_creations_are_not_part_of_the_encoded_plan(catalog):
    serial = begin(catalog, "create_table", CreateTablePlan(creates=(Creation("a"),), folder="a"))
    assert catalog.processes.get(serial).plan.creates == (Creation("a"),)
    assert "creates" not in encode_plan(catalog.processes.get(serial).plan)


@pytest.mark.parametrize(
    ("operation", "instance_id", "data", "expected"),
    [
        ("create_table", "", {"folder": "a", "creates": ["a"]}, CreateTablePlan(folder="a", creates=(Creation("a"),))),
        ("create_table", "", {"exists": True}, UnchangedPlan()),
        ("create_table", "", {}, Unplanned()),
        ("write", "v_1_x", {"unchanged": 5}, UnchangedPlan(instance_id="v_1_x")),
        (
            "rename_table",
            "",
            {"table_id": 1, "from": "a", "to": "b", "index_builders": ["TEMP_base"]},
            RenameTablePlan(table_id=1, source="a", target="b", index_builders=("TEMP_base",)),
        ),
        (
            "delete_instance",
            "v_1_x",
            {"row_id": 2, "folder": "a/v_1_x", "table_folder": "a", "unlink": None},
            DeleteInstancePlan(instance_id="v_1_x", row_id=2, folder="a/v_1_x", table_folder="a"),
        ),
        (
            "write",
            "v_1_x",
            {
                "version": "v",
                "instance_id": "v_1_x",
                "inputs": [["b", "w_1_x", 2]],
                "table_id": 1,
                "creates": ["a/v_1_x"],
            },
            WritePlan(
                instance_id="v_1_x",
                version="v",
                inputs=(Dependency("b", "w_1_x", 2),),
                table_id=1,
                creates=(Creation("a/v_1_x", "v_1_x"),),
            ),
        ),
        (
            "write",
            "v_1_x",
            {"version": "v", "instance_id": "v_1_x", "inputs": [], "table_folder": "a", "creates": ["a"]},
            WriteTablePlan(instance_id="v_1_x", version="v", inputs=(), table_folder="a", creates=(Creation("a"),)),
        ),
        (
            "write_instance",
            "TEMP_v",
            {"table_id": 1, "temporary": 3, "temporary_folder": "a/TEMP_v", "instance_id": "v_1_x", "folder": "v_1_x"}
            | {"creates": ["a/v_1_x"], "inputs": []},
            WriteInstancePlan(
                instance_id="TEMP_v",
                table_id=1,
                temporary=3,
                temporary_folder="a/TEMP_v",
                new_instance_id="v_1_x",
                inputs=(),
                creates=(Creation("a/v_1_x", "v_1_x"),),
            ),
        ),
    ],
)
def test_plan_of_an_earlier_version_is_read(operation, instance_id, data, expected):
    recorded = {"table_name": "", "instance_id": instance_id, "locks": [["code", True]], "data": data}
    assert decode_plan(operation, json.dumps(recorded)) == type(expected)(
        **{name: getattr(expected, name) for name in expected.__struct_fields__} | {"locks": (Lock("code", True),)}
    )


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "not JSON",
        '{"kind": "create table"}',
        '{"kind": "stop", "serial": 1}',
        '{"kind": "create table", "folder": 1}',
        '{"table_name": "a", "instance_id": "", "locks": [], "data": {"folder": 1}}',
        '{"table_name": "a", "instance_id": "", "locks": [["code"]], "data": {"folder": "a"}}',
    ],
)
def test_plan_of_another_operation_or_form_is_refused(text):
    with pytest.raises((ValueError, LookupError, TypeError)):
        decode_plan("create_table", text)


def test_imported_process_is_read_back_equal(catalog):
    record = ProcessRecord(
        serial=1,
        process_id="old",
        operation="execute_instance",
        author="me",
        table_name="a",
        instance_id="TEMP_base",
        arguments={"table_name": "a"},
        plan=EXECUTE,
        parent_serial=None,
        user_given=True,
        background=False,
        status=Status.REVERTED,
        finished=True,
        attempt=1,
        owner_lock=None,
        owner_host="",
        owner_pid=0,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        ended_at=datetime(2026, 1, 2, tzinfo=UTC),
        error=ErrorInfo("ValueError", "bad “quotes”", "Traceback …"),
        progress={},
        stop_requested=False,
    )
    catalog.record_imported(Imported((record,), (), (), ()))
    read = catalog.processes.get(1)
    assert read.plan.locks == LOCKS
    assert read.error == record.error
    assert (read.arguments, read.started_at, read.ended_at) == (record.arguments, record.started_at, record.ended_at)
