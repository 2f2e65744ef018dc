"""An operation between two calls that `strace` can recognize.

Runs with the library of faulty calls preloaded.

Arguments: a folder, and the name of the operation. Prints how many calls the library counted.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(__file__))
from faulted_operations import OPERATIONS
from warmth import warm_up


def main() -> None:
    place = Path(sys.argv[1])
    held = warm_up(place)
    place.mkdir()
    operation = OPERATIONS[sys.argv[2]]
    operation.make(place)
    subject = operation.open(place)
    calls = ctypes.CDLL(None)
    calls.fault_disarm.restype = ctypes.c_long
    os.access("/the-operation-begins", os.F_OK)
    calls.fault_arm(ctypes.c_long(0), 0, 0)
    operation.call(subject, "mine")
    counted = calls.fault_disarm()
    os.access("/the-operation-ends", os.F_OK)
    print(counted)
    held.close()


if __name__ == "__main__":
    main()
