"""A sample of R9 and R10, with all inputs that once did harm.

It has hostile input of each kind, and damage to each kind of file.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import bit_rot
import hostile_targets
import pytest
from experiment import Budget
from fuzzing import FUZZING
from hostile_mutations import mutate_bytes

import tablevault

TRIES = {
    "references": 1_500,
    "builders": 400,
    "archives": 60,
    "vaults": 8,
    "requests": 300,
    "statements": 200,
    "calls": 150,
}

REPLAY = """
import json, sys
from pathlib import Path
import hostile_targets
name, folder, inputs = sys.argv[1], Path(sys.argv[2]), json.load(sys.stdin)
target = hostile_targets.TARGETS[name](hostile_targets.Sandbox(folder))
print(json.dumps([[data, target(bytes.fromhex(data))] for data in inputs]))
"""


SLOW = frozenset({"archives", "calls", "references", "requests", "statements", "vaults"})


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in TRIES])
def test_hostile_input_runs_nothing_and_touches_nothing_outside(name, tmp_path):
    choice = random.Random(name)
    seeds = hostile_targets.seeds(name)
    inputs = [*seeds, *(mutate_bytes(choice.choice(seeds), choice) for _ in range(TRIES[name]))]
    # In an interpreter of its own: what watches it cannot be taken away again.
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REPLAY, name, str(tmp_path)],
        input=json.dumps([data.hex() for data in inputs]),
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), str(Path(tablevault.__file__).parents[1])],
            ),
        },
    )
    problems = [(data, problem) for data, problem in json.loads(answer.stdout) if problem]
    assert problems == []


@pytest.mark.slow
def test_generated_statements_of_an_ordinary_user_change_nothing():
    (experiment,) = (each for each in FUZZING if each.code == "R9g")
    figures = experiment.run(Budget(120.0, 400, seed=2), lambda figures: None)
    assert figures.violations == []
    assert figures.tried == 400


@pytest.mark.slow
def test_damaged_files_are_named_errors_and_never_wrong_frames():
    figures = bit_rot.BitRot().run(Budget(600.0, len(bit_rot.KINDS), seed=7), lambda figures: None)
    assert figures.violations == []
    assert figures.tried == len(bit_rot.KINDS)
