from __future__ import annotations

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest
from frames_in_memory import MemoryFrame, MemorySource, frame

from tablevault.errors import TableReferenceError, TVImplementationError
from tablevault.references import Compiled, Evaluator, Placement

ROW, ARGUMENT, FIELD = Placement.ROW_ARGUMENT, Placement.ARGUMENT, Placement.FIELD


@pytest.fixture
def source() -> MemorySource:
    return MemorySource(
        {
            "self": frame(fruit=["apple", "pear", "fig"], number=[10, 20, 30]),
            "other": frame(
                id=[0, 1, 2, 2, None], x=["a", "b", "c", "d", "e"], score=[0.5, None, float("nan"), 2.0, 3.0]
            ),
            ("other", "v2"): frame(id=[0], x=["from v2"]),
            "names": frame(
                table=["other", "missing"], column=["x", "y"], number=[1, 2], nothing=pa.nulls(2, pa.string())
            ),
            "one": frame(cell=["alone"]),
            "empty": frame(cell=pa.array([], pa.string()), second=pa.array([], pa.int64())),
            "lists": frame(id=[0, 1], vector=[[1.0, 2.0], [3.0]]),
        }
    )


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("<<other.x[id]>>", ["a", "b", ["c", "d"], None]),
        ("<<other.id[id]>>", [0, 1, [2, 2], None]),
        ("<<other.x[index]>>", ["a", "b", "c", "d"]),
        ("<<other.x['index']>>", ["a", "b", "c", "d"]),
        ("<<other.x[id, index]>>", ["a", "b", "c", None]),
        ("<<other.index[id]>>", [0, 1, [2, 3], None]),
    ],
)
def test_bare_condition_is_on_the_column_that_it_names(source: MemorySource, text: str, rows: list[object]) -> None:
    """Row by row, and for several rows together."""
    item = compiled(source, text)
    assert [item(row) for row in range(4)] == rows
    assert item.evaluate_rows(range(4)) == rows


def compiled(source: MemorySource, value: object, placement: Placement = ROW) -> Compiled:
    return Evaluator(source).compile(value, placement=placement)


def evaluated(source: MemorySource, value: object, placement: Placement = ROW, row: int | None = 0) -> object:
    return compiled(source, value, placement)(row)


def rows(found: object) -> dict[str, list[object]]:
    assert isinstance(found, pd.DataFrame)
    return {name: [None if pd.isna(cell) else cell for cell in found[name]] for name in found.columns}


# What comes back


@pytest.mark.parametrize("placement", [ROW, ARGUMENT])
def test_without_conditions_a_data_frame_comes_back_even_of_one_cell(
    source: MemorySource, placement: Placement
) -> None:
    assert rows(evaluated(source, "<<other.{x,id}>>", placement)) == {"x": list("abcde"), "id": [0, 1, 2, 2, None]}
    assert rows(evaluated(source, "<<other.x>>", placement)) == {"x": list("abcde")}
    assert rows(evaluated(source, "<<one>>", placement)) == {"cell": ["alone"]}
    assert rows(evaluated(source, "<<self>>", placement)) == {"fruit": ["apple", "pear", "fig"], "number": [10, 20, 30]}
    assert rows(evaluated(source, "<<empty.cell>>", placement)) == {"cell": []}


def test_condition_without_matching_rows_gives_null(source: MemorySource) -> None:
    for columns in ("", ".x", ".{x,id}"):
        assert evaluated(source, f"<<other{columns}[id::99]>>") is None
        assert evaluated(source, f"<<other{columns}[id::50:99]>>") is None
        assert evaluated(source, f"<<other{columns}[id::1,x::a]>>") is None


def test_one_cell_comes_back_as_a_plain_value(source: MemorySource) -> None:
    assert evaluated(source, "<<other.x[id::1]>>") == "b"
    assert type(evaluated(source, "<<other.id[x::b]>>")) is int
    assert type(evaluated(source, "<<other.score[x::a]>>")) is float
    assert evaluated(source, "<<other.score[x::b]>>") is None
    assert evaluated(source, "<<one[index::0]>>") == "alone"


