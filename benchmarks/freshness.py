"""Refreshes and runs of fresh tables (S10).

The baseline plans the execution of each.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path

from benchmarks import vaults
from benchmarks.measuring import Result, Samples, Way, empty_folder, interleaved, timing
from tablevault import TableVault

ROWS = 100
"""Rows of each table."""

_MINIMUM_ROUNDS = 9
"""A round takes less than a second, of which a busy machine changes a large part."""


def fresh_tables(tables: int, rounds: int) -> list[Result]:
    """A refresh of tables that are all fresh, against as many calls of `plan_instance` (S10)."""
    with empty_folder() as folder:
        vault = _vault(folder, tables)
        ways: dict[str, Way] = {
            "plans": timing(lambda: [vault.plan_instance(name) for name in vault.get_tables()]),
            "refresh": timing(vault.refresh),
        }
        samples = interleaved(ways, max(rounds, _MINIMUM_ROUNDS))
        states = {status.state for status in vault.get_status().values()}
    if states != {"fresh"}:
        raise AssertionError(f"the tables were to be fresh, and are {states}")
    return [_compared(f"refresh of {tables} fresh tables, against as many plan_instance", samples, "refresh")]


def unchanged_file(tables: int, rounds: int) -> list[Result]:
    """A run of an unchanged definitions file (S10).

    The baseline is as many calls of `plan_instance`.
    """
    with empty_folder() as folder:
        vault = vaults.new_vault(folder)
        source = folder / "definitions.py"
        source.write_text(_definitions(tables), encoding="utf-8")
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            vault.run(source)
            names = [name for name in vault.get_tables() if name != "t000"]
            for name in names:
                vault.create_instance(name, copy=True)
            ways: dict[str, Way] = {
                "plans": timing(lambda: [vault.plan_instance(name) for name in (*names, names[0])]),
                "run": timing(lambda: vault.run(source)),
            }
            samples = interleaved(ways, max(rounds, _MINIMUM_ROUNDS))
    return [_compared(f"run of an unchanged file of {tables} tables, against as many plan_instance", samples, "run")]


def _compared(what: str, samples: Mapping[str, Samples], name: str) -> Result:
    measured, plans = samples[name], samples["plans"]
    ratio = measured.median / plans.median
    return Result(
        "S10",
        what,
        f"{measured.median:.2f} s",
        f"{plans.median:.2f} s",
        ratio,
        "≤ 1.5 ×",
        ratio <= 1.5,
        measured.spread,
    )


def _definitions(tables: int) -> str:
    """Return a definitions file whose tables, but for the first, each read another one."""
    names = [f"t{number:03}" for number in range(tables)]
    parts = ["from tablevault.define import Table\n", *(f'{name} = Table("{name}")' for name in names)]
    parts.append(f'\n\n@t000.index("x", primary_key=["x"])\ndef rows():\n    return list(range({ROWS}))\n')
    for number, name in enumerate(names):
        if number:
            parts.append(f'\n{name}.index("x", rows_of="{names[(number - 1) // 2]}")\n')
        parts.append(f'\n@{name}.column("y")\ndef mark_{number}(x):\n    return f"{{x}}-ok"\n')
    return "\n".join(parts)


def _vault(folder: Path, tables: int) -> TableVault:
    """Make a vault whose tables, but for the first, each read another one."""
    vault = vaults.new_vault(folder)
    vaults.count_calls()
    for number in range(tables):
        name = f"t{number:03}"
        index = vaults.list_builder(ROWS) if not number else vaults.copy_builder(f"t{(number - 1) // 2:03}")
        vault.create_table(name)
        vault.create_instance(name, builders={f"{name}_index": index, "y": vaults.row_builder()})
        vault.execute_instance(name)
        # `plan_instance` plans a temporary instance; a refresh passes over one that was not edited.
        vault.create_instance(name, copy=True)
    return vault
