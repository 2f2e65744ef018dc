"""An atlas of Python's standard library: a guided tour of TableVault that checks its own claims.

    python examples/stdlib_atlas/run.py [FOLDER]

Without a FOLDER, the vault is created in a temporary folder and deleted at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # presentation.py

from presentation import chapter, check, console, explain, run_example, show_call, show_frame, show_text
from tablevault import InstancePlan, ProcessInfo, TableVault, TableVaultWarning

HERE = Path(__file__).resolve().parent
TABLE = "modules"
FIRST_ALLOWANCE = 40
COLUMN_BUILDERS = ("chart", "structure", "summary", "topic")


@dataclass(frozen=True)
class Service:
    """The log and allowance of the simulated service, in a folder beside the vault."""

    folder: Path

    def open(self, allowance: int) -> None:
        """Create the log, and set the total number of calls to answer."""
        self.folder.mkdir()
        (self.folder / "answered").touch()
        self.allow(allowance)

    def allow(self, calls: int) -> None:
        """Change the total number of calls to answer."""
        (self.folder / "allowance").write_text(str(calls))

    def answered(self) -> list[str]:
        """Return the caller of every answered call."""
        return (self.folder / "answered").read_text().split()


@dataclass(frozen=True)
class Tour:
    """The state that the steps share."""

    db_dir: Path
    definitions: Path
    """A copy of the definitions, to be edited."""
    service: Service

    def edit(self, old: str, new: str) -> None:
        """Edit the definitions file."""
        file = self.definitions / "atlas.py"
        file.write_text(file.read_text().replace(old, new))

    def vault(self) -> TableVault:
        """Open the vault, as any interpreter can."""
        return TableVault(str(self.db_dir), author="guide")


def write_the_definitions(tour: Tour) -> None:
    """Show the definitions file, and create an empty vault."""
    chapter(
        "A definitions file",
        """A Python file defines a table: its index finds the modules of the standard library and copies each file as an
        artifact. Four functions read, count, call a service and draw. Parameters have the names of columns. A vault is
        a folder of tables and Python code.""",
    )
    shutil.copytree(HERE / "definitions", tour.definitions)
    lines = (tour.definitions / "atlas.py").read_text().splitlines()
    first = lines.index("# The paid column: no call may be made twice.")
    show_text("The paid column, in definitions/atlas.py:", "\n".join(lines[first : first + 5]))
    show_call(f"""\
