"""Parser of the reference language: `<<table(instance).{columns}[conditions]>>`.

The docstring of each parsing function is its rule of the grammar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from tablevault.references.tokenizer import Place, Tokenizer, unquote

SELF = "self"
"""The table name that means the instance being built."""
INDEX = "index"
"""The pseudo-column that holds a row's position."""

_NOWHERE = Place("", 0, 0)


@dataclass(frozen=True, slots=True)
class Literal:
    """A name or value that is written out."""

    value: str
    """Its value, without quotes."""
    place: Place = field(default=_NOWHERE, compare=False, repr=False)
    """Where it stands."""


@dataclass(frozen=True, slots=True)
class CurrentRow:
    """Condition: a column equals the current row's position."""

    column: Operand


@dataclass(frozen=True, slots=True)
class Equals:
    """Condition: a column equals a value."""

    column: Operand
    value: Operand


@dataclass(frozen=True, slots=True)
class Between:
    """Condition: start <= a column < end."""

    column: Operand
    start: Operand
    end: Operand


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference. Where it stands does not count when references are compared."""

    table: Operand
    """Name of the table, or `self`."""
    instance: Literal | None = None
    """Instance id, version or `@tag`; `None`: the newest active instance."""
    columns: tuple[Operand, ...] | None = None
    """Names of the columns; `None`: all of them."""
    conditions: tuple[Condition, ...] = ()
    """All of them have to hold."""
    place: Place = field(default=_NOWHERE, compare=False, repr=False)
    """Where it stands."""

    @property
    def text(self) -> str:
        """The reference as it is written."""
        return self.place.text

    @property
    def offset(self) -> int:
        """Where it begins in the string that contains it."""
        return self.place.start

    @property
    def is_self(self) -> bool:
        """Whether it looks into the instance being built."""
        return is_name(self.table, SELF)

    @property
    def is_bare_self(self) -> bool:
        """Whether it is `<<self>>`: the whole frame of the instance being built."""
        return self.is_self and self.columns is None and not self.conditions

    @property
    def is_position(self) -> bool:
        """Whether it is `<<self.index>>`: the current row's position."""
        if not self.is_self or self.conditions or self.columns is None:
            return False
        return len(self.columns) == 1 and is_name(self.columns[0], INDEX)

    @property
    def reads_current_row(self) -> bool:
        """Whether it reads cells of the current row only, as `<<self.c[index]>>` does."""
        return len(self.conditions) == 1 and (
            isinstance(self.conditions[0], CurrentRow) and is_name(self.conditions[0].column, INDEX)
        )

    @property
    def means_current_row(self) -> bool:
        """Whether it means the current row itself; the references nested in it aside."""
        return self.is_position or any(isinstance(condition, CurrentRow) for condition in self.conditions)

    def names(self) -> Iterator[Operand]:
        """Yield the operands that are names: all but the values of conditions."""
        yield self.table
        if self.instance is not None:
            yield self.instance
        yield from self.columns or ()
        for condition in self.conditions:
            yield condition.column

    def operands(self) -> Iterator[Operand]:
        """Yield the names and values it is made of, in the order in which they are written."""
        yield self.table
        if self.instance is not None:
            yield self.instance
        yield from self.columns or ()
        for condition in self.conditions:
            yield from _operands_of_condition(condition)

    def nested(self) -> Iterator[Reference]:
        """Yield this reference and the ones nested in it, outer before inner, in the order of the text."""
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
    r"""In order; in literal text, `\<<` has become `<<`, and before `<<` each `\\` one backslash."""

    @property
    def is_constant(self) -> bool:
        """Whether it holds no reference."""
        return not any(isinstance(part, Reference) for part in self.parts)

    @property
    def references(self) -> tuple[Reference, ...]:
        """The references in it, nested ones aside."""
        return tuple(part for part in self.parts if isinstance(part, Reference))


def is_name(operand: Operand, name: str) -> bool:
    """Return whether an operand is this name, written out.

    `self` and `index` are special only where they are written out: a value that an inner reference brings in can
    never mean more than the name of a table or column.
    """
    return isinstance(operand, Literal) and operand.value == name


@lru_cache(maxsize=1024)
def parse(text: str) -> Template:
    r"""Return the parts of a string of a builder.

    Raises
    ------
    TableReferenceError
        If a reference in it is not well formed; a literal `<<` is written `\<<`.
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
    raise tokenizer.error("this quote is never closed" if tokenizer.check("QUOTE") else f"expected {expected}")


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
