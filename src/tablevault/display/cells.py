"""Rendering of cell traces as text, HTML and JSON."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Any

from tablevault.display.html import Sheet, State
from tablevault.texts.json_forms import json_form
from tablevault.texts.plain import MAXIMUM_RECORDED, shown
from tablevault.values.contents import JsonObject

if TYPE_CHECKING:
    from tablevault.records import CellTrace

_MAXIMUM_VALUE_LENGTH = 200
_COLOURS = {"computed": "ok", "external": "ok", "failed": "wrong", "skipped": "stale", "not computed": "stale"}


def trace_text(trace: CellTrace) -> str:
    """Return a trace as text."""
    lines = [f"{_named(trace)} = {_value(trace.value)}", f"state: {trace.state}"]
    lines += [f"{name}: {text}" for name, text in _facts(trace)]
    if trace.arguments is not None:
        lines.append("arguments:")
        lines += [f"  {name} = {_value(value)}" for name, value in trace.arguments.items()]
    lines += [f"from {step.name}" for step in trace.inputs]
    lines += [f"note: {note}" for note in trace.notes]
    if trace.source:
        lines.append("source:")
        lines += [f"  {line}" for line in trace.source.splitlines()]
    return shown("\n".join(lines), MAXIMUM_RECORDED)


def trace_html(trace: CellTrace) -> str:
    """Return a trace as HTML."""
    sheet = Sheet()
    sheet.heading("", _named(trace), State(trace.state, _COLOURS.get(trace.state)))
    sheet.facts([("value", _value(trace.value)), *_facts(trace)])
    if trace.arguments is not None:
        sheet.table(("argument", "value"), [(name, _value(value)) for name, value in trace.arguments.items()])
    if trace.inputs:
        sheet.facts([("computed from", tuple(step.name for step in trace.inputs))])
    for note in trace.notes:
        sheet.note(note)
    if trace.source:
        sheet.folded("source", trace.source)
    if trace.error is not None:
        sheet.folded("traceback", trace.error.traceback)
    return sheet.html


def trace_json(trace: CellTrace) -> JsonObject:
    """Return a trace as plain JSON data."""
    computed, error = trace.computed_in, trace.error
    return {
        "table_name": trace.table_name,
        "instance_id": trace.instance_id,
        "column": trace.column,
        "key": dict(trace.key),
        "value": _plain(trace.value),
        "state": trace.state,
        "error": None
        if error is None
        else {"type": error.type, "message": error.message, "traceback": error.traceback},
        "builder": trace.builder,
        "function": trace.function,
        "code_version": trace.code_version,
        "source": trace.source,
        "computed_in": None if computed is None else {**computed._asdict(), "when": computed.when.isoformat()},
        "arguments": None
        if trace.arguments is None
        else {name: _plain(value) for name, value in trace.arguments.items()},
        "inputs": [step.name for step in trace.inputs],
        "input_row": None
        if trace.input_row is None
        else {name: _plain(value) for name, value in trace.input_row.items()},
        "reused_through": list(trace.reused_through),
        "notes": list(trace.notes),
    }


def _named(trace: CellTrace) -> str:
    key = ", ".join(f"{name}={_value(value)}" for name, value in trace.key.items())
    return f"{trace.table_name}({trace.instance_id}).{trace.column}[{key}]"


def _facts(trace: CellTrace) -> list[tuple[str, str]]:
    found = []
    if trace.builder:
        version = f", code {trace.code_version[:12]}" if trace.code_version else ""
        found.append(("builder", f"{trace.builder}: {trace.function}{version}"))
    if trace.input_row is not None:
        found.append(("input row", ", ".join(f"{name}={_value(value)}" for name, value in trace.input_row.items())))
    if trace.error is not None:
        found.append(("error", f"{trace.error.type.rpartition('.')[2]}: {trace.error.message}"))
    if trace.computed_in is not None:
        instance_id, process_id, author, when = trace.computed_in
        verb = {"external": "written", "failed": "failed", "skipped": "skipped"}.get(trace.state, "computed")
        moment = f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        found.append((f"{verb} in", f"{instance_id} by {author}, {moment}, process {process_id}"))
    if trace.reused_through:
        found.append(("reused through", ", ".join(trace.reused_through)))
    return found


def _plain(value: Any) -> Any:
    """Return a value as JSON data; values without a JSON form become text."""
    try:
        form = json_form(value)
        json.dumps(form)
    except (TypeError, ValueError):
        return str(value)
    return form


def _value(value: Any) -> str:
    plain = _plain(value)
    text = json.dumps(plain, ensure_ascii=False)
    return text if len(text) <= _MAXIMUM_VALUE_LENGTH else f"{text[: _MAXIMUM_VALUE_LENGTH - 3]}..."
