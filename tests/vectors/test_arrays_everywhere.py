"""Random vectors, tensors and lists, written and read in every way."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from array_columns import ArrayColumn, array_columns
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from tablevault import TableVault, to_numpy
from tablevault.storage.column_types import ITEM_TYPES
from tablevault.storage.dtypes import parse_dtype
from tablevault.storage.vectors import array_form, arrays_of_column, has_null_items

sys.path.insert(0, str(Path(__file__).parents[1] / "types"))
from kinds import builder, new_vault, write

pytestmark = pytest.mark.filterwarnings("ignore::tablevault.TableVaultWarning")

ROWS = 7
CODE = """
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pandas as pd

MADE = sys.modules["array_columns_made"]


def numbers():
    return pd.DataFrame({"i": range(MADE.rows)})


def row(column, i):
    MADE.calls.append(i)
    if i == MADE.stop:
        MADE.stop = -1
        raise OSError("no network")
    return MADE.columns[column].given[i]


def several(i):
    return {f"together{column}": made.given[i] for column, made in enumerate(MADE.columns)}


def batch(column, i):
    return [MADE.columns[column].given[at] for at in i]


def stacked(column, i):
    cells = batch(column, i)
    return cells if any(cell is None for cell in cells) else np.stack(cells)


def every(column):
    yield from MADE.columns[column].given


def whole(column):
    return pd.DataFrame({f"whole{column}": pd.Series(MADE.columns[column].given, dtype=object)})


def see(name, cell):
    MADE.seen.setdefault(name, []).append(cell)
    return name


def see_batch(name, cell):
    MADE.batches.setdefault(name, []).extend(cell)
    return [name] * len(cell)


def see_all(name, cells):
    MADE.lists[name] = cells
    return name
