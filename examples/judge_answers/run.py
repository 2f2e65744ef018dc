"""500 answers, graded by an unreliable service; checks its own claims.

    python examples/judge_answers/run.py [FOLDER]

Without a FOLDER, the vault is created in a temporary folder and deleted at the end. It uses no network beyond
this machine.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # presentation.py

import pandas as pd
from judging_server import EVERY, FIRST_OUTCOMES, PRICE, JudgingServer, grade_of

from presentation import chapter, check, console, explain, run_example, show_call, show_frame, show_text
from tablevault import TableVault
from tablevault.errors import JobsPending

DEFINITIONS = Path(__file__).resolve().parent / "judging.py"
OVERNIGHT = DEFINITIONS.with_name("judging_overnight.py")
FINISHED_BEFORE_EXPIRY = 150
QUESTIONS = 500
CONFUSING = (40, 240, 440)
API_KEY = "sk-a-secret"


@dataclass(frozen=True)
class Example:
    """The state that the steps share."""

    folder: Path
    server: JudgingServer

    def vault(self) -> TableVault:
        """Open the vault, as any interpreter can."""
        return TableVault(str(self.folder / "vault"), author="reader")


def write_the_answers(example: Example) -> None:
    """Write the answers, and show the definition of the verdicts."""
    chapter(
        "500 answers",
        """One table holds answers, written from a frame. A definitions file says that the other has a verdict for each
        of them: a grade and a reason, from a service that speaks OpenAI's protocol.""",
    )
    show_call('vault.write("answers", frame, primary_key=["number"])')
    vault = TableVault(str(example.folder / "vault"), author="reader", create=True)
    numbers = range(QUESTIONS)
    answers = {
        "number": numbers,
        "question": [f"What is {number} + {number}?" for number in numbers],
        "answer": [str(2 * number) for number in numbers],
    }
    vault.write("answers", pd.DataFrame(answers), primary_key=["number"])
    _, _, definition = DEFINITIONS.read_text().partition("# The verdict of the service, which is paid for.\n")
    show_text("The paid columns, in judging.py:", definition.partition("\n\n")[0])


def grade_all(example: Example) -> None:
    """Run the definitions: rows that fail for good are recorded, all others are graded."""
    chapter(
        "A run that does not stop at a bad row",
        """32 requests are in flight at a time. What is transient is retried: throttled requests after as long as the
        service asks, failures, hanging requests after the timeout. A reply that is not JSON, or a grade that
        `validate` refuses, is asked for again, with the reason in `LAST_ERROR`. A row that still fails is
        recorded.""",
    )
    show_call('process_id = vault.run("judging.py")')
    vault = example.vault()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        process_id = vault.run(DEFINITIONS)
    show_text("warned:", str(told[-1].message))
    _show_log(example)
    progress = vault.get_process(process_id).progress["verdicts/verdict"]
    check(
        f"the vault counts the calls as the service does: {QUESTIONS} rows and {progress.retried} repeated calls",
        len(example.server.requests()) == QUESTIONS + progress.retried,
    )
    frame, _ = vault.get_dataframe("verdicts")
    failed = frame[frame["grade"].isna()]
    check(f"{len(CONFUSING)} rows failed, all others have a grade", sorted(failed["number"]) == list(CONFUSING))
    graded = frame.dropna(subset=["grade"])
    check("each grade belongs to its row", list(graded["grade"]) == [grade_of(number) for number in graded["number"]])
    calls = Counter(number for number, _ in example.server.requests())
    once = [number for number in range(QUESTIONS) if number % EVERY not in FIRST_OUTCOMES and number not in CONFUSING]
    check(f"{len(once)} questions cost one call each", all(calls[number] == 1 for number in once))
    twice = [number for number in range(QUESTIONS) if number % EVERY in FIRST_OUTCOMES and number not in CONFUSING]
    check(f"{len(twice)} questions took a second call", all(calls[number] == 2 for number in twice))
    check("the failed rows had their first call and two retries", all(calls[number] == 3 for number in CONFUSING))