vault = TableVault({tour.db_dir.name!r}, author="guide", create=True)
vault.plan_apply("definitions")""")
    vault = TableVault(str(tour.db_dir), author="guide", description="An atlas of the standard library", create=True)
    plan = vault.plan_apply(tour.definitions)
    show_text("the files to be written:", "\n".join(file.path for file in plan.files))
    check("nothing is written yet", vault.get_tables() == [])


def run_into_an_error(tour: Tour) -> None:
    """Run the definitions until the service refuses to answer."""
    chapter(
        "An error pauses the run",
        f"""`run` writes the definitions into the vault, and computes the table. The service answers {FIRST_ALLOWANCE}
        calls and then refuses: the run is paused, and you get the exception of your own function.""",
    )
    tour.service.open(FIRST_ALLOWANCE)
    show_call('vault.run("definitions")')
    vault = tour.vault()
    try:
        vault.run(tour.definitions)
    except ConnectionError as error:
        show_text("raised:", "".join(traceback.format_exception_only(error)).rstrip())
    run = _paused_run(vault)
    check("the run is paused", run is not None)
    check("every allowed call was answered", len(tour.service.answered()) == FIRST_ALLOWANCE)
    partial, _ = vault.get_dataframe(TABLE, instance_id="TEMP_base")
    check("every answer is kept and readable", int(partial["topic"].notna().sum()) == FIRST_ALLOWANCE)


def _paused_run(vault: TableVault) -> ProcessInfo | None:
    active = vault.get_active_processes().values()
    return next((process for process in active if process.operation == "run" and process.status == "paused"), None)


def try_to_interfere(tour: Tour) -> None:
    """Show which operations a paused process blocks."""
    chapter(
        "Blocked operations name the paused process",
        """A paused process keeps its locks. A colleague tries to delete the table from another interpreter. The call is
        refused at once, and the error names the paused process and the reason.""",
    )
    command = [sys.executable, str(HERE / "colleague.py"), str(tour.db_dir), TABLE]
    colleague = subprocess.run(command, capture_output=True, text=True, check=False)
    show_text("the colleague gets:", (colleague.stdout + colleague.stderr).strip())
    check(
        "the call was refused at once, and the table is still there",
        colleague.returncode == 0 and TABLE in tour.vault().get_tables(),
    )
    run = _paused_run(tour.vault())
    named = (run.process_id if run else "", "execute_instance", "Too Many Requests")
    check("the refusal names the paused process and its error", all(word in colleague.stdout for word in named))
    tour.vault().create_table("notes")
    check("the rest of the vault can be changed", "notes" in tour.vault().get_tables())


def resume(tour: Tour) -> None:
    """Resume the paused run, and count the calls of the service."""
    chapter(
        "The same call resumes it",
        """The allowance is raised. The same call resumes the run after its last finished row, from any interpreter,
        even after a power cut.""",
    )
    tour.service.allow(1_000_000)
    show_call('vault.run("definitions")')
    vault = tour.vault()
    paused = _paused_run(vault)
    process_id, warned = _run(tour)
    show_text("warned:", warned)
    check("it resumed the paused run", paused is not None and process_id == paused.process_id)
    frame, instance_id = vault.get_dataframe(TABLE)
    answered = tour.service.answered()
    check(f"each of the {len(frame)} modules has a row", set(frame["module"]) == set(_standard_library()))
    check("the service was called for each row", sorted(answered) == sorted(frame["module"]))
    check("no call was made twice", len(answered) == len(set(answered)))
    check("every artifact named by a cell exists", _all_exist(frame["source"]) and _all_exist(frame["chart"]))
    check("no process is active", vault.get_active_processes() == {})
    console.print()
    explain(f"The instance {instance_id} is immutable, and is stored with its builders and its code.")
    show_frame(frame, ["module", "summary", "lines", "functions", "classes", "imports", "topic"], rows=12)


def _run(tour: Tour) -> tuple[str, str]:
    """Run the definitions; return the process id and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        process_id = tour.vault().run(tour.definitions)
    messages = [str(warning.message) for warning in caught if issubclass(warning.category, TableVaultWarning)]
    return process_id, "\n".join(messages)


def _standard_library() -> list[str]:
    return [path.stem for path in Path(sysconfig.get_path("stdlib")).glob("*.py")]


def _all_exist(paths: Iterable[str]) -> bool:
    return all(Path(path).is_file() for path in paths)


def run_again(tour: Tour) -> None:
    """Show that a run of an unchanged table makes no instance."""
    chapter(
        "An unchanged table is left alone",
        """The same call again: the index finds the same modules, every cell is up to date, and there is no new
        instance.""",
    )
    show_call('vault.run("definitions")')
    vault = tour.vault()
    instances, calls_before = vault.get_table_instances(TABLE), len(tour.service.answered())
    process = vault.get_process(_run(tour)[0])
    show_text("the process:", repr(process))
    check("the service was not called at all", len(tour.service.answered()) == calls_before)
    check("there is no second instance", vault.get_table_instances(TABLE) == instances)


def change_one_argument(tour: Tour) -> None:
    """Give the charts another colour, in a second instance."""
    chapter(
        "Change one argument",
        """The charts get another colour. Only their column is recomputed; the other cells, including the paid ones, are
        reused. `apply` writes the edited file into the vault, and `plan_instance` counts the cells before you pay for
        anything.""",
    )
    tour.edit("steelblue", "darkorange")
    show_call(f"""\
vault.apply("definitions")
vault.plan_instance("{TABLE}", run_index=True)
process_id = vault.run("definitions")""")
    vault = tour.vault()
    calls_before = len(tour.service.answered())
    first, first_id = vault.get_dataframe(TABLE)
    vault.apply(tour.definitions)
    plan = vault.plan_instance(TABLE, run_index=True)
    show_text("the plan:", repr(plan))
    check("only charts will be computed, says the plan", _planned(plan) == {"chart": len(first)})
    process = vault.get_process(_run(tour)[0])
    second, second_id = vault.get_dataframe(TABLE)
    show_text("the process:", repr(process))
    check("the service was not called at all", len(tour.service.answered()) == calls_before)
    check("only charts were computed", _computed(process) == {"chart": len(second)})
    check("both instances are there", vault.get_table_instances(TABLE) == [first_id, second_id])
    check("the first has its blue charts", _all_contain(first["chart"], "steelblue"))
    check("the second has orange ones", _all_contain(second["chart"], "darkorange"))
    unchanged = [column for column in first.columns if column not in ("source", "chart")]
    check("all other columns are unchanged", first[unchanged].equals(second[unchanged]))


