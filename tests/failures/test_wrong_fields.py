"""Invalid policy fields and combinations.

Each is refused with file, line and remedy before any function runs.
"""

from __future__ import annotations

import re

import pytest
from failing_tables import raises_for

from tablevault import tv_errors

WRONG = {
    "on_error: unknown": ({"on_error": "ignore"}, "on_error"),
    "max_failures: negative": ({"on_error": "collect", "max_failures": -1}, "max_failures"),
    "max_failures: true": ({"on_error": "collect", "max_failures": True}, "max_failures"),
    "max_failures: above 100 %": ({"on_error": "collect", "max_failures": "101%"}, "max_failures"),
    "max_failures: space": ({"on_error": "collect", "max_failures": "10 %"}, "max_failures"),
    "max_failures without collect": ({"max_failures": 3}, "max_failures"),
    "max_consecutive_failures: 0": ({"on_error": "collect", "max_consecutive_failures": 0}, "max_consecutive_failures"),
    "max_consecutive_failures without collect": ({"max_consecutive_failures": 3}, "max_consecutive_failures"),
    "stop_on: no list": ({"stop_on": 401}, "stop_on"),
    "stop_on: no status": ({"stop_on": [99]}, "stop_on"),
    "stop_on: no such class": ({"stop_on": ["NoSuchError"]}, "stop_on"),
    "stop_on: no exception": ({"stop_on": ["print"]}, "stop_on"),
    "retry: negative": ({"retry": -1}, "retry"),
    "retry: true": ({"retry": True}, "retry"),
    "retry: unknown field": ({"retry": {"times": 3}}, "retry"),
    "retry.on: no such class": ({"retry": {"on": ["openai.NoSuchError"]}}, "retry"),
    "retry.on: no error": ({"retry": {"on": ["7xx"]}}, "retry"),
    "retry.wait: negative": ({"retry": {"wait": -1}}, "retry"),
    "retry.max_seconds: 0": ({"retry": {"max_seconds": 0}}, "retry"),
    "timeout: 0": ({"timeout": 0}, "timeout"),
    "timeout: infinite": ({"timeout": float("inf")}, "timeout"),
    "timeout in threads with artifacts": ({"timeout": 3, "dtypes": {"answer": "artifact_string"}}, "timeout"),
    "failed_inputs: unknown": ({"failed_inputs": "drop"}, "failed_inputs"),
    "executor: unknown": ({"executor": "gpu"}, "executor"),
    "executor: async for a plain function": ({"executor": "async"}, "python_function"),
    "executor: async for a plain class": ({"executor": "async", "python_function": "Answering"}, "python_function"),
    "threads for an async function": ({"executor": "threads", "python_function": "answer_async"}, "python_function"),
    "threads for an async class": ({"executor": "threads", "python_function": "AnsweringAsync"}, "python_function"),
    "processes for an async class": ({"executor": "processes", "python_function": "AnsweringAsync"}, "python_function"),
    "threads of a dataframe": ({"executor": "threads", "return_type": "dataframe"}, "executor"),
    "max_concurrency: 0": ({"max_concurrency": 0}, "max_concurrency"),
    "both names of one field": ({"max_concurrency": 2, "n_threads": 2}, "n_threads"),
    "batch_size of no batch": ({"batch_size": 3}, "batch_size"),
    "batch_size: 0": ({"return_type": "batch", "batch_size": 0}, "batch_size"),
    "validate: no such function": ({"validate": "chekc"}, "validate"),
    "validate: async": ({"validate": "answer_async"}, "validate"),
    "validate: other arguments": ({"validate": "index"}, "validate"),
    "setup_arguments of a function": ({"setup_arguments": {"model": "small"}}, "setup_arguments"),
    "class without __call__": ({"python_function": "OwnError"}, "python_function"),
    "collect of a dataframe": ({"return_type": "dataframe", "on_error": "collect"}, "on_error"),
    "retry of a generator": ({"return_type": "generator", "retry": 3}, "retry"),
    "timeout of a generator": ({"return_type": "generator", "timeout": 3}, "timeout"),
    "batch_size of a dataframe": ({"return_type": "dataframe", "batch_size": 3}, "batch_size"),
    "max_concurrency of a dataframe": ({"return_type": "dataframe", "max_concurrency": 3}, "max_concurrency"),
    "validate of a generator": ({"return_type": "generator", "validate": "check"}, "validate"),
    "failed_inputs of a generator": ({"return_type": "generator", "failed_inputs": "pass"}, "failed_inputs"),
    "async of a generator": ({"return_type": "generator", "executor": "async"}, "executor"),
    "validate of a dataframe": ({"return_type": "dataframe", "validate": "check"}, "validate"),
    "failed_inputs of a dataframe": ({"return_type": "dataframe", "failed_inputs": "pass"}, "failed_inputs"),
    "resources without ray": ({"resources": {"cpu": 1}}, "resources"),
    "resources: none": ({"executor": "ray", "resources": {}}, "resources"),
    "resources: negative": ({"executor": "ray", "resources": {"gpu": -1}}, "resources"),
    "resources: another name": ({"executor": "ray", "resources": {"num_gpus": 1}}, "resources"),
    "resources: text": ({"executor": "ray", "resources": {"gpu": "one"}}, "resources"),
    "resources: no memory": ({"executor": "ray", "resources": {"memory": "4 gigabytes"}}, "resources"),
    "min_workers without ray": ({"min_workers": 1}, "min_workers"),
    "min_workers: negative": ({"executor": "ray", "min_workers": -1}, "min_workers"),
    "min_workers above max_workers": ({"executor": "ray", "min_workers": 3, "max_workers": 2}, "min_workers"),
    "max_workers without ray": ({"max_workers": 1}, "max_workers"),
    "max_workers: 0": ({"executor": "ray", "max_workers": 0}, "max_workers"),
    "rows_per_worker without ray": ({"rows_per_worker": 2}, "rows_per_worker"),
    "rows_per_worker of a dataframe": (
        {"executor": "ray", "return_type": "dataframe", "rows_per_worker": 2},
        "rows_per_worker",
    ),
    "rows_per_worker of a generator": (
        {"executor": "ray", "return_type": "generator", "rows_per_worker": 2},
        "rows_per_worker",
    ),
    "processes of a generator": ({"executor": "processes", "return_type": "generator"}, "executor"),
    "max_concurrency of a generator": ({"return_type": "generator", "max_concurrency": 3}, "max_concurrency"),
}


