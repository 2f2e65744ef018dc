"""Dataset cards and Croissant descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import yaml

from tablevault.execution.provenance import BuilderFacts, Provenance
from tablevault.reading.makers import Maker
from tablevault.storage.dtypes import ColumnType, Kind
from tablevault.texts.json_forms import json_form

_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_MAXIMUM_VALUE_LENGTH = 200


@dataclass(frozen=True)
class DescribedFile:
    """A file of a dataset folder."""

    path: str
    """Path relative to the folder."""
    size: int
    """Size in bytes."""
    sha256: str
    """Hexadecimal digest of the content."""
    media_type: str


@dataclass(frozen=True)
class DescribedColumn:
    """A column of the frame."""

    name: str
    type: ColumnType
    builder: BuilderFacts | None
    """The builder that produced the column; `None` if a program wrote it."""

    @property
    def meaning(self) -> str:
        """The origin of the cells, as a short text."""
        if self.builder is None:
            return "written by a program"
        arguments = ", ".join(f"{name}={_shortened(value)}" for name, value in self.builder.arguments.items())
        return f"{self.builder.module}.{self.builder.function}({arguments})"


@dataclass(frozen=True)
class Described:
    """The facts for the texts about a dataset."""

    table_name: str
    description: str
    instance_id: str
    maker: Maker
    vault_id: str
    made_in: str
    """Id of the vault with the process that made the instance: this one, or the one it was imported from."""
    licence: str
    rows: int
    columns: tuple[DescribedColumn, ...]
    files: tuple[DescribedFile, ...]
    frame: str
    """Path of the frame's file."""
    failures: tuple[int, int]
    """Numbers of failed and skipped cells."""
    provenance: Provenance


def card(described: Described) -> str:
    """Return a dataset card in the format of dataset hubs."""
    config = {"config_name": "default", "data_files": [{"split": "train", "path": described.frame}]}
    facts: dict[str, Any] = {"configs": [config]}
    if described.licence:
        facts["license"] = described.licence
    head = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)
    return "\n".join([f"---\n{head}---\n", *_sections(described)]) + "\n"


def _sections(described: Described) -> Iterator[str]:
    yield f"# {described.table_name}\n"
    if described.description:
        yield f"{described.description}\n"
    moment = described.maker.made_at.astimezone(UTC)
    yield (
        f"{described.rows:,} rows. Instance `{described.instance_id}` of a TableVault vault, made by "
        f"{described.maker.author} on {moment:%Y-%m-%d %H:%M} UTC.\n"
    )
    failed, skipped = described.failures
    if failed or skipped:
        yield (
            f"{failed:,} cells failed and {skipped:,} were skipped; they are null. `provenance/errors.parquet` lists "
            "them.\n"
        )
    yield "## Columns\n"
    yield "| column | type | made by | builder |\n|---|---|---|---|"
    for column in described.columns:
        builder = f"`{column.builder.name}`" if column.builder is not None else ""
        cells = (f"`{_in_cell(column.name)}`", _in_cell(column.type.name), f"`{_in_cell(column.meaning)}`", builder)
        yield f"| {' | '.join(cells)} |"
    if any(column.type.kind is Kind.ARTIFACT for column in described.columns):
        yield "\nCells of type `artifact_string` name files in `artifacts/`."
    if any(column.type.kind is Kind.JSON for column in described.columns):
        yield "\nCells of type `json` are JSON as text."
    yield "\n## Provenance and checks\n"
    yield (
        "`provenance/` has the builders and the code as they ran, the arguments, the versions of the code, and the "
        "columns that each column was computed from. `croissant.json` lists every file with its SHA-256; compare them "
        "with\n\n"
        "```sh\n"
        'python -c "import hashlib, json; '
        "print(all(hashlib.sha256(open(f['contentUrl'], 'rb').read()).hexdigest() == f['sha256'] "
        "for f in json.load(open('croissant.json'))['distribution']))\"\n"
        "```"
    )


