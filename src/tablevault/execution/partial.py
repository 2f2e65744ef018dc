"""The computed cells of an unfinished execution, read without its builders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tablevault.builders.document import read_document
from tablevault.errors import TableVaultError
from tablevault.execution.frame import DraftFrame
from tablevault.execution.unfinished import UnfinishedRows
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.storage import files
from tablevault.storage.dtypes import CellError, Column, ColumnType, build_column, json_type, parse_dtype


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


def read_partial(rows: UnfinishedRows, artifacts: Path, types: Mapping[str, ColumnType]) -> DraftFrame:
    """Return the columns of an unfinished execution, with nulls in missing cells.

    Parameters
    ----------
    rows
        Its rows.
    artifacts
        The folder of the files named by cells.
    types
        The declared types of columns.
    """
    frame = DraftFrame(InstanceArtifacts(artifacts), rows.row_count)
    for builder, state in rows.states.items():
        for place, name in enumerate(state.columns):
            stored = rows.stored(builder, place)
            if stored is not None:
                frame.put(name, *stored)
            else:
                cells = rows.values(builder, place)
                frame.put(name, *_shown_column(cells, types.get(name)), cells)
    return frame


def _shown_column(cells: list[object], declared: ColumnType | None) -> tuple[Column, ColumnType]:
    """Return a column for cells that may lack their builder, or have one that now declares another type."""
    for column_type in (declared, None, json_type()):
        with contextlib.suppress(CellError):
            return build_column(cells, column_type)
    return build_column([None if cell is None else str(cell) for cell in cells], json_type())
