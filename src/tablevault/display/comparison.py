"""Rendering of instance differences as text, HTML and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from types import NoneType
from typing import TYPE_CHECKING, Any

from tablevault.display.html import Count, Sheet, State
from tablevault.texts.plain import MAXIMUM_RECORDED, shown
from tablevault.values.contents import JsonObject

if TYPE_CHECKING:
    from tablevault.records import ChangedCell, ColumnDiff, InstanceDiff

_BY_POSITION = "rows are matched by position"
_MAXIMUM_VALUE_LENGTH = 60
_SHOWN_NUMBERS = 4
_NUMBERS = frozenset({bool, float, int, NoneType})


def diff_text(diff: InstanceDiff) -> str:
    """Return differences as text, with counts, columns, definitions and examples."""
    lines = [counts_text(diff), *_definitions(diff)]
    if diff.examples:
        lines.append("examples:")
        lines += [f"  {_example(item)}" for item in diff.examples]
    return shown("\n".join(lines), MAXIMUM_RECORDED)


def counts_text(diff: InstanceDiff) -> str:
    """Return the counts of differing rows and cells as text."""
    lines = [f"{_before(diff)} -> {_after(diff)}", f"rows: {_rows(diff)}"]
    lines += _notes(diff)
    quiet = [name for name, item in diff.columns.items() if not _says_something(item)]
    lines += [f"{name}: {_column(item, diff)}" for name, item in diff.columns.items() if _says_something(item)]
    if quiet:
        lines.append(f"same: {', '.join(quiet)}")
    return "\n".join(lines)


def diff_html(diff: InstanceDiff) -> str:
    """Return differences as HTML."""
    sheet = Sheet()
    sheet.heading("Changes", f"{_before(diff)} → {_after(diff)}")
    sheet.note(_rows(diff))
    for note in _notes(diff):
        sheet.note(note)
    sheet.table(
        ("column", "status", "changed", "why", "recomputed, same", "failed before, after"),
        [
            (
                name,
                State(item.status, "ok" if item.status == "same" else "stale"),
                Count(item.changed),
                _causes(item),
                Count(item.recomputed_same),
                f"{item.failed[0]:,}, {item.failed[1]:,}" if any(item.failed) else "",
            )
            for name, item in diff.columns.items()
        ],
    )
    for line in _definitions(diff):
        sheet.note(line)
    for name, builder in diff.definition.builders.items():
        if builder.text:
            sheet.folded(f"builder {name}", builder.text)
    for name, text in diff.definition.code.items():
        sheet.folded(f"code {name}", text)
    if diff.examples:
        sheet.table(
            ("row", "column", "before", "after", "why"),
            [
                (_key(item), item.column, _value(item.before), _value(item.after), item.cause or "")
                for item in diff.examples
            ],
        )
    return sheet.html


def diff_json(diff: InstanceDiff) -> JsonObject:
    """Return differences as plain JSON data."""
    return {
        "table_name": diff.table_name,
        "after_table": diff.after_table,
        "before_id": diff.before_id,
        "after_id": diff.after_id,
        "key": list(diff.key),
        "rows": asdict(diff.rows),
        "columns": {name: _listed(asdict(item)) for name, item in diff.columns.items()},
        "definition": {
            "builders": {name: _listed(asdict(item)) for name, item in diff.definition.builders.items()},
            "code": dict(diff.definition.code),
            "inputs": {name: list(pair) for name, pair in diff.definition.inputs.items()},
        },
        "examples": [asdict(item) for item in diff.examples],
    }


def definition_text(diff: InstanceDiff) -> str:
    """Return the changes of builders and code as a line diff."""
    lines = _definitions(diff)
    lines += [builder.text for builder in diff.definition.builders.values() if builder.text]
    lines += diff.definition.code.values()
    return "\n".join(lines)


def _listed(facts: JsonObject) -> JsonObject:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}


def _before(diff: InstanceDiff) -> str:
    return f"{diff.table_name}({diff.before_id})"


def _after(diff: InstanceDiff) -> str:
    return f"{diff.after_table}({diff.after_id})"


def _rows(diff: InstanceDiff) -> str:
    rows = diff.rows
    counts = [(rows.added, "added"), (rows.removed, "removed"), (rows.changed, "changed"), (rows.same, "same")]
    found = [f"{count:,} {name}" for count, name in counts if count or name in ("changed", "same")]
    if rows.not_computed:
        found.append(f"{rows.not_computed:,} not computed yet")
    return ", ".join(found)


def _notes(diff: InstanceDiff) -> list[str]:
    if diff.key:
        return []
    hint = "; an inserted row makes every later row look changed" if diff.rows.added or diff.rows.removed else ""
    return [f"{_BY_POSITION}{hint}"]


def _says_something(item: ColumnDiff) -> bool:
    return item.status != "same" or bool(item.causes or item.recomputed_same or any(item.failed))


def _column(item: ColumnDiff, diff: InstanceDiff) -> str:
    parts = []
    if item.status in ("added", "removed"):
        parts.append(item.status)
    if item.status == "retyped":
        parts.append(f"{item.types[0]} -> {item.types[1]}")
    matched = diff.rows.changed + diff.rows.same
    if item.changed:
        parts.append(f"{item.changed:,} changed ({item.changed / matched:.1%})")
    if item.causes:
        parts.append(", ".join(_causes(item)))
    if item.recomputed_same:
        parts.append(f"{item.recomputed_same:,} recomputed without change")
    if any(item.failed):
        parts.append(f"{item.failed[0]:,} failed before, {item.failed[1]:,} after")
    return "; ".join(parts)


def _causes(item: ColumnDiff) -> tuple[str, ...]:
    return tuple(f"{cause}: {count:,}" for cause, count in item.causes.items())


def _definitions(diff: InstanceDiff) -> list[str]:
    found = [
        f"builder {name}: {'; '.join(item.reasons) or 'its file changed'}"
        for name, item in diff.definition.builders.items()
    ]
    found += [
        f"input {table}: {before or 'none'} -> {after or 'none'}"
        for table, (before, after) in diff.definition.inputs.items()
    ]
    return found


def _example(item: ChangedCell) -> str:
    cause = f" ({item.cause})" if item.cause else ""
    return f"{_key(item)} {item.column}: {_value(item.before)} -> {_value(item.after)}{cause}"


def _key(item: ChangedCell) -> str:
    return ", ".join(_pairs(item.key.items()))


def _pairs(items: Iterable[tuple[str, Any]]) -> Iterator[str]:
    for name, value in items:
        yield f"{name}={_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, list) and len(value) > _SHOWN_NUMBERS and set(map(type, value)) <= _NUMBERS:
        numbers = ", ".join(json.dumps(number) for number in value[:_SHOWN_NUMBERS])
        return f"[{numbers}, ...] ({len(value):,} numbers)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAXIMUM_VALUE_LENGTH else f"{text[: _MAXIMUM_VALUE_LENGTH - 3]}..."
