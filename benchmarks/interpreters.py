"""Benchmarks with separate interpreters (W4, W7 and W9)."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pandas as pd

from benchmarks.measuring import Result, empty_folder
from tablevault import TableVault

ROWS = 2_000

SLOW_CODE = """
import os
import time


def mark(x, log):
    with open(log, "a") as file:
        file.write(f"{os.getpid()} {x} {time.time()}\\n")
    time.sleep(0.001)
    return f"{x}-ok"


def numbers(count):
    import pandas as pd

    return pd.DataFrame({"x": range(count)})
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
code_module: slow
is_custom: true
python_function: numbers
arguments: {{count: {count}}}
primary_key: [x]
"""

MARK = """
builder_type: ColumnBuilder
changed_columns: [y]
code_module: slow
is_custom: true
python_function: mark
return_type: row-wise
arguments: {{x: "<<self.x[index]>>", log: "{log}"}}
"""

RUN = "import sys; from tablevault import TableVault; TableVault(sys.argv[1]).execute_instance('t', process_id='job')"
IMPORTS = "import tablevault, pandas, pyarrow, time; from tablevault import TableVault"


def crash(rounds: int) -> list[Result]:
    """SIGKILL halfway through 2,000 rows of 1 ms, and a resume (W4).

    The resume is in a fresh interpreter.
    """
    repeated, waits, imports, arrow = [], [], [], []
    for _ in range(rounds):
        with empty_folder() as folder:
            again, wait = _killed_and_resumed(folder)
        repeated.append(again)
        waits.append(wait)
        imports.append(_seconds([sys.executable, "-c", IMPORTS]))
        arrow.append(_seconds([sys.executable, "-c", "import pyarrow"]))
    return [
        Result(
            "W4",
            "rows older than 50 ms computed again after SIGKILL",
            f"{max(repeated)} rows",
            f"of {ROWS // 2:,}",
            max(repeated),
            "0 rows",
            max(repeated) == 0,
            unit=" rows",
        ),
        _first_row(waits, f"{median(imports):.2f} s imports", 1.2 * median(imports) + 0.1),
        _first_row(waits, f"{median(arrow):.2f} s import of pyarrow", median(arrow) + 0.1),
    ]


def _first_row(waits: list[float], baseline: str, limit: float) -> Result:
    wait = median(waits)
    return Result(
        "W4",
        "first new row after that",
        f"{wait:.2f} s",
        baseline,
        wait,
        f"≤ {limit:.2f} s",
        wait <= limit,
        (max(waits) - min(waits)) / 2 / wait,
        " s",
    )


def _killed_and_resumed(folder: Path) -> tuple[int, float]:
    """Return the recomputed rows and the seconds to the first new row.

    Rows count that had existed for 50 ms.
    """
    log = folder / "calls.log"
    vault = TableVault(folder / "vault", create=True, author="benchmark")
    vault.create_code_module("slow", text=SLOW_CODE)
    vault.create_table("t")
    vault.create_instance("t", builders={"t_index": INDEX.format(count=ROWS), "mark": MARK.format(log=log)})
    command = [sys.executable, "-c", RUN, str(folder / "vault")]
    with subprocess.Popen(command) as first:
        while not log.exists() or log.read_text().count("\n") < ROWS // 2:
            time.sleep(0.005)
        killed = time.time()
        os.kill(first.pid, signal.SIGKILL)
    started = time.time()
    subprocess.run(command, check=True)
    calls = pd.read_csv(log, sep=" ", names=["process", "row", "time"])
    before, after = calls[calls.process == first.pid], calls[calls.process != first.pid]
    frame, _ = vault.get_dataframe("t")
    assert frame["y"].tolist() == [f"{x}-ok" for x in range(ROWS)]
    # A row ends one millisecond after its call was logged.
    old = before[before.time + 0.001 < killed - 0.05]
    new = after[~after.row.isin(before.row)]
    return len(set(old.row) & set(after.row)), float(new.time.min()) - started


WRITE = """
import sys, time
import pandas as pd
from tablevault import TableVault
vault = TableVault(sys.argv[1])
table = sys.argv[2]
frame = pd.DataFrame({"x": [1, 2, 3]})
sys.stdin.readline()
waits = []
end = time.perf_counter() + float(sys.argv[3])
while time.perf_counter() < end:
    start = time.perf_counter()
    vault.create_instance(table, external_edit=True)
    vault.write_instance(frame, table)
    waits.append(time.perf_counter() - start)
