"""The tables that a client may see, and the author that it acts as."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from tablevault import names
from tablevault.display.progress import Rates
from tablevault.errors import TVArgumentError, TVProcessError, TVTableError
from tablevault.presentation.process_ids import ProcessIds
from tablevault.records import ProcessInfo
from tablevault.values.addresses import Address, parse_address

if TYPE_CHECKING:
    from tablevault.vault import TableVault

_UNKNOWN_CLIENT = "agent"
_AT_ONCE = 51
"""Processes that are read at once."""


class Access:
    """A vault as the tools of one server use it.

    Parameters
    ----------
    vault
        The vault.
    tables
        The only tables that there are for the client; empty for all.
    """

    def __init__(self, vault: TableVault, tables: Collection[str] = ()) -> None:
        self.vault = vault
        self.rates = Rates()
        self.process_ids = ProcessIds(vault, "mcp")
        self._allowed = {names.fold(name): name for name in map(names.check_table_name, tables)}
        self._acting: dict[str, TableVault] = {}

    @property
    def is_limited(self) -> bool:
        """Whether there are tables that the client does not see."""
        return bool(self._allowed)

    def sees(self, table_name: str) -> bool:
        """Return whether there is a table of this name for the client, if there is one."""
        return not self._allowed or names.fold(table_name) in self._allowed

    def table(self, name: str) -> str:
        """Return the name of a table; raise `TVTableError` if the client does not see it."""
        if not self.sees(name):
            raise TVTableError(f"There is no table '{name}'{names.nearest(name, list(self._allowed.values()))}")
        return name

    def address(self, text: str) -> Address:
        """Return the selection of an address; raise `TVTableError` if its table is hidden from the client."""
        found = parse_address(text)
        self.table(found.table_name)
        return found

    def process(self, process_id: str) -> ProcessInfo:
        """Return a process; raise `TVProcessError` if it is missing or hidden."""
        if not self.is_limited:
            return self.vault.get_process(process_id)
        info = self._process_or_none(process_id)
        # The same for a process that is not there: the nearest ids could be those of other tables.
        if info is None or not self.sees_process(info):
            raise TVProcessError(f"There is no process '{process_id}'; list_processes lists them.")
        return info

    def _process_or_none(self, process_id: str) -> ProcessInfo | None:
        try:
            return self.vault.get_process(process_id)
        except TVProcessError:
            return None

    def sees_process(self, info: ProcessInfo) -> bool:
        """Return whether all tables of a process and of its steps are tables of the client."""
        if not self.is_limited:
            return True
        named = [info.table_name] if info.table_name else []
        given = info.arguments.get("table_names")
        named += given if isinstance(given, list) else [given] if isinstance(given, str) else []
        return (
            bool(named)
            and all(self.sees(parse_address(name).table_name) for name in named)
            and all(map(self.sees_process, self.vault._listings().children(info.process_id)))
        )

    def processes(self, table_name: str, status: str) -> Iterator[ProcessInfo]:
        """Return the processes that the client sees, newest first."""
        before = None
        while True:
            found = self.vault._listings().history({"table_name": table_name, "status": status}, before, _AT_ONCE)
            yield from filter(self.sees_process, found.values())
            if len(found) < _AT_ONCE:
                return
            before = min(found)

    def check_statement(self, statement: str) -> None:
        """Raise `TVTableError` if a statement names a table that the client does not see."""
        if not self._allowed:
            return
        for schema, name in self.vault._tables_named_in(statement):
            if schema == "vault":
                raise TVArgumentError(
                    "The schema 'vault' describes the whole vault, and this server shows only some of its tables."
                )
            self.address(name)

    # --- acting ---------------------------------------------------------------------------------------------------

    def acting(self, client: str) -> TableVault:
        """Return the vault for operations, whose author says which client they come from."""
        name = client or _UNKNOWN_CLIENT
        if name not in self._acting:
            vault = self.vault
            self._acting[name] = vault._for_author(f"{vault.author} via {name}")
        return self._acting[name]
