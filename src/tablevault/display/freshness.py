"""Rendering of table states and refresh plans as text and HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tablevault.display.html import Count, Sheet, State
from tablevault.display.processes import usage_text
from tablevault.texts.plain import MAXIMUM_RECORDED, shown

if TYPE_CHECKING:
    from tablevault.records import RefreshPlan, RefreshStep, TableStatus


def status_text(status: TableStatus) -> str:
    """Return the state of a table as text."""
    lines = [status.state, *(f"  {reason}" for reason in status.reasons)]
    facts = (("instance", status.instance_id), ("reads", status.inputs), ("used by", status.used_by))
    for name, value in facts:
        if value:
            lines.append(f"  {name}: {value if isinstance(value, str) else ', '.join(value)}")
    return shown("\n".join(lines), MAXIMUM_RECORDED)


def status_html(status: TableStatus) -> str:
    """Return the state of a table as HTML."""
    sheet = Sheet()
    sheet.facts(
        [
            ("state", State(status.state)),
            ("why", status.reasons),
            ("instance", status.instance_id),
            ("reads", status.inputs),
            ("used by", status.used_by),
        ]
    )
    return sheet.html


def refresh_text(plan: RefreshPlan) -> str:
    """Return a refresh plan as text."""
    return shown("\n".join(map(_step, plan.steps)), MAXIMUM_RECORDED) or "nothing to do"


def _step(step: RefreshStep) -> str:
    counts = [
        f"{count:,} to {verb}"
        for count, verb in ((step.computed, "compute"), (step.reused, "reuse"))
        if count is not None and step.action != "skip"
    ]
    if step.usage:
        counts.append(f"about {usage_text(step.usage)}")
    return "; ".join([f"{step.action} {step.text}", *counts, *step.reasons])


def refresh_html(plan: RefreshPlan) -> str:
    """Return a refresh plan as HTML."""
    sheet = Sheet()
    sheet.heading("", "What a refresh would do")
    sheet.table(
        ("table", "action", "to compute", "to reuse", "after", "why"),
        [
            (
                step.text,
                State(step.action),
                Count(step.computed),
                Count(step.reused),
                step.after,
                step.reasons,
            )
            for step in plan.steps
        ],
    )
    return sheet.html
