"""Random tables, changed and refreshed at random.

A refresh leaves nothing to do, and repeats nothing.
"""

from __future__ import annotations

import pytest
from lab import Lab
from test_random_graphs import RANDOM_GRAPHS, RandomTables


class Refreshed(RandomTables):
    """Tables that are brought up to date by `refresh`."""

    number = 0

    def refresh(self) -> None:
        """Refresh all tables, sometimes with an error in the middle.

        Afterwards nothing is left to do.
        """
        self.number += 1
        vault, process_id = self.lab.vault, f"refresh-{self.number}"
        plan = vault.plan_refresh()
        before = self.instances()
        self.lab.calls  # noqa: B018
        keep_going = self.random.random() < 0.5
        is_done = False
        if self.random.random() < 0.5:
            self.fail_at(self.random.randint(1, 6))
            try:
                vault.refresh(process_id=process_id, keep_going=keep_going)
                is_done = True
            except ValueError:
                assert vault.get_process(process_id).status == "paused"
            self.fail_at(0)
        if not is_done:
            vault.refresh(process_id=process_id, keep_going=keep_going)
        calls = len(self.lab.calls)
        known = [step.computed for step in plan.steps if step.computed is not None]
        assert calls >= sum(known)
        if all(step.action == "skip" for step in plan.steps):
            assert (calls, self.instances()) == (0, before)
        self.check_that_nothing_is_left(process_id)

    def fail_at(self, call: int) -> None:
        """Make all calls fail after the given number of successful ones.

        0 makes no call fail.
        """
        path = self.lab.folder / "left"
        path.write_text(str(call)) if call else path.unlink(missing_ok=True)

    def instances(self) -> dict[str, list[str]]:
        return {name: self.lab.vault.get_table_instances(name, include_temp=True) for name in self.names}

    def check_that_nothing_is_left(self, process_id: str) -> None:
        vault = self.lab.vault
        assert vault.get_active_processes() == {}
        assert set(self.lab.states().values()) == {"fresh"}
        made = self.instances()
        children = [info for info in vault.get_history(limit=200) if info.parent_id == process_id]
        executed = [info.table_name for info in reversed(children) if info.operation == "execute_instance"]
        assert sorted(executed) == sorted(set(executed))
        vault.refresh(process_id=f"{process_id}-again")
        assert (self.lab.calls, self.instances()) == ([], made)
        assert vault.verify().ok


FAILING = """def called(name):
    left = CALLS.parent / "left"
    if left.exists():
        count = int(left.read_text())
        if count == 0:
            raise ValueError("no more calls")
        left.write_text(str(count - 1))
"""


def check_random_refreshes(lab: Lab, seed: int, changes: int) -> None:
    original = lab.edit_code
    lab.edit_code = lambda *edits: original(("def called(name):\n", FAILING), *edits)
    lab.edit_code()
    tables = Refreshed(lab, seed)
    for _ in range(changes):
        for _ in range(tables.random.randint(1, 3)):
            tables.change()
        tables.refresh()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_refresh_leaves_nothing_to_do(lab: Lab, seed: int) -> None:
    check_random_refreshes(lab, seed, changes=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 100 + RANDOM_GRAPHS))
def test_refresh_leaves_nothing_to_do_many_times(lab: Lab, seed: int) -> None:
    check_random_refreshes(lab, seed, changes=8)
