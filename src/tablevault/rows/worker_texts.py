"""Placeholders for argument texts known only to the worker of a call.

These are its environment and the folder for its files. The owner inserts marks, which the worker replaces. Marks begin
with random digits, so that a text read from a table is never mistaken for one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

_DIGITS = secrets.token_hex(16)
"""Digits in the marks of this interpreter."""

ARTIFACT_FOLDER = "ARTIFACT_FOLDER"
_VARIABLE = "ENV:"
WITHOUT_TEXTS = frozenset({int, float, bool, bytes, NoneType})
_FILE = "FILE:"


def mark_of(name: str) -> str:
    """Return the mark of a placeholder, which builder files write between tildes."""
    return f"\0{_DIGITS}:{name}\0"


def mark_of_file(key: str) -> str:
    """Return the mark of a file sent with a call."""
    return mark_of(f"{_FILE}{key}")


def digits() -> str:
    """Return the digits by which a worker recognizes this interpreter's marks."""
    return _DIGITS


class WorkerTexts:
    """Replaces marks by their texts.

    Parameters
    ----------
    digits
        Digits of the owner's marks.
    variables
        Values of the environment variables that arguments may use.
    """

    def __init__(self, digits: str, variables: Mapping[str, str]) -> None:
        self._mark = re.compile(f"\0{digits}:([^\0]+)\0")
        self._variables = variables

    def filled(self, value: Any, folder: str = "", files: Callable[[str], str] = str) -> Any:
        """Return a value under `arguments` with its marks replaced.

        Parameters
        ----------
        value
            Any value; returned unchanged if it contains no mark.
        folder
            The folder for the files of the call.
        files
            Returns the local path of a file sent with the call.
        """

        def text_of(match: re.Match[str]) -> str:
            name = match[1]
            if name == ARTIFACT_FOLDER:
                return folder
            if name.startswith(_FILE):
                return files(name.removeprefix(_FILE))
            return self._variables[name.removeprefix(_VARIABLE)]

        return mapped_texts(value, lambda text: self._mark.sub(text_of, text) if "\0" in text else text)


def mapped_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Apply a function to every text in a value, container, series or frame."""
    kind = type(value)
    if kind in WITHOUT_TEXTS:
        return value
    if kind is str:
        return change(value)
    if kind is list or kind is tuple:
        return kind(mapped_texts(item, change) for item in value)
    if kind is dict:
        return {key: mapped_texts(item, change) for key, item in value.items()}
    if kind.__module__.partition(".")[0] == "pandas" and hasattr(value, "map"):
        return _mapped_frame(value, change)
    return value


def _mapped_frame(value: Any, change: Callable[[str], str]) -> Any:
    """Apply a function to a pandas object's texts; return it if nothing changes."""
    if hasattr(value, "columns"):
        columns = {name: _mapped_frame(value[name], change) for name in value.columns}
        return value.assign(**{str(name): column for name, column in columns.items() if column is not value[name]})
    items = value.tolist()
    changed = [change(item) if type(item) is str else item for item in items]
    return value if changed == items or not hasattr(value, "dtype") else type(value)(changed, value.index, value.dtype)
