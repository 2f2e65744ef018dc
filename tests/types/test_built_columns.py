"""Columns built from return values.

Declared dtypes are enforced; other values get their natural type.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
from kinds import build, builder, new_vault, write

CODE = """
import datetime
import decimal
import enum
import zoneinfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

MOMENT = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456)

class Colour(enum.StrEnum):
    RED = "red"

def numbered(count):
    return pd.DataFrame({"i": range(count)})
"""

FUNCTIONS = """
def wholeHERE(count):
    return pd.DataFrame({"made": pd.Series(VALUES, dtype=object)})

def eachHERE(i):
    return VALUES[i]

def everyHERE(count):
    yield from VALUES
"""

NATURAL = {
    "ints": ("[1, None, -3]", pa.int64(), "Int64", [1, None, -3]),
    "large ints": ("[1, None, 2**64 - 1]", pa.uint64(), "UInt64", [1, None, 2**64 - 1]),
    "floats": ("[1.5, None, float('inf')]", pa.float64(), "Float64", [1.5, None, float("inf")]),
    "ints and floats": ("[1, 2.5, None]", pa.float64(), "Float64", [1.0, 2.5, None]),
    "NaN": ("[1.5, float('nan'), None]", pa.float64(), "Float64", [1.5, None, None]),
    "bools": ("[True, None, False]", pa.bool_(), "boolean", [True, None, False]),
    "texts": ("['a', None, '日本']", pa.string(), "string", ["a", None, "日本"]),
    "enumerations": ("[Colour.RED, None, 'x']", pa.string(), "string", ["red", None, "x"]),
    "NumPy numbers": ("[np.int8(1), None, np.int64(3)]", pa.int64(), "Int64", [1, None, 3]),
    "NumPy floats": ("[np.float32(1.5), np.nan, np.float64(3)]", pa.float64(), "Float64", [1.5, None, 3.0]),
    "NA": ("[1, pd.NA, pd.NaT]", pa.int64(), "Int64", [1, None, None]),
    "mixed": ("[1, 'a', None]", pa.string(), "object", [1, "a", None]),
    "bools and ints": ("[True, 2, None]", pa.string(), "object", [True, 2, None]),
    "dicts": ("[{'a': [1, None]}, None, {}]", pa.string(), "object", [{"a": [1, None]}, None, {}]),
    "dicts and lists": ("[{'a': 1}, [1], 'x']", pa.string(), "object", [{"a": 1}, [1], "x"]),
    "lists of ints": ("[[1, 2], None, []]", pa.list_(pa.int64()), None, [[1, 2], None, []]),
    "lists of floats": ("[[1, 2.5], [], [3]]", pa.list_(pa.float64()), None, [[1.0, 2.5], [], [3.0]]),
    "arrays": ("[np.array([1.5, 2]), None, np.array([])]", pa.list_(pa.float64()), None, [[1.5, 2.0], None, []]),
    "lists of texts": ("[['a'], ['b', None], []]", pa.list_(pa.string()), None, [["a"], ["b", None], []]),
    "nothing": ("[None, None, None]", pa.null(), None, [None, None, None]),
    "bytes": ("[b'x', None, b'']", pa.binary(), None, [b"x", None, b""]),
}

KINDS = {"dataframe": "whole", "row-wise": "each", "generator": "every"}
ARGUMENTS = {"dataframe": "{count: 3}", "row-wise": '{i: "<<self.i[index]>>"}', "generator": "{count: 3}"}


@pytest.fixture
def vault(tmp_path):
    return new_vault(tmp_path, "built", "data")


def make(vault, columns: dict[str, tuple[str, str]], kind: str) -> pa.Table:
    """Build columns of three rows as Arrow.

    Each is given by its values and its dtype, which may be empty.
    """
    code, builders = CODE, {"built_index": builder("numbered", ["i"], index=True, arguments="{count: 3}")}
    for at, (name, (values, dtype)) in enumerate(columns.items()):
        code += FUNCTIONS.replace("HERE", str(at)).replace("VALUES", values)
        dtypes = {"dtypes": f"{{'{name}': '{dtype}'}}"} if dtype else {}
        builders[f"b{at}"] = builder(f"{KINDS[kind]}{at}", [name], kind, arguments=ARGUMENTS[kind], **dtypes)
    build(vault, code, builders)
    return vault.get_dataframe("built", format="arrow")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_values_without_a_dtype_get_their_natural_type(vault, kind):
    table = make(vault, {name: (values, "") for name, (values, *_) in NATURAL.items()}, kind)
    assert {name: table.schema.field(name).type for name in NATURAL} == {
        name: arrow for name, (_, arrow, _, _) in NATURAL.items()
    }
    frame = vault.get_dataframe("built")[0]
    dtypes = {name: dtype for name, (_, _, dtype, _) in NATURAL.items() if dtype is not None}
    assert {name: str(frame[name].dtype) for name in dtypes} == dtypes
    for name, (_, _, _, cells) in NATURAL.items():
        found = [None if cell is pd.NA else cell for cell in frame[name].tolist()]
        assert [list(cell) if hasattr(cell, "tolist") else cell for cell in found] == cells, name


ZONED = "MOMENT.replace(tzinfo=zoneinfo.ZoneInfo('Asia/Tokyo'))"
MOMENTS = {
    "naive": ("[MOMENT, None, MOMENT]", pa.timestamp("us")),
    "zoned": (f"[{ZONED}, None, {ZONED}]", pa.timestamp("us", "Asia/Tokyo")),
    "two zones": (f"[{ZONED}, None, MOMENT.replace(tzinfo=datetime.UTC)]", pa.timestamp("us", "UTC")),
    "fine": ("[pd.Timestamp(1709209815123456789), None, MOMENT]", pa.timestamp("ns")),
    "date": ("[MOMENT.date(), None, None]", pa.date32()),
    "time": ("[MOMENT.time(), None, None]", pa.time64("us")),
    "span": ("[datetime.timedelta(1), None, np.timedelta64(5, 's')]", pa.duration("us")),
    "decimal": ("[decimal.Decimal('1.10'), None, decimal.Decimal('22.5')]", pa.decimal128(4, 2)),
}


@pytest.mark.parametrize("kind", ["row-wise", "generator"])
def test_moments_spans_and_decimals_keep_their_kind(vault, kind):
    table = make(vault, {name: (values, "") for name, (values, _) in MOMENTS.items()}, kind)
    assert {name: table.schema.field(name).type for name in MOMENTS} == {
        name: kind for name, (_, kind) in MOMENTS.items()
    }


DECLARED = [
    ("int64", "[1, 2.0, None]", pa.int64(), [1, 2, None]),
    ("Float32", "[1, 2.5, None]", pa.float32(), [1.0, 2.5, None]),
    ("string", "['a', None, Colour.RED]", pa.string(), ["a", None, "red"]),
    ("json", "[1, None, {'a': 1}]", pa.string(), ["1", None, '{"a":1}']),
    ("list<float32>", "[[1, 2], None, np.array([1.5])]", pa.list_(pa.float32()), [[1.0, 2.0], None, [1.5]]),
    ("datetime64[ms]", "[None, None, None]", pa.timestamp("ms"), [None, None, None]),
    ("category", "['x', None, 'x']", pa.dictionary(pa.int32(), pa.string()), ["x", None, "x"]),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_declared_dtype_holds_for_every_kind_of_builder(vault, kind):
    table = make(vault, {dtype: (values, dtype) for dtype, values, *_ in DECLARED}, kind)
    for dtype, _, arrow, cells in DECLARED:
        assert table.schema.field(dtype).type == arrow
        assert table[dtype].to_pylist() == cells


WRONG = [
    ("Int64", "[1, 'two', 3]"),
    ("Int8", "[1, 1000, 3]"),
    ("Int64", "[1, 2.5, 3]"),
    ("boolean", "[True, 'yes', None]"),
    ("string", "['a', 7, None]"),
    ("json", "[{}, {'a': b'x'}, None]"),
    ("list<int64>", "[[1], 'no', None]"),
    ("datetime64[us]", "[MOMENT, 5, None]"),
    ("bytes", "[b'', 'text', None]"),
    ("", "[b'x', 'text', None]"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_value_is_the_functions_error_with_builder_column_and_row(vault, kind):
    index = builder("numbered", ["i"], index=True, arguments="{count: 3}")
    vault.create_instance("built", builders={"built_index": index})
    for dtype, values in WRONG:
        vault.create_code_module("made", text=CODE + FUNCTIONS.replace("HERE", "").replace("VALUES", values))
        dtypes = {"dtypes": f"{{made: '{dtype}'}}"} if dtype else {}
        text = builder(KINDS[kind], ["made"], kind, arguments=ARGUMENTS[kind], **dtypes)
        vault.create_builder_file("built", "column", text=text)
        with pytest.raises((TypeError, ValueError), match=r"(?s)'column'.*'made', row 1") as caught:
            vault.execute_instance("built")
        assert type(caught.value) in (TypeError, ValueError)
    assert vault.get_table_instances("built") == []


@pytest.mark.parametrize("kind", ["row-wise", "generator"])
def test_a_value_that_no_column_holds_is_the_functions_error(vault, kind):
    with pytest.raises(TypeError, match=r"(?s)'b0'.*'made', row 2"):
        make(vault, {"made": ("[1, 2, object()]", "")}, kind)


@pytest.mark.parametrize("library", ["pl.DataFrame", "pa.table", "pd.DataFrame"])
def test_a_function_may_return_a_frame_of_any_library(vault, library):
    code = CODE + f"\ndef framed(count):\n    return {library}({{'made': [1, 2, 3]}})\n"
    index = builder("framed", ["made"], index=True, arguments="{count: 3}")
    build(vault, code, {"built_index": index})
    frame = vault.get_dataframe("built")[0]
    assert frame["made"].tolist() == [1, 2, 3]
    assert frame["made"].dtype == "Int64"


REFERENCED = """
import pandas as pd

