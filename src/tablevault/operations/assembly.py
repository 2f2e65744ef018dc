"""Putting an instance's folder together: frame, artifacts, builders, code and provenance, durable and read-only."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from tablevault.builders.document import BuilderReads
from tablevault.errors import TVArtifactError, warn
from tablevault.execution.context import BuilderOutcome, Execution
from tablevault.execution.frame import DraftFrame
from tablevault.execution.inputs import PinnedKey
from tablevault.execution.provenance import (
    BuilderFacts,
    Provenance,
    write_artifact_records,
    write_fingerprints,
    write_provenance,
)
from tablevault.layout import ARTIFACTS, InstanceFolder
from tablevault.lookup import Lookup
from tablevault.names import fold
from tablevault.operations.base import instance_folder, remove, write_description
from tablevault.operations.executing import PinnedInputs, edited_builders, origin_facts
from tablevault.plans import ExecutePlan
from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.frames import FrameRecord, write_frame
from tablevault.storage.manifest import FileRecord, write_manifest
from tablevault.transaction import Transaction
from tablevault.values import (
    ArtifactRecord,
    Changes,
    ColumnRecord,
    MaterializedInstance,
    Read,
    TableRecord,
    Tidying,
    TidyingAction,
)

_MOST_LISTED = 1_000
"""How many files an error names before it only counts them."""


class Assembly:
    """Turns a finished execution into a materialized instance.

    Parameters
    ----------
    transaction, plan
        The process.
    execution
        Its builders, run.
    inputs
        What they read.
    """

    def __init__(self, transaction: Transaction, plan: ExecutePlan, execution: Execution, inputs: PinnedInputs) -> None:
        self._transaction = transaction
        self._plan = plan
        self._execution = execution
        self._inputs = inputs.facts()
        table = transaction.contents.table_by_id(plan.table_id)
        assert table is not None
        self._table = table
        self._folder = instance_folder(transaction, table, plan.new_instance_id)

    def materialize(self, success: bool) -> Changes:
        """Write everything durably, and return what makes the instance visible."""
        draft, folder = self._execution.frame, self._folder
        artifacts = settle_artifacts(draft, strict=success)
        frame = draft.data()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tablevault-fingerprints") as aside:
            fingerprints = aside.submit(self._write_fingerprints)
            stored = write_frame(folder.frame, frame)
        fingerprints.result()
        if artifacts:
            write_artifact_records(folder.artifact_hashes, artifacts)
        write_provenance(folder.provenance, self._provenance())
        self._archive_texts()
        columns = tuple(ColumnRecord(name, column_type.name) for name, column_type in frame.types.items())
        describe_instance(self._transaction, folder, self._table.name, self._plan.new_instance_id, len(frame), success)
        manifest = seal(folder, stored)
        shares = success and not self._table.allow_multiple_artifacts
        change = MaterializedInstance(
            self._plan.temporary,
            self._plan.new_instance_id,
            self._plan.new_instance_id,
            success,
            len(frame),
            columns,
            manifest,
            tuple(self._reads()),
            replaces_artifacts=shares,
            deactivates_others=success and self._table.has_side_effects,
        )
        link = artifact_link(self._transaction, self._table, self._plan.new_instance_id, bool(artifacts))
        temporary = drop_temporary(self._transaction, self._plan, self._plan.temporary_folder)
        return Changes((change,), (*([link] if shares else []), *temporary))

    def _write_fingerprints(self) -> None:
        rows = {}
        for outcome in self._execution.outcomes:
            if outcome.fingerprints is not None and outcome.codes is not None:
                missing = self._execution.frame.row_count - len(outcome.codes)
                outcome.fingerprints.resize(self._execution.frame.row_count)
                outcome.codes.frombytes(bytes(missing * outcome.codes.itemsize))
                rows[outcome.builder.spec.name] = (outcome.fingerprints, outcome.codes)
        if rows:
            write_fingerprints(self._folder.fingerprints, rows)

    def _provenance(self) -> Provenance:
        return Provenance(
            process_id=self._transaction.process_id,
            operation="execute_instance",
            author=self._transaction.context.author,
            finished_at=datetime.now(UTC).isoformat(),
            primary_key=self._execution.primary_key,
            builders=tuple(self._builder_facts(outcome) for outcome in self._execution.outcomes),
            inputs=tuple(dict.fromkeys(self._inputs.values())),
            origin=origin_facts(self._transaction, self._plan.origin),
        )

    def _builder_facts(self, outcome: BuilderOutcome) -> BuilderFacts:
        spec = outcome.builder.spec
        reads = spec.reads
        own = ("*",) if reads.reads_whole_self else tuple(sorted(set(reads.own_columns) - {"index"}))
        return BuilderFacts(
            name=spec.name,
            is_index=spec.is_index,
            columns=spec.changed_columns,
            function=spec.python_function,
            module=spec.code_module,
            is_custom=spec.is_custom,
            return_type=spec.return_type,
            arguments=spec.tracked_arguments,
            own_columns=own,
            inputs=tuple(self._input_columns(reads)),
            versions=outcome.versions,
            code_parts=dict(outcome.builder.code_parts),
            packages=dict(outcome.builder.packages),
            computed=outcome.computed,
            reused=outcome.reused,
            whole_fingerprint=outcome.whole.hex() if outcome.whole is not None else None,
        )

    def _input_columns(self, reads: BuilderReads) -> Iterable[tuple[int, str]]:
        for dependency in reads.tables:
            facts = self._inputs[PinnedKey(fold(dependency.table), dependency.instance)]
            for column in sorted(dependency.columns or ("*",)):
                yield facts.row_id, column

    def _reads(self) -> Iterable[Read]:
        for outcome in self._execution.outcomes:
            spec = outcome.builder.spec
            for row_id, input_column in self._input_columns(spec.reads):
                for column in spec.changed_columns:
                    yield Read(column, spec.name, row_id, input_column)

    def _archive_texts(self) -> None:
        self._folder.builders.mkdir()
        for path in sorted(self._transaction.workspace.builders.iterdir()):
            shutil.copyfile(path, self._folder.builders / path.name)
        attempts = self._transaction.workspace.code(1).parent
        _archive_code(sorted(attempts.iterdir(), key=lambda path: int(path.name)), self._folder.code)


def settle_artifacts(frame: DraftFrame, strict: bool) -> list[ArtifactRecord]:
    """Bring the artifacts of reused cells in, and check that files and cells agree.

    Parameters
    ----------
    frame
        The finished columns.
    strict
        Whether a missing or unnamed file is an error; if not, unnamed files are dropped.

    Raises
    ------
    TVArtifactError
        Listing all files that fail.
    """
    folder = ArtifactFolder(frame.artifacts.folder)
    named = frame.artifact_names()
    adopted = _adopt(folder, frame)
    missing, unnamed = sorted(folder.missing(named)), sorted(folder.unnamed(named))
    if strict:
        check_artifacts(missing, unnamed, named)
    for name in unnamed:
        files.remove_tree(frame.artifacts.folder / name)
    # A function may have written on into a file after its row was finished: what counts is what is there now.
    found = (adopted.get(name) or folder.describe(name) for name in sorted(set(named) - set(missing)))
    return [record for record in found if record is not None]


def _adopt(folder: ArtifactFolder, frame: DraftFrame) -> dict[str, ArtifactRecord]:
    """Take the files of reused cells over from their origins; return their records by name."""
    by_source: dict[Path, dict[str, ArtifactRecord]] = {}
    for by_row in frame.adopted.values():
        for file in by_row.values():
            name = file.record.path
            if folder.exists(name) and not folder.matches(file.record):
                computed = frame.computed_artifact_names()
                if name in computed:
                    raise TVArtifactError(
                        f"{name} is named by column '{computed[name][0]}', row {computed[name][1]}, and by a cell that "
                        "was taken over from the origin, with another content; name files by what they are made from, "
                        "such as the row's key."
                    )
                # What a row has left that failed.
                files.remove_tree(frame.artifacts.folder / name)
            by_source.setdefault(file.folder, {})[name] = file.record
    for source, records in by_source.items():
        folder.adopt(source, records.values())
    return {name: record for records in by_source.values() for name, record in records.items()}


def check_artifacts(
    missing: Sequence[str], unnamed: Sequence[str], named: Mapping[str, tuple[str, int]], wrong: Sequence[str] = ()
) -> None:
    """Raise `TVArtifactError` if files and cells do not agree; it lists all that fail.

    Parameters
    ----------
    missing, unnamed
        Cells without a file, and files without a cell.
    named
        For each name the column and row of its cell.
    wrong
        What is to be said of cells that cannot be artifacts at all.
    """
    problems = [*wrong]
    problems += [
        f"{name} (named in column '{named[name][0]}', row {named[name][1]}) does not exist" for name in missing
    ]
    problems += [f"{name} is not named by any cell" for name in unnamed]
    if problems:
        listed = "; ".join(problems[:_MOST_LISTED])
        more = f"; and {len(problems) - _MOST_LISTED:,} more" if len(problems) > _MOST_LISTED else ""
        raise TVArtifactError(
            f"Artifacts and artifact columns do not agree: {listed}{more}. Write every file that a cell names into "
            "~ARTIFACT_FOLDER~, and name every file that is written."
        )


def describe_instance(
    transaction: Transaction, folder: InstanceFolder, table_name: str, instance_id: str, rows: int, success: bool
) -> None:
    """Write what people read about a materialized instance."""
    write_description(
        folder,
        table=table_name,
        instance=instance_id,
        author=transaction.context.author,
        process_id=transaction.process_id,
        rows=rows,
        success=success,
    )


def seal(folder: InstanceFolder, frame: FrameRecord) -> str:
    """Make an instance's folder read-only and durable, with its entry in the table's folder.

    Returns the SHA-256 of its manifest, which lists every file but the artifacts.
    """
    known = FileRecord(folder.frame.name, frame.size, frame.sha256)
    manifest = write_manifest(folder.manifest, folder.artifacts, {known.path: known})
    files.make_read_only(folder.root)
    files.fsync_tree(folder.root)
    files.fsync_folder(folder.root.parent)
    return manifest


def reopen(folder: InstanceFolder, kept: Path) -> None:
    """Make the folder of an attempt that was cut off while it was assembled fit for the next one.

    Links of reused cells are taken back. Modes of files stay: a link shares them with a committed file, into which
    no function may write.

    Parameters
    ----------
    folder
        The instance's folder; fine if it is missing.
    kept
        What an earlier attempt finished there; everything else is made again.
    """
    if not folder.root.is_dir():
        return
    files.make_writable(folder.root)
    for path in folder.root.iterdir():
        if path != kept:
            files.remove_tree(path)
    for path in [kept, *kept.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            files.make_writable(path)
        elif path.name.endswith(files.TEMPORARY_SUFFIX) or (path.is_file() and path.stat().st_nlink > 1):
            path.unlink()


def artifact_link(lookup: Lookup, table: TableRecord, folder: str, has_artifacts: bool) -> Tidying:
    """Return the step that lets `<table>/artifacts` lead to an instance's artifacts, or nowhere if it has none."""
    parent = lookup.layout.relative(lookup.table_folder(table))
    if not has_artifacts:
        return Tidying(TidyingAction.UNLINK, target=f"{parent}/{ARTIFACTS}")
    return Tidying(TidyingAction.LINK, f"{parent}/{folder}/{ARTIFACTS}", f"{parent}/{ARTIFACTS}")


