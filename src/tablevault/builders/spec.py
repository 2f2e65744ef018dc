"""Resolved and validated builder specifications."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from tablevault.builders.document import INDEX, SELF, BuilderDocument, BuilderReads, ForEach, problems_error
from tablevault.builders.fields import (
    UNRESOLVED_FIELDS,
    BuilderFields,
    BuilderKind,
    RetryFields,
    ReturnType,
    validate_fields,
)
from tablevault.builders.placeholders import differs_by_call, misspelt_placeholder
from tablevault.builders.policies import (
    BOTH_NAMES,
    RUN_BY_ROW,
    Policies,
    PolicyContext,
    has_both_names,
    invalid_error_name,
    meaningless_field,
)
from tablevault.errors import TVArgumentError, TVBuilderError
from tablevault.names import check_module_name, check_table_name, nearest
from tablevault.references import Literal, Placement, check_placement, find_references
from tablevault.storage.dtypes import ColumnType, Kind, holds_arrays, parse_dtype


@dataclass(frozen=True)
class BuilderSpec:
    """A builder, which computes columns with a function."""

    name: str
    """Builder name: its file name without `.yaml`."""
    kind: BuilderKind
    """Whether the builder creates rows, or computes columns of existing rows."""
    changed_columns: tuple[str, ...]
    """Produced columns, in the order in which the function returns them."""
    python_function: str
    """Name of the function."""
    code_module: str
    """Module of the function, without `.py`."""
    is_custom: bool
    """Whether the module belongs to the vault; otherwise it is built in."""
    return_type: ReturnType
    """How the function returns its rows."""
    arguments: Mapping[str, object]
    """Arguments as written; references and placeholders are resolved for each call."""
    dtypes: Mapping[str, ColumnType]
    """Declared column types; the types of other columns are inferred from their values."""
    dependencies: tuple[str, ...]
    """Inputs that the references do not determine, as `table.column` or `table.*`."""
    primary_key: tuple[str, ...]
    """Columns that identify rows; IndexBuilders only."""
    keep_old: bool
    """Whether to keep rows of the origin that a new run does not produce; IndexBuilders only."""
    untracked: tuple[str, ...]
    """Arguments that are not recorded and do not affect reuse."""
    validator: str | None
    """Function of the same module that may reject the cells of a row."""
    setup_arguments: Mapping[str, object] | None
    """Constructor arguments, if `python_function` names a class."""
    policies: Policies = field(compare=False)
    """How the function runs."""
    document: BuilderDocument = field(repr=False, compare=False)
    """The source file."""

    @property
    def file(self) -> str:
        """File name, as shown in error messages."""
        return self.document.file

    @property
    def reads(self) -> BuilderReads:
        """The columns and tables that the builder reads."""
        return self.document.reads

    @cached_property
    def own_row_columns(self) -> tuple[str, ...]:
        """Columns read from the current row, as in `<<self.c[index]>>`, including nested references."""
        found = {
            operand.value
            for value in self.arguments.values()
            for reference in find_references(value)
            for part in reference.nested()
            if part.is_self and part.reads_current_row
            for operand in part.columns or ()
            if isinstance(operand, Literal) and operand.value != INDEX
        }
        return tuple(sorted(found))

    @property
    def function_text(self) -> str:
        """The function, as shown in error messages."""
        return f"{self.python_function}() of builder '{self.name}'"

    @property
    def for_each(self) -> ForEach | None:
        """The table over whose rows the builder iterates; `None` without `for_each`."""
        return self.document.for_each

    @property
    def is_index(self) -> bool:
        """Whether the builder is an IndexBuilder."""
        return self.kind == "IndexBuilder"

    @property
    def runs_by_row(self) -> bool:
        """Whether the function is called for single rows or batches."""
        return self.return_type in RUN_BY_ROW

    @property
    def policy_context(self) -> PolicyContext:
        """The properties that decide which policies apply."""
        makes_artifacts = any(kind.kind is Kind.ARTIFACT for kind in self.dtypes.values())
        return PolicyContext(
            self.is_index and self.for_each is None,
            self.return_type,
            makes_artifacts,
            self.policies,
        )

    def check_timeout(self, executors: frozenset[str]) -> None:
        """Raise `TVBuilderError` if a late call of the function could write artifacts.

        Parameters
        ----------
        executors
            The executors that suit the function.
        """
        context = replace(self.policy_context, executors=executors)
        problem = context.late_call_problem(self.policies.executor, self.policies.timeout)
        if problem is not None:
            raise self.error(("timeout",), problem)

    @property
    def written_values(self) -> tuple[object, ...]:
        """The values of all arguments as written, of the function and of its class's constructor."""
        return *self.arguments.values(), *(self.setup_arguments or {}).values()

    @property
    def tracked_arguments(self) -> dict[str, object]:
        """The arguments as written, without the untracked ones."""
        return {name: value for name, value in self.arguments.items() if name not in self.untracked}

    def error(self, path: tuple[object, ...], sentence: str) -> TVBuilderError:
        """Return an error that points at a field or item."""
        return self.document.error(path, sentence)


