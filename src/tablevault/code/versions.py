"""Code versions, which are equal if all code that a function reaches is unchanged."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tablevault.builders.spec import BuilderSpec
from tablevault.code.loading import built_in_sources
from tablevault.code.local_code import LocalCode, Reached
from tablevault.code.syntax import EVERYTHING, WHOLE, Reading, Statement, Use, behind, split_module
from tablevault.errors import TVBuilderError
from tablevault.names import nearest
from tablevault.storage.column_types import reused_name
from tablevault.texts.json_forms import json_form

MODULE_LEVEL = "module level"
"""Part name for the statements of a module that do more than bind names."""


SOURCE_TEXT = "source text"
"""Part name for a module's whole source, comments included, if code reads it."""


WHOLE_FILE = "whole file"
"""Part name for a local module outside the vault."""


@dataclass(frozen=True)
class _Reached:
    """All code that a function reaches."""

    parts: tuple[tuple[str, tuple[str, ...], str], ...]
    """Parts, as (module, names, digest)."""
    packages: tuple[str, ...]
    """Top-level names of installed packages."""


class CodeIndex:
    """A snapshot of a vault's code modules, with the code that each function reaches.

    A function reaches the definitions that its code names, transitively across the vault's modules, or a whole module
    if its uses are indeterminate. Comments and layout are ignored; docstrings count if code can read them.

    Parameters
    ----------
    sources
        Source of each module, by name. Unreached modules may have errors.
    local
        The local modules outside the vault that the modules import.
    """

    def __init__(self, sources: Mapping[str, str], local: LocalCode | None = None) -> None:
        self._sources = dict(sources)
        self._local = local or LocalCode()
        self._statements: dict[str, tuple[Statement, ...]] = {}
        self._reached: dict[Use, _Reached] = {}

    @classmethod
    def of_built_ins(cls) -> CodeIndex:
        """Return the index of the built-in modules."""
        return cls(built_in_sources())

    def version(self, module: str, function: str) -> str:
        """Return the digest of all code that a function reaches.

        Raises
        ------
        TVBuilderError
            If the module does not exist, or a reached module has a syntax error.
        """
        reached = self._reach((module, function))
        return _digest([[owner, digest] for owner, _, digest in reached.parts])

    def reaches(self, module: str, function: str) -> dict[str, tuple[str, ...]]:
        """Return the sorted names that a function reaches, by module.

        Raises
        ------
        TVBuilderError
            If the module does not exist, or a reached module has a syntax error.
        """
        names: dict[str, set[str]] = defaultdict(set)
        for owner, name in self.parts(module, function):
            names[owner].add(name)
        return {owner: tuple(sorted(names[owner])) for owner in sorted(names)}

    def parts(self, module: str, function: str) -> dict[tuple[str, str], str]:
        """Return the digest of each name that a function reaches, by module and name.

        Raises
        ------
        TVBuilderError
            If the module does not exist, or a reached module has a syntax error.
        """
        digests: dict[tuple[str, str], list[str]] = defaultdict(list)
        for owner, names, digest in self._reach((module, function)).parts:
            for name in names:
                digests[owner, name].append(digest)
        return {key: _digest(found) for key, found in digests.items()}

    def _reach(self, start: Use) -> _Reached:
        if start not in self._reached:
            if start[0] not in self._sources:
                raise TVBuilderError(f"there is no code module {start[0]!r}{nearest(start[0], self._sources)}")
            reach = _Reach(self, start)
            statements = sorted(reach.statements(), key=_place)
            outside = self._local.reached(name for item in reach.importing() for name in item.outside)
            self._reached[start] = self._read(statements, outside)
        return self._reached[start]

    def packages(self, module: str, function: str) -> tuple[str, ...]:
        """Return the sorted top-level names of installed packages that a function reaches."""
        return self._reach((module, function)).packages

    def _read(self, statements: Sequence[Statement], outside: Reached) -> _Reached:
        """Return the versioned parts of statements, including the docstrings and sources that they read."""
        mentions = set[str]().union(*(statement.mentions for statement in statements))
        mentions.update(name for statement in statements for other, name in statement.renames if other in mentions)
        reads = frozenset[Reading]().union(*(statement.reads for statement in statements))
        parts = [
            (
                statement.module,
                tuple(sorted(statement.binds)) if statement.binds and not statement.always else (MODULE_LEVEL,),
                statement.version(mentions, reads),
            )
            for statement in statements
        ]
        modules = sorted({statement.module for statement in statements})
        if Reading.DOCSTRINGS in reads:
            described = (item for module in modules for item in self.statements(module)[:1])
            parts += [
                (item.module, ("__doc__",), item.digest)
                for item in described
                if "__doc__" in item.binds and item not in statements
            ]
        if Reading.SOURCE in reads:
            parts += [(module, (SOURCE_TEXT,), _digest(self._sources[module])) for module in modules]
        parts += [(item.name.replace(".", "/"), (WHOLE_FILE,), item.digest) for item in outside.modules]
        return _Reached(tuple(parts), outside.packages)

    def statements(self, module: str) -> tuple[Statement, ...]:
        """Return the statements of a module."""
        if module not in self._statements:
            self._statements[module] = split_module(module, self._sources[module], self._sources)
        return self._statements[module]

    @property
    def modules(self) -> frozenset[str]:
        """Names of all modules."""
        return frozenset(self._sources)


