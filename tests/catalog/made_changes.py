"""Random arguments of the methods that write to a catalog.

Changes are made for the known tables and instances, so that they often have an effect. They may also contradict the
catalog. Plain random numbers make them, because the sequences are long and `hypothesis` prefers small values.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

from catalog_reads import IDS, MATERIALIZED, NAMES, PATHS, RESOURCES, TAGS, TEMPORARY, VERSIONS

from tablevault.names import fold
from tablevault.values import changes
from tablevault.values.contents import ArtifactState, ColumnRecord, InstanceRecord, TableRecord, TagRecord
from tablevault.values.plans import Unplanned
from tablevault.values.processes import BuilderProgress, Creation, ErrorInfo, Lock, ProcessRecord, Status

START = datetime(2026, 11, 1, tzinfo=UTC)
_COLUMNS = (ColumnRecord("x", "int64"),)
_MANIFEST = "0" * 64
_SOURCES = (*PATHS, "stories/base_1/artifacts", "stories/description.yaml")
_TARGETS = ("", *PATHS, "archived/x", "stories/description.yaml")


class Chooser(Random):
    """Random choices."""

    def flag(self, probability=0.5):
        """Return whether something with this probability happens."""
        return self.random() < probability

    def few(self, make, most=2):
        """Return a tuple of up to `most` values."""
        return tuple(make() for _ in range(self.randint(0, most)))

    def text(self):
        """Return a text."""
        return self.choice(["", "it’s", "a\nb"])

    def count(self):
        """Return a small number."""
        return self.randint(0, 2)

    def limits(self):
        """Return amounts of a service or of calls."""
        return {name: self.choice([1, 2.5]) for name in ("tokens", "calls") if self.flag()}

    def arguments(self):
        """Return arguments of an operation."""
        return self.choice([{}, {"table_name": "stories"}, {"rows": [1, None], "kept": True}])

    def locks(self):
        """Return locks of a plan, which rarely names one twice."""
        return self.few(lambda: Lock(self.choice(RESOURCES), self.flag()))

    def creations(self):
        """Return tables and instances that a plan creates."""
        return self.few(lambda: Creation(self.choice(PATHS), self.choice(["", "base_1"]), self.choice(["", "poems"])))

    def tidying(self):
        """Return steps on disk."""
        actions = list(changes.TidyingAction)
        return self.few(lambda: changes.Tidying(self.choice(actions), self.choice(_SOURCES), self.choice(_TARGETS)), 3)

    def error(self):
        """Return an error, or `None`."""
        return ErrorInfo("ValueError", self.text(), "", time=self.choice([None, START])) if self.flag() else None

    def progress(self):
        """Return the progress of builders, or `None`."""
        builders = {name for name in ("a_index", "b") if self.flag()}
        made = {
            name: BuilderProgress(self.choice([None, 3]), self.count(), 0, self.flag(), usage=self.limits())
            for name in sorted(builders)
        }
        return made if self.flag(0.7) else None


class ChangeMaker:
    """Makes changes for one state of the catalogs.

    Parameters
    ----------
    chooser
        Random choices.
    known
        The tables and instances.
    named
        Names of visible tables.
    temporary
        The newest active instance beside each temporary one, by row id.
    pairs
        Ids of tables and rows of instances that can be tagged.
    """

    def __init__(self, chooser, known, named, temporary, pairs):
        self._chooser = chooser
        self._known = known
        self._named = named
        self._temporary = temporary
        self._tagged = pairs

    def changes(self):
        """Return the changes of a decision, mostly one."""
        return tuple(self._one() for _ in range(self._chooser.choice([0, 1, 1, 1, 1, 2, 3])))

    def _one(self):
        kinds, weights = zip(*_KINDS.items(), strict=True)
        kind = self._chooser.choices(kinds, weights)[0]
        if self._chooser.flag(0.9):
            if not self._named:
                kind = ChangeMaker._new_table
            elif kind in _OF_TEMPORARY and not self._temporary:
                kind = ChangeMaker._new_temporary
        return kind(self)

    # --- names and numbers ----------------------------------------------------------------------------------------

    def _table(self):
        return self._chooser.choice(self._known.tables or [1])

    def _row(self):
        return self._chooser.choice(self._known.rows or [1])

    def _temporary_row(self):
        """Return a temporary instance; rarely, one that does not exist."""
        return self._chooser.choice(list(self._temporary)) if self._temporary and self._chooser.flag(0.9) else 99

    def _name(self):
        """Return a name of a table, mostly of a visible one."""
        return self._chooser.choice(self._named if self._named and self._chooser.flag(0.9) else NAMES)

    def _folder(self):
        return self._chooser.choice(["stories", "novels", "poems"])

    def _optional(self, make):
        return make() if self._chooser.flag() else None

    # --- kinds ----------------------------------------------------------------------------------------------------

    def _new_table(self):
        free = [name for name in NAMES if fold(name) not in map(fold, self._named)]
        name, folder = self._chooser.choice(free if free and self._chooser.flag(0.9) else NAMES), self._folder()
        flags = self._chooser.flag(), self._chooser.flag()
        return changes.NewTable(name, folder, *flags, self._chooser.text())

    def _renamed_table(self):
        return changes.RenamedTable(self._table(), self._chooser.choice(NAMES), self._folder(), self._folder())

    def _deleted_table(self):
        return changes.DeletedTable(self._table())

    def _new_temporary(self):
        instance_id = self._chooser.choice(TEMPORARY)
        return changes.NewTemporaryInstance(
            table_id=self._optional(self._table),
            instance_id=instance_id,
            version=instance_id.removeprefix("TEMP_"),
            folder=instance_id,
            external_edit=self._chooser.flag(),
            origin=self._optional(self._row),
            description=self._chooser.text(),
            table_name=self._name(),
        )

    def _materialized(self):
        return changes.MaterializedInstance(
            temporary_row_id=self._temporary_row(), success=self._chooser.flag(0.8), **self._result()
        )

    def _written(self):
        result = self._result()
        return changes.WrittenInstance(
            table_name=self._name(),
            version=result["instance_id"].split("_")[0],
            description=self._chooser.text(),
            external_edit=self._chooser.flag(),
            origin=self._optional(self._row),
            **result,
        )

    def _result(self):
        """Return the common fields of new materialized instances."""
        instance_id = self._chooser.choice(MATERIALIZED)
        return {
            "instance_id": instance_id,
            "folder": instance_id,
            "row_count": self._chooser.count(),
            "columns": self._chooser.choice([(), _COLUMNS]),
            "manifest": _MANIFEST,
            "reads": self._chooser.few(lambda: changes.Read("x", "b", self._row(), self._chooser.choice("x*"))),
            "replaces_artifacts": self._chooser.flag(),
            "deactivates_others": self._chooser.flag(0.2),
            "failed_cells": self._chooser.count(),
            "skipped_cells": self._chooser.count(),
        }

    def _unchanged(self):
        temporary = self._temporary_row()
        newest = self._temporary.get(temporary) if self._chooser.flag(0.7) else None
        return changes.UnchangedInstance(temporary, self._row(), newest.instance_id if newest else "base_1")

    def _confirmed(self):
        return changes.ConfirmedInputs(self._row(), self._chooser.few(self._row))

    def _service(self):
        return changes.ChangedService(self._chooser.choice(["llm", "web"]), self._optional(self._chooser.limits))

    def _deleted_instance(self):
        return changes.DeletedInstance(self._row())

    def _new_tag(self):
        pairs = tuple(self._chooser.sample(self._tagged, min(len(self._tagged), self._chooser.randint(1, 2))))
        moved_in = tuple(self._known.tables) if self._chooser.flag() else ()
        return changes.NewTag(self._chooser.choice(TAGS), pairs, self._chooser.text(), moved_in)

    def _deleted_tag(self):
        return changes.DeletedTag(self._chooser.choice(TAGS), self._chooser.few(self._table))

    def _imported(self):
        choose = self._chooser
        tables = (self._imported_table(), *choose.few(self._imported_table, 1))
        instances = tuple(self._imported_instance(len(tables)) for _ in range(choose.randint(1, 3)))
        tagged = choose.few(
            lambda: changes.ImportedTag(choose.choice(TAGS), choose.randrange(len(instances)), choose.text())
        )
        return changes.ImportedInstances(tables, instances, tagged)

    def _imported_table(self):
        choose = self._chooser
        return changes.ImportedTable(
            table_id=self._optional(self._table),
            name=choose.choice(NAMES),
            folder=self._folder(),
            allow_multiple_artifacts=choose.flag(),
            has_side_effects=choose.flag(),
            description=choose.text(),
            is_hidden=choose.flag(0.2),
        )

    def _imported_instance(self, tables):
        choose = self._chooser
        instance_id, read_id, origin_id = choose.choices(MATERIALIZED, k=3)
        return changes.ImportedInstance(
            table=choose.randrange(tables),
            instance_id=instance_id,
            version=choose.choice(VERSIONS),
            folder=instance_id,
            active=choose.flag(),
            success=choose.flag(),
            external_edit=choose.flag(),
            origin_id=choose.choice(["", origin_id]),
            artifact_state=choose.choice(list(ArtifactState)),
            row_count=choose.count(),
            columns=_COLUMNS,
            manifest=_MANIFEST,
            description=choose.text(),
            reads=choose.few(lambda: changes.ImportedRead("x", "b", read_id, "*")),
            replaces_artifacts=choose.flag(),
            failed_cells=choose.count(),
            skipped_cells=choose.count(),
            is_hidden=choose.flag(0.2),
        )


_KINDS = {
    ChangeMaker._new_table: 3,
    ChangeMaker._renamed_table: 2,
    ChangeMaker._deleted_table: 0.5,
    ChangeMaker._new_temporary: 4,
    ChangeMaker._materialized: 4,
    ChangeMaker._written: 6,
    ChangeMaker._unchanged: 2,
    ChangeMaker._confirmed: 1,
    ChangeMaker._service: 1,
    ChangeMaker._imported: 2,
    ChangeMaker._deleted_instance: 1,
    ChangeMaker._new_tag: 3,
    ChangeMaker._deleted_tag: 1,
}
"""How often each kind is made."""
_OF_TEMPORARY = (ChangeMaker._materialized, ChangeMaker._unchanged)


# --- whole catalogs -----------------------------------------------------------------------------------------------


def whole_content(choose):
    """Return the content of a catalog with two tables and up to three instances, whose numbers have gaps."""
    at = START - timedelta(days=1)
    maker = ProcessRecord(
        serial=3,
        process_id=choose.choice(IDS),
        operation="create_table",
        author="one",
        table_name="stories",
        instance_id="",
        arguments=choose.arguments(),
        plan=Unplanned(table_name="stories"),
        parent_serial=None,
        user_given=True,
        background=False,
        status=Status.SUCCEEDED,
        finished=True,
        attempt=1,
        owner_lock=None,
        owner_host="",
        owner_pid=0,
        started_at=at,
        ended_at=at,
        error=None,
        progress=choose.progress() or {},
        stop_requested=False,
    )
    row_ids = choose.sample(range(1, 7), choose.randint(0, 3))
    instances = [_whole_instance(choose, row_id, maker) for row_id in row_ids]
    return changes.Imported(
        processes=[maker, replace(maker, serial=2, status=Status.REVERTED)],
        tables=[
            TableRecord(number, name, name, None, choose.flag(), False, "", "one", at)
            for number, name in ((4, "stories"), (2, "novels"))
        ],
        instances=instances,
        reads=[(item.row_id, changes.Read("x", "b", 1, "*")) for item in instances[1:]],
        tags=[
            TagRecord("paper", item.table_id, "", item.row_id, item.instance_id, "", "two", at, maker.process_id)
            for item in instances[:1]
        ],
        hidden_tables=frozenset(choose.choice([(), (2,), (4,)])),
        hidden_instances=frozenset(row_ids[2:]),
        failures={item.row_id: (1, 2) for item in instances[:1]},
    )


def _whole_instance(choose, row_id, maker):
    return InstanceRecord(
        row_id=row_id,
        table_id=choose.choice([2, 4]),
        instance_id=f"base_{row_id}",
        version="base",
        folder=f"base_{row_id}",
        temporary=False,
        active=choose.flag(),
        success=True,
        external_edit=False,
        origin=choose.choice([None, 1]),
        artifact_state=choose.choice(list(ArtifactState)),
        row_count=2,
        columns=_COLUMNS,
        manifest=None,
        description="",
        author="two",
        created_at=maker.started_at,
        process_id=maker.process_id,
    )
