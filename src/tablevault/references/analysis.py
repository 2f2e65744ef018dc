"""Static analysis of the references in builder values, before evaluation."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from tablevault.errors import TableReferenceError
from tablevault.references.parser import INDEX, CurrentRow, Literal, Reference, is_name, parse
from tablevault.references.tokenizer import Place, reference_error

MAXIMUM_NESTING = 100
"""Maximum nesting depth of lists and dicts in a value."""
MAXIMUM_ITEMS = 1_000_000
"""Maximum number of items in a value, including those of nested lists and dicts."""


_ROW_WISE = ", or 'return_type: row-wise' in the builder for a function that is called once per row"


class Placement(enum.Enum):
    """Place of a value in a builder, which determines the meaning of its references."""

    ROW_ARGUMENT = "arguments of a row-wise function"
    """With a current row and an instance being built."""
    ARGUMENT = "arguments of a dataframe or generator function"
    """With an instance being built, but no current row."""
    FIELD = "fields other than arguments"
    """With neither; one cell counts as the cell, one column as a list."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """Table and columns read by one reference."""

    table: str
    """Name of the table, or `self`."""
    instance: str | None
    """Instance id or version; `None` for the newest active instance."""
    columns: frozenset[str] | None
    """The columns, including those in conditions but not the pseudo-column `index`; `None` for all."""
    text: str
    """Text of the reference."""
    reference: Reference | None = field(default=None, compare=False, repr=False)
    """The parsed reference; `None` for an entry of `dependencies`."""

    def error(self, message: str, name: str | None = None) -> TableReferenceError | None:
        """Return an error that marks a name in the reference, or else its table.

        Returns `None` without a reference.
        """
        if self.reference is None:
            return None
        conditions = (condition.column for condition in self.reference.conditions)
        named = [self.reference.instance, *(self.reference.columns or ()), *conditions]
        marked = next((part for part in named if isinstance(part, Literal) and part.value == name), None)
        return reference_error(message, self.reference.place, (marked or self.reference.table).place)


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The inputs of all references in a value."""

    reads: tuple[Dependency, ...]
    """The known inputs, in text order. If only some columns are unknown, the known ones are listed."""
    undecided: tuple[Reference, ...]
    """References whose table or columns are themselves references."""


def find_references(value: object) -> tuple[Reference, ...]:
    """Return all references in a builder's value in text order, outer before nested.

    Parameters
    ----------
    value
        A string, a scalar, or lists and dicts of values. Keys of dicts cannot contain references.

    Raises
    ------
    TableReferenceError
        If a reference is malformed, or the value is too large or contains itself.
    """
    return tuple(
        nested for text in _strings(value) for reference in parse(text).references for nested in reference.nested()
    )


def dependencies(value: object) -> Dependencies:
    """Return the tables and columns read by the references in a value."""
    references = find_references(value)
    return Dependencies(
        tuple(read for reference in references if (read := _read(reference)) is not None),
        tuple(reference for reference in references if any(isinstance(name, Reference) for name in reference.names())),
    )


def check_placement(value: object, *, where: Placement) -> None:
    """Raise `TableReferenceError` if a reference in a value is meaningless at its place."""
    for reference in find_references(value):
        if where is Placement.FIELD and reference.is_self:
            raise reference_error(
                "'self' is available only in 'arguments'; use the name of a table",
                reference.place,
                reference.table.place,
            )
        if where is not Placement.ROW_ARGUMENT and reference.means_current_row:
            raise reference_error(
                "the current row is available only in 'arguments' of row-wise functions; expected a condition with a "
                "value here, such as [index::0]" + _ROW_WISE * (where is Placement.ARGUMENT),
                reference.place,
                _place_of_current_row(reference),
            )


def _strings(value: object) -> Iterator[str]:
    """Yield the strings in a value, in order."""
    pending: list[tuple[object, int]] = [(value, 0)]
    items = 0
    while pending:
        current, depth = pending.pop()
        items += 1
        if depth > MAXIMUM_NESTING or items > MAXIMUM_ITEMS:
            raise TableReferenceError(
                f"a value contains itself, is nested more than {MAXIMUM_NESTING} deep or has more than "
                f"{MAXIMUM_ITEMS:,} items; make it smaller, or read it from a file in the function"
            )
        if isinstance(current, str):
            yield current
        elif isinstance(current, dict):
            pending += [(item, depth + 1) for item in reversed(current.values())]
        elif isinstance(current, list | tuple):
            pending += [(item, depth + 1) for item in reversed(current)]


def _read(reference: Reference) -> Dependency | None:
    """Return the known inputs of a reference; `None` if its table is unknown."""
    table, instance = reference.table, reference.instance
    if not isinstance(table, Literal):
        return None
    columns = None if reference.columns is None else frozenset(_known_columns(reference))
    return Dependency(table.value, None if instance is None else instance.value, columns, reference.text, reference)


def _known_columns(reference: Reference) -> Iterator[str]:
    for operand in (*(reference.columns or ()), *(condition.column for condition in reference.conditions)):
        if isinstance(operand, Literal) and not is_name(operand, INDEX):
            yield operand.value


def _place_of_current_row(reference: Reference) -> Place:
    for condition in reference.conditions:
        if isinstance(condition, CurrentRow):
            return condition.column.place
    return reference.place
