"""Source code of an execution, from vault modules and reached local modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tablevault.code.loading import read_sources
from tablevault.code.local_code import FOLDER, LocalCode, find_local_code
from tablevault.code.versions import CodeIndex


@dataclass(frozen=True)
class Sources:
    """A snapshot of code modules."""

    modules: Mapping[str, str]
    """Source of each vault module, by name."""
    local: LocalCode = field(default_factory=LocalCode)

    @cached_property
    def index(self) -> CodeIndex:
        """The index of reachable code, by function."""
        return CodeIndex(self.modules, self.local)

    @classmethod
    def of_now(cls, modules: Mapping[str, str]) -> Sources:
        """Return the vault's modules and the local ones on the current import path.

        The analysis is reused if no code has changed since the last call.
        """
        global _latest
        latest, found = _latest, cls(modules, find_local_code(modules))
        if latest != found:
            _latest = latest = found
        return latest

    @classmethod
    def of_snapshot(cls, folder: Path) -> Sources:
        """Return the code in a snapshot."""
        return cls(read_sources(folder), LocalCode.read(folder / FOLDER))


_latest = Sources({})
"""The most recently analyzed code, with cached results."""
