"""Builders of definitions, with parameters, names, values and file texts."""

from __future__ import annotations

import re

import pandas as pd
import pytest
import yaml

from tablevault import TableVault, tv_errors

HEAD = """\
from tablevault.define import ARTIFACT_FOLDER, ATTEMPT, CALL_ID, LAST_ERROR, PROCESS_ID, Table, env, ref, this

table = Table("table")


@table.index("name", "count", primary_key=["name"])
def rows():
    return [("a", 1), ("b", 2)]


"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return TableVault(tmp_path_factory.mktemp("builders") / "vault", author="ada", create=True)


@pytest.fixture
def builders(shared, save):
    """Applies a file to a version of its own, and returns its builders as plain values."""
    versions = iter(range(1000))

    def builders(text, table="table", head=HEAD):
        version = f"v{abs(hash(text))}-{next(versions)}"
        shared.apply(save(head + text), version=version, overwrite=True)
        names = shared.get_builders_list(table, version=version)
        return {name: yaml.safe_load(shared.get_builder_str(table, name, version=version)) for name in names}

    return builders


# --- binding ----------------------------------------------------------------------------------------------------------


def test_parameters_are_bound_to_columns_by_name(builders):
    found = builders(
        "@table.column(arguments={'style': 'short'})\n"
        "def answer(style, name, *, count=2, retries=3, **more): ...\n\n\n"
        "@table.column()\ndef words(answer): ...\n"
    )
    assert found["answer"]["arguments"] == {
        "style": "short",
        "name": "<<self.name[index]>>",
        "count": "<<self.count[index]>>",
    }
    assert found["words"]["arguments"] == {"answer": "<<self.answer[index]>>"}


@pytest.mark.parametrize("kind", ["dataframe", "generator"])
def test_parameters_of_a_function_called_once_get_whole_columns(builders, kind):
    found = builders(f"@table.column(return_type='{kind}')\ndef answer(name):\n    yield from name\n")
    assert found["answer"]["arguments"] == {"name": "<<self.name>>"}


def test_parameters_of_a_class_are_those_of_its_call(builders):
    found = builders(
        "class Base:\n    def __call__(self, name, limit=1): ...\n\n\n"
        "@table.column('a', setup_arguments={'size': 1})\nclass Model(Base):\n    def __init__(self, size): ...\n"
    )
    assert found["a"]["arguments"] == {"name": "<<self.name[index]>>"}
    assert (found["a"]["python_function"], found["a"]["setup_arguments"]) == ("Model", {"size": 1})


def test_own_column_is_bound_only_where_it_overwrites_one_of_the_index(builders, shared, save):
    found = builders("@table.column('count')\ndef double(count): ...\n")
    assert found["count"]["arguments"] == {"count": "<<self.count[index]>>"}
    with pytest.raises(tv_errors.TVBuilderError, match="parameter 'answer' of answer"):
        shared.plan_apply(save(HEAD + "@table.column()\ndef answer(answer): ...\n"))


def test_row_wise_index_is_bound_to_columns_of_the_origin(builders):
    head = HEAD[: HEAD.index("@table.index")]
    found = builders(
        "@table.index('name', return_type='row-wise')\ndef again(name, answer): ...\n\n\n"
        "@table.column()\ndef answer(name): ...\n",
        head=head,
    )
    assert found["table_index"]["arguments"] == {
        "name": "<<self.name[index]>>",
        "answer": "<<self.answer[index]>>",
    }


def test_for_each_is_bound_to_columns_of_its_table(builders):
    found = builders(
        "chunks = Table('chunks')\n\n\n"
        "@chunks.index('chunk', for_each=table)\ndef split(name, size=3): ...\n\n\n"
        "@chunks.column()\ndef length(chunk): ...\n",
        "chunks",
    )
    assert found["chunks_index"]["for_each"] == "table"
    assert found["chunks_index"]["return_type"] == "row-wise"
    assert found["chunks_index"]["arguments"] == {"name": "<<table.name[index]>>"}
    assert found["length"]["arguments"] == {"chunk": "<<self.chunk[index]>>"}


def test_for_each_of_a_version_is_bound_to_columns_of_its_instance(builders, shared):
    shared.write("pages", pd.DataFrame({"page": [1], "page text": ["x"]}), version="v2")
    found = builders(
        "chunks2 = Table('chunks2')\n\n\n"
        "@chunks2.index('chunk', for_each='pages(v2)', return_type='batch', arguments={'text': "
        "ref(\"<<pages(v2).'page text'[index]>>\")})\ndef split2(page, text): ...\n",
        "chunks2",
    )
    assert found["chunks2_index"]["arguments"] == {
        "page": "<<pages(v2).page[index]>>",
        "text": "<<pages(v2).'page text'[index]>>",
    }


def test_columns_of_builders_that_the_version_has_can_be_bound(vault, save):
    vault.apply(save(HEAD))
    by_hand = "builder_type: ColumnBuilder\nchanged_columns: [mood]\npython_function: rows\ncode_module: answers\n"
    vault.create_builder_file("table", "mood", text=by_hand)
    vault.apply(save(HEAD + "@table.column()\ndef answer(mood): ...\n"))
    assert "<<self.mood[index]>>" in vault.get_builder_str("table", "answer")
    assert vault.get_builder_str("table", "mood") == by_hand


def test_column_of_a_builder_that_goes_cannot_be_bound(vault, save):
    vault.apply(save(HEAD + "@table.column()\ndef mood(name): ...\n"))
    with pytest.raises(tv_errors.TVBuilderError, match="parameter 'mood' of answer"):
        vault.apply(save(HEAD + "@table.column()\ndef answer(mood): ...\n"))


UNBOUND = {
    "no column": ("@table.column()\ndef answer(nam): ...\n", 12, "no default; give it under arguments; did you mean"),
    "several lines": ("@table.column()\ndef answer(\n    name,\n    x,\n): ...\n", 14, "parameter 'x' of answer"),
    "positional": ("@table.column()\ndef answer(*name): ...\n", 12, r"parameter '\*name'.*given by name"),
    "positional only": ("@table.column()\ndef answer(name, /): ...\n", 12, "parameter 'name'.*given by name"),
    "class": ("@table.column()\nclass answer:\n    def __call__(self, x): ...\n", 13, "parameter 'x' of answer"),
    "class without a call": ("@table.column()\nclass answer: ...\n", 11, "has no method __call__"),
    "index that is called once": ("x = Table('x')\n\n\n@x.index('a')\ndef x_rows(a): ...\n", 15, "parameter 'a' of x_"),
    "generator": ("@table.column()\ndef answer(name):\n    yield name\n", 11, 'give return_type="generator"'),
    "index generator": (
        "x = Table('x')\n\n\n@x.index('a')\ndef x_rows():\n    yield 1\n",
        14,
        'return_type="generator"',
    ),
    "async generator": ("@table.column()\nasync def answer(name):\n    yield name\n", 11, "async generator"),
    "argument too many": ("@table.column(arguments={'x': 1})\ndef answer(name): ...\n", 11, "takes no argument 'x'"),
    "unknown field": (
        "@table.column(\n    retries=3)\ndef answer(name): ...\n",
        12,
        "no field 'retries'; did you mean 'ret",
    ),
    "field of an index": ("@table.column(primary_key=['answer'])\ndef answer(): ...\n", 11, "no field 'primary_key'"),
    "given field": ("@table.column(code_module='x')\ndef answer(): ...\n", 11, "this field is set by the decorator"),
    "wrong value": (
        "@table.column(timeout='1')\ndef answer(): ...\n",
        11,
        "timeout: it must be a positive number of seconds",
    ),
    "wrong item": (
        "@table.column(retry={'max_retries': 1,\n  'on': [3]})\ndef answer(): ...\n",
        12,
        "not an HTTP status",
    ),
    "wrong dtype": ("@table.column(dtypes={'answer': 'int33'})\ndef answer(): ...\n", 11, "int33"),
    "wrong key": (
        "x = Table('x')\n\n\n@x.index('a', primary_key=['b'])\ndef x_rows(): ...\n",
        14,
        "not one of its changed",
    ),
    "async executor": ("@table.column(executor='threads')\nasync def answer(): ...\n", 11, "cannot await"),
    "no reference": ("@table.column(arguments={'x': '<<a.b['})\ndef answer(x): ...\n", 11, "<<a.b"),
    "object": ("@table.column(arguments={'x':\n  object()})\ndef answer(x): ...\n", 12, "a object cannot be written"),
    "two builders": (
        "@table.column('answer')\ndef one(): ...\n\n\n@table.column('Answer')\ndef two(): ...\n",
        15,
        r"has a builder 'answer' already \(answers.py, line 11\); give builder=",
    ),
    "two indexes": ("@table.index('a')\ndef more(): ...\n", 11, r"has an index already \(answers.py, line 6\)"),
    "column with the name of the index": ("@table.column('table_index')\ndef one(): ...\n", 11, "give builder="),
    "name of an index": (
        "x = Table('x')\n\n\n@x.index('a', builder='b')\ndef x_rows(): ...\n",
        14,
        "x_index; remove builder",
    ),
    "column that is no text": (
        "@table.column(print)\ndef one(): ...\n",
        11,
        "the name of a column must be a str, not print",
    ),
    "unknown validate": ("@table.column(validate='chek')\ndef one(): ...\n", 11, "no function 'chek'"),
    "validate from elsewhere": ("@table.column(validate=print)\ndef one(): ...\n", 11, "a function of the same file"),
    "class of a function": (
        "def local():\n    class Odd(Exception): ...\n    return Odd\n\n\n"
        "@table.column(stop_on=[local()])\ndef one(): ...\n",
        16,
        "the exception class Odd is not defined in the file",
    ),
    "wrong table": ("x = Table('x')\n\n\n@x.index('a', for_each='<<a>>')\ndef x_rows(): ...\n", 14, "not a table"),
    "argument of rows_of": (
        "x = Table('x')\nx.index(rows_of=table, arguments={'nrow': 1})\n",
        12,
        "takes no argument 'nrow'; did you mean 'nrows'",
    ),
    "rows of unknown columns": (
        "x = Table('x')\nx.index(rows_of='nowhere')\n",
        12,
        "columns of 'nowhere' are not known",
    ),
}


@pytest.mark.parametrize("name", UNBOUND)
def test_wrong_builder_is_refused_with_file_and_line(name, shared, save):
    text, line, message = UNBOUND[name]
    with pytest.raises((tv_errors.TVBuilderError, tv_errors.TableReferenceError), match=rf"(?s){message}") as caught:
        shared.plan_apply(save(HEAD + text))
    assert str(caught.value).startswith(f"answers.py, line {line}")


# --- values -----------------------------------------------------------------------------------------------------------


def test_placeholders_and_references_are_those_of_builder_files(builders):
    found = builders(
        "@table.column(arguments={'a': ARTIFACT_FOLDER, 'b': [PROCESS_ID, ATTEMPT, LAST_ERROR], 'c': CALL_ID,\n"
        "    'd': env('KEY'), 'e': ref('<<other.{x, y}>>'), 'f': this, 'g': this.index, 'h': this['odd name'],\n"
        "    'i': {'name': this.name, 2: (1.5, None, True)}, 'j': f'{this.name}!'}, dtypes={'answer': 'artifact_string'})\n"
        "def answer(**arguments): ...\n"
    )
    assert found["answer"]["arguments"] == {
        "a": "~ARTIFACT_FOLDER~",
        "b": ["~PROCESS_ID~", "~ATTEMPT~", "~LAST_ERROR~"],
        "c": "~CALL_ID~",
        "d": "~ENV:KEY~",
        "e": "<<other.{x, y}>>",
        "f": "<<self>>",
        "g": "<<self.index>>",
        "h": "<<self.'odd name'[index]>>",
        "i": {"name": "<<self.name[index]>>", 2: [1.5, None, True]},
        "j": "<<self.name[index]>>!",
    }


def test_whole_column_is_meant_where_the_function_is_called_once(builders):
    found = builders("@table.column(return_type='dataframe', arguments={'x': [this.name]})\ndef answer(x): ...\n")
    assert found["answer"]["arguments"] == {"x": ["<<self.name>>"]}


def test_exception_classes_and_functions_are_written_by_their_names(builders):
    found = builders(
        "import json\nimport urllib.error\nfrom json import JSONDecodeError as Broken\n\n\n"
        "class Quota(Exception): ...\n\n\ndef check(answer): ...\n\n\n"
        "@table.column(validate=check, stop_on=[Quota, KeyError, 401],\n"
        "    retry={'on': [Broken, urllib.error.HTTPError, 'transient']})\ndef answer(name): ...\n"
    )
    assert found["answer"]["validate"] == "check"
    assert found["answer"]["stop_on"] == ["Quota", "KeyError", 401]
    assert found["answer"]["retry"] == {"on": ["Broken", "urllib.error.HTTPError", "transient"]}


def test_empty_mapping_of_retries_stays(builders):
    assert builders("@table.column(retry={}, dtypes={})\ndef answer(name): ...\n")["answer"]["retry"] == {}


def test_signature_of_a_wrapped_function_is_that_of_its_inner_one(builders):
    found = builders(
        "import functools\n\n\ndef logged(function):\n    @functools.wraps(function)\n    def call(**arguments):\n"
        "        return function(**arguments)\n    return call\n\n\n"
        "@table.column()\n@logged\ndef answer(name): ...\n\n\n@logged\n@table.column()\ndef again(answer): ...\n"
    )
    assert found["answer"]["arguments"] == {"name": "<<self.name[index]>>"}
    assert found["again"]["arguments"] == {"answer": "<<self.answer[index]>>"}


def test_null_field_counts_as_absent(builders):
    assert "timeout" not in builders("@table.column(timeout=None)\ndef answer(name): ...\n")["answer"]


# --- names and columns ------------------------------------------------------------------------------------------------


def test_names_of_builders(builders):
    found = builders(
        "@table.column('first', 'second')\ndef pair(name): ...\n\n\n"
        "@table.column('odd name')\ndef odd(name): ...\n\n\n"
        "@table.column('third', builder='given')\n@table.column('fourth')\ndef many(name): ...\n"
    )
    assert {name: item["changed_columns"] for name, item in found.items()} == {
        "table_index": ["name", "count"],
        "first": ["first", "second"],
        "odd": ["odd name"],
        "given": ["third"],
        "fourth": ["fourth"],
    }


def test_rows_of_another_table_are_taken_over(builders, shared):
    shared.write("prices", pd.DataFrame({"fruit": ["fig"], "unit price": [1.5]}), primary_key="fruit")
    found = builders(
        "", "one", "from tablevault.define import Table\none = Table('one')\none.index(rows_of='prices')\n"
    )
    assert found["one_index"] == {
        "builder_type": "IndexBuilder",
        "changed_columns": ["fruit", "unit price"],
        "python_function": "create_data_table_from_table",
        "code_module": "table_generation",
        "is_custom": False,
        "return_type": "dataframe",
        "arguments": {"df": "<<prices.{fruit, 'unit price'}>>"},
        "primary_key": ["fruit"],
    }
    text = "from tablevault.define import Table\ntwo = Table('two')\ntwo.index('unit price', rows_of='prices(base)')\n"
    found = builders("", "two", text)
    assert found["two_index"]["arguments"] == {"df": "<<prices(base).'unit price'>>"}
    assert "primary_key" not in found["two_index"]


def test_rows_of_a_table_of_the_same_file_have_all_of_its_columns(builders):
    found = builders(
        "@table.column()\ndef answer(name): ...\n\n\ncopy = Table('copy')\ncopy.index(rows_of=table, arguments={'nrows': 1})\n",
        "copy",
    )
    assert found["copy_index"]["changed_columns"] == ["name", "count", "answer"]
    assert found["copy_index"]["primary_key"] == ["name"]
    assert found["copy_index"]["arguments"] == {"df": "<<table.{name, count, answer}>>", "nrows": 1}


# --- text -------------------------------------------------------------------------------------------------------------


def test_builder_file_has_the_documented_layout(vault, save):
    file = save(
        """
        from tablevault.define import Table

        answers = Table("answers")


        @answers.index(primary_key=["question"])
        def question(path="questions.txt"):
            return open(path).read().splitlines()


        @answers.column(retry=3, timeout=60, on_error="collect", arguments={"style": "one sentence"})
        async def answer(question, style):
            return style
        """
    )
    vault.apply(file)
    first, _, rest = vault.get_builder_str("answers", "answer").partition("\n")
    assert re.fullmatch("# from answers.py, applied [0-9a-f]{32}", first)
    assert rest == (
        "builder_type: ColumnBuilder\n"
        "changed_columns: [answer]\n"
        "python_function: answer\n"
        "code_module: answers\n"
        "is_custom: true\n"
        "return_type: row-wise\n"
        'arguments: {question: "<<self.question[index]>>", style: one sentence}\n'
        "retry: 3\n"
        "timeout: 60\n"
        "on_error: collect\n"
    )
