"""Vectors of texts, computed in batches and kept as files: a story that checks what it says.

    python examples/embeddings/run.py [FOLDER]

Without a FOLDER the vault is made in a temporary one and deleted at the end. The model is part of the package
`wordllama`; nothing is downloaded.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the narrator of all examples
sys.path.insert(0, str(Path(__file__).resolve().parent / "code"))  # the code that the vault gets, too

import numpy as np
import pandas as pd
from embedding import embed

from narrator import call, chapter, promise, quote, say, show_frame, tell
from tablevault import TableVault

HERE = Path(__file__).resolve().parent
PROCESS_ID = "vectors-monday"
INTERRUPTED_AT = 100
MORE_MODULES = ["statistics", "tarfile", "textwrap"]


class Counter(logging.Handler):
    """Counts the texts that are embedded in this interpreter."""

    def __init__(self) -> None:
        super().__init__()
        self.texts = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count a batch."""
        (size,) = record.args
        self.texts += size


@dataclass(frozen=True)
class Scene:
    """Where the story takes place."""

    db_dir: Path
    embedded: Counter

    def vault(self) -> TableVault:
        """Open the vault, as any interpreter could."""
        return TableVault(str(self.db_dir), author="librarian")


def make_the_tables(scene: Scene) -> None:
    """Create the vault, its code, and two tables."""
    chapter(
        "Texts and vectors",
        """One table holds texts: what functions and classes of the standard library say about themselves. The other
        holds a vector for each text, in a file of its own. Its rows come from a generator, which embeds texts in
        batches with a small model.""",
    )
    call("""\
vault.create_code_module(copy_dir="examples/embeddings/code")
vault.create_table("passages")
vault.create_instance("passages", builders=…)
vault.execute_instance("passages")
vault.create_table("vectors")
vault.create_instance("vectors", builders=…)""")
    vault = TableVault(str(scene.db_dir), author="librarian", create=True)
    vault.create_code_module(copy_dir=str(HERE / "code"))
    for table in ("passages", "vectors"):
        vault.create_table(table)
        builders = {path.stem: path.read_text() for path in (HERE / "builders" / table).glob("*.yaml")}
        vault.create_instance(table, builders=builders)
    vault.execute_instance("passages")
    quote("The builder of the vectors:", vault.get_builder_str("vectors", "vectors_index"))
    passages, _ = vault.get_dataframe("passages")
    promise(f"there are {len(passages)} texts, no two the same", len(passages) > 2 * INTERRUPTED_AT)


def interrupt(scene: Scene) -> None:
    """Execute in another interpreter, and interrupt it."""
    chapter(
        "Ctrl-C",
        f"""An interpreter of its own begins, and is interrupted in the middle of a batch, at the
        {INTERRUPTED_AT}th vector. With a process id of ours the run is paused.""",
    )
    call(f'vault.execute_instance("vectors", process_id="{PROCESS_ID}")')
    command = [sys.executable, str(HERE / "interrupted.py"), str(scene.db_dir), "vectors", PROCESS_ID]
    interrupted = subprocess.run([*command, str(INTERRUPTED_AT)], capture_output=True, text=True, check=False)
    lines = interrupted.stderr.splitlines()
    end = max((at for at, line in enumerate(lines) if line.startswith("KeyboardInterrupt")), default=0)
    quote("the interpreter said:", interrupted.stdout + "\n".join(lines[end:]))
    vault = scene.vault()
    promise("it was interrupted", interrupted.returncode != 0 and "KeyboardInterrupt" in interrupted.stderr)
    promise("the process is paused", vault.get_process(PROCESS_ID).status == "paused")
    kept, _ = vault.get_dataframe("vectors", instance_id="TEMP_base")
    promise(
        f"{len(kept)} vectors are kept, all that were done",
        len(kept) == INTERRUPTED_AT - 1 and all(np.load(path).shape == (256,) for path in kept["vector"]),
    )


