"""The share of a conversation taken by the list of agents' tools (S11)."""

from __future__ import annotations

from typing import Any

import anyio

from benchmarks import vaults
from benchmarks.measuring import Result, empty_folder

_MOST = {"read": 8_000, "code": 12_000}
"""Bytes of the list, by level; `code` has the tools of all levels."""


def lists_of_tools() -> list[Result]:
    """The size of `tools/list`, as JSON (S11)."""
    from tablevault.mcp.server import make_server

    results = []
    with empty_folder() as folder:
        vault = vaults.new_vault(folder)
        for level, most in _MOST.items():
            size = anyio.run(_size, make_server(vault, level))  # type: ignore[arg-type]
            what = f"size of tools/list, {'the level that reads' if level == 'read' else 'all levels'}"
            measured, target = f"{size / 1e3:.1f} kB", f"≤ {most / 1e3:.0f} kB"
            results.append(Result("S11", what, measured, "", size / 1e3, target, size <= most, unit=" kB"))
    return results


async def _size(server: Any) -> int:
    from mcp import Client

    async with Client(server) as client:
        listed = await client.list_tools()
    return len(listed.model_dump_json(exclude_none=True, by_alias=True).encode())
