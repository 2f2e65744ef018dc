"""Hostile calls of agents' tools, without a socket.

Only documented answers are allowed, and no changes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mcp.server.mcpserver
import pandas as pd
from hostile_mutations import VALUES, Choices, mutate_bytes, mutate_value
from mcp import Client
from mcp.shared.exceptions import MCPError

from tablevault import TableVault, TVArgumentError
from tablevault.mcp import reading, server
from tablevault.processes import background

_SECRET = "known-to-readers-only"
"""The text of a cell: no answer of the server that does not see its table may have it."""
_SECONDS = 60.0
_MAXIMUM_CHARACTERS = 20_000
_SHARES = {"read": 0.5, "limited": 0.2, "write": 0.2, "code": 0.1}
"""Of the servers in all calls."""
_CHANGING = ("tag ", "write_rows ", "start_run ", "retry_failed ", "stop_run ")

CODE = "import pandas as pd\n\n\ndef fails(x):\n    raise ValueError(f'{x} <b>')\n"
FAILS = """
builder_type: ColumnBuilder
changed_columns: [y]
python_function: fails
code_module: job
is_custom: true
return_type: row-wise
on_error: collect
max_failures: 100%
arguments: {x: "<<self.x[index]>>"}
"""
INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: create_data_table_from_list
code_module: table_generation
is_custom: false
arguments: {vals: [1, 2, 3]}
"""

_TABLES = (
    "files", "failed", "failed(TEMP_base)", "failed@first", "files(base)", "secret", "secret@first", "none", "failed(",
    "../x", "failed(../../x)", "vault.tables", 'files"; DROP', "TEMP_base", "x" * 3000,
)  # fmt: skip
_STATEMENTS = (
    "SELECT 1", "SELECT * FROM failed", 'SELECT * FROM "failed@first"', "SELECT * FROM secret", "FROM vault.tables",
    "SELECT * FROM read_text('/etc/passwd')", "COPY failed TO '/tmp/x'", "ATTACH 'x'", "SELECT (SELECT text FROM secret)",
    "WITH failed AS (FROM secret) FROM failed", "FROM errors.failed", "FROM artifacts.secret", "FROM failed, range(5)",
    "FROM query('FROM secret')", "FROM query_table('secret')", "SELECT unnest(range(100000)), repeat('x', 5000)",
    "SUMMARIZE failed", "DESCRIBE secret", "PIVOT failed ON x", "SET memory_limit='9GB'",
)  # fmt: skip
_TEXTS = (
    "job",
    "y",
    "x",
    "file",
    "failed_index",
    "y.y",
    "first",
    "",
    "..",
    "/etc/passwd",
    "base",
    "1",
    "[1]",
    "{",
    "null",
)
_NUMBERS = (0, 1, 2, 50, -1, 2**31, 2**70, 1e308, -0.5)
_URIS = (
    "vault://tables/{}", "vault://tables/{}/{}", "vault://tables/{}/{}/builders/{}", "vault://code/{}", "file:///{}",
    "vault://{}", "vault://tables/..%2f{}", "{}",
)  # fmt: skip


