"""Conversion of function results into cells of the declared types, with located errors."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tablevault.builders.spec import BuilderSpec
from tablevault.errors import TableVaultError
from tablevault.references import find_references
from tablevault.storage.columns import Column, build_column, normal_cells
from tablevault.storage.dtypes import (
    CellChecker,
    CellError,
    ColumnType,
    Kind,
    column_checker,
    holds_arrays,
    natural_type,
    unchanged_kinds,
)
from tablevault.storage.frames import (
    FrameData,
    cells_of_series,
    check_row_index,
    in_order_of_positions,
    is_plain_row_index,
    is_polars_frame,
    table_from_frame,
    with_nullable_types,
)
from tablevault.storage.mixtures import Mixture
from tablevault.storage.plain import NOT_THE_VALUES, array_items, is_missing, refusal, remedy, type_name
from tablevault.storage.vectors import ArrayChecker, natural_array

NameArtifact = Callable[[object], str]
"""Returns the file name held by a cell; raises `ValueError` if it is invalid."""

_MAXIMUM_LISTED = 20
_ROW_WISE = "A function that is called once per row, and returns a cell, needs 'return_type: row-wise'."


class RowReader:
    """Splits a function's result for a row into cells.

    It raises a plain `TypeError` or `ValueError` that names builder, column and row, so that the run pauses and can
    resume once the function is fixed.

    Parameters
    ----------
    spec
        The builder.
    artifact_name
        Returns the file name held by a cell.
    kept
        The existing cells of each column, which new cells must be compatible with.
    """

    def __init__(self, spec: BuilderSpec, artifact_name: NameArtifact, kept: Sequence[Sequence[object]] = ()) -> None:
        self._spec = spec
        self._columns = spec.changed_columns
        types = [spec.dtypes.get(column) for column in self._columns]
        self._mixtures = [Mixture(known) if _is_natural(known) else None for known in types]
        self._checkers = [
            _checker(known, artifact_name, mixture) for known, mixture in zip(types, self._mixtures, strict=True)
        ]
        for mixture, cells in zip(self._mixtures, kept, strict=False):
            if mixture is not None:
                mixture.add_kept(cells)
        self._unchanged = unchanged_kinds(types[0]) if len(types) == 1 else frozenset()

    @property
    def unchanged(self) -> frozenset[type]:
        """The types whose values are cells without conversion, by `unchanged_kinds`, and need no check.

        The set may grow with each row. It is empty for builders of several columns, whose results must be split.
        """
        mixture = self._mixtures[0]
        return self._unchanged if mixture is None or not self._unchanged else mixture.unchanged

    def read_together(self, value: object) -> Sequence[object] | None:
        """Convert a batch's array into cells of a single column, if possible."""
        check = self._checkers[0]
        return check.rows(value) if len(self._checkers) == 1 and isinstance(check, ArrayChecker) else None

    def read(self, value: object, row: int) -> tuple[object, ...]:
        """Return the cells of a function's result for the row at a position."""
        if len(self._checkers) == 1:
            if type(value) is tuple and len(value) == 1:
                value = value[0]
            return (self._cell(0, value, row),)
        return tuple([self._cell(place, cell, row) for place, cell in enumerate(self._cells(value, row))])

    def _cells(self, value: object, row: int) -> Sequence[object]:
        try:
            return _cells(value, self._spec)
        except NOT_THE_VALUES:
            raise
        except Exception as error:
            reason = refusal(value, error)
            kind = TypeError if isinstance(reason, TypeError) else ValueError
            raise kind(f"Builder '{self._spec.name}', row {row}: {reason}") from error

    def _cell(self, place: int, value: object, row: int) -> object:
        try:
            return self._checkers[place](value)
        except NOT_THE_VALUES:
            raise
        except Exception as error:
            refused = located(refusal(value, error), self._spec, self._columns[place], row)
            raise _with_hint_of_whole_columns(refused, self._spec, value) from error