def build_spec(document: BuilderDocument, name: str, resolve: Callable[[object], object]) -> BuilderSpec:
    """Resolve and validate the fields of a builder file.

    Parameters
    ----------
    document
        The parsed file, from `read_document`.
    name
        Name of the builder.
    resolve
        Resolves the references in a YAML value; called for every field except `UNRESOLVED_FIELDS`.

    Raises
    ------
    TVBuilderError
        If a value is invalid, or fields contradict one another. The message gives file, line, field and remedy.
    TableReferenceError
        If a reference cannot be resolved or is misplaced.
    """
    values = document.fields
    if not document.is_resolved:
        values = {key: _resolved(document, key, value, resolve) for key, value in values.items()}
    fields = validate_fields({key: value for key, value in values.items() if value is not None})
    if isinstance(fields, list):
        raise problems_error(document, fields)
    _check_columns(document, fields)
    _check_code(document, fields)
    _check_index_only(document, fields)
    _check_names(document, "primary_key", fields.primary_key, fields.changed_columns)
    _check_names(document, "dtypes", fields.dtypes, fields.changed_columns)
    _check_names(document, "untracked", fields.untracked, fields.arguments)
    _check_declared_dependencies(document, fields)
    _check_arguments(document, fields)
    _check_error_names(document, fields)
    if fields.return_type not in RUN_BY_ROW:
        # Builder files of version 0.1.1 may have this field with any return type; it has no effect here.
        fields = fields.model_copy(update={"n_threads": None})
    spec = _spec(document, name, fields)
    _check_policies(document, fields, spec)
    return spec


def _resolved(document: BuilderDocument, key: str, value: object, resolve: Callable[[object], object]) -> object:
    if key in UNRESOLVED_FIELDS:
        return value
    with document.located(key):
        return resolve(value)


def _spec(document: BuilderDocument, name: str, fields: BuilderFields) -> BuilderSpec:
    return BuilderSpec(
        name=name,
        kind=fields.builder_type,
        changed_columns=tuple(fields.changed_columns),
        python_function=fields.python_function,
        code_module=fields.code_module,
        is_custom=fields.is_custom,
        return_type=fields.return_type,
        arguments=dict(fields.arguments),
        dtypes=_column_types(document, fields),
        dependencies=tuple(fields.dependencies),
        primary_key=tuple(fields.primary_key),
        keep_old=fields.keep_old,
        untracked=tuple(fields.untracked),
        validator=fields.validator,
        setup_arguments=fields.setup_arguments,
        policies=Policies().changed(fields),
        document=document,
    )


def _check_columns(document: BuilderDocument, fields: BuilderFields) -> None:
    seen: set[str] = set()
    for position, column in enumerate(fields.changed_columns):
        if column == INDEX:
            raise document.error(
                ("changed_columns", position),
                "no column can be named 'index', which means a row's position; choose another name.",
            )
        if "\0" in column:
            raise document.error(
                ("changed_columns", position),
                f"the column name {column!r} contains a NUL character; choose another name.",
            )
        if column in seen:
            raise document.error(
                ("changed_columns", position), f"column {column!r} is listed twice; remove one of them."
            )
        seen.add(column)


def _check_code(document: BuilderDocument, fields: BuilderFields) -> None:
    module, function = fields.code_module, fields.python_function
    if module.endswith(".py"):
        raise document.error(
            ("code_module",), f"omit '.py' from the name of the module; write {module.removesuffix('.py')!r}."
        )
    try:
        check_module_name(module)
    except TVArgumentError as error:
        raise document.error(("code_module",), f"{error}.") from error
    if not function.isidentifier():
        raise document.error(
            ("python_function",), f"{function[:60]!r} cannot be the name of a function; write its name only."
        )


