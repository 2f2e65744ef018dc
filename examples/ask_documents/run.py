"""Questions over a folder of texts, sent to an unreliable service; checks its own claims.

    python examples/ask_documents/run.py [FOLDER]

Without a FOLDER, the vault is created in a temporary folder and deleted at the end. It uses no network beyond
this machine.
"""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # presentation.py

from openai import APIError
from stand_in_server import Request, StandInServer

from presentation import chapter, check, console, explain, run_example, show_call, show_frame, show_text
from tablevault import TableVault

HERE = Path(__file__).resolve().parent
PROCESS_ID = "answers-monday"
API_KEY = "sk-a-secret"
ANSWERS_BEFORE_THE_OUTAGE = 10


@dataclass(frozen=True)
class Example:
    """The state that the steps share."""

    folder: Path
    server: StandInServer

    @property
    def documents(self) -> Path:
        """The folder of text files."""
        return self.folder / "documents"

    @property
    def definitions(self) -> Path:
        """A copy of the definitions file, to be edited."""
        return self.folder / "asking.py"

    def vault(self) -> TableVault:
        """Open the vault, as any interpreter can."""
        return TableVault(str(self.folder / "vault"), author="reader")

    def questions_since(self, requests: int) -> set[tuple[str, str]]:
        """Return the questions asked after the first `requests`, each with its text."""
        return _questions(self.server.requests()[requests:])


def _questions(requests: Iterable[Request]) -> set[tuple[str, str]]:
    return {(request.text, request.question) for request in requests}


def write_the_definitions(example: Example) -> None:
    """Create the vault, and show the definitions file."""
    chapter(
        "Two tables in one file",
        """One table holds the documents of a folder. The other has a row for every question about every document, with
        the answer of a service that speaks OpenAI's protocol. Its address and key are read from the environment when
        the function is called.""",
    )
    shutil.copyfile(HERE / "asking.py", example.definitions)
    shutil.copytree(HERE / "documents", example.documents)
    _, _, definition = example.definitions.read_text().partition("# The answer of the service")
    show_text("The paid column, in asking.py:", definition.partition('    """')[0].partition("\n")[2])
    show_call('vault.plan_apply("asking.py")')
    plan = TableVault(str(example.folder / "vault"), author="reader", create=True).plan_apply(example.definitions)
    show_text("to be created:", "\n".join([*plan.tables, *(file.path for file in plan.files)]))
    check("two tables will be created", plan.tables == ("documents", "answers"))


def run_into_an_outage(example: Example) -> None:
    """Run the definitions until the client gives up."""
    chapter(
        "The client retries short failures; an outage pauses the run",
        f"""The service refuses some requests (429), fails on others (500) and drops some connections. The client
        retries these. After {ANSWERS_BEFORE_THE_OUTAGE} answers there is an outage: first the service stalls until the
        client times out, then it returns 503. The client gives up, and you get its own exception, with a note.""",
    )
    example.server.break_down_after(ANSWERS_BEFORE_THE_OUTAGE)
    show_call(f'vault.run("asking.py", process_id="{PROCESS_ID}")')
    vault = example.vault()
    raised = None
    try:
        vault.run(example.definitions, process_id=PROCESS_ID)
    except APIError as error:
        raised = error
        show_text("raised:", "".join(traceback.format_exception_only(error)))
    _show_log(example)
    outcomes = example.server.outcomes()
    check("you get the client's exception", raised is not None)
    check(
        "before, it retried 429, 500 and dropped connections",
        {"refused (429)", "failed (500)", "dropped", "stalled"} <= set(outcomes),
    )
    check("the run is paused", vault.get_process(PROCESS_ID).status == "paused")
    kept = _kept(vault)
    check(f"{len(kept)} answers had arrived and are kept", len(kept) > 0 and kept <= _answered(example))


def _kept(vault: TableVault) -> set[tuple[str, str]]:
    """Return the answered questions of a paused run, each with its text."""
    answers, _ = vault.get_dataframe("answers", instance_id="TEMP_base")
    documents, _ = vault.get_dataframe("documents")
    texts = dict(zip(documents["document"], documents["text"], strict=True))
    answered = answers[answers["answer"].notna()]
    return {(texts[name], question) for name, question in zip(answered["document"], answered["question"], strict=True)}


def _answered(example: Example) -> set[tuple[str, str]]:
    return _questions(request for request in example.server.requests() if request.outcome == "answered")


