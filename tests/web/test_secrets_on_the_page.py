"""The page and the tools of agents tell no secret that an error or an argument holds."""

from __future__ import annotations

import json
import warnings

import anyio
import pytest
from asking import Client

from tablevault import TableVault

SECRETS = ("sk-ENV-e9f1c2", "sk-untracked-77aa")
CODE = """
import pandas as pd

def rows():
    return pd.DataFrame({"x": range(3)})

def answer(x, auth, key):
    if x:
        error = ValueError(f"refused {x}: {auth} {key}")
        error.add_note(f"sent with {auth} and {key}")
        raise error
    return "a"
"""
COMMON = "code_module: m\nis_custom: true\n"
INDEX = f"builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: rows\nprimary_key: [x]\n{COMMON}"
ANSWER = (
    f"builder_type: ColumnBuilder\nchanged_columns: [answer]\npython_function: answer\n{COMMON}"
    "return_type: row-wise\nuntracked: [key]\n"
    "arguments: {x: '<<self.x[index]>>', auth: ~ENV:TV_TEST_SECRET~, key: sk-untracked-77aa}\n"
)


@pytest.fixture
def vault(tmp_path, monkeypatch):
    """A vault with failed rows of an instance, of a paused process and of a reverted one."""
    monkeypatch.setenv("TV_TEST_SECRET", SECRETS[0])
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_code_module("m", text=CODE)
    for name, on_error, process_id in (("done", "collect", ""), ("paused", "pause", "night"), ("undone", "pause", "")):
        vault.create_table(name)
        vault.create_instance(name, builders={f"{name}_index": INDEX, "answer": f"{ANSWER}on_error: {on_error}\n"})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                vault.execute_instance(name, process_id=process_id)
            except ValueError:
                assert name != "done"
    return vault


def check(text, place):
    for secret in SECRETS:
        # What the builder's file itself says is shown as it is written.
        assert secret not in text.replace("key: sk-untracked-77aa", "").replace("sk-untracked-77aa}", ""), place


def test_pages_about_failed_rows_tell_no_secret(vault):
    server = vault.serve(block=False)
    try:
        client = Client(server.url)
        instance = vault.get_table_instances("done")[0]
        (reverted,) = [info.process_id for info in vault.get_history() if info.status == "reverted"]
        (made,) = [info.process_id for info in vault.get_history(table_name="done", operation="execute_instance")]
        paths = ["/", "/processes", "/table/done", f"/table/done/{instance}"]
        paths += [f"/table/done/{instance}/errors", f"/table/done/{instance}/row/1"]
        paths += [f"/process/{process}" for process in ("night", reverted, made)]
        quoted = set()
        for path in paths:
            for address in (path, "/index.json" if path == "/" else f"{path}.json"):
                answer = client.send("GET", address, client.bearer)
                assert answer.status == 200, address
                check(answer.text, address)
                quoted.update({path} if "refused 1" in answer.text else ())
        assert len(quoted) >= 3, quoted
    finally:
        server.close()


def test_tools_about_failed_rows_tell_no_secret(vault):
    pytest.importorskip("mcp")
    from mcp import Client as Agent

    from tablevault.mcp.server import make_server

    server = make_server(vault, "read", ())

    async def ask():
        async with Agent(server) as agent:
            for name, arguments in (
                ("get_errors", {"table": "done"}),
                ("get_errors", {"process_id": "night"}),
                ("trace", {"table": "done", "row": "1", "column": "answer"}),
                ("list_processes", {}),
                ("get_process", {"id": "night"}),
            ):
                result = await agent.call_tool(name, arguments)
                text = "".join(item.text for item in result.content)
                check(text + json.dumps(result.structured_content), name)
                yield name, result.is_error, text

    async def all_of():
        return [item async for item in ask()]

    answers = anyio.run(all_of)
    assert not any(is_error for _, is_error, _ in answers), answers
    assert sum("refused 1" in text for _, _, text in answers) >= 3, answers
