"""Compilation of builder values, which are then evaluated for every row."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tablevault.ports import FrameSource
from tablevault.references.analysis import Placement, check_placement
from tablevault.references.compiled import Compiled, Evaluate, once
from tablevault.references.lookup import Lookups
from tablevault.references.parser import Reference, parse
from tablevault.references.resolve import Resolver
from tablevault.texts.json_forms import text_of


class Evaluator:
    """Compiles builder values against the frames of one source, sharing their indexes.

    Parameters
    ----------
    source
        Source of the referenced frames. It is queried on every compilation, so that values compiled later see
        the current state of the instance being built.
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._lookups: dict[tuple[str, str | None], Lookups] = {}

    def compile(
        self, value: object, *, placement: Placement, literal: Callable[[str], str] = lambda text: text
    ) -> Compiled:
        """Compile a builder value.

        Parameters
        ----------
        value
            A string, a scalar, or lists and dicts of values, as written in the builder.
        placement
            Place of the value in the builder.
        literal
            Applied once to each piece of literal text, never to results of references.

        Raises
        ------
        TableReferenceError
            If a reference is malformed, is meaningless at its place, or names a table or column that does not exist.
            Errors that depend on inner references are raised on evaluation.
        """
        check_placement(value, where=placement)
        resolver = Resolver(self._find_lookups, frames_are_cells=placement is Placement.FIELD)
        return _ValueCompiler(resolver, literal).compile(value)

    def _find_lookups(self, table: str, instance: str | None) -> Lookups:
        frame = self._source.frame(table, instance)
        lookups = self._lookups.get((table, instance))
        if lookups is None or lookups.frame is not frame:
            lookups = self._lookups[table, instance] = Lookups(frame)
        return lookups


class _ValueCompiler:
    def __init__(self, resolver: Resolver, literal: Callable[[str], str]) -> None:
        self._resolver = resolver
        self._literal = literal

    def compile(self, value: object) -> Compiled:
        if isinstance(value, str):
            return self._string(value)
        if isinstance(value, dict):
            return self._dict(value)
        if isinstance(value, list | tuple):
            return self._sequence(value)
        return once(lambda: value)

    def _string(self, text: str) -> Compiled:
        parts = [
            self._resolver.resolve(part) if isinstance(part, Reference) else self._text(part)
            for part in parse(text).parts or ("",)
        ]
        if len(parts) == 1:
            return parts[0]
        pieces = [part.evaluate for part in parts]
        return _joined(parts, lambda row: "".join([text_of(piece(row)) for piece in pieces]))

    def _text(self, text: str) -> Compiled:
        written = self._literal(text)
        return Compiled(lambda _: written, is_constant=True)

    def _dict(self, value: dict[object, object]) -> Compiled:
        compiled = {key: self.compile(item) for key, item in value.items()}
        pairs = [(key, item.evaluate) for key, item in compiled.items()]
        return _joined(compiled.values(), lambda row: {key: evaluate(row) for key, evaluate in pairs})

    def _sequence(self, value: list[object] | tuple[object, ...]) -> Compiled:
        compiled = [self.compile(item) for item in value]
        items = [item.evaluate for item in compiled]
        if isinstance(value, tuple):
            return _joined(compiled, lambda row: tuple([evaluate(row) for evaluate in items]))
        return _joined(compiled, lambda row: [evaluate(row) for evaluate in items])


def _joined(parts: Iterable[Compiled], evaluate: Evaluate) -> Compiled:
    """Return a value composed of others, constant if all of them are."""
    if all(part.is_constant for part in parts):
        return once(lambda: evaluate(None))
    return Compiled(evaluate, is_constant=False)
