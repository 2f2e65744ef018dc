from __future__ import annotations

import pytest

from tablevault.errors import TableReferenceError
from tablevault.references import (
    Dependency,
    Placement,
    check_placement,
    dependencies,
    find_references,
    parse,
)


def texts(value: object) -> list[str]:
    return [reference.text for reference in find_references(value)]


def test_references_are_found_all_the_way_down_and_in_order() -> None:
    value = {
        "<<not.a.value>>": "a <<t.a>> b <<t.b>>",
        "list": ["<<t.c>>", 3, None, ("<<t.d>>", {"deep": "<<t.e[x::<<t.f>>]>>"})],
        "last": "<<t.g>>",
    }
    assert texts(value) == [
        "<<t.a>>",
        "<<t.b>>",
        "<<t.c>>",
        "<<t.d>>",
        "<<t.e[x::<<t.f>>]>>",
        "<<t.f>>",
        "<<t.g>>",
    ]


@pytest.mark.parametrize("value", [None, 3, 2.5, True, "plain", [], {}, r"\<<t.x>>"])
def test_plain_values_yield_no_references(value: object) -> None:
    assert find_references(value) == ()
    assert dependencies(value).reads == ()


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[object] = ["<<t.x>>"]
    value += [value, value]
    with pytest.raises(TableReferenceError, match="contains itself"):
        find_references(value)


def test_a_small_value_that_unfolds_into_a_huge_one_is_refused() -> None:
    value: list[object] = []
    for _ in range(60):
        value = [value, value]
    with pytest.raises(TableReferenceError, match="more than 1,000,000 items"):
        find_references(value)


def read(table: str, instance: str | None, columns: set[str] | None, text: str) -> Dependency:
    return Dependency(table, instance, None if columns is None else frozenset(columns), text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<<t>>", [("t", None, None)]),
        ("<<t(v2)>>", [("t", "v2", None)]),
        ("<<t.x>>", [("t", None, {"x"})]),
        ("<<t.{x,y}>>", [("t", None, {"x", "y"})]),
        ("<<t[id::3]>>", [("t", None, None)]),
        ("<<t.x[id::3]>>", [("t", None, {"x", "id"})]),
        ("<<t.x[id::3:9,z]>>", [("t", None, {"x", "id", "z"})]),
        ("<<t.x[index]>>", [("t", None, {"x"})]),
        ("<<t.index[index::3]>>", [("t", None, set())]),
        ("<<self.index>>", [("self", None, set())]),
        ("<<self>>", [("self", None, None)]),
        ("<<t.x[id::<<self.y[index]>>]>>", [("t", None, {"x", "id"}), ("self", None, {"y"})]),
        (
            "<<t.x[id::<<u.a[b::1]>>:<<v.c[d::2]>>]>>",
            [("t", None, {"x", "id"}), ("u", None, {"a", "b"}), ("v", None, {"c", "d"})],
        ),
    ],
)
def test_dependencies_are_read_off_the_references(
    text: str, expected: list[tuple[str, str | None, set[str] | None]]
) -> None:
    found = dependencies(["", {"key": text}])
    assert found.undecided == ()
    assert [(one.table, one.instance, one.columns) for one in found.reads] == expected
    assert found.reads[0].text == text


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("<<<<s.name[i::0]>>.x>>", ["s"]),
        ("<<t.<<s.name[i::0]>>>>", ["t", "s"]),
        ("<<t.{x,<<s.name[i::0]>>}>>", ["t", "s"]),
        ("<<t.x[<<s.name[i::0]>>::3]>>", ["t", "s"]),
    ],
)
def test_names_that_are_references_leave_a_dependency_undecided(text: str, known: list[str]) -> None:
    found = dependencies(text)
    assert [reference.text for reference in found.undecided] == [text]
    assert [one.table for one in found.reads] == known
    assert found.reads[-1] == read("s", None, {"name", "i"}, "<<s.name[i::0]>>")


def test_a_dependency_with_unknown_columns_has_the_known_ones() -> None:
    assert dependencies("<<t.{x,<<s.name>>}[y::1]>>").reads[0].columns == {"x", "y"}


@pytest.mark.parametrize(
    ("text", "row", "itself"),
    [
        ("<<self.x[index]>>", True, True),
        ("<<t.x[id]>>", True, False),
        ("<<self.index>>", True, True),
        ("<<self.{index}>>", True, True),
        ("<<t.x[id::<<self.index>>]>>", True, True),
        ("<<t.x[id::<<u.y[k]>>]>>", True, False),
        ("<<t.index>>", False, False),
        ("<<self.index[index::0]>>", False, True),
        ("<<self.{index,x}>>", False, True),
        ("<<self>>", False, True),
        ("<<'self'.x>>", False, True),
        ("<<t.x[index::0]>>", False, False),
        ("<<t.self[a::self]>>", False, False),
        ("plain", False, False),
    ],
)
def test_references_to_the_current_row_or_instance_are_recognized(text: str, row: bool, itself: bool) -> None:
    assert any(reference.means_current_row for reference in find_references(text)) is row
    assert any(reference.is_self for reference in find_references(text)) is itself
    check_placement(text, where=Placement.ROW_ARGUMENT)
    for where, refused in ((Placement.ARGUMENT, row), (Placement.FIELD, row or itself)):
        if refused:
            with pytest.raises(TableReferenceError, match="available only in 'arguments'"):
                check_placement(text, where=where)
        else:
            check_placement(text, where=where)


@pytest.mark.parametrize(
    ("text", "where", "marked"),
    [
        ("<<self.x[index]>>", Placement.FIELD, "self"),
        ("<<self.x[a::1, index]>>", Placement.ARGUMENT, "index"),
        ("<<self.index>>", Placement.ARGUMENT, "<<self.index>>"),
        ("see <<t.x[a::<<self.y[k::0]>>]>>", Placement.FIELD, "self"),
    ],
)
def test_misplaced_token_is_marked(text: str, where: Placement, marked: str) -> None:
    with pytest.raises(TableReferenceError) as caught:
        check_placement(text, where=where)
    _, excerpt, carets = str(caught.value).split("\n")
    assert excerpt[carets.index("^") : carets.rindex("^") + 1] == marked


def test_nested_reference_is_no_position() -> None:
    assert not parse("<<self.<<t.x>>>>").references[0].is_position
