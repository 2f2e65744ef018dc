"""Exceptions of worker processes are retried, recorded and obeyed like those of this interpreter."""

from __future__ import annotations

import pytest
from operated import build, column_builder, index_builder

from tablevault import tv_errors

CODE = """
import os
import threading
import time
from pathlib import Path

import pandas as pd

from tablevault.errors import RetryLater, StopRun


def index(count):
    return pd.DataFrame({"x": range(count)})


class Base(Exception):
    pass


class MoreArguments(Base):
    def __init__(self, text, status_code):
        super().__init__(text)
        self.status_code = status_code


class Holding(Base):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Irreducible(Base):
    def __reduce__(self):
        raise TypeError("cannot be pickled")


class Forgetful(Base):
    def __init__(self, text="", status_code=None):
        super().__init__(text)
        if status_code is not None:
            self.status_code = status_code

    def __reduce__(self):
        return Forgetful, (str(self),)


def revive(text, process):
    if os.getpid() != process:
        raise ValueError("only readable where it was raised")
    return Homely(text)


class Homely(Base):
    def __reduce__(self):
        return revive, (str(self), os.getpid())


class StopNow(StopRun):
    def __init__(self, text, reason):
        super().__init__(text)


class WaitMore(RetryLater):
    def __init__(self, service, seconds):
        super().__init__(seconds)


class Leaving(BaseException):
    def __init__(self, text, reason):
        super().__init__(text)


def error(x):
    if x == 5:
        import late

        return late.Late("five")
    return [
        lambda: MoreArguments("zero", 404),
        lambda: Holding("one"),
        lambda: Irreducible("two"),
        lambda: Forgetful("three", 404),
        lambda: Homely("four"),
    ][x]()


def note(folder, x):
    path = Path(folder, str(x))
    with path.open("a") as file:
        file.write(f"{time.monotonic()}\\n")
    return len(path.read_text().split())


def fail(x, folder):
    note(folder, x)
    raise error(x)


def fail_in_batch(x, folder):
    for item in x:
        note(folder, item)
    return [error(item) if item < 6 else item for item in x]


def wait_first(x, folder):
    if note(folder, x) < 3:
        raise WaitMore("openai", 0.2) if x else RetryLater(after=0.2)
    return x


def stop(x, folder):
    note(folder, x)
    raise StopNow("no more", reason="tired")


def leave(x, folder):
    raise Leaving("gone", reason="tired")
"""
LATE = """
from made import Base


class Late(Base):
    pass
"""
NAMES = [f"made.{name}" for name in ("MoreArguments", "Holding", "Irreducible", "Forgetful", "Homely")] + ["late.Late"]


@pytest.fixture
def make(vault, tmp_path):
    """Return a function that makes a table whose column is computed in a worker process."""

    def make_table(function: str, count: int, more: str) -> None:
        vault.create_code_module("late", text=LATE)
        arguments = f'{{x: "<<self.x[index]>>", folder: "{tmp_path}"}}'
        more = f"executor: processes\nmax_concurrency: 1\n{more}"
        build(
            vault,
            index_builder("x", "index", f"{{count: {count}}}"),
            CODE,
            a=column_builder("a", function, arguments, more),
        )

    return make_table


def calls(tmp_path, x: int) -> list[float]:
    """Return the times of the calls for a row."""
    return [float(text) for text in (tmp_path / str(x)).read_text().split()]


COLLECTED = "on_error: collect\nmax_failures: 100%\n"


@pytest.mark.parametrize(
    ("retried", "expected"),
    [
        pytest.param("[Base]", {0, 1, 2, 3, 4, 5}, id="base"),
        pytest.param("[Homely, Holding]", {1, 4}, marks=pytest.mark.slow, id="classes"),
        pytest.param("[404]", {0, 3}, marks=pytest.mark.slow, id="status"),
    ],
)
def test_errors_that_cannot_be_pickled_are_retried_by_name(make, vault, tmp_path, retried, expected):
    make("fail", 6, f"return_type: row-wise\n{COLLECTED}retry: {{max_retries: 1, wait: 0, on: {retried}}}")
    with pytest.warns(tv_errors.TableVaultWarning):
        vault.execute_instance("made")
    assert {x for x in range(6) if len(calls(tmp_path, x)) == 2} == expected
    errors = vault.get_errors("made").sort_values("index")
    assert list(errors["error"]) == NAMES
    assert list(errors["message"]) == ["zero", "one", "two", "three", "four", "five"]
    assert list(errors["status"].dropna()) == [404, 404]


@pytest.mark.slow
def test_errors_among_the_rows_of_a_batch_need_no_pickling(make, vault, tmp_path):
    make("fail_in_batch", 8, f"return_type: batch\n{COLLECTED}retry: {{max_retries: 1, wait: 0, on: [Holding]}}")
    with pytest.warns(tv_errors.TableVaultWarning):
        vault.execute_instance("made")
    assert [len(calls(tmp_path, x)) for x in range(8)] == [1, 2, 1, 1, 1, 1, 1, 1]
    assert list(vault.get_errors("made").sort_values("index")["error"]) == NAMES


def test_retry_later_of_a_worker_is_obeyed(make, vault, tmp_path):
    make("wait_first", 2, "return_type: row-wise\nretry: {max_retries: 1, wait: 0}")
    vault.execute_instance("made")
    for x in range(2):
        first, second, third = calls(tmp_path, x)
        assert second - first >= 0.2
        assert third - second >= 0.2


def test_stop_run_of_a_worker_ends_the_run(make, vault, tmp_path):
    make("stop", 1, f"return_type: row-wise\n{COLLECTED}retry: 3")
    with pytest.raises(RuntimeError, match="StopNow: no more"):
        vault.execute_instance("made", process_id="run")
    assert len(calls(tmp_path, 0)) == 1


@pytest.mark.slow
def test_stop_on_names_errors_that_cannot_be_pickled(make, vault, tmp_path):
    make("fail", 1, f"return_type: row-wise\n{COLLECTED}stop_on: [Base]\nretry: 3")
    with pytest.raises(RuntimeError, match="MoreArguments: zero"):
        vault.execute_instance("made", process_id="run")
    assert len(calls(tmp_path, 0)) == 1


@pytest.mark.slow
def test_exit_of_a_worker_that_cannot_be_pickled_is_not_collected(make, vault):
    make("leave", 1, f"return_type: row-wise\n{COLLECTED}")
    with pytest.raises(RuntimeError, match="Leaving: gone"):
        vault.execute_instance("made", process_id="run")
