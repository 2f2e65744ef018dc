"""Planning an execution: builders read and checked, inputs pinned; and the same again when it is taken up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tablevault.builders.document import BuilderDocument, dependency_error, read_document
from tablevault.builders.order import order_builders
from tablevault.builders.placeholders import environment_variables
from tablevault.builders.spec import BuilderSpec, build_spec
from tablevault.code.loading import built_in, built_in_sources, check_accepts
from tablevault.code.source import check_source
from tablevault.errors import TVArgumentError, TVArtifactError, TVBuilderError, TVFileError
from tablevault.execution.inputs import ContentFrame, PinnedFrames, PinnedKey
from tablevault.execution.provenance import InputFacts, read_artifact_records
from tablevault.layout import InstanceFolder
from tablevault.lookup import Lookup
from tablevault.names import fold, nearest
from tablevault.operations.builder_files import SUFFIX
from tablevault.plans import ExecutePlan, PinnedInput
from tablevault.ports import Frame
from tablevault.references import Dependency, Evaluator, Placement, Reference, find_references
from tablevault.storage import files
from tablevault.storage.dtypes import Kind, artifact_type
from tablevault.storage.frames import StoredFrame
from tablevault.transaction import Transaction
from tablevault.values import ArtifactState, InstanceRecord, TableRecord

ARTIFACT_COLUMN = artifact_type().name


@dataclass(frozen=True)
class BuilderSet:
    """The builders of one instance, read and checked."""

    specs: tuple[BuilderSpec, ...]
    """In the order in which they run; the IndexBuilder first."""

    @property
    def index(self) -> BuilderSpec:
        """The IndexBuilder."""
        return self.specs[0]

    @property
    def makes_artifacts(self) -> bool:
        """Whether any column is declared to hold artifacts."""
        return any(kind.kind is Kind.ARTIFACT for spec in self.specs for kind in spec.dtypes.values())

    def environment_variables(self) -> dict[str, str]:
        """Return the environment variables that arguments are made of, each with the place that names it first."""
        places: dict[str, str] = {}
        for spec in self.specs:
            for argument, value in spec.arguments.items():
                for name in environment_variables(value):
                    places.setdefault(name, spec.document.place("arguments", argument))
        return places


def read_documents(builder_files: Mapping[str, Path]) -> dict[str, BuilderDocument]:
    """Read builder files: name -> document."""
    documents = {}
    for name, path in builder_files.items():
        try:
            text = files.read_text(path)
        except UnicodeDecodeError as error:
            raise TVBuilderError(f"{name}.yaml is not UTF-8 text ({error}); save it as UTF-8.") from error
        documents[name] = read_document(text, f"{name}.yaml")
    return documents


def pin_inputs(
    lookup: Lookup,
    documents: Mapping[str, BuilderDocument],
    locked: Callable[[TableRecord, InstanceRecord], None],
) -> tuple[PinnedInput, ...]:
    """Resolve every table that the builders read to a concrete instance."""
    pins: dict[PinnedKey, int] = {}
    for document in documents.values():
        for dependency, path in document.reads.places.items():
            key = PinnedKey(fold(dependency.table), dependency.instance)
            if key not in pins:
                table, instance = _resolve(lookup, document, path, dependency)
                locked(table, instance)
                pins[key] = instance.row_id
    return tuple(PinnedInput(key.table, key.instance, row_id) for key, row_id in pins.items())


def _resolve(
    lookup: Lookup, document: BuilderDocument, path: tuple[object, ...], dependency: Dependency
) -> tuple[TableRecord, InstanceRecord]:
    marked = None
    try:
        table = lookup.table(dependency.table)
        if dependency.instance is None:
            return table, lookup.newest(table, None)
        marked = dependency.instance
        found = lookup.contents.instance(table.table_id, dependency.instance)
        if found is not None and not found.temporary:
            return table, found
        return table, lookup.newest(table, dependency.instance)
    except TVArgumentError as error:
        raise dependency_error(document, path, dependency, str(error), marked) from error


class PinnedInputs:
    """The pinned instances of one execution, opened as frames when they are needed.

    Parameters
    ----------
    lookup
        Finds instances and their files.
    pins
        What was pinned.
    """

    def __init__(self, lookup: Lookup, pins: Iterable[PinnedInput]) -> None:
        self._lookup = lookup
        self._instances = {PinnedKey(pin.table, pin.instance): self._instance(pin) for pin in pins}
        self.paths = PinnedFrames({key: self._opener(item) for key, item in self._instances.items()})
        self.contents = PinnedFrames({key: self._content_opener(item) for key, item in self._instances.items()})

    @property
    def have_artifacts(self) -> bool:
        """Whether any input has a column of artifacts."""
        return any(column.type_name == ARTIFACT_COLUMN for item in self._instances.values() for column in item.columns)

    def facts(self) -> dict[PinnedKey, InputFacts]:
        """Return what provenance keeps of each input."""
        found = {}
        for key, instance in self._instances.items():
            table = self._lookup.contents.table_by_id(instance.table_id)
            assert table is not None
            found[key] = InputFacts(table.name, instance.instance_id, instance.row_id)
        return found

    def columns(self, key: PinnedKey) -> list[str]:
        """Return the names of the columns of a pinned instance."""
        return [column.name for column in self._instances[key].columns]

    def lost_artifacts(self, key: PinnedKey) -> list[str]:
        """Return the columns of a pinned instance that name files which were dropped with a superseded set."""
        instance = self._instances[key]
        if instance.artifact_state is not ArtifactState.DROPPED:
            return []
        return [column.name for column in instance.columns if column.type_name == ARTIFACT_COLUMN]

    def _instance(self, pin: PinnedInput) -> InstanceRecord:
        instance = self._lookup.contents.instance_by_row(pin.row_id)
        if instance is None:
            raise TVFileError(f"The catalog has lost the pinned input {pin.table} (number {pin.row_id}).")
        return instance

    def _opener(self, instance: InstanceRecord) -> Callable[[], Frame]:
        folder = self._lookup.folder_of(instance)
        return lambda: StoredFrame(folder.frame, folder.artifacts)

    def _content_opener(self, instance: InstanceRecord) -> Callable[[], Frame]:
        folder = self._lookup.folder_of(instance)

        def open_contents() -> Frame:
            return ContentFrame.of_stored(folder.frame, read_artifact_records(folder.artifact_hashes))

        return open_contents


def check_builders(
    table_name: str, documents: Mapping[str, BuilderDocument], inputs: PinnedInputs, sources: Mapping[str, str]
) -> BuilderSet:
    """Check everything about builders that can be known before a function runs.

    Parameters
    ----------
    table_name
        The table whose instance is built.
    documents
        Its builder files.
    inputs
        The instances that they read.
    sources
        The code modules: name -> text.

    Raises
    ------
    TVBuilderError, TableReferenceError
        Naming file, line, field and remedy.
    """
    evaluator = Evaluator(inputs.paths)

    def resolve(value: object) -> object:
        return evaluator.compile(value, placement=Placement.FIELD)()

    specs = {name: build_spec(document, name, resolve) for name, document in documents.items()}
    ordered = order_builders(specs, table_name)
    for spec in ordered:
        _check_function(spec, sources)
        _check_input_columns(spec, inputs)
        _check_input_artifacts(spec, inputs)
    _check_kept_keys(ordered)
    return BuilderSet(tuple(ordered))


def _check_kept_keys(ordered: Sequence[BuilderSpec]) -> None:
    """Refuse a builder that overwrites the key by which old rows are to be known among new ones."""
    index, *others = ordered
    for spec in others if index.keep_old else ():
        overwritten = sorted(set(spec.changed_columns) & set(index.primary_key))
        if overwritten:
            raise index.error(
                ("keep_old",),
                f"builder '{spec.name}' overwrites '{overwritten[0]}' of the primary key, by which old rows are known "
                "among new ones; make it another column, or set keep_old to false",
            )


def check_conditions(builders: BuilderSet, inputs: PinnedInputs) -> None:
    """Check what is written in conditions on other tables against their columns, before any function runs.

    Raises
    ------
    TableReferenceError
        If a written value could be in no cell of its column.
    """
    evaluator = Evaluator(inputs.paths)
    for spec in builders.specs:
        for argument, value in spec.arguments.items():
            for reference in find_references(value):
                nested = list(reference.nested())
                if any(part.is_self or any(isinstance(name, Reference) for name in part.names()) for part in nested):
                    continue
                with spec.document.located("arguments", argument):
                    evaluator.compile(reference.text, placement=Placement.ROW_ARGUMENT)


def _check_function(spec: BuilderSpec, sources: Mapping[str, str]) -> None:
    if spec.is_custom:
        check_source(sources, spec)
        return
    try:
        check_accepts(built_in(spec.code_module, spec.python_function), spec.arguments)
    except TVBuilderError as error:
        hint = "" if spec.code_module in built_in_sources() else "; functions of your own need 'is_custom: true'"
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
                "instance were replaced by newer ones and are gone; read a newer instance, or other columns."
            )


def origin_facts(lookup: Lookup, row_id: int | None) -> InputFacts | None:
    """Return what provenance keeps of an origin."""
    instance = lookup.contents.instance_by_row(row_id) if row_id is not None else None
    table = lookup.contents.table_by_id(instance.table_id) if instance is not None else None
    if instance is None or table is None:
        return None
    return InputFacts(table.name, instance.instance_id, instance.row_id)


def pinned_builders(transaction: Transaction) -> dict[str, Path]:
    """Return the builder files that an execution runs, as they were when it started: name -> file."""
    folder = transaction.workspace_of(transaction.serial).builders
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def edited_builders(plan: ExecutePlan, transaction: Transaction) -> list[str]:
    """Return the builder files that are not what they were when the process started."""
    snapshot = pinned_builders(transaction)
    folder = InstanceFolder(transaction.layout.absolute(plan.temporary_folder)).builders
    current = transaction.current_files(folder, SUFFIX)
    return [name for name in sorted(snapshot.keys() | current.keys()) if _text(snapshot, name) != _text(current, name)]


def _text(found: dict[str, Path], name: str) -> bytes | None:
    path = found.get(name)
    return path.read_bytes() if path is not None else None
