"""Valid names of tables, versions, builders, modules and processes."""

from __future__ import annotations

import difflib
import re
import uuid
from collections.abc import Iterable

from tablevault.errors import TVArgumentError

DEFAULT_VERSION = "base"
TEMPORARY_PREFIX = "TEMP_"
MAXIMUM_NAME_LENGTH = 128
MAXIMUM_PROCESS_ID_LENGTH = 200
_FILE_NAME = re.compile(r"[^/\\\0]+")
_MAXIMUM_FILE_NAME_LENGTH = 255
"""In bytes, the limit of file systems."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_MATERIALIZED = re.compile(r"[A-Za-z0-9-]+_[0-9]+_[0-9a-f]{32}")
_TAG_MARK = "@"
"""Prefix of a tag in place of an instance id."""
_RESERVED_TAGS = frozenset({"newest", "latest"})
_PROCESS_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

# Folders of a vault, and names that file systems reserve: both would collide on disk.
_FORBIDDEN = frozenset(
    {"self", "artifacts", "metadata", "code_functions", "locks", "builders", "_temp", "partial", "code", "provenance"}
    | {"archived_trash", "worker_logs", "owners", "checkpoints", "earlier", "staged", "unfinished_code"}
    | {"con", "prn", "aux", "nul"}
    | {f"{device}{number}" for device in ("com", "lpt") for number in range(10)}
)


_NAMESPACES = re.compile(r"\btablevault_(?:code|local)\.[0-9a-f]+\.")
"""Prefix of the names of modules that come from a snapshot of the code."""


def fold(name: str) -> str:
    """Return the form for comparing names, which are unique regardless of case."""
    return name.casefold()


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a clause with the nearest known names, to be appended to an error message.

    Examples
    --------
    >>> nearest("storys", ["stories", "images"])
    "; did you mean 'stories'?"
    """
    names = sorted(set(known))
    by_key = {fold(candidate): candidate for candidate in names}
    close = [by_key[key] for key in difflib.get_close_matches(fold(name), by_key, n=3, cutoff=0.5)]
    if close:
        return f"; did you mean {' or '.join(repr(candidate) for candidate in close)}?"
    if not names:
        return "; there are none yet"
    listed = ", ".join(repr(candidate) for candidate in names[:5])
    return f"; there {'is' if len(names) == 1 else 'are'} {listed}{', …' if len(names) > 5 else ''}"


def nearest_or(name: str, known: Iterable[str], advice: str) -> str:
    """Return a clause with the nearest known names, if any, and with advice.

    Examples
    --------
    >>> nearest_or("storys", ["stories"], "create_table makes one")
    "; did you mean 'stories'? create_table makes one"
    """
    names = list(known)
    clause = nearest(name, names) if names else ""
    return f"{clause} {advice}" if clause.endswith("?") else f"{clause}; {advice}"


def check_table_name(name: str) -> str:
    """Return `name` if it is valid for a table; raises `TVArgumentError` otherwise."""
    return _check("Table Name", name)


def check_builder_name(name: str) -> str:
    """Return `name` without a `.yaml` ending if it is valid for a builder; raises `TVArgumentError` otherwise."""
    return _check("Builder Name", name.removesuffix(".yaml") if isinstance(name, str) else name)


def check_module_name(name: str) -> str:
    """Return `name` without a `.py` ending, if it is a valid module name.

    Raises `TVArgumentError` otherwise.
    """
    return _check("Code Module Name", name.removesuffix(".py") if isinstance(name, str) else name)


def check_service_name(name: str) -> str:
    """Return `name` if it is valid for a service; raises `TVArgumentError` otherwise."""
    return _check("Service Name", name)


def check_version(version: str) -> str:
    """Return the version (`base` for `""`) if it is valid; raises `TVArgumentError` otherwise."""
    if version == "":
        return DEFAULT_VERSION
    _check("Version", version)
    if "_" in version:
        raise TVArgumentError(f"Forbidden Version: {version} (a version cannot contain '_'; use '-')")
    return version