def croissant(described: Described) -> dict[str, Any]:
    """Return the Croissant description of a dataset."""
    frame = next(item for item in described.files if item.path == described.frame)
    failed, skipped = described.failures
    about = described.description or f"Table {described.table_name} of a TableVault vault."
    if failed or skipped:
        about += f" {failed:,} cells failed and {skipped:,} were skipped; they are null."
    return {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "name": described.table_name,
        "description": about,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        **({"license": described.licence} if described.licence else {}),
        "creator": {"@type": "sc:Person", "name": described.maker.author},
        "datePublished": described.maker.made_at.astimezone(UTC).isoformat(),
        "version": "1.0.0",
        "identifier": _instance(described, described.instance_id),
        **_origins(described),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": item.path,
                "name": item.path,
                "contentUrl": item.path,
                "contentSize": f"{item.size} B",
                "encodingFormat": item.media_type,
                "sha256": item.sha256,
            }
            for item in described.files
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": described.table_name,
                "name": described.table_name,
                **_key(described),
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"{described.table_name}/{column.name}",
                        "name": column.name,
                        "description": _field_text(column),
                        "dataType": _data_type(column.type),
                        **({"repeated": True} if _is_list(column.type) else {}),
                        "source": {"fileObject": {"@id": frame.path}, "extract": {"column": column.name}},
                        **_making(described, column),
                    }
                    for column in described.columns
                ],
            }
        ],
    }


def _key(described: Described) -> dict[str, Any]:
    names = {column.name for column in described.columns}
    key = described.provenance.primary_key
    if not key or not set(key) <= names:
        return {}
    return {"key": [{"@id": f"{described.table_name}/{name}"} for name in key]}


def _instance(described: Described, instance_id: str) -> str:
    """Return the identifier of an instance of the vault."""
    return f"tablevault:{described.vault_id}/{instance_id}"


def _origins(described: Described) -> dict[str, Any]:
    """Return the process, author and input instances of an instance as PROV terms."""
    facts = described.provenance
    inputs = {item.instance_id: item for item in (*facts.inputs, *facts.dependencies)}
    if facts.origin is not None:
        inputs.setdefault(facts.origin.instance_id, facts.origin)
    made = {
        "@type": "prov:Activity",
        "@id": f"tablevault:{described.made_in}/process/{facts.process_id}",
        "name": facts.operation,
        "prov:endedAtTime": facts.finished_at,
    }
    derived = [
        {"@type": "prov:Entity", "@id": _instance(described, item.instance_id), "name": item.table}
        for item in inputs.values()
    ]
    return {
        "prov:wasGeneratedBy": made,
        "prov:wasAttributedTo": {"@type": "prov:Person", "name": facts.author},
        **({"prov:wasDerivedFrom": derived} if derived else {}),
    }


def _making(described: Described, column: DescribedColumn) -> dict[str, Any]:
    """Return the builder and input columns of a column as PROV terms."""
    facts = column.builder
    if facts is None:
        return {}
    there = {item.name for item in described.columns}
    used = [f"{described.table_name}/{name}" for name in facts.own_columns if name in there]
    known = {item.row_id: item.instance_id for item in described.provenance.inputs}
    # A fragment names a single column; without a fragment, the columns are unknown.
    used += [
        _instance(described, known[row_id]) + (f"#{quote(name)}" if name != "*" else "")
        for row_id, name in facts.inputs
        if row_id in known
    ]
    agent = {
        "@type": "prov:SoftwareAgent",
        "name": f"{facts.module}.{facts.function}",
        "softwareVersion": list(facts.versions),
    }
    activity = {"@type": "prov:Activity", "name": facts.name, "prov:wasAssociatedWith": agent}
    return {"prov:wasGeneratedBy": activity | ({"prov:used": [{"@id": item} for item in used]} if used else {})}


def _field_text(column: DescribedColumn) -> str:
    """Return a column's builder, the version of its code, and its inputs."""
    if column.builder is None:
        return f"{column.type.name}, {column.meaning}."
    versions = ", ".join(version[:12] for version in column.builder.versions)
    return f"{column.type.name}, made by builder {column.builder.name}: {column.meaning}, code {versions}."


def _data_type(column_type: ColumnType) -> str:
    arrow = column_type.arrow.value_type if pa.types.is_dictionary(column_type.arrow) else column_type.arrow
    if _is_list(column_type):
        arrow = arrow.value_type
    types = pa.types
    for is_one, name in (
        (types.is_boolean, "sc:Boolean"),
        (types.is_integer, "sc:Integer"),
        (types.is_floating, "sc:Float"),
        (types.is_decimal, "sc:Number"),
        (types.is_date, "sc:Date"),
        (types.is_timestamp, "sc:DateTime"),
    ):
        if is_one(arrow):
            return name
    return "sc:Text"


def _is_list(column_type: ColumnType) -> bool:
    types = pa.types
    arrow = column_type.arrow
    return bool(types.is_list(arrow) or types.is_large_list(arrow) or types.is_fixed_size_list(arrow))


def _shortened(value: object) -> str:
    text = repr(json_form(value))
    return text if len(text) <= _MAXIMUM_VALUE_LENGTH else f"{text[: _MAXIMUM_VALUE_LENGTH - 3]}..."


def _in_cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")
