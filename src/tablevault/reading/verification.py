"""Verification of a vault against its catalog."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tablevault.errors import TVArgumentError, TVFileError
from tablevault.layout import ARTIFACTS, DESCRIPTION
from tablevault.reading.inspection import Findings, InstanceInspection, inspect_checkpoints
from tablevault.records import Problem, VerifyReport
from tablevault.state.context import VaultContext
from tablevault.state.leftovers import Leftovers
from tablevault.state.liveness import Liveness
from tablevault.state.lookup import Lookup
from tablevault.state.opening import marker_of
from tablevault.storage import files
from tablevault.storage.files import TEMPORARY_SUFFIX
from tablevault.values.contents import ArtifactState, InstanceRecord, TableRecord
from tablevault.values.processes import Status

Check = Callable[[Findings], None]
Moment = tuple[int, int, tuple[tuple[int, int], ...]]
"""State that changes when a process begins, is resumed, or commits."""

_ROUNDS = 4
"""Maximum number of runs of a check while other processes change the vault."""

_LEFT_BY_CRASH = "left behind by a process that has ended; verify(repair=True) removes it"


class Verification:
    """Checks a vault against its catalog, without modifying anything or taking locks.

    Other processes may write concurrently. A check with findings is therefore repeated on a fresh read of the catalog,
    unless nothing has changed since the last run. A finding that does not recur was a write in progress.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._context = context
        self._layout = context.layout
        self._lookup = Lookup(context)
        self._liveness = Liveness(context)
        self._contents = context.catalog.contents
        self._processes = context.catalog.processes
        self._tidying = context.catalog.tidying
        self._leftovers = Leftovers(context)
        self._problems: list[Problem] = []
        self._checked = 0
        self._before: Moment | None = None

    def report(self) -> VerifyReport:
        """Check everything, and return the problems."""
        try:
            self._check_everything()
        except TVFileError as error:
            # Only errors of the catalog itself get here; those of files become findings.
            self._note(Problem("damaged", self._layout.relative(self._layout.catalog), str(error)))
        return VerifyReport(not self._problems, tuple(self._problems), self._checked)

    def _check_everything(self) -> None:
        self._before = self._moment()
        for check in (self._check_own_files, self._check_catalog, self._check_folders, self._check_log):
            self._confirm(check)
        self._confirm(self._check_processes)
        for table in self._contents.tables():
            self._confirm(partial(self._check_table, table))
            for instance in self._contents.instances(table.table_id):
                self._confirm(partial(self._check_instance, instance))

    def _confirm(self, check: Check) -> None:
        """Run a check, and repeat it while its findings may be writes in progress."""
        confirmed: dict[tuple[str, str], Problem] | None = None
        for _ in range(_ROUNDS):
            findings = Findings(self._layout)
            check(findings)
            found = findings.problems
            confirmed = found if confirmed is None else {key: found[key] for key in found if key in confirmed}
            if not confirmed or self._nothing_has_changed():
                break
        self._checked += findings.checked
        for problem in (confirmed or {}).values():
            self._note(problem)

    def _nothing_has_changed(self) -> bool:
        """Return whether no process has written since the last call, or since the start."""
        before, self._before = self._before, self._moment()
        return before is not None and before == self._before

    def _moment(self) -> Moment | None:
        """Return a value that changes with every write; `None` while a process is running."""
        unfinished = self._processes.unfinished()
        if any(map(self._liveness.is_alive, unfinished)):
            return None
        attempts = tuple((record.serial, record.attempt) for record in unfinished)
        return self._contents.generation(), self._processes.begun(), attempts

    def _note(self, problem: Problem) -> None:
        # A failed tidying step leaves a file in place or missing, which is not a second problem.
        is_told = problem.kind in ("unclaimed", "missing") and any(
            known.kind == "tidying failed" and known.path == problem.path for known in self._problems
        )
        if problem not in self._problems and not is_told:
            self._problems.append(problem)

    # --- the vault ------------------------------------------------------------------------------------------------

    def _check_own_files(self, findings: Findings) -> None:
        def check() -> None:
            try:
                marker_of(self._layout)
            except TVArgumentError as error:
                raise TVFileError(str(error)) from error

        layout = self._layout
        findings.examine(layout.marker, check)
        findings.examine(layout.description, partial(files.read_bytes, layout.description))
        for folder in (layout.code_functions, layout.temporary, layout.worker_logs, layout.owners, layout.trash):
            findings.checked += 1
            if not folder.is_dir():
                findings.add("missing", folder, "one of the vault's own folders; create it again, empty")

    def _check_catalog(self, findings: Findings) -> None:
        findings.checked += 1
        for fault in self._context.catalog.faults():
            findings.add("damaged", self._layout.catalog, f"{fault}; restore it from a backup")

    def _check_folders(self, findings: Findings) -> None:
        for path in self._leftovers.in_root():
            self._add_unclaimed(findings, path, "it belongs to no table; move it elsewhere")
        for path in self._leftovers.in_metadata():
            self._add_unclaimed(findings, path, "no process of this vault wrote it")
        for path in (*self._leftovers.in_temporary(), *self._leftovers.dead_owners()):
            self._add_unclaimed(findings, path, _LEFT_BY_CRASH)

    def _add_unclaimed(self, findings: Findings, path: Path, detail: str) -> None:
        half_written = path.name.endswith(TEMPORARY_SUFFIX) or (path == self._layout.creating and path.is_file())
        findings.add("unclaimed", path, _LEFT_BY_CRASH if half_written else detail)

    def _check_log(self, findings: Findings) -> None:
        """Compare the log with the catalog, except for lines that the next operation appends."""
        path = self._layout.log
        if not path.exists():
            return
        findings.checked += 1
        if not path.is_file():
            findings.add("damaged", path, "it is not a regular file, so the log cannot be written; move it away")
            return
        lines = path.read_bytes().split(b"\n")[:-1]
        ended = {place: record.process_id for place, record in self._processes.ended_after(0)}
        for number, line in enumerate(lines, start=1):
            if not _tells_of(line, ended):
                findings.add("damaged", path, f"line {number} does not match the catalog; nothing depends on it")

    def _check_processes(self, findings: Findings) -> None:
        for step, problem in self._tidying.failed():
            path = self._layout.absolute(step.source or step.target)
            what = f"{step.action} {step.source} {step.target}".strip()
            findings.add("tidying failed", path, f"{what}: {problem}; verify(repair=True) tries again")
        for record in self._processes.unfinished():
            if self._liveness.is_alive(record):
                continue
            path = self._layout.process(record.serial).root
            if self._liveness.status(record) is Status.PAUSED:
                findings.examine(path, partial(self._inspect_paused, record.serial, findings))
            else:
                detail = f"process '{record.process_id}' was interrupted; verify(repair=True) ends it"
                findings.add("unfinished", path, detail)

    def _inspect_paused(self, serial: int, findings: Findings) -> None:
        inspect_checkpoints(self._lookup.workspace_of(serial).checkpoints, findings)

    # --- tables ---------------------------------------------------------------------------------------------------

    def _check_table(self, table: TableRecord, findings: Findings) -> None:
        current = self._contents.table(table.name)
        if current is None or current.table_id != table.table_id:
            return
        folder = self._lookup.table_folder(current)
        findings.checked += 1
        if not folder.is_dir():
            findings.add("missing", folder, f"the folder of table '{current.name}'")
            return
        description = folder / DESCRIPTION
        findings.examine(description, partial(files.read_bytes, description))
        for path in self._leftovers.in_table(current):
            self._add_unclaimed(
                findings, path, f"it belongs to no instance of table '{current.name}'; move it elsewhere"
            )
        self._check_link(current, folder / ARTIFACTS, findings)

    def _check_link(self, table: TableRecord, link: Path, findings: Findings) -> None:
        if table.allow_multiple_artifacts:
            return
        holder = self._artifact_holder(table)
        expected = f"{holder.folder}/{ARTIFACTS}" if holder is not None else None
        found = str(link.readlink()) if link.is_symlink() else None
        if found == expected and (found is not None or not link.exists()):
            return
        if self._layout.relative(link) in self._leftovers.pending():
            return
        if link.exists() and found is None:
            findings.add("damaged", link, "it is not a symbolic link to the table's artifacts; move it away")
        elif expected is not None and found is None:
            findings.add("missing", link, f"the link to {expected}")
        elif expected is not None:
            findings.add("damaged", link, f"it points to {found} instead of {expected}")
        else:
            findings.add("damaged", link, f"it points to {found}, although the table has no artifacts")

    def _artifact_holder(self, table: TableRecord) -> InstanceRecord | None:
        """Return the instance that holds a table's only set of artifacts, if it has artifacts."""
        # The newest instance may lack its set if it was imported without one, which replaced none.
        there = [
            item
            for item in self._contents.instances(table.table_id, temporary=False)
            if item.success and item.artifact_state is ArtifactState.PRESENT
        ]
        newest = max(there, key=lambda item: item.row_id, default=None)
        return newest if newest is not None and self._lookup.folder(table, newest).artifact_hashes.exists() else None

    def _check_instance(self, instance: InstanceRecord, findings: Findings) -> None:
        current = self._contents.instance(instance.table_id, instance.instance_id)
        if current is None or current.row_id != instance.row_id:
            return
        InstanceInspection(current, self._lookup.folder_of(current), findings).inspect()


def _tells_of(line: bytes, ended: dict[int, str]) -> bool:
    try:
        entry = json.loads(line)
        return bool(ended[entry["end"]] == entry["process_id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