KINDS = {}

def numbered():
    return pd.DataFrame({"i": [0, 1, 2]})

def describe(one, column, whole):
    kinds = [type(cell).__module__ + "." + type(cell).__name__ for cell in column]
    return {"one": type(one).__name__, "equal": repr(one) == repr(column[0]) or one == column[0],
            "kinds": sorted(set(kinds)), "frame": type(whole).__name__}
"""

PLAIN = {
    "Int64": {"builtins.int", "builtins.NoneType"},
    "Int8": {"builtins.int", "builtins.NoneType"},
    "UInt64": {"builtins.int", "builtins.NoneType"},
    "Float64": {"builtins.float", "builtins.NoneType"},
    "float64 with nulls": {"builtins.float", "builtins.NoneType"},
    "boolean": {"builtins.bool", "builtins.NoneType"},
    "bool": {"builtins.bool"},
    "int64": {"builtins.int"},
    "string": {"builtins.str", "builtins.NoneType"},
    "str": {"builtins.str", "builtins.NoneType"},
    "category": {"builtins.str", "builtins.NoneType"},
    "datetime64[s]": {"datetime.datetime", "builtins.NoneType"},
    "datetime64[us, UTC]": {"datetime.datetime", "builtins.NoneType"},
    "timedelta64[us]": {"datetime.timedelta", "builtins.NoneType"},
    "list of int": {"builtins.list", "builtins.NoneType"},
    "dict": {"builtins.dict", "builtins.NoneType"},
    "bytes": {"builtins.bytes", "builtins.NoneType"},
    "Decimal": {"decimal.Decimal", "builtins.NoneType"},
    "date": {"datetime.date", "builtins.NoneType"},
    "only None": {"builtins.NoneType"},
    "Arrow list": {"builtins.list", "builtins.NoneType"},
    "Arrow struct": {"builtins.dict", "builtins.NoneType"},
}


def test_references_give_plain_python_values(vault):
    from kinds import SERIES

    names = list(PLAIN)
    write(vault, pd.DataFrame({f"c{at}": SERIES[name] for at, name in enumerate(names)}))
    builders = {"built_index": builder("numbered", ["i"], index=True)}
    for at in range(len(names)):
        arguments = (
            f'{{one: "<<data.c{at}[index::0]>>", column: "<<data.c{at}[index::0:3]>>", whole: "<<data.c{at}>>"}}'
        )
        builders[f"b{at}"] = builder("describe", [f"d{at}"], "row-wise", arguments=arguments)
    build(vault, REFERENCED, builders)
    found = vault.get_dataframe("built")[0]
    kinds = {name: set(found[f"d{at}"][0]["kinds"]) for at, name in enumerate(names)}
    assert kinds == PLAIN
    assert all(found[f"d{at}"][0]["equal"] for at in range(len(names)))
    assert {found[f"d{at}"][0]["frame"] for at in range(len(names))} == {"DataFrame"}


def test_references_to_the_instance_being_built_give_plain_python_values(vault):
    code = """
import numpy as np
import pandas as pd

def numbered():
    return pd.DataFrame({"i": np.arange(3), "f": np.array([0.5, np.nan, 2]), "t": pd.Series(["a", None, "b"]),
                         "b": [True, False, True], "w": pd.to_datetime(["2024-01-01"] * 3)})

def describe(**cells):
    return [type(cell).__module__ + "." + type(cell).__name__ for cell in cells.values()]
"""
    arguments = ", ".join(f'{name}: "<<self.{name}[index]>>"' for name in "iftbw")
    builders = {
        "built_index": builder("numbered", list("iftbw"), index=True),
        "kinds": builder("describe", ["kinds"], "row-wise", arguments=f"{{{arguments}}}", dtypes="{kinds: json}"),
    }
    build(vault, code, builders)
    kinds = vault.get_dataframe("built")[0]["kinds"].tolist()
    text, nothing = "builtins.str", "builtins.NoneType"
    assert kinds[0] == ["builtins.int", "builtins.float", text, "builtins.bool", "datetime.datetime"]
    assert kinds[1] == ["builtins.int", nothing, nothing, "builtins.bool", "datetime.datetime"]
