"""SQL returns the values that `get_dataframe` returns, for columns of every type."""

from __future__ import annotations

import math

import pandas as pd
import pyarrow as pa
import pytest
from kinds import SERIES
from test_lazy_frames import ARROW, LACKED_BY_POLARS

from tablevault import TableVault


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    vault = TableVault(tmp_path_factory.mktemp("queried") / "vault", author="a", create=True)
    # In SQL, names that differ only in case are not told apart.
    series = {f"s{number}": column for number, column in enumerate(SERIES.values())}
    vault.write("series", pd.DataFrame(series))
    vault.write("arrow", pa.table({**ARROW, **LACKED_BY_POLARS}))
    return vault


def plain(value):
    """Return a comparable form of a value from any library."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value
    if isinstance(value, pd.Timedelta):
        return value.to_pytimedelta()
    return pd.Timestamp(value).tz_convert("UTC") if getattr(value, "tzinfo", None) and hasattr(value, "date") else value


@pytest.mark.filterwarnings("ignore:.*has more than 38 digits")
@pytest.mark.parametrize("table", ["series", "arrow"])
def test_values_of_each_type_are_those_of_the_frame(vault, table):
    expected, _ = vault.get_dataframe(table, format="arrow")
    assert vault.query(f"SELECT count(*) AS n FROM {table}")[0]["n"].tolist() == [len(expected)]
    found, _ = vault.query(f"FROM {table}", format="arrow")
    assert found.column_names == expected.column_names
    for name in expected.column_names:
        wanted = [plain(value) for value in expected[name].to_pylist()]
        if "50 digits" in name:
            wanted = [None if value is None else float(value) for value in wanted]
        assert [plain(value) for value in found[name].to_pylist()] == wanted, name


def test_frames_of_pandas_have_parsed_json(vault):
    names = [name for name, kind in zip(SERIES, range(len(SERIES)), strict=True) if name in ("dict", "mixed")]
    columns = [f"s{list(SERIES).index(name)}" for name in names]
    found, _ = vault.query(f"SELECT {', '.join(columns)} FROM series")
    expected, _ = vault.get_dataframe("series", columns=columns)
    assert found.to_dict("list") == expected.to_dict("list")
