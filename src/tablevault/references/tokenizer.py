"""Tokens of the reference language, and errors that point into the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tablevault.errors import TableReferenceError

MAXIMUM_DEPTH = 32
"""Maximum nesting depth of references."""

_EXCERPT_BEFORE = 80
_EXCERPT_AFTER = 60

_RULES = {
    "OPEN": re.compile(r"<<"),
    "CLOSE": re.compile(r">>"),
    "LEFT_PARENTHESIS": re.compile(r"\("),
    "RIGHT_PARENTHESIS": re.compile(r"\)"),
    "LEFT_BRACE": re.compile(r"\{"),
    "RIGHT_BRACE": re.compile(r"\}"),
    "LEFT_BRACKET": re.compile(r"\["),
    "RIGHT_BRACKET": re.compile(r"\]"),
    "DOT": re.compile(r"\."),
    "COMMA": re.compile(r","),
    "DOUBLE_COLON": re.compile(r"::"),
    "COLON": re.compile(r":"),
    "NAME": re.compile(r"[\w-]+"),
    "TAG": re.compile(r"@[\w-]+"),
    "VALUE": re.compile(r"[\w.+-]+"),
    "QUOTED": re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL),
    "QUOTE": re.compile(r"""['"]"""),
}
_WHITE_SPACE = re.compile(r"\s*")
_OPENING = re.compile(r"\\*<<")
_ESCAPES = re.compile(r"((?:\\\\)*)(\\<<)?")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"\\": "\\", "'": "'", '"': '"', "<": "<", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Place:
    """A span of the text that contains a reference."""

    source: str
    """The whole text."""
    start: int
    """Offset of its first character."""
    end: int
    """Offset after its last character."""

    @property
    def text(self) -> str:
        """The text at this place."""
        return self.source[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text matched by one rule of the language."""

    rule: str
    place: Place

    @property
    def text(self) -> str:
        """The text at this place."""
        return self.place.text


def reference_error(message: str, shown: Place, fault: Place) -> TableReferenceError:
    """Return an error that shows a reference and marks the fault in it with carets.

    Parameters
    ----------
    message
        The problem, and the expected form.
    shown
        The reference. Text far from the error is left out.
    fault
        The faulty part of it.
    """
    start = max(shown.start, fault.start - _EXCERPT_BEFORE)
    end = min(shown.end, fault.start + _EXCERPT_AFTER)
    before = "…" if start > shown.start else ""
    after = "…" if end < shown.end else ""
    # Replace character by character, so that the carets stay aligned.
    excerpt = re.sub(r"\s", " ", before + shown.source[start:end] + after)
    carets = "^" * max(1, min(fault.end, end) - fault.start)
    return TableReferenceError(f"{message}\n    {excerpt}\n    {' ' * (len(before) + fault.start - start)}{carets}")


class Tokenizer:
    """Reads tokens of a text on demand of the parser.

    Parameters
    ----------
    source
        The text of a template.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0
        self._outermost: int | None = None
        self._depth = 0

    def read_text(self) -> str | None:
        r"""Read literal text up to the next `<<` or the backslashes before it.

        Returns `None` if the text is empty.
        """
        opening = _OPENING.search(self.source, self.position)
        end = opening.start() if opening else len(self.source)
        if end == self.position:
            return None
        text = self.source[self.position : end]
        self.position = end
        return text

    def read_escapes(self) -> str | None:
        r"""Read the backslashes before a `<<` and return their text, or `None`.

        Two mean one backslash, followed by a reference; `\<<` means a literal `<<`.
        """
        match = _ESCAPES.match(self.source, self.position)
        if match is None or not match[0]:
            return None
        self.position = match.end()
        return "\\" * (len(match[1]) // 2) + ("<<" if match[2] else "")

    def at_end(self) -> bool:
        """Return whether the whole text has been read."""
        return self.position == len(self.source)

    def check(self, rule: str) -> bool:
        """Return whether the named token comes next, ignoring white space."""
        self._skip_white_space()
        return _RULES[rule].match(self.source, self.position) is not None

    def read(self, rule: str) -> Token | None:
        """Read the named token if it comes next, ignoring white space; `None` otherwise."""
        self._skip_white_space()
        match = _RULES[rule].match(self.source, self.position)
        if match is None:
            return None
        self.position = match.end()
        return Token(rule, Place(self.source, match.start(), match.end()))

    def expect(self, rule: str, *, expected: str) -> Token:
        """Read the named token; raise `TableReferenceError` if something else comes next."""
        token = self.read(rule)
        if token is None:
            raise self.error(f"expected {expected}")
        return token

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Enter a reference; raise `TableReferenceError` if it is nested too deeply."""
        if self._depth == 0:
            self._outermost = self.position
        if self._depth == MAXIMUM_DEPTH:
            raise self.error(f"references are nested more than {MAXIMUM_DEPTH} deep")
        self._depth += 1
        yield
        self._depth -= 1

    def error(self, message: str) -> TableReferenceError:
        """Return an error that marks the next token."""
        self._skip_white_space()
        word = _RULES["NAME"].match(self.source, self.position)
        return self.error_at(message, self.place(self.position, word.end() if word else self.position + 1))

    def error_at(self, message: str, fault: Place) -> TableReferenceError:
        """Return an error that marks a place already read."""
        shown = self.place(self._outermost or 0, len(self.source))
        return reference_error(f"Invalid reference: {message}", shown, fault)

    def place(self, start: int, end: int) -> Place:
        """Return a place in the text."""
        return Place(self.source, start, end)

    def _skip_white_space(self) -> None:
        match = _WHITE_SPACE.match(self.source, self.position)
        assert match is not None  # the pattern matches an empty text, too
        self.position = match.end()


def unquote(token: Token, tokenizer: Tokenizer) -> str:
    """Return the unquoted text of a token."""

    def replacement(match: re.Match[str]) -> str:
        character = match.group(1)
        if character not in _ESCAPED:
            start = token.place.start + 1 + match.start()
            raise tokenizer.error_at(
                rf"unknown escape \{character}; write \\ for a backslash", tokenizer.place(start, start + 2)
            )
        return _ESCAPED[character]

    return _ESCAPE.sub(replacement, token.text[1:-1])
