"""What functions return: taken apart into cells, checked against the declared types, located when it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from tablevault.builders.spec import BuilderSpec
from tablevault.errors import TableVaultError
from tablevault.storage.columns import Column, build_column
from tablevault.storage.dtypes import CellChecker, CellError, ColumnType, Kind, cell_checker, unchanged_kinds
from tablevault.storage.frames import FrameData, table_from_frame, with_nullable_types
from tablevault.storage.plain import NOT_THE_VALUES, refusal

ReadRow = Callable[[object, int], tuple[object, ...]]
"""Takes what a function returned for the row at a position apart into cells."""

NameArtifact = Callable[[object], str]
"""Returns the name of the file that a cell stands for; raises `ValueError` if it stands for none."""

_MOST_LISTED = 20


def row_reader(spec: BuilderSpec, artifact_name: NameArtifact) -> ReadRow:
    """Return how the rows of a builder are read.

    What it raises is a plain `TypeError` or `ValueError` that names builder, column and row: the function can be
    mended, and a paused run goes on.

    Parameters
    ----------
    spec
        The builder.
    artifact_name
        Returns the name of the file that a cell stands for.
    """
    checkers = [_checker(spec.dtypes.get(column), artifact_name) for column in spec.changed_columns]
    return _single_reader(spec, checkers[0]) if len(checkers) == 1 else _multiple_reader(spec, checkers)


def unchanged_types(spec: BuilderSpec) -> frozenset[type]:
    """Return the types of values that are cells as they are, so that nothing has to look at them.

    Text is among them where text without characters beyond ASCII is a cell as it is. Empty for builders of several
    columns, whose values have to be taken apart.
    """
    if len(spec.changed_columns) != 1:
        return frozenset()
    return unchanged_kinds(spec.dtypes.get(spec.changed_columns[0]))


def _checker(column_type: ColumnType | None, artifact_name: NameArtifact) -> CellChecker:
    check = cell_checker(column_type)
    if column_type is None or column_type.kind is not Kind.ARTIFACT:
        return check

    def check_artifact(value: object) -> str | None:
        cell = check(value)
        return None if cell is None else artifact_name(cell)

    return check_artifact


def _single_reader(spec: BuilderSpec, check: CellChecker) -> ReadRow:
    column = spec.changed_columns[0]

    def read(value: object, row: int) -> tuple[object, ...]:
        if type(value) is tuple and len(value) == 1:
            value = value[0]
        try:
            return (check(value),)
        except NOT_THE_VALUES:
            raise
        except Exception as error:
            raise located(refusal(value, error), spec, column, row) from error

    return read


def _multiple_reader(spec: BuilderSpec, checkers: Sequence[CellChecker]) -> ReadRow:
    columns = spec.changed_columns

    def read(value: object, row: int) -> tuple[object, ...]:
        cells = []
        for column, check, cell in zip(columns, checkers, _cells(value, spec, row), strict=True):
            try:
                cells.append(check(cell))
            except NOT_THE_VALUES:
                raise
            except Exception as error:
                raise located(refusal(cell, error), spec, column, row) from error
        return tuple(cells)

    return read


def _cells(value: object, spec: BuilderSpec, row: int) -> Sequence[object]:
    columns = spec.changed_columns
    if isinstance(value, Mapping):
        if set(value) != set(columns):
            raise ValueError(
                f"Builder '{spec.name}', row {row}: {spec.python_function}() returned a mapping with the keys "
                f"{sorted(map(str, value))}; its columns are {list(columns)}."
            )
        return [value[column] for column in columns]
    if isinstance(value, pd.Series | np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise TypeError(
            f"Builder '{spec.name}', row {row}: {spec.python_function}() must return a sequence or a mapping with "
            f"{len(columns)} values ({', '.join(columns)}), not {type(value).__name__}."
        )
    if len(value) != len(columns):
        raise ValueError(
            f"Builder '{spec.name}', row {row}: {spec.python_function}() returned a sequence of length "
            f"{len(value)} for the {len(columns)} columns {', '.join(columns)}."
        )
    return value


def located(error: TypeError | ValueError, spec: BuilderSpec, column: str, row: int) -> TypeError | ValueError:
    """Return the error with builder, column and row in its text."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"Builder '{spec.name}', column '{column}', row {row}: {error}")


