"""R3, power losses at random moments.

A real file system forgets everything that has not reached its disk.
"""

from __future__ import annotations

import copy
import fcntl
import gc
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiment import Budget, CannotRunHereError, Figures, Watch
from invariants import wrong_leftovers, wrong_locks, wrong_modes
from power_workload import CODE, Model, Step, parse, replay, shown, work
from side_by_side import Case, Tried, Trier, try_all
from warmth import warm_up

from tablevault import TableVault

LOSSES = 5
"""How often the power goes in the life of one vault."""
SHUT_DOWN = 0x8004587D
"""`EXT4_IOC_SHUTDOWN`."""
WITHOUT_FLUSHING = 2
DISK_BYTES = 48 << 20
BEATS = 3
"""A row that was finished so many beats of the disk before the power went has to be durable."""


class Disk:
    """An ext4 file system in a file, which can lose its power."""

    def __init__(self, root: Path, place: Path) -> None:
        self._pristine, self._image, self.place = root / "pristine", root / "disk", place
        with self._pristine.open("wb") as file:
            file.truncate(DISK_BYTES)
        _run("mkfs.ext4", "-q", "-F", "-J", "size=4", str(self._pristine))

    def renew(self) -> None:
        """Take an empty disk, and mount it."""
        shutil.copyfile(self._pristine, self._image)
        self.mount()

    def mount(self) -> None:
        """Mount it; ext4 replays its journal."""
        _run("mount", "-o", "loop", str(self._image), str(self.place))

    def lose_power(self) -> None:
        """Let nothing reach the disk any more."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUT_DOWN, struct.pack("I", WITHOUT_FLUSHING))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Unmount it; what a killed process held may take a moment to be let go."""
        for _ in range(200):
            if subprocess.run(["umount", str(self.place)], capture_output=True, check=False).returncode == 0:
                return
            gc.collect()
            time.sleep(0.01)
        raise RuntimeError(f"{self.place} cannot be unmounted")

    def is_mounted(self) -> bool:
        """Tell whether it is mounted."""
        return self.place.is_mount()


