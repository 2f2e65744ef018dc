"""The rows of an unfinished execution, whichever of them its IndexBuilder took over from an origin."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from tablevault import TableVault
from tablevault.execution.builder_run import BuilderRun

CODE = """
import os
import signal
import time
from pathlib import Path

import pandas as pd

from tablevault import TableVault

FOLDER = Path({folder!r})


def note(builder, name):
    with open(FOLDER / "calls", "a") as file:
        file.write(f"{{builder}} {{name}}\\n")
    how, after, *stopping = (FOLDER / "stop").read_text().split()
    if stopping == [builder] and (FOLDER / "calls").read_text().count(builder) > int(after):
        if how != "raised":
            durable(int(after)).to_pickle(FOLDER / "seen")
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError("stopped")


def durable(count):
    reader = TableVault({vault!r}, author="reader")
    deadline = time.monotonic() + 180
    while True:
        frame, _ = reader.get_dataframe("t", instance_id="TEMP_base")
        if ("text" in frame and frame["text"].count() >= count) or time.monotonic() > deadline:
            return frame
        time.sleep(0.02)


def wanted():
    return [(f"n{{number}}", int(number)) for number in (FOLDER / "wanted").read_text().split()]


def frame():
    return pd.DataFrame(wanted(), columns=["name", "number"])


def yielded():
    yield from wanted()


def appended(frame):
    there = set(frame["name"])
    yield from (row for row in wanted() if row[0] not in there)


def row(name, number, bonus):
    note("index", name)
    return f"n{{number}}", number + bonus


def rows(name, number, bonus):
    return [row(*each) for each in zip(name, number, bonus)]


def several(number):
    note("index", number)
    return [(f"n{{number}}-{{part}}", 10 * number + part) for part in range(number % 3)]


def groups(number):
    return [several(each) for each in number]


def sizes(frame):
    note("size", len(frame))
    return [len(name) for name in frame["name"]]


def text(name, number, size):
    note("text", name)
    return f"{{name}} {{number}} {{size}}"
