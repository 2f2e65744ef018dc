"""Command line of TableVault.

Only click is imported when it starts; each command imports its own dependencies.
"""

from __future__ import annotations

from tablevault.cli.application import main

__all__ = ["main"]
