"""A vault as plain dicts and lists.

It gives the expected result of every call, without code of TableVault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

ARGUMENT, LOCK, PROCESS, TABLE, BUILDER = (
    "TVArgumentError",
    "TVLockError",
    "TVProcessError",
    "TVTableError",
    "TVBuilderError",
)
EXTERNAL, WRONG, INTERRUPT = "ConnectionError", "ValueError", "KeyboardInterrupt"
FORBIDDEN = ("artifacts", "x y", "")
NO_TAGS = ("latest", "x y")
ROW_WISE = ("row-wise", "threads", "nested", "async", "class", "batch", "collect")
"""Kinds of builders that are called for rows, one or some at a time."""
BATCH = 2
"""Rows of one call of a batch."""


@dataclass(frozen=True)
class Done:
    """The rows of `answer` that an execution has."""

    computed: frozenset[int] = frozenset()
    taken_over: frozenset[int] = frozenset()

    @property
    def rows(self) -> frozenset[int]:
        """All of them."""
        return self.computed | self.taken_over


class ExpectedError(Exception):
    """The call must raise this kind of error.

    It may change only what the model predicts.
    """

    def __init__(self, kind: str, done: Done | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.done = done or Done()


@dataclass(frozen=True)
class Fault:
    """What a function does at a row instead of its work."""

    kind: str
    row: int


@dataclass(frozen=True)
class Recipe:
    """What a temporary instance's builders make."""

    rows: int
    factor: int
    kind: str = "row-wise"
    """How the builder of the column `answer` works; empty if there is none."""
    artifacts: bool = False
    """Whether there is a column of files, too."""
    indexed: bool = True
    """Whether there is an IndexBuilder, without which nothing can be executed."""

    @property
    def decides_rows(self) -> bool:
        """Whether rows are taken over one by one; otherwise it is all or none."""
        return self.kind in ROW_WISE

    def takes_over(self, other: Recipe) -> bool:
        """Whether what another one has computed is what this one would."""
        same = (self.factor, self.function) == (other.factor, other.function)
        return same and (self.decides_rows or self.rows == other.rows)

    @property
    def function(self) -> str:
        """Function of an answer.

        The number of threads and the handling of errors make no difference.
        """
        return "row-wise" if self.kind in ("threads", "collect") else self.kind

    def collects(self, fault: Fault | None) -> bool:
        """Whether an error is recorded for its row, and the others go on."""
        return self.kind == "collect" and fault is not None and fault.kind != INTERRUPT

    def builders(self, table: str) -> list[str]:
        """Return the names of the builders."""
        there = {f"{table}_index": self.indexed, "answer": bool(self.kind), "file": self.artifacts}
        return sorted(name for name, is_there in there.items() if is_there)

    def without(self, builder: str) -> Recipe:
        """Return the recipe without one of its builders."""
        if builder == "answer":
            return replace(self, kind="")
        return replace(self, artifacts=False) if builder == "file" else replace(self, indexed=False)

    def frame(self, done: frozenset[int] | None = None, failed: frozenset[int] = frozenset()) -> dict[str, list[Any]]:
        """Return the columns.

        Cells of `answer` are null where it has failed or is unfinished.
        """
        made: dict[str, list[Any]] = {"x": list(range(self.rows))}
        if self.kind:
            there = frozenset(range(self.rows)) - failed if done is None else done
            made["answer"] = [f"{x}*{self.factor}" if x in there else None for x in range(self.rows)]
        if self.artifacts:
            # Builders of one rank run in the order of their names, so that files come after answers.
            made["file"] = [f"{x}.txt" if done is None else None for x in range(self.rows)]
        return made


@dataclass
class Instance:
    """One instance of a table."""

    name: str
    """Its id."""
    version: str
    recipe: Recipe | None = None
    external: bool = False
    frame: dict[str, list[Any]] | None = None
    active: bool = True
    success: bool = True
    origin: tuple[Table, Instance] | None = None
    """What it was copied from."""
    partial: tuple[Recipe, Done] | None = None
    """What the last execution that was reverted had, and by which recipe."""
    builders: list[str] = field(default_factory=list)
    """The names of the builders it was made by, which do not change when its table's name does."""
    inputs: tuple[Instance, ...] = ()
    """What it was computed from."""
    has_artifacts: bool = True
    """Whether its set is there, if it has files: not the set of a newer instance of a table with one set."""
    row: int = 0
    """Its place among all instances that were ever materialized."""

    @property
    def temporary(self) -> bool:
        """Whether it can be edited."""
        return self.name.startswith("TEMP_")


