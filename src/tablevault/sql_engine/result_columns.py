"""Columns of results that Arrow cannot hold as exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tablevault.errors import TVTableError
from tablevault.sql_engine.frame_views import quoted, text

_DAY = 86_400_000_000
"""In microseconds."""
_MAXIMUM_DAYS = (2**63 - 1) // _DAY - 1
"""Maximum days of an interval, so that it fits a duration in microseconds."""
_LARGEST_HUGEINT = 2**127 - 1
_WITHOUT_ARROW_TYPE = frozenset({"bit", "bignum", "varint", "time with time zone", "time_tz"})
"""DuckDB's ids of types that arrive as other values: bytes, or times without their zone."""
_NAME = "rows of the result"


def rewritten(relation: Any) -> Any:
    """Return a relation with the same rows in fetchable types.

    Intervals become whole microseconds.

    Arrow's intervals are in nanoseconds, which overflow after 292 years.

    Raises `TVTableError` for a column of a type that a frame cannot store.
    """
    names, types = list(relation.columns), list(relation.types)
    for name, kind in zip(names, types, strict=True):
        refused = next((str(inner) for inner in _parts(kind) if inner.id in _WITHOUT_ARROW_TYPE), None)
        if refused is not None:
            raise TVTableError(
                f"Column {name!r} of the result has values of type {refused}, which a frame cannot store; cast it."
            )
    if not any(map(_is_changed, types)):
        return relation
    # By position: a result may have several columns of one name.
    selected = ", ".join(
        f"{_expression(f'c{at}', kind, name) if _is_changed(kind) else f'c{at}'} AS {quoted(name)}"
        for at, (name, kind) in enumerate(zip(names, types, strict=True))
    )
    aliases = ", ".join(f"c{at}" for at in range(len(names)))
    return relation.query(_NAME, f"SELECT {selected} FROM {quoted(_NAME)} AS result({aliases})")


def with_durations(table: pa.Table, types: Sequence[Any]) -> pa.Table:
    """Return the rows of a rewritten relation with durations.

    `types` are those of the original relation.
    """
    for position, (kind, field) in enumerate(zip(types, table.schema, strict=True)):
        target = _with_durations(field.type, kind)
        if target != field.type:
            table = table.set_column(position, field.name, table.column(position).cast(target))
    return table


def _children(kind: Any) -> list[tuple[str, Any]]:
    """Return the types inside a nested type, by name."""
    if kind.id in ("list", "array", "struct", "tuple", "map"):
        return [(name, child) for name, child in kind.children if name != "size" or kind.id != "array"]
    return []


def _parts(kind: Any) -> list[Any]:
    return [kind, *(part for _, child in _children(kind) for part in _parts(child))]


def _is_changed(kind: Any) -> bool:
    return any(part.id in ("interval", "uhugeint") for part in _parts(kind))


def _expression(value: str, kind: Any, column: str, depth: int = 0) -> str:
    """Return an expression for a value as it is fetched."""
    if kind.id == "interval":
        return _microseconds(value, column)
    if kind.id == "uhugeint":
        refusal = text(f"column {column!r} of the result has a number that is too large for a frame; cast it")
        limit = f"CAST('{_LARGEST_HUGEINT}' AS UHUGEINT)"
        return f"CASE WHEN {value} > {limit} THEN error({refusal}) ELSE CAST({value} AS HUGEINT) END"
    if not _is_changed(kind):
        return value
    item = f"item{depth}"
    children = _children(kind)
    if kind.id in ("struct", "tuple"):
        fields = [
            (name, _expression(f"struct_extract({value}, {text(name) if name else at})", child, column, depth))
            for at, (name, child) in enumerate(children, start=1)
        ]
        packed = ", ".join(f"{quoted(name)} := {made}" if name else made for name, made in fields)
        made = f"struct_pack({packed})" if kind.id == "struct" else f"row({packed})"
        return f"CASE WHEN {value} IS NULL THEN NULL ELSE {made} END"
    if kind.id == "map":
        key, held = (
            _expression(f"struct_extract({item}, '{name}')", child, column, depth + 1) for name, child in children
        )
        entries = f"list_transform(map_entries({value}), lambda {item}: struct_pack(key := {key}, value := {held}))"
        return f"CASE WHEN {value} IS NULL THEN NULL ELSE map_from_entries({entries}) END"
    made = f"lambda {item}: {_expression(item, children[0][1], column, depth + 1)}"
    if kind.id == "list":
        return f"list_transform({value}, {made})"
    return f"CAST(list_transform(CAST({value} AS {children[0][1]}[]), {made}) AS {_sql_type(kind)})"


def _sql_type(kind: Any) -> str:
    """Return the SQL type of a value as it is fetched."""
    if not _is_changed(kind):
        return str(kind)
    inner = [(name, _sql_type(child)) for name, child in _children(kind)]
    if kind.id == "struct":
        return f"STRUCT({', '.join(f'{quoted(name)} {child}' for name, child in inner)})"
    if kind.id == "tuple":
        return f"TUPLE({', '.join(child for _, child in inner)})"
    if kind.id == "map":
        return f"MAP({', '.join(child for _, child in inner)})"
    if kind.id in ("list", "array"):
        size = next((str(size) for name, size in kind.children if name == "size"), "")
        return f"{inner[0][1]}[{size}]"
    return "BIGINT" if kind.id == "interval" else "HUGEINT"


def _microseconds(value: str, column: str) -> str:
    """Return an expression for an interval's length in microseconds.

    A day has 24 hours.
    """
    months = text(f"column {column!r} of the result has an interval of months, which has no length; cast it")
    too_long = text(f"column {column!r} of the result has an interval that is too long for a duration; cast it")
    within = " + ".join(
        f"datepart('{part}', {value}) * {length}"
        for part, length in (("hour", 3_600_000_000), ("minute", 60_000_000), ("microsecond", 1))
    )
    days = f"(datepart('day', {value}) + ({within}) // {_DAY})"
    return (
        f"CASE WHEN datepart('month', {value}) <> 0 OR datepart('year', {value}) <> 0 THEN error({months}) "
        f"WHEN abs({days}) > {_MAXIMUM_DAYS} THEN error({too_long}) "
        f"ELSE {days} * {_DAY} + ({within}) % {_DAY} END"
    )


def _with_durations(arrow: pa.DataType, kind: Any) -> pa.DataType:
    """Return the type of a fetched column with its durations."""
    if kind.id == "interval":
        return pa.duration("us")
    if not _is_changed(kind):
        return arrow
    inner = [child for _, child in _children(kind)]
    if pa.types.is_struct(arrow):
        fields = zip(arrow, inner, strict=True)
        return pa.struct([field.with_type(_with_durations(field.type, child)) for field, child in fields])
    if pa.types.is_map(arrow):
        key, held = inner
        return pa.map_(_with_durations(arrow.key_type, key), _with_durations(arrow.item_type, held))
    if pa.types.is_fixed_size_list(arrow):
        return pa.list_(arrow.value_field.with_type(_with_durations(arrow.value_type, inner[0])), arrow.list_size)
    if pa.types.is_list(arrow):
        return pa.list_(arrow.value_field.with_type(_with_durations(arrow.value_type, inner[0])))
    return arrow
