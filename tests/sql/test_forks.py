"""SQL and frames in a forked process while the parent works.

The result is an answer or one clear error, never a deadlock.
"""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pandas as pd
import pytest

from tablevault import TableVault

SUMS = "SELECT b, sum(a) AS s FROM big GROUP BY b ORDER BY s DESC LIMIT 3"
SECONDS = 120


@pytest.fixture
def vault(tmp_path):
    """A vault whose engine, frames and parser were used in this process."""
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    numbers = np.arange(200_000)
    vault.write("big", pd.DataFrame({"a": numbers, "b": [f"text {number % 100}" for number in numbers]}))
    assert len(vault.query(SUMS)[0]) == 3
    return vault


def forked(call):
    """Return the exit status of a forked process.

    It is 0 if the call returns a true value, 1 if not, and 2 for an error of TableVault.
    """
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        status = 3
        try:
            status = 0 if call() else 1
        except Exception as error:
            status = 2 if "do not survive a fork" in str(error) else 3
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Using fork:RuntimeWarning")
@pytest.mark.slow
def test_forked_processes_query_connect_and_scan_while_the_parent_does(vault):
    expected = vault.query(SUMS)[0].to_dict("list")
    total = vault.scan("big", format="polars")[0].select("a").sum().collect().item()
    connection = vault.connect()
    is_over = threading.Event()

    def work():
        while not is_over.is_set():
            vault.query("SELECT count(*) FROM big x JOIN big y USING (a)")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        found = {
            "query": forked(lambda: vault.query(SUMS)[0].to_dict("list") == expected),
            "new": forked(lambda: vault.query("SELECT max(a) AS m FROM big")[0]["m"].tolist() == [199_999]),
            "refused": forked(lambda: _is_refused(vault)),
            "connect": forked(lambda: len(vault.connect().sql(SUMS).fetchall()) == 3),
            "duckdb": forked(lambda: vault.scan("big", format="duckdb")[0].sum("a").fetchall() == [(total,)]),
            "arrow": forked(lambda: _dataset(vault).count_rows() == 200_000),
            "lazy polars": forked(lambda: vault.scan("big", format="polars")),
            "polars": forked(lambda: vault.get_dataframe("big", format="polars")),
            "polars of a query": forked(lambda: vault.query(SUMS, format="polars")),
        }
    finally:
        is_over.set()
        thread.join()
    lost = dict.fromkeys(("lazy polars", "polars", "polars of a query"), 2)
    assert found == {**dict.fromkeys(found, 0), **lost}
    assert vault.query(SUMS)[0].to_dict("list") == expected
    assert connection.sql("SELECT sum(a) FROM big").fetchall() == [(total,)]
    connection.close()
    assert vault.verify().ok


def _dataset(vault):
    return vault.scan("big", format="arrow", full_artifact_path=False)[0]


def _is_refused(vault):
    try:
        vault.query("COPY big TO '/tmp/x.csv'")
    except Exception as error:
        return "The statement was refused" in str(error)
    return False
