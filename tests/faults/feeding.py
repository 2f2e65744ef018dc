"""R11, values of foreign classes in every operation on values.

One try is a value: it is read back equal in every format, or refused at its row before any later row is computed. Many
are fed to one vault at a time, each with its own class, type of builder and neighbours.
"""

from __future__ import annotations

import contextlib
import csv
import decimal
import json
import os
import random
import re
import shutil
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import foreign_errors
import foreign_values
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import yaml
from experiment import Budget, Figures, Watch
from foreign_values import meaning
from side_by_side import Case, Tried, Trier, try_all

from tablevault import TableVault, TableVaultError
from tablevault.storage.exports import export_frame
from tablevault.storage.frame_files import read_frame
from tablevault.storage.frames import FrameData

COLUMNS = 24
ROWS = 250
CODE = """
import pandas as pd
import fed_values as fed

def keys(count):
    return pd.DataFrame({"k": range(count)})

def cell(i, c):
    return fed.cell(c, i)

def cells_of_row(i, a, b, form):
    return fed.row(a, b, i, form)

def every(count, c):
    for i in range(count):
        yield fed.cell(c, i)

def whole(count, c):
    return fed.whole(c, count)

def wild(i):
    return fed.wild(i)

def look(**cells):
    return fed.look(cells)

def arguments(given):
    fed.GIVEN.append(given)
    return [0] * fed.ROWS
"""
TEXTS_OF_CODE = (
    "# é \\u2028 {n}\n",
    '"""A text that is no docstring {n}."""\n',
    'def later_{n}(x: "Missing | None", *, é: "list[later_{n}]" = ()) -> "π":\n    """Say {{n}} 日本."""\n    return x\n',
    'class Later{n}:\n    field: "Later{n} | None" = None\n    __slots__ = ()\n'.replace("field: ", "other: "),
    "later_{n} = lambda x, /, y=1, *z, **w: (yield)\n",
    "if 0:\n    import nowhere_{n}\n",
    "type_{n} = f'{{1 + 1!r:>{{3}}}}'\n",
)
BUILDER = """
builder_type: {kind}
changed_columns: {columns}
python_function: {function}
code_module: made
is_custom: true
return_type: {return_type}
n_threads: {threads}
arguments: {arguments}
"""


class Fed(types.ModuleType):
    """What the functions in the vault get their values from."""

    ROWS = ROWS

    def __init__(self) -> None:
        super().__init__("fed_values")
        self.columns: list[list[Any]] = []
        self.wild_values: list[Any] = []
        self.refused: set[int] = set()
        self.called: list[int] = []
        self.seen: list[dict[str, Any]] = []
        self.GIVEN: list[Any] = []
        self.error: BaseException | None = None
        self.error_at = (-1, -1)

    def cell(self, c: int, i: int) -> Any:
        if (c, i) == self.error_at and self.error is not None:
            raise self.error
        return self.columns[c][i]

    def row(self, a: int, b: int, i: int, form: str) -> Any:
        names, values = [f"c{a}", f"c{b}"], [self.cell(a, i), self.cell(b, i)]
        match form:
            case "dict":
                return dict(zip(reversed(names), reversed(values), strict=True))
            case "lookup":
                return foreign_values.Lookup(dict(zip(names, values, strict=True)))
            case "series":
                return pd.Series(list(reversed(values)), index=list(reversed(names)), dtype=object)
        return values if form == "list" else tuple(values)

    def whole(self, c: int, count: int) -> Any:
        values = [self.cell(c, i) for i in range(count)]
        return values if c % 2 else pd.DataFrame({"x": pd.Series(values, dtype=object)})

    def wild(self, i: int) -> Any:
        self.called.append(i)
        return None if i in self.refused or i >= len(self.wild_values) else self.wild_values[i]

    def look(self, cells: dict[str, Any]) -> int:
        self.seen.append(cells)
        return 0


