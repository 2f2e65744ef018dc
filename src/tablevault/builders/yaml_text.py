"""A safe YAML reader that keeps line numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import yaml

from tablevault.builders.fields import FieldPath, describe
from tablevault.errors import TVBuilderError

MAXIMUM_CHARACTERS = 1_000_000
MAXIMUM_VALUES = 20_000
MAXIMUM_DEPTH = 50

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset({_TAG + "str", _TAG + "value"})
_SCALAR_TAGS = frozenset(_TAG + name for name in ("null", "bool", "int", "float", "timestamp"))
_MERGE_TAG = _TAG + "merge"
_SCANNER_TOO_DEEP = "exceeded maximum nesting depth"
"""Message of newer libyaml versions for 1,000 open brackets; their scanner fails before it emits an event."""
_NO_CHARACTER = "found invalid Unicode character escape code"
_SURROGATES = re.compile(r"\\u[dD][89a-bA-B][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?")
_NUMBER_AS_TEXT = re.compile(r"[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+|0o[0-7]+")
"""Number formats of YAML 1.2 and most languages that YAML 1.1 reads as text."""
_FRACTION = re.compile(r"\.\d{6}(\d+)")
"""Digits of a time beyond its microseconds."""
_OUT_OF_RANGE = "the number is outside the range of a float"
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class YamlMapping:
    """A YAML mapping as plain values."""

    content: Mapping[object, object]
    lines: Mapping[FieldPath, int]
    """Line numbers of fields and items, by path."""
    doubts: tuple[str, ...]
    """Warnings about ambiguous YAML 1.1 values under `arguments`, each with its location."""


def read_yaml(text: str, file: str) -> YamlMapping:
    """Read a mapping of fields; constructs plain values only.

    Parameters
    ----------
    text
        Content of the file.
    file
        File name, as shown in error messages.

    Raises
    ------
    TVBuilderError
        If the text is not safe YAML or not a mapping. The message gives file, line and remedy.
    """
    _check_bounds(text, file)
    root = _compose(text, file)
    if not isinstance(root, yaml.MappingNode):
        raise TVBuilderError(
            f"{file}, line 1: a builder file is a mapping of fields, such as 'builder_type: ColumnBuilder'; "
            f"found {'an empty file' if root is None else 'a list or a single value'}."
        )
    reader = _Reader(file)
    content = reader.read(root)
    return YamlMapping(content, reader.lines, tuple(reader.doubts))


def place_text(file: str, line: int, path: FieldPath) -> str:
    """Return the location that prefixes an error message (file, line, field)."""
    names = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return f"{file}, line {line}, {names}" if names else f"{file}, line {line}"


def _check_bounds(text: str, file: str) -> None:
    """Reject an oversized or deeply nested text before building its node tree."""
    if len(text) > MAXIMUM_CHARACTERS:
        raise TVBuilderError(
            f"{file} has {len(text):,} characters, but a builder file may have {MAXIMUM_CHARACTERS:,}; "
            "move data into a table and refer to it."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise TVBuilderError(f"{file}, line {line}: this is not valid Unicode text; save the file as UTF-8.") from error
    with _yaml_errors(text, file):
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAXIMUM_DEPTH:
                raise _too_deep(file, _line(event))


def _too_deep(file: str, line: int) -> TVBuilderError:
    return TVBuilderError(f"{file}, line {line}: values are nested over {MAXIMUM_DEPTH} levels deep; flatten them.")


def _line(part: yaml.Node | yaml.Event) -> int:
    return int(part.start_mark.line) + 1 if part.start_mark else 1


def _compose(text: str, file: str) -> yaml.Node | None:
    with _yaml_errors(text, file):
        loader = _Loader(text)
        try:
            node: yaml.Node | None = loader.get_single_node()
        finally:
            loader.dispose()
    return node


@contextmanager
def _yaml_errors(text: str, file: str) -> Iterator[None]:
    """Convert YAML parser errors to errors that give file, line and remedy."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        number = min(mark.line, text.count("\n")) + 1 if mark else 1
        if error.problem == _SCANNER_TOO_DEEP:
            raise _too_deep(file, number) from error
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        if pair := _SURROGATES.search(text.splitlines()[number - 1]) if error.problem == _NO_CHARACTER else None:
            raise TVBuilderError(
                f"{file}, line {number}: not valid YAML: {pair[0]} is a JSON surrogate pair, which YAML does not "
                "support. Write the character itself, as json.dumps(..., ensure_ascii=False) does."
            ) from error
        raise TVBuilderError(f"{file}, line {number}: not valid YAML: {problem}{_remedy(text, number)}.") from error
    except yaml.YAMLError as error:
        position = getattr(error, "position", 0)
        number = text.count("\n", 0, position) + 1
        raise TVBuilderError(
            f"{file}, line {number}: not valid YAML: a character that YAML does not allow; remove it."
        ) from error


