"""Operations of a vault with injected faults.

Each has a preparation and a call.
"""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from faulted_builders import ARRAYS, CODE, DEPENDING, DOUBLED, FAILING, PARTS, collecting, index, row_wise, whole
from faulted_folders import FOLDER_OPERATIONS
from invariants import Content, Expected, Seen, State, check, wrong_content

from tablevault import TableVault

OLD_VAULT = Path(__file__).parents[1] / "migration" / "vault-format-1.tar.xz"
OWN_ID = "mine"
"""The process id of an operation that is to pause on errors."""


@dataclass(frozen=True)
class VaultOperation:
    """One call that changes a vault."""

    call: Callable[[TableVault, str], object]
    """Takes the vault and the process id (or nothing)."""
    prepare: Callable[[TableVault], object] = lambda vault: None
    """What comes before, undisturbed, beside what `base` makes."""
    process_ids: tuple[str, ...] = ("", OWN_ID)
    fails: bool = False
    """Whether it fails even if it is undisturbed, so that a return promises nothing."""
    inside: Callable[[TableVault], object] | None = None
    """Operations inside of it, which are not undone with it."""
    resumed: Callable[[TableVault], object] | None = None
    """What it may amount to when it is resumed, if that can differ from an undisturbed call."""
    damaged: bool = False
    """Whether what comes before leaves something to repair."""
    wait: Callable[[TableVault, str], object] = lambda vault, process_id: None
    """Waits for what the call only starts."""

    stride: int = 1
    """Of how many calls one meets errors, by the seed."""
    kill_stride: int = 1
    """Of how many calls one is where it is killed, by the seed."""
    is_variant: bool = False
    """Whether it is mostly what another one is, so that not each call needs to meet each error."""

    def make(self, place: Path) -> None:
        """Make what is copied for each fault."""
        self.prepare(base(place / "vault"))

    def open(self, place: Path) -> TableVault:
        """Do what comes before the faults."""
        return TableVault(place / "vault", author="b")

    def look(self, place: Path, process_id: str) -> State:
        """Return how things are, but for the process of this id."""
        return State.of(place / "vault", process_id)

    def between(self, place: Path) -> tuple[Content, ...]:
        """Return what operations inside of it, or it when it is resumed, may leave."""
        other = self.inside or self.resumed
        if other is None:
            return ()
        vault = self.open(place)
        other(vault)
        return (Content.of(vault),)

    def problem(self, place: Path, expected: Expected) -> str:
        """Return the problem after a fault and a repeated call.

        Returns an empty text if all is well.
        """
        acknowledged = expected.acknowledged and not self.fails
        seen = Seen.of(place / "vault", expected.process_id, self.damaged)
        if problem := check(seen, replace(expected, acknowledged=acknowledged)):
            return problem
        others = expected.between if self.resumed is not None else ()
        was_paused = expected.process_id in seen.active
        if seen.content in (expected.after.content, *others) and not was_paused:
            return ""
        self.call(seen.vault, expected.process_id)
        self.wait(seen.vault, expected.process_id)
        # A call that starts anew is like any other; one that goes on with what the fault has left deserves all checks.
        seen = Seen.of(place / "vault", expected.process_id, verified=was_paused)
        is_other = was_paused and seen.content in others
        process_id = expected.process_id if self.fails else ""
        expected = replace(expected, acknowledged=not is_other, process_id=process_id)
        again = check(seen, expected) if was_paused else wrong_content(seen, expected)
        return f"after the same call once more: {again}" if again else ""


@dataclass(frozen=True)
class OnOldVault(VaultOperation):
    """A call on a vault of an older format, which it migrates."""

    def make(self, place: Path) -> None:
        """Unpack the vault that a former version made."""
        with tarfile.open(OLD_VAULT) as archive:
            archive.extractall(place, filter="fully_trusted")
        (place / "format-1").rename(place / "vault")


def base(folder: Path) -> TableVault:
    """Make a vault with a module, a table with an instance and one that is executed."""
    vault = TableVault(folder, create=True, author="a")
    vault.create_code_module("job", text=CODE)
    vault.create_table("given")
    vault.create_instance("given", external_edit=True)
    vault.write_instance(pd.DataFrame({"x": [1, 2, 3]}), "given")
    vault.create_table("made")
    vault.create_instance("made", builders={"made_index": index(), "made_file": row_wise()})
    return vault


# --- what comes before ------------------------------------------------------------------------------------------------


