"""Resolved arguments of function calls, and their fingerprints."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import repeat

import xxhash

from tablevault.builders.placeholders import (
    ATTEMPT,
    CALL_ID,
    LAST_ERROR,
    PLACEHOLDER,
    differs_by_call,
    environment_variables,
    has_placeholder,
    names_call,
)
from tablevault.builders.secrets import given_secrets, written_secrets
from tablevault.builders.spec import BuilderSpec
from tablevault.notes import add_location
from tablevault.references import Compiled, Evaluator, Placement, are_immutable, find_references
from tablevault.rows.worker_texts import mark_of
from tablevault.storage.canonical import canonical, canonical_rows
from tablevault.storage.fingerprints import Fingerprints
from tablevault.storage.vectors import batch_of_arrays


@dataclass(frozen=True)
class RowFingerprints:
    """Fingerprints of a group of rows."""

    positions: Sequence[int]
    fingerprints: Fingerprints


@dataclass(frozen=True)
class Calls(RowFingerprints):
    """Prepared calls of a function for a group of rows."""

    arguments: tuple[Iterable[object], ...]
    """The values of each parameter, one per row."""


@dataclass(frozen=True)
class Batch(RowFingerprints):
    """The rows of a batch call."""

    values: Mapping[str, list[object]]
    """Arguments that were evaluated for the fingerprints, by name, one value per row; the call may take them."""


@dataclass(frozen=True)
class _Evaluated:
    """Arguments of several rows."""

    values: dict[str, Iterable[object]]
    """Values of each argument, one per row."""
    kinds: dict[str, frozenset[type]]
    """Classes of the values of arguments that depend on the row, as far as they are known, perhaps without `None`."""


@dataclass(frozen=True)
class CallFacts:
    """Values of the placeholders that vary from call to call."""

    attempt: int = 1
    """Number of the call within the current try of its rows."""
    last_error: str | None = None
    """Error text of the previous call."""
    call_ids: Mapping[int, str] = field(default_factory=dict)
    """Id of the call for each row, for services that accept an idempotency key."""


FIRST_CALL = CallFacts()


@dataclass(frozen=True)
class Views:
    """Two views of the same data in one execution."""

    paths: Evaluator
    """Artifacts by path, as functions see them."""
    contents: Evaluator
    """Artifacts by content, as fingerprints use them."""
    have_artifacts: bool
    """Whether the two views can differ."""
    artifact_folder: str
    process_id: str
    process_key: str
    """Identifies the process across all vaults."""


class ArgumentErrors:
    """Adds a note to errors raised while evaluating a builder's arguments.

    Parameters
    ----------
    spec
        The builder.
    row
        Position of the row; `None` for a function that is called once.
    """

    def __init__(self, spec: BuilderSpec, row: int | None = None) -> None:
        self._spec = spec
        self._row = row

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception):
            of_row = "" if self._row is None else f", row {self._row}"
            add_location(error, f"raised by the arguments of {self._spec.function_text}{of_row}")


class FunctionCall:
    """The arguments of one builder, compiled once.

    Parameters
    ----------
    spec
        The builder.
    views
        Resolve the references in its arguments.
    """

    def __init__(self, spec: BuilderSpec, views: Views) -> None:
        self._spec = spec
        self._views = views
        self._placement = Placement.ROW_ARGUMENT if spec.runs_by_row else Placement.ARGUMENT
        tracked = sorted(set(spec.arguments) - set(spec.untracked))
        as_given = {name: self._compile(name) for name in tracked if self._counts_as_given(name)}
        counted = {
            name: as_given[name]
            if name in as_given
            else views.contents.compile(spec.arguments[name], placement=self._placement)
            for name in tracked
        }
        self._counted_constants = {name: item for name, item in counted.items() if item.is_constant}
        # As written, constructor arguments belong to the version of the builder.
        self._counted_setup = {
            name: views.contents.compile(value, placement=Placement.ARGUMENT)
            for name, value in sorted((spec.setup_arguments or {}).items())
            if find_references(value)
        }
        self._counted_rows = tuple(
            (name, None if name in as_given else item.evaluate)
            for name, item in counted.items()
            if not item.is_constant
        )
        self._counted_as_given = {name: item for name, item in as_given.items() if not item.is_constant}
        self._known = as_given
        self._seed: int | None = None

    @classmethod
    def of_setup(cls, spec: BuilderSpec, views: Views) -> FunctionCall:
        """Return the arguments of the constructor of a builder's class, ready for several threads."""
        arguments = spec.setup_arguments or {}
        spec = replace(spec, arguments=arguments, setup_arguments=None, untracked=(), return_type="dataframe")
        call = cls(spec, views)
        call.make_ready()
        return call

    @cached_property
    def _compiled(self) -> dict[str, Compiled]:
        """All arguments, including environment variables; compiled only if the function will be called."""
        return {name: self._known.get(name) or self._compile(name) for name in self._spec.arguments}

    @cached_property
    def _evaluators(self) -> tuple[tuple[str, Callable[[int | None], object]], ...]:
        return tuple((name, item.evaluate) for name, item in self._compiled.items())

    @cached_property
    def differs_by_call(self) -> tuple[str, ...]:
        """The arguments with placeholders that vary from call to call."""
        return tuple(name for name, value in self._spec.arguments.items() if differs_by_call(value))

    @cached_property
    def has_call_ids(self) -> bool:
        """Whether an argument contains the id of the call."""
        return any(names_call(value) for value in self._spec.arguments.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that receive an argument, in the order of `Calls.arguments`."""
        return tuple(self._spec.arguments)

    @property
    def process_id(self) -> str:
        """Id of the process that makes the calls."""
        return self._views.process_id

    def make_ready(self) -> None:
        """Compile the arguments before several threads use them."""
        self._evaluators  # noqa: B018  (reading the property compiles it)

    def arguments(self, row: int | None, facts: CallFacts = FIRST_CALL) -> dict[str, object]:
        """Return the arguments of a call for a row; the caller owns them."""
        values = {name: evaluate(row) for name, evaluate in self._evaluators}
        return self._of_call(values, (row,), facts) if self.differs_by_call else values

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return the rows of a batch call with their fingerprints, and the arguments evaluated for them."""
        evaluated = self._evaluated_together(self._counted_as_given, rows)
        if evaluated is None:
            each = (self.fingerprint(row, self.counted(row)) for row in rows)
            return Batch(rows, Fingerprints(b"".join(each)), {})
        values = {name: column for name, column in evaluated.values.items() if isinstance(column, list)}
        return Batch(rows, self._fingerprints(rows, evaluated), values)

    def batch_arguments(self, batch: Batch, facts: CallFacts = FIRST_CALL) -> dict[str, object]:
        """Return the arguments of a batch call; row-dependent ones hold one value per row."""
        rows = batch.positions
        values: dict[str, object] = {
            name: item.evaluate(rows[0]) if item.is_constant else _row_values(item, rows, batch.values.get(name))
            for name, item in self._compiled.items()
        }
        return self._of_call(values, rows, facts, in_batch=True) if self.differs_by_call else values

    def call_id(self, row: int | None, fingerprint: bytes, code: str, number: int) -> str:
        """Return the id of a call; a retry after an unknown outcome reuses it.

        Parameters
        ----------
        row
            Position of the row; `None` for a function that is called once.
        fingerprint, code
            Fingerprint of the arguments, and version of the builder and its code.
        number
            1 plus the number of ended calls for this row in this process.
        """
        facts = [self._views.process_key, self._spec.name, row, fingerprint, code, number]
        digest = int.from_bytes(hashlib.sha256(canonical(facts)).digest()[:16], "big")
        # Version 8 of RFC 9562, for custom ids; the uuid module of Python 3.11 does not support it.
        digest = digest & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62
        return str(uuid.UUID(int=digest))

    def _of_call(
        self, values: dict[str, object], rows: Sequence[int | None], facts: CallFacts, in_batch: bool = False
    ) -> dict[str, object]:
        """Re-evaluate the arguments that vary from call to call."""
        for name in self.differs_by_call:
            value = self._spec.arguments[name]
            if value in (f"~{ATTEMPT}~", f"~{LAST_ERROR}~"):
                values[name] = facts.attempt if value == f"~{ATTEMPT}~" else facts.last_error
            elif in_batch and (names_call(value) or not self._compiled[name].is_constant):
                values[name] = [self._of_row(value, row, facts) for row in rows]
            else:
                values[name] = self._of_row(value, rows[0], facts)
        return values

    def _of_row(self, value: object, row: int | None, facts: CallFacts) -> object:
        """Return the value of an argument that varies from call to call."""
        fill = partial(self._fill_in, row=row, facts=facts)
        return self._views.paths.compile(value, placement=self._placement, literal=fill).evaluate(row)

    @cached_property
    def has_secrets(self) -> bool:
        """Whether any call or constructor argument is secret."""
        values = self._spec.written_values
        return bool(self._spec.untracked) or any(any(environment_variables(value)) for value in values)

    def secrets(self, row: int | None) -> list[tuple[str, str]]:
        """Return the secrets among the arguments of a row, each with its mark."""
        if not self.has_secrets:
            return []
        untracked = {name: self._compiled[name] for name in self._spec.untracked if name in self._spec.arguments}
        given = {name: item.evaluate(row) for name, item in untracked.items()}
        return [*written_secrets(self._spec), *given_secrets(self._spec, given)]

    def counted(self, row: int | None) -> dict[str, object]:
        """Return the arguments that enter a row's fingerprint as plain values.

        The others are not needed to decide on reuse, so no environment variable is read.
        """
        return {name: item.evaluate(row) for name, item in self._counted_as_given.items()}

    def completed(
        self, row: int | None, counted: Mapping[str, object], facts: CallFacts = FIRST_CALL
    ) -> dict[str, object]:
        """Complete the result of `counted` to the arguments of a call."""
        values = {name: counted[name] if name in counted else evaluate(row) for name, evaluate in self._evaluators}
        return self._of_call(values, (row,), facts) if self.differs_by_call else values

    def fingerprint(self, row: int | None, arguments: Mapping[str, object]) -> bytes:
        """Return the 16-byte fingerprint of a row's arguments.

        Parameters
        ----------
        row
            The row's position; `None` for functions that are called once.
        arguments
            The result of `arguments` or `counted`, before a function could mutate it.
        """
        values = [arguments[name] if evaluate is None else evaluate(row) for name, evaluate in self._counted_rows]
        return bytes(xxhash.xxh3_128_digest(canonical(values), self._constants_seed(row)))

    def calls(self, positions: Sequence[int]) -> Calls:
        """Prepare calls for as many of the first rows as possible.

        Rows with mutable or large values are prepared one at a time. An error in the arguments of the first row is
        raised.
        """
        positions, evaluated = self._evaluated(self._compiled, positions)
        return Calls(positions, self._fingerprints(positions, evaluated), tuple(evaluated.values.values()))

    def counts(self, positions: Sequence[int]) -> RowFingerprints:
        """Return the fingerprints of `calls`, evaluating only the arguments that affect them."""
        positions, evaluated = self._evaluated(self._counted_as_given, positions)
        return RowFingerprints(positions, self._fingerprints(positions, evaluated))

    def _evaluated(self, items: Mapping[str, Compiled], positions: Sequence[int]) -> tuple[Sequence[int], _Evaluated]:
        """Evaluate arguments for as many of the first rows as possible, at least one."""
        evaluated = self._evaluated_together(items, positions) if len(positions) > 1 else None
        if evaluated is None:
            positions = positions[:1]
            evaluated = _Evaluated({name: [item.evaluate(positions[0])] for name, item in items.items()}, {})
        return positions, evaluated

    def _fingerprints(self, positions: Sequence[int], evaluated: _Evaluated) -> Fingerprints:
        seed = self._constants_seed(positions[0])
        if self._counted_rows:
            columns, kinds = [], set[type]()
            for name, evaluate in self._counted_rows:
                column = evaluated.values[name] if evaluate is None else list(map(evaluate, positions))
                assert isinstance(column, list)  # it depends on the row
                columns.append(column)
                kinds |= evaluated.kinds.get(name) or set(map(type, column))
            encoded = canonical_rows(columns, kinds)
            return Fingerprints(b"".join(map(xxhash.xxh3_128_digest, encoded, repeat(seed))))
        return Fingerprints(xxhash.xxh3_128_digest(canonical([]), seed) * len(positions))

    def _evaluated_together(self, items: Mapping[str, Compiled], positions: Sequence[int]) -> _Evaluated | None:
        """Evaluate arguments for all rows at once; row-dependent ones become lists.

        Returns `None` if this is unsafe, or on an error, which may belong to a later row.
        """
        evaluated = _Evaluated({}, {})
        try:
            for name, item in items.items():
                if item.is_constant:
                    evaluated.values[name] = _constant(item, positions)
                    continue
                evaluated.values[name] = values = item.evaluate_rows(positions)
                known = item.kinds() if item.kinds is not None else None
                evaluated.kinds[name] = kinds = known or frozenset(map(type, values))
                if not are_immutable(values, kinds):
                    return None
        except Exception:  # noqa: BLE001  (it is raised again when the calls of its row are prepared)
            return None
        return evaluated

    def _constants_seed(self, row: int | None) -> int:
        """Return the hash of the arguments that are the same for every row, which seeds the fingerprint of each row."""
        if self._seed is None:
            constants = [[name, item.evaluate(row)] for name, item in self._counted_constants.items()]
            names = [name for name, _ in self._counted_rows]
            setup = [[name, item.evaluate(None)] for name, item in self._counted_setup.items()]
            counted = [constants, names, setup] if setup else [constants, names]
            self._seed = xxhash.xxh3_64_intdigest(canonical(counted))
        return self._seed

    def _compile(self, name: str) -> Compiled:
        value = self._spec.arguments[name]
        return self._views.paths.compile(value, placement=self._placement, literal=self._fill_in)

    def _counts_as_given(self, name: str) -> bool:
        """Return whether an argument is fingerprinted as is, free of paths and placeholders."""
        return not self._views.have_artifacts and not has_placeholder(self._spec.arguments[name])

    def _fill_in(self, text: str, row: int | None = None, facts: CallFacts = FIRST_CALL) -> str:
        return PLACEHOLDER.sub(partial(self._placeholder_value, row=row, facts=facts), text)

    def _placeholder_value(self, match: re.Match[str], row: int | None, facts: CallFacts) -> str:
        if match[1] == ATTEMPT:
            return str(facts.attempt)
        if match[1] == LAST_ERROR:
            return facts.last_error or ""
        if match[1] == CALL_ID:
            return facts.call_ids.get(row or 0, "")
        if self._spec.policies.runs_on_ray and match[1] not in ("PROCESS_ID",):
            # Only the worker knows its environment and the folder for the files of a call.
            return mark_of(match[1])
        if match[1] == "ARTIFACT_FOLDER":
            return self._views.artifact_folder
        if match[1] == "PROCESS_ID":
            return self._views.process_id
        value = os.environ.get(match[2])
        if value is None:
            # Not a TableVaultError, which would revert a paused process that is resumed from another shell.
            raise LookupError(
                f"Builder '{self._spec.name}' ({self._spec.file}) reads the environment variable {match[2]}, "
                "which is not set; set it and run again."
            )
        return value


def _row_values(item: Compiled, rows: Sequence[int], known: list[object] | None) -> object:
    """Return one value per row, stacked for arrays; the caller owns mutable values.

    `known` are the values if they were evaluated already, and are immutable.
    """
    values = item.evaluate_rows(rows) if known is None else known
    if item.column_type is not None and values:
        arrays = batch_of_arrays(values, item.column_type())
        if arrays is not None:
            return arrays
    is_owned = known is not None or are_immutable(values, set(map(type, values)))
    return values if is_owned else list(map(item.evaluate, rows))


def _constant(item: Compiled, positions: Sequence[int]) -> Iterable[object]:
    """Repeat a constant for every row; mutable values are copied for each call."""
    value = item.evaluate(positions[0])
    return repeat(value, len(positions)) if are_immutable([value], {type(value)}) else map(item.evaluate, positions)
