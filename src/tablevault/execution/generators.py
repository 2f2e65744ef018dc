"""Generators: functions that yield the rows one after the other, and may begin where they were."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice

from tablevault.execution.filling import RowFilling
from tablevault.execution.table import RowTable, described
from tablevault.notes import add_note
from tablevault.ports import FunctionError


def run_generator(table: RowTable, values: object, passed_over: int, total: int | None, first: int) -> None:
    """Append what a generator yields to a table.

    Parameters
    ----------
    table
        What is there already: rows up to its length are filled.
    values
        What the function returned.
    passed_over
        How many of the first yields repeat rows that are there; they are compared and dropped.
    total
        How many rows there have to be in the end; `None` if the generator decides.
    first
        Position of the first row that the generator yields.
    """
    filling = RowFilling(table, lambda position: _blame(table, position), may_end=True)
    iterator = _iterator_of(table, values)
    for position in range(first, first + passed_over):
        if not _pass_over(table, iterator, filling, position):
            raise _wrong_count(table, position - first, (first + passed_over if total is None else total) - first)
    position = first + passed_over
    end = sys.maxsize if total is None else total
    while position < end:
        count = min(filling.most_rows, end - position)
        table.resize(max(position, len(table.filled)))
        taken = filling.fill(range(position, position + count), table.generator_fingerprint, islice(iterator, count))
        position += taken
        table.execution.owner.raise_if_stopped()
        if not taken:
            break
    _check_count(table, iterator, position, first, total)


def _pass_over(table: RowTable, iterator: Iterator[object], filling: RowFilling, position: int) -> bool:
    """Let a generator repeat a row that may be there. Return whether it did."""
    try:
        value = next(iterator)
    except StopIteration:
        return False
    except BaseException as error:
        add_note(error, _blame(table, position))
        raise FunctionError(error) from error
    cells = filling.read(value, position)
    if table.filled[position]:
        _compare_key(table, position, cells)
    else:
        table.keep(position, cells, table.generator_fingerprint)
    table.execution.owner.raise_if_stopped()
    return True


def _check_count(table: RowTable, iterator: Iterator[object], position: int, first: int, total: int | None) -> None:
    spec = table.spec
    if total is None:
        return
    if position < total:
        raise _wrong_count(table, position - first, total - first)
    try:
        next(iterator)
    except StopIteration:
        return
    except BaseException as error:
        add_note(error, _blame(table, position))
        raise FunctionError(error) from error
    raise ValueError(f"Builder '{spec.name}': {spec.python_function}() yielded more rows than the instance's {total}.")


def _wrong_count(table: RowTable, yielded: int, expected: int) -> ValueError:
    spec = table.spec
    return ValueError(
        f"Builder '{spec.name}': {spec.python_function}() yielded {yielded} rows, but {expected} were expected."
    )


def _iterator_of(table: RowTable, values: object) -> Iterator[object]:
    try:
        return iter(values)  # type: ignore[call-overload, no-any-return]
    except TypeError as error:
        raise TypeError(
            f"{described(table)} must return an iterator or be a generator function, "
            f"not return {type(values).__name__}."
        ) from error


def _blame(table: RowTable, position: int) -> str:
    return f"raised by {described(table)} after {position} rows"


def _compare_key(table: RowTable, position: int, cells: tuple[object, ...]) -> None:
    columns = table.spec.changed_columns
    for name in table.execution.primary_key:
        if name in columns:
            place = columns.index(name)
            before = table.columns[place][position]
            if cells[place] != before:
                raise ValueError(
                    f"Builder '{table.spec.name}', column '{name}', row {position}: the generator was started again "
                    f"to continue, but yields {cells[place]!r} where it had yielded {before!r}. Make it yield the same "
                    "rows each time, or let it take <<self>> and continue after the rows that are there."
                )
