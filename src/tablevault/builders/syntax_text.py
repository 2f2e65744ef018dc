"""Syntax trees as text: the same text if and only if the code is the same."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return the statements of a module, class or function, its docstring aside."""
    match body:
        case [ast.Expr(ast.Constant(str())), *rest]:
            return rest
    return body


def syntax_text(root: ast.AST) -> str:
    """Return a text that two syntax trees share if and only if they mean the same; the same for all Python versions."""
    words: list[str] = []
    waiting: list[object] = [root]
    while waiting:
        item = waiting.pop()
        if isinstance(item, ast.AST):
            words.append(f"({type(item).__name__}")
            waiting.append(_Mark(")"))
            waiting.extend(reversed(list(_fields(item))))
        elif isinstance(item, list):
            words.append("[")
            waiting.append(_Mark("]"))
            waiting.extend(reversed(item))
        else:
            words.append(str(item) if isinstance(item, _Mark) else _constant(item))
    return " ".join(words)


class _Mark(str):
    """A word that stands for itself, unlike a constant of the code."""

    __slots__ = ()


def _fields(node: ast.AST) -> Iterator[object]:
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, (*_DEFINITION, ast.Module)):
            value = without_docstring(value)
        # Python versions differ in what they write down about nothing.
        nothing = value == [] or (value is None and not isinstance(node, ast.Constant))
        if nothing or name in ("ctx", "kind", "type_comment"):
            continue
        yield _Mark(f"{name}=")
        yield value


def _constant(value: object) -> str:
    # repr refuses integers of thousands of digits; hex takes any.
    return hex(value) if type(value) is int else repr(value)