@dataclass(frozen=True)
class Tag:
    """A name for an instance."""

    name: str
    instance: Instance


@dataclass
class Table:
    """A table and its instances, oldest first."""

    multiple: bool
    effects: bool
    instances: dict[str, Instance] = field(default_factory=dict)
    last_made: Instance | None = None
    """The successful instance that was materialized last, which has the table's set of artifacts."""
    tags: dict[str, Tag] = field(default_factory=dict)
    """By name in lower case."""

    def newest(
        self, version: str | None, *, active_only: bool = True, successful_only: bool = False
    ) -> Instance | None:
        """Return the newest materialized instance."""
        found = [
            instance
            for instance in self.instances.values()
            if not instance.temporary
            and version in (None, instance.version)
            and (instance.active or not active_only)
            and (instance.success or not successful_only)
        ]
        return found[-1] if found else None

    def tags_of(self, instance: Instance) -> list[str]:
        """Return the tags of an instance."""
        return [tag.name for tag in self.tags.values() if tag.instance is instance]


@dataclass
class Process:
    """A process with an id that its user gave."""

    call: tuple[Any, ...]
    """What is called, and with which arguments."""
    status: str
    locks: dict[str, bool] = field(default_factory=dict)
    """Resource -> whether it is held exclusively."""
    done: Done = Done()


@dataclass
class Called:
    """The expected calls of the functions of `answer`, as rows with counts."""

    least: Counter[int] = field(default_factory=Counter)
    most: Counter[int] = field(default_factory=Counter)
    """In threads and as coroutines, rows can be in flight when another one fails."""

    def allows(self, seen: Counter[int]) -> bool:
        """Tell whether these calls are right."""
        return self.least <= seen <= self.most


Locks = dict[str, bool]


def _spelt(tables: Iterable[str], name: str) -> str | None:
    return next((each for each in tables if each.lower() == name.lower()), None)


@dataclass(frozen=True)
class Source:
    """Another vault, from which instances are imported."""

    path: str
    tables: dict[str, Table]

    def spelt(self, name: str) -> str | None:
        """Return how the name of a table is spelt, if there is one."""
        return _spelt(self.tables, name)


