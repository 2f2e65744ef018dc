"""Operations inside a function of an execution are children of its process."""

from __future__ import annotations

import pytest
from jobs import ANSWER, INDEX, ended
from waiting import PATIENCE, until

from tablevault import TableVault, tv_errors

CODE = """
import pandas as pd
from tablevault import TableVault, tv_errors

from jobs import is_told, note


def nested(x, control, folder, parent):
    vault = TableVault(folder, author="child", parent_id=parent, lock_timeout=0.5)
    %s
    return x
"""

BUILDER = """
builder_type: ColumnBuilder
changed_columns: [answer]
python_function: nested
code_module: nesting
is_custom: true
return_type: row-wise
arguments: {{x: "<<self.x[index]>>", control: "{control}", folder: "{folder}", parent: ~PROCESS_ID~}}
"""


@pytest.fixture
def nesting(job):
    """Let the job's function run a text, in which `vault` is the child's."""

    def nest(text, count=3):
        job.vault.create_code_module("nesting", text=CODE % text.replace("\n", "\n    "))
        job.build(count)
        job.vault.create_builder_file("stories", "answer", text=BUILDER.format(control=job.control, folder=job.path))
        return job

    return nest


def test_catalog_records_the_parent_and_finished_children_stay(nesting):
    job = nesting('vault.create_table(f"t{x}")\nif x == 1:\n    raise RuntimeError("after the child")')
    with pytest.raises(RuntimeError, match="after the child"):
        job.execute()
    parent = job.vault.get_history(operation="execute_instance")[0]
    assert parent.status == "reverted"
    children = [info for info in job.vault.get_history(author="child") if info.operation == "create_table"]
    assert [info.parent_id for info in children] == [parent.process_id] * 2
    assert job.vault.get_tables() == ["stories", "t0", "t1"]


def test_a_row_that_is_run_again_repeats_nothing_that_its_children_did(nesting):
    job = nesting(
        'note(control, "called", x)\n'
        "import warnings\n"
        "with warnings.catch_warnings():\n"
        '    warnings.simplefilter("ignore", tv_errors.TableVaultWarning)\n'
        '    vault.create_table(f"t{x}", process_id=f"{parent}-{x}")\n'
        'if is_told(control, "fail", x):\n    raise RuntimeError("after the child")'
    )
    job.tell("fail", 1)
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    job.tell("fail")
    job.execute("nightly")
    assert job.noted("called") == [0, 1, 1, 2]
    assert job.vault.get_tables() == ["stories", "t0", "t1", "t2"]
    assert len(job.vault.get_history(operation="create_table", author="child")) == 3


def test_child_reads_outputs_and_inputs_of_its_parent(nesting):
    job = nesting('shown, _ = vault.get_dataframe("stories", instance_id="TEMP_base")\nreturn f"{len(shown)} rows"')
    job.execute("nightly")
    assert job.answers() == ["3 rows"] * 3


@pytest.mark.parametrize(
    "change",
    [
        'vault.delete_table("stories")',
        'vault.delete_instance("TEMP_base", "stories")',
        'vault.create_builder_file("stories", "answer")',
        'vault.execute_instance("stories")',
        'vault.rename_table("tales", "stories")',
    ],
)
def test_child_cannot_change_outputs_of_its_parent(nesting, change):
    job = nesting(change)
    with pytest.raises(tv_errors.TVLockError, match=r"'nightly' \(execute_instance\), inside which"):
        job.execute("nightly")
    assert job.vault.get_process("nightly").status == "paused"
    job.vault.stop_process("nightly")
    assert job.vault.get_builders_list("stories") == ["answer", "stories_index"]


def test_children_block_each_other_as_usual(nesting):
    job = nesting(
        'note(control, "called", x)\n'
        'vault.create_table("made")\n'
        'vault.create_instance("made", builders={"made_index": INDEX})\n'
        'vault.execute_instance("made")\n',
        count=1,
    )
    text = job.vault.get_code_module_str("nesting")
    index = (
        "builder_type: IndexBuilder\\nchanged_columns: [x]\\npython_function: blocked\\ncode_module: nesting\\n"
        f"is_custom: true\\narguments: {{folder: '{job.path}', parent: ~PROCESS_ID~, control: '{job.control}'}}\\n"
    )
    blocked = """

def blocked(folder, parent, control):
    grandparent = TableVault(folder).get_process(parent).parent_id
    sibling = TableVault(folder, parent_id=grandparent, lock_timeout=0.2)
    try:
        sibling.delete_table("made")
    except tv_errors.TVLockError:
        note(control, "held", 1)
    return pd.DataFrame({"x": [1]})
"""
    job.vault.create_code_module("nesting", text=f'INDEX = "{index}"\n{text}{blocked}')
    job.execute("nightly")
    assert job.noted("held") == [1]
    assert "made" in job.vault.get_tables()


