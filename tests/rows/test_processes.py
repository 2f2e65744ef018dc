"""Rows with `executor: processes`.

The death of a worker process costs single rows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from waiting import PATIENCE, until

import tablevault
from tablevault import TableVault, tv_errors
from tablevault.code.loading import CodeSnapshot
from tablevault.rows.processes import ProcessExecutor

CODE = """
import ctypes
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import pandas as pd


class Own(Exception):
    pass


class Picky(Exception):
    def __init__(self, *, status_code):
        super().__init__(f"refused with {status_code}")
        self.status_code = status_code


class Text(str):
    pass


def index(count):
    return pd.DataFrame({"x": range(count)})


def note(control, what, value=""):
    with open(f"{control}/{what}", "a") as file:
        file.write(f"{value}\\n")


def told(control, what, x):
    path = Path(control, what)
    return path.exists() and str(x) in path.read_text().split()


def square(x, control):
    return x * x


def fail(x, control):
    note(control, "called", x)
    if x == 3:
        try:
            {}["nothing"]
        except KeyError:
            error = Own("three")
            error.add_note("a note of its own")
            raise error
    return x


def refuse(x, control):
    if x == 3:
        note(control, "called", x)
        raise Picky(status_code=429)
    return x


def fail_locally(x, control):
    class Local(Exception):
        pass

    if x == 3:
        raise Local("nobody else knows it")
    return x


def give_up(x, control):
    if x == 3:
        sys.exit(7)
    return x


def use_up_memory(x, control):
    if x == 3:
        raise MemoryError("of the worker")
    return x


def die(x, control):
    note(control, "called", x)
    if told(control, "kill", x):
        os.kill(os.getpid(), signal.SIGKILL)
    if told(control, "crash", x):
        ctypes.string_at(0)
    if told(control, "leave", x):
        os._exit(4)
    return x


def die_once(x, control):
    note(control, "called", x)
    if x == 3 and Path(control, "called").read_text().split().count("3") == 1:
        os._exit(4)
    return x


def die_once_in_a_worker(x, control):
    note(control, "calls", f"{os.getpid()}-{x}")
    if x == 3 and Path(control, "calls").read_text().count("-3\\n") == 1:
        os._exit(4)
    return x


def return_lambda(x, control):
    return (lambda: x) if x == 3 else x


def hold(x, control):
    note(control, "called", x)
    note(control, "worker", os.getpid())
    while told(control, "hold", x):
        time.sleep(0.01)
    return x


def hold_for_others(x, control):
    if x == 150:
        while not all(told(control, "done", other) for other in range(151, 300)):
            time.sleep(0.01)
    elif x > 150:
        note(control, "done", x)
    return x


def hold_the_interpreter(x, control):
    note(control, "worker", os.getpid())
    if x == 3:
        ctypes.PyDLL(None).sleep(60)
    return x


def descriptors(x, control):
    names = []
    for name in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return sum("/owners/owner-" in name for name in names)


def forks(x, control):
    child = os.fork()
    if child == 0:
        return "child"
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outlive(x, control):
    note(control, "worker", os.getpid())
    if not Path(control, "go").exists():
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
    return x


def interpreter(x, control):
    return f"{'-m' in sys.orig_argv} {'pytest' in sys.modules} {os.getppid()}"


def change_code_and_die(x, control, module):
    if x == 3 and not Path(control, "changed").exists():
        note(control, "changed")
        path = Path(module)
        path.write_text(path.read_text().replace("return 100 + x", "return 200 + x"))
        os._exit(4)
    return 100 + x


def meet(x, control, count):
    note(control, "worker", os.getpid())
    deadline = time.monotonic() + 180
    while len(set(Path(control, "worker").read_text().split())) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return x


def wait_or_end(x, control):
    note(control, "called", x)
    if x < 2:
        raise ConnectionError("down")
    if x == 499:
        from tablevault import tv_errors

        raise tv_errors.StopRun("enough")
    return x


def end_at_1000(x, control):
    # Short calls at first, so that many are queued on each worker.
    if x > 1000:
        note(control, "later", x)
        time.sleep(0.2)
    if x == 1000:
        raise ValueError("row 1000")
    return x


