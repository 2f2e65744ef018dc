"""A sample of the resource experiments of `make torture`.

No resource is left behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tablevault

RUN = """
import json
import sys
from experiment import Budget
from resources import Amounts, Resources
figures = Resources(Amounts(200, 20, 20, 2_000_000, 20, 200)).run(Budget(600.0, 6, 0), lambda figures: None)
print(json.dumps([figures.tried, [violation.problem for violation in figures.violations]]))
"""


@pytest.mark.slow
def test_descriptors_threads_memory_and_working_folders_do_not_grow():
    # In an interpreter of its own, in which nothing else comes and goes.
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(tablevault.__file__).parents[1])])
    answer = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == [6, []]
