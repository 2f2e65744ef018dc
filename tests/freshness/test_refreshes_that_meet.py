"""Refreshes whose tables other processes change between the plan of a step and its beginning."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from lab import Lab, column, copied, shouted, words
from waiting import PATIENCE, until

from tablevault import TableVault, TVArgumentError, TVBuilderError, TVLockError
from tablevault.freshness import refresh

Meet = Callable[[str, Callable[[], object]], list[str]]


@pytest.fixture
def chain(lab: Lab) -> Lab:
    """A table `a` with new words, and a table `b` that reads it."""
    lab.table("a", {**words("a", "x", "y"), **shouted()})
    lab.table("b", {**copied("b", "a"), **shouted()})
    lab.edit("a", words("a", "x", "y", "z"))
    _ = lab.calls
    return lab


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch) -> Meet:
    """Let another process act once, after the first step of a table is planned; returns the planned tables."""

    def prepare(table_name: str, act: Callable[[], object]) -> list[str]:
        original, planned = refresh.plan_step, []

        def plan_step(states, selection, key):
            following = original(states, selection, key)
            planned.append(key.table_name)
            if planned.count(table_name) == 1 and planned[-1] == table_name:
                act()
            return following

        monkeypatch.setattr(refresh, "plan_step", plan_step)
        return planned

    return prepare


def other(lab: Lab, **options) -> TableVault:
    return TableVault(lab.folder / "vault", author="bob", **options)


def instances(lab: Lab) -> dict[str, int]:
    return {name: len(lab.vault.get_table_instances(name, include_temp=True)) for name in ("a", "b")}


def test_edited_table_that_another_process_executed_counts_as_refreshed(chain: Lab, meet: Meet) -> None:
    planned = meet("a", lambda: other(chain).execute_instance("a"))
    chain.vault.refresh(process_id="nightly")
    assert planned == ["a", "a", "b"]
    assert instances(chain) == {"a": 2, "b": 2}
    assert chain.calls.count("shout") == 2, "the word `z` once in each table"


def test_stale_table_that_another_process_refreshed_counts_as_refreshed(chain: Lab, meet: Meet) -> None:
    meet("b", lambda: other(chain).refresh("b"))
    chain.vault.refresh(process_id="nightly")
    assert instances(chain) == {"a": 2, "b": 2}
    assert chain.calls.count("shout") == 2, "the word `z` once in each table"


def test_copy_that_another_process_made_meanwhile_is_executed(chain: Lab, meet: Meet) -> None:
    meet("b", lambda: other(chain).create_instance("b", copy=True))
    chain.vault.refresh(process_id="nightly")
    assert instances(chain) == {"a": 2, "b": 2}
    assert list(chain.vault.read("b")["loud"]) == ["X", "Y", "Z"]


def test_outdated_copy_that_another_process_deleted_is_made_again(chain: Lab, meet: Meet) -> None:
    first = chain.vault.get_table_instances("b")[-1]
    chain.again("b", shouted("louder"))
    chain.vault.create_instance("b", origin_id=first)
    planned = meet("b", lambda: other(chain).delete_instance("TEMP_base", "b"))
    chain.vault.refresh(process_id="nightly")
    assert planned == ["a", "b", "b"]
    assert instances(chain) == {"a": 2, "b": 3}
    assert list(chain.vault.read("b")["louder"]) == ["X", "Y", "Z"]


def test_step_that_is_refused_for_another_reason_is_planned_once(chain: Lab, meet: Meet) -> None:
    planned = meet("b", lambda: chain.edit_code(("def shout(", "def whisper(")))
    with pytest.raises(TVBuilderError, match="shout"):
        chain.vault.refresh()
    assert planned == ["a", "b"]


def test_step_is_given_up_if_its_table_changes_each_time(chain: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    original, planned = refresh.plan_step, []

    def plan_step(states, selection, key):
        following = original(states, selection, key)
        planned.append(key)
        chain.vault.delete_instance("TEMP_base", "a")
        chain.edit("a", words("a", *map(str, range(len(planned)))))
        chain.edit_code(("def shout(", "def whisper("))
        return following

    monkeypatch.setattr(refresh, "plan_step", plan_step)
    monkeypatch.setattr(refresh, "_MAXIMUM_PLANS", 3)
    with pytest.raises(TVBuilderError, match="shout"):
        chain.vault.refresh("a")
    assert len(planned) == 3


# --- locks ------------------------------------------------------------------------------------------------------------

GATED = """
def gated(word):
    import time
    called("gated")
    deadline = time.monotonic() + 180
    while not (CALLS.parent / "go").exists():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)
    return word

def shout(word)"""


@pytest.fixture
def busy(chain: Lab):
    """A process that executes `a` until the file `go` exists."""
    chain.edit_code(("\ndef shout(word)", GATED))
    chain.vault.delete_instance("TEMP_base", "a")
    chain.edit("a", {**words("a", "x", "y", "z"), **column("loud", "lab.gated", {"word": "<<self.word[index]>>"})})
    _ = chain.calls
    thread = threading.Thread(target=lambda: other(chain).execute_instance("a", process_id="busy"))
    thread.start()
    until(lambda: "gated" in chain.calls_file.read_text())
    yield chain
    (chain.folder / "go").touch()
    thread.join(PATIENCE)


def release_when_planned(lab: Lab, meet: Meet) -> None:
    """End the busy process once the refresh has planned its step, so that its child waits or is refused."""
    meet("a", lambda: threading.Timer(0.1, (lab.folder / "go").touch).start())


def test_refresh_that_waited_for_an_execution_goes_on(busy: Lab, meet: Meet) -> None:
    release_when_planned(busy, meet)
    other(busy, lock_timeout=PATIENCE).refresh(process_id="nightly")
    assert instances(busy) == {"a": 2, "b": 2}
    assert busy.calls.count("gated") == 3


def test_refresh_that_waits_too_long_is_refused_without_another_plan(busy: Lab, meet: Meet) -> None:
    planned = meet("a", lambda: None)
    with pytest.raises(TVLockError, match="'busy'"):
        other(busy, lock_timeout=0.01).refresh(process_id="nightly")
    assert planned == ["a"]


@pytest.mark.parametrize(
    "call",
    [
        lambda vault: vault.execute_instance("a"),
        lambda vault: vault.create_builder_file("a", "loud", text=shouted()["loud"]),
    ],
)
def test_call_that_waited_in_vain_names_the_process_that_came_first(busy: Lab, call) -> None:
    threading.Timer(0.1, (busy.folder / "go").touch).start()
    by_another = r"'busy' \(execute_instance by bob\).*in the meantime, as 'base_\d+"
    with pytest.raises(TVArgumentError, match=by_another) as told:
        call(other(busy, lock_timeout=PATIENCE))
    assert "create_instance('a', version='base', copy=True) makes another one" in str(told.value)
    with pytest.raises(TVArgumentError, match="create one with create_instance"):
        call(other(busy))