class Feeding:
    """A vault that is fed, and looked at from all sides."""

    def __init__(self, root: Path, seed: str, columns: int) -> None:
        self._draw = random.Random(seed)
        self._columns = columns
        self._fed = Fed()
        self._root = root
        self.problems: list[str] = []
        self.count = 0
        self.refused = 0
        self._names: list[str] = []

    def run(self) -> None:
        """Feed values, and compare what comes back with them."""
        sys.modules["fed_values"] = self._fed
        self._make_values()
        vault = TableVault(self._root / "vault", author="ada", create=True)
        vault.create_table("t")
        vault.create_table("u")
        builders = self._builders()
        vault.create_code_module("made", text=self._code())
        vault.create_instance("t", builders=builders)
        if not self._execute(vault, "t"):
            return
        self._compare_formats(vault, "t", {f"c{c}": values for c, values in enumerate(self._fed.columns)})
        self._compare_seen(vault)
        self._compare_reuse(vault, builders)
        self._compare_exports(vault)
        self._feed_frames(vault)
        self._feed_arguments(vault)
        self._feed_wild_values(vault)

    # --- what is fed ----------------------------------------------------------------------------------------------

    def _make_values(self) -> None:
        for _ in range(self._columns):
            name, values = foreign_values.column(self._draw, ROWS)
            self._names.append(name)
            self._fed.columns.append(values)
        self._fed.wild_values = [foreign_values.anything(self._draw) for _ in range(self._columns)]
        self._fed.error = foreign_errors.error(self._draw)
        self._fed.error_at = (self._draw.randrange(self._columns), self._draw.randrange(ROWS))

    def _code(self) -> str:
        texts = self._draw.sample(TEXTS_OF_CODE, 3)
        return CODE + "".join(text.format(n=number) for number, text in enumerate(texts))

    def _builders(self) -> dict[str, str]:
        draw = self._draw
        made = {"t_index": _builder(["k"], "keys", "dataframe", f"{{count: {ROWS}}}", kind="IndexBuilder")}
        c = 0
        while c < self._columns:
            match draw.choice(["one", "one", "threads", "generator", "whole", "row"]):
                case "row" if c + 1 < self._columns:
                    form = draw.choice(["dict", "lookup", "series", "list", "tuple"])
                    arguments = f'{{i: "<<self.k[index]>>", a: {c}, b: {c + 1}, form: {form}}}'
                    made[f"b{c}"] = _builder([f"c{c}", f"c{c + 1}"], "cells_of_row", "row-wise", arguments)
                    c += 1
                case "generator":
                    made[f"b{c}"] = _builder([f"c{c}"], "every", "generator", f"{{count: {ROWS}, c: {c}}}")
                case "whole":
                    made[f"b{c}"] = _builder([f"c{c}"], "whole", "dataframe", f"{{count: {ROWS}, c: {c}}}")
                case way:
                    threads = 3 if way == "threads" else 1
                    arguments = f'{{i: "<<self.k[index]>>", c: {c}}}'
                    made[f"b{c}"] = _builder([f"c{c}"], "cell", "row-wise", arguments, threads)
            c += 1
        made["look"] = _looking("self", self._columns)
        return made

    def _feed_wild_values(self, vault: TableVault) -> None:
        """Values of all families in one column.

        Unsupported values are refused at their rows.
        """
        builders = {
            "w_index": _builder(["k"], "keys", "dataframe", f"{{count: {self._columns}}}", kind="IndexBuilder"),
            "b_wild": _builder(["wild"], "wild", "row-wise", '{i: "<<self.k[index]>>"}'),
        }
        vault.create_table("w")
        vault.create_instance("w", builders=builders)
        if self._execute(vault, "w"):
            refused = self._fed.refused
            wild = [None if row in refused else value for row, value in enumerate(self._fed.wild_values)]
            self._compare_formats(vault, "w", {"wild": wild})

    # --- what becomes of it ---------------------------------------------------------------------------------------

    def _execute(self, vault: TableVault, table: str) -> bool:
        """Execute until everything that can be stored is; return whether it came to that."""
        raised = self._fed.error
        for _ in range(self._columns + 3):
            self._fed.called = []
            try:
                vault.execute_instance(table, process_id=f"night-{table}")
                return True
            except BaseException as error:
                if raised is not None and raised in (error, error.__cause__) and self._fed.error is raised:
                    self._look_at_error(vault, f"night-{table}")
                    self._fed.error = None
                    continue
                if isinstance(error, KeyboardInterrupt) and error is not raised:
                    raise
                if not self._is_refusal(error):
                    return False
        self._wrong("a value is refused again and again")
        return False

    def _look_at_error(self, vault: TableVault, process_id: str) -> None:
        """Query everything about a process that failed with an error of any class."""
        shown = vault.get_process(process_id)
        assert all(map(str, (shown, shown.error, vault.get_active_processes())))

    def _is_refusal(self, error: BaseException) -> bool:
        try:
            message = str(error)
        except Exception:
            message = ""
        found = re.search(r"Builder 'b_wild', column 'wild', row (\d+): ", message)
        if found is None or type(error) not in (TypeError, ValueError):
            self._wrong(f"{type(error).__name__}: {message:.300}")
            return False
        row = int(found[1])
        if not self._fed.called or self._fed.called[-1] != row:
            self._wrong(f"refused at row {row}, but computed until {self._fed.called[-1:]}: {message:.200}")
        self._fed.refused.add(row)
        self.refused += 1
        return True

    def _compare_formats(self, vault: TableVault, table: str, expected: dict[str, list[Any]]) -> None:
        wanted = {name: [meaning(value) for value in values] for name, values in expected.items()}
        self.count += sum(map(len, wanted.values()))
        for form, read in READERS.items():
            frame = vault.get_dataframe(table, format=form)[0]
            data = _data(vault, table)
            for name, values in wanted.items():
                self._compare(
                    f"{table}.{name} in {form}",
                    values,
                    read(frame, name),
                    data.types[name].kind == "json" and form != "pandas",
                )

    def _compare(self, where: str, wanted: list[Any], cells: list[Any], is_json: bool) -> None:
        in_polars = where.endswith("polars")  # Which has no decimals of more than 38 digits.
        for row, (value, cell) in enumerate(zip(wanted, cells, strict=True)):
            got = meaning(json.loads(cell) if is_json and cell is not None else cell)
            if not same(value, got) and not (in_polars and _as_text(value) == _as_text(got)):
                self._wrong(f"{where}, row {row}: {value!r:.150} became {got!r:.150} ({self._family(where)})")
                return

    def _family(self, where: str) -> str:
        found = re.search(r"\.c(\d+) ", where)
        return self._names[int(found[1])] if found else "anything"

    def _compare_seen(self, vault: TableVault) -> None:
        """Compare the cells that functions get in the same run and in a later one."""
        first, self._fed.seen = self._fed.seen, []
        builders = {"u_index": _builder(["k"], "keys", "dataframe", f"{{count: {ROWS}}}", kind="IndexBuilder")}
        vault.create_instance("u", builders={**builders, "look": _looking("t", self._columns)})
        vault.execute_instance("u")
        later, self._fed.seen = self._fed.seen, []
        if len(first) != len(later):
            self._wrong(f"a function was called for {len(first)} rows, and later for {len(later)}")
            return
        for row, (cells, others) in enumerate(zip(first, later, strict=True)):
            for name, cell in cells.items():
                if exact(cell) != exact(others[name]):
                    self._wrong(
                        f"{name}, row {row}: a function was given {cell!r:.150}, and later {others[name]!r:.150}"
                    )
                    return

    def _compare_reuse(self, vault: TableVault, builders: dict[str, str]) -> None:
        """When nothing changed, nothing is computed, and the frame is the same."""
        before = _data(vault, "t")
        vault.create_instance("t", copy=True, builders=builders)
        progress = vault.get_process(vault.execute_instance("t")).progress
        computed = {name: rows.computed for name, rows in progress.items() if rows.computed and name != "t_index"}
        if computed:
            self._wrong(f"nothing changed, and yet was computed: {computed}")
        after = _data(vault, "t")
        if not _same_table(after.table, before.table):
            self._wrong("the frame of reused cells is another")

    def _compare_exports(self, vault: TableVault) -> None:
        data = _data(vault, "t")
        for suffix, read in EXPORTS.items():
            path = self._root / f"t.{suffix}"
            try:
                export_frame(data, path)
            except TableVaultError:
                continue
            problem = read(path, data)
            if problem:
                self._wrong(f"exported as {suffix}: {problem}")

    def _feed_frames(self, vault: TableVault) -> None:
        """Frames of each library.

        Their values are objects, or have the types that the library has for them.
        """
        import polars as pl

        chosen = {f"c{c}": self._fed.columns[c] for c in self._draw.sample(range(self._columns), min(6, self._columns))}
        objects = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in chosen.items()})
        vault.write("objects", objects)
        self._compare_formats(vault, "objects", chosen)
        vault.write(
            "polars", pl.DataFrame([pl.Series(name, values, dtype=pl.Object) for name, values in chosen.items()])
        )
        self._compare_formats(vault, "polars", chosen)
        table = _data(vault, "objects").table
        frames = {
            "arrow_table": table,
            "polars_frame": vault.get_dataframe("objects", format="polars")[0],
            "pandas_frame": table.to_pandas(types_mapper=pd.ArrowDtype if self._draw.random() < 0.5 else None),
        }
        for name, frame in frames.items():
            try:
                vault.write(name, frame)
            except TableVaultError as error:
                if name != "pandas_frame":  # Of which the objects that pyarrow makes may be of several kinds.
                    self._wrong(f"{name}: {error!s:.300}")
                continue
            types = _data(vault, name).types
            back = vault.get_dataframe(name, format="arrow")[0]
            for column in back.column_names:
                wanted = [meaning(cell) for cell in _cells(frame, column)]
                self.count += len(wanted)
                is_json = types[column].kind == "json"
                self._compare(f"{name}.{column} in arrow", wanted, back[column].to_pylist(), is_json)

    def _feed_arguments(self, vault: TableVault) -> None:
        """A function gets what stands in the builder file, or the file is refused."""
        written = yaml.safe_dump(
            {"given": _argument(self._draw, 0)}, default_flow_style=True, width=10**9, sort_keys=False
        )
        given = yaml.safe_load(written)
        builders = {
            "a_index": _builder(["k"], "keys", "dataframe", f"{{count: {ROWS}}}", kind="IndexBuilder"),
            "given": _builder(["given"], "arguments", "dataframe", written.strip()),
        }
        vault.create_table("a")
        self.count += 1
        try:
            vault.create_instance("a", builders=builders)
            vault.execute_instance("a")
        except TableVaultError:
            self.refused += 1
            return
        if exact(self._fed.GIVEN[-1]) != exact(given["given"]):
            self._wrong(f"an argument {given['given']!r:.300} became {self._fed.GIVEN[-1]!r:.300}")

    def _wrong(self, problem: str) -> None:
        self.problems.append(problem)


