"""A vault at a glance: its newest tables, their newest instances, and the active processes."""

from __future__ import annotations

from collections.abc import Iterable

from tablevault.records import Overview, ProcessInfo
from tablevault.state.context import VaultContext

_MOST_TABLES = 20
"""Tables that are shown, the newest; `get_tables()` has all."""


def read_overview(context: VaultContext, processes: Iterable[ProcessInfo]) -> Overview:
    """Return a vault as it is now."""
    contents = context.catalog.contents
    tables = contents.tables()
    shown = tuple((table, contents.newest(table.table_id)) for table in tables[-_MOST_TABLES:])
    return Overview(context.layout.root, context.author, len(tables), shown, tuple(processes))
