"""Parser and formatter of Arrow type names.

An example is `struct<a: int64, b: list<string>>`.

::

    type      = "list" item | "large_list" item | "fixed_size_list" item "[" number "]"
              | "struct" "<" [ field { "," field } ] ">"
              | "decimal128" "(" number "," number ")" | "decimal256" "(" number "," number ")"
              | "timestamp" "[" unit [ "," "tz=" zone ] "]" | word
    item      = "<" [ "item" ":" ] type ">"
    field     = name ":" type
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pyarrow as pa

from tablevault.storage.zones import check_zone

_SIMPLE: dict[str, pa.DataType] = {
    "null": pa.null(),
    "bool": pa.bool_(),
    "boolean": pa.bool_(),
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "int": pa.int64(),
    "float16": pa.float16(),
    "halffloat": pa.float16(),
    "float32": pa.float32(),
    "float": pa.float32(),
    "float64": pa.float64(),
    "double": pa.float64(),
    "string": pa.string(),
    "utf8": pa.string(),
    "str": pa.string(),
    "large_string": pa.large_string(),
    "large_utf8": pa.large_string(),
    "binary": pa.binary(),
    "bytes": pa.binary(),
    "large_binary": pa.large_binary(),
    "date": pa.date32(),
    "date32": pa.date32(),
    "date32[day]": pa.date32(),
    "date64": pa.date64(),
    "date64[ms]": pa.date64(),
    "time": pa.time64("us"),
    "time32[s]": pa.time32("s"),
    "time32[ms]": pa.time32("ms"),
    "time64[us]": pa.time64("us"),
    "time64[ns]": pa.time64("ns"),
    "timestamp": pa.timestamp("us"),
    "duration": pa.duration("us"),
    **{f"timestamp[{unit}]": pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")},
    **{f"duration[{unit}]": pa.duration(unit) for unit in ("s", "ms", "us", "ns")},
}

ARROW_NAMES: tuple[str, ...] = (*_SIMPLE, "list<float32>", "struct<a: int64>", "decimal128(38, 9)")
"""Suggestions for misspelt names in error messages."""

_SHORT: dict[pa.DataType, str] = {
    pa.float16(): "float16",
    pa.float32(): "float32",
    pa.float64(): "float64",
    pa.date32(): "date32",
    pa.date64(): "date64",
}

_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), ?tz=([A-Za-z0-9_+\-:/]+)\]")
_DECIMAL = re.compile(r"(decimal128|decimal256)\( ?(\d+) ?, ?(-?\d+) ?\)")
_WORD = re.compile(r"[A-Za-z0-9_]+(?:\[[A-Za-z]+\])?")
_FIELD_NAME = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^\s:<>,]+))\s*:""")


def parse_arrow_type(text: str) -> pa.DataType:
    """Parse the name of an Arrow type; raises `ValueError` if it is invalid."""
    parser = _Parser(text)
    found = parser.type()
    parser.end()
    return found


def arrow_name(arrow: pa.DataType) -> str:
    """Return the name of an Arrow type, which `parse_arrow_type` reads back if it supports the type."""
    if arrow in _SHORT:
        return _SHORT[arrow]
    if pa.types.is_large_list(arrow):
        return f"large_list<{arrow_name(arrow.value_type)}>"
    if pa.types.is_fixed_size_list(arrow):
        return f"fixed_size_list<{arrow_name(arrow.value_type)}>[{arrow.list_size}]"
    if pa.types.is_list(arrow):
        return f"list<{arrow_name(arrow.value_type)}>"
    if pa.types.is_struct(arrow):
        return f"struct<{', '.join(f'{field.name}: {arrow_name(field.type)}' for field in arrow)}>"
    if pa.types.is_map(arrow):
        return f"map<{arrow_name(arrow.key_type)}, {arrow_name(arrow.item_type)}>"
    return str(arrow)


class _Parser:
    """Recursive-descent parser of one type name."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def type(self) -> pa.DataType:
        self._skip_space()
        nested: dict[str, Callable[[], pa.DataType]] = {
            "list": lambda: pa.list_(self._item()),
            "large_list": lambda: pa.large_list(self._item()),
            "fixed_size_list": self._fixed_size_list,
            "struct": self._struct,
        }
        for word, parse in nested.items():
            if self._text.startswith(f"{word}<", self._position):
                self._position += len(word) + 1
                return parse()
        return self._flat()

    def end(self) -> None:
        self._skip_space()
        if self._position != len(self._text):
            raise ValueError(f"unexpected {self._text[self._position :]!r} at the end")

    def _flat(self) -> pa.DataType:
        if zoned := _ZONED.match(self._text, self._position):
            self._position = zoned.end()
            return pa.timestamp(zoned[1], check_zone(zoned[2]))
        if decimal := _DECIMAL.match(self._text, self._position):
            self._position = decimal.end()
            make = pa.decimal128 if decimal[1] == "decimal128" else pa.decimal256
            return make(int(decimal[2]), int(decimal[3]))
        word = _WORD.match(self._text, self._position)
        if word is None or word[0] not in _SIMPLE:
            raise ValueError(f"{self._text[self._position :]!r} does not begin with the name of a type")
        self._position = word.end()
        return _SIMPLE[word[0]]

    def _item(self) -> pa.DataType:
        self._skip_space()
        if named := re.compile(r"(?:item|element)\s*:").match(self._text, self._position):
            self._position = named.end()
        item = self.type()
        self._expect(">")
        return item

    def _fixed_size_list(self) -> pa.DataType:
        item = self._item()
        size = re.compile(r"\[(\d+)\]").match(self._text, self._position)
        if size is None:
            raise ValueError("a fixed_size_list needs its size, as in 'fixed_size_list<float32>[3]'")
        self._position = size.end()
        return pa.list_(item, int(size[1]))

    def _struct(self) -> pa.DataType:
        fields: list[tuple[str, pa.DataType]] = []
        while name := _FIELD_NAME.match(self._text, self._position):
            self._position = name.end()
            fields.append((name[1] or name[2] or name[3] or "", self.type()))
            self._skip_space()
            if not self._text.startswith(",", self._position):
                break
            self._position += 1
        self._expect(">")
        return pa.struct(fields)

    def _expect(self, sign: str) -> None:
        self._skip_space()
        if not self._text.startswith(sign, self._position):
            raise ValueError(f"expected {sign!r} at {self._text[self._position :]!r}")
        self._position += len(sign)

    def _skip_space(self) -> None:
        while self._text[self._position : self._position + 1].isspace():
            self._position += 1
