"""Text embeddings, computed in batches and stored as files; checks its own claims.

    python examples/embeddings/run.py [FOLDER]

Without a FOLDER, the vault is created in a temporary folder and deleted at the end. The model is part of
the package `wordllama`; nothing is downloaded.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # presentation.py
sys.path.insert(0, str(Path(__file__).resolve().parent / "code"))  # the code that is copied into the vault

import numpy as np
import pandas as pd
from embedding import embed

from presentation import chapter, check, explain, run_example, show_call, show_frame, show_text
from tablevault import TableVault

HERE = Path(__file__).resolve().parent
PROCESS_ID = "vectors-monday"
INTERRUPTED_AT = 100
MORE_MODULES = ["statistics", "tarfile", "textwrap"]


class Counter(logging.Handler):
    """Counts the texts embedded in this interpreter."""

    def __init__(self) -> None:
        super().__init__()
        self.texts = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count a batch."""
        (size,) = record.args
        self.texts += size


@dataclass(frozen=True)
class Example:
    """The state that the steps share."""

    db_dir: Path
    embedded: Counter

    def vault(self) -> TableVault:
        """Open the vault, as any interpreter can."""
        return TableVault(str(self.db_dir), author="librarian")


def make_the_tables(example: Example) -> None:
    """Create the vault, its code, and two tables."""
    chapter(
        "Texts and vectors",
        """One table holds texts: docstrings of functions and classes of the standard library. The other holds a vector
        for each text, in a file of its own. Its rows come from a generator, which embeds the texts in batches with a
        small model.""",
    )
    show_call("""\
vault.create_code_module(copy_dir="examples/embeddings/code")
vault.create_table("passages")
vault.create_instance("passages", builders=…)
vault.execute_instance("passages")
vault.create_table("vectors")
vault.create_instance("vectors", builders=…)""")
    vault = TableVault(str(example.db_dir), author="librarian", create=True)
    vault.create_code_module(copy_dir=str(HERE / "code"))
    for table in ("passages", "vectors"):
        vault.create_table(table)
        builders = {path.stem: path.read_text() for path in (HERE / "builders" / table).glob("*.yaml")}
        vault.create_instance(table, builders=builders)
    vault.execute_instance("passages")
    show_text("The builder of the vectors:", vault.get_builder_str("vectors", "vectors_index"))
    passages, _ = vault.get_dataframe("passages")
    check(f"there are {len(passages)} distinct texts", len(passages) > 2 * INTERRUPTED_AT)


def interrupt(example: Example) -> None:
    """Execute in another interpreter, and interrupt it."""
    chapter(
        "Ctrl-C",
        f"""Another interpreter starts, and is interrupted in the middle of a batch, at the {INTERRUPTED_AT}th vector.
        The process id turns the interrupt into a pause.""",
    )
    show_call(f'vault.execute_instance("vectors", process_id="{PROCESS_ID}")')
    command = [sys.executable, str(HERE / "interrupted.py"), str(example.db_dir), "vectors", PROCESS_ID]
    interrupted = subprocess.run([*command, str(INTERRUPTED_AT)], capture_output=True, text=True, check=False)
    lines = interrupted.stderr.splitlines()
    end = max((at for at, line in enumerate(lines) if line.startswith("KeyboardInterrupt")), default=0)
    show_text("its output:", interrupted.stdout + "\n".join(lines[end:]))
    vault = example.vault()
    check("it was interrupted", interrupted.returncode != 0 and "KeyboardInterrupt" in interrupted.stderr)
    check("the process is paused", vault.get_process(PROCESS_ID).status == "paused")
    kept, _ = vault.get_dataframe("vectors", instance_id="TEMP_base")
    check(
        f"all {len(kept)} finished vectors are kept",
        len(kept) == INTERRUPTED_AT - 1 and all(np.load(path).shape == (256,) for path in kept["vector"]),
    )


