"""Kills parts of runs on a Ray cluster at random moments.

Drivers, workers and machines are killed, and runs are resumed, as often as requested.

    python tests/clusters/killed_runs.py --resumes 1000 --seed 1

No row may be lost, and a finished row may be computed again only if it was finished just before a kill.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

import tablevault
from tablevault import TableVault

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

ROWS = 150
LAST_MOMENTS = 1.5
"""Seconds before a kill in which a finished row need not be durable yet: a task, its answer, and a flush, on a busy
machine."""

NOTICED = 30.0
"""Seconds after which a cluster has noticed that a machine is lost."""

CODE = """
import os
import random
import time

import pandas as pd


def index(count):
    return pd.DataFrame({"x": range(count)})


def work(x, log):
    time.sleep(random.uniform(0.0, 0.06))
    with open(log, "a") as file:
        file.write(f"{x} {time.monotonic()} {os.getpid()}\\n")
    return x * x
"""

INDEX = {
    "builder_type": "IndexBuilder",
    "changed_columns": ["x"],
    "python_function": "index",
    "arguments": {"count": ROWS},
}
COLUMN = {
    "builder_type": "ColumnBuilder",
    "changed_columns": ["y"],
    "python_function": "work",
    "return_type": "row-wise",
    "executor": "ray",
    "min_workers": 2,
    "max_workers": 2,
}


@dataclass
class Machines:
    """A cluster of a head without cores and two machines, all of them here."""

    cluster: object = None
    nodes: list[object] = field(default_factory=list)

    def __enter__(self) -> Machines:
        from ray.cluster_utils import Cluster

        memory = {"object_store_memory": 80 * 2**20}
        self._before = set(psutil.Process().children(recursive=True))
        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory}
        )
        self.nodes = [self.cluster.add_node(num_cpus=2, wait=False, **memory) for _ in range(2)]
        self.cluster.wait_for_nodes()
        return self

    def __exit__(self, *_: object) -> None:
        for process in set(psutil.Process().children(recursive=True)) - self._before:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.cluster.shutdown()

    def lose_one(self) -> None:
        """Kill a machine, and add another one."""
        node = self.nodes.pop(0)
        node.all_processes["raylet"][0].process.kill()
        self.nodes.append(self.cluster.add_node(num_cpus=2, wait=False, object_store_memory=80 * 2**20))


@dataclass
class Figures:
    """What an experiment has done."""

    runs: int = 0
    resumes: int = 0
    drivers: int = 0
    workers: int = 0
    machines: int = 0
    again: int = 0
    """Rows computed more than once."""


class KilledRun:
    """One run, from its first driver to its end."""

    def __init__(self, folder: Path, address: str, chance: random.Random, figures: Figures) -> None:
        self.folder, self.address, self.chance, self.figures = folder / "vault", address, chance, figures
        self.log = folder / "log"
        self.log.touch()
        self.kills: list[float] = []
        self.lost: list[float] = []
        """When machines were lost, whose workers go on until the cluster notices that."""
        vault = TableVault(self.folder, author="ada", create=True)
        vault.create_code_module("killed", text=CODE)
        vault.create_table("t")
        vault.create_instance("t")
        for name, fields in (
            ([], INDEX),
            (["y"], {**COLUMN, "arguments": {"x": "<<self.x[index]>>", "log": str(self.log)}}),
        ):
            text = yaml.safe_dump({**fields, "code_module": "killed", "is_custom": True})
            vault.create_builder_file("t", *name, text=text)

    def lines(self) -> list[tuple[int, float, int]]:
        """Return row, moment and worker of each call that has ended."""
        found = [line.split() for line in self.log.read_text().splitlines()]
        return [(int(row), float(moment), int(worker)) for row, moment, worker in found]

    def run(self, machines: Machines, most: int) -> None:
        """Kill and resume until the run is done; after `most` resumes it is left alone."""
        self.figures.runs += 1
        for number in range(most + 1):
            driver = self._start()
            self.figures.resumes += number > 0
            if number < most:
                self._disturb(driver, machines)
            _, errors = driver.communicate(timeout=300)
            if driver.returncode == 0:
                break
            assert driver.returncode == -signal.SIGKILL, errors
        self.check()

    def _start(self) -> subprocess.Popen[str]:
        text = (
            "from tablevault import TableVault\n"
            f"TableVault({str(self.folder)!r}, ray={{'address': {self.address!r}}}).execute_instance('t', process_id='p')"
        )
        source = str(Path(tablevault.__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": source}
        command = [sys.executable, "-c", text]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)

    def _disturb(self, driver: subprocess.Popen[str], machines: Machines) -> None:
        """Kill workers, sometimes a machine, and finally the driver.

        The driver is killed once it computes rows.
        """
        before = len(self.lines())
        while len(self.lines()) == before and driver.poll() is None:
            time.sleep(0.02)
        kind = self.chance.random()
        time.sleep(self.chance.uniform(0.0, 0.4))
        if kind < 0.3:
            workers = [worker for *_, worker in self.lines()[-4:]]
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.chance.choice(workers), signal.SIGKILL)
            self.kills.append(time.monotonic())
            self.figures.workers += 1
        elif kind < 0.35:
            machines.lose_one()
            self.lost.append(time.monotonic())
            self.figures.machines += 1
        time.sleep(self.chance.uniform(0.0, 0.6))
        if driver.poll() is None:
            driver.kill()
            self.kills.append(time.monotonic())
            self.figures.drivers += 1

    def check(self) -> None:
        """Raise `AssertionError` if a row is lost or wrong, or was computed again without need."""
        vault = TableVault(self.folder)
        assert vault.get_process("p").status == "succeeded"
        assert vault.read("t")["y"].tolist() == [x * x for x in range(ROWS)]
        assert vault.verify().ok
        moments = defaultdict(list)
        for row, moment, _ in self.lines():
            moments[row].append(moment)
        for row, found in moments.items():
            self.figures.again += len(found) > 1
            for moment in sorted(found)[:-1]:
                needed = any(kill - LAST_MOMENTS <= moment <= kill + LAST_MOMENTS for kill in self.kills)
                needed |= any(lost - LAST_MOMENTS <= moment <= lost + NOTICED for lost in self.lost)
                assert needed, f"row {row} was finished at {moment} and computed again; kills: {self.kills}"


def killed_runs(resumes: int, seed: int, folder: Path) -> Figures:
    """Kill and resume runs until there were so many resumes; return what was done."""
    chance, figures = random.Random(seed), Figures()
    with Machines() as machines:
        while figures.resumes < resumes:
            with tempfile.TemporaryDirectory(dir=folder) as own:
                run = KilledRun(Path(own), machines.cluster.address, chance, figures)
                run.run(machines, min(12, resumes - figures.resumes))
            print(figures, file=sys.stderr, flush=True)
    return figures


def main() -> None:
    """Run the experiment, and print what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resumes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(killed_runs(arguments.resumes, arguments.seed, Path(tempfile.gettempdir())))


if __name__ == "__main__":
    main()
