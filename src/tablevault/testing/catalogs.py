"""Conformance checks of catalogs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import count

from tablevault.errors import TVImplementationError, TVLockError, TVProcessError
from tablevault.layout import FORMAT
from tablevault.ports import Catalog
from tablevault.values.changes import (
    Change,
    Changes,
    ConfirmedInputs,
    Decision,
    DeletedInstance,
    DeletedTable,
    DeletedTag,
    MaterializedInstance,
    NewTable,
    NewTag,
    NewTemporaryInstance,
    Read,
    Remaining,
    RenamedTable,
    Tidying,
    TidyingAction,
    UnchangedInstance,
    WrittenInstance,
)
from tablevault.values.contents import (
    ArtifactState,
    CatalogIdentity,
    ColumnRecord,
    InstanceRecord,
    NamedInstance,
    Selection,
    TableRecord,
)
from tablevault.values.plans import CreateTablePlan, Unplanned
from tablevault.values.processes import (
    Begun,
    Blocked,
    BuilderProgress,
    Creation,
    ErrorInfo,
    Lock,
    NewProcess,
    Owner,
    Plan,
    ProcessRecord,
    Status,
)

MakeCatalog = Callable[[], Catalog]
"""Returns a catalog whose database does not exist yet."""
CatalogCheck = Callable[[MakeCatalog], None]

_ERROR = ErrorInfo("ValueError", "it’s wrong", "Traceback …")
_STEP = Tidying(TidyingAction.REMOVE, "_temp/1")
_numbers = count(1)


def _made(make: MakeCatalog) -> Catalog:
    catalog = make()
    catalog.create("vault", "2026-01-01T00:00:00+00:00")
    return catalog


def _new(process_id: str = "", parent: int | None = None) -> NewProcess:
    name = process_id or f"made-{next(_numbers)}"
    return NewProcess(name, "create_table", "author", {"table_name": "a"}, parent, bool(process_id), False)


def _owner() -> Owner:
    return Owner(f"owner-{next(_numbers)}", "host", 1)


def _locked(*resources: str, shared: bool = False) -> Plan:
    return Unplanned(locks=tuple(Lock(resource, not shared) for resource in resources))


def _try(
    catalog: Catalog, plan: Plan | None = None, process_id: str = "", parent: int | None = None
) -> Begun | Blocked:
    return catalog.transitions.begin(_new(process_id, parent), plan or Unplanned(), _owner())


def _begin(catalog: Catalog, plan: Plan | None = None, process_id: str = "", parent: int | None = None) -> int:
    begun = _try(catalog, plan, process_id, parent)
    assert isinstance(begun, Begun)
    return begun.serial


def _get(catalog: Catalog, serial: int) -> ProcessRecord:
    record = catalog.processes.get(serial)
    assert record is not None
    return record


def _decide(catalog: Catalog, serial: int, *changes: Change, status: Status = Status.SUCCEEDED) -> None:
    attempt = _get(catalog, serial).attempt
    catalog.transitions.decide([Decision(serial, attempt, status, Changes(changes))])


def _done(catalog: Catalog, *changes: Change) -> int:
    """Commit changes with a new process; return its serial number."""
    serial = _begin(catalog)
    _decide(catalog, serial, *changes)
    return serial


def _table(catalog: Catalog, name: str = "stories") -> TableRecord:
    _done(catalog, NewTable(name, name, False, False, ""))
    table = catalog.contents.table(name)
    assert table is not None
    return table


def _written(name: str, instance_id: str, *reads: Read, version: str = "base", replaces: bool = False) -> Change:
    columns = (ColumnRecord("x", "int64"),)
    return WrittenInstance(name, version, instance_id, instance_id, 3, columns, "0" * 64, "", reads, replaces)


def _raises(kind: type[Exception], act: Callable[[], object]) -> None:
    try:
        act()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def _refuses(act: Callable[[], object]) -> bool:
    try:
        act()
    except (TVProcessError, TVLockError):
        return True
    return False


# --- the catalog as a whole ---------------------------------------------------------------------------------------


def creating_again_changes_nothing(make: MakeCatalog) -> None:
    """A catalog keeps the vault of its first creation."""
    catalog = _made(make)
    _table(catalog)
    assert catalog.create("another", "2026-01-02T00:00:00+00:00", "/elsewhere").vault_id == "vault"
    assert catalog.identity() == CatalogIdentity(FORMAT, "vault", None)
    assert [table.name for table in catalog.contents.tables()] == ["stories"]
    assert catalog.faults() == []


def a_snapshot_sees_one_state(make: MakeCatalog) -> None:
    """Reads in a snapshot see no later commits, unlike `get_now` and other threads."""
    catalog = _made(make)
    serial = _begin(catalog)
    with catalog.snapshot():
        generation = catalog.contents.generation()
        assert catalog.contents.table("a") is None
        thread = threading.Thread(target=_decide, args=(catalog, serial, NewTable("a", "a", False, False, "")))
        thread.start()
        thread.join()
        assert catalog.contents.generation() == generation
        assert catalog.contents.table("a") is None
        assert _get(catalog, serial).status is Status.RUNNING
        now = catalog.processes.get_now(serial)
        assert now is not None
        assert now.status is Status.SUCCEEDED
    after = catalog.contents.generation()
    assert after > generation
    with catalog.snapshot():
        table = catalog.contents.table("a")
        assert table is not None
        assert catalog.contents.generation() == after
        assert catalog.contents.table("a") == catalog.contents.table_by_id(table.table_id) == table


def the_generation_grows_with_every_decision(make: MakeCatalog) -> None:
    """The generation changes only if a process is decided or finished."""
    catalog = _made(make)
    before = catalog.contents.generation()
    begun = _try(catalog, _locked("code"))
    assert isinstance(begun, Begun)
    assert begun.generation == before == catalog.contents.generation()
    catalog.transitions.pause(begun.serial, 1, _ERROR, None)
    assert catalog.contents.generation() == before
    tidying = Changes((NewTable("a", "a", False, False, ""),), (_STEP,))
    catalog.transitions.decide([Decision(begun.serial, 1, Status.SUCCEEDED, tidying)])
    visible = catalog.contents.generation()
    assert visible > before
    catalog.transitions.finish(begun.serial)
    assert catalog.contents.generation() > visible


# --- locks --------------------------------------------------------------------------------------------------------


def locks_are_taken_together_or_not_at_all(make: MakeCatalog) -> None:
    """A blocked attempt names the lock holders, and leaves no record or lock."""
    catalog = _made(make)
    holder = _begin(catalog, _locked("table/a"))
    other = _begin(catalog, _locked("table/c/instance/1", shared=True))
    blocked = _try(catalog, _locked("code", "table/a/instance/1", "table/c"), "again")
    assert isinstance(blocked, Blocked)
    assert blocked.holders == (holder, other)
    assert catalog.processes.conflicts([Lock("code", True)], None) == ()
    assert catalog.processes.find("again") is None
    assert catalog.processes.locks_of(holder) == (Lock("table/a", True),)


def a_lock_covers_whatever_is_below_it(make: MakeCatalog) -> None:
    """A lock covers its path and descendants, but not names that share a prefix."""
    catalog = _made(make)
    _begin(catalog, _locked("table/a/instance/1"))
    _begin(catalog, _locked("table/b", shared=True))
    others = [Lock(f"table/other{number}/instance/1", exclusive=True) for number in range(100)]

    def is_free(resource: str, exclusive: bool) -> bool:
        wanted = Lock(resource, exclusive)
        alone = catalog.processes.conflicts([wanted], None)
        assert catalog.processes.conflicts([*others, wanted], None) == alone
        return not alone

    for resource in ("table/a", "table/a/instance/1", "table/a/instance/1/x", "table"):
        assert not is_free(resource, True)
        assert not is_free(resource, False)
    assert is_free("table/a/instance/10", True)
    assert is_free("table/a/instance", False) is False
    assert is_free("table/b/instance/1", False)
    assert not is_free("table/b/instance/1", True)
    assert is_free("table/bb", True)
    assert is_free("code", True)


def a_child_may_read_the_locks_of_its_ancestors(make: MakeCatalog) -> None:
    """A lock of an ancestor process blocks only exclusive locks."""
    catalog = _made(make)
    parent = _begin(catalog, _locked("table/a"))
    child = _begin(catalog, parent=parent)
    assert catalog.processes.is_ancestor(parent, child)
    assert not catalog.processes.is_ancestor(child, parent)
    assert isinstance(_try(catalog, _locked("table/a", shared=True), parent=child), Begun)
    assert isinstance(_try(catalog, _locked("table/a"), parent=child), Blocked)
    assert isinstance(_try(catalog, _locked("table/a", shared=True)), Blocked)
    assert [record.serial for record in catalog.processes.children(parent)] == [child]


def many_locks_are_looked_for_at_once(make: MakeCatalog) -> None:
    """The number of locks of a process is unlimited."""
    catalog = _made(make)
    resources = [f"table/t{number}/instance/1" for number in range(1_500)]
    serial = _begin(catalog, _locked(*resources, shared=True))
    assert len(catalog.processes.locks_of(serial)) == len(resources)
    assert isinstance(_try(catalog, _locked(*reversed(resources))), Blocked)
    assert isinstance(_try(catalog, _locked(*resources, shared=True)), Begun)


def one_of_many_gets_an_exclusive_lock(make: MakeCatalog) -> None:
    """Of several concurrent processes, only one gets an exclusive lock."""
    catalog = _made(make)
    barrier = threading.Barrier(8)
    outcomes: list[Begun | Blocked] = []

    def begin() -> None:
        barrier.wait()
        outcomes.append(_try(catalog, _locked("code")))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    assert sum(isinstance(outcome, Begun) for outcome in outcomes) == 1


# --- beginning ----------------------------------------------------------------------------------------------------


def a_process_is_read_back_as_it_was_recorded(make: MakeCatalog) -> None:
    """A process's record contains all recorded facts."""
    catalog = _made(make)
    locks = (Lock("table/a", True),)
    plan = CreateTablePlan(table_name="a", locks=locks, creates=(Creation("a"),), folder="a")
    owner = _owner()
    begun = catalog.transitions.begin(_new("mine"), plan, owner)
    assert isinstance(begun, Begun)
    record = _get(catalog, begun.serial)
    assert (record.process_id, record.operation, record.author) == ("mine", "create_table", "author")
    assert (record.table_name, record.arguments, record.plan) == ("a", {"table_name": "a"}, plan)
    assert (record.owner_lock, record.owner_host, record.owner_pid) == (owner.lock, owner.host, owner.pid)
    assert (record.status, record.attempt, record.finished) == (Status.RUNNING, 1, False)
    assert catalog.processes.find("mine") == record
    assert catalog.processes.unfinished() == [record]
    assert catalog.processes.begun() == record.serial


