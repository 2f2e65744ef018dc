"""Rows and frames returned by functions.

Columns are matched by name, if there are names, and no value is lost.
"""

from __future__ import annotations

import pandas as pd
import pytest

from tablevault import TableVault
from tablevault.errors import TVTableError

CODE = """
import collections, dataclasses
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

Row = collections.namedtuple("Row", "year title")
Other = collections.namedtuple("Other", "a b")

@dataclasses.dataclass
class Book:
    year: int = 1999

def rows():
    return pd.DataFrame({"k": KEYS})

def made(df):
    return RESULT

def each(x):
    return RESULT
"""
INDEX = """
builder_type: IndexBuilder
changed_columns: [k]
python_function: {function}
code_module: m
is_custom: true
return_type: dataframe
"""
COLUMN = """
builder_type: ColumnBuilder
changed_columns: {columns}
python_function: {function}
code_module: m
is_custom: true
return_type: {return_type}
arguments: {arguments}
"""


@pytest.fixture
def vault(tmp_path):
    made = TableVault(tmp_path / "vault", author="ada", create=True)
    made.create_table("t")
    return made


def run(vault, result: str, columns: str, return_type: str = "dataframe", keys: int = 3) -> pd.DataFrame:
    """Return a frame with columns made by an expression over `x` or `df`."""
    function, arguments = (
        ("made", '{df: "<<self>>"}') if return_type == "dataframe" else ("each", '{x: "<<self.k[index]>>"}')
    )
    vault.create_code_module("m", text=CODE.replace("RESULT", result).replace("KEYS", str(list(range(keys)))))
    column = COLUMN.format(columns=columns, function=function, return_type=return_type, arguments=arguments)
    vault.create_instance("t", builders={"t_index": INDEX.format(function="rows"), "made": column})
    vault.execute_instance("t")
    return vault.get_dataframe("t")[0]


BY_NAME = [
    "pd.Series({'year': 1999, 'title': 7})",
    "Row(1999, 7)",
    "np.array([(1999, 7)], dtype=[('year', 'i4'), ('title', 'i4')])[0]",
    "{'year': 1999, 'title': 7}",
    "Other(7, 1999)",
    "pd.Series([7, 1999])",
    "pd.Series([1999, 7], index=[1, 0])",
    "np.array([(7, 1999)], dtype='i4,i4')[0]",
    "np.array([7, 1999])",
]


def test_a_row_that_has_names_counts_by_them(vault):
    rows = f"[{', '.join(f'lambda: {row}' for row in BY_NAME)}]"
    frame = run(vault, f"{rows}[x]()", "[title, year]", "row-wise", keys=len(BY_NAME))
    assert frame[["title", "year"]].to_numpy().tolist() == [[7, 1999]] * len(BY_NAME)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("pd.Series({'year': 1999, 'titel': 7})", "Series with the keys .*titel"),
        ("pd.Series([1, 2], index=['title', 'title'])", "Series with the keys .*title"),
        ("pd.Series([1, 2], index=pd.Index([0, 1], name='key'))", "Series with the keys"),
        ("{'year': 1999, 'titel': 7}", "dict with the keys .*titel"),
        ("Book()", "not Book; use dataclasses.asdict"),
    ],
)
def test_a_row_with_other_names_is_refused(vault, result, message):
    with pytest.raises((TypeError, ValueError), match=f"Builder 'made', row 0: .*{message}"):
        run(vault, result, "[title, year]", "row-wise")


IN_ORDER = [
    "(df.sort_values('k', ascending=False)['k'] * 10).rename('out').to_frame()",
    "df.sort_values('k', ascending=False)['k'] * 10",
    "pd.DataFrame({'out': [30, 10, 20]}, index=[2, 0, 1])",
    "pd.DataFrame({'out': [10, 20, 30]}, index=[5, 3, 4])",
    "pd.DataFrame({'out': [10, 20, 30]}, index=[1, 0, 1])",
    "[10, 20, 30]",
    "pl.DataFrame({'out': [10, 20, 30]})",
    "pa.table({'out': [10, 20, 30]})",
]


