"""Parsed builder files with their line numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from tablevault.builders.fields import FIELD_NAMES, UNRESOLVED_FIELDS, FieldPath, FieldProblem, field_problems
from tablevault.builders.yaml_text import place_text, read_yaml
from tablevault.errors import TableReferenceError, TableVaultError, TVBuilderError
from tablevault.references import (
    Dependencies,
    Dependency,
    Literal,
    Placement,
    Reference,
    check_placement,
    dependencies,
    find_references,
)

_FOR_EACH = re.compile(r"(?P<table>[A-Za-z0-9_-]+)(?:\((?P<instance>[A-Za-z0-9_-]+)\))?")

SELF = "self"
INDEX = "index"
ALL_COLUMNS = "*"

MAXIMUM_PROBLEMS = 10

_REMEMBERED_CHARACTERS = 10_000
"""Maximum length of a cached text."""
_REMEMBERED_TEXTS = 1_000


@dataclass(frozen=True)
class BuilderReads:
    """The statically known inputs of a builder."""

    own_columns: Mapping[str, FieldPath]
    """Named columns of the instance being built, each with the first field or item that names it."""
    reads_whole_self: bool
    """Whether the builder also reads the instance being built as a whole, with a bare `<<self>>`."""
    places: Mapping[Dependency, FieldPath]
    """Other tables and the columns read from them, each with the first field or item that names it."""

    @property
    def tables(self) -> tuple[Dependency, ...]:
        """Other tables and the columns read from them, in file order."""
        return tuple(self.places)


@dataclass(frozen=True)
class ForEach:
    """The table over whose rows an IndexBuilder iterates."""

    table: str
    instance: str | None
    """Id or version of the instance; `None` for the newest instance of any version."""


@dataclass(frozen=True)
class BuilderDocument:
    """A parsed builder file, with unresolved references and line numbers."""

    file: str
    """File name, as shown in error messages."""
    fields: Mapping[str, object]
    """The fields of the file, except null ones and the ignored `name`."""
    lines: Mapping[FieldPath, int] = field(repr=False, compare=False)
    """Line numbers of fields and items, by path."""
    doubts: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """Warnings about ambiguous YAML 1.1 values under `arguments`, each with its location."""

    def line(self, *path: object) -> int:
        """Return the 1-based line of a field or item, or of its nearest parent."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return self.lines.get((), 1)

    def place(self, *path: object) -> str:
        """Return the location that prefixes an error message (file, line, field)."""
        return place_text(self.file, self.line(*path), path)

    def error(self, path: FieldPath, sentence: str) -> TVBuilderError:
        """Return an error that points at a field or item."""
        return TVBuilderError(f"{self.place(*path)}: {sentence}")

    @cached_property
    def is_resolved(self) -> bool:
        """Whether no field outside `UNRESOLVED_FIELDS` holds a reference, even an escaped one."""
        fields = (value for name, value in self.fields.items() if name not in UNRESOLVED_FIELDS)
        return not any("<<" in repr(value) for value in fields)

    @cached_property
    def reads(self) -> BuilderReads:
        """The columns and tables that the references and `dependencies` name.

        Raises
        ------
        TVBuilderError
            If a table or column name is itself a reference that `dependencies` does not declare.
        """
        return _reads_of(self)

    @cached_property
    def for_each(self) -> ForEach | None:
        """The table over whose rows the builder iterates; `None` without `for_each`.

        Raises
        ------
        TVBuilderError
            If the field is not a valid table name.
        """
        text = self.fields.get("for_each")
        if text is None:
            return None
        match = _FOR_EACH.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise self.error(("for_each",), f"{text!r:.100} is not a table; write documents or documents(v2).")
        return ForEach(match["table"], match["instance"])

    @contextmanager
    def located(self, *path: object) -> Iterator[None]:
        """Add file, line and field to reference errors raised in the block."""
        try:
            yield
        except TableReferenceError as error:
            raise TableReferenceError(f"{self.place(*path)}:\n{error}") from error


def read_document(text: str, file: str) -> BuilderDocument:
    """Parse and check a builder file; runs no code.

    Results are cached: callers with the same text share the values, which must not be modified.

    Raises
    ------
    TVBuilderError
        If the text is not safe YAML, or has an unknown field or a value of the wrong type. The message gives file,
        line and remedy.
    TableReferenceError
        If a reference is malformed or misplaced.
    """
    return (_read_again if len(text) <= _REMEMBERED_CHARACTERS else _read)(text, file)


def _read(text: str, file: str) -> BuilderDocument:
    yaml = read_yaml(text, file)
    document = BuilderDocument(file, _present(yaml.content), yaml.lines, yaml.doubts)
    check_document(document)
    return document


# A single operation reads the same file several times: to check, plan, execute and compare it.
_read_again = lru_cache(maxsize=_REMEMBERED_TEXTS)(_read)


def check_document(document: BuilderDocument) -> None:
    """Check a builder's fields before its references are resolved.

    Raises
    ------
    TVBuilderError
        If a field is unknown, or a value has the wrong type.
    TableReferenceError
        If a reference is malformed or misplaced.
    """
    _check_references(document)
    _check_fields(document)


