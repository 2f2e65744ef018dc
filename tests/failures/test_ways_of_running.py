"""Batches, classes, threads and coroutines.

Each cell and each error belongs to its row, and nothing outlives a run.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import math
import random
import signal
import sys
import threading
import time
import uuid
import warnings
from datetime import time as time_of_day
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from failing_tables import TOLD, positions
from test_failure_modes import WARNED, run
from waiting import PATIENCE, until

from tablevault import TableVault, tv_errors
from tablevault.rows import coroutines, threads
from tablevault.rows.threads import ThreadExecutor
from tablevault.values.progress import ExecutionProgress

BATCH = {"return_type": "batch"}

# --- batches ------------------------------------------------------------------------------------------------------


def test_last_batch_is_shorter_and_constants_arrive_as_they_are(make):
    sizes = []

    def answer(x, model):
        sizes.append((len(x), model))
        return [f"{model}{row}" for row in x]

    table = make(answer, rows=10, batch_size=4, arguments={"model": "m"}, **BATCH)
    table.execute()
    assert sizes == [(4, "m"), (4, "m"), (2, "m")]
    assert table.column() == [f"m{x}" for x in range(10)]


FORMS = {
    "list": lambda cells: cells,
    "tuple": tuple,
    "array": np.array,
    "object array": lambda cells: np.array(cells, dtype=object),
    "Series": pd.Series,
    "frame": lambda cells: pd.DataFrame({"answer": cells}),
    "Arrow table": lambda cells: __import__("pyarrow").table({"answer": cells}),
    "polars frame": lambda cells: pl.DataFrame({"answer": cells}),
    "polars series": lambda cells: pl.Series("answer", cells),
}


@pytest.mark.parametrize("form", FORMS)
def test_batch_returns_its_rows_in_any_form(make, form):
    table = make(lambda x: FORMS[form]([f"a{row}" for row in x]), rows=5, batch_size=2, **BATCH)
    table.execute()
    assert table.column() == [f"a{x}" for x in range(5)]


@pytest.mark.parametrize(
    "form",
    [
        lambda x: [(row, -row) for row in x],
        lambda x: [{"b": -row, "a": row} for row in x],
        lambda x: np.array([(row, -row) for row in x]),
        lambda x: pd.DataFrame({"b": [-row for row in x], "a": x}),
    ],
)
def test_rows_of_a_batch_have_the_forms_of_row_wise(make, form):
    table = make(form, rows=5, batch_size=2, changed_columns=["a", "b"], **BATCH)
    table.execute()
    assert table.column("a") == [0, 1, 2, 3, 4]
    assert table.column("b") == [0, -1, -2, -3, -4]


ORDERED = {
    "Series": lambda x: pd.Series([f"a{row}" for row in x]).sort_values(ascending=False),
    "frame": lambda x: pd.DataFrame({"answer": [f"a{row}" for row in x]}).sort_values("answer", ascending=False),
    "Series of Arrow": lambda x: pd.Series([f"a{row}" for row in x], dtype="string[pyarrow]").iloc[::-1],
    "queue": lambda x: collections.deque(f"a{row}" for row in x),
    "list of a user": lambda x: collections.UserList(f"a{row}" for row in x),
    "objects of polars": lambda x: pl.Series([f"a{row}" for row in x], dtype=pl.Object),
    "frame of polars objects": lambda x: pl.DataFrame({"answer": pl.Series([f"a{row}" for row in x], dtype=pl.Object)}),
}


@pytest.mark.parametrize("form", ORDERED.values(), ids=ORDERED)
def test_each_value_of_a_batch_belongs_to_its_row(make, form):
    table = make(form, rows=5, batch_size=3, **BATCH)
    table.execute()
    assert table.column() == [f"a{x}" for x in range(5)]


@pytest.mark.parametrize("library", [pd, pl, pa.table], ids=["pandas", "polars", "pyarrow"])
def test_frame_of_a_batch_gives_the_same_values_as_its_columns(make, library):
    make_frame = getattr(library, "DataFrame", library)
    moments = [pd.Timestamp(1709209815123456789), None, pd.Timestamp(1)]
    whole = [time_of_day(1, 2, 3, 4), None, time_of_day(0)]

    def answer(x):
        frame = {"when": pa.array(moments, pa.timestamp("ns")), "at": pa.array(whole, pa.time64("ns"))}
        if library is pd:
            return pd.DataFrame(
                {name: pd.Series(cells, dtype=pd.ArrowDtype(cells.type)) for name, cells in frame.items()}
            )
        return make_frame(pa.table(frame))

    table = make(answer, rows=3, changed_columns=["when", "at"], **BATCH)
    table.execute()
    assert table.column("when") == moments
    assert table.column("at") == whole


UNREADABLE = {
    "row labels": (lambda x: pd.Series(x, index=list("abcd")), "the row index holds 'a' and would be lost"),
    "named row labels": (lambda x: pd.DataFrame({"a": x}).set_index("a"), "the row index is named 'a'"),
    "two columns of one name": (lambda x: pd.DataFrame([[0, 0]] * 4, columns=["a", "a"]), "two columns are named 'a'"),
    "Arrow columns of one name": (lambda x: pa.table([x, x], names=["a", "a"]), "two columns are named 'a'"),
    "identifiers of polars": (
        lambda x: pl.Series([None, None, uuid.UUID(int=7), None], dtype=pl.Object),
        r"column 'answer', row 2: UUID\(.*use str\(\)",
    ),
    "a nanosecond of polars": (
        lambda x: pl.DataFrame({"at": pa.array([0, 1000, 1, None], pa.time64("ns"))}),
        r"column 'answer', row 2: .* cannot be expressed in Python .*'dataframe' function",
    ),
    "a nanosecond of pandas": (
        lambda x: pd.Series(pa.array([0, 1000, 1, None], pa.time64("ns")), dtype=pd.ArrowDtype(pa.time64("ns"))),
        "column 'answer', row 2: .* cannot be expressed in Python",
    ),
    "a nanosecond in a list": (
        lambda x: pa.chunked_array([pa.array([[0], [1000], [1], None], pa.list_(pa.time64("ns")))]),
        "column 'answer', row 2: .* cannot be expressed in Python",
    ),
    "date beyond Python's": (
        lambda x: pa.chunked_array([pa.array([0, 1, 2**31 - 1, None], pa.int32()).view(pa.date32())]),
        "column 'answer', row 2: .* cannot be expressed in Python",
    ),
    "whole numbers of 128 bits": (lambda x: pl.Series(x, dtype=pl.Int128), "its type Int128 cannot be stored; cast it"),
    "intervals": (
        lambda x: pa.table({"a": pa.array([(1, 2, 3)] * 4, pa.month_day_nano_interval())}),
        "month_day_nano_interval cannot be stored",
    ),
}


@pytest.mark.parametrize(("returned", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_batch_that_would_lose_something_is_refused(make, returned, reason):
    table = make(returned, rows=4, batch_size=4, **BATCH)
    with pytest.raises((TypeError, ValueError), match=f"(?s)answer.*{reason}"):
        table.execute("night")


def test_batch_of_structs_keeps_their_fields(make):
    structs = make(lambda x: pl.Series([{"a": row} for row in x]), rows=2, **BATCH)
    structs.execute()
    assert structs.column() == [{"a": 0}, {"a": 1}]


def test_batch_of_tensors_keeps_their_shape(make):
    cells = np.arange(12).reshape(3, 2, 2)
    table = make(lambda x: pa.table({"a": pa.FixedShapeTensorArray.from_numpy_ndarray(cells)}), rows=3, **BATCH)
    table.execute()
    assert table.vault.get_dataframe("answers", format="arrow")[0]["answer"].to_pylist() == cells.tolist()


@pytest.mark.parametrize(
    "returned",
    [b"abcd", bytearray(b"abcd"), {1, 2, 3, 4}, iter("abcd"), map(str, range(4)), dict.fromkeys("abcd").values()],
    ids=lambda returned: type(returned).__name__,
)
def test_what_has_no_order_or_no_items_is_no_result_of_a_batch(make, returned):
    table = make(lambda x: returned, rows=4, batch_size=4, **BATCH)
    with pytest.raises(ValueError, match="rows 0 to 3: a batch function returned a .*; return a list"):
        table.execute("night")


@pytest.mark.parametrize("returned", [[], ["a"], ["a"] * 5, "abcd", {"a": 1}, 7, None, np.array(3)])
def test_wrong_length_is_an_error_of_all_rows_of_the_batch(make, returned):
    table = make(lambda x: returned, rows=4, batch_size=4, **BATCH)
    with pytest.raises((ValueError, TypeError), match="rows 0 to 3"):
        table.execute("night")
    assert table.vault.get_process("night").status == "paused"


def test_wrong_length_is_collected_for_each_row_of_the_batch(make):
    limits = {"max_failures": "100%", "max_consecutive_failures": "none"}
    table = make(lambda x: x[1:], rows=4, batch_size=4, on_error="collect", **limits, **BATCH)
    assert run(table) is None
    assert table.errors()[["index", "error"]].values.tolist() == [[x, "ValueError"] for x in range(4)]


def test_batch_that_takes_too_long_is_halved_until_single_rows_fail(make):
    async def answer(x):
        if 2 in x:
            await asyncio.sleep(600)
        return [f"a{row}" for row in x]

    table = make(answer, rows=4, batch_size=4, timeout=0.5, on_error="collect", max_failures=1, **BATCH)
    assert run(table) is None
    assert table.column() == ["a0", "a1", None, "a3"]
    assert table.errors()[["index", "error"]].values.tolist() == [[2, "TimeoutError"]]


def test_exception_object_is_that_rows_error_once_the_others_are_kept(make):
    table = make(lambda x: [ValueError(f"row {row}") if row == 1 else "a" for row in x], rows=4, **BATCH)
    with pytest.raises(ValueError, match="row 1") as caught:
        table.execute("night")
    assert "for row 1" in "".join(caught.value.__notes__)
    assert table.progress("night").computed == 3


def test_exception_object_is_collected_or_retried(make):
    seen = set()

    def answer(x):
        results = []
        for row in x:
            again = row in seen
            seen.add(row)
            results.append(ConnectionError("down") if row == 2 and not again else KeyError(row) if row == 5 else row)
        return results

    table = make(answer, rows=8, batch_size=4, on_error="collect", retry={"max_retries": 1, "wait": 0}, **BATCH)
    assert run(table) is None
    assert positions(table.errors()) == [5]
    assert table.column()[2] == 2
    assert (table.calls[2], table.calls[5], table.calls[0]) == (2, 1, 1)


@pytest.mark.parametrize("bad", [{0}, {31}, {13}, {3, 17}, {0, 1, 2}])
@pytest.mark.parametrize("size", [32, 20, 7])
def test_failing_batch_is_halved_with_few_extra_calls_and_loses_no_row(make, bad, size):
    calls = []

    def answer(x):
        calls.append(x)
        if bad & set(x):
            raise ValueError(f"rows {x}")
        return [f"a{row}" for row in x]

    table = make(answer, rows=32, batch_size=size, on_error="collect", max_failures="100%", **BATCH)
    assert run(table) is None
    assert table.column() == [None if x in bad else f"a{x}" for x in range(32)]
    assert positions(table.errors()) == sorted(bad)
    assert len(calls) - math.ceil(32 / size) <= len(bad) * (2 * math.ceil(math.log2(size)) + 1)


def test_retries_come_before_halving_and_not_again_after_it(make):
    calls = []

    def answer(x):
        calls.append(tuple(x))
        if 1 in x:
            raise ConnectionError("down")
        return x

    table = make(answer, rows=4, batch_size=4, on_error="collect", retry={"max_retries": 2, "wait": 0}, **BATCH)
    assert run(table) is None
    assert calls[:3] == [(0, 1, 2, 3)] * 3
    assert calls.count((1,)) == 1
    assert int(table.errors()["calls"][0]) == 5


def test_cells_of_a_batch_are_reused_row_by_row(make):
    table = make(lambda x: [f"a{row}" for row in x], rows=10, batch_size=4, **BATCH)
    table.execute()
    table.copy()
    table.build("answers_index", "IndexBuilder", "index", ["x"], {"count": 13}, primary_key=["x"])
    table.build_answer(batch_size=5, **BATCH)
    table.execute()
    assert table.column() == [f"a{x}" for x in range(13)]
    assert set(table.calls.values()) == {1}


# --- classes ------------------------------------------------------------------------------------------------------


def test_class_is_called_for_each_batch(make):
    made, closed = [], []
    table = make(lambda x: [f"a{row}" for row in x], rows=6, batch_size=2, python_function="Answering", **BATCH)
    TOLD["setup"] = lambda: made.append(True) or "made"
    TOLD["close"] = closed.append
    table.execute()
    assert table.column() == [f"a{x}" for x in range(6)]
    assert (made, closed) == ([True], ["made"])


def test_class_needs_no_close(make):
    table = make(lambda x: f"a{x}", rows=3, python_function="Answering")
    module = Path(table.vault.db_dir, "code_functions", "m.py")
    module.write_text(module.read_text().replace("def close(", "def shut("))
    table.execute()
    assert table.column() == ["a0", "a1", "a2"]


# --- generators ---------------------------------------------------------------------------------------------------


def stream(make, answer, **fields):
    """Return a table of five rows whose answers a generator yields."""
    return make(answer, rows=5, return_type="generator", on_error="collect", arguments={"x": None}, **fields)


def test_yielded_exception_object_is_the_error_of_its_row(make):
    table = stream(make, lambda x: (ValueError(f"row {row}") if row == 2 else f"a{row}" for row in range(5)))
    assert run(table) is None
    assert table.column() == ["a0", "a1", None, "a3", "a4"]
    assert table.errors()[["index", "error", "message"]].values.tolist() == [[2, "ValueError", "row 2"]]


def test_raised_exception_ends_a_generator_and_the_run_under_collect(make):
    def answer(x):
        yield from ("a0", ValueError("row 1"), "a2")
        raise KeyError("over")

    table = stream(make, answer)
    assert isinstance(run(table), KeyError)
    assert table.vault.get_process("night").status == "paused"
    assert positions(table.errors("night")) == [1]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, MemoryError])
@pytest.mark.parametrize("return_type", ["generator", "batch"])
def test_object_of_an_error_of_the_run_in_place_of_a_row_ends_the_run(make, return_type, kind):
    def rows(x=None):
        return ["a0", kind("over"), "a2", "a3", "a4"]

    fields = {"arguments": {"x": None}} if return_type == "generator" else {}
    table = make(rows, rows=5, return_type=return_type, on_error="collect", **fields)
    with pytest.raises(kind, match="over"):
        table.execute("night")
    assert table.vault.get_process("night").status == "paused"
    assert positions(table.errors("night")) == []
    kept = 1 if return_type == "generator" else 4
    assert table.progress("night").computed == kept


def test_resumed_generator_tries_no_failed_row_again(make):
    def answer(x):
        yield from ("a0", ValueError("row 1"), "a2")
        raise KeyError("over")

    table = stream(make, answer)
    run(table)
    table.tell(lambda x: (f"b{row}" for row in range(5)))
    assert run(table) is None
    assert table.column() == ["a0", None, "a2", "b3", "b4"]
    assert positions(table.errors()) == [1]


@pytest.mark.parametrize("later", [ValueError("row 0"), object()])
def test_resumed_generator_that_fails_for_a_finished_row_keeps_its_cells(make, later):
    def answer(x):
        yield from ("a0", "a1")
        raise KeyError("over")

    table = stream(make, answer)
    run(table)
    table.tell(lambda x: iter([later, "b1", "b2", "b3", ValueError("row 4")]))
    assert run(table) is None
    assert table.column() == ["a0", "a1", "b2", "b3", None]
    assert positions(table.errors()) == [4]


def test_resumed_generator_that_fails_for_a_finished_row_goes_on_under_pause(make):
    def answer(x):
        yield from ("a0", "a1")
        raise KeyError("over")

    table = make(answer, rows=3, return_type="generator", arguments={"x": None})
    run(table)
    table.tell(lambda x: iter([ValueError("row 0"), "b1", "b2"]))
    assert run(table) is None
    assert table.column() == ["a0", "a1", "b2"]


def test_interrupt_of_a_generator_is_shown_as_no_failed_row(make, monkeypatch):
    def answer(x):
        yield "a0"
        signal.raise_signal(signal.SIGINT)
        yield "a1"

    started = []
    start = ExecutionProgress.start
    monkeypatch.setattr(ExecutionProgress, "start", lambda *given: started.append(start(*given)) or started[-1])
    table = stream(make, answer)
    with pytest.raises(KeyboardInterrupt):
        table.execute("night")
    assert [counter.raised for counter in started] == [0, 0]


# --- places -------------------------------------------------------------------------------------------------------


def test_rows_run_in_the_callers_thread_unless_several_run_at_once(make):
    threads = set()
    table = make(lambda x: threads.add(threading.current_thread()), rows=8)
    table.execute()
    assert threads == {threading.current_thread()}
    for policies in ({"max_concurrency": 3}, {"timeout": 600}):
        threads.clear()
        table.copy()
        table.execute(force_execute=True, policies={"answer": policies})
        assert threading.current_thread() not in threads
        assert all(thread.daemon for thread in threads)


def test_sixteen_coroutines_run_at_once_where_nothing_else_is_said(make):
    running, most = [], []

    async def answer(x):
        running.append(x)
        most.append(len(running))
        deadline = time.monotonic() + PATIENCE
        while max(most) < 16 and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        running.remove(x)
        return "a"

    make(answer, rows=40).execute()
    assert max(most) == 16


def test_operations_of_coroutines_run_in_threads_as_children(make):
    async def answer(x, parent):
        child = TableVault(table.vault.db_dir, author="child", parent_id=parent)
        await asyncio.to_thread(child.create_table, f"made{x}")
        return "a"

    table = make(answer, rows=3, arguments={"parent": "~PROCESS_ID~"})
    process_id = table.execute()
    children = [info for info in table.vault.get_history(author="child") if info.operation == "create_table"]
    assert [info.parent_id for info in children] == [process_id] * 3


@pytest.mark.parametrize("threads", [1, 3])
def test_operations_of_threads_run_as_children(make, threads):
    together = threading.Barrier(threads, timeout=PATIENCE)

    def answer(x, parent):
        together.wait()
        child = TableVault(table.vault.db_dir, author="child", parent_id=parent)
        child.create_table(f"made{x}")
        return "a"

    table = make(answer, rows=3, max_concurrency=threads, arguments={"parent": "~PROCESS_ID~"})
    process_id = table.execute()
    children = [info for info in table.vault.get_history(author="child") if info.operation == "create_table"]
    assert [info.parent_id for info in children] == [process_id] * 3


@pytest.mark.parametrize("fields", [{}, {"max_concurrency": 3}])
def test_object_of_a_class_is_closed_after_an_error(make, fields):
    made, closed = [], []

    def answer(x):
        if x == 2:
            raise ValueError("two")
        return "a"

    table = make(answer, rows=20, python_function="Answering", **fields)
    TOLD["setup"] = lambda: made.append(1) or len(made)
    TOLD["close"] = closed.append
    assert isinstance(run(table), ValueError)
    until(lambda: sorted(closed) == list(range(1, len(made) + 1)))


def test_late_result_of_an_abandoned_thread_is_dropped(make):
    over, returned = threading.Event(), threading.Event()
    attempts = collections.Counter()

    def answer(x):
        attempts[x] += 1
        if x == 0 and attempts[0] == 1:
            over.wait()
            returned.set()
            return "late"
        if x == 1:
            over.set()
            returned.wait()
        return "in time"

    table = make(answer, rows=3, timeout=2, retry={"max_retries": 5, "on": ["timeout"], "wait": 0})
    table.execute()
    assert returned.is_set()
    assert attempts[0] > 1
    assert table.column() == ["in time"] * 3


@pytest.mark.parametrize(("fields", "most"), [({}, 1), ({"max_concurrency": 3}, 3), ({"executor": "async"}, 1)])
def test_class_has_one_object_per_worker_which_is_closed(make, fields, most):
    made, closed = [], []
    is_async = "executor" in fields

    async def wait(x):
        await asyncio.sleep(0.001)
        return "a"

    def sleep(x):
        time.sleep(0.005)
        return "a"

    table = make(
        wait if is_async else sleep,
        python_function="AnsweringAsync" if is_async else "Answering",
        setup_arguments={"model": "small"},
        **fields,
    )
    TOLD["setup"] = lambda model: made.append(model) or len(made)
    TOLD["close"] = closed.append
    table.execute()
    assert made == ["small"] * len(made)
    assert 1 <= len(made) <= most
    until(lambda: sorted(closed) == list(range(1, len(made) + 1)))


def test_constructor_arguments_are_resolved_once_for_all_workers(make, monkeypatch):
    monkeypatch.setenv("TV_NAME", "first")
    together, given = threading.Barrier(3, timeout=PATIENCE), []

    def setup(name, taken):
        given.append((name, list(taken)))
        monkeypatch.setenv("TV_NAME", "later")
        taken.append("mine")

    def answer(x):
        together.wait()
        return str(x)

    table = make(
        answer,
        rows=3,
        python_function="Answering",
        max_concurrency=3,
        setup_arguments={"name": "~ENV:TV_NAME~", "taken": ["ours"]},
    )
    TOLD["setup"] = setup
    table.execute()
    assert given == [("first", ["ours"])] * 3


def test_nothing_is_set_up_if_no_row_has_to_be_computed(make):
    made = []
    table = make(lambda x: "a", rows=3, python_function="Answering")
    table.execute()
    TOLD["setup"] = lambda: made.append(1)
    table.copy()
    table.execute()
    assert not made


def test_close_that_raises_is_a_warning(make):
    table = make(lambda x: "a", rows=3, python_function="Answering")

    def close(made):
        raise ValueError("no connection")

    TOLD["close"] = close
    with pytest.warns(WARNED, match=r"close\(\) of Answering raised ValueError") as warned:
        table.execute()
    assert (warned[0].filename, warned[0].lineno) == (__file__, close.__code__.co_firstlineno + 1)


# --- time limits --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("way", ["threads", "async"])
def test_timed_out_call_fails_its_row_and_its_late_result_is_dropped(make, way):
    def answer(x):
        time.sleep(3 if x == 2 else 0)
        return f"a{x}"

    async def answer_async(x):
        await asyncio.sleep(600 if x == 2 else 0)
        return f"a{x}"

    table = make(answer if way == "threads" else answer_async, rows=6, timeout=1.5, on_error="collect")
    assert run(table) is None
    assert table.column()[2] is None
    (record,) = table.errors().to_dict("records")
    assert (record["index"], record["error"]) == (2, "TimeoutError")


@pytest.mark.parametrize("way", ["threads", "async"])
def test_function_called_once_that_takes_too_long_is_repeated(make, way):
    over = threading.Event()

    def is_late():
        return sum(table.calls.values()) == 1

    def answer(x):
        if is_late():
            over.wait(120)
        return pd.DataFrame({"answer": ["a", "b"]})

    async def answer_async(x):
        if is_late():
            await asyncio.sleep(600)
        return pd.DataFrame({"answer": ["a", "b"]})

    retry = {"max_retries": 1, "on": ["timeout"], "wait": 0}
    fields = {"return_type": "dataframe", "arguments": {"x": 1}, "timeout": 1, "retry": retry}
    table = make(answer if way == "threads" else answer_async, rows=2, **fields)
    assert run(table) is None
    over.set()
    assert table.column() == ["a", "b"]
    assert table.calls == {1: 2}


def test_late_result_is_dropped_while_other_rows_run(make):
    late, returned = threading.Event(), []

    def answer(x):
        if table.calls[0] == 1 and x == 0:
            late.wait(120)
            returned.append(x)
            return "first"
        if x > 0:
            late.set()
            until(lambda: returned)
        return "second"

    retry = {"max_retries": 1, "on": ["timeout"], "wait": 0}
    table = make(answer, rows=5, timeout=1, max_concurrency=1, retry=retry)
    assert run(table) is None
    assert table.column() == ["second"] * 5


def deaf_until(over):
    """Return a coroutine function of one row that ignores its cancellation."""

    async def deaf(x):
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return "late"

    return deaf


def test_coroutine_that_ignores_its_cancellation_fails_its_row(make):
    over = threading.Event()
    deaf = deaf_until(over)

    async def answer(x):
        return await deaf(x) if x == 1 else f"a{x}"

    table = make(answer, rows=4, timeout=0.2, max_concurrency=1, on_error="collect", max_failures=1)
    assert run(table) is None
    over.set()
    assert table.column() == ["a0", None, "a2", "a3"]


def test_too_many_coroutines_that_ignore_their_cancellation_end_the_run(make, monkeypatch):
    monkeypatch.setattr("tablevault.rows.coroutines._DEAF_SECONDS", 0.1)
    over = threading.Event()
    limits = {"max_failures": "100%", "max_consecutive_failures": "none"}
    table = make(deaf_until(over), rows=200, timeout=0.1, max_concurrency=1, on_error="collect", **limits)
    error = run(table)
    over.set()
    assert isinstance(error, TimeoutError)
    assert "calls that timed out are still running" in "".join(error.__notes__)
    assert table.vault.get_process("night").status == "paused"


def test_coroutine_that_takes_too_long_is_cancelled(make):
    cancelled, seen = [], []

    async def answer(x):
        if x == 3:
            for _ in range(50):
                await asyncio.sleep(0)
            seen.extend(cancelled)
        try:
            await asyncio.sleep(600 if x == 2 else 0)
        except asyncio.CancelledError:
            cancelled.append(x)
            raise
        return "a"

    table = make(answer, rows=4, timeout=2, max_concurrency=1, on_error="collect")
    assert run(table) is None
    assert seen == cancelled == positions(table.errors()) == [2], "before the next row, and not at the end of the run"


@pytest.mark.slow
def test_threads_that_have_ended_do_not_count_as_abandoned(make):
    def answer(x):
        time.sleep(1.0 if x % 2 == 0 else 0.6)
        return "a"

    # Each slow call has ended before the next one is abandoned; a machine that is busy only adds abandoned calls.
    table = make(answer, rows=6, timeout=0.8, on_error="collect", max_failures="100%")
    assert run(table) is None
    assert len(table.errors()) >= 3


@pytest.mark.slow
def test_too_many_threads_that_go_on_end_the_run(make):
    over = threading.Event()

    def answer(x):
        if x in (1, 2, 3):
            over.wait(120)
        return "a"

    table = make(answer, timeout=1, max_concurrency=1, on_error="collect", max_failures="100%")
    error = run(table)
    over.set()
    assert isinstance(error, TimeoutError)
    assert "2 calls that timed out are still running" in "".join(error.__notes__)


def test_too_many_threads_that_go_on_end_the_run_where_an_error_of_a_row_reverts(make):
    over = threading.Event()
    retry = {"max_retries": 5, "on": ["timeout"], "wait": 0}
    table = make(lambda x: over.wait(120), timeout=0.2, max_concurrency=1, on_error="revert", retry=retry)
    error = run(table)
    over.set()
    assert isinstance(error, TimeoutError)
    assert "2 calls that timed out are still running" in "".join(error.__notes__)
    assert table.vault.get_process("night").status == "paused"


@pytest.mark.parametrize("on_error", ["pause", "revert"])
def test_too_many_threads_of_a_function_called_once_end_the_run(make, on_error):
    over = threading.Event()
    retry = {"max_retries": 5, "on": ["timeout"], "wait": 0}
    fields = {"return_type": "dataframe", "arguments": {"x": 1}, "on_error": on_error}
    table = make(lambda x: over.wait(120), timeout=0.2, retry=retry, **fields)
    error = run(table)
    over.set()
    assert isinstance(error, TimeoutError)
    assert "2 calls that timed out are still running" in "".join(error.__notes__)
    assert table.calls == {1: 2}
    assert table.vault.get_process("night").status == "paused"


def deaf_to_cancellation(rows, over):
    """Return a coroutine function that ignores its cancellation for some rows."""

    async def answer(x):
        while x in rows and not over.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
        return "a"

    return answer


@pytest.mark.slow
def test_coroutine_that_ignores_its_cancellation_is_abandoned(make):
    over = threading.Event()
    table = make(
        deaf_to_cancellation({1}, over), rows=6, timeout=2, max_concurrency=2, on_error="collect", max_failures="100%"
    )
    error = run(table)
    over.set()
    assert error is None
    assert table.errors()[["index", "error"]].values.tolist() == [[1, "TimeoutError"]]
    assert table.column() == [None if x == 1 else "a" for x in range(6)]


@pytest.mark.slow
def test_too_many_coroutines_that_go_on_end_the_run(make):
    over = threading.Event()
    table = make(
        deaf_to_cancellation(range(30), over), timeout=1, max_concurrency=1, on_error="collect", max_failures="100%"
    )
    error = run(table)
    over.set()
    assert isinstance(error, TimeoutError)
    assert "2 calls that timed out are still running" in "".join(error.__notes__)


@pytest.mark.parametrize("way", ["threads", "coroutines"])
def test_frame_of_a_function_called_once_is_not_copied(make, monkeypatch, way):
    def answer(x):
        return pd.DataFrame({"answer": ["a"] * 3})

    async def answer_later(x):
        return answer(x)

    copied = []
    for module in (threads, coroutines):
        monkeypatch.setattr(module, "copied_result", lambda value: copied.append(value) or value)
    called = answer if way == "threads" else answer_later
    table = make(called, rows=3, return_type="dataframe", arguments={"x": 1}, timeout=60)
    assert run(table) is None
    assert table.column() == ["a"] * 3
    assert not copied


# --- loops --------------------------------------------------------------------------------------------------------


def test_async_rows_run_where_the_caller_has_a_loop(make):
    async def answer(x):
        await asyncio.sleep(0)
        return f"a{x}"

    table = make(answer)

    async def notebook():
        table.execute()

    asyncio.run(notebook())
    assert table.column() == [f"a{x}" for x in range(30)]


@pytest.mark.slow
def test_blocked_loop_is_warned_about_once(make):
    async def answer(x):
        time.sleep(1.3 if x < 2 else 0)
        return "a"

    table = make(answer, rows=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table.execute()
    assert sum("blocked its event loop" in str(item.message) for item in caught) == 1


# --- interrupts ---------------------------------------------------------------------------------------------------

TRACED = (
    "rows/runner.py",
    "rows/error_handling.py",
    "rows/threads.py",
    "rows/coroutines.py",
    "rows/schedule.py",
    "rows/table.py",
)


class _Interrupting:
    """Presses Ctrl-C at one line of the runner or its adapters."""

    def __init__(self, at):
        self._left = at
        self.pressed_at = None

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.endswith(TRACED):
            return None
        return self._line

    def _line(self, frame, event, argument):
        if event == "line" and self.pressed_at is None:
            self._left -= 1
            if self._left <= 0:
                self.pressed_at = time.monotonic()
                signal.raise_signal(signal.SIGINT)
        return self._line


# An interrupt between the creation of an event loop and its keeper leaves it to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("way", ["batch", "threads", "async"])
@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 60))])
def test_interrupt_at_any_line_loses_no_finished_row_and_never_hangs(make, way, seed, no_collections):
    finished = set()

    def by_row(x):
        finished.add(x)
        return f"a{x}"

    async def by_row_async(x):
        return by_row(x)

    fields = {"batch": {"batch_size": 3, **BATCH}, "threads": {"max_concurrency": 2}, "async": {"max_concurrency": 3}}
    function = {"batch": lambda x: list(map(by_row, x)), "threads": by_row, "async": by_row_async}[way]
    table = make(function, rows=24, **fields[way])
    at = random.Random(f"{way} {seed}").randint(60, 900)
    interrupting = _Interrupting(at)
    before = sys.gettrace()
    sys.settrace(interrupting)
    try:
        table.execute("night")
    except KeyboardInterrupt:
        ended = time.monotonic()
    else:
        ended = None
    finally:
        sys.settrace(before)
    if ended is None:
        assert table.vault.get_process("night").status == "succeeded"
        return
    assert ended - interrupting.pressed_at < 4.5, "a call that never began was waited for"
    known = set(finished)
    table.calls.clear()
    table.tell(function)
    table.execute("night")
    assert table.column() == [f"a{x}" for x in range(24)]
    again = known & set(table.calls)
    if way != "batch":
        assert len(again) == 0, f"lost {sorted(again)}"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.parametrize("way", ["threads", "async"])
def test_interrupt_waits_five_seconds_for_rows_in_flight(make, way, number, error, no_collections):
    cleaned, over = [], threading.Event()

    def answer(x):
        if x == 1:
            signal.pthread_kill(threading.main_thread().ident, number)
        if x == 0:
            over.wait(600)
            return "late"
        return f"a{x}"

    async def answer_async(x):
        if x != 0:
            return answer(x)
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.1)
            cleaned.append(x)

    table = make(answer if way == "threads" else answer_async, max_concurrency=2)
    began = time.monotonic()
    with pytest.raises(error):
        table.execute("night")
    assert 5 <= time.monotonic() - began < 60
    over.set()
    assert table.vault.get_process("night").status == "paused"
    assert table.progress("night").computed == 1, "the row that ended in time, and no late result"
    assert cleaned == ([0] if way == "async" else []), "a coroutine that is cancelled has time to clean up"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["threads", "async"])
def test_stop_does_not_wait_for_a_row_that_goes_on(make, way):
    cleaned, over, stopping = [], threading.Event(), []

    def stop():
        vault = TableVault(table.vault.db_dir, author="ada")
        vault.stop_process("night", force=True, materialize=True, timeout=120)

    def answer(x):
        if x == 1:
            stopping.append(threading.Thread(target=stop))
            stopping[0].start()
        if x == 0:
            over.wait(600)
            return "late"
        return f"a{x}"

    async def answer_async(x):
        if x != 0:
            return answer(x)
        try:
            await asyncio.sleep(600)
        finally:
            cleaned.append(x)

    table = make(answer if way == "threads" else answer_async, rows=2, max_concurrency=2)
    with pytest.raises(tv_errors.TVForcedError):
        table.execute("night")
    over.set()
    stopping[0].join()
    assert table.vault.get_process("night").status == "stopped"
    assert table.column() == [None, "a1"]
    assert cleaned == ([0] if way == "async" else [])


def test_interrupt_before_a_thread_has_started_lets_the_executor_close(monkeypatch):
    def interrupted(thread):
        raise KeyboardInterrupt

    executor = ThreadExecutor(2, lambda: None)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        executor.start(0, {})
    assert executor.cancel_waiting() == {0}
    assert not executor.knows(0)
    executor.close()


# --- rows taken up together -------------------------------------------------------------------------------------------


def test_async_rows_taken_up_with_a_failed_one_are_not_begun(make):
    async def answer(x):
        if x == 1:
            raise ValueError(f"row {x}")
        return f"a{x}"

    table = make(answer, rows=40, max_concurrency=16)
    with pytest.raises(ValueError, match="row 1"):
        table.execute("night")
    assert table.calls == {0: 1, 1: 1}

    async def fixed(x):
        return f"a{x}"

    table.tell(fixed)
    table.execute("night")
    assert table.column() == [f"a{x}" for x in range(40)]
    assert table.calls == {0: 1, 1: 2, **dict.fromkeys(range(2, 40), 1)}


def test_async_rows_held_for_a_collected_failure_are_computed_once(make):
    async def answer(x):
        if x % 3 == 1:
            raise ValueError(f"row {x}")
        return f"a{x}"

    table = make(answer, rows=60, max_concurrency=16, on_error="collect", max_failures="100%")
    with pytest.warns(WARNED, match="20 failed rows"):
        table.execute("night")
    assert table.calls == dict.fromkeys(range(60), 1)
    assert table.column() == [None if x % 3 == 1 else f"a{x}" for x in range(60)]
