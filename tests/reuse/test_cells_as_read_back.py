"""Functions get cells in the form in which they are read back.

Unchanged cells are therefore not recomputed.
"""

from __future__ import annotations

import pytest

from tablevault import TableVault

VALUES = {
    "UTC": "datetime.datetime(2024, 1, x, tzinfo=datetime.timezone.utc)",
    "ISO text of UTC": "datetime.datetime.fromisoformat(f'2024-01-0{x}T00:00:00+00:00')",
    "offset": "datetime.datetime(2024, 1, x, tzinfo=datetime.timezone(datetime.timedelta(hours=x)))",
    "zones": "datetime.datetime(2024, 1, x, tzinfo=zoneinfo.ZoneInfo(['Asia/Tokyo', 'UTC'][x % 2]))",
    "fine times": "[pd.Timestamp(x), datetime.datetime(2024, 1, x)][x % 2]",
    "fine spans": "[pd.Timedelta(x, 'ns'), datetime.timedelta(x)][x % 2]",
    "digits": "decimal.Decimal(['10', '9.99', '0.125'][x % 3])",
    "numbers": "[1, 0.5][x % 2]",
    "truth and numbers": "[True, 1, 0][x % 3]",
    "lists of numbers": "[[1, 0.5], [2]][x % 2]",
    "lists of digits": "[decimal.Decimal('1'), decimal.Decimal('1.5')][: 1 + x % 2]",
    "lists of times": "[datetime.datetime(2024, 1, x, tzinfo=datetime.UTC)]",
    "tuples": "((1, x), [0.5])[x % 2]",
    "dicts": "{'b': x, 'a': (1, [0.5])}",
    "large numbers": "[2**70, 'x', x][x % 3]",
    "NaN": "[float('nan'), 1.5][x % 2]",
    "lists with NaN": "[float('nan'), x]",
    "text of a subclass": "Text(x)",
    "mixed": "['x', x, [x]][x % 3]",
    "bytes": "bytearray(b'x')",
    "minus zero": "-0.0 if x % 2 else decimal.Decimal and 0.5",
}
CODE = """
import datetime, decimal, json, zoneinfo
import pandas as pd

class Text(str):
    pass

def keys(count):
    return list(range(1, count))

def paid(x, found=None):
    return repr((x, found))

def paid_frame(cells):
    return pd.DataFrame({"frame": [repr(row) for row in cells.itertuples(index=False)]})

BROKEN_AT = 0
"""
FRAME_WITH_NAN = """
import pandas as pd
import pyarrow as pa
from tablevault.define import Table

t = Table("t")


@t.index("f")
def rows():
    return pa.table({"f": [1.5, float("nan"), None]})


@t.column()
def single(f):
    return repr(f)


@t.column(return_type="batch")
def batch(f):
    return [repr(cell) for cell in f]


@t.column(return_type="dataframe")
def frame(f):
    return pd.DataFrame({"frame": [repr(cell).removeprefix("np.float64(").removesuffix(")") for cell in f["f"]]})


@t.column()
def same(f):
    return f
"""
MADE = """
def made(x, which):
    if x == BROKEN_AT:
        raise ConnectionError("no answer")
    return VALUES[which](x)

def made_all(df, which):
    for x in df["k"].tolist():
        yield made(x, which)

def made_frame(df, which):
    return pd.DataFrame({"out": pd.Series([made(x, which) for x in df["k"].tolist()], dtype=object)})
"""
BUILDER = """
builder_type: {kind}
changed_columns: [{column}]
python_function: {function}
code_module: m
is_custom: true
return_type: {return_type}
arguments: {arguments}
{more}
"""
MAKING = {
    "row-wise": ("made", 'x: "<<self.k[index]>>"'),
    "generator": ("made_all", 'df: "<<self.{k}>>"'),
    "dataframe": ("made_frame", 'df: "<<self.{k}>>"'),
}


def code(values: list[str]) -> str:
    """Return a module with functions that make each of the values from `x`."""
    return f"{CODE}\nVALUES = [{', '.join(f'lambda x: {value}' for value in values)}]\n{MADE}"


def column(name: str, function: str, return_type: str, arguments: str, more: str = "") -> str:
    return BUILDER.format(
        kind="ColumnBuilder", column=name, function=function, return_type=return_type, arguments=arguments, more=more
    )


def builders(kind: str, count: int, dtypes: list[str] | tuple[str, ...] = (), rows: int = 5) -> dict[str, str]:
    """Return builders of columns and their dependents.

    One column is computed from each, and one from all.
    """
    index = f"{{count: {rows}}}"
    made = {
        "t_index": BUILDER.format(
            kind="IndexBuilder", column="k", function="keys", return_type="dataframe", arguments=index, more=""
        )
    }
    function, arguments = MAKING[kind]
    for at in range(count):
        dtype = f"dtypes: {{out{at}: '{dtypes[at]}'}}" if dtypes else ""
        cell, looked_up = f"<<self.out{at}[index]>>", f"<<self.out{at}[k::<<self.k[index]>>]>>"
        made[f"out{at}"] = column(f"out{at}", function, kind, f"{{{arguments}, which: {at}}}", dtype)
        made[f"answer{at}"] = column(f"answer{at}", "paid", "row-wise", f'{{x: "{cell}", found: "{looked_up}"}}')
    cells = ", ".join(f"out{at}" for at in range(count))
    made["frame"] = column("frame", "paid_frame", "dataframe", f'{{cells: "<<self.{{{cells}}}>>"}}')
    return made


def progress(vault: TableVault, process_id: str) -> dict[str, tuple[int, int]]:
    shown = vault.get_process(process_id).progress
    return {name: (rows.computed, rows.reused) for name, rows in shown.items() if name != "t_index"}


