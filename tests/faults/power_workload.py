"""Workload of a vault during a power loss.

Steps have a seeded order; each is acknowledged when its call has returned.
"""

from __future__ import annotations

import copy
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tablevault import TableVault

PIPE = "TABLEVAULT_TORTURE_PIPE"
"""Environment variable with the number of the descriptor that takes what is acknowledged."""
BEAT = 0.05
"""Seconds between two signs of life of the disk, as between two flushes of checkpoints."""

MANY = 1_000
"""Tables of so many rows and more are executed at full speed, and make an artifact of each row."""

CODE = f"""
import os
import time

import numpy as np
import pandas as pd


def numbers(count):
    return pd.DataFrame({{"x": range(count)}})


def double(x):
    time.sleep(0.001)
    os.write(int(os.environ["{PIPE}"]), f"row {{x}} {{time.monotonic()}}\\n".encode())
    return x * 2, np.full(64, x, "float32")


def draw(x, folder):
    with open(f"{{folder}}/{{x}}.txt", "w") as file:
        file.write(str(x) * 100)
    return f"{{x}}.txt"
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
primary_key: [x]
python_function: numbers
code_module: job
is_custom: true
arguments: {{count: {count}}}
"""

DOUBLE = """
builder_type: ColumnBuilder
changed_columns: [y, e]
dtypes: {e: "vector<float32, 64>"}
python_function: double
code_module: job
is_custom: true
return_type: row-wise
arguments: {x: "<<self.x[index]>>"}
"""

DRAW = """
builder_type: ColumnBuilder
changed_columns: [file]
dtypes: {file: artifact_string}
python_function: draw
code_module: job
is_custom: true
return_type: row-wise
arguments: {x: "<<self.x[index]>>", folder: ~ARTIFACT_FOLDER~}
"""


@dataclass
class Model:
    """What a vault must show, as plain data."""

    tables: dict[str, list[dict[str, list[Any]]]] = field(default_factory=dict)
    """Of each table its instances, oldest first, each as columns."""
    temporary: dict[str, int | None] = field(default_factory=dict)
    """Which tables have a temporary instance: how many rows an execution of it makes (`None`: it is written)."""
    modules: dict[str, str] = field(default_factory=lambda: {"job": CODE})


def shown(vault: TableVault) -> Model:
    """Return what a vault shows."""
    model = Model(modules={name: vault.get_code_module_str(name) for name in vault.get_code_modules_list()})
    for table in vault.get_tables():
        model.tables[table] = [
            vault.get_dataframe(table, instance, format="arrow", full_artifact_path=False)[0].to_pydict()
            for instance in vault.get_table_instances(table)
        ]
        if "TEMP_base" in vault.get_table_instances(table, include_temp=True):
            model.temporary[table] = _rows_of_builder(vault, table)
    return model


def _rows_of_builder(vault: TableVault, table: str) -> int | None:
    name = f"{table}_index"
    if name not in vault.get_builders_list(table):
        return None
    return int(vault.get_builder_str(table, name).partition("count: ")[2].partition("}")[0])


@dataclass(frozen=True)
class Step:
    """One call, and what it changes."""

    text: str
    call: Callable[[TableVault], object]
    change: Callable[[Model], object]
    process_id: str = ""


def steps(model: Model, choice: random.Random) -> Iterator[Step]:
    """Yield steps without end.

    Each fits the current state of the model.
    """
    while True:
        yield _step(model, choice)


def _step(model: Model, choice: random.Random) -> Step:
    number = choice.randrange(10**9)
    executable = [table for table, rows in model.temporary.items() if rows is not None]
    writable = [table for table, rows in model.temporary.items() if rows is None]
    plain = [table for table in model.tables if table not in model.temporary]
    kinds: list[tuple[int, Callable[[], Step]]] = [
        (3, lambda: _create_table(f"t{number}")),
        (2, lambda: _create_module("m" + str(number % 3), f"x = {number}\n")),
        *((4, lambda table=table: _write(table, number)) for table in writable[:2]),
        *((5, lambda table=table: _execute(table, model.temporary[table] or 0, number)) for table in executable[:2]),
        *((2, lambda table=table: _external(table)) for table in plain[:2]),
        *((2, lambda table=table: _builders(table, choice.randrange(20, 120))) for table in plain[:2]),
        *((1, lambda table=table: _builders(table, choice.randrange(MANY, 2 * MANY))) for table in plain[:2]),
        *((1, lambda table=table: _rename(table, f"r{number}")) for table in plain[:1]),
        *((1, lambda table=table: _delete_table(table)) for table in plain[1:2]),
        *((1, lambda table=table: _delete_instance(table)) for table in plain[:1] if model.tables[table]),
    ]
    return choice.choices([make for _, make in kinds], [weight for weight, _ in kinds])[0]()


