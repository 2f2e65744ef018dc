"""Versions of installed packages: recorded in provenance, and not compared."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of installed packages by the names that they are imported by; unknown ones are left out."""
    found = ((name, _version(name)) for name in names)
    return {name: version for name, version in found if version is not None}


@functools.cache
def _version(name: str) -> str | None:
    try:
        # Most packages are imported by their own name; the others are looked for in all of them, once.
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        distributions = _distributions().get(name, ())
        return importlib.metadata.version(distributions[0]) if distributions else None


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
