"""Layout of generated builder files, with one field per line in a fixed order."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

_TEXT = "tag:yaml.org,2002:str"
_LIKE_A_NUMBER = re.compile(r"[-+.]*\d")

_ORDER = (
    "builder_type",
    "changed_columns",
    "python_function",
    "code_module",
    "is_custom",
    "return_type",
    "for_each",
    "arguments",
    "setup_arguments",
    "untracked",
    "dtypes",
    "primary_key",
    "keep_old",
    "validate",
    "dependencies",
    "retry",
    "timeout",
    "service",
    "budget",
    "on_error",
    "max_failures",
    "max_consecutive_failures",
    "stop_on",
    "failed_inputs",
    "executor",
    "max_concurrency",
    "n_threads",
    "batch_size",
    "poll_seconds",
    "wait",
    "resources",
    "min_workers",
    "max_workers",
    "rows_per_worker",
)


def ordered(fields: Mapping[str, object]) -> dict[str, object]:
    """Return fields in the order of a builder file; unlisted fields come last."""
    known = {name: fields[name] for name in _ORDER if name in fields}
    return {**known, **{name: fields[name] for name in sorted(fields) if name not in known}}


def builder_yaml(fields: Mapping[str, object]) -> str:
    """Return a builder file with these fields, given as plain values.

    Lists and mappings take one line unless they are nested.
    """
    return "".join(_field(name, _Shown(value)) for name, value in ordered(fields).items())


class _Shown:
    """A plain value, compared by its representation; values that are equal otherwise may be written differently."""

    def __init__(self, value: object) -> None:
        self.value = value
        self._text = repr(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shown) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@functools.lru_cache(maxsize=1024)
def _field(name: str, shown: _Shown) -> str:
    """Return the lines of one field; the builders of a source share most of theirs."""
    is_nested = isinstance(shown.value, list | tuple | dict)
    text: str = yaml.dump(
        {name: shown.value},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        # A mapping of scalars would take one line, braces included, if PyYAML were to choose.
        default_flow_style=None if is_nested else False,
        width=math.inf,
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Double-quotes text that cannot be plain or resembles a number, and writes no aliases."""

    def choose_scalar_style(self) -> Any:
        style = super().choose_scalar_style()
        event = self.event
        assert isinstance(event, yaml.ScalarEvent)  # its style is chosen while it is written
        is_like_number = event.tag == _TEXT and _LIKE_A_NUMBER.match(event.value)
        return '"' if style == "'" or (style == "" and is_like_number) else style

    def ignore_aliases(self, data: object) -> bool:
        return True
