"""Plain-data options of a cluster that runs rows; nothing here connects to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tablevault.errors import TVArgumentError

_FIELDS = ("address", "runtime_env", "forward_env")
_CLIENT = "ray://"

runs_rows = False
"""Whether this interpreter is a worker that runs rows for an owner on another machine."""


@dataclass(frozen=True, eq=False)
class RayOptions:
    """Cluster for rows with `executor: ray`."""

    address: str = ""
    """Ray's `address`; empty for the variable `RAY_ADDRESS`, or else a local cluster."""
    runtime_env: Mapping[str, object] = field(default_factory=dict)
    """Ray's `runtime_env`."""
    forward_env: tuple[str, ...] = ()
    """Names of environment variables to forward to workers."""
    vault: Path | None = None
    """Folder of the vault; its files are sent to workers that receive them as arguments."""

    @classmethod
    def of(cls, given: Mapping[str, object] | None) -> RayOptions:
        """Return the options given as the `ray` argument of a vault.

        Raises
        ------
        TVArgumentError
            If an option is unknown or invalid.
        """
        given = {} if given is None else given
        if not isinstance(given, Mapping):
            raise TVArgumentError(f"ray must be a mapping such as {{'address': 'auto'}}, not {given!r:.60}")
        unknown = [name for name in given if name not in _FIELDS]
        if unknown:
            raise TVArgumentError(f"ray has no option {unknown[0]!r}; it has {', '.join(_FIELDS)}")
        address = given.get("address") or ""
        if not isinstance(address, str):
            raise TVArgumentError(f"ray['address'] must be a text such as '10.0.0.1:6379', not {address!r:.60}")
        if address.startswith(_CLIENT):
            raise TVArgumentError(
                f"ray['address'] is {address!r}, which is a Ray Client address; run this on a machine of the "
                "cluster and use 'auto' or HOST:PORT"
            )
        return cls(address, _environment(given.get("runtime_env")), _forwarded(given.get("forward_env")))

    @property
    def plain(self) -> dict[str, object]:
        """The options in the form accepted by `of`."""
        return {
            "address": self.address,
            "runtime_env": dict(self.runtime_env),
            "forward_env": list(self.forward_env),
        }


def _environment(given: object) -> Mapping[str, object]:
    if given is None:
        return {}
    try:
        json.dumps(given)
    except (TypeError, ValueError):
        given = None
    if not isinstance(given, Mapping):
        raise TVArgumentError("ray['runtime_env'] must be a mapping of plain values, as Ray's own runtime_env")
    return dict(given)


def _forwarded(given: object) -> tuple[str, ...]:
    if given is None:
        return ()
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) and name for name in given):
        raise TVArgumentError("ray['forward_env'] must be a list of names of environment variables")
    return tuple(given)
