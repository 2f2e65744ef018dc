"""Answers to failed requests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorResponse:
    """The answer to a failed request."""

    status: int
    title: str
    text: str
