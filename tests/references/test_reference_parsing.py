from __future__ import annotations

import re
import time

import pytest

from tablevault.errors import TableReferenceError
from tablevault.references import Between, CurrentRow, Equals, Literal, Reference, Template, parse


def only(text: str) -> Reference:
    (reference,) = parse(text).parts
    assert isinstance(reference, Reference)
    return reference


def columns(*names: str) -> tuple[Literal, ...]:
    return tuple(Literal(name) for name in names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<<stories>>", Reference(Literal("stories"))),
        ("<<stories(base)>>", Reference(Literal("stories"), Literal("base"))),
        ("<<stories.title>>", Reference(Literal("stories"), None, columns("title"))),
        ("<<stories.{title}>>", Reference(Literal("stories"), None, columns("title"))),
        ("<<stories.{title,id}>>", Reference(Literal("stories"), None, columns("title", "id"))),
        ("<<stories[id]>>", Reference(Literal("stories"), conditions=(CurrentRow(Literal("id")),))),
        ("<<stories[id::3]>>", Reference(Literal("stories"), conditions=(Equals(Literal("id"), Literal("3")),))),
        (
            "<<stories[id::1:5]>>",
            Reference(Literal("stories"), conditions=(Between(Literal("id"), Literal("1"), Literal("5")),)),
        ),
        (
            "<<stories(base_17).{a,b}[id::-1.5e+3,index]>>",
            Reference(
                Literal("stories"),
                Literal("base_17"),
                columns("a", "b"),
                (Equals(Literal("id"), Literal("-1.5e+3")), CurrentRow(Literal("index"))),
            ),
        ),
        (
            "<<other.x[id::<<self.y[index]>>]>>",
            Reference(
                Literal("other"),
                None,
                columns("x"),
                (
                    Equals(
                        Literal("id"),
                        Reference(Literal("self"), None, columns("y"), (CurrentRow(Literal("index")),)),
                    ),
                ),
            ),
        ),
        (
            "<<<<a.b>>(c).<<e.f>>>>",
            Reference(
                Reference(Literal("a"), None, columns("b")),
                Literal("c"),
                (Reference(Literal("e"), None, columns("f")),),
            ),
        ),
        ("<<größe.числа>>", Reference(Literal("größe"), None, columns("числа"))),
    ],
)
def test_every_rule_of_the_grammar_is_read(text: str, expected: Reference) -> None:
    assert only(text) == expected


def test_white_space_around_tokens_is_ignored() -> None:
    spaced = "<<  t \n( base )\t. { a ,\n b } [ id :: 1 : 5 , index ] >>"
    assert only(spaced) == only("<<t(base).{a,b}[id::1:5,index]>>")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'a b'", "a b"),
        ('"a b"', "a b"),
        ("''", ""),
        (r"'it\'s'", "it's"),
        (r'"say \"no\""', 'say "no"'),
        (r"'a\\b'", "a\\b"),
        (r"'a\nb\tc\rd'", "a\nb\tc\rd"),
        (r"'\<<x>>'", "<<x>>"),
        ("'<<x.y>>'", "<<x.y>>"),
        ("'],[(){}::,'", "],[(){}::,"),
        ("'2024-05-31T10:00'", "2024-05-31T10:00"),
        ("'two\nlines'", "two\nlines"),
    ],
)
def test_quoted_strings_hold_any_text(written: str, value: str) -> None:
    expected = Reference(
        Literal(value), None, (Literal(value),), (Equals(Literal(value), Literal(value)), CurrentRow(Literal(value)))
    )
    assert only(f"<<{written}.{written}[{written}::{written},{written}]>>") == expected


def test_text_around_references_is_literal() -> None:
    assert parse("a <<t.x>> b <<t.y>>").parts == (
        "a ",
        Reference(Literal("t"), None, columns("x")),
        " b ",
        Reference(Literal("t"), None, columns("y")),
    )


def test_a_template_knows_whether_it_holds_references() -> None:
    assert parse("plain").is_constant
    assert parse("").is_constant
    assert not parse("x <<t.x>>").is_constant
    assert parse("a <<t.x[a::<<u.y>>]>> b").references == (only("<<t.x[a::<<u.y>>]>>"),)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r"\<<", "<<"),
        (r"1 \<< 2", "1 << 2"),
        (r"\<<t.x>>", "<<t.x>>"),
        (r"\\\<<", r"\<<"),
        (r"\\\\\<<", r"\\<<"),
        (r"\\server\\", r"\\server\\"),
        (r"\<<<", "<<<"),
        ("a > b >> c < d", "a > b >> c < d"),
        (r"C:\path", r"C:\path"),
        ("", ""),
    ],
)
def test_an_escaped_opening_is_literal_text(written: str, text: str) -> None:
    assert "".join(map(str, parse(written).parts)) == text


def test_escaped_text_before_a_reference_stays_one_piece() -> None:
    assert parse(r"a \<< b <<t>>") == Template(("a << b ", Reference(Literal("t"))))


@pytest.mark.parametrize(
    ("written", "before"), [(r"\\<<t>>", "\\"), (r"C:\x\\\\<<t>>", "C:\\x\\\\"), (r"\\\<<\\<<t>>", "\\<<\\")]
)
def test_two_backslashes_before_a_reference_are_one(written: str, before: str) -> None:
    assert parse(written) == Template((before, Reference(Literal("t"))))


