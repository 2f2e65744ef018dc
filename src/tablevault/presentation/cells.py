"""Cells for display, with truncated text or the reason for a missing value."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from tablevault.reading.instance_details import FailedCell, UnsetCells

_EXPONENTS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
MAXIMUM_CHARACTERS = 300
"""Maximum number of characters of a cell in a page of rows."""
MAXIMUM_IN_FULL = 1_000_000
"""Maximum number of characters of a text shown in full."""
_BYTES = 16
"""Number of bytes shown of each value."""
_ITEM_CHARACTERS = 8
"""Approximate length of one item of a list."""

State = Literal[
    "null", "text", "number", "json", "list", "bytes", "artifact", "failed", "skipped", "not computed"
]  # fmt: skip


@dataclass(frozen=True)
class ArtifactLink:
    """The artifact that a cell names."""

    name: str
    shown_as: str
    """`picture`, `sound`, `video`, `document`, `text` or `file`; `replaced since` or `not stored yet` if it has no
    address."""


@dataclass(frozen=True)
class ShownCell:
    """One cell."""

    state: State
    text: str = ""
    length: int | None = None
    """Characters of a truncated text or JSON, items of a list, or number of bytes."""
    artifact: ArtifactLink | None = None
    failure: FailedCell | None = None


@dataclass(frozen=True)
class ShownColumn:
    """One column."""

    name: str
    type_name: str
    is_number: bool


@dataclass(frozen=True)
class ShownRow:
    """One row."""

    position: int
    cells: tuple[ShownCell, ...]


@dataclass(frozen=True)
class ShownFrame:
    """Rows with their columns."""

    columns: tuple[ShownColumn, ...]
    rows: tuple[ShownRow, ...]


def shown_frame(
    table: pa.Table,
    type_names: Mapping[str, str],
    offset: int = 0,
    unset: UnsetCells | None = None,
    artifacts: Mapping[str, ArtifactLink] | None = None,
    most: int = MAXIMUM_CHARACTERS,
) -> ShownFrame:
    """Return the rows of an Arrow table for display.

    Parameters
    ----------
    table
        The rows.
    type_names
        Names of column types, by column; other columns have Arrow's names.
    offset
        Position of the first row.
    unset
        The cells without a value.
    artifacts
        The artifacts that cells of the type `artifact_string` name.
    most
        Maximum number of characters of a text.
    """
    columns = tuple(
        ShownColumn(name, type_names.get(name, str(column.type)), _is_number(column.type))
        for name, column in zip(table.column_names, table.columns, strict=True)
    )
    by_column = [
        _cells(values, column, artifacts or {}, most) for values, column in zip(table.columns, columns, strict=True)
    ]
    rows = []
    for number in range(table.num_rows):
        position = offset + number
        cells = (
            _marked(cells[number], position, column.name, unset)
            for cells, column in zip(by_column, columns, strict=True)
        )
        rows.append(ShownRow(position, tuple(cells)))
    return ShownFrame(columns, tuple(rows))


def _is_number(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_decimal(arrow))


def _marked(cell: ShownCell, position: int, column: str, unset: UnsetCells | None) -> ShownCell:
    """Return a cell unchanged, or marked as having no value."""
    if unset is None:
        return cell
    failure = unset.failed.get((position, column))
    if failure is not None:
        return ShownCell("failed" if failure.state == "failed" else "skipped", failure=failure)
    return ShownCell("not computed") if (position, column) in unset.missing else cell


def _cells(
    values: pa.ChunkedArray, column: ShownColumn, artifacts: Mapping[str, ArtifactLink], most: int
) -> list[ShownCell]:
    if isinstance(values.type, pa.BaseExtensionType):
        values = pa.chunked_array([chunk.storage for chunk in values.chunks], values.type.storage_type)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    arrow = values.type
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow):
        return _text_cells(values, column, artifacts, most)
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow):
        return _list_cells(values, most)
    if pa.types.is_binary(arrow) or pa.types.is_large_binary(arrow) or pa.types.is_fixed_size_binary(arrow):
        return [
            ShownCell("null") if value is None else ShownCell("bytes", value[:_BYTES].hex(" "), len(value))
            for value in values.to_pylist()
        ]
    if pa.types.is_timestamp(arrow) or pa.types.is_date(arrow) or pa.types.is_time(arrow):
        # Python has no years beyond 9999, and no nanoseconds.
        return [_scalar_cell(value, most) for value in values.cast(pa.string()).to_pylist()]
    if pa.types.is_duration(arrow):
        counts = values.cast(pa.int64()).to_pylist()
        return [
            ShownCell("null") if count is None else ShownCell("text", _duration(count, arrow.unit)) for count in counts
        ]
    return [_scalar_cell(value, most) for value in _python_values(values)]


def _python_values(values: pa.ChunkedArray) -> list[Any]:
    """Convert values to Python, with text for nested times that Python cannot express."""
    try:
        found: list[Any] = values.to_pylist()
    except (OverflowError, ValueError):
        found = values.cast(_with_texts(values.type)).to_pylist()
    return found


def _with_texts(arrow: pa.DataType) -> pa.DataType:
    """Return a type with times replaced by text."""
    if pa.types.is_date(arrow) or pa.types.is_timestamp(arrow):
        return pa.string()
    if pa.types.is_struct(arrow):
        return pa.struct([field.with_type(_with_texts(field.type)) for field in arrow])
    if pa.types.is_map(arrow):
        return pa.map_(_with_texts(arrow.key_type), _with_texts(arrow.item_type))
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow):
        return pa.list_(_with_texts(arrow.value_type))
    return arrow


def _duration(count: int, unit: str) -> str:
    """Return a duration in seconds, exactly."""
    seconds = decimal.Decimal(count).scaleb(-_EXPONENTS[unit])
    return f"{seconds.normalize():f} s"


def _text_cells(
    values: pa.ChunkedArray, column: ShownColumn, artifacts: Mapping[str, ArtifactLink], most: int
) -> list[ShownCell]:
    # Truncate before conversion to Python, which bounds the work of a page however long its texts are.
    texts = pc.utf8_slice_codeunits(values, 0, most).to_pylist()
    lengths = pc.utf8_length(values).to_pylist()
    state: State = "json" if column.type_name == "json" else "text"
    cells = []
    for text, length in zip(texts, lengths, strict=True):
        if text is None:
            cells.append(ShownCell("null"))
        elif column.type_name == "artifact_string":
            cells.append(ShownCell("artifact", text, artifact=artifacts.get(text)))
        else:
            cells.append(ShownCell(state, text, length if length > most else None))
    return cells


def _list_cells(values: pa.ChunkedArray, most: int) -> list[ShownCell]:
    wanted = max(most // _ITEM_CHARACTERS, 1)
    if pa.types.is_fixed_size_list(values.type):
        # A longer slice would be padded with nulls.
        wanted = min(wanted, values.type.list_size)
    lengths = pc.list_value_length(values).to_pylist()
    heads = _python_values(pc.list_slice(values, 0, wanted) if wanted else values)
    cells = []
    for head, length in zip(heads, lengths, strict=True):
        if length is None:
            cells.append(ShownCell("null"))
            continue
        text = _json(head)
        if len(text) > most or length > len(head):
            text = f"{text[: min(most, len(text) - 1)]} …"
        cells.append(ShownCell("list", text, length))
    return cells


def _scalar_cell(value: object, most: int) -> ShownCell:
    if value is None:
        return ShownCell("null")
    if isinstance(value, bool):
        return ShownCell("text", "true" if value else "false")
    if isinstance(value, int | float | decimal.Decimal):
        return ShownCell("number", _number(value))
    if isinstance(value, dict | list | tuple):
        text = _json(value)
        return ShownCell("json", text[:most], len(text) if len(text) > most else None)
    return ShownCell("text", str(value)[:most])


def _number(value: int | float | decimal.Decimal) -> str:
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return "NaN" if isinstance(value, float) and math.isnan(value) else str(value)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    """Convert a value of Arrow to JSON data."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return _number(value)
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value


def indented(text: str) -> str:
    """Return JSON on several lines, and any other text unchanged."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def artifact_names(table: pa.Table, type_names: Mapping[str, str]) -> Sequence[str]:
    """Return the names of the artifacts in the cells of a table."""
    found: dict[str, None] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if type_names.get(name) == "artifact_string":
            found.update(dict.fromkeys(value for value in column.to_pylist() if value is not None))
    return list(found)
