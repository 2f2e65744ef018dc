"""Calling a builder's function: its arguments resolved for each row, and what they count for in fingerprints."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import xxhash

from tablevault.builders.spec import BuilderSpec
from tablevault.errors import TVBuilderError
from tablevault.references import Compiled, Evaluator, Placement
from tablevault.storage.packing import canonical

_PLACEHOLDER = re.compile(r"~(ARTIFACT_FOLDER|PROCESS_ID|ENV:([^~\s]+))~")


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
        self._prefix: bytes | None = None

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
        if self._prefix is None:
            constants = [[name, item.evaluate(row)] for name, item in self._counted_constants.items()]
            self._prefix = canonical(constants)
        values = [arguments[name] if evaluate is None else evaluate(row) for name, evaluate in self._counted_rows]
        return bytes(xxhash.xxh3_128_digest(self._prefix + canonical(values)))

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


def _has_placeholder(value: object) -> bool:
    if isinstance(value, str):
        return _PLACEHOLDER.search(value) is not None
    if isinstance(value, Mapping):
        return any(map(_has_placeholder, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_placeholder, value))
