"""All reads of a catalog, for comparing two of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import product

import msgspec

from tablevault.errors import TableVaultError
from tablevault.names import fold
from tablevault.values.contents import Selection, TagRecord
from tablevault.values.processes import Creation, EndedProcess, Lock, ProcessRecord, Status

NAMES = ("stories", "Stories", "novels", "poems")
VERSIONS = ("base", "Base", "other")
TEMPORARY = ("TEMP_base", "TEMP_Base", "TEMP_other")
MATERIALIZED = ("base_1", "base_2", "base_3", "base_4", "Base_1", "other_1")
TAGS = ("paper", "Paper", "draft")
IDS = ("mine", "Mine", "yours")
RESOURCES = ("code", "table/stories", "table/stories/instance/base_1", "table/stories/instance", "table/novels")
PATHS = ("stories", "stories/base_1", "novels", "poems")
WANTED = [
    *([Lock(resource, exclusive)] for resource, exclusive in product(RESOURCES, (True, False))),
    [Lock("table/novels", True), Lock("code", False), Lock("code", True)],
    [],
]


@dataclass
class Known:
    """The numbers that two catalogs have given, which must be equal, and times."""

    serials: list[int] = field(default_factory=list)
    tables: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    moments: list[datetime] = field(default_factory=list)

    def newest(self, most: int) -> Known:
        """Return the numbers and times given last, and one of each that was not given yet."""
        kinds = (self.serials, self.tables, self.rows)
        return Known(*([*(kind[-most:] or [0]), max(kind, default=0) + 1] for kind in kinds), self.moments[-most:])


def outcome(call):
    """Return the result of a call, or the class of its exception."""
    try:
        return call()
    except (TableVaultError, OSError) as error:
        return type(error)


def comparable(value):
    """Return a result without what may differ between catalogs."""
    if isinstance(value, ProcessRecord):
        # The SQL catalog does not return the tables of creations.
        creates = tuple(Creation(item.location, item.instance_id) for item in value.plan.creates)
        return replace(value, plan=msgspec.structs.replace(value.plan, creates=creates))
    if isinstance(value, EndedProcess):
        # Places only have an order.
        return comparable(value.record)
    if isinstance(value, list) and value and isinstance(value[0], TagRecord):
        keys = [(fold(item.tag), fold(item.table_name)) for item in value]
        assert keys == sorted(keys)
        # A deleted table, which operations delete only without tags, may have the name of another one.
        return sorted(value, key=lambda item: (fold(item.tag), fold(item.table_name), item.table_id))
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return value


def places_of(catalog):
    """Return the positions in the order of ends, which grow but need not be equal."""
    return [place for place, _ in catalog.processes.ended_after(0)]


def reads(catalog, known):
    """Yield each read with its name and arguments."""
    for name, read, *arguments in (
        *_reads_of_contents(catalog.contents, known),
        *_reads_of_processes(catalog.processes, known),
        *_reads_of_steps(catalog.tidying, known),
    ):
        yield (name, *arguments), comparable(outcome(partial(read, *arguments)))
    yield "identity", catalog.identity()
    yield "faults", catalog.faults()
    yield from _reads_by_place(catalog, known)


def _reads_by_place(catalog, known):
    places = places_of(catalog)
    assert places == sorted(set(places))
    for number, place in list(enumerate(places))[-3:]:
        yield ("ended_after", number), comparable(catalog.processes.ended_after(place))


def _reads_of_contents(contents, known):
    yield "tables", contents.tables
    yield "current", contents.current
    yield "input_pairs", contents.input_pairs
    yield "origins", contents.origins
    yield "services", contents.services
    yield "failure_counts", contents.failure_counts
    yield "failure_counts", contents.failure_counts, known.rows
    yield "tags", contents.tags
    yield "tags", partial(contents.tags, row_ids=known.rows)
    yield "share_artifacts", contents.share_artifacts, known.tables
    yield "newest_listed", contents.newest_listed, known.tables
    for name in NAMES:
        yield "table", contents.table, name
        yield "listed_tables", contents.listed_tables, name, 2
        yield "side_effects_by", contents.side_effects_by, name
        for instance_id in ("base_1", "@PAPER"):
            yield "select", contents.select, Selection(name, instance_id, "base")
        for active, successful in product((True, False), (True, False)):
            yield "select", contents.select, Selection(name, "", "base", active, successful)
    for version in VERSIONS:
        yield "newest_successful", contents.newest_successful, version
    for instance_id in (*TEMPORARY, *MATERIALIZED):
        yield "instance_named", contents.instance_named, instance_id
    for tag in TAGS:
        yield "tagged_instances", contents.tagged_instances, tag
        yield "tagged_instances", contents.tagged_instances, tag, known.tables
    for moment in known.moments:
        yield "place_at", contents.place_at, moment
    for table_id in known.tables[-2:]:
        # Not for all tables, because these statements are compiled each time.
        yield "newest_until", contents.newest_until, table_id, "base", known.rows[-1], True
        yield "instance_ids", contents.instance_ids, table_id, None, False
        yield "instance_ids", contents.instance_ids, table_id, "base", True, known.rows[-2]
    yield "tags", partial(contents.tags, tag="PAPER", table_id=known.tables[0])
    yield "tags", partial(contents.tags, row_id=known.rows[0])
    for table_id in known.tables:
        yield from _reads_of_table(contents, table_id, known)
    for row_id in known.rows:
        yield "instance_by_row", contents.instance_by_row, row_id
        yield "reads_of", contents.reads_of, row_id
        yield "readers_of", contents.readers_of, row_id
        yield "confirmed_inputs", contents.confirmed_inputs, row_id
    for serial in known.serials:
        yield "place_of", contents.place_of, serial
        yield "place_after", contents.place_after, serial


def _reads_of_table(contents, table_id, known):
    yield "table_by_id", contents.table_by_id, table_id
    yield "instances", contents.instances, table_id
    yield "instance_folders", contents.instance_folders, table_id
    for instance_id in (*TEMPORARY, *MATERIALIZED):
        yield "instance", contents.instance, table_id, instance_id
    for tag in TAGS:
        yield "tagged", contents.tagged, table_id, tag
    for temporary in (True, False):
        yield "instances", contents.instances, table_id, "base", temporary
        yield "listed_instances", contents.listed_instances, table_id, temporary, None, 2
        yield "listed_instances", contents.listed_instances, table_id, temporary, known.rows[-1], 9
    yield "newest", contents.newest, table_id
    yield "newest", contents.newest, table_id, None, False, True
    for version in (*VERSIONS, "BASE"):
        yield "newest", contents.newest, table_id, version, False
        yield "version_like", contents.version_like, table_id, version
        yield "newest_until", contents.newest_until, table_id, version, known.rows[-2]


def _reads_of_processes(processes, known):
    yield "begun", processes.begun
    yield "unfinished", processes.unfinished
    yield "waiting", processes.waiting, known.serials
    yield "ids_of", processes.ids_of, known.serials
    yield "locks_of_each", processes.locks_of_each, known.serials
    yield "ended", processes.ended_after, 0
    yield "history", processes.history, {}, 99
    yield "history", processes.history, {"status": Status.SUCCEEDED.value, "author": "me"}, 2, known.serials[-1]
    for process_id in IDS:
        yield "find", processes.find, process_id
        yield "check_id_is_free", processes.check_id_is_free, process_id
    for path in PATHS:
        yield "created", processes.created, path
    for wanted in WANTED:
        yield "conflicts", processes.conflicts, wanted, None
        yield "conflicts", processes.conflicts, wanted, known.serials[-1]
    for serial in known.serials:
        yield "get", processes.get, serial
        yield "get_now", processes.get_now, serial
        yield "may_go_on", processes.may_go_on, serial, 1
        yield "children", processes.children, serial
        yield "begun_inside", processes.begun_inside, serial
        yield "locks_of", processes.locks_of, serial
        yield "is_ancestor", processes.is_ancestor, known.serials[0], serial
        yield "is_ancestor", processes.is_ancestor, serial, known.serials[-2]


def _reads_of_steps(steps, known):
    yield "failed", steps.failed
    yield "processes_with_failed", steps.processes_with_failed
    yield "pending_moves", lambda: dict(steps.pending_moves())
    for serial in known.serials:
        # Ids of steps may differ.
        yield "of", lambda serial: [step for _, step in steps.of(serial)], serial