def end_later_than_1000(x, control):
    if x > 1000:
        note(control, "later", x)
        time.sleep(0.2)
    return x


def refuse_1000(a):
    if a == 1000:
        raise ValueError("row 1000")


def run_out_of_memory(a):
    if a == 4:
        raise MemoryError("of the owner")


def fail_once(x, control):
    note(control, "called", x)
    if x in (300, 500) and Path(control, "called").read_text().split().count(str(x)) == 1:
        raise ConnectionError("down")
    return x


def quote(x, control, key):
    raise ValueError(f"refused: {[key]}")


def write_file(x, folder):
    Path(folder, f"{x}.txt").write_text(f"content {x}")
    return f"{x}.txt"


def write_file_and_die(x, control, folder, deaths):
    path = Path(folder, f"{x}-{time.time_ns()}.txt")
    path.write_text(f"content {x}")
    if x == 1:
        note(control, "called", x)
        # Longer than the tolerance with which files are attributed to calls.
        time.sleep(0.5)
        if len(Path(control, "called").read_text().split()) <= deaths:
            os._exit(4)
    return path.name


def write_files_and_die_once(control, folder):
    path = Path(folder, f"{time.time_ns()}.txt")
    path.write_text("content")
    note(control, "called")
    time.sleep(0.5)
    if not told(control, "died", 1):
        note(control, "died", 1)
        os._exit(4)
    return pd.DataFrame({"a": [path.name] * 3})


def nested(x, control, folder, parent):
    from tablevault import TableVault

    TableVault(folder, author="child", parent_id=parent).create_table(f"made{x}")
    return x


def say(x, control):
    print("said", x)
    print("complained", x, file=sys.stderr)
    return x


def trouble(x, control):
    import trouble_of_rows

    raise trouble_of_rows.Trouble(f"row {x}")


async def late(x, control):
    return x


def many(x, control):
    return [value + 1 for value in x]


def many_but_one(x, control):
    if 3 in x:
        os._exit(4)
    return [value + 1 for value in x]


def split(x, control):
    return [10 * x + part for part in range(x)]


def whole_or_death(control):
    note(control, "called")
    if told(control, "hold", 0):
        time.sleep(60)
    os._exit(4)


def whole(control):
    return pd.DataFrame({"a": [os.getpid()] * 3})


class Adding:
    def __init__(self, base, control):
        note(control, "opened", os.getpid())
        self.base, self.control = base, control

    def __call__(self, x, control):
        return x + self.base

    def close(self):
        note(self.control, "closed", os.getpid())


class Broken:
    def __init__(self, control):
        raise Own("cannot be made")

    def __call__(self, x, control):
        return x


class Deadly:
    def __init__(self, control):
        note(control, "opened")
        os._exit(5)

    def __call__(self, x, control):
        return x
