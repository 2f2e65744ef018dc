"""Provenance of an instance, with facts about its builders and row fingerprints."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tablevault.errors import TVFileError
from tablevault.ports import Contents
from tablevault.storage import files
from tablevault.storage.artifacts import normalise_name
from tablevault.storage.columns import Column
from tablevault.storage.dtypes import ColumnType, build_column, type_of_arrow
from tablevault.storage.fingerprints import Fingerprints, RowFingerprints
from tablevault.storage.frames import FrameData, frame_of_columns, read_frame, write_frame
from tablevault.texts.json_forms import from_json_form, json_form
from tablevault.values.contents import ArtifactRecord

_BYTES = type_of_arrow(pa.binary())
_INTEGER = type_of_arrow(pa.int64())
_TEXT = type_of_arrow(pa.string())
Codes: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
"""For each row, the index of a version."""
_UNKNOWN = -1
"""Number of an instance missing from the catalog."""


@dataclass(frozen=True)
class InputFacts:
    """An instance used as an input."""

    table: str
    """Its table's name at that time."""
    instance_id: str
    row_id: int
    """Its number in the catalog, unaffected by renaming the table."""

    @property
    def as_reference(self) -> str:
        """How a reference names the instance: `table(instance)`."""
        return f"{self.table}({self.instance_id})"


@dataclass(frozen=True)
class PolicyFacts:
    """Policies of a builder from one attempt until the next record."""

    attempt: int
    executor: str
    fields: dict[str, Any]
    """Policy fields that differed from their defaults."""


