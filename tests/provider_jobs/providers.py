"""A folder as a provider of batch jobs, and tables that use it.

The folder outlives every interpreter.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import yaml
from waiting import PATIENCE

from tablevault import TableVault

CODE = """
import json
import os
import signal
import time
from pathlib import Path

import pandas as pd

from tablevault import report_usage


class Expired(Exception):
    pass


class Refused(Exception):
    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status_code = status


def index(count):
    return pd.DataFrame({"x": range(count)})


def check(answer):
    if answer % 2:
        raise ValueError(f"{answer} is odd")


class Forgetful:
    '''A provider that neither finds nor cancels jobs.'''

    def __init__(self, folder):
        self.folder = Path(folder)

    def submit(self, token, x):
        self.act("submit")
        number = len(list(self.folder.glob("job-*")))
        (self.folder / f"job-{number}").write_text(json.dumps({"token": token, "rows": x, "results": None}))
        self.act("submitted")
        report_usage(cost=len(x))
        return f"job-{number}"

    def poll(self, job):
        self.act("poll")
        results = json.loads((self.folder / job).read_text())["results"]
        if results is None and (self.folder / "ready").exists():
            results = [2 * x for x in json.loads((self.folder / job).read_text())["rows"]]
        self.act("polled")
        if not isinstance(results, list):
            return results
        return [Expired("the job expired") if result is None else result for result in results]

    def act(self, step):
        with open(self.folder / "log", "a") as file:
            file.write(step + "\\n")
        faults = self.folder / f"fault-{step}"
        named = faults.read_text().split() if faults.exists() else []
        if named:
            faults.write_text(" ".join(named[1:]))
            if named[0] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif named[0] == "hang":
                time.sleep(600)
            elif named[0] == "interrupt":
                raise KeyboardInterrupt
            elif named[0].isdigit():
                raise Refused(int(named[0]))
            elif named[0] != "pass":
                raise getattr(__import__("builtins"), named[0])(f"raised at {step}")


class Judge(Forgetful):
    def find(self, token):
        self.act("find")
        for path in self.folder.glob("job-*"):
            if json.loads(path.read_text())["token"] == token:
                return path.name
        return None

    def cancel(self, job):
        self.act("cancel")
        path = self.folder / job
        path.write_text(json.dumps(json.loads(path.read_text()) | {"cancelled": True}))
"""

EXECUTE = """
import sys
from tablevault import TableVault

TableVault(sys.argv[1]).execute_instance("answers", process_id="night")
"""


class Provider:
    """The provider's side of the jobs.

    Parameters
    ----------
    folder
        Where its state is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def be_ready(self) -> None:
        """Let every job be done, also those to come."""
        (self.folder / "ready").touch()

    def finish(self, job: str, results: object = None, expired: Collection[int] = ()) -> None:
        """Let a job be done.

        Parameters
        ----------
        job
            Its id.
        results
            Returned by `poll` as they are; `None`: twice each row.
        expired
            Rows (values of `x`) that have no result.
        """
        content = self.job(job)
        if results is None:
            results = [None if x in expired else 2 * x for x in content["rows"]]
        (self.folder / job).write_text(json.dumps(content | {"results": results}))

    def job(self, job: str) -> dict[str, Any]:
        """Return what is known of a job."""
        content: dict[str, Any] = json.loads((self.folder / job).read_text())
        return content

    @property
    def jobs(self) -> list[str]:
        """The ids of the jobs, in the order of their submission."""
        return sorted((path.name for path in self.folder.glob("job-*")), key=lambda name: int(name[4:]))

    @property
    def rows(self) -> list[list[int]]:
        """The rows of each job."""
        return [self.job(job)["rows"] for job in self.jobs]

    @property
    def submitted(self) -> Counter[int]:
        """How often each row was submitted."""
        return Counter(x for rows in self.rows for x in rows)

    @property
    def cancelled(self) -> list[str]:
        """The jobs that were cancelled."""
        return [job for job in self.jobs if self.job(job).get("cancelled")]

    def count(self, step: str) -> int:
        """Return how often a request was made."""
        log = self.folder / "log"
        return log.read_text().split().count(step) if log.exists() else 0

    def fail(self, step: str, *faults: object) -> None:
        """Let the next requests fail."""
        (self.folder / f"fault-{step}").write_text(" ".join(map(str, faults)))


class JobTable:
    """The table `answers`, with an index `x` and a column computed by the provider.

    Parameters
    ----------
    vault
        An open vault.
    provider
        Computes the column.
    rows
        Number of rows.
    fields
        Further fields of the builder `answer`.
    """

    def __init__(self, vault: TableVault, provider: Provider, rows: int = 10, **fields: object) -> None:
        self.vault = vault
        vault.create_code_module("providers_code", text=CODE)
        vault.create_table("answers")
        vault.create_instance("answers")
        index = {
            "builder_type": "IndexBuilder",
            "changed_columns": ["x"],
            "python_function": "index",
            "code_module": "providers_code",
            "is_custom": True,
            "arguments": {"count": rows},
        }
        answer = {
            "builder_type": "ColumnBuilder",
            "changed_columns": ["answer"],
            "python_function": "Judge",
            "code_module": "providers_code",
            "is_custom": True,
            "return_type": "batch",
            "setup_arguments": {"folder": str(provider.folder)},
            "arguments": {"x": "<<self.x[index]>>"},
            "executor": "jobs",
            "batch_size": 4,
            "poll_seconds": 0.02,
            "retry": {"max_retries": 0, "wait": 0.01},
            **fields,
        }
        answer = {name: value for name, value in answer.items() if value is not None}
        vault.create_builder_file("answers", "answers_index", text=yaml.safe_dump(index))
        vault.create_builder_file("answers", "answer", text=yaml.safe_dump(answer))

    def execute(self, process_id: str = "night", **options: Any) -> str:
        """Execute the temporary instance."""
        return self.vault.execute_instance("answers", process_id=process_id, **options)

    def answers(self) -> list[object]:
        """Return the computed column; `None` for null."""
        frame, _ = self.vault.get_dataframe("answers", failed="null")
        return [
            None if missing else int(value)
            for value, missing in zip(frame["answer"], frame["answer"].isna(), strict=True)
        ]

    def execute_elsewhere(self) -> int:
        """Execute in another interpreter; return its exit status."""
        command = [sys.executable, "-c", EXECUTE, str(self.vault.db_dir)]
        return subprocess.run(command, timeout=PATIENCE, capture_output=True).returncode


def doubled(rows: Sequence[int] | range) -> list[int]:
    """Return what the provider computes."""
    return [2 * x for x in rows]
