"""Reasons why cells must be computed, from a comparison with the origin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from tablevault.builders.spec import BuilderSpec
from tablevault.code.versions import describe_changes
from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.context import Execution
from tablevault.execution.inputs import PinnedKey
from tablevault.execution.origins import MaterializedOrigin, Origin
from tablevault.execution.outcomes import PreparedBuilder
from tablevault.execution.provenance import BuilderFacts, InputFacts
from tablevault.execution.reuse import matched_origins, whole_candidates
from tablevault.execution.row_wise import RowDecision
from tablevault.names import fold
from tablevault.rows.artifacts import names_artifacts
from tablevault.state.lookup import Lookup
from tablevault.texts.json_forms import json_form
from tablevault.texts.plain import counts_text
from tablevault.values.contents import InstanceRecord
from tablevault.values.progress import SHOWN_ERRORS

_NEW = "new"
_CHANGED = "values of arguments changed"
_CHANGED_OR_GONE = "values of arguments changed, or files that cells name are gone,"
_OTHER_CODE = "computed under other code"
_NEVER = "never computed"
_FAILED = "failed with "
"""Prefix of the causes for failed rows, before the class of the error."""
_SKIPPED = "skipped"
OTHER_CHANGE = "the builder or its code changed"
"""Fallback if the exact reason is unknown."""


class Reasons:
    """Finds the reasons why cells must be computed, as differences from the origin.

    Parameters
    ----------
    lookup
        Finds instances.
    execution
        Provides the origins, and the positions of the rows in them.
    origin
        The committed instance among the origins, if any.
    inputs
        The instances read by the builders.
    """

    def __init__(
        self,
        lookup: Lookup,
        execution: Execution,
        origin: InstanceRecord | None,
        inputs: Mapping[PinnedKey, InputFacts],
    ) -> None:
        self._lookup = lookup
        self._execution = execution
        self._origin = origin
        self._inputs = inputs

    def of_spec(self, builder: PreparedBuilder) -> tuple[str, ...]:
        """Return the changes of builder, code, arguments and inputs, known before the rows."""
        execution = self._execution
        if not execution.reuses_cells:
            return ("force_execute=True reuses nothing",)
        if not execution.origins:
            return ("there is no origin to reuse cells from",)
        facts = self._facts(builder.spec)
        if facts is None:
            made = ", ".join(builder.spec.changed_columns)
            return () if self._origin is None else (f"no builder of the origin made exactly the columns {made}",)
        now = _planned_facts(builder, facts)
        return (
            *self._changes_of_version(builder, facts, now),
            *changes_of_packages(facts, now),
            *changes_of_arguments(facts, now),
            *self._changes_of_inputs(builder.spec, facts),
        )

    def has_equal_arguments(self, builder: PreparedBuilder) -> bool:
        """Return whether a builder certainly has the origin's argument texts and inputs.

        Otherwise the values may still be equal.
        """
        facts, reads = self._facts(builder.spec), builder.spec.reads
        if facts is None or reads.own_columns or reads.reads_whole_self:
            return False
        now = {self._inputs[PinnedKey(fold(read.table), read.instance)].instance_id for read in reads.tables}
        # With several instances, each reference might read a different one than before.
        is_certain = len(now) <= 1 and now == set(self._read_before(facts))
        return is_certain and not any(changes_of_arguments(facts, _planned_facts(builder, facts)))

    def of_rows(self, run: BuilderRun, decision: RowDecision) -> tuple[str, ...]:
        """Return why missing rows must be computed."""
        builder, total = run.builder, len(decision.table)
        rows = [row for row in decision.table.missing() if row not in decision.undecided]
        if not rows and not decision.undecided:
            return self.of_unchanged(builder, total)
        causes = self._causes(builder, rows, matched_origins(run, total))
        new = self._described_new(causes.pop(_NEW, 0))
        of_origin = _take_failures(causes)
        static = self.of_spec(builder) if causes or decision.undecided else ()
        others = (f"{cause} in {rows_text(count)}" for cause, count in causes.items())
        return (*static, *of_origin, *others, *new)

    def of_whole(self, run: BuilderRun) -> tuple[str, ...]:
        """Return why a builder whose function is called once must run."""
        known = (*self.of_spec(run.builder), *self.of_new_rows())
        if known:
            return known
        same_rows = any(True for _ in whole_candidates(run))
        return ("values of arguments changed" if same_rows else "the rows or their order differ from the origin's",)

    def of_new_rows(self) -> tuple[str, ...]:
        """Return a text on the number of rows missing from all origins."""
        execution = self._execution
        places = [matches for _, matches in execution.reusable]
        if not places:
            return ()
        return self._described_new(sum(1 for row in zip(*places, strict=True) if all(place is None for place in row)))

    def of_failures(self, spec: BuilderSpec) -> tuple[str, ...]:
        """Return the origins' numbers of failed and skipped rows, before new rows are known."""
        failures = (origin.failures(spec.changed_columns, spec.is_index) for origin in self._execution.origins)
        return _take_failures(Counter(_cause_of(error) for found in failures for error in found.values()))

    def of_lost_rows(self, builder: PreparedBuilder) -> tuple[str, ...]:
        """Return the origins' rows that cannot be reused for any new row."""
        spec, found = builder.spec, []
        for origin in self._execution.origins:
            rows = origin.rows(spec.changed_columns, is_index=False)
            if rows is None:
                continue
            places = range(origin.row_count)
            if spec.runs_by_row:
                causes = self._causes(builder, places, [(origin, places)])
            else:
                is_whole = rows.whole is not None and not rows.used_versions - {builder.version}
                failures = origin.failures(spec.changed_columns, spec.is_index)
                failed = Counter(map(_cause_of, failures.values()))
                causes = Counter() if is_whole else failed or Counter({_NEVER: origin.row_count})
            for taken_over in (_CHANGED, _CHANGED_OR_GONE):
                causes.pop(taken_over, None)
            of_origin = _take_failures(causes)
            found += [*of_origin, *(f"{cause} in {rows_text(count)}" for cause, count in causes.items() if count)]
        return tuple(found)

    def of_unchanged(self, builder: PreparedBuilder, total: int) -> tuple[str, ...]:
        """Return the text for a builder without work."""
        facts = self._facts(builder.spec)
        packages = changes_of_packages(facts, _planned_facts(builder, facts)) if facts is not None else ()
        return ("nothing changed" if total else "there are no rows", *packages)

    def _described_new(self, count: int) -> tuple[str, ...]:
        return (f"{count:,} new {'row' if count == 1 else 'rows'}",) if count else ()

    def _causes(
        self,
        builder: PreparedBuilder,
        rows: Iterable[int],
        origins: Iterable[tuple[Origin, Sequence[int | None]]],
    ) -> Counter[str]:
        """Count the rows by cause."""
        spec = builder.spec
        origins = list(origins)
        found = [(origin.rows(spec.changed_columns, spec.is_index), matches) for origin, matches in origins]
        failures = [(origin.failures(spec.changed_columns, spec.is_index), matches) for origin, matches in origins]
        failures = [(errors, matches) for errors, matches in failures if errors]
        known = [(cells, matches) for cells, matches in found if cells is not None]
        names_files = any(names_artifacts(column_type) for column_type in spec.dtypes.values())
        changed = _CHANGED_OR_GONE if names_files else _CHANGED
        causes: Counter[str] = Counter()
        for row in rows:
            places = [(errors, matches[row]) for errors, matches in failures]
            failed = [_cause_of(errors[place]) for errors, place in places if place is not None and place in errors]
            if failed:
                causes[failed[0]] += 1
                continue
            there = [(cells, place) for cells, matches in known if (place := matches[row]) is not None]
            same_code = [(cells, place) for cells, place in there if cells.version_of(place) == builder.version]
            computed = [place for cells, place in same_code if cells.fingerprints[place] is not None]
            causes[changed if computed else _NEVER if same_code else _OTHER_CODE if there else _NEW] += 1
        return causes

    def _facts(self, spec: BuilderSpec) -> BuilderFacts | None:
        found = (origin.facts(spec.changed_columns, spec.is_index) for origin in self._execution.origins)
        return next((facts for facts in found if facts is not None), None)

    def _changes_of_version(self, builder: PreparedBuilder, facts: BuilderFacts, now: BuilderFacts) -> list[str]:
        spec = builder.spec
        if builder.version in facts.versions:
            is_mixed = len(facts.versions) > 1 and not spec.runs_by_row
            return ["code changed while the origin was paused"] if is_mixed else []
        stored = {column.name: column.type_name for column in self._origin.columns} if self._origin is not None else {}
        declared = {column: column_type.name for column, column_type in spec.dtypes.items()}
        reasons = [*changes_of_function(facts, now), *changes_of_types(stored, declared)]
        return reasons or [OTHER_CHANGE]

    def _changes_of_inputs(self, spec: BuilderSpec, facts: BuilderFacts) -> Iterator[str]:
        """Yield the changes of the instances that the builder reads."""
        # Compared by id, since the numbers in an imported instance are those of another catalog.
        contents, before = self._lookup.contents, self._read_before(facts)
        tables = spec.reads.tables
        for now in dict.fromkeys(self._inputs[PinnedKey(fold(read.table), read.instance)] for read in tables):
            record = None if now.instance_id in before else contents.instance_by_row(now.row_id)
            if record is None:
                continue
            earlier = [item for item in map(contents.instance_named, before) if item is not None]
            old = [item.instance_id for item in earlier if item.table_id == record.table_id]
            was = f", was {', '.join(old)}" if old else ""
            yield f"input `{now.table}` is instance {now.instance_id}{was}"

    def _read_before(self, facts: BuilderFacts) -> list[str]:
        """Return the ids of the instances read by a builder of the origin."""
        (*_, origin) = self._execution.origins
        return origin.inputs_of(facts) if isinstance(origin, MaterializedOrigin) else []