def _builder(
    columns: list[str], function: str, return_type: str, arguments: str, threads: int = 1, kind: str = "ColumnBuilder"
) -> str:
    text = BUILDER.format(
        kind=kind,
        columns=columns,
        function=function,
        return_type=return_type,
        threads=threads,
        arguments=arguments,
    )
    return text if return_type == "row-wise" else text.replace(f"n_threads: {threads}\n", "")


def _looking(table: str, columns: int) -> str:
    names = [f"c{c}" for c in range(columns)]
    arguments = ", ".join(f'{name}: "<<{table}.{name}[index]>>"' for name in names)
    return _builder(["looked"], "look", "row-wise", f"{{{arguments}}}")


def _argument(draw: random.Random, depth: int) -> Any:
    if depth < 3 and draw.random() < 0.6:
        items = [_argument(draw, depth + 1) for _ in range(draw.randrange(4))]
        return (
            items if draw.random() < 0.5 else {draw.choice(["a", "NO", "1", "é", "y", "null"]): item for item in items}
        )
    texts = [
        "NO",
        "012",
        "1_000",
        "12:30:00",
        "null",
        "",
        " x ",
        "日本",
        "\x85",
        "a: b",
        "- a",
        "#",
        "'",
        '"',
        "0x10",
        "1e3",
        "=",
        "2024-01-01",
    ]
    return draw.choice(
        [
            None,
            True,
            1,
            -1,
            2**70,
            0.5,
            -0.0,
            1e300,
            *texts,
            draw.random(),
            "".join(map(chr, draw.choices(range(32, 0x2FF), k=3))).replace("<", "").replace("~", "").replace("\\", ""),
        ]
    )


