"""Author, process and time of the computation of an instance."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from tablevault.execution.provenance import Provenance
from tablevault.values.contents import InstanceRecord


@dataclass(frozen=True)
class Maker:
    """The process that computed or wrote an instance."""

    process_id: str
    author: str
    made_at: datetime


def maker_of(instance: InstanceRecord, imported: Provenance | None) -> Maker:
    """Return the maker of an instance.

    Parameters
    ----------
    instance
        The instance; its record names the process that made it visible in this vault.
    imported
        Provenance of an imported instance, which names its maker in the vault that computed it. `None` for an instance
        of this vault, and for an imported one without metadata.
    """
    if imported is None:
        return Maker(instance.process_id, instance.author, instance.created_at)
    try:
        made_at = datetime.fromisoformat(imported.finished_at)
    except ValueError:  # The source is untrusted.
        made_at = instance.created_at
    return Maker(imported.process_id, imported.author, made_at if made_at.tzinfo else made_at.replace(tzinfo=UTC))
