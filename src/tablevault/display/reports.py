"""Rendering of execution plans and `verify` reports as text and HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tablevault.display.html import Count, Sheet, State
from tablevault.display.processes import usage_text
from tablevault.texts.plain import MAXIMUM_RECORDED, shown

if TYPE_CHECKING:
    from tablevault.records import ApplyPlan, BuilderPlan, InstancePlan, VerifyReport


_QUIET = frozenset({"new", "same"})
"""States of services that are not listed."""


def plan_text(plan: InstancePlan) -> str:
    """Return a plan as text."""
    lines = (f"{name}: {_builder_plan(item)}" for name, item in plan.builders.items())
    return shown("\n".join(lines), MAXIMUM_RECORDED) or "nothing to do"


def _builder_plan(item: BuilderPlan) -> str:
    total = "row count unknown" if item.total is None else f"{item.total:,} rows"
    computed = "" if item.computed is None else f", {item.computed:,} to compute"
    reused = "" if item.reused is None else f", {item.reused:,} to reuse"
    usage = f" (about {usage_text(item.usage)})" if item.usage else ""
    return f"{total}{computed}{usage}{reused}" + "".join(f"; {reason}" for reason in item.reasons)


def plan_html(plan: InstancePlan) -> str:
    """Return a plan as HTML."""
    sheet = Sheet()
    sheet.heading("", "What an execution would do")
    has_usage = any(item.usage for item in plan.builders.values())
    sheet.table(
        ("builder", "rows", "to compute", "to reuse", *(["expected usage"] if has_usage else []), "why"),
        [
            (
                name,
                Count(item.total),
                Count(item.computed),
                Count(item.reused),
                *([usage_text(item.usage)] if has_usage else []),
                item.reasons,
            )
            for name, item in plan.builders.items()
        ],
    )
    return sheet.html


def apply_plan_text(plan: ApplyPlan) -> str:
    """Return an `apply` plan as text, with a line and a diff for each file."""
    lines = [f"{state} service: {name}" for name, state in plan.services.items() if state == "new"]
    lines += [f"service {name}: keeps its own limits" for name, state in plan.services.items() if state not in _QUIET]
    lines += [f"new table: {name}" for name in plan.tables]
    for file in plan.files:
        lines.append(f"{file.state}: {file.path}")
        lines.extend(f"  {line}" for line in file.diff.splitlines())
    return shown("\n".join(lines), MAXIMUM_RECORDED) or "nothing to do"


def apply_plan_html(plan: ApplyPlan) -> str:
    """Return an `apply` plan as HTML."""
    sheet = Sheet()
    sheet.heading("", "What apply would do")
    for name, state in plan.services.items():
        sheet.note(f"service {name}: {state}")
    for name in plan.tables:
        sheet.note(f"new table: {name}")
    sheet.table(("file", "state", "change"), [(item.path, item.state, item.diff) for item in plan.files])
    return sheet.html


def report_text(report: VerifyReport) -> str:
    """Return a report as text."""
    lines = [f"vault: {'ok' if report.ok else _counted(report)}, {report.checked:,} files checked"]
    lines.extend(f"{problem.kind}: {problem.path}: {problem.detail}" for problem in report.problems)
    return shown("\n".join(lines), MAXIMUM_RECORDED)


def report_html(report: VerifyReport) -> str:
    """Return a report as HTML."""
    sheet = Sheet()
    state = State("matches the catalog", "ok") if report.ok else State(_counted(report), "wrong")
    sheet.heading("", "Verification", state)
    sheet.note(f"{report.checked:,} files and folders checked")
    if report.problems:
        sheet.table(("problem", "file", "detail"), [(item.kind, item.path, item.detail) for item in report.problems])
    return sheet.html


def _counted(report: VerifyReport) -> str:
    return "1 problem" if len(report.problems) == 1 else f"{len(report.problems):,} problems"
