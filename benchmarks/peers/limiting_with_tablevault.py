"""Limits of TableVault.

A call and 3,000 tokens of a service are shared by all interpreters of a vault, and settled afterwards.
"""

import sys
import time
from pathlib import Path

from tablevault.ports import Permit
from tablevault.storage.service_counters import ServiceCounters

count, folder = int(sys.argv[1]), Path(sys.argv[2])
limits = {"api": {"calls_per_day": 10**9, "tokens_per_day": 10**12}}
counters = ServiceCounters(folder / "limits.db", "owner", lambda: limits, lambda _: True)
start = time.perf_counter()
for _ in range(count):
    permit = counters.take(["api"], {"tokens": 3_000})
    assert isinstance(permit, Permit)
    counters.settle(permit, {"tokens": 3_000})
sys.stdout.write(f"{time.perf_counter() - start}\n")