def _create_table(table: str) -> Step:
    return Step(
        f"create_table {table}",
        lambda vault: vault.create_table(table),
        lambda model: model.tables.__setitem__(table, []),
    )


def _create_module(name: str, text: str) -> Step:
    return Step(
        f"create_code_module {name}",
        lambda vault: vault.create_code_module(name, text=text),
        lambda model: model.modules.__setitem__(name, text),
    )


def _external(table: str) -> Step:
    return Step(
        f"create_instance {table}, to be written",
        lambda vault: vault.create_instance(table, external_edit=True),
        lambda model: model.temporary.__setitem__(table, None),
    )


def _builders(table: str, count: int) -> Step:
    column = {"double": DOUBLE} if count < MANY else {"draw": DRAW}
    builders = {f"{table}_index": INDEX.format(count=count), **column}
    return Step(
        f"create_instance {table}, to be executed",
        lambda vault: vault.create_instance(table, builders=builders),
        lambda model: model.temporary.__setitem__(table, count),
    )


def _write(table: str, number: int) -> Step:
    values = [number + place for place in range(number % 50)]

    def change(model: Model) -> None:
        del model.temporary[table]
        model.tables[table].append({"x": values})

    frame = pd.DataFrame({"x": pd.array(values, dtype="Int64")})
    return Step(f"write_instance {table}", lambda vault: vault.write_instance(frame, table), change)


def _execute(table: str, count: int, number: int) -> Step:
    def change(model: Model) -> None:
        del model.temporary[table]
        model.tables[table].append({"x": list(range(count)), **_computed(count)})

    process_id = f"job-{number}"
    return Step(
        f"execute_instance {table}",
        lambda vault: vault.execute_instance(table, process_id=process_id),
        change,
        process_id,
    )


def _computed(count: int) -> dict[str, list[Any]]:
    """Return the columns that are computed for so many rows."""
    if count >= MANY:
        return {"file": [f"{x}.txt" for x in range(count)]}
    return {"y": [2 * x for x in range(count)], "e": [[float(x)] * 64 for x in range(count)]}


def _rename(table: str, new: str) -> Step:
    return Step(
        f"rename_table {table}",
        lambda vault: vault.rename_table(new, table),
        lambda model: model.tables.__setitem__(new, model.tables.pop(table)),
    )


def _delete_table(table: str) -> Step:
    return Step(f"delete_table {table}", lambda vault: vault.delete_table(table), lambda model: model.tables.pop(table))


def _delete_instance(table: str) -> Step:
    return Step(
        f"delete_instance {table}",
        lambda vault: vault.delete_instance(vault.get_table_instances(table)[0], table),
        lambda model: model.tables[table].pop(0),
    )


def work(folder: Path, model: Model, choice: random.Random, first: Step | None, pipe: int) -> None:
    """Make steps until the power fails.

    Begun and finished steps are reported through the pipe.
    """
    os.environ[PIPE] = str(pipe)
    threading.Thread(target=_beat, args=(folder.parent / "beats", pipe), daemon=True).start()
    vault = TableVault(folder, author="a")
    if first is not None:
        _make(vault, model, first, pipe)
    for step in steps(model, choice):
        _make(vault, model, step, pipe)


def replay(model: Model, choice: random.Random, first: Step | None, acknowledged: int) -> tuple[Model, Step]:
    """Return the model after some acknowledged steps of `work`.

    Also returns the step that was in flight then.
    """
    model = copy.deepcopy(model)
    following = steps(model, choice)
    step = first if first is not None else next(following)
    for _ in range(acknowledged):
        step.change(model)
        step = next(following)
    return model, step


def _make(vault: TableVault, model: Model, step: Step, pipe: int) -> None:
    step.call(vault)
    os.write(pipe, b"done\n")
    step.change(model)


def _beat(path: Path, pipe: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        time.sleep(BEAT)
        begun = time.monotonic()
        os.write(descriptor, b".")
        os.fsync(descriptor)
        os.write(pipe, f"beat {begun}\n".encode())


def parse(told: str) -> dict[str, list[Any]]:
    """Return the messages from the pipe.

    They are `done`, `row` as (row, moment), and `beat` as moments.
    """
    found: dict[str, list[Any]] = {"done": [], "row": [], "beat": []}
    for line in told.splitlines():
        match line.split():
            case ["done"]:
                found["done"].append(True)
            case ["row", row, moment]:
                found["row"].append((int(row), float(moment)))
            case ["beat", moment]:
                found["beat"].append(float(moment))
    return found