"""
INDEX = {"built_index": builder("numbers", ["i"], index=True)}


class Made:
    """The columns that functions of a vault return, and what they were given and asked for."""

    def __init__(self, columns: list[ArrayColumn]) -> None:
        self.columns = columns
        self.rows = ROWS
        self.stop = -1
        self.calls: list[int] = []
        self.seen: dict[str, list[object]] = {}
        self.batches: dict[str, list[object]] = {}
        self.lists: dict[str, list[object]] = {}


def built_columns(columns: list[ArrayColumn]) -> tuple[dict[str, str], dict[str, ArrayColumn]]:
    """Return builders that make the columns in every way.

    Also returns each column by its new name.
    """
    builders, made = dict(INDEX), {}
    own_row = '"<<self.i[index]>>"'
    for at, column in enumerate(columns):
        for kind, function, arguments in [
            ("row-wise", "row", f"{{column: {at}, i: {own_row}}}"),
            ("batch", "batch", f"{{column: {at}, i: {own_row}}}"),
            *([("batch", "stacked", f"{{column: {at}, i: {own_row}}}")] if column.shape is not None else []),
            ("generator", "every", f"{{column: {at}}}"),
            ("dataframe", "whole", f"{{column: {at}}}"),
        ]:
            name = f"{function}{at}"
            dtypes = f"{{{name}: '{column.dtype}'}}"
            size = {"batch_size": 3} if kind == "batch" else {}
            builders[name] = builder(function, [name], kind, arguments=arguments, dtypes=dtypes, **size)
            made[name] = column
    together = {f"together{at}": column for at, column in enumerate(columns)}
    dtypes = "{" + ", ".join(f"{name}: '{column.dtype}'" for name, column in together.items()) + "}"
    builders["together"] = builder("several", list(together), "row-wise", arguments=f"{{i: {own_row}}}", dtypes=dtypes)
    return builders, made | together


def same_bytes(found: list[object], column: ArrayColumn) -> None:
    assert len(found) == len(column.cells)
    for cell, expected in zip(found, column.cells, strict=True):
        if expected is None:
            assert cell is None
        else:
            assert isinstance(cell, np.ndarray)
            assert cell.dtype == expected.dtype
            assert cell.dtype.isnative
            assert cell.shape == expected.shape
            assert cell.tobytes() == expected.tobytes()
            assert not cell.flags.writeable


def same_column(found: object, column: ArrayColumn) -> None:
    """Compare a column of any library byte by byte."""
    arrow = pa.chunked_array([found.to_arrow()]) if isinstance(found, pl.Series) else found
    if isinstance(arrow, pd.Series):
        arrow = pa.chunked_array(arrow.array.__arrow_array__())
    if isinstance(arrow.type, pa.FixedShapeTensorType):
        assert tuple(arrow.type.shape) == column.shape
        arrow = pa.chunked_array([chunk.storage for chunk in arrow.chunks], type=arrow.type.storage_type)
    form = array_form(parse_dtype(column.dtype))
    assert arrow.type.value_type == form.item
    assert not has_null_items(arrow)
    same_bytes(arrays_of_column(arrow, form), column)


def without_nulls(column: object) -> object:
    """Return a column of any library without its missing cells."""
    leave_out = {pd.Series: "dropna", pl.Series: "drop_nulls"}.get(type(column), "drop_null")
    return getattr(column, leave_out)()


def same_values(found: list[object], column: ArrayColumn) -> None:
    """Compare cells that may be lists."""
    assert len(found) == len(column.cells)
    for cell, expected in zip(found, column.cells, strict=True):
        assert (cell is None) == (expected is None)
        if expected is not None:
            np.testing.assert_array_equal(np.asarray(cell, expected.dtype).reshape(expected.shape), expected)


def json_value(cell: np.ndarray | None) -> object:
    if cell is None:
        return None
    items = cell.astype(object)
    if cell.dtype.kind == "f":
        items[~np.isfinite(cell)] = None
    return items.tolist()


def read_json(value: object, item: str) -> object:
    """Return what JSON says with numbers of the type that they were."""
    if isinstance(value, list):
        return [read_json(part, item) for part in value]
    return value if value is None or isinstance(value, bool) else np.dtype(item).type(value).item()


def frames_come_back(vault: TableVault, table: str, made: dict[str, ArrayColumn]) -> None:
    frames = [
        *(vault.get_dataframe(table, format=form)[0] for form in ("pandas", "arrow", "polars")),
        vault.scan(table, format="arrow")[0].to_table(),
        vault.scan(table)[0].collect(),
    ]
    for frame in frames:
        for name, column in made.items():
            same_column(frame[name], column)
            there = [cell for cell in column.cells if cell is not None]
            if there and column.shape is not None:
                assert to_numpy(without_nulls(frame[name])).tobytes() == np.stack(there).tobytes()
    queried, _ = vault.query(f"FROM {table}", format="arrow")
    for name, column in made.items():
        same_values(queried[name].to_pylist(), column)


def files_come_back(vault: TableVault, table: str, made: dict[str, ArrayColumn], folder: Path) -> None:
    for suffix in ("csv", "jsonl", "json"):
        vault.export_table(table, folder / f"{table}.{suffix}", overwrite=True)
    in_csv = pd.read_csv(folder / f"{table}.csv", keep_default_na=False)
    in_lines = [json.loads(line) for line in (folder / f"{table}.jsonl").read_text(encoding="utf-8").splitlines()]
    in_json = json.loads((folder / f"{table}.json").read_text(encoding="utf-8"))
    for name, column in made.items():
        expected = list(map(json_value, column.cells))
        from_csv = [json.loads(text) if text else None for text in in_csv[name]]
        for found in (from_csv, [line[name] for line in in_lines], [line[name] for line in in_json]):
            numbers = [read_json(cell, column.item) for cell in found]
            if column.is_list:
                same_values(numbers, column)
            else:
                assert numbers == expected


def functions_get(vault: TableVault, table: str, made: dict[str, ArrayColumn], seen: Made) -> None:
    """Pass each cell to functions of another table.

    They take cells one by one, in batches and all at once.
    """
    readers = f"readers-of-{table}"
    builders = {f"{readers}_index": builder("numbers", ["i"], index=True)}
    for name in made:
        cell = f'{{name: {name}, cell: "<<{table}.{name}[index]>>"}}'
        builders[f"one_{name}"] = builder("see", [f"one_{name}"], "row-wise", arguments=cell)
        builders[f"some_{name}"] = builder("see_batch", [f"some_{name}"], "batch", arguments=cell, batch_size=4)
        cells = f'{{name: {name}, cells: "<<{table}.{name}[i::0:{ROWS}]>>"}}'
        builders[f"all_{name}"] = builder("see_all", [f"all_{name}"], "row-wise", arguments=cells)
    vault.create_table(readers)
    vault.create_instance(readers, builders=builders)
    seen.seen.clear()
    seen.batches.clear()
    vault.execute_instance(readers)
    for name, column in made.items():
        compare = same_values if column.is_list else same_bytes
        compare(seen.seen[name], column)
        compare(list(seen.lists[name]), column)
        same_values(seen.batches[name], with_nulls_as_in_batches(column))


def with_nulls_as_in_batches(column: ArrayColumn) -> ArrayColumn:
    """Return the column as batch functions see it: a null row of fractions is NaN where the length is known."""
    if column.shape is None or np.dtype(column.item).kind != "f":
        return column
    missing = np.full(column.shape, np.nan, column.item)
    return replace(column, cells=[missing if cell is None else cell for cell in column.cells])


def as_in_arrow(column: ArrayColumn) -> ArrayColumn:
    """Return a column as an Arrow table without dtypes gives it: vectors are lists there."""
    if not column.dtype.startswith("vector<"):
        return column
    length = "" if column.shape is None else f"[{column.shape[0]}]"
    return replace(column, dtype=f"{'fixed_size_' if length else ''}list<{column.item}>{length}")


def objects(columns: dict[str, list[object]], form: Callable[[object], object] = lambda cell: cell) -> pd.DataFrame:
    """Return a frame of Python objects, each cell in a form."""
    return pd.DataFrame(
        {
            name: pd.Series([cell if cell is None else form(cell) for cell in cells], dtype=object)
            for name, cells in columns.items()
        }
    )


@pytest.mark.slow
@settings(max_examples=6)
@given(data=st.data())
def test_arrays_are_the_same_on_every_way(tmp_path_factory, data):
    kinds = [("vector", "fixed"), ("tensor",), ("list", "large list", "fixed list")]
    columns = [data.draw(array_columns(kind, ROWS)) for kind in kinds]
    seen = Made(columns)
    seen.stop = data.draw(st.integers(0, ROWS - 1))
    folder = tmp_path_factory.mktemp("arrays")
    vault = new_vault(folder, "built", "given", "arrow", "polars", "empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "array_columns_made", seen)
        vault.create_code_module("made", text=CODE)
        builders, made = built_columns(columns)
        vault.create_instance("built", builders=builders)
        with pytest.raises(OSError, match="no network"):
            vault.execute_instance("built", process_id="work")
        vault.execute_instance("built", process_id="work")
        frames_come_back(vault, "built", made)
        files_come_back(vault, "built", made, folder)
        functions_get(vault, "built", made, seen)
        calls = len(seen.calls)
        vault.create_instance("built", copy=True)
        vault.execute_instance("built")
        assert len(seen.calls) == calls
        frames_come_back(vault, "built", made)
        written = {f"v{at}": column for at, column in enumerate(columns)}
        dtypes = {name: column.dtype for name, column in written.items()}
        given = {name: column.given for name, column in written.items()}
        arrow, _ = vault.get_dataframe("built", format="arrow")
        padded = pa.concat_tables([arrow.slice(2), arrow]).select([f"row{at}" for at in range(len(columns))])
        sliced = padded.rename_columns(list(written)).slice(ROWS - 2)
        numbered = pa.chunked_array([range(ROWS)])
        write(vault, objects(given).assign(i=range(ROWS)), "given", dtypes=dtypes)
        write(vault, sliced.append_column("i", numbered), "arrow")
        write(vault, pl.from_arrow(sliced.append_column("i", numbered)), "polars", dtypes=dtypes)
        for table in ("given", "arrow", "polars"):
            found = {name: as_in_arrow(column) if table == "arrow" else column for name, column in written.items()}
            frames_come_back(vault, table, found)
            files_come_back(vault, table, found, folder)
            functions_get(vault, table, found, seen)
        write(vault, sliced.slice(0, 0), "empty", dtypes=dtypes)
        nothing = {name: replace(column, given=[], cells=[]) for name, column in written.items()}
        frames_come_back(vault, "empty", nothing)


def arrays_of_one_type(item: str, rows: int):
    cells = st.none() | hnp.arrays(np.dtype(item), st.integers(0, 5))
    return st.lists(cells, min_size=rows, max_size=rows)


@settings(max_examples=5)
@given(data=st.data())
def test_array_objects_are_stored_as_lists_and_read_back_as_arrays(tmp_path_factory, data):
    items = [*ITEM_TYPES, "uint16", "uint32", "uint64", ">f4", ">i8"]
    given_cells = {item: data.draw(arrays_of_one_type(item, 4)) for item in items}
    vault = new_vault(tmp_path_factory.mktemp("objects"), "arrays", "lists")
    write(vault, objects(given_cells, lambda cell: np.repeat(cell, 2)[::2]), "arrays")
    write(vault, objects(given_cells, np.ndarray.tolist), "lists")
    as_arrays, _ = vault.get_dataframe("arrays", format="arrow")
    as_lists, _ = vault.get_dataframe("lists", format="arrow")
    assert as_arrays.schema.types == as_lists.schema.types
    frame, _ = vault.get_dataframe("arrays")
    for item, cells in given_cells.items():
        for found, expected in zip(frame[item], cells, strict=True):
            assert (found is None) == (expected is None)
            if expected is not None:
                assert found.dtype == np.dtype(item)
                assert found.flags.writeable
                np.testing.assert_array_equal(found, expected)


def test_a_large_array_among_objects_takes_no_object_per_element(tmp_path):
    vault = new_vault(tmp_path, "data")
    value = np.arange(1_000_000) / 7
    write(vault, objects({"v": [value, None, value[:3]]}))
    vault.get_dataframe("data")
    tracemalloc.start()
    try:
        write(vault, objects({"v": [value, None, value[::2]]}))
        frame, _ = vault.get_dataframe("data")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert frame["v"][0].tobytes() == value.tobytes()
    assert frame["v"][2].tobytes() == value[::2].tobytes()
    assert peak < 4 * value.nbytes
