import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tablevault.builders.document import read_document
from tablevault.builders.fields import validate_policies
from tablevault.builders.yaml_text import MAXIMUM_CHARACTERS
from tablevault.errors import TableReferenceError, TVBuilderError

STORIES = """\
builder_type: ColumnBuilder
changed_columns: [text, mood]
python_function: write   # by hand
code_module: prompts
is_custom: true
arguments:
  title: <<self.title[index]>>
  options:
    - long
    - {tone: dark, pages: 3}
name: ignored
dtypes:
n_threads: 4
"""

REQUIRED = """\
builder_type: ColumnBuilder
changed_columns: [text, mood]
python_function: write
code_module: prompts
"""

FIELDS = ["builder_type", "changed_columns", "python_function", "code_module", "arguments", "n_threads", "dtypes"]


def read(text):
    return read_document(text, "stories.yaml")


def refusal(text):
    with pytest.raises(TVBuilderError) as caught:
        read(text)
    return str(caught.value)


def changed(field, value):
    """Return a right builder file with one field given another value."""
    lines = [line for line in REQUIRED.splitlines() if not line.startswith(f"{field}:")]
    return "\n".join([*lines, f"{field}: {value}"])


def test_fields_are_read_as_written():
    fields = read(STORIES).fields
    assert fields["changed_columns"] == ["text", "mood"]
    assert fields["arguments"] == {
        "title": "<<self.title[index]>>",
        "options": ["long", {"tone": "dark", "pages": 3}],
    }
    assert fields["n_threads"] == 4


def test_name_is_ignored_and_null_counts_as_absent():
    assert not {"name", "dtypes"} & set(read(STORIES).fields)


def test_null_stays_null_in_arguments():
    assert read(changed("arguments", "{seed: null}")).fields["arguments"] == {"seed": None}


def test_every_field_and_item_has_its_line():
    document = read(STORIES)
    assert document.line("builder_type") == 1
    assert document.line("changed_columns", 1) == 2
    assert document.line("arguments", "options", 1, "pages") == 10
    assert document.line("arguments", "missing", 3) == 6
    assert document.line("missing") == 1


def test_unknown_field_is_refused_with_line_and_nearest_name():
    assert refusal(STORIES + "n_treads: 3\n").startswith(
        "stories.yaml, line 14, n_treads: there is no field 'n_treads'; did you mean 'n_threads'"
    )


def test_unknown_field_is_refused_even_if_it_is_null():
    assert "there is no field 'n_thread'" in refusal(STORIES + "n_thread:\n")


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("builder_type", "Indexbuilder", "it cannot be 'Indexbuilder'; did you mean 'IndexBuilder'"),
        ("builder_type", "'<<t.x>>'", "it cannot be '<<t.x>>'"),
        ("return_type", "rowwise", "it cannot be 'rowwise'; did you mean 'row-wise'?"),
        ("return_type", "3", "it must be dataframe, row-wise, batch or generator; found the number 3."),
        ("n_threads", "'4'", "it must be a positive integer; found '4'."),
        ("n_threads", "0", "it must be a positive integer; found the number 0."),
        ("n_threads", "true", "found true"),
        ("n_threads", "2.5", "found the number 2.5"),
        ("is_custom", "'yes'", "it must be true (a module of the vault) or false (a built-in module); found 'yes'."),
        ("changed_columns", "text", "it must be a list of at least one column name, such as [title, body]; found 'te"),
        ("changed_columns", "[]", "found an empty list"),
        ("changed_columns", "[text, no]", "changed_columns[1]: it must be a list of at least one column name"),
        ("changed_columns", "['']", "found ''"),
        ("python_function", "[write]", "found a list"),
        ("arguments", "[1]", "found a list"),
        ("arguments", "{no: 1}", "found false (quote it to mean text) as a name"),
        ("dtypes", "{text: 3}", "dtypes.text: it must be a mapping of column names to types"),
        ("dependencies", "orders.id", "it must be a list of columns, such as ['orders.customer_id', 'orders.*']"),
        ("primary_key", "{a: 1}", "found a mapping"),
        ("keep_old", "1", "it must be true or false; found the number 1."),
        ("untracked", "[1]", "it must be a list of argument names"),
        ("n_threads", "2024-01-01", "found a date"),
        ("is_custom", "9" * 40, "found a very large number"),
        (
            "max_failures",
            "150%",
            "max_failures: it must be a non-negative integer, or a percentage such as '10%'; found '150%'.",
        ),
        ("max_consecutive_failures", "nine", "it must be a positive integer, or none; found 'nine'."),
        ("retry", "many", "retry: it must be a non-negative integer, or a mapping such as {max_retries: 3, on: [tr"),
        ("retry", "{max_retries: many}", "retry.max_retries: it must be a non-negative integer; found 'many'."),
        ("retry", "{max_retrys: 3}", "retry has no field 'max_retrys'; did you mean 'max_retries' or 'max_wait'?"),
        ("retry", "{1: 3}", "retry has no field '1'"),
        (
            "retry",
            "{on: transient}",
            "retry.on: it must be a list of errors, such as [transient, ValueError]; found 't",
        ),
    ],
)
def test_wrong_value_is_refused_with_line_field_and_remedy(field, value, sentence):
    text = changed(field, value)
    message = refusal(text)
    assert message.startswith(f"stories.yaml, line {len(text.splitlines())}, {field}")
    assert sentence in message


