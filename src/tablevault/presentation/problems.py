"""Why a request cannot be answered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """An answer that is not the one that was asked for."""

    status: int
    title: str
    text: str