def typed_column(spec: BuilderSpec, column: str, values: Sequence[object]) -> tuple[Column, ColumnType]:
    """Return a column of checked cells in its declared or natural type; raises a located `ValueError`."""
    try:
        return build_column(values, spec.dtypes.get(column))
    except CellError as error:
        raise located(ValueError(str(error)), spec, column, error.position) from error


def misfits(spec: BuilderSpec, column: str, values: Sequence[object]) -> list[int]:
    """Return the rows whose cells make it impossible to have all checked cells in one column."""
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
    """Return what a `dataframe` function returned, with the builder's column names.

    Parameters
    ----------
    spec
        The builder.
    value
        A frame of pandas, polars, pyarrow or Arrow's PyCapsule interface; a series, array or list for one column.
    row_count
        How many rows it has to have; `None` for an IndexBuilder.
    artifact_name
        Returns the name of the file that a cell stands for.
    """
    frame = _as_frame(spec, value)
    try:
        data = with_nullable_types(table_from_frame(frame, spec.dtypes))
    except TableVaultError as error:
        raise ValueError(f"Builder '{spec.name}': {spec.python_function}() returned a wrong frame: {error}") from error
    if row_count is not None and len(data) != row_count:
        raise ValueError(
            f"Builder '{spec.name}': {spec.python_function}() returned {len(data)} rows; the instance has {row_count}."
        )
    return _with_checked_artifacts(spec, data, artifact_name)


def _with_checked_artifacts(spec: BuilderSpec, data: FrameData, artifact_name: NameArtifact) -> FrameData:
    """Return a frame whose artifacts go by the one form of their names."""
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


def _as_frame(spec: BuilderSpec, value: object) -> object:
    columns = list(spec.changed_columns)
    if isinstance(value, pd.Series | np.ndarray | list | tuple) and len(columns) == 1:
        values = value if isinstance(value, pd.Series) else list(value)
        series = pd.Series(values, dtype=None if isinstance(value, pd.Series) else object)
        return pd.DataFrame({columns[0]: series.reset_index(drop=True)})
    if isinstance(value, pd.DataFrame):
        return _renamed(spec, value.reset_index(drop=True))
    if hasattr(value, "__arrow_c_stream__"):
        import pyarrow as pa

        table = pa.table(value)
        _check_width(spec, table.column_names)
        by_name = set(table.column_names) == set(columns) and len(set(columns)) == table.num_columns
        return table.select(columns) if by_name else table.rename_columns(columns)
    raise TypeError(
        f"Builder '{spec.name}': {spec.python_function}() must return a DataFrame with the columns "
        f"{', '.join(columns)}, not {type(value).__name__}."
    )


def _renamed(spec: BuilderSpec, frame: pd.DataFrame) -> pd.DataFrame:
    columns = list(spec.changed_columns)
    _check_width(spec, list(frame.columns))
    if set(frame.columns) == set(columns):
        return frame[columns]
    return frame.set_axis(columns, axis=1)


def _check_width(spec: BuilderSpec, returned: Sequence[object]) -> None:
    if len(returned) != len(spec.changed_columns):
        more = ", …" if len(returned) > _MOST_LISTED else ""
        listed = (
            f"with the columns {', '.join(map(str, returned[:_MOST_LISTED]))}{more}" if returned else "without columns"
        )
        raise ValueError(
            f"Builder '{spec.name}': {spec.python_function}() returned a frame {listed}; there have to be as many as "
            f"changed_columns, which are {', '.join(spec.changed_columns)}."
        )
