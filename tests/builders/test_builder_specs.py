import dataclasses

import pytest

from made_builders import builder_text, column_builder, index_builder
from tablevault.builders.document import read_document
from tablevault.builders.policies import Policies, Retry, Share
from tablevault.builders.spec import build_spec
from tablevault.builders.templates import column_builder_template, index_builder_template
from tablevault.errors import TableReferenceError, TVBuilderError


def build(text, resolve=lambda value: value):
    return build_spec(read_document(text, "stories.yaml"), "stories", resolve)


def refusal(make, **fields):
    with pytest.raises(TVBuilderError) as caught:
        make("stories", **fields)
    return str(caught.value)


def test_defaults_are_those_of_the_reference():
    spec = column_builder("stories")
    assert (spec.name, spec.file, spec.kind) == ("stories", "stories.yaml", "ColumnBuilder")
    assert (spec.return_type, spec.policies, spec.keep_old) == ("dataframe", Policies(), False)
    assert (dict(spec.arguments), dict(spec.dtypes)) == ({}, {})
    assert (spec.dependencies, spec.primary_key, spec.untracked) == ((), (), ())
    required = "builder_type: ColumnBuilder\nchanged_columns: [a]\npython_function: f\ncode_module: m\n"
    assert not build(required).is_custom


@pytest.mark.parametrize("fields", [{}, {"on_error": None, "retry": None, "max_failures": None, "timeout": None}])
def test_policies_that_are_absent_or_null_have_their_defaults(fields):
    policies = column_builder("stories", return_type="batch", **fields).policies
    assert (policies.on_error, policies.failed_inputs, policies.timeout) == ("pause", "skip", None)
    assert (policies.max_failures, policies.max_consecutive_failures) == (Share(10), 20)
    assert policies.stop_on == (401, 402, "code:insufficient_quota", "ImportError", "NameError")
    assert (policies.retry.max_retries, policies.rows_of_call) == (0, 32)
    assert (policies.executor, policies.max_concurrency, policies.services, policies.budget) == (None, None, (), None)


def test_retry_is_a_number_of_retries_or_a_mapping_with_defaults():
    assert column_builder("stories", retry=5).policies.retry == Retry(max_retries=5)
    found = column_builder("stories", retry={}).policies.retry
    assert (found.max_retries, found.on) == (3, ("transient",))
    assert (found.wait, found.max_wait, found.max_seconds) == (1, 60, 3600)
    assert column_builder("stories", retry={"max_retries": 0}).policies.retry.max_retries == 0


def test_spec_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        column_builder("stories").keep_old = True


def test_all_fields_arrive():
    spec = index_builder(
        changed_columns=["title", "score"],
        return_type="row-wise",
        n_threads=4,
        arguments={"x": "<<self.title[index]>>", "key": "~ENV:KEY~"},
        dtypes={"score": "Float64", "title": None},
        dependencies=["orders.customer_id", "orders.*"],
        primary_key=["title"],
        keep_old=True,
        untracked=["key"],
    )
    assert spec.is_index
    assert spec.runs_by_row
    assert spec.changed_columns == ("title", "score")
    assert spec.arguments == {"x": "<<self.title[index]>>", "key": "~ENV:KEY~"}
    assert [(column, column_type.name) for column, column_type in spec.dtypes.items()] == [("score", "Float64")]
    assert spec.dependencies == ("orders.customer_id", "orders.*")
    assert (spec.primary_key, spec.keep_old, spec.untracked, spec.policies.max_concurrency) == (
        ("title",),
        True,
        ("key",),
        4,
    )


