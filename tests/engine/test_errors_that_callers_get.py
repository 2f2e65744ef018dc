"""The caller gets the original exception, with a note that says what became of the process."""

from __future__ import annotations

import re
import traceback

import pytest

from tablevault import TableVault, TableVaultWarning, tv_errors


def failed(job, process_id=""):
    """Execute a job that fails at row 4 and return what was raised."""
    job.tell("fail", 4)
    with pytest.raises(RuntimeError) as caught:
        job.execute(process_id)
    return caught.value


def test_the_exception_is_the_functions_own_with_its_traceback(job):
    error = failed(job)
    assert type(error) is RuntimeError
    assert error.args == ("no answer for 4",)
    last = traceback.extract_tb(error.__traceback__)[-1]
    assert (last.name, last.line) == ("answer", 'raise RuntimeError(f"no answer for {x}")')


def test_the_exception_keeps_its_own_context_and_no_other(job):
    error = failed(job)
    assert error.__cause__ is None
    assert not error.__suppress_context__
    assert isinstance(error.__context__, KeyError)
    assert error.__context__.__context__ is None


def test_a_note_names_the_function_builder_and_row(job):
    assert "answer() of builder 'answer' for row 4" in failed(job).__notes__[0]


def test_note_of_a_reverted_process_counts_kept_cells_and_names_the_remedy(job):
    assert failed(job).__notes__[-1] == "reverted; 14 computed cells are kept; reuse_partial=True reuses them."
    job.forget()
    job.tell("fail")
    job.execute(reuse_partial=True)
    assert job.noted("called") == [4, 5, 6, 7, 8, 9]
    assert job.answers() == job.complete()


def test_the_note_of_a_paused_process_says_how_to_resume_and_stop_it(job):
    note = failed(job, "nightly").__notes__[-1]
    assert note == f"paused as 'nightly':\n{job.vault.get_process('nightly').hint}"


def test_internal_error_before_any_computation_says_that_nothing_happened(vault):
    vault.create_code_module("raising", text="raise ValueError('at import')\ndef index():\n    return []\n")
    vault.create_table("stories")
    vault.create_instance("stories")
    vault.create_builder_file(
        "stories",
        text="builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: index\ncode_module: raising\n"
        "is_custom: true\n",
    )
    with pytest.raises(ValueError, match="at import") as caught:
        vault.execute_instance("stories")
    assert caught.value.__notes__[-1] == "reverted: the vault is as if the operation had never started."


WRONG_RESULTS = """
import pandas as pd

def index(kind):
    return pd.DataFrame({"x": range(3)})

def wrong(x, kind):
    if x < 2 and kind != "frame":
        return 1, 2
    return {"few": (1,), "many": (1, 2, 3), "type": ("a", 2), "stored": (object(), 2)}[kind]
"""

WRONG = """
builder_type: ColumnBuilder
changed_columns: [a, b]
python_function: wrong
code_module: wrong
is_custom: true
return_type: row-wise
dtypes: {{{dtypes}}}
arguments: {{x: "<<self.x[index]>>", kind: {kind}}}
"""


@pytest.mark.parametrize(
    ("kind", "dtypes", "expected"),
    [("few", "", "row 2"), ("many", "", "row 2"), ("type", "a: int64", "'a'.*row 2"), ("stored", "", "row 2")],
)
def test_wrong_return_value_pauses(vault, kind, dtypes, expected):
    vault.create_code_module("wrong", text=WRONG_RESULTS)
    vault.create_table("stories")
    vault.create_instance("stories")
    vault.create_builder_file(
        "stories",
        text="builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: index\ncode_module: wrong\n"
        "is_custom: true\narguments: {kind: any}\n",
    )
    vault.create_builder_file("stories", "wrong", text=WRONG.format(kind=kind, dtypes=dtypes))
    with pytest.raises((TypeError, ValueError), match=expected) as caught:
        vault.execute_instance("stories", process_id="nightly")
    assert "wrong" in str(caught.value) + "".join(caught.value.__notes__)
    assert not isinstance(caught.value, tv_errors.TableVaultError)
    assert vault.get_process("nightly").status == "paused"
    assert vault.get_process("nightly").progress["wrong"].computed == 2


