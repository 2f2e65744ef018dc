"""Static checks of code modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from inspect import Parameter, Signature
from typing import Any

from tablevault.builders.spec import BuilderSpec
from tablevault.code.parsing import lines_of, parse_module
from tablevault.code.signatures import argument_problem, executor_problem, executors_of, function_problem
from tablevault.errors import TVBuilderError
from tablevault.names import nearest

_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
# Code that uses one of these can bind names dynamically.
_NAME_MAKERS = frozenset({"globals", "exec", "eval", "setattr", "vars", "locals", "__dict__", "__getattr__"})


def definition_text(source: str, name: str) -> str:
    """Return the top-level statements that bind a name, or else the whole source.

    Parameters
    ----------
    source
        The module's text.
    name
        The name.

    Raises
    ------
    TVBuilderError
        If the module has a syntax error.
    """
    lines = lines_of(source)
    found: list[str] = []
    for statement in parse_module(source, "module").body:
        nodes = [statement] if isinstance(statement, _SCOPES) else ast.walk(statement)
        if any(name in _names_of(node) for node in nodes):
            decorators = getattr(statement, "decorator_list", [])
            first = min([statement.lineno, *(item.lineno for item in decorators)])
            found += lines[first - 1 : statement.end_lineno]
    return "\n".join(found or lines)


def check_source(module_sources: Mapping[str, str], spec: BuilderSpec) -> None:
    """Check statically that a builder's function exists and accepts the builder's arguments.

    Names that cannot be determined statically (star imports, decorators, assignments) pass; loading checks them.

    Parameters
    ----------
    module_sources
        Source of each available module: the vault's if the builder `is_custom`, else the built-in ones.
    spec
        The builder.

    Raises
    ------
    TVBuilderError
        If the builder certainly cannot run. The message gives file, line, field and the nearest valid names.
    """
    module, name = spec.code_module, spec.python_function
    if module not in module_sources:
        raise spec.error(("code_module",), _unknown_module(module, module_sources, spec))
    try:
        read = _read(module_sources[module], f"{module}.py")
    except TVBuilderError as error:
        raise spec.error(("code_module",), str(error)) from error
    bound = read.bound
    if name not in bound:
        if read.makes_names:
            return
        functions = [key for key, signature in bound.items() if signature is not None and not key.startswith("_")]
        raise spec.error(("python_function",), f"{module}.py has no function {name!r}{nearest(name, functions)}")
    if bound[name] is not None:
        if spec.policies.runs_jobs:
            raise spec.error(("python_function",), function_problem(name))
        problem = executor_problem(name, name in read.asynchronous, spec.return_type, spec.policies.executor)
        if problem is not None:
            raise spec.error(("python_function",), problem)
        spec.check_timeout(executors_of(name in read.asynchronous))
    if spec.validator is not None and spec.validator not in bound and not read.makes_names:
        raise spec.error(
            ("validate",), f"{module}.py has no function {spec.validator!r}{nearest(spec.validator, bound)}"
        )
    signature = bound[name]
    problem = argument_problem(signature, spec.arguments) if signature is not None else None
    if problem is not None:
        raise spec.error(("arguments",), f"{name}() in {module}.py {problem}")


def suitable_executors(module_sources: Mapping[str, str], spec: BuilderSpec) -> frozenset[str]:
    """Return the executors that suit the function of a checked builder; empty if only loading it can tell."""
    read, name = _read(module_sources[spec.code_module], f"{spec.code_module}.py"), spec.python_function
    return executors_of(name in read.asynchronous) if read.bound.get(name) is not None else frozenset()


def _unknown_module(module: str, known: Mapping[str, str], spec: BuilderSpec) -> str:
    if spec.is_custom:
        return f"there is no code module {module!r}{nearest(module, known)}"
    return (
        f"there is no built-in module {module!r}{nearest(module, known)} "
        "(a module of the vault needs 'is_custom: true')"
    )


@dataclass(frozen=True)
class _Module:
    """The statically known names of a module."""

    bound: dict[str, Signature | None]
    makes_names: bool
    """Whether the module may bind other names dynamically."""
    asynchronous: frozenset[str]
    """Undecorated async functions; a decorator could return anything."""


@lru_cache(maxsize=64)
def _read(source: str, file: str) -> _Module:
    """Analyze a module; cached, since builders of one instance usually share a module."""
    tree = parse_module(source, file)
    last = {node.name: node for node in tree.body if isinstance(node, _FUNCTION)}
    asynchronous = [
        name for name, node in last.items() if isinstance(node, ast.AsyncFunctionDef) and not node.decorator_list
    ]
    return _Module(_bound_names(tree), _makes_names(tree), frozenset(asynchronous))


def _bound_names(tree: ast.Module) -> dict[str, Signature | None]:
    bound: dict[str, Signature | None] = {}
    for node in _top_level(tree):
        for name in _names_of(node):
            plain = isinstance(node, _FUNCTION) and node in tree.body and not node.decorator_list and name not in bound
            bound[name] = _signature(node.args) if plain and isinstance(node, _FUNCTION) else None
    return bound


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes in the module's own scope, in source order."""
    waiting: list[ast.AST] = list(reversed(tree.body))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _SCOPES):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def _names_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (*_FUNCTION, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name


def _makes_names(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return True
        if isinstance(node, ast.Global):
            return True
        names = (getattr(node, field, None) for field in ("id", "attr", "name"))
        if any(name in _NAME_MAKERS for name in names):
            return True
    return False


def _signature(arguments: ast.arguments) -> Signature:
    positional = [*arguments.posonlyargs, *arguments.args]
    first_default = len(positional) - len(arguments.defaults)
    parameters = [
        _parameter(
            argument,
            Parameter.POSITIONAL_ONLY if position < len(arguments.posonlyargs) else Parameter.POSITIONAL_OR_KEYWORD,
            position >= first_default,
        )
        for position, argument in enumerate(positional)
    ]
    if arguments.vararg:
        parameters.append(Parameter(arguments.vararg.arg, Parameter.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parameters.append(_parameter(argument, Parameter.KEYWORD_ONLY, default is not None))
    if arguments.kwarg:
        parameters.append(Parameter(arguments.kwarg.arg, Parameter.VAR_KEYWORD))
    return Signature(parameters)


def _parameter(argument: ast.arg, kind: Any, has_default: bool) -> Parameter:
    return Parameter(argument.arg, kind, default=None if has_default else Parameter.empty)