def resume(scene: Scene) -> None:
    """Resume the paused process, and count what is embedded."""
    chapter("The same call goes on", "The generator is shown the rows that are there, and embeds the others.")
    vault = scene.vault()
    kept, _ = vault.get_dataframe("vectors", instance_id="TEMP_base")
    written = {Path(path).name: Path(path).stat().st_mtime_ns for path in kept["vector"]}
    call(f'vault.execute_instance("vectors", process_id="{PROCESS_ID}")')
    vault.execute_instance("vectors", process_id=PROCESS_ID)
    passages, _ = vault.get_dataframe("passages")
    frame, _ = vault.get_dataframe("vectors")
    files = {Path(path).name: Path(path).stat().st_mtime_ns for path in frame["vector"]}
    promise("each text has its vector, in the order of the texts", frame["text"].equals(passages["text"]))
    promise(
        f"{scene.embedded.texts} texts were embedded now, and none that had been",
        scene.embedded.texts == len(frame) - len(kept),
    )
    promise("the files that were there are the same files", written.items() <= files.items())


def ask_for_neighbours(scene: Scene) -> None:
    """Find the texts whose vectors are nearest to a question's."""
    chapter(
        "Nearest neighbours",
        """The vectors are ordinary files, whose paths are in the frame: what is nearest to a question is a
        multiplication.""",
    )
    call("""\
frame, _ = vault.get_dataframe("vectors")
vectors = np.stack([np.load(path) for path in frame["vector"]])
closeness = vectors @ embed([question])[0]""")
    vault = scene.vault()
    zipping = nearest(vault, "compress data and read a compressed file", 5)
    chance = nearest(vault, "choose an element of a sequence by chance", 5)
    for found in (zipping, chance):
        show_frame(found, ["closeness", "name", "shortened"], rows=5)
    promise("about compression: mostly the modules that compress", _modules(zipping, {"bz2", "gzip", "lzma"}) >= 3)
    promise("about chance: the two nearest are of the module `random`", _modules(chance.head(2), {"random"}) == 2)


def nearest(vault: TableVault, question: str, rows: int) -> pd.DataFrame:
    """Return the texts that are nearest to a question, the nearest first."""
    frame, _ = vault.get_dataframe("vectors")
    passages, _ = vault.get_dataframe("passages")
    vectors = np.stack([np.load(path) for path in frame["vector"]])
    frame["closeness"] = (vectors @ embed([question])[0]).astype(float).round(3)
    # Rows whose text is no passage any more are left out; `keep_old` keeps them.
    found = frame.merge(passages, on="text").nlargest(rows, "closeness")
    return found.assign(shortened=found["text"].str.slice(0, 60))


def _modules(found: pd.DataFrame, modules: set[str]) -> int:
    return int(found["name"].str.partition(".")[0].isin(modules).sum())


def add_texts(scene: Scene) -> None:
    """Take in more modules: only their texts are embedded."""
    more = ", ".join(MORE_MODULES)
    chapter(
        "More texts",
        f"""More modules are read: {more}. A new instance of the vectors, copied from the first, is shown the rows of
        that one, and embeds the texts that are new.""",
    )
    call(f"""\
vault.create_instance("passages", copy=True)
vault.create_builder_file("passages", text=builder.replace("shutil]", "shutil, {more}]"))
vault.execute_instance("passages")
vault.create_instance("vectors", copy=True)
vault.execute_instance("vectors", process_id="vectors-tuesday")""")
    vault = scene.vault()
    before, _ = vault.get_dataframe("vectors", full_artifact_path=False)
    embedded_before = scene.embedded.texts
    vault.create_instance("passages", copy=True)
    builder = vault.get_builder_str("passages", "passages_index")
    vault.create_builder_file("passages", text=builder.replace("shutil]", f"shutil, {more}]"))
    vault.execute_instance("passages")
    vault.create_instance("vectors", copy=True)
    process = vault.get_process(vault.execute_instance("vectors", process_id="vectors-tuesday"))
    quote("the process reports:", repr(process))
    after, _ = vault.get_dataframe("vectors", full_artifact_path=False)
    new = len(after) - len(before)
    promise(f"just the {new} new texts were embedded", 0 < new == scene.embedded.texts - embedded_before)
    promise("the old rows are the same, in the same order", after.head(len(before)).equals(before))
    promise("every file of the vault is what the vault says", vault.verify().ok)
    say("The size and hash of each vector's file belong to the instance; `verify` has just compared them.")


def tell_the_story(folder: Path) -> None:
    """Tell the whole story in a folder."""
    scene = Scene(folder / "vault", Counter())
    log = logging.getLogger("embedding")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(scene.embedded)
    for chapter_of_the_story in (make_the_tables, interrupt, resume, ask_for_neighbours, add_texts):
        chapter_of_the_story(scene)


if __name__ == "__main__":
    tell("Vectors of texts, computed in batches and kept as files.", tell_the_story)
