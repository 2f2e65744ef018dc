"""Placeholders in the arguments of builders.

`~ARTIFACT_FOLDER~`, `~PROCESS_ID~` and `~ENV:NAME~` are constant within a run; `~ATTEMPT~`, `~LAST_ERROR~` and
`~CALL_ID~` vary by call.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from itertools import chain

from tablevault.references import parse

ATTEMPT, LAST_ERROR, CALL_ID = "ATTEMPT", "LAST_ERROR", "CALL_ID"

PLACEHOLDER = re.compile(rf"~(ARTIFACT_FOLDER|PROCESS_ID|{ATTEMPT}|{LAST_ERROR}|{CALL_ID}|ENV:([^~\s]+))~")

_NAMES = ("ARTIFACT_FOLDER", "PROCESS_ID", ATTEMPT, LAST_ERROR, CALL_ID)
_OF_CALLS = re.compile(rf"~({ATTEMPT}|{LAST_ERROR}|{CALL_ID})~")
_WORD_IN_TILDES = re.compile(r"~\s*([A-Za-z][A-Za-z_ -]+?)\s*~")
_HALF_OPEN = re.compile(rf"~(?:{'|'.join(_NAMES)})\b|\b(?:{'|'.join(_NAMES)})~")
_VARIABLE = re.compile(r"~\s*(?:ENV\b|env:|Env:|ENV_)[^~\n]{0,40}~?")
_NEAR = 0.75


def environment_variables(value: object) -> Iterator[str]:
    """Yield the names of the environment variables in a value under `arguments`."""
    for text in _texts(value):
        yield from (match[2] for match in PLACEHOLDER.finditer(text) if match[2])


def has_placeholder(value: object) -> bool:
    """Return whether a value under `arguments` contains a placeholder."""
    return any(PLACEHOLDER.search(text) for text in _texts(value))


def differs_by_call(value: object) -> bool:
    """Return whether a value under `arguments` contains a per-call placeholder."""
    return any(_OF_CALLS.search(text) for text in _texts(value))


def names_call(value: object) -> bool:
    """Return whether a value under `arguments` contains `~CALL_ID~`."""
    return any(f"~{CALL_ID}~" in text for text in _texts(value))


def misspelt_placeholder(value: object) -> str | None:
    """Return an error message for the first misspelt placeholder in a value, or `None`."""
    pieces = (piece for text in _texts(value) for piece in parse(text).parts if isinstance(piece, str))
    return next(filter(None, map(_slip, pieces)), None)


def _slip(text: str) -> str | None:
    rest = PLACEHOLDER.sub("", text)
    if found := _VARIABLE.search(rest):
        return f"{found[0]!r} is not a placeholder; an environment variable is written ~ENV:NAME~."
    for found in chain(_WORD_IN_TILDES.finditer(rest), _HALF_OPEN.finditer(rest)):
        word = re.sub("[ -]", "_", found[0].strip("~ ")).upper()
        if near := difflib.get_close_matches(word, _NAMES, n=1, cutoff=_NEAR):
            return f"{found[0]!r} is not a placeholder; did you mean ~{near[0]}~?"
    return None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(_texts, value.values()))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(_texts, value))
