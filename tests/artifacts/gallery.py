"""A table of pictures.

Each row has a name and a file; a control file tells the functions which files to write.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from tablevault import TableVault

CODE = '''
import json
import os
from pathlib import Path

import pandas as pd


def told(control):
    return json.loads(Path(control, "plan.json").read_text())


def note(control, what, text):
    with open(Path(control, what), "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{text}\\n")


def write(folder, name, text):
    path = Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * text if isinstance(text, int) else text.encode())


def rows(control):
    return pd.DataFrame({"name": told(control)["rows"]})


def paint(name, folder, control):
    """Write the row's files, and return what the row's cell is to be."""
    note(control, "painted", name)
    plan = told(control)
    fail = plan["fail"].get(name)
    if fail:
        raise RuntimeError(fail)
    for path, text in plan["files"].get(name, {f"{name}.png": f"picture of {name}"}).items():
        write(folder, path, text)
    for path, target in plan["links"].get(name, {}).items():
        Path(folder, path).symlink_to(target.replace("FOLDER", folder))
    for path in plan["folders"].get(name, []):
        Path(folder, path).mkdir()
    return plan["cells"].get(name, f"{name}.png")


def paint_all(names, folder, control):
    return pd.DataFrame({"picture": [paint(name, folder, control) for name in names]}, dtype=object)


def paint_each(names, folder, control):
    for name in names:
        yield paint(name, folder, control)


def look(picture, control):
    """Say what is in a file, and note by which path it was found."""
    note(control, "seen", picture)
    if picture is None:
        return None
    return Path(picture).read_text()
'''

INDEX = """
builder_type: IndexBuilder
changed_columns: [name]
python_function: rows
code_module: gallery
is_custom: true
primary_key: [name]
arguments: {{control: "{control}"}}
"""

ROW_WISE = """
builder_type: ColumnBuilder
changed_columns: [picture]
python_function: paint
code_module: gallery
is_custom: true
return_type: row-wise
n_threads: {threads}
dtypes: {{picture: artifact_string}}
arguments: {{name: "<<self.name[index]>>", folder: ~ARTIFACT_FOLDER~, control: "{control}"}}
"""

WHOLE = """
builder_type: ColumnBuilder
changed_columns: [picture]
python_function: {function}
code_module: gallery
is_custom: true
return_type: {kind}
dtypes: {{picture: artifact_string}}
arguments: {{names: "<<self.name[index::0:1000000]>>", folder: ~ARTIFACT_FOLDER~, control: "{control}"}}
"""

LOOK = """
builder_type: ColumnBuilder
changed_columns: [seen]
python_function: look
code_module: gallery
is_custom: true
return_type: row-wise
arguments: {{picture: "<<self.picture[index]>>", control: "{control}"}}
"""

KINDS = ("row-wise", "threads", "generator", "dataframe")
"""The ways in which the files can be made."""


class Gallery:
    """The vault, and the control file through which its functions are told what to write."""

    def __init__(self, folder: Path, *, multiple: bool = False) -> None:
        self.path = folder / "vault"
        self.control = folder / "control"
        self.control.mkdir()
        self.vault = TableVault(self.path, author="ada", create=True, lock_timeout=2.0)
        self.vault.create_code_module("gallery", text=CODE)
        self.vault.create_table("pictures", allow_multiple_artifacts=multiple)
        self.plan()

    def plan(self, rows=("ann", "bob", "cleo"), files=(), links=(), folders=(), cells=(), fail=()) -> None:
        """Set the rows, and the files, links, folders, cells and errors of some of them."""
        told = {"rows": list(rows), "files": dict(files), "links": dict(links)}
        told |= {"folders": dict(folders), "cells": dict(cells), "fail": dict(fail)}
        (self.control / "plan.json").write_text(json.dumps(told))

    def builders(self, kind: str = "row-wise", *, look: bool = False) -> dict[str, str]:
        """Return the builder texts for rows, their pictures, and the content of these."""
        if kind in ("row-wise", "threads"):
            paint = ROW_WISE.format(control=self.control, threads=1 if kind == "row-wise" else 4)
        else:
            function = "paint_all" if kind == "dataframe" else "paint_each"
            paint = WHOLE.format(control=self.control, function=function, kind=kind)
        texts = {"pictures_index": INDEX.format(control=self.control), "paint": paint}
        return texts | ({"look": LOOK.format(control=self.control)} if look else {})

    def create(self, kind: str = "row-wise", *, look: bool = False, **options: object) -> None:
        """Create the temporary instance."""
        self.vault.create_instance("pictures", builders=self.builders(kind, look=look), **options)

    def execute(self, **options: object) -> str:
        """Execute it; return the id of the new instance."""
        for noted in ("painted", "seen"):
            (self.control / noted).unlink(missing_ok=True)
        self.vault.execute_instance("pictures", **options)
        return self.vault.get_table_instances("pictures")[-1]

    def make(self, kind: str = "row-wise", *, look: bool = False) -> str:
        """Create and execute; return the id of the new instance."""
        self.create(kind, look=look)
        return self.execute()

    def again(self, **options: object) -> str:
        """Copy the newest instance and execute; return the id of the new instance."""
        self.vault.create_instance("pictures", copy=True)
        return self.execute(**options)

    def painted(self) -> list[str]:
        """Return the rows whose pictures were painted in the last execution, sorted."""
        return sorted(self._noted("painted"))

    def seen(self) -> list[str]:
        """Return the paths of the pictures that were looked at in the last execution."""
        return self._noted("seen")

    def cells(self, instance_id: str = "", column: str = "picture", **options: object) -> list[object]:
        """Return a column's cells; artifacts by their names."""
        frame, _ = self.vault.get_dataframe("pictures", instance_id, full_artifact_path=False, **options)
        return [None if cell is None or cell is pd.NA or cell != cell else cell for cell in frame[column].tolist()]

    def paths(self, instance_id: str = "") -> list[Path | None]:
        """Return where the pictures of an instance are."""
        frame, _ = self.vault.get_dataframe("pictures", instance_id)
        return [None if pd.isna(cell) else Path(cell) for cell in frame["picture"]]

    def folder(self, instance_id: str) -> Path:
        """Return the artifact folder of a materialized instance."""
        return Path(self.vault.get_artifact_folder("pictures", instance_id))

    def running_folder(self) -> Path:
        """Return the artifact folder of the execution that is paused."""
        (found,) = (path for path in self.path.glob("pictures/base_*/artifacts") if not self._is_listed(path))
        return found

    def files(self, instance_id: str) -> list[str]:
        """Return the names of the files in the artifact folder of an instance."""
        folder = self.folder(instance_id)
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())

    def _is_listed(self, path: Path) -> bool:
        return path.parent.name in self.vault.get_table_instances("pictures")

    def _noted(self, what: str) -> list[str]:
        path = self.control / what
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
