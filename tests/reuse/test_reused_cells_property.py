"""Frames of any types with random edits.

Only rows with changed arguments are computed, and the cells are those of a full run.
"""

from __future__ import annotations

import datetime
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tablevault import TableVault

CODE = """
import json
import math
from pathlib import Path

import pandas as pd


def rows(source, order):
    return source[order].reset_index(drop=True)


def shown(value):
    return None if value is pd.NA else value


def note(folder, name, key):
    with open(Path(folder, "calls"), "a") as file:
        file.write(f"{name} {key}\\n")


def first(folder, key, value):
    note(folder, "first", key)
    if key in json.loads(Path(folder, "bad").read_text()):
        raise ValueError(key)
    if MAKES == "same":
        return value
    if MAKES == "text":
        return None if value is None else repr(value)
    if MAKES == "number":
        return float(key) / 2 if key % 2 else key
    if MAKES == "vector":
        return None if key % 3 == 0 else [float(key), -0.0, 1.5]
    return {"key": key, "value": value if isinstance(value, (int, str)) else repr(value)}


def second(folder, key, value):
    note(folder, "second", key)
    return repr(value) if key % 4 else None
"""

BUILDER = """
builder_type: ColumnBuilder
changed_columns: [{column}]
code_module: work
is_custom: true
python_function: {column}
return_type: {return_type}
on_error: collect
max_failures: 100
max_consecutive_failures: none
dtypes: {dtypes}
arguments:
  folder: {folder}
  key: "<<self.key[index]>>"
  value: "<<self.{read}[index]>>"
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [key, value]
code_module: work
is_custom: true
python_function: rows
primary_key: {key}
arguments: {{source: "<<source>>", order: [key, value]}}
"""

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "whole": st.sampled_from([0, 1, -1, 2**53 + 1, 2**62, None]),
    "fraction": st.sampled_from([0.0, -0.0, 1.0, 0.1, float("inf"), float("nan"), None]),
    "number": st.sampled_from([0, 1, 1.0, 0.5, -0.0, None]),
    "text": st.sampled_from(["", "a", "ä", "0", "None", None]),
    "truth": st.sampled_from([True, False, None]),
    "day": st.sampled_from([datetime.date(2024, 1, 1), datetime.date(1969, 12, 31), None]),
    "time": st.sampled_from([datetime.datetime(2024, 1, 1, 5), datetime.datetime(1969, 12, 31, 1, 2, 3, 4), None]),
    "bytes": st.sampled_from([b"", b"\0", b"ab", None]),
    "mixed": st.sampled_from([1, True, 1.0, "1", [1], {"a": None}, None]),
    "list": st.sampled_from([[], [1.0], [0.0, -0.0], [float("nan")], None]),
}
KINDS = st.sampled_from(sorted(VALUES))
DTYPES = {
    "same": ["{}"],
    "text": ["{}", "{first: string}", "{first: category}", "{first: json}"],
    "number": ["{}", "{first: Float64}", "{first: json}"],
    "vector": ["{}", '{first: "vector<float32>"}', '{first: "vector<float32, 3>"}', '{first: "list<float64>"}'],
    "json": ["{}", "{first: json}"],
}
Row = tuple[int, Any]


def copied(rows: Sequence[Row], copies: int) -> list[Row]:
    """Return rows with many copies of each, which have keys of their own."""
    return [(key + 1000 * copy, value) for copy in range(copies) for key, value in rows]


@st.composite
def frames(draw: st.DrawFn) -> list[list[Row]]:
    """Return states of a source.

    Rows are added, dropped, moved and changed from each to the next.
    """
    values = VALUES[draw(KINDS)]
    keys = draw(st.lists(st.integers(1, 12), min_size=1, max_size=8, unique=True))
    states = [[(key, draw(values)) for key in keys]]
    for _ in range(draw(st.integers(1, 2))):
        rows = [row for row in states[-1] if draw(st.integers(0, 4))]
        rows = [(key, draw(values) if not draw(st.integers(0, 3)) else value) for key, value in rows]
        fresh = draw(st.lists(st.integers(13, 30), max_size=3, unique=True))
        rows += [(key, draw(values)) for key in fresh if key not in dict(rows)]
        states.append(draw(st.permutations(rows)) if draw(st.booleans()) else rows)
    return [rows for rows in states if rows]


