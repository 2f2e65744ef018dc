"""Values of foreign classes.

Each is read back equal in every format, or refused at its row.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from kinds import build, builder, new_vault, write

from tablevault.errors import TVTableError

CODE = """
import array, collections, dataclasses, datetime, decimal, enum, fractions, ipaddress, os, pathlib, types, uuid
import zoneinfo
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from PIL import Image
from datetime import date, time, timedelta, timezone, UTC
from decimal import Decimal
from zoneinfo import ZoneInfo

class Moment(datetime.datetime): pass
class Day(datetime.date): pass
class Clock(datetime.time): pass
class Span(datetime.timedelta): pass
class Price(decimal.Decimal): pass
class Secret(str):
    def __str__(self):
        return "***"
class Count(int):
    def __int__(self):
        return -1
class Blob(bytes):
    def __bytes__(self):
        return b""
class Colour(str, enum.Enum):
    RED = "red"
class Word(enum.StrEnum):
    RED = "red"
class Bits(enum.IntFlag):
    A = 1
    B = 2
class Born(date, enum.Enum):
    ADA = 1815, 12, 10
class Sides(enum.Flag):
    LEFT = 1
class Plain(enum.Enum):
    RED = "red"
class NoOffset(datetime.tzinfo):
    def utcoffset(self, moment):
        return None
class Named(datetime.tzinfo):
    key = "local"
    def utcoffset(self, moment):
        return timedelta(hours=1)
    def dst(self, moment):
        return None
class Meters(np.ndarray): pass
@dataclasses.dataclass
class Point:
    x: int = 1
class Model:
    def model_dump(self):
        return {}
class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError(name)
    def __repr__(self):
        raise RuntimeError("no text")
Pair = collections.namedtuple("Pair", "a b")
NOON = datetime.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))

def rows(count):
    return pd.DataFrame({"i": range(count)})
