"""Secret values to redact, from environment variables and untracked arguments."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import chain, islice

from tablevault.builders.placeholders import environment_variables, has_placeholder
from tablevault.builders.spec import BuilderSpec
from tablevault.references import parse

_MAXIMUM_VALUES = 10_000
"""Maximum number of values per argument, which may be a whole column."""
_LEAST_DIGITS = 6
"""Shorter numbers are not treated as secrets: they are usually settings, and occur in any text by chance."""


def written_secrets(spec: BuilderSpec) -> Iterator[tuple[str, str]]:
    """Yield the row-independent secrets of a builder file, each with its replacement."""
    for value in spec.written_values:
        for name in environment_variables(value):
            if name in os.environ:
                yield os.environ[name], f"[~ENV:{name}~]"
    for name in spec.untracked:
        if name in spec.arguments and not _has_reference(spec.arguments[name]):
            yield from _marked(name, spec.arguments[name])


def given_secrets(spec: BuilderSpec, arguments: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the values of a call's untracked arguments, each with its replacement."""
    for name in spec.untracked:
        if name in arguments:
            yield from _marked(name, arguments[name])


def _marked(name: str, value: object) -> Iterator[tuple[str, str]]:
    for text in islice(_leaves(value), _MAXIMUM_VALUES):
        if not has_placeholder(text):
            yield text, f"[untracked: {name}]"


def _has_reference(value: object) -> bool:
    return any(len(parse(text).parts) > 1 or "<<" in text for text in _leaves(value))


def _leaves(value: object) -> Iterator[str]:
    """Yield the texts and long numbers in a value, recursively."""
    if isinstance(value, str):
        yield str.__str__(value)
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        text = repr(value)
        if sum(map(str.isdigit, text)) >= _LEAST_DIGITS:
            yield text
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(_leaves, value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from chain.from_iterable(map(_leaves, value))
    elif hasattr(value, "to_dict") and hasattr(value, "columns"):
        yield from chain.from_iterable(_leaves(value[column].tolist()) for column in value.columns)  # type: ignore[index]
    elif hasattr(value, "tolist"):
        yield from _leaves(value.tolist())