class Bench:
    """A table of two columns made row by row, each call noted."""

    def __init__(self, folder: Path, makes: str, dtypes: str, return_type: str, key: str) -> None:
        self.folder = folder
        self.vault = TableVault(folder / "vault", author="tester", create=True)
        self.vault.create_code_module("work", text=f"MAKES = {makes!r}\n{CODE}")
        self.vault.create_table("source")
        self.vault.create_table("answers")
        first = {"column": "first", "read": "value", "dtypes": dtypes, "return_type": "row-wise", "folder": folder}
        second = {**first, "column": "second", "read": "first", "dtypes": "{}"}
        self.builders = {
            "answers_index": INDEX.format(key=key),
            "first": BUILDER.format(**first),
            "second": BUILDER.format(**second),
        }
        self.bad(())
        self.calls()

    def bad(self, keys: Sequence[int]) -> None:
        """Set the keys that fail."""
        (self.folder / "bad").write_text(json.dumps(list(keys)))

    def source(self, rows: Sequence[Row]) -> None:
        """Replace the source."""
        frame = pd.DataFrame({"key": [key for key, _ in rows]})
        frame["value"] = pd.Series([value for _, value in rows], dtype=object)
        self.vault.create_instance("source", external_edit=True)
        self.vault.write_instance(frame, "source")

    def calls(self) -> list[str]:
        """Return the calls since the last time, sorted."""
        path = self.folder / "calls"
        found = sorted(path.read_text().splitlines()) if path.exists() else []
        path.write_text("")
        return found

    def execute(self, **options: Any) -> pd.DataFrame:
        """Execute with the newest instance as the origin, and return the frame."""
        version = options.get("version", "base")
        self.vault.create_instance("answers", version=version, copy=version == "base", builders=self.builders)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.vault.execute_instance("answers", **options)
        return self.vault.get_dataframe("answers", version=version)[0]

    def forced(self) -> pd.DataFrame:
        """Return the frame when everything is computed."""
        frame = self.execute(version="forced", force_execute=True)
        self.calls()
        return frame


def cells(frame: pd.DataFrame, *columns: str) -> list[str]:
    """Return the cells of each row with the types of their values."""
    shown = [[_shown(cell) for cell in frame[column].tolist()] for column in columns]
    return [" ".join(row) for row in zip(*shown, strict=True)]


def _shown(cell: object) -> str:
    return "null" if cell is None or cell is pd.NA or cell is pd.NaT else f"{type(cell).__name__} {cell!r}"


def changed(before: pd.DataFrame | None, now: pd.DataFrame, column: str, by_key: bool) -> list[int]:
    """Return the keys of the rows whose key or cell differs from that of their counterpart."""
    if before is None:
        return now["key"].tolist()
    names = before["key"].tolist() if by_key else range(len(before))
    known = dict(zip(names, cells(before, "key", column), strict=True))
    names = now["key"].tolist() if by_key else range(len(now))
    rows = zip(names, now["key"].tolist(), cells(now, "key", column), strict=True)
    return [key for name, key, row in rows if known.get(name) != row]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.data(),
    states=frames(),
    makes=st.sampled_from(sorted(DTYPES)),
    by_key=st.booleans(),
    copies=st.sampled_from([1, 100]),
)
def test_edits_cost_the_rows_whose_arguments_changed(
    data: st.DataObject, states: list[list[Row]], makes: str, by_key: bool, copies: int
) -> None:
    dtypes = data.draw(st.sampled_from(DTYPES[makes]))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), makes, dtypes, "row-wise", "[key]" if by_key else "[]")
        before = None
        for rows in states:
            bench.source(copied(rows, copies))
            frame = bench.execute()
            expected = [
                f"{name} {key}"
                for name, read in (("first", "value"), ("second", "first"))
                for key in changed(before, frame, read, by_key)
            ]
            assert bench.calls() == sorted(expected)
            pd.testing.assert_frame_equal(frame, bench.forced())
            before = frame


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), states=frames(), makes=st.sampled_from(sorted(DTYPES)), copies=st.sampled_from([1, 100]))
def test_retry_calls_failed_and_skipped_rows_only(
    data: st.DataObject, states: list[list[Row]], makes: str, copies: int
) -> None:
    dtypes = data.draw(st.sampled_from(DTYPES[makes]))
    keys = [key for key, _ in states[0]]
    bad = data.draw(st.lists(st.sampled_from(keys), min_size=1, unique=True))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), makes, dtypes, "row-wise", "[key]")
        bench.source(copied(states[0], copies))
        bench.bad(bad)
        before = bench.execute()
        for tried, failing in ((bad, bad[: len(bad) // 2]), (bad[: len(bad) // 2], [])):
            if not tried:
                break
            bench.calls()
            bench.bad(failing)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                bench.vault.retry_failed("answers")
            now = bench.vault.get_dataframe("answers")[0]
            # A new cell may give the column another type, and so the other cells another form.
            other = {key for key in [*tried, *changed(before, now, "first", by_key=True)] if key not in failing}
            assert bench.calls() == sorted([*(f"first {key}" for key in tried), *(f"second {key}" for key in other)])
            before = now
        frame = bench.vault.get_dataframe("answers")[0]
        pd.testing.assert_frame_equal(frame, bench.forced())
        assert not len(bench.vault.get_errors("answers"))