class ForEachReader:
    """Splits a function's rows for an input row into cells.

    Parameters
    ----------
    spec, artifact_name
        As for `RowReader`.
    kept
        The existing nested cells of each column.
    """

    unchanged: frozenset[type] = frozenset()
    """Empty, since every result needs conversion."""

    def read_together(self, value: object) -> None:
        """Return `None`, since each row is read separately."""

    def __init__(self, spec: BuilderSpec, artifact_name: NameArtifact, kept: Sequence[Sequence[object]] = ()) -> None:
        self._spec = spec
        flat = [[cell for cells in column if isinstance(cells, list) for cell in cells] for column in kept]
        self._reader = RowReader(spec, artifact_name, flat)

    def read(self, value: object, row: int) -> tuple[object, ...]:
        """Return one list of cells per column from an input row's result."""
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence | np.ndarray | pd.Series):
            raise TypeError(
                f"Builder '{self._spec.name}', input row {row}: {self._spec.python_function}() must return a list of "
                f"rows, which may be empty, not {type(value).__name__}."
            )
        rows = [self._reader.read(item, row) for item in self._items(value, row)]
        return (
            tuple(list(column) for column in zip(*rows, strict=True))
            if rows
            else tuple([] for _ in self._spec.changed_columns)
        )

    def _items(self, value: Sequence[object] | np.ndarray[Any, Any] | pd.Series[Any], row: int) -> Sequence[object]:
        if not isinstance(value, pd.Series):
            return list(value)
        try:
            check_row_index(value.index)
            return cells_of_series(self._spec.changed_columns[0], value)
        except TableVaultError as error:
            raise ValueError(f"Builder '{self._spec.name}', input row {row}: {error}") from error


def _with_hint_of_whole_columns(
    error: TypeError | ValueError, spec: BuilderSpec, value: object
) -> TypeError | ValueError:
    """Add a hint on a whole-column argument if a row-wise function returned a frame."""
    if not spec.runs_by_row or not issubclass(type(value), pd.DataFrame | pd.Series):
        return error
    for name, argument in spec.arguments.items():
        for reference in find_references(argument):
            if reference.is_self and reference.columns is not None and not reference.conditions:
                place = f"{reference.text.removesuffix('>>').rstrip()}[index]>>"
                return type(error)(
                    f"{error}. The argument '{name}', {reference.text}, is the whole column; write {place} for the "
                    "cell of the current row."
                )
    return error


def _is_natural(column_type: ColumnType | None) -> bool:
    """Return whether the type of a column is inferred from its values."""
    return column_type is None or (column_type.kind is Kind.CATEGORY and pa.types.is_null(column_type.arrow.value_type))


def _checker(column_type: ColumnType | None, artifact_name: NameArtifact, mixture: Mixture | None) -> CellChecker:
    check = column_checker(column_type)
    if mixture is not None:
        add = mixture.add

        def check_beside_others(value: object) -> object:
            cell = check(value)
            add(cell)
            return cell

        return check_beside_others
    if column_type is None or column_type.kind is not Kind.ARTIFACT:
        return check

    def check_artifact(value: object) -> str | None:
        cell = check(value)
        return None if cell is None else artifact_name(cell)

    return check_artifact


def _cells(value: object, spec: BuilderSpec) -> Sequence[object]:
    columns = spec.changed_columns
    if isinstance(value, Mapping):
        return _cells_by_name(value, list(value), spec)
    if isinstance(value, pd.Series):
        if value.index.name is not None or not is_plain_row_index(value.index):
            return _cells_by_name(value, list(value.index), spec)
        value = list(cells_of_series(spec.name, in_order_of_positions(value, len(value))))
    names = _field_names(value)
    if names is not None and set(names) == set(columns) and len(names) == len(columns):
        return [value[names.index(column)] for column in columns]  # type: ignore[index]
    if isinstance(value, np.void) and names is not None:
        value = [value[name] for name in names]
    if isinstance(value, np.ndarray) and value.ndim:
        value = array_items(value)
    if not isinstance(value, list | tuple):
        raise TypeError(
            f"{spec.python_function}() must return a sequence or a mapping with "
            f"{len(columns)} values ({', '.join(columns)}), not {type(value).__name__}; {remedy(value)}."
        )
    if len(value) != len(columns):
        raise ValueError(
            f"{spec.python_function}() returned a sequence of length "
            f"{len(value)} for the {len(columns)} columns {', '.join(columns)}."
        )
    return value


