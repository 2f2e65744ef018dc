"""Instances that lineages refer to, including deleted ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tablevault.execution.provenance import in_catalog, read_provenance
from tablevault.reading.metadata_folders import MetadataFolders
from tablevault.state.lookup import Lookup
from tablevault.values.contents import InstanceRecord


def with_needed(
    lookup: Lookup, metadata: MetadataFolders, instances: Iterable[InstanceRecord]
) -> dict[int, InstanceRecord]:
    """Return instances and all inputs and origins in their lineages, by row id.

    Parameters
    ----------
    lookup, metadata
        Find instances and their metadata.
    instances
        The instances.
    """
    known = {item.row_id: item for item in instances}
    waiting = list(known.values())
    while waiting:
        for row_id in _named_by(lookup, metadata, waiting.pop()):
            found = lookup.contents.instance_by_row(row_id) if row_id not in known else None
            if found is not None and not found.temporary:
                known[row_id] = found
                waiting.append(found)
    return known


def _named_by(lookup: Lookup, metadata: MetadataFolders, instance: InstanceRecord) -> Iterator[int]:
    yield from (read.input_row_id for read in lookup.contents.reads_of(instance.row_id))
    if instance.origin is not None:
        yield instance.origin
    folder = metadata.of(lookup.table_by_id(instance.table_id), instance)
    if folder is None:
        return
    origin = in_catalog(read_provenance(folder.provenance), lookup.contents).origin
    if origin is not None:
        yield origin.row_id
