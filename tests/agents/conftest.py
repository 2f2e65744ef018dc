"""A vault, and a client that calls agents' tools in this interpreter."""

from __future__ import annotations

import json

import anyio
import pytest

pytest.importorskip("mcp")

from mcp import Client

from tablevault import TableVault
from tablevault.mcp.server import make_server


class Agent:
    """Calls tools of a server, one after the other."""

    def __init__(self, vault, level="read", tables=()):
        self.server = make_server(vault, level, tables)

    def call(self, name, /, **arguments):
        """Return the data of an answer; raise `AssertionError` with the text of an error."""
        result = self.result(name, **arguments)
        assert not result.is_error, result.content[0].text
        assert len(result.content[0].text) <= 20_000
        assert json.loads(result.content[0].text) == result.structured_content
        return result.structured_content

    def refused(self, name, /, **arguments):
        """Return the text of the error that a call ends with."""
        result = self.result(name, **arguments)
        assert result.is_error, result.content
        return result.content[0].text

    def result(self, name, /, **arguments):
        """Return what a call ends with."""

        async def call():
            async with Client(self.server) as client:
                return await client.call_tool(name, arguments)

        return anyio.run(call)

    def tools(self):
        """Return the tools, by name."""

        async def listed():
            async with Client(self.server) as client:
                return {tool.name: tool for tool in (await client.list_tools()).tools}

        return anyio.run(listed)

    def read(self, uri):
        """Return the text of a resource."""

        async def read():
            async with Client(self.server) as client:
                return (await client.read_resource(uri)).contents[0].text

        return anyio.run(read)


@pytest.fixture
def vault(tmp_path):
    """An empty vault."""
    return TableVault(tmp_path / "vault", author="ada", create=True)


@pytest.fixture
def agent(vault):
    """Return a function that makes an agent of a level."""
    return lambda level="read", tables=(): Agent(vault, level, tables)
