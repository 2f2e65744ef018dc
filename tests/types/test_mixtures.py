"""Cells that are accepted one by one can stand in one column, also after a restart."""

from __future__ import annotations

import datetime
import decimal
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import builder, new_vault

from tablevault.storage.cells import column_checker
from tablevault.storage.column_types import CellError, ColumnType, parse_dtype
from tablevault.storage.columns import build_column
from tablevault.storage.mixtures import Mixture
from tablevault.storage.packing import pack, unpack

WHOLE = st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64 + 5])
FRACTION = st.sampled_from([0.0, -0.0, 0.5, 1e300, math.inf, -math.inf, math.nan])
ARRAY = st.builds(
    np.array,
    st.sampled_from([[], [1.5], [math.nan], [1.5, math.inf]]),
    st.sampled_from(["float16", "float32", "float64"]),
) | st.builds(np.array, st.sampled_from([[], [1], [-1], [255]]), st.sampled_from(["int16", "int64", "float32"]))
DURATION = st.sampled_from([0, 1, 2**63 // 1000, -(2**63) // 1000, 2**63 - 1, -(2**63) + 1, -(2**63) + 10**6]).map(
    lambda count: datetime.timedelta(microseconds=count)
) | st.sampled_from([pd.Timedelta(5), pd.Timedelta.max, pd.Timedelta.min])
MOMENT = st.sampled_from(
    [
        datetime.datetime(1677, 9, 21, 0, 12, 43, 145224),
        datetime.datetime(1677, 9, 21, 0, 12, 43, 145225),
        datetime.datetime(2262, 4, 11, 23, 47, 16, 854775),
        datetime.datetime(2262, 4, 12),
        datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        pd.Timestamp(5),
        pd.Timestamp.max,
    ]
)
NUMBER = st.builds(decimal.Decimal, st.sampled_from(["0", "-0", "1.10", "1e30", "1e-40", "9" * 38]))
OTHER = st.sampled_from(["a", "", b"x", True, False, None, {"a": 1}, datetime.date(2020, 1, 1), datetime.time(1)])
LISTED = st.recursive(WHOLE | FRACTION | ARRAY | OTHER, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
VALUE = WHOLE | FRACTION | ARRAY | DURATION | MOMENT | NUMBER | OTHER | LISTED
FEW_KINDS = st.lists(
    st.sampled_from([WHOLE, FRACTION, ARRAY, DURATION, MOMENT, NUMBER, OTHER, LISTED]), min_size=1, max_size=2
)
VALUES = FEW_KINDS.flatmap(lambda kinds: st.lists(st.one_of(kinds), max_size=8))
CATEGORY = parse_dtype("category")


def accepted(mixture: Mixture, column_type: ColumnType | None, values: list[object]) -> list[object]:
    """Return the cells of the values that can share a column with the others."""
    check, cells = column_checker(column_type), []
    for value in values:
        try:
            cell = check(value)
            mixture.add(cell)
        except (TypeError, ValueError, OverflowError):
            continue
        cells.append(cell)
    return cells


@settings(max_examples=400)
@given(VALUES | st.lists(VALUE, max_size=8), st.sampled_from([None, CATEGORY]))
def test_what_is_accepted_can_be_one_column(values, column_type):
    cells = accepted(Mixture(column_type), column_type, values)
    build_column(cells, column_type)


@settings(max_examples=400)
@given(VALUES, VALUES, st.sampled_from([None, CATEGORY]))
def test_what_is_accepted_after_a_restart_can_be_one_column(values, more, column_type):
    kept = unpack(pack([accepted(Mixture(column_type), column_type, values)]))[0]
    restarted = Mixture(column_type)
    restarted.add_kept(kept)
    cells = [*kept, *accepted(restarted, column_type, more)]
    build_column(cells, column_type)


CODE = """
import datetime
import numpy as np

VALUES = {values}

def rows():
    return {{"i": list(range(len(VALUES)))}}["i"]

def value(i):
    return VALUES[i]
"""


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ('[np.array([1.5]), np.array([np.nan]), "text", np.array([2.5])]', ""),
        ("[2**63, -1, 2**63 + 1, 5]", "category"),
        ("[datetime.timedelta(0), -datetime.timedelta(microseconds=2**63 - 1), None, datetime.timedelta(1)]", ""),
    ],
    ids=["array with NaN", "numbers of a category", "duration"],
)
def test_cell_that_cannot_share_its_column_fails_at_its_row(tmp_path, values, dtype):
    vault = new_vault(tmp_path, "built")
    vault.create_code_module("made", text=CODE.format(values=values))
    more = {"dtypes": f"{{y: {dtype}}}"} if dtype else {}
    text = builder(
        "value", ["y"], "row-wise", arguments='{i: "<<self.i[index]>>"}', on_error="collect", max_failures=2, **more
    )
    vault.create_instance("built", builders={"built_index": builder("rows", ["i"], index=True), "y": text})
    with pytest.warns(UserWarning, match="1 failed row"):
        vault.execute_instance("built")
    assert len(vault.get_errors("built")) == 1


def test_declared_duration_that_arrow_cannot_hold_is_refused():
    check = column_checker(parse_dtype("timedelta64[us]"))
    with pytest.raises((ValueError, CellError)):
        check(-datetime.timedelta(microseconds=2**63 - 1))