def changes_of_function(before: BuilderFacts, now: BuilderFacts) -> Iterator[str]:
    """Yield the changes of a builder's function and its code."""
    if (before.module, before.function, before.is_custom) != (now.module, now.function, now.is_custom):
        yield f"function changed from {_function(before)} to {_function(now)}"
    else:
        yield from describe_changes(_parts(before.code_parts), _parts(now.code_parts))
    if before.return_type != now.return_type:
        yield f"return_type changed from {before.return_type} to {now.return_type}"
    if before.is_index != now.is_index:
        yield f"builder_type changed to {'IndexBuilder' if now.is_index else 'ColumnBuilder'}"


def changes_of_types(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Yield the changes of dtypes, given by column."""
    for column, name in now.items():
        if before.get(column, name) != name:
            yield f"dtype of `{column}` changed from {before[column]} to {name}"


def changes_of_packages(before: BuilderFacts, now: BuilderFacts) -> Iterator[str]:
    """Yield the changes of package versions, which do not affect reuse."""
    for name, version in now.packages.items():
        was = before.packages.get(name, version)
        if was != version:
            yield f"package `{name}` is {version}, was {was} (package versions do not affect reuse)"


def changes_of_arguments(before: BuilderFacts, now: BuilderFacts) -> Iterator[str]:
    """Yield the changes of arguments as written."""
    # Compared in recorded form, in which true differs from 1, and NaN equals itself.
    written, rewritten = json_form(before.arguments), json_form(now.arguments)
    for name in dict.fromkeys([*written, *rewritten]):
        if name not in rewritten:
            yield f"argument `{name}` was removed"
        elif name not in written:
            yield f"argument `{name}` was added"
        elif written[name] != rewritten[name]:
            yield f"argument `{name}` changed"


def _planned_facts(builder: PreparedBuilder, before: BuilderFacts) -> BuilderFacts:
    """Return the facts to be recorded about a builder, as used in reasons."""
    spec = builder.spec
    return replace(
        before,
        is_index=spec.is_index,
        function=spec.python_function,
        module=spec.code_module,
        is_custom=spec.is_custom,
        return_type=spec.return_type,
        arguments=spec.tracked_arguments,
        code_parts=dict(builder.code_parts),
        packages=dict(builder.packages),
    )


def _function(facts: BuilderFacts) -> str:
    named = f"{facts.module}.{facts.function}"
    return named if facts.is_custom else f"built-in {named}"


def _parts(flat: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Return digests of code by module and name."""
    return {(module, name): digest for key, digest in flat.items() for module, _, name in [key.partition(".")]}


def _cause_of(error: str | None) -> str:
    """Return the cause for a row whose error had this class, or for a skipped one."""
    return _SKIPPED if error is None else f"{_FAILED}{error}"


def _take_failures(causes: Counter[str]) -> tuple[str, ...]:
    """Remove failed and skipped rows from the causes; return texts about them, with the most frequent errors."""
    errors = Counter({key.removeprefix(_FAILED): causes.pop(key) for key in list(causes) if key.startswith(_FAILED)})
    failed, skipped = errors.total(), causes.pop(_SKIPPED, 0)
    listed = counts_text(dict(errors.most_common(SHOWN_ERRORS)))
    texts = [f"{rows_text(failed)} failed in the origin ({listed})"] if failed else []
    if skipped:
        texts.append(f"{rows_text(skipped)} {'was' if skipped == 1 else 'were'} skipped in the origin")
    return tuple(texts)


def rows_text(count: int) -> str:
    """Return a number of rows in words."""
    return "1 row" if count == 1 else f"{count:,} rows"
