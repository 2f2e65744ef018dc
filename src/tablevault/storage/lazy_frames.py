"""Lazy frames of other libraries over frame files, with the exact recorded types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tablevault.storage.column_types import ColumnType, Kind
from tablevault.storage.frame_data import FrameData, polars_lacks, to_polars
from tablevault.storage.frame_files import read_frame, read_schema
from tablevault.storage.vectors import array_form, tensor_type
from tablevault.system.extras import imported
from tablevault.values.contents import Page

if TYPE_CHECKING:
    import polars as pl
    import pyarrow.dataset as pd


def lazy_polars(path: Path, columns: Sequence[str] | None, folder: Path | None) -> pl.LazyFrame:
    """Return the lazy frame of a file.

    Parameters
    ----------
    path
        The file.
    columns
        Names of the columns to return, in this order; `None` for all.
    folder
        Folder to prefix to artifact paths; `None` to leave them relative.
    """
    pl = imported("polars", "A lazy frame of polars", "polars")
    types, _ = read_schema(path)
    names = list(types if columns is None else columns)
    if any(polars_lacks(column_type.arrow) for column_type in types.values()):
        lazy = _read_by_arrow(path, names)
    else:
        lazy = pl.scan_parquet(path, glob=False, hive_partitioning=False).select(names)
        empty = pa.schema([(name, types[name].arrow) for name in names]).empty_table()
        exact = to_polars(FrameData(empty, {name: types[name] for name in names})).schema
        stored = lazy.collect_schema()
        lazy = lazy.with_columns(pl.col(name).cast(exact[name]) for name in names if stored[name] != exact[name])
    if folder is None:
        return lazy
    artifacts = [name for name in names if types[name].kind is Kind.ARTIFACT]
    return lazy.with_columns(pl.lit(f"{folder}/").add(pl.col(name)).alias(name) for name in artifacts)


def arrow_dataset(path: Path, columns: Sequence[str] | None) -> pd.Dataset:
    """Return the dataset of a file, with artifact paths as stored.

    Non-text categories have the type of their values.
    """
    import pyarrow.dataset as pd

    types, _ = read_schema(path)
    names = list(types if columns is None else columns)
    schema = pa.schema([(name, _in_dataset(types[name])) for name in names])
    return pd.dataset(path, format="parquet", schema=schema)


def _in_dataset(column_type: ColumnType) -> pa.DataType:
    arrow = column_type.arrow
    form = array_form(column_type) if column_type.kind is Kind.TENSOR else None
    if form is not None:
        return tensor_type(form)
    if not pa.types.is_dictionary(arrow):
        return arrow
    is_text = pa.types.is_string(arrow.value_type) or pa.types.is_large_string(arrow.value_type)
    return arrow if is_text else arrow.value_type


def _read_by_arrow(path: Path, names: list[str]) -> pl.LazyFrame:
    """Return the lazy frame of a file with columns that polars itself cannot read."""
    from polars.io.plugins import register_io_source

    def read(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        del batch_size
        frame = to_polars(read_frame(path, names if with_columns is None else with_columns, Page(rows=n_rows)))
        yield frame if predicate is None else frame.filter(predicate)

    # Decimals too long for polars become text, which only their values reveal.
    schema: Any = to_polars(read_frame(path, names)).schema
    return register_io_source(read, schema=schema)
