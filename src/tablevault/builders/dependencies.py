"""What a builder reads: columns of the instance being built, and other tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tablevault.builders.document import BuilderDocument, Path
from tablevault.builders.spec import ALL_COLUMNS, SELF, BuilderSpec
from tablevault.errors import TableReferenceError, TableVaultError
from tablevault.references import Dependencies, Dependency, Literal, Reference, dependencies


@dataclass(frozen=True)
class BuilderReads:
    """What a builder reads, as far as it is known before anything runs."""

    own_columns: Mapping[str, Path]
    """Columns of the instance being built that it names, each with the first field or item that does."""
    reads_whole_self: bool
    """Whether it also reads all columns of the instance being built, as bare `<<self>>` does."""
    places: Mapping[Dependency, Path]
    """Other tables, with the columns that are read, each with the first field or item that names it."""

    @property
    def tables(self) -> tuple[Dependency, ...]:
        """Other tables, with the columns that are read, in the order of the file."""
        return tuple(self.places)


def column_dependencies(spec: BuilderSpec) -> BuilderReads:
    """Return what a builder reads: by its references, and by its `dependencies`.

    Raises
    ------
    TVBuilderError
        If the name of a table or column is itself a reference, and `dependencies` does not say what it stands for.
    """
    return document_dependencies(spec.document)


def document_dependencies(document: BuilderDocument) -> BuilderReads:
    """Return what a builder file reads; its fields need not be resolved for that."""
    declared = _declared(document)
    found: list[tuple[Path, Dependency]] = []
    for path, value in _values_with_references(document):
        reads: Dependencies = dependencies(value)
        found.extend((path, read) for read in reads.reads)
        for reference in reads.undecided:
            _check_declared(document, path, reference, declared.values())
    found.extend(declared.items())
    own = [(path, read) for path, read in found if read.table == SELF]
    places: dict[Dependency, Path] = {}
    for path, read in found:
        if read.table != SELF:
            places.setdefault(read, path)
    return BuilderReads(
        own_columns={column: path for path, read in reversed(own) for column in read.columns or ()},
        reads_whole_self=any(read.columns is None for _, read in own),
        places=places,
    )


def dependency_error(
    document: BuilderDocument, path: Path, dependency: Dependency, message: str, name: str | None = None
) -> TableVaultError:
    """Return the error that says what is wrong with what a builder reads.

    Parameters
    ----------
    document, path
        The builder file, and the field or item that names what is read.
    dependency
        What is read.
    message
        What is wrong with it.
    name
        The part of a reference that is to be marked; `None`: its table.
    """
    error = dependency.error(message, name)
    if error is None:
        return document.error(path, f"'{dependency.text}' cannot be read: {message}")
    return TableReferenceError(f"{document.place(*path)}:\n{error}")


def _values_with_references(document: BuilderDocument) -> Iterator[tuple[Path, object]]:
    for name, value in document.fields.items():
        if name == "arguments" and isinstance(value, dict):
            for argument, content in value.items():
                yield (name, argument), content
        elif name not in ("dependencies", "builder_type"):
            yield (name,), value


def _declared(document: BuilderDocument) -> dict[Path, Dependency]:
    entries = document.fields.get("dependencies", [])
    assert isinstance(entries, list)
    declared: dict[Path, Dependency] = {}
    for position, entry in enumerate(entries):
        table, _, column = entry.partition(".")
        columns = None if column == ALL_COLUMNS else frozenset({column})
        declared["dependencies", position] = Dependency(table=table, instance=None, columns=columns, text=entry)
    return declared


def _check_declared(
    document: BuilderDocument, path: Path, reference: Reference, declared: Iterable[Dependency]
) -> None:
    """Refuse a reference whose table or column nobody can know, unless `dependencies` names it."""
    table = reference.table.value if isinstance(reference.table, Literal) else None
    if any(table is None or entry.table == table for entry in declared):
        return
    example = table or "orders"
    raise document.error(
        path,
        f"which {_unknown_part(reference)} {reference.text} reads cannot be read off it, because a name in it is "
        f"itself a reference; say it in dependencies, such as dependencies: ['{example}.customer_id', '{example}.*'].",
    )


def _unknown_part(reference: Reference) -> str:
    return "table" if isinstance(reference.table, Reference) else "columns"
