"""Sanitizing of untrusted texts for storage and display."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

MAXIMUM_RECORDED = 1_000_000
"""Maximum number of recorded characters; a remark replaces the middle of a longer text."""
MAXIMUM_SHOWN = 20_000
"""Maximum number of shown characters of a multi-line text."""
MAXIMUM_IN_LINE = 500
"""Maximum number of shown characters of a text within a line."""

_SURROGATES = re.compile("[\ud800-\udfff]")
_ACTIVE = re.compile(
    # Control characters except tab and line feed; the joiners of letters and emoji (U+200C, U+200D) are text.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Characters that a terminal, editor or page would interpret instead of showing, and unencodable ones."""


def storable(text: str) -> str:
    """Return a text for recording, with lone surrogates escaped and bounded length."""
    return _encodable(cut(text, MAXIMUM_RECORDED))


def printable(text: str) -> str:
    """Return a text that any UTF-8 stream takes.

    Lone surrogates are escaped, and the middle of a long text is left out.
    """
    return _encodable(cut(text, MAXIMUM_SHOWN))


def shown(text: str, limit: int = MAXIMUM_SHOWN) -> str:
    """Return a text that is safe to show, with control characters escaped and bounded length."""
    return _ACTIVE.sub(_escaped, cut(text, limit).replace("\r\n", "\n"))


def counts_text(counts: Mapping[str, int]) -> str:
    """Return names with their numbers in one line, as in `3 ValueError, 2 KeyError`."""
    return ", ".join(f"{count:,} {in_line(name)}" for name, count in counts.items())


def in_line(text: str, limit: int = MAXIMUM_IN_LINE) -> str:
    """Return a text that is safe to show within a line."""
    return " ".join(shown(text, limit).split("\n"))


def shown_json(text: str) -> str:
    """Return equivalent JSON that is safe to show on a terminal."""
    return _ACTIVE.sub(_escaped_in_json, text)


def cut(text: str, limit: int) -> str:
    """Remove the middle of a long text.

    The end of an error is often most informative.
    """
    if len(text) <= limit:
        return text
    end = limit // 4
    left_out = len(text) - limit
    return f"{text[: limit - end]} [… {left_out:,} characters omitted …] {text[-end:]}"


def duration(seconds: float) -> str:
    """Return a duration in its two largest nonzero units.

    >>> duration(3725)
    '1 h 2 min'
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:2]) or "0 s"


def shortened(value: Any, limit: int = MAXIMUM_IN_LINE) -> Any:
    """Return a JSON value with its texts cut to a limit."""
    if isinstance(value, str):
        return cut(value, limit)
    if isinstance(value, Mapping):
        return {name: shortened(item, limit) for name, item in value.items()}
    return [shortened(item, limit) for item in value] if isinstance(value, list) else value


class Secrets:
    """Secret values and their replacements.

    A call redacts them in a text.
    """

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def add(self, values: Iterable[tuple[str, str]]) -> None:
        """Add secret values, each with its replacement."""
        for value, mark in values:
            if len(value) >= _MINIMUM_SECRET_LENGTH:
                for form in _forms(value):
                    self._marks.setdefault(form, mark)

    def include(self, others: Secrets) -> None:
        """Add the secrets of another object; existing ones take precedence."""
        self._marks = {**others._marks, **self._marks}

    def __call__(self, text: str) -> str:
        """Replace all secrets in a text."""
        for form in sorted(self._marks, key=len, reverse=True):
            if form in text:
                text = text.replace(form, self._marks[form])
        return text


_MINIMUM_SECRET_LENGTH = 4
"""Minimum length of a redacted value; shorter ones occur in any text by chance."""


def _forms(value: str) -> set[str]:
    """Return the forms of a value in texts.

    It may be verbatim, or have Python, JSON or URL escapes.
    """
    import json
    from urllib.parse import quote, quote_plus

    plain = value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return {value, repr(value)[1:-1], json.dumps(value)[1:-1], quote(plain), quote(plain, safe=""), quote_plus(plain)}


def _encodable(text: str) -> str:
    return text if text.isascii() else _SURROGATES.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped_in_json(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        # In valid JSON, this is whitespace between values.
        return match[0]
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"