@pytest.mark.parametrize("field", ["max_failures: lots", "max_consecutive_failures: 0", "retry: {wait: -1}"])
def test_field_with_alternatives_is_refused_once(field):
    assert len(refusal(STORIES + field + "\n").splitlines()) == 1


def test_errors_to_retry_are_named_under_on_without_quotes():
    given = yaml.safe_load("retry: {on: [invalid]}")
    for policies in (given, json.loads(json.dumps(given))):
        assert validate_policies(policies).retry.on == ["invalid"]


def test_missing_field_is_refused():
    text = STORIES.replace("python_function: write   # by hand\n", "")
    assert refusal(text) == (
        "stories.yaml, line 1, python_function: this required field is missing; "
        "it must be the name of a function, such as ask_model."
    )


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file():
    message = refusal(STORIES.replace("ColumnBuilder", "Column").replace("n_threads: 4", "n_threads: four"))
    assert [line.split(":")[0] for line in message.splitlines()] == [
        "stories.yaml, line 1, builder_type",
        "stories.yaml, line 13, n_threads",
    ]


def test_list_of_problems_stays_short():
    message = refusal(REQUIRED + "".join(f"unknown{number}: 1\n" for number in range(1500)))
    assert len(message.splitlines()) == 11
    assert message.endswith("stories.yaml: and 1,490 more problems.")


@pytest.mark.parametrize("field", ["n_threads", "changed_columns", "is_custom", "dtypes", "python_function"])
def test_field_that_holds_a_reference_is_not_checked_before_it_is_resolved(field):
    assert read(changed(field, "<<settings.value[key::x]>>")).fields[field] == "<<settings.value[key::x]>>"


def test_escaped_reference_is_not_evaluated():
    assert "must be a positive integer" in refusal(changed("n_threads", r"'\<<settings.value>>'"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("arguments", "{title: '<<self'}"), ("dtypes", "{text: '<<self.x>>'}"), ("n_threads", "'<<t.x[index]>>'")],
)
def test_wrong_reference_is_refused_with_its_place(field, value):
    with pytest.raises(TableReferenceError, match=r"^stories\.yaml, line \d+, " + field):
        read(changed(field, value))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: a builder file is a mapping of fields"),
        ("[1, 2]", "line 1: a builder file is a mapping of fields"),
        ("a: 1\nb: [1, 2", "line 2: not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", "line 3, a: duplicate key"),
        ("a: {x: 1, y: 2,\n  x: 3}\n", "line 2, a.x: duplicate key"),
        ("a: 1\n---\na: 2\n", "line 2: not valid YAML"),
        ("a: [<<self.x[index]>>]", "put quotes around a value that holds a reference"),
        ("a: 2024-13-45", "quote it to mean text"),
        ("? [a]\n: 1", "a list or mapping cannot be a key"),
        ("a: x\x00y", "line 1: not valid YAML"),
        ("a: 1\nb: \ud800", "line 2: this is not valid Unicode text"),
        ("a: *nobody", "line 1: not valid YAML"),
        ("<<: 3", "merges mappings only"),
        ("a: !!int ''", "the tag !!int is not allowed here"),
        ("a: !!binary aGk=", "the tag !!binary is not allowed here"),
        ("a: !!set {b}", "the tag !!set is not allowed here"),
    ],
)
def test_text_that_is_not_plain_yaml_is_refused_with_its_line(text, sentence):
    message = refusal(text)
    assert message.startswith("stories.yaml")
    assert sentence in message


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:builtins.exec", "!!python/name:os.system", "!!python/module:this", "!mine"]
)
def test_tags_never_run_or_import_anything(tag):
    assert "is not allowed here; builder files hold plain values only" in refusal(f"arguments: {tag} ['raise']")