def _computed(process: ProcessInfo) -> dict[str, int]:
    counts = {name: process.progress[f"{TABLE}/{name}"].computed for name in COLUMN_BUILDERS}
    return {name: count for name, count in counts.items() if count}


def _planned(plan: InstancePlan) -> dict[str, int]:
    counts = {name: plan.builders[name].computed for name in COLUMN_BUILDERS}
    return {name: count for name, count in counts.items() if count}


def _all_contain(paths: Iterable[str], text: str) -> bool:
    return all(text in Path(path).read_text() for path in paths)


def fix_one_function(tour: Tour) -> None:
    """Fix one function of the file, and run it."""
    chapter(
        "Fix one function",
        """The counts of functions missed asynchronous ones. Fixing this recounts every module, but redraws only the
        charts whose counts change. The summaries are reused, although their function is in the same file.""",
    )
    tour.edit("node, ast.FunctionDef)", "node, ast.FunctionDef | ast.AsyncFunctionDef)")
    show_call('vault.run("definitions")')
    vault = tour.vault()
    calls_before = len(tour.service.answered())
    before, _ = vault.get_dataframe(TABLE)
    process = vault.get_process(_run(tour)[0])
    after, _ = vault.get_dataframe(TABLE)
    changed = int((before["functions"] != after["functions"]).sum())
    show_text("the process:", repr(process))
    check("the service was not called at all", len(tour.service.answered()) == calls_before)
    check(
        f"only {len(after)} counts and {changed} charts were computed",
        changed > 0 and _computed(process) == {"structure": len(after), "chart": changed},
    )


def trace_one_column(tour: Tour) -> None:
    """Show how one column was computed."""
    chapter(
        "Trace a column",
        """The lineage of a column records its inputs, builder, function, arguments, code versions, author and time.""",
    )
    show_call(f'vault.get_lineage("{TABLE}", column="topic").tree()')
    lineage = tour.vault().get_lineage(TABLE, column="topic")
    console.print(lineage.tree())
    (topic,) = lineage.columns
    check("the topics were computed by ask_topic()", topic.function == "atlas.ask_topic")
    inputs = {step.column for step in topic.inputs}
    check("from the names and summaries of the modules", inputs == {"module", "summary"})


def look_back(tour: Tour) -> None:
    """Print the resulting frame and the first run."""
    chapter("The result", "The newest frame, a summary of it, and the first run.")
    vault = tour.vault()
    frame, _ = vault.get_dataframe(TABLE, full_artifact_path=False)
    show_frame(frame, ["module", "lines", "topic", "source", "chart"], rows=8)
    sizes = frame.groupby("topic").agg(modules=("module", "count"), lines=("lines", "sum")).reset_index()
    show_frame(sizes.sort_values("lines", ascending=False), ["topic", "modules", "lines"], rows=len(sizes))
    process = [process for process in vault.get_history() if process.operation == "run"][-1]
    show_text("the first run:", repr(process))
    check("it succeeded despite its error", process.status == "succeeded")
    show_call("vault.verify()")
    check("every file matches its recorded size and hash", vault.verify().ok)


CHAPTERS = (
    write_the_definitions,
    run_into_an_error,
    try_to_interfere,
    resume,
    run_again,
    change_one_argument,
    fix_one_function,
    trace_one_column,
    look_back,
)


def run(folder: Path) -> None:
    """Run all steps in a folder."""
    tour = Tour(folder / "atlas", folder / "definitions", Service(folder / "service"))
    os.environ["ATLAS_SERVICE"] = str(tour.service.folder)
    for step in CHAPTERS:
        step(tour)


if __name__ == "__main__":
    run_example("A guided tour of TableVault that checks its own claims.", run)