@dataclass(frozen=True)
class BuilderFacts:
    """One builder as it ran."""

    name: str
    is_index: bool
    columns: tuple[str, ...]
    function: str
    module: str
    is_custom: bool
    return_type: str
    arguments: dict[str, Any]
    """As written in the builder, without untracked ones."""
    own_columns: tuple[str, ...]
    """Columns of the same instance that it read; `*` for potentially all."""
    inputs: tuple[tuple[int, str], ...]
    """Catalog numbers of its input instances, each with a column or `*`."""
    versions: tuple[str, ...]
    """Versions of builder and code under which rows were computed."""
    code_parts: dict[str, str]
    """The parts of the newest code version: `module.name` -> digest."""
    computed: int
    reused: int
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of the installed packages that its code imports; they do not affect reuse."""
    whole_fingerprint: str | None = None
    """Hexadecimal fingerprint of a function called once per builder."""
    failed: int = 0
    """Number of failed rows."""
    skipped: int = 0
    """Number of rows skipped because a cell that they read had failed."""
    usage: dict[str, float] = field(default_factory=dict)
    """Counted calls and reported amounts in the process that made the instance."""
    failed_cells_read: dict[str, int] = field(default_factory=dict)
    """Failed and skipped cells that it read as null, by `table(instance).column` or `self.column`."""
    policies: tuple[PolicyFacts, ...] = ()
    """Policies in force, by attempt of the process that made the instance; empty in records of earlier versions."""

    @property
    def whole(self) -> bytes | None:
        """Fingerprint of a function called once per builder."""
        return None if self.whole_fingerprint is None else bytes.fromhex(self.whole_fingerprint)


@dataclass(frozen=True)
class Provenance:
    """The provenance of an instance."""

    process_id: str
    operation: str
    author: str
    finished_at: str
    primary_key: tuple[str, ...] = ()
    builders: tuple[BuilderFacts, ...] = ()
    inputs: tuple[InputFacts, ...] = ()
    origin: InputFacts | None = None
    dependencies: tuple[InputFacts, ...] = field(default=())
    """Inputs declared by the caller of `write_instance`."""


def write_provenance(path: Path, provenance: Provenance) -> None:
    """Write provenance as indented JSON; the caller makes it durable."""
    builders = tuple(replace(facts, arguments=json_form(facts.arguments)) for facts in provenance.builders)
    recorded = msgspec.json.encode(replace(provenance, builders=builders))
    path.write_bytes(msgspec.json.format(recorded, indent=2))


def read_provenance(path: Path) -> Provenance:
    """Read provenance; raises `TVFileError` if the file is damaged."""
    try:
        recorded = msgspec.json.decode(files.read_bytes(path), type=Provenance)
        builders = (replace(facts, arguments=from_json_form(facts.arguments)) for facts in recorded.builders)
        return replace(recorded, builders=tuple(builders))
    except (ValueError, TypeError, RecursionError) as error:
        raise TVFileError(f"The provenance file {path} is damaged ({error}).") from error


def in_catalog(provenance: Provenance, contents: Contents) -> Provenance:
    """Return provenance with the instance numbers of this catalog.

    They differ for an imported instance, whose files come from another vault.

    Parameters
    ----------
    provenance
        The provenance as recorded in the file.
    contents
        The catalog.
    """
    origin = () if provenance.origin is None else (provenance.origin,)
    numbers: dict[int, int] = {}
    for facts in (*provenance.inputs, *provenance.dependencies, *origin):
        record = contents.instance_by_row(facts.row_id)
        if record is None or record.instance_id != facts.instance_id:
            named = contents.instance_named(facts.instance_id)
            numbers[facts.row_id] = named.row_id if named is not None else _UNKNOWN
    if not numbers:
        return provenance

    def renumbered(found: Sequence[InputFacts]) -> tuple[InputFacts, ...]:
        known = (replace(item, row_id=numbers.get(item.row_id, item.row_id)) for item in found)
        return tuple(item for item in known if item.row_id != _UNKNOWN)

    builders = (
        replace(
            item,
            inputs=tuple(
                (numbers.get(row_id, row_id), column)
                for row_id, column in item.inputs
                if numbers.get(row_id) != _UNKNOWN
            ),
        )
        for item in provenance.builders
    )
    return replace(
        provenance,
        builders=tuple(builders),
        inputs=renumbered(provenance.inputs),
        origin=next(iter(renumbered(origin)), None),
        dependencies=renumbered(provenance.dependencies),
    )


def write_fingerprints(path: Path, rows: Mapping[str, tuple[Fingerprints, array[int]]]) -> None:
    """Write the row fingerprints and version indices of row-wise builders, by name."""
    columns: dict[str, tuple[Column, ColumnType]] = {}
    for name, (fingerprints, codes) in rows.items():
        columns[f"{name}:fingerprint"] = (fingerprints.column(), _BYTES)
        columns[f"{name}:version"] = (pa.array(np.frombuffer(codes, dtype=np.int64)), _INTEGER)
    # Digests are incompressible.
    write_frame(path, frame_of_columns(columns), plain=[f"{name}:fingerprint" for name in rows])


def read_fingerprints(path: Path) -> dict[str, tuple[pa.ChunkedArray, Codes]]:
    """Read the fingerprints and version indices of rows by builder.

    The file is that of `write_fingerprints`. A fingerprint may be null.

    A missing file is empty.
    """
    if not path.is_file():
        return {}
    table = _checked_fingerprints(path, read_frame(path)).table
    names = [name.removesuffix(":version") for name in table.column_names if name.endswith(":version")]
    return {name: (table.column(f"{name}:fingerprint"), table.column(f"{name}:version").to_numpy()) for name in names}


def _checked_fingerprints(path: Path, data: FrameData) -> FrameData:
    """Check the format of `write_fingerprints`; raises `TVFileError` if it is damaged."""
    kinds = {"fingerprint": _BYTES.arrow, "version": _INTEGER.arrow}
    for name, kind in data.types.items():
        builder, _, what = name.rpartition(":")
        other = f"{builder}:{'version' if what == 'fingerprint' else 'fingerprint'}"
        has_nulls = what == "version" and data.table.column(name).null_count
        if kinds.get(what) != kind.arrow or other not in data.types or has_nulls:
            raise TVFileError(f"The fingerprints in {path} are damaged: unexpected {name!r}.")
    return data


def read_row_records(path: Path, builder: str, versions: tuple[str, ...]) -> RowFingerprints | None:
    """Read the fingerprints of one builder; `None` without a record per row.

    Parameters
    ----------
    path
        The file of `write_fingerprints`.
    builder
        The builder.
    versions
        Its versions, to which the file refers by index.

    Raises
    ------
    TVFileError
        If the file is damaged.
    """
    if not path.is_file():
        return None
    columns = [f"{builder}:fingerprint", f"{builder}:version"]
    try:
        data = _checked_fingerprints(path, read_frame(path, columns))
    except KeyError:
        return None
    codes = data.table.column(1).to_numpy()
    if len(codes) and not 0 <= codes.min() <= codes.max() < max(len(versions), 1):
        raise TVFileError(f"The fingerprints in {path} are damaged: a version index of {builder!r} is out of range.")
    return RowFingerprints(data.table.column(0), codes, versions)


def read_row_versions(path: Path, builder: str, versions: tuple[str, ...]) -> list[int | None] | None:
    """Return the version index of each row; `None` for rows never computed.

    Returns `None` without a record per row. Parameters as for `read_row_records`.
    """
    records = read_row_records(path, builder, versions)
    if records is None:
        return None
    fingerprints, numbers = records.fingerprints.combine_chunks(), pa.array(records.codes)
    codes: list[int | None] = pc.if_else(pc.is_valid(fingerprints), numbers, None).to_pylist()
    return codes


def write_artifact_records(path: Path, records: Sequence[ArtifactRecord]) -> None:
    """Write the size and hash of every artifact of an instance."""
    columns = {
        "path": build_column([record.path for record in records], _TEXT),
        "size": build_column([record.size for record in records], _INTEGER),
        "sha256": build_column([record.sha256 for record in records], _TEXT),
    }
    write_frame(path, frame_of_columns(columns))


def read_artifact_records(path: Path) -> dict[str, ArtifactRecord]:
    """Read the file of `write_artifact_records`, by path; a missing file is empty.

    Raises `TVFileError` if it is of another kind, or names files outside the artifact folder.
    """
    if not path.is_file():
        return {}
    try:
        rows = read_frame(path).table.to_pylist()
        records = msgspec.convert(rows, type=list[ArtifactRecord])
        if any(normalise_name(record.path) != record.path for record in records):
            raise ValueError("a file name is invalid")
    except ValueError as error:
        raise TVFileError(f"The records of artifacts in {path} are damaged: {error}.") from error
    return {record.path: record for record in records}
