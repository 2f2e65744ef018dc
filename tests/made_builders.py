"""Builders for tests, made from the fields that a test is about."""

from __future__ import annotations

import yaml

from tablevault.builders.document import read_document
from tablevault.builders.spec import BuilderSpec, build_spec


def builder_text(kind: str, **fields: object) -> str:
    columns = fields.pop("changed_columns", ["made"])
    content = {
        "builder_type": kind,
        "changed_columns": columns,
        "python_function": "make",
        "code_module": "makers",
        "is_custom": True,
        **fields,
    }
    return yaml.safe_dump(content, sort_keys=False)


def builder(name: str, kind: str = "ColumnBuilder", **fields: object) -> BuilderSpec:
    return build_spec(read_document(builder_text(kind, **fields), f"{name}.yaml"), name, lambda value: value)


def column_builder(name: str, **fields: object) -> BuilderSpec:
    fields.setdefault("changed_columns", [name])
    return builder(name, "ColumnBuilder", **fields)


def index_builder(name: str = "stories_index", **fields: object) -> BuilderSpec:
    fields.setdefault("changed_columns", ["title"])
    return builder(name, "IndexBuilder", **fields)