"""
BUILDER = """
builder_type: {kind}Builder
changed_columns: [{columns}]
python_function: {function}
code_module: work
is_custom: true
return_type: {return_type}
{more}
"""
ARGUMENTS_OF_ROW = (
    'arguments: {name: "<<self.name[index]>>", number: "<<self.number[index]>>",'
    ' bonus: "<<source.bonus[name::<<self.name[index]>>]>>"}'
)
FOR_EACH = 'for_each: source\narguments: {number: "<<source.number[index]>>"}'
INDEXES = {
    "dataframe": ("frame", "dataframe", ""),
    "generator": ("yielded", "generator", ""),
    "appending": ("appended", "generator", 'arguments: {frame: "<<self>>"}'),
    "row-wise": ("row", "row-wise", ARGUMENTS_OF_ROW),
    "batch": ("rows", "batch", f"{ARGUMENTS_OF_ROW}\nbatch_size: 2"),
    "for_each": ("several", "row-wise", FOR_EACH),
    "for_each batch": ("groups", "batch", f"{FOR_EACH}\nbatch_size: 2"),
}
"""Function, return type and further fields of each kind of IndexBuilder."""
NEEDS_ORIGIN = ("row-wise", "batch")


@dataclass(frozen=True)
class Case:
    index: str
    keep_old: bool
    has_key: bool
    has_origin: bool

    def __str__(self) -> str:
        named = {"keep_old": self.keep_old, "key": self.has_key, "origin": self.has_origin}
        return " ".join([self.index, *(name for name, is_so in named.items() if is_so)])


CASES = [
    Case(index, keep_old, has_key, has_origin)
    for index, keep_old, has_key, has_origin in product(INDEXES, *[(False, True)] * 3)
    if has_origin or index not in NEEDS_ORIGIN
]


def each_of(cases: list[Case]) -> pytest.MarkDecorator:
    """Parametrize a test; batches share most code with single rows, so that their cases are slow tests."""
    marked = [pytest.param(case, marks=[pytest.mark.slow] if "batch" in case.index else []) for case in cases]
    return pytest.mark.parametrize("case", marked, ids=map(str, cases))


each_case = each_of(CASES)


class Story:
    """A table whose execution stops at a row of its last column.

    Its IndexBuilder has an origin that lacks some of the rows, and has some that are not wanted any more.
    """

    def __init__(self, folder: Path, case: Case) -> None:
        self.folder, self.case = folder, case
        self.vault = TableVault(folder / "vault", author="ada", create=True)
        code = CODE.format(folder=str(folder), vault=str(folder / "vault"))
        self.vault.create_code_module("work", text=code)
        self.vault.create_table("t")
        self.stop("never")
        first, then = [1, 2, 3, 5], [2, 4, 5, 7, 8, 10, 11]
        if case.index in NEEDS_ORIGIN:
            first = then = [1, 2, 3, 5, 7, 8, 9]
        if case.has_origin:
            self.source(first)
            origin = {}
            if case.index in NEEDS_ORIGIN:
                self.vault.write("t0", pd.DataFrame({"name": [f"n{n}" for n in first], "number": first}))
                origin = {"origin_table": "t0"}
            self.vault.create_instance("t", builders=self.builders(), **origin)
            self.vault.execute_instance("t")
            self.vault.create_instance("t", copy=True)
        self.source(then, bonus=100)
        if not case.has_origin:
            self.vault.create_instance("t", builders=self.builders())
        elif case.keep_old:
            # Old rows that are kept are computed again.
            self.vault.create_code_module("work", text=code.replace("{number} {size}", "{size} {number}"))
        self.calls()

    def builders(self) -> dict[str, str]:
        function, return_type, more = INDEXES[self.case.index]
        fields = {"keep_old": str(self.case.keep_old).lower(), "primary_key": "[name]" if self.case.has_key else "[]"}
        more += "".join(f"\n{name}: {value}" for name, value in fields.items())
        arguments = "".join(f' {name}: "<<self.{name}[index]>>",' for name in ("name", "number", "size"))
        made = {
            "t_index": ("Index", "name, number", function, return_type, more),
            "size": ("Column", "size", "sizes", "dataframe", 'arguments: {frame: "<<self.{name}>>"}'),
            "text": ("Column", "text", "text", "row-wise", f"arguments: {{{arguments}}}"),
        }
        names = ("kind", "columns", "function", "return_type", "more")
        return {name: BUILDER.format(**dict(zip(names, values, strict=True))) for name, values in made.items()}

    def source(self, numbers: list[int], bonus: int = 0) -> None:
        """Set the wanted rows; odd numbers may get a bonus."""
        (self.folder / "wanted").write_text(" ".join(map(str, numbers)))
        bonuses = [bonus * (number % 2) for number in numbers]
        frame = pd.DataFrame({"name": [f"n{number}" for number in numbers], "number": numbers, "bonus": bonuses})
        self.vault.write("source", frame, primary_key=["number"] if self.case.has_key else [])

    def stop(self, how: str, after: int = 0, builder: str = "") -> None:
        """Make the function of a builder stop after some calls."""
        (self.folder / "stop").write_text(f"{how} {after} {builder}")

    def execute(self, **options: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.vault.execute_instance("t", **options)

    def stopped(self, after: int, builder: str = "text", how: str = "raised", **options: object) -> None:
        """Execute until a call of a builder fails, after some that do not."""
        self.stop(how, after, builder)
        with pytest.raises(OSError, match="stopped"):
            self.execute(**options)
        self.stop("never")

    def calls(self) -> list[str]:
        """Return the calls since the last time."""
        path = self.folder / "calls"
        found = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return found

    def frame(self, instance_id: str = "") -> pd.DataFrame:
        return self.vault.get_dataframe("t", instance_id=instance_id)[0]

    def unfinished(self) -> pd.DataFrame:
        return self.frame("TEMP_base")


@dataclass(frozen=True)
class Undisturbed:
    frame: pd.DataFrame
    calls: list[str]


@functools.cache
def undisturbed(case: Case) -> Undisturbed:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        story = Story(Path(folder), case)
        story.execute()
        return Undisturbed(story.frame(), story.calls())


def check_partial(partial: pd.DataFrame, case: Case, calls: list[str]) -> None:
    """Check that a frame has all rows, and beside them the cells computed by calls, of which the last one failed."""
    whole = undisturbed(case).frame
    names = whole["name"].tolist()
    assert partial["name"].tolist() == names
    assert partial["number"].tolist() == whole["number"].tolist()
    is_sized = any(call.startswith("size") for call in calls)
    assert partial["size"].dropna().tolist() == (whole["size"].tolist() if is_sized else [])
    computed = [call.removeprefix("text ") for call in calls if call.startswith("text")][:-1]
    expected = [text if name in computed else None for name, text in zip(names, whole["text"], strict=True)]
    assert [None if pd.isna(cell) else cell for cell in partial["text"]] == expected


@each_case
def test_frame_of_a_paused_execution_has_each_cell_at_its_row(case: Case, tmp_path: Path) -> None:
    story = Story(tmp_path, case)
    story.stopped(after=2, how="read", process_id="p")
    calls = story.calls()
    check_partial(story.unfinished(), case, calls)
    check_partial(pd.read_pickle(tmp_path / "seen"), case, calls)
    story.stopped(after=1, process_id="p")
    story.execute(process_id="p")
    pd.testing.assert_frame_equal(story.frame(), undisturbed(case).frame)


@each_case
def test_reuse_partial_computes_exactly_the_missing_cells(case: Case, tmp_path: Path) -> None:
    story = Story(tmp_path, case)
    story.stopped(after=2)
    calls = story.calls()
    check_partial(story.unfinished(), case, calls)
    story.stopped(after=1, reuse_partial=True)
    again = story.calls()
    assert story.unfinished()["name"].tolist() == undisturbed(case).frame["name"].tolist()
    story.execute(reuse_partial=True)
    assert sorted([*calls[:-1], *again[:-1], *story.calls()]) == sorted(undisturbed(case).calls)
    pd.testing.assert_frame_equal(story.frame(), undisturbed(case).frame)


@each_of([case for case in CASES if case.index in ("row-wise", "for_each") and case.has_origin])
def test_unfinished_index_has_the_cells_of_a_row_side_by_side(case: Case, tmp_path: Path) -> None:
    story = Story(tmp_path, case)
    story.stopped(after=2, builder="index")
    calls = story.calls()
    partial, whole = story.unfinished(), undisturbed(case).frame
    numbers = dict(zip(whole["name"], whole["number"], strict=True))
    rows = [
        (name, number) for name, number in zip(partial["name"], partial["number"], strict=True) if not pd.isna(name)
    ]
    assert rows
    assert all(numbers[name] == number for name, number in rows)
    story.execute(reuse_partial=True)
    assert sorted([*calls[:-1], *story.calls()]) == sorted(undisturbed(case).calls)
    pd.testing.assert_frame_equal(story.frame(), whole)


@each_of([case for case in CASES if case.has_origin])
def test_checkpoints_without_all_rows_have_no_cell_at_another_row(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(tmp_path, case)
    with monkeypatch.context() as patched:
        # As earlier versions wrote them.
        patched.setattr(BuilderRun, "record_rows", lambda _: None)
        story.stopped(after=2)
    partial, whole = story.unfinished(), undisturbed(case).frame
    assert list(partial.columns) == list(whole.columns)
    known = whole.set_index("name")
    for position, (name, number, text) in enumerate(partial[["name", "number", "text"]].itertuples(index=False)):
        row = whole.iloc[position] if pd.isna(name) else known.loc[name]
        assert pd.isna(number) or number == row["number"]
        assert pd.isna(text) or text == row["text"]
    story.execute(reuse_partial=True)
    pd.testing.assert_frame_equal(story.frame(), whole)


@pytest.mark.parametrize("index", INDEXES)
def test_frame_of_a_killed_execution_has_each_cell_at_its_row(index: str, tmp_path: Path) -> None:
    case = Case(index, keep_old=True, has_key=True, has_origin=True)
    story = Story(tmp_path, case)
    story.stop("killed", 2, "text")
    script = f"from tablevault import TableVault\nTableVault({str(tmp_path / 'vault')!r}).execute_instance('t', process_id='p')"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=False).returncode == -9
    check_partial(story.unfinished(), case, story.calls())
    story.stop("never")
    story.execute(process_id="p")
    pd.testing.assert_frame_equal(story.frame(), undisturbed(case).frame)


def test_errors_of_a_paused_execution_have_the_keys_of_their_rows(tmp_path: Path) -> None:
    case = Case("for_each", keep_old=True, has_key=True, has_origin=True)
    story = Story(tmp_path, case)
    text = story.vault.get_builder_str("t", "text")
    story.vault.create_builder_file("t", "text", text=f"{text}\non_error: collect\nmax_failures: 1\n")
    story.stopped(after=2, process_id="p")
    failed = story.vault.get_errors("t", "TEMP_base")
    names = undisturbed(case).frame["name"].tolist()
    assert failed["index"].tolist() == [2, 3]
    assert failed["key"].tolist() == [{"name": name} for name in names[2:4]]


PAGES = """
from pathlib import Path


