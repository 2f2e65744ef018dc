"""An agent that creates tables while it runs, fails, and resumes; checks its own claims.

    python examples/agent/run.py [FOLDER]

Without a FOLDER, the vault is created in a temporary folder and deleted at the end.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # presentation.py

from presentation import chapter, check, console, explain, run_example, show_call, show_frame, show_text
from tablevault import ProcessInfo, TableVault

HERE = Path(__file__).resolve().parent
TABLE = "audits"
PROCESS_ID = "audits-monday"
FAILS_AT = "html/entities.py"
BUG = "documented / len(functions)"
FIXED = "documented / len(functions) if functions else 1.0"


class Inspections(logging.Handler):
    """Records each file that the agent's tool inspects."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[str] = []

    def until_the_failure(self) -> list[str]:
        """Return the files that the tool had inspected before it failed."""
        return self.files[: self.files.index(FAILS_AT)]

    def emit(self, record: logging.LogRecord) -> None:
        """Record a file."""
        (file,) = record.args
        self.files.append(file)


@dataclass(frozen=True)
class Example:
    """The state that the steps share."""

    db_dir: Path
    inspections: Inspections

    def vault(self) -> TableVault:
        """Open the vault, as any interpreter can."""
        return TableVault(str(self.db_dir), author="principal")


def create_the_tasks(example: Example) -> None:
    """Create the vault, the code of the agent, and the table of its tasks."""
    chapter(
        "A row is a task",
        """Each row of a table is a task for an agent: to audit a package of the standard library. The agent is a
        function. It opens the vault as a child of the process that calls it, and creates tables as it needs them: one
        of the package's files, and another one of the gaps of a suspicious file.""",
    )
    show_call(f"""\
vault.create_code_module(copy_dir="examples/agent/code")
vault.create_table("{TABLE}")
vault.create_instance("{TABLE}", builders=…)""")
    vault = TableVault(str(example.db_dir), author="principal", create=True)
    vault.create_code_module(copy_dir=str(HERE / "code"))
    vault.create_table(TABLE)
    vault.create_instance(TABLE, builders={path.stem: path.read_text() for path in (HERE / "builders").glob("*.yaml")})
    show_text("The builder that calls the agent:", vault.get_builder_str(TABLE, "verdict"))
    check("there is no other table yet", vault.get_tables() == [TABLE])


def fail_in_the_middle(example: Example) -> None:
    """Execute until a tool fails, in a table created by the agent."""
    chapter(
        "A tool fails in a nested process",
        """A tool of the agent divides by zero on a file without functions. The agent gave its own execution a process
        id, so that execution is paused, and so is its parent, your process.""",
    )
    show_call(f'vault.execute_instance("{TABLE}", process_id="{PROCESS_ID}")')
    vault = example.vault()
    raised = None
    try:
        vault.execute_instance(TABLE, process_id=PROCESS_ID)
    except ZeroDivisionError as error:
        raised = error
        show_text("raised:", "".join(traceback.format_exception_only(error)))
    check("you get the exception of the tool", raised is not None)
    active = vault.get_active_processes()
    child = f"{PROCESS_ID}.html.files_html.rows"
    show_text("active:", "\n".join(f"{name}: {process.status}" for name, process in active.items()))
    check("your process and the agent's are paused", _statuses(active) == {PROCESS_ID: "paused", child: "paused"})
    check("the agent's process is recorded as a child of yours", active[child].parent_id == PROCESS_ID)
    audits, _ = vault.get_dataframe(TABLE, instance_id="TEMP_base")
    check("the verdict on the first package is kept", audits["verdict"].notna().tolist() == [True, False, False, False])
    files, _ = vault.get_dataframe("files_html", instance_id="TEMP_base")
    check("the findings of the tool in the second package are kept", int(files["lines"].notna().sum()) == 1)


def _statuses(processes: dict[str, ProcessInfo]) -> dict[str, str]:
    return {process_id: process.status for process_id, process in processes.items()}


