"""R5, random calls of the public API against a model.

Functions fail and are interrupted; the model is plain dicts and lists.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pandas as pd
from experiment import Budget, Figures, Watch
from forking import Counts, repeat_alone, run_side_by_side, serve
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from model import (
    ARGUMENT,
    BATCH,
    EXTERNAL,
    INTERRUPT,
    LOCK,
    WRONG,
    Called,
    ExpectedError,
    Fault,
    Instance,
    Model,
    Recipe,
    Source,
    Table,
    Tag,
)
from pyarrow import parquet

from tablevault import TableVault, TableVaultWarning, TVArtifactError, TVLockError

CODE = """
import os
from pathlib import Path

import pandas as pd

from tablevault import TableVault


def work(x):
    with open(os.environ["MODEL_CALLS"], "a") as calls:
        calls.write(f"{x}\\n")
    kind, _, row = os.environ.get("MODEL_FAULT", "").partition(" ")
    if row == str(x):
        if kind == "ConnectionError":
            raise ConnectionError("no network")
        if kind == "KeyboardInterrupt":
            raise KeyboardInterrupt
        return False
    return True


def index(count):
    return pd.DataFrame({"x": range(count)})


def row(x, factor):
    return f"{x}*{factor}" if work(x) else object()


async def row_async(x, factor):
    return row(x, factor)


class Answers:
    def __init__(self, mark):
        self.mark = mark

    def __call__(self, x, factor):
        return row(x, factor)


def batch(x, factor):
    return [row(each, factor) for each in x]


def nested(x, factor, parent):
    answer = row(x, factor)
    if isinstance(answer, str):
        vault = TableVault(os.environ["MODEL_VAULT"], author="child", parent_id=parent)
        if f"child{x}" not in vault.get_tables():
            vault.create_table(f"child{x}")
    return answer


def rows(count, factor):
    for x in range(count):
        yield f"{x}*{factor}" if work(x) else object()


def frame(xs, factor):
    good = [work(x) for x in xs["x"]]
    return pd.DataFrame({"answer": [f"{x}*{factor}" for x in xs["x"]][: len(good) if all(good) else -1]})