def _executed(vault: TableVault) -> None:
    vault.execute_instance("made")


def _copied(vault: TableVault) -> None:
    """Let one row be new, and the others be reused."""
    _executed(vault)
    vault.create_instance("made", copy=True)
    vault.create_builder_file("made", "made_index", text=index("more_names"))


def _unchanged(vault: TableVault) -> None:
    _executed(vault)
    vault.create_instance("made", copy=True)


def _superseding(vault: TableVault) -> None:
    """Let the second instance's artifacts take the place of the first one's."""
    _executed(vault)
    vault.create_instance("made", builders={"made_index": index(), "made_file": row_wise()})


def _tagged_superseded(vault: TableVault) -> None:
    """Let a tag keep artifacts that a second instance has superseded."""
    _superseding(vault)
    vault.create_tag("paper")
    _executed(vault)


def _collectable(vault: TableVault) -> None:
    """Let old instances be there to collect, one with artifacts, and one that a tag keeps."""
    vault.write("given", pd.DataFrame({"x": [4]}))
    vault.create_tag("paper", "given")
    vault.write("given", pd.DataFrame({"x": [5]}))
    _superseding(vault)
    _executed(vault)


def _beside(vault: TableVault, name: str) -> Path:
    return Path(vault.db_dir).parent / name


def _importable(vault: TableVault) -> None:
    """Make another vault to import from.

    One of its tables exists here; another, with artifacts and inputs, does not.
    """
    source = TableVault(_beside(vault, "source"), create=True, author="c")
    source.write("given", pd.DataFrame({"x": [7]}))
    source.create_table("taken")
    source.create_instance("taken", external_edit=True)
    Path(source.get_artifact_folder("taken"), "a.txt").write_text("a")
    source.write_instance(
        pd.DataFrame({"file": ["a.txt"]}),
        "taken",
        dependencies=[("given", source.get_table_instances("given")[0])],
        dtypes={"file": "artifact_string"},
    )
    source.write("given", pd.DataFrame({"x": [8]}))
    source.delete_instance(source.get_table_instances("given")[0], "given")
    source.create_tag("paper", "taken")


def _building(text: str) -> Callable[[TableVault], object]:
    return lambda vault: vault.create_builder_file("made", "made_file", text=text)


def _collecting(text: str) -> Callable[[TableVault], object]:
    """Let a column be computed whose rows may fail, and one that depends on it."""

    def prepare(vault: TableVault) -> None:
        vault.create_builder_file("made", "made_file", text=text)
        vault.create_builder_file("made", "made_copied", text=DEPENDING)

    return prepare


def _with_many_files(vault: TableVault) -> None:
    """Let the artifacts of an interval be made durable together."""
    vault.create_builder_file("made", "made_index", text=index("many_names"))


def _limited(vault: TableVault) -> None:
    """Let calls of a column need a service, and be counted for a budget."""
    vault.set_service("api", {"calls_per_second": 1_000, "max_concurrency": 2})
    _building(f"{row_wise(threads=3).rstrip()}\nservice: api\nbudget: {{calls: 1000}}\n")(vault)


def _with_failed_rows(vault: TableVault) -> None:
    """Leave an instance with a failed row and a skipped one, whose code is fixed."""
    _collecting(collecting())(vault)
    _executed(vault)
    vault.create_code_module("job", text=CODE.replace('if name == "c"', "if False"))


def _for_each(vault: TableVault) -> None:
    vault.create_table("parts")
    vault.create_instance("parts", builders={"parts_index": PARTS, "parts_doubled": DOUBLED})


def _with_side_effects(vault: TableVault) -> None:
    vault.create_table("sent", has_side_effects=True, allow_multiple_artifacts=True)
    builders = {"sent_index": index(), "sent_file": row_wise()}
    vault.create_instance("sent", builders=builders)
    vault.execute_instance("sent")
    vault.create_instance("sent", builders=builders)


def _failed_half_way(vault: TableVault, process_id: str) -> None:
    vault.create_builder_file("made", "made_file", text=row_wise("fail_at_c"))
    with contextlib.suppress(ConnectionError):
        vault.execute_instance("made", process_id=process_id)


def _partial(vault: TableVault) -> None:
    _failed_half_way(vault, "")
    vault.create_code_module("job", text=CODE.replace('if name == "c"', "if False"))


def _resumable(vault: TableVault) -> None:
    _failed_half_way(vault, OWN_ID)
    vault.create_code_module("job", text=CODE.replace('if name == "c"', "if False"))


