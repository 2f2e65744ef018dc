"""A function may change its result in its next call: the cell is what it returned."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tablevault import to_numpy

sys.path.insert(0, str(Path(__file__).parents[1] / "types"))
from kinds import build, builder, new_vault

CODE = """
import array
import asyncio
import collections
import threading

import numpy as np
import pandas as pd

LOCAL = threading.local()


class OnlyArray:
    def __init__(self):
        self.items = np.zeros(2)

    def __array__(self, dtype=None, copy=None):
        return self.items


class ListOfOwnClass(list):
    pass


MADE = {
    "numpy": lambda: np.zeros(2),
    "record": lambda: np.zeros(1, [("a", float), ("b", float)])[0],
    "buffer": lambda: array.array("d", [0, 0]),
    "view": lambda: memoryview(array.array("d", [0, 0])),
    "bytes": lambda: bytearray(2),
    "only_array": OnlyArray,
    "series": lambda: pd.Series(np.zeros(2)),
    "list": lambda: [0.0, 0.0],
    "subclass": lambda: ListOfOwnClass([0.0, 0.0]),
    "nested": lambda: [[0.0, 0.0]],
    "dict": lambda: {"a": 0},
    "mapping": lambda: collections.OrderedDict(a=0),
    "deep": lambda: {"a": [{"b": 0}]},
}


def rows():
    return pd.DataFrame({"i": range(200)})


def changed(i, kind):
    if not hasattr(LOCAL, kind):
        setattr(LOCAL, kind, MADE[kind]())
    made = getattr(LOCAL, kind)
    if kind in ("dict", "mapping"):
        made["a"] = i
    elif kind == "deep":
        made["a"][0]["b"] = i
    elif kind == "record":
        made["a"] = made["b"] = i
    elif kind == "nested":
        made[0][:] = [float(i)] * 2
    elif kind == "bytes":
        made[:] = bytes([i, i])
    elif kind == "buffer":
        made[:] = array.array("d", [i, i])
    elif kind == "view":
        made[0] = made[1] = i
    elif kind == "only_array":
        made.items[:] = i
    elif kind == "series":
        made.iloc[:] = i
    else:
        made[:] = [float(i)] * 2
    return made


async def changed_later(i, kind):
    await asyncio.sleep(0)
    return changed(i, kind)


def changed_row(i, kind):
    return {"v": changed(i, kind), "w": i}
"""
ROWS = {"built_index": builder("rows", ["i"], index=True, primary_key="[i]")}
INLINE, THREADS, COROUTINES = {}, {"n_threads": 4}, {"max_concurrency": 8}
VECTOR = '{v: "vector<float64, 2>"}'


def column(tmp_path, function, kind, columns=("v",), **fields):
    vault = new_vault(tmp_path, "built")
    arguments = '{i: "<<self.i[index]>>", kind: ' + kind + "}"
    build(vault, CODE, ROWS | {"v": builder(function, list(columns), "row-wise", arguments=arguments, **fields)})
    return vault.read("built", format="arrow")["v"]


@pytest.mark.parametrize("kind", ["numpy", "buffer", "view", "only_array", "series", "list", "subclass"])
@pytest.mark.parametrize(("function", "way"), [("changed", THREADS), ("changed_later", COROUTINES)])
def test_changed_vector_is_the_cell_of_its_own_row(tmp_path, function, way, kind):
    found = to_numpy(column(tmp_path, function, kind, dtypes=VECTOR, **way))
    assert found.tolist() == [[float(i)] * 2 for i in range(200)]


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("list", lambda i: [i, i]),
        ("nested", lambda i: [[i, i]]),
        ("bytes", lambda i: bytes([i, i])),
        ("record", lambda i: f'{{"a":{i}.0,"b":{i}.0}}'),
        ("dict", lambda i: f'{{"a":{i}}}'),
        ("mapping", lambda i: f'{{"a":{i}}}'),
        ("deep", lambda i: f'{{"a":[{{"b":{i}}}]}}'),
    ],
)
def test_changed_value_without_a_dtype_is_the_cell_of_its_own_row(tmp_path, kind, cell):
    found = column(tmp_path, "changed", kind, **THREADS).to_pylist()
    assert found == [cell(i) for i in range(200)]


def test_changed_value_in_a_returned_row_is_the_cell_of_its_own_row(tmp_path):
    found = column(tmp_path, "changed_row", "list", columns=("v", "w"), dtypes=VECTOR, **THREADS)
    assert to_numpy(found).tolist() == [[float(i)] * 2 for i in range(200)]
