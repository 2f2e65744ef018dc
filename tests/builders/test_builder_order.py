import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_builders import column_builder, index_builder
from tablevault.builders.order import order_builders
from tablevault.errors import TVBuilderError


def reading(name, *columns, **fields):
    arguments = {f"a{number}": f"<<self.{column}>>" for number, column in enumerate(columns)}
    return column_builder(name, arguments=arguments, **fields)


def order(*specs, table="stories"):
    return [spec.name for spec in order_builders({spec.name: spec for spec in specs}, table)]


def refusal(*specs):
    with pytest.raises(TVBuilderError) as caught:
        order(*specs)
    return str(caught.value)


def whole(name, **fields):
    return column_builder(name, arguments={"df": "<<self>>"}, **fields)


def test_index_builder_is_first_and_others_follow_their_inputs():
    specs = [reading("a", "b"), reading("b", "c"), reading("c", "title"), index_builder(changed_columns=["title"])]
    assert order(*specs) == ["stories_index", "c", "b", "a"]


def test_names_decide_where_nothing_else_does():
    assert order(column_builder("b"), column_builder("a"), index_builder()) == ["stories_index", "a", "b"]


def test_bare_self_comes_after_all_without_it_and_several_by_name():
    specs = [whole("a"), whole("b"), column_builder("z"), reading("y", "z"), index_builder()]
    assert order(*specs) == ["stories_index", "z", "y", "a", "b"]


def test_builders_with_bare_self_still_follow_the_columns_that_they_name():
    first = column_builder("a", arguments={"df": "<<self>>", "b": "<<self.b>>"})
    assert order(first, whole("b"), index_builder()) == ["stories_index", "b", "a"]


def test_declared_dependencies_order_too():
    assert order(column_builder("a", dependencies=["self.b"]), column_builder("b"), index_builder()) == [
        "stories_index",
        "b",
        "a",
    ]


def test_index_builder_must_be_there_in_its_file():
    message = refusal(column_builder("a"))
    assert message.startswith("Table 'stories' has no stories_index.yaml")
    assert "create_builder_file('stories')" in message


def test_file_of_the_index_builder_must_hold_one():
    assert "line 1, builder_type: stories_index.yaml must hold" in refusal(column_builder("stories_index"))


def test_second_index_builder_is_refused():
    message = refusal(index_builder(), index_builder("more", changed_columns=["x"]))
    assert message.startswith("more.yaml, line 1, builder_type: a table has exactly one IndexBuilder")


def test_column_is_produced_once():
    message = refusal(
        index_builder(), column_builder("a", changed_columns=["x"]), column_builder("b", changed_columns=["x"])
    )
    assert message.startswith("b.yaml, line 3, changed_columns[0]: column 'x' is produced by a.yaml already (line 3)")


def test_one_column_builder_may_overwrite_and_read_an_index_column():
    over = reading("over", "title", changed_columns=["title"])
    assert order(index_builder(), over, reading("after", "title")) == ["stories_index", "over", "after"]
    assert "is produced by over.yaml already" in refusal(
        index_builder(), over, column_builder("x", changed_columns=["title"])
    )


def test_column_without_a_producer_is_refused_with_the_nearest_name():
    message = refusal(index_builder(), reading("a", "titel"))
    assert message.startswith("a.yaml, line 8, arguments.a0: no builder produces the column self.titel")
    assert "did you mean 'title'?" in message


def test_cycle_is_refused_and_shown():
    message = refusal(index_builder(), reading("a", "b"), reading("b", "c"), reading("c", "a"), reading("d", "a"))
    assert "a.yaml, line 7, arguments: " in message
    assert "circular dependency: a reads from b reads from c reads from a; remove one" in message


def test_builder_that_bare_self_waits_for_cannot_read_from_it():
    message = refusal(index_builder(), whole("a"), reading("b", "a"))
    assert "a reads from b reads from a; name the columns it reads instead of a bare <<self>>" in message


@pytest.mark.parametrize("return_type", ["dataframe", "row-wise"])
def test_only_a_generator_reads_the_column_that_it_produces(return_type):
    assert "only a generator can do that" in refusal(index_builder(), reading("a", "a", return_type=return_type))
    assert order(index_builder(), reading("a", "a", return_type="generator")) == ["stories_index", "a"]


def test_index_builder_cannot_read_columns_of_other_builders():
    def index(return_type, column):
        return index_builder(return_type=return_type, arguments={"x": f"<<self.{column}>>"})

    assert "the IndexBuilder runs first" in refusal(index("generator", "a"), column_builder("a"))
    assert "read by the builder that produces it" in refusal(index("dataframe", "title"))
    assert order(index("generator", "title")) == ["stories_index"]
    assert order(index("row-wise", "anything"), column_builder("a")) == ["stories_index", "a"]


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(6)), st.data())
def test_builder_order_follows_dependencies_in_any_order_of_files(ranks, data):
    names = [f"b{number}" for number in range(6)]
    before = {
        name: data.draw(st.sets(st.sampled_from(earlier)) if earlier else st.just(set()))
        for name, rank in zip(names, ranks, strict=True)
        for earlier in [[other for other, lower in zip(names, ranks, strict=True) if lower < rank]]
    }
    specs = [index_builder(), *(reading(name, *sorted(before[name])) for name in names)]
    found = order(*specs)
    assert found == order(*data.draw(st.permutations(specs)))
    assert all(found.index(other) < found.index(name) for name in names for other in before[name])