@pytest.fixture
def vault(tmp_path):
    made = TableVault(tmp_path / "vault", author="ada", create=True)
    made.create_table("t")
    return made


def run_again(vault: TableVault) -> dict[str, tuple[int, int]]:
    vault.create_instance("t", copy=True)
    return progress(vault, vault.execute_instance("t"))


@pytest.mark.parametrize("kind", MAKING)
def test_nothing_is_computed_again_when_nothing_changed(vault, kind):
    vault.create_code_module("m", text=code(list(VALUES.values())))
    vault.create_instance("t", builders=builders(kind, len(VALUES)))
    vault.execute_instance("t")
    first = repr(vault.get_dataframe("t")[0].to_dict("list"))
    again = run_again(vault)
    assert {(name, rows) for name, rows in again.items() if rows != (0, 4)} == set()
    assert repr(vault.get_dataframe("t")[0].to_dict("list")) == first


DECLARED = {
    "decimal128(10, 3)": "decimal.Decimal(x)",
    "datetime64[us, Asia/Tokyo]": "datetime.datetime(2024, 1, x, tzinfo=datetime.UTC)",
    "datetime64[ns]": "datetime.datetime(2024, 1, x)",
    "timedelta64[ns]": "datetime.timedelta(x)",
    "Float32": "x / 10",
    "list<float32>": "[x / 10]",
    "list<decimal128(5, 2)>": "[decimal.Decimal(x)]",
    "struct<a: float64, b: string>": "{'b': 'x', 'a': x}",
    "category": "decimal.Decimal(['1', '1.5'][x % 2])",
    "json": "[x, {'a': (1, 2)}][x % 2]",
}


@pytest.mark.parametrize("kind", ["row-wise", "generator"])
def test_nothing_is_computed_again_where_a_dtype_is_declared(vault, kind):
    vault.create_code_module("m", text=code(list(DECLARED.values())))
    vault.create_instance("t", builders=builders(kind, len(DECLARED), list(DECLARED)))
    vault.execute_instance("t")
    again = run_again(vault)
    assert {(name, rows) for name, rows in again.items() if rows != (0, 4)} == set()


@pytest.mark.parametrize("kind", ["row-wise", "generator"])
def test_a_resumed_run_gives_the_cells_that_an_undisturbed_one_gives(vault, kind):
    names = ["UTC", "offset", "zones", "digits", "numbers", "lists of numbers", "large numbers", "lists with NaN"]
    whole = code([VALUES[name] for name in names])
    vault.create_code_module("m", text=whole)
    vault.create_instance("t", builders=builders(kind, len(names)))
    vault.execute_instance("t")
    undisturbed = repr(vault.get_dataframe("t")[0].to_dict("list"))
    vault.create_instance("t", builders=builders(kind, len(names)))
    for row in (3, 4):
        vault.create_code_module("m", text=whole.replace("BROKEN_AT = 0", f"BROKEN_AT = {row}"))
        with pytest.raises(ConnectionError):
            vault.execute_instance("t", process_id="night")
    vault.create_code_module("m", text=whole)
    vault.execute_instance("t", process_id="night")
    assert repr(vault.get_dataframe("t")[0].to_dict("list")) == undisturbed


def test_new_rows_that_keep_the_form_of_a_column_cost_themselves_only(vault):
    vault.create_code_module("m", text=code([VALUES["digits"]]))
    vault.create_instance("t", builders=builders("row-wise", 1))
    vault.execute_instance("t")
    vault.create_instance("t", copy=True, builders=builders("row-wise", 1, rows=7))
    again = progress(vault, vault.execute_instance("t"))
    assert again == {"out0": (2, 4), "answer0": (2, 4), "frame": (6, 0)}


def test_a_generator_that_goes_on_sees_its_rows_as_they_will_be_read_back(vault):
    going_on = (
        CODE
        + """
def going_on(df):
    for number in range(len(df), 4):
        if number == BROKEN_AT:
            raise ConnectionError("no answer")
        assert [str(cell) for cell in df["k"].tolist()] in ([], ["1.00", "1.25"])
        yield decimal.Decimal(["1", "1.25", "1.5", "2"][number])
"""
    )
    index = BUILDER.format(
        kind="IndexBuilder",
        column="k",
        function="going_on",
        return_type="generator",
        arguments='{df: "<<self>>"}',
        more="",
    )
    vault.create_code_module("m", text=going_on.replace("BROKEN_AT = 0", "BROKEN_AT = 2"))
    vault.create_instance("t", builders={"t_index": index})
    with pytest.raises(ConnectionError):
        vault.execute_instance("t", process_id="night")
    vault.create_code_module("m", text=going_on.replace("BROKEN_AT = 0", "BROKEN_AT = None"))
    vault.execute_instance("t", process_id="night")
    assert [str(cell) for cell in vault.get_dataframe("t")[0]["k"].tolist()] == ["1.00", "1.25", "1.50", "2.00"]


def test_nan_of_an_arrow_frame_is_read_as_the_page_says(tmp_path):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    (tmp_path / "t.py").write_text(FRAME_WITH_NAN)
    vault.run(tmp_path / "t.py")
    found = vault.read("t", format="arrow").to_pydict()
    assert [str(cell) for cell in found["f"]] == ["1.5", "nan", "None"]
    assert found["single"] == found["batch"] == ["1.5", "nan", "None"]
    assert found["frame"] == ["1.5", "<NA>", "<NA>"]
    assert found["same"] == [1.5, None, None]
    assert vault.read("t")["f"].isna().tolist() == [False, True, True]