"""


class Work:
    """A table of rows whose column `a` is computed in worker processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "vault"
        self.control = folder / "control"
        self.control.mkdir()
        self.vault = TableVault(self.folder, author="ada", create=True)
        self.vault.create_code_module("work", text=CODE)
        self.vault.create_table("t")
        self.vault.create_instance("t")

    def build(self, function: str, count: int = 10, **fields: object) -> None:
        self.write("t", "", "IndexBuilder", "index", {"count": count}, changed_columns=["x"], primary_key=["x"])
        arguments = fields.pop("arguments", {"x": "<<self.x[index]>>", "control": str(self.control)})
        own = {"changed_columns": ["a"], "return_type": "row-wise", "executor": "processes", "max_concurrency": 2}
        self.write("t", "a", "ColumnBuilder", function, arguments, **{**own, **fields})

    def write(self, table: str, name: str, kind: str, function: str, arguments: object, **fields: object) -> None:
        content = {"builder_type": kind, "python_function": function, "code_module": "work", "is_custom": True}
        text = yaml.safe_dump({**content, "arguments": arguments, **fields})
        self.vault.create_builder_file(table, *([name] if name else []), text=text)

    def run(self, process_id: str = "", **options: object) -> str:
        return self.vault.execute_instance("t", process_id=process_id, **options)

    def tell(self, what: str, *rows: object) -> None:
        (self.control / "new").write_text(" ".join(map(str, rows)))
        (self.control / "new").rename(self.control / what)

    def noted(self, what: str) -> list[str]:
        path = self.control / what
        return path.read_text().split() if path.exists() else []

    def cells(self) -> list[object]:
        frame, _ = self.vault.get_dataframe("t")
        return [None if pd.isna(value) else value for value in frame["a"]]

    def errors(self) -> list[tuple[int, str, str]]:
        found = self.vault.get_errors("t")
        return list(zip(found["index"], found["error"], found["message"], strict=True))

    def elsewhere(self, process_id: str = "") -> subprocess.Popen[str]:
        """Let another interpreter execute."""
        text = (
            "import sys\nfrom tablevault import TableVault\n"
            f"TableVault({str(self.folder)!r}, author='grace').execute_instance('t', process_id={process_id!r})"
        )
        source = str(Path(tablevault.__file__).parents[1])
        return subprocess.Popen(
            [sys.executable, "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": source},
        )

    def workers(self) -> set[int]:
        return {int(number) for number in self.noted("worker")}


@pytest.fixture
def work(tmp_path):
    before = set(psutil.Process().children())
    yield Work(tmp_path)
    until(lambda: not any(is_alive(child.pid) for child in set(psutil.Process().children()) - before))


def is_stopped(numbers: set[int]) -> bool:
    return any(psutil.Process(number).status() == psutil.STATUS_STOPPED for number in numbers)


def is_alive(number: int) -> bool:
    return psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE


# --- results ----------------------------------------------------------------------------------------------------------


def test_rows_are_computed_in_other_processes(work):
    work.build("hold", 200)
    work.run()
    assert work.cells() == list(range(200))
    assert work.workers()
    assert os.getpid() not in work.workers()


def test_workers_are_started_and_not_forked(work):
    work.build("interpreter", 5)
    work.run()
    assert set(work.cells()) == {f"True False {os.getpid()}"}


