"""Names of time zones that all readers of a column know, and replacements for others."""

from __future__ import annotations

import datetime
import functools
import re
import zoneinfo

from tablevault.names import nearest

_OFFSET = re.compile(r"[+-](?:[01]\d|2[0-3]):[0-5]\d")
_WITHOUT_MEANING = frozenset({"Factory", "localtime", "posixrules"})
"""Files beside those of zones whose meaning depends on the machine."""


def check_zone(zone: str) -> str:
    """Return a valid zone name or fixed offset.

    Raises `ValueError` if it is unknown.
    """
    if not is_known_zone(zone):
        raise ValueError(f"unknown time zone {zone!r}{nearest(zone, _names())}")
    return zone


def is_known_zone(zone: str) -> bool:
    """Return whether a text is the name of a time zone, or a fixed offset."""
    return bool(_OFFSET.fullmatch(zone)) or zone in _names()


def zone_name(zone: datetime.tzinfo) -> str:
    """Return the zone name for storing times of a zone.

    It is the zone's own name if known, else UTC.
    """
    key = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if isinstance(key, str) and is_known_zone(key):
        return key
    return _offset_name(zone) if type(zone) is datetime.timezone else "UTC"


def stored_zone(zone: datetime.tzinfo) -> datetime.tzinfo:
    """Return the zone in which times of a zone are stored and read back."""
    return zone_of_name(zone_name(zone))


@functools.lru_cache(maxsize=1024)
def zone_of_name(name: str) -> datetime.tzinfo:
    """Return the time zone for a name or a fixed offset."""
    if name[0] in "+-":
        return datetime.datetime.strptime(name, "%z").tzinfo or datetime.UTC
    return zoneinfo.ZoneInfo(name)


def _offset_name(zone: datetime.timezone) -> str:
    minutes, rest = divmod(zone.utcoffset(None), datetime.timedelta(minutes=1))
    if rest or not minutes:
        return "UTC"
    hours, minutes = divmod(abs(minutes), 60)
    return f"{'-' if zone.utcoffset(None) < datetime.timedelta() else '+'}{hours:02}:{minutes:02}"


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) - _WITHOUT_MEANING