def _paused(vault: TableVault) -> None:
    _building(FAILING)(vault)
    with contextlib.suppress(ConnectionError):
        vault.execute_instance("made", process_id="paused")


def _external(vault: TableVault) -> None:
    vault.create_instance("given", external_edit=True)


def _external_with_artifacts(vault: TableVault) -> None:
    _external(vault)
    for name in ("a", "b"):
        (Path(vault.get_artifact_folder("given")) / f"{name}.txt").write_text(name)


def _modules_beside(vault: TableVault) -> None:
    folder = _root(vault).parent / "modules"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.py").write_text(f"name = '{name}'\n")


DEFINED = """
from tablevault.define import ARTIFACT_FOLDER, Table

made = Table("made")
sent = Table("sent", description="Made by definitions")


@made.column("file", builder="made_file", dtypes={"file": "artifact_string"}, arguments={"folder": ARTIFACT_FOLDER})
def file_of(name, folder):
    return None


@made.column()
def length(name):
    return len(name)


@sent.index(primary_key=["word"])
def word():
    return ["a", "b"]
"""


def _definitions(vault: TableVault) -> None:
    """Add, change and remove one builder each.

    Also makes a new table and a new module.
    """
    folder = Path(vault.db_dir).parent / "source"
    folder.mkdir()
    before = (
        DEFINED.replace("length", "width")
        .replace("sent", "mailed")
        .replace('"made_file",', '"made_file", failed_inputs="pass",')
    )
    (folder / "defined.py").write_text(before)
    vault.apply(folder, overwrite=True)
    (folder / "defined.py").write_text(DEFINED)
    (folder / "helper.py").write_text("x = 1\n")


RUN = """
from tablevault.define import ARTIFACT_FOLDER, Table

run = Table("run")


@run.index(primary_key=["name"])
def name():
    return ["a", "b"]


@run.column(dtypes={"file": "artifact_string"}, arguments={"folder": ARTIFACT_FOLDER})
def file(name, folder):
    with open(f"{folder}/{name}.txt", "w") as made:
        made.write(name * 3)
    return f"{name}.txt"
"""


def _runnable(vault: TableVault) -> None:
    (Path(vault.db_dir).parent / "run.py").write_text(RUN)


def _run(vault: TableVault, process_id: str) -> None:
    vault.run(Path(vault.db_dir).parent / "run.py", process_id=process_id)


def _apply(vault: TableVault, process_id: str) -> None:
    vault.apply(Path(vault.db_dir).parent / "source", process_id=process_id)


def _leftovers(vault: TableVault) -> None:
    """Make leftovers of crashes.

    They are half-written files and a lock file of a dead owner.
    """
    root = _root(vault)
    for folder in (root, root / "made", root / "_temp"):
        (folder / f".{'0' * 32}.tablevault-temporary").write_text("half of")
    (root / "metadata" / "owners" / f"owner-1-{'0' * 32}").touch()


# --- the calls --------------------------------------------------------------------------------------------------------


def _root(vault: TableVault) -> Path:
    return Path(vault.get_artifact_folder("made", is_temp=True)).parents[2]


def _only(vault: TableVault, table: str) -> str:
    return vault.get_table_instances(table)[0]


def _execute(vault: TableVault, process_id: str) -> None:
    vault.execute_instance("made", process_id=process_id)


def _collect(vault: TableVault, process_id: str) -> None:
    # A paused process holds what it removes, so that a new plan would be another one.
    is_paused = bool(process_id) and process_id in vault.get_active_processes()
    vault.gc(None if is_paused else vault.plan_gc(keep_last=1), process_id=process_id)


def _fail(vault: TableVault, process_id: str) -> None:
    with contextlib.suppress(ConnectionError):
        vault.execute_instance("made", process_id=process_id)


def _leave_stray(vault: TableVault, process_id: str) -> None:
    from tablevault import TVArtifactError

    with contextlib.suppress(TVArtifactError):
        vault.execute_instance("made", process_id=process_id)


def _execute_without_stray(vault: TableVault) -> None:
    vault.create_builder_file("made", "made_file", text=row_wise())
    vault.execute_instance("made")


def _write_with_artifacts(vault: TableVault, process_id: str) -> None:
    vault.write_instance(
        pd.DataFrame({"file": ["a.txt", "b.txt"]}),
        "given",
        dependencies=[("given", _only(vault, "given"))],
        dtypes={"file": "artifact_string"},
        process_id=process_id,
    )


