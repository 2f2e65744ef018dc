"""Each class of error says what is wrong, and what to do about it."""

from __future__ import annotations

import inspect
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from waiting import PATIENCE

from tablevault import TableVault, tv_errors

BROKEN = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: {function}
code_module: job
is_custom: true
arguments: {arguments}
"""
CODE = "def rows(n=1):\n    raise ConnectionError('no network')\n"


@pytest.fixture
def vault(tmp_path):
    vault = TableVault(tmp_path / "vault", create=True, author="ada", lock_timeout=0.1)
    vault.create_code_module("job", text=CODE)
    for table in ("stories", "words"):
        vault.create_table(table)
    vault.create_instance("words", external_edit=True)
    return vault


def execute(vault, function="rows", arguments="{}", **options):
    text = BROKEN.format(function=function, arguments=arguments)
    vault.create_instance("stories", builders={"stories_index": text})
    vault.execute_instance("stories", **options)


def write(vault, value, **options):
    vault.write_instance(pd.DataFrame({"word": [value]}), "words", **options)


def needs_what_is_held(vault):
    with pytest.raises(ConnectionError):
        execute(vault, process_id="nightly")
    vault.delete_table("stories")


def reads_what_is_damaged(vault):
    write(vault, "one")
    (folder,) = (Path(vault.db_dir) / "words").glob("base_*")
    path = folder / "table.parquet"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-20])
    vault.get_dataframe("words")


ENDLESS = """
import time
from itertools import count

def rows():
    for x in count():
        time.sleep(0.01)
        yield x
"""


def is_stopped(vault):
    """Run a process until another caller stops it."""
    vault.create_code_module("job", text=ENDLESS)

    def stop():
        while "nightly" not in vault.get_active_processes():
            time.sleep(0.01)
        vault.stop_process("nightly", force=True, timeout=PATIENCE)

    stopping = threading.Thread(target=stop)
    stopping.start()
    try:
        execute(vault, arguments="{}\nreturn_type: generator", process_id="nightly")
    finally:
        stopping.join()


def spends_its_budget(vault):
    vault.create_code_module("job", text="def rows():\n    yield 1\n    yield 2\n\n\ndef shown(x):\n    return x\n")
    index = BROKEN.format(function="rows", arguments="{}\nreturn_type: generator\ndtypes: {x: int64}")
    shown = BROKEN.format(
        function="shown", arguments="{x: '<<self.x[index]>>'}\nreturn_type: row-wise\nbudget: {calls: 1}"
    )
    shown = shown.replace("IndexBuilder", "ColumnBuilder").replace("changed_columns: [x]", "changed_columns: [y]")
    vault.create_instance("stories", builders={"stories_index": index, "y": shown})
    vault.execute_instance("stories", process_id="nightly")


JOBS = """
class Provider:
    def submit(self, token, x):
        return "batch-1"

    def poll(self, job):
        return None
"""


def waits_for_jobs(vault):
    index = BROKEN.format(function="rows", arguments="{}\nreturn_type: generator\ndtypes: {x: int64}")
    jobs = "{x: '<<self.x[index]>>'}\nreturn_type: batch\nexecutor: jobs\nwait: false"
    shown = BROKEN.format(function="Provider", arguments=jobs)
    shown = shown.replace("IndexBuilder", "ColumnBuilder").replace("changed_columns: [x]", "changed_columns: [y]")
    vault.create_code_module("job", text=f"def rows():\n    yield 1\n\n\n{JOBS}")
    vault.create_instance("stories", builders={"stories_index": index, "y": shown})
    vault.execute_instance("stories", process_id="nightly")


def meets_a_bug(vault):
    raise tv_errors.TVImplementationError("Something that cannot be is so.")


SAID = {
    "TVArgumentError": (lambda vault: vault.delete_table("storys"), "did you mean 'stories'"),
    "TVLockError": (needs_what_is_held, "resume it with .*TableVault.*or stop it with"),
    "TVProcessError": (lambda vault: vault.get_process("x"), r"get_history\(\) list"),
    "TVBuilderError": (lambda vault: execute(vault, "row"), "did you mean 'rows'"),
    "TVTableError": (lambda vault: write(vault, "one", dtypes={"wrod": "string"}), "did you mean 'word'"),
    "TVArtifactError": (lambda vault: write(vault, "a.png", dtypes={"word": "artifact_string"}), "a.png"),
    "TVFileError": (reads_what_is_damaged, "Restore it from a backup"),
    "TVForcedError": (is_stopped, "another process id"),
    "JobsPending": (waits_for_jobs, "Make the same call again to poll them"),
    "BudgetSpent": (spends_its_budget, "same call with a larger budget"),
    "TVImplementationError": (meets_a_bug, "please report it"),
    "TableReferenceError": (lambda vault: execute(vault, arguments='{n: "<<words.word[>>"}'), r"\^"),
}


@pytest.mark.parametrize("name", SAID)
def test_error_names_its_remedy(vault, name):
    act, said = SAID[name]
    with pytest.raises(getattr(tv_errors, name), match=f"(?s){said}"):
        act(vault)


def test_no_class_of_error_is_left_out():
    classes = {name for name, kind in vars(tv_errors).items() if inspect.isclass(kind)}
    assert set(SAID) == classes - {"TableVaultError", "TableVaultWarning", "RetryLater", "StopRun"}


def test_errors_quote_texts_of_any_kind_in_printable_form(vault):
    surrogate, long = "\udcff", "x" * 100_000
    vault.write("given", pd.DataFrame({"a": [1]}))
    for name, quoted in ((surrogate, r"\udcff"), (long, "characters omitted")):
        for call in (
            lambda name=name: vault.read("given", columns=[name]),
            lambda name=name: vault.write("given", pd.DataFrame({"a": [1]}), primary_key=name),
            lambda name=name: vault.write("given", pd.DataFrame({"a": [1]}), dtypes={name: "string"}),
        ):
            with pytest.raises(tv_errors.TableVaultError) as caught:
                call()
            assert quoted in str(caught.value)
            assert len(str(caught.value).encode("utf-8")) < 25_000
