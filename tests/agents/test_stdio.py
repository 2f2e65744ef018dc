"""The server as started by clients, over standard input and output.

Functions of the vault may print any text.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time

import anyio
import pandas as pd
import psutil
import pytest
from click.testing import CliRunner
from mcp import Client, StdioServerParameters, stdio_client
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_PROTOCOL_VERSION
from test_tools import CODE, COLUMN, INDEX
from waiting import PATIENCE

from tablevault import TableVault
from tablevault.cli.application import application


def parameters(vault, *options):
    args = ["-m", "tablevault.cli", "--db-dir", vault.db_dir, "mcp", *options]
    return StdioServerParameters(command=sys.executable, args=args, env=dict(os.environ))


def make_noisy(vault, rows):
    noise = (
        "print('noise', n, flush=True)\n    warnings.warn('noise')\n    logging.error('noise')\n    time.sleep(0.05)"
    )
    code = CODE.replace("import time", "import logging\nimport time\nimport warnings").replace(
        "time.sleep(0.05)", noise
    )
    vault.create_code_module("job", text=code)
    vault.create_table("halves")
    builders = {"halves_index": INDEX % rows, "slow": COLUMN % ("slow", "slow", "n", "n")}
    vault.create_instance("halves", builders=builders)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "version"), [("legacy", LATEST_HANDSHAKE_VERSION), (LATEST_PROTOCOL_VERSION, LATEST_PROTOCOL_VERSION)]
)
def test_clients_of_each_protocol_run_functions_that_print(vault, mode, version):
    make_noisy(vault, 10)

    async def session():
        async with Client(stdio_client(parameters(vault, "--allow-writes")), mode=mode) as client:
            assert client.protocol_version == version
            started = await client.call_tool("start_run", {"tables": ["halves"]})
            process_id = started.structured_content["facts"]["process_id"]
            with anyio.fail_after(PATIENCE):
                while True:
                    found = await client.call_tool("wait_run", {"id": process_id, "seconds": 5})
                    if found.structured_content["facts"]["is_over"]:
                        return found.structured_content["facts"]["process"]["status"]

    assert anyio.run(session) == "succeeded"
    assert vault.read("halves")["slow"].tolist() == list(range(10))


@pytest.mark.slow
def test_a_run_outlives_its_killed_server_and_another_one_finds_it(vault):
    make_noisy(vault, 300)

    started = []

    async def start():
        async with Client(stdio_client(parameters(vault, "--allow-writes"))) as client:
            found = await client.call_tool("start_run", {"tables": ["halves"]})
            started.append(found.structured_content["facts"]["process_id"])
            for server in psutil.Process().children(recursive=True):
                if "mcp" in server.cmdline():
                    server.kill()

    async def find():
        async with Client(stdio_client(parameters(vault, "--allow-writes"))) as client:
            listed = await client.call_tool("list_processes", {"status": "running"})
            begun = time.monotonic()
            found = await client.call_tool("wait_run", {"id": process_id})
            return listed.structured_content["rows"], found.structured_content["facts"], time.monotonic() - begun

    with contextlib.suppress(Exception):
        # Its client may notice.
        anyio.run(start)
    (process_id,) = started
    listed, facts, seconds = anyio.run(find)
    assert process_id in {row["process_id"] for row in listed}
    assert facts["is_over"]
    assert facts["process"]["status"] == "succeeded"
    assert seconds < 55


ENDLESS = "SELECT sum(a.n * b.n) FROM range(100000000000) a(n), range(100000000000) b(n), halves"
SERVER = """
import sys
from tablevault import TableVault
from tablevault.mcp import reading, server
reading._SECONDS = 600.0
server.serve(TableVault(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_server_whose_client_is_gone_ends_during_a_query(vault):
    vault.write("halves", pd.DataFrame({"n": [1]}))
    info = {
        "protocolVersion": LATEST_HANDSHAKE_VERSION,
        "capabilities": {},
        "clientInfo": {"name": "x", "version": "1"},
    }
    messages = [
        {"id": 1, "method": "initialize", "params": info},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "query", "arguments": {"sql": ENDLESS}}},
        {"id": 3, "method": "tools/call", "params": {"name": "overview", "arguments": {}}},
    ]
    command = [sys.executable, "-c", SERVER, vault.db_dir]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for message in messages:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()
        # The second call is answered while the first still computes.
        answered = [json.loads(process.stdout.readline())["id"] for _ in range(2)]
        process.stdin.close()
        try:
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    assert answered == [1, 3]


@pytest.mark.slow
def test_tables_that_an_agent_makes_inside_a_builder_are_children(vault, tmp_path):
    code = f"""
import os
import sys
import anyio
import pandas as pd
from mcp import Client, StdioServerParameters, stdio_client
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_PROTOCOL_VERSION


def asked(parent):
    async def session():
        args = ["-m", "tablevault.cli", "--db-dir", {vault.db_dir!r}, "mcp", "--allow-code", "--parent-id", parent]
        server = StdioServerParameters(command=sys.executable, args=args, env=dict(os.environ))
        async with Client(stdio_client(server)) as client:
            made = await client.call_tool("write_rows", {{"table": "inner", "rows": [{{"a": 1}}], "create": True}})
            refused = await client.call_tool("write_builders", {{"table": "outer", "files": {{"outer_index": "x: 1"}}}})
            return made.structured_content["facts"]["process_id"], refused.content[0].text
    return pd.DataFrame([anyio.run(session)], columns=["process", "refused"])
"""
    index = (
        "builder_type: IndexBuilder\nchanged_columns: [process, refused]\npython_function: asked\ncode_module: asking\n"
        "is_custom: true\narguments: {parent: ~PROCESS_ID~}\n"
    )
    vault.create_code_module("asking", text=code)
    vault.create_table("outer")
    vault.create_instance("outer", builders={"outer_index": index})
    vault.execute_instance("outer", process_id="outer")
    (row,) = vault.read("outer").to_dict("records")
    assert vault.get_process(row["process"]).parent_id == "outer"
    assert "is built by process 'outer'" in row["refused"]
    assert vault.read("inner")["a"].tolist() == [1]


@pytest.mark.parametrize("client", ["claude", "cursor", "vscode"])
def test_the_settings_of_a_client_start_the_server(vault, client):
    words = ["--db-dir", vault.db_dir, "mcp", "--config", client, "--allow-writes", "--tables", "stories"]
    done = CliRunner().invoke(application, words)
    assert done.exit_code == 0, done.output
    (servers,) = json.loads(done.stdout).values()
    args = servers["tablevault"]["args"]
    assert args[args.index("mcp") :] == ["mcp", "--allow-writes", "--tables", "stories"]
    assert TableVault(args[args.index("--db-dir") + 1]).get_tables() == []