@pytest.mark.slow
def test_workers_do_not_import_the_main_module_again(work, tmp_path):
    work.build("hold", 5)
    script = tmp_path / "script.py"
    script.write_text(
        f"from tablevault import TableVault\nprint('imported')\n"
        f"TableVault({str(work.folder)!r}, author='grace').execute_instance('t')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(tablevault.__file__).parents[1])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["imported"]
    assert work.cells() == list(range(5))


@pytest.mark.slow
def test_every_worker_loads_the_code_of_the_attempt(work):
    module = work.folder / "code_functions" / "work.py"
    arguments = {"x": "<<self.x[index]>>", "control": str(work.control), "module": str(module)}
    work.build("change_code_and_die", 8, arguments=arguments, max_concurrency=1)
    work.run()
    assert "return 200 + x\n" in module.read_text()
    assert work.cells() == [100 + x for x in range(8)], "the worker that was started after the change, too"


def test_there_is_a_worker_for_each_usable_core(work):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    arguments = {"x": "<<self.x[index]>>", "control": str(work.control), "count": cores}
    work.build("meet", 10 * cores, arguments=arguments, max_concurrency=None)
    work.run()
    assert len(work.workers()) == cores


def test_row_that_waits_for_a_retry_occupies_no_worker(work):
    retry = {"max_retries": 1, "wait": 1000, "max_wait": 1000, "max_seconds": 9000}
    work.build("wait_or_end", 500, max_concurrency=1, retry=retry)
    with pytest.raises(tv_errors.StopRun, match="enough"):
        work.run()
    assert sorted(map(int, work.noted("called"))) == list(range(500))


def test_each_worker_makes_an_object_and_closes_it(work):
    work.build("Adding", 50, setup_arguments={"base": 5, "control": str(work.control)})
    work.run()
    assert work.cells() == [x + 5 for x in range(50)]
    assert sorted(work.noted("opened")) == sorted(work.noted("closed"))
    assert 1 <= len(work.noted("opened")) <= 2


def test_batches_are_computed_in_other_processes(work):
    work.build("many", 50, return_type="batch", batch_size=7)
    work.run()
    assert work.cells() == [x + 1 for x in range(50)]


def test_function_called_once_runs_in_a_separate_process(work):
    work.build("whole", 3, return_type="dataframe", max_concurrency=None, arguments={"control": "none"})
    work.run()
    assert len(set(work.cells())) == 1
    assert os.getpid() not in work.cells()


def test_one_row_becomes_many_in_other_processes(work):
    work.build("square", 5)
    work.run()
    work.vault.create_table("parts")
    work.vault.create_instance("parts")
    fields = {"changed_columns": ["y"], "return_type": "row-wise", "executor": "processes", "for_each": "t"}
    arguments = {"x": "<<t.x[index]>>", "control": str(work.control)}
    work.write("parts", "", "IndexBuilder", "split", arguments, **fields)
    work.vault.execute_instance("parts")
    assert work.vault.read("parts")["y"].tolist() == [10 * x + part for x in range(5) for part in range(x)]


def test_rows_that_wait_behind_a_long_one_run_elsewhere(work):
    work.build("hold_for_others", 300)
    work.run()
    assert work.cells() == list(range(300))


def test_policies_of_a_call_choose_processes(work):
    work.build("hold", 5, executor="threads")
    work.run(policies={"a": {"executor": "processes"}})
    assert os.getpid() not in work.workers()


@pytest.mark.slow
def test_background_process_has_separate_workers(work):
    work.build("hold", 20)
    process_id = work.run(background=True)
    work.vault.wait_process(process_id)
    assert work.cells() == list(range(20))


def test_nothing_is_started_where_no_row_is_left(work):
    work.build("Adding", 5, setup_arguments={"base": 5, "control": str(work.control)})
    work.run()
    opened = len(work.noted("opened"))
    work.vault.create_instance("t", copy=True)
    work.run()
    assert len(work.noted("opened")) == opened


def test_output_of_workers_is_that_of_the_owner(work, capfd):
    work.build("say", 5)
    work.run()
    output, errors = capfd.readouterr()
    assert sorted(output.splitlines()) == [f"said {x}" for x in range(5)]
    assert [line for line in sorted(errors.splitlines()) if "complained" in line] == [
        f"complained {x}" for x in range(5)
    ]


def test_artifacts_of_workers_are_kept(work):
    arguments = {"x": "<<self.x[index]>>", "folder": "~ARTIFACT_FOLDER~"}
    work.build("write_file", 4, arguments=arguments, dtypes={"a": "artifact_string"})
    work.run()
    assert [Path(str(cell)).read_text() for cell in work.cells()] == [f"content {x}" for x in range(4)]


@pytest.mark.slow
def test_operations_inside_workers_are_children_of_the_process(work):
    arguments = {
        "x": "<<self.x[index]>>",
        "control": str(work.control),
        "folder": str(work.folder),
        "parent": "~PROCESS_ID~",
    }
    work.build("nested", 3, arguments=arguments)
    process_id = work.run()
    children = [info for info in work.vault.get_history(author="child") if info.operation == "create_table"]
    assert [info.parent_id for info in children] == [process_id] * 3


# --- exceptions -------------------------------------------------------------------------------------------------------


def test_an_exception_arrives_as_itself_with_traceback_notes_and_context(work):
    work.build("fail")
    with pytest.raises(Exception, match="three") as caught:
        work.run("nightly")
    error = caught.value
    assert type(error).__name__ == "Own"
    assert "a note of its own" in error.__notes__
    assert "raised by fail() of builder 'a' for row 3" in error.__notes__
    assert isinstance(error.__context__, KeyError)
    frames = traceback.extract_tb(error.__traceback__)
    assert (frames[-1].name, frames[-1].line) == ("fail", "raise error")
    assert not any("worker.py" in frame.filename for frame in frames)


def test_a_failed_row_is_collected(work):
    work.build("fail", on_error="collect")
    with pytest.warns(tv_errors.TableVaultWarning, match=r"1 failed row in 'a' \(1 Own\)"):
        work.run()
    assert work.cells() == [0, 1, 2, None, *range(4, 10)]
    assert [(index, message) for index, _, message in work.errors()] == [(3, "three")]
    assert "raise error" in work.vault.get_errors("t")["traceback"][0]


def test_exception_keeps_its_class_while_the_same_code_is_open_elsewhere(work):
    work.build("fail")
    with CodeSnapshot(work.folder / "code_functions"), pytest.raises(Exception, match="three") as caught:
        work.run()
    assert type(caught.value).__name__ == "Own"


def test_an_exception_of_a_local_module_arrives_as_itself(work, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "trouble_of_rows.py").write_text("class Trouble(Exception):\n    pass\n")
    work.build("trouble")
    with pytest.raises(Exception, match="row") as caught:
        work.run()
    assert type(caught.value).__name__ == "Trouble"


def test_an_exception_that_cannot_be_sent_is_described(work):
    work.build("fail_locally")
    with pytest.raises(RuntimeError, match=r"Local: nobody else knows it") as caught:
        work.run()
    assert any("in fail_locally" in note for note in caught.value.__notes__)


@pytest.mark.slow
def test_an_exception_that_cannot_be_sent_keeps_its_status(work):
    work.build("refuse", on_error="collect", retry={"max_seconds": 1.0, "wait": 0.01, "max_wait": 0.05})
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    assert work.vault.get_errors("t")["status"].tolist() == [429]
    assert len(work.noted("called")) > 1


def test_errors_of_workers_are_recorded_without_secrets(work, monkeypatch):
    monkeypatch.setenv("TV_OF_WORKERS", "sk-worker-e9f1c2")
    arguments = {"x": "<<self.x[index]>>", "control": str(work.control), "key": "~ENV:TV_OF_WORKERS~"}
    work.build("quote", 2, on_error="collect", arguments=arguments)
    with pytest.warns(tv_errors.TableVaultWarning, match="2 failed rows"):
        work.run()
    assert [message for _, _, message in work.errors()] == ["refused: ['[~ENV:TV_OF_WORKERS~]']"] * 2
    assert not any("sk-worker" in text for text in work.vault.get_errors("t")["traceback"])


def test_an_exit_in_a_worker_is_an_error_of_the_run(work):
    work.build("give_up", on_error="collect")
    with pytest.raises(SystemExit) as caught:
        work.run()
    assert caught.value.code == 7


@pytest.mark.slow
def test_memory_that_a_worker_lacks_is_an_error_of_its_row(work):
    work.build("use_up_memory", on_error="collect")
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    assert work.errors() == [(3, "MemoryError", "of the worker")]


def test_memory_that_the_owner_lacks_for_a_result_is_an_error_of_the_run(work):
    retry = {"max_retries": 1, "on": ["invalid"]}
    work.build("square", validate="run_out_of_memory", on_error="collect", max_concurrency=1, retry=retry)
    with pytest.raises(MemoryError, match="of the owner"):
        work.run("nightly")
    assert work.vault.get_process("nightly").status == "paused"
    assert len(work.vault.get_errors(process_id="nightly")) == 0


def test_arguments_that_cannot_be_sent_are_an_error_of_their_call():
    executor = ProcessExecutor(1, dict)
    executor.start(0, {"x": lambda: 0})
    executor.wait(PATIENCE)
    (ended,) = executor.ended
    executor.close()
    assert "raised while the arguments were sent to a worker process" in ended.error.__notes__


@pytest.mark.slow
def test_a_result_that_cannot_be_sent_is_invalid(work):
    work.build("return_lambda", on_error="collect", retry={"max_retries": 1, "on": ["invalid"], "wait": 0})
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    ((index, kind, message),) = work.errors()
    assert (index, kind) == (3, "TypeError")
    assert "cannot be sent" in message
    assert work.vault.get_errors("t")["calls"].tolist() == [2]


def test_an_exception_of_the_constructor_ends_the_run(work):
    work.build("Broken", on_error="collect", setup_arguments={"control": str(work.control)})
    with pytest.raises(Exception, match="cannot be made") as caught:
        work.run()
    assert any("constructor" in note for note in caught.value.__notes__)


def test_an_async_function_cannot_run_in_processes(work):
    work.build("late")
    with pytest.raises(tv_errors.TVBuilderError, match="cannot await"):
        work.run()


# --- calls queued on workers ------------------------------------------------------------------------------------------


def test_no_call_queued_on_a_worker_begins_after_a_failed_one(work):
    work.build("end_at_1000", 1500, max_concurrency=1)
    with pytest.raises(ValueError, match="row 1000"):
        work.run("nightly")
    assert work.noted("later") == []
    assert work.vault.get_process("nightly").progress["a"].computed == 1000


@pytest.mark.parametrize(
    ("workers", "fields"),
    [
        (2, {}),
        (1, {"on_error": "revert"}),
        (1, {"on_error": "collect", "stop_on": ["ValueError"]}),
        (1, {"on_error": "collect", "max_failures": 0}),
        (1, {"validate": "refuse_1000"}),
    ],
)
def test_calls_queued_on_workers_are_withdrawn_when_the_run_ends(work, workers, fields):
    function = "end_later_than_1000" if "validate" in fields else "end_at_1000"
    work.build(function, 1500, max_concurrency=workers, **fields)
    with pytest.raises(ValueError, match="row 1000"):
        work.run()
    # Some begin before the workers are told.
    assert len(work.noted("later")) < 100


def test_calls_queued_behind_a_failed_one_run_once_it_is_retried(work):
    work.build("fail_once", 800, max_concurrency=1, retry={"max_retries": 1, "wait": 0})
    work.run()
    assert work.cells() == list(range(800))
    assert sorted(map(int, work.noted("called"))) == sorted([*range(800), 300, 500])


# --- deaths -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "fate"),
    [
        ("kill", r"was killed by signal 9 (out of memory?)"),
        ("crash", r"was killed by signal 11 (Segmentation fault)"),
        ("leave", r"exited with status 4"),
    ],
)
def test_a_row_that_kills_its_worker_is_named(work, how, fate):
    work.build("die", 60, on_error="collect")
    work.tell(how, 17)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    assert work.errors() == [(17, "ChildProcessError", f"the worker computing row 17 {fate}")]
    assert work.cells() == [None if x == 17 else x for x in range(60)]
    assert work.noted("called").count("17") == 2


