"""Analysis of the effects that code has on objects of other statements.

A statement that runs on import can change objects that a function uses: fill a dictionary, or set an attribute of a
class. Mutable objects count as changed by all code that they are given to; classes, functions, constants and modules
only by code that sets their attributes or binds their names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_EFFECTS = (ast.Call, ast.AugAssign, ast.NamedExpr, ast.Await, ast.With, ast.AsyncWith)
_SETTERS = frozenset({"setattr", "delattr"})
_OF_CLASSES = frozenset({"__init_subclass__", "__class_getitem__", "__new__"})
_BINDS_ANY_NAME = frozenset({"globals", "exec"})


@dataclass(frozen=True)
class Writes:
    """The objects that code writes to, other than by passing them on."""

    targets: frozenset[tuple[str, ...]]
    """Written names and attributes, such as `("Settings", "limit")`; empty for potentially all of the module."""
    of_arguments: bool
    """Whether it writes to attributes of objects that it is given."""


def walk_at_import(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes that run on import, which excludes function bodies."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (*_FUNCTION, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))


def effects_at_import(node: ast.stmt) -> list[ast.AST]:
    """Return the parts of a statement that run on import and may have side effects."""
    if isinstance(node, _FUNCTION):
        arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
        annotations = (argument.annotation for argument in arguments if argument is not None)
        values = (*node.args.defaults, *node.args.kw_defaults, *annotations, node.returns)
        return [*node.decorator_list, *(value for value in values if value is not None and _has_effects(value))]
    if isinstance(node, ast.ClassDef):
        inner = [part for statement in node.body for part in effects_at_import(statement)]
        used = {part.id for part in walk_at_import(inner) if isinstance(part, ast.Name)}
        called = [part for part in node.body if isinstance(part, _FUNCTION) and part.name in used]
        return [*node.decorator_list, *node.bases, *node.keywords, *inner, *called]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [part for part in (node.annotation, node.value) if part is not None and _has_effects(part)]
    return [node] if _has_effects(node) else []


def _has_effects(node: ast.AST) -> bool:
    return any(isinstance(part, _EFFECTS) or _is_written(part) for part in walk_at_import([node]))


def _is_written(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load)


def dotted(node: ast.AST) -> tuple[str, ...]:
    """Return the names in an expression such as `a.b.c`; the first is empty if it is not a name."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return node.id if isinstance(node, ast.Name) else "", *reversed(attributes)


def writes_of(nodes: Iterable[ast.AST], global_names: set[str]) -> Writes:
    """Return the writes of code, if all of it runs.

    Parameters
    ----------
    nodes
        The code.
    global_names
        The names that it looks up or binds in its module.
    """
    parts = [part for node in nodes for part in ast.walk(node)]
    receivers = dict(_receivers(parts))
    targets: set[tuple[str, ...]] = set()
    of_arguments = False
    for name, *attributes in _written(parts):
        if name in receivers:
            owner = receivers[name]
            if owner is not None:
                targets.add((owner, *attributes))
        elif name in global_names:
            targets.add((name, *attributes))
        else:
            of_arguments = True
    if any(isinstance(part, ast.Name) and part.id in _BINDS_ANY_NAME for part in parts):
        targets.add(())
    return Writes(frozenset(targets), of_arguments)


def _receivers(parts: Iterable[ast.AST]) -> Iterator[tuple[str, str | None]]:
    """Yield the first parameters of methods, each with the name of its class, or `None` for an instance."""
    for part in parts:
        if not isinstance(part, ast.ClassDef):
            continue
        for method in part.body:
            if isinstance(method, _FUNCTION) and (first := [*method.args.posonlyargs, *method.args.args][:1]):
                names = {dotted(decorator)[-1] for decorator in method.decorator_list}
                if "staticmethod" not in names:
                    is_of_class = "classmethod" in names or method.name in _OF_CLASSES
                    yield first[0].arg, part.name if is_of_class else None


def _written(parts: Iterable[ast.AST]) -> Iterator[tuple[str, ...]]:
    """Yield the written names and attributes, and the global names that functions bind."""
    for part in parts:
        match part:
            case ast.Attribute() if _is_written(part):
                yield _class_of(part) or dotted(part)
            case ast.Subscript() if _is_written(part):
                yield dotted(part.value)
            case ast.Call(ast.Name(name), [written, *_]) if name in _SETTERS:
                yield dotted(written)
            case ast.Call(ast.Attribute(attr="__setattr__" | "__delattr__"), [written, _, _]):
                yield dotted(written)
            case ast.Global(names):
                yield from ((name,) for name in names)


def _class_of(node: ast.Attribute) -> tuple[str, ...] | None:
    """Return the object whose class's attribute is written, as in `type(x).a`; `None` for others."""
    match node.value:
        case ast.Call(ast.Name("type"), [written]):
            return ("", *dotted(written))
    return None
