"""Static analysis of global names, independent of the Python version."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSION = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(eq=False)
class _Scope:
    """A scope of names; only the module scope has no parent."""

    parent: _Scope | None
    is_class: bool = False
    is_comprehension: bool = False
    inner: list[_Scope] = field(default_factory=list)
    binds: set[str] = field(default_factory=set)
    loads: set[str] = field(default_factory=set)
    global_names: set[str] = field(default_factory=set)
    outer_names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.parent is not None:
            self.parent.inner.append(self)

    @property
    def is_module(self) -> bool:
        return self.parent is None


def global_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the global names that top-level nodes of a module look up or bind."""
    module = _Scope(None)
    waiting: list[tuple[ast.AST, _Scope]] = [(node, module) for node in nodes]
    while waiting:
        waiting.extend(_parts(*waiting.pop()))
    found = module.binds | module.loads
    scopes = list(module.inner)
    while scopes:
        scope = scopes.pop()
        scopes.extend(scope.inner)
        found |= scope.global_names
        found.update(name for name in scope.loads if _is_global(name, scope))
    return found


def _is_global(name: str, scope: _Scope) -> bool:
    """Return whether a name loaded in a scope may resolve to a global."""
    current: _Scope | None = scope
    while current is not None and not current.is_module:
        if name in current.global_names:
            return True
        # A class body looks up names that it has not bound yet as globals; its functions skip the class scope.
        if name in current.binds and name not in current.outer_names and not current.is_class:
            return False
        current = current.parent
    return True


def _parts(node: ast.AST, scope: _Scope) -> Iterator[tuple[ast.AST, _Scope]]:
    """Record the bindings and uses of a node; yield its children with their scopes."""
    if isinstance(node, _FUNCTION):
        yield from _of_function(node, scope)
    elif isinstance(node, ast.Lambda):
        inner = _Scope(scope)
        yield from _of_arguments(node.args, scope, inner, annotated=scope)
        yield node.body, inner
    elif isinstance(node, ast.ClassDef):
        yield from _of_class(node, scope)
    elif isinstance(node, _COMPREHENSION):
        yield from _of_comprehension(node, scope)
    elif type(node).__name__ == "TypeAlias":
        outer = _type_parameters(node, scope)
        _bind(getattr(node, "name").id, scope)  # noqa: B009 - Python 3.11 has no such class
        yield from _with_parameters(node, outer)
        yield getattr(node, "value"), _Scope(outer)  # noqa: B009
    else:
        _note(node, scope)
        skips_annotation = isinstance(node, ast.AnnAssign) and not (scope.is_module or scope.is_class)
        for name, value in ast.iter_fields(node):
            if skips_annotation and name == "annotation":
                # Annotations of local variables are never evaluated.
                continue
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, ast.AST):
                    yield part, scope


def _note(node: ast.AST, scope: _Scope) -> None:
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load):
            scope.loads.add(node.id)
        else:
            _bind(node.id, scope)
    elif isinstance(node, ast.NamedExpr):
        # Binds in the scope that contains the comprehension.
        outer = scope
        while outer.is_comprehension and outer.parent is not None:
            outer = outer.parent
        _bind(node.target.id, outer)
    elif isinstance(node, ast.Global):
        scope.global_names.update(node.names)
    elif isinstance(node, ast.Nonlocal):
        scope.outer_names.update(node.names)
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            _bind(alias.asname or alias.name.partition(".")[0], scope)
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        _bind(node.name, scope)
    elif isinstance(node, ast.MatchMapping) and node.rest:
        _bind(node.rest, scope)


def _bind(name: str, scope: _Scope) -> None:
    scope.binds.add(name)


def _of_function(node: ast.FunctionDef | ast.AsyncFunctionDef, scope: _Scope) -> Iterator[tuple[ast.AST, _Scope]]:
    _bind(node.name, scope)
    outer = _type_parameters(node, scope)
    inner = _Scope(outer)
    yield from ((decorator, scope) for decorator in node.decorator_list)
    yield from _with_parameters(node, outer)
    yield from _of_arguments(node.args, scope, inner, annotated=outer)
    if node.returns is not None:
        yield node.returns, outer
    yield from ((statement, inner) for statement in node.body)


def _of_arguments(
    arguments: ast.arguments, scope: _Scope, inner: _Scope, annotated: _Scope
) -> Iterator[tuple[ast.AST, _Scope]]:
    yield from ((default, scope) for default in (*arguments.defaults, *arguments.kw_defaults) if default is not None)
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    for argument in (*named, arguments.vararg, arguments.kwarg):
        if argument is not None:
            _bind(argument.arg, inner)
            if argument.annotation is not None:
                yield argument.annotation, annotated


def _of_class(node: ast.ClassDef, scope: _Scope) -> Iterator[tuple[ast.AST, _Scope]]:
    _bind(node.name, scope)
    outer = _type_parameters(node, scope)
    inner = _Scope(outer, is_class=True)
    yield from ((decorator, scope) for decorator in node.decorator_list)
    yield from _with_parameters(node, outer)
    yield from ((base, outer) for base in node.bases)
    yield from ((keyword.value, outer) for keyword in node.keywords)
    yield from ((statement, inner) for statement in node.body)


def _of_comprehension(
    node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp, scope: _Scope
) -> Iterator[tuple[ast.AST, _Scope]]:
    inner = _Scope(scope, is_comprehension=True)
    first, *others = node.generators
    # The first iterable is evaluated in the enclosing scope.
    yield first.iter, scope
    yield first.target, inner
    yield from ((condition, inner) for condition in first.ifs)
    yield from ((other, inner) for other in others)
    yield from ((part, inner) for part in ast.iter_child_nodes(node) if not isinstance(part, ast.comprehension))


def _type_parameters(node: ast.AST, scope: _Scope) -> _Scope:
    """Return the scope of a definition's type parameters; without any, the enclosing scope."""
    parameters = getattr(node, "type_params", None)
    if not parameters:
        return scope
    inner = _Scope(scope)
    for parameter in parameters:
        _bind(parameter.name, inner)
    return inner


def _with_parameters(node: ast.AST, outer: _Scope) -> Iterator[tuple[ast.AST, _Scope]]:
    for parameter in getattr(node, "type_params", ()):
        for value in (getattr(parameter, "bound", None), getattr(parameter, "default_value", None)):
            if isinstance(value, ast.AST):
                yield value, outer
