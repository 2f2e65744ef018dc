"""Columns of every kind, and vaults to write them to."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from tablevault import TableVault

MOMENT = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456)
ZONED = MOMENT.replace(tzinfo=ZoneInfo("Europe/Berlin"))

SERIES = {
    "Int64": pd.Series([1, None, 2**63 - 1], dtype="Int64"),
    "Int8": pd.Series([1, None, -128], dtype="Int8"),
    "UInt64": pd.Series([0, None, 2**64 - 1], dtype="UInt64"),
    "Float64": pd.Series([1.5, None, -0.0], dtype="Float64"),
    "Float32": pd.Series([1.5, None, 0.1], dtype="Float32"),
    "boolean": pd.Series([True, None, False], dtype="boolean"),
    "string": pd.Series(["a", None, "日本 \U0001f600"], dtype="string"),
    "str": pd.Series(["a", None, ""], dtype="str"),
    "int64": pd.Series([1, 2, -3], dtype="int64"),
    "uint8": pd.Series([1, 2, 255], dtype="uint8"),
    "float64 with nulls": pd.Series([1.5, np.nan, np.inf]),
    "float32": pd.Series([1.5, np.nan, 0.1], dtype="float32"),
    "bool": pd.Series([True, False, True]),
    "datetime64[ns]": pd.Series(
        [pd.Timestamp("2024-02-29T12:30:15.123456789"), pd.NaT, MOMENT], dtype="datetime64[ns]"
    ),
    "datetime64[s]": pd.Series(pd.to_datetime(["2024-02-29", None, "1999-01-01"])).astype("datetime64[s]"),
    "datetime64[us, UTC]": pd.Series([MOMENT, None, MOMENT]).dt.tz_localize("UTC"),
    "datetime64[ns, Asia/Tokyo]": pd.Series([MOMENT, None, MOMENT])
    .astype("datetime64[ns]")
    .dt.tz_localize("Asia/Tokyo"),
    "timedelta64[us]": pd.Series([datetime.timedelta(days=1, microseconds=7), None, datetime.timedelta(0)]),
    "category": pd.Series(["b", None, "a"], dtype=pd.CategoricalDtype(["z", "b", "a"])),
    "ordered category of ints": pd.Series([3, None, 1], dtype=pd.CategoricalDtype([3, 1, 2], ordered=True)),
    "category without values": pd.Series([None, None, None], dtype=pd.CategoricalDtype(["z", "b"])),
    "list of int": pd.Series([[1, 2], None, []], dtype=object),
    "list of float with NaN": pd.Series([[0.5, float("inf")], None, [1.0]], dtype=object),
    "list of list": pd.Series([[["a"], []], None, [["b", None]]], dtype=object),
    "tuple": pd.Series([(1, 2), None, (3,)], dtype=object),
    "dict": pd.Series([{"a": 1, "b": [True, None]}, None, {}], dtype=object),
    "mixed": pd.Series([1, "a", {"x": [1.5]}], dtype=object),
    "bytes": pd.Series([b"\x00\xff", None, b""], dtype=object),
    "Decimal": pd.Series([decimal.Decimal("1.10"), None, decimal.Decimal("-3.05")], dtype=object),
    "date": pd.Series([MOMENT.date(), None, datetime.date(1, 1, 1)], dtype=object),
    "time": pd.Series([MOMENT.time(), None, datetime.time(0)], dtype=object),
    "objects of bool": pd.Series([True, None, False], dtype=object),
    "objects of int": pd.Series([1, None, 3], dtype=object),
    "objects of text with NaN": pd.Series(["a", np.nan, "b"], dtype=object),
    "only None": pd.Series([None, None, None], dtype=object),
    "only NaN": pd.Series([np.nan] * 3),
    "Arrow int16": pd.Series([1, None, 3], dtype=pd.ArrowDtype(pa.int16())),
    "Arrow list": pd.Series([[1.5], None, []], dtype=pd.ArrowDtype(pa.list_(pa.float32()))),
    "Arrow struct": pd.Series([{"a": 1}, None, {"a": None}], dtype=pd.ArrowDtype(pa.struct([("a", pa.int64())]))),
    "Arrow decimal": pd.Series([decimal.Decimal("1.10"), None, None], dtype=pd.ArrowDtype(pa.decimal128(10, 2))),
    "Arrow timestamp": pd.Series([ZONED, None, ZONED], dtype=pd.ArrowDtype(pa.timestamp("us", "Europe/Berlin"))),
    "Arrow date": pd.Series([MOMENT.date(), None, None], dtype=pd.ArrowDtype(pa.date32())),
    "Arrow map": pd.Series([[("a", 1)], None, []], dtype=pd.ArrowDtype(pa.map_(pa.string(), pa.int64()))),
    "Arrow null": pd.Series([None, None, None], dtype=pd.ArrowDtype(pa.null())),
}
"""Name -> a column of three rows."""


def new_vault(folder: Path, *tables: str) -> TableVault:
    """Return a new vault with these tables."""
    vault = TableVault(folder / "vault", author="ada", create=True)
    for name in tables:
        vault.create_table(name, allow_multiple_artifacts=True)
    return vault


def write(vault: TableVault, frame: object, table: str = "data", **options: object) -> str:
    """Materialize a frame; return the instance's id."""
    vault.create_instance(table, external_edit=True)
    vault.write_instance(frame, table, **options)
    return vault.get_table_instances(table)[-1]


def build(vault: TableVault, code: str, builders: dict[str, str], table: str = "built") -> str:
    """Execute builders that call functions of a module `made`; return the process id."""
    vault.create_code_module("made", text=code)
    vault.create_instance(table, builders=builders)
    return vault.execute_instance(table)


def builder(function: str, columns: list[str], kind: str = "dataframe", index: bool = False, **fields: object) -> str:
    """Return a builder's text."""
    lines = [
        f"builder_type: {'IndexBuilder' if index else 'ColumnBuilder'}",
        f"changed_columns: {columns}",
        f"python_function: {function}",
        "code_module: made",
        "is_custom: true",
        f"return_type: {kind}",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    return "\n".join(lines)
