"""A table of rows whose column `a` is computed on the Ray cluster of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import yaml

import tablevault
from tablevault import TableVault

CODE = """
import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pandas as pd

import helping


class Own(Exception):
    pass


class Unpicklable(Exception):
    def __init__(self, *, content):
        super().__init__("holds a lock")
        self.content = content
        self.status_code = 503


def index(count):
    return pd.DataFrame({"x": range(count)})


def note(control, what, value=""):
    with open(f"{control}/{what}", "a") as file:
        file.write(f"{value}\\n")


def told(control, what, x):
    path = Path(control, what)
    return path.exists() and str(x) in path.read_text().split()


def square(x, control):
    note(control, "worker", os.getpid())
    return helping.squared(x)


async def square_soon(x, control):
    note(control, "worker", os.getpid())
    await asyncio.sleep(0.01)
    return x * x


def fail(x, control):
    if x == 3:
        error = Own("three")
        error.add_note("a note of its own")
        raise error from KeyError("nothing")
    return x


def fail_slowly(x, control):
    note(control, "called", x)
    time.sleep(0.005)
    if x == 50:
        raise Own("fifty")
    return x


def end_at_1000(x, control, text):
    # Short calls at first, so that many are sent together.
    if x > 1000:
        note(control, "later", x)
        time.sleep(0.2)
    if x == 1000:
        raise ValueError("row 1000")
    return x


def fail_once(x, attempt, error, control):
    import tablevault

    note(control, "called", x)
    tablevault.report_usage(tokens=2)
    if attempt == 1:
        raise ConnectionError(f"no network for {x}")
    return error


def check_text(a):
    if a == "no network for 2":
        raise ValueError("two is refused")


def split(x, control):
    return [10 * x + part for part in range(x)]


def trouble(x, control):
    import threading

    class Local(Exception):
        pass

    if x == 1:
        raise Local("nobody else knows it")
    if x == 2:
        raise Unpicklable(content=threading.Lock())
    if x == 3:
        return lambda: x
    if x == 4:
        return object()
    if x == 5:
        raise MemoryError("of the worker")
    return x


def leave(x, control):
    if x == 3:
        sys.exit(7)
    return x


def interrupt(x, control):
    if x == 3:
        raise KeyboardInterrupt
    return x


def large(x, control):
    return "x" * 200_000_000 if x == 1 else "small"


def die(x, control):
    note(control, "called", x)
    note(control, "worker", os.getpid())
    if told(control, "die", x):
        os._exit(4)
    return x


def die_slowly(x, control):
    note(control, "called", x)
    note(control, "worker", os.getpid())
    time.sleep(0.05)
    return x


def hold(x, control):
    note(control, "worker", os.getpid())
    note(control, "called", x)
    note(control, "call", f"{os.getpid()}:{x}")
    while told(control, "hold", x):
        time.sleep(0.01)
    return x


async def hold_soon(x, control):
    note(control, "worker", os.getpid())
    note(control, "called", x)
    while told(control, "hold", x):
        await asyncio.sleep(0.01)
    return x


async def hold_deaf(x, control):
    note(control, "worker", os.getpid())
    while told(control, "hold", x):
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            continue
    return x


def tell_key(x, key, control):
    if x == 3:
        raise Own(f"refused {key}")
    return os.getpid() if key == os.environ["TV_TEST_KEY"] else None


def write_file(x, folder, size, control=None):
    if control is not None:
        note(control, "worker", os.getpid())
    name = f"part/{x}.bin"
    Path(folder, "part").mkdir()
    Path(folder, name).write_bytes(bytes([x]) * size)
    return name


def write_more(x, folder):
    Path(folder, f"{x}.txt").write_text("named")
    Path(folder, "other.txt").write_text("not named")
    return f"{x}.txt"


def size_of(path):
    return len(Path(path).read_bytes()), path


def nested(x, folder, parent):
    from tablevault import TableVault

    TableVault(folder, author="child", parent_id=parent).create_table(f"made{x}")
    return x


def many(x, control):
    return [value + 1 for value in x]


def many_but_one(x, control):
    if 3 in x:
        os._exit(4)
    return [value + 1 for value in x]


def whole(control):
    return pd.DataFrame({"a": [os.getpid()] * 3})