def file(x, folder):
    (Path(folder) / f"{x}.txt").write_text(str(x))
    return f"{x}.txt"
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
primary_key: [x]
python_function: index
code_module: job
is_custom: true
arguments: {{count: {rows}}}
"""

ANSWER = """
builder_type: ColumnBuilder
changed_columns: [answer]
dtypes: {{answer: string}}
python_function: {function}
code_module: job
is_custom: true
return_type: {return_type}
n_threads: {threads}
arguments: {{factor: {factor}, {argument}}}
{more}
"""

FUNCTIONS = {
    "row-wise": ("row", 'x: "<<self.x[index]>>"'),
    "threads": ("row", 'x: "<<self.x[index]>>"'),
    "async": ("row_async", 'x: "<<self.x[index]>>"'),
    "class": ("Answers", 'x: "<<self.x[index]>>"'),
    "batch": ("batch", 'x: "<<self.x[index]>>"'),
    "collect": ("row", 'x: "<<self.x[index]>>"'),
    "nested": ("nested", 'x: "<<self.x[index]>>", parent: ~PROCESS_ID~'),
    "generator": ("rows", "count: {rows}"),
    "dataframe": ("frame", "xs: <<self.x>>"),
}

MORE = {
    "class": 'setup_arguments: {mark: "*"}',
    "batch": f"batch_size: {BATCH}",
    "collect": "on_error: collect\nmax_failures: 100%",
}
"""Further fields of the builder."""

FILE = """
builder_type: ColumnBuilder
changed_columns: [file]
dtypes: {file: artifact_string}
python_function: file
code_module: job
is_custom: true
return_type: row-wise
arguments: {x: "<<self.x[index]>>", folder: ~ARTIFACT_FOLDER~}
"""

TAGS = st.sampled_from(["paper", "Paper", "v1", "latest", "x y"])
TABLES = st.sampled_from(["a", "a", "a", "b", "b", "A"])
VERSIONS = st.sampled_from(["base", "base", "v2"])
PROCESS_IDS = st.sampled_from(["", "", "", "p1", "p2", "p3"])
KINDS = st.sampled_from(["row-wise", *FUNCTIONS])
RECIPES = st.builds(Recipe, st.integers(0, 4), st.integers(1, 2), KINDS, st.booleans())
FAULTS = st.none() | st.builds(Fault, st.sampled_from([EXTERNAL, WRONG, INTERRUPT]), st.integers(0, 3))
STEPS = 40
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
PATIENCE = 60.0
"""Seconds to wait for a worker."""


def builders(table: str, recipe: Recipe) -> dict[str, str]:
    """Return the builder files that a recipe stands for."""
    made = {f"{table}_index": INDEX.format(rows=recipe.rows), "answer": answer(recipe)}
    return made | ({"file": FILE} if recipe.artifacts else {})


def answer(recipe: Recipe) -> str:
    """Return the builder of the column `answer`."""
    function, argument = FUNCTIONS[recipe.kind]
    argument = argument.format(rows=recipe.rows)
    return ANSWER.format(
        function=function,
        return_type="row-wise" if recipe.decides_rows and recipe.kind != "batch" else recipe.kind,
        threads=2 if recipe.kind == "threads" else 1,
        factor=recipe.factor,
        argument=argument,
        more=MORE.get(recipe.kind, ""),
    )


@cache
def source() -> Source:
    """Make a vault to import instances from, which never changes."""
    folder = Path(tempfile.mkdtemp(prefix="tablevault-torture-", dir=MEMORY))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    vault = TableVault(folder / "source", create=True, author="s")
    os.environ["MODEL_CALLS"], os.environ["MODEL_FAULT"] = str(folder / "calls"), ""
    a, derived, one_set = Table(False, False), Table(True, False), Table(False, False)

    def add(name: str, table: Table, frame: dict[str, list[Any]], **facts: Any) -> Instance:
        instance_id = vault.get_table_instances(name, "")[-1]
        made = Instance(instance_id, instance_id.split("_", 1)[0], frame=frame, **facts)
        if table.last_made is not None and not table.multiple and not table.tags_of(table.last_made):
            table.last_made.has_artifacts = False
        table.instances[instance_id] = table.last_made = made
        return made

    for rows, version in ((1, "base"), (2, "base"), (3, "v2")):
        vault.write("a", pd.DataFrame({"x": range(rows)}), version=version)
        add("a", a, {"x": list(range(rows))}, external=True)
    first = next(iter(a.instances.values()))
    vault.create_table("derived", allow_multiple_artifacts=True)
    vault.create_instance("derived", external_edit=True)
    vault.write_instance(pd.DataFrame({"x": [7]}), "derived", dependencies=[("a", first.name)])
    add("derived", derived, {"x": [7]}, external=True, inputs=(first,))
    vault.create_table("one-set")
    vault.create_code_module("job", text=CODE)
    for rows in (2, 3):
        recipe = Recipe(rows, 1, "row-wise", artifacts=True)
        vault.create_instance("one-set", builders=builders("one-set", recipe))
        vault.execute_instance("one-set")
        made = add("one-set", one_set, recipe.frame(), recipe=recipe, builders=recipe.builders("one-set"))
        if rows == 2:
            vault.create_tag("v1", "one-set")
            one_set.tags["v1"] = Tag("v1", made)
    vault.create_tag("Paper", f"a({first.name})")
    a.tags["paper"] = Tag("Paper", first)
    return Source(vault.db_dir, {"a": a, "derived": derived, "one-set": one_set})


def compare_exported(exported: Source) -> None:
    """Compare a vault that was exported with the model."""
    vault = TableVault(exported.path, author="reviewer")
    assert sorted(vault.get_tables()) == sorted(exported.tables)
    for name, table in exported.tables.items():
        assert vault.get_table_instances(name, "") == list(table.instances)
        for instance in table.instances.values():
            found, _ = vault.get_dataframe(name, instance.name, full_artifact_path=False)
            assert cells(found) == instance.frame
    tags = [(tag.name, name, tag.instance.name) for name, each in exported.tables.items() for tag in each.tags.values()]
    assert sorted((tag.tag, tag.table_name, tag.instance_id) for tag in vault.get_tags()) == sorted(tags)
    assert not vault.verify().problems


def compare_file(path: Path, form: str, instance: Instance) -> None:
    """Compare the file or folder of an export with the instance."""
    assert instance.frame is not None
    if form == "jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        count = len(next(iter(instance.frame.values())))
        assert rows == [{name: column[place] for name, column in instance.frame.items()} for place in range(count)]
        return
    file = path if form == "parquet" else next(path.glob("data/*.parquet"))
    assert parquet.read_table(file).to_pydict() == instance.frame
    if form == "dataset":
        named = sorted(name for name in instance.frame.get("file", []) if name is not None)
        assert sorted(each.name for each in path.glob("artifacts/*")) == named


def cells(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the columns of a frame, with `None` for what is missing."""
    return {column: [None if pd.isna(cell) else cell for cell in frame[column]] for column in frame.columns}


