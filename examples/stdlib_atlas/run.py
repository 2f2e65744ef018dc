"""An atlas of Python's standard library: a guided tour of TableVault that checks what it says.

    python examples/stdlib_atlas/run.py [FOLDER]

Without a FOLDER the vault is made in a temporary one and deleted at the end.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the narrator of all examples

from narrator import call, chapter, console, promise, quote, say, show_frame, tell
from tablevault import InstancePlan, ProcessInfo, TableVault, TableVaultWarning

HERE = Path(__file__).resolve().parent
TABLE = "modules"
PROCESS_ID = "first-atlas"
FIRST_ALLOWANCE = 40
COLUMN_BUILDERS = ("chart", "structure", "summary", "topic")


@dataclass(frozen=True)
class Service:
    """The books of the pretended service, in a folder beside the vault."""

    folder: Path

    def open(self, allowance: int) -> None:
        """Start the books, with so many calls that will be answered in all."""
        self.folder.mkdir()
        (self.folder / "answered").touch()
        self.allow(allowance)

    def allow(self, calls: int) -> None:
        """Change how many calls are answered in all."""
        (self.folder / "allowance").write_text(str(calls))

    def answered(self) -> list[str]:
        """Return who asked, once for every call that was answered."""
        return (self.folder / "answered").read_text().split()


@dataclass(frozen=True)
class Tour:
    """Where the tour takes place."""

    db_dir: Path
    service: Service

    def vault(self) -> TableVault:
        """Open the vault, as any interpreter could."""
        return TableVault(str(self.db_dir), author="guide")


def make_the_vault(tour: Tour) -> None:
    """Create the vault, its code, and the first instance's builders."""
    chapter(
        "A vault",
        """A vault is a folder. It holds Python code, tables, and for every instance of a table the builders that say
        which function fills which columns. Here the index builder finds the modules of the standard library and keeps
        a copy of each file as an artifact; four column builders read, count, ask a service and draw.""",
    )
    call(f"""\
vault = TableVault({tour.db_dir.name!r}, author="guide", create=True)
vault.create_code_module(copy_dir="examples/stdlib_atlas/code")
vault.create_table("{TABLE}", allow_multiple_artifacts=True)
vault.create_instance("{TABLE}", builders={{"{TABLE}_index": …, "summary": …, "topic": …, …}})""")
    vault = TableVault(str(tour.db_dir), author="guide", description="An atlas of the standard library", create=True)
    vault.create_code_module(copy_dir=str(HERE / "code"))
    vault.create_table(TABLE, allow_multiple_artifacts=True, description="One row per top-level module")
    vault.create_instance(TABLE, builders={path.stem: path.read_text() for path in (HERE / "builders").glob("*.yaml")})
    quote("The builder of the column that costs money:", vault.get_builder_str(TABLE, "topic"))
    promise("nothing can be queried yet: the instance is temporary", vault.get_table_instances(TABLE) == [])


def run_into_an_error(tour: Tour) -> None:
    """Execute the instance until the service refuses to answer."""
    chapter(
        "An error pauses the run",
        f"""The service answers {FIRST_ALLOWANCE} calls and then refuses. With a process id of ours the run is not lost:
        it pauses, and we get the exception that our own function raised.""",
    )
    tour.service.open(FIRST_ALLOWANCE)
    call(f'vault.execute_instance("{TABLE}", process_id="{PROCESS_ID}")')
    vault = tour.vault()
    try:
        vault.execute_instance(TABLE, process_id=PROCESS_ID)
    except ConnectionError as error:
        quote("raised:", "".join(traceback.format_exception_only(error)).rstrip())
    process = vault.get_active_processes().get(PROCESS_ID)
    promise("the process is active, and paused", process is not None and process.status == "paused")
    promise("every call that was allowed was answered", len(tour.service.answered()) == FIRST_ALLOWANCE)
    partial, _ = vault.get_dataframe(TABLE, instance_id="TEMP_base")
    promise("every answer is kept, and can be looked at", int(partial["topic"].notna().sum()) == FIRST_ALLOWANCE)


