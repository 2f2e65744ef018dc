"""An interpreter that has imported everything and opened nothing: each request runs one operation in a fork of it.

Run with the library of faulty calls preloaded. Reads requests as lines of JSON and answers each with a line.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pkgutil
import signal
import sys
from typing import Any

import pandas  # noqa: F401
import pyarrow.compute
import pyarrow.parquet  # noqa: F401

import tablevault
from tablevault import TableVault

sys.path.insert(0, os.path.dirname(__file__))
from faulted_operations import OPERATIONS

FAULTS = ctypes.CDLL(None)


def _import_everything() -> None:
    for module in pkgutil.walk_packages(tablevault.__path__, "tablevault."):
        if not module.name.endswith("__main__") and module.name != "tablevault.worker":
            importlib.import_module(module.name)


def _operate(request: dict[str, Any], answers: int) -> None:
    """Do what is asked for in this fork, and write down what came of it."""
    action, fault = request["action"], request["fault"]
    opened_first = TableVault(request["folder"], author="b") if action == "call" else None
    FAULTS.fault_arm(ctypes.c_long(fault["n"]), fault["error"], int(fault["lasting"]))
    answer: dict[str, Any] = {"returned": False, "error": ""}
    try:
        if opened_first is None:
            TableVault(request["folder"], author="b", restart=action == "restart")
        else:
            OPERATIONS[request["operation"]].call(opened_first, request["process_id"])
        answer["returned"] = True
    except BaseException as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    answer["count"] = FAULTS.fault_disarm()
    os.write(answers, json.dumps(answer).encode())


def main() -> None:
    _import_everything()
    FAULTS.fault_disarm.restype = ctypes.c_long
    for line in sys.stdin:
        request = json.loads(line)
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
        answer = json.loads(content) if content else {"returned": False, "error": "", "count": 0}
        answer["signal"] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
