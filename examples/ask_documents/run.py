"""Questions over a folder of texts, asked of a service that stumbles: a story that checks what it says.

    python examples/ask_documents/run.py [FOLDER]

Without a FOLDER the vault is made in a temporary one and deleted at the end. Nothing leaves this machine.
"""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the narrator of all examples

from openai import APIError
from stand_in_server import Request, StandInServer

from narrator import call, chapter, console, promise, quote, say, show_frame, tell
from tablevault import TableVault

HERE = Path(__file__).resolve().parent
PROCESS_ID = "answers-monday"
API_KEY = "sk-nobody-may-read-this"
ANSWERS_BEFORE_THE_OUTAGE = 10


@dataclass(frozen=True)
class Scene:
    """Where the story takes place."""

    folder: Path
    server: StandInServer

    @property
    def documents(self) -> Path:
        """The folder of text files."""
        return self.folder / "documents"

    def vault(self) -> TableVault:
        """Open the vault, as any interpreter could."""
        return TableVault(str(self.folder / "vault"), author="reader")

    def questions_since(self, requests: int) -> set[tuple[str, str]]:
        """Return what has been asked, as text and question, after so many requests."""
        return _questions(self.server.requests()[requests:])


def _questions(requests: Iterable[Request]) -> set[tuple[str, str]]:
    return {(request.text, request.question) for request in requests}


def make_the_tables(scene: Scene) -> None:
    """Create the vault, its code, and two tables."""
    chapter(
        "Two tables",
        """One table holds the documents of a folder, the other has a row for every question about every document. A
        row's answer comes from a service that speaks OpenAI's protocol; its address and its key are read from the
        environment, when they are needed.""",
    )
    call("""\
vault.create_code_module(copy_dir="examples/ask_documents/code")
vault.create_table("documents")
vault.create_instance("documents", builders=…)
vault.execute_instance("documents")
vault.create_table("answers")
vault.create_instance("answers", builders=…)""")
    vault = TableVault(str(scene.folder / "vault"), author="reader", create=True)
    vault.create_code_module(copy_dir=str(HERE / "code"))
    for table in ("documents", "answers"):
        vault.create_table(table)
        builders = {path.stem: path.read_text() for path in (HERE / "builders" / table).glob("*.yaml")}
        vault.create_instance(table, builders=builders)
    vault.execute_instance("documents")
    quote("The builder of the column that costs money:", vault.get_builder_str("answers", "answer"))
    promise("the documents are there, each with its file", len(vault.get_dataframe("documents")[0]) == 6)


def run_into_an_outage(scene: Scene) -> None:
    """Execute until the client gives up."""
    chapter(
        "Small troubles are the client's, a big one pauses the run",
        f"""The service refuses some requests (429), breaks at others (500) and hangs up on some without an answer. The
        client's own retries get over that. After {ANSWERS_BEFORE_THE_OUTAGE} answers there is an outage: first
        silence, which the client's time-out ends, then 503. The client gives up, and its exception reaches us as it
        is, with a note.""",
    )
    scene.server.break_down_after(ANSWERS_BEFORE_THE_OUTAGE)
    call(f'vault.execute_instance("answers", process_id="{PROCESS_ID}")')
    vault = scene.vault()
    raised = None
    try:
        vault.execute_instance("answers", process_id=PROCESS_ID)
    except APIError as error:
        raised = error
        quote("raised:", "".join(traceback.format_exception_only(error)))
    _show_books(scene)
    outcomes = scene.server.outcomes()
    promise("the client's exception reached us", raised is not None)
    promise(
        "before, its retries got over 429, 500 and hanging up",
        {"refused (429)", "broke (500)", "hung up", "silent"} <= set(outcomes),
    )
    promise("the process is paused", vault.get_process(PROCESS_ID).status == "paused")
    kept = _kept(vault)
    promise(f"{len(kept)} answers had arrived, and are kept", len(kept) > 0 and kept <= _answered(scene))


def _kept(vault: TableVault) -> set[tuple[str, str]]:
    """Return what is answered in a paused run, as text and question."""
    answers, _ = vault.get_dataframe("answers", instance_id="TEMP_base")
    documents, _ = vault.get_dataframe("documents")
    texts = {name: Path(path).read_text() for name, path in zip(documents["document"], documents["text"], strict=True)}
    answered = answers[answers["answer"].notna()]
    return {(texts[name], question) for name, question in zip(answered["document"], answered["question"], strict=True)}


def _answered(scene: Scene) -> set[tuple[str, str]]:
    return _questions(request for request in scene.server.requests() if request.outcome == "answered")


def _show_books(scene: Scene) -> None:
    outcomes = scene.server.outcomes()
    lines = [f"{count:3} {outcome}" for outcome, count in sorted(outcomes.items())]
    quote(f"The service's books, {outcomes.total()} requests:", "\n".join(lines))