def test_several_rows_of_one_column_are_a_list_in_frame_order(source: MemorySource) -> None:
    assert evaluated(source, "<<other.x[id::2]>>") == ["c", "d"]
    assert evaluated(source, "<<other.x[id::0:3]>>") == ["a", "b", "c", "d"]
    assert evaluated(source, "<<other.x[score::0:9]>>") == ["a", "d", "e"]


def test_several_columns_come_back_as_a_data_frame(source: MemorySource) -> None:
    assert rows(evaluated(source, "<<other.{x,id}[id::1]>>")) == {"x": ["b"], "id": [1]}
    assert rows(evaluated(source, "<<other.{x,id}[id::2]>>")) == {"x": ["c", "d"], "id": [2, 2]}
    assert rows(evaluated(source, "<<self[index]>>", row=1)) == {"fruit": ["pear"], "number": [20]}


def test_in_fields_one_cell_counts_as_the_cell_and_one_column_as_a_list(source: MemorySource) -> None:
    assert evaluated(source, "<<one.cell>>", FIELD, None) == "alone"
    assert evaluated(source, "<<one>>", FIELD, None) == "alone"
    assert evaluated(source, "<<other.x>>", FIELD, None) == list("abcde")
    assert evaluated(source, "<<empty.cell>>", FIELD, None) == []
    assert evaluated(source, "<<other.x[id::2]>>", FIELD, None) == ["c", "d"]
    assert evaluated(source, "<<other.x[id::1]>>", FIELD, None) == "b"
    assert evaluated(source, "<<other.x[id::<<one.index>>]>>", FIELD, None) == "a"
    assert rows(evaluated(source, "<<other.{x,id}[id::0]>>", FIELD, None)) == {"x": ["a"], "id": [0]}


# The current row


def test_index_is_the_current_rows_position(source: MemorySource) -> None:
    cell = compiled(source, "<<self.fruit[index]>>")
    assert [cell(row) for row in range(3)] == ["apple", "pear", "fig"]
    position = compiled(source, "<<self.index>>")
    assert [position(row) for row in range(3)] == [0, 1, 2]
    assert evaluated(source, "<<self.fruit[index, number::20]>>", row=1) == "pear"
    assert evaluated(source, "<<self.fruit[index, number::20]>>", row=0) is None
    assert evaluated(source, "<<self.fruit[number::20, index]>>", row=1) == "pear"
    assert evaluated(source, "<<self.fruit[index, index::1]>>", row=1) == "pear"
    assert evaluated(source, "<<self.fruit[index, index::1]>>", row=0) is None


def test_a_column_without_value_equals_the_current_position(source: MemorySource) -> None:
    found = compiled(source, "<<other.x[id]>>")
    assert [found(row) for row in range(4)] == ["a", "b", ["c", "d"], None]


def test_position_outside_the_other_frame_gives_null(source: MemorySource) -> None:
    assert evaluated(source, "<<one.cell[index]>>", row=2) is None
    assert evaluated(source, "<<self.fruit[index::-1]>>") is None
    assert evaluated(source, "<<self.fruit[index::3]>>") is None
    assert evaluated(source, "<<self.fruit[index::-5:2]>>") == ["apple", "pear"]
    assert evaluated(source, "<<self.fruit[index::-5:-1]>>") is None
    assert evaluated(source, "<<self.fruit[index::2:1]>>") is None


