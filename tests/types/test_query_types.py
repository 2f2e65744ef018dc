"""SQL returns the values that `get_dataframe` returns, for columns of every type."""

from __future__ import annotations

import datetime
import decimal
import math

import pandas as pd
import pyarrow as pa
import pytest
from kinds import SERIES
from test_lazy_frames import ARROW, LACKED_BY_POLARS

from tablevault import TableVault, TableVaultWarning, tv_errors


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


def counts(column):
    """Return durations, also nested ones, as the numbers that they count."""
    arrow = column.type
    if pa.types.is_duration(arrow):
        return column.cast(pa.int64()).to_pylist()
    if pa.types.is_map(arrow):
        return column.cast(pa.map_(arrow.key_type, pa.int64())).to_pylist()
    if pa.types.is_struct(arrow):
        return column.cast(pa.struct([("a", pa.int64())])).to_pylist()
    return column.cast(pa.list_(pa.int64())).to_pylist()


LONG = 10**17
"""Microseconds of more than 3,000 years; an interval of Arrow holds 292."""
LONG_DURATIONS = {
    "plain": pa.array([LONG, -LONG - 1, None, 2**62, 0, 1, -1], pa.duration("us")),
    "list": pa.array([[LONG, None, -(2**62)], None, []], pa.list_(pa.duration("us"))),
    "struct": pa.array([{"a": LONG}, None, {"a": None}], pa.struct([("a", pa.duration("us"))])),
    "map": pa.array([[("k", LONG)], None, [("k", None)]], pa.map_(pa.string(), pa.duration("us"))),
}


@pytest.mark.parametrize("is_stored", [True, False], ids=["table", "frame"])
@pytest.mark.parametrize("name", LONG_DURATIONS)
def test_durations_of_thousands_of_years_are_exact(vault, name, is_stored):
    frame = pa.table({"d": LONG_DURATIONS[name], "row": range(len(LONG_DURATIONS[name]))})
    vault.write("durations", frame)
    frames = {} if is_stored else {"given": frame}
    table = "durations" if is_stored else "given"
    found, _ = vault.query(f"SELECT d, d AS d FROM {table} ORDER BY row", frames=frames, format="arrow")
    for column in found.columns:
        assert counts(column) == counts(LONG_DURATIONS[name])


def test_durations_that_become_long_in_a_statement_are_exact(vault):
    statement = "SELECT to_microseconds(90000000000000000) + to_microseconds(90000000000000001) AS d"
    assert counts(vault.query(statement, format="arrow")[0]["d"]) == [180_000_000_000_000_001]
    arrays = vault.query("SELECT [to_microseconds(100000000000000000)]::INTERVAL[1] AS d", format="arrow")[0]["d"]
    assert arrays.type == pa.list_(pa.duration("us"), 1)
    assert counts(arrays) == [[LONG]]
    rows = vault.query("SELECT [row(1, to_microseconds(100000000000000000))] AS d", format="arrow")[0]["d"]
    assert list(rows.to_pylist()[0][0].values()) == [1, datetime.timedelta(microseconds=LONG)]


@pytest.mark.parametrize("is_stored", [True, False], ids=["table", "frame"])
@pytest.mark.parametrize(
    ("durations", "reason"),
    [
        (pa.array([0, 10**15], pa.duration("s")), "'d' has a duration that is too long for an INTERVAL"),
        (pa.array([0, 2**63 - 1], pa.duration("us")), "'d' .* too long"),
        (pa.array([0, 1], pa.duration("ns")), "'d' has a duration that is not a whole number of microseconds"),
        (pa.array([[1]], pa.list_(pa.duration("ns"))), "'d' has a duration that is not a whole number of micro"),
    ],
    ids=["too long", "almost", "nanoseconds", "nanoseconds in a list"],
)
def test_durations_that_sql_cannot_hold_are_refused(vault, durations, reason, is_stored):
    frame = pa.table({"d": durations})
    vault.write("durations", frame)
    with pytest.raises(tv_errors.TVTableError, match=reason):
        vault.query(f"FROM {'durations' if is_stored else 'given'}", frames={} if is_stored else {"given": frame})


def test_time_that_sql_cannot_hold_is_refused_with_its_column(vault):
    far = pa.array([10**17, 0], pa.timestamp("ms"))
    vault.write("far", pa.table({"at": far, "x": [1, 2], "us": far.cast(pa.int64()).cast(pa.timestamp("us"))}))
    reason = "a time in column 'at' of 'far' is outside the range of a TIMESTAMP. Read the table with"
    with pytest.raises(tv_errors.TVTableError, match=reason):
        vault.query("FROM far")
    assert vault.scan("far", format="arrow")[0].to_table(columns=["at"]).column(0).combine_chunks().equals(far)


DIGITS = decimal.Decimal("1" * 60)


@pytest.mark.parametrize("is_stored", [True, False], ids=["table", "frame"])
@pytest.mark.parametrize(
    "column",
    [
        pa.array([DIGITS], pa.decimal256(60, 0)),
        pa.array([[DIGITS]], pa.list_(pa.decimal256(60, 0))),
        pa.array([{"a": DIGITS}], pa.struct([("a", pa.decimal256(60, 0))])),
    ],
    ids=["plain", "list", "struct"],
)
def test_decimals_of_more_than_38_digits_are_double_with_a_warning(vault, column, is_stored):
    frame = pa.table({"d": column})
    vault.write("digits", frame)
    with pytest.warns(TableVaultWarning, match="Column 'd' has more than 38 digits and is DOUBLE in SQL"):
        found, _ = vault.query(
            f"FROM {'digits' if is_stored else 'given'}",
            frames={} if is_stored else {"given": frame},
            format="arrow",
        )
    assert str(float(DIGITS)) in str(found["d"].to_pylist())


def test_categories_of_durations_are_intervals(vault):
    frame = pd.DataFrame({"d": pd.Categorical(pd.to_timedelta(["1s", None, "2s"]).astype("timedelta64[us]"))})
    vault.write("durations", frame)
    for table, frames in (("durations", {}), ("given", {"given": frame})):
        found, _ = vault.query(f"FROM {table}", frames=frames, format="arrow")
        assert counts(found["d"]) == [1_000_000, None, 2_000_000]


@pytest.mark.parametrize(
    "expression",
    [
        "340282366920938463463374607431768211455::UHUGEINT",
        "[340282366920938463463374607431768211455::UHUGEINT]",
        "'10101'::BIT",
        "['12:00:00+02'::TIMETZ]",
        "123456789012345678901234567890123456789012345::BIGNUM",
        "'infinity'::TIMESTAMP",
        "'-infinity'::DATE",
        "'24:00:00'::TIME",
        "map {'a': INTERVAL 1 MONTH}",
    ],
)
def test_values_that_no_frame_has_are_refused(vault, expression):
    with pytest.raises(tv_errors.TVTableError, match="(?i)column 'x' of the result has .*; cast it"):
        vault.query(f"SELECT {expression} AS x")
