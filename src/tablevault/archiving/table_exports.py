"""Export of single instances to files or dataset folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tablevault import names
from tablevault.archiving.dataset_folders import DatasetFolder, dataset_difference
from tablevault.archiving.exported import export_target, exported, file_difference
from tablevault.errors import TVArgumentError
from tablevault.reading.queries import Queries, check_columns_given
from tablevault.reading.requests import selection_of
from tablevault.state.context import VaultContext
from tablevault.storage.exports import write_frame_as
from tablevault.values.contents import InstanceRecord, Page, TableRecord

_FILES = ("parquet", "csv", "jsonl", "json", "arrow")
_DATASETS = ("dataset", "huggingface", "croissant")


class TableExports:
    """Exports instances of one vault.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._context = context
        self._queries = Queries(context)

    def export(
        self,
        table_name: str,
        target: str | Path,
        instance_id: str,
        version: str,
        format_name: str,
        columns: Sequence[str] | None,
        embed_artifacts: bool,
        licence: str,
        overwrite: bool,
    ) -> str:
        """Export an instance and return the path; see `TableVault.export_table` for the parameters."""
        path = export_target(self._context, target)
        kind = _kind_of(format_name, path)
        is_dataset = kind in _DATASETS
        if (embed_artifacts or licence) and not is_dataset:
            raise TVArgumentError("embed_artifacts and license are for dataset folders; pass format='dataset'.")
        names.check_text("license", licence)
        check_columns_given(columns)
        if columns is not None and not columns:
            raise TVArgumentError("columns is empty; name at least one column, or leave it out for all.")
        difference = dataset_difference if is_dataset else file_difference

        def write() -> None:
            table, instance = self._select(table_name, instance_id, version)
            with exported(path, overwrite, difference) as made:
                if is_dataset:
                    folder = DatasetFolder(self._context, table, instance)
                    folder.write(made, columns, embed_artifacts, licence)
                else:
                    data = self._queries.read(table, instance, columns, Page(), full_paths=False)
                    write_frame_as(kind, data, made)

        self._queries.again_if_moved(table_name, write)
        return str(path)

    def _select(self, table_name: str, instance_id: str, version: str) -> tuple[TableRecord, InstanceRecord]:
        """Return the instance with the given id, or the newest active successful one."""
        selection = selection_of(table_name, instance_id, version, successful_only=not instance_id)
        table, instance = self._queries.select(selection)
        if instance.temporary:
            raise TVArgumentError(
                f"Instance '{instance.instance_id}' of table '{table.name}' is temporary and cannot be exported; "
                "execute_instance or write_instance materializes it."
            )
        return table, instance


def _kind_of(format_name: str, path: Path) -> str:
    """Return the export format, which defaults to the suffix of the path."""
    known = (*_FILES, *_DATASETS)
    if format_name:
        if format_name not in known:
            raise TVArgumentError(f"There is no format '{format_name}'{names.nearest(format_name, known)}")
        return format_name
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in _FILES:
        listed = ", ".join(f".{name}" for name in _FILES)
        raise TVArgumentError(f"'{path.name}' has no known suffix. Use {listed}, or format='dataset' for a folder.")
    return suffix
