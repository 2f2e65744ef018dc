"""Every example and every sentence of the page "Handling Execution Errors", as written there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tablevault as package
from tablevault import TableVault, tv_errors

MESSAGE = """HTTPSConnectionPool(
    host='api.openai.com',
    port=443
): Max retries exceeded with url: /v1/chat/completions
(Caused by NewConnectionError('Temporary failure in name resolution'))"""

CODE = '''
import sys
import types
from pathlib import Path

import pandas as pd

openai = types.ModuleType("openai")
openai.error = types.ModuleType("openai.error")


class APIConnectionError(Exception):
    """What the client of a language model raises when there is no network."""


APIConnectionError.__module__ = "openai.error"
openai.error.APIConnectionError = APIConnectionError


def questions():
    return pd.DataFrame({"question": ["one", "two", "three", "four"]})


def respond(question, network, calls):
    with open(calls, "a") as file:
        print(question, file=file)
    if question == "three" and not Path(network).exists():
        raise openai.error.APIConnectionError(MESSAGE)
    return f"response to {question}"
'''.replace("MESSAGE", repr(MESSAGE))

INDEX = """
builder_type: IndexBuilder
changed_columns: [question]
python_function: questions
code_module: client
is_custom: true
primary_key: [question]
"""

RESPONSE = """
builder_type: ColumnBuilder
changed_columns: [response]
python_function: respond
code_module: client
is_custom: true
return_type: row-wise
arguments: {{question: "<<self.question[index]>>", network: "{folder}/network", calls: "{folder}/calls"}}
"""

ALL = [f"response to {question}" for question in ("one", "two", "three", "four")]


class Service:
    """The network that fails, and the calls that reached the client."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def come_back(self) -> None:
        (self._folder / "network").touch()

    def calls(self) -> list[str]:
        path = self._folder / "calls"
        found = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return found


@pytest.fixture
def service(tmp_path):
    return Service(tmp_path)


@pytest.fixture
def tablevault(tmp_path, monkeypatch):
    """The vault of the examples, in the current folder.

    One table asks a language model.
    """
    monkeypatch.chdir(tmp_path)
    vault = TableVault(db_dir="stories_tv", author="jinjin", create=True)
    vault.create_code_module("client", text=CODE)
    vault.make_table(table_name="openai_responses")
    builders = {"openai_responses_index": INDEX, "response": RESPONSE.format(folder=tmp_path)}
    vault.create_instance("openai_responses", builders=builders)
    return vault


def responses(tablevault, **options):
    frame, _ = tablevault.get_dataframe("openai_responses", **options)
    return frame["response"].astype(object).where(frame["response"].notna(), None).tolist()


def fails(tablevault, **options):
    """Execute, and return the error that the client raised, as the client raised it."""
    with pytest.raises(Exception, match="Max retries exceeded") as caught:
        tablevault.execute_instance(table_name="openai_responses", **options)
    assert f"{caught.type.__module__}.{caught.type.__qualname__}" == "openai.error.APIConnectionError"
    assert str(caught.value) == MESSAGE
    assert caught.traceback[-1].name == "respond"
    return caught.value


# --- 1. External errors without a process id, and internal errors -------------------------------------------------


def test_external_error_is_reverted_and_the_rerun_starts_over(tablevault, service):
    error = fails(tablevault)
    assert "reverted" in error.__notes__[-1]
    assert tablevault.get_active_processes() == {}
    assert tablevault.get_table_instances("openai_responses") == []
    assert tablevault.get_table_instances("openai_responses", include_temp=True) == ["TEMP_base"]
    assert service.calls() == ["one", "two", "three"]
    service.come_back()
    # re-execute the command
    tablevault.execute_instance(table_name="openai_responses")
    # restarts from the beginning
    assert service.calls() == ["one", "two", "three", "four"]
    assert responses(tablevault) == ALL


def test_partially_executed_dataframes_stay_readable_for_debugging(tablevault):
    fails(tablevault)
    assert responses(tablevault, instance_id="TEMP_base") == [*ALL[:2], None, None]


def test_after_an_error_builder_and_module_files_can_be_edited_directly(tablevault, tmp_path):
    fails(tablevault)
    module = tmp_path / "stories_tv" / "code_functions" / "client.py"
    module.write_text(module.read_text().replace("response to", "answer to").replace("Path(network).exists()", "True"))
    builder = tmp_path / "stories_tv" / "openai_responses" / "TEMP_base" / "builders" / "response.yaml"
    builder.write_text(builder.read_text().replace("[response]", "[answer]"))
    tablevault.execute_instance(table_name="openai_responses")
    frame, _ = tablevault.get_dataframe("openai_responses")
    assert list(frame["answer"]) == [text.replace("response", "answer") for text in ALL]