class _Reach:
    """Computes the transitive closure of a function's used names and of code run on import."""

    def __init__(self, index: CodeIndex, start: Use) -> None:
        self._index = index
        self._start = start
        self._executed: set[str] = set()
        self._included: set[Statement] = set()
        self._seen: set[Use] = set()
        self._touches: dict[Statement, frozenset[Statement]] = {}
        self._changes: dict[Statement, frozenset[Statement]] = {}

    def statements(self) -> set[Statement]:
        module, function = self._start
        known = any(function in statement.binds for statement in self._index.statements(module))
        self._follow([(module, function if known else WHOLE)])
        while missed := self._touching():
            self._include(missed)
        return self._included

    def importing(self) -> set[Statement]:
        """Return the statements with relevant imports; call after `statements`.

        Unused imports are included, since a module may be imported for its side effects.
        """
        everything = [item for module in self._executed for item in self._index.statements(module)]
        uses = ((module, path.partition(".")[0], item) for item in everything for module, path in item.uses)
        used = {(module, name) for module, name, item in uses if name not in item.binds}
        unused = (
            item
            for item in everything
            if item.outside and item.binds and not any((item.module, name) in used for name in item.binds)
        )
        return self._included.union(unused)

    def _follow(self, uses: Iterable[Use]) -> None:
        waiting = list(uses)
        while waiting:
            use = waiting.pop()
            if use in self._seen:
                continue
            self._seen.add(use)
            statements = self._statements_of(use)
            waiting.extend(_behind(use, statements))
            for statement in statements:
                waiting.extend(self._add(statement))

    def _include(self, statements: Iterable[Statement]) -> None:
        for statement in statements:
            self._follow(self._add(statement))

    def _add(self, statement: Statement) -> list[Use]:
        """Include a statement; return the names to follow next."""
        if statement in self._included:
            return []
        self._included.add(statement)
        modules = (statement.module, *statement.later_imports)
        return [*statement.uses, *(use for module in modules for use in self._execute(module))]

    def _execute(self, module: str) -> list[Use]:
        """Include the code that runs when a module is imported; return the names to follow next."""
        waiting, uses = [module], list[Use]()
        while waiting:
            current = waiting.pop()
            if current in self._executed:
                continue
            self._executed.add(current)
            for statement in self._index.statements(current):
                waiting.extend(statement.imports)
                if statement.always and statement not in self._included:
                    self._included.add(statement)
                    uses.extend(statement.uses)
        return uses

    def _statements_of(self, use: Use) -> list[Statement]:
        if use == EVERYTHING:
            return [statement for module in sorted(self._index.modules) for statement in self._index.statements(module)]
        module, path = use
        name = path.partition(".")[0]
        statements = self._index.statements(module)
        if name == WHOLE:
            return list(statements)
        found = [statement for statement in statements if name in statement.binds]
        # An unbound name may come from the module's __getattr__; star imports are always included as a whole.
        return found or [statement for statement in statements if "__getattr__" in statement.binds]

    def _touching(self) -> list[Statement]:
        """Return the unreached statements that run on import and may change reached objects."""
        return [
            statement
            for module in sorted(self._executed)
            for statement in self._index.statements(module)
            if statement not in self._included
            and statement.runs
            and not self._included.isdisjoint(self._changed(statement))
        ]

    def _changed(self, statement: Statement) -> frozenset[Statement]:
        """Return the statements whose objects a statement may change on import, directly or through functions."""
        if statement not in self._changes:
            touched = self._touched(statement)
            effects = [statement.effects, *(item.later_effects for item in touched)]
            found = {item for item in touched if item.changeable}
            found |= self._named(use for item in effects for use in item.written)
            if any(item.of_arguments for item in effects):
                found |= self._named(use for item in effects for use in item.passed)
            self._changes[statement] = frozenset(found)
        return self._changes[statement]

    def _named(self, uses: Iterable[Use]) -> set[Statement]:
        """Return the statements that bind the objects of uses, also under other names."""
        waiting, seen, found = list(uses), set[Use](), set[Statement]()
        while waiting:
            use = waiting.pop()
            if use in seen:
                continue
            seen.add(use)
            statements = self._statements_of(use)
            further = _behind(use, statements) if use[1] != WHOLE else []
            waiting.extend(further)
            if not further:
                found.update(statements)
                if use[1] != WHOLE:
                    waiting.extend(inner for item in statements if item.is_assignment for inner in item.uses)
        return found

    def _touched(self, statement: Statement) -> frozenset[Statement]:
        """Return the statements whose names a statement uses on import, directly or through functions."""
        if statement not in self._touches:
            seen: set[Use] = set()
            found: set[Statement] = set()
            waiting = list(statement.runs)
            while waiting:
                use = waiting.pop()
                if use not in seen:
                    seen.add(use)
                    statements = self._statements_of(use)
                    waiting.extend(_behind(use, statements))
                    new = set(statements) - found
                    found |= new
                    waiting.extend(inner for reached in new for inner in reached.uses)
            self._touches[statement] = frozenset(found)
        return self._touches[statement]