def an_id_of_the_user_is_used_once(make: MakeCatalog) -> None:
    """A user-given id can be reused only after a revert."""
    catalog = _made(make)
    serial = _begin(catalog, process_id="mine")
    assert _refuses(lambda: _try(catalog, process_id="mine"))
    assert _refuses(lambda: catalog.processes.check_id_is_free("mine"))
    _decide(catalog, serial, status=Status.REVERTED)
    second = _begin(catalog, process_id="mine")
    _decide(catalog, second)
    assert _refuses(lambda: _try(catalog, process_id="mine"))
    found = catalog.processes.find("mine")
    assert found is not None
    assert found.serial == second


def a_plan_can_be_replaced(make: MakeCatalog) -> None:
    """The new plan replaces the first one, including its creations."""
    catalog = _made(make)
    first = CreateTablePlan(table_name="a", creates=(Creation("a"),), folder="a")
    second = CreateTablePlan(table_name="a", creates=(Creation("a~1"),), folder="a~1")
    serial = _begin(catalog, first)
    catalog.transitions.save_plan(serial, second)
    assert _get(catalog, serial).plan == second


def a_withdrawn_process_never_was(make: MakeCatalog) -> None:
    """A withdrawn process releases its locks and id, and leaves no record."""
    catalog = _made(make)
    plan = CreateTablePlan(locks=(Lock("code", True),), creates=(Creation("a"),), folder="a")
    serial = _begin(catalog, plan, "mine")
    catalog.transitions.withdraw(serial)
    assert catalog.processes.get(serial) is None
    assert catalog.processes.find("mine") is None
    assert isinstance(_try(catalog, plan, "mine"), Begun)


