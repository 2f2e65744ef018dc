"""The leaves of columns in Parquet, of which nested columns have several."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def leaves_of_columns(schema: pa.Schema) -> dict[str, list[int]]:
    """Return the Parquet column indices of each column; nested columns have several."""
    leaves: dict[str, list[int]] = {}
    first = 0
    for field in schema:
        count = _leaf_count(field.type)
        leaves[field.name] = list(range(first, first + count))
        first += count
    return leaves


def leaf_paths(stored: pa.Schema, written: pa.Schema) -> dict[str, list[str]]:
    """Return the names of each column's leaves in Parquet."""
    if not any(field.type.num_fields for field in written):
        return {name: [name] for name in written.names}
    empty = io.BytesIO()
    pq.ParquetWriter(empty, written).close()
    leaves = pq.ParquetFile(empty).schema
    return {name: [leaves.column(leaf).path for leaf in found] for name, found in leaves_of_columns(stored).items()}


def leaves_with_statistics(table: pa.Table, schema: pa.Schema) -> bool | list[str]:
    """Return the leaves that get a minimum and maximum; `True` for all.

    These leave NaN out, so that SQL would not find the rows that hold it.
    """
    without = {name for name, column in zip(table.column_names, table.columns, strict=True) if _may_hold_nan(column)}
    if not without:
        return True
    return [path for name, paths in leaf_paths(table.schema, schema).items() if name not in without for path in paths]


def _leaf_count(arrow: pa.DataType) -> int:
    if arrow.num_fields == 0:
        return 1
    return sum(_leaf_count(arrow.field(position).type) for position in range(arrow.num_fields))


def _may_hold_nan(column: pa.ChunkedArray) -> bool:
    if pa.types.is_float32(column.type) or pa.types.is_float64(column.type):
        return bool(pc.any(pc.is_nan(column)).as_py())
    return _has_floats(column.type)


def _has_floats(arrow: pa.DataType) -> bool:
    if isinstance(arrow, pa.BaseExtensionType):
        return _has_floats(arrow.storage_type)
    inner = [arrow.field(number).type for number in range(arrow.num_fields)]
    return bool(pa.types.is_floating(arrow)) or any(map(_has_floats, inner))
