"""A table `survey` built from files beside the vault.

A test decides the content of each run by them.
"""

from __future__ import annotations

from pathlib import Path

from tablevault import TableVault

CODE = """
from pathlib import Path

import pandas as pd


def people(folder):
    return pd.DataFrame({"name": Path(folder, "names").read_text().split()})


def q1(prompt, name):
    return f"{prompt} {name}"


def q2(first):
    return first.upper()


def vote(name, folder):
    if Path(folder, "paused").exists() and name == "cy":
        raise RuntimeError("no vote today")
    if name in Path(folder, "bad").read_text().split():
        raise ValueError(f"no vote about {name}")
    return Path(folder, "vote").read_text()
"""

BUILDERS = {
    "survey_index": """
builder_type: IndexBuilder
changed_columns: [name]
primary_key: [name]
python_function: people
code_module: questions
is_custom: true
arguments: {folder: FOLDER}
""",
    "q1": """
builder_type: ColumnBuilder
changed_columns: [q1]
python_function: q1
code_module: questions
is_custom: true
return_type: row-wise
arguments: {prompt: Hello, name: "<<self.name[index]>>"}
""",
    "q2": """
builder_type: ColumnBuilder
changed_columns: [q2]
python_function: q2
code_module: questions
is_custom: true
return_type: row-wise
arguments: {first: "<<self.q1[index]>>"}
""",
    "vote": """
builder_type: ColumnBuilder
changed_columns: [vote]
python_function: vote
code_module: questions
is_custom: true
return_type: row-wise
on_error: collect
arguments: {name: "<<self.name[index]>>", folder: FOLDER}
""",
}


class Survey:
    """The table, and the files that its functions read."""

    def __init__(self, vault: TableVault, folder: Path) -> None:
        self.vault = vault
        self.folder = folder
        self.write(names="ann bob cy dee", vote="7", bad="")
        vault.create_code_module("questions", text=CODE)
        vault.create_table("survey")

    def write(self, **texts: str) -> None:
        """Write files that functions read."""
        for name, text in texts.items():
            Path(self.folder, name).write_text(text)

    def edit_code(self, before: str, after: str) -> None:
        """Change the code module."""
        text = self.vault.get_code_module_str("questions")
        assert before in text
        Path(self.vault.db_dir, "code_functions", "questions.py").write_text(text.replace(before, after))

    def prepare(self, **edits: tuple[str, str]) -> None:
        """Create a temporary instance, a copy of the newest with edits of builders."""
        if self.vault.get_table_instances("survey"):
            self.vault.create_instance("survey", copy=True)
        else:
            texts = {name: text.replace("FOLDER", str(self.folder)) for name, text in BUILDERS.items()}
            self.vault.create_instance("survey", builders=texts)
        for name, (before, after) in edits.items():
            text = self.vault.get_builder_str("survey", name)
            assert before in text
            self.vault.create_builder_file("survey", name, text=text.replace(before, after))

    def run(self, **options: object) -> str:
        """Execute the temporary instance, and return the id of the new one."""
        self.vault.execute_instance("survey", **options)
        return self.vault.get_table_instances("survey")[-1]

    def next(self, force: bool = False, **edits: tuple[str, str]) -> str:
        """Create and execute an instance."""
        self.prepare(**edits)
        return self.run(force_execute=force)
