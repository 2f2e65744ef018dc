"""Interface of the layers above to frames in memory, on disk and in references."""

from __future__ import annotations

from tablevault.storage.frame_cells import cells_of_column, cells_of_frame, cells_of_series
from tablevault.storage.frame_data import (
    FrameData,
    check_row_index,
    frame_of_columns,
    in_order_of_positions,
    is_plain_row_index,
    is_polars,
    is_polars_frame,
    table_from_frame,
    to_arrow,
    to_pandas,
    to_polars,
    with_artifact_folder,
    with_nullable_types,
)
from tablevault.storage.frame_files import (
    FrameRecord,
    StoredColumn,
    check_frame,
    read_frame,
    read_schema,
    stored_columns,
    whole_frame,
    write_frame,
)
from tablevault.storage.reference_frames import MemoryFrame, StoredFrame, UnreadColumn

__all__ = [
    "FrameData",
    "FrameRecord",
    "MemoryFrame",
    "StoredColumn",
    "StoredFrame",
    "UnreadColumn",
    "cells_of_column",
    "cells_of_frame",
    "cells_of_series",
    "check_frame",
    "check_row_index",
    "frame_of_columns",
    "in_order_of_positions",
    "is_plain_row_index",
    "is_polars",
    "is_polars_frame",
    "read_frame",
    "read_schema",
    "stored_columns",
    "table_from_frame",
    "to_arrow",
    "to_pandas",
    "to_polars",
    "with_artifact_folder",
    "with_nullable_types",
    "whole_frame",
    "write_frame",
]
