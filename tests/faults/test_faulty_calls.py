"""Injected faults miss no call that changes a file.

Every sweep relies on this.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sweeping import build_library

import tablevault

CHANGING = (
    "write|pwrite64|writev|pwritev|pwritev2|sendfile|copy_file_range|splice|fsync|fdatasync|sync_file_range|syncfs|msync"
    "|rename|renameat|renameat2|unlink|unlinkat|rmdir|mkdir|mkdirat|link|linkat|symlink|symlinkat|mknod|mknodat"
    "|truncate|ftruncate|fallocate|chmod|fchmod|fchmodat|fchmodat2|chown|fchown|lchown|fchownat|utimensat|utime|utimes"
    "|setxattr|fsetxattr|lsetxattr|removexattr|creat|io_submit|io_uring_enter"
)
CALL = re.compile(rf"^\d+\s+({CHANGING})\(")
CREATING = re.compile(r"^\d+\s+open(at)?\(.*O_CREAT")


def _seen_by_strace(log: Path) -> Counter[str]:
    """Count the calls that change files, or could, while the operation ran."""
    lines = log.read_text(errors="replace").splitlines()
    begin = next(place for place, line in enumerate(lines) if "/the-operation-begins" in line)
    end = next(place for place, line in enumerate(lines) if "/the-operation-ends" in line)
    found: Counter[str] = Counter()
    for line in lines[begin:end]:
        if match := CALL.match(line):
            found[match[1]] += 1
        elif CREATING.match(line):
            found["open"] += 1
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "operation", ["execute_copy", "execute_many_files", "write_with_artifacts", "delete_table_with_artifacts"]
)
def test_every_call_that_strace_sees_is_counted(tmp_path, operation):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("there is no strace (on Debian: apt-get install strace)")
    library, log = build_library(tmp_path), tmp_path / "log"
    command = [strace, "-f", "-o", log, "-E", f"LD_PRELOAD={library}", sys.executable, "-W", "ignore"]
    script = Path(__file__).with_name("traced_operation.py")
    source = str(Path(tablevault.__file__).parents[1])
    done = subprocess.run(
        [*map(str, command), str(script), str(tmp_path / "place"), operation],
        env={**os.environ, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seen = _seen_by_strace(log)
    assert seen.total() > 50
    assert int(done.stdout) == seen.total(), seen
    assert ("syncfs" in seen) == (operation == "execute_many_files")