@pytest.mark.parametrize(("fields", "named"), WRONG.values(), ids=WRONG.keys())
def test_wrong_field_is_refused_before_any_function_runs(make, fields, named):
    arguments = {} if fields.get("return_type", "row-wise") in ("row-wise", "batch") else {"x": "<<self.x>>"}
    table = make(raises_for({}), arguments=arguments, **fields)
    with pytest.raises(tv_errors.TVBuilderError, match=rf"answer\.yaml, line \d+, {named}") as refused:
        table.execute("night")
    assert re.search(r"; \w+|\bit must be |did you mean ", str(refused.value)), "there is a remedy"
    assert not table.calls


@pytest.mark.parametrize("return_type", ["dataframe", "generator", "row-wise"])
def test_collect_is_refused_for_an_index_builder_without_for_each(make, return_type):
    table = make(raises_for({}))
    fields = {"return_type": return_type, "on_error": "collect"}
    table.build("answers_index", "IndexBuilder", "index", ["x"], {"count": 3}, **fields)
    with pytest.raises(tv_errors.TVBuilderError, match=r"answers_index\.yaml, line \d+, on_error: .*use pause"):
        table.execute("night")


@pytest.mark.parametrize(
    ("policies", "named"),
    [
        ({"anwser": {"retry": 1}}, "did you mean 'answer'"),
        ({"answer": {"batch_size": 3}}, "batch_size"),
        ({"answer": {"max_concurrency": 2, "n_threads": 2}}, r"policies\['answer'\]: n_threads .*give only one"),
        ({"*": {"max_concurrency": 2, "n_threads": 2}}, r"policies\['\*'\]: n_threads .*give only one"),
        ({"answers_index": {"n_threads": 2}}, "n_threads applies only to row-wise and batch functions; remove it"),
        ({"answer": {"validate": "check"}}, "validate"),
        ({"answer": {"return_type": "batch"}}, "return_type"),
        ({"answer": {"setup_arguments": {}}}, "setup_arguments"),
        ({"answer": {"python_function": "word"}}, "python_function"),
        ({"answer": {"for_each": "answers"}}, "for_each"),
        ({"answers_index": {"on_error": "collect"}}, "on_error|collect"),
        ({"*": {"timeout": -1}}, "timeout"),
    ],
)
def test_wrong_policy_of_a_call_is_refused(make, policies, named):
    table = make(raises_for({}))
    with pytest.raises(tv_errors.TVArgumentError, match=named):
        table.execute("night", policies=policies)
    assert not table.calls


def test_policies_for_all_builders_apply_where_they_have_a_meaning(make):
    table = make(raises_for({}))
    table.execute(policies={"*": {"batch_size": 3, "on_error": "collect", "failed_inputs": "pass", "retry": 1}})
    assert len(table.column()) == 30
