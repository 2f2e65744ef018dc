"""Addresses: texts such as `stories(v2)` or `stories@paper` that name an instance of a table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tablevault import names
from tablevault.errors import TVArgumentError

_ADDRESS = re.compile(r"(?P<table>[^()@]+)(?:\((?P<inside>[^()@]*)\)|@(?P<tag>[^()@]*))?")


@dataclass(frozen=True)
class Address:
    """A table, and which of its instances is meant.

    Parameters
    ----------
    table_name
        The table.
    instance_id
        The id of the instance, or `@tag`; empty for the newest active one of a version.
    version
        The version, where there is no id.
    """

    table_name: str
    instance_id: str = ""
    version: str = names.DEFAULT_VERSION


def parse_address(text: str) -> Address:
    """Return the selection that an address names.

    Parameters
    ----------
    text
        `table`, `table(version)`, `table(instance id)`, `table(TEMP_version)` or `table@tag`.

    Raises
    ------
    TVArgumentError
        If it is not an address.

    Examples
    --------
    >>> parse_address("stories(v2)")
    Address(table_name='stories', instance_id='', version='v2')
    >>> parse_address("stories@paper")
    Address(table_name='stories', instance_id='@paper', version='base')
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or "" in (found["inside"], found["tag"]) or re.search(r"\s", text):
        raise TVArgumentError(
            f"{text!r:.200} is not an address. Write the table, then in parentheses a version or the id of an "
            "instance, or a tag after '@', as in 'stories', 'stories(v2)' or 'stories@paper'."
        )
    if found["tag"] is not None:
        return Address(found["table"], names.with_mark(found["tag"]))
    inside = found["inside"]
    if inside is None:
        return Address(found["table"])
    # A version has no underscore, and every id has one.
    return Address(found["table"], inside) if "_" in inside else Address(found["table"], version=inside)
