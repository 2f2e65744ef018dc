"""Tools that write, and tools that change code.

Each is one operation of the vault, under the client's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from tablevault.errors import TVArgumentError
from tablevault.mcp.access import Access
from tablevault.mcp.answers import Answer, answer
from tablevault.presentation.processes import ProcessDetail, read_process
from tablevault.vault import TableVault

_MAXIMUM_ROWS, _MAXIMUM_VERSIONS = 1_000, 1_000
MAXIMUM_SECONDS = 50.0
"""That `wait_run` waits: no client's time limit is shorter."""
_ENDED = ("succeeded", "reverted", "stopped", "paused")


class WritingTools:
    """The tools of the levels above reading.

    Parameters
    ----------
    access
        The vault.
    acting
        Returns the vault that the operations of the calling client are made in.
    """

    def __init__(self, access: Access, acting: Callable[[], TableVault]) -> None:
        self._access = access
        self._acting = acting

    def tag(self, tag: str, tables: list[str], move: bool = False) -> Answer:
        """Tag instances (addresses, one per table), so that they stay; move takes the tag from other instances."""
        for address in tables:
            self._access.address(address)
        return answer(facts={"process_id": self._acting().create_tag(tag, tables, move=move)})

    def write_rows(self, table: str, rows: list[dict[str, Any]], create: bool = False, version: str = "base") -> Answer:
        """Write at most 1,000 rows as a new instance, which replaces the earlier ones; create makes the table."""
        name = self._access.table(table)
        if not 0 < len(rows) <= _MAXIMUM_ROWS:
            raise TVArgumentError(f"write_rows takes 1 to {_MAXIMUM_ROWS:,} rows, not {len(rows):,}.")
        acting = self._acting()
        if not create:
            acting.get_descriptions(table_name=name)  # which raises for a table that is missing
        return answer(facts={"process_id": acting.write(name, pd.DataFrame(rows).convert_dtypes(), version=version)})

    def start_run(self, tables: list[str], version: str = "base", process_id: str = "") -> Answer:
        """Execute the temporary instances of tables in the background; the same call with the id resumes it."""
        named = list(map(self._access.table, tables))
        new_id = process_id or self._access.process_ids.take()
        started = self._acting().refresh(named, version=version, upstream=False, process_id=new_id, background=True)
        return answer(facts={"process_id": started, "next": "wait_run"})

    def retry_failed(self, table: str, process_id: str = "") -> Answer:
        """Compute the failed and skipped rows of an instance (address) again, in the background."""
        address = self._access.address(table)
        started = self._acting().retry_failed(
            address.table_name,
            address.instance_id,
            address.version,
            process_id=process_id or self._access.process_ids.take(),
            background=True,
        )
        return answer(facts={"process_id": started, "next": "wait_run"})

    def stop_run(self, id: str, materialize: bool = False) -> Answer:
        """Stop a paused process, or a running one of the background; materialize keeps its rows as an instance."""
        info = self._access.process(id)
        in_background = self._access.vault._listings().is_in_background(id)
        if info.status == "running" and not in_background:
            raise TVArgumentError(
                f"Process '{id}' runs in an interpreter of a user, which an agent does not interrupt; "
                "its user can stop it."
            )
        self._acting().stop_process(id, force=info.status == "running", materialize=materialize)
        return answer(facts={"process": read_process(self._access.vault, id, self._access.rates).line})

    def progress(self, id: str) -> tuple[bool, ProcessDetail]:
        """Return whether a process has come to an end or a pause, and its state."""
        self._access.process(id)
        detail = read_process(self._access.vault, id, self._access.rates)
        return detail.line.status in _ENDED, detail

    def write_code(self, module: str, text: str) -> Answer:
        """Write a code module: Python that builders call. To run it is to run any program as the user."""
        return answer(facts={"process_id": self._acting().create_code_module(module, text=text)})

    def write_builders(self, table: str, files: dict[str, str], version: str = "base") -> Answer:
        """Write builder files (name: YAML) into the temporary instance; table and instance are made if missing."""
        name = self._access.table(table)
        if not files:
            raise TVArgumentError("files is empty. Pass a mapping of builder names to their YAML text.")
        acting = self._acting()
        done = [acting.create_table(name, exist_ok=True)] if name not in acting.get_tables() else []
        temporary = acting._listings().instances(name, True, "", _MAXIMUM_VERSIONS)
        if not any(line.version == version for line in temporary):
            done.append(acting.create_instance(name, version, copy=True))
        for builder, text in files.items():
            done.append(acting.create_builder_file(name, builder, version, text=text))
        return answer(facts={"process_ids": done, "next": "start_run"})
