"""Parser of references, `<<table(instance).{columns}[conditions]>>`.

The docstring of each parsing function is its rule of the grammar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from tablevault.references.tokenizer import Place, Tokenizer, unquote

SELF = "self"
"""Table name of the instance being built."""
INDEX = "index"
"""Pseudo-column that holds a row's position."""

_NOWHERE = Place("", 0, 0)


@dataclass(frozen=True, slots=True)
class Literal:
    """A literal name or value."""

    value: str
    """Its value, without quotes."""
    place: Place = field(default=_NOWHERE, compare=False, repr=False)
    """Its place in the text."""


@dataclass(frozen=True, slots=True)
class CurrentRow:
    """Condition that a column equals the current row's position."""

    column: Operand


@dataclass(frozen=True, slots=True)
class Equals:
    """Condition that a column equals a value."""

    column: Operand
    value: Operand


@dataclass(frozen=True, slots=True)
class Between:
    """Condition that start <= a column < end."""

    column: Operand
    start: Operand
    end: Operand


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference; comparisons ignore its place."""

    table: Operand
    """Name of the table, or `self`."""
    instance: Literal | None = None
    """Instance id, version or `@tag`; `None` for the newest active instance."""
    columns: tuple[Operand, ...] | None = None
    """Names of the columns; `None` for all."""
    conditions: tuple[Condition, ...] = ()
    """Conditions that must all hold."""
    place: Place = field(default=_NOWHERE, compare=False, repr=False)
    """Its place in the text."""

    @property
    def text(self) -> str:
        """The reference as written."""
        return self.place.text

    @property
    def offset(self) -> int:
        """Its offset in the containing string."""
        return self.place.start

    @property
    def is_self(self) -> bool:
        """Whether it reads the instance being built."""
        return is_name(self.table, SELF)

    @property
    def is_position(self) -> bool:
        """Whether it is `<<self.index>>`, the current row's position."""
        if not self.is_self or self.conditions or self.columns is None:
            return False
        return len(self.columns) == 1 and is_name(self.columns[0], INDEX)

    @property
    def reads_current_row(self) -> bool:
        """Whether it reads only cells of the current row, as `<<self.c[index]>>` does."""
        return len(self.conditions) == 1 and (
            isinstance(self.conditions[0], CurrentRow) and is_name(self.conditions[0].column, INDEX)
        )

    @property
    def means_current_row(self) -> bool:
        """Whether it refers to the current row itself, regardless of nested references."""
        return self.is_position or any(isinstance(condition, CurrentRow) for condition in self.conditions)

    def names(self) -> Iterator[Operand]:
        """Yield all operands except the values of conditions."""
        yield self.table
        if self.instance is not None:
            yield self.instance
        yield from self.columns or ()
        for condition in self.conditions:
            yield condition.column

    def operands(self) -> Iterator[Operand]:
        """Yield all operands, in text order."""
        yield self.table
        if self.instance is not None:
            yield self.instance
        yield from self.columns or ()
        for condition in self.conditions:
            yield from _operands_of_condition(condition)

    def nested(self) -> Iterator[Reference]:
        """Yield this reference and its nested ones in text order, outer before inner."""
        yield self
        for operand in self.operands():
            if isinstance(operand, Reference):
                yield from operand.nested()


Operand: TypeAlias = Literal | Reference
Condition: TypeAlias = CurrentRow | Equals | Between


@dataclass(frozen=True, slots=True)
class Template:
    """A string of a builder, split into literal text and references."""

    parts: tuple[str | Reference, ...]
    r"""Parts in order; in literal text, `\<<` is unescaped to `<<`, and `\\` before `<<` to one backslash."""

    @property
    def is_constant(self) -> bool:
        """Whether it contains no references."""
        return not any(isinstance(part, Reference) for part in self.parts)

    @property
    def references(self) -> tuple[Reference, ...]:
        """Its references, without nested ones."""
        return tuple(part for part in self.parts if isinstance(part, Reference))


def is_name(operand: Operand, name: str) -> bool:
    """Return whether an operand is this name as a literal.

    `self` and `index` are special only as literals; the result of an inner reference is always an ordinary name of a
    table or column.
    """
    return isinstance(operand, Literal) and operand.value == name


@lru_cache(maxsize=1024)
def parse(text: str) -> Template:
    r"""Parse a builder string into text and references.

    Raises
    ------
    TableReferenceError
        If a reference in it is malformed; a literal `<<` is written `\<<`.
    """
    return _parse_template(Tokenizer(text))


def _parse_template(tokenizer: Tokenizer) -> Template:
    r"""template = { text | { "\\" } [ "\<<" ] | reference }"""  # noqa: D403
    parts: list[str | Reference] = []
    text = ""
    while not tokenizer.at_end():
        if (found := tokenizer.read_text()) is not None:
            text += found
        elif (escaped := tokenizer.read_escapes()) is not None:
            text += escaped
        else:
            parts += [text] if text else []
            parts.append(_parse_reference(tokenizer))
            text = ""
    parts += [text] if text else []
    return Template(tuple(parts))


