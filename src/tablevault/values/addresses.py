"""Addresses of instances, such as `stories(v2)` or `stories@paper`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tablevault import names
from tablevault.errors import TVArgumentError

_ADDRESS = re.compile(r"(?P<table>[^()@]+)(?:\((?P<inside>[^()@]*)\)|@(?P<tag>[^()@]*))?")


@dataclass(frozen=True)
class Address:
    """Address of one instance of a table.

    Parameters
    ----------
    table_name
        The table.
    instance_id
        Instance id or `@tag`; empty for the newest active instance of `version`.
    version
        Version of the instance, if it has no id here.
    """

    table_name: str
    instance_id: str = ""
    version: str = names.DEFAULT_VERSION


def parse_address(text: str) -> Address:
    """Parse an address.

    Parameters
    ----------
    text
        `table`, `table(version)`, `table(instance id)`, `table(TEMP_version)` or `table@tag`.

    Raises
    ------
    TVArgumentError
        If the text is not an address.

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
    # Every id has an underscore; no version has one.
    return Address(found["table"], inside) if "_" in inside else Address(found["table"], version=inside)