def resume(scene: Scene) -> None:
    """Resume the paused process, and look into the service's books."""
    chapter(
        "The same call resumes it",
        "The outage is over. The same call with the same process id asks what has not been answered, and nothing else.",
    )
    vault = scene.vault()
    kept, requests_before = _kept(vault), len(scene.server.requests())
    scene.server.recover()
    call(f'vault.execute_instance("answers", process_id="{PROCESS_ID}")')
    vault.execute_instance("answers", process_id=PROCESS_ID)
    _show_books(scene)
    frame, _ = vault.get_dataframe("answers")
    asked = scene.questions_since(requests_before)
    promise(f"each of the {len(frame)} questions has its answer", bool(frame["answer"].notna().all()))
    promise(f"{len(asked)} were asked now, and none that had been answered", not asked & kept)
    promise("together they are all", len(asked) + len(kept) == len(frame))
    promise("the answers are the documents' own words", bool(frame["quoted"].all()))
    console.print()
    show_frame(frame, ["document", "topic", "answer"], rows=8)
    console.print()
    promise("the key is written nowhere in the vault", not _mentions(scene.folder / "vault", API_KEY))


def _mentions(folder: Path, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def change_a_little(scene: Scene) -> None:
    """Reword a question and add a document: only what depends on them is asked."""
    chapter(
        "One question reworded, one document more",
        """A new document has arrived, and one question is put differently. The client's time-out is doubled, too, but
        the builder has it under `untracked`, so that it counts for nothing. What will be paid for can be asked
        before.""",
    )
    call("""\
vault.create_instance("documents", copy=True)
vault.execute_instance("documents")
vault.create_instance("answers", copy=True)
vault.create_builder_file("answers", "answers_index", text=index.replace("What is it", "What do people know it"))
vault.create_builder_file("answers", "answer", text=answer.replace("timeout: 2.0", "timeout: 4.0"))
vault.plan_instance("answers", run_index=True)
vault.execute_instance("answers", process_id="answers-tuesday")""")
    vault = scene.vault()
    before, _ = vault.get_dataframe("answers")
    shutil.copyfile(HERE / "late_arrival.txt", scene.documents / "school.txt")
    vault.create_instance("documents", copy=True)
    vault.execute_instance("documents")
    vault.create_instance("answers", copy=True)
    _edit(vault, "answers_index", "What is it", "What do people know it")
    _edit(vault, "answer", "timeout: 2.0", "timeout: 4.0")
    plan = vault.plan_instance("answers", run_index=True)
    quote("the plan:", repr(plan))
    documents, topics = before["document"].nunique(), before["topic"].nunique()
    due = documents + topics
    promise(f"{due} answers will be paid for: {documents} + {topics}", plan.builders["answer"].computed == due)
    requests_before = len(scene.server.requests())
    process = vault.get_process(vault.execute_instance("answers", process_id="answers-tuesday"))
    quote("the process reports:", repr(process))
    asked = scene.questions_since(requests_before)
    new_text = (scene.documents / "school.txt").read_text()
    promise(f"just these {due} were asked", len(asked) == due and process.progress["answer"].computed == due)
    promise(
        "each was about the new document, or the reworded question",
        all(text == new_text or "do people know" in question for text, question in asked),
    )
    after, _ = vault.get_dataframe("answers")
    unchanged = after.merge(before, on=["document", "question"], suffixes=("", "_before"))
    promise(
        f"the other {len(unchanged)} answers are the ones we had",
        len(unchanged) == len(after) - due and unchanged["answer"].equals(unchanged["answer_before"]),
    )


def _edit(vault: TableVault, builder: str, old: str, new: str) -> None:
    text = vault.get_builder_str("answers", builder)
    vault.create_builder_file("answers", builder, text=text.replace(old, new))


def look_back(scene: Scene) -> None:
    """Verify the vault, and say where an answer comes from."""
    chapter(
        "Where an answer comes from", "Every instance keeps its builders, its code and the inputs it was made from."
    )
    vault = scene.vault()
    (answer,) = vault.get_lineage("answers", column="answer").columns
    quote("the answers were made by", f"{answer.builder}: {answer.function}, from")
    for source in answer.inputs:
        quote("", f"{source.table_name}({source.instance_id}).{source.column}")
    promise(
        "a question is known to depend on the documents", "documents" in {step.table_name for step in answer.inputs}
    )
    promise("every file of the vault is what the vault says", vault.verify().ok)
    say("The README beside this file says how to ask a service of your own.")


def tell_the_story(folder: Path) -> None:
    """Tell the whole story in a folder."""
    shutil.copytree(HERE / "documents", folder / "documents")
    with StandInServer() as server:
        scene = Scene(folder, server)
        os.environ["ASK_DOCUMENTS_FOLDER"] = str(scene.documents)
        os.environ["OPENAI_BASE_URL"] = server.base_url
        os.environ["OPENAI_API_KEY"] = API_KEY
        for chapter_of_the_story in (make_the_tables, run_into_an_outage, resume, change_a_little, look_back):
            chapter_of_the_story(scene)


if __name__ == "__main__":
    tell("Questions over a folder of texts, asked of a service that stumbles.", tell_the_story)
