"""Prepared builders, their outcomes, and their facts for provenance."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from tablevault.builders.document import BuilderReads
from tablevault.builders.spec import BuilderSpec
from tablevault.errors import TVImplementationError
from tablevault.execution.inputs import PinnedKey
from tablevault.execution.provenance import BuilderFacts, InputFacts, PolicyFacts
from tablevault.names import fold
from tablevault.rows.failures import RowFailure
from tablevault.rows.functions import BuilderFunction
from tablevault.rows.table import RowTable
from tablevault.storage.fingerprints import Fingerprints
from tablevault.values.changes import Read
from tablevault.values.processes import Usage
from tablevault.values.progress import summed
from tablevault.values.services import CALLS

PoliciesByAttempt = Mapping[int, Mapping[str, dict[str, Any]]]
"""Policy fields that differ from their defaults, by attempt and builder."""


@dataclass(frozen=True)
class PreparedBuilder:
    """A builder with its function, ready to run."""

    spec: BuilderSpec
    function: BuilderFunction | None
    """`None` while it cannot be called."""
    version: str
    """Digest of everything that affects reuse, except the values of arguments."""
    code_parts: Mapping[str, str]
    packages: Mapping[str, str]
    """Versions of the installed packages that its code imports."""

    @property
    def loaded(self) -> BuilderFunction:
        """The function; raises `TVImplementationError` if it was not loaded."""
        if self.function is None:
            raise TVImplementationError(f"The function of builder '{self.spec.name}' was not loaded.")
        return self.function


@dataclass(frozen=True)
class InputOutcome:
    """The input rows of a builder called for each row of another table."""

    table: RowTable
    """The input rows, with their nested cells."""
    counts: Sequence[int]
    """The number of rows made from each input row."""
    keys: Mapping[str, Sequence[object]]
    """Columns of the input table's primary key; empty without one."""

    def row_text(self, row: int) -> str:
        """Return the text for the input row of a row of the instance; empty if it was not made from one."""
        position = bisect_right(list(accumulate(self.counts)), row)
        if position >= len(self.counts):
            return ""
        key = ", ".join(f"{name}: {values[position]!r:.200}" for name, values in self.keys.items())
        return f"{position} ({key})" if key else str(position)


@dataclass(frozen=True)
class FailedCells:
    """Numbers of failed and skipped cells, by column."""

    own: Mapping[str, int]
    """In the new instance."""
    inputs: Mapping[int, Mapping[str, int]]
    """In the instances that it was computed from, by row id."""


@dataclass(frozen=True)
class BuilderOutcome:
    """The result of a complete builder, as provenance records it."""

    builder: PreparedBuilder
    versions: tuple[str, ...]
    computed: int
    reused: int
    fingerprints: Fingerprints | None = None
    """Fingerprint of each row, for row-wise functions."""
    codes: array[int] | None = None
    """Index into `versions`, for each row."""
    whole: bytes | None = None
    """Fingerprint of a function called once per builder."""
    failures: Mapping[int, RowFailure] = field(default_factory=dict)
    """Failed and skipped rows by position, or by input row if there are any."""
    usage: Mapping[int, Usage] = field(default_factory=dict)
    """Usage of the calls by position, or by input row if there are any."""
    inputs: InputOutcome | None = None
    reused_partial: int = 0
    """Rows reused from a reverted execution."""

    def facts(
        self, inputs: Mapping[PinnedKey, InputFacts], failed: FailedCells, policies: PoliciesByAttempt
    ) -> BuilderFacts:
        """Return the facts for provenance.

        Parameters
        ----------
        inputs
            The instances read by the execution.
        failed
            The failed and skipped cells in these and in the new instance.
        policies
            Policies by attempt where they differ from the builder's file; empty if they never did.
        """
        spec = self.builder.spec
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
            inputs=tuple(_input_columns(reads, inputs)),
            versions=self.versions,
            code_parts=dict(self.builder.code_parts),
            packages=dict(self.builder.packages),
            computed=self.computed,
            reused=self.reused,
            whole_fingerprint=self.whole.hex() if self.whole is not None else None,
            failed=sum(failure.kind == "failed" for failure in self.failures.values()),
            skipped=sum(failure.kind == "skipped" for failure in self.failures.values()),
            usage=summed({CALLS: usage.calls, **usage.amounts} for usage in self.usage.values()),
            failed_cells_read=dict(self._failed_cells_read(inputs, failed)),
            policies=tuple(self._policies(policies)),
        )

    def _failed_cells_read(
        self, inputs: Mapping[PinnedKey, InputFacts], failed: FailedCells
    ) -> Iterator[tuple[str, int]]:
        """Yield the columns with failed or skipped cells that the function saw as null, with the number of these."""
        spec, reads = self.builder.spec, self.builder.spec.reads
        own = failed.own if reads.reads_whole_self else {name: failed.own.get(name, 0) for name in reads.own_columns}
        # A row that reads its own failed cell is skipped.
        unread = spec.own_row_columns if spec.policies.failed_inputs == "skip" and not reads.reads_whole_self else ()
        made_later = spec.changed_columns
        for name, count in own.items():
            if count and name not in unread and name not in made_later:
                yield f"self.{name}", count
        names = {facts.row_id: facts.as_reference for facts in inputs.values()}
        for row_id, column in _input_columns(reads, inputs):
            counts = failed.inputs.get(row_id, {})
            for name in counts if column == "*" else {column} & counts.keys():
                yield f"{names[row_id]}.{name}", counts[name]

    def _policies(self, policies: PoliciesByAttempt) -> Iterator[PolicyFacts]:
        """Yield the policies of the first attempt, and of each attempt that changed them."""
        spec, last = self.builder.spec, None
        function = self.builder.function
        usual = "async" if function is not None and function.is_async else "threads"
        for attempt, given in sorted((policies or {1: {spec.name: spec.policies.given}}).items()):
            own = given.get(spec.name, {})
            if own != last:
                yield PolicyFacts(attempt, own.get("executor", usual), own)
            last = own

    def reads(self, inputs: Mapping[PinnedKey, InputFacts]) -> Iterator[Read]:
        """Yield the columns of other instances that each column was computed from."""
        spec = self.builder.spec
        for row_id, input_column in _input_columns(spec.reads, inputs):
            for column in spec.changed_columns:
                yield Read(column, spec.name, row_id, input_column)


def _input_columns(reads: BuilderReads, inputs: Mapping[PinnedKey, InputFacts]) -> Iterator[tuple[int, str]]:
    for dependency in reads.tables:
        facts = inputs[PinnedKey(fold(dependency.table), dependency.instance)]
        for column in sorted(dependency.columns or ("*",)):
            yield facts.row_id, column
