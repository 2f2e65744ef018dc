"""Changes of an instance's builders, their code and their input instances."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tablevault.code.local_code import FOLDER as LOCAL_CODE
from tablevault.code.source import definition_text
from tablevault.code.sources import Sources
from tablevault.code.versions import WHOLE_FILE
from tablevault.errors import TableVaultError
from tablevault.execution.provenance import BuilderFacts
from tablevault.execution.reasons import (
    OTHER_CHANGE,
    changes_of_arguments,
    changes_of_function,
    changes_of_packages,
    changes_of_types,
)
from tablevault.layout import BUILDER_SUFFIX, MODULE_SUFFIX, module_file
from tablevault.names import is_inner_path
from tablevault.reading.compared_instances import ComparedInstance
from tablevault.records import BuilderDiff, DefinitionDiff
from tablevault.storage import files


def compare_definitions(before: ComparedInstance, after: ComparedInstance) -> DefinitionDiff:
    """Return the differing builders, code and inputs."""
    facts = [{item.name: _with_code(item, side) for item in side.builders} for side in (before, after)]
    inputs = {
        table: (before.inputs.get(table, ""), after.inputs.get(table, ""))
        for table in dict.fromkeys([*before.inputs, *after.inputs])
    }
    changed_inputs = {table: pair for table, pair in inputs.items() if pair[0] != pair[1]}
    builders = {}
    for name in dict.fromkeys([*after.builder_files, *before.builder_files, *facts[1], *facts[0]]):
        text = _unified(_text(before, name), _text(after, name), f"{name}{BUILDER_SUFFIX}")
        pair = facts[0].get(name), facts[1].get(name)
        reasons = tuple(_reasons(*pair, before, after, changed_inputs))
        if text or reasons:
            builders[name] = BuilderDiff(text, reasons)
    return DefinitionDiff(builders, _changed_code(facts[0], facts[1], before.code, after.code), changed_inputs)


def _with_code(facts: BuilderFacts, side: ComparedInstance) -> BuilderFacts:
    """Return the facts about a builder with its reachable code, even if it has not finished."""
    if facts.code_parts or not facts.is_custom or side.code is None or not side.instance.temporary:
        return facts
    try:
        parts = Sources.of_snapshot(side.code).index.parts(facts.module, facts.function)
    except TableVaultError:
        return facts
    return replace(facts, code_parts={".".join(name): digest for name, digest in parts.items()})


def _reasons(
    before: BuilderFacts | None,
    after: BuilderFacts | None,
    one: ComparedInstance,
    other: ComparedInstance,
    inputs: Mapping[str, tuple[str, str]],
) -> Iterator[str]:
    """Yield descriptions of the changes of a builder."""
    if before is None or after is None:
        yield "the builder was added" if before is None else "the builder was removed"
        return
    stored = [
        {name: side.types[name].name for name in facts.columns if name in side.types}
        for facts, side in ((before, one), (after, other))
    ]
    version = [*changes_of_function(before, after), *changes_of_types(*stored)]
    has_other_version = before.versions and after.versions and not set(before.versions) & set(after.versions)
    yield from version or ([OTHER_CHANGE] if has_other_version else [])
    yield from changes_of_packages(before, after)
    yield from changes_of_arguments(before, after)
    read = {row_id for row_id, _ in before.inputs} ^ {row_id for row_id, _ in after.inputs}
    if read and not other.instance.temporary:
        for table, (was, now) in inputs.items():
            if now:
                yield f"input `{table}` is instance {now}" + (f", was {was}" if was else "")


def _changed_code(
    before: Mapping[str, BuilderFacts], after: Mapping[str, BuilderFacts], one: Path | None, other: Path | None
) -> dict[str, str]:
    """Return line diffs of the changed definitions that functions reach."""
    parts = [
        {name: digest for facts in side.values() if facts.is_custom for name, digest in facts.code_parts.items()}
        for side in (before, after)
    ]
    found = {}
    for name in sorted(parts[0].keys() | parts[1].keys()):
        if parts[0].get(name) != parts[1].get(name):
            was = _definition(one, name) if name in parts[0] else ""
            found[name] = _unified(was, _definition(other, name) if name in parts[1] else "", name)
    return {name: text for name, text in found.items() if text}


def _definition(code: Path | None, name: str) -> str:
    """Return the archived text of one name in a module; empty if it was not archived."""
    module, _, part = name.partition(".")
    if code is None or not is_inner_path(module):
        return ""
    folder = files.unlinked(code)
    try:
        if part != WHOLE_FILE:
            return definition_text(files.read_source(module_file(folder, module)), part)
        local = folder / LOCAL_CODE / module
        candidates = (local.with_name(f"{local.name}{MODULE_SUFFIX}"), local / "__init__.py")
        path = next((item for item in candidates if item.is_file()), None)
        if path is None or path.resolve() != folder.resolve() / path.relative_to(folder):
            return ""
        return files.read_source(path)
    except (OSError, TableVaultError):
        return ""


def _text(side: ComparedInstance, builder: str) -> str:
    path = side.builder_files.get(builder)
    return files.read_text(path) if path is not None else ""


def _unified(before: str, after: str, name: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{name} (before)", f"{name} (after)", lineterm=""
    )
    return "\n".join(lines)
