"""The texts of a source, and the comment that names their origin."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

import msgspec

from tablevault.texts.plain import in_line

_DIGITS = 32
"""Number of hexadecimal digits of the digest."""
_COMMENT = re.compile(rf"# from (.+), applied ([0-9a-f]{{{_DIGITS}}})")


class ModuleText(msgspec.Struct, frozen=True, kw_only=True):
    """A code module."""

    name: str
    file: str
    """Name of the definitions file."""
    path: str
    """Absolute path of the definitions file; only a name for a notebook cell."""
    text: str
    """Text without the comment."""


class BuilderText(msgspec.Struct, frozen=True, kw_only=True):
    """A builder file."""

    name: str
    file: str
    """Name of the definitions file."""
    text: str
    """Text without the comment."""
    written: str = ""
    """Its fields as JSON, as in the source, before they are bound to the vault's columns; empty in records of earlier
    versions."""


class TableTexts(msgspec.Struct, frozen=True, kw_only=True):
    """A table with its builders."""

    name: str
    allow_multiple_artifacts: bool
    has_side_effects: bool
    description: str
    builders: tuple[BuilderText, ...]


class ServiceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """A service."""

    name: str
    limits: dict[str, int | float]


class SourceTexts(msgspec.Struct, frozen=True, kw_only=True):
    """All definitions of a source."""

    files: tuple[str, ...]
    """Names of its files, in the form of comments."""
    modules: tuple[ModuleText, ...]
    tables: tuple[TableTexts, ...]
    services: tuple[ServiceLimits, ...] = ()

    def is_same_source(self, other: SourceTexts) -> bool:
        """Return whether both are of the same source, regardless of the vault's state."""
        return _unbound(self) == _unbound(other)


class Stamp(NamedTuple):
    """The comment of an applied file."""

    file: str
    """Name of the definitions file."""
    is_right: bool
    """Whether its digest matches the content, so that the file is unedited."""


def _unbound(texts: SourceTexts) -> SourceTexts:
    """Return texts with builders as in the source, not bound to the vault."""
    replace = msgspec.structs.replace
    tables = (
        replace(
            table,
            builders=tuple(replace(item, text="") if item.written else item for item in table.builders),
        )
        for table in texts.tables
    )
    return replace(texts, tables=tuple(tables))


def stamped_builder(builder: BuilderText) -> str:
    """Return a builder file with its comment as the first line."""
    return f"{_comment(builder.file, builder.text)}\n{builder.text}"


def stamped_module(module: ModuleText) -> str:
    """Return a module with its comment as the last line, which keeps line numbers."""
    return f"{module.text}{_comment(module.file, module.text)}\n"


def split_builder(text: str) -> tuple[str, Stamp | None]:
    """Split a builder file into its content and its comment, if any."""
    first, _, rest = text.partition("\n")
    stamp = _stamp(first, rest)
    return (text, None) if stamp is None else (rest, stamp)


def split_module(text: str) -> tuple[str, Stamp | None]:
    """Split a module into its content and its comment, if any."""
    before, newline, last = text.removesuffix("\n").rpartition("\n")
    stamp = _stamp(last, rest := before + newline)
    return (text, None) if stamp is None else (rest, stamp)


def comment_name(file: str) -> str:
    """Return the name of a file in the form of comments."""
    return in_line(file)


def _comment(file: str, rest: str) -> str:
    return f"# from {comment_name(file)}, applied {_digest(rest)}"


def _stamp(line: str, rest: str) -> Stamp | None:
    match = _COMMENT.fullmatch(line)
    return None if match is None else Stamp(match[1], match[2] == _digest(rest))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]
