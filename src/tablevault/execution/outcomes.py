"""Prepared builders, their outcomes, and their facts for provenance."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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

    def facts(self, inputs: Mapping[PinnedKey, InputFacts], policies: PoliciesByAttempt) -> BuilderFacts:
        """Return the facts for provenance.

        Parameters
        ----------
        inputs
            The instances read by the execution.
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
            policies=tuple(self._policies(policies)),
        )

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