@pytest.mark.parametrize(
    ("fields", "place", "sentence"),
    [
        ({"changed_columns": ["a", "index"]}, "changed_columns[1]", "no column can be named 'index'"),
        ({"changed_columns": ["a", "b\0c"]}, "changed_columns[1]", "NUL character; choose another name"),
        ({"changed_columns": ["a", "b", "a"]}, "changed_columns[2]", "column 'a' is listed twice"),
        ({"changed_columns": ["text"], "dtypes": {"texd": "string"}}, "dtypes.texd", "did you mean 'text'?"),
        ({"changed_columns": ["text"], "dtypes": {"text": "strinq"}}, "dtypes.text", "string"),
        ({"arguments": {"api_key": 1}, "untracked": ["apikey"]}, "untracked[0]", "did you mean 'api_key'?"),
        ({"arguments": {"k": 1}, "untracked": ["k", "k"]}, "untracked[1]", "'k' is listed twice"),
        ({"primary_key": ["stories"]}, "primary_key", "this field is for IndexBuilders only"),
        ({"keep_old": True}, "keep_old", "this field is for IndexBuilders only"),
        ({"code_module": "prompts.py"}, "code_module", "write 'prompts'"),
        ({"code_module": "os.path"}, "code_module", "use ASCII letters"),
        ({"python_function": "Prompts.ask"}, "python_function", "cannot be the name of a function"),
        ({"dependencies": ["orders"]}, "dependencies[0]", "write 'table.column', or 'table.*'"),
        ({"dependencies": ["a.b", "<<a>>.b"]}, "dependencies[1]", "write 'table.column', or 'table.*'"),
    ],
)
def test_contradiction_is_refused_with_its_place_and_a_remedy(fields, place, sentence):
    message = refusal(column_builder, **fields)
    assert f", {place}: " in message
    assert message.startswith("stories.yaml, line ")
    assert sentence in message


def test_primary_key_must_be_produced():
    message = refusal(index_builder, changed_columns=["title"], primary_key=["titel"])
    assert "primary_key[0]: 'titel' is not one of its changed_columns; did you mean 'title'?" in message


def test_index_builder_fields_may_be_absent_or_off_in_a_column_builder():
    spec = column_builder("stories", primary_key=[], keep_old=False)
    assert not spec.keep_old


@pytest.mark.parametrize("return_type", ["dataframe", "generator"])
def test_n_threads_is_ignored_unless_the_function_runs_by_row(return_type):
    assert column_builder("stories", return_type=return_type, n_threads=4).policies == Policies()


def test_references_in_most_fields_are_resolved_once():
    asked = []

    def resolve(value):
        asked.append(value)
        return {"<<t.columns>>": ["a", "b"], "<<t.n[k::1]>>": 3}.get(value, value)

    text = builder_text(
        "ColumnBuilder",
        changed_columns="<<t.columns>>",
        n_threads="<<t.n[k::1]>>",
        return_type="row-wise",
        arguments={"x": "<<self.x[index]>>"},
        dependencies=["t.columns"],
    )
    spec = build(text, resolve)
    assert (spec.changed_columns, spec.policies.max_concurrency) == (("a", "b"), 3)
    assert spec.arguments == {"x": "<<self.x[index]>>"}
    assert "<<t.columns>>" in asked
    assert not {"ColumnBuilder", "t.columns", "<<self.x[index]>>"} & {str(value) for value in asked}


def test_resolved_value_of_the_wrong_type_is_refused_with_its_line():
    text = builder_text("ColumnBuilder", n_threads="<<t.n[k::1]>>")
    with pytest.raises(TVBuilderError, match=r"^stories\.yaml, line 7, n_threads: .* found '3'\.$"):
        build(text, lambda value: "3" if value == "<<t.n[k::1]>>" else value)


def test_reference_that_resolves_to_null_counts_as_absent():
    text = builder_text("ColumnBuilder", return_type="row-wise", n_threads="<<t.n[k::1]>>")
    assert build(text, lambda value: None if value == "<<t.n[k::1]>>" else value).policies == Policies()


def test_reference_that_cannot_be_resolved_is_placed():
    def resolve(value):
        if value == "<<t.n[k::1]>>":
            raise TableReferenceError("there is no table 't'")
        return value

    with pytest.raises(TableReferenceError, match=r"^stories\.yaml, line 7, n_threads:\nthere is no table 't'$"):
        build(builder_text("ColumnBuilder", n_threads="<<t.n[k::1]>>"), resolve)