def _parse_reference(tokenizer: Tokenizer) -> Reference:
    """reference = "<<" table [ "(" instance ")" ] [ columns ] [ conditions ] ">>"."""  # noqa: D403
    with tokenizer.reference():
        opening = tokenizer.expect("OPEN", expected="'<<'")
        table = _parse_table(tokenizer)
        instance = _parse_instance(tokenizer, table)
        columns = _parse_columns(tokenizer)
        conditions = _parse_conditions(tokenizer)
        closing = tokenizer.expect("CLOSE", expected=_what_may_follow(instance, columns, conditions))
        place = tokenizer.place(opening.place.start, closing.place.end)
        return Reference(table, instance, columns, conditions, place)


def _parse_table(tokenizer: Tokenizer) -> Operand:
    """table = token"""  # noqa: D403
    return _parse_token(tokenizer, expected=r"the name of a table, or 'self' (a literal << is written \<<)")


def _parse_instance(tokenizer: Tokenizer, table: Operand) -> Literal | None:
    """[ "(" ( name | tag | quoted ) ")" ]"""
    opening = tokenizer.read("LEFT_PARENTHESIS")
    if opening is None:
        return None
    if is_name(table, SELF):
        raise tokenizer.error_at(
            "'self' is the instance being built and takes no instance; expected '.', '[' or '>>'", opening.place
        )
    if (tag := tokenizer.read("TAG")) is not None:
        instance: Operand = Literal(tag.text, tag.place)
    else:
        instance = _parse_token(tokenizer, expected="an instance id, a version or '@' and a tag")
    if isinstance(instance, Reference):
        # Instances are pinned before anything is evaluated.
        raise tokenizer.error_at(
            "an instance cannot itself be a reference; write an instance id, a version or '@' and a tag", instance.place
        )
    tokenizer.expect("RIGHT_PARENTHESIS", expected="')' after the instance")
    return instance


def _parse_columns(tokenizer: Tokenizer) -> tuple[Operand, ...] | None:
    """[ "." ( token | "{" token { "," token } "}" ) ]"""
    if tokenizer.read("DOT") is None:
        return None
    if tokenizer.read("LEFT_BRACE") is None:
        return (_parse_token(tokenizer, expected="the name of a column, or '{' and several"),)
    columns = [_parse_column(tokenizer)]
    while tokenizer.read("COMMA") is not None:
        column = _parse_column(tokenizer)
        if isinstance(column, Literal) and column in columns:
            raise tokenizer.error_at(f"column {column.value!r} is named twice", column.place)
        columns.append(column)
    tokenizer.expect("RIGHT_BRACE", expected="',' or '}' after the name of a column")
    return tuple(columns)


def _parse_column(tokenizer: Tokenizer) -> Operand:
    """column = token"""  # noqa: D403
    return _parse_token(tokenizer, expected="the name of a column")


def _parse_conditions(tokenizer: Tokenizer) -> tuple[Condition, ...]:
    """[ "[" condition { "," condition } "]" ]"""
    if tokenizer.read("LEFT_BRACKET") is None:
        return ()
    conditions = [_parse_condition(tokenizer)]
    while tokenizer.read("COMMA") is not None:
        conditions.append(_parse_condition(tokenizer))
    last = conditions[-1]
    tokenizer.expect("RIGHT_BRACKET", expected=_WHAT_MAY_FOLLOW_CONDITION[type(last)])
    return tuple(conditions)


def _parse_condition(tokenizer: Tokenizer) -> Condition:
    """condition = token [ "::" value [ ":" value ] ]"""  # noqa: D403
    column = _parse_column(tokenizer)
    if tokenizer.read("DOUBLE_COLON") is None:
        return CurrentRow(column)
    value = _parse_value(tokenizer)
    if tokenizer.read("COLON") is None:
        return Equals(column, value)
    return Between(column, value, _parse_value(tokenizer))


def _parse_token(tokenizer: Tokenizer, *, expected: str) -> Operand:
    """token = name | quoted | reference"""  # noqa: D403
    return _parse_operand(tokenizer, word="NAME", expected=expected)


def _parse_value(tokenizer: Tokenizer) -> Operand:
    """value = word | quoted | reference"""  # noqa: D403
    return _parse_operand(
        tokenizer, word="VALUE", expected="a value (quote it if it holds other than letters, digits and _-.+)"
    )


def _parse_operand(tokenizer: Tokenizer, *, word: str, expected: str) -> Operand:
    """operand = word | quoted | reference"""  # noqa: D403
    if tokenizer.check("OPEN"):
        return _parse_reference(tokenizer)
    if (token := tokenizer.read(word)) is not None:
        return Literal(token.text, token.place)
    if (token := tokenizer.read("QUOTED")) is not None:
        return Literal(unquote(token, tokenizer), token.place)
    raise tokenizer.error("unterminated quote" if tokenizer.check("QUOTE") else f"expected {expected}")


_WHAT_MAY_FOLLOW_CONDITION: dict[type, str] = {
    CurrentRow: "'::' and a value, ',' or ']'",
    Equals: "':' and the end of a range, ',' or ']'",
    Between: "',' or ']'",
}


def _what_may_follow(
    instance: Operand | None, columns: tuple[Operand, ...] | None, conditions: tuple[Condition, ...]
) -> str:
    if conditions:
        return "'>>'"
    if columns is not None:
        return "'[' or '>>'"
    return "'.', '[' or '>>'" if instance is not None else "'(', '.', '[' or '>>'"


def _operands_of_condition(condition: Condition) -> tuple[Operand, ...]:
    match condition:
        case CurrentRow(column):
            return (column,)
        case Equals(column, value):
            return (column, value)
        case Between(column, start, end):
            return (column, start, end)
