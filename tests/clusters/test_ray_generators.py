"""Generators with `executor: ray`.

One worker runs the function, and its rows arrive a few at a time.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from waiting import until

from tablevault import tv_errors

pytestmark = pytest.mark.ray

CODE = """
import os
import time
from pathlib import Path


def note(control, what, value=""):
    with open(f"{control}/{what}", "a") as file:
        file.write(f"{value}\\n")


def rows(control, count):
    note(control, "worker", os.getpid())
    row = {}
    for x in range(count):
        row["x"], row["z"] = x, -x
        yield row


def squares(x, control):
    note(control, "worker", os.getpid())
    for value in x["x"]:
        if value == 5 and Path(control, "fail").exists():
            raise LookupError("five")
        yield value * value


def doubtful(x, control):
    for value in x["x"]:
        if value == 2:
            yield LookupError("two")
        elif value == 4:
            yield lambda: value
        else:
            yield value


def slow(x, control):
    note(control, "worker", os.getpid())
    for value in x["x"]:
        while value == 3 and Path(control, "hold").exists():
            time.sleep(0.01)
        note(control, "called", value)
        time.sleep(0.06)
        yield value


def filed(x, folder, control):
    for value in x["x"]:
        Path(folder, f"{value}.txt").write_text(str(value))
    for value in x["x"]:
        time.sleep(0.06)
        yield f"{value}.txt"
    if Path(control, "more").exists():
        Path(folder, "other.txt").write_text("not named")


def number(x, control):
    return 7
"""


@pytest.fixture
def streams(work):
    """A table whose column `a` a generator on the cluster yields."""
    work.vault.create_code_module("streams", text=CODE)

    def build(function, count=8, **fields):
        arguments = {"x": "<<self.x>>", "control": str(work.control)} | fields.pop("arguments", {})
        work.build(function, count, return_type="generator", code_module="streams", arguments=arguments, **fields)

    work.stream = build
    return work


@pytest.mark.slow
def test_rows_of_a_generator_arrive_in_order_from_one_worker(streams):
    index = {"control": str(streams.control), "count": 300}
    fields = {"return_type": "generator", "executor": "ray", "code_module": "streams", "resources": {"cpu": 0.1}}
    streams.write("t", "", "IndexBuilder", "rows", index, changed_columns=["x", "z"], **fields)
    arguments = {"x": "<<self.x>>", "control": str(streams.control)}
    streams.write("t", "a", "ColumnBuilder", "squares", arguments, changed_columns=["a"], **fields)
    streams.run()
    assert streams.cells() == [x * x for x in range(300)]
    assert streams.vault.read("t")["z"].tolist() == [-x for x in range(300)], (
        "one object may be yielded again and again"
    )
    assert len(streams.noted("worker")) == 2, "each generator begins once"
    assert os.getpid() not in streams.workers()
    streams.again()
    streams.run()
    assert len(streams.noted("worker")) == 3, "the column is reused"


@pytest.mark.slow
def test_a_generator_that_raises_pauses_after_its_rows_and_goes_on(streams):
    streams.stream("squares")
    streams.tell("fail")
    with pytest.raises(LookupError, match="five") as caught:
        streams.run("monday")
    assert "raised by squares() of builder 'a' after 5 rows" in caught.value.__notes__
    assert streams.vault.get_process("monday").progress["a"].computed == 5
    (streams.control / "fail").unlink()
    streams.run("monday")
    assert streams.cells() == [x * x for x in range(8)]


@pytest.mark.slow
def test_errors_that_are_yielded_are_those_of_their_rows(streams):
    streams.stream("doubtful", on_error="collect", max_failures="100%")
    with pytest.warns(tv_errors.TableVaultWarning, match="2 failed rows"):
        streams.run()
    assert streams.cells() == [None if x in (2, 4) else x for x in range(8)]
    (two, four) = streams.errors()
    assert two == (2, "LookupError", "two")
    assert (four[0], "cannot be sent" in four[2]) == (4, True)


@pytest.mark.slow
@pytest.mark.parametrize("has_more", [False, True])
def test_files_of_a_generator_arrive_when_a_row_names_them(streams, has_more):
    streams.stream("filed", 6, arguments={"folder": "~ARTIFACT_FOLDER~"}, dtypes={"a": "artifact_string"})
    if has_more:
        streams.tell("more")
        with pytest.raises(tv_errors.TVArtifactError, match="other.txt"):
            streams.run()
        return
    streams.run()
    assert [Path(str(cell)).read_text() for cell in streams.cells()] == [str(x) for x in range(6)]
    assert streams.vault.verify().ok


@pytest.mark.slow
def test_a_generator_whose_worker_is_killed_pauses_with_its_rows(streams):
    streams.stream("slow")
    streams.tell("hold")
    raised = []

    def run():
        try:
            streams.run("monday")
        except ChildProcessError as error:
            raised.append(error)

    running = threading.Thread(target=run)
    running.start()
    until(lambda: "2" in streams.noted("called"))
    (worker,) = streams.workers()
    os.kill(worker, signal.SIGKILL)
    running.join()
    assert "the Ray worker that ran slow() of builder 'a' was lost" in str(raised[0])
    assert streams.vault.get_process("monday").status == "paused"
    (streams.control / "hold").unlink()
    streams.run("monday")
    assert streams.cells() == list(range(8))


@pytest.mark.slow
def test_a_function_that_yields_nothing_to_iterate_over_is_told(streams):
    streams.stream("number")
    with pytest.raises(TypeError, match=r"must return an iterator or be a generator function, not return int"):
        streams.run()
