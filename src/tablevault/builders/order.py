"""The execution order of an instance's builders."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from tablevault.builders.document import BuilderReads
from tablevault.builders.spec import BuilderSpec
from tablevault.errors import TVBuilderError
from tablevault.names import index_builder_name, nearest

Edges = dict[str, set[str]]
"""The predecessors of each builder."""


def order_builders(specs: Mapping[str, BuilderSpec], table_name: str) -> tuple[BuilderSpec, ...]:
    """Return the builders in topological order.

    The IndexBuilder comes first, and builders that read the whole of `self` come after all others. Ties are broken by
    name.

    Raises
    ------
    TVBuilderError
        If the IndexBuilder is missing, duplicated or in the wrong file, two builders produce the same column, a builder
        reads a column without a producer, or dependencies form a cycle. The message gives file, line, field and remedy.
    """
    index = _index_builder(specs, table_name)
    others = {name: specs[name] for name in sorted(specs) if not specs[name].is_index}
    reads = {name: spec.reads for name, spec in specs.items()}
    producers = _producers(index, others)
    _check_index_reads(index, reads[index.name])
    for name, spec in others.items():
        _check_reads(spec, reads[name], index, producers)
    late = {name for name in others if reads[name].reads_whole_self}
    edges = {name: _predecessors(others[name], reads[name], producers, set(others) - late) for name in others}
    return (index, *(others[name] for name in _sorted(others, edges, late)))


def _index_builder(specs: Mapping[str, BuilderSpec], table_name: str) -> BuilderSpec:
    expected = index_builder_name(table_name)
    for name in sorted(specs):
        spec = specs[name]
        if spec.is_index and name != expected:
            raise spec.error(
                ("builder_type",),
                f"a table has exactly one IndexBuilder, in {expected}.yaml; make this a ColumnBuilder or remove it.",
            )
    if expected not in specs:
        raise TVBuilderError(
            f"Table {table_name!r} has no {expected}.yaml, which must hold its IndexBuilder; "
            f"create it with create_builder_file({table_name!r})."
        )
    index = specs[expected]
    if not index.is_index:
        raise index.error(("builder_type",), f"{expected}.yaml must hold the table's IndexBuilder; write IndexBuilder.")
    return index


def _producers(index: BuilderSpec, others: Mapping[str, BuilderSpec]) -> dict[str, BuilderSpec]:
    """Return the last producer of each column; one ColumnBuilder may overwrite a column of the IndexBuilder."""
    producers = dict.fromkeys(index.changed_columns, index)
    for spec in others.values():
        for position, column in enumerate(spec.changed_columns):
            other = producers.get(column)
            if other is not None and not other.is_index:
                raise spec.error(
                    ("changed_columns", position),
                    f"column {column!r} is produced by {other.file} already (line {_line_of(other, column)}); "
                    "produce it in one of them only.",
                )
            producers[column] = spec
    return producers


def _line_of(spec: BuilderSpec, column: str) -> int:
    return spec.document.line("changed_columns", spec.changed_columns.index(column))


def _check_index_reads(index: BuilderSpec, reads: BuilderReads) -> None:
    """Check an IndexBuilder's references to `self`; in a row-wise one, `self` is the origin, unknown here."""
    if index.for_each is not None and (reads.own_columns or reads.reads_whole_self):
        raise index.error(
            next(iter(reads.own_columns.values()), ("arguments",)),
            f"self cannot be read here: the rows come from {index.for_each.table}; write "
            f"<<{index.for_each.table}.COLUMN[index]>> for a cell of the input row",
        )
    if index.runs_by_row:
        return
    for column in sorted(reads.own_columns):
        if column not in index.changed_columns:
            raise index.error(
                reads.own_columns[column],
                f"self.{column} cannot be read here: the IndexBuilder runs first, and column {column!r} is not one of "
                f"its changed_columns{nearest(column, index.changed_columns)}",
            )
        if index.return_type == "dataframe":
            raise index.error(
                reads.own_columns[column],
                f"column {column!r} is read by the builder that produces it; remove the reference.",
            )


def _check_reads(
    spec: BuilderSpec, reads: BuilderReads, index: BuilderSpec, producers: Mapping[str, BuilderSpec]
) -> None:
    for column in sorted(reads.own_columns):
        if column not in producers:
            raise spec.error(
                reads.own_columns[column], f"no builder produces the column self.{column}{nearest(column, producers)}"
            )
        # A generator reads the existing rows, an overwriting builder the IndexBuilder's values.
        sees_earlier_values = spec.return_type == "generator" or column in index.changed_columns
        if producers[column] is spec and not sees_earlier_values:
            raise spec.error(
                reads.own_columns[column],
                f"column {column!r} is read by the builder that produces it; only a generator can do that.",
            )


def _predecessors(
    spec: BuilderSpec, reads: BuilderReads, producers: Mapping[str, BuilderSpec], early: Iterable[str]
) -> set[str]:
    before = {producers[column].name for column in reads.own_columns if not producers[column].is_index}
    if reads.reads_whole_self:
        before |= set(early)
    return before - {spec.name}


def _sorted(specs: Mapping[str, BuilderSpec], edges: Edges, late: set[str]) -> list[str]:
    """Return the names in topological order, with late builders last and ties broken by name."""
    waiting = {name: set(before) for name, before in edges.items()}
    ready = [(name in late, name) for name, before in waiting.items() if not before]
    heapq.heapify(ready)
    ordered: list[str] = []
    while ready:
        _, done = heapq.heappop(ready)
        ordered.append(done)
        for name, before in waiting.items():
            if done in before:
                before.remove(done)
                if not before:
                    heapq.heappush(ready, (name in late, name))
    if len(ordered) < len(waiting):
        raise _cycle_error(specs, {name: before for name, before in waiting.items() if before}, late)
    return ordered


def _cycle_error(specs: Mapping[str, BuilderSpec], waiting: Edges, late: set[str]) -> TVBuilderError:
    path = [min(waiting)]
    while path[-1] not in path[:-1]:
        path.append(min(name for name in waiting[path[-1]] if name in waiting))
    cycle = path[path.index(path[-1]) :]
    remedy = "remove one of these references"
    if late.intersection(cycle):
        remedy = "name the columns it reads instead of a bare <<self>>, which waits for all others"
    shown = " reads from ".join(cycle)
    return specs[cycle[0]].error(("arguments",), f"circular dependency: {shown}; {remedy}.")
