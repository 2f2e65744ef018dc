from __future__ import annotations

import math
import re
import string
from contextlib import suppress

import pandas as pd
import pyarrow as pa
from frames_in_memory import MemoryFrame, MemorySource, frame
from hypothesis import given, settings
from hypothesis import strategies as st

from tablevault.errors import TableReferenceError
from tablevault.references import (
    Between,
    Condition,
    CurrentRow,
    Equals,
    Evaluator,
    Literal,
    Operand,
    Placement,
    Reference,
    check_placement,
    dependencies,
    find_references,
    parse,
)

# References as text, written in one of the many ways that mean the same


@st.composite
def written(draw: st.DrawFn, operand: Operand, bare: str) -> str:
    if isinstance(operand, Reference):
        return draw(printed(operand))
    if re.fullmatch(bare, operand.value) and draw(st.booleans()):
        return operand.value
    quote = draw(st.sampled_from("'\""))
    return quote + operand.value.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


@st.composite
def condition_text(draw: st.DrawFn, condition: Condition) -> str:
    space = draw(st.sampled_from(["", " ", "\n\t "]))
    text = draw(written(condition.column, r"[\w-]+"))
    values = {CurrentRow: [], Equals: ["value"], Between: ["start", "end"]}[type(condition)]
    for separator, name in zip(("::", ":"), values, strict=False):
        text += space + separator + space + draw(written(getattr(condition, name), r"[\w.+-]+"))
    return text


@st.composite
def printed(draw: st.DrawFn, reference: Reference) -> str:
    space = draw(st.sampled_from(["", " ", "\n "]))
    text = "<<" + space + draw(written(reference.table, r"[\w-]+")) + space
    if reference.instance is not None:
        text += "(" + space + draw(written(reference.instance, r"[\w-]+")) + space + ")"
    if reference.columns is not None:
        columns = [draw(written(column, r"[\w-]+")) for column in reference.columns]
        several = len(columns) > 1 or draw(st.booleans())
        text += space + "." + space + ("{" + f"{space},{space}".join(columns) + "}" if several else columns[0])
    if reference.conditions:
        conditions = [draw(condition_text(condition)) for condition in reference.conditions]
        text += space + "[" + f"{space},{space}".join(conditions) + space + "]"
    return text + space + ">>"