class Adding:
    def __init__(self, base, control):
        note(control, "opened", os.getpid())
        self.base, self.control = base, control

    def __call__(self, x, control):
        note(control, "worker", os.getpid())
        return x + self.base

    def close(self):
        note(self.control, "closed", os.getpid())


class AddingSoon(Adding):
    async def __call__(self, x, control):
        await asyncio.sleep(0)
        return x + self.base


class Broken:
    def __init__(self, control):
        raise Own("cannot be made")

    def __call__(self, x, control):
        return x


class Deadly:
    def __init__(self, control):
        note(control, "opened")
        os._exit(5)

    def __call__(self, x, control):
        return x
"""

HELPING = """
def squared(x):
    return x * x
"""


class Work:
    """A table of rows whose column `a` is computed on a cluster."""

    def __init__(self, folder: Path, address: str, **ray: object) -> None:
        self.folder = folder / "vault"
        self.control = folder / "control"
        self.control.mkdir()
        self.drivers: list[subprocess.Popen[str]] = []
        self.ray = {"address": address, **ray}
        self.vault = TableVault(self.folder, author="ada", create=True, ray=self.ray)
        self.vault.create_code_module("work", text=CODE)
        self.vault.create_code_module("helping", text=HELPING)
        self.vault.create_table("t")
        self.vault.create_instance("t")

    def build(self, function: str, count: int = 10, **fields: object) -> None:
        self.write("t", "", "IndexBuilder", "index", {"count": count}, changed_columns=["x"], primary_key=["x"])
        arguments = fields.pop("arguments", {"x": "<<self.x[index]>>", "control": str(self.control)})
        own = {"changed_columns": ["a"], "return_type": "row-wise", "executor": "ray", "resources": {"cpu": 0.1}}
        own = {**own, "max_workers": 1, **fields}
        self.write("t", "a", "ColumnBuilder", function, arguments, **{k: v for k, v in own.items() if v is not None})

    def write(self, table: str, name: str, kind: str, function: str, arguments: object, **fields: object) -> None:
        content = {"builder_type": kind, "python_function": function, "code_module": "work", "is_custom": True}
        text = yaml.safe_dump({**content, "arguments": arguments, **fields})
        self.vault.create_builder_file(table, *([name] if name else []), text=text)

    def run(self, process_id: str = "", **options: object) -> str:
        return self.vault.execute_instance("t", process_id=process_id, **options)

    def again(self) -> None:
        """Make a new instance from the same builders, whose cells are all computed anew."""
        self.vault.create_instance("t", copy=True)

    def tell(self, what: str, *rows: object) -> None:
        (self.control / "new").write_text(" ".join(map(str, rows)))
        (self.control / "new").rename(self.control / what)

    def noted(self, what: str) -> list[str]:
        path = self.control / what
        return path.read_text().split() if path.exists() else []

    def cells(self) -> list[object]:
        frame, _ = self.vault.get_dataframe("t")
        return [None if pd.isna(value) else value for value in frame["a"]]

    def errors(self) -> list[tuple[int, str, str]]:
        found = self.vault.get_errors("t")
        return list(zip(found["index"], found["error"], found["message"], strict=True))

    def elsewhere(self, process_id: str = "", *, prepare: str = "", **options: object) -> subprocess.Popen[str]:
        """Let another interpreter execute after the statements `prepare`."""
        ray = {**self.ray, **options}
        return self.drive(
            "from tablevault import TableVault\n"
            f"{prepare}\n"
            f"TableVault({str(self.folder)!r}, author='grace', ray={ray!r})"
            f".execute_instance('t', process_id={process_id!r})"
        )

    def drive(self, text: str) -> subprocess.Popen[str]:
        """Run a program in another interpreter, which the test does not outlive."""
        source = str(Path(tablevault.__file__).parents[1])
        driver = subprocess.Popen(
            [sys.executable, "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": source},
        )
        self.drivers.append(driver)
        return driver

    def end_drivers(self) -> None:
        for driver in self.drivers:
            if driver.poll() is None:
                driver.kill()
                driver.communicate()

    def workers(self) -> set[int]:
        return {int(number) for number in self.noted("worker")}


def is_alive(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