def _check_index_only(document: BuilderDocument, fields: BuilderFields) -> None:
    if fields.builder_type == "IndexBuilder":
        return
    for key, given in (("primary_key", bool(fields.primary_key)), ("keep_old", fields.keep_old)):
        if given:
            raise document.error(
                (key,), "this field is for IndexBuilders only; move it to the table's index builder or remove it."
            )


def _check_names(document: BuilderDocument, key: str, names: Collection[str], known: Collection[str]) -> None:
    """Reject unknown and duplicate names."""
    role = "an argument of this builder" if key == "untracked" else "one of its changed_columns"
    seen: set[str] = set()
    for position, name in enumerate(names):
        path = (key, name if key == "dtypes" else position)
        if name not in known:
            raise document.error(path, f"{name!r} is not {role}{nearest(name, known)}")
        if name in seen:
            raise document.error(path, f"{name!r} is listed twice; remove one of them.")
        seen.add(name)


def _check_declared_dependencies(document: BuilderDocument, fields: BuilderFields) -> None:
    for position, entry in enumerate(fields.dependencies):
        table, _, column = entry.partition(".")
        if not column or not (table == SELF or _is_table_name(table)):
            raise document.error(
                ("dependencies", position),
                f"{entry[:80]!r} is not a column of a table; write 'table.column', or 'table.*' for all columns.",
            )


def _is_table_name(table: str) -> bool:
    try:
        check_table_name(table)
    except TVArgumentError:
        return False
    return True


def _check_arguments(document: BuilderDocument, fields: BuilderFields) -> None:
    where = Placement.ROW_ARGUMENT if fields.return_type in RUN_BY_ROW else Placement.ARGUMENT
    for argument, value in fields.arguments.items():
        with document.located("arguments", argument):
            check_placement(value, where=where)
        slip = misspelt_placeholder(value)
        if slip is not None:
            raise document.error(("arguments", argument), slip)
    for argument, value in (fields.setup_arguments or {}).items():
        with document.located("setup_arguments", argument):
            check_placement(value, where=Placement.ARGUMENT)
        if differs_by_call(value):
            raise document.error(
                ("setup_arguments", argument),
                "a constructor is called before the first call of the function, so ~ATTEMPT~, ~LAST_ERROR~ and "
                "~CALL_ID~ have no meaning here; give them under arguments.",
            )


def _check_error_names(document: BuilderDocument, fields: BuilderFields) -> None:
    retried = fields.retry.on if isinstance(fields.retry, RetryFields) else None
    for path, entries in ((("stop_on",), fields.stop_on), (("retry", "on"), retried)):
        for position, entry in enumerate(entries or ()):
            problem = invalid_error_name(entry)
            if problem is not None:
                raise document.error((*path, position), problem)


def _check_policies(document: BuilderDocument, fields: BuilderFields, spec: BuilderSpec) -> None:
    """Reject inapplicable policy fields."""
    if has_both_names(fields):
        raise document.error(("n_threads",), f"this {BOTH_NAMES}")
    for name in ("max_failures", "max_consecutive_failures"):
        if getattr(fields, name) is not None and fields.on_error != "collect":
            raise document.error((name,), f"{name} applies only to 'on_error: collect'; add that or remove it.")
    if fields.validator is not None and not spec.runs_by_row:
        raise document.error(("validate",), "validate applies only to row-wise and batch functions; remove it.")
    if fields.for_each is not None and not (spec.is_index and spec.runs_by_row):
        raise document.error(("for_each",), "for_each applies only to row-wise and batch IndexBuilders; remove it.")
    problem = meaningless_field(fields, spec.policy_context)
    if problem is not None:
        raise document.error(*problem)


def _column_types(document: BuilderDocument, fields: BuilderFields) -> dict[str, ColumnType]:
    declared: dict[str, ColumnType] = {}
    for column, text in fields.dtypes.items():
        if text is None:
            continue
        try:
            column_type = parse_dtype(text)
        except ValueError as error:
            raise document.error(("dtypes", column), str(error)) from error
        if holds_arrays(column_type) and column in fields.primary_key:
            raise document.error(
                ("dtypes", column), f"a primary key cannot have the dtype {text!r}; use another column."
            )
        if column_type is not None:
            declared[column] = column_type
    return declared