def test_index_is_a_pseudo_column_of_every_frame(source: MemorySource) -> None:
    assert evaluated(source, "<<other.x[index::3]>>", ARGUMENT) == "d"
    assert evaluated(source, "<<other.x[index::1:3]>>", ARGUMENT) == ["b", "c"]
    assert evaluated(source, "<<other.index[x::d]>>", ARGUMENT) == 3
    assert evaluated(source, "<<other.index[id::2]>>", ARGUMENT) == [2, 3]
    assert evaluated(source, "<<self.index[fruit::fig]>>", ARGUMENT) == 2
    assert evaluated(source, "<<other.x[id::2, index::3]>>", ARGUMENT) == "d"
    assert evaluated(source, "<<other.x[id::2, index::3:9]>>", ARGUMENT) == "d"
    assert rows(evaluated(source, "<<other.{x,index}[id::2]>>", ARGUMENT)) == {"x": ["c", "d"], "index": [2, 3]}
    assert rows(evaluated(source, "<<other.{index,x}[id::2]>>", ARGUMENT)) == {"index": [2, 3], "x": ["c", "d"]}
    assert rows(evaluated(source, "<<lists.index>>", ARGUMENT)) == {"index": [0, 1]}
    assert rows(evaluated(source, "<<self.{fruit,index}>>", ARGUMENT))["index"] == [0, 1, 2]


def test_a_value_that_depends_on_the_row_needs_one(source: MemorySource) -> None:
    with pytest.raises(TVImplementationError):
        compiled(source, ["<<self.fruit[index]>>"])(None)


@pytest.mark.parametrize(
    ("value", "constant"),
    [
        ("<<self.fruit[index]>>", False),
        ("<<self.index>>", False),
        ("<<other.x[id]>>", False),
        ("<<other.x[id::<<self.index>>]>>", False),
        ("<<other.<<names.column[index]>>>>", False),
        ({"a": ["b", "<<self.fruit[index]>>"]}, False),
        ("n° <<self.index>>", False),
        ("<<self>>", True),
        ("<<other.x[id::<<names.number[index::0]>>]>>", True),
        ("<<other.<<names.column[index::0]>>[id::1]>>", True),
        ("<<self.fruit[index::0]>>", True),
        ({"a": ["b", 1, ("<<one.cell[index::0]>>",)]}, True),
        ("plain", True),
        (7, True),
    ],
)
def test_row_independent_references_are_recognized(source: MemorySource, value: object, constant: bool) -> None:
    assert compiled(source, value).is_constant is constant


# Conditions


def test_all_conditions_have_to_hold(source: MemorySource) -> None:
    assert evaluated(source, "<<other.x[id::2, x::d]>>") == "d"
    assert evaluated(source, "<<other.x[id::2, score::1:5]>>") == "d"
    assert evaluated(source, "<<other.x[id::0:3, score::0:1]>>") == "a"
    assert evaluated(source, "<<other.x[id::1, id::2]>>") is None
    assert rows(evaluated(source, "<<other.{x,id}[id::2, x::c]>>")) == {"x": ["c"], "id": [2]}


def test_nulls_and_nan_match_nothing(source: MemorySource) -> None:
    assert evaluated(source, "<<other.x[id::<<names.nothing[index::0]>>]>>") is None
    assert evaluated(source, "<<other.x[id::<<other.score[x::b]>>]>>") is None
    assert evaluated(source, "<<other.x[score::<<other.score[x::c]>>]>>") is None
    assert evaluated(source, "<<other.x[score::nan]>>") is None
    assert evaluated(source, "<<other.x[x::c, score::nan]>>") is None
    assert evaluated(source, "<<other.x[score::<<names.nothing[index::0]>>:5]>>") is None
    assert evaluated(source, "<<other.x[x::c, score::0:nan]>>") is None
    assert evaluated(source, "<<other.x[index::<<names.nothing[index::0]>>]>>") is None
    assert evaluated(source, "<<other.x[index::0, x::<<names.nothing[index::0]>>]>>") is None
    assert evaluated(source, "<<other.x[id::<<one.cell[cell::absent]>>]>>") is None


def test_a_range_has_its_start_but_not_its_end(source: MemorySource) -> None:
    assert evaluated(source, "<<self.number[number::10:30]>>") == [10, 20]
    assert evaluated(source, "<<self.fruit[fruit::b:'pear']>>") == "fig"
    assert evaluated(source, "<<self.fruit[number::30:10]>>") is None
    assert evaluated(source, "<<self.fruit[number::<<self.number[index]>>:31]>>", row=1) == ["pear", "fig"]