def test_instance_that_is_itself_a_reference_is_refused() -> None:
    with pytest.raises(TableReferenceError, match="an instance cannot itself be a reference") as caught:
        parse("<<t(<<u.id[x::1]>>).x>>")
    assert str(caught.value).splitlines()[-1].strip() == "^" * len("<<u.id[x::1]>>")


def test_references_keep_their_text_and_offset() -> None:
    outer = parse("see <<t.x[a::<<u.y>>]>> there").references[0]
    inner = list(outer.nested())[1]
    assert (outer.text, outer.offset) == ("<<t.x[a::<<u.y>>]>>", 4)
    assert (inner.text, inner.offset) == ("<<u.y>>", 13)


def test_a_text_is_parsed_once() -> None:
    assert parse("<<t.x[index]>>") is parse("<<t.x[index]>>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<<", "the name of a table"),
        ("a << b", "'(', '.', '[' or '>>'"),
        ("<<>>", "the name of a table"),
        ("<<<t>>>", r"a literal << is written \<<"),
        ("<<t", "'(', '.', '[' or '>>'"),
        ("<<t(", "an instance id, a version or"),
        ("<<t()>>", "an instance id, a version or"),
        ("<<t(a b)>>", "')' after the instance"),
        ("<<t(a)(b)>>", "'.', '[' or '>>'"),
        ("<<t.>>", "the name of a column, or '{' and several"),
        ("<<t.{}>>", "the name of a column"),
        ("<<t.{a,}>>", "the name of a column"),
        ("<<t.{a b}>>", "',' or '}'"),
        ("<<t.a.b>>", "'[' or '>>'"),
        ("<<t.a,b>>", "'[' or '>>'"),
        ("<<t[]>>", "the name of a column"),
        ("<<t[a:1]>>", "'::' and a value, ',' or ']'"),
        ("<<t[a=1]>>", "'::' and a value, ',' or ']'"),
        ("<<t[a::]>>", "a value"),
        ("<<t[a::1:]>>", "a value"),
        ("<<t[a:::5]>>", "a value"),
        ("<<t[a::1::5]>>", "a value"),
        ("<<t[a::1 2]>>", "':' and the end of a range, ',' or ']'"),
        ("<<t[a::1:2:3]>>", "',' or ']'"),
        ("<<t[a::10:30]", "'>>'"),
        ("<<t[a::'x]>>", "unterminated quote"),
        (r"<<t[a::'C:\dir']>>", r"unknown escape \d; write \\ for a backslash"),
        ("<<self(base).x>>", "takes no instance"),
        ("<<t.{a,b,a}>>", "column 'a' is named twice"),
        ("<<t[a::<<u.>>]>>", "the name of a column, or '{' and several"),
    ],
)
def test_malformed_reference_is_refused_with_the_expected_token(text: str, expected: str) -> None:
    with pytest.raises(TableReferenceError, match=re.escape(expected)):
        parse(text)


@pytest.mark.parametrize(
    ("text", "shown", "marked"),
    [
        ("Tell <<stories.x y>> now", "<<stories.x y>> now", "            ^"),
        ("<<t[a::<<u..b>>]>>", "<<t[a::<<u..b>>]>>", "           ^"),
        ("<<t", "<<t", "   ^"),
        ("<<t.{a, bcd, bcd}>>", "<<t.{a, bcd, bcd}>>", "             ^^^"),
        ("<<t\n  .\n a b>>", "<<t   .  a b>>", "           ^"),
        (r"<<t[a::'\d']>>", r"<<t[a::'\d']>>", "        ^^"),
    ],
)
def test_errors_mark_the_place_of_the_fault(text: str, shown: str, marked: str) -> None:
    with pytest.raises(TableReferenceError) as caught:
        parse(text)
    _, excerpt, carets = str(caught.value).split("\n")
    assert (excerpt, carets) == (f"    {shown}", f"    {marked}")


def test_error_in_a_long_text_shows_only_its_surroundings() -> None:
    with pytest.raises(TableReferenceError) as caught:
        parse("word " * 500 + "<<t[a::'" + "x" * 500 + "', b=1]>> " + "word " * 500)
    _, excerpt, carets = str(caught.value).split("\n")
    assert excerpt[len(carets) - 1] == "="
    assert carets.strip() == "^"
    assert len(excerpt) < 160
    assert excerpt.strip().startswith("…")
    assert excerpt.strip().endswith("…")


def test_references_may_be_nested_but_not_without_end() -> None:
    def nested(depth: int) -> str:
        return "<<t.x[a::" * depth + "1" + "]>>" * depth

    assert len(list(only(nested(32)).nested())) == 32
    with pytest.raises(TableReferenceError, match="nested more than 32 deep"):
        parse(nested(33))
    with pytest.raises(TableReferenceError, match="nested more than 32 deep"):
        parse("<<" * 100_000)


def test_long_texts_are_parsed_in_no_time() -> None:
    started = time.perf_counter()
    assert parse("it's < a \\ long > text " * 50_000).is_constant
    with pytest.raises(TableReferenceError):
        parse("<<t['" + "\\'" * 200_000)
    assert len(parse("<<t.{" + ",".join(f"c{number}" for number in range(1_000)) + "}>>").parts) == 1
    assert len(parse(r"\<< <<t.x>> " * 5_000).references) == 5_000
    assert time.perf_counter() - started < 5
