"""Hand-over of a prepared process to a detached background worker."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from itertools import repeat
from pathlib import Path

from tablevault.errors import TVProcessError
from tablevault.processes.process import Process
from tablevault.state.context import VaultContext
from tablevault.storage import files
from tablevault.system.waiting import poll

_POLL = 0.01
"""Interval of polling for the worker's claim, in seconds."""


def hand_over(context: VaultContext, process: Process) -> None:
    """Start a worker and wait until it owns the process; it outlives this interpreter.

    Raises
    ------
    TVProcessError
        If the worker ended before it could take the process over.
    """
    layout = context.layout
    files.make_folder(layout.worker_logs)
    path = layout.worker_log(process.process_id)
    command = [
        sys.executable,
        "-m",
        "tablevault.processes.worker",
        str(layout.root),
        str(process.serial),
        str(process.attempt),
    ]
    with path.open("ab") as log:
        worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
        )

    # Not as arguments, which are visible to all users of the machine.
    with contextlib.suppress(BrokenPipeError), worker.stdin or contextlib.nullcontext() as options:
        if options is not None:
            given = {"ray": context.ray.plain, "earlier_arguments": process.earlier_arguments}
            options.write(json.dumps(given).encode())

    def is_taken_over() -> bool:
        record = context.catalog.processes.get(process.serial)
        return record is None or record.attempt != process.attempt

    poll(lambda: is_taken_over() or worker.poll() is not None or None, repeat(_POLL))
    if not is_taken_over():
        raise TVProcessError(
            f"The background worker of process '{process.process_id}' ended with status "
            f"{worker.returncode} before it could start; its output is in {path}."
        )
    # It outlives this interpreter, which must not wait for it.
    worker.returncode = worker.returncode or 0
