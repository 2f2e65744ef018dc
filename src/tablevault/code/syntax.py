"""Analysis of code modules, statement by statement.

For each statement, the analysis gives the names that it binds and uses, and the code that it runs on import. Statements
are compared by their syntax trees, and thus without comments and layout; docstrings count only if code can read them.
"""

from __future__ import annotations

import ast
import enum
import functools
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tablevault.code.effects import dotted, effects_at_import, walk_at_import, writes_of
from tablevault.code.local_code import imported_names
from tablevault.code.parsing import parse_module
from tablevault.code.scopes import global_names
from tablevault.code.syntax_text import docstring, names_used_as_values, syntax_text, without_docstring
from tablevault.code.text_annotations import annotations_in_text

WHOLE = "*"
"""The name in a `Use` of a whole module."""
EVERYTHING = ("*", "*")
"""The `Use` of all modules, for code with indeterminate uses."""

Use = tuple[str, str]
"""A used name, as (module, path).

A path is a name or, for names in modules that a module imports, several with dots. A path that ends with `.*` uses the
module that it leads to as a whole; without, an import is only bound.
"""

_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITION = (*_FUNCTION, ast.ClassDef)
_TYPE_ALIAS: tuple[type, ...] = (ast.TypeAlias,) if hasattr(ast, "TypeAlias") else ()

_READS_ITS_MODULE = frozenset({"globals", "vars", "locals"})
_READS_ANY_MODULE = frozenset({"exec", "eval", "__import__"})
_IMPORTS_ANY_MODULE = frozenset({"importlib", "runpy", "pkgutil"})
_REVEALS_ITS_MODULE = frozenset({"__globals__", "f_globals"})
_REVEALS_ANY_MODULE = frozenset({"__subclasses__"})
_READS_DOCSTRINGS = frozenset({"__doc__", "getdoc", "inspect", "pydoc"})
_READS_SOURCE = frozenset({"getsource", "getsourcelines", "getcomments", "findsource", "getblock"})
_UNCHANGING_CALLS = frozenset(
    {"getLogger", "compile", "frozenset", "Path", "TypeVar", "NewType", "namedtuple", "field", "Field"}
)
_UNCHANGING_NODES = (ast.Constant, ast.Tuple, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.expr_context)


@dataclass(frozen=True)
class Effects:
    """Effects of code on classes, functions, constants and modules."""

    written: frozenset[Use]
    """Names that it binds elsewhere, and objects of which it sets attributes."""
    passed: frozenset[Use]
    """Objects that it passes on."""
    of_arguments: bool
    """Whether it sets attributes of objects that it is given."""


NO_EFFECTS = Effects(frozenset(), frozenset(), False)


class Reading(enum.Enum):
    """Parts of other code that code can read."""

    DOCSTRINGS = "docstrings"
    SOURCE = "source text"


@dataclass(frozen=True, eq=False)
class Statement:
    """A top-level statement of a code module, or one name of an import statement."""

    module: str
    """The containing module."""
    position: int
    """Index among the module's statements."""
    binds: frozenset[str]
    """Bound names."""
    uses: frozenset[Use]
    """Names used by the code, on import or later."""
    runs: frozenset[Use]
    """Names used on import in a way that could mutate their objects."""
    effects: Effects
    """Its effects on other objects, on import."""
    later_effects: Effects
    """Its effects on other objects, on import or when what it defines is called."""
    imports: frozenset[str]
    """Vault modules imported together with the module."""
    later_imports: frozenset[str]
    """Vault modules imported by its functions."""
    outside: frozenset[str]
    """Fully qualified names of possible imports from outside the vault."""
    always: bool
    """Whether it does more than bind names, and so belongs to every use of the module."""
    changeable: bool
    """Whether code that uses its names can mutate the bound object later."""
    movable: bool
    """Whether its position in the module is irrelevant."""
    mentions: frozenset[str]
    """Names and attributes used other than by a call; code that receives them can read their docstrings."""
    is_assignment: bool
    """Whether its names may be other names of the objects that it uses."""
    renames: tuple[tuple[str, str], ...]
    """Import aliases, as (alias, original name)."""
    origins: frozenset[tuple[str, Use]]
    """Names that it imports from the vault, each with its origin; a path of "" is the module itself."""
    functions: frozenset[str]
    """Names of the functions and methods defined in it."""
    reads: frozenset[Reading]
    """Parts of code that it reads in addition to running it."""
    digest: str
    """Digest of its syntax tree, with the docstrings that are readable wherever it is used."""
    documented_digest: str
    """Digest of its syntax tree with all docstrings."""

    def version(self, mentions: Collection[str], reads: Collection[Reading]) -> str:
        """Return the digest for a context with these mentions and readings."""
        is_read = Reading.DOCSTRINGS in reads or not self.functions.isdisjoint(mentions)
        return self.documented_digest if is_read else self.digest