print(" ".join(map(str, waits)))
"""


def side_by_side(seconds: float = 4.0) -> list[Result]:
    """One interpreter that writes small instances, and eight in different tables of one vault (W7)."""
    alone = _writers(1, seconds)
    together = _writers(8, seconds)
    ratio = len(together) / len(alone)
    slowest = sorted(together)[int(len(together) * 0.99)]
    usual = median(together)
    return [
        Result(
            "W7",
            "8 interpreters, one vault",
            f"{len(together) / seconds:.0f} /s",
            f"{len(alone) / seconds:.0f} /s alone",
            ratio,
            "≥ 4 ×",
            ratio >= 4,
        ),
        Result(
            "W7",
            "99th percentile of the waits, against their median",
            f"{slowest * 1e3:.0f} ms",
            f"{usual * 1e3:.0f} ms",
            slowest / usual,
            "≤ 3 ×",
            slowest <= 3 * usual,
        ),
    ]


def _writers(count: int, seconds: float) -> list[float]:
    with empty_folder() as folder:
        vault = TableVault(folder / "vault", create=True, author="benchmark")
        writers = []
        for number in range(count):
            vault.create_table(f"t{number}")
            command = [sys.executable, "-c", WRITE, str(folder / "vault"), f"t{number}", str(seconds)]
            writers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        time.sleep(3.0 if count > 1 else 1.5)
        waits: list[float] = []
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        for number, writer in enumerate(writers):
            output, _ = writer.communicate()
            own = list(map(float, output.split()))
            assert writer.returncode == 0
            assert len(vault.get_table_instances(f"t{number}")) == len(own)
            waits += own
        return waits


def start_up(rounds: int) -> list[Result]:
    """Cost of an import and of the command beyond a bare interpreter (W9)."""
    bare = [sys.executable, "-c", "pass"]
    ways = {
        "import tablevault": [sys.executable, "-c", "import tablevault"],
        "tablevault --version": [str(Path(sys.executable).with_name("tablevault")), "--version"],
        "python -c 'import click' (for comparison)": [sys.executable, "-c", "import click"],
    }
    results = []
    for name, command in ways.items():
        if not Path(command[0]).exists():
            continue
        pairs = [(_seconds(bare), _seconds(command)) for _ in range(max(rounds, 5) * 2)]
        base, taken = (median(column) for column in zip(*pairs, strict=True))
        more = taken - base
        target = "≤ 0.15 s more" if "click" not in name else ""
        results.append(
            Result("W9", name, f"{taken:.3f} s", f"{base:.3f} s bare", more, target, more <= 0.15, unit=" s more")
        )
    return [*results, *_commands(max(rounds, 5))]


def _commands(rounds: int) -> list[Result]:
    """Return the processor time of commands that read a vault."""
    results = []
    with empty_folder() as folder:
        vault = TableVault(folder / "vault", create=True, author="benchmark")
        vault.create_table("t")
        vault.write("t", pd.DataFrame({"x": [1, 2, 3]}))
        for command in ("ps", "get-tables", "status"):
            program = [sys.executable, "-m", "tablevault", "--db-dir", str(folder / "vault"), command]
            taken = median(_processor_seconds(program) for _ in range(rounds))
            target = "≤ 0.25 s of processor time"
            what = f"tablevault {command}"
            results.append(Result("W9", what, f"{taken:.2f} s", "", taken, target, taken <= 0.25, unit=" s"))
    return results


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def _processor_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
