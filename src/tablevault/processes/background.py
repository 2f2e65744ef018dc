"""Handing a prepared process over to a detached background worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tablevault import clock
from tablevault.errors import TVProcessError
from tablevault.lookup import VaultContext
from tablevault.processes.attempts import Attempt
from tablevault.storage import files

_POLL = 0.01
"""Seconds between two looks whether the worker has taken the process over."""


def hand_over(context: VaultContext, attempt: Attempt) -> None:
    """Start a worker and wait until it owns the process; it outlives this interpreter.

    Raises
    ------
    TVProcessError
        If the worker ended before it could take the process over.
    """
    layout = context.layout
    files.make_folder(layout.worker_logs)
    path = layout.worker_log(attempt.transaction.process_id)
    command = [
        sys.executable,
        "-m",
        "tablevault.processes.worker",
        str(layout.root),
        str(attempt.serial),
        str(attempt.number),
    ]
    with path.open("ab") as log:
        worker = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
        )
    while worker.poll() is None:
        record = context.catalog.processes.get(attempt.serial)
        if record is None or record.attempt != attempt.number:
            # From here on the worker is nobody's child that somebody waits for.
            worker.returncode = 0
            return
        clock.sleep(_POLL)
    record = context.catalog.processes.get(attempt.serial)
    if record is not None and record.attempt == attempt.number:
        raise TVProcessError(
            f"The background worker of process '{attempt.transaction.process_id}' ended with status "
            f"{worker.returncode} before it could start; its output is in {path}."
        )