def a_refused_process_has_ended(make: MakeCatalog) -> None:
    """A refused process is listed as ended, with its error."""
    catalog = _made(make)
    catalog.transitions.record_refused(_new("mine"), "a", _ERROR)
    ((_, record),) = catalog.processes.ended_after(0)
    assert (record.status, record.finished, record.error, record.table_name) == (Status.REVERTED, True, _ERROR, "a")
    assert catalog.processes.unfinished() == []
    assert not _refuses(lambda: catalog.processes.check_id_is_free("mine"))


# --- ownership ----------------------------------------------------------------------------------------------------


def a_lost_process_cannot_be_changed(make: MakeCatalog) -> None:
    """A stale attempt cannot change a process that another attempt has claimed."""
    catalog = _made(make)
    serial = _begin(catalog, _locked("code"))
    old = _get(catalog, serial)
    assert catalog.processes.may_go_on(serial, old.attempt)
    catalog.transitions.request_stop(serial)
    assert not catalog.processes.may_go_on(serial, old.attempt)
    claimed = catalog.transitions.claim(old, _owner())
    assert claimed is not None
    assert (claimed.attempt, claimed.stop_requested) == (2, False)
    assert catalog.processes.may_go_on(serial, claimed.attempt)
    assert not catalog.processes.may_go_on(serial, old.attempt)
    assert not catalog.processes.may_go_on(serial + 1, claimed.attempt)
    assert catalog.transitions.claim(old, _owner()) is None
    progress = {"b": BuilderProgress(3, 1, 0, False)}
    assert _refuses(lambda: catalog.transitions.pause(serial, 1, _ERROR, None))
    assert _refuses(lambda: catalog.transitions.set_running(serial, 1))
    assert _refuses(lambda: catalog.transitions.save_progress(serial, 1, progress))
    assert _refuses(lambda: catalog.transitions.decide([Decision(serial, 1, Status.SUCCEEDED)]))
    assert _get(catalog, serial) == claimed


def a_paused_process_keeps_its_locks(make: MakeCatalog) -> None:
    """A paused process also keeps its error and progress until replaced; success clears the error."""
    catalog = _made(make)
    serial = _begin(catalog, _locked("code"), "mine")
    progress = {"b": BuilderProgress(3, 1, 0, False)}
    catalog.transitions.pause(serial, 1, _ERROR, progress)
    catalog.transitions.pause(serial, 1, None, None)
    paused = _get(catalog, serial)
    assert (paused.status, paused.error, paused.progress) == (Status.PAUSED, _ERROR, progress)
    assert isinstance(_try(catalog, _locked("code")), Blocked)
    claimed = catalog.transitions.claim(paused, _owner())
    assert claimed is not None
    catalog.transitions.set_running(serial, claimed.attempt)
    assert _get(catalog, serial).status is Status.RUNNING
    _decide(catalog, serial)
    assert _get(catalog, serial).error is None


# --- ending -------------------------------------------------------------------------------------------------------


def a_decision_without_steps_finishes(make: MakeCatalog) -> None:
    """Locks are released in the transaction that commits the changes."""
    catalog = _made(make)
    serial = _begin(catalog, _locked("code"))
    _decide(catalog, serial, NewTable("a", "a", False, False, ""))
    record = _get(catalog, serial)
    assert (record.status, record.finished, record.owner_lock) == (Status.SUCCEEDED, True, None)
    assert record.ended_at is not None
    assert catalog.processes.locks_of(serial) == ()