def test_a_forbidden_table_name_is_an_argument_error_and_reverts(tablevault):
    with pytest.raises(tv_errors.TVArgumentError) as caught:
        tablevault.make_table(table_name="artifacts")
    assert str(caught.value) == "Forbidden Table Name: artifacts"
    assert f"tv_errors.{caught.type.__name__}: {caught.value}" == (
        "tv_errors.TVArgumentError: Forbidden Table Name: artifacts"
    )
    tablevault.make_table(table_name="short_stories_store")
    assert tablevault.get_tables() == ["openai_responses", "short_stories_store"]


def test_an_internal_error_reverts_whether_or_not_there_is_a_process_id(tablevault):
    process_id = tablevault.generate_process_id()
    with pytest.raises(tv_errors.TVArgumentError, match="Forbidden Table Name: artifacts"):
        tablevault.make_table(table_name="artifacts", process_id=process_id)
    assert tablevault.get_active_processes() == {}
    assert tablevault.get_process(process_id).status == "reverted"
    assert tablevault.make_table(table_name="short_stories_store", process_id=process_id) == process_id


# --- 2. External errors with a process id, and interrupts ---------------------------------------------------------


def test_error_with_a_process_id_pauses_and_the_rerun_resumes(tablevault, service):
    # generate process_id
    process_id = tablevault.generate_process_id()
    # execute process
    error = fails(tablevault, process_id=process_id)
    assert f"paused as '{process_id}'" in error.__notes__[-1]
    assert tablevault.get_active_processes()[process_id].status == "paused"
    assert service.calls() == ["one", "two", "three"]
    service.come_back()
    # re-execute the command with the SAME process_id
    tablevault.execute_instance(table_name="openai_responses", process_id=process_id)
    # restarts from checkpoint
    assert service.calls() == ["three", "four"]
    assert responses(tablevault) == ALL
    assert tablevault.get_active_processes() == {}


def test_a_paused_operation_maintains_its_locks(tablevault):
    process_id = tablevault.generate_process_id()
    fails(tablevault, process_id=process_id)
    for call in (
        lambda: tablevault.delete_table("openai_responses"),
        lambda: tablevault.execute_instance(table_name="openai_responses"),
        lambda: tablevault.create_builder_file("openai_responses", "other"),
    ):
        with pytest.raises(tv_errors.TVLockError, match=process_id):
            call()
    tablevault.make_table("unrelated")


def test_input_arguments_of_a_paused_operation_cannot_be_changed(tablevault, service):
    process_id = tablevault.generate_process_id()
    fails(tablevault, process_id=process_id)
    service.come_back()
    with pytest.raises(tv_errors.TVProcessError, match="force_execute"):
        tablevault.execute_instance(table_name="openai_responses", force_execute=True, process_id=process_id)
    assert tablevault.get_active_processes()[process_id].status == "paused"


def test_a_restart_takes_up_all_active_processes(tablevault, service):
    process_id = tablevault.generate_process_id()
    fails(tablevault, process_id=process_id)
    service.calls()
    service.come_back()
    tablevault = TableVault(db_dir="stories_tv", restart=True)
    assert tablevault.restart_report == {process_id: "resumed"}
    assert service.calls() == ["three", "four"]
    assert responses(tablevault) == ALL


def test_a_restart_after_a_system_crash_goes_on_where_it_was(tablevault, service, tmp_path):
    client = tmp_path / "stories_tv" / "code_functions" / "client.py"
    original = client.read_text()
    client.write_text(
        original.replace("raise openai", "__import__('os').kill(__import__('os').getpid(), 9)\n        #")
    )
    program = (
        "from tablevault import TableVault\n"
        "TableVault('stories_tv').execute_instance('openai_responses', process_id='crashing')"
    )
    source = str(Path(package.__file__).parents[1])
    killed = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": source}, cwd=tmp_path, check=False)
    assert killed.returncode == -9
    client.write_text(original)
    service.calls()
    service.come_back()
    tablevault = TableVault(db_dir="stories_tv", restart=True)
    assert tablevault.restart_report == {"crashing": "resumed"}
    assert set(service.calls()) <= {"two", "one", "three", "four"}
    assert responses(tablevault) == ALL


def test_stop_process_reverts_an_active_process(tablevault):
    process_id = tablevault.generate_process_id()
    fails(tablevault, process_id=process_id)
    assert list(tablevault.get_active_processes()) == [process_id]
    tablevault.stop_process(process_id=process_id)
    assert tablevault.get_active_processes() == {}
    assert tablevault.get_process_completion(process_id)
    assert tablevault.get_table_instances("openai_responses") == []
    tablevault.delete_table("openai_responses")


def test_stop_process_can_materialize_the_partially_generated_dataframe(tablevault):
    process_id = tablevault.generate_process_id()
    fails(tablevault, process_id=process_id)
    # materialize only applies to `execute_instance()` operations
    tablevault.stop_process(process_id=process_id, materialize=True)
    assert responses(tablevault) == [*ALL[:2], None, None]
    with pytest.raises(tv_errors.TVArgumentError):
        tablevault.get_dataframe("openai_responses", successful_only=True)