@pytest.mark.parametrize("reference", ["<<self.x[index]>>", "<<self.index>>", "<<other.x[id]>>"])
def test_current_row_stands_only_in_arguments_of_row_wise_functions(reference):
    assert column_builder("stories", return_type="row-wise", arguments={"x": reference})
    with pytest.raises(TableReferenceError, match=r"^stories\.yaml, line \d+, arguments\.x:"):
        column_builder("stories", return_type="generator", arguments={"x": reference})


def test_inputs_of_a_builder_are_derived_from_its_references():
    reads = column_builder(
        "stories",
        return_type="row-wise",
        arguments={"x": "<<other.y[key::<<self.title[index]>>]>>", "z": [{"deep": "<<self.{a, b}[a::1]>>"}]},
    ).reads
    assert set(reads.own_columns) == {"title", "a", "b"}
    assert reads.own_columns["title"] == ("arguments", "x")
    assert not reads.reads_whole_self
    assert [(read.table, read.columns) for read in reads.tables] == [("other", {"y", "key"})]


def test_references_in_other_fields_are_inputs():
    document = read_document(builder_text("ColumnBuilder", n_threads="<<settings(v1).n[k::1]>>"), "stories.yaml")
    (read,) = document.reads.tables
    assert (read.table, read.instance, read.columns) == ("settings", "v1", {"n", "k"})


def test_bare_self_reads_everything():
    reads = column_builder("stories", arguments={"df": "<<self>>", "t": "<<self.title>>"}).reads
    assert reads.reads_whole_self
    assert set(reads.own_columns) == {"title"}


def test_declared_dependencies_count():
    reads = column_builder("stories", dependencies=["self.title", "a.b.c", "d.*"]).reads
    assert set(reads.own_columns) == {"title"}
    assert [(read.table, read.columns) for read in reads.tables] == [("a", {"b.c"}), ("d", None)]


@pytest.mark.parametrize(
    ("reference", "part", "remedy"),
    [
        ("<<orders.<<cfg.column[k::1]>>>>", "columns", "orders.*"),
        ("<<<<cfg.table[k::1]>>.x>>", "table", "orders.*"),
    ],
)
def test_names_that_are_references_must_be_declared(reference, part, remedy):
    with pytest.raises(TVBuilderError) as caught:
        _ = column_builder("stories", arguments={"x": reference}).reads
    message = str(caught.value)
    assert "arguments.x: " in message
    assert f"the {part} that {reference} reads cannot be determined" in message
    assert f"'{remedy}'" in message
    reads = column_builder("stories", arguments={"x": reference}, dependencies=["orders.id"]).reads
    assert {"orders", "cfg"} == {read.table for read in reads.tables}


def test_declaring_another_table_does_not_help():
    with pytest.raises(TVBuilderError, match="in dependencies, such as"):
        _ = column_builder("stories", arguments={"x": "<<orders.<<cfg.c[k::1]>>>>"}, dependencies=["cfg.c"]).reads


def test_column_of_self_that_is_a_reference_must_be_declared():
    arguments = {"x": "<<self.<<cfg.c[k::1]>>>>"}
    with pytest.raises(TVBuilderError, match=r"dependencies: \['self\.customer_id'"):
        _ = column_builder("stories", arguments=arguments).reads
    reads = column_builder("stories", arguments=arguments, dependencies=["self.title"]).reads
    assert set(reads.own_columns) == {"title"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [(index_builder_template("stories"), "IndexBuilder"), (column_builder_template("no"), "ColumnBuilder")],
)
def test_templates_are_valid_builders(text, kind):
    spec = build(text)
    assert spec.kind == kind


def test_template_of_columns_produces_the_column_of_its_name():
    assert build(column_builder_template("no")).changed_columns == ("no",)