def a_decision_with_steps_keeps_locks_until_finished(make: MakeCatalog) -> None:
    """A success with steps is committing until they are done; a revert ends immediately."""
    catalog = _made(make)
    for status, meanwhile in ((Status.SUCCEEDED, Status.COMMITTING), (Status.REVERTED, Status.REVERTED)):
        serial = _begin(catalog, _locked("code"))
        catalog.transitions.decide([Decision(serial, 1, status, Changes(tidying=(_STEP,)))])
        assert _get(catalog, serial).status is meanwhile
        assert not _get(catalog, serial).finished
        assert [step for _, step in catalog.tidying.of(serial)] == [_STEP]
        assert isinstance(_try(catalog, _locked("code")), Blocked)
        ended = catalog.transitions.finish(serial)
        finished = _get(catalog, serial)
        assert (finished.status, finished.finished) == (status, True)
        assert ended == catalog.processes.ended_after(0)[-1]
        assert catalog.tidying.of(serial) == []
        generation = catalog.contents.generation()
        assert catalog.transitions.finish(serial) is None
        assert _get(catalog, serial) == finished
        assert catalog.contents.generation() == generation
    _raises(TVImplementationError, lambda: catalog.transitions.finish(_begin(catalog)))


def nothing_takes_back_a_decision(make: MakeCatalog) -> None:
    """A decision is final, even for the attempt that made it."""
    catalog = _made(make)
    serial = _begin(catalog)
    catalog.transitions.decide([Decision(serial, 1, Status.SUCCEEDED, Changes(tidying=(_STEP,)))])
    assert _refuses(lambda: catalog.transitions.pause(serial, 1, _ERROR, None))
    assert _refuses(lambda: catalog.transitions.decide([Decision(serial, 1, Status.REVERTED)]))
    assert _get(catalog, serial).status is Status.COMMITTING


def processes_are_decided_together_or_not_at_all(make: MakeCatalog) -> None:
    """If one attempt is stale, no change of the group becomes visible."""
    catalog = _made(make)
    first, second = _begin(catalog), _begin(catalog)
    changes = Changes((NewTable("a", "a", False, False, ""),))
    wrong = Decision(second, 7, Status.STOPPED)
    assert _refuses(lambda: catalog.transitions.decide([Decision(first, 1, Status.SUCCEEDED, changes), wrong]))
    assert catalog.contents.table("a") is None
    assert _get(catalog, first).status is Status.RUNNING
    right = Decision(second, 1, Status.STOPPED, error=_ERROR)
    catalog.transitions.decide([Decision(first, 1, Status.SUCCEEDED, changes), right])
    assert catalog.contents.table("a") is not None
    assert (_get(catalog, second).status, _get(catalog, second).error) == (Status.STOPPED, _ERROR)


def ends_are_listed_in_their_order(make: MakeCatalog) -> None:
    """Processes are listed in the order of their ends.

    A succeeded process ends once it is tidied up, a reverted one with its decision.
    """
    catalog = _made(make)
    slow, reverted, quick = _begin(catalog), _begin(catalog), _begin(catalog)
    tidying = Changes(tidying=(_STEP,))
    catalog.transitions.decide([Decision(slow, 1, Status.SUCCEEDED, tidying)])
    catalog.transitions.decide([Decision(reverted, 1, Status.REVERTED, tidying)])
    _decide(catalog, quick)
    ended = catalog.processes.ended_after(0)
    assert [record.serial for _, record in ended] == [reverted, quick]
    place = ended[-1][0]
    catalog.transitions.finish(reverted)
    catalog.transitions.finish(slow)
    assert [record.serial for _, record in catalog.processes.ended_after(place)] == [slow]
    assert [record.serial for record in catalog.processes.history({"operation": "create_table"}, 1)] == [quick]


def a_decision_returns_the_processes_that_it_finishes(make: MakeCatalog) -> None:
    """A finished process is returned as it is listed, an unfinished one with its remaining work."""
    catalog = _made(make)
    plan = CreateTablePlan(table_name="a", creates=(Creation("a"),), folder="a")
    done, tidied, stopped = _begin(catalog, plan, "mine"), _begin(catalog), _begin(catalog)
    progress = {"b": BuilderProgress(3, 1, 0, False)}
    decided = catalog.transitions.decide(
        [
            Decision(stopped, 1, Status.STOPPED, error=_ERROR),
            Decision(tidied, 1, Status.SUCCEEDED, Changes(tidying=(_STEP,))),
            Decision(done, 1, Status.SUCCEEDED, Changes((NewTable("a", "a", False, False, ""),)), progress=progress),
        ]
    )
    assert list(decided) == [stopped, tidied, done]
    assert isinstance(decided[tidied], Remaining)
    assert [decided[stopped], decided[done]] == catalog.processes.ended_after(0)


def creations_are_known_until_they_are_visible(make: MakeCatalog) -> None:
    """A finished process's creation is reported only if the process did not succeed."""
    catalog = _made(make)
    for status, expected in ((Status.REVERTED, True), (Status.SUCCEEDED, False)):
        path = f"folder-{status}"
        serial = _begin(catalog, CreateTablePlan(creates=(Creation(path),), folder=path))
        assert not catalog.processes.created(path)
        _decide(catalog, serial, status=status)
        assert catalog.processes.created(path) is expected


# --- steps on disk ------------------------------------------------------------------------------------------------