def resume(example: Example) -> None:
    """Resume the paused process, and count the embedded texts."""
    chapter("The same call resumes it", "The generator gets the saved rows and embeds the remaining texts.")
    vault = example.vault()
    kept, _ = vault.get_dataframe("vectors", instance_id="TEMP_base")
    written = {Path(path).name: Path(path).stat().st_mtime_ns for path in kept["vector"]}
    show_call(f'vault.execute_instance("vectors", process_id="{PROCESS_ID}")')
    vault.execute_instance("vectors", process_id=PROCESS_ID)
    passages, _ = vault.get_dataframe("passages")
    frame, _ = vault.get_dataframe("vectors")
    files = {Path(path).name: Path(path).stat().st_mtime_ns for path in frame["vector"]}
    check("each text has a vector, in the order of the texts", frame["text"].equals(passages["text"]))
    check(
        f"{example.embedded.texts} texts were embedded now, none of them again",
        example.embedded.texts == len(frame) - len(kept),
    )
    check("the earlier files were not written again", written.items() <= files.items())


def find_neighbours(example: Example) -> None:
    """Find the texts nearest to a question."""
    chapter(
        "Nearest neighbours",
        """The vectors are ordinary files whose paths are in the frame, so a nearest-neighbour search is one
        multiplication.""",
    )
    show_call("""\
frame, _ = vault.get_dataframe("vectors")
vectors = np.stack([np.load(path) for path in frame["vector"]])
closeness = vectors @ embed([question])[0]""")
    vault = example.vault()
    zipping = nearest(vault, "compress data and read a compressed file", 5)
    chance = nearest(vault, "choose an element of a sequence by chance", 5)
    for found in (zipping, chance):
        show_frame(found, ["closeness", "name", "shortened"], rows=5)
    check("about compression: mostly modules that compress", _modules(zipping, {"bz2", "gzip", "lzma"}) >= 3)
    check("about chance: the two nearest are of the module `random`", _modules(chance.head(2), {"random"}) == 2)


def nearest(vault: TableVault, question: str, rows: int) -> pd.DataFrame:
    """Return the texts nearest to a question, the nearest first."""
    frame, _ = vault.get_dataframe("vectors")
    passages, _ = vault.get_dataframe("passages")
    vectors = np.stack([np.load(path) for path in frame["vector"]])
    frame["closeness"] = (vectors @ embed([question])[0]).astype(float).round(3)
    # The join drops texts that were removed from `passages`; `keep_old` keeps their rows.
    found = frame.merge(passages, on="text").nlargest(rows, "closeness")
    return found.assign(shortened=found["text"].str.slice(0, 60))


def _modules(found: pd.DataFrame, modules: set[str]) -> int:
    return int(found["name"].str.partition(".")[0].isin(modules).sum())


def add_texts(example: Example) -> None:
    """Add modules; only their texts are embedded."""
    more = ", ".join(MORE_MODULES)
    chapter(
        "Add texts",
        f"""Three modules are added: {more}. A new instance of the vectors is copied from the first. Its generator gets
        the rows of the first, and embeds only the new texts.""",
    )
    show_call(f"""\
vault.create_instance("passages", copy=True)
vault.create_builder_file("passages", text=builder.replace("shutil]", "shutil, {more}]"))
vault.execute_instance("passages")
vault.create_instance("vectors", copy=True)
vault.execute_instance("vectors", process_id="vectors-tuesday")""")
    vault = example.vault()
    before, _ = vault.get_dataframe("vectors", full_artifact_path=False)
    embedded_before = example.embedded.texts
    vault.create_instance("passages", copy=True)
    builder = vault.get_builder_str("passages", "passages_index")
    vault.create_builder_file("passages", text=builder.replace("shutil]", f"shutil, {more}]"))
    vault.execute_instance("passages")
    vault.create_instance("vectors", copy=True)
    process = vault.get_process(vault.execute_instance("vectors", process_id="vectors-tuesday"))
    show_text("the process:", repr(process))
    after, _ = vault.get_dataframe("vectors", full_artifact_path=False)
    new = len(after) - len(before)
    check(f"exactly the {new} new texts were embedded", 0 < new == example.embedded.texts - embedded_before)
    check("the old rows are unchanged, in the same order", after.head(len(before)).equals(before))
    check("every file matches its recorded size and hash", vault.verify().ok)
    explain("`verify` has just compared the size and hash of every file, including those of the vectors.")


def run(folder: Path) -> None:
    """Run all steps in a folder."""
    example = Example(folder / "vault", Counter())
    log = logging.getLogger("embedding")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(example.embedded)
    for step in (make_the_tables, interrupt, resume, find_neighbours, add_texts):
        step(example)


if __name__ == "__main__":
    run_example("Text embeddings, computed in batches and stored as files.", run)