def exact(value: Any) -> Any:
    """Return an exact key of a value.

    Two equal values share it only if a program cannot distinguish them.
    """
    if isinstance(value, list | tuple):
        return type(value), [exact(item) for item in value]
    if isinstance(value, dict):
        return dict, [(exact(key), exact(item)) for key, item in value.items()]
    return type(value), repr(value)


def same(value: Any, got: Any) -> bool:
    """Tell whether two meanings are the same; 0.0 and -0.0 are not."""
    return bool(value == got) and ("-0.0" in repr(value)) <= ("-0.0" in repr(got) or "decimal" in repr(value))


def _as_text(value: Any) -> Any:
    """Return a meaning in which decimals are the same as their texts."""
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    if isinstance(value, tuple) and value[0] in ("decimal", "text"):
        with contextlib.suppress(decimal.InvalidOperation):
            return decimal.Decimal(value[1])
    return value


def _of_pandas(frame: pd.DataFrame, name: str) -> list[Any]:
    return list(frame[name].tolist())


READERS: dict[str, Callable[[Any, str], list[Any]]] = {
    "pandas": _of_pandas,
    "arrow": lambda frame, name: frame[name].to_pylist(),
    "polars": lambda frame, name: frame[name].to_arrow().to_pylist(),  # As Python objects polars cuts nanoseconds off.
}


def _data(vault: TableVault, table: str) -> FrameData:
    folder = next((Path(vault.db_dir) / table).glob(f"{vault.get_table_instances(table)[-1]}"))
    return read_frame(folder / "table.parquet")


def _same_table(one: pa.Table, other: pa.Table) -> bool:
    return one.schema == other.schema and exact(one.to_pylist()) == exact(other.to_pylist())


