"""Tables derived by SQL."""

from __future__ import annotations

import pandas as pd

from tablevault.names import fold, nearest
from tablevault.sql_engine.engine import Engine, Tables
from tablevault.sql_engine.gate import read_names
from tablevault.storage.files import remove_tree, scratch_folder
from tablevault.storage.frames import table_from_frame, to_pandas
from tablevault.storage.sql_frames import frame_of, memory_table, warn_of_differences

__all__ = ["select"]


def select(query: str, **frames: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of an SQL statement over the given frames (`return_type: dataframe`).

    Parameters
    ----------
    query
        One read-only statement in DuckDB's dialect; its only tables are the other arguments.
    frames
        The tables.
    """
    given = {}
    for name, frame in frames.items():
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"The argument {name!r} of select must be a frame, such as <<{name}>>, not {frame!r:.100}.")
        given[fold(name)] = memory_table(table_from_frame(frame, {}))
    found = {}
    for table in read_names(query, ()):
        if fold(table.name) not in given:
            raise LookupError(f"The query names {table.name!r}, which is not an argument{nearest(table.name, frames)}")
        found[table.name] = given[fold(table.name)]
        warn_of_differences(table.name, found[table.name].columns)
    spill = scratch_folder()
    try:
        engine = Engine((), "", str(spill))
        try:
            return to_pandas(frame_of(engine.run(query, Tables(frames=found))))
        finally:
            engine.close()
    finally:
        remove_tree(spill)
