"""Rendering of lineages as text, HTML, terminal trees and JSON graphs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from typing import TYPE_CHECKING

from tablevault.display.html import Branch, Sheet
from tablevault.texts.json_forms import json_form
from tablevault.texts.plain import MAXIMUM_RECORDED, shown
from tablevault.values.contents import JsonObject

if TYPE_CHECKING:
    from rich.tree import Tree

    from tablevault.records import CodeVersion, Lineage, LineageStep

_MAXIMUM_DEPTH = 40
"""Maximum number of levels shown; `to_dict` has all."""
_MAXIMUM_RANGES = 4
_MAXIMUM_ARGUMENT_LENGTH = 80


def step_text(step: LineageStep) -> str:
    """Return one step as text."""
    return shown(f"{step.name}: {_text(step)}", MAXIMUM_RECORDED)


def lineage_text(lineage: Lineage) -> str:
    """Return a lineage as text, indented by level."""

    def lines(branches: Iterable[Branch], depth: int) -> Iterable[str]:
        for branch in branches:
            yield "  " * depth + branch.label
            yield from lines(branch.branches, depth + 1)

    return shown("\n".join([_title(lineage), *lines(_branches(lineage), 1)]), MAXIMUM_RECORDED)


def lineage_html(lineage: Lineage) -> str:
    """Return a lineage as HTML."""
    sheet = Sheet()
    sheet.heading("Lineage of", f"{lineage.table_name}({lineage.instance_id})")
    sheet.tree(_branches(lineage))
    return sheet.html


def lineage_tree(lineage: Lineage) -> Tree:
    """Return a lineage as a terminal tree."""
    from rich.text import Text
    from rich.tree import Tree

    def grow(tree: Tree, branches: Iterable[Branch]) -> None:
        for branch in branches:
            # Brackets in a plain string would be parsed as markup.
            grow(tree.add(Text(branch.label)), branch.branches)

    root = Tree(Text(_title(lineage)))
    grow(root, _branches(lineage))
    return root


def lineage_graph(lineage: Lineage) -> JsonObject:
    """Return a lineage as JSON data, with each step stored once and referenced by key."""
    steps: dict[str, JsonObject] = {}
    roots = [_key(step) for step in lineage.columns]
    waiting = list(zip(roots, lineage.columns, strict=True))
    done: set[int] = set()
    while waiting:
        key, step = waiting.pop()
        if id(step) in done:
            continue
        done.add(id(step))
        facts = steps.setdefault(key, _plain_facts(step))
        for relation, others in _relations(step):
            named = [_key(other) for other in others]
            if named:
                facts[relation] = list(dict.fromkeys([*facts.get(relation, ()), *named]))
            waiting.extend(zip(named, others, strict=True))
    return {"table": lineage.table_name, "instance": lineage.instance_id, "columns": roots, "steps": steps}


def _title(lineage: Lineage) -> str:
    return f"lineage of {lineage.table_name}({lineage.instance_id})"


def _branches(lineage: Lineage) -> tuple[Branch, ...]:
    expanded: set[int] = set()
    return tuple(_branch("", step, expanded, 1) for step in lineage.columns)


def _branch(relation: str, step: LineageStep, expanded: set[int], depth: int) -> Branch:
    """Return a step as a branch; its relations are expanded only on first occurrence."""
    name, text = relation + step.name, _text(step)
    relations = [(kind, others) for kind, others in _relations(step) if others]
    if not relations:
        return Branch(name, text)
    if id(step) in expanded:
        return Branch(f"{name} (shown above)", "")
    if depth >= _MAXIMUM_DEPTH:
        return Branch(name, f"{text} (truncated; see to_dict())")
    expanded.add(id(step))
    prefixes = {"inputs": "from ", "origin": "reused from ", "used_by": "used by "}
    return Branch(
        name,
        text,
        tuple(_branch(prefixes[kind], other, expanded, depth + 1) for kind, others in relations for other in others),
    )


def _relations(step: LineageStep) -> tuple[tuple[str, tuple[LineageStep, ...]], ...]:
    origin = () if step.origin is None else (step.origin,)
    return ("inputs", step.inputs), ("origin", origin), ("used_by", step.used_by)


def _key(step: LineageStep) -> str:
    """Return a unique key; it includes the builder, since builders may overwrite columns of others."""
    return f"{step.name} by {step.builder}" if step.builder else step.name


def _plain_facts(step: LineageStep) -> JsonObject:
    return {
        "table": step.table_name,
        "instance": step.instance_id,
        "column": step.column,
        "builder": step.builder,
        "function": step.function,
        "arguments": json_form(step.arguments),
        "code_versions": [
            {"version": item.version, "rows": item.rows, "ranges": [list(pair) for pair in item.ranges]}
            for item in step.code_versions
        ],
        "computed": step.computed,
        "reused": step.reused,
        "process_id": step.process_id,
        "author": step.author,
        "made_at": step.made_at.isoformat(),
        "success": step.success,
        "deleted": step.deleted,
        **({"imported_from": step.imported_from} if step.imported_from else {}),
    }


def _text(step: LineageStep) -> str:
    parts = []
    if step.builder:
        arguments = ", ".join(f"{name}={_shortened(value)}" for name, value in step.arguments.items())
        parts.append(f"builder {step.builder}: {step.function}({arguments})")
        parts.extend(_described_versions(step.code_versions))
    elif step.column != "*":
        parts.append("written from outside")
    if step.reused:
        parts.append(f"{step.computed:,} rows computed, {step.reused:,} reused")
    parts.append(f"by {step.author}, {step.made_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, process {step.process_id}")
    if not step.success:
        parts.append("not finished")
    if step.imported_from:
        parts.append(f"imported from {step.imported_from}")
    if step.deleted:
        parts.append("deleted since")
    return "; ".join(parts)


def _described_versions(versions: tuple[CodeVersion, ...]) -> Iterable[str]:
    for item in versions:
        code = f"code {item.version[:12]}"
        if len(versions) == 1:
            yield code
        elif item.rows is None:
            yield f"some rows under {code}"
        elif item.rows:
            ranges = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in item.ranges[:_MAXIMUM_RANGES])
            more = ", ..." if len(item.ranges) > _MAXIMUM_RANGES else ""
            yield f"{item.rows:,} {'row' if item.rows == 1 else 'rows'} ({ranges}{more}) under {code}"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAXIMUM_ARGUMENT_LENGTH else f"{text[: _MAXIMUM_ARGUMENT_LENGTH - 3]}..."
