"""An agent that makes tables of its own while it runs, fails, and goes on: a story that checks what it says.

    python examples/agent/run.py [FOLDER]

Without a FOLDER the vault is made in a temporary one and deleted at the end.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the narrator of all examples

from narrator import call, chapter, console, promise, quote, say, show_frame, tell
from tablevault import ProcessInfo, TableVault

HERE = Path(__file__).resolve().parent
TABLE = "audits"
PROCESS_ID = "audits-monday"
FAILS_AT = "html/entities.py"
BUG = "documented / len(functions)"
MENDED = "documented / len(functions) if functions else 1.0"


class Inspections(logging.Handler):
    """Notes each file that the agent's tool looks into."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[str] = []

    def until_the_failure(self) -> list[str]:
        """Return the files that the tool had been through when it failed."""
        return self.files[: self.files.index(FAILS_AT)]

    def emit(self, record: logging.LogRecord) -> None:
        """Note a file."""
        (file,) = record.args
        self.files.append(file)


@dataclass(frozen=True)
class Scene:
    """Where the story takes place."""

    db_dir: Path
    inspections: Inspections

    def vault(self) -> TableVault:
        """Open the vault, as any interpreter could."""
        return TableVault(str(self.db_dir), author="principal")


def engage_the_agent(scene: Scene) -> None:
    """Create the vault, the agent's code, and the table of its tasks."""
    chapter(
        "A row is a task",
        """Each row of a table is a task for an agent: to audit a package of the standard library. The agent is a
        function. It opens the vault as a part of the process that calls it, and makes tables as it needs them: one of
        a package's files, and where a file looks bad, another of that file's gaps.""",
    )
    call(f"""\
vault.create_code_module(copy_dir="examples/agent/code")
vault.create_table("{TABLE}")
vault.create_instance("{TABLE}", builders=…)""")
    vault = TableVault(str(scene.db_dir), author="principal", create=True)
    vault.create_code_module(copy_dir=str(HERE / "code"))
    vault.create_table(TABLE)
    vault.create_instance(TABLE, builders={path.stem: path.read_text() for path in (HERE / "builders").glob("*.yaml")})
    quote("The builder that calls the agent:", vault.get_builder_str(TABLE, "verdict"))
    promise("there is no other table yet", vault.get_tables() == [TABLE])


def fail_in_the_middle(scene: Scene) -> None:
    """Execute until a tool of the agent's fails, in a table of the agent's."""
    chapter(
        "A tool fails, two floors down",
        """One of the agent's tools divides by zero at a file without functions. The agent had given its own execution
        a process id: that one is paused, and so is ours, which it is a part of.""",
    )
    call(f'vault.execute_instance("{TABLE}", process_id="{PROCESS_ID}")')
    vault = scene.vault()
    raised = None
    try:
        vault.execute_instance(TABLE, process_id=PROCESS_ID)
    except ZeroDivisionError as error:
        raised = error
        quote("raised:", "".join(traceback.format_exception_only(error)))
    promise("we got the tool's own exception", raised is not None)
    active = vault.get_active_processes()
    child = f"{PROCESS_ID}.html.files_html.rows"
    quote("active:", "\n".join(f"{name}: {process.status}" for name, process in active.items()))
    promise("our process and the agent's are paused", _statuses(active) == {PROCESS_ID: "paused", child: "paused"})
    promise("the vault knows whose part the agent's is", active[child].parent_id == PROCESS_ID)
    audits, _ = vault.get_dataframe(TABLE, instance_id="TEMP_base")
    promise("the first package's verdict is kept", audits["verdict"].notna().tolist() == [True, False, False, False])
    files, _ = vault.get_dataframe("files_html", instance_id="TEMP_base")
    promise("of the second, what the tool had found is kept", int(files["lines"].notna().sum()) == 1)


def _statuses(processes: dict[str, ProcessInfo]) -> dict[str, str]:
    return {process_id: process.status for process_id, process in processes.items()}