def _execute_in_background(vault: TableVault, process_id: str) -> None:
    vault.execute_instance("made", process_id=process_id, background=True)


def _wait(vault: TableVault, _: str) -> None:
    for process_id in vault.get_active_processes():
        vault.wait_process(process_id, timeout=60)


def _copy_modules(vault: TableVault, process_id: str) -> None:
    vault.create_code_module(copy_dir=str(_root(vault).parent / "modules"), process_id=process_id)


def _restart(vault: TableVault, _: str) -> None:
    TableVault(_root(vault), author="b", restart=True)


REVERTING, PAUSING = ("",), (OWN_ID,)

EXECUTIONS = {
    "execute_instance": VaultOperation(_execute),
    "execute_in_threads": VaultOperation(_execute, _building(row_wise(threads=3)), REVERTING),
    "execute_arrays": VaultOperation(_execute, _building(ARRAYS), PAUSING),
    "execute_many_files": VaultOperation(_execute, _with_many_files, PAUSING, stride=97, kill_stride=29),
    "execute_with_service": VaultOperation(_execute, _limited, PAUSING),
    "execute_generator": VaultOperation(_execute, _building(whole("files_of", "generator")), PAUSING),
    "execute_dataframe": VaultOperation(_execute, _building(whole("frame_of", "dataframe")), REVERTING),
    "execute_copy": VaultOperation(_execute, _copied),
    "execute_unchanged": VaultOperation(
        lambda vault, process: vault.execute_instance("made", process_id=process, skip_unchanged=True), _unchanged
    ),
    "refresh": VaultOperation(lambda vault, process: vault.refresh("made", process_id=process), _copied),
    "run": VaultOperation(
        _run, _runnable, PAUSING, inside=lambda vault: vault.apply(Path(vault.db_dir).parent / "run.py")
    ),
    "execute_superseding": VaultOperation(_execute, _superseding, REVERTING),
    "execute_side_effects": VaultOperation(
        lambda vault, process: vault.execute_instance("sent", process_id=process), _with_side_effects
    ),
    "execute_partial": VaultOperation(
        lambda vault, process: vault.execute_instance("made", process_id=process, reuse_partial=True),
        _partial,
        PAUSING,
    ),
    "execute_failing": VaultOperation(_fail, _building(row_wise("fail_at_c")), fails=True),
    # Whether a row that was interrupted has left the file cannot be known, so it may be dropped with a warning.
    "execute_stray": VaultOperation(
        _leave_stray, _building(row_wise("stray_file_of")), PAUSING, fails=True, resumed=_execute_without_stray
    ),
    "execute_nested": VaultOperation(
        _execute,
        _building(row_wise("nested", more=", parent: ~PROCESS_ID~")),
        REVERTING,
        inside=lambda vault: vault.create_table("child"),
    ),
    "execute_collecting": VaultOperation(_execute, _collecting(collecting())),
    "execute_batches": VaultOperation(
        _execute, _collecting(collecting("files_or_errors", "batch", more="batch_size: 2")), PAUSING
    ),
    "execute_async": VaultOperation(_execute, _collecting(collecting("refuse_c_async")), REVERTING),
    "execute_class_with_retries": VaultOperation(
        _execute,
        _collecting(
            collecting(
                "FileMaker",
                arguments="attempt: ~ATTEMPT~",
                more="setup_arguments: {folder: ~ARTIFACT_FOLDER~}\nretry: {max_retries: 1, wait: 0}",
            )
        ),
        PAUSING,
    ),
    "execute_jobs": VaultOperation(
        _execute,
        _collecting(
            collecting(
                "JobMaker",
                "batch",
                arguments="",
                more="batch_size: 2\nexecutor: jobs\npoll_seconds: 0.001\nretry: 0\n"
                "setup_arguments: {folder: ~ARTIFACT_FOLDER~}",
            )
        ),
        PAUSING,
    ),
    "execute_for_each": VaultOperation(
        lambda vault, process: vault.execute_instance("parts", process_id=process), _for_each
    ),
    "retry_failed": VaultOperation(
        lambda vault, process: vault.retry_failed("made", process_id=process), _with_failed_rows
    ),
    "resume": VaultOperation(_execute, _resumable, PAUSING),
    "execute_in_background": VaultOperation(_execute_in_background, process_ids=PAUSING, wait=_wait),
    "restart": VaultOperation(_restart, _resumable, REVERTING, fails=True),
}

