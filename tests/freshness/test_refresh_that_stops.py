"""Refreshes that end early, and are continued by the same call.

Causes are errors, interrupts, kills and stops.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
from lab import Lab, column, copied, shouted, words
from waiting import PATIENCE, until

from tablevault import TableVault, TVArgumentError, TVBuilderError, TVForcedError, TVLockError, TVProcessError
from tablevault.freshness import refresh

GATED = """
def gated(word):
    import time
    called("gated-" + word)
    deadline = time.monotonic() + 180
    while not (CALLS.parent / f"go-{word}").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(word)
        time.sleep(0.01)
    if (CALLS.parent / f"fail-{word}").exists():
        raise ValueError(word)
    if (CALLS.parent / "slow").exists():
        time.sleep(0.05)
    return word

def shout(word)"""


class Diamond(Lab):
    """Four tables whose rows fail or wait on request.

    `top` is read by `left` and `right`, which are read by `end`. A file has the requests.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.edit_code(("\ndef shout(word)", GATED))
        gated = column("gated", "lab.gated", {"word": "<<self.word[index]>>"})
        self.table("top", {**words("top", "t"), **gated}, execute=False)
        # Two words of its own each, so that files tell them apart.
        for side in ("left", "right"):
            own = {**words(side, f"{side}-1", f"{side}-2"), **gated}
            self.table(side, {**own, **column("size", "lab.joined", TOP)}, execute=False)
        end = {**copied("end", "left"), **column("size", "lab.joined", RIGHT)}
        self.table("end", end, execute=False)
        for word in ("t", "left-1", "left-2", "right-1", "right-2"):
            self.tell("go", word)

    def tell(self, what: str, *words: str) -> None:
        for word in words:
            (self.folder / f"{what}-{word}").touch()

    def untell(self, what: str, *words: str) -> None:
        for word in words:
            (self.folder / f"{what}-{word}").unlink()

    def refresh(self, **options) -> str:
        return self.vault.refresh(process_id="nightly", **options)

    def let_left_fail_at_its_end(self) -> None:
        """Make a builder overwrite the key of `left` with duplicates.

        Only its execution can find them.
        """
        self.edit_code(("\ndef shout(word)", GATED), ("return word.upper()", "return 'same'"))
        self.vault.create_builder_file("left", "word", text=shouted("word")["word"])
        self.tell("go", "same")

    def let_left_be_slow(self) -> None:
        """Let `left` take many seconds, so that a stop is seen in the middle of it."""
        many = [f"left-{number}" for number in range(1, 401)]
        self.vault.create_builder_file("left", text=words("left", *many)["left_index"])
        for word in many:
            self.tell("go", word)
        (self.folder / "slow").touch()

    @property
    def made(self) -> list[str]:
        """The tables that have an instance."""
        return [name for name in self.vault.get_tables() if self.vault.get_table_instances(name)]

    @property
    def statuses(self) -> dict[str, str]:
        """The children of the refresh, with their statuses."""
        found = [info for info in self.vault.get_history() if info.parent_id]
        return {info.process_id.removeprefix("nightly."): info.status for info in reversed(found)}

    def wait_for(self, call: str) -> None:
        until(lambda: call in self.calls_file.read_text().split())

    def interpreter(self, text: str) -> subprocess.Popen[str]:
        code = f"from tablevault import TableVault\nvault = TableVault({str(self.folder / 'vault')!r})\n"
        return subprocess.Popen(
            [sys.executable, "-c", code + textwrap.dedent(text)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


TOP = {"words": "<<top.{word}>>", "word": "<<self.word[index]>>"}
RIGHT = {"words": "<<right.{word}>>", "word": "<<self.word[index]>>"}


@pytest.fixture
def diamond(tmp_path: Path) -> Diamond:
    return Diamond(tmp_path)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_failing_step_pauses_its_child_and_the_refresh(diamond: Diamond) -> None:
    diamond.tell("fail", "left-2")
    with pytest.raises(ValueError, match="left-2") as caught:
        diamond.refresh()
    assert diamond.statuses == {"top": "succeeded", "left": "paused"}
    notes = caught.value.__notes__
    assert "in process 'nightly.left' (execute_instance of table 'left'), which is paused" in notes
    assert notes[-1].startswith("paused as 'nightly':\nresume it with\n")
    assert "refresh(process_id='nightly')" in notes[-1]
    assert sum("resume it with" in note for note in notes) == 1
    info = diamond.vault.get_process("nightly")
    assert (info.status, info.error.type, info.error.message) == ("paused", "ValueError", "left-2")
    assert "refresh --process-id nightly --all" in info.hint
    assert info.progress["left/gated"].computed == 1
    assert diamond.made == ["top"]


def test_remedies_of_a_paused_child_are_those_of_the_refresh(diamond: Diamond) -> None:
    diamond.tell("fail", "left-2")
    with pytest.raises(ValueError, match="left-2"):
        diamond.refresh()
    assert "refresh(process_id='nightly')" in diamond.vault.get_process("nightly.left").hint
    with pytest.raises(TVLockError, match=r"'nightly\.left' .* resume it with .*\.refresh\(process_id='nightly'\)"):
        diamond.vault.delete_instance("TEMP_base", "left")


def test_same_call_runs_only_the_remaining_rows_and_steps(diamond: Diamond) -> None:
    diamond.tell("fail", "left-2")
    with pytest.raises(ValueError, match="left-2"):
        diamond.refresh()
    _ = diamond.calls
    diamond.untell("fail", "left-2")
    diamond.refresh()
    assert [call for call in diamond.calls if call.startswith("gated")] == [
        "gated-left-2",
        "gated-right-1",
        "gated-right-2",
    ]
    assert set(diamond.statuses.values()) == {"succeeded"}
    assert diamond.made == ["top", "left", "right", "end"]
    info = diamond.vault.get_process("nightly")
    assert info.status == "succeeded"
    assert all(item.done for item in info.progress.values())
    assert next(iter(info.progress)) == "top/top_index"


def test_finished_children_stay_if_a_refresh_without_an_id_is_reverted(diamond: Diamond) -> None:
    diamond.tell("fail", "left-2")
    with pytest.raises(ValueError, match="left-2") as caught:
        diamond.vault.refresh()
    assert diamond.vault.get_active_processes() == {}
    assert diamond.made == ["top"]
    assert "finished steps stay" in caught.value.__notes__[-1]
    assert any("computed cells are kept" in note for note in caught.value.__notes__)
    diamond.untell("fail", "left-2")
    _ = diamond.calls
    diamond.vault.refresh()
    # What the reverted child had computed is taken over.
    assert "gated-left-1" not in diamond.calls
    assert diamond.made == ["top", "left", "right", "end"]


def test_keep_going_finishes_the_other_branch_first(diamond: Diamond) -> None:
    diamond.tell("fail", "left-2")
    with pytest.raises(ValueError, match="left-2") as caught:
        diamond.refresh(keep_going=True)
    assert diamond.made == ["top", "right"]
    assert "not begun, because they depend on it: 'end'" in caught.value.__notes__
    _ = diamond.calls
    diamond.untell("fail", "left-2")
    diamond.refresh(keep_going=True)
    assert [call for call in diamond.calls if call.startswith("gated")] == ["gated-left-2"]
    assert diamond.made == ["top", "left", "right", "end"]


def test_keep_going_raises_the_first_error_and_names_the_others(diamond: Diamond) -> None:
    diamond.tell("fail", "left-1", "right-2")
    with pytest.raises(ValueError, match="left-1") as caught:
        diamond.refresh(keep_going=True)
    assert "also failed: 'right' by ValueError: right-2" in caught.value.__notes__
    assert diamond.statuses == {"top": "succeeded", "left": "paused", "right": "paused"}
    diamond.untell("fail", "left-1", "right-2")
    diamond.refresh()
    assert diamond.made == ["top", "left", "right", "end"]


def test_internal_error_reverts_child_and_refresh(diamond: Diamond) -> None:
    # Only its execution can find that its key is not unique.
    diamond.let_left_fail_at_its_end()
    with pytest.raises(Exception, match="unique|duplicate|twice") as caught:
        diamond.refresh()
    assert caught.type.__module__.startswith("tablevault")
    assert diamond.vault.get_active_processes() == {}
    assert diamond.made == ["top"]


def test_internal_error_beside_a_paused_child_leaves_the_refresh_paused(diamond: Diamond) -> None:
    diamond.let_left_fail_at_its_end()
    diamond.tell("fail", "right-1")
    with pytest.raises(ValueError, match="right-1") as caught:
        diamond.refresh(keep_going=True)
    assert any(note.startswith("also failed: 'left' by ") for note in caught.value.__notes__)
    assert list(diamond.vault.get_active_processes()) == ["nightly", "nightly.right"]


def test_builder_that_asks_to_revert_reverts_the_refresh(diamond: Diamond) -> None:
    gated = column("gated", "lab.gated", {"word": "<<self.word[index]>>"}, on_error="revert")
    diamond.vault.create_builder_file("left", "gated", text=gated["gated"])
    diamond.tell("fail", "left-2")
    with pytest.raises(ValueError, match="left-2"):
        diamond.refresh()
    assert diamond.vault.get_active_processes() == {}


def test_error_found_while_resuming_leaves_all_paused_unchanged(diamond: Diamond) -> None:
    diamond.tell("fail", "left-2")
    with pytest.raises(ValueError, match="left-2"):
        diamond.refresh()
    diamond.edit_code(("\ndef shout(word)", GATED), ("return word.upper()", "return word.upper("))
    with pytest.raises(TVBuilderError):
        diamond.refresh()
    active = diamond.vault.get_active_processes()
    assert {name: (info.status, info.error.message) for name, info in active.items()} == {
        "nightly": ("paused", "left-2"),
        "nightly.left": ("paused", "left-2"),
    }


def test_child_that_was_resumed_by_itself_is_not_repeated(diamond: Diamond) -> None:
    diamond.tell("fail", "left-2")
    with pytest.raises(ValueError, match="left-2"):
        diamond.refresh()
    diamond.untell("fail", "left-2")
    diamond.vault.execute_instance("left", process_id="nightly.left", reuse_partial=True, skip_unchanged=True)
    _ = diamond.calls
    diamond.refresh()
    assert [call for call in diamond.calls if call.startswith("gated-left")] == []
    assert diamond.vault.get_process("nightly").progress["left/gated"].computed == 2


def test_child_that_was_stopped_meanwhile_is_followed_by_a_new_one(diamond: Diamond) -> None:
    diamond.tell("fail", "left-2")
    with pytest.raises(ValueError, match="left-2"):
        diamond.refresh()
    diamond.vault.stop_process("nightly.left")
    diamond.untell("fail", "left-2")
    _ = diamond.calls
    diamond.refresh()
    assert diamond.statuses["left"] == "stopped"
    assert diamond.statuses["left.2"] == "succeeded"
    # The first child's cells are kept beside the temporary instance.
    assert [call for call in diamond.calls if call.startswith("gated-left")] == ["gated-left-2"]


def test_policies_of_a_later_call_hold_for_the_rest(diamond: Diamond) -> None:
    diamond.tell("fail", "left-1", "left-2")
    with pytest.raises(ValueError, match="left-1"):
        diamond.refresh()
    with pytest.warns(Warning, match="2 failed rows in 'gated'"):
        diamond.refresh(policies={"left.gated": {"on_error": "collect", "max_failures": "100%"}})
    assert diamond.made == ["top", "left", "right", "end"]


def test_policies_of_a_later_call_that_match_nothing_leave_all_paused(diamond: Diamond) -> None:
    diamond.tell("fail", "left-1")
    with pytest.raises(ValueError, match="left-1"):
        diamond.refresh()
    with pytest.raises(TVArgumentError, match="'lefft.gated'"):
        diamond.refresh(policies={"lefft.gated": {"retry": 1}})
    info = diamond.vault.get_process("nightly")
    assert (info.status, info.error.message) == ("paused", "left-1")


# --- interrupts and kills ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_reaches_the_function_and_pauses_both(diamond: Diamond, number: signal.Signals) -> None:
    diamond.untell("go", "left-2")
    running = diamond.interpreter("vault.refresh(process_id='nightly')")
    diamond.wait_for("gated-left-2")
    assert diamond.vault.get_active_processes().keys() == {"nightly", "nightly.left"}
    running.send_signal(number)
    output, errors = running.communicate(timeout=PATIENCE)
    assert "paused as 'nightly'" in errors or number == signal.SIGTERM, output + errors
    assert diamond.vault.get_process("nightly").status == "paused"
    assert diamond.vault.get_process("nightly.left").status == "paused"
    diamond.tell("go", "left-2")
    _ = diamond.calls
    diamond.refresh()
    assert [call for call in diamond.calls if call.startswith("gated-left")] == ["gated-left-2"]


@pytest.mark.slow
def test_killed_refresh_goes_on_with_the_same_call(diamond: Diamond) -> None:
    diamond.untell("go", "left-2")
    running = diamond.interpreter("vault.refresh(process_id='nightly')")
    diamond.wait_for("gated-left-2")
    until(lambda: diamond.vault.get_process("nightly").progress.get("left/gated") is not None)
    running.kill()
    running.communicate(timeout=PATIENCE)
    assert {info.status for info in diamond.vault.get_active_processes().values()} == {"paused"}
    diamond.tell("go", "left-2")
    _ = diamond.calls
    diamond.refresh()
    assert "gated-t" not in diamond.calls
    assert diamond.made == ["top", "left", "right", "end"]


@pytest.mark.slow
def test_killed_refresh_without_an_id_is_reverted_with_its_child(diamond: Diamond) -> None:
    diamond.untell("go", "left-2")
    running = diamond.interpreter("vault.refresh()")
    diamond.wait_for("gated-left-2")
    running.kill()
    running.communicate(timeout=PATIENCE)
    vault = TableVault(diamond.folder / "vault")
    assert vault.get_active_processes() == {}
    assert diamond.made == ["top"]
    assert vault.verify().ok


def test_restart_resumes_the_refresh_and_its_children_once(diamond: Diamond) -> None:
    diamond.tell("fail", "left-2")
    with pytest.raises(ValueError, match="left-2"):
        diamond.refresh()
    _ = diamond.calls
    with pytest.warns(Warning, match="Restarting process 'nightly'"):
        report = TableVault(diamond.folder / "vault", restart=True).restart_report
    assert report == {"nightly": "paused again", "nightly.left": "paused again"}
    assert diamond.calls.count("gated-left-2") == 1
    diamond.untell("fail", "left-2")
    report = TableVault(diamond.folder / "vault", restart=True).restart_report
    assert report == {"nightly": "resumed", "nightly.left": "resumed"}
    assert diamond.made == ["top", "left", "right", "end"]


@pytest.mark.slow
def test_restart_leaves_children_to_a_worker_that_runs_the_refresh(diamond: Diamond) -> None:
    diamond.tell("fail", "left-2")
    diamond.refresh(background=True)
    with pytest.raises(ValueError, match="left-2"):
        diamond.vault.wait_process("nightly", timeout=PATIENCE)
    diamond.untell("fail", "left-2")
    diamond.untell("go", "left-2")
    report = TableVault(diamond.folder / "vault", restart=True).restart_report
    assert report["nightly"] == "resumed"
    assert report["nightly.left"] in ("left running", "resumed")
    diamond.tell("go", "left-2")
    diamond.vault.wait_process("nightly", timeout=PATIENCE)
    assert diamond.made == ["top", "left", "right", "end"]
    assert diamond.calls.count("gated-left-2") == 2


# --- stops ------------------------------------------------------------------------------------------------------------


def test_stopping_a_paused_refresh_stops_its_child(diamond: Diamond) -> None:
    diamond.tell("fail", "left-2")
    with pytest.raises(ValueError, match="left-2"):
        diamond.refresh()
    diamond.vault.stop_process("nightly")
    assert diamond.vault.get_active_processes() == {}
    assert diamond.statuses == {"top": "succeeded", "left": "stopped"}
    assert diamond.made == ["top"]
    with pytest.raises(TVProcessError, match="stopped"):
        diamond.refresh()


def test_materialize_is_passed_on_to_the_child(diamond: Diamond) -> None:
    diamond.tell("fail", "left-2")
    with pytest.raises(ValueError, match="left-2"):
        diamond.refresh()
    diamond.vault.stop_process("nightly", materialize=True)
    frame, instance_id = diamond.vault.get_dataframe("left")
    assert frame["gated"].tolist()[0] == "left-1"
    assert frame["gated"].isna().tolist() == [False, True]
    assert diamond.vault.get_process("nightly.left").instance_id == instance_id
    assert diamond.vault.get_process("nightly").instance_id != instance_id
    assert diamond.vault.get_active_processes() == {}


def test_materialize_is_refused_for_other_operations(diamond: Diamond) -> None:
    diamond.vault.create_code_module("other", text="x = 1", process_id="other")
    with pytest.raises((TVArgumentError, TVProcessError)):
        diamond.vault.stop_process("other", materialize=True)


@pytest.mark.slow
@pytest.mark.parametrize("materialize", [False, True])
def test_stop_of_another_interpreter_is_seen_while_a_child_works(diamond: Diamond, materialize: bool) -> None:
    diamond.let_left_be_slow()
    running = diamond.interpreter("vault.refresh(process_id='nightly')")
    diamond.wait_for("gated-left-1")
    with pytest.raises(TVProcessError, match="force=True"):
        diamond.vault.stop_process("nightly")
    diamond.vault.stop_process("nightly", force=True, materialize=materialize, timeout=PATIENCE)
    assert "TVForcedError" in running.communicate(timeout=PATIENCE)[1]
    assert diamond.vault.get_active_processes() == {}
    assert diamond.statuses == {"top": "succeeded", "left": "stopped"}
    assert diamond.made == (["top", "left"] if materialize else ["top"])
    assert TableVault(diamond.folder / "vault").verify().ok


def test_stop_between_two_children_begins_no_other(diamond: Diamond, monkeypatch: pytest.MonkeyPatch) -> None:
    original = refresh.plan_step
    context = diamond.vault._context

    def plan_step(states, selection, key):
        if key.table_name == "right":
            context.catalog.transitions.request_stop(context.catalog.processes.find("nightly").serial)
        return original(states, selection, key)

    monkeypatch.setattr(refresh, "plan_step", plan_step)
    with pytest.raises(TVForcedError):
        diamond.refresh(keep_going=True)
    assert diamond.statuses == {"top": "succeeded", "left": "succeeded"}
    assert diamond.vault.get_process("nightly").status == "stopped"


@pytest.mark.slow
def test_running_child_that_is_stopped_by_itself_pauses_the_refresh(diamond: Diamond) -> None:
    diamond.let_left_be_slow()
    running = diamond.interpreter("vault.refresh(process_id='nightly')")
    diamond.wait_for("gated-left-1")
    diamond.vault.stop_process("nightly.left", force=True, timeout=PATIENCE)
    assert "TVForcedError" in running.communicate(timeout=PATIENCE)[1]
    assert diamond.vault.get_process("nightly").status == "paused"
    (diamond.folder / "slow").unlink()
    diamond.refresh()
    assert diamond.statuses["left.2"] == "succeeded"


@pytest.mark.slow
def test_live_refresh_cannot_be_resumed_elsewhere(diamond: Diamond) -> None:
    diamond.untell("go", "left-1")
    running = diamond.interpreter("vault.refresh(process_id='nightly')")
    diamond.wait_for("gated-left-1")
    for process_id in ("nightly", "nightly.left"):
        owner = diamond.vault.get_process(process_id).owner
        assert (owner.pid, owner.alive) == (running.pid, True)
    with pytest.raises(TVProcessError, match="is running"):
        diamond.refresh()
    diamond.tell("go", "left-1")
    assert running.communicate(timeout=PATIENCE)[1] == ""
    assert diamond.made == ["top", "left", "right", "end"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_refresh_killed_at_random_moments_makes_each_table_once(diamond: Diamond, seed: int) -> None:
    choice = random.Random(seed)
    for _ in range(6):
        running = diamond.interpreter("vault.refresh(process_id='nightly', keep_going=True)")
        try:
            output, errors = running.communicate(timeout=choice.uniform(0.5, 2.5))
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate(timeout=PATIENCE)
        else:
            assert (running.returncode, output) == (0, ""), errors
    with warnings.catch_warnings():
        # It may have succeeded in the last moment before a kill.
        warnings.simplefilter("ignore")
        diamond.refresh(keep_going=True)
    vault = TableVault(diamond.folder / "vault")
    assert vault.verify().ok
    assert vault.get_active_processes() == {}
    assert [len(vault.get_table_instances(name)) for name in ("top", "left", "right", "end")] == [1, 1, 1, 1]
    assert vault.get_process("nightly").status == "succeeded"
    assert set(diamond.states().values()) == {"fresh"}