def test_a_row_that_kills_its_worker_pauses(work):
    work.build("die", 30)
    work.tell("leave", 17)
    with pytest.raises(ChildProcessError, match="row 17 exited with status 4"):
        work.run("nightly")
    work.tell("leave")
    work.run("nightly")
    assert work.cells() == list(range(30))


@pytest.mark.slow
def test_several_rows_that_kill_their_workers_are_all_named(work):
    work.build("die", 40, on_error="collect", max_failures="100%")
    work.tell("leave", 5, 6, 20)
    with pytest.warns(tv_errors.TableVaultWarning, match="3 failed rows"):
        work.run()
    assert [index for index, _, _ in work.errors()] == [5, 6, 20]


@pytest.mark.slow
def test_a_row_that_killed_its_worker_once_is_computed(work):
    work.build("die_once", 30)
    work.run()
    assert work.cells() == list(range(30))


@pytest.mark.parametrize("on_error", ["pause", "collect"])
def test_file_of_a_call_that_killed_its_worker_is_dropped(work, on_error):
    arguments = {"x": "<<self.x[index]>>", "control": str(work.control), "folder": "~ARTIFACT_FOLDER~", "deaths": 1}
    work.build("write_file_and_die", 4, arguments=arguments, dtypes={"a": "artifact_string"}, on_error=on_error)
    with pytest.warns(tv_errors.TableVaultWarning, match=r"1 file of calls .* was dropped: 1-\d+\.txt"):
        work.run()
    assert [Path(str(cell)).read_text() for cell in work.cells()] == [f"content {x}" for x in range(4)]


