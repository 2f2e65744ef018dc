"""Exceptions of any class pause the process and reach the caller unchanged.

This includes those that Python treats specially.
"""

from __future__ import annotations

import pandas as pd
import pytest

from tablevault import TableVault

CODE = """
import dataclasses

import pandas as pd


class Refusing(Exception):
    def add_note(self, note):
        raise RuntimeError("no notes")


class Noted(Exception):
    __notes__ = 5


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


def index():
    return pd.DataFrame({"x": range(8)})


def number():
    return 7


def answer(x):
    if x == 3:
        FAIL
    return f"{x}-ok"


def answers():
    for x in range(8):
        yield answer(x)


def frame():
    return pd.DataFrame({"y": [answer(x) for x in range(8)]})
"""
FAILURES = {
    "StopIteration": "return next(x for x in () if x)",
    "StopAsyncIteration": "raise StopAsyncIteration",
    "GeneratorExit": "raise GeneratorExit",
    "Refusing": "raise Refusing",
    "Noted": "raise Noted",
    "Frozen": "raise Frozen(429)",
}
INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: index
code_module: raising
is_custom: true
"""
BUILDERS = {
    "one after the other": 'python_function: answer\nreturn_type: row-wise\narguments: {x: "<<self.x[index]>>"}',
    "side by side": 'python_function: answer\nreturn_type: row-wise\nn_threads: 2\narguments: {x: "<<self.x[index]>>"}',
    "generator": "python_function: answers\nreturn_type: generator",
    "dataframe": "python_function: frame",
}


@pytest.fixture
def vault(tmp_path):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_table("stories")
    return vault


def builder(about):
    return f"builder_type: ColumnBuilder\nchanged_columns: [y]\ncode_module: raising\nis_custom: true\n{about}\n"


USUAL = [("one after the other", "StopIteration"), ("side by side", "StopIteration"), ("generator", "Frozen")]
"""The others are tried with the slow tests."""


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        pytest.param(kind, failure, marks=() if (kind, failure) in USUAL else pytest.mark.slow)
        for kind in BUILDERS
        for failure in FAILURES
    ],
)
def test_exception_of_any_class_pauses_unchanged_and_keeps_row_positions(vault, kind, failure):
    vault.create_code_module("raising", text=CODE.replace("FAIL", FAILURES[failure]))
    vault.create_instance("stories", builders={"stories_index": INDEX, "y": builder(BUILDERS[kind])})
    # Python itself turns what ends iterations into a RuntimeError when it escapes from a generator.
    raised = "RuntimeError" if (kind, failure) == ("generator", "StopIteration") else failure
    with pytest.raises(BaseException) as caught:
        vault.execute_instance("stories", process_id="nightly")
    assert type(caught.value).__name__ == raised
    if failure != "Noted":
        assert any("paused as 'nightly'" in note for note in caught.value.__notes__)
    assert vault.get_process("nightly").status == "paused"

    vault.create_code_module("raising", text=CODE.replace("FAIL", "return 'fixed'"))
    vault.execute_instance("stories", process_id="nightly")
    expected = [f"{x}-ok" if x != 3 else "fixed" for x in range(8)]
    pd.testing.assert_frame_equal(
        vault.get_dataframe("stories")[0],
        pd.DataFrame({"x": range(8), "y": expected}),
        check_dtype=False,
    )


def test_stop_iteration_of_a_function_without_arguments_pauses(vault):
    vault.create_code_module("raising", text=CODE.replace("return 7", "raise StopIteration"))
    about = builder("python_function: number\nreturn_type: row-wise")
    vault.create_instance("stories", builders={"stories_index": INDEX, "y": about})
    with pytest.raises(StopIteration):
        vault.execute_instance("stories", process_id="nightly")
    vault.create_code_module("raising", text=CODE.replace("        FAIL", "        pass"))
    vault.execute_instance("stories", process_id="nightly")
    assert vault.get_dataframe("stories")[0]["y"].tolist() == [7] * 8
