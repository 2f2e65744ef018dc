"""Random definitions equal hand-written YAML.

Both give equal builders, and reuse each other's cells.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tablevault import TableVault, TableVaultWarning
from tablevault.builders.document import read_document
from tablevault.code.versions import CodeIndex

NAMES = st.sampled_from(["one", "two", "three", "four", "odd name", "it's", "é", "on", "5"])
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="<>~\0"), max_size=8)
SCALARS = st.one_of(
    TEXTS,
    st.integers(),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    st.dates(),
    st.sampled_from(["1e5", "no", "~"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)
POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "retry": st.one_of(
            st.integers(0, 5),
            st.fixed_dictionaries({"max_retries": st.integers(0, 3), "on": st.just(["transient", 429, "ValueError"])}),
        ),
        "timeout": st.one_of(st.integers(1, 9), st.floats(0.5, 9)),
        "on_error": st.sampled_from(["pause", "revert", "collect"]),
        "max_concurrency": st.integers(1, 3),
        "stop_on": st.just([401, "KeyError", "code:over"]),
        "failed_inputs": st.sampled_from(["skip", "pass"]),
    },
)


@st.composite
def tables(draw: Any) -> list[dict[str, Any]]:
    """Return random columns.

    Each has its function's parameters, given arguments, policies and the name of its builder.
    """
    columns: list[dict[str, Any]] = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)):
        readable = [item["column"] for item in columns if item["column"].isidentifier()]
        columns.append(
            {
                "column": name,
                "reads": draw(st.lists(st.sampled_from(["key", *readable]), max_size=2, unique=True)),
                "arguments": draw(st.dictionaries(st.sampled_from(["a", "b"]), VALUES, max_size=2)),
                "policies": draw(POLICIES),
                "untracked": draw(st.booleans()),
            }
        )
    return columns


def function_of(number: int, item: dict[str, Any]) -> str:
    parameters = ", ".join([*item["reads"], *sorted(item["arguments"]), "more=1"])
    return f"def f{number}({parameters}):\n    return repr([{parameters.replace('more=1', 'more')}])\n"


def fields_of(item: dict[str, Any]) -> dict[str, Any]:
    fields = dict(item["policies"])
    if item["arguments"]:
        fields["arguments"] = item["arguments"]
        if item["untracked"]:
            fields["untracked"] = sorted(item["arguments"])
    return fields


def definitions(columns: list[dict[str, Any]]) -> str:
    """Return the definitions file."""
    parts = [
        "import datetime\nfrom math import inf\nfrom tablevault.define import Table\n\ntable = Table('table')\n\n\n"
        "@table.index('key', primary_key=['key'])\ndef rows():\n    return ['x', 'y']\n"
    ]
    for number, item in enumerate(columns):
        keywords = "".join(f",\n    {name}={value!r}" for name, value in fields_of(item).items())
        parts.append(f"@table.column({item['column']!r}, builder='b{number}'{keywords})\n{function_of(number, item)}")
    return "\n\n".join(parts)


def by_hand(columns: list[dict[str, Any]]) -> tuple[str, dict[str, str]]:
    """Return the module and the builder files, as they are written without definitions."""
    module = "\n\n".join(
        ["import datetime\nfrom math import inf\n\n\ndef rows():\n    return ['x', 'y']\n"]
        + [function_of(number, item) for number, item in enumerate(columns)]
    )
    common = {"code_module": "file", "is_custom": True}
    index = {
        "builder_type": "IndexBuilder",
        "changed_columns": ["key"],
        "python_function": "rows",
        "primary_key": ["key"],
    }
    builders = {"table_index": {**common, **index, "return_type": "dataframe"}}
    for number, item in enumerate(columns):
        fields = fields_of(item)
        bound = {name: f"<<self.{name}[index]>>" for name in item["reads"]}
        arguments = {**bound, **fields.pop("arguments", {})}
        builders[f"b{number}"] = {
            **common,
            "builder_type": "ColumnBuilder",
            "changed_columns": [item["column"]],
            "python_function": f"f{number}",
            "return_type": "row-wise",
            **({"arguments": arguments} if arguments else {}),
            **fields,
        }
    return module, {name: yaml.safe_dump(item) for name, item in builders.items()}


def fields(text: str) -> dict[str, object]:
    return dict(read_document(text, "builder.yaml").fields)


@pytest.mark.slow
@settings(
    max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
@example(
    [
        {"column": "one", "reads": ["key"], "policies": {}, "untracked": False}
        | {"arguments": {"a": {"b": [float("inf"), -float("inf")]}}}
    ]
)
@given(tables())
def test_definitions_and_handwritten_yaml_reuse_each_others_cells(columns):
    module, texts = by_hand(columns)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file.py"
        file.write_text(definitions(columns), encoding="utf-8")
        vault = TableVault(Path(folder) / "vault", author="ada", create=True)
        vault.create_code_module("file", text=module)
        vault.create_table("table")
        vault.create_instance("table", builders=texts)
        by_hand_version = CodeIndex({"file": module})
        with warnings.catch_warnings():
            # Some values look otherwise to people than to YAML; definitions write them so that they do not.
            warnings.simplefilter("ignore", TableVaultWarning)
            vault.execute_instance("table")
        vault.create_instance("table", copy=True)
        vault.apply(file, overwrite=True)
        applied = {name: vault.get_builder_str("table", name) for name in vault.get_builders_list("table")}
        assert {name: fields(text) for name, text in applied.items()} == {
            name: fields(text) for name, text in texts.items()
        }
        code = CodeIndex({"file": vault.get_code_module_str("file")})
        for number in range(len(columns)):
            assert code.version("file", f"f{number}") == by_hand_version.version("file", f"f{number}")
        process = vault.get_process(vault.execute_instance("table"))
        assert {name: item.reused for name, item in process.progress.items() if name != "table_index"} == {
            f"b{number}": 2 for number in range(len(columns))
        }
        vault.create_instance("table", copy=True)
        for name, text in texts.items():
            vault.create_builder_file("table", name, text=text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TableVaultWarning)
            process = vault.get_process(vault.execute_instance("table"))
        assert sum(item.computed for name, item in process.progress.items() if name != "table_index") == 0
