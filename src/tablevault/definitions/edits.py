"""Edits of a source between two calls, and whether a started process can adopt them."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tablevault.builders.document import read_document
from tablevault.builders.fields import POLICY_NAMES
from tablevault.builders.policies import Policies
from tablevault.definitions.texts import BuilderText, SourceTexts, TableTexts
from tablevault.layout import BUILDER_SUFFIX
from tablevault.texts.json_forms import from_json_form

_DEFAULT_POLICIES: Mapping[str, object] = {
    "on_error": "pause",
    "max_failures": "10%",
    "max_consecutive_failures": 20,
    "stop_on": [401, 402, "code:insufficient_quota", "ImportError", "NameError"],
    "retry": 0,
    "failed_inputs": "skip",
    "poll_seconds": 60,
    "wait": True,
}
"""Policy values that replace removed fields; other policies cannot be switched off by a value."""
_OF_COLLECTING = frozenset({"max_failures", "max_consecutive_failures"})

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Edits:
    """The differences between a process's initial and the current definitions."""

    refused: str | None
    """The first edit that the process cannot adopt, as part of a sentence; `None` without one."""
    policies: Mapping[str, Mapping[str, object]]
    """Changed policy fields, by `table.builder`."""


NO_EDITS = Edits(None, {})


def edits_between(began_with: SourceTexts, now: SourceTexts) -> Edits:
    """Compare a process's initial definitions with the current ones.

    Texts of modules may differ, as may policies of builders, which then apply to the rest of the process.
    """
    policies: dict[str, Mapping[str, object]] = {}
    before, after = _by_name(began_with), _by_name(now)
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            return Edits(f"table '{name}' is no longer defined", {})
        if name not in before:
            return Edits(f"table '{name}' is new", {})
        refused = _edited_table(before[name], after[name])
        if refused is not None:
            return Edits(refused, {})
        for builder in after[name].builders:
            old = next(item for item in before[name].builders if item.name == builder.name)
            changed, problem = _edited_builder(old, builder)
            if problem is not None:
                return Edits(f"table '{name}', builder '{builder.name}': {problem}", {})
            problem = _edited_parameters(builder, began_with, now)
            if problem is not None:
                return Edits(f"table '{name}', builder '{builder.name}': {problem}", {})
            if changed:
                policies[f"{name}.{builder.name}"] = changed
    return Edits(None, policies)


def with_modules(began_with: SourceTexts, now: SourceTexts) -> SourceTexts:
    """Return a process's initial definitions with the current modules."""
    return SourceTexts(files=now.files, modules=now.modules, tables=began_with.tables)


def _edited_parameters(builder: BuilderText, began_with: SourceTexts, now: SourceTexts) -> str | None:
    """Return the edit that added or removed a parameter of a builder's function."""
    fields = _fields(builder)
    module, function = fields.get("code_module"), fields.get("python_function")
    old, new = _parameters(began_with, module, function), _parameters(now, module, function)
    for name in new or ():
        if old is not None and name not in old:
            return f"the parameter '{name}' of {function}() is new"
    for name in old or ():
        if new is not None and name not in new:
            return f"the parameter '{name}' of {function}() was removed"
    return None


def _parameters(texts: SourceTexts, module: object, function: object) -> list[str] | None:
    """Return a function's parameters; `None` if it is not in the source."""
    text = next((item.text for item in texts.modules if item.name == module), None)
    found: ast.stmt | None = None if text is None else _statements(text).get(str(function))
    if isinstance(found, ast.ClassDef):
        found = next((item for item in found.body if getattr(item, "name", "") == "__call__"), None)
    if not isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    given = found.args
    return [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def changed_functions(before: str, after: str) -> list[str]:
    """Return the new or changed top-level functions and classes of a module."""
    old, new = _functions(before), _functions(after)
    return [name for name in new if new[name] != old.get(name)]


def _functions(module: str) -> dict[str, str]:
    return {name: ast.dump(item) for name, item in _statements(module).items()}


def _statements(module: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Return a module's top-level functions and classes; empty on a syntax error."""
    try:
        statements = ast.parse(module).body
    except (SyntaxError, ValueError):
        return {}
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {item.name: item for item in statements if isinstance(item, kinds)}


def _by_name(texts: SourceTexts) -> dict[str, TableTexts]:
    return {table.name: table for table in texts.tables}


def _edited_table(before: TableTexts, after: TableTexts) -> str | None:
    old, new = ([builder.name for builder in table.builders] for table in (before, after))
    for name in old:
        if name not in new:
            return f"table '{before.name}', builder '{name}' is no longer defined"
    for name in new:
        if name not in old:
            return f"table '{before.name}', builder '{name}' is new"
    for flag in ("allow_multiple_artifacts", "has_side_effects"):
        if getattr(before, flag) != getattr(after, flag):
            return f"table '{before.name}': {flag} has changed"
    return None


def _edited_builder(before: BuilderText, after: BuilderText) -> tuple[dict[str, object], str | None]:
    """Return the changed policies, and the first unsupported change, if any.

    Changed columns in the vault do not count as an edit; a process continues with its initial ones.
    """
    both_written = before.written and after.written
    old, new = (_written(before), _written(after)) if both_written else (_fields(before), _fields(after))
    changed: dict[str, object] = {}
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) == new.get(name):
            continue
        if name not in POLICY_NAMES:
            return {}, f"the field '{name}' has changed"
        if name in new:
            changed[name] = new[name]
        elif name not in _OF_COLLECTING or new.get("on_error") == "collect":
            default = _default_policy(name, new)
            if default is None:
                return {}, f"the policy '{name}' was removed, and there is no default for a paused process to use"
            changed[name] = default
    return changed, None


def _default_policy(name: str, fields: Fields) -> object:
    """Return the value that replaces a removed policy, if any."""
    if name == "batch_size":
        return Policies(executor=fields.get("executor")).rows_of_call
    return _DEFAULT_POLICIES.get(name)


def _written(builder: BuilderText) -> Fields:
    fields: Fields = from_json_form(json.loads(builder.written))
    return fields


def _fields(builder: BuilderText) -> Fields:
    fields = read_document(builder.text, f"{builder.name}{BUILDER_SUFFIX}").fields
    return {name: value for name, value in fields.items() if value is not None}
