"""Tables for display, as an overview of a vault or one table with its instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tablevault import names
from tablevault.presentation.instances import builder_texts
from tablevault.presentation.processes import ProcessLine, active_of, process_lines
from tablevault.records import TableStatus

if TYPE_CHECKING:
    from tablevault.reading.listings import InstanceLine, TableLine
    from tablevault.vault import TableVault

_ENDED = 20
"""Number of ended processes in an overview."""


@dataclass(frozen=True)
class Overview:
    """An overview of a vault."""

    root: str
    description: str
    tables: tuple[TableLine, ...]
    begins_after: str
    """The last table of the previous page; empty for the first page."""
    after: str
    """The last table of this page, if there are more."""
    active: tuple[ProcessLine, ...]
    ended: tuple[ProcessLine, ...]
    statuses: Mapping[str, TableStatus] = field(default_factory=dict)
    """The known states of tables."""

    @property
    def has_statuses(self) -> bool:
        """Whether the states of all its tables are known."""
        return all(table.table_name in self.statuses for table in self.tables)

    @property
    def is_running(self) -> bool:
        """Whether it changes without a user's action."""
        return any(process.status != "paused" for process in self.active)


@dataclass(frozen=True)
class TableDetail:
    """A table with its instances."""

    table_name: str
    description: str
    author: str
    created: str
    allow_multiple_artifacts: bool
    has_side_effects: bool
    temporary: tuple[InstanceLine, ...]
    instances: tuple[InstanceLine, ...]
    before: str
    """The last instance of this page, if there are older ones."""
    builders: Mapping[str, str]
    """Texts of the builders of its temporary instance of version `base`, else of its newest instance."""
    builders_of: str
    """The instance whose builders these are."""
    processes: tuple[ProcessLine, ...]
    """Its active processes."""
    status: TableStatus | None = None
    """Its state, if known."""

    @property
    def is_running(self) -> bool:
        """Whether it changes without a user's action."""
        return any(process.status != "paused" for process in self.processes)


def read_overview(vault: TableVault, after: str, most: int) -> Overview:
    """Return a vault with a page of its tables."""
    tables = vault._listings().tables(after, most + 1)
    active = process_lines(vault.get_active_processes().values())
    names_of_active = {process.process_id for process in active}
    recent = process_lines(vault.get_history(limit=_ENDED + len(active)))
    ended = [process for process in recent if process.process_id not in names_of_active][:_ENDED]
    return Overview(
        vault.db_dir,
        str(vault.get_descriptions().get("description") or ""),
        tuple(tables[:most]),
        after,
        tables[most - 1].table_name if len(tables) > most else "",
        tuple(reversed(active)),
        tuple(ended),
    )


def read_table(vault: TableVault, table_name: str, before: str, most: int) -> TableDetail:
    """Return a table with a page of its instances."""
    facts = vault.get_descriptions(table_name=table_name)
    name = facts["table"]
    listings = vault._listings()
    temporary = listings.instances(name, True, "", most)
    instances = listings.instances(name, False, before, most + 1)
    shown = next(
        (item for item in temporary if item.instance_id == names.temporary_instance_id(names.DEFAULT_VERSION)),
        instances[0] if instances else None,
    )
    builders = {} if shown is None or before else builder_texts(vault, name, shown.instance_id)
    return TableDetail(
        name,
        facts["description"],
        facts["author"],
        facts["created"],
        facts["allow_multiple_artifacts"],
        facts["has_side_effects"],
        tuple(temporary),
        tuple(instances[:most]),
        instances[most - 1].instance_id if len(instances) > most else "",
        builders,
        shown.instance_id if builders and shown is not None else "",
        active_of(vault, name),
    )
