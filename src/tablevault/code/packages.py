"""Versions of installed packages, which are recorded as provenance but do not affect reuse."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of installed packages, by import name; unknown packages are omitted."""
    found = ((name, _version(name)) for name in names)
    return {name: version for name, version in found if version is not None}


@functools.cache
def _version(name: str) -> str | None:
    try:
        # Most import names equal the distribution name; only the others need a scan of all distributions.
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        distributions = _distributions().get(name, ())
        return importlib.metadata.version(distributions[0]) if distributions else None


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