def fix_and_resume(example: Example) -> None:
    """Fix the tool and resume the outer process, which resumes the agent's."""
    chapter(
        "Fix the tool and make the same call",
        """Your process resumes with the failed row. The agent starts that row again with the same ids: finished steps
        are no-ops, and its paused execution is resumed after its last finished row.""",
    )
    show_call(f"""\
vault.create_code_module("inspection", text=fixed)
vault.execute_instance("{TABLE}", process_id="{PROCESS_ID}")""")
    vault = example.vault()
    vault.create_code_module("inspection", text=vault.get_code_module_str("inspection").replace(BUG, FIXED))
    vault.execute_instance(TABLE, process_id=PROCESS_ID)
    frame, _ = vault.get_dataframe(TABLE)
    show_frame(frame, ["package", "verdict"], rows=4)
    check("each package has a verdict", bool(frame["verdict"].notna().all()))
    times = Counter(example.inspections.files)
    again = sorted(file for file, count in times.items() if count > 1)
    check(f"of {len(times)} files, only the one that the tool failed on was inspected twice", again == [FAILS_AT])
    check("no process is active", vault.get_active_processes() == {})


def inspect_its_work(example: Example) -> None:
    """Show the operations and the tables of the agent."""
    chapter(
        "The work of the agent",
        """The operations of the agent are recorded as children of your process. Its tables are ordinary tables.""",
    )
    vault = example.vault()
    steps = vault.get_history(author="agent")
    show_text("its operations, newest first:", "\n".join(f"{step.operation} {step.process_id}" for step in steps[:7]))
    check("every step is a child of your process", {step.parent_id for step in steps} == {PROCESS_ID})
    check("every step ran once", all(step.status == "succeeded" for step in steps))
    tables = set(vault.get_tables()) - {TABLE}
    show_text("its tables:", ", ".join(sorted(tables)))
    frame, _ = vault.get_dataframe(TABLE)
    evidence = {instance for row in frame["evidence"] for instance in row}
    kept = {instance for table in tables for instance in vault.get_table_instances(table)}
    check("the verdicts name the instances that they are based on", evidence == kept)


def improve_the_agent(example: Example) -> None:
    """Change the agent: every verdict is recomputed from reused findings."""
    chapter(
        "A better agent",
        """The agent becomes more critical. This changes its code, so every verdict is recomputed. But the agent copies
        its tables from the previous instances, so the tool inspects only the files that it had inspected before the
        fix, under other code.""",
    )
    show_call(f"""\
vault.create_code_module("agent", text=agent.replace("GOOD_ENOUGH = 0.5", "GOOD_ENOUGH = 0.9"))
vault.create_instance("{TABLE}", copy=True)
vault.execute_instance("{TABLE}", process_id="audits-tuesday")""")
    vault = example.vault()
    before, _ = vault.get_dataframe(TABLE)
    inspected_before = len(example.inspections.files)
    agent = vault.get_code_module_str("agent")
    vault.create_code_module("agent", text=agent.replace("GOOD_ENOUGH = 0.5", "GOOD_ENOUGH = 0.9"))
    vault.create_instance(TABLE, copy=True)
    process = vault.get_process(vault.execute_instance(TABLE, process_id="audits-tuesday"))
    after, _ = vault.get_dataframe(TABLE)
    show_frame(after, ["package", "verdict"], rows=4)
    check("every task ran again", process.progress["verdict"].computed == len(after))
    now = example.inspections.files[inspected_before:]
    check(
        f"only {len(now)} files were inspected again, those of the tool before the fix",
        now == example.inspections.until_the_failure(),
    )
    check("the verdicts are more critical", _with_gaps(after) > _with_gaps(before))
    check("every file matches its recorded size and hash", vault.verify().ok)
    console.print()
    explain("Monday's verdicts are still there: the vault has both instances, with their evidence.")


def _with_gaps(audits) -> int:
    return int(audits["verdict"].str.contains("undocumented").sum())


def run(folder: Path) -> None:
    """Run all steps in a folder."""
    example = Example(folder / "vault", Inspections())
    os.environ["AGENT_VAULT"] = str(example.db_dir)
    log = logging.getLogger("inspection")
    log.setLevel(logging.INFO)
    log.addHandler(example.inspections)
    chapters = (create_the_tasks, fail_in_the_middle, fix_and_resume, inspect_its_work, improve_the_agent)
    for step in chapters:
        step(example)


if __name__ == "__main__":
    run_example("An agent that creates tables while it runs, fails, and resumes.", run)