def meet_the_others(tour: Tour) -> None:
    """Show what others can and cannot do while the process is paused."""
    chapter(
        "Others are told who holds the table",
        """A paused process keeps its locks, so that nobody pulls the table away under it. A colleague in an
        interpreter of their own tries to delete it, and is told at once by whom and why it is held.""",
    )
    command = [sys.executable, str(HERE / "colleague.py"), str(tour.db_dir), TABLE]
    colleague = subprocess.run(command, capture_output=True, text=True, check=False)
    quote("the colleague is told:", (colleague.stdout + colleague.stderr).strip())
    promise(
        "the table was not deleted, and the colleague not kept waiting",
        colleague.returncode == 0 and TABLE in tour.vault().get_tables(),
    )
    promise("the refusal names the paused process and its error", _names_the_pause(colleague.stdout))
    tour.vault().create_table("notes")
    promise("whatever is not held can be changed meanwhile", "notes" in tour.vault().get_tables())


def _names_the_pause(message: str) -> bool:
    return all(word in message for word in (PROCESS_ID, "execute_instance", "Too Many Requests"))


def resume(tour: Tour) -> None:
    """Resume the paused process, and count the calls of the service."""
    chapter(
        "The same call resumes it",
        """The allowance is raised. The same call with the same process id continues after the last finished row;
        any interpreter could make it, also after a power cut.""",
    )
    tour.service.allow(1_000_000)
    call(f'vault.execute_instance("{TABLE}", process_id="{PROCESS_ID}")')
    vault = tour.vault()
    vault.execute_instance(TABLE, process_id=PROCESS_ID)
    frame, instance_id = vault.get_dataframe(TABLE)
    answered = tour.service.answered()
    promise(f"there is a row for each of the {len(frame)} modules", set(frame["module"]) == set(_standard_library()))
    promise("each row was asked about", sorted(answered) == sorted(frame["module"]))
    promise("no call was made twice", len(answered) == len(set(answered)))
    promise("every artifact that a cell names is there", _all_exist(frame["source"]) and _all_exist(frame["chart"]))
    promise("nothing is active any more", vault.get_active_processes() == {})
    console.print()
    say(f"The instance is called {instance_id}; it is immutable, and its builders and its code are kept with it.")
    show_frame(frame, ["module", "summary", "lines", "functions", "classes", "imports", "topic"], rows=12)


def _standard_library() -> list[str]:
    return [path.stem for path in Path(sysconfig.get_path("stdlib")).glob("*.py")]


def _all_exist(paths: Iterable[str]) -> bool:
    return all(Path(path).is_file() for path in paths)