def test_files_of_a_row_that_fails_because_it_kills_its_workers_are_dropped(work):
    arguments = {"x": "<<self.x[index]>>", "control": str(work.control), "folder": "~ARTIFACT_FOLDER~", "deaths": 2}
    work.build("write_file_and_die", 4, arguments=arguments, dtypes={"a": "artifact_string"}, on_error="collect")
    with pytest.warns(tv_errors.TableVaultWarning) as warned:
        work.run()
    assert any(
        "2 files of calls that failed, were repeated or were interrupted" in str(warning.message) for warning in warned
    )
    assert [index for index, _, _ in work.errors()] == [1]


def test_file_of_a_function_called_once_that_killed_its_worker_is_dropped(work):
    arguments = {"control": str(work.control), "folder": "~ARTIFACT_FOLDER~"}
    work.build(
        "write_files_and_die_once",
        3,
        return_type="dataframe",
        arguments=arguments,
        max_concurrency=None,
        dtypes={"a": "artifact_string"},
    )
    with pytest.warns(
        tv_errors.TableVaultWarning, match="1 file of calls that failed, were repeated or were interrupted"
    ):
        work.run()
    assert [Path(str(cell)).read_text() for cell in work.cells()] == ["content"] * 3


def test_a_row_that_killed_its_worker_is_repeated_in_a_fresh_one(work):
    work.build("die_once_in_a_worker", 30, max_concurrency=1)
    work.run()
    calls = [entry.split("-") for entry in work.noted("calls")]
    fresh = [number for number, x in calls if x == "3"][-1]
    assert next(x for number, x in calls if number == fresh) == "3"
    assert [x for _, x in calls].count("3") == 2