class HostileCalls:
    """Servers of all levels, with what hostile clients call.

    Parameters
    ----------
    folder
        An empty folder, which takes the vaults.
    """

    def __init__(self, folder: Path) -> None:
        reading._SECONDS = 2.0
        self._vaults = {name: _made(folder / name) for name in ("kept", "code")}
        kept, coded = self._vaults.values()
        self._servers = {
            "read": server.make_server(kept, "read"),
            "limited": server.make_server(kept, "write", ["files", "failed"]),
            "write": server.make_server(coded, "write"),
            "code": server.make_server(coded, "code"),
        }
        self._unexpected: list[str] = []
        server.traceback = SimpleNamespace(print_exception=self._note)
        # What is started in the background is beside the point, and would go on.
        background.subprocess = SimpleNamespace(Popen=_refuse_to_start, PIPE=subprocess.PIPE)
        # A loop makes sockets, which nothing may do later.
        self._loop = asyncio.new_event_loop()
        listed = {
            name: self._run(made, lambda client: client.list_tools()).tools for name, made in self._servers.items()
        }
        self._tools = {
            name: {tool.name: tool.input_schema["properties"] for tool in tools} for name, tools in listed.items()
        }
        # Libraries are imported before anything is watched.
        for name in ("overview", "describe_table", "query", "diff", "trace", "get_errors", "plan_run", "view_artifact"):
            given = {"table": "failed", "tables": ["failed"], "sql": "FROM failed", "row": "0", "column": "y"}
            given.update({"before": "failed", "after": "failed@first"})
            self._call("write", name, {key: value for key, value in given.items() if key in self._tools["write"][name]})
        self._unexpected.clear()
        self._state = self._visible()

    def call(self, data: bytes) -> str:
        """Make the call that bytes stand for; say what is wrong with the answer."""
        choice = Choices(data)
        level = choice.choices(list(_SHARES), list(_SHARES.values()))[0]
        self._unexpected.clear()
        if choice.random() < 0.1:
            uri = choice.choice(_URIS)
            while "{}" in uri:
                uri = uri.replace("{}", choice.choice((*_TABLES, *_TEXTS)).replace("{}", ""), 1)
            what, answer = uri, self._read(level, uri)
        else:
            name, arguments = self._chosen(level, choice)
            what, answer = f"{name} {arguments!r:.300}", self._call(level, name, arguments)
        found = [*_faults(answer), *(f"met {error:.300}" for error in self._unexpected)]
        if level == "limited" and _SECRET in answer:
            found.append("a cell of a table that it does not see")
        now = self._visible()
        may_change = level in ("write", "code") or (level == "limited" and what.startswith(_CHANGING))
        if now != self._state and not may_change:
            found.append("the vault has changed")
        self._state = now
        return f"{level}: {what}: {'; '.join(found)}" if found else ""

    def _visible(self) -> tuple[int, int]:
        vault = self._vaults["kept"]
        return vault._listings().generation(), len(vault.get_history(limit=100_000))

    # --- calls ----------------------------------------------------------------------------------------------------

    def _chosen(self, level: str, choice: Choices) -> tuple[str, dict[str, Any]]:
        tools = self._tools[level]
        name = choice.choice(list(tools))
        if choice.random() < 0.02:
            name = choice.choice(("delete_table", "", "__init__", "write_code", "x" * 3000))
        arguments = {
            key: _argument(key, schema, choice) for key, schema in tools.get(name, {}).items() if choice.random() < 0.85
        }
        if choice.random() < 0.15:
            arguments = mutate_value(arguments, choice)
        return name, arguments if isinstance(arguments, dict) else {"x": arguments}

    def _call(self, level: str, name: str, arguments: dict[str, Any]) -> str:
        async def call(client: Client) -> Any:
            return await client.call_tool(name, arguments)

        result = self._run(self._servers[level], call)
        if isinstance(result, str):
            return result
        text = "".join(getattr(part, "text", "") for part in result.content)
        if result.structured_content is not None and json.loads(text) != result.structured_content:
            return "!data is not the text"
        return f"{'error ' if result.is_error else ''}{text}"

    def _read(self, level: str, uri: str) -> str:
        async def read(client: Client) -> Any:
            return await client.read_resource(uri)

        result = self._run(self._servers[level], read)
        return result if isinstance(result, str) else "".join(part.text for part in result.contents)

    def _run(self, made: mcp.server.mcpserver.MCPServer[Any], use: Any) -> Any:
        """Return what a client gets, or the text of the protocol's error."""

        async def session() -> Any:
            async with Client(made) as client:
                try:
                    return await use(client)
                except MCPError as error:
                    return f"protocol {error}"

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._loop.run_until_complete(asyncio.wait_for(session(), _SECONDS))

    def _note(self, error: BaseException, **_: object) -> None:
        self._unexpected.append(f"{type(error).__name__}: {error}")


def _refuse_to_start(*_: object, **__: object) -> None:
    raise TVArgumentError("Nothing is started here.")


def _made(folder: Path) -> TableVault:
    vault = TableVault(folder, author="ada", create=True)
    vault.create_code_module("job", text=CODE)
    vault.create_table("failed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            vault.create_instance("failed", builders={"failed_index": INDEX, "y": FAILS})
            vault.execute_instance("failed")
    vault.create_tag("first", {"failed": vault.get_table_instances("failed")[0]})
    vault.write("secret", pd.DataFrame({"text": [_SECRET, "b"]}))
    vault.create_table("files")
    vault.create_instance("files", external_edit=True)
    for name in ("picture.png", "notes.txt"):
        Path(vault.get_artifact_folder("files"), name).write_bytes(b"\x89PNG\r\n\x1a\n" * 3_000)
    vault.write_instance(
        pd.DataFrame({"file": ["picture.png", "notes.txt", None]}), "files", dtypes={"file": "artifact_string"}
    )
    return vault


def _argument(name: str, schema: dict[str, Any], choice: Choices) -> Any:
    if choice.random() < 0.1:
        return choice.choice(VALUES)
    match name:
        case "sql":
            statement = choice.choice(_STATEMENTS)
            return (
                mutate_bytes(statement.encode(), choice).decode("utf-8", "replace")
                if choice.random() < 0.2
                else statement
            )
        case "table" | "before" | "after":
            return choice.choice(_TABLES)
        case "tables":
            return [choice.choice(_TABLES) for _ in range(choice.randrange(3))]
        case "rows":
            return [
                {choice.choice(_TEXTS): choice.choice(VALUES) for _ in range(2)} for _ in range(choice.randrange(4))
            ]
        case "files":
            return {
                choice.choice((*_TEXTS, "../../x")): choice.choice((INDEX, FAILS, CODE))
                for _ in range(choice.randrange(3))
            }
        case "text":
            return choice.choice((CODE, "import os\nos.system('touch ran')\n", "\0", "def f(:"))
    if schema.get("type") in ("integer", "number"):
        return choice.choice(_NUMBERS)
    return choice.random() < 0.5 if schema.get("type") == "boolean" else choice.choice(_TEXTS)


def _faults(answer: str) -> list[str]:
    found = []
    if len(answer) > _MAXIMUM_CHARACTERS + len("error "):
        found.append(f"an answer of {len(answer):,} characters")
    if answer.startswith("!"):
        found.append(answer[1:])
    is_error = answer.startswith(("error ", "protocol "))
    if answer.startswith("protocol Internal") or (is_error and "Traceback (most recent" in answer):
        found.append(f"answered {answer[:300]!r}")
    if "root:" in answer:
        found.append("a file that is none of the vault's")
    return found