def test_an_error_in_one_condition_does_not_depend_on_the_others(source: MemorySource) -> None:
    source.frames["self"] = frame(text=["nothing"], number=[1])
    for other in ("x::absent", "index::99", "x::a"):
        with pytest.raises(TableReferenceError, match="'nothing' is not a whole number"):
            evaluated(source, f"<<other.x[{other}, id::<<self.text[index]>>]>>")


def test_a_column_of_lists_cannot_be_searched(source: MemorySource) -> None:
    with pytest.raises(TableReferenceError, match="cannot be compared with a value"):
        compiled(source, "<<lists.id[vector::3]>>")
    documents = MemoryFrame(pa.table({"id": [1, 2], "json": ["{}", "{}"]}), {"json": [{"a": 1}, "text"]})
    source.frames["documents"] = documents
    for condition in ("json::text", "json::a:z", "id::1, json::a:z"):
        with pytest.raises(TableReferenceError, match="column that holds lists"):
            evaluated(source, f"<<documents.id[{condition}]>>")


# Inner references


def test_inner_references_take_part_as_values(source: MemorySource) -> None:
    assert evaluated(source, "<<other.x[id::<<names.number[index::0]>>]>>") == "b"
    assert evaluated(source, "<<<<names.table[index::0]>>.x[id::1]>>") == "b"
    assert evaluated(source, "<<other.<<names.column[index::0]>>[id::1]>>") == "b"
    source.frames["versions"] = frame(key=["id"])
    assert evaluated(source, "<<other.x[<<versions.key[index::0]>>::0]>>") == "a"
    assert evaluated(source, "<<other.x[<<versions.key[index::0]>>::0:2]>>") == ["a", "b"]
    assert evaluated(source, "<<other.x[<<versions.key[index::0]>>]>>", row=1) == "b"
    assert rows(evaluated(source, "<<other.{id,<<names.column[index::0]>>}[id::1]>>")) == {"id": [1], "x": ["b"]}


def test_names_may_differ_from_row_to_row(source: MemorySource) -> None:
    source.frames["self"] = frame(column=["x", "id", "x", "absent"], key=["a", "a", "b", "a"])
    value = compiled(source, "<<other.<<self.column[index]>>[x::<<self.key[index]>>]>>")
    assert [value(row) for row in range(3)] == ["a", 0, "b"]
    with pytest.raises(TableReferenceError, match="there is no column 'absent' in 'other'"):
        value(3)


@pytest.mark.parametrize(
    "text", ["a'b", 'a"b', "a]b", "a,b", "a>>b", "<<self.x>>", "\\", "::", "x]>> <<self.secret", ""]
)
def test_a_value_can_never_change_the_meaning_of_the_outer_reference(source: MemorySource, text: str) -> None:
    source.frames["self"] = frame(key=[text])
    source.frames["other"] = frame(id=["harmless", text], x=["wrong", "right"])
    assert evaluated(source, "<<other.x[id::<<self.key[index]>>]>>") == "right"


@pytest.mark.parametrize("name", ["self", "index"])
def test_a_value_that_a_reference_brings_in_never_means_self_or_index(source: MemorySource, name: str) -> None:
    source.frames["names"] = frame(name=[name])
    for text in (
        "<<<<names.name[index::0]>>.fruit>>",
        "<<other.<<names.name[index::0]>>>>",
        "<<other.x[<<names.name[index::0]>>]>>",
    ):
        with pytest.raises(TableReferenceError, match="which is reserved"):
            evaluated(source, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<<other.<<names.number[index::0]>>>>", "<<names.number[index::0]>> is an int; expected the name"),
        ("<<<<names.nothing[index::0]>>.x>>", "is null; expected the name"),
        ("<<other.{x,<<names.column[index::0]>>}>>", "column 'x' is named twice"),
        ("<<other.<<names.column>>>>", "has no condition and so is a DataFrame"),
        ("<<<<names.table[index::1]>>.x>>", "there is no table 'missing'"),
        ("<<other.<<other.x[id::2]>>>>", "is a list of 2 values; expected the name"),
        ("<<other.x[id::<<names.number>>]>>", "has no condition and so is a DataFrame; expected one value"),
        ("<<other.x[id::<<other.id[id::2]>>]>>", "a list of 2 values is not a single comparable value, as"),
        ("<<other.x[id::<<names[index::0]>>]>>", "a DataFrame is not a single comparable value"),
        ("<<other.x[id::<<lists.vector[id::0]>>]>>", "a list of 2 values is not a single comparable value"),
        ("<<other.x[id::<<names.column[index::0]>>]>>", "'x' is not a whole number"),
        (
            "<<other.x[id::<<lists.vector[id::<<self.index>>]>>]>>",
            "a list of 2 values is not a single comparable value",
        ),
    ],
)
def test_value_of_an_inner_reference_must_fit(source: MemorySource, text: str, message: str) -> None:
    with pytest.raises(TableReferenceError) as caught:
        evaluated(source, text)
    assert message in str(caught.value)


