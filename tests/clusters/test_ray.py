"""Rows with `executor: ray` mean the same as with any other executor."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest
from cluster_work import Work

from tablevault import TableVault, tv_errors
from tablevault.rows import ray_executor, ray_worker

pytestmark = pytest.mark.ray


# --- results ----------------------------------------------------------------------------------------------------------


def test_rows_are_computed_by_workers_that_have_the_modules_as_texts(work):
    work.build("square", 300)
    work.run()
    assert work.cells() == [x * x for x in range(300)]
    assert len(work.workers()) == 1
    assert os.getpid() not in work.workers()


def test_rows_of_async_functions_run_at_once_in_one_worker(work):
    work.build("square_soon", 60)
    work.run()
    assert work.cells() == [x * x for x in range(60)]
    assert len(work.workers()) == 1


def test_batches_are_computed_by_workers(work):
    work.build("many", 50, return_type="batch", batch_size=7)
    work.run()
    assert work.cells() == [x + 1 for x in range(50)]


@pytest.mark.parametrize("name", ["Adding", "AddingSoon"])
def test_each_worker_makes_an_object_and_closes_it(work, name):
    work.build(name, 20, setup_arguments={"base": 5, "control": str(work.control)})
    work.run()
    assert work.cells() == [x + 5 for x in range(20)]
    assert sorted(work.noted("opened")) == sorted(work.noted("closed"))
    assert len(work.noted("opened")) == 1
    work.again()
    work.run()
    assert len(work.noted("opened")) == 1, "nothing is set up where all rows are reused"


@pytest.mark.slow
def test_a_function_that_is_called_once_runs_in_a_worker(work):
    work.build("whole", 3, return_type="dataframe", max_workers=None, arguments={"control": "none"})
    work.run()
    assert len(set(work.cells())) == 1
    assert os.getpid() not in work.cells()


@pytest.mark.slow
def test_retries_services_usage_and_validation_mean_the_same(work):
    work.vault.set_service("net", {"max_concurrency": 1})
    placeholders = {"attempt": "~ATTEMPT~", "error": "~LAST_ERROR~"}
    arguments = {"x": "<<self.x[index]>>", **placeholders, "control": str(work.control)}
    fields = {"retry": {"max_retries": 1, "wait": 0.01}, "service": "net", "validate": "check_text"}
    work.build("fail_once", 4, arguments=arguments, on_error="collect", max_failures="100%", max_workers=2, **fields)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        process_id = work.run()
    assert work.cells() == [None if x == 2 else f"no network for {x}" for x in range(4)]
    assert [(index, message) for index, _, message in work.errors()] == [(2, "two is refused")]
    usage = work.vault.get_process(process_id).usage
    assert (usage["calls"], usage["tokens"]) == (8, 16)
    assert len(work.noted("called")) == 8


@pytest.mark.slow
def test_one_row_becomes_many_on_a_cluster(work):
    work.build("square", 5)
    work.run()
    work.vault.create_table("parts")
    work.vault.create_instance("parts")
    fields = {"changed_columns": ["y"], "return_type": "row-wise", "executor": "ray", "for_each": "t", "max_workers": 1}
    arguments = {"x": "<<t.x[index]>>", "control": str(work.control)}
    work.write("parts", "", "IndexBuilder", "split", arguments, **fields)
    work.vault.execute_instance("parts")
    assert work.vault.read("parts")["y"].tolist() == [10 * x + part for x in range(5) for part in range(x)]


# --- artifacts --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("size", [1_000, 5_000_000])
def test_files_of_workers_arrive_and_go_to_others(work, size):
    arguments = {"x": "<<self.x[index]>>", "folder": "~ARTIFACT_FOLDER~", "size": size}
    work.build("write_file", 4, arguments=arguments, dtypes={"a": "artifact_string"})
    fields = {"changed_columns": ["size", "path"], "return_type": "row-wise", "executor": "ray", "max_workers": 1}
    work.write("t", "size", "ColumnBuilder", "size_of", {"path": "<<self.a[index]>>"}, **fields)
    work.run()
    contents = [Path(str(cell)).read_bytes() for cell in work.cells()]
    assert contents == [bytes([x]) * size for x in range(4)]
    frame, _ = work.vault.get_dataframe("t")
    assert frame["size"].tolist() == [size] * 4
    assert not any(path.startswith(str(work.folder)) for path in frame["path"])
    assert not any(map(os.path.exists, frame["path"])), "a worker leaves nothing behind"
    assert work.vault.verify().ok


@pytest.mark.slow
def test_a_file_that_no_cell_names_is_an_error_as_anywhere(work):
    arguments = {"x": "<<self.x[index]>>", "folder": "~ARTIFACT_FOLDER~"}
    work.build("write_more", 2, arguments=arguments, dtypes={"a": "artifact_string"})
    with pytest.raises(tv_errors.TVArtifactError, match="other.txt"):
        work.run()


# --- errors -----------------------------------------------------------------------------------------------------------


def test_an_exception_arrives_as_itself_with_traceback_notes_and_cause(work):
    work.build("fail")
    with pytest.raises(Exception, match="three") as caught:
        work.run("nightly")
    error = caught.value
    assert type(error).__name__ == "Own"
    assert "a note of its own" in error.__notes__
    assert "raised by fail() of builder 'a' for row 3" in error.__notes__
    assert isinstance(error.__cause__, KeyError)
    frames = traceback.extract_tb(error.__traceback__)
    assert (frames[-1].name, frames[-1].line) == ("fail", 'raise error from KeyError("nothing")')
    assert not any("worker" in frame.filename for frame in frames)
    assert work.vault.get_process("nightly").status == "paused"


def test_rows_after_a_failed_one_are_not_called(work):
    work.build("fail_slowly", 500)
    with pytest.raises(Exception, match="fifty"):
        work.run("nightly")
    called = len(work.noted("called"))
    assert 51 <= called < 200
    assert work.vault.get_process("nightly").progress["a"].computed == called - 1


def test_calls_sent_to_workers_are_withdrawn_when_the_run_ends(work):
    # A task has up to 4 MiB of arguments, so that another one follows that of the failed row.
    arguments = {"x": "<<self.x[index]>>", "control": str(work.control), "text": 20_000 * "t"}
    work.build("end_at_1000", 2000, arguments=arguments)
    with pytest.raises(ValueError, match="row 1000"):
        work.run()
    # Some begin before the worker is told.
    assert len(work.noted("later")) < 50


def test_errors_of_all_kinds_are_those_of_their_rows(work):
    work.build("trouble", 7, on_error="collect", max_failures="100%")
    with pytest.warns(tv_errors.TableVaultWarning, match="5 failed rows"):
        work.run()
    found = {index: (kind, message) for index, kind, message in work.errors()}
    assert found[1] == ("work.trouble.<locals>.Local", "nobody else knows it")
    assert "holds a lock" in found[2][1]
    assert "cannot be sent" in found[3][1]
    assert found[4][0] == "TypeError"
    assert found[5] == ("MemoryError", "of the worker")
    assert work.vault.get_errors("t")["status"].tolist()[1] == 503
    assert work.cells()[0] == 0
    assert work.cells()[6] == 6


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("leave", SystemExit), ("interrupt", KeyboardInterrupt)])
def test_run_ends_on_a_base_exception_of_a_worker(work, name, kind):
    work.build(name, on_error="collect")
    with pytest.raises(kind):
        work.run()


@pytest.mark.slow
def test_an_exception_of_the_constructor_ends_the_run(work):
    work.build("Broken", on_error="collect", setup_arguments={"control": str(work.control)})
    with pytest.raises(Exception, match="cannot be made") as caught:
        work.run()
    assert any("constructor" in note for note in caught.value.__notes__)


def test_other_versions_end_the_run_and_are_named(work, monkeypatch):
    monkeypatch.setattr(ray_executor, "versions", lambda ray: {**ray_worker.versions(ray), "TableVault": "0.0.1"})
    work.build("square")
    with pytest.raises(RuntimeError, match=r"has TableVault 1\.\S+, and this interpreter has TableVault 0\.0\.1"):
        work.run()


# --- deaths -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_row_that_kills_its_worker_is_named(work):
    work.build("die", 60, on_error="collect", max_workers=2)
    work.tell("die", 17)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    ((index, kind, message),) = work.errors()
    assert (index, kind) == (17, "ChildProcessError")
    assert message.startswith("the worker computing row 17 died on ")
    assert work.cells() == [None if x == 17 else x for x in range(60)]
    called = work.noted("called")
    assert called.count("17") == 2
    assert max(map(called.count, called)) == 2
    assert len(work.workers()) <= 4


@pytest.mark.slow
def test_workers_that_die_while_they_open_the_function_end_the_run(work):
    work.build("Deadly", on_error="collect", setup_arguments={"control": str(work.control)})
    with pytest.raises(ChildProcessError, match="3 Ray workers in a row died while they opened the function"):
        work.run()
    # A worker may die before it opens the function, too.
    assert 1 <= (work.control / "opened").read_text().count("\n") <= 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hold", "hold_soon"])
def test_a_call_that_takes_too_long_is_ended(work, name):
    work.build(name, 6, on_error="collect", timeout=1)
    work.tell("hold", 3)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    ((index, _, message),) = work.errors()
    assert (index, "timeout of 1 s" in message) == (3, True)
    assert work.cells() == [None if x == 3 else x for x in range(6)]


# --- the environment --------------------------------------------------------------------------------------------------


def test_forwarded_variables_reach_workers_and_are_not_told(ray, ray_address, tmp_path, monkeypatch):
    secret = "s3cr3t-of-the-test"
    monkeypatch.setenv("TV_TEST_KEY", secret)
    work = Work(tmp_path, ray_address, forward_env=["TV_TEST_KEY"])
    arguments = {"x": "<<self.x[index]>>", "key": "~ENV:TV_TEST_KEY~", "control": str(work.control)}
    work.build("tell_key", 5, arguments=arguments, on_error="collect", max_failures="100%", untracked=["key"])
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    assert work.errors() == [(3, "work.Own", "refused [~ENV:TV_TEST_KEY~]")]
    assert work.cells()[0] not in (None, os.getpid())
    for path in Path(work.folder).rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_a_variable_that_a_worker_lacks_ends_the_run(work, monkeypatch):
    monkeypatch.setenv("TV_TEST_HERE", "only here")
    arguments = {"x": "<<self.x[index]>>", "key": "~ENV:TV_TEST_HERE~", "control": str(work.control)}
    work.build("tell_key", 5, arguments=arguments)
    with pytest.raises(LookupError, match="TV_TEST_HERE, which is not set on a worker"):
        work.run()


@pytest.mark.slow
def test_operations_are_not_nested_in_workers(work):
    arguments = {"x": "<<self.x[index]>>", "folder": str(work.folder), "parent": "~PROCESS_ID~"}
    work.build("nested", 1, arguments=arguments)
    with pytest.raises(tv_errors.TVArgumentError, match="cannot be nested in process"):
        work.run()


# --- the cluster ------------------------------------------------------------------------------------------------------


def test_another_cluster_than_that_of_the_interpreter_is_refused(ray, ray_address, tmp_path):
    work = Work(tmp_path, "192.0.2.77:6379")
    work.build("square")
    with pytest.raises(tv_errors.TVArgumentError, match="this interpreter is already connected to the Ray cluster"):
        work.run()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"adress": "auto"}, "no option 'adress'"),
        ({"address": "ray://head:10001"}, "Ray Client"),
        ({"address": 6379}, "must be a text"),
        ({"runtime_env": {"x": object()}}, "plain values"),
        ({"forward_env": "KEY"}, "list of names"),
        (["auto"], "must be a mapping"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, text):
    with pytest.raises(tv_errors.TVArgumentError, match=text):
        TableVault(tmp_path / "vault", create=True, ray=options)
