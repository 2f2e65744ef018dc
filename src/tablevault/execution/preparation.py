"""Preparation of an execution by reading, checking and ordering its builders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tablevault.builders.document import BuilderDocument, dependency_error, read_document
from tablevault.builders.fields import PolicyFields
from tablevault.builders.order import order_builders
from tablevault.builders.placeholders import environment_variables
from tablevault.builders.policies import KEY_OVERWRITTEN, Overrides, Policies, check_overrides, overridden
from tablevault.builders.spec import BuilderSpec, build_spec
from tablevault.code.loading import CodeSnapshot, built_in, built_in_sources, check_accepts
from tablevault.code.packages import installed_versions
from tablevault.code.source import check_source
from tablevault.code.source import suitable_executors as statically_suitable
from tablevault.code.sources import Sources
from tablevault.code.versions import CodeIndex, builder_version
from tablevault.errors import TableVaultError, TVArtifactError, TVBuilderError
from tablevault.execution.inputs import PinnedInputs, PinnedKey
from tablevault.execution.outcomes import PreparedBuilder
from tablevault.names import fold, nearest, nearest_or
from tablevault.notes import add_note
from tablevault.ports import FunctionError
from tablevault.references import Evaluator, Placement, Reference, find_references
from tablevault.rows.functions import BuilderFunction, suitable_executors
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.storage.dtypes import Kind


def read_documents(builder_files: Mapping[str, Path]) -> dict[str, BuilderDocument]:
    """Read builder files.

    Parameters
    ----------
    builder_files
        The files by builder name.

    Raises
    ------
    TVBuilderError
        If a file is not a valid builder file; names file, line and remedy.
    """
    documents = {}
    for name, path in builder_files.items():
        try:
            text = files.read_text(path)
        except UnicodeDecodeError as error:
            raise TVBuilderError(f"{name}.yaml is not UTF-8 text ({error}); save it as UTF-8.") from error
        documents[name] = read_document(text, f"{name}.yaml")
    return documents


@dataclass(frozen=True)
class CallPolicies:
    """The policies of a call, and those of the builder files that they change."""

    overrides: Mapping[str, PolicyFields]
    """By builder name or `*`."""
    written: Mapping[str, Policies]
    """By builder name."""

    def applied(self, spec: BuilderSpec, overwrites_key: bool, executors: frozenset[str]) -> BuilderSpec:
        """Return a builder with its policies in force; `executors` are those that suit its function."""
        written = self.written[spec.name]
        context = replace(spec.policy_context, policies=written, overwrites_key=overwrites_key, executors=executors)
        return replace(spec, policies=overridden(written, spec.name, context, self.overrides))


@dataclass(frozen=True)
class Prepared:
    """The checked builders of one instance, with their inputs and code."""

    specs: tuple[BuilderSpec, ...]
    """In execution order, with the IndexBuilder first."""
    inputs: PinnedInputs
    sources: Sources
    call: CallPolicies | None = None
    """`None` without policies of a call."""

    @classmethod
    def check(
        cls, table_name: str, documents: Mapping[str, BuilderDocument], inputs: PinnedInputs, sources: Sources
    ) -> Prepared:
        """Check builders as far as possible before a function runs.

        Parameters
        ----------
        table_name
            The table of the instance to build.
        documents
            Its builder files.
        inputs
            The instances read by them.
        sources
            The code modules.

        Raises
        ------
        TVBuilderError, TableReferenceError
            Naming file, line, field and remedy.
        TVArtifactError
            If artifacts read by a builder no longer exist.
        """
        evaluator = Evaluator(inputs.paths)

        def resolve(value: object) -> object:
            return evaluator.compile(value, placement=Placement.FIELD)()

        specs = {name: build_spec(document, name, resolve) for name, document in documents.items()}
        ordered = order_builders(specs, table_name)
        for spec in ordered:
            _check_function(spec, sources.modules)
            _check_input_columns(spec, inputs)
            _check_input_artifacts(spec, inputs)
        _check_kept_keys(ordered)
        _check_collected_keys(ordered)
        return cls(tuple(ordered), inputs, sources)

    def with_policies(self, overrides: Overrides | None) -> Prepared:
        """Return the builders with the policies passed to a call.

        Raises
        ------
        TVArgumentError
            If a builder does not exist, or a field is invalid or not applicable to its builder.
        """
        if not overrides:
            return self
        checked = check_overrides(overrides, [spec.name for spec in self.specs])
        call, modules = CallPolicies(checked, {spec.name: spec.policies for spec in self.specs}), self.sources.modules
        specs = (
            call.applied(
                spec, self._overwrites_key(spec), statically_suitable(modules, spec) if spec.is_custom else frozenset()
            )
            for spec in self.specs
        )
        return replace(self, specs=tuple(specs), call=call)

    def check_services(self, lookup: Lookup) -> None:
        """Raise `TVBuilderError` if a builder names a service unknown to the vault."""
        named = [(spec, name) for spec in self.specs for name in spec.policies.services]
        known = lookup.contents.services() if named else {}
        for spec, name in named:
            if name not in known:
                advice = "set_service sets its limits"
                raise spec.error(("service",), f"there is no service '{name}'{nearest_or(name, known, advice)}.")

    def check_waiting(self, user_given: bool) -> None:
        """Raise `TVBuilderError` if a builder may pause a process without a user-given id."""
        for spec in self.specs:
            if not user_given and spec.policies.runs_jobs and not spec.policies.wait:
                raise spec.error(
                    ("wait",),
                    "'wait: false' pauses the process once its jobs are submitted, and resuming it takes a process_id; "
                    "pass a process_id, or remove 'wait: false'.",
                )

    def _overwrites_key(self, spec: BuilderSpec) -> bool:
        return not spec.is_index and bool(set(spec.changed_columns) & set(self.index.primary_key))

    @property
    def index(self) -> BuilderSpec:
        """The IndexBuilder."""
        return self.specs[0]

    @property
    def makes_artifacts(self) -> bool:
        """Whether any column is declared to hold artifacts."""
        return any(kind.kind is Kind.ARTIFACT for spec in self.specs for kind in spec.dtypes.values())

    def environment_variables(self) -> dict[str, str]:
        """Return the environment variables of arguments read here, each with its first location."""
        places: dict[str, str] = {}
        for spec in self.specs:
            if spec.policies.runs_on_ray:
                # These variables are read on its workers.
                continue
            for field, given in (("arguments", spec.arguments), ("setup_arguments", spec.setup_arguments or {})):
                for argument, value in given.items():
                    for name in environment_variables(value):
                        places.setdefault(name, spec.document.place(field, argument))
        return places

    def check_conditions(self) -> None:
        """Check the literals in conditions on other tables against their columns.

        Raises
        ------
        TableReferenceError
            If a literal cannot occur in its column.
        """
        evaluator = Evaluator(self.inputs.paths)
        for spec in self.specs:
            for argument, value in spec.arguments.items():
                for reference in find_references(value):
                    nested = list(reference.nested())
                    if any(
                        part.is_self or any(isinstance(name, Reference) for name in part.names()) for part in nested
                    ):
                        continue
                    with spec.document.located("arguments", argument):
                        evaluator.compile(reference.text, placement=Placement.ROW_ARGUMENT)

    @cached_property
    def builders(self) -> tuple[PreparedBuilder, ...]:
        """The builders with the versions of their code; functions are not loaded yet."""
        return tuple(self._unloaded(spec) for spec in self.specs)

    def load(self, builder: PreparedBuilder, code: CodeSnapshot) -> PreparedBuilder:
        """Return a builder with its function.

        Raises
        ------
        FunctionError
            For an exception raised while its module is imported.
        """
        spec = builder.spec
        try:
            if self.call is not None:
                # Only a loaded function tells for sure which executors suit it.
                spec = self.call.applied(spec, self._overwrites_key(spec), suitable_executors(spec, code))
            return replace(builder, spec=spec, function=BuilderFunction.load(spec, code))
        except TableVaultError:
            raise
        except BaseException as error:
            add_note(error, f"raised while module '{spec.code_module}' of builder '{spec.name}' was imported")
            raise FunctionError(error) from error

    def _unloaded(self, spec: BuilderSpec) -> PreparedBuilder:
        index = self.sources.index if spec.is_custom else CodeIndex.of_built_ins()
        module, function, validator = spec.code_module, spec.python_function, spec.validator
        validated = "" if validator is None else index.version(module, validator)
        named = [function] if validator is None else [function, validator]
        parts = {".".join(name): digest for each in named for name, digest in index.parts(module, each).items()}
        packages = {package for each in named for package in index.packages(module, each)}
        return PreparedBuilder(
            spec,
            None,
            builder_version(spec, index.version(module, function), validated),
            parts,
            installed_versions(sorted(packages)),
        )


def _is_known_only_in_a_row(reference: Reference) -> bool:
    return reference.is_self or any(isinstance(name, Reference) for name in reference.names())


def _check_function(spec: BuilderSpec, sources: Mapping[str, str]) -> None:
    if spec.is_custom:
        check_source(sources, spec)
        return
    try:
        check_accepts(built_in(spec.code_module, spec.python_function), spec.arguments)
    except TVBuilderError as error:
        hint = "" if spec.code_module in built_in_sources() else "; custom functions need 'is_custom: true'"
        raise spec.error(("python_function",), f"{error}{hint}") from error


def _check_input_columns(spec: BuilderSpec, inputs: PinnedInputs) -> None:
    for dependency, path in spec.reads.places.items():
        known = inputs.columns(PinnedKey(fold(dependency.table), dependency.instance))
        for column in sorted(dependency.columns or ()):
            if column not in known:
                message = f"there is no column '{column}' in table '{dependency.table}'{nearest(column, known)}"
                raise dependency_error(spec.document, path, dependency, message, column)


def _check_input_artifacts(spec: BuilderSpec, inputs: PinnedInputs) -> None:
    for dependency in spec.reads.tables:
        lost = inputs.lost_artifacts(PinnedKey(fold(dependency.table), dependency.instance))
        named = lost if dependency.columns is None else [column for column in lost if column in dependency.columns]
        if named:
            raise TVArtifactError(
                f"{spec.file}: '{dependency.text}' reads the artifacts of column '{named[0]}', but those of this "
                "instance no longer exist; read another instance, or other columns."
            )


def _check_kept_keys(ordered: Sequence[BuilderSpec]) -> None:
    """Reject a builder that overwrites the key that distinguishes old rows from new ones."""
    index, *others = ordered
    for spec in others if index.keep_old else ():
        overwritten = sorted(set(spec.changed_columns) & set(index.primary_key))
        if overwritten:
            raise index.error(
                ("keep_old",),
                f"builder '{spec.name}' overwrites '{overwritten[0]}' of the primary key, which distinguishes old rows "
                "from new ones; let it fill another column, or set keep_old to false",
            )


def _check_collected_keys(ordered: Sequence[BuilderSpec]) -> None:
    """Reject a builder whose failed rows would lack a primary key."""
    index, *others = ordered
    for spec in others:
        if spec.policies.collects and set(spec.changed_columns) & set(index.primary_key):
            raise spec.error(("on_error",), KEY_OVERWRITTEN)
