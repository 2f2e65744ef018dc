"""Newest instances as of an earlier moment, by the catalog's commit order."""

from __future__ import annotations

from datetime import datetime

from tablevault import names
from tablevault.errors import TVArgumentError, TVProcessError, TVTableError
from tablevault.state.lookup import Lookup
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.plans import StopPlan
from tablevault.values.processes import ProcessRecord, Status


class Moments:
    """Finds positions in commit order, and the newest instances up to them.

    Parameters
    ----------
    lookup
        Reader of the vault.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._contents = lookup.contents
        self._processes = lookup.context.catalog.processes

    def place(self, as_of: datetime | str) -> int:
        """Return the row id of the last instance committed by a moment.

        The moment may be a process's end.

        The clock only selects the commit of a moment, which is the last one recorded no later.

        Raises
        ------
        TVArgumentError
            If the time has no offset from UTC or is text, or the process committed nothing.
        TVProcessError
            If the process id is unknown.
        """
        if isinstance(as_of, datetime):
            if as_of.utcoffset() is None:
                raise TVArgumentError(
                    f"as_of is {as_of.isoformat()}, a time without an offset from UTC. Give one with an offset, as in "
                    "datetime(2026, 11, 1, 12, tzinfo=UTC)."
                )
            return self._contents.place_at(as_of)
        try:
            return self._place_of(self._lookup.process(as_of))
        except TVProcessError:
            _check_not_time(as_of)
            raise

    def newest(
        self, table: TableRecord, version: str, as_of: datetime | str, successful_only: bool = False
    ) -> InstanceRecord:
        """Return the newest instance of a version as of a moment, active or not.

        Raises
        ------
        TVArgumentError
            If the table or version had no instance at that moment.
        TVTableError
            If the instance has been deleted since.
        """
        place = self.place(as_of)
        found = self._contents.newest_until(table.table_id, version, place, successful_only)
        if found is None:
            kind = "successful instance" if successful_only else "instance"
            raise TVArgumentError(f"Table '{table.name}' had no {kind} of version '{version}' as of {_shown(as_of)}.")
        if self._contents.instance(table.table_id, found.instance_id) is None:
            raise TVTableError(
                f"Instance '{found.instance_id}', the newest one of version '{version}' of table '{table.name}' as of "
                f"{_shown(as_of)}, was deleted{self._deleted_by(found)}. get_lineage still shows it where it was read."
            )
        return found

    def _place_of(self, record: ProcessRecord) -> int:
        # A stop and the stopped process share one commit.
        committed = record.plan.serial if isinstance(record.plan, StopPlan) else record.serial
        made = self._contents.place_of(committed)
        if made is not None:
            return made
        if record.status not in (Status.SUCCEEDED, Status.COMMITTING):
            raise TVArgumentError(
                f"Process '{record.process_id}' ({record.operation}) is {record.status} and committed nothing, so "
                "it cannot be used as as_of."
            )
        return self._contents.place_after(record.serial)

    def _deleted_by(self, instance: InstanceRecord) -> str:
        """Return a clause on the process that deleted an instance; empty if unrecorded."""
        wanted = {"operation": "delete_instance", "instance_id": instance.instance_id, "status": str(Status.SUCCEEDED)}
        for record in self._processes.history(wanted, 1):
            when = f" on {_shown(record.ended_at)}" if record.ended_at is not None else ""
            return f"{when} by process '{record.process_id}' of {record.author}"
        return ""


def check_no_id(instance_id: str, as_of: datetime | str | None) -> None:
    """Raise `TVArgumentError` if a call gives both an instance and a moment."""
    if not instance_id or as_of is None:
        return
    if names.is_temporary(instance_id):
        raise TVArgumentError(f"Instance {instance_id!r:.100} is temporary and has no history. Omit as_of.")
    raise TVArgumentError(f"Instance {instance_id!r:.100} does not depend on as_of. Give either the instance or as_of.")


def _shown(as_of: datetime | str) -> str:
    return f"process '{as_of}'" if isinstance(as_of, str) else f"{as_of:%Y-%m-%d %H:%M:%S%z}"


def _check_not_time(text: object) -> None:
    """Raise `TVArgumentError` if a text, which is no process id, is a date or time."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return
    if moment is not None:
        written = _with_offset(moment)
        raise TVArgumentError(
            f"There is no process '{text}'. To give a time, write it with its offset from UTC, such as {written}; in "
            f"Python, as datetime.fromisoformat('{written}')."
        )


def _with_offset(moment: datetime) -> str:
    """Return a time in ISO 8601, in UTC if it has no offset."""
    written = moment.isoformat(timespec="auto" if moment.second or moment.microsecond else "minutes")
    return written if moment.utcoffset() is not None else f"{written}Z"


def parse_moment(text: str) -> datetime | str:
    """Parse an ISO 8601 moment with its UTC offset, or a process id.

    A process id has no colon.

    Raises
    ------
    TVArgumentError
        If the text is neither.
    """
    if ":" not in text:
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise TVArgumentError(f"'{text}' is not a time in ISO 8601, such as 2026-11-01T12:00Z ({error}).") from None
    if moment.utcoffset() is None:
        raise TVArgumentError(f"'{text}' has no offset from UTC; write {text}Z for UTC.")
    return moment