def split_module(name: str, source: str, modules: Iterable[str]) -> tuple[Statement, ...]:
    """Split a module into statements.

    Parameters
    ----------
    name
        The module's name.
    source
        The module's source.
    modules
        Names of all vault modules; other imports are external and not followed.

    Raises
    ------
    TVBuilderError
        If the module has a syntax error. The message gives file and line.
    """
    return _split(name, source, frozenset(modules))


@functools.lru_cache(maxsize=128)
def _split(name: str, source: str, modules: frozenset[str]) -> tuple[Statement, ...]:
    # Cached: every execution splits the same sources again.
    return _Splitter(name, parse_module(source, f"{name}.py"), modules).split()


class _Splitter:
    def __init__(self, module: str, tree: ast.Module, modules: frozenset[str]) -> None:
        self._module = module
        self._modules = modules
        self._docstring = docstring(tree.body)
        self._body = [part for node in without_docstring(tree.body) for part in _parts(node)]
        self._imports = {origin for part in walk_at_import(self._body) for origin in self._origins(part)}
        self._bindings = Counter(name for node in self._body for name in set(_names_bound(node)))

    def split(self) -> tuple[Statement, ...]:
        statements = (self._statement(position, node) for position, node in enumerate(self._body))
        return (*self._docstring_statement(), *statements)

    def _docstring_statement(self) -> Iterator[Statement]:
        """Yield the module's docstring as a statement that binds `__doc__`."""
        if self._docstring is not None:
            digest = _digest(self._docstring)
            yield Statement(
                module=self._module,
                position=-1,
                binds=frozenset({"__doc__"}),
                uses=frozenset(),
                runs=frozenset(),
                effects=NO_EFFECTS,
                later_effects=NO_EFFECTS,
                imports=frozenset(),
                later_imports=frozenset(),
                outside=frozenset(),
                always=False,
                changeable=False,
                movable=False,
                mentions=frozenset(),
                is_assignment=False,
                renames=(),
                origins=frozenset(),
                functions=frozenset(),
                reads=frozenset(),
                digest=digest,
                documented_digest=digest,
            )

    def _statement(self, position: int, node: ast.stmt) -> Statement:
        names, effects = frozenset(_names_bound(node)), effects_at_import(node)
        uses, runs = frozenset(self._uses([node])), frozenset(self._uses(effects))
        return Statement(
            module=self._module,
            position=position,
            binds=names,
            uses=uses,
            runs=runs,
            effects=self._effects(effects, runs),
            later_effects=self._effects([node], uses),
            imports=frozenset(self._imported(walk_at_import([node]))),
            later_imports=frozenset(self._imported(ast.walk(node))),
            outside=frozenset(name for name in imported_names(node, "") if name.partition(".")[0] not in self._modules),
            always=_is_always(node),
            changeable=_is_changeable(node),
            movable=_is_movable(node) and all(self._bindings[name] == 1 for name in names),
            mentions=frozenset(names_used_as_values(node)),
            is_assignment=isinstance(node, ast.Assign | ast.AnnAssign),
            renames=tuple(_renames(node)),
            origins=frozenset(origin for part in walk_at_import([node]) for origin in self._origins(part)),
            functions=frozenset(part.name for part in ast.walk(node) if isinstance(part, _FUNCTION)),
            reads=frozenset(_readings(node)),
            digest=_digest(syntax_text(node)),
            documented_digest=_digest(syntax_text(node, all_docstrings=True)),
        )

    def _origins(self, node: ast.AST) -> Iterator[tuple[str, Use]]:
        """Yield the names that an import binds to modules of the vault, or to names in them, with their origins."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                head = alias.name.partition(".")[0]
                if head in self._modules:
                    yield alias.asname or head, (head, "")
        elif isinstance(node, ast.ImportFrom) and node.level == 1 and node.module is None:
            for alias in node.names:
                if alias.name in self._modules:
                    yield alias.asname or alias.name, (alias.name, "")
        elif isinstance(node, ast.ImportFrom) and (source := self._source_of(node)) is not None:
            yield from ((alias.asname or alias.name, (source, alias.name)) for alias in node.names if alias.name != "*")

    def _source_of(self, node: ast.ImportFrom) -> str | None:
        """Return the vault module of a `from … import`, or `None`."""
        return node.module if node.level <= 1 and node.module in self._modules else None

    def _uses(self, nodes: Iterable[ast.AST]) -> Iterator[Use]:
        nodes = list(nodes)
        nodes.extend(annotations_in_text(nodes))
        inner = [part for node in nodes for part in ast.walk(node)]
        names = global_names(nodes)
        yield from self._uses_of_imports(inner)
        yield from self._uses_of_kept_imports(inner)
        imported = defaultdict[str, set[Use]](set)
        for name, origin in (
            *(item for item in self._imports if item[0] in names),
            *(item for part in inner for item in self._origins(part)),
        ):
            imported[name].add(origin)
        yield from self._uses_of_attributes(inner, imported)
        for name in names:
            if name in _READS_ANY_MODULE:
                yield EVERYTHING
            if name in _READS_ITS_MODULE:
                yield self._module, WHOLE
            yield self._module, name

    def _uses_of_imports(self, nodes: Iterable[ast.AST]) -> Iterator[Use]:
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and (source := self._source_of(node)) is not None:
                yield from ((source, alias.name) for alias in node.names)
            elif isinstance(node, ast.Import | ast.ImportFrom) and _imports_any_module(node):
                yield EVERYTHING

    def _uses_of_kept_imports(self, nodes: Iterable[ast.AST]) -> Iterator[Use]:
        """Yield what is imported into a class, or into the module by a function: any code may use it from there."""
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                kept = [origin for part in walk_at_import(node.body) for _, origin in self._origins(part)]
            elif isinstance(node, _FUNCTION):
                parts = list(ast.walk(node))
                names = {name for part in parts if isinstance(part, ast.Global) for name in part.names}
                kept = [origin for part in parts for name, origin in self._origins(part) if name in names]
            else:
                continue
            yield from (behind(origin, WHOLE) for origin in kept)

    def _uses_of_attributes(self, nodes: Iterable[ast.AST], imported: Mapping[str, Collection[Use]]) -> Iterator[Use]:
        """Yield the uses in expressions such as `module.name.name`; a module used in other ways counts as a whole."""
        inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
        for node in nodes:
            if isinstance(node, ast.Attribute):
                if node.attr in _REVEALS_ITS_MODULE:
                    yield self._module, WHOLE
                base = node.value.id if isinstance(node.value, ast.Name) else ""
                if node.attr in _REVEALS_ANY_MODULE or (base, node.attr) == ("sys", "modules"):
                    yield EVERYTHING
            if isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner:
                name, *attributes = dotted(node)
                # What a module has without having bound it, such as `__dict__`, may lead to all of it.
                path = itertools.takewhile(lambda attribute: not attribute.startswith("__"), attributes)
                rest = ".".join((*path, WHOLE))
                yield from (behind(origin, rest) for origin in imported.get(name, ()))

    def _imported(self, nodes: Iterable[ast.AST]) -> Iterator[str]:
        """Yield the vault modules that imports among the nodes import."""
        for part in nodes:
            yield from (module for _, (module, _) in self._origins(part))
            if isinstance(part, ast.ImportFrom) and (source := self._source_of(part)) is not None:
                yield source

    def _effects(self, nodes: Sequence[ast.AST], uses: Iterable[Use]) -> Effects:
        """Return the effects of code with these uses on other objects, if all of it runs."""
        writes = writes_of(nodes, global_names(nodes))
        # A bare decorator is called, and a bare base class inherited from.
        given = (node for node in nodes if not isinstance(node, ast.Name | ast.Attribute))
        passed = {name for node in given for name in names_used_as_values(node)}
        return Effects(
            frozenset(use for target in writes.targets for use in self._written(target, nodes)),
            frozenset(use for use in uses if not passed.isdisjoint(use[1].split("."))),
            writes.of_arguments,
        )

    def _written(self, target: tuple[str, ...], nodes: Iterable[ast.AST]) -> Iterator[Use]:
        """Yield the uses of a written object."""
        if not target:
            yield self._module, WHOLE
            return
        name, *attributes = target
        local = {origin for node in nodes for part in ast.walk(node) for origin in self._origins(part)}
        origins = [origin for bound, origin in self._imports | local if bound == name]
        yield from (behind(origin, ".".join(attributes) or WHOLE) for origin in origins)
        if not origins:
            yield self._module, name


def behind(origin: Use, path: str) -> Use:
    """Return the use of a path behind an imported name."""
    module, name = origin
    return module, f"{name}.{path}" if name else path


def _imports_any_module(node: ast.Import | ast.ImportFrom) -> bool:
    """Return whether an import statement gives access to modules by computed names."""
    if isinstance(node, ast.ImportFrom):
        of_sys = node.module == "sys" and any(alias.name in ("modules", "*") for alias in node.names)
        return of_sys or (node.module or "").partition(".")[0] in _IMPORTS_ANY_MODULE
    # Under another name, `sys.modules` cannot be recognized.
    renamed = any(alias.name == "sys" and alias.asname not in (None, "sys") for alias in node.names)
    return renamed or any(alias.name.partition(".")[0] in _IMPORTS_ANY_MODULE for alias in node.names)


def _parts(node: ast.stmt) -> Iterator[ast.stmt]:
    """Split an import statement by name, so that each name is independent of the others."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield ast.copy_location(ast.Import([alias]), node)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield ast.copy_location(ast.ImportFrom(node.module, [alias], node.level), node)
    elif isinstance(node, ast.If) and _is_main_guard(node.test):
        # Code modules are only imported, never run as scripts.
        yield from (part for inner in node.orelse for part in _parts(inner))
    else:
        yield node