def check_tag(tag: str) -> str:
    """Return `tag` if it is valid for an instance; raises `TVArgumentError` otherwise."""
    _check_characters("Tag", tag)
    key = fold(tag)
    if key in _RESERVED_TAGS or key.startswith(fold(TEMPORARY_PREFIX)) or is_materialized(key):
        raise TVArgumentError(f"Forbidden Tag: {tag} (it is reserved for another way of naming an instance)")
    return tag


def check_process_id(process_id: str) -> str:
    """Return `process_id` if it is valid for a process; raises `TVArgumentError` otherwise."""
    if not isinstance(process_id, str):
        kind = type(process_id).__name__
        raise TVArgumentError(f"Forbidden Process Id: {process_id!r} (it must be a str, not {kind})")
    if len(process_id) > MAXIMUM_PROCESS_ID_LENGTH or not _PROCESS_ID.fullmatch(process_id):
        raise TVArgumentError(
            f"Forbidden Process Id: {process_id[:80]!r} (use up to {MAXIMUM_PROCESS_ID_LENGTH} ASCII letters, digits, "
            "'-', '_' and '.', beginning with a letter or digit)"
        )
    return process_id


def check_text(kind: str, text: str) -> str:
    """Return `text` if it can be stored; raises `TVArgumentError` otherwise."""
    if not isinstance(text, str):
        raise TVArgumentError(f"{kind} must be a str, not {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TVArgumentError(
            f"{kind} has a lone surrogate ({text[error.start]!r} at character {error.start}); it cannot be stored"
        ) from error
    return text


def is_file_name(text: str) -> bool:
    """Return whether a text is a single file name, which cannot leave its parent folder."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return size <= _MAXIMUM_FILE_NAME_LENGTH and _FILE_NAME.fullmatch(text) is not None and text not in (".", "..")


def is_inner_path(text: str) -> bool:
    """Return whether a text is a relative path with `/` that cannot leave its folder."""
    return all(map(is_file_name, text.split("/")))


def new_process_id() -> str:
    """Return a new, unused process id."""
    return uuid.uuid4().hex


def temporary_instance_id(version: str) -> str:
    """Return the id of the temporary instance of a version."""
    return TEMPORARY_PREFIX + version


def is_temporary(instance_id: str) -> bool:
    """Return whether an instance id names a temporary instance."""
    return instance_id.startswith(TEMPORARY_PREFIX)


def is_materialized(instance_id: str) -> bool:
    """Return whether a text is the id of a materialized instance; these ids are globally unique."""
    return _MATERIALIZED.fullmatch(instance_id) is not None


def tag_in(instance_id: str) -> str | None:
    """Return the tag of `@tag` in place of an instance id; `None` for an id.

    Examples
    --------
    >>> tag_in("@paper")
    'paper'
    """
    return instance_id.removeprefix(_TAG_MARK) if instance_id.startswith(_TAG_MARK) else None


def with_mark(tag: str) -> str:
    """Return a tag in the form that replaces an instance id."""
    return f"{_TAG_MARK}{tag}"


def _check(kind: str, name: str) -> str:
    _check_characters(kind, name)
    if fold(name) in _FORBIDDEN or fold(name).startswith(fold(TEMPORARY_PREFIX)):
        raise TVArgumentError(f"Forbidden {kind}: {name}")
    return name


def _check_characters(kind: str, name: str) -> None:
    if not isinstance(name, str):
        raise TVArgumentError(f"Forbidden {kind}: {name!r} (it must be a str, not {type(name).__name__})")
    if not name:
        raise TVArgumentError(f"Forbidden {kind}: it is empty")
    if len(name) > MAXIMUM_NAME_LENGTH:
        raise TVArgumentError(f"Forbidden {kind}: {name[:40]}… (at most {MAXIMUM_NAME_LENGTH} characters)")
    if not _NAME.fullmatch(name):
        raise TVArgumentError(f"Forbidden {kind}: {name} (use ASCII letters, digits, '-' and '_')")


def without_namespaces(text: str) -> str:
    """Return a text with code modules under their original names, without snapshot prefixes."""
    return _NAMESPACES.sub("", text)


def index_builder_name(table_name: str) -> str:
    """Return the name of a table's IndexBuilder."""
    return f"{table_name}_index"