def failed_steps_stay_recorded(make: MakeCatalog) -> None:
    """Failed steps outlive their process until done, or until a new creation takes their path."""
    catalog = _made(make)
    steps = (Tidying(TidyingAction.REMOVE, "a"), Tidying(TidyingAction.REMOVE, "b"))
    serial = _begin(catalog)
    catalog.transitions.decide([Decision(serial, 1, Status.SUCCEEDED, Changes(tidying=steps))])
    (first, _), (second, _) = catalog.tidying.of(serial)
    catalog.transitions.finish(serial, [(first, "busy"), (second, "busy")])
    assert catalog.tidying.failed() == [(step, "busy") for step in steps]
    assert catalog.tidying.processes_with_failed() == [serial]
    done: list[int] = []
    catalog.tidying.while_undone(serial, first, lambda: done.append(first))
    catalog.tidying.keep_failed(serial, [(second, "busy still")])
    catalog.tidying.while_undone(serial, first, lambda: done.append(first))
    assert done == [first]
    assert catalog.tidying.failed() == [(steps[1], "busy still")]
    _begin(catalog, CreateTablePlan(creates=(Creation("b"),), folder="b"))
    assert catalog.tidying.failed() == []


def late_answers_about_steps_that_are_done_touch_no_others(make: MakeCatalog) -> None:
    """A stale retry of a failed step must not change a newer process's step."""
    catalog = _made(make)
    over, newer = _begin(catalog), _begin(catalog)
    old, new = Tidying(TidyingAction.REMOVE, "old"), Tidying(TidyingAction.REMOVE, "new")
    catalog.transitions.decide([Decision(over, 1, Status.SUCCEEDED, Changes(tidying=(old,)))])
    ((step, _),) = catalog.tidying.of(over)
    catalog.transitions.finish(over, [(step, "busy")])
    catalog.tidying.keep_failed(over, [])
    # From here on, the step's id may be reused.
    catalog.transitions.decide([Decision(newer, 1, Status.SUCCEEDED, Changes(tidying=(new,)))])
    done: list[int] = []
    catalog.tidying.while_undone(over, step, lambda: done.append(step))
    catalog.tidying.keep_failed(over, [(step, "not permitted")])
    assert done == []
    assert catalog.tidying.processes_with_failed() == []
    assert [kept for _, kept in catalog.tidying.of(newer)] == [new]


def pending_moves_are_seen_by_readers(make: MakeCatalog) -> None:
    """Pending placements and removals of files are listed until done."""
    catalog = _made(make)
    steps = (Tidying(TidyingAction.PUT_FILE, "staged", "file"), Tidying(TidyingAction.REMOVE, "old"))
    serial = _begin(catalog)
    catalog.transitions.decide([Decision(serial, 1, Status.SUCCEEDED, Changes(tidying=steps))])
    assert catalog.tidying.pending_moves() == {"file": "staged", "old": ""}
    catalog.transitions.finish(serial)
    assert catalog.tidying.pending_moves() == {}


# --- tables and instances -----------------------------------------------------------------------------------------


def tables_are_found_by_their_names(make: MakeCatalog) -> None:
    """Table names are case-insensitive; a deleted table is found only by id."""
    catalog = _made(make)
    table = _table(catalog, "Stories")
    assert catalog.contents.table("sTORIES") == table
    _done(catalog, RenamedTable(table.table_id, "tales", "tales", "Stories"))
    renamed = catalog.contents.table("tales")
    assert renamed is not None
    assert (renamed.table_id, renamed.folder, renamed.previous_folder) == (table.table_id, "tales", "Stories")
    assert catalog.contents.table("stories") is None
    _done(catalog, DeletedTable(table.table_id))
    assert catalog.contents.tables() == []
    assert catalog.contents.table_by_id(table.table_id) is not None
    assert _table(catalog, "tales").table_id != table.table_id


def an_instance_is_selected_by_id_or_version(make: MakeCatalog) -> None:
    """`select` agrees with `instance` and `newest`, and also returns the table."""
    catalog = _made(make)
    table = _table(catalog)
    for number, version in enumerate(("base", "base", "other")):
        _done(catalog, _written("stories", f"{version}_{number}_x", version=version))

    def selected(table_name: str = "STORIES", instance_id: str = "", version: str = "base") -> str | None:
        found = catalog.contents.select(Selection(table_name, instance_id, version))
        if found is None:
            return None
        assert found.table == table
        assert not found.is_held
        return found.instance.instance_id

    newest = catalog.contents.newest(table.table_id, "base")
    assert newest is not None
    assert selected() == "base_1_x" == newest.instance_id
    assert selected(version="other") == "other_2_x"
    assert selected(instance_id="base_0_x") == "base_0_x"
    assert selected(instance_id="base_9_x") is None
    assert selected(table_name="novels") is None
    _done(catalog, DeletedInstance(newest.row_id))
    assert selected() == "base_0_x"
    assert catalog.contents.instance_by_row(newest.row_id) is not None
    assert catalog.contents.version_like(table.table_id, "OTHER") == "other"
    assert catalog.contents.version_like(table.table_id, "other") is None