def _is_main_guard(test: ast.expr) -> bool:
    match test:
        case ast.Compare(ast.Name("__name__"), [ast.Eq()], [ast.Constant("__main__")]):
            return True
    return False


def _names_bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, _DEFINITION):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
    else:
        for part in walk_at_import([node]):
            if isinstance(part, _DEFINITION):
                yield part.name
            elif isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
                yield part.id
            elif isinstance(part, ast.Import | ast.ImportFrom):
                yield from _names_bound(part)


def _is_always(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "__future__" or any(alias.name == "*" for alias in node.names)
    if isinstance(node, ast.Assign):
        return not all(_is_plain_target(target) for target in node.targets)
    if isinstance(node, ast.AnnAssign | ast.AugAssign):
        return not _is_plain_target(node.target)
    return not isinstance(node, (*_DEFINITION, ast.Import, ast.Pass, *_TYPE_ALIAS))


def _is_plain_target(target: ast.expr) -> bool:
    if isinstance(target, ast.Starred):
        return _is_plain_target(target.value)
    if isinstance(target, ast.Tuple | ast.List):
        return all(_is_plain_target(element) for element in target.elts)
    return isinstance(target, ast.Name)


def _is_changeable(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return False
    if isinstance(node, _FUNCTION):
        # A decorator may turn a function into an object with a registry, as singledispatch does.
        return bool(node.decorator_list)
    if isinstance(node, ast.ClassDef):
        hooks = any(isinstance(part, _FUNCTION) and part.name == "__init_subclass__" for part in node.body)
        states = (part for part in node.body if not isinstance(part, _FUNCTION) and not _is_text(part))
        return hooks or bool(node.keywords) or any(_is_changeable(part) for part in states)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return node.value is not None and not _is_unchanging(node.value)
    return not isinstance(node, ast.Pass)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_unchanging(value: ast.expr) -> bool:
    """Return whether an expression is certainly immutable, such as a constant."""
    if isinstance(value, ast.Call):
        function = value.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        return name in _UNCHANGING_CALLS
    if isinstance(value, ast.JoinedStr | ast.Lambda):
        return True
    return all(isinstance(part, _UNCHANGING_NODES) for part in ast.walk(value))


def _is_movable(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return not _is_always(node)
    return isinstance(node, _FUNCTION) and not (
        node.decorator_list or node.args.defaults or any(default is not None for default in node.args.kw_defaults)
    )


def _renames(node: ast.AST) -> Iterator[tuple[str, str]]:
    for part in ast.walk(node):
        if isinstance(part, ast.alias) and part.asname is not None:
            yield part.asname, part.name


def _readings(node: ast.AST) -> Iterator[Reading]:
    """Yield the parts of code that a statement reads, judging by the names it uses."""
    for part in ast.walk(node):
        match part:
            case ast.Import(names):
                used = {name for alias in names for name in alias.name.split(".")}
            case ast.ImportFrom(module, names):
                used = {*(module or "").split("."), *(alias.name for alias in names)}
            case ast.Attribute(attr=name):
                used = {name}
            case ast.Name(name) if name != "__doc__":
                used = {name}
            case _:
                continue
        if not _READS_DOCSTRINGS.isdisjoint(used):
            yield Reading.DOCSTRINGS
        if not _READS_SOURCE.isdisjoint(used):
            yield Reading.SOURCE


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