def _show_log(example: Example) -> None:
    outcomes = example.server.outcomes()
    lines = [f"{count:3} {outcome}" for outcome, count in sorted(outcomes.items())]
    show_text(f"The log of the service, {outcomes.total()} requests:", "\n".join(lines))


def look_at_the_errors(example: Example) -> None:
    """Read the records of the failed rows."""
    chapter("Which rows failed, and why", "The vault keeps a record of each failed row, with the refused reply.")
    show_call('vault.get_errors("verdicts")')
    errors = example.vault().get_errors("verdicts")
    show_frame(errors, ["index", "error", "message", "calls"], rows=len(CONFUSING))
    console.print()
    check("each record names its row", [key["number"] for key in errors["key"]] == list(CONFUSING))
    check("the reason is that of the validator", set(errors["message"]) == {"the grade is 11, not one of 1 to 5"})
    check("the API key is in no file of the vault", not _mentions(example.folder / "vault", API_KEY))


def _mentions(folder: Path, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def retry_what_failed(example: Example) -> None:
    """Retry the failed rows, once the service is repaired."""
    chapter("Retry what failed", "The service is repaired. One call asks again for the failed rows, and for no other.")
    example.server.repair()
    requests_before = len(example.server.requests())
    show_call('vault.retry_failed("verdicts", process_id="verdicts-tuesday")')
    vault = example.vault()
    vault.retry_failed("verdicts", process_id="verdicts-tuesday")
    asked = [number for number, _ in example.server.requests()[requests_before:]]
    check(f"exactly {len(CONFUSING)} requests were sent", sorted(asked) == list(CONFUSING))
    frame, _ = vault.get_dataframe("verdicts", failed="raise")
    check(f"all {len(frame)} rows have a grade", bool(frame["grade"].notna().all()))
    check("every file matches its recorded size and hash", vault.verify().ok)
    check(
        f"the books of vault and service agree: ${example.server.earned():.2f}",
        round(_cost(vault, "verdicts"), 4) == round(example.server.earned(), 4),
    )


def _cost(vault: TableVault, table: str) -> float:
    """Return what all instances of a table have cost."""
    instances = vault.get_table_instances(table)
    return sum(vault.get_usage(table, instance)["cost"].sum() for instance in instances)


def grade_overnight(example: Example) -> None:
    """Grade the same answers by the batch API: the laptop is closed twice, and one batch expires half-way."""
    chapter(
        "Overnight, at half the price",
        """`executor: jobs` hands the rows to the batch API of the service. Once all batches are submitted, the run
        pauses; the same call goes on, on any day and from any interpreter.""",
    )
    show_call('vault.run("judging_overnight.py", process_id="overnight")')
    nights, earned_before = 0, example.server.earned()
    while True:
        try:
            example.vault().run(OVERNIGHT, process_id="overnight")
            break
        except JobsPending as pending:
            show_text(f"Evening {nights + 1}: JobsPending", str(pending))
            example.server.batches.pass_a_night(None if nights else FINISHED_BEFORE_EXPIRY)
            nights += 1
    vault = example.vault()
    frame, _ = vault.get_dataframe("overnight", failed="raise")
    check("each grade belongs to its row", list(frame["grade"]) == [grade_of(number) for number in frame["number"]])
    check("three batches were submitted, and one for the rows of the batch that expired", nights == 2)
    check("no row was submitted twice but those", example.server.batches.batches == 4)
    cost = vault.get_process("overnight").usage["cost"]
    check(f"500 verdicts cost ${cost:.2f}, half of the price at once", round(cost, 4) == QUESTIONS * PRICE / 2)
    check("the service says the same", round(example.server.earned() - earned_before, 4) == round(cost, 4))
    explain("Read the pages about errors in rows and about batch jobs for everything that a builder can say of them.")


def run(folder: Path) -> None:
    """Run all steps in a folder."""
    with JudgingServer(CONFUSING) as server:
        example = Example(folder, server)
        os.environ["OPENAI_BASE_URL"] = server.base_url
        os.environ["OPENAI_API_KEY"] = API_KEY
        for step in (write_the_answers, grade_all, look_at_the_errors, retry_what_failed, grade_overnight):
            step(example)


if __name__ == "__main__":
    run_example("500 answers, graded by an unreliable service.", run)
