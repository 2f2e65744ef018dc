"""Export of instances as dataset folders, with provenance and a Croissant description."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tablevault.archiving.dataset_texts import Described, DescribedColumn, DescribedFile, card, croissant
from tablevault.archiving.exported import NOT_AN_EXPORT, copied_digest, copy_artifact
from tablevault.errors import TVArgumentError, TVArtifactError, TVFileError
from tablevault.execution.provenance import Provenance, read_artifact_records, read_provenance
from tablevault.reading.lineage import LineageReader
from tablevault.reading.makers import maker_of
from tablevault.reading.queries import Queries
from tablevault.state.context import VaultContext
from tablevault.state.imported import import_of, lost_artifacts
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.dtypes import Kind
from tablevault.storage.exports import write_parquet
from tablevault.storage.frames import FrameData
from tablevault.storage.manifest import check_listed
from tablevault.values.contents import ArtifactState, InstanceRecord, Page, TableRecord

CARD, CROISSANT, PROVENANCE, ARTIFACTS = "README.md", "croissant.json", "provenance", "artifacts"
_EMBEDDED = {"image": "Image", "audio": "Audio"}
"""Media types that `datasets` decodes, with its feature names."""
_FEATURES = b"huggingface"


def dataset_difference(path: Path) -> str:
    """Return how a folder differs from an exported one, as for `exported`; empty if it does not."""
    if not (path / CROISSANT).is_file() or not (path / PROVENANCE / "provenance.json").is_file():
        return NOT_AN_EXPORT
    try:
        distribution = json.loads(files.read_text(path / CROISSANT))["distribution"]
        listed = {item["contentUrl"]: item["sha256"] for item in distribution}
    except (ValueError, LookupError, TypeError, RecursionError, TVFileError):
        return NOT_AN_EXPORT
    for place in sorted(path.rglob("*")):
        name = place.relative_to(path).as_posix()
        if name == CROISSANT or (place.is_dir() and not place.is_symlink()):
            continue
        if name not in listed or not place.is_file() or place.is_symlink():
            return f"has a file that was not exported, '{name}'"
        if files.sha256(place) != listed[name]:
            return f"has a file that was changed after the export, '{name}'"
    return ""


class DatasetFolder:
    """Writes an instance as a dataset folder.

    Parameters
    ----------
    context
        The open vault.
    table, instance
        The instance.
    """

    def __init__(self, context: VaultContext, table: TableRecord, instance: InstanceRecord) -> None:
        self._context = context
        self._queries = Queries(context)
        self._lookup = Lookup(context)
        self._table = table
        self._instance = instance
        self._folder = self._lookup.folder(table, instance)

    def write(self, target: Path, columns: Sequence[str] | None, embed_artifacts: bool, licence: str) -> None:
        """Create the folder and write its files.

        Parameters
        ----------
        target
            The folder.
        columns
            Columns to export; `None` for all.
        embed_artifacts
            Whether to embed images and audio in the frame.
        licence
            Licence for the card; may be empty.
        """
        check_listed(self._folder.manifest, self._instance.manifest, self._folder.provenance)
        provenance = read_provenance(self._folder.provenance)
        data = self._queries.read(self._table, self._instance, columns, Page(), full_paths=False)
        target.mkdir()
        found = [*self._copy_artifacts(target, data), self._write_frame(target, data, embed_artifacts)]
        found += self._copy_provenance(target)
        source = import_of(self._context, self._instance.process_id)
        maker = maker_of(self._instance, provenance if source is not None else None)
        counts = self._context.catalog.contents.failure_counts([self._instance.row_id])
        described = Described(
            table_name=self._table.name,
            description=self._instance.description or self._table.description,
            instance_id=self._instance.instance_id,
            maker=maker,
            vault_id=self._context.vault_id,
            made_in=source.vault_id if source is not None else self._context.vault_id,
            licence=licence,
            rows=len(data),
            columns=tuple(self._described_columns(data, provenance)),
            files=tuple(found),
            frame=f"data/{self._table.name}.parquet",
            failures=counts.get(self._instance.row_id, (0, 0)),
            provenance=provenance,
        )
        files.write_unsynced(target / CARD, card(described))
        # With its digest, a later export recognises a card that was edited.
        described = replace(described, files=(_described_file(target, CARD), *found))
        files.write_unsynced(target / CROISSANT, json.dumps(croissant(described), indent=2, ensure_ascii=False) + "\n")

    def _described_columns(self, data: FrameData, provenance: Provenance) -> list[DescribedColumn]:
        found = []
        for name, column_type in data.types.items():
            facts = next((item for item in reversed(provenance.builders) if name in item.columns), None)
            found.append(DescribedColumn(name, column_type, facts))
        return found

    # --- artifacts ------------------------------------------------------------------------------------------------

    def _copy_artifacts(self, target: Path, data: FrameData) -> list[DescribedFile]:
        """Copy the referenced artifacts, and verify each against its record."""
        named = self._named(data)
        if named and self._instance.artifact_state is ArtifactState.DROPPED:
            raise TVArtifactError(
                f"{lost_artifacts(self._context, self._table, self._instance)}. Export columns without artifacts."
            )
        records = read_artifact_records(self._folder.artifact_hashes)
        source = ArtifactFolder(self._folder.artifacts)
        found = []
        for name in named:
            place, record = self._located(source, name), records.get(name)
            if place is None or record is None:
                raise TVFileError(
                    f"The artifact '{name}' of instance '{self._instance.instance_id}' of table '{self._table.name}' "
                    "is missing; verify() lists all problems."
                )
            copy_artifact(place, target / ARTIFACTS / name, record)
            found.append(DescribedFile(f"{ARTIFACTS}/{name}", record.size, record.sha256, _media_type(name)))
        return found

    def _located(self, source: ArtifactFolder, name: str) -> Path | None:
        try:
            return source.locate(name)
        except ValueError as error:
            raise TVFileError(f"The artifacts of table '{self._table.name}' cannot be exported: {error}.") from error

    def _named(self, data: FrameData) -> list[str]:
        columns = [name for name, kind in data.types.items() if kind.kind is Kind.ARTIFACT]
        cells = (cell for name in columns for cell in data.table.column(name).to_pylist())
        return sorted({cell for cell in cells if cell is not None})

    # --- the frame ------------------------------------------------------------------------------------------------

    def _write_frame(self, target: Path, data: FrameData, embed_artifacts: bool) -> DescribedFile:
        path = target / "data" / f"{self._table.name}.parquet"
        path.parent.mkdir()
        table = self._embedded(target, data) if embed_artifacts else data.table
        write_parquet(table, path, compression="zstd")
        return _described_file(target, path.relative_to(target).as_posix())

    def _embedded(self, target: Path, data: FrameData) -> pa.Table:
        """Return the frame with embedded images and audio, and feature metadata for `datasets`."""
        table, features = data.table, dict[str, Any]()
        for position, (name, kind) in enumerate(data.types.items()):
            if kind.kind is not Kind.ARTIFACT:
                continue
            cells = table.column(position).to_pylist()
            kinds = {_media_type(cell).partition("/")[0] for cell in cells if cell is not None}
            if len(kinds) != 1 or not kinds <= _EMBEDDED.keys():
                continue
            contents = [
                None if cell is None else {"bytes": (target / ARTIFACTS / cell).read_bytes(), "path": cell}
                for cell in cells
            ]
            stored = pa.struct({"bytes": pa.binary(), "path": pa.string()})
            table = table.set_column(position, name, pa.array(contents, stored))
            features[name] = {"_type": _EMBEDDED[kinds.pop()]}
        if not features:
            raise TVArgumentError(
                f"embed_artifacts: no artifact column of table '{self._table.name}' holds only images, or only audio."
            )
        return table.replace_schema_metadata({_FEATURES: json.dumps({"info": {"features": features}})})

    # --- provenance -----------------------------------------------------------------------------------------------

    def _copy_provenance(self, target: Path) -> list[DescribedFile]:
        folder, found = target / PROVENANCE, []
        folder.mkdir()
        sources: dict[str, Path] = {"provenance.json": self._folder.provenance}
        if self._folder.errors.is_file():
            sources["errors.parquet"] = self._folder.errors
        for name in ("builders", "code"):
            root = files.unlinked(self._folder.root / name)
            for path in sorted(root.rglob("*")) if root.is_dir() else ():
                if path.is_file() and files.is_inside(root, path):
                    sources[f"{name}/{path.relative_to(root).as_posix()}"] = path
        for name, source in sources.items():
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            with files.plain_file_expected(source):
                digest = copied_digest(source, copy)
            found.append(DescribedFile(f"{PROVENANCE}/{name}", copy.stat().st_size, digest, _media_type(name)))
        lineage = LineageReader(self._context).lineage(self._table.name, self._instance.instance_id)
        text = json.dumps(_jsonable(lineage.to_dict()), indent=2, ensure_ascii=False) + "\n"
        files.write_unsynced(folder / "lineage.json", text)
        return [*found, _described_file(target, f"{PROVENANCE}/lineage.json")]


_MEDIA_TYPES: Mapping[str, str] = {
    **{f".{name}": f"image/{name}" for name in ("avif", "bmp", "gif", "jpeg", "png", "tiff", "webp")},
    **{f".{name}": f"audio/{name}" for name in ("aac", "flac", "mp4", "ogg", "opus", "wav", "webm")},
    ".jpg": "image/jpeg",
    ".tif": "image/tiff",
    ".svg": "image/svg+xml",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".csv": "text/csv",
    ".htm": "text/html",
    ".html": "text/html",
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".py": "text/x-python",
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".parquet": "application/x-parquet",
    ".pdf": "application/pdf",
    ".yaml": "application/yaml",
    ".zip": "application/zip",
}
"""Media types by suffix; unlike the system's tables, the same on every machine."""


def _described_file(target: Path, name: str) -> DescribedFile:
    path = target / name
    return DescribedFile(name, path.stat().st_size, files.sha256(path), _media_type(name))


def _media_type(name: str) -> str:
    return _MEDIA_TYPES.get(Path(name).suffix.lower(), "application/octet-stream")


def _jsonable(value: Any) -> Any:
    """Return a value as JSON data; values without a JSON form become text."""
    return json.loads(json.dumps(value, default=str))