def _cells_by_name(value: Any, names: list[object], spec: BuilderSpec) -> list[object]:
    columns = spec.changed_columns
    if len(names) != len(columns) or set(names) != set(columns):
        raise ValueError(
            f"{spec.python_function}() returned a {type_name(value)} with the keys "
            f"{sorted(map(str, names))}; its columns are {list(columns)}."
        )
    if isinstance(value, pd.Series):
        value = dict(zip(names, cells_of_series(spec.name, value), strict=True))
    return [value[column] for column in columns]


def _field_names(value: object) -> list[str] | None:
    """Return the field names of a named tuple or NumPy record."""
    if isinstance(value, np.void):
        return None if value.dtype.names is None else list(value.dtype.names)
    fields = getattr(value, "_fields", None) if isinstance(value, tuple) else None
    return list(fields) if isinstance(fields, tuple) and len(fields) == len(value) else None  # type: ignore[arg-type]


def located(error: TypeError | ValueError, spec: BuilderSpec, column: str, row: int) -> TypeError | ValueError:
    """Return the error with builder, column and row in its text."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"Builder '{spec.name}', column '{column}', row {row}: {error}")


def typed_column(spec: BuilderSpec, column: str, values: Sequence[object]) -> tuple[Column, ColumnType]:
    """Build a column of checked cells in its declared or natural type.

    Raises a located `ValueError`.
    """
    try:
        return build_column(values, spec.dtypes.get(column))
    except CellError as error:
        raise located(ValueError(str(error)), spec, column, error.position) from error


def normal_values(spec: BuilderSpec, column: str, values: Sequence[object]) -> Sequence[object]:
    """Return checked cells as they would be read back if the column were complete now."""
    try:
        built, column_type = build_column(values, spec.dtypes.get(column))
    except CellError:  # Some cells will be rejected when the column is complete.
        return values
    return normal_cells(values, built, column_type)


def misfits(spec: BuilderSpec, column: str, values: Sequence[object]) -> list[int]:
    """Return the rows whose cells cannot share a column with the other checked cells."""
    declared = spec.dtypes.get(column)
    try:
        build_column(values, declared)
        return []
    except CellError as error:
        first = next(value for value in values if value is not None)
        return [row for row, value in enumerate(values) if not _fit(first, value, declared)] or [error.position]


def _fit(first: object, value: object, declared: ColumnType | None) -> bool:
    try:
        build_column([first, value], declared)
    except CellError:
        return False
    return True


def read_frame_result(
    spec: BuilderSpec, value: object, row_count: int | None, artifact_name: NameArtifact
) -> FrameData:
    """Return the result of a `dataframe` function as a frame with the builder's column names.

    Parameters
    ----------
    spec
        The builder.
    value
        A frame of pandas, polars, pyarrow or Arrow's PyCapsule interface; a series, array or list for one column; a
        list of tuples or mappings, one per row, for several.
    row_count
        Required number of rows; `None` for an IndexBuilder.
    artifact_name
        Returns the file name held by a cell.
    """
    try:
        frame = _as_frame(spec, value, row_count)
        data = with_nullable_types(table_from_frame(frame, {**_natural_vectors(frame), **spec.dtypes}))
    except TableVaultError as error:
        raise ValueError(f"Builder '{spec.name}': {spec.python_function}() returned a wrong frame: {error}") from error
    if row_count is not None and len(data) != row_count:
        raise ValueError(
            f"Builder '{spec.name}': {spec.python_function}() returned {len(data)} rows; the instance has {row_count}."
        )
    return _with_checked_artifacts(spec, data, artifact_name)


def _natural_vectors(frame: object) -> dict[str, ColumnType]:
    """Return the vector types of array columns, as for row-wise results."""
    found: dict[str, ColumnType] = {}
    if isinstance(frame, pd.DataFrame):
        for place, name in enumerate(frame.columns):
            cells = frame.iloc[:, place].tolist() if frame.dtypes.iloc[place].kind == "O" else []
            there = [cell for cell in cells if isinstance(cell, np.ndarray) or not is_missing(cell)]
            arrays = [natural_array(cell) for cell in there]
            if arrays and not any(array is None for array in arrays):
                column_type = natural_type(arrays)
                if holds_arrays(column_type):
                    found[str(name)] = column_type
    return found


def _with_checked_artifacts(spec: BuilderSpec, data: FrameData, artifact_name: NameArtifact) -> FrameData:
    """Return a frame with normalized names of artifacts."""
    table = data.table
    for place, (name, column_type) in enumerate(data.types.items()):
        if column_type.kind is Kind.ARTIFACT:
            names: list[str | None] = []
            for row, cell in enumerate(table.column(place).to_pylist()):
                try:
                    names.append(None if cell is None else artifact_name(cell))
                except ValueError as error:
                    raise located(error, spec, name, row) from error
            table = table.set_column(place, table.schema.field(place), build_column(names, column_type)[0])
    return FrameData(table, data.types)


def _as_frame(spec: BuilderSpec, value: object, row_count: int | None) -> object:
    columns = list(spec.changed_columns)
    if isinstance(value, pd.Series) and len(columns) == 1:
        return in_order_of_positions(value.to_frame(columns[0]), row_count)
    if isinstance(value, np.ndarray | list | tuple) and len(columns) == 1:
        return pd.DataFrame({columns[0]: pd.Series(list(value), dtype=object)})
    if isinstance(value, list | tuple):
        return _frame_of_rows(spec, value)
    if isinstance(value, pd.DataFrame):
        return in_order_of_positions(_renamed(spec, value), row_count)
    if is_polars_frame(value):
        frame: Any = value
        _check_width(spec, frame.columns)
        by_name = set(frame.columns) == set(columns)
        return frame.select(columns) if by_name else frame.rename(dict(zip(frame.columns, columns, strict=True)))
    if hasattr(value, "__arrow_c_stream__"):
        try:
            table = pa.table(value)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise _not_a_frame(spec, value) from error
        _check_width(spec, table.column_names)
        by_name = set(table.column_names) == set(columns) and len(set(columns)) == table.num_columns
        return table.select(columns) if by_name else table.rename_columns(columns)
    raise _not_a_frame(spec, value)


def _frame_of_rows(spec: BuilderSpec, rows: Sequence[object]) -> pd.DataFrame:
    """Build a frame from rows that are tuples or mappings of its columns."""
    columns = list(spec.changed_columns)
    cells: list[Sequence[object]] = []
    for number, row in enumerate(rows):
        if isinstance(row, Mapping) and set(row) == set(columns):
            cells.append([row[name] for name in columns])
        elif isinstance(row, tuple | list) and len(row) == len(columns):
            cells.append(row)
        else:
            raise TypeError(
                f"Builder '{spec.name}', row {number}: {spec.python_function}() must return a DataFrame, or a list "
                f"that has for each row a tuple of {len(columns)} items or a mapping with the columns "
                f"{', '.join(columns)}; this row is {reprlib.repr(row)}. {_ROW_WISE}"
            )
    places = range(len(columns))
    return pd.DataFrame({columns[at]: pd.Series([row[at] for row in cells], dtype=object) for at in places})


def _not_a_frame(spec: BuilderSpec, value: object) -> TypeError:
    return TypeError(
        f"Builder '{spec.name}': {spec.python_function}() must return a DataFrame with the columns "
        f"{', '.join(spec.changed_columns)}, not {type(value).__name__}. {_ROW_WISE}"
    )


def _renamed(spec: BuilderSpec, frame: pd.DataFrame) -> pd.DataFrame:
    columns = list(spec.changed_columns)
    _check_width(spec, list(frame.columns))
    if set(frame.columns) == set(columns):
        return frame[columns]
    return frame.set_axis(columns, axis=1)


def _check_width(spec: BuilderSpec, returned: Sequence[object]) -> None:
    if len(returned) != len(spec.changed_columns):
        more = ", …" if len(returned) > _MAXIMUM_LISTED else ""
        listed = (
            f"with the columns {', '.join(map(str, returned[:_MAXIMUM_LISTED]))}{more}"
            if returned
            else "without columns"
        )
        raise ValueError(
            f"Builder '{spec.name}': {spec.python_function}() returned a frame {listed}; expected as many as "
            f"changed_columns, which are {', '.join(spec.changed_columns)}."
        )
