import string

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tablevault.functions.random_string import random_column_string, random_gen_string, random_row_string


def is_random_string(value: object) -> bool:
    return isinstance(value, str) and len(value) == 20 and set(value) <= set(string.ascii_letters + string.digits)


def test_columns_are_as_long_as_the_frame_and_every_cell_differs():
    frame = random_column_string(pd.DataFrame({"fruit": ["apple", "pear", "plum"]}), ["left", "right"])

    assert list(frame.columns) == ["left", "right"]
    cells = frame["left"].tolist() + frame["right"].tolist()
    assert all(map(is_random_string, cells))
    assert len(set(cells)) == 6


def test_a_row_of_several_columns_has_one_string_for_each():
    row = random_row_string(["left", "right"])

    assert len(row) == 2
    assert all(map(is_random_string, row))


def test_a_row_of_one_column_is_the_string_itself():
    assert is_random_string(random_row_string(["only"]))


def test_generator_yields_one_row_per_row_of_a_frame_without_its_columns():
    rows = list(random_gen_string(["left", "right"], pd.DataFrame({"fruit": ["apple", "pear"]})))

    assert [len(row) for row in rows] == [2, 2]
    assert all(is_random_string(cell) for row in rows for cell in row)


def test_a_generator_of_one_column_yields_the_strings_themselves():
    assert all(map(is_random_string, random_gen_string(["only"], pd.DataFrame({"fruit": ["apple"]}))))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=20))
def test_generator_yields_exactly_the_rows_with_an_unfilled_column(filled):
    frame = pd.DataFrame(
        {
            "left": pd.array(["set" if left else None for left, _ in filled], dtype="string"),
            "right": pd.array(["set" if right else None for _, right in filled], dtype="string"),
        }
    )

    rows = list(random_gen_string(["left", "right"], frame))

    assert len(rows) == sum(not (left and right) for left, right in filled)


def test_a_resumed_generator_goes_on_after_the_rows_that_are_there():
    frame = pd.DataFrame({"fruit": ["apple", "pear", "plum"]})
    interrupted = random_gen_string(["code"], frame)
    frame["code"] = pd.array([next(interrupted), None, None], dtype="string")

    remaining = list(random_gen_string(["code"], frame))

    assert len(remaining) == 2
    assert frame["code"][0] not in remaining


@pytest.mark.parametrize(
    "call",
    [
        lambda frame, **unused: random_column_string(frame, ["code"], **unused),
        lambda frame, **unused: random_row_string(["code"], **unused),
        lambda frame, **unused: list(random_gen_string(["code"], frame, **unused)),
    ],
)
def test_unused_arguments_are_tolerated(call):
    assert len(call(pd.DataFrame({"fruit": ["apple"]}), seed=7, comment="unused")) >= 1
