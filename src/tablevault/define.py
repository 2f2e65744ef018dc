"""Tables and builders, defined in Python.

    from tablevault.define import Table, env

    answers = Table("answers")

    @answers.index("question", primary_key=["question"])
    def read_questions(path="questions.txt"): ...

    @answers.column("answer", arguments={"key": env("KEY")})
    def ask(question, key): ...

`TableVault.apply` reads such a file and writes its builders and its code module into a vault. Everything here is a
plain value or a text; decorated functions and classes are unchanged, and can be called and tested anywhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypedDict, TypeVar, Unpack, overload

__all__ = [
    "ARTIFACT_FOLDER",
    "ATTEMPT",
    "CALL_ID",
    "LAST_ERROR",
    "PROCESS_ID",
    "Service",
    "Table",
    "env",
    "ref",
    "this",
]

ARTIFACT_FOLDER: Final = "~ARTIFACT_FOLDER~"
"""The folder that takes the files of this instance."""
PROCESS_ID: Final = "~PROCESS_ID~"
"""The id of the process that executes the builder."""
ATTEMPT: Final = "~ATTEMPT~"
"""Number of the attempt of the call: 1, 2, …"""
LAST_ERROR: Final = "~LAST_ERROR~"
"""The text of the previous error of the row; null at first."""
CALL_ID: Final = "~CALL_ID~"
"""A UUID that names the call, for services that accept an idempotency key."""

_BARE_WORD = re.compile(r"[\w-]+")

Defined = TypeVar("Defined", bound=Callable[..., object])
ErrorName = int | str | type[BaseException]
"""An HTTP status, a word such as `transient`, or an exception class or its name."""


class Decorator(Protocol):
    """Turns a function or class into a builder, and returns it unchanged."""

    def __call__(self, function: Defined, /) -> Defined:
        """Record the function, and return it."""
        ...


# --- fields ---------------------------------------------------------------------------------------------------------


class RetryFields(TypedDict, total=False):
    """The mapping under `retry`."""

    max_retries: int
    on: Sequence[ErrorName]
    wait: float
    max_wait: float
    max_seconds: float


class ColumnFields(TypedDict, total=False):
    """The fields of a ColumnBuilder, as in a builder file."""

    return_type: Literal["row-wise", "batch", "dataframe", "generator"]
    arguments: Mapping[str, Any]
    setup_arguments: Mapping[str, Any]
    untracked: Sequence[str]
    dtypes: Mapping[str, str | None]
    validate: str | Callable[..., object]
    dependencies: Sequence[str]
    retry: int | RetryFields
    timeout: float
    service: str | Service | Sequence[str | Service]
    budget: Mapping[str, float]
    on_error: Literal["pause", "collect", "revert"]
    max_failures: int | str
    max_consecutive_failures: int | Literal["none"]
    stop_on: Sequence[ErrorName]
    failed_inputs: Literal["skip", "pass"]
    executor: Literal["threads", "async", "processes", "ray", "jobs"]
    max_concurrency: int
    n_threads: int
    batch_size: int
    poll_seconds: float
    wait: bool
    resources: Mapping[str, float | str]
    min_workers: int
    max_workers: int
    rows_per_worker: int


class IndexFields(ColumnFields, total=False):
    """The fields of an IndexBuilder, as in a builder file."""

    for_each: str | Table
    primary_key: Sequence[str]
    keep_old: bool


# --- tables ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Definition:
    """One builder of a table, as given to its decorator."""

    kind: Literal["index", "column"]
    columns: tuple[str, ...]
    """As given; empty for the function's name."""
    builder: str
    """As given; empty for the default name."""
    fields: Mapping[str, object]
    """Values of builder fields, as given."""
    rows_of: str | Table | None
    """The table whose rows an index takes over; `None` if a function makes them."""
    file: str
    """The file of the call."""
    line: int
    """A line of the call."""
    function: object = None
    """The decorated function or class."""


