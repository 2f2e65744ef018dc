"""Making vaults, and damaging them as disks, crashes and people do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pandas as pd

from tablevault import TableVault

CODE = """
from pathlib import Path

import pandas as pd


def index(count):
    return pd.DataFrame({"x": range(count)})


def draw(x, folder):
    if x == 3 and Path(__file__).with_name("fail.txt").exists():
        raise RuntimeError("told to")
    (Path(folder) / f"{x}.txt").write_text(f"drawing {x}\\n" * 50)
    return f"{x}.txt"
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: index
code_module: drawing
is_custom: true
primary_key: [x]
arguments: {count: 5}
"""

DRAW = """
builder_type: ColumnBuilder
changed_columns: [picture]
python_function: draw
code_module: drawing
is_custom: true
return_type: row-wise
dtypes: {picture: artifact_string}
arguments: {x: "<<self.x[index]>>", folder: ~ARTIFACT_FOLDER~}
"""


def make_vault(folder):
    """Make a vault with instances of every kind.

    One is executed (twice), one written, one temporary and one deleted.
    """
    vault = TableVault(folder, author="ada", create=True)
    vault.create_code_module("drawing", text=CODE)
    vault.create_table("pictures")
    for force in (False, True):
        vault.create_instance("pictures", builders={"pictures_index": INDEX, "draw": DRAW})
        vault.execute_instance("pictures", force_execute=force)
    vault.create_instance("pictures", "next", copy=True)
    vault.create_table("plain", allow_multiple_artifacts=True)
    for rows in (3, 4):
        vault.create_instance("plain", external_edit=True)
        vault.write_instance(pd.DataFrame({"n": range(rows), "t": [f"text {n}" for n in range(rows)]}), "plain")
    vault.delete_instance(vault.get_table_instances("plain")[0], "plain")
    assert vault.verify().ok, vault.verify()
    return folder


def instance_folder(db_dir, table="pictures"):
    """The folder of a table's newest instance."""
    vault = TableVault(db_dir)
    return Path(db_dir) / table / vault.get_table_instances(table)[-1]


def rewrite(path, data):
    """Change a file's content in place, as a failing disk would.

    The mode of the file does not matter.
    """
    path = Path(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode | stat.S_IWUSR)
    with path.open("r+b") as file:
        file.write(data)
        file.truncate(len(data))
    path.chmod(mode)


def flip(path, position=None):
    """Flip one bit in the middle of a file, or at a position."""
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2 if position is None else position] ^= 4
    rewrite(path, bytes(data))


def truncate(path):
    """Cut the last third of a file off."""
    data = Path(path).read_bytes()
    rewrite(path, data[: len(data) * 2 // 3])


def delete(path):
    """Delete a file, also from a read-only folder."""
    path = Path(path)
    mode = stat.S_IMODE(path.parent.stat().st_mode)
    path.parent.chmod(mode | stat.S_IWUSR)
    path.unlink()
    path.parent.chmod(mode)


def add(path, text="mine"):
    """Put a file where it does not belong."""
    path = Path(path)
    mode = stat.S_IMODE(path.parent.stat().st_mode)
    path.parent.chmod(mode | stat.S_IWUSR)
    path.write_text(text)
    path.parent.chmod(mode)


def found(report):
    """What a report says, without its explanations."""
    return sorted((problem.kind, problem.path) for problem in report.problems)


def tree(folder):
    """Every file with content and mode, every link; but for SQLite's own shared memory."""
    seen = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.startswith("catalog.db-"):
            continue
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        seen[name] = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), content)
    return seen