@pytest.mark.slow
def test_died_in_retry_adds_no_tries(work):
    work.build("die", 5, on_error="collect", retry={"max_retries": 4, "on": ["died"], "wait": 0})
    work.tell("leave", 3)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    assert work.noted("called").count("3") == 2


def test_stop_on_may_name_the_death_of_a_worker(work):
    work.build("die", 5, on_error="collect", max_failures="100%", max_concurrency=1, stop_on=["died"])
    work.tell("leave", 3)
    with pytest.raises(ChildProcessError, match="row 3 exited with status 4"):
        work.run("nightly")
    assert work.vault.get_process("nightly").status == "paused"
    assert len(work.vault.get_errors(process_id="nightly")) == 0


@pytest.mark.slow
def test_a_batch_that_kills_its_worker_is_halved_until_single_rows_do(work):
    work.build("many_but_one", 8, return_type="batch", batch_size=8, on_error="collect")
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    assert work.cells() == [None if x == 3 else x + 1 for x in range(8)]


@pytest.mark.slow
def test_a_function_that_is_called_once_and_kills_its_worker_is_named(work):
    work.build(
        "whole_or_death", 3, return_type="dataframe", arguments={"control": str(work.control)}, max_concurrency=None
    )
    with pytest.raises(ChildProcessError, match=r"the worker running whole_or_death\(\) .* exited with status 4"):
        work.run()
    assert (work.control / "called").read_text().count("\n") == 2


@pytest.mark.slow
def test_workers_that_die_while_they_open_the_function_end_the_run(work):
    work.build("Deadly", on_error="collect", max_concurrency=1, setup_arguments={"control": str(work.control)})
    with pytest.raises(ChildProcessError, match="3 worker processes in a row died while they opened the function"):
        work.run()


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_call_that_takes_too_long_is_killed(work):
    work.build("hold", on_error="collect", timeout=2, max_concurrency=1)
    work.tell("hold", 3)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    ((index, kind, message),) = work.errors()
    assert (index, kind, "timeout of 2 s" in message) == (3, "TimeoutError", True)
    assert work.cells() == [None if x == 3 else x for x in range(10)]
    assert len(work.workers()) == 2


@pytest.mark.slow
def test_a_function_that_is_called_once_and_takes_too_long_is_killed(work):
    arguments = {"control": str(work.control)}
    work.build("whole_or_death", 3, return_type="dataframe", arguments=arguments, max_concurrency=None, timeout=2)
    work.tell("hold", 0)
    with pytest.raises(TimeoutError, match="of 2 s"):
        work.run()