def _behind(use: Use, statements: Iterable[Statement]) -> list[Use]:
    """Return the uses in other modules, which a use reaches through imports in the module that it names."""
    name, _, rest = use[1].partition(".")
    if name == WHOLE:
        return [behind(origin, WHOLE) for statement in statements for _, origin in statement.origins]
    if not rest:
        return []
    return [behind(origin, rest) for statement in statements for bound, origin in statement.origins if bound == name]


def describe_changes(before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str]) -> tuple[str, ...]:
    """Describe the differences between two versions of a function's code, one clause per module.

    Parameters
    ----------
    before, after
        The results of `CodeIndex.parts`.

    Examples
    --------
    >>> describe_changes({("prompts", "ask"): "1"}, {("prompts", "ask"): "2"})
    ("code of 'prompts.py' changed: ask",)
    """
    changed: dict[str, list[str]] = defaultdict(list)
    for module, name in sorted(before.keys() | after.keys()):
        if before.get((module, name)) != after.get((module, name)):
            changed[module].append(name)
    return tuple(
        f"local module '{module.replace('/', '.')}' changed"
        if names == [WHOLE_FILE]
        else f"code of '{module}.py' changed: {', '.join(names)}"
        for module, names in changed.items()
    )


def builder_version(spec: BuilderSpec, code_version: str, validator_version: str = "") -> str:
    """Return the digest that decides on reuse of cells, except for argument values.

    Parameters
    ----------
    spec
        The builder.
    code_version, validator_version
        The results of `CodeIndex.version` for the function and the validator; empty without a validator.
    """
    counted: list[object] = [
        [spec.kind, spec.code_module, spec.python_function, spec.is_custom, spec.return_type, code_version],
        list(spec.changed_columns),
        sorted([column, reused_name(column_type)] for column, column_type in spec.dtypes.items()),
    ]
    if spec.validator is not None or spec.setup_arguments is not None:
        counted.append([spec.validator, validator_version, json_form(spec.setup_arguments)])
    if spec.for_each is not None:
        counted.append("for_each")
    return _digest(counted)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _place(statement: Statement) -> tuple[str, bool, object]:
    order: object = (sorted(statement.binds), statement.digest) if statement.movable else statement.position
    return statement.module, not statement.movable, order