def the_current_instances_of_all_tables_are_read_at_once(make: MakeCatalog) -> None:
    """`current` returns temporary instances, and the newest active materialized instance of each version."""
    catalog = _made(make)
    assert catalog.contents.current() == []
    for name in ("stories", "novels"):
        table = _table(catalog, name)
        for number, version in enumerate(("base", "base", "other")):
            _done(catalog, _written(name, f"{version}_{number}_{name}", version=version))
    _done(catalog, NewTemporaryInstance(table.table_id, "TEMP_base", "base", "TEMP_base", False, None, ""))
    expected = ["base_1_stories", "other_2_stories", "base_1_novels", "other_2_novels", "TEMP_base"]
    assert [item.instance_id for item in catalog.contents.current()] == expected
    newest = catalog.contents.newest(table.table_id, "base")
    assert newest is not None
    _done(catalog, DeletedInstance(newest.row_id))
    expected[2:] = ["base_0_novels", "other_2_novels", "TEMP_base"]
    assert [item.instance_id for item in catalog.contents.current()] == expected


def a_selection_tells_of_side_effects(make: MakeCatalog) -> None:
    """A selection reports an exclusive lock on the whole table."""
    catalog = _made(make)
    _table(catalog)
    _done(catalog, _written("stories", "base_0_x"))
    serial = _begin(catalog, _locked("table/stories"))
    found = catalog.contents.select(Selection("stories", "", "base"))
    assert found is not None
    assert found.is_held
    assert catalog.contents.side_effects_by("Stories") == (serial,)


def a_materialized_instance_takes_the_place_of_a_temporary_one(make: MakeCatalog) -> None:
    """The process refers to the new instance, whose reads and origin are known in both directions."""
    catalog = _made(make)
    table = _table(catalog)
    _done(catalog, _written("stories", "base_0_x"))
    origin = catalog.contents.newest(table.table_id)
    assert origin is not None
    _done(catalog, NewTemporaryInstance(table.table_id, "TEMP_base", "base", "TEMP_base", False, origin.row_id, "text"))
    temporary = catalog.contents.instance(table.table_id, "TEMP_base")
    assert temporary is not None
    read = Read("x", "builder", origin.row_id, "*")
    columns = (ColumnRecord("x", "int64"),)
    change = MaterializedInstance(
        temporary.row_id, "base_1_x", "base_1_x", True, 5, columns, "0" * 64, (read,), deactivates_others=True
    )
    serial = _done(catalog, change)
    assert catalog.contents.instance(table.table_id, "TEMP_base") is None
    made = catalog.contents.newest(table.table_id)
    assert made is not None
    assert (made.instance_id, made.row_count, made.columns, made.description) == ("base_1_x", 5, columns, "text")
    assert [item.instance_id for item in catalog.contents.instances(table.table_id)] == ["base_0_x", "base_1_x"]
    assert [item.active for item in catalog.contents.instances(table.table_id)] == [False, True]
    assert catalog.contents.reads_of(made.row_id) == [read]
    assert catalog.contents.readers_of(origin.row_id) == [(made.row_id, read)]
    assert catalog.contents.origins() == [(made.row_id, origin.row_id)]
    assert _get(catalog, serial).instance_id == "base_1_x"


def an_unchanged_instance_stands_for_a_temporary_one(make: MakeCatalog) -> None:
    """The temporary instance is removed and its origin confirmed, unless the origin is stale."""
    catalog = _made(make)
    table = _table(catalog)
    _done(catalog, _written("stories", "base_0_x"))
    origin = catalog.contents.newest(table.table_id)
    assert origin is not None
    _done(catalog, NewTemporaryInstance(table.table_id, "TEMP_base", "base", "TEMP_base", False, origin.row_id, "text"))
    temporary = catalog.contents.instance(table.table_id, "TEMP_base")
    assert temporary is not None
    changes = (
        UnchangedInstance(temporary.row_id, origin.row_id, origin.instance_id),
        ConfirmedInputs(origin.row_id, (7, 3)),
    )
    _done(catalog, _written("stories", "other_1_x", version="other"))
    serial = _done(catalog, *changes)
    assert catalog.contents.instance(table.table_id, "TEMP_base") is None
    assert catalog.contents.newest(table.table_id, "base") == origin
    assert _get(catalog, serial).instance_id == "base_0_x"
    assert catalog.contents.confirmed_inputs(origin.row_id) == [7, 3]
    _done(catalog, NewTemporaryInstance(table.table_id, "TEMP_base", "base", "TEMP_base", False, origin.row_id, "text"))
    _done(catalog, _written("stories", "base_2_x"))
    again = catalog.contents.instance(table.table_id, "TEMP_base")
    assert again is not None
    overtaken = UnchangedInstance(again.row_id, origin.row_id, origin.instance_id)
    assert _refuses(lambda: _done(catalog, overtaken, changes[1]))
    assert catalog.contents.instance(table.table_id, "TEMP_base") == again
    assert catalog.contents.confirmed_inputs(origin.row_id) == [7, 3]


def superseded_artifacts_are_dropped_once_they_are_free(make: MakeCatalog) -> None:
    """Artifacts are not dropped while another process holds a lock on them."""
    catalog = _made(make)
    table = _table(catalog)
    _done(catalog, _written("stories", "base_0_x", replaces=True))
    reader = _begin(catalog, _locked("table/stories/instance/base_0_x", shared=True))
    writer = _begin(catalog)
    changes = Changes((_written("stories", "base_1_x", replaces=True),), (_STEP,))
    catalog.transitions.decide([Decision(writer, 1, Status.SUCCEEDED, changes)])
    old = catalog.contents.instance(table.table_id, "base_0_x")
    assert old is not None
    assert old.artifact_state is ArtifactState.SUPERSEDED
    assert [step for _, step in catalog.tidying.drop_superseded(writer, _artifacts_of)] == [_STEP]
    held = catalog.contents.instance_by_row(old.row_id)
    assert held == old
    _decide(catalog, reader)
    steps = catalog.tidying.drop_superseded(writer, _artifacts_of)
    assert [step.source for _, step in steps] == [_STEP.source, "stories/base_0_x/artifacts"]
    assert catalog.tidying.drop_superseded(writer, _artifacts_of) == steps == catalog.tidying.of(writer)
    dropped = catalog.contents.instance_by_row(old.row_id)
    assert dropped is not None
    assert dropped.artifact_state is ArtifactState.DROPPED