def drop_temporary(transaction: Transaction, plan: ExecutePlan, temporary: str) -> Iterable[Tidying]:
    """Return the steps that remove a temporary instance; what was edited by hand meanwhile is archived."""
    edited = edited_builders(plan, transaction) if transaction.workspace.builders.is_dir() else []
    if not edited:
        yield remove(temporary)
        return
    archived = transaction.layout.archived(transaction.serial, f"{plan.table_name}_{plan.instance_id}")
    target = transaction.layout.relative(archived)
    warn(
        f"Builder files edited by hand while '{plan.instance_id}' of table '{plan.table_name}' was executing "
        f"({', '.join(edited)}) did not run; they are kept in {target}."
    )
    yield Tidying(TidyingAction.MOVE_FOLDER, temporary, target)
    yield Tidying(TidyingAction.PRUNE, target)


def _archive_code(attempts: Sequence[Path], target: Path) -> None:
    """Keep the code of the last attempt, and beside it that of earlier ones where it was different."""
    shutil.copytree(attempts[-1], target, copy_function=shutil.copyfile)
    newest = _texts(attempts[-1])
    for attempt in attempts[:-1]:
        if _texts(attempt) != newest:
            shutil.copytree(attempt, target / f"attempt-{attempt.name}", copy_function=shutil.copyfile)


def _texts(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