@dataclass
class Model:
    """Everything that a vault promises to remember."""

    tables: dict[str, Table] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    new_id: Callable[[Table, str], str] = lambda table, version: f"{version}_0_{len(table.instances)}"
    """Tells the id that a new instance of a version got."""
    called: Called = field(default_factory=Called)
    """Since the caller reset it."""
    rows: int = 0
    """How many instances were ever materialized."""
    seen: Counter[int] = field(default_factory=Counter)
    """The rows that functions were really called for, which decides what was in flight."""

    # --- the life cycle -------------------------------------------------------------------------------------------

    def run(self, process_id: str, call: tuple[Any, ...], plan: Callable[[Locks], Callable[[], None]]) -> None:
        """Plan an operation, and do it; raise what the call has to raise.

        Parameters
        ----------
        process_id
            Given by the user, or empty.
        call
            The operation and its arguments.
        plan
            Fills in the locks; raises what is wrong with the arguments; returns what is to be done.
        """
        known = self.processes.get(process_id) if process_id else None
        if known is not None and known.status != "reverted":
            if not _is_same(call, known.call) or known.status == "stopped":
                raise ExpectedError(PROCESS)
            if known.status == "succeeded":
                return
        locks: Locks = {} if known is None or known.status != "paused" else dict(known.locks)
        resumed = known is not None and known.status == "paused"
        try:
            work = plan(locks)
            problem = None
        except ExpectedError as error:
            problem = error
        if not resumed and self._is_locked(locks):
            problem = ExpectedError(LOCK)
        if problem is not None:
            self._note(process_id, call, "reverted")
            raise problem
        self._work(process_id, call, locks, work)

    def _work(self, process_id: str, call: tuple[Any, ...], locks: Locks, work: Callable[[], None]) -> None:
        try:
            work()
        except ExpectedError as error:
            if process_id and error.kind in (EXTERNAL, WRONG, INTERRUPT):
                known = self.processes.pop(process_id, None)
                first = known.call if known is not None and known.status == "paused" else call
                self.processes[process_id] = Process(first, "paused", locks, error.done)
            else:
                self._note(process_id, call, "reverted")
            raise
        self._note(process_id, call, "succeeded")

    def _note(self, process_id: str, call: tuple[Any, ...], status: str) -> None:
        if process_id:
            known = self.processes.pop(process_id, None)
            first = known.call if known is not None and known.status == "paused" else call
            self.processes[process_id] = Process(first, status)

    def _is_locked(self, wanted: Locks) -> bool:
        held = [
            (resource, exclusive) for process in self.paused.values() for resource, exclusive in process.locks.items()
        ]
        return any(
            (exclusive or wants) and _overlap(resource, wanted_resource)
            for wanted_resource, wants in wanted.items()
            for resource, exclusive in held
        )

    @property
    def paused(self) -> dict[str, Process]:
        """The processes that are paused, oldest first."""
        return {name: process for name, process in self.processes.items() if process.status == "paused"}

    # --- tables ---------------------------------------------------------------------------------------------------

    def create_table(self, name: str, multiple: bool, effects: bool, process_id: str) -> None:
        def plan(locks: Locks) -> Callable[[], None]:
            _check(name not in FORBIDDEN)
            locks[f"table/{name.lower()}"] = True
            _check(self.spelt(name) is None)
            return lambda: self.tables.__setitem__(name, Table(multiple, effects))

        self.run(process_id, ("create_table", name, multiple, effects), plan)

    def rename_table(self, new: str, old: str, process_id: str) -> None:
        def plan(locks: Locks) -> Callable[[], None]:
            _check(new not in FORBIDDEN)
            locks[f"table/{new.lower()}"] = locks[f"table/{old.lower()}"] = True
            table = self._table(old)
            _check((new.lower() == old.lower() and new != self.spelt(old)) or self.spelt(new) is None)
            return lambda: self._rename(table, new)

        self.run(process_id, ("rename_table", new, old), plan)

    def _rename(self, table: Table, new: str) -> None:
        self.tables = {(new if each is table else name): each for name, each in self.tables.items()}

    def delete_table(self, name: str, process_id: str) -> None:
        def plan(locks: Locks) -> Callable[[], None]:
            locks[f"table/{name.lower()}"] = True
            _check(not self._table(name).tags)
            return lambda: self._forget_table(name)

        self.run(process_id, ("delete_table", name), plan)

    def _forget_table(self, name: str) -> None:
        spelt = self.spelt(name)
        assert spelt is not None
        del self.tables[spelt]

    def spelt(self, name: str) -> str | None:
        """Return how the name of a table is spelt, if there is one."""
        return _spelt(self.tables, name)

    def _name(self, table: Table) -> str:
        return next(name for name, each in self.tables.items() if each is table)

    def _table(self, name: str) -> Table:
        spelt = self.spelt(name)
        if spelt is None:
            raise ExpectedError(ARGUMENT)
        return self.tables[spelt]

    # --- instances ------------------------------------------------------------------------------------------------

    def create_instance(
        self, table_name: str, version: str, recipe: Recipe | None, copy: bool, process_id: str
    ) -> None:
        """Make a temporary instance; without a recipe and a copy it is for `write_instance`."""

        def plan(locks: Locks) -> Callable[[], None]:
            locks[_of_instance(table_name, f"TEMP_{version}")] = True
            table = self._table(table_name)
            _check(f"TEMP_{version}" not in table.instances)
            origin = (table.newest(version) or table.newest(None)) if copy else None
            if origin is not None:
                locks[_of_instance(table_name, origin.name)] = False
            new = Instance(f"TEMP_{version}", version, recipe, external=recipe is None and not copy)
            if origin is not None:
                new.origin, new.recipe = (table, origin), _added(origin.recipe, recipe)
            return lambda: table.instances.__setitem__(new.name, new)

        external = recipe is None and not copy
        self.run(process_id, ("create_instance", table_name, version, recipe, copy, external, "", ""), plan)

    def create_from(self, table_name: str, version: str, origin_table: str, origin_id: str, process_id: str) -> None:
        """Make a temporary instance with the builders of an instance of this table or another one."""

        def plan(locks: Locks) -> Callable[[], None]:
            locks[_of_instance(table_name, f"TEMP_{version}")] = True
            table = self._table(table_name)
            _check(f"TEMP_{version}" not in table.instances)
            source = self._table(origin_table)
            _check(origin_id in source.instances)
            locks[_of_instance(origin_table, origin_id)] = False
            origin = source.instances[origin_id]
            new = Instance(f"TEMP_{version}", version, origin.recipe, origin=(source, origin))
            return lambda: table.instances.__setitem__(new.name, new)

        call = ("create_instance", table_name, version, None, False, False, origin_id, origin_table)
        self.run(process_id, call, plan)

    def delete_instance(self, name: str, table_name: str, process_id: str) -> None:
        def plan(locks: Locks) -> Callable[[], None]:
            locks[_of_instance(table_name, name)] = True
            table = self._table(table_name)
            _check(name in table.instances and not table.tags_of(table.instances[name]))
            if not table.multiple and not table.instances[name].temporary:
                locks[f"table/{table_name.lower()}/artifacts"] = True
            return lambda: table.instances.__delitem__(name)

        self.run(process_id, ("delete_instance", name, table_name), plan)

    def collect(self, count: int, keep_inputs: bool, table_name: str) -> None:
        """Remove old materialized instances.

        Kept are a number of newest ones per version, and those that are needed.
        """
        chosen = self.tables if not table_name else {self.spelt(table_name) or "": self._table(table_name)}
        needed = {
            id(item.origin[1]) for each in self.tables.values() for item in each.instances.values() if item.origin
        }
        removed: dict[int, tuple[Table, Instance]] = {}
        for name, table in chosen.items():
            for version in {item.version for item in table.instances.values()}:
                group = [item for item in table.instances.values() if item.version == version and not item.temporary]
                newest = (table.newest(version), table.newest(version, successful_only=True))
                for item in group[:-count] if group else ():
                    stays = id(item) in needed or any(item is each for each in newest) or table.tags_of(item)
                    if not (stays or self._is_held(name, table, item)):
                        removed[id(item)] = table, item
        if keep_inputs:
            self._keep_inputs(removed)
        for table, item in removed.values():
            del table.instances[item.name]

    def _is_held(self, name: str, table: Table, instance: Instance) -> bool:
        locks = {_of_instance(name, instance.name): True}
        if not table.multiple and instance is table.last_made and _has_files(instance):
            # The table's link leads to its files.
            locks[f"table/{name.lower()}/artifacts"] = True
        return self._is_locked(locks)

    def _keep_inputs(self, removed: dict[int, tuple[Table, Instance]]) -> None:
        """Let inputs of what stays stay, and their inputs, also over instances that are gone."""
        there = [item for table in self.tables.values() for item in table.instances.values()]
        waiting = [item for item in there if id(item) not in removed]
        while waiting:
            for each in waiting.pop().inputs:
                removed.pop(id(each), None)
                waiting.append(each)

    # --- tags -----------------------------------------------------------------------------------------------------

    def create_tag(
        self,
        tag: str,
        instances: list[tuple[str, str, str]] | None,
        version: str,
        move: bool,
        text: str,
        process_id: str,
    ) -> None:
        """Tag the newest successful instances of a version, or given ones.

        Given ones are table, id and version; `text` is the argument.
        """

        def plan(locks: Locks) -> Callable[[], None]:
            _check(tag not in NO_TAGS)
            chosen: dict[int, tuple[Table, Instance]] = {}
            for table, instance in self._to_tag(tag, instances, version, locks):
                _check(chosen.setdefault(id(table), (table, instance))[1] is instance)
            _check(bool(chosen))
            changed = []
            for table, instance in chosen.values():
                known = table.tags.get(tag.lower())
                _check(known is None or known.instance is instance or move)
                if known is None or known.instance is not instance:
                    changed.append((table, instance))

            def work() -> None:
                for table, instance in changed:
                    table.tags[tag.lower()] = Tag(tag, instance)

            return work

        self.run(process_id, ("create_tag", tag, text, version, move), plan)

    def _to_tag(
        self, tag: str, instances: list[tuple[str, str, str]] | None, version: str, locks: Locks
    ) -> Iterable[tuple[Table, Instance]]:
        if instances is None:
            found = {name: table.newest(version, successful_only=True) for name, table in self.tables.items()}
            instances = [(name, instance.name, version) for name, instance in found.items() if instance is not None]
        for name, instance_id, of_version in instances:
            locks[f"table/{name.lower()}/tag/{tag.lower()}"] = True
            table = self._table(name)
            instance = table.instances.get(instance_id) if instance_id else table.newest(of_version)
            _check(instance is not None)
            assert instance is not None
            locks[_of_instance(name, instance.name)] = False
            _check(not instance.temporary)
            yield table, instance

    def delete_tag(self, tag: str, names: list[str] | None, process_id: str) -> None:
        def plan(locks: Locks) -> Callable[[], None]:
            chosen = (
                names if names is not None else [name for name, each in self.tables.items() if tag.lower() in each.tags]
            )
            _check(bool(chosen))
            for name in chosen:
                locks[f"table/{name.lower()}/tag/{tag.lower()}"] = True
                _check(tag.lower() in self._table(name).tags)

            def work() -> None:
                for table in [self._table(name) for name in chosen]:
                    table.tags.pop(tag.lower(), None)

            return work

        self.run(process_id, ("delete_tag", tag, "" if names is None else repr(names)), plan)

    def drop_artifacts(self) -> None:
        """Forget superseded artifacts without a tag or process.

        The vault does this after every call.
        """
        for name, table in self.tables.items():
            for item in table.instances.values():
                is_superseded = not item.temporary and item.success and item is not table.last_made
                if is_superseded and not table.multiple and not table.tags_of(item):
                    item.has_artifacts &= self._is_locked({_of_instance(name, item.name): True})

    # --- other vaults ---------------------------------------------------------------------------------------------

    def import_instances(self, source: Source, tables: list[tuple[str, str]] | None, process_id: str) -> None:
        """Import instances from another vault, by pairs of tables."""

        def plan(locks: Locks) -> Callable[[], None]:
            pairs = tables if tables is not None else [(name, name) for name in source.tables]
            for there, _ in pairs:
                _check(source.spelt(there) is not None)
            _check(len({here.lower() for _, here in pairs}) == len(pairs))
            for _, here in pairs:
                _check(here not in FORBIDDEN)
                locks[f"table/{here.lower()}"] = True
            return lambda: self._take(source, pairs)

        self.run(process_id, ("import_instances", source.path, "" if tables is None else repr(tables)), plan)

    def _take(self, source: Source, pairs: list[tuple[str, str]]) -> None:
        taken: dict[int, Instance] = {}
        new: list[tuple[Table, Table, list[Instance]]] = []
        for there, here in pairs:
            theirs, spelt = source.tables[source.spelt(there) or there], self.spelt(here)
            table = self.tables[spelt] if spelt is not None else Table(theirs.multiple, theirs.effects)
            self.tables.setdefault(spelt or here, table)
            made = []
            for item in theirs.instances.values():
                if item.name not in table.instances:
                    taken[id(item)] = replace(item, origin=None, partial=None, row=self.next_row())
                    table.instances[item.name] = taken[id(item)]
                    made.append(item)
            new.append((theirs, table, made))
        by_name = {item.name: item for item in taken.values()}
        for item in taken.values():
            found = [by_name.get(each.name) or self._known(each.name) for each in item.inputs]
            item.inputs = tuple(each for each in found if each is not None)
        for theirs, table, made in new:
            # A set that is gone replaces none.
            sets = [taken[id(item)] for item in made if item.success and item.has_artifacts]
            table.last_made = sets[-1] if sets else table.last_made
            for tag in theirs.tags.values():
                if id(tag.instance) in {id(item) for item in made} and tag.name.lower() not in table.tags:
                    table.tags[tag.name.lower()] = Tag(tag.name, taken[id(tag.instance)])

    def _known(self, name: str) -> Instance | None:
        """Return the instance of an id that came last."""
        found = [item for table in self.tables.values() for item in table.instances.values() if item.name == name]
        return max(found, key=lambda item: item.row, default=None)

    def exported(self, instances: list[tuple[str, str]], path: str) -> Source:
        """Return the content of a vault with some instances, given by table and id."""
        tables: dict[str, Table] = {}
        for name, instance_id in instances:
            table = self.tables[name]
            made = tables.setdefault(name, Table(table.multiple, table.effects))
            made.instances[instance_id] = replace(table.instances[instance_id])
        for name, made in tables.items():
            order = [item for item in self.tables[name].instances if item in made.instances]
            made.instances = {item: made.instances[item] for item in order}
            for tag in self.tables[name].tags.values():
                if tag.instance.name in made.instances:
                    made.tags[tag.name.lower()] = Tag(tag.name, made.instances[tag.instance.name])
        return Source(path, tables)

    def next_row(self) -> int:
        """Return the place of the next instance that is materialized."""
        self.rows += 1
        return self.rows

    def write_instance(
        self, frame: dict[str, list[Any]], table_name: str, version: str, good: bool, process_id: str
    ) -> None:
        """Materialize a frame, that may be a wrong one."""

        def plan(locks: Locks) -> Callable[[], None]:
            locks[_of_instance(table_name, f"TEMP_{version}")] = True
            table = self._table(table_name)
            temporary = self._temporary(table, version)
            _check(temporary.external)
            if not good:
                raise ExpectedError(TABLE)
            return lambda: self._materialize(table, temporary, frame, True)

        call = ("write_instance", repr(frame), table_name, version)
        known = self.processes.get(process_id)
        if process_id and not good and (known is None or known.status == "reverted" or known.call[0] == call[0]):
            # What is recorded of a frame is its content: a wrong one is refused before anything else is looked at.
            if known is None or known.status == "reverted":
                self._note(process_id, call, "reverted")
            raise ExpectedError(TABLE)
        self.run(process_id, call, plan)

    def execute_instance(
        self,
        table_name: str,
        version: str,
        fault: Fault | None,
        process_id: str,
        force: bool = False,
        reuse_partial: bool = False,
    ) -> None:
        """Execute; a fault is the kind of error and the row at which it comes."""
        known = self.paused.get(process_id)
        if known is not None and known.call[:2] == ("execute_instance", table_name) and version == "base":
            # What equals its default counts as left out.
            version = known.call[2]

        def plan(locks: Locks) -> Callable[[], None]:
            locks[_of_instance(table_name, f"TEMP_{version}")] = True
            table = self._table(table_name)
            temporary = self._temporary(table, version)
            _check(not temporary.external)
            if table.effects:
                locks[f"table/{table_name.lower()}"] = True
            if temporary.recipe is None or not temporary.recipe.indexed:
                raise ExpectedError(BUILDER)
            origin = self._origin(temporary)
            if origin is not None:
                locks[_of_instance(self._name(origin[0]), origin[1].name)] = False
            if temporary.recipe.artifacts and not table.multiple:
                locks[f"table/{table_name.lower()}/artifacts"] = True
            # Of a call that goes on, the first one's arguments hold.
            options = known.call[3:] if known is not None else (force, reuse_partial)
            return lambda: self._execute(table, temporary, fault, process_id, *options)

        self.run(process_id, ("execute_instance", table_name, version, force, reuse_partial), plan)

    def _execute(
        self, table: Table, temporary: Instance, fault: Fault | None, process_id: str, force: bool, reuse_partial: bool
    ) -> None:
        recipe = temporary.recipe
        assert recipe is not None
        known = self.paused.get(process_id)
        done = known.done if known is not None else Done(taken_over=self._taken_over(temporary, force, reuse_partial))
        # A generator is replayed from its first row, unless all of it is there.
        passed = done.rows if recipe.decides_rows or len(done.rows) == recipe.rows else frozenset()
        hits = fault is not None and recipe.kind and fault.row < recipe.rows and fault.row not in passed
        if fault is not None and hits and not recipe.collects(fault):
            done = replace(done, computed=done.computed | self._computed_before(fault, recipe, passed))
            if not process_id:
                temporary.partial = (recipe, done)
            raise ExpectedError(fault.kind, done)
        computed = frozenset(range(recipe.rows if recipe.kind else 0)) - passed
        self._call(computed, computed)
        self._make_children(recipe, computed)
        failed = frozenset({fault.row}) if fault is not None and hits else frozenset()
        self._materialize(table, temporary, recipe.frame(failed=failed), True)

    def _computed_before(self, fault: Fault, recipe: Recipe, passed: frozenset[int]) -> frozenset[int]:
        """Return the rows that are computed when a function fails at a row."""
        before, rows = frozenset(range(fault.row)) - passed, frozenset(range(recipe.rows)) - passed
        if recipe.kind == "threads" or (recipe.kind == "async" and fault.kind == WRONG):
            # A loop begins the next short coroutine before the result of the last one is found to be wrong.
            self._call(before | {fault.row}, rows)
            return frozenset(self.seen) - {fault.row}
        match recipe.kind:
            case "batch":
                missing = sorted(rows)
                start = missing.index(fault.row) // BATCH * BATCH
                batch = missing[start : start + BATCH]
                called = batch if fault.kind == WRONG else [x for x in batch if x <= fault.row]
                self._call({*missing[:start], *called}, {*missing[:start], *called})
                # Of a batch with one wrong result the others are kept.
                return frozenset(missing[:start]) | (frozenset(batch) - {fault.row} if fault.kind == WRONG else set())
            case "dataframe":
                # It looks at all of them before it returns something wrong.
                called = rows if fault.kind == WRONG else before | {fault.row}
                self._call(called, called)
                return frozenset()
        self._call(before | {fault.row}, before | {fault.row})
        self._make_children(recipe, before)
        return before

    def _call(self, least: Iterable[int], most: Iterable[int]) -> None:
        self.called.least.update(least)
        self.called.most.update(most)

    def _make_children(self, recipe: Recipe, rows: Iterable[int]) -> None:
        """Make the tables that functions make, which stay whatever becomes of the execution."""
        if recipe.kind == "nested":
            for x in rows:
                self.tables.setdefault(f"child{x}", Table(multiple=False, effects=False))

    def planned(self, table_name: str, version: str, force: bool) -> tuple[int, int] | None:
        """Return how many rows of `answer` an execution would reuse and compute.

        Returns `None` if it would fail.
        """
        spelt = self.spelt(table_name)
        temporary = self.tables[spelt].instances.get(f"TEMP_{version}") if spelt is not None else None
        recipe = temporary.recipe if temporary is not None else None
        if temporary is None or recipe is None or not recipe.indexed or not recipe.kind or self.paused:
            return None
        taken_over = len(self._taken_over(temporary, force, reuse_partial=False))
        return taken_over, recipe.rows - taken_over

    def _origin(self, temporary: Instance) -> tuple[Table, Instance] | None:
        """Return what an instance was copied from, if that is still there."""
        if temporary.origin is None:
            return None
        table, instance = temporary.origin
        is_there = any(each is table for each in self.tables.values()) and instance.name in table.instances
        return temporary.origin if is_there else None

    def _taken_over(self, temporary: Instance, force: bool, reuse_partial: bool) -> frozenset[int]:
        """Return the rows whose cells need not be computed."""
        recipe = temporary.recipe
        assert recipe is not None
        found: list[tuple[Recipe, frozenset[int]]] = []
        if reuse_partial and temporary.partial is not None:
            found.append((temporary.partial[0], temporary.partial[1].rows))
        origin = self._origin(temporary)
        if origin is not None and origin[1].recipe is not None and origin[1].frame is not None:
            answers = origin[1].frame.get("answer", [])
            found.append((origin[1].recipe, frozenset(x for x, answer in enumerate(answers) if answer is not None)))
        if force:
            return frozenset()
        if recipe.decides_rows:
            rows = {x for other, done in found if recipe.takes_over(other) for x in done}
            return frozenset(x for x in rows if x < recipe.rows)
        whole = frozenset(range(recipe.rows))
        return whole if any(recipe.takes_over(other) and done == whole for other, done in found) else frozenset()

    def _materialize(self, table: Table, temporary: Instance, frame: dict[str, list[Any]], success: bool) -> None:
        new_id = self.new_id(table, temporary.version)
        del table.instances[temporary.name]
        if table.effects and success and not temporary.external:
            for other in table.instances.values():
                other.active = False
        new = Instance(new_id, temporary.version, temporary.recipe, temporary.external, frame, success=success)
        new.builders = new.recipe.builders(self._name(table)) if new.recipe is not None else []
        new.row = self.next_row()
        table.instances[new_id] = new
        if success:
            table.last_made = new

    def _temporary(self, table: Table, version: str) -> Instance:
        if f"TEMP_{version}" not in table.instances:
            raise ExpectedError(ARGUMENT)
        return table.instances[f"TEMP_{version}"]

    # --- builders and code ----------------------------------------------------------------------------------------

    def change_recipe(self, table_name: str, version: str, recipe: Recipe, text: str, process_id: str) -> None:
        """Replace the builder of the column `answer`, with a text that stands for a recipe."""

        def plan(locks: Locks) -> Callable[[], None]:
            locks[_of_instance(table_name, f"TEMP_{version}")] = True
            temporary = self._temporary(self._table(table_name), version)

            def work() -> None:
                if temporary.recipe is not None:
                    old = temporary.recipe
                    temporary.recipe = replace(old, factor=recipe.factor, kind=recipe.kind)

            return work

        self.run(process_id, ("create_builder_file", table_name, version, text), plan)

    def delete_builder(self, builder: str, table_name: str, version: str, process_id: str) -> None:
        def plan(locks: Locks) -> Callable[[], None]:
            locks[_of_instance(table_name, f"TEMP_{version}")] = True
            table = self._table(table_name)
            temporary = self._temporary(table, version)
            recipe = temporary.recipe
            _check(recipe is not None and builder in recipe.builders(self._name(table)))
            assert recipe is not None
            kind = "index" if builder.endswith("_index") else builder
            return lambda: setattr(temporary, "recipe", recipe.without(kind))

        self.run(process_id, ("delete_builder_file", builder, table_name, version), plan)

    def create_module(self, name: str, text: str, process_id: str) -> None:
        def plan(locks: Locks) -> Callable[[], None]:
            _check(name not in FORBIDDEN)
            locks["code"] = True
            return lambda: self.modules.__setitem__(name, text)

        self.run(process_id, ("create_code_module", name, text), plan)

    def delete_module(self, name: str, process_id: str) -> None:
        def plan(locks: Locks) -> Callable[[], None]:
            locks["code"] = True
            _check(name in self.modules)
            return lambda: self.modules.__delitem__(name)

        self.run(process_id, ("delete_code_module", name), plan)

    # --- stopping -------------------------------------------------------------------------------------------------

    def stop(self, process_id: str, materialize: bool) -> None:
        """Revert a paused process, or keep what it has computed."""
        process = self.processes.get(process_id)
        if process is None or process.status != "paused":
            raise ExpectedError(PROCESS)
        if materialize and process.call[0] != "execute_instance":
            raise ExpectedError(ARGUMENT)
        _, table_name, version, *_ = process.call
        table = self._table(table_name)
        temporary = table.instances[f"TEMP_{version}"]
        assert temporary.recipe is not None
        if materialize:
            self._materialize(table, temporary, temporary.recipe.frame(process.done.rows), False)
        else:
            temporary.partial = (temporary.recipe, process.done)
        process.status, process.locks = "stopped", {}

    def read_wrong(self, table_name: str, wrong: str) -> None:
        """Read an instance, version or column that does not exist."""
        if any(self.holders(table_name)):
            raise ExpectedError(LOCK)
        newest = self._table(table_name).newest("base")
        raise ExpectedError(TABLE if wrong == "column" and newest is not None else ARGUMENT)

    def computed(self, table_name: str, temporary: Instance) -> tuple[Recipe, frozenset[int]] | None:
        """Return what the last execution of a temporary instance has computed itself, and by which recipe."""
        for process in self.paused.values():
            call = process.call
            if call[0] == "execute_instance" and call[1].lower() == table_name.lower() and call[2] == temporary.version:
                assert temporary.recipe is not None
                return temporary.recipe, process.done.computed
        return (temporary.partial[0], temporary.partial[1].computed) if temporary.partial is not None else None

    def holders(self, table_name: str) -> Iterable[Process]:
        """Return the paused processes whose locks keep a table from being read."""
        return (process for process in self.paused.values() if process.locks.get(f"table/{table_name.lower()}"))