"""

EQUAL = {
    "subclass of datetime": ("Moment(2024, 1, 1, tzinfo=UTC)", "datetime.datetime(2024, 1, 1, tzinfo=UTC)"),
    "subclass of date": ("Day(2024, 1, 1)", "date(2024, 1, 1)"),
    "subclass of time": ("Clock(1, 2)", "time(1, 2)"),
    "subclass of timedelta": ("Span(5)", "timedelta(5)"),
    "subclass of Decimal": ("Price('1.10')", "Decimal('1.10')"),
    "subclass of str": ("Secret('x')", "'x'"),
    "subclass of int": ("Count(7)", "7"),
    "subclass of bytes": ("Blob(b'x')", "b'x'"),
    "member of an enumeration": ("Colour.RED", "'red'"),
    "member of a text enumeration": ("Word.RED", "'red'"),
    "member of whole numbers": ("Bits.A | Bits.B", "3"),
    "member of dates": ("Born.ADA", "date(1815, 12, 10)"),
    "key that is a member": ("{Word.RED: [Bits.A]}", "{'red': [1]}"),
    "NumPy text that ends in NUL": ("np.str_('a\\0')", "'a\\0'"),
    "NumPy bytes that end in NUL": ("np.bytes_(b'a\\0')", "b'a\\0'"),
    "NumPy texts in a list": ("[np.str_('a\\0'), 'b']", "['a\\0', 'b']"),
    "NumPy text in JSON": ("{np.str_('k\\0'): np.str_('a\\0')}", "{'k\\0': 'a\\0'}"),
    "bytearray": ("bytearray(b'x')", "b'x'"),
    "every second byte": ("memoryview(b'abcd')[::2]", "b'ac'"),
    "view of whole numbers": ("memoryview(array.array('h', [1, 2]))", "array.array('h', [1, 2]).tobytes()"),
    "mapping of mappings": ("collections.ChainMap({'a': 1}, {'b': 2})", "{'a': 1, 'b': 2}"),
    "mapping of a user": ("collections.UserDict(a=1)", "{'a': 1}"),
    "read-only mapping": ("types.MappingProxyType({'a': 1})", "{'a': 1}"),
    "missing value in JSON": ("{'a': [pd.NA, pd.NaT, np.ma.masked]}", "{'a': [None, None, None]}"),
    "numbers in JSON": ("{'a': np.array([1, 2]), 'b': np.float32(0.5)}", "{'a': [1, 2], 'b': 0.5}"),
    "whole weeks": ("np.timedelta64(1, 'W')", "timedelta(7)"),
    "array without dimensions": ("np.array(5)", "5"),
    "array of days": ("np.array(['2024-01-01'], 'M8[D]')", "[datetime.datetime(2024, 1, 1)]"),
    "masked": ("np.ma.masked", "None"),
    "masked array": ("np.ma.array([1, 2], mask=[0, 1])", "[1, None]"),
    "record": ("np.array([(1, 2.5)], dtype='i4,f8')[0]", "{'f0': 1, 'f1': 2.5}"),
    "records": ("np.array([(1, 2.5)], dtype='i4,f8')", "[{'f0': 1, 'f1': 2.5}]"),
    "long double": ("np.longdouble('0.5')", "0.5"),
    "half": ("np.float16(0.5)", "0.5"),
    "big-endian": ("np.array([1, 2], '>i2')", "[1, 2]"),
    "zone with an unknown name": (
        "datetime.datetime(2024, 1, 1, 1, tzinfo=Named())",
        "datetime.datetime(2024, 1, 1, tzinfo=UTC)",
    ),
    "offset of seconds": (
        "datetime.datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=61)))",
        "datetime.datetime(2023, 12, 31, 23, 58, 59, tzinfo=UTC)",
    ),
    "offset of half an hour": (
        "datetime.datetime(2024, 1, 1, tzinfo=timezone(timedelta(minutes=330)))",
        "datetime.datetime(2023, 12, 31, 18, 30, tzinfo=UTC)",
    ),
    "second of two hours": ("NOON.replace(fold=1)", "datetime.datetime(2024, 10, 27, 1, 30, tzinfo=UTC)"),
    "path": ("pathlib.PurePosixPath('a/b')", "'a/b'"),
    "counter": ("collections.Counter('aab')", "{'a': 2, 'b': 1}"),
    "named tuple": ("Pair(1, 2)", "[1, 2]"),
    "decimal of 60 digits": ("Decimal('1' * 60)", "Decimal('1' * 60)"),
}

REFUSED = {
    "uuid": ("uuid.UUID(int=7)", "use str\\(\\)"),
    "plain enumeration": ("Plain.RED", "use its .value"),
    "dataclass": ("Point()", "dataclasses.asdict"),
    "pydantic object": ("Model()", "model_dump"),
    "object that cannot be looked at": ("Hostile()", "cannot be read: RuntimeError"),
    "flag": ("Sides.LEFT", "use its .value"),
    "set": ("{1, 2}", "of type set"),
    "set in JSON": ("{'a': frozenset([1])}", "of type frozenset"),
    "range": ("range(3)", "of type range"),
    "queue": ("collections.deque([1])", "of type collections.deque"),
    "list of a user": ("collections.UserList([1])", "of type collections.UserList"),
    "address": ("ipaddress.ip_address('::1')", "of type ipaddress.IPv6Address"),
    "machine array": ("array.array('d', [0.5])", "of type array.array"),
    "frame": ("pd.DataFrame({'a': [1]})", "of type pandas.DataFrame"),
    "labelled row": ("pd.Series([1, 2])", "of type pandas.Series"),
    "series of polars": ("pl.Series([1])", "of type polars"),
    "scalar of Arrow": ("pa.scalar(5)", "of type pyarrow"),
    "image": ("Image.new('L', (1, 1))", "of type PIL.Image.Image"),
    "error": ("[ValueError('x')]", "of type ValueError"),
    "key of whole numbers": ("{1: 'a'}", "keys of JSON are text"),
    "key that is missing": ("{None: 'a'}", "keys of JSON are text"),
    "key below": ("{'a': [{(1, 2): 'a'}]}", "keys of JSON are text"),
    "decimal in JSON": ("{'a': Decimal('1.5')}", "make it text"),
    "fraction of no number in JSON": ("{'a': [np.nan]}", "use None"),
    "decimal of zeros": ("Decimal('0E+80')", "more than 76 digits"),
    "span of months": ("np.timedelta64(3, 'M')", "not supported"),
    "year 146 billion": ("np.datetime64(2**62, 's')", "cannot be read"),
    "zone without offset": ("datetime.datetime(2024, 1, 1, tzinfo=NoOffset())", "how far from UTC"),
    "year 0 in UTC": ("datetime.datetime(1, 1, 1, tzinfo=ZoneInfo('Asia/Tokyo'))", "before the year 1"),
    "time of day with a zone": ("time(1, tzinfo=UTC)", "time of day with a time zone"),
    "endless time span": ("timedelta.max", "longer than"),
    "picoseconds": ("np.datetime64(1, 'ps')", "sub-nanosecond precision"),
    "decimal of 77 digits": ("Decimal('1' * 77)", "more than 76 digits"),
    "not a number": ("Decimal('NaN')", "not a finite number"),
    "whole number of 20,000 bits": ("[2**20000]", "20,001 bits"),
    "long double that no float is": ("np.longdouble(1) / 3", "longdouble"),
    "array with a unit": ("np.array([1]).view(Meters)", "keep only its numbers"),
    "fraction": ("fractions.Fraction(1, 3)", "Fraction"),
    "surrogate": ("'a\\udcff'", "lone surrogate"),
    "bytes beside text": ("[b'x', 'y']", "JSON"),
}


@pytest.fixture
def vault(tmp_path):
    return new_vault(tmp_path, "built", "data")


def read(vault, kind: str, table: str = "built") -> dict[str, list[object]]:
    """Return the columns of the newest instance as lists, as a format gives them."""
    frame = vault.get_dataframe(table, format=kind)[0]
    if kind == "pandas":
        return {name: [None if missing(cell) else cell for cell in frame[name].tolist()] for name in frame.columns}
    return frame.to_pydict() if kind == "arrow" else frame.to_dict(as_series=False)


def missing(cell: object) -> bool:
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and math.isnan(cell))


def plain(cell: object) -> object:
    if isinstance(cell, datetime.datetime) and cell.tzinfo is not None:
        return cell.astimezone(datetime.UTC)  # Python calls no time equal to one that was there twice in another zone.
    return cell.tolist() if isinstance(cell, np.ndarray) else cell


def columns_of(values: dict[str, tuple[str, str]], kind: str) -> tuple[str, dict[str, str]]:
    """Return code and builders for a column of each value.

    The column has two rows, `None` and the value.
    """
    code, builders = CODE, {"built_index": builder("rows", ["i"], index=True, arguments="{count: 2}")}
    for number, (value, _) in enumerate(values.values()):
        if kind == "row-wise":
            code += f"\ndef f{number}(i):\n    return {value} if i else None\n"
            arguments = '{i: "<<self.i[index]>>"}'
        else:
            code += f"\ndef f{number}():\n    yield None\n    yield {value}\n"
            arguments = "{}"
        builders[f"b{number:02}"] = builder(f"f{number}", [f"c{number}"], kind, arguments=arguments)
    return code, builders


@pytest.mark.parametrize("kind", ["row-wise", "generator"])
def test_values_of_foreign_classes_are_read_back_equal(vault, kind):
    build(vault, *columns_of(EQUAL, kind))
    known: dict[str, object] = {}
    exec(CODE, known)
    expected = {f"c{number}": eval(value, known) for number, (_, value) in enumerate(EQUAL.values())}
    for form in ("pandas", "arrow", "polars"):
        found = read(vault, form)
        for number, name in enumerate(EQUAL):
            wanted = expected[f"c{number}"]
            if form == "polars" and name == "decimal of 60 digits":
                wanted = str(wanted)
            cell = plain(found[f"c{number}"][1])
            if form != "pandas" and (isinstance(wanted, dict) or name == "records"):
                cell = json.loads(cell)
            assert cell == wanted, (form, name)


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_cannot_be_read_back_is_refused_at_its_row(vault, name):
    value, why = REFUSED[name]
    code = CODE + f"\ndef f(i):\n    assert i < 2, 'the next row was computed'\n    return {value} if i else None\n"
    builders = {
        "built_index": builder("rows", ["i"], index=True, arguments="{count: 3}"),
        "out": builder("f", ["out"], "row-wise", arguments='{i: "<<self.i[index]>>"}'),
    }
    with pytest.raises((TypeError, ValueError), match=f"(?s)column 'out', row 1: .*{why}"):
        build(vault, code, builders)


def test_an_object_that_cannot_be_looked_at_is_refused_as_a_row(vault):
    code = CODE + "\ndef f(i):\n    return Hostile() if i else (1, 2)\n"
    builders = {
        "built_index": builder("rows", ["i"], index=True, arguments="{count: 3}"),
        "out": builder("f", ["a", "b"], "row-wise", arguments='{i: "<<self.i[index]>>"}'),
    }
    with pytest.raises(TypeError, match="Builder 'out', row 1: .*Hostile, cannot be read"):
        build(vault, code, builders)


MIXTURES = {
    "bytes and text": ["b'x'", "None", "'y'"],
    "naive and zoned": ["datetime.datetime(2024, 1, 1)", "None", "datetime.datetime(2024, 1, 1, tzinfo=UTC)"],
    "endless and text": ["float('inf')", "1", "'y'"],
    "decimals too far apart": ["Decimal('1e70')", "Decimal(1)", "Decimal('1e-10')"],
    "moments too far apart": ["pd.Timestamp(1)", "None", "datetime.datetime(1, 1, 1)"],
    "lists of bytes and of text": ["[b'x']", "[]", "['y']"],
    "day and moment": ["date(2024, 1, 1)", "None", "datetime.datetime(2024, 1, 1)"],
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", MIXTURES)
def test_a_value_that_cannot_stand_beside_others_is_refused_at_its_row(vault, name, threads):
    values = ", ".join(MIXTURES[name])
    code = CODE + f"\ndef f(i):\n    return [{values}][i] if i < 3 else 1 / 0\n"
    builders = {
        "built_index": builder("rows", ["i"], index=True, arguments="{count: 3}"),
        "out": builder("f", ["out"], "row-wise", arguments='{i: "<<self.i[index]>>"}', n_threads=threads),
    }
    vault.create_code_module("made", text=code)
    vault.create_instance("built", builders=builders)
    with pytest.raises((TypeError, ValueError), match="column 'out', row [0-2]: "):
        vault.execute_instance("built", process_id="night")
    assert vault.get_process("night").progress["out"].computed == 2


CATEGORIES = {
    "both zeros": (["0.0", "None", "-0.0"], "row 2: a category column cannot have both 0.0 and -0.0"),
    "both zeros among whole numbers": (["1", "0", "-0.0"], "row 2: .*-0.0"),
    "whole number of 71 bits": (["1", "None", "2**70"], "row 2: .*does not fit into 64 bits"),
    "whole numbers without a common type": (["-1", "None", "2**63"], "row 2: .*does not fit into 64 bits"),
}


@pytest.mark.parametrize("kind", ["row-wise", "batch", "generator", "dataframe"])
@pytest.mark.parametrize("name", CATEGORIES)
def test_category_that_cannot_be_read_is_refused_at_its_row(vault, name, kind):
    values, reason = CATEGORIES[name]
    forms = {
        "row-wise": f"return [{', '.join(values)}, 1 / 1][i]",
        "batch": f"return [{', '.join(values)}, 1]",
        "generator": f"yield from [{', '.join(values)}, 1]",
        "dataframe": f"return [{', '.join(values)}, 1]",
    }
    code = CODE + f"\ndef f({'i' if kind in ('row-wise', 'batch') else ''}):\n    {forms[kind]}\n"
    arguments = '{i: "<<self.i[index]>>"}' if kind in ("row-wise", "batch") else "{}"
    builders = {
        "built_index": builder("rows", ["i"], index=True, arguments="{count: 4}"),
        "out": builder("f", ["out"], kind, arguments=arguments, dtypes="{out: category}"),
    }
    with pytest.raises((TypeError, ValueError), match=f"(?s)'out'.*{reason}"):
        build(vault, code, builders)


def test_zero_of_either_sign_is_a_category(vault):
    code = CODE + "\ndef f(i):\n    return [-0.0, None, -0.0, 1.5][i]\n"
    builders = {
        "built_index": builder("rows", ["i"], index=True, arguments="{count: 4}"),
        "out": builder("f", ["out"], "row-wise", arguments='{i: "<<self.i[index]>>"}', dtypes="{out: category}"),
    }
    build(vault, code, builders)
    assert str(read(vault, "pandas")["out"]) == "[-0.0, None, -0.0, 1.5]"


def test_kept_rows_of_a_paused_run_affect_later_rows(vault):
    code = "def rows(count):\n    import pandas as pd\n    return pd.DataFrame({'i': range(count)})\n"
    builders = {
        "built_index": builder("rows", ["i"], index=True, arguments="{count: 3}"),
        "out": builder("f", ["out"], "row-wise", arguments='{i: "<<self.i[index]>>"}'),
    }
    vault.create_code_module("made", text=code + "def f(i):\n    return b'x' if i == 0 else 1 / 0\n")
    vault.create_instance("built", builders=builders)
    with pytest.raises(ZeroDivisionError):
        vault.execute_instance("built", process_id="night")
    vault.create_code_module("made", text=code + "def f(i):\n    return 'text'\n")
    with pytest.raises(ValueError, match="column 'out', row 1: 'text' is of type str"):
        vault.execute_instance("built", process_id="night")


def test_python_objects_in_a_frame_of_polars_are_looked_at(vault):
    objects = pl.Series("id", [None, "x", decimal.Decimal("1.5")], dtype=pl.Object)
    write(vault, pl.DataFrame({"n": [1, 2], "id": objects[:2]}))
    assert read(vault, "arrow", "data") == {"n": [1, 2], "id": [None, "x"]}
    with pytest.raises(TVTableError, match=r"column 'id', row 2: Decimal\('1.5'\) is of type"):
        write_again(vault, pl.DataFrame({"n": [1, 2, 3], "id": objects}))
    with pytest.raises(TVTableError, match="column 'id', row 2: .*does not fit string"):
        write_again(vault, pl.DataFrame({"id": objects}), dtypes={"id": "string"})


FINE = pa.array([1000, None, 1], pa.time64("ns"))


@pytest.mark.parametrize(
    "column", [FINE, pa.array([[1000], None, [1]], pa.list_(pa.time64("ns")))], ids=["time", "list"]
)
def test_nanosecond_that_python_lacks_is_not_given_to_a_function(vault, column):
    write(vault, pa.table({"at": column}))
    code = CODE + "\ndef f(at):\n    return str(at)\n"
    for argument in ("<<data.at[index]>>", "<<data.at[index::0]>>"):
        builders = {
            "built_index": builder("rows", ["i"], index=True, arguments="{count: 3}"),
            "out": builder("f", ["out"], "row-wise", arguments=f'{{at: "{argument}"}}'),
        }
        with pytest.raises(TVTableError, match="column 'at', row 2: the time of day is finer.*whole column"):
            build(vault, code, builders)
        vault.delete_instance("TEMP_base", "built")
    whole = CODE + "\ndef f(at):\n    import pyarrow as pa\n    return str(pa.array(at['at'].array).type)\n"
    builders["out"] = builder("f", ["out"], "row-wise", arguments='{at: "<<data.at>>"}')
    build(vault, whole, builders)
    assert "time64[ns]" in read(vault, "arrow")["out"][0]


def test_nanosecond_is_not_cut_to_a_declared_dtype(vault):
    frame = pa.table({"at": FINE})
    with pytest.raises(TVTableError, match="column 'at', row 2: the time of day is finer than a microsecond"):
        write_again(vault, frame, dtypes={"at": "time64[us]"})
    write_again(vault, frame.slice(0, 2), dtypes={"at": "time64[us]"})
    assert read(vault, "arrow", "data")["at"] == [datetime.time(0, 0, 0, 1), None]


@pytest.mark.parametrize("kind", ["row-wise", "generator"])
def test_row_of_arrow_cells_keeps_its_nanoseconds(vault, kind):
    code = (
        CODE
        + """