# What does not exist


@pytest.mark.parametrize(
    ("text", "message", "marked"),
    [
        ("<<othr.x>>", "there is no table 'othr'; did you mean 'other'?", "othr"),
        ("<<other(v3).x>>", "there is no table 'other'", "other(v3"),
        ("<<self.fruits[index]>>", "there is no column 'fruits' in 'self'; did you mean 'fruit'?", "fruits"),
        ("<<other.{x, idd}>>", "there is no column 'idd' in 'other'; did you mean 'id'?", "idd"),
        ("<<other.x[idd::3]>>", "there is no column 'idd' in 'other'; did you mean 'id'?", "idd"),
        ("<<other.x[id::abc]>>", "'abc' is not a whole number that int64 can hold, as column 'id' needs", "abc"),
        ("<<other.x[id::1:'2.5']>>", "'2.5' is not a whole number", "'2.5'"),
        ("<<other.x[index::a]>>", "'a' is not a whole number that int64 can hold, as column 'index' needs", "a"),
        ("a <<other.x[id::<<self.nunber[index]>>]>> b", "did you mean 'number'?", "nunber"),
        ("<<<<othr.x[index::0]>>.y>>", "there is no table 'othr'", "othr"),
        ("<<othr.<<names.column[index::0]>>>>", "there is no table 'othr'", "othr"),
        ("<<other.<<names.column[index::0]>>[id::<<names.nunber[index::0]>>]>>", "did you mean 'number'?", "nunber"),
    ],
)
def test_literals_are_checked_when_the_value_is_compiled(
    source: MemorySource, text: str, message: str, marked: str
) -> None:
    with pytest.raises(TableReferenceError) as caught:
        compiled(source, text)
    said, excerpt, carets = str(caught.value).split("\n")
    assert message in said
    assert excerpt[carets.index("^") : carets.rindex("^") + 1] == marked


def test_errors_of_values_mark_the_inner_reference(source: MemorySource) -> None:
    with pytest.raises(TableReferenceError) as caught:
        evaluated(source, "see <<other.x[id::<<self.fruit[index]>>]>>")
    assert str(caught.value) == (
        "'apple' is not a whole number that int64 can hold, as column 'id' needs\n"
        "    <<other.x[id::<<self.fruit[index]>>]>>\n"
        "                  ^^^^^^^^^^^^^^^^^^^^^"
    )


def test_the_text_of_a_key_error_is_shown_without_quotes(source: MemorySource) -> None:
    class Mapping:
        def __init__(self, *arguments: str) -> None:
            self.arguments = arguments

        def frame(self, table: str, instance: str | None) -> MemoryFrame:
            raise KeyError(*self.arguments)

    for source_of_errors, said in ((Mapping("it's gone"), "it's gone"), (Mapping(), "there is no table 't'")):
        with pytest.raises(TableReferenceError) as caught:
            Evaluator(source_of_errors).compile("<<t>>", placement=FIELD)
        assert str(caught.value).split("\n")[0] == said


