"""Rendering of garbage collection plans as text and HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tablevault.display.html import Sheet, State
from tablevault.texts.plain import MAXIMUM_RECORDED, shown

if TYPE_CHECKING:
    from tablevault.records import GcGroup, GcItem, GcPlan

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def gc_text(plan: GcPlan) -> str:
    """Return a plan as text, with two lists per group and a summary line."""
    lines: list[str] = []
    for group in plan.groups:
        lines.append(_title(group))
        lines += [f"  {verb}  {_item(item)}" for verb, items in _lists(group) for item in items]
    if plan.other:
        lines.append("other files")
        lines += [f"  remove  {_item(item)}" for item in plan.other]
    lines.append(f"{plan.policy}: {sum_text(plan)}")
    return shown("\n".join(lines), MAXIMUM_RECORDED)


def gc_html(plan: GcPlan) -> str:
    """Return a plan as HTML."""
    sheet = Sheet()
    sheet.heading("", "What gc would remove")
    sheet.note(f"{plan.policy}: {sum_text(plan)}")
    for group in plan.groups:
        sheet.note(_title(group))
        sheet.table(
            ("", "instance", "frees", "why"),
            [
                (State(verb, "ok" if verb == "keep" else "stale"), item.instance_id, _freed(item), item.reasons)
                for verb, items in _lists(group)
                for item in items
            ],
        )
    if plan.other:
        sheet.table(
            ("file", "frees", "why"), [(item.instance_id, size_text(item.bytes), item.reasons) for item in plan.other]
        )
    return sheet.html


def sum_text(plan: GcPlan) -> str:
    """Return the summary of a plan."""
    removed, kept = len(plan.removed), sum(len(group.keep) for group in plan.groups)
    other = f" and {len(plan.other):,} other file{'' if len(plan.other) == 1 else 's'}" if plan.other else ""
    instances = f"{removed:,} instance{'' if removed == 1 else 's'}"
    return f"remove {instances}{other} ({size_text(plan.bytes)}), keep {kept:,}"


def size_text(count: int) -> str:
    """Return a size in the largest unit that gives at least 1."""
    size, unit = float(count), _UNITS[0]
    for larger in _UNITS[1:]:
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{count:,} bytes" if unit == _UNITS[0] else f"{size:,.1f} {unit}"


def _title(group: GcGroup) -> str:
    return f"{group.table_name}, version {group.version}"


def _lists(group: GcGroup) -> tuple[tuple[str, tuple[GcItem, ...]], ...]:
    return ("keep", group.keep), ("remove", group.remove)


def _item(item: GcItem) -> str:
    freed = f" {_freed(item)}" if item.bytes else ""
    return f"{item.instance_id}{freed}  {', '.join(item.reasons)}"


def _freed(item: GcItem) -> str:
    return size_text(item.bytes) if item.bytes else ""
