"""Rows of the catalog as records: a row that says what no row of ours could say is damage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from tablevault.names import is_file_name
from tablevault.values import InstanceRecord, ProcessRecord, TableRecord

Record = TypeVar("Record")


@contextmanager
def damage_named(what: str) -> Iterator[None]:
    """Turn what goes wrong while a row is taken apart into the one error that the store translates."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"a row of {what} is not what was written ({type(error).__name__}: {error!s:.200})") from error


# The classes that annotations name are looked up once, when a record is first made: here, before a program that freezes
# clocks lets `datetime` mean another class.
for _kind in (TableRecord, InstanceRecord, ProcessRecord):
    msgspec.json.Decoder(_kind)


def as_record(kind: type[Record], values: Mapping[Any, Any]) -> Record:
    """Return a record of values whose types are checked: SQLite stores anything in any column."""
    return msgspec.convert({str(name): value for name, value in values.items()}, type=kind)


def file_name(text: Any) -> str:
    """Return a text that becomes the name of a file or folder; raise `ValueError` if it could lead elsewhere."""
    if not isinstance(text, str) or not is_file_name(text):
        raise ValueError(f"{text!r:.100} is not the name of a file or folder")
    return text
