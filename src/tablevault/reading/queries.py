"""Reading of a vault's frames, builders, artifacts and trees.

Readers never wait for an operation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import yaml

from tablevault import names
from tablevault.errors import TVArgumentError, TVArtifactError, TVFileError, TVLockError, TVTableError
from tablevault.execution.inputs import ARTIFACT_COLUMN
from tablevault.execution.partial import declared_types, read_partial
from tablevault.execution.unfinished import UnfinishedRows
from tablevault.layout import ARTIFACTS, CHECKPOINTS, InstanceFolder
from tablevault.operations.remedies import whole_of
from tablevault.processes.messages import blocked_by_paused, executes_with_side_effects
from tablevault.reading.moments import Moments, check_no_id
from tablevault.reading.requests import selection_of
from tablevault.records import TagInfo
from tablevault.state.context import VaultContext
from tablevault.state.imported import lost_artifacts
from tablevault.state.liveness import Liveness
from tablevault.state.lookup import Lookup, again_if_moved
from tablevault.state.opening import marker_of
from tablevault.storage import files
from tablevault.storage.checkpoints import read_checkpoints
from tablevault.storage.dtypes import Kind
from tablevault.storage.frames import FrameData, read_frame, to_arrow, to_pandas, to_polars, with_artifact_folder
from tablevault.storage.manifest import check_listed
from tablevault.system.extras import check_polars_works
from tablevault.system.warnings import warn
from tablevault.texts.plain import in_line
from tablevault.values.addresses import Address
from tablevault.values.contents import ArtifactState, InstanceRecord, Page, Selection, TableRecord
from tablevault.values.plans import ExecutePlan
from tablevault.values.processes import Status

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

Result = TypeVar("Result")

LABEL = "tablevault"
"""Metadata key under which a frame names its instance."""
_FORMATS: dict[str, Callable[[FrameData], Any]] = {"pandas": to_pandas, "arrow": to_arrow, "polars": to_polars}


def _conversion(format_name: str) -> Callable[[FrameData], Any]:
    if format_name not in _FORMATS:
        raise TVArgumentError(f"There is no format '{format_name}'{names.nearest(str(format_name), _FORMATS)}")
    if format_name == "polars":
        check_polars_works()
    return _FORMATS[format_name]


_WITH_SIDE_EFFECTS = ("execute_instance", "retry_failed")
"""Operations that run the functions of a table."""


@dataclass(frozen=True)
class UnfinishedFiles:
    """Locations of the results of an unfinished or reverted execution."""

    checkpoints: Path
    artifacts: Path
    folder: Path
    """Folder of its builders."""
    builders: tuple[Path, ...]
    code: Path | None = None
    """Folder of the modules that it runs; `None` if they were not kept."""
    inputs: tuple[int, ...] = ()
    """Row ids of the instances that it reads."""


class Queries:
    """Reads committed and, on request, unfinished instances.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._context = context
        self._lookup = Lookup(context)
        self._liveness = Liveness(context)

    def selection(
        self,
        table_name: str,
        instance_id: str,
        version: str,
        active_only: bool,
        successful_only: bool,
        as_of: datetime | str | None,
    ) -> Selection:
        """Return the requested selection, resolved to an instance id if `as_of` is given."""
        if as_of is None:
            return selection_of(table_name, instance_id, version, active_only, successful_only)
        check_no_id(instance_id, as_of)
        checked = names.check_version(version)
        with self._context.catalog.snapshot():
            table = self._lookup.table(table_name)
            found = Moments(self._lookup).newest(table, checked, as_of, successful_only)
        return Selection(table.name, found.instance_id, checked)

    def selection_at(self, address: Address, as_of: datetime | str | None) -> Selection:
        """Return the selection of an address; `as_of` does not affect ids and tags."""
        if address.instance_id and not names.is_temporary(address.instance_id):
            as_of = None
        return self.selection(address.table_name, address.instance_id, address.version, True, False, as_of)

    def instance_ids(
        self, table_name: str, version: str, include_temp: bool, as_of: datetime | str | None
    ) -> list[str]:
        """Return the ids of a table's instances, oldest first; of all versions if `version` is empty."""
        wanted = names.check_version(version) if version else None
        with self._context.catalog.snapshot():
            table = self._lookup.table(table_name)
            if as_of is not None and include_temp:
                raise TVArgumentError(
                    "The past of temporary instances is not recorded; leave include_temp or as_of out."
                )
            until = self.place(as_of) if as_of is not None else None
            found = self._lookup.contents.instance_ids(table.table_id, wanted, include_temp, until)
            if not found and wanted not in (None, names.DEFAULT_VERSION):
                self._lookup.check_version_exists(table, str(wanted))
        return found

    # --- frames ---------------------------------------------------------------------------------------------------

    def frame(
        self,
        selection: Selection,
        columns: Sequence[str] | None,
        page: Page,
        full_paths: bool,
    ) -> tuple[FrameData, str]:
        """Return a frame and the id of its instance.

        Parameters
        ----------
        selection
            The instance.
        columns
            Columns to read; `None` for all.
        page
            Rows to read.
        full_paths
            Whether artifacts are read as full paths.
        """
        check_columns_given(columns)

        def read() -> tuple[FrameData, str]:
            table, instance = self.select(selection)
            return self.read(table, instance, columns, page, full_paths), instance.instance_id

        return self.again_if_moved(selection.table_name, read)

    def scan(
        self, selection: Selection, columns: Sequence[str] | None, format_name: str, full_paths: bool, content: bool
    ) -> tuple[Any, str]:
        """Return a lazy frame of another library, and the id of its instance.

        Parameters
        ----------
        selection, columns, full_paths
            As for `frame`.
        format_name
            The library.
        content
            Whether the columns are verified against their checksums.
        """
        if format_name not in _LAZY_FORMATS:
            raise TVArgumentError(f"There is no format '{format_name}'{names.nearest(format_name, _LAZY_FORMATS)}")
        check_columns_given(columns)

        def opened() -> tuple[Any, str]:
            table, instance = self._materialized(selection)
            path, artifacts = self.checked_file(table, instance, columns, full_paths, content)
            if artifacts is not None and format_name == "arrow":
                raise TVArgumentError(
                    "An Arrow dataset contains the names of artifacts, not their paths. Pass full_artifact_path=False."
                )
            return _LAZY_FORMATS[format_name](path, columns, artifacts), instance.instance_id

        return self.again_if_moved(selection.table_name, opened)

    def frame_path(self, selection: Selection, content: bool) -> Path:
        """Return the checked frame file of a materialized instance."""

        def found() -> Path:
            table, instance = self._materialized(selection)
            path = self._lookup.folder(table, instance).frame
            self._context.frame_checks.check(path, None, content)
            return path

        return self.again_if_moved(selection.table_name, found)

    def checked_file(
        self,
        table: TableRecord,
        instance: InstanceRecord,
        columns: Sequence[str] | None,
        full_paths: bool,
        content: bool,
    ) -> tuple[Path, Path | None]:
        """Return the checked frame file of a materialized instance, and its artifact folder.

        The folder is `None` if paths stay relative, or if no column to be read contains artifacts.

        Parameters
        ----------
        table, instance
            The instance.
        columns
            Columns to be read; `None` for all.
        full_paths
            Whether artifacts are read as full paths.
        content
            Whether the columns are verified against their checksums.
        """
        _check_columns(table, instance, columns)
        folder = self._lookup.folder(table, instance)
        chosen = [column for column in instance.columns if columns is None or column.name in columns]
        has_artifacts = full_paths and any(column.type_name == ARTIFACT_COLUMN for column in chosen)
        if has_artifacts:
            _check_artifacts_present(self._lookup, table, instance)
        self._context.frame_checks.check(folder.frame, columns, content)
        return folder.frame, folder.artifacts if has_artifacts else None

    def place(self, as_of: datetime | str) -> int:
        """Return the position of a moment in commit order."""
        return Moments(self._lookup).place(as_of)

    def _materialized(self, selection: Selection) -> tuple[TableRecord, InstanceRecord]:
        table, instance = self.select(selection)
        if instance.temporary:
            raise TVArgumentError(
                f"Instance '{instance.instance_id}' of table '{table.name}' is temporary and has no frame file; "
                "get_dataframe reads the cells computed so far."
            )
        return table, instance

    def tags(self, table_name: str) -> list[TagInfo]:
        """Return the tags of a table, or of all tables, ordered by tag and table."""
        table_id = self._lookup.table(table_name).table_id if table_name else None
        return [
            TagInfo(
                item.tag,
                item.table_name,
                item.instance_id,
                item.description,
                item.author,
                item.created_at,
                item.process_id,
            )
            for item in self._lookup.contents.tags(table_id=table_id)
        ]

    def vault_id(self) -> str:
        """Return the id assigned to this vault at its creation."""
        return marker_of(self._context.layout).vault_id

    def converter(self, format_name: str) -> Callable[[FrameData], Any]:
        """Return a function that converts a frame to the caller's library."""
        convert = _conversion(format_name)

        def converted(data: FrameData) -> Any:
            try:
                return convert(data)
            except (ValueError, TypeError) as error:
                raise TVFileError(f"The column metadata does not match the stored frame: {error}.") from error

        return converted

    def result_converter(self, format_name: str) -> Callable[[FrameData], Any]:
        """Return a function that converts a statement's rows to the caller's library."""
        convert = _conversion(format_name)

        def converted(data: FrameData) -> Any:
            try:
                return convert(data)
            except Exception as error:  # Each library raises its own errors.
                raise TVTableError(
                    f"The result has values that {format_name} cannot hold ({error!s:.300}); cast them, or pass "
                    "format='arrow'."
                ) from error

        return converted

    def select(self, selection: Selection) -> tuple[TableRecord, InstanceRecord]:
        """Return the selected instance with its table.

        Raises
        ------
        TVLockError
            If the table has side effects and is executing.
        TVArgumentError
            If the table or instance does not exist; suggests the nearest.
        """
        name = selection.table_name
        found = self._lookup.contents.select(selection) if isinstance(name, str) else None
        if found is not None and not found.is_held:
            return found.table, found.instance
        self._check_side_effects(name)
        table = self._lookup.table(name)
        if selection.instance_id:
            return table, self._lookup.instance(table, selection.instance_id)
        version, active, successful = selection.version, selection.active_only, selection.successful_only
        return table, self._lookup.newest(table, version, active, successful)

    def read(
        self,
        table: TableRecord,
        instance: InstanceRecord,
        columns: Sequence[str] | None,
        page: Page,
        full_paths: bool,
    ) -> FrameData:
        """Return the frame of an instance, temporary or materialized; parameters as for `frame`."""
        folder = self._lookup.folder(table, instance)
        if instance.temporary:
            return self._read_temporary(table, instance, columns, page, full_paths)
        _check_columns(table, instance, columns)
        data = read_frame(folder.frame, columns, page)
        has_artifacts = any(kind.kind is Kind.ARTIFACT for kind in data.types.values())
        if not (full_paths and has_artifacts):
            return data
        _check_artifacts_present(self._lookup, table, instance)
        return with_artifact_folder(data, folder.artifacts)

    def _read_temporary(
        self,
        table: TableRecord,
        instance: InstanceRecord,
        columns: Sequence[str] | None,
        page: Page,
        full_paths: bool,
    ) -> FrameData:
        """Return the computed cells of a paused, running or reverted execution."""
        place = self.unfinished_files(table, instance)
        artifacts = place.artifacts
        rows = UnfinishedRows.read(read_checkpoints(place.checkpoints))
        frame = read_partial(rows, artifacts, declared_types(place.builders))
        data = frame.data()
        if columns is not None:
            unknown = [column for column in columns if column not in data.types]
            if unknown:
                raise TVTableError(f"There is no column '{unknown[0]}'{names.nearest(unknown[0], data.types)}")
            data = FrameData(data.table.select(list(columns)), {name: data.types[name] for name in columns})
        data = page_of(data, page)
        return with_artifact_folder(data, artifacts) if full_paths else data

    def unfinished_files(self, table: TableRecord, instance: InstanceRecord) -> UnfinishedFiles:
        """Return the files of an unfinished execution; raise `TVTableError` if nothing was computed."""
        folder = self._lookup.folder(table, instance)
        for record in self._context.catalog.processes.unfinished():
            plan = record.plan
            if isinstance(plan, ExecutePlan) and plan.temporary == instance.row_id and not record.status.ended:
                workspace = self._lookup.workspace_of(record.serial)
                if workspace.checkpoints.is_dir():
                    created = self._lookup.layout.absolute(plan.created.location)
                    codes = workspace.all_code()
                    return UnfinishedFiles(
                        workspace.checkpoints,
                        created / ARTIFACTS,
                        workspace.builders,
                        tuple(workspace.builder_files()),
                        codes[-1] if codes else None,
                        tuple(pin.row_id for pin in plan.inputs),
                    )
        checkpoints = files.unlinked(folder.partial) / CHECKPOINTS
        if not checkpoints.is_dir():
            raise TVTableError(
                f"Instance '{instance.instance_id}' of table '{table.name}' has no frame: nothing was computed for it "
                "yet. execute_instance or write_instance materializes it."
            )
        builders = tuple(self.builders(table, instance).values())
        return UnfinishedFiles(checkpoints, folder.partial / ARTIFACTS, folder.builders, builders)

    def _check_side_effects(self, table_name: str) -> None:
        """Raise `TVLockError` while a table with side effects executes, except inside the execution."""
        processes = self._context.catalog.processes
        for serial in self._lookup.contents.side_effects_by(str(table_name)):
            record = processes.get(serial)
            if record is None or record.finished or record.operation not in _WITH_SIDE_EFFECTS:
                continue
            if processes.is_ancestor(serial, self._context.parent_serial):
                continue
            if self._liveness.status(record) is Status.PAUSED:
                why = blocked_by_paused(self._context.layout.root, record, whole_of(record, processes))
                raise TVLockError(
                    f"Table '{table_name}' has side effects, so it cannot be read before its execution has ended. {why}"
                )
            if self._liveness.is_alive(record):
                raise TVLockError(executes_with_side_effects(str(table_name), record))

    def again_if_moved(self, table_name: str, read: Callable[[], Result]) -> Result:
        """Call `read`, retrying while files move; raise `TVTableError` if one is missing."""
        try:
            return again_if_moved(read)
        except FileNotFoundError as error:
            raise TVTableError(
                f"A file of table '{table_name}' is missing ({error.filename}); verify() lists all missing files."
            ) from error

    # --- files ----------------------------------------------------------------------------------------------------

    def instance(
        self, table_name: str, instance_id: str, version: str, is_temp: bool
    ) -> tuple[TableRecord, InstanceRecord]:
        """Return an instance by its id, or else the temporary or newest one of a version."""
        table = self._lookup.table(table_name)
        if instance_id:
            return table, self._lookup.instance(table, instance_id)
        if is_temp:
            return table, self._lookup.temporary_instance(table, version)
        return table, self._lookup.newest(table, names.check_version(version))

    def text(self, find: Callable[[], Path]) -> str:
        """Return the content of a file, finding it once more if it was moved."""
        with files.missing_named():
            return again_if_moved(lambda: files.read_text(find()))

    def sealed(self, table: TableRecord, instance: InstanceRecord, path: Path) -> Path:
        """Return a file of a sealed instance.

        Raises `TVFileError` if it has changed since the instance was sealed.
        """
        if not instance.temporary:
            check_listed(self.folder(table, instance).manifest, instance.manifest, path)
        return path

    def folder(self, table: TableRecord, instance: InstanceRecord) -> InstanceFolder:
        """Return an instance's folder."""
        return self._lookup.folder(table, instance)

    def builders(self, table: TableRecord, instance: InstanceRecord) -> dict[str, Path]:
        """Return the builder files of an instance."""
        return self._lookup.builder_files(table, instance)

    def code_modules(self) -> dict[str, Path]:
        """Return the vault's code modules."""
        return self._lookup.code_modules()

    def descriptions(self, table_name: str, instance_id: str) -> dict[str, Any]:
        """Return the description of the vault, a table or an instance."""
        if not table_name:
            return _facts(self._lookup.layout.description)
        table = self._lookup.table(table_name)
        if not instance_id:
            return {
                "table": table.name,
                "description": table.description,
                "author": table.author,
                "created": table.created_at.isoformat(),
                "allow_multiple_artifacts": table.allow_multiple_artifacts,
                "has_side_effects": table.has_side_effects,
            }
        instance = self._lookup.instance(table, instance_id)
        folder = self._lookup.folder(table, instance)
        counts = _facts(folder.description) if folder.errors.is_file() else {}
        return {
            "table": table.name,
            "instance": instance.instance_id,
            "version": instance.version,
            "description": instance.description,
            "author": instance.author,
            "created": instance.created_at.isoformat(),
            "rows": instance.row_count,
            "active": instance.active,
            "success": instance.success,
            "process_id": instance.process_id,
            **{name: counts[name] for name in ("failed_cells", "skipped_cells") if name in counts},
        }

    def tree(self, table_name: str, instance_id: str, wanted: Callable[[Path], bool]) -> Tree:
        """Return a terminal tree of the files of the vault, a table or an instance."""
        from rich.tree import Tree

        root = self._lookup.layout.root
        if table_name:
            table = self._lookup.table(table_name)
            root = self._lookup.table_folder(table)
            if instance_id:
                root = self._lookup.folder(table, self._lookup.instance(table, instance_id)).root
        tree = Tree(_label(root))
        _grow(tree, root, wanted)
        return tree