def a_tag_names_one_instance_of_a_table(make: MakeCatalog) -> None:
    """Tags can be set, moved, deleted and looked up case-insensitively."""
    catalog = _made(make)
    stories, poems = _table(catalog), _table(catalog, "Poems")
    for name in ("base_0_x", "base_1_x"):
        _done(catalog, _written("stories", name))
    _done(catalog, _written("Poems", "base_0_x"))
    first, second = catalog.contents.instances(stories.table_id)
    poem = catalog.contents.newest(poems.table_id)
    assert poem is not None
    assert [item.row_id for item in catalog.contents.newest_successful("base")] == [second.row_id, poem.row_id]
    assert catalog.contents.newest_successful("v2") == []
    assert catalog.contents.tags() == []
    tagged = ((stories.table_id, first.row_id), (poems.table_id, poem.row_id))
    serial = _done(catalog, NewTag("Paper", tagged, "old"))
    found = catalog.contents.tags(tag="paper")
    assert [(item.table_name, item.instance_id) for item in found] == [("Poems", "base_0_x"), ("stories", "base_0_x")]
    assert (found[1].description, found[1].author) == ("old", "author")
    assert found[1].process_id == _get(catalog, serial).process_id
    assert catalog.contents.tagged_instances("paper") == [
        NamedInstance.of(stories, first),
        NamedInstance.of(poems, poem),
    ]
    assert catalog.contents.tagged_instances("PAPER", [poems.table_id, 99]) == [NamedInstance.of(poems, poem)]
    assert catalog.contents.tags(table_id=poems.table_id) == catalog.contents.tags(row_id=poem.row_id) == found[:1]
    _done(catalog, NewTag("PAPER", ((stories.table_id, second.row_id),), "", moved_in=(stories.table_id,)))
    assert catalog.contents.tagged(stories.table_id, "paper") == second
    selected = catalog.contents.select(Selection("stories", "@paper", "base"))
    assert selected is not None
    assert (selected.table, selected.instance) == (stories, second)
    assert catalog.contents.tags(row_id=first.row_id) == []
    _done(catalog, DeletedTag("paper", (stories.table_id,)))
    assert catalog.contents.tagged(stories.table_id, "paper") is None
    assert catalog.contents.select(Selection("stories", "@paper", "base")) is None
    assert catalog.contents.tags() == found[:1]


def _artifacts_of(table: TableRecord, instance: InstanceRecord) -> str:
    return f"{table.folder}/{instance.folder}/artifacts"


def tagged_artifacts_are_not_dropped(make: MakeCatalog) -> None:
    """Superseded artifacts are not dropped while their instance is tagged, nor by an ended process."""
    catalog = _made(make)
    table = _table(catalog)
    _done(catalog, _written("stories", "base_0_x", replaces=True))
    old = catalog.contents.newest(table.table_id)
    assert old is not None
    _done(catalog, NewTag("paper", ((table.table_id, old.row_id),), ""))
    _done(catalog, _written("stories", "base_1_x", replaces=True))
    serial = _begin(catalog)
    changes = Changes((DeletedTag("paper", (table.table_id,)),), frees_artifacts=True)
    assert catalog.tidying.drop_superseded(serial, _artifacts_of) == []
    left = catalog.transitions.decide([Decision(serial, 1, Status.SUCCEEDED, changes)])
    assert left == {serial: Remaining((), has_superseded=True)}
    assert _get(catalog, serial).status is Status.COMMITTING
    assert catalog.tidying.drop_superseded(_done(catalog), _artifacts_of) == []
    steps = catalog.tidying.drop_superseded(serial, _artifacts_of)
    assert [step.source for _, step in steps] == ["stories/base_0_x/artifacts"]
    catalog.transitions.finish(serial)
    assert _get(catalog, serial).status is Status.SUCCEEDED


def lists_are_read_by_key(make: MakeCatalog) -> None:
    """Keyset pages of tables, instances and processes have no gaps, and carry tags and counts."""
    catalog = _made(make)
    for name in ("b", "A", "c"):
        _table(catalog, name)
    for number in range(5):
        last = _done(catalog, _written("b", f"base_{number}"))
    listed = catalog.contents.listed_tables("", 2)
    assert [table.name for table in listed] == ["A", "b"]
    assert [table.name for table in catalog.contents.listed_tables("B", 2)] == ["c"]
    table_id = listed[1].table_id
    assert [item.instance_id for item in catalog.contents.newest_listed([t.table_id for t in listed]).values()] == [
        "base_4"
    ]
    first = catalog.contents.listed_instances(table_id, False, None, 2)
    assert [item.instance_id for item in first] == ["base_4", "base_3"]
    rest = catalog.contents.listed_instances(table_id, False, first[-1].row_id, 9)
    assert [item.instance_id for item in rest] == ["base_2", "base_1", "base_0"]
    assert catalog.contents.listed_instances(table_id, True, None, 9) == []
    _done(catalog, NewTag("paper", ((table_id, rest[0].row_id),), ""))
    assert [tag.tag for tag in catalog.contents.tags(row_ids=[rest[0].row_id, rest[1].row_id])] == ["paper"]
    assert catalog.contents.tags(row_ids=[rest[1].row_id]) == []
    assert catalog.contents.failure_counts([item.row_id for item in rest]) == {}
    newest = catalog.processes.history({}, 2, before=last + 1)
    assert [record.serial for record in newest] == [last, last - 1]


