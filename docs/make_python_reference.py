"""Generate `docs/python-reference.md` from the docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

import tablevault

PAGE = Path(__file__).parent / "python-reference.md"
WIDTH = 88

HEAD = """# Python reference

Every public class, method and function. Import them from `tablevault`; names that are missing here are private. This
page is generated from the docstrings by `python docs/make_python_reference.py`.

A method that changes the vault is one atomic *operation*. It takes a `process_id`, which decides whether an error
[pauses or reverts](handling-execution-errors.md) it, and returns the id. [Errors](errors.md) lists the exceptions of
TableVault; import them from `tablevault.errors`.
"""
FUNCTIONS = (
    "report_usage",
    "compress_vault",
    "decompress_vault",
    "delete_vault",
    "import_legacy_vault",
    "to_numpy",
)
RECORDS = (
    *("ProcessInfo", "BuilderProgress", "ErrorInfo", "OwnerInfo", "Remedy"),
    *("InstancePlan", "BuilderPlan"),
    *("TableStatus", "RefreshPlan", "RefreshStep"),
    "TagInfo",
    *("ApplyPlan", "FilePlan"),
    *("Lineage", "LineageStep", "CodeVersion"),
    *("InstanceDiff", "RowCounts", "ColumnDiff", "DefinitionDiff", "BuilderDiff", "ChangedCell"),
    *("CellTrace", "ComputedIn"),
    *("GcPlan", "GcGroup", "GcItem"),
    *("VerifyReport", "Problem"),
)

_SECTION = re.compile(r"^    # --- (.+?) -+$")


def page() -> str:
    """Return the whole page."""
    package = griffe.load(
        "tablevault", search_paths=[str(Path(tablevault.__file__).parents[1])], docstring_parser="numpy"
    )
    vault = package["TableVault"].target
    parts = [HEAD, "## TableVault\n", *_constructor(vault), *_methods(vault)]
    parts.append("## Functions\n")
    for name in FUNCTIONS:
        parts += [f"### {name}\n", *_callable(name, package[name].target, getattr(tablevault, name))]
    parts.append("## Records\n\nThe return values of reading methods, as frozen dataclasses.\n")
    for name in RECORDS:
        parts += _record(name, package[name].final_target, getattr(tablevault, name))
    return "\n".join(parts)


def _constructor(vault: griffe.Class) -> Iterator[str]:
    yield _signature("TableVault", tablevault.TableVault.__init__)
    yield from _docstring(vault)
    yield "| Attribute | |\n|---|---|"
    for name, member in vault.attributes.items():
        if member.docstring:
            yield f"| `{name}`: {_code(member.annotation)} | {_one_line(member.docstring.value)} |"
    yield ""


def _methods(vault: griffe.Class) -> Iterator[str]:
    """Yield the public methods in source order, under the headings in its comments."""
    lines = vault.source.splitlines()
    for number, line in enumerate(lines, start=vault.lineno or 0):
        heading = _SECTION.match(line)
        if heading and heading[1] != "for people":
            yield f"## {heading[1].capitalize()}\n"
        for name, method in vault.functions.items():
            if method.lineno == number and not name.startswith("_"):
                yield f"### {name}\n"
                yield from _callable(name, method, getattr(tablevault.TableVault, name))


def _callable(name: str, documented: griffe.Function, implementation: Any) -> Iterator[str]:
    yield _signature(name, implementation)
    yield from _docstring(documented)


def _record(name: str, documented: griffe.Class, implementation: type) -> Iterator[str]:
    yield f"### {name}\n"
    yield from _docstring(documented)
    fields = [member for member in documented.attributes.values() if not member.name.startswith("_")]
    yield "| Field | |\n|---|---|"
    for field in fields:
        assert field.docstring is not None, field.path
        yield f"| `{field.name}`: {_code(field.annotation)} | {_one_line(field.docstring.value)} |"
    yield ""
    for method, function in documented.functions.items():
        if not method.startswith("_"):
            yield f"#### {name}.{method}\n"
            yield from _callable(method, function, getattr(implementation, method))


def _signature(name: str, implementation: Any) -> str:
    """Return a signature, on one line if it fits."""
    signature = inspect.signature(implementation)
    parameters, is_keyword = [], False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not is_keyword:
            parameters.append("*")
            is_keyword = True
        default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
        parameters.append(f"{parameter.name}: {parameter.annotation}{default}")
    result = "" if signature.return_annotation in (None, "None") else f" -> {signature.return_annotation}"
    line = f"{name}({', '.join(parameters)}){result}"
    if len(line) > WIDTH:
        line = f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + f"){result}"
    return f"```text signature\n{line}\n```\n"


def _docstring(documented: griffe.Object) -> Iterator[str]:
    assert documented.docstring is not None, documented.path
    for section in documented.docstring.parsed:
        match section.kind:
            case griffe.DocstringSectionKind.text:
                yield f"{section.value}\n"
            case griffe.DocstringSectionKind.parameters:
                yield from _table("Parameter", _merged(section.value))
            case griffe.DocstringSectionKind.returns:
                yield from _table("Returns", [(str(item.annotation), item.description) for item in section.value])
            case griffe.DocstringSectionKind.raises:
                yield from _table("Raises", [(str(item.annotation), item.description) for item in section.value])
            case griffe.DocstringSectionKind.examples:
                # The tutorial has the examples, where they are tested.
                continue
            case _:
                raise ValueError(f"{documented.path} has a section of kind {section.kind}")


def _merged(parameters: list[Any]) -> list[tuple[str, str]]:
    """Return names and meanings, with jointly documented parameters in one row."""
    rows: list[tuple[str, str]] = []
    for parameter in parameters:
        if rows and rows[-1][1] == parameter.description:
            rows[-1] = (f"{rows[-1][0]}, {parameter.name}", parameter.description)
        else:
            rows.append((parameter.name, parameter.description))
    return rows


def _table(heading: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    yield f"| {heading} | |\n|---|---|"
    for names, meaning in rows:
        yield f"| {', '.join(f'`{name.strip()}`' for name in names.strip('()').split(','))} | {_one_line(meaning)} |"
    yield ""


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(annotation: Any) -> str:
    return f"`{annotation}`".replace("|", "\\|").replace("JsonObject", "dict[str, Any]")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
