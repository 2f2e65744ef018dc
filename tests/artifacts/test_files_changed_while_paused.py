"""Cells that were made from a file which has changed since are computed again with it, and no others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tablevault import TableVault

CODE = """
from pathlib import Path

import pandas as pd


def count(call):
    with open("calls", "a") as calls:
        calls.write(f"{{call}}\\n")


def rows():
    return pd.DataFrame({{"row": [0, 1, 2]}})


def write(row, folder):
    count(f"write {{row}}")
    version = Path(f"version{{row}}")
    number = int(version.read_text()) if version.exists() else 0
    version.write_text(str(number + {step}))
    (Path(folder) / f"{{row}}.txt").write_text(f"{{row}}: version {{number}}")
    return f"{{row}}.txt"


def read(path):
    if "version 1" in Path(path).read_text() and Path("unreadable").exists():
        raise ValueError("unreadable")
    count(f"read {{path[-5]}}")
    return Path(path).read_text()


def read_batch(path):
    return [read(each) for each in path]


def read_frame(frame):
    return pd.DataFrame({{"text": [read(each) for each in frame["file"]]}})


def read_stream(frame):
    yield from map(read, frame["file"])


def stop(row):
    if not Path("go").exists():
        raise KeyError(row)
    return row
"""
READERS = {
    "row-wise": ("read", '{path: "<<self.file[index]>>"}'),
    "batch": ("read_batch", '{path: "<<self.file[index]>>"}'),
    "dataframe": ("read_frame", '{frame: "<<self.file>>"}'),
    "generator": ("read_stream", '{frame: "<<self.file>>"}'),
}


def builder(kind: str, column: str, function: str, return_type: str, arguments: str, more: str = "") -> str:
    return (
        f"builder_type: {kind}\nchanged_columns: [{column}]\npython_function: {function}\ncode_module: made\n"
        f"is_custom: true\nreturn_type: {return_type}\narguments: {arguments}\n{more}"
    )


@pytest.fixture
def paused(tmp_path, monkeypatch):
    """Return a function that makes a vault whose process `night` is paused after the files were read."""
    monkeypatch.chdir(tmp_path)

    def make(return_type: str, step: int = 1) -> TableVault:
        function, arguments = READERS[return_type]
        vault = TableVault(tmp_path / "vault", create=True)
        vault.create_code_module("made", text=CODE.format(step=step))
        vault.create_table("t")
        writing = '{row: "<<self.row[index]>>", folder: ~ARTIFACT_FOLDER~}'
        builders = {
            "t_index": builder("IndexBuilder", "row", "rows", "dataframe", "{}"),
            "file": builder("ColumnBuilder", "file", "write", "row-wise", writing, "dtypes: {file: artifact_string}"),
            "text": builder("ColumnBuilder", "text", function, return_type, arguments),
            "z": builder("ColumnBuilder", "z", "stop", "row-wise", '{row: "<<self.row[index]>>"}'),
        }
        vault.create_instance("t", builders=builders)
        with pytest.raises(KeyError):
            vault.execute_instance("t", process_id="night")
        return vault

    return make


def change_file(vault: TableVault) -> None:
    (path,) = Path(vault.db_dir).rglob("artifacts/1.txt")
    path.write_text("something else")


def check(vault: TableVault) -> None:
    """Compare each text with its file."""
    frame = vault.read("t")
    assert frame["text"].tolist() == [Path(path).read_text() for path in frame["file"]]
    assert vault.verify().ok


def calls() -> Counter[str]:
    return Counter(Path("calls").read_text().split("\n")[:-1])


@pytest.mark.parametrize("return_type", READERS)
def test_cells_made_from_a_changed_file_are_computed_again(paused, return_type):
    vault = paused(return_type)
    change_file(vault)
    Path("go").touch()
    vault.execute_instance("t", process_id="night")
    check(vault)
    by_row = return_type in ("row-wise", "batch")
    others = 1 if by_row else 2
    assert calls() == {"write 0": 1, "write 1": 2, "write 2": 1, "read 0": others, "read 1": 2, "read 2": others}


@pytest.mark.parametrize("return_type", READERS)
def test_cells_are_kept_if_the_file_is_made_as_it_was(paused, return_type):
    vault = paused(return_type, step=0)
    change_file(vault)
    Path("go").touch()
    vault.execute_instance("t", process_id="night")
    check(vault)
    assert calls() == {"write 0": 1, "write 1": 2, "write 2": 1, "read 0": 1, "read 1": 1, "read 2": 1}


@pytest.mark.parametrize("return_type", READERS)
def test_a_pause_while_they_are_computed_again_loses_nothing(paused, return_type):
    vault = paused(return_type)
    change_file(vault)
    Path("unreadable").touch()
    Path("go").touch()
    with pytest.raises(ValueError, match="unreadable"):
        vault.execute_instance("t", process_id="night")
    Path("unreadable").unlink()
    vault.execute_instance("t", process_id="night")
    check(vault)
