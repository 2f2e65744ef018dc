"""Cache of the states of tables, valid until the vault changes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tablevault.errors import TableVaultError
from tablevault.records import TableStatus

if TYPE_CHECKING:
    from tablevault.vault import TableVault


class Statuses:
    """Determines the states of tables once per generation of the catalog.

    Parameters
    ----------
    vault
        The vault.
    """

    def __init__(self, vault: TableVault) -> None:
        self._vault = vault
        self._generation = -1
        self._found: dict[str, TableStatus] = {}
        self._lock = threading.Lock()
        self._asking = threading.Lock()

    def known(self, table_names: Sequence[str]) -> dict[str, TableStatus]:
        """Return the cached states, without waiting."""
        generation = self._vault._listings().generation()
        with self._lock:
            if generation != self._generation:
                self._generation, self._found = generation, {}
            return {name: self._found[name] for name in table_names if name in self._found}

    def of(self, table_names: Sequence[str]) -> dict[str, TableStatus]:
        """Return the states of tables."""
        with self._asking:
            known = self.known(table_names)
            generation = self._generation
            missing = [name for name in table_names if name not in known]
            found = self._read(missing) if missing else {}
            with self._lock:
                if self._generation == generation:
                    self._found.update(found)
        return {**known, **found}

    def _read(self, table_names: Sequence[str]) -> dict[str, TableStatus]:
        try:
            read = self._vault.get_status(list(table_names))
        except TableVaultError as error:
            # One table is invalid, for example part of a cycle; the others must not get its error.
            if len(table_names) > 1:
                return {name: status for one in table_names for name, status in self._read([one]).items()}
            return {table_names[0]: TableStatus("unknown", (str(error),), "", (), ())}
        return {name: read[name] for name in table_names if name in read}