def a_change_of_an_unknown_table_is_refused(make: MakeCatalog) -> None:
    """A contradiction is an error of the implementation, and the decision has no effect."""
    catalog = _made(make)
    table = _table(catalog)
    for change in (
        NewTemporaryInstance(None, "TEMP_base", "base", "TEMP_base", False, None, "", "nowhere"),
        _written("nowhere", "base_1_x"),
    ):
        serial = _begin(catalog)
        _raises(TVImplementationError, partial(_decide, catalog, serial, DeletedTable(table.table_id), change))
        assert catalog.contents.tables() == [table]
        assert _get(catalog, serial).status is Status.RUNNING


def many_rows_are_read_at_once(make: MakeCatalog) -> None:
    """The number of objects that a read names has no limit, and naming one twice adds nothing."""
    catalog = _made(make)
    table = _table(catalog)
    _done(catalog, _written("stories", "base_1_x"))
    (instance,) = catalog.contents.instances(table.table_id)
    _done(catalog, NewTag("paper", ((table.table_id, instance.row_id),), ""))
    holder = _begin(catalog, _locked("code"))
    many = range(1, 300_001)
    assert catalog.contents.failure_counts(many) == {}
    assert [tag.tag for tag in catalog.contents.tags(row_ids=many)] == ["paper"]
    assert list(catalog.contents.newest_listed(many)) == [table.table_id]
    assert catalog.processes.locks_of_each([holder] * 3_000) == {holder: (Lock("code", True),)}


def past_instances_are_found_by_the_order_of_commits(make: MakeCatalog) -> None:
    """A process or time selects the instances committed until then, including deleted ones."""
    catalog = _made(make)
    table = _table(catalog)
    before = datetime.now(UTC)
    first = _done(catalog, _written("stories", "base_0_x"))
    other = _done(catalog)
    second = _done(catalog, _written("stories", "base_1_x"))
    old, new = catalog.contents.instances(table.table_id)
    _done(catalog, DeletedInstance(new.row_id))
    contents = catalog.contents
    assert (contents.place_of(first), contents.place_of(other)) == (old.row_id, None)
    assert (contents.place_after(other), contents.place_after(second)) == (old.row_id, new.row_id)
    assert (contents.place_at(before), contents.place_at(datetime.now(UTC))) == (0, new.row_id)
    assert contents.place_at(old.created_at) == old.row_id
    for place, found in ((0, None), (old.row_id, old), (new.row_id, new)):
        assert contents.newest_until(table.table_id, "base", place) == found
    assert contents.newest_until(table.table_id, "base", new.row_id, successful_only=True) == new
    assert contents.newest_until(table.table_id, "v2", new.row_id) is None


CATALOG_CHECKS: tuple[CatalogCheck, ...] = (
    creating_again_changes_nothing,
    a_snapshot_sees_one_state,
    the_generation_grows_with_every_decision,
    locks_are_taken_together_or_not_at_all,
    a_lock_covers_whatever_is_below_it,
    a_child_may_read_the_locks_of_its_ancestors,
    many_locks_are_looked_for_at_once,
    one_of_many_gets_an_exclusive_lock,
    a_process_is_read_back_as_it_was_recorded,
    an_id_of_the_user_is_used_once,
    a_plan_can_be_replaced,
    a_withdrawn_process_never_was,
    a_refused_process_has_ended,
    a_lost_process_cannot_be_changed,
    a_paused_process_keeps_its_locks,
    a_decision_without_steps_finishes,
    a_decision_with_steps_keeps_locks_until_finished,
    nothing_takes_back_a_decision,
    processes_are_decided_together_or_not_at_all,
    ends_are_listed_in_their_order,
    a_decision_returns_the_processes_that_it_finishes,
    creations_are_known_until_they_are_visible,
    failed_steps_stay_recorded,
    late_answers_about_steps_that_are_done_touch_no_others,
    pending_moves_are_seen_by_readers,
    tables_are_found_by_their_names,
    an_instance_is_selected_by_id_or_version,
    the_current_instances_of_all_tables_are_read_at_once,
    a_selection_tells_of_side_effects,
    a_materialized_instance_takes_the_place_of_a_temporary_one,
    an_unchanged_instance_stands_for_a_temporary_one,
    superseded_artifacts_are_dropped_once_they_are_free,
    a_tag_names_one_instance_of_a_table,
    tagged_artifacts_are_not_dropped,
    a_change_of_an_unknown_table_is_refused,
    many_rows_are_read_at_once,
    past_instances_are_found_by_the_order_of_commits,
    lists_are_read_by_key,
)
"""Checks of the `tablevault.ports.Catalog` contract that apply to all databases."""
