"""The computed cells of an unfinished execution, read without its builders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from tablevault.builders.document import read_document
from tablevault.errors import TableVaultError
from tablevault.execution.frame import DraftFrame
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.storage import files
from tablevault.storage.checkpoints import BuilderState, read_checkpoints
from tablevault.storage.dtypes import CellError, Column, ColumnType, build_column, json_type, parse_dtype
from tablevault.storage.frames import read_frame


def declared_types(builder_files: Iterable[Path]) -> dict[str, ColumnType]:
    """Return the dtypes declared in builder files; unreadable files are ignored."""
    types = {}
    for path in builder_files:
        try:
            declared = read_document(files.read_text(path), path.name).fields.get("dtypes")
            texts = declared if isinstance(declared, dict) else {}
            found = {name: parse_dtype(text) for name, text in texts.items() if isinstance(text, str)}
        except (TableVaultError, ValueError, TypeError):
            continue
        types.update({name: column_type for name, column_type in found.items() if column_type is not None})
    return types


def read_partial(checkpoints: Path, artifacts: Path, types: Mapping[str, ColumnType]) -> DraftFrame:
    """Return the columns in a folder of checkpoints, with nulls in missing cells.

    Parameters
    ----------
    checkpoints
        The folder of the checkpoints; a running process may be appending to them.
    artifacts
        The folder of the files named by cells.
    types
        The declared types of columns.
    """
    frame = DraftFrame(InstanceArtifacts(artifacts))
    stored = read_checkpoints(checkpoints)
    for builder in stored.builders():
        state = stored.load(builder)
        if state is None:
            continue
        if state.frame is not None:
            data = read_frame(state.frame.path)
            frame.row_count = max(frame.row_count, len(data))
            for name, column_type in data.types.items():
                frame.put(name, data.table.column(name), column_type)
        else:
            if state.is_nested:
                state = _flattened(state)
            frame.row_count = max(frame.row_count, max(state.positions, default=-1) + 1)
            _put_rows(frame, state, types)
    return frame


def _flattened(state: BuilderState) -> BuilderState:
    """Return the rows made from input rows, in the order of the input rows."""
    values = tuple([cell for cells in column if isinstance(cells, list) for cell in cells] for column in state.values)
    return replace(state, positions=list(range(len(values[0]) if values else 0)), values=values)


def _put_rows(frame: DraftFrame, state: BuilderState, types: Mapping[str, ColumnType]) -> None:
    for name, known in zip(state.columns, state.values, strict=True):
        cells: list[object] = [None] * frame.row_count
        for position, cell in zip(state.positions, known, strict=True):
            cells[position] = cell
        column, column_type = _shown_column(cells, types.get(name))
        frame.put(name, column, column_type, cells)


def _shown_column(cells: list[object], declared: ColumnType | None) -> tuple[Column, ColumnType]:
    """Return a column for cells that may lack their builder, or have one that now declares another type."""
    for column_type in (declared, None, json_type()):
        with contextlib.suppress(CellError):
            return build_column(cells, column_type)
    return build_column([None if cell is None else str(cell) for cell in cells], json_type())
