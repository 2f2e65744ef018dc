"""A warm interpreter that has imported everything.

Each request runs one operation in a fork of it.

Run with the library of faulty calls preloaded, and with the place of the vaults as its argument. Reads requests as lines
of JSON and answers each with a line.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tablevault import TableVault

sys.path.insert(0, os.path.dirname(__file__))
from faulted_operations import OPERATIONS
from orphans import adopt_orphans, wait_for_orphans
from warmth import warm_up

FAULTS = ctypes.CDLL(None)
FAULTS.fault_disarm.restype = ctypes.c_long


def _operate(request: dict[str, Any], answers: int) -> None:
    """Do what is asked for in this fork, and write down what came of it."""
    place, action, fault = Path(request["place"]), request["action"], request["fault"]
    operation = OPERATIONS[request["operation"]]
    subject = operation.open(place) if action == "call" else None
    FAULTS.fault_arm(ctypes.c_long(fault["n"]), fault["error"], int(fault["lasting"]))
    answer: dict[str, Any] = {"returned": False, "error": ""}
    try:
        if subject is None:
            TableVault(place / "vault", author="b", restart=action == "restart")
        else:
            operation.call(subject, request["process_id"])
        answer["returned"] = True
    except BaseException as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    answer["count"] = FAULTS.fault_disarm()
    if not fault["n"]:
        answer["writes"] = [n for n in range(1, answer["count"] + 1) if FAULTS.fault_is_write(ctypes.c_long(n))]
    os.write(answers, json.dumps(answer).encode())


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        signal.alarm(60)
        try:
            _operate(request, theirs)
        finally:
            os._exit(0)
    os.close(theirs)
    content = b""
    while piece := os.read(ours, 65536):
        content += piece
    os.close(ours)
    _, status = os.waitpid(child, 0)
    wait_for_orphans()
    answer: dict[str, Any] = json.loads(content) if content else {"returned": False, "error": "", "count": 0}
    answer["signal"] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return answer


def main() -> None:
    held = warm_up(Path(sys.argv[1]))
    adopt_orphans()
    gc.collect()
    # What is there now is never looked at again, so that forks share its memory.
    gc.freeze()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()
    held.close()


if __name__ == "__main__":
    main()
