"""Exit statuses of functions that exit, and streams that cannot take everything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from waiting import PATIENCE

import tablevault
from tablevault import TableVault
from tablevault.cli.application import application

INDEX = "builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: rows\ncode_module: m\nis_custom: true\n"
OUT = (
    "builder_type: ColumnBuilder\nchanged_columns: [out]\npython_function: f\ncode_module: m\nis_custom: true\n"
    "return_type: row-wise\narguments: {x: '<<self.x[index]>>'}\n"
)
CODE = "import pandas as pd\ndef rows():\n    return pd.DataFrame({'x': [1, 2]})\ndef f(x):\n    STATEMENT\n"
EXITS = {
    "exit 0": "import sys; sys.exit(0)",
    "exit": "import sys; sys.exit()",
    "exit 256": "import sys; sys.exit(256)",
    "exit text": "raise SystemExit('bye')",
    "argparse": "import argparse; argparse.ArgumentParser().parse_args(['--nope'])",
    "Abort": "import click; raise click.Abort()",
    "Exit": "import click; raise click.exceptions.Exit(0)",
    "ClickException": "import click; raise click.ClickException('no key')",
    "UsageError": "import click; raise click.UsageError('no key')",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "EOFError": "raise EOFError",
    "BrokenPipeError": "raise BrokenPipeError(32, 'Broken pipe')",
    "TableVaultError": "from tablevault import tv_errors; raise tv_errors.TVArgumentError('nested')",
}


@pytest.fixture
def vault(tmp_path):
    return TableVault(tmp_path / "vault", author="ada", create=True)


def prepare(vault, statement):
    vault.create_code_module("m", text=CODE.replace("STATEMENT", statement))
    vault.create_table("t")
    vault.create_instance("t", builders={"t_index": INDEX, "out": OUT})


@pytest.mark.parametrize("process_id", ["", "night"])
@pytest.mark.parametrize("statement", EXITS.values(), ids=EXITS.keys())
def test_function_that_ends_the_program_is_an_error_from_outside(vault, statement, process_id):
    prepare(vault, statement)
    own = ["--process-id", process_id] if process_id else []
    result = CliRunner().invoke(application, ["--db-dir", vault.db_dir, "execute-instance", "t", *own])
    [info] = vault.get_history(operation="execute_instance")
    assert (info.status, result.exit_code) == (("paused", 4) if process_id else ("reverted", 3))
    assert "Traceback" in result.stderr
    assert "in f" in result.stderr
    if process_id:
        assert "Resume: tablevault" in result.stderr


@pytest.mark.parametrize("statement", [EXITS["exit 0"], EXITS["Exit"], EXITS["KeyboardInterrupt"]])
def test_caller_in_python_gets_the_exception_of_the_function(vault, statement):
    prepare(vault, statement)
    with pytest.raises(BaseException) as caught:
        vault.execute_instance("t", process_id="night")
    assert type(caught.value).__name__ in statement or type(caught.value) is SystemExit
    assert vault.get_process("night").status == "paused"


@pytest.mark.slow
@pytest.mark.parametrize(("statement", "status"), [(EXITS["exit 0"], 3), (EXITS["Abort"], 3), (EXITS["exit 256"], 3)])
def test_waiting_ends_as_the_process_would_have(vault, statement, status):
    prepare(vault, statement)
    process = vault.execute_instance("t", background=True)
    result = CliRunner().invoke(application, ["--db-dir", vault.db_dir, "wait-process", process])
    assert result.exit_code == status, result.stderr


def command(vault, *words, environment=(), **options):
    """Run the command line in an interpreter of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tablevault.cli", "--db-dir", vault.db_dir, *words],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(tablevault.__file__).parents[1]), **dict(environment)},
        **options,
    )


WITHOUT_OUTPUT = {
    "closed": ('exec "$@" >&-', 0, ""),
    "full": ('exec "$@" >/dev/full', 7, "Standard output cannot be written to: No space left on device."),
    "both closed": ('exec "$@" >&- 2>&-', 0, ""),
}


@pytest.mark.parametrize("streams", WITHOUT_OUTPUT)
@pytest.mark.parametrize(
    "words", ["create-table t", "get-tables", "--json get-tables", "log", "read numbers", "--help"]
)
def test_output_that_cannot_be_written_changes_only_the_status(vault, words, streams):
    vault.write("numbers", pd.DataFrame({"x": [1]}))
    shell, status, message = WITHOUT_OUTPUT[streams]
    called = [sys.executable, "-m", "tablevault", "--db-dir", vault.db_dir, *words.split()]
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *called],
        env={**os.environ, "PYTHONPATH": str(Path(tablevault.__file__).parents[1])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == (1 if message else 0)
    assert vault.get_tables() == (["numbers", "t"] if words == "create-table t" else ["numbers"])


def test_pipe_that_is_closed_early_ends_without_a_message(vault):
    reader, writer = os.pipe()
    os.close(reader)
    process = command(vault, "create-table", "t", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (process.communicate()[1], process.returncode) == (b"", 7)
    assert vault.get_tables() == ["t"]


def test_package_runs_as_the_command_line(vault):
    called = [sys.executable, "-m", "tablevault", "--db-dir", vault.db_dir, "create-table", "t"]
    environment = {**os.environ, "PYTHONPATH": str(Path(tablevault.__file__).parents[1])}
    done = subprocess.run(called, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert vault.get_process(done.stdout.strip()).operation == "create_table"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_that_meets_a_function_has_its_own_status(vault, tmp_path, number, status):
    started = tmp_path / "started"
    prepare(vault, f"open({str(started)!r}, 'w').close(); import time; time.sleep(60)")
    process = command(vault, "execute-instance", "t", stderr=subprocess.PIPE)
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == status


@pytest.mark.slow
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("options", "statuses"), [(["--process-id", "night"], [4, 4]), ([], [130, 143])])
def test_further_interrupts_do_not_change_the_status(vault, tmp_path, options, statuses, first):
    started = tmp_path / "started"
    prepare(vault, f"open({str(started)!r}, 'w').close(); import time; time.sleep(60)")
    more = ["--policy", "*.max_concurrency=2"]
    process = command(vault, "execute-instance", "t", *options, *more, stderr=subprocess.PIPE)
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(first)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.03)
    assert b"Traceback" not in process.communicate()[1]
    assert process.returncode in statuses


@pytest.mark.slow
def test_status_of_a_pause_is_told_where_no_message_can_be(vault):
    prepare(vault, "raise ValueError('no')")
    with open("/dev/full", "w") as full:
        process = command(vault, "execute-instance", "t", "--process-id", "night", stderr=full, stdout=subprocess.PIPE)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
@pytest.mark.parametrize(
    "words", [["ps"], ["log"], ["--json", "log"], ["get-process", "night"], ["get-file-tree"], ["verify"]]
)
def test_commands_print_on_streams_of_any_encoding(vault, environment, words):
    prepare(vault, "raise ValueError('na\\u00efve \\U0001f469 \\x1b[31m')")
    with pytest.raises(ValueError, match="na"):
        vault.execute_instance("t", process_id="night")
    process = command(vault, *words, environment=environment.items(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert not errors
    assert b"\x1b" not in output
    assert output.isascii()


def test_text_of_a_module_is_printed_byte_for_byte(vault):
    vault.create_code_module("m", text="# na\u00efve \x1b[31m\n")
    result = CliRunner().invoke(application, ["--db-dir", vault.db_dir, "get-code-module-str", "m"])
    assert result.stdout_bytes == "# na\u00efve \x1b[31m\n\n".encode()
