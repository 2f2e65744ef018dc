"""Compilation of references into closures.

Names are looked up and checked once, and rows are found through indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from tablevault.errors import TableReferenceError
from tablevault.names import nearest
from tablevault.references.coerce import INDEX_TYPE, Coerce, coercion_into, describe
from tablevault.references.compiled import Compiled, Evaluate, once
from tablevault.references.conditions import Key, Matching, Position, SameValues, Within, matcher
from tablevault.references.lookup import Lookups
from tablevault.references.parser import (
    INDEX,
    SELF,
    Between,
    Condition,
    CurrentRow,
    Equals,
    Literal,
    Operand,
    Reference,
)
from tablevault.references.results import (
    cell_at_current_row,
    cells_of,
    cells_with_value,
    data_frame,
    rows_of,
    whole_column,
)
from tablevault.references.tokenizer import Place, reference_error

FindLookups: TypeAlias = Callable[[str, str | None], Lookups]
"""Returns the lookups of a table and instance; raises `LookupError` like `FrameSource`."""


class Resolver:
    """Compiles references against the frames of one source.

    Parameters
    ----------
    find_lookups
        Provides the lookups of frames.
    frames_are_cells
        Whether a reference without conditions yields one cell as itself and one column as a list.
    """

    def __init__(self, find_lookups: FindLookups, *, frames_are_cells: bool) -> None:
        self._find_lookups = find_lookups
        self._frames_are_cells = frames_are_cells

    def resolve(self, reference: Reference) -> Compiled:
        """Compile a reference.

        Raises
        ------
        TableReferenceError
            If a literal name does not exist, or a literal value does not fit its column.
        """
        if reference.is_position:
            return Compiled(lambda row: row, is_constant=False)
        if any(isinstance(name, Reference) for name in reference.names()):
            evaluate = self._with_names_brought_in(reference)
        else:
            evaluate = self._with_known_names(reference)
        if any(nested.means_current_row for nested in reference.nested()):
            found = self._column_row_by_row(reference)
            if found is None:
                return Compiled(evaluate, is_constant=False)
            lookups, column = found
            if column == INDEX:
                return Compiled(evaluate, False, lambda: lookups.column(column))
            frame = lookups.frame
            column_type, kinds = partial(frame.arrow_type, column), partial(frame.kinds, column)
            return Compiled(evaluate, False, lambda: lookups.column_by_row(column), column_type, kinds)
        return once(lambda: evaluate(None))

    def _column_row_by_row(self, reference: Reference) -> tuple[Lookups, str] | None:
        """Return the column of `<<table.column[index]>>`; `None` for any other reference."""
        if any(isinstance(name, Reference) for name in reference.names()):
            return None
        match reference.conditions:
            case (CurrentRow(Literal(value=column)),) if column == INDEX:
                pass
            case _:
                return None
        lookups = self._lookups(reference)
        columns = self._columns(reference, lookups)
        return (lookups, columns[0]) if len(columns) == 1 else None

    def _with_known_names(self, reference: Reference) -> Evaluate:
        lookups = self._lookups(reference)
        columns = self._columns(reference, lookups)
        matchings = _combined(lookups, [self._condition(reference, lookups, item) for item in reference.conditions])
        if not matchings:
            if self._frames_are_cells and len(columns) == 1:
                return lambda _: whole_column(lookups, columns[0])
            return lambda _: data_frame(lookups, columns, None)
        if len(columns) == 1 and len(matchings) == 1:
            return self._one_column_one_matching(reference, lookups, columns[0], matchings[0])
        match = matcher(matchings)
        shape = cells_of(lookups, columns[0]) if len(columns) == 1 else rows_of(lookups, columns)
        return lambda row: shape(match(row))

    def _one_column_one_matching(
        self, reference: Reference, lookups: Lookups, column: str, matching: Matching
    ) -> Evaluate:
        """Return the fastest closure, as these references may run for millions of rows."""
        if isinstance(matching, Position) and isinstance(reference.conditions[0], CurrentRow):
            return cell_at_current_row(lookups, column)
        if isinstance(matching, SameValues) and len(matching.keys) == 1:
            return cells_with_value(lookups, column, matching)
        shape = cells_of(lookups, column)
        return lambda row: shape(matching.candidates(row))

    def _with_names_brought_in(self, reference: Reference) -> Evaluate:
        """Compile a reference once per combination of names from its inner references."""
        if isinstance(reference.table, Literal):
            self._lookups(reference)
        # References in values are compiled too, so that their errors are raised now.
        compiled = {
            operand: self._inner(reference, operand)
            for operand in reference.operands()
            if isinstance(operand, Reference)
        }
        names = [operand for operand in reference.names() if isinstance(operand, Reference)]
        known: dict[tuple[str, ...], Evaluate] = {}

        def evaluate(row: int | None) -> object:
            found = tuple([_name(reference, operand, compiled[operand].evaluate(row)) for operand in names])
            if found not in known:
                known[found] = self._with_known_names(_renamed(reference, dict(zip(names, found, strict=True))))
            return known[found](row)

        return evaluate

    def _inner(self, outer: Reference, inner: Reference) -> Compiled:
        """Compile a nested reference, which must yield one value."""
        if not inner.conditions and not inner.is_position and not self._frames_are_cells:
            raise reference_error(
                f"{inner.text} has no condition and so is a DataFrame; expected one value, as with a condition such "
                "as [index::0]",
                outer.place,
                inner.place,
            )
        return self.resolve(inner)

    def _lookups(self, reference: Reference) -> Lookups:
        table, instance = _written(reference.table), None
        fault = reference.table.place
        if reference.instance is not None:
            instance = _written(reference.instance)
            fault = Place(fault.source, fault.start, reference.instance.place.end)
        try:
            return self._find_lookups(table, instance)
        except LookupError as error:
            # Not str(error), which adds quotes for a KeyError.
            message = str(error.args[0]) if error.args else f"there is no table {table!r}"
            raise reference_error(message, reference.place, fault) from error

    def _columns(self, reference: Reference, lookups: Lookups) -> tuple[str, ...]:
        if reference.columns is None:
            return tuple(lookups.frame.column_names)
        columns = tuple([_known_column(reference, lookups, operand) for operand in reference.columns])
        for position, column in enumerate(columns):
            if column in columns[:position]:
                message = f"column {column!r} is named twice"
                raise reference_error(message, reference.place, reference.columns[position].place)
        return columns

    def _condition(self, reference: Reference, lookups: Lookups, condition: Condition) -> Matching:
        match condition:
            case CurrentRow():
                key = self._key(reference, lookups, condition.column, None)
            case Equals():
                key = self._key(reference, lookups, condition.column, condition.value)
            case Between():
                start = self._key(reference, lookups, condition.column, condition.start)
                return Within(lookups, start, self._key(reference, lookups, condition.column, condition.end))
        return Position(key, len(lookups.frame)) if key.column == INDEX else SameValues(lookups, (key,))

    def _key(self, reference: Reference, lookups: Lookups, operand: Operand, value: Operand | None) -> Key:
        """Compile the value to compare a column with; `None` means the row position."""
        column = _known_column(reference, lookups, operand)

        def fault(message: str) -> TableReferenceError:
            return reference_error(message, reference.place, operand.place)

        try:
            coercion = coercion_into(INDEX_TYPE if column == INDEX else lookups.frame.arrow_type(column))
        except ValueError as error:
            raise fault(str(error)) from error

        def coerce(found: object, how: Coerce = coercion.coerce) -> object:
            try:
                return how(found)
            except ValueError as error:
                place = operand.place if value is None else value.place
                raise reference_error(f"{error}, as column {column!r} needs", reference.place, place) from error

        if value is None:
            return Key(column, lambda row: row, coerce, coercion.exact, fault)
        if isinstance(value, Literal):
            constant = coerce(value.value, coercion.written)
            return Key(column, lambda _: constant, lambda found: found, coercion.exact, fault)
        inner = self._inner(reference, value)
        if inner.is_constant:
            coerced = once(lambda: coerce(inner.evaluate(None)))
            return Key(column, coerced.evaluate, lambda found: found, coercion.exact, fault)
        return Key(column, inner.evaluate, coerce, coercion.exact, fault)


def _combined(lookups: Lookups, matchings: Sequence[Matching]) -> list[Matching]:
    """Order conditions from most to least selective; all equalities share one index."""
    positions: list[Matching] = [matching for matching in matchings if isinstance(matching, Position)]
    ranges = [matching for matching in matchings if isinstance(matching, Within)]
    keys = tuple(key for matching in matchings if isinstance(matching, SameValues) for key in matching.keys)
    return [*positions, *([SameValues(lookups, keys)] if keys else []), *ranges]


def _known_column(reference: Reference, lookups: Lookups, operand: Operand) -> str:
    column = _written(operand)
    known = lookups.frame.column_names
    if column != INDEX and column not in known:
        table = _written(reference.table)
        message = f"there is no column {column!r} in {table!r}{nearest(column, known)}"
        raise reference_error(message, reference.place, operand.place)
    return column


def _written(operand: Operand) -> str:
    assert isinstance(operand, Literal)
    return operand.value


def _name(reference: Reference, inner: Reference, value: object) -> str:
    """Return the result of an inner reference, which must be a name."""
    if not isinstance(value, str):
        message = f"{inner.text} is {describe(value)}; expected the name of a table, an instance or a column"
        raise reference_error(message, reference.place, inner.place)
    if value in (SELF, INDEX):
        message = f"{inner.text} evaluates to {value!r}, which is reserved; expected another name"
        raise reference_error(message, reference.place, inner.place)
    return value


def _renamed(reference: Reference, names: dict[Reference, str]) -> Reference:
    """Replace inner references by their resulting names; errors still point to the former."""

    def written(operand: Operand) -> Operand:
        return Literal(names[operand], operand.place) if isinstance(operand, Reference) else operand

    return replace(
        reference,
        table=written(reference.table),
        columns=None if reference.columns is None else tuple(map(written, reference.columns)),
        conditions=tuple(replace(condition, column=written(condition.column)) for condition in reference.conditions),
    )