@pytest.mark.slow
def test_a_call_that_holds_the_interpreter_is_killed(work):
    work.build("hold_the_interpreter", on_error="collect", timeout=2, max_concurrency=1)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    assert work.cells() == [None if x == 3 else x for x in range(10)]


@pytest.mark.slow
def test_a_retry_after_a_timeout_runs_in_another_worker(work):
    work.build("hold", 1, timeout=2, retry={"max_retries": 1, "on": ["timeout"], "wait": 0.01})
    work.tell("hold", 0)
    with pytest.raises(TimeoutError):
        work.run()
    assert len(work.workers()) == 2


@pytest.mark.slow
def test_workers_die_with_their_owner_and_the_process_is_resumed(work):
    work.build("hold", 30)
    work.tell("hold", 7)
    owner = work.elsewhere("nightly")
    until(lambda: "7" in work.noted("called"))
    assert all(is_alive(number) for number in work.workers())
    owner.kill()
    owner.communicate()
    until(lambda: not any(is_alive(number) for number in work.workers()))
    work.tell("hold")
    work.run("nightly")
    assert work.cells() == list(range(30))


@pytest.mark.slow
def test_nobody_resumes_while_a_worker_of_a_dead_owner_lives(work):
    work.build("outlive", 3, max_concurrency=1)
    owner = work.elsewhere("nightly")
    until(lambda: is_stopped(work.workers()))
    (worker,) = work.workers()
    owner.kill()
    owner.wait()
    try:
        with pytest.raises(tv_errors.TVProcessError, match="cannot be taken over"):
            work.run("nightly")
    finally:
        os.kill(worker, signal.SIGKILL)
        owner.communicate()
    until(lambda: not is_alive(worker))
    work.tell("go")
    work.run("nightly")
    assert work.cells() == [0, 1, 2]


@pytest.mark.slow
def test_a_worker_that_holds_the_interpreter_dies_with_its_owner(work):
    work.build("hold_the_interpreter", 4, max_concurrency=1)
    owner = work.elsewhere()
    until(lambda: len(work.noted("worker")) == 4)
    owner.kill()
    owner.communicate()
    until(lambda: not any(is_alive(number) for number in work.workers()))


@pytest.mark.slow
def test_a_stopped_process_leaves_no_workers(work):
    work.build("hold", 30)
    work.tell("hold", 7)
    owner = work.elsewhere("nightly")
    until(lambda: "7" in work.noted("called"))
    work.vault.stop_process("nightly", force=True, timeout=PATIENCE)
    owner.communicate(timeout=PATIENCE)
    assert not any(is_alive(number) for number in work.workers())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_rows_in_flight_finish_then_kills(work, number):
    work.build("hold", 30)
    work.tell("hold", 7)
    owner = work.elsewhere("nightly")
    until(lambda: "7" in work.noted("called"))
    owner.send_signal(number)
    _, errors = owner.communicate(timeout=PATIENCE)
    assert owner.returncode != 0
    assert not any(is_alive(worker) for worker in work.workers()), errors
    work.tell("hold")
    work.run("nightly")
    assert work.cells() == list(range(30))
    assert work.noted("called").count("7") == 2


@pytest.mark.slow
def test_workers_ignore_interrupts(work):
    work.build("hold", 5, max_concurrency=1)
    work.tell("hold", 2)
    owner = work.elsewhere()
    until(lambda: "2" in work.noted("called"))
    for worker in work.workers():
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
    work.tell("hold")
    _, errors = owner.communicate(timeout=PATIENCE)
    assert owner.returncode == 0, errors
    assert len(work.workers()) == 1
    assert work.cells() == list(range(5))


@pytest.mark.slow
def test_workers_hold_the_lock_of_the_attempt(work):
    work.build("descriptors", 2)
    work.run()
    assert work.cells() == [1, 1]


def test_a_forked_child_that_comes_back_ends(work, capfd):
    work.build("forks", 2)
    work.run()
    assert work.cells() == [1, 1]
    assert "A child process that was forked inside a function returned" in capfd.readouterr().err
