"""JSON form of values about a vault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


def as_json(value: object) -> bytes:
    """Return a value as JSON, with records as objects and times in ISO 8601."""
    return msgspec.json.encode(value, enc_hook=_plain)


def plain(value: object) -> Any:
    """Return a value as plain JSON data."""
    return msgspec.json.decode(as_json(value))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
