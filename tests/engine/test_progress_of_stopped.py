"""Progress and usage of processes that were stopped by force, which include the rows that end while they stop."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import PATIENCE, until

from tablevault import TableVault, TVForcedError

SOURCE = """
import asyncio
import time
from pathlib import Path

import tablevault
from tablevault.define import Table

FOLDER = Path({folder!r})
words = Table("words")


@words.index("word", primary_key=["word"])
def rows():
    return [str(number) for number in range(20)]


def begin(word):
    (FOLDER / f"called-{{word}}").touch()
    tablevault.report_usage(cost=2)


@words.column({policies})
{function}
"""

PLAIN = """
def loud(word):
    begin(word)
    while not (FOLDER / "go").exists():
        time.sleep(0.005)
    return word * 2
"""

COROUTINE = """
async def loud(word):
    begin(word)
    while not (FOLDER / "go").exists():
        await asyncio.sleep(0.005)
    return word * 2
"""


class Held:
    """A table whose rows do not end before the file `go` exists."""

    def __init__(self, folder: Path, policies: str, function: str) -> None:
        self.folder = folder
        self.vault = TableVault(folder / "vault", author="ada", create=True)
        text = SOURCE.format(folder=str(folder), policies=policies, function=textwrap.dedent(function).strip())
        (folder / "held.py").write_text(text)
        self.vault.apply(folder / "held.py")

    @property
    def called(self) -> int:
        return len(list(self.folder.glob("called-*")))

    def execute(self) -> threading.Thread:
        """Execute the table in another thread, until all calls that run at once have begun."""

        def execute() -> None:
            with pytest.raises(TVForcedError):
                TableVault(self.folder / "vault").execute_instance("words", process_id="nightly")

        return self._started(execute)

    def stop(self, **options: object) -> None:
        """Stop the process; its rows end after its owner has seen the request."""
        stopping = self._started(lambda: self.vault.stop_process("nightly", force=True, **options))
        processes = self.vault._context.catalog.processes
        until(lambda: processes.find("nightly").stop_requested)
        # The owner looks for requests five times in a second.
        time.sleep(0.3)
        (self.folder / "go").touch()
        stopping.join(PATIENCE)

    def _started(self, act: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=act)
        thread.start()
        return thread

    def check(self, instance_id: str = "") -> None:
        """Check that the process counts as many rows and costs as are recorded for the rows."""
        info = self.vault.get_process("nightly")
        assert info.status == "stopped"
        progress = info.progress["loud"]
        frame, _ = self.vault.get_dataframe("words", instance_id=instance_id)
        assert progress.computed == frame["loud"].notna().sum()
        usage = self.vault.get_usage("words", instance_id)
        assert info.usage == {"calls": usage["calls"].sum(), "cost": usage["cost"].sum()}


@pytest.mark.parametrize("materialize", [False, True])
@pytest.mark.parametrize(
    ("policies", "function", "at_once"),
    [
        pytest.param("max_concurrency=3", PLAIN, 3, id="threads"),
        pytest.param("max_concurrency=3", COROUTINE, 3, id="coroutines"),
        pytest.param("executor='processes', max_concurrency=3", PLAIN, 3, id="processes", marks=pytest.mark.slow),
    ],
)
def test_rows_that_end_while_a_process_stops_are_counted(
    tmp_path: Path, policies: str, function: str, at_once: int, materialize: bool
) -> None:
    held = Held(tmp_path, policies, function)
    owner = held.execute()
    until(lambda: held.called >= at_once)
    held.stop(materialize=materialize, timeout=PATIENCE)
    owner.join(PATIENCE)
    assert held.vault.get_process("nightly").progress["loud"].computed == held.called
    held.check("" if materialize else "TEMP_base")


@pytest.mark.slow
@pytest.mark.parametrize("materialize", [False, True])
def test_durable_rows_of_a_killed_worker_are_counted(tmp_path: Path, materialize: bool) -> None:
    # The owner records its progress once while all rows wait, and again only a second later.
    go = '("first" if word in "0123" else "go")'
    held = Held(tmp_path, "max_concurrency=2", PLAIN.replace('"go"', go))
    held.vault.execute_instance("words", process_id="nightly", background=True)
    until(lambda: "loud" in held.vault.get_process("nightly").progress)
    (tmp_path / "first").touch()
    until(lambda: held.called == 6)
    time.sleep(0.2)  # Rows are made durable twenty times in a second.
    held.vault.stop_process("nightly", force=True, materialize=materialize, timeout=0.1)
    assert held.vault.get_process("nightly").progress["loud"].computed == 4
    held.check("" if materialize else "TEMP_base")
