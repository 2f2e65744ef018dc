"""An atlas of Python's standard library: a guided tour of TableVault that checks its own claims.

    python examples/stdlib_atlas/run.py [FOLDER]

Without a FOLDER, the vault is created in a temporary folder and deleted at the end.
"""

from __future__ import annotations

import os
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
PROCESS_ID = "first-atlas"
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
    service: Service

    def vault(self) -> TableVault:
        """Open the vault, as any interpreter can."""
        return TableVault(str(self.db_dir), author="guide")


def make_the_vault(tour: Tour) -> None:
    """Create the vault, its code, and the first instance's builders."""
    chapter(
        "A vault",
        """A vault is a folder of tables and Python code. Each instance of a table has builders, which name a function
        and the columns that it fills. Here the IndexBuilder finds the modules of the standard library and copies each
        file as an artifact. Four ColumnBuilders read, count, call a service and draw.""",
    )
    show_call(f"""\
vault = TableVault({tour.db_dir.name!r}, author="guide", create=True)
vault.create_code_module(copy_dir="examples/stdlib_atlas/code")
vault.create_table("{TABLE}", allow_multiple_artifacts=True)
vault.create_instance("{TABLE}", builders={{"{TABLE}_index": …, "summary": …, "topic": …, …}})""")
    vault = TableVault(str(tour.db_dir), author="guide", description="An atlas of the standard library", create=True)
    vault.create_code_module(copy_dir=str(HERE / "code"))
    vault.create_table(TABLE, allow_multiple_artifacts=True, description="One row per top-level module")
    vault.create_instance(TABLE, builders={path.stem: path.read_text() for path in (HERE / "builders").glob("*.yaml")})
    show_text("The builder of the paid column:", vault.get_builder_str(TABLE, "topic"))
    check("the instance is temporary: it cannot be queried yet", vault.get_table_instances(TABLE) == [])


def run_into_an_error(tour: Tour) -> None:
    """Execute the instance until the service refuses to answer."""
    chapter(
        "An error pauses the run",
        f"""The service answers {FIRST_ALLOWANCE} calls and then refuses. The process id keeps the results: the run is
        paused, and you get the exception of your own function.""",
    )
    tour.service.open(FIRST_ALLOWANCE)
    show_call(f'vault.execute_instance("{TABLE}", process_id="{PROCESS_ID}")')
    vault = tour.vault()
    try:
        vault.execute_instance(TABLE, process_id=PROCESS_ID)
    except ConnectionError as error:
        show_text("raised:", "".join(traceback.format_exception_only(error)).rstrip())
    process = vault.get_active_processes().get(PROCESS_ID)
    check("the process is paused", process is not None and process.status == "paused")
    check("every allowed call was answered", len(tour.service.answered()) == FIRST_ALLOWANCE)
    partial, _ = vault.get_dataframe(TABLE, instance_id="TEMP_base")
    check("every answer is kept and readable", int(partial["topic"].notna().sum()) == FIRST_ALLOWANCE)


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
    check("the refusal names the paused process and its error", _names_the_pause(colleague.stdout))
    tour.vault().create_table("notes")
    check("the rest of the vault can be changed", "notes" in tour.vault().get_tables())


def _names_the_pause(message: str) -> bool:
    return all(word in message for word in (PROCESS_ID, "execute_instance", "Too Many Requests"))


def resume(tour: Tour) -> None:
    """Resume the paused process, and count the calls of the service."""
    chapter(
        "The same call resumes it",
        """The allowance is raised. The same call with the same process id resumes the run after its last finished row,
        from any interpreter, even after a power cut.""",
    )
    tour.service.allow(1_000_000)
    show_call(f'vault.execute_instance("{TABLE}", process_id="{PROCESS_ID}")')
    vault = tour.vault()
    vault.execute_instance(TABLE, process_id=PROCESS_ID)
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


def _standard_library() -> list[str]:
    return [path.stem for path in Path(sysconfig.get_path("stdlib")).glob("*.py")]


def _all_exist(paths: Iterable[str]) -> bool:
    return all(Path(path).is_file() for path in paths)