def test_aliases_and_merges_are_resolved():
    text = STORIES.replace(
        "  options:\n", "  base: &base {tone: light, size: 1}\n  own: {<<: *base, tone: dark}\n  options:\n"
    )
    arguments = read(text).fields["arguments"]
    assert arguments["own"] == {"tone": "dark", "size": 1}
    assert arguments["base"] == {"tone": "light", "size": 1}


def test_aliases_share_nothing():
    arguments = read(changed("arguments", "{a: &a [1], b: *a}")).fields["arguments"]
    assert arguments["a"] == arguments["b"]
    assert arguments["a"] is not arguments["b"]


def test_bomb_of_aliases_is_refused():
    levels = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "expands to more than 20,000 values" in refusal("\n".join(levels))


def test_bomb_of_merges_is_refused():
    levels = ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    assert "expands to more than 20,000 values" in refusal("\n".join(levels))


def test_value_that_contains_itself_is_refused():
    assert "levels deep" in refusal("a: &a [*a]")
    assert "levels deep" in refusal("a: &a {<<: *a}")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused_before_it_costs_anything(opening):
    assert refusal(opening * 50_000) == "stories.yaml, line 1: values are nested over 50 levels deep; flatten them."


def test_file_that_is_too_long_is_refused():
    assert "move data into a table and refer to it" in refusal("#" * (MAXIMUM_CHARACTERS + 1))


YAML_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(["text", "IndexBuilder", "generator", "<<t.x>>", "<<t.x[a::1]>>", "<<", "<<self.x>>", "t.*"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.booleans(), inner, max_size=3),
    max_leaves=6,
)


def outcome(text):
    """Return the fields, or the message of the error by which the text is refused."""
    try:
        return read(text).fields
    except (TVBuilderError, TableReferenceError) as error:
        return str(error)


@settings(max_examples=100, deadline=None)
@given(st.text() | st.text(alphabet="ab:-[]{}&*!<>#|'\"?% \n\t.01,=~", max_size=40))
def test_any_text_is_refused_by_a_named_error(text):
    assert outcome(text).startswith("stories.yaml")


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), YAML_VALUES, max_size=7))
def test_any_values_of_fields_are_read_or_refused_by_a_named_error(fields):
    found = outcome(yaml.safe_dump({**yaml.safe_load(STORIES), **fields}, allow_unicode=True))
    if isinstance(found, str):
        assert found.startswith("stories.yaml")
    else:
        expected = {**yaml.safe_load(REQUIRED), **fields}
        assert {name for name in FIELDS if name in found} >= {name for name in expected if expected[name] is not None}


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("retry", "{on: [transient], tries: 3}", "retry.tries: retry has no field 'tries'"),
        ("retry", "{max_retries: -1}", "retry.max_retries: it must be a non-negative integer; found the number -1."),
        ("retry", "often", "retry: it must be a non-negative integer, or a mapping"),
        ("retry", "{on: transient}", "retry.on: it must be a list of errors"),
        ("max_failures", "'200%'", "max_failures: it must be a non-negative integer, or a percentage such as '10%'"),
        ("max_failures", "-1", "max_failures: it must be a non-negative integer"),
        ("max_consecutive_failures", "never", "it must be a positive integer, or none; found 'never'."),
        ("max_consecutive_failures", "0", "it must be a positive integer, or none; found the number 0."),
        ("on_error", "colect", "on_error: it cannot be 'colect'; did you mean 'collect'?"),
        ("timeout", "0", "timeout: it must be a positive number of seconds"),
        ("batch_size", "none", "batch_size: it must be a positive integer"),
    ],
)
def test_wrong_policy_is_refused_once_with_its_remedy(field, value, part):
    message = refusal(f"{STORIES}{field}: {value}\n")
    assert part in message
    assert "\n" not in message