def _present(content: Mapping[object, object]) -> dict[str, object]:
    """Drop `name` and null fields; unknown null fields are kept for a later check to reject."""
    return {
        str(name): value
        for name, value in content.items()
        if name != "name" and not (value is None and name in FIELD_NAMES)
    }


def _check_references(document: BuilderDocument) -> None:
    for name, value in document.fields.items():
        if name == "arguments" and isinstance(value, dict):
            for argument, content in value.items():
                with document.located(name, argument):
                    find_references(content)
        elif name not in UNRESOLVED_FIELDS:
            with document.located(name):
                check_placement(value, where=Placement.FIELD)


def _check_fields(document: BuilderDocument) -> None:
    """Reject invalid fields; fields with references are checked after resolution."""
    pending = {name for name, value in document.fields.items() if _is_pending(name, value)}
    known = {name: value for name, value in document.fields.items() if name not in pending}
    problems = [problem for problem in field_problems(known) if problem.path[0] not in pending]
    if problems:
        raise problems_error(document, problems)


def _is_pending(name: object, value: object) -> bool:
    return name in FIELD_NAMES and name not in UNRESOLVED_FIELDS and bool(find_references(value))


def problems_error(document: BuilderDocument, problems: Sequence[FieldProblem]) -> TVBuilderError:
    """Return a single error that lists the problems in file order."""
    ordered = sorted(problems, key=lambda problem: document.line(*problem.path))
    lines = [str(document.error(problem.path, problem.sentence)) for problem in ordered[:MAXIMUM_PROBLEMS]]
    if len(ordered) > MAXIMUM_PROBLEMS:
        lines.append(f"{document.file}: and {len(ordered) - MAXIMUM_PROBLEMS:,} more problems.")
    return TVBuilderError("\n".join(lines))


def _reads_of(document: BuilderDocument) -> BuilderReads:
    """Return the inputs of a builder file with unresolved fields."""
    declared = _declared(document)
    found: list[tuple[FieldPath, Dependency]] = []
    for path, value in _values_with_references(document):
        reads: Dependencies = dependencies(value)
        found.extend((path, read) for read in reads.reads)
        for reference in reads.undecided:
            _check_declared(document, path, reference, declared.values())
    found.extend(declared.items())
    if document.for_each is not None:
        each = document.for_each
        text = each.table if each.instance is None else f"{each.table}({each.instance})"
        found.append((("for_each",), Dependency(each.table, each.instance, frozenset(), text)))
    own = [(path, read) for path, read in found if read.table == SELF]
    places: dict[Dependency, FieldPath] = {}
    for path, read in found:
        if read.table != SELF:
            places.setdefault(read, path)
    return BuilderReads(
        own_columns={column: path for path, read in reversed(own) for column in read.columns or ()},
        reads_whole_self=any(read.columns is None for _, read in own),
        places=places,
    )


def dependency_error(
    document: BuilderDocument, path: FieldPath, dependency: Dependency, message: str, name: str | None = None
) -> TableVaultError:
    """Return an error about an input of a builder.

    Parameters
    ----------
    document, path
        The builder file, and the field or item that names the input.
    dependency
        The input.
    message
        The problem.
    name
        The part of the reference to mark; `None` for its table.
    """
    error = dependency.error(message, name)
    if error is None:
        return document.error(path, f"'{dependency.text}' cannot be read: {message}")
    return TableReferenceError(f"{document.place(*path)}:\n{error}")


def _values_with_references(document: BuilderDocument) -> Iterator[tuple[FieldPath, object]]:
    for name, value in document.fields.items():
        if name == "arguments" and isinstance(value, dict):
            for argument, content in value.items():
                yield (name, argument), content
        elif name not in ("dependencies", "builder_type"):
            yield (name,), value


def _declared(document: BuilderDocument) -> dict[FieldPath, Dependency]:
    entries = document.fields.get("dependencies", [])
    assert isinstance(entries, list)
    declared: dict[FieldPath, Dependency] = {}
    for position, entry in enumerate(entries):
        table, _, column = entry.partition(".")
        columns = None if column == ALL_COLUMNS else frozenset({column})
        declared["dependencies", position] = Dependency(table=table, instance=None, columns=columns, text=entry)
    return declared


def _check_declared(
    document: BuilderDocument, path: FieldPath, reference: Reference, declared: Iterable[Dependency]
) -> None:
    """Reject a reference with an indeterminate table or column, unless `dependencies` declares it."""
    table = reference.table.value if isinstance(reference.table, Literal) else None
    if any(table is None or entry.table == table for entry in declared):
        return
    example, part = table or "orders", _unknown_part(reference)
    raise document.error(
        path,
        f"the {part} that {reference.text} reads cannot be determined, because a name in it is itself a reference; "
        f"declare the {part} in dependencies, such as dependencies: ['{example}.customer_id', '{example}.*'].",
    )


def _unknown_part(reference: Reference) -> str:
    return "table" if isinstance(reference.table, Reference) else "columns"
