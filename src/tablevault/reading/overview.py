"""Overview of a vault's newest tables and instances, and its active processes."""

from __future__ import annotations

from collections.abc import Iterable

from tablevault.records import Overview, ProcessInfo
from tablevault.state.context import VaultContext

_MAXIMUM_TABLES = 20
"""Number of newest tables to show; `get_tables()` returns all."""


def read_overview(context: VaultContext, processes: Iterable[ProcessInfo]) -> Overview:
    """Return an overview of a vault's current state."""
    contents = context.catalog.contents
    tables = contents.tables()
    shown = tuple((table, contents.newest(table.table_id)) for table in tables[-_MAXIMUM_TABLES:])
    return Overview(context.layout.root, context.author, len(tables), shown, tuple(processes))
