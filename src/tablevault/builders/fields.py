"""The schema of builder files and its validation errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tablevault.names import nearest
from tablevault.values.services import UNLIMITED_AMOUNTS


def _limited(name: str) -> str:
    """Return the name of an amount; raises `ValueError` for other things that are counted."""
    if name in UNLIMITED_AMOUNTS:
        raise ValueError(name)
    return name


BuilderKind = Literal["IndexBuilder", "ColumnBuilder"]
ReturnType = Literal["dataframe", "row-wise", "batch", "generator"]
Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ErrorList = list[int | Name]


class RetryFields(BaseModel):
    """The mapping under `retry`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    max_retries: Annotated[int, Field(ge=0)] | None = None
    on: ErrorList | None = None
    wait: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    max_wait: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    max_seconds: Seconds | None = None


class PolicyFields(BaseModel):
    """Fields that control how a function runs; `None` if absent."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    on_error: Literal["pause", "collect", "revert"] | None = None
    max_failures: Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^(100|[0-9]{1,2})%$")] | None = None
    max_consecutive_failures: Count | Literal["none"] | None = None
    stop_on: ErrorList | None = None
    retry: Annotated[int, Field(ge=0)] | RetryFields | None = None
    timeout: Seconds | None = None
    failed_inputs: Literal["skip", "pass"] | None = None
    executor: Literal["threads", "async", "processes", "ray", "jobs"] | None = None
    max_concurrency: Count | None = None
    n_threads: Count | None = None
    batch_size: Count | None = None
    poll_seconds: Seconds | None = None
    wait: bool | None = None
    service: Name | Annotated[list[Name], Field(min_length=1)] | None = None
    budget: Annotated[dict[Annotated[Name, AfterValidator(_limited)], Amount], Field(min_length=1)] | None = None
    resources: Annotated[dict[Name, Amount | Name], Field(min_length=1)] | None = None
    min_workers: Annotated[int, Field(ge=0)] | None = None
    max_workers: Count | None = None
    rows_per_worker: Count | None = None


class BuilderFields(PolicyFields):
    """The fields of a builder file, with resolved references."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=False)

    builder_type: BuilderKind
    changed_columns: Annotated[list[Name], Field(min_length=1)]
    python_function: Name
    code_module: Name
    arguments: dict[Name, object] = {}
    is_custom: bool = False
    return_type: ReturnType = "dataframe"
    setup_arguments: dict[Name, object] | None = None
    validator: Annotated[Name | None, Field(alias="validate")] = None
    for_each: Name | None = None
    dtypes: dict[Name, str | None] = {}
    dependencies: list[Name] = []
    primary_key: list[Name] = []
    keep_old: bool = False
    untracked: list[Name] = []


FIELD_NAMES = frozenset({"name", *(item.alias or name for name, item in BuilderFields.model_fields.items())})
POLICY_NAMES = frozenset(PolicyFields.model_fields)