def test_placement_is_checked_when_the_value_is_compiled(source: MemorySource) -> None:
    with pytest.raises(TableReferenceError, match="row-wise"):
        compiled(source, {"a": ["<<self.fruit[index]>>"]}, ARGUMENT)
    with pytest.raises(TableReferenceError, match="'self' is available only in 'arguments'"):
        compiled(source, "<<self.fruit>>", FIELD)


# Values around references


def test_a_string_that_is_one_reference_takes_the_value_with_its_type(source: MemorySource) -> None:
    assert evaluated(source, "<<self.number[index]>>") == 10
    assert evaluated(source, " <<self.number[index]>>") == " 10"


def test_a_reference_in_a_longer_string_is_substituted_as_its_text(source: MemorySource) -> None:
    source.frames["v"] = frame(
        day=[dt.date(2024, 5, 31)], price=[Decimal("1.50")], truth=[True], ratio=[0.1], nothing=pa.nulls(1, pa.int64())
    )
    assert (
        evaluated(source, "<<self.fruit[index]>>: <<self.number[index]>>/<<other.x[id::2]>>") == "apple: 10/['c', 'd']"
    )
    for column, text in (
        ("day", "2024-05-31"),
        ("price", "1.50"),
        ("truth", "True"),
        ("ratio", "0.1"),
        ("nothing", "None"),
    ):
        assert evaluated(source, f"is <<v.{column}[index::0]>>") == f"is {text}"
    assert evaluated(source, r"\<<self.index>> = <<self.index>>", row=2) == "<<self.index>> = 2"


def test_lists_dicts_and_scalars_are_resolved_all_the_way_down(source: MemorySource) -> None:
    value = {"<<key>>": ["<<self.fruit[index]>>", {"n": ("<<self.number[index]>>", 2.5, None)}], "fixed": [True, "x"]}
    assert evaluated(source, value, row=1) == {"<<key>>": ["pear", {"n": (20, 2.5, None)}], "fixed": [True, "x"]}
    assert evaluated(source, (1, "<<one.cell[index::0]>>"), FIELD) == (1, "alone")
    for scalar in (None, True, 3, 2.5, "", dt.date(2024, 5, 31), b"bytes"):
        assert evaluated(source, scalar) == scalar


def test_literal_text_is_substituted_once_and_results_never(source: MemorySource) -> None:
    source.frames["self"] = frame(prompt=["~PROCESS_ID~", "b"])
    seen: list[str] = []

    def literal(text: str) -> str:
        seen.append(text)
        return text.replace("~PROCESS_ID~", "p1")

    value = {
        "~PROCESS_ID~": [
            "~PROCESS_ID~",
            r"~PROCESS_ID~ \<< <<self.prompt[index]>> ~PROCESS_ID~",
            "<<self.prompt[index]>>",
        ]
    }
    found = Evaluator(source).compile(value, placement=ROW, literal=literal)
    assert found(0) == {"~PROCESS_ID~": ["p1", "p1 << ~PROCESS_ID~ p1", "~PROCESS_ID~"]}
    found(1)
    assert seen == ["~PROCESS_ID~", "~PROCESS_ID~ << ", " ~PROCESS_ID~"]


# What is returned belongs to the caller


@pytest.mark.parametrize(
    "value",
    [
        [1, [2]],
        {"a": [1]},
        {"a": {"b", "c"}},
        "<<lists.vector[id::0]>>",
        "<<lists.vector[id::<<self.index>>]>>",
        "<<lists.vector[index]>>",
        "<<lists.vector[id::0:1]>>",
        "<<lists.vector[id::0:9]>>",
        "<<other.x[id::2]>>",
        ["<<other.x[id::2]>>", "<<self.fruit[index]>>"],
    ],
)
def test_lists_and_dicts_are_not_shared_between_calls(source: MemorySource, value: object) -> None:
    def spoil(found: object) -> None:
        if isinstance(found, dict):
            for item in found.values():
                spoil(item)
        elif isinstance(found, list):
            for item in found:
                spoil(item)
            found.append("spoilt")
        elif isinstance(found, set):
            found.add("spoilt")

    found = compiled(source, value)
    spoil(found(0))
    assert found(0) == evaluated(source, value)
    assert "spoilt" not in str(found(0))