def test_row_labels_are_followed_as_positions_and_dropped_otherwise(vault):
    functions = "".join(f"def made_{at}(df):\n    return {result}\n" for at, result in enumerate(IN_ORDER))
    vault.create_code_module("m", text=CODE.replace("KEYS", "[1, 2, 3]").replace("RESULT", "0") + functions)
    columns = {
        f"out{at}": COLUMN.format(
            columns=f"[out{at}]", function=f"made_{at}", return_type="dataframe", arguments='{df: "<<self.{k}>>"}'
        )
        for at in range(len(IN_ORDER))
    }
    vault.create_instance("t", builders={"t_index": INDEX.format(function="rows"), **columns})
    vault.execute_instance("t")
    frame = vault.get_dataframe("t")[0]
    assert {name: frame[name].tolist() for name in columns} == {name: [10, 20, 30] for name in columns}


LABELLED = {
    "named": "pd.DataFrame({'city': ['a', 'b', 'c'], 'out': [1, 2, 3]}).groupby('city')[['out']].sum()",
    "counts": "df['k'].value_counts()",
    "texts": "pd.DataFrame({'out': [1, 2, 3]}, index=['a', 'b', 'c'])",
    "dates": "pd.DataFrame({'out': [1, 2, 3]}, index=pd.to_datetime(['2024-01-01'] * 3))",
    "several levels": "pd.DataFrame({'out': [1, 2, 3]}, index=pd.MultiIndex.from_arrays([[1, 2, 3], [4, 5, 6]]))",
}


@pytest.mark.parametrize("result", LABELLED.values(), ids=list(LABELLED))
def test_row_labels_that_are_data_are_refused(vault, result):
    with pytest.raises(ValueError, match=r"the row index .* would be lost; make it a column with reset_index\(\)"):
        run(vault, result, "[out]")


def test_row_labels_of_an_index_builder_are_data_too(vault):
    code = "import pandas as pd\ndef rows():\n    return pd.DataFrame({'k': [1, 2]}, index=['a', 'b'])\n"
    vault.create_code_module("m", text=code)
    vault.create_instance("t", builders={"t_index": INDEX.format(function="rows")})
    with pytest.raises(ValueError, match="the row index holds 'a' and would be lost"):
        vault.execute_instance("t")


def test_row_labels_that_are_data_cannot_be_written(vault):
    vault.create_instance("t", external_edit=True)
    with pytest.raises(TVTableError, match="the row index holds 'a' and would be lost"):
        vault.write_instance(pd.DataFrame({"x": [1]}, index=["a"]), "t")


@pytest.mark.parametrize("result", ["pl.Series([1, 2, 3])", "7", "pl.LazyFrame({'out': [1, 2, 3]})"])
def test_invalid_frame_is_refused_by_type_name(vault, result):
    with pytest.raises(TypeError, match="must return a DataFrame with the columns out, not"):
        run(vault, result, "[out]")


@pytest.mark.parametrize(
    "result", ["[(1, 'a'), [2, 'b'], (3, None)]", "[{'b': 'a', 'a': 1}, {'a': 2, 'b': 'b'}, {'a': 3, 'b': None}]"]
)
def test_list_of_rows_is_a_frame_of_several_columns(vault, result):
    frame = run(vault, result, "[a, b]")
    assert frame["a"].tolist() == [1, 2, 3]
    assert frame["b"].tolist()[:2] == ["a", "b"]
    assert pd.isna(frame["b"][2])


@pytest.mark.parametrize("row", ["(1,)", "{'a': 1}", "'ab'", "7", "(1, 2, 3)"])
def test_row_of_another_width_is_refused_with_its_number(vault, row):
    with pytest.raises(TypeError, match=r"row 1: .* a tuple of 2 items or a mapping with the columns a, b; this row"):
        run(vault, f"[(1, 2), {row}, (3, 4)]", "[a, b]")


def test_true_is_another_key_than_one(vault):
    code = (
        "def rows():\n    import pandas as pd\n    return pd.DataFrame({'k': pd.Series([1, True, 0], dtype=object)})\n"
    )
    vault.create_code_module("m", text=code)
    vault.create_instance("t", builders={"t_index": INDEX.format(function="rows") + "primary_key: [k]\n"})
    vault.execute_instance("t")
    assert vault.get_dataframe("t")[0]["k"].tolist() == [1, True, 0]