EXECUTIONS = {
    name: replace(operation, is_variant=name not in ("execute_instance", "execute_copy", "execute_partial", "resume"))
    for name, operation in EXECUTIONS.items()
}

OTHERS = {
    "create_table": VaultOperation(lambda vault, process: vault.create_table("new", process_id=process)),
    "rename_table": VaultOperation(lambda vault, process: vault.rename_table("renamed", "made", process), _executed),
    "delete_table": VaultOperation(lambda vault, process: vault.delete_table("given", process)),
    "set_service": VaultOperation(
        lambda vault, _: vault.set_service("api", {"calls_per_minute": 5}),
        lambda vault: vault.set_service("api", {"calls_per_minute": 3}),
        process_ids=("",),
    ),
    "delete_table_with_artifacts": VaultOperation(
        lambda vault, process: vault.delete_table("made", process), _executed
    ),
    "create_instance": VaultOperation(
        lambda vault, process: vault.create_instance("made", copy=True, process_id=process), _executed
    ),
    "create_instance_with_builders": VaultOperation(
        lambda vault, process: vault.create_instance(
            "made", "other", builders={"made_index": index(), "made_file": row_wise()}, process_id=process
        )
    ),
    "create_instance_from_other": VaultOperation(
        lambda vault, process: vault.create_instance(
            "given", origin_table="made", origin_id=_only(vault, "made"), process_id=process
        ),
        _executed,
    ),
    "delete_instance": VaultOperation(
        lambda vault, process: vault.delete_instance(_only(vault, "given"), "given", process)
    ),
    "delete_temporary": VaultOperation(lambda vault, process: vault.delete_instance("TEMP_base", "made", process)),
    "write": VaultOperation(
        lambda vault, process: vault.write("fresh", pd.DataFrame({"x": [4, 5]}), primary_key="x", process_id=process),
    ),
    "write_again": VaultOperation(
        lambda vault, process: vault.write("given", pd.DataFrame({"x": [4, 5]}), process_id=process),
        is_variant=True,
    ),
    "write_instance": VaultOperation(
        lambda vault, process: vault.write_instance(pd.DataFrame({"x": [4, 5]}), "given", process_id=process),
        _external,
    ),
    "write_with_artifacts": VaultOperation(_write_with_artifacts, _external_with_artifacts),
    "create_tag": VaultOperation(lambda vault, process: vault.create_tag("paper", process_id=process), _executed),
    "move_tag_off_superseded": VaultOperation(
        lambda vault, process: vault.create_tag("paper", "made", move=True, process_id=process), _tagged_superseded
    ),
    "delete_tag": VaultOperation(
        lambda vault, process: vault.delete_tag("paper", process_id=process), _tagged_superseded
    ),
    "gc": VaultOperation(_collect, _collectable),
    "import_instances": VaultOperation(
        lambda vault, process: vault.import_instances(_beside(vault, "source"), process_id=process), _importable
    ),
    "create_code_module": VaultOperation(
        lambda vault, process: vault.create_code_module("job", text="x = 1\n", process_id=process)
    ),
    "copy_code_modules": VaultOperation(_copy_modules, _modules_beside),
    "delete_code_module": VaultOperation(lambda vault, process: vault.delete_code_module("job", process)),
    "create_builder_file": VaultOperation(
        lambda vault, process: vault.create_builder_file("made", "made_file", text=FAILING, process_id=process)
    ),
    "delete_builder_file": VaultOperation(
        lambda vault, process: vault.delete_builder_file("made_file", "made", process_id=process)
    ),
    "apply": VaultOperation(_apply, _definitions),
    "apply_to_copy": VaultOperation(
        _apply, lambda vault: (_definitions(vault), vault.execute_instance("made")), is_variant=True
    ),
    "stop_process": VaultOperation(
        lambda vault, process: vault.stop_process("paused", own_process_id=process), _paused
    ),
    "stop_and_materialize": VaultOperation(
        lambda vault, process: vault.stop_process("paused", materialize=True, own_process_id=process), _paused
    ),
    "migrate": OnOldVault(lambda vault, process: vault.create_table("new", process_id=process)),
    "migrate_and_stop": OnOldVault(
        lambda vault, process: vault.stop_process("night", own_process_id=process), is_variant=True
    ),
    "repair": VaultOperation(lambda vault, _: vault.verify(repair=True), _leftovers, REVERTING, damaged=True),
}

OPERATIONS = {**EXECUTIONS, **OTHERS, **FOLDER_OPERATIONS}