def test_child_reverts_on_an_error_unless_it_has_its_own_id(nesting, job):
    job.vault.create_table("poems")
    job.vault.create_instance("poems")
    job.vault.create_builder_file("poems", text=INDEX.format(count=10))
    job.vault.create_builder_file("poems", "answer", text=ANSWER.format(threads=1, control=job.control))
    job.tell("fail", 4)
    nesting('vault.execute_instance("poems", process_id=CHILD)', count=1)
    text = job.vault.get_code_module_str("nesting")
    job.vault.create_code_module("nesting", text=f'CHILD = ""\n{text}')
    with pytest.raises(RuntimeError):
        job.execute()
    assert job.vault.get_active_processes() == {}
    job.vault.create_code_module("nesting", text=f'CHILD = "child"\n{text}')
    with pytest.raises(RuntimeError):
        job.execute()
    assert set(job.vault.get_active_processes()) == {"child"}
    # It is a process of its own now: its parent has ended.
    job.tell("fail")
    job.vault.execute_instance("poems", process_id="child")
    assert job.vault.get_process("child").status == "succeeded"


@pytest.fixture
def family(nesting, job):
    """The job, with a function that starts a child `child` in the background.

    The function then fails on request.
    """
    job.vault.create_table("poems")
    job.vault.create_instance("poems")
    job.vault.create_builder_file("poems", text=INDEX.format(count=10))
    job.vault.create_builder_file("poems", "answer", text=ANSWER.format(threads=1, control=job.control))
    job.tell("hold", 4)
    return nesting(
        'if not vault.get_history(table_name="poems", operation="execute_instance"):\n'
        '    vault.execute_instance("poems", process_id="child", background=True)\n'
        'if is_told(control, "fail", "parent"):\n    raise RuntimeError("parent")',
        count=1,
    )


@pytest.mark.slow
def test_a_child_goes_on_when_its_parent_ends(family):
    family.execute("nightly")
    assert family.vault.get_process("nightly").status == "succeeded"
    assert family.vault.get_process("child").parent_id == "nightly"
    until(lambda: family.noted("held"))
    assert family.vault.get_process("child").status == "running"
    family.tell("hold")
    assert family.vault.wait_process("child", timeout=PATIENCE).status == "succeeded"


@pytest.mark.slow
def test_stopping_a_parent_stops_its_active_children(family):
    family.tell("fail", "parent")
    with pytest.raises(RuntimeError, match="parent"):
        family.execute("nightly")
    until(lambda: family.noted("held"))
    with pytest.raises(tv_errors.TVProcessError, match=r"'child' .*force=True"):
        family.vault.stop_process("nightly")
    assert family.vault.get_process("nightly").status == "paused"
    family.vault.stop_process("nightly", force=True, timeout=0.5)
    assert family.vault.get_process("nightly").status == "stopped"
    assert family.vault.get_process("child").status == "stopped"
    assert family.vault.get_active_processes() == {}


def test_a_parent_must_be_running(job):
    with pytest.raises(tv_errors.TVProcessError, match="no process 'unknown'"):
        TableVault(job.path, parent_id="unknown")
    job.tell("fail", 4)
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    with pytest.raises(tv_errors.TVProcessError, match="not running"):
        TableVault(job.path, parent_id="nightly")
    job.tell("fail")
    job.execute("nightly")
    with pytest.raises(tv_errors.TVProcessError, match="not running"):
        TableVault(job.path, parent_id="nightly")


@pytest.mark.slow
def test_an_id_proves_nothing(job):
    job.tell("hold", 4)
    owner = job.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: job.noted("held"), owner)
    # An operation that names the parent becomes its child, with the restrictions of one.
    child = TableVault(job.path, parent_id="nightly")
    assert child.get_process(child.create_table("others")).parent_id == "nightly"
    with pytest.raises(tv_errors.TVLockError, match="inside which"):
        child.delete_table("stories")
    job.tell("hold")
    assert ended(owner).status == 0
