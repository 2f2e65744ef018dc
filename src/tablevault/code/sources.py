"""The code that an execution runs, as text: the vault's modules, and the local ones that they reach."""

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
    """Code modules at one time."""

    modules: Mapping[str, str]
    """Text of each module of the vault, by its name."""
    local: LocalCode = field(default_factory=LocalCode)

    @cached_property
    def index(self) -> CodeIndex:
        """The code that each of their functions reaches."""
        return CodeIndex(self.modules, self.local)

    @classmethod
    def of_now(cls, modules: Mapping[str, str]) -> Sources:
        """Return the modules of the vault with the local ones that are found on the import path now.

        Code that has not changed since the last call is not analyzed again.
        """
        global _latest
        latest, found = _latest, cls(modules, find_local_code(modules))
        if latest != found:
            _latest = latest = found
        return latest

    @classmethod
    def of_snapshot(cls, folder: Path) -> Sources:
        """Return the code that a snapshot holds."""
        return cls(read_sources(folder), LocalCode.read(folder / FOLDER))


_latest = Sources({})
"""The code that was analysed last, with the results."""