def run_again(tour: Tour) -> None:
    """Show that you can rerun a script with fixed process ids."""
    chapter(
        "A finished call is a no-op",
        "The same call again: the process has succeeded, so the call is a no-op with a warning.",
    )
    vault = tour.vault()
    instances = vault.get_table_instances(TABLE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vault.execute_instance(TABLE, process_id=PROCESS_ID)
    messages = [str(warning.message) for warning in caught if issubclass(warning.category, TableVaultWarning)]
    show_text("warned:", "\n".join(messages))
    check("a warning states that it had succeeded", len(messages) == 1)
    check("there is no second instance", vault.get_table_instances(TABLE) == instances)


def change_one_builder(tour: Tour) -> None:
    """Create a second instance with charts in another colour."""
    chapter(
        "Change one builder",
        """The charts get another colour. The new instance is copied from the first, one builder is changed, and only
        its column is recomputed; the other cells, including the paid ones, are reused. `plan_instance` shows this
        before you pay for anything.""",
    )
    show_call(f"""\
vault.create_instance("{TABLE}", copy=True)
vault.create_builder_file("{TABLE}", "chart", text=chart.replace("steelblue", "darkorange"))
vault.plan_instance("{TABLE}", run_index=True)
process_id = vault.execute_instance("{TABLE}")""")
    vault = tour.vault()
    calls_before = len(tour.service.answered())
    first, first_id = vault.get_dataframe(TABLE)
    vault.create_instance(TABLE, copy=True)
    chart = vault.get_builder_str(TABLE, "chart")
    vault.create_builder_file(TABLE, "chart", text=chart.replace("steelblue", "darkorange"))
    plan = vault.plan_instance(TABLE, run_index=True)
    show_text("the plan:", repr(plan))
    check("only charts will be computed, says the plan", _planned(plan) == {"chart": len(first)})
    process = vault.get_process(vault.execute_instance(TABLE))
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
    counts = {name: process.progress[name].computed for name in COLUMN_BUILDERS}
    return {name: count for name, count in counts.items() if count}


def _planned(plan: InstancePlan) -> dict[str, int]:
    counts = {name: plan.builders[name].computed for name in COLUMN_BUILDERS}
    return {name: count for name, count in counts.items() if count}


def _all_contain(paths: Iterable[str], text: str) -> bool:
    return all(text in Path(path).read_text() for path in paths)


def fix_one_function(tour: Tour) -> None:
    """Fix one of the two functions of a code module, and execute."""
    chapter(
        "Fix one function",
        """The counts of functions missed asynchronous ones. Fixing this recounts every module, but redraws only the
        charts whose counts change. The summaries are reused, although their function is in the same file.""",
    )
    show_call(f"""\
vault.create_instance("{TABLE}", copy=True)
vault.create_code_module("reading", text=fixed)
process_id = vault.execute_instance("{TABLE}")""")
    vault = tour.vault()
    calls_before = len(tour.service.answered())
    before, _ = vault.get_dataframe(TABLE)
    vault.create_instance(TABLE, copy=True)
    code = vault.get_code_module_str("reading")
    fixed = code.replace("node, ast.FunctionDef)", "node, ast.FunctionDef | ast.AsyncFunctionDef)")
    vault.create_code_module("reading", text=fixed)
    process = vault.get_process(vault.execute_instance(TABLE))
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
    check("the topics were computed by ask_topic()", topic.function == "topics.ask_topic")
    inputs = {step.column for step in topic.inputs}
    check("from the names and summaries of the modules", inputs == {"module", "summary"})


def look_back(tour: Tour) -> None:
    """Print the resulting frame and the first process."""
    chapter("The result", "The newest frame, a summary of it, and the first process.")
    vault = tour.vault()
    frame, _ = vault.get_dataframe(TABLE, full_artifact_path=False)
    show_frame(frame, ["module", "lines", "topic", "source", "chart"], rows=8)
    sizes = frame.groupby("topic").agg(modules=("module", "count"), lines=("lines", "sum")).reset_index()
    show_frame(sizes.sort_values("lines", ascending=False), ["topic", "modules", "lines"], rows=len(sizes))
    process = vault.get_process(PROCESS_ID)
    show_text("the first process:", repr(process))
    check("the process succeeded despite its error", process.status == "succeeded")
    show_call("vault.verify()")
    check("every file matches its recorded size and hash", vault.verify().ok)


CHAPTERS = (
    make_the_vault,
    run_into_an_error,
    try_to_interfere,
    resume,
    run_again,
    change_one_builder,
    fix_one_function,
    trace_one_column,
    look_back,
)


def run(folder: Path) -> None:
    """Run all steps in a folder."""
    tour = Tour(folder / "atlas", Service(folder / "service"))
    os.environ["ATLAS_SERVICE"] = str(tour.service.folder)
    for step in CHAPTERS:
        step(tour)


if __name__ == "__main__":
    run_example("A guided tour of TableVault that checks its own claims.", run)
