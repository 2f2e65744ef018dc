"""The command `serve`, and what happens to a vault when its server is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pandas as pd
import pytest
from asking import Client
from waiting import PATIENCE

from tablevault import TableVault


@contextmanager
def serving(folder, *options):
    """Start the command; return it with the address that it prints."""
    command = [sys.executable, "-m", "tablevault.cli", "--db-dir", str(folder), "serve", "--no-open", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process, process.stdout.readline().strip()
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
def test_command_takes_the_next_port_and_ends_with_ctrl_c(tmp_path):
    vault = TableVault(tmp_path / "vault", create=True)
    vault.write("fruits", pd.DataFrame({"fruit": ["fig"]}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving(vault.db_dir, "--port", str(port)) as (process, url):
            client = Client(url)
            assert client.port > port
            assert client.get("/index.json").json["tables"][0]["table_name"] == "fruits"
            assert client.post("/table/fruits/base/tag", tag="x").status == 403
            # A server that stands still holds nothing.
            os.kill(process.pid, signal.SIGSTOP)
            vault.write("fruits", pd.DataFrame({"fruit": ["kiwi"]}))
            vault.delete_instance(vault.get_table_instances("fruits")[0], "fruits")
            os.kill(process.pid, signal.SIGCONT)
            assert client.get("/table/fruits.json").json["instances"][0]["rows"] == 1
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (0, "")
    assert f"Port {port} is taken." in errors


@pytest.mark.slow
def test_killed_server_leaves_nothing_behind(tmp_path):
    vault = TableVault(tmp_path / "vault", create=True)
    vault.write("fruits", pd.DataFrame({"fruit": ["fig"]}))
    with serving(vault.db_dir, "--port", "0", "--allow-writes") as (process, url):
        client = Client(url)
        assert client.get("/").status == 200
        process.kill()
        process.wait()
    vault.write("fruits", pd.DataFrame({"fruit": ["kiwi"]}))
    vault.rename_table("plants", "fruits")
    assert vault.get_active_processes() == {}
    assert vault.verify().ok


def test_command_refuses_other_machines_without_a_host(tmp_path):
    from click.testing import CliRunner

    from tablevault.cli.application import application

    TableVault(tmp_path / "vault", create=True)
    command = ["--db-dir", str(tmp_path / "vault"), "serve", "--no-open", "--host", "0.0.0.0"]
    result = CliRunner().invoke(application, command)
    assert result.exit_code == 1
    assert "allow_hosts" in result.output


@pytest.mark.slow
def test_importing_the_package_loads_no_optional_library():
    optional = ("duckdb", "polars", "starlette", "uvicorn", "jinja2", "mcp", "ray")
    program = f"import sys, tablevault, tablevault.vault; print([name for name in {optional} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