def mend_and_resume(scene: Scene) -> None:
    """Mend the tool and resume our process, which resumes the agent's."""
    chapter(
        "Mend the tool, and make the same call",
        """Our process goes on with the row that failed. The agent starts that row again, with the same ids: steps that
        are done are not done again, and its paused execution is resumed in the middle.""",
    )
    call(f"""\
vault.create_code_module("inspection", text=mended)
vault.execute_instance("{TABLE}", process_id="{PROCESS_ID}")""")
    vault = scene.vault()
    vault.create_code_module("inspection", text=vault.get_code_module_str("inspection").replace(BUG, MENDED))
    vault.execute_instance(TABLE, process_id=PROCESS_ID)
    frame, _ = vault.get_dataframe(TABLE)
    show_frame(frame, ["package", "verdict"], rows=4)
    promise("each package has its verdict", bool(frame["verdict"].notna().all()))
    times = Counter(scene.inspections.files)
    again = sorted(file for file, count in times.items() if count > 1)
    promise(f"of {len(times)} files only the one where the tool failed was inspected twice", again == [FAILS_AT])
    promise("nothing is active any more", vault.get_active_processes() == {})


def look_at_its_work(scene: Scene) -> None:
    """Show what the agent did, and what it left."""
    chapter(
        "What the agent did",
        """Everything that the agent did is on record, as parts of our process, and its tables are tables like any
        other.""",
    )
    vault = scene.vault()
    steps = vault.get_history(author="agent")
    quote("from the newest to the oldest:", "\n".join(f"{step.operation} {step.process_id}" for step in steps[:7]))
    promise("every step was a part of our process", {step.parent_id for step in steps} == {PROCESS_ID})
    promise("every step was done once", all(step.status == "succeeded" for step in steps))
    tables = set(vault.get_tables()) - {TABLE}
    quote("its tables:", ", ".join(sorted(tables)))
    frame, _ = vault.get_dataframe(TABLE)
    evidence = {instance for row in frame["evidence"] for instance in row}
    kept = {instance for table in tables for instance in vault.get_table_instances(table)}
    promise("the verdicts name the instances that they rest on", evidence == kept)


def improve_the_agent(scene: Scene) -> None:
    """Change the agent: every verdict is made anew, from what is known."""
    chapter(
        "A better agent",
        """The agent is taught to be more critical. That is a change of its code, so every verdict is made anew. But the
        agent makes its tables from the instances that are there, so the tool looks only into files that it had seen
        before it was mended: these rows were made by other code.""",
    )
    call(f"""\
vault.create_code_module("agent", text=agent.replace("GOOD_ENOUGH = 0.5", "GOOD_ENOUGH = 0.9"))
vault.create_instance("{TABLE}", copy=True)
vault.execute_instance("{TABLE}", process_id="audits-tuesday")""")
    vault = scene.vault()
    before, _ = vault.get_dataframe(TABLE)
    inspected_before = len(scene.inspections.files)
    agent = vault.get_code_module_str("agent")
    vault.create_code_module("agent", text=agent.replace("GOOD_ENOUGH = 0.5", "GOOD_ENOUGH = 0.9"))
    vault.create_instance(TABLE, copy=True)
    process = vault.get_process(vault.execute_instance(TABLE, process_id="audits-tuesday"))
    after, _ = vault.get_dataframe(TABLE)
    show_frame(after, ["package", "verdict"], rows=4)
    promise("every task was done again", process.progress["verdict"].computed == len(after))
    now = scene.inspections.files[inspected_before:]
    promise(
        f"only {len(now)} files were inspected again, those of the old tool",
        now == scene.inspections.until_the_failure(),
    )
    promise("the verdicts are more critical", _with_gaps(after) > _with_gaps(before))
    promise("every file of the vault is what the vault says", vault.verify().ok)
    console.print()
    say("What the agent of Monday saw is there as well: both instances are, with their evidence.")


def _with_gaps(audits) -> int:
    return int(audits["verdict"].str.contains("undocumented").sum())


def tell_the_story(folder: Path) -> None:
    """Tell the whole story in a folder."""
    scene = Scene(folder / "vault", Inspections())
    os.environ["AGENT_VAULT"] = str(scene.db_dir)
    log = logging.getLogger("inspection")
    log.setLevel(logging.INFO)
    log.addHandler(scene.inspections)
    chapters = (engage_the_agent, fail_in_the_middle, mend_and_resume, look_at_its_work, improve_the_agent)
    for chapter_of_the_story in chapters:
        chapter_of_the_story(scene)


if __name__ == "__main__":
    tell("An agent that makes tables of its own while it runs, fails, and goes on.", tell_the_story)
