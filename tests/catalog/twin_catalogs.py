"""A SQLite catalog and one in memory that get the same calls and are compared after each."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import pytest
from catalog_reads import Known, comparable, reads
from made_changes import START

from tablevault.catalog import sqlite_catalog
from tablevault.catalog.sql import codec
from tablevault.errors import TableVaultError
from tablevault.testing import MemoryCatalog
from tablevault.testing.memory import state
from tablevault.values.changes import Remaining
from tablevault.values.processes import Begun, EndedProcess

RECENT = 3
"""How many of the newest processes, tables and instances are read after each call. `compare_all` reads all."""


class Clock:
    """The time that both catalogs record."""

    present = START

    @classmethod
    def now(cls, zone):
        """Return the same time until the clock is set."""
        return cls.present


class InterruptedCall(Exception):
    """Error of a function that a catalog calls."""


class Twins:
    """Two catalogs, in a temporary folder and in memory, with the same content."""

    def __init__(self):
        self._open = ExitStack()
        folder = self._open.enter_context(tempfile.TemporaryDirectory())
        patch = self._open.enter_context(pytest.MonkeyPatch.context())
        Clock.present = START
        for module in (codec, state):
            patch.setattr(module, "datetime", Clock)
        self._elsewhere = self._open.enter_context(ThreadPoolExecutor(1))
        """Reads the newest state while this thread is in a snapshot."""
        self.sql, self.memory = self.both = sqlite_catalog(Path(folder) / "catalog.db"), MemoryCatalog()
        self._open.callback(self.sql.close)
        for catalog in self.both:
            catalog.create("vault", START.isoformat())
        self._generations = [[0], [0]]
        """Different generations of each catalog in their order, which is all that they mean."""
        self._looks = 0
        self._snapshot = ExitStack()
        self._pinned = None
        """Arguments and results of the reads when the snapshot was opened."""
        self.known = Known(moments=[START])
        self.records = []
        """Processes as they were read once; some have changed since."""
        self.steps = {}
        """Ids of steps in memory, by process and id in SQL; some are done since. SQLite gives ids again."""
        self._look()

    def close(self):
        """Release the folder and the clock."""
        self._snapshot.close()
        self._open.close()

    @property
    def is_pinned(self):
        """Whether this thread is in a snapshot."""
        return self._pinned is not None

    # --- the same calls -------------------------------------------------------------------------------------------

    def call(self, act):
        """Make a call on both catalogs; return its result, if it raised nothing."""
        outcomes = [_outcome(act, catalog) for catalog in self.both]
        shown = [self._in_thread(_shown, *pair) for pair in zip(self.both, outcomes, strict=True)]
        assert shown[0] == shown[1], f"{shown[0]} where memory has {shown[1]}"
        self._look()
        return None if isinstance(outcomes[1], type) else outcomes[1]

    def open_snapshot(self):
        """Open a snapshot in this thread, unless there is one."""
        if self._pinned is None:
            for catalog in self.both:
                self._snapshot.enter_context(catalog.snapshot())
            known = self.known.newest(RECENT)
            found = [_pinned_reads(catalog, known) for catalog in self.both]
            assert found[0][:-1] == found[1][:-1]
            self._pinned = known, found

    def close_snapshot(self):
        """Close the snapshot of this thread."""
        self._snapshot.close()
        self._pinned = None
        self._compare(self.known.newest(RECENT))

    # --- comparing ------------------------------------------------------------------------------------------------

    def compare_all(self):
        """Compare all reads of all objects."""
        self._in_thread(self._compare, self.known.newest(99))

    def _look(self):
        """Compare the newest states, and those of the snapshots, which must not change."""
        self._looks += 1
        self._in_thread(self._note)
        self._in_thread(self._compare, self.known.newest(RECENT), self._looks % 4 > 0)
        if self._pinned is not None:
            known, found = self._pinned
            for catalog, expected in zip(self.both, found, strict=True):
                assert _pinned_reads(catalog, known) == expected
            now = [[comparable(catalog.processes.get_now(serial)) for serial in known.serials] for catalog in self.both]
            assert now[0] == now[1]

    def _compare(self, known, is_in_snapshot=False):
        with ExitStack() as snapshots:
            if is_in_snapshot:  # Most of the time, because it is faster.
                for catalog in self.both:
                    snapshots.enter_context(catalog.snapshot())
            self._compare_reads(known)
            self._compare_generations()

    def _compare_reads(self, known):
        for found, expected in zip_longest(*(reads(catalog, known) for catalog in self.both)):
            assert found == expected, f"{found} where memory has {expected}"

    def _compare_generations(self):
        for catalog, seen in zip(self.both, self._generations, strict=True):
            generation = catalog.contents.generation()
            assert generation >= seen[-1]
            if generation > seen[-1]:
                seen.append(generation)
        assert len(self._generations[0]) == len(self._generations[1])

    def _note(self):
        """Note the objects of the newest state, which is the same in both."""
        contents, processes = self.memory.contents, self.memory.processes
        records = processes.history({}, 99)[::-1]
        self.known.serials = [record.serial for record in records]
        self.known.tables = [number for number in range(1, 30) if contents.table_by_id(number)]
        self.known.rows = [number for number in range(1, 99) if contents.instance_by_row(number)]
        self.named = [table.name for table in contents.tables()]
        self.pairs = [
            (item.table_id, item.row_id) for number in self.known.tables for item in contents.instances(number)
        ]
        temporary = [item for item in contents.current() if item.temporary]
        newest = [contents.newest(item.table_id, item.version) for item in temporary]
        self.temporary = {item.row_id: found for item, found in zip(temporary, newest, strict=True)}
        self.undecided = [record for record in records if not record.is_decided]
        self.decided = [record for record in records if record.is_decided]
        self.records += [record for record in records if record not in self.records]
        for serial in self.known.serials:
            for found, expected in zip_longest(
                *(catalog.tidying.of(serial) for catalog in self.both), fillvalue=(0, None)
            ):
                assert found[1] == expected[1]
                assert self.steps.setdefault((serial, found[0]), expected[0]) == expected[0]

    def _in_thread(self, read, *arguments):
        return self._elsewhere.submit(read, *arguments).result()


def _pinned_reads(catalog, known):
    """Return the reads that a snapshot pins, and its generation."""
    found = [item for item in reads(catalog, known) if item[0][0] != "get_now"]
    return [*found, catalog.contents.generation()]


def _outcome(act, catalog):
    """Return the result of a call, or the class of its exception."""
    try:
        return act(catalog)
    except (TableVaultError, OSError, InterruptedCall) as error:
        return type(error)


def _shown(catalog, value):
    """Return a result without the numbers that may differ."""
    if isinstance(value, Begun):
        assert value.generation == catalog.contents.generation()
        return replace(value, generation=0)
    if isinstance(value, Remaining):
        return [step for _, step in value.steps], value.has_superseded
    if isinstance(value, EndedProcess):
        assert catalog.processes.ended_after(value.place - 1)[0] == value
        return value.record
    if isinstance(value, dict):
        return [(serial, _shown(catalog, item)) for serial, item in value.items()]
    return comparable(value)