def f(i=0):
    dtype = pd.ArrowDtype(pa.time64("ns"))
    RESULT pd.Series(pd.array([1000, 1], dtype=dtype), index=["a", "b"])
""".replace("RESULT", "return" if kind == "row-wise" else "yield")
    )
    builders = {
        "built_index": builder("rows", ["i"], index=True, arguments="{count: 1}"),
        "out": builder("f", ["a", "b"], kind, arguments='{i: "<<self.i[index]>>"}' if kind == "row-wise" else "{}"),
    }
    with pytest.raises(ValueError, match="column 'b', row 0: .*cannot be expressed in Python"):
        build(vault, code, builders)


def test_an_extension_type_that_pyarrow_does_not_know_is_refused(vault):
    field = pa.field("shape", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})
    nested = pa.field("shapes", pa.list_(field))
    for known in (field, nested):
        table = pa.table([pa.array([None], known.type)], schema=pa.schema([known]))
        with pytest.raises(TVTableError, match=r"its type extension<geoarrow.wkb> cannot be stored"):
            write_again(vault, table)


def write_again(vault, frame: object, **options: object) -> None:
    """Write a frame into the temporary instance, which is made if there is none."""
    if "TEMP_base" not in vault.get_table_instances("data", include_temp=True):
        vault.create_instance("data", external_edit=True)
    vault.write_instance(frame, "data", **options)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_texts_and_bytes_of_numpy_keep_their_last_nul(vault, executor):
    code = """
import numpy as np

def rows():
    return [0, 1]

def text(i):
    return [np.str_("a\\0"), np.str_("\\0\\0")][i]

def content(i):
    return [np.bytes_(b"a\\0"), np.bytes_(b"\\0")][i]
"""
    vault.create_code_module("made", text=code)
    more = {"arguments": '{i: "<<self.i[index]>>"}', "executor": executor}
    builders = {
        "built_index": builder("rows", ["i"], index=True),
        "text": builder("text", ["text"], "row-wise", **more),
        "content": builder("content", ["content"], "row-wise", **more),
    }
    vault.create_instance("built", builders=builders)
    vault.execute_instance("built")
    frame, _ = vault.get_dataframe("built", format="arrow")
    assert frame["text"].to_pylist() == ["a\0", "\0\0"]
    assert frame["content"].to_pylist() == [b"a\0", b"\0"]
