"""How much memory a large frame needs while it is written and read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tablevault

SCRIPT = """
import json, sys, threading
import numpy as np, pandas as pd, pyarrow, pyarrow.parquet, sqlalchemy
from tablevault import TableVault

def status(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

def reset_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")

rows = 3_000_000
vault = TableVault(sys.argv[1], author="ada", create=True)
vault.create_table("small"); vault.create_instance("small", external_edit=True)
vault.write_instance(pd.DataFrame({"a": [1], "t": ["x"]}), "small"); vault.get_dataframe("small")
baseline = status("VmRSS")
random = np.random.default_rng(1)
words = np.array([f"word{number}" for number in range(1000)], dtype=object)
frame = pd.DataFrame({
    "i": random.integers(0, 10**9, rows), "j": np.arange(rows), "x": random.random(rows), "y": random.random(rows),
    "s": pd.Series(words[random.integers(0, 1000, rows)], dtype="str"),
    "t": pd.Series(words[random.integers(0, 1000, rows)], dtype="str"),
    "u": pd.Series(words[random.integers(0, 1000, rows)], dtype="str"),
    "w": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(rows), unit="s"),
})
size = int(frame.memory_usage(deep=True).sum())
vault.create_table("data"); vault.create_instance("data", external_edit=True)
reset_peak()
vault.write_instance(frame, "data")
written = status("VmHWM") - baseline
total = int(frame["i"].sum())
del frame
# What the caller's own frame had, Arrow holds as well, until the next call.
import gc; gc.collect(); vault.get_dataframe("small")
left = status("VmRSS") - baseline
reset_peak()
back, _ = vault.get_dataframe("data")
assert int(back["i"].sum()) == total and len(back) == rows
read = status("VmHWM") - baseline
del back; gc.collect(); vault.get_dataframe("small")
left = max(left, status("VmRSS") - baseline)
print(json.dumps({"frame": size, "write": written, "left": left, "read": read}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks are read from Linux's /proc")
def test_large_frame_is_written_and_read_within_three_times_its_size(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(tablevault.__file__).parent.parent)}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "vault")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    peaks = json.loads(run.stdout.splitlines()[-1])
    assert peaks["write"] <= 3 * peaks["frame"], peaks
    assert peaks["read"] <= 3 * peaks["frame"], peaks
    assert peaks["left"] <= 0.4 * peaks["frame"], peaks