NESTED_ERROR = """
import pandas as pd
from tablevault import TableVault

def index(folder, parent):
    TableVault(folder, parent_id=parent).delete_table("missing")
"""


def test_an_internal_error_of_a_nested_operation_is_external_to_its_parent(vault, tmp_path):
    vault.create_code_module("nested", text=NESTED_ERROR)
    vault.create_table("stories")
    vault.create_instance("stories")
    vault.create_builder_file(
        "stories",
        text="builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: index\ncode_module: nested\n"
        f"is_custom: true\narguments: {{folder: '{tmp_path}/vault', parent: ~PROCESS_ID~}}\n",
    )
    with pytest.raises(tv_errors.TVArgumentError, match="missing"):
        vault.execute_instance("stories", process_id="nightly")
    assert vault.get_process("nightly").status == "paused"


BIG = """
import os
import resource
import signal
import time

def answer(x, control):
    if x == 3:
        time.sleep(0.5)  # so that the rows before are durable
        # From here on the disk is full for checkpoints, but not for the catalog, which has grown already.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
    # What is computed from here on fits into no file, neither with other rows nor alone.
    return os.urandom({size} * (6 if x >= 3 else 1)).hex()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process_id", "on_error"), [("", "pause"), ("nightly", "pause"), ("nightly", "collect"), ("nightly", "revert")]
)
def test_a_full_disk_is_an_external_error(job, process_id, on_error):
    size = 2 * (job.path / "metadata" / "catalog.db").stat().st_size + 4_000_000
    code = job.vault.get_code_module_str("jobs").partition("def answer")[0]
    job.vault.create_code_module("jobs", text=code + BIG.format(limit=size, size=size // 5))
    policies = {"answer": {"on_error": on_error}}
    left = job.run(f"vault.execute_instance('stories', process_id={process_id!r}, policies={policies!r})")
    assert left.status == 1
    assert "OSError" in left.errors
    info = job.vault.get_history(operation="execute_instance")[0]
    assert info.error is not None
    assert info.error.type == "OSError"
    if not process_id:
        assert info.status == "reverted"
        return
    assert info.status == "paused"
    unsaved = re.search("(\\d+) computed rows could not be saved and will be repeated", left.errors)
    assert unsaved
    job.vault.create_code_module("jobs", text=code + "def answer(x, control):\n    return f'{x}-ok'\n")
    job.execute("nightly")
    answers = job.answers()
    repeated = sum(answer.endswith("-ok") for answer in answers)
    assert repeated < 10
    assert info.progress["answer"].computed - int(unsaved[1]) == 10 - repeated


def test_an_error_whose_text_cannot_be_had_pauses_like_any_other(job):
    text = "class WrongError(Exception):\n    def __str__(self):\n        return 1 / 0\n\n"
    code = job.vault.get_code_module_str("jobs").replace('RuntimeError(f"no answer for {x}")', "WrongError(x)")
    job.vault.create_code_module("jobs", text=text + code)
    job.tell("fail", 4)
    with pytest.raises(Exception) as caught:
        job.execute("nightly")
    assert type(caught.value).__name__ == "WrongError"
    info = job.vault.get_process("nightly")
    assert info.status == "paused"
    assert info.error is not None
    assert info.error.type.endswith("WrongError")
    job.tell("fail")
    job.execute("nightly")
    assert job.answers() == job.complete()


def test_warning_points_to_the_line_that_called(tmp_path):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_table("t", process_id="once")
    with pytest.warns(TableVaultWarning, match="already succeeded") as caught:
        vault.create_table("t", process_id="once")
    assert [warning.filename for warning in caught] == [__file__]


def test_error_of_a_function_keeps_its_traceback_for_any_class(tmp_path, monkeypatch):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_code_module(
        "nested",
        text="from tablevault import tv_errors\ndef make():\n    raise tv_errors.TVArgumentError('of the function')\n",
    )
    vault.create_table("t")
    index = "builder_type: IndexBuilder\nchanged_columns: [k]\npython_function: make\ncode_module: nested\nis_custom: true\n"
    vault.create_instance("t", builders={"t_index": index})
    with pytest.raises(tv_errors.TVArgumentError) as caught:
        vault.execute_instance("t")
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "make"
