"""Calling a builder's function: its arguments resolved for each row, and what they count for in fingerprints."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import cast

import xxhash

from tablevault.builders.spec import BuilderSpec
from tablevault.errors import TVBuilderError
from tablevault.references import Compiled, Evaluator, Placement, are_immutable
from tablevault.storage.fingerprints import Fingerprints
from tablevault.storage.packing import canonical, canonical_rows

_PLACEHOLDER = re.compile(r"~(ARTIFACT_FOLDER|PROCESS_ID|ENV:([^~\s]+))~")


@dataclass(frozen=True)
class Calls:
    """The calls of a function for some rows, ready to be made."""

    positions: Sequence[int]
    arguments: tuple[Iterable[object], ...]
    """For each parameter its values, one per row."""
    fingerprints: Fingerprints


@dataclass(frozen=True)
class Views:
    """The two ways in which one execution sees the same data."""

    paths: Evaluator
    """As functions get it: artifacts by their paths."""
    contents: Evaluator
    """As fingerprints count it: artifacts by their contents."""
    have_artifacts: bool
    """Whether the two can differ."""
    artifact_folder: str
    process_id: str


class FunctionCall:
    """The arguments of one builder, compiled once.

    Parameters
    ----------
    spec
        The builder.
    views
        Where its references find frames.
    """

    def __init__(self, spec: BuilderSpec, views: Views) -> None:
        self._spec = spec
        self._views = views
        placement = Placement.ROW_ARGUMENT if spec.is_row_wise else Placement.ARGUMENT
        self._compiled = {
            name: views.paths.compile(value, placement=placement, literal=self._fill_in)
            for name, value in spec.arguments.items()
        }
        self._evaluators = tuple((name, item.evaluate) for name, item in self._compiled.items())
        tracked = sorted(set(spec.arguments) - set(spec.untracked))
        counted = {name: self._counted(name, placement) for name in tracked}
        self._counted_constants = {name: item for name, item in counted.items() if item.is_constant}
        self._counted_rows = tuple(
            (name, None if item is self._compiled[name] else item.evaluate)
            for name, item in counted.items()
            if not item.is_constant
        )
        self._seed: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that get an argument, in the order of `Calls.arguments`."""
        return tuple(self._compiled)

    def arguments(self, row: int | None) -> dict[str, object]:
        """Return the arguments for a row; the caller owns them."""
        return {name: evaluate(row) for name, evaluate in self._evaluators}

    def fingerprint(self, row: int | None, arguments: Mapping[str, object]) -> bytes:
        """Return 16 bytes that differ whenever the arguments of a row count as different.

        Parameters
        ----------
        row
            The row's position; `None` for functions that are called once.
        arguments
            What `arguments` returned for it, before a function could change them.
        """
        values = [arguments[name] if evaluate is None else evaluate(row) for name, evaluate in self._counted_rows]
        return bytes(xxhash.xxh3_128_digest(canonical(values), self._constants_seed(row)))

    def calls(self, positions: Sequence[int]) -> Calls:
        """Return the calls for rows, or for as many of the first of them as can be prepared together.

        What a function could change, and what may be large, is prepared for a single row at a time. Raises what the
        evaluation of the first row's arguments raises.
        """
        evaluated = self._evaluated_together(positions) if len(positions) > 1 else None
        if evaluated is None:
            positions = positions[:1]
            arguments = self.arguments(positions[0])
            evaluated = {name: [value] for name, value in arguments.items()}
        counted = [
            cast("list[object]", evaluated[name]) if evaluate is None else list(map(evaluate, positions))
            for name, evaluate in self._counted_rows
        ]
        seed = self._constants_seed(positions[0])
        if counted:
            encoded = canonical_rows(counted)
            content = b"".join(map(xxhash.xxh3_128_digest, encoded, repeat(seed)))
        else:
            content = xxhash.xxh3_128_digest(canonical([]), seed) * len(positions)
        return Calls(positions, tuple(evaluated.values()), Fingerprints(content))

    def _evaluated_together(self, positions: Sequence[int]) -> dict[str, Iterable[object]] | None:
        """Return the values of each argument: a list of those that differ from row to row.

        `None` if that is an error, which then is the first row's or that of a row to come, or not safe.
        """
        evaluated: dict[str, Iterable[object]] = {}
        try:
            for name, item in self._compiled.items():
                evaluated[name] = _constant(item, positions) if item.is_constant else item.evaluate_rows(positions)
        except Exception:  # noqa: BLE001  (it is raised again when the calls of its row are prepared)
            return None
        changing = [values for values in evaluated.values() if isinstance(values, list)]
        return evaluated if all(map(are_immutable, changing)) else None

    def _constants_seed(self, row: int | None) -> int:
        """Return what stands for all arguments that are the same for every row."""
        if self._seed is None:
            constants = [[name, item.evaluate(row)] for name, item in self._counted_constants.items()]
            names = [name for name, _ in self._counted_rows]
            self._seed = xxhash.xxh3_64_intdigest(canonical([constants, names]))
        return self._seed

    def _counted(self, name: str, placement: Placement) -> Compiled:
        """Return what an argument counts for: the argument itself, unless paths or placeholders stand in it."""
        value = self._spec.arguments[name]
        if not self._views.have_artifacts and not _has_placeholder(value):
            return self._compiled[name]
        return self._views.contents.compile(value, placement=placement)

    def _fill_in(self, text: str) -> str:
        return _PLACEHOLDER.sub(self._placeholder_value, text)

    def _placeholder_value(self, match: re.Match[str]) -> str:
        if match[1] == "ARTIFACT_FOLDER":
            return self._views.artifact_folder
        if match[1] == "PROCESS_ID":
            return self._views.process_id
        value = os.environ.get(match[2])
        if value is None:
            raise TVBuilderError(
                f"Builder '{self._spec.name}' ({self._spec.file}) reads the environment variable {match[2]}, "
                "which is not set; set it and run again."
            )
        return value


def _constant(item: Compiled, positions: Sequence[int]) -> Iterable[object]:
    """Return the value of every row: for each call a copy of its own of what it could change."""
    value = item.evaluate(positions[0])
    return repeat(value, len(positions)) if are_immutable([value]) else map(item.evaluate, positions)


def _has_placeholder(value: object) -> bool:
    if isinstance(value, str):
        return _PLACEHOLDER.search(value) is not None
    if isinstance(value, Mapping):
        return any(map(_has_placeholder, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_placeholder, value))