UNRESOLVED_FIELDS = frozenset({"arguments", "setup_arguments", "dependencies", "builder_type", "name"})
"""Fields that are read without resolving references (arguments are resolved for each call)."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "builder_type": ("IndexBuilder", "ColumnBuilder"),
    "return_type": ("dataframe", "row-wise", "batch", "generator"),
    "on_error": ("pause", "collect", "revert"),
    "failed_inputs": ("skip", "pass"),
    "executor": ("threads", "async", "processes", "ray", "jobs"),
}

_SHAPES = {
    "builder_type": "IndexBuilder or ColumnBuilder",
    "changed_columns": "a list of at least one column name, such as [title, body]",
    "python_function": "the name of a function, such as ask_model",
    "code_module": "the name of a code module without '.py', such as prompts",
    "arguments": "a mapping of argument names to values, such as {text: '<<self.text[index]>>'}",
    "is_custom": "true (a module of the vault) or false (a built-in module)",
    "return_type": "dataframe, row-wise, batch or generator",
    "on_error": "pause, collect or revert",
    "max_failures": "a non-negative integer, or a percentage such as '10%'",
    "max_consecutive_failures": "a positive integer, or none",
    "stop_on": "a list of errors, such as [401, ValueError]",
    "retry": "a non-negative integer, or a mapping such as {max_retries: 3, on: [transient]}",
    "retry.max_retries": "a non-negative integer",
    "retry.on": "a list of errors, such as [transient, ValueError]",
    "retry.wait": "a non-negative number of seconds",
    "retry.max_wait": "a non-negative number of seconds",
    "retry.max_seconds": "a positive number of seconds",
    "timeout": "a positive number of seconds",
    "validate": "the name of a function of the same module, such as check_answer",
    "failed_inputs": "skip or pass",
    "executor": "threads, async, processes, ray or jobs",
    "max_concurrency": "a positive integer",
    "n_threads": "a positive integer",
    "batch_size": "a positive integer",
    "poll_seconds": "a positive number of seconds",
    "wait": "true or false",
    "service": "the name of a service, or a list of names, such as [openai, search]",
    "budget": (
        "a mapping of amounts, which are calls and those that functions report, to non-negative numbers, such as "
        "{calls: 1000, cost: 5}"
    ),
    "resources": "a mapping of resources to non-negative numbers, such as {cpu: 1, gpu: 0.5, memory: 4GiB}",
    "min_workers": "a non-negative integer",
    "max_workers": "a positive integer",
    "rows_per_worker": "a positive integer",
    "for_each": "a table, such as documents or documents(v2)",
    "setup_arguments": "a mapping of argument names to values, such as {model: small}",
    "dtypes": "a mapping of column names to types, such as {score: Float64}",
    "dependencies": "a list of columns, such as ['orders.customer_id', 'orders.*']",
    "primary_key": "a list of column names, such as [title]",
    "keep_old": "true or false",
    "untracked": "a list of argument names, such as [api_key]",
}


FieldPath = tuple[object, ...]
"""Path of a field or item: the field name, then keys and positions of nested items."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """A validation error in a builder file."""

    path: FieldPath
    """Location of the field or item."""
    sentence: str
    """The problem and its remedy."""


def validate_fields(values: Mapping[str, object]) -> BuilderFields | list[FieldProblem]:
    """Return the validated fields, or all problems if any is invalid."""
    values = _spelled(values)
    try:
        return BuilderFields.model_validate(values)
    except ValidationError as error:
        return _problems(error, values, FIELD_NAMES)


def validate_policies(values: Mapping[str, object]) -> PolicyFields | list[FieldProblem]:
    """Return the validated policy fields, or all problems if any is invalid."""
    values = _spelled(values)
    try:
        return PolicyFields.model_validate(values)
    except ValidationError as error:
        return _problems(error, values, POLICY_NAMES)


def field_problems(values: Mapping[str, object]) -> list[FieldProblem]:
    """Return all problems of the fields."""
    outcome = validate_fields(values)
    return outcome if isinstance(outcome, list) else []


def describe(value: object) -> str:
    """Return a short YAML-like description of a value for error messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"{str(value).lower()} (quote it to mean text)"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "…")
    if isinstance(value, int):
        return f"the number {value}" if abs(value) < 10**15 else "a very large number"
    if isinstance(value, float):
        return f"the number {value:g}"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "a mapping" if isinstance(value, dict) else f"a {type(value).__name__}"


def _spelled(values: Mapping[str, object]) -> dict[str, object]:
    """Restore the key `on` under `retry`.

    YAML 1.1 parses that key as true, which becomes the string "true" in JSON.
    """
    retry = values.get("retry")
    if not isinstance(retry, Mapping):
        return dict(values)
    return {**values, "retry": {"on" if key is True or key == "true" else key: value for key, value in retry.items()}}


def _problems(error: ValidationError, values: Mapping[str, object], known: Collection[str]) -> list[FieldProblem]:
    # Pydantic reports a mapping once per alternative of the union; only the errors for the mapping are useful.
    details = [
        detail
        for detail in error.errors(include_url=False)
        if not (
            detail["loc"][0] == "retry" and "RetryFields" not in detail["loc"] and isinstance(detail["input"], dict)
        )
    ]
    return list(dict.fromkeys(_problem(detail, values, known) for detail in details))


def _problem(detail: ErrorDetails, values: Mapping[str, object], known: Collection[str]) -> FieldProblem:
    location = detail["loc"]
    name = location[0]
    if detail["type"] == "missing":
        return FieldProblem((name,), f"this required field is missing; it must be {_SHAPES[str(name)]}.")
    if name not in _SHAPES or (detail["type"] == "extra_forbidden" and len(location) == 1):
        return FieldProblem((name,), f"there is no field {describe(name)}{nearest(str(name), known)}")
    if detail["type"] in ("extra_forbidden", "invalid_key"):
        key = str(location[-1])
        return FieldProblem((name, key), f"{name} has no field {key!r}{nearest(key, RetryFields.model_fields)}")
    if detail["type"] == "literal_error" and name in _CHOICES and isinstance(values[str(name)], str):
        value = values[str(name)]
        return FieldProblem((name,), f"it cannot be {describe(value)}{nearest(str(value), _CHOICES[str(name)])}")
    return _wrong_type(detail, values)


def _wrong_type(detail: ErrorDetails, values: Mapping[str, object]) -> FieldProblem:
    location = detail["loc"]
    name = str(location[0])
    found = describe(detail["input"])
    if location[-1] == "[key]":
        return FieldProblem((name, detail["input"]), f"it must be {_SHAPES[name]}; found {found} as a name.")
    path = _path(location, values)[:2]
    shape = _SHAPES.get(".".join(map(str, path)), _SHAPES[name])
    return FieldProblem(path, f"it must be {shape}; found {found}.")


def _path(location: tuple[int | str, ...], values: Mapping[str, object]) -> FieldPath:
    """Strip the names of union alternatives from a Pydantic error location."""
    path: list[object] = []
    value: object = values
    for part in location:
        match value:
            case Mapping() if part in value:
                value = value[part]
            case list() if isinstance(part, int):
                value = value[part]
            case _:
                continue
        path.append(part)
    return tuple(path)