def run_again(tour: Tour) -> None:
    """Show that a script with fixed process ids can simply be run again."""
    chapter(
        "Done is done",
        "The same call once more: the process has succeeded, so it does nothing and says so.",
    )
    vault = tour.vault()
    instances = vault.get_table_instances(TABLE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vault.execute_instance(TABLE, process_id=PROCESS_ID)
    messages = [str(warning.message) for warning in caught if issubclass(warning.category, TableVaultWarning)]
    quote("warned:", "\n".join(messages))
    promise("a warning says that it had succeeded", len(messages) == 1)
    promise("there is no second instance", vault.get_table_instances(TABLE) == instances)


def change_one_builder(tour: Tour) -> None:
    """Make a second instance from the first, with charts in another colour."""
    chapter(
        "A second instance, with one builder changed",
        """Charts in another colour: the new instance is copied from the first, one builder is changed, and only its
        column is computed again. The other cells, the dear ones among them, are taken over. What will be computed,
        and why, can be asked before anything is paid for.""",
    )
    call(f"""\
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
    quote("the plan:", repr(plan))
    promise("the plan says that only charts will be computed", _planned(plan) == {"chart": len(first)})
    process = vault.get_process(vault.execute_instance(TABLE))
    second, second_id = vault.get_dataframe(TABLE)
    quote("the process reports:", repr(process))
    promise("the service was not called at all", len(tour.service.answered()) == calls_before)
    promise("only charts were computed", _computed(process) == {"chart": len(second)})
    promise("both instances are there", vault.get_table_instances(TABLE) == [first_id, second_id])
    promise("the first has its blue charts", _all_contain(first["chart"], "steelblue"))
    promise("the second has orange ones", _all_contain(second["chart"], "darkorange"))
    unchanged = [column for column in first.columns if column not in ("source", "chart")]
    promise("all else is the same", first[unchanged].equals(second[unchanged]))


def _computed(process: ProcessInfo) -> dict[str, int]:
    counts = {name: process.progress[name].computed for name in COLUMN_BUILDERS}
    return {name: count for name, count in counts.items() if count}


def _planned(plan: InstancePlan) -> dict[str, int]:
    counts = {name: plan.builders[name].computed for name in COLUMN_BUILDERS}
    return {name: count for name, count in counts.items() if count}


def _all_contain(paths: Iterable[str], text: str) -> bool:
    return all(text in Path(path).read_text() for path in paths)


def mend_one_function(tour: Tour) -> None:
    """Mend one function of a code module that has two, and execute."""
    chapter(
        "One function mended",
        """The numbers of functions left out asynchronous ones. Mending that counts every module anew, but draws only
        the charts whose numbers change; the summaries, whose function is in the same file, stay as they are.""",
    )
    call(f"""\
vault.create_instance("{TABLE}", copy=True)
vault.create_code_module("reading", text=mended)
process_id = vault.execute_instance("{TABLE}")""")
    vault = tour.vault()
    calls_before = len(tour.service.answered())
    before, _ = vault.get_dataframe(TABLE)
    vault.create_instance(TABLE, copy=True)
    code = vault.get_code_module_str("reading")
    mended = code.replace("node, ast.FunctionDef)", "node, ast.FunctionDef | ast.AsyncFunctionDef)")
    vault.create_code_module("reading", text=mended)
    process = vault.get_process(vault.execute_instance(TABLE))
    after, _ = vault.get_dataframe(TABLE)
    changed = int((before["functions"] != after["functions"]).sum())
    quote("the process reports:", repr(process))
    promise("the service was not called at all", len(tour.service.answered()) == calls_before)
    promise(
        f"every module was counted, {changed} charts were drawn, and that is all",
        changed > 0 and _computed(process) == {"structure": len(after), "chart": changed},
    )


def trace_one_column(tour: Tour) -> None:
    """Show where the cells of one column come from."""
    chapter(
        "Where a cell comes from",
        """For every column it is on record from which inputs, by which builder, function and arguments, under which
        versions of the code, by whom and when it was made.""",
    )
    call(f'vault.get_lineage("{TABLE}", column="topic").tree()')
    lineage = tour.vault().get_lineage(TABLE, column="topic")
    console.print(lineage.tree())
    (topic,) = lineage.columns
    promise("the topics were computed by ask_topic()", topic.function == "topics.ask_topic")
    inputs = {step.column for step in topic.inputs}
    promise("from the modules' names and summaries", inputs == {"module", "summary"})


def look_back(tour: Tour) -> None:
    """Print the resulting frame and what the processes report."""
    chapter("What remains", "The newest frame, what it says about the library, and what the first process reports.")
    vault = tour.vault()
    frame, _ = vault.get_dataframe(TABLE, full_artifact_path=False)
    show_frame(frame, ["module", "lines", "topic", "source", "chart"], rows=8)
    sizes = frame.groupby("topic").agg(modules=("module", "count"), lines=("lines", "sum")).reset_index()
    show_frame(sizes.sort_values("lines", ascending=False), ["topic", "modules", "lines"], rows=len(sizes))
    process = vault.get_process(PROCESS_ID)
    quote("the first process reports:", repr(process))
    promise("its error is history: it has succeeded", process.status == "succeeded")
    call("vault.verify()")
    promise("every file of the vault is what it was when it was written", vault.verify().ok)


CHAPTERS = (
    make_the_vault,
    run_into_an_error,
    meet_the_others,
    resume,
    run_again,
    change_one_builder,
    mend_one_function,
    trace_one_column,
    look_back,
)


def take_tour(folder: Path) -> None:
    """Take the whole tour in a folder."""
    tour = Tour(folder / "atlas", Service(folder / "service"))
    os.environ["ATLAS_SERVICE"] = str(tour.service.folder)
    for chapter_of_the_tour in CHAPTERS:
        chapter_of_the_tour(tour)


if __name__ == "__main__":
    tell("A guided tour of TableVault that checks what it says.", take_tour)