def _facts(description: Path) -> dict[str, Any]:
    try:
        facts = yaml.safe_load(files.read_bytes(description))
    except FileNotFoundError as error:
        raise TVFileError(
            f"The vault's description {description} is missing; verify() lists all missing files."
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TVFileError(f"The vault's description {description} is damaged ({error}).") from error
    return dict(facts) if isinstance(facts, dict) else {}


def _label(path: Path) -> Text:
    """Return a file name for display, without interpreting markup or escapes in it."""
    from rich.text import Text

    return Text(in_line(path.name))


def _grow(tree: Tree, folder: Path, wanted: Callable[[Path], bool]) -> None:
    for path in sorted(folder.iterdir()):
        if wanted(path):
            branch = tree.add(_label(path))
            if path.is_dir() and not path.is_symlink():
                _grow(branch, path, wanted)


def labelled(frame: Any, **facts: str) -> Any:
    """Label a pandas or Arrow frame with its instance; polars has no metadata for it."""
    if isinstance(frame, pa.Table):
        kept = frame.schema.metadata or {}
        return frame.replace_schema_metadata({**kept, LABEL: json.dumps(facts)})
    if hasattr(frame, "attrs"):
        frame.attrs[LABEL] = facts
    return frame


def page_of(data: FrameData, page: Page) -> FrameData:
    """Return the rows of a page."""
    return data if page == Page() else FrameData(data.table.slice(page.offset, page.rows), data.types)


def check_columns_given(columns: Sequence[str] | None) -> None:
    """Raise `TVArgumentError` unless columns are a list of distinct names, or left out."""
    if columns is None:
        return
    if isinstance(columns, str) or not all(isinstance(column, str) for column in columns):
        raise TVArgumentError(f"columns must be a list of names, not {columns!r:.100}.")
    if len(set(columns)) < len(columns):
        raise TVArgumentError(f"columns contains duplicates: {columns!r:.100}.")


def _check_artifacts_present(lookup: Lookup, table: TableRecord, instance: InstanceRecord) -> None:
    if instance.artifact_state is ArtifactState.DROPPED:
        raise TVArtifactError(
            f"{lost_artifacts(lookup.context, table, instance)}. Pass full_artifact_path=False to read the frame with "
            "the names of artifacts."
        )


def _polars_lazily(path: Path, columns: Sequence[str] | None, artifacts: Path | None) -> Any:
    from tablevault.storage.lazy_frames import lazy_polars

    check_polars_works()
    return lazy_polars(path, columns, artifacts)


def _arrow_lazily(path: Path, columns: Sequence[str] | None, artifacts: Path | None) -> Any:
    from tablevault.storage.lazy_frames import arrow_dataset

    return arrow_dataset(path, columns)


def _duckdb_lazily(path: Path, columns: Sequence[str] | None, artifacts: Path | None) -> Any:
    from tablevault.sql_engine.relations import relation
    from tablevault.storage.sql_frames import frame_file

    file, chosen = frame_file(path, artifacts), None if columns is None else list(columns)
    for difference in file.differences(chosen):
        warn(difference)
    return relation(file, chosen)


_LAZY_FORMATS: dict[str, Callable[[Path, Sequence[str] | None, Path | None], Any]] = {
    "polars": _polars_lazily,
    "arrow": _arrow_lazily,
    "duckdb": _duckdb_lazily,
}


def _check_columns(table: TableRecord, instance: InstanceRecord, columns: Sequence[str] | None) -> None:
    known = [column.name for column in instance.columns]
    for column in columns or ():
        if column not in known:
            raise TVTableError(
                f"Instance '{instance.instance_id}' of table '{table.name}' has no column '{column}'"
                f"{names.nearest(str(column), known)}"
            )