def _remedy(text: str, number: int) -> str:
    lines = text.split("\n")
    if "<<" in "".join(lines[max(number - 2, 0) : number]):
        return "; put quotes around a value that holds a reference, such as '<<self.x[index]>>'"
    return "; check indentation, quotes and colons there"


class _Reader:
    """Converts YAML nodes to plain values and records their lines."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[FieldPath, int] = {}
        self.doubts: list[str] = []
        self._count = 0
        self._depth = 0
        self._loader = yaml.SafeLoader("")

    def read(self, root: yaml.MappingNode) -> Mapping[object, object]:
        """Return the plain values of a whole file."""
        if root.tag != _TAG + "map":
            raise self._tag_error(root, ())
        self._check_bounds(root)
        self.lines[()] = _line(root)
        return self._mapping(root, ())

    def _value(self, node: yaml.Node, path: FieldPath, line: int) -> object:
        self._check_bounds(node)
        self.lines[path] = line
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return self._sequence(node, path)
        return self._scalar(node, path)

    def _check_bounds(self, node: yaml.Node) -> None:
        # Aliases can expand a small file without bound (or recursively): count the expanded values.
        self._count += 1
        if self._count > MAXIMUM_VALUES:
            raise self._error(node, (), f"the file expands to more than {MAXIMUM_VALUES:,} values; use fewer aliases.")
        if self._depth > MAXIMUM_DEPTH:
            raise _too_deep(self.file, _line(node))

    def _sequence(self, node: yaml.SequenceNode, path: FieldPath) -> list[object]:
        self._depth += 1
        items = [self._value(item, (*path, position), _line(item)) for position, item in enumerate(node.value)]
        self._depth -= 1
        return items

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[object, object]:
        self._depth += 1
        inherited: dict[object, object] = {}
        own: dict[object, object] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE_TAG:
                for merged in self._merged(value_node, path):
                    inherited = {**merged, **inherited}
                continue
            key = self._key(key_node, path)
            if key in own:
                other = next(known for known in own if known == key)
                raise self._error(key_node, (*path, key), _given_twice(key, other))
            own[key] = self._value(value_node, (*path, key), _line(key_node))
        self._depth -= 1
        return {**inherited, **own}

    def _merged(self, node: yaml.Node, path: FieldPath) -> Iterator[dict[object, object]]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise self._error(source, path, "'<<:' merges mappings only; give it an alias of a mapping.")
            self._check_bounds(source)
            yield self._mapping(source, path)

    def _key(self, node: yaml.Node, path: FieldPath) -> object:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, path, "a list or mapping cannot be a key; use text.")
        key = self._scalar(node, path)
        if key != key:
            raise self._error(node, path, "NaN cannot be a key; use text.")
        return key

    def _scalar(self, node: yaml.Node, path: FieldPath) -> object:
        tag = node.tag
        if isinstance(node, yaml.ScalarNode):
            if tag in _TEXT_TAGS or tag == _MERGE_TAG:
                self._doubt(node, path, str(node.value))
                return str(node.value)
            if tag in _SCALAR_TAGS and tag == self._resolved_tag(node):
                value = self._plain(node, path)
                self._doubt(node, path, value)
                return value
        raise self._tag_error(node, path)

    def _doubt(self, node: yaml.ScalarNode, path: FieldPath, value: object) -> None:
        """Record a warning about an ambiguous value under `arguments`."""
        # The style of a plain scalar is '' in libyaml, None in the Python scanner.
        sentence = _doubt(node.value, value) if path[:1] == ("arguments",) and not node.style else None
        if sentence is not None:
            self.doubts.append(f"{place_text(self.file, _line(node), path)}: {sentence}")

    def _resolved_tag(self, node: yaml.ScalarNode) -> str:
        resolve: Callable[..., str] = self._loader.resolve
        return resolve(yaml.ScalarNode, node.value, (True, False))

    def _plain(self, node: yaml.ScalarNode, path: FieldPath) -> object:
        try:
            return self._loader.construct_object(node)
        except (ValueError, OverflowError) as error:
            raise self._error(
                node, path, f"{node.value[:40]!r} is not a valid date or number; quote it to mean text."
            ) from error

    def _tag_error(self, node: yaml.Node, path: FieldPath) -> TVBuilderError:
        shown = node.tag.replace(_TAG, "!!")
        return self._error(node, path, f"the tag {shown} is not allowed here; builder files hold plain values only.")

    def _error(self, node: yaml.Node, path: FieldPath, sentence: str) -> TVBuilderError:
        return TVBuilderError(f"{place_text(self.file, _line(node), path)}: {sentence}")


def _doubt(written: str, value: object) -> str | None:
    """Return a warning if YAML 1.1 may misread a plain scalar, else `None`."""
    if isinstance(value, bool) and written.lower() not in ("true", "false"):
        meant = str(value).lower()
    elif isinstance(value, int | float) and not isinstance(value, bool) and _looks_otherwise(written):
        meant = str(value)
    elif isinstance(value, float) and not _is_in_range(written, value):
        return f"{written} is read as {value}, since {_OUT_OF_RANGE}. Quote it ('{written}') to mean text."
    elif isinstance(value, datetime) and (fraction := _FRACTION.search(written)) and fraction[1].strip("0"):
        meant = str(value)
    elif isinstance(value, str) and _NUMBER_AS_TEXT.fullmatch(written):
        number = written.lower().replace("_", "")
        if not number.startswith("0o") and not _is_in_range(number, float(number)):
            return f"{written} is read as text, since {_OUT_OF_RANGE}. Quote it ('{written}') to mean text."
        meant = str(int(number, 8)) if number.startswith("0o") else repr(float(number))
        meant = meant if "e" not in meant or "." in meant else meant.replace("e", ".0e")
        return f"{written} is read as text. Write {meant} to mean the number, or quote it ('{written}') to mean text."
    else:
        return None
    return f"{written} is read as {meant}. Quote it ('{written}') to mean text, or write {meant}."


def _is_in_range(written: str, value: float) -> bool:
    """Return whether a float holds a number.

    It may be too large or too small.
    """
    digits = written.lower().partition("e")[0]
    return not (math.isinf(value) and any(map(str.isdecimal, digits))) and (bool(value) or not digits.strip("+-0._"))


def _looks_otherwise(written: str) -> bool:
    """Return whether a number is octal, sexagesimal or has underscores."""
    digits = written.lstrip("+-")
    return ":" in digits or "_" in digits or (len(digits) > 1 and digits[0] == "0" and digits.isdecimal())


def _given_twice(key: object, other: object) -> str:
    if type(key) is type(other):
        return "duplicate key; keep one of them."
    return f"{describe(key)} and {describe(other)} are the same key in Python; quote one of them, or remove one."