class Comparison(RuleBasedStateMachine):
    """A vault and its model.

    They get the same calls, and must agree after each step.
    """

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tablevault-torture-", dir=MEMORY))
        self.vault = TableVault(self.folder / "vault", create=True, author="a")
        self.vault.create_code_module("job", text=CODE)
        self.model = Model(modules={"job": CODE}, new_id=self._new_id)
        self.calls = self.folder / "calls"
        self.sources = [source()]
        os.environ["MODEL_CALLS"], os.environ["MODEL_VAULT"] = str(self.calls), str(self.folder / "vault")

    def teardown(self) -> None:
        """Compare every frame, and let the vault check itself."""
        try:
            for name, table in self.model.tables.items():
                for instance in table.instances.values():
                    self._compare_frame(name, table, instance)
            assert not self.vault.verify().problems
        finally:
            shutil.rmtree(self.folder)

    # --- both do the same -----------------------------------------------------------------------------------------

    def both(self, call: Callable[[], Any], model: Callable[[], None], fault: Fault | None = None) -> None:
        """Make a call of the vault, then of the model; both succeed, or both fail alike."""
        Comparison.steps += 1
        os.environ["MODEL_FAULT"] = f"{fault.kind} {fault.row}" if fault is not None else ""
        self.calls.write_text("")
        got = ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TableVaultWarning)
                call()
        except (Exception, KeyboardInterrupt) as error:
            got = type(error).__name__
            got = WRONG if got == "TypeError" else got
            said = f"{got}: {error}"
        expected = ""
        self.model.called, self.model.seen = Called(), Counter(map(int, self.calls.read_text().split()))
        try:
            model()
        except ExpectedError as error:
            expected = error.kind
        self.model.drop_artifacts()
        assert got == expected, f"{said if got else 'no error'}, where {expected or 'none'} was expected"
        assert self.model.called.allows(self.model.seen), f"{self.model.seen} instead of {self.model.called}"
        self._compare()

    def _new_id(self, table: Table, version: str) -> str:
        name = next(name for name, each in self.model.tables.items() if each is table)
        listed = self.vault.get_table_instances(name, "")
        new = [each for each in listed if each not in table.instances and each.startswith(f"{version}_")]
        assert len(new) == 1, f"there is not one new instance: {new}"
        return new[0]

    def _compare(self) -> None:
        assert sorted(self.vault.get_tables()) == sorted(self.model.tables)
        for name, table in self.model.tables.items():
            listed = self.vault.get_table_instances(name, "", include_temp=True)
            assert [each for each in listed if not each.startswith("TEMP_")] == [
                each for each in table.instances if not each.startswith("TEMP_")
            ]
            assert set(listed) == set(table.instances)
            if table.instances:
                self._compare_frame(name, table, list(table.instances.values())[-1])
        tags = [
            (tag.name, name, tag.instance.name)
            for name, each in self.model.tables.items()
            for tag in each.tags.values()
        ]
        assert sorted((tag.tag, tag.table_name, tag.instance_id) for tag in self.vault.get_tags()) == sorted(tags)
        assert self.vault.get_code_modules_list() == sorted(self.model.modules)
        active = {process_id: info.status for process_id, info in self.vault.get_active_processes().items()}
        assert active == dict.fromkeys(self.model.paused, "paused")
        for process_id, process in self.model.processes.items():
            assert self.vault.get_process_completion(process_id) == (process.status != "paused")
            assert self.vault.get_process(process_id).status == process.status
        assert len(os.listdir(self.folder / "vault" / "_temp")) == len(active)

    def _compare_frame(self, name: str, table: Table, instance: Instance) -> None:
        if instance.temporary:
            self._compare_temporary(name, instance)
            return
        if any(self.model.holders(name)):
            self._refused(lambda: self.vault.get_dataframe(name, instance.name))
            return
        assert self._frame(name, instance) == instance.frame
        for version in ("base", "v2"):
            newest = table.newest(version)
            if newest is not None:
                assert self.vault.get_dataframe(name, version=version, full_artifact_path=False)[1] == newest.name
        for tag in table.tags_of(instance):
            assert self.vault.get_dataframe(name, f"@{tag}", full_artifact_path=False)[1] == instance.name
        if instance.recipe is not None:
            assert self.vault.get_builders_list(name, instance.name) == instance.builders
            self._compare_artifacts(name, instance, instance.recipe)

    def _compare_artifacts(self, name: str, instance: Instance, recipe: Recipe) -> None:
        """Compare the files of an instance.

        With a single set, those of older instances must be gone.
        """
        if not (recipe.artifacts and recipe.rows and instance.success):
            return
        try:
            paths = self.vault.get_dataframe(name, instance.name)[0]["file"]
        except TVArtifactError:
            assert not instance.has_artifacts, f"the artifacts of {name} {instance.name} are gone"
            return
        assert instance.has_artifacts, f"the artifacts of {name} {instance.name} are still there"
        assert [Path(path).read_text() for path in paths] == [str(x) for x in range(recipe.rows)]

    def _compare_temporary(self, name: str, instance: Instance) -> None:
        """Compare the builders, and what a paused or reverted execution has computed so far."""
        if instance.recipe is None or any(self.model.holders(name)):
            return
        assert self.vault.get_builders_list(name, version=instance.version) == instance.recipe.builders(name)
        computed = self.model.computed(name, instance)
        if computed is not None and computed[0] == instance.recipe:
            expected = instance.recipe.frame(computed[1])
            found = self._frame(name, instance)
            assert found["x"] == expected["x"]
            assert all(cells == expected[column] for column, cells in found.items()), f"{found} is not {expected}"

    def _frame(self, name: str, instance: Instance) -> dict[str, list[Any]]:
        frame, _ = self.vault.get_dataframe(name, instance.name, full_artifact_path=False)
        return cells(frame)

    def _refused(self, read: Callable[[], Any]) -> None:
        try:
            read()
        except TVLockError:
            return
        raise AssertionError("a table with side effects was read while it executes")

    def _instances(self, table: str, temporary: bool = True) -> list[str]:
        spelt = self.model.spelt(table)
        there = self.model.tables[spelt].instances.values() if spelt is not None else []
        return [instance.name for instance in there if temporary or not instance.temporary]

    # --- what is done ---------------------------------------------------------------------------------------------

    @initialize(multiple=st.booleans(), effects=st.booleans(), recipe=RECIPES)
    def begin(self, multiple: bool, effects: bool, recipe: Recipe) -> None:
        """Begin with something to work on."""
        self.create_table("a", multiple, effects, "")
        self.create_instance("a", "base", recipe, False, "")

    @rule(
        name=TABLES | st.sampled_from(["artifacts", "x y"]),
        multiple=st.booleans(),
        effects=st.booleans(),
        process_id=PROCESS_IDS,
    )
    def create_table(self, name: str, multiple: bool, effects: bool, process_id: str) -> None:
        self.both(
            lambda: self.vault.create_table(name, multiple, effects, process_id=process_id),
            lambda: self.model.create_table(name, multiple, effects, process_id),
        )

    @rule(new=TABLES | st.just("artifacts"), old=TABLES, process_id=PROCESS_IDS)
    def rename_table(self, new: str, old: str, process_id: str) -> None:
        self.both(
            lambda: self.vault.rename_table(new, old, process_id),
            lambda: self.model.rename_table(new, old, process_id),
        )

    @rule(name=st.sampled_from(["a", "b", "b", "nothing"]), process_id=PROCESS_IDS)
    def delete_table(self, name: str, process_id: str) -> None:
        self.both(lambda: self.vault.delete_table(name, process_id), lambda: self.model.delete_table(name, process_id))

    @rule(table=TABLES, version=VERSIONS, recipe=RECIPES | st.none(), copy=st.booleans(), process_id=PROCESS_IDS)
    def create_instance(self, table: str, version: str, recipe: Recipe | None, copy: bool, process_id: str) -> None:
        spelt = self.model.spelt(table) or table
        if copy and recipe is None and (spelt not in self.model.tables or not self.model.tables[spelt].newest(None)):
            # Then a template is written, which is made to be edited.
            return
        self.both(
            lambda: self.vault.create_instance(
                table,
                version,
                copy=copy,
                external_edit=recipe is None and not copy,
                builders=builders(spelt, recipe) if recipe is not None else None,
                process_id=process_id,
            ),
            lambda: self.model.create_instance(table, version, recipe, copy, process_id),
        )

    @rule(table=TABLES, version=VERSIONS, rows=st.integers(0, 3), good=st.booleans(), process_id=PROCESS_IDS)
    def write_instance(self, table: str, version: str, rows: int, good: bool, process_id: str) -> None:
        frame = {"x" if good else "index": list(range(rows))}
        self.both(
            lambda: self.vault.write_instance(
                pd.DataFrame(frame, dtype="int64"), table, version, process_id=process_id
            ),
            lambda: self.model.write_instance(frame, table, version, good, process_id),
        )

    @rule(table=TABLES, version=VERSIONS, origin_table=TABLES, place=st.integers(0, 5), process_id=PROCESS_IDS)
    def create_from(self, table: str, version: str, origin_table: str, place: int, process_id: str) -> None:
        """Make an instance of a given origin."""
        there = self._instances(origin_table, temporary=False)
        origin = there[place % len(there)] if there and place < 5 else "base_0_nothing"
        self.both(
            lambda: self.vault.create_instance(table, version, origin, origin_table, process_id=process_id),
            lambda: self.model.create_from(table, version, origin_table, origin, process_id),
        )

    @rule(
        table=TABLES,
        version=VERSIONS,
        fault=FAULTS,
        process_id=PROCESS_IDS,
        force=st.booleans(),
        reuse_partial=st.booleans(),
        background=st.sampled_from([False] * 19 + [True]),
    )
    def execute_instance(
        self,
        table: str,
        version: str,
        fault: Fault | None,
        process_id: str,
        force: bool = False,
        reuse_partial: bool = False,
        background: bool = False,
    ) -> None:
        if background and fault is not None and fault.kind == INTERRUPT:
            # A background worker gets no Ctrl-C.
            fault = None

        def call() -> None:
            done = self.vault.execute_instance(table, version, force, process_id, background, reuse_partial)
            if background:
                self.vault.wait_process(done, PATIENCE)

        self.both(
            call,
            lambda: self.model.execute_instance(table, version, fault, process_id, force, reuse_partial),
            fault,
        )

    @rule(table=TABLES, version=VERSIONS, force=st.booleans())
    def plan_instance(self, table: str, version: str, force: bool) -> None:
        """Ask what an execution would do."""
        expected = self.model.planned(table, version, force)
        if expected is not None:
            Comparison.steps += 1
            answer = self.vault.plan_instance(table, version, force, run_index=True).builders["answer"]
            assert (answer.reused, answer.computed) == expected

    @rule(fault=FAULTS, data=st.data())
    def resume(self, fault: Fault | None, data: st.DataObject) -> None:
        """Make the call of a paused process again."""
        if self.model.paused:
            process_id = data.draw(st.sampled_from(list(self.model.paused)))
            _, table, version, *_ = self.model.paused[process_id].call
            self.execute_instance(table, version, fault, process_id)

    @rule()
    def restart(self) -> None:
        """Open the vault anew, and take up what is paused."""
        taken_up = [(process_id, process.call) for process_id, process in self.model.paused.items()]

        def model() -> None:
            for process_id, (_, table, version, *_) in taken_up:
                self.model.execute_instance(table, version, None, process_id)

        def call() -> None:
            self.vault = TableVault(self.folder / "vault", author="b", restart=True)
            assert self.vault.restart_report == {process_id: "resumed" for process_id, _ in taken_up}
            for process_id, _ in taken_up:
                # What was in the background goes on there.
                self.vault.wait_process(process_id, PATIENCE)

        self.both(call, model)

    @rule()
    def reopen(self) -> None:
        """Go on with another object, that knows nothing of what was done."""
        self.vault = TableVault(self.folder / "vault", author="c")

    @rule(process_id=st.sampled_from(["p1", "p2", "p3", "p4"]), force=st.booleans(), materialize=st.booleans())
    def stop_process(self, process_id: str, force: bool, materialize: bool) -> None:
        self.both(
            lambda: self.vault.stop_process(process_id, force, materialize),
            lambda: self.model.stop(process_id, materialize),
        )

    @rule(table=TABLES, data=st.data(), process_id=PROCESS_IDS)
    def delete_instance(self, table: str, data: st.DataObject, process_id: str) -> None:
        there = self._instances(table)
        place = data.draw(st.integers(0, 5))
        instance = there[place % len(there)] if there and place < 5 else "TEMP_nothing"
        self.both(
            lambda: self.vault.delete_instance(instance, table, process_id),
            lambda: self.model.delete_instance(instance, table, process_id),
        )

    @rule(count=st.integers(1, 2), keep_inputs=st.booleans(), table=st.just("") | TABLES)
    def collect(self, count: int, keep_inputs: bool, table: str) -> None:
        self.both(
            lambda: self.vault.gc(self.vault.plan_gc(keep_last=count, keep_inputs=keep_inputs, table_name=table)),
            lambda: self.model.collect(count, keep_inputs, table),
        )

    # --- tags, exports and imports --------------------------------------------------------------------------------

    @rule(tag=TAGS, data=st.data(), version=VERSIONS, move=st.booleans(), process_id=PROCESS_IDS)
    def create_tag(self, tag: str, data: st.DataObject, version: str, move: bool, process_id: str) -> None:
        chosen = data.draw(st.none() | st.lists(st.tuples(TABLES, VERSIONS, st.integers(0, 5)), max_size=2))
        instances: list[tuple[str, str, str]] | None = None
        given: list[str] | None = None
        if chosen is not None:
            instances = [(table, self._some_instance(table, place), version) for table, version, place in chosen]
            given = [f"{table}({instance_id or version})" for table, instance_id, version in instances]
        self.both(
            lambda: self.vault.create_tag(tag, given, version=version, move=move, process_id=process_id),
            lambda: self.model.create_tag(
                tag, instances, version, move, "" if given is None else repr(given), process_id
            ),
        )

    @rule(tag=TAGS, names=st.none() | st.lists(TABLES, max_size=2), process_id=PROCESS_IDS)
    def delete_tag(self, tag: str, names: list[str] | None, process_id: str) -> None:
        self.both(
            lambda: self.vault.delete_tag(tag, names, process_id=process_id),
            lambda: self.model.delete_tag(tag, names, process_id),
        )

    @rule(
        data=st.data(), table=TABLES, there=st.sampled_from(["a", "one-set", "derived", "no"]), process_id=PROCESS_IDS
    )
    def import_instances(self, data: st.DataObject, table: str, there: str, process_id: str) -> None:
        """Import from a vault of others, or from one that was exported before."""
        chosen = data.draw(st.sampled_from(self.sources))
        pairs = data.draw(st.sampled_from([None, [(there, table)], [(there, there)], [("a", table), ("derived", "b")]]))
        self.both(
            lambda: self.vault.import_instances(
                chosen.path, None if pairs is None else dict(pairs), process_id=process_id
            ),
            lambda: self.model.import_instances(chosen, pairs, process_id),
        )

    @rule(data=st.data())
    def export_vault(self, data: st.DataObject) -> None:
        """Export some instances as a vault.

        It is compared with the model and may be imported later.
        """
        there = [
            (name, instance.name)
            for name, table in self.model.tables.items()
            for instance in table.instances.values()
            if not instance.temporary and not any(self.model.holders(name))
        ]
        if not there:
            return
        Comparison.steps += 1
        chosen = list(dict.fromkeys(data.draw(st.lists(st.sampled_from(there), min_size=1, max_size=3))))
        addresses = [f"{name}({instance_id})" for name, instance_id in chosen]
        path = self.vault.export_vault(self.folder / f"exported-{len(self.sources)}", addresses)
        exported = self.model.exported(chosen, path)
        compare_exported(exported)
        self.sources.append(exported)

    @rule(table=TABLES, place=st.integers(0, 5), form=st.sampled_from(["jsonl", "parquet", "dataset"]))
    def export_table(self, table: str, place: int, form: str) -> None:
        """Export an instance, or the newest successful one."""
        target = self.folder / f"exported.{form}"
        instance_id = self._some_instance(table, place)
        expected = self._to_export(table, instance_id)
        if isinstance(expected, Instance) and form == "dataset" and expected.recipe is not None:
            recipe = expected.recipe
            if recipe.artifacts and recipe.rows and expected.success and not expected.has_artifacts:
                expected = "TVArtifactError"

        def model() -> None:
            if isinstance(expected, str):
                raise ExpectedError(expected)

        self.both(
            lambda: self.vault.export_table(table, target, instance_id, format=form, overwrite=True),
            model,
        )
        if isinstance(expected, Instance):
            compare_file(target, form, expected)

    def _to_export(self, table: str, instance_id: str) -> Instance | str:
        """Return the instance that an export means, or the error that it raises."""
        spelt = self.model.spelt(table)
        if any(self.model.holders(table)):
            return LOCK
        if spelt is None:
            return ARGUMENT
        chosen = self.model.tables[spelt]
        found = chosen.instances.get(instance_id) if instance_id else chosen.newest("base", successful_only=True)
        return ARGUMENT if found is None or found.temporary else found

    def _some_instance(self, table: str, place: int) -> str:
        """Return the id of an instance, of none, or nothing, for the newest."""
        there = self._instances(table)
        if place == 5:
            return "base_0_nothing"
        return there[place % len(there)] if there and place < 4 else ""

    @rule(table=TABLES, version=VERSIONS, factor=st.integers(1, 2), process_id=PROCESS_IDS, data=st.data())
    def change_builder(self, table: str, version: str, factor: int, process_id: str, data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(list(FUNCTIONS)))
        spelt = self.model.spelt(table) or ""
        found = self.model.tables[spelt].instances.get(f"TEMP_{version}") if spelt else None
        if found is not None and found.recipe is None:
            return
        rows = found.recipe.rows if found is not None and found.recipe is not None else 0
        recipe = Recipe(rows, factor, kind)
        text = answer(recipe)
        self.both(
            lambda: self.vault.create_builder_file(table, "answer", version, text=text, process_id=process_id),
            lambda: self.model.change_recipe(table, version, recipe, text, process_id),
        )

    @rule(
        builder=st.sampled_from(["answer", "file", "index", "nothing"]),
        table=TABLES,
        version=VERSIONS,
        process_id=PROCESS_IDS,
    )
    def delete_builder(self, builder: str, table: str, version: str, process_id: str) -> None:
        spelt = self.model.spelt(table) or table
        name = f"{spelt}_index" if builder == "index" else builder
        self.both(
            lambda: self.vault.delete_builder_file(name, table, version, process_id=process_id),
            lambda: self.model.delete_builder(name, table, version, process_id),
        )

    @rule(name=st.sampled_from(["extra", "more", "x y"]), number=st.integers(0, 2), process_id=PROCESS_IDS)
    def create_module(self, name: str, number: int, process_id: str) -> None:
        text = f"number = {number}\n"
        self.both(
            lambda: self.vault.create_code_module(name, text=text, process_id=process_id),
            lambda: self.model.create_module(name, text, process_id),
        )
        if name in self.model.modules:
            assert self.vault.get_code_module_str(name) == self.model.modules[name]

    @rule(table=TABLES, wrong=st.sampled_from(["instance", "version", "column"]))
    def read_what_is_not_there(self, table: str, wrong: str) -> None:
        arguments: dict[str, dict[str, Any]] = {
            "instance": {"instance_id": "base_0_nothing"},
            "version": {"version": "nothing"},
            "column": {"columns": ["nothing"]},
        }
        self.both(
            lambda: self.vault.get_dataframe(table, **arguments[wrong]),
            lambda: self.model.read_wrong(table, wrong),
        )

    @rule(name=st.sampled_from(["extra", "more"]), process_id=PROCESS_IDS)
    def delete_module(self, name: str, process_id: str) -> None:
        self.both(
            lambda: self.vault.delete_code_module(name, process_id),
            lambda: self.model.delete_module(name, process_id),
        )


def check(case: dict[str, Any], counts: Counts) -> None:
    """Compare a vault with its model over a few examples; the smallest that differs is told."""
    before = Comparison.steps
    checked = settings(
        max_examples=case.get("examples", 5),
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    try:
        run_state_machine_as_test(hypothesis.seed(case["seed"])(Comparison), settings=checked)
    except Exception as error:
        counts.violate(case, "".join(traceback.format_exception(error)))
    counts.tried += Comparison.steps - before


class ModelCheck:
    """Equal to the model after each step."""

    code = "R5"
    title = "random calls of the whole public API, with failing functions, against a model of plain values"
    unit = "steps"
    target = 50_000
    minutes = 12.0

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Try until the budget is used up."""
        return run_side_by_side(__file__, budget, watch)

    def repeat(self, case: dict[str, Any]) -> str:
        """Try the same examples again, and find the smallest that fails."""
        return repeat_alone(__file__, case)


if __name__ == "__main__":
    sys.exit(serve(check))