class Table:
    """A table of a vault.

    Parameters
    ----------
    name
        ASCII letters, digits, `-`, `_`; unique regardless of case.
    allow_multiple_artifacts
        Whether each instance keeps its own artifacts.
    has_side_effects
        Whether executing an instance changes something outside the vault.
    description
        Free text.
    """

    def __init__(
        self,
        name: str,
        *,
        allow_multiple_artifacts: bool = False,
        has_side_effects: bool = False,
        description: str = "",
    ) -> None:
        self.name = name
        self.allow_multiple_artifacts = allow_multiple_artifacts
        self.has_side_effects = has_side_effects
        self.description = description
        self.definitions: list[Definition] = []
        """The builders, in the order of the file."""

    def __repr__(self) -> str:
        return f"Table({self.name!r})"

    @overload
    def index(self, *columns: str, rows_of: str | Table, builder: str = "", **fields: Unpack[IndexFields]) -> None: ...

    @overload
    def index(self, *columns: str, builder: str = "", **fields: Unpack[IndexFields]) -> Decorator: ...

    def index(
        self, *columns: str, rows_of: str | Table | None = None, builder: str = "", **fields: Unpack[IndexFields]
    ) -> Decorator | None:
        """Define the IndexBuilder, whose function makes the table's rows.

        Parameters
        ----------
        columns
            The columns, in the order in which the function returns them; by default the function's name.
        rows_of
            Take over the rows and columns (all, or those named) of this table's newest instance. Then this is a
            statement, not a decorator.
        builder
            The builder's name, which can only be `<table>_index`.
        fields
            Fields of the builder file.
        """
        definition = self._define("index", columns, builder, fields, rows_of)
        return None if rows_of is not None else _Decorator(definition)

    def column(self, *columns: str, builder: str = "", **fields: Unpack[ColumnFields]) -> Decorator:
        """Define a ColumnBuilder, whose function computes columns of existing rows.

        Parameters
        ----------
        columns
            The columns, in the order in which the function returns them; by default the function's name.
        builder
            The builder's name; by default the first column, or the function's name if that is not a valid one.
        fields
            Fields of the builder file. Missing arguments are bound by name: a parameter named like a column gets this
            row's cell.
        """
        return _Decorator(self._define("column", columns, builder, fields, None))

    def _define(
        self,
        kind: Literal["index", "column"],
        columns: tuple[str, ...],
        builder: str,
        fields: Mapping[str, object],
        rows_of: str | Table | None,
    ) -> Definition:
        place = sys._getframe(2)
        definition = Definition(kind, columns, builder, fields, rows_of, place.f_code.co_filename, place.f_lineno)
        self.definitions.append(definition)
        return definition


@dataclass(frozen=True)
class _Decorator:
    definition: Definition

    def __call__(self, function: Defined, /) -> Defined:
        self.definition.function = function
        return function


class Service:
    """An external resource with limits, such as `calls_per_minute`, which all builders of a vault obey together.

    It is created when the file is applied; an existing service of this name keeps its limits.

    Parameters
    ----------
    name
        The service's name.
    limits
        Each an amount per second, minute, hour or day, or `max_concurrency`.
    """

    def __init__(self, name: str, **limits: float) -> None:
        self.name = name
        self.limits = limits

    def __repr__(self) -> str:
        return f"Service({self.name!r})"


# --- values of arguments --------------------------------------------------------------------------------------------


def cell_reference(column: str, table: str = "self") -> str:
    """Return the reference to the current row's cell of a column."""
    return f"<<{table}.{_token(column)}[index]>>"


def column_reference(columns: Sequence[str], table: str = "self") -> str:
    """Return the reference to whole columns."""
    tokens = ", ".join(map(_token, columns))
    return f"<<{table}.{tokens if len(columns) == 1 else f'{{{tokens}}}'}>>"


def _token(name: str) -> str:
    if _BARE_WORD.fullmatch(name):
        return name
    for character, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        name = name.replace(character, escaped)
    return f"'{name}'"


@dataclass(frozen=True, slots=True)
class Cell:
    """A column of this table.

    It means this row's cell, or the whole column if the function is called once.

    Inside a text, it is this row's cell.
    """

    column: str

    def __str__(self) -> str:
        return cell_reference(self.column)


class This:
    """The instance being built.

    `this.NAME` and `this["NAME"]` are its columns, and `this.index` is the row's position.
    """

    index: Final = "<<self.index>>"

    def __getattr__(self, name: str) -> Cell:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Cell(name)

    def __getitem__(self, name: str) -> Cell:
        return Cell(name)

    def __str__(self) -> str:
        return "<<self>>"

    def __repr__(self) -> str:
        return "this"


this: Final = This()
"""The instance being built; by itself, its whole frame."""


def ref(text: str) -> str:
    """Return a text with references, with its syntax checked immediately.

    An example is `<<prices.price[fruit::'fig']>>`.

    Raises
    ------
    TableReferenceError
        If a reference is malformed; marks the place.
    """
    from tablevault.references import parse  # local, since nothing else here needs the package

    parse(text)
    return text


def env(name: str) -> str:
    """Return the placeholder of an environment variable, which is read when the function is called."""
    return f"~ENV:{name}~"