class Life:
    """A vault that loses its power a few times."""

    def __init__(self, disk: Disk, held: Any, case: Case) -> None:
        self._disk, self._held = disk, held
        self._folder = disk.place / "vault"
        self._choice = random.Random(case["seed"])
        self._model = Model()
        self._unfinished: Step | None = None
        self._rows: dict[int, list[tuple[float, int]]] = defaultdict(list)
        """Of the execution on its way: when each row was finished, in which life of the machine."""
        self._beats: dict[int, list[float]] = {}
        self.slowest_recovery = 0.0

    def live(self) -> tuple[int, str]:
        """Lose power a few times; return how often it went, and what was wrong then."""
        vault = TableVault(self._folder, create=True, author="a")
        vault.create_code_module("job", text=CODE)
        del vault
        self._let_go()
        for number in range(LOSSES):
            if problem := self._lose_power_once(number):
                return number + 1, f"after loss {number + 1}: {problem}"
        return LOSSES, ""

    def _lose_power_once(self, number: int) -> str:
        seed = self._choice.randrange(10**9)
        told = self._work_until_power_goes(seed, self._choice.uniform(0.0, 0.4))
        self._disk.unmount()
        self._disk.mount()
        found = parse(told)
        acknowledged, step = replay(self._model, random.Random(seed), self._unfinished, len(found["done"]))
        begun = time.monotonic()
        vault = TableVault(self._folder, author="check")
        self.slowest_recovery = max(self.slowest_recovery, time.monotonic() - begun)
        problem = self._wrong(vault, acknowledged, step) or self._computed_twice(number, found)
        self._go_on(vault, step, bool(found["done"]))
        del vault
        self._let_go()
        return f"{problem}; on its way was: {step.text}" if problem else ""

    def _work_until_power_goes(self, seed: int, seconds: float) -> str:
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.close(ours)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Its threads fail noisily when the disk is gone.
                work(self._folder, copy.deepcopy(self._model), random.Random(seed), self._unfinished, theirs)
            finally:
                os._exit(0)
        os.close(theirs)
        time.sleep(seconds)
        # The processor stops with the disk: a call that the kernel lets return afterwards was never acknowledged.
        os.kill(child, signal.SIGSTOP)
        self._disk.lose_power()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(ours, "rb") as pipe:
            return pipe.read().decode()

    def _wrong(self, vault: TableVault, acknowledged: Model, step: Step) -> str:
        """Return what is wrong after the machine is on again."""
        active = vault.get_active_processes()
        if set(active) - {step.process_id}:
            return f"active are {sorted(active)}"
        if problems := vault.verify().problems:
            return f"verify finds {problems}"
        here, after = shown(vault), copy.deepcopy(acknowledged)
        step.change(after)
        if here not in (acknowledged, after):
            return f"acknowledged was {acknowledged}, there is {here}"
        self._model = here
        return (
            wrong_locks(self._folder, active)
            or wrong_leftovers(self._folder, len(active))
            or wrong_modes(vault, self._folder)
        )

    def _computed_twice(self, number: int, found: dict[str, list[Any]]) -> str:
        """Return the durable rows that were computed again after a power loss."""
        self._beats[number] = found["beat"]
        if found["done"]:
            self._rows.clear()  # They belong to executions that have ended, or begun since.
            return ""
        for row, moment in found["row"]:
            for earlier, life in self._rows[row]:
                beats = sum(begun > earlier for begun in self._beats[life])
                if beats >= BEATS:
                    return f"row {row} was finished {beats} beats before the power went, and was computed again"
            self._rows[row].append((moment, number))
        return ""

    def _go_on(self, vault: TableVault, step: Step, has_moved: bool) -> None:
        """Begin the next time with what is paused."""
        is_paused = step.process_id in vault.get_active_processes() if step.process_id else False
        if has_moved or not is_paused:
            self._rows.clear()
        self._unfinished = step if is_paused else None

    def _let_go(self) -> None:
        gc.collect()
        self._held.close()


@contextmanager
def losing_power() -> Iterator[Trier]:
    """Try lives of vaults."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="tablevault-power-", dir=memory, ignore_cleanup_errors=True) as root:
        place = Path(root) / "place"
        held = warm_up(place)
        place.mkdir()
        disk = Disk(Path(root), place)

        def trier(case: Case) -> Tried:
            disk.renew()
            try:
                life = Life(disk, held, case)
                losses, problem = life.live()
                return Tried(problem, {"recovery": life.slowest_recovery}, losses)
            finally:
                held.close()
                disk.unmount()

        yield trier


class PowerLoss:
    """Power loss on ext4."""

    code, unit, target, minutes = "R3", "power losses", 5_000, 12.0
    title = "power loss at random moments on ext4: what had not reached the disk is gone"

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Let vaults live, each with a few losses."""
        check_means()
        lives = ({"seed": f"{budget.seed}-{number}"} for number in range(-(-budget.tries // LOSSES)))
        # Half of the time is spent waiting for the kernel to let a disk go.
        workers = budget.workers if budget.workers == 1 else 2 * budget.workers
        return try_all(lives, losing_power, replace(budget, workers=workers), watch)

    def repeat(self, case: dict[str, Any]) -> str:
        """Repeat the workload of a case.

        The moments of the losses are the same only roughly.
        """
        check_means()
        with losing_power() as trier:
            return trier(case).problem


def check_means() -> None:
    """Raise `CannotRunHereError` where disks cannot be made and mounted."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise CannotRunHereError("power losses need Linux and root, to mount a file system and cut it off")
    if shutil.which("mkfs.ext4") is None:
        raise CannotRunHereError("there is no mkfs.ext4 (on Debian: apt-get install e2fsprogs)")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRunHereError(f"{' '.join(command)}: {done.stderr.strip()}")
