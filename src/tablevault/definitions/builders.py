"""One builder of a definitions file, and the text of its builder file."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, Signature
from typing import Any, cast

from tablevault.builders.document import BuilderDocument, ForEach, check_document, read_document
from tablevault.builders.fields import FIELD_NAMES, FieldPath
from tablevault.builders.policies import JOBS, RUN_BY_ROW
from tablevault.builders.spec import build_spec
from tablevault.code.loading import built_in, check_accepts
from tablevault.code.signatures import async_generator_problem
from tablevault.code.source import check_source
from tablevault.define import Cell, Definition, Table, cell_reference, column_reference
from tablevault.definitions.source_files import SourceFile
from tablevault.definitions.syntax import BuilderCall
from tablevault.definitions.values import FieldValues, UnwritableValueError
from tablevault.definitions.yaml_layout import builder_yaml, ordered
from tablevault.errors import TVArgumentError, TVBuilderError
from tablevault.layout import BUILDER_SUFFIX
from tablevault.names import check_builder_name, index_builder_name, nearest
from tablevault.references import find_references
from tablevault.texts.json_forms import json_form

GIVEN_BY_DECORATOR = frozenset(
    {"builder_type", "changed_columns", "python_function", "code_module", "is_custom", "name"}
)
_OF_DECORATORS = FIELD_NAMES - GIVEN_BY_DECORATOR
_OF_INDEX = ("primary_key", "keep_old", "for_each")


@dataclass(frozen=True)
class TableOfRows:
    """The table that supplies an index with rows, with its known columns."""

    address: str
    """Table as in a reference, `documents` or `documents(v2)`."""
    columns: tuple[str, ...]
    primary_key: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DefinedBuilder:
    """A builder as defined by its decorator, before its parameters are bound."""

    table: Table
    definition: Definition
    call: BuilderCall
    file: SourceFile
    namespace: Mapping[str, object]
    """The names of its module."""
    package: str
    """The package of code modules while the source is read."""

    @property
    def is_index(self) -> bool:
        """Whether it makes the table's rows."""
        return self.definition.kind == "index"

    @property
    def function_name(self) -> str:
        """The name of the decorated function or class; empty without one."""
        return self.call.function.name if self.call.function is not None else ""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Its named columns, or its function's name; empty if it copies all columns of another table."""
        for column in self.definition.columns:
            if not isinstance(column, str):
                kind = getattr(column, "__name__", type(column).__name__)
                raise self.error((), f"the name of a column must be a str, not {kind}.")
        named = self.definition.columns or ((self.function_name,) if self.function_name else ())
        return tuple(map(str, named))

    @cached_property
    def name(self) -> str:
        """The builder's name."""
        expected = index_builder_name(self.table.name)
        given = self.definition.builder
        if self.is_index:
            if given and given != expected:
                raise self.error(("builder",), f"the IndexBuilder of a table has the name {expected}; remove builder.")
            return expected
        try:
            if given:
                return check_builder_name(given)
        except TVArgumentError as error:
            raise self.error(("builder",), f"{error}.") from None
        for name in (*self.columns[:1], self.function_name):
            try:
                return check_builder_name(name)
            except TVArgumentError as error:
                last = error
        raise self.error((), f"{last}; give the builder a name with builder=.")

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The primary key in its definition."""
        key = self.definition.fields.get("primary_key") or ()
        return tuple(key) if isinstance(key, list | tuple) else ()

    @property
    def rows_table(self) -> ForEach | None:
        """The table of `rows_of` or `for_each`, if any."""
        rows_of, for_each = self.definition.rows_of, self.definition.fields.get("for_each")
        given = for_each if rows_of is None else rows_of
        return self._document({"for_each": given.name if isinstance(given, Table) else given}).for_each

    def error(self, path: FieldPath, sentence: str) -> TVBuilderError:
        """Return an error about one of its fields, or about the builder itself."""
        return self._document({}).error(path, sentence)

    # --- fields ---------------------------------------------------------------------------------------------------

    def text(self, columns: Collection[str], rows: TableOfRows | None, modules: Mapping[str, str]) -> str:
        """Return the builder file.

        Parameters
        ----------
        columns
            Names of the columns to which parameters can be bound.
        rows
            The table of `for_each` or `rows_of`.
        modules
            The texts of the code modules.

        Raises
        ------
        TVBuilderError, TableReferenceError
            If a field is invalid, or a parameter cannot be bound; names file, line and field.
        """
        fields = dict(self._plain_fields)
        given = fields.pop("arguments", {})
        if not isinstance(given, dict):
            raise self.error(("arguments",), "it must be a mapping of argument names to values.")
        if self.definition.rows_of is not None:
            assert rows is not None  # looked up by the caller
            fields |= self._taken_over(fields, rows)
            arguments = {"df": column_reference(fields["changed_columns"], rows.address), **given}
        else:
            fields |= self._of_function(fields)
            arguments = self._bound(given, fields["return_type"], columns, rows)
        document = self._document(ordered({**fields, **({"arguments": arguments} if arguments else {})}))
        check_document(document)
        self._check(document, modules)
        text = builder_yaml(document.fields)
        read_document(text, f"{self.name}{BUILDER_SUFFIX}")
        return text

    def written(self) -> str:
        """Return its unbound fields as JSON, as in the source."""
        fields = dict(self._plain_fields)
        if self.definition.rows_of is None:
            fields |= self._of_function(fields)
        else:
            rows = self.rows_table
            assert rows is not None  # text() has found it
            fields |= {"rows_of": [rows.table, rows.instance], "changed_columns": list(self.columns)}
        return json.dumps(json_form(fields), sort_keys=True)

    @cached_property
    def _plain_fields(self) -> Mapping[str, Any]:
        """The given fields, as plain values."""
        fields: dict[str, Any] = {}
        for name, value in self.definition.fields.items():
            if name in GIVEN_BY_DECORATOR:
                raise self.error((name,), "this field is set by the decorator; remove it.")
            known = _OF_DECORATORS if self.is_index else _OF_DECORATORS.difference(_OF_INDEX)
            if name not in known:
                raise self.error((name,), f"there is no field {name!r}{nearest(name, known)}")
            if value is not None:
                fields[name] = value
        kind = "dataframe" if self.is_index and "for_each" not in fields else "row-wise"
        kind = str(fields.setdefault("return_type", kind))
        values = FieldValues(self.namespace, self.package, lambda cell: _reference(cell, kind))
        try:
            return {name: values.plain(name, value) for name, value in fields.items()}
        except UnwritableValueError as error:
            raise self.error(error.path, error.sentence) from None

    def _of_function(self, fields: Mapping[str, Any]) -> dict[str, object]:
        called = inspect.unwrap(self._called)
        if inspect.isasyncgenfunction(called):
            raise self.error((), async_generator_problem(self.function_name))
        if inspect.isgeneratorfunction(called) and self.definition.fields.get("return_type") is None:
            raise self.error((), f'{self.function_name}() is a generator; give return_type="generator".')
        return {
            "builder_type": "IndexBuilder" if self.is_index else "ColumnBuilder",
            "changed_columns": list(self.columns),
            "python_function": self.function_name,
            "code_module": self.file.module,
            "is_custom": True,
            "return_type": fields["return_type"],
        }

    def _taken_over(self, fields: Mapping[str, Any], rows: TableOfRows) -> dict[str, object]:
        """Return the fields of an index that copies another table's rows."""
        columns = self.columns or rows.columns
        if not columns:
            raise self.error(("rows_of",), f"the columns of '{rows.address}' are not known yet; name them.")
        if "for_each" in fields:
            raise self.error(("for_each",), "for_each and rows_of exclude each other; remove one of them.")
        taken: dict[str, object] = {
            "builder_type": "IndexBuilder",
            "changed_columns": list(columns),
            "python_function": "create_data_table_from_table",
            "code_module": "table_generation",
            "is_custom": False,
        }
        if "primary_key" not in fields and rows.primary_key and set(rows.primary_key) <= set(columns):
            taken["primary_key"] = list(rows.primary_key)
        return taken

    # --- arguments ------------------------------------------------------------------------------------------------

    def _bound(
        self, given: Mapping[str, object], return_type: str, columns: Collection[str], rows: TableOfRows | None
    ) -> dict[str, object]:
        """Return the given arguments, and those bound to columns by parameter name."""
        by_row = return_type in RUN_BY_ROW
        table = "self" if rows is None else rows.address
        bound: dict[str, object] = {}
        for parameter in self._parameters():
            name = parameter.name
            if name in given:
                bound[name] = given[name]
            elif parameter.kind is Parameter.VAR_KEYWORD:
                continue
            elif parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.POSITIONAL_ONLY):
                if parameter.kind is Parameter.VAR_POSITIONAL or parameter.default is Parameter.empty:
                    raise self._unbound(parameter, "arguments are given by name; make it a parameter with a name.")
            elif name in columns:
                bound[name] = cell_reference(name, table) if by_row else column_reference([name], table)
            elif parameter.default is Parameter.empty:
                near = nearest(name, columns) if columns else ""
                reason = "no column has this name, and it has no default; give it under arguments"
                raise self._unbound(parameter, f"{reason}{near if near.endswith('?') else '.'}")
        return {**bound, **{name: value for name, value in given.items() if name not in bound}}

    def _unbound(self, parameter: Parameter, reason: str) -> TVBuilderError:
        called = f"{self.function_name}()"
        return self.file.error(
            self._line_of(parameter.name), f"the parameter '{parameter}' of {called} cannot be bound: {reason}"
        )

    def _line_of(self, parameter: str) -> int:
        function = self.call.function
        if isinstance(function, ast.ClassDef):
            found = [node for node in function.body if getattr(node, "name", "") == self._method]
        else:
            found = [] if function is None else [function]
        named = (node for part in found for node in ast.walk(part) if isinstance(node, ast.arg))
        return next((node.lineno for node in named if node.arg == parameter), self.call.line)

    @property
    def _method(self) -> str:
        """The method of a class that receives the arguments."""
        return "submit" if self.definition.fields.get("executor") == JOBS else "__call__"

    @cached_property
    def _called(self) -> Callable[..., object]:
        """The function to call for a row, which is a method for a class."""
        function = self.namespace.get(self.function_name)
        if inspect.isclass(function):
            method = self._method
            called = next((vars(base)[method] for base in function.__mro__ if method in vars(base)), None)
            if called is None:
                purpose = "to call for a row" if method == "__call__" else "to hand rows to a provider with"
                raise self.error((), f"the class {self.function_name} has no method {method} {purpose}.")
            return cast("Callable[..., object]", called)
        if not callable(function):
            raise self.error((), f"'{self.function_name}' is a {type(function).__name__}, not a function or class.")
        return function

    def _parameters(self) -> Iterator[Parameter]:
        try:
            signature = inspect.signature(self._called)
        except (TypeError, ValueError):
            # An object without a known signature accepts any argument.
            signature = Signature([Parameter("arguments", Parameter.VAR_KEYWORD)])
        parameters = iter(signature.parameters.values())
        if inspect.isclass(self.namespace.get(self.function_name)):
            next(parameters, None)
            if self._method != "__call__":
                # Skips the token of the job.
                next(parameters, None)
        return parameters

    # --- checks ---------------------------------------------------------------------------------------------------

    def _check(self, document: BuilderDocument, modules: Mapping[str, str]) -> None:
        """Check the builder as far as possible before it is executed."""
        pending = (name for name, value in document.fields.items() if name not in ("arguments", "setup_arguments"))
        if any(find_references(document.fields[name]) for name in pending if name != "dependencies"):
            # References are resolved and checked when the builder is executed.
            return
        spec = build_spec(document, self.name, lambda value: value)
        if spec.is_custom:
            check_source(modules, spec)
            return
        try:
            check_accepts(built_in(spec.code_module, spec.python_function), spec.arguments)
        except TVBuilderError as error:
            raise self.error(("arguments",), str(error)) from None

    def _document(self, fields: Mapping[str, object]) -> BuilderDocument:
        return BuilderDocument(self.file.name, fields, dict(_lines(self.call)))


def _reference(cell: Cell, return_type: str) -> str:
    return cell_reference(cell.column) if return_type in RUN_BY_ROW else column_reference([cell.column])


def _lines(call: BuilderCall) -> Iterator[tuple[FieldPath, int]]:
    """Yield the fields of a decorator and their items, each with its line."""
    yield (), call.line
    for position, node in enumerate(call.call.args):
        yield ("changed_columns", position), node.lineno
    for keyword in call.call.keywords:
        if keyword.arg is not None:
            yield from _lines_in(keyword.value, (keyword.arg,))


def _lines_in(node: ast.expr, path: FieldPath) -> Iterator[tuple[FieldPath, int]]:
    yield path, node.lineno
    match node:
        case ast.Dict(keys, values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant):
                    yield from _lines_in(value, (*path, key.value))
        case ast.List(items) | ast.Tuple(items):
            for position, item in enumerate(items):
                yield from _lines_in(item, (*path, position))