def _cells(frame: Any, column: str) -> list[Any]:
    if isinstance(frame, pd.DataFrame):
        return list(frame[column].tolist())
    return (frame[column] if isinstance(frame, pa.Table) else frame[column].to_arrow()).to_pylist()


# --- what was exported, read with other programs ----------------------------------------------------------------------


def _arrow_file(read: Callable[[Path], pa.Table]) -> Callable[[Path, FrameData], str]:
    def compare(path: Path, data: FrameData) -> str:
        table = read(path)
        return "" if exact(table.to_pylist()) == exact(data.table.to_pylist()) else "another table"

    return compare


def _json_file(load: Callable[[str], list[dict[str, Any]]]) -> Callable[[Path, FrameData], str]:
    def compare(path: Path, data: FrameData) -> str:
        rows = load(path.read_text(encoding="utf-8"))
        for name, known in data.types.items():
            cells = data.table.column(name).to_pylist()
            for row, (cell, written) in enumerate(zip(cells, rows, strict=True)):
                if known.kind == "json":
                    cell = None if cell is None else json.loads(cell)
                if not _is_written(cell, written[name]):
                    return f"{name}, row {row}: {cell!r:.100} is {written[name]!r:.100}"
        return ""

    return compare


def _is_written(cell: Any, written: Any) -> bool:
    """Return whether a cell is written to JSON.

    It is written as itself if JSON has its type, and in some form otherwise.
    """
    if isinstance(cell, bool | int | str) or cell is None:
        return type(cell) is type(written) and cell == written
    if isinstance(cell, float):
        return cell != cell or abs(cell) == float("inf") or cell == written
    if isinstance(cell, list):
        return len(cell) == len(written) and all(map(_is_written, cell, written))
    if isinstance(cell, dict):
        return cell.keys() == written.keys() and all(_is_written(item, written[key]) for key, item in cell.items())
    return isinstance(written, str)


def _csv_file(delimiter: str) -> Callable[[Path, FrameData], str]:
    def compare(path: Path, data: FrameData) -> str:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, delimiter=delimiter)
        if header != list(data.types) or len(rows) != len(data):
            return f"{len(rows)} rows"
        for place, name in enumerate(header):
            if not pa.types.is_string(data.types[name].arrow):
                continue
            for row, cell in enumerate(data.table.column(name).to_pylist()):
                if (cell or "") != rows[row][place]:
                    return f"{name}, row {row}: {cell!r:.100} is {rows[row][place]!r:.100}"
        return ""

    return compare


def _read_arrow(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


EXPORTS: dict[str, Callable[[Path, FrameData], str]] = {
    "parquet": _arrow_file(pyarrow.parquet.read_table),
    "feather": _arrow_file(pyarrow.feather.read_table),
    "arrow": _arrow_file(_read_arrow),
    "json": _json_file(json.loads),
    "jsonl": _json_file(lambda text: [json.loads(line) for line in text.split("\n") if line]),
    "csv": _csv_file(","),
    "tsv": _csv_file("\t"),
}


# --- the experiment ---------------------------------------------------------------------------------------------------


def feed(case: Case) -> Tried:
    """Feed a vault; say what is wrong with what comes back."""
    shared = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="tablevault-fed-", dir=shared if os.access(shared, os.W_OK) else None))
    feeding = Feeding(root, case["seed"], case["columns"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            feeding.run()
    finally:
        sys.modules.pop("fed_values", None)
        for folder, _, _ in os.walk(root):
            with contextlib.suppress(OSError):
                os.chmod(folder, 0o755)
        shutil.rmtree(root, ignore_errors=True)
    return Tried("; ".join(dict.fromkeys(feeding.problems)), count=feeding.count + feeding.refused)


@contextmanager
def feeder() -> Iterator[Trier]:
    """Give what feeds one vault after the other."""
    yield feed


class ForeignValues:
    """Values of foreign classes through functions, references, reuse, resume, export and reading."""

    code = "R11"
    title = "values of foreign classes through everything: read back equal in every format, or refused at their row"
    unit = "values"
    target = 1_000_000
    minutes = 12.0

    def __init__(self, columns: int = COLUMNS) -> None:
        self._columns = columns
        """Of the vaults that are fed."""

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Feed vaults until enough values were tried."""
        cases = ({"seed": f"{budget.seed}-{n}", "columns": self._columns} for n in range(budget.tries))
        return try_all(cases, feeder, budget, watch, enough=budget.tries)

    def repeat(self, case: dict[str, Any]) -> str:
        """Feed one vault again."""
        return feed(case).problem