REQUIRED = object()
"""Stands in `DEFAULTS` for an argument without a default."""
DEFAULTS: dict[str, tuple[Any, ...]] = {
    "create_table": (REQUIRED, False, False),
    "create_instance": (REQUIRED, "base", None, False, False, "", ""),
    "write_instance": (REQUIRED, REQUIRED, "base"),
    "execute_instance": (REQUIRED, "base", False, False),
    "create_builder_file": (REQUIRED, "base", REQUIRED),
    "delete_builder_file": (REQUIRED, REQUIRED, "base"),
    "create_tag": (REQUIRED, "", "base", False),
    "delete_tag": (REQUIRED, ""),
    "import_instances": (REQUIRED, ""),
}


def _is_same(call: tuple[Any, ...], known: tuple[Any, ...]) -> bool:
    """Return whether a call may continue another one.

    A value equal to its default counts as omitted.
    """
    defaults = DEFAULTS.get(call[0], (REQUIRED,) * len(call))
    return call[0] == known[0] and all(
        mine == theirs or (default is not REQUIRED and mine == default)
        for mine, theirs, default in zip(call[1:], known[1:], defaults, strict=False)
    )


def _added(origin: Recipe | None, given: Recipe | None) -> Recipe | None:
    """Return the recipe of a copy with given builders.

    They replace builders of the same names.
    """
    if origin is None or given is None:
        return given or origin
    return replace(given, kind=given.kind or origin.kind, artifacts=given.artifacts or origin.artifacts)


def _check(condition: bool) -> None:
    if not condition:
        raise ExpectedError(ARGUMENT)


def _has_files(instance: Instance) -> bool:
    return instance.recipe is not None and instance.recipe.artifacts


def _of_instance(table: str, instance: str) -> str:
    return f"table/{table.lower()}/instance/{instance}"


def _overlap(first: str, second: str) -> bool:
    return first == second or first.startswith(f"{second}/") or second.startswith(f"{first}/")