def pages(folder, name):
    if name in Path({broken!r}).read_text().split():
        raise OSError(f"no {{name}}")
    Path(folder, f"{{name}}.txt").write_text(name)
    return [(name, None), (f"{{name}}!", f"{{name}}.txt")]


def text(name):
    if name in Path({broken!r}).read_text().split():
        raise OSError(f"no {{name}}")
    return name.upper()
"""
PAGES_INDEX = """
builder_type: IndexBuilder
changed_columns: [name, page]
python_function: pages
code_module: work
is_custom: true
return_type: row-wise
primary_key: [name]
for_each: source
dtypes: {page: artifact_string}
arguments: {folder: ~ARTIFACT_FOLDER~, name: "<<source.name[index]>>"}
"""
PAGES_TEXT = """
builder_type: ColumnBuilder
changed_columns: [text]
python_function: text
code_module: work
is_custom: true
return_type: row-wise
arguments: {name: "<<self.name[index]>>"}
"""


class Pages:
    """A table of files, made from the names in another table."""

    def __init__(self, folder: Path) -> None:
        self.broken = folder / "broken"
        self.code = PAGES.format(broken=str(self.broken))
        self.vault = TableVault(folder / "vault", author="ada", create=True)
        self.vault.create_code_module("work", text=self.code)
        self.vault.create_table("t")

    def source(self, *names: str) -> None:
        self.vault.write("source", pd.DataFrame({"name": names}), primary_key=["name"])

    def execute(self, broken: str = "", **options: object) -> None:
        self.broken.write_text(broken)
        self.vault.execute_instance("t", **options)

    def unfinished(self) -> pd.DataFrame:
        return self.vault.get_dataframe("t", instance_id="TEMP_base", full_artifact_path=False)[0]


def test_reused_files_of_a_paused_execution_are_no_change(tmp_path: Path) -> None:
    table = Pages(tmp_path)
    table.source("a", "b")
    table.vault.create_instance("t", builders={"t_index": PAGES_INDEX, "text": PAGES_TEXT})
    table.execute()
    table.source("a", "b", "c")
    table.vault.create_instance("t", copy=True)
    table.vault.create_code_module("work", text=table.code.replace("upper", "title"))
    with pytest.raises(OSError, match="no c"):
        table.execute("c!", process_id="p")
    assert table.unfinished()["page"].fillna("").tolist() == ["", "a.txt", "", "b.txt", "", "c.txt"]
    assert table.unfinished()["text"].fillna("").tolist() == ["A", "A!", "B", "B!", "C", ""]
    changed = table.vault.diff_instances("t", after="TEMP_base").frame()
    assert set(changed["name"]) <= {"c", "c!"}
    assert table.vault.verify().ok


def test_cells_are_hidden_while_earlier_rows_are_computed_again(tmp_path: Path) -> None:
    table = Pages(tmp_path)
    table.source("a", "b", "c")
    table.vault.create_instance("t", builders={"t_index": PAGES_INDEX, "text": PAGES_TEXT})
    with pytest.raises(OSError, match="no c"):
        table.execute("c!", process_id="p")
    whole = table.unfinished()
    assert whole["text"].fillna("").tolist() == ["A", "A!", "B", "B!", "C", ""]
    next(tmp_path.rglob("a.txt")).write_text("changed")
    with pytest.raises(OSError, match="no a"):
        table.execute("a", process_id="p")
    partial = table.unfinished()
    assert partial["name"].tolist() == ["b", "b!", "c", "c!"]
    assert partial["text"].isna().all()
    table.execute(process_id="p")
    assert table.vault.get_dataframe("t")[0]["text"].tolist() == ["A", "A!", "B", "B!", "C", "C!"]


@pytest.mark.parametrize("has_key", [False, True])
def test_reuse_partial_takes_over_an_overwritten_column(has_key: bool, tmp_path: Path) -> None:
    case = Case("dataframe", keep_old=False, has_key=has_key, has_origin=False)
    story = Story(tmp_path, case)
    over = BUILDER.format(
        kind="Column", columns="name, number", function="row", return_type="row-wise", more=ARGUMENTS_OF_ROW
    )
    index = story.builders()["t_index"]
    story.vault.delete_instance("TEMP_base", "t")
    story.vault.create_instance("t", builders={"t_index": index, "over": over})
    story.stopped(after=2, builder="index")
    calls = story.calls()
    story.execute(reuse_partial=True)
    assert [*calls[:-1], *story.calls()] == [f"index n{number}" for number in (2, 4, 5, 7, 8, 10, 11)]