def _show_log(example: Example) -> None:
    outcomes = example.server.outcomes()
    lines = [f"{count:3} {outcome}" for outcome, count in sorted(outcomes.items())]
    show_text(f"The log of the service, {outcomes.total()} requests:", "\n".join(lines))


def resume(example: Example) -> None:
    """Resume the paused run, and read the log of the service."""
    chapter(
        "The same call resumes it",
        "The outage is over. The same call with the same process id sends only the unanswered questions.",
    )
    vault = example.vault()
    kept, requests_before = _kept(vault), len(example.server.requests())
    example.server.recover()
    show_call(f'vault.run("asking.py", process_id="{PROCESS_ID}")')
    vault.run(example.definitions, process_id=PROCESS_ID)
    _show_log(example)
    frame, _ = vault.get_dataframe("answers")
    asked = example.questions_since(requests_before)
    check(f"each of the {len(frame)} questions has an answer", bool(frame["answer"].notna().all()))
    check(f"{len(asked)} were sent now, none of them answered before", not asked & kept)
    check("no question is missing", len(asked) + len(kept) == len(frame))
    check("the answers are quotes from the documents", bool(frame["quoted"].all()))
    console.print()
    show_frame(frame, ["document", "topic", "answer"], rows=8)
    console.print()
    check("the API key is in no file of the vault", not _mentions(example.folder / "vault", API_KEY))


def _mentions(folder: Path, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def change_a_little(example: Example) -> None:
    """Reword a question and add a document; only the affected questions are sent."""
    chapter(
        "Reword a question and add a document",
        """There is a new document, and one question is worded differently. The client's time-out is doubled, too, but
        it is `untracked`, so it affects no cell. `plan_instance` counts the answers that you will pay for.""",
    )
    show_call("""\
vault.apply("asking.py")
vault.refresh("documents")
vault.plan_instance("answers", run_index=True)
vault.run("asking.py", process_id="answers-tuesday")""")
    vault = example.vault()
    before, _ = vault.get_dataframe("answers")
    shutil.copyfile(HERE / "late_arrival.txt", example.documents / "school.txt")
    text = example.definitions.read_text().replace("What is it", "What do people know it")
    example.definitions.write_text(text.replace('"timeout": 2.0', '"timeout": 4.0'))
    vault.apply(example.definitions)
    vault.refresh("documents")
    plan = vault.plan_instance("answers", run_index=True)
    show_text("the plan:", repr(plan))
    documents, topics = before["document"].nunique(), before["topic"].nunique()
    due = documents + topics
    check(f"you will pay for {due} answers: {documents} + {topics}", plan.builders["answer"].computed == due)
    requests_before = len(example.server.requests())
    process = vault.get_process(vault.run(example.definitions, process_id="answers-tuesday"))
    show_text("the process:", repr(process))
    asked = example.questions_since(requests_before)
    new_text = (example.documents / "school.txt").read_text()
    check(f"exactly these {due} were sent", len(asked) == due and process.progress["answers/answer"].computed == due)
    check(
        "each is about the new document or is the reworded question",
        all(text == new_text or "do people know" in question for text, question in asked),
    )
    after, _ = vault.get_dataframe("answers")
    unchanged = after.merge(before, on=["document", "question"], suffixes=("", "_before"))
    check(
        f"the other {len(unchanged)} answers are unchanged",
        len(unchanged) == len(after) - due and unchanged["answer"].equals(unchanged["answer_before"]),
    )


def look_back(example: Example) -> None:
    """Trace an answer, and verify the vault."""
    chapter("Trace an answer", "Every instance records its builders, its code and its inputs.")
    vault = example.vault()
    (answer,) = vault.get_lineage("answers", column="answer").columns
    show_text("the answers were computed by", f"{answer.builder}: {answer.function}, from")
    for source in answer.inputs:
        show_text("", f"{source.table_name}({source.instance_id}).{source.column}")
    check("the answers depend on the documents", "documents" in {step.table_name for step in answer.inputs})
    check("every file matches its recorded size and hash", vault.verify().ok)
    explain("The README of this example shows how to use your own service.")


def run(folder: Path) -> None:
    """Run all steps in a folder."""
    with StandInServer() as server:
        example = Example(folder, server)
        os.environ["ASK_DOCUMENTS_FOLDER"] = str(example.documents)
        os.environ["OPENAI_BASE_URL"] = server.base_url
        os.environ["OPENAI_API_KEY"] = API_KEY
        for step in (write_the_definitions, run_into_an_outage, resume, change_a_little, look_back):
            step(example)


if __name__ == "__main__":
    run_example("Questions over a folder of texts, sent to an unreliable service.", run)
