"""Progress is shown on request, and does not disturb other output."""

import os
import pty
import signal
import subprocess
import sys

import pytest
from jupyter_client.manager import start_new_kernel
from waiting import PATIENCE

from tablevault import TableVault
from tablevault.display.progress import Rates, builder_lines, duration
from tablevault.values.processes import BuilderProgress
from tablevault.values.progress import BuilderCounter

CODE = """
import logging
import os
import sys
import time
import pandas as pd

def numbers():
    return pd.DataFrame({"x": range(12)})

def slow(x):
    time.sleep(0.1)
    if x == 9:
        print("said [red]by", "the function[/x]", "\t", "long " * 40 + "end", flush=True)
        print("and more", end="", file=sys.stderr, flush=True)
        print(" of it", file=sys.stderr)
        logging.getLogger("job").warning("logged")
        child = os.fork()
        if not child:
            print("said by a child", flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    if x == 11 and "FAIL" in os.environ:
        raise ConnectionError("no network")
    return x
"""

SAID = "said [red]by the function[/x] \t " + "long " * 40 + "end"

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: numbers
code_module: job
is_custom: true
"""

COLUMN = """
builder_type: ColumnBuilder
changed_columns: [y]
python_function: slow
code_module: job
is_custom: true
return_type: row-wise
arguments: {x: "<<self.x[index]>>"}
"""

RUN = """
import logging, sys
logging.basicConfig(format="%(message)s")
from tablevault import TableVault
TableVault(sys.argv[1]).execute_instance("t", process_id="p")
"""


def made(parent):
    vault = TableVault(parent / "vault", create=True, author="a")
    vault.create_code_module("job", text=CODE)
    vault.create_table("t")
    vault.create_instance("t", builders={"t_index": INDEX, "slow_column": COLUMN})
    return parent / "vault"


@pytest.fixture
def folder(tmp_path):
    return made(tmp_path)


def on_a_terminal(folder, interrupt=False, **streams):
    """Run an execution whose standard error is a terminal.

    Returns the content of the terminal, and the other output.
    """
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-c", RUN, str(folder)]
    streams = {"stdout": theirs, **streams}
    with subprocess.Popen(command, stderr=theirs, env=environment, **streams) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # The other end is closed.
                break
            shown += piece
            if interrupt and b"slow_column" in shown:
                process.send_signal(signal.SIGINT)
                interrupt = False
        output = process.stdout.read() if process.stdout else b""
    os.close(ours)
    return shown.decode(), output.decode()


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    return on_a_terminal(made(tmp_path_factory.mktemp("shown")))[0]


@pytest.mark.slow
def test_a_terminal_shows_a_line_for_each_builder(shown):
    assert "slow_column" in shown
    assert "12 of 12 rows" in shown
    assert "/s" in shown
    assert "done" in shown


def test_printed_and_logged_text_is_complete_above_the_progress_lines(shown):
    for text in (SAID, "and more of it", "logged"):
        # Nothing is broken, coloured or left out, and nothing but an erased line stands before it.
        before, _, after = shown.partition(f"{text}\r\n")
        assert after
        assert before.endswith(("\n", "\x1b[2K"))
        assert "slow_column" in after
    assert "said by a child" in shown


@pytest.mark.slow
def test_failed_rows_are_counted(folder, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    shown, _ = on_a_terminal(folder)
    assert "11 of 12 rows" in shown
    assert "1 failed" in shown
    assert "Traceback" in shown


@pytest.mark.slow
def test_printed_text_goes_to_standard_output(folder):
    shown, output = on_a_terminal(folder, stdout=subprocess.PIPE)
    assert output == f"{SAID}\nsaid by a child\n"
    assert SAID not in shown
    assert "and more of it" in shown
    assert "slow_column" in shown


@pytest.mark.slow
def test_ctrl_c_leaves_the_terminal_with_its_cursor(folder):
    shown, _ = on_a_terminal(folder, interrupt=True)
    assert "KeyboardInterrupt" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert TableVault(folder).get_process("p").status == "paused"


@pytest.mark.slow
def test_progress_is_not_shown_without_a_terminal(folder):
    done = subprocess.run([sys.executable, "-c", RUN, str(folder)], capture_output=True, text=True, check=True)
    assert done.stderr == "and more of it\nlogged\n"
    assert done.stdout == f"{SAID}\nsaid by a child\n"


@pytest.mark.slow
def test_a_notebook_shows_a_line_for_each_builder_and_keeps_it_up_to_date(folder):
    manager, client = start_new_kernel(kernel_name="python3")
    shown: list[tuple[str, str, str]] = []

    def note(message):
        content = message["content"]
        if message["msg_type"] in ("display_data", "update_display_data"):
            identity = content["transient"]["display_id"]
            shown.append((message["msg_type"], identity, content["data"]["text/plain"] + content["data"]["text/html"]))
        elif message["msg_type"] == "stream":
            shown.append((content["name"], "", content["text"]))

    try:
        code = f"import sys; sys.argv = ['', {str(folder)!r}]\n{RUN}"
        reply = client.execute_interactive(code, output_hook=note, timeout=PATIENCE)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok"
    (first, *later) = [entry for entry in shown if entry[0] not in ("stdout", "stderr")]
    assert first[0] == "display_data"
    assert {(kind, identity) for kind, identity, _ in later} == {("update_display_data", first[1])}
    for text in ("slow_column", "12 of 12 rows", "done"):
        assert text in later[-1][2]
    assert f"{SAID}\n" in "".join(text for kind, _, text in shown if kind == "stdout")


def test_the_two_most_frequent_errors_are_named_with_their_counts():
    counter = BuilderCounter(1)
    counter.total, counter.failed = 10, 6
    counter.errors.update({"OSError": 1, "KeyError": 2, "ValueError": 3})
    assert counter.snapshot().errors == {"ValueError": 3, "KeyError": 2}
    (line,) = builder_lines({"answer": counter.snapshot()}, Rates())
    assert "6 failed (3 ValueError, 2 KeyError)" in line


def test_rows_that_are_skipped_or_wait_are_counted():
    progress = {"answer": BuilderProgress(10, 4, 0, False, failed=1, skipped=2, retried=7, retrying=3)}
    (line,) = builder_lines(progress, Rates(), waiting={"answer": "service api: calls_per_minute, 14 s"})
    assert {"2 skipped", "3 waiting to be retried", "waiting for service api: calls_per_minute, 14 s"} <= set(line)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3725, "1 h 2 min"), (90_000, "1 d 1 h")]
)
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text


def shown_usage(**fields):
    item = BuilderProgress(**{"total": 10, "computed": 4, "reused": 0, "done": False, **fields})
    return builder_lines({"answer": item}, Rates())[0][6]


def test_progress_shows_the_expected_cost_of_missing_rows():
    usage = {"calls": 5, "cost": 1.0, "tokens": 400}
    assert shown_usage(usage=usage) == "5 calls, 1 cost, 400 tokens; about 1.5 cost, 600 tokens more"
    assert shown_usage(usage=usage, failed=1) == "5 calls, 1 cost, 400 tokens; about 1 cost, 400 tokens more"
    assert shown_usage(usage=usage, reused=6, done=True) == "5 calls, 1 cost, 400 tokens"
    assert shown_usage(usage=usage, total=None) == "5 calls, 1 cost, 400 tokens"
    assert shown_usage(usage={"calls": 5}) == "5 calls"
