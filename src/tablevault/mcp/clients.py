"""The settings by which clients start the server."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

Client = Literal["claude", "cursor", "vscode"]


def client_settings(client: Client, db_dir: str, options: Sequence[str]) -> str:
    """Return the snippet that lets a client start the server of a vault.

    Parameters
    ----------
    client
        The client.
    db_dir
        The vault's folder.
    options
        Options of the command `mcp`.
    """
    program = Path(sys.executable).with_name("tablevault")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "tablevault.cli"]
    started = {"command": command[0], "args": [*command[1:], "--db-dir", db_dir, "mcp", *options]}
    if client == "vscode":
        return json.dumps({"servers": {"tablevault": {"type": "stdio", **started}}}, indent=2)
    return json.dumps({"mcpServers": {"tablevault": started}}, indent=2)