# Surrogates aside, any text may be a name or a value.
words = st.one_of(
    st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=6),
    st.sampled_from(["self", "index", "<<x>>", "]", "'", '"', "\\", "::", ", ", ""]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
literals = st.builds(Literal, words)


def references_of(operands: st.SearchStrategy[Operand]) -> st.SearchStrategy[Reference]:
    conditions = st.one_of(
        st.builds(CurrentRow, operands),
        st.builds(Equals, operands, operands),
        st.builds(Between, operands, operands, operands),
    )
    columns = st.none() | st.lists(operands, min_size=1, max_size=3, unique=True).map(tuple)
    instances = st.none() | literals
    return st.builds(well_formed, operands, instances, columns, st.lists(conditions, max_size=3).map(tuple))


def well_formed(
    table: Operand, instance: Literal | None, columns: tuple[Operand, ...] | None, conditions: tuple[Condition, ...]
) -> Reference:
    return Reference(table, None if table == Literal("self") else instance, columns, conditions)


operands = st.recursive(literals, references_of, max_leaves=6)
references = references_of(operands)


@given(st.data(), references)
def test_a_reference_means_the_same_however_it_is_written(data: st.DataObject, reference: Reference) -> None:
    text = data.draw(printed(reference))
    (found,) = parse(text).parts
    assert found == reference
    assert found.text == text


@settings(max_examples=50)
@given(st.data(), st.lists(st.text("ab<>'\\ ", max_size=5) | references, max_size=4))
def test_a_template_is_its_text_and_its_references(data: st.DataObject, parts: list[str | Reference]) -> None:
    text, expected = "", []
    for part in parts:
        if isinstance(part, Reference):
            # A backslash just before an opening would take its meaning away, and '<' would make it an earlier one.
            text += "|" + data.draw(printed(part))
            expected += ["|", part]
        else:
            literal = part.replace("<", "").replace("\\", "")
            text += literal + r"\<<"
            expected.append(literal + "<<")
    assert flattened(parse(text).parts) == flattened(expected)


def flattened(parts: object) -> list[str | Reference]:
    """Join neighbouring pieces of text."""
    joined: list[str | Reference] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


# Whatever comes in

fragments = st.sampled_from(
    ["<<", ">>", "(", ")", "{", "}", "[", "]", ".", ",", "::", ":", "'", '"', "\\", " ", "self", "index", "t", "x", "1"]
)
noise = st.one_of(st.text(max_size=40), st.lists(fragments, max_size=25).map("".join))


@given(noise)
@settings(max_examples=400)
def test_any_text_is_read_or_refused_with_a_reference_error(text: str) -> None:
    source = MemorySource({"t": frame(x=[1, 2]), "self": frame(x=[1, 2], t=["a", "b"])})
    for work in (
        find_references,
        dependencies,
        lambda value: check_placement(value, where=Placement.FIELD),
        lambda value: Evaluator(source).compile(value, placement=Placement.ROW_ARGUMENT)(1),
        lambda value: Evaluator(source).compile(value, placement=Placement.FIELD)(),
    ):
        with suppress(TableReferenceError):
            work(text)


cells = {
    pa.int64(): st.integers(-3, 3),
    pa.float64(): st.sampled_from([-1.5, 0.0, 0.5, 2.0, math.nan]),
    pa.string(): st.sampled_from(["", "a", "b", "0", "1", "]"]),
    pa.bool_(): st.booleans(),
}


@given(st.data(), st.sampled_from(list(cells)), noise | st.integers() | st.floats() | st.booleans() | st.none())
def test_any_value_brought_in_is_compared_or_refused(data: st.DataObject, arrow: pa.DataType, value: object) -> None:
    column = data.draw(st.lists(cells[arrow] | st.none(), max_size=4))
    other = MemoryFrame(pa.table({"key": pa.array(column, arrow)}))
    inner = MemoryFrame(pa.table({"value": [""]}), {"value": [value]})
    evaluator = Evaluator(MemorySource({"t": other, "self": inner}))
    for condition in ("key::<<self.value[index]>>", "key::<<self.value[index]>>:<<self.value[index]>>"):
        reference = evaluator.compile(f"<<t.key[{condition}]>>", placement=Placement.ROW_ARGUMENT)
        with suppress(TableReferenceError):
            reference(0)


@given(st.lists(noise, min_size=1, max_size=5), st.data())
def test_no_text_brought_in_can_change_the_meaning_of_the_outer_reference(
    texts: list[str], data: st.DataObject
) -> None:
    wanted = data.draw(st.sampled_from(texts))
    source = MemorySource({"t": frame(key=texts, x=list(range(len(texts)))), "self": frame(wanted=[wanted])})
    found = Evaluator(source).compile("<<t.x[key::<<self.wanted[index]>>]>>", placement=Placement.ROW_ARGUMENT)(0)
    expected = [position for position, text in enumerate(texts) if text == wanted]
    assert found == (expected if len(expected) > 1 else expected[0])


# Evaluation equals a scan of all rows


@st.composite
def frames(draw: st.DrawFn) -> MemoryFrame:
    count = draw(st.integers(0, 12))
    columns = {}
    for name, arrow in zip("abcd", cells, strict=True):
        column = draw(st.lists(st.none() | cells[arrow], min_size=count, max_size=count))
        columns[name] = pa.array(column, arrow)
    return MemoryFrame(pa.table(columns))


def key_texts(column: str) -> st.SearchStrategy[str]:
    by_column = dict(zip("abcd", cells.values(), strict=True)) | {"index": st.integers(-2, 12)}
    return by_column[column].map(str)


@st.composite
def drawn_conditions(draw: st.DrawFn) -> list[tuple[str, str, str | None]]:
    conditions = []
    for column in draw(st.lists(st.sampled_from(["a", "b", "c", "d", "index"]), min_size=1, max_size=3)):
        start = draw(key_texts(column))
        end = draw(st.none() | key_texts(column))
        conditions.append((column, start, end))
    return conditions


def typed(column: str, text: str) -> object:
    return {"a": int, "b": float, "c": str, "d": lambda value: value == "True", "index": int}[column](text)


def holds(other: MemoryFrame, position: int, column: str, start: str, end: str | None) -> bool:
    cell = position if column == "index" else other.values(column)[position]
    if cell is None:
        return False
    if end is None:
        return cell == typed(column, start)
    return typed(column, start) <= cell < typed(column, end)


def quoted(text: str) -> str:
    return f"'{text}'"


@given(frames(), drawn_conditions(), st.sampled_from(["a", "c", "index", "{a,c}"]), st.booleans())
@settings(max_examples=200)
def test_evaluation_equals_a_scan_over_all_rows(
    other: MemoryFrame, conditions: list[tuple[str, str, str | None]], columns: str, by_row: bool
) -> None:
    expected = [at for at in range(len(other)) if all(holds(other, at, *condition) for condition in conditions)]
    inner: dict[str, list[str]] = {"none": [""]}

    def operand(text: str) -> str:
        if not by_row:
            return quoted(text)
        inner[f"v{len(inner)}"] = [text]
        return f"<<self.v{len(inner) - 1}[index]>>"

    parts = [
        f"{column}::{operand(start)}" + ("" if end is None else f":{operand(end)}") for column, start, end in conditions
    ]
    source = MemorySource({"t": other, "self": frame(**inner)})
    text = f"<<t.{columns}[{', '.join(parts)}]>>"
    found = Evaluator(source).compile(text, placement=Placement.ROW_ARGUMENT)(0)
    if columns == "{a,c}":
        assert (found is None) is (not expected)
        if expected:
            assert [None if pd.isna(cell) else cell for cell in found["c"]] == [
                other.values("c")[at] for at in expected
            ]
        return
    column = range(len(other)) if columns == "index" else other.values(columns)
    scanned = [column[at] for at in expected]
    assert found == (scanned if len(scanned) > 1 else scanned[0] if scanned else None)