def test_data_frames_are_not_shared_between_calls(source: MemorySource) -> None:
    class Documents(MemoryFrame):
        def data_frame(self, columns: object, positions: object) -> pd.DataFrame:
            return pd.DataFrame({"id": [1, 2], "document": [{"a": [1]}, None]}, index=[5, 6])

    source.frames["documents"] = Documents(pa.table({"id": [1, 2], "document": ["", ""]}))
    for text in ("<<documents>>", "<<documents.{id,document}[id::1:9]>>", ["<<documents>>"]):
        value = compiled(source, text)
        first = value(0)[0] if isinstance(text, list) else value(0)
        first.loc[5, "id"] = 99
        first["new"] = 1
        first["document"].iloc[0]["a"].append(2)
        first.columns = ["x", "y", "z"]
        second = value(0)[0] if isinstance(text, list) else value(0)
        assert list(second["id"]) == [1, 2]
        assert list(second["document"]) == [{"a": [1]}, None]
        assert list(second.columns) == ["id", "document"]
        assert list(second.index) == [5, 6]


def test_the_own_frame_is_never_spoilt_through_a_cell(source: MemorySource) -> None:
    value = compiled(source, "<<lists.vector[index]>>")
    cell = value(1)
    assert isinstance(cell, list)
    cell.clear()
    assert value(1) == [3.0]


# Work is done once


def test_an_index_is_built_once_for_all_rows_and_values(source: MemorySource) -> None:
    evaluator = Evaluator(source)
    values = [evaluator.compile("<<other.x[id::<<self.index>>]>>", placement=ROW) for _ in range(5)]
    values += [evaluator.compile("<<other.score[id::0:<<self.index>>]>>", placement=ROW) for _ in range(5)]
    for value in values:
        for row in range(3):
            value(row)
    assert source.frames["other"].asked["id"] == 2


def test_compiling_does_not_read_columns(source: MemorySource) -> None:
    compiled(source, ["<<other.x[id::<<self.index>>]>>", "<<self.fruit[index]>>", "<<other.x[id::2]>>", "<<other.x>>"])
    assert not any(source.frames["other"].asked.values())
    assert not any(source.frames["self"].asked.values())


def test_a_constant_is_computed_once(source: MemorySource) -> None:
    value = compiled(source, ["<<other.x[id::1]>>", "<<self.fruit[index]>>"])
    for row in range(3):
        value(row)
    assert source.frames["other"].asked["x"] == 1


def test_value_sees_the_instance_under_construction_when_compiled(source: MemorySource) -> None:
    evaluator = Evaluator(source)
    before = evaluator.compile("<<self.fruit[number::20]>>", placement=ARGUMENT)
    assert before() == "pear"
    source.frames["self"] = frame(fruit=["kiwi"], number=[20], new=[1])
    assert evaluator.compile("<<self.fruit[number::20]>>", placement=ARGUMENT)() == "kiwi"
    assert evaluator.compile("<<self.new[index::0]>>", placement=ARGUMENT)() == 1
    assert before() == "pear"


def test_threads_share_one_index(source: MemorySource) -> None:
    count = 2_000
    source.frames["other"] = frame(id=list(range(count)), x=[str(number) for number in range(count)])
    source.frames["self"] = frame(key=list(reversed(range(count))))
    value = compiled(source, {"cell": "<<other.x[id::<<self.key[index]>>]>>", "constant": "<<other.x[id::7]>>"})
    start = threading.Barrier(8)

    def run(offset: int) -> list[object]:
        start.wait()
        return [value(row) for row in range(offset, count, 8)]

    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(run, range(8)))
    expected = [{"cell": str(count - 1 - row), "constant": "7"} for row in range(count)]
    assert [parts[row % 8][row // 8] for row in range(count)] == expected
    assert source.frames["other"].asked["id"] == 1
