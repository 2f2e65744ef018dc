"""Canonical text of syntax trees, independent of the Python version."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def docstring(body: list[ast.stmt]) -> str | None:
    """Return the raw docstring of a module, class or function, or `None`."""
    match body:
        case [ast.Expr(ast.Constant(str(text))), *_]:
            return text
    return None


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return the body of a module, class or function without its docstring."""
    return body if docstring(body) is None else body[1:]


def names_used_as_values(root: ast.AST) -> Iterator[str]:
    """Yield the names and attributes used other than in calls or as decorators."""
    called = set()
    for node in ast.walk(root):
        if isinstance(node, ast.Call):
            called.add(id(node.func))
        elif isinstance(node, ast.Attribute):
            called.add(id(node.value))
        elif isinstance(node, (*_FUNCTION, ast.ClassDef)):
            called.update(map(id, node.decorator_list))
    for node in ast.walk(root):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and id(node) not in called:
            yield node.id if isinstance(node, ast.Name) else node.attr


def syntax_text(root: ast.AST, *, all_docstrings: bool = False) -> str:
    """Return a text that is equal for two syntax trees exactly if they are equivalent.

    Parameters
    ----------
    root
        The tree.
    all_docstrings
        Whether to include all docstrings. If not, only those that code in the tree can read: of classes, of decorated
        functions, and of functions used as values.
    """
    read = None if all_docstrings else frozenset(names_used_as_values(root))
    words: list[str] = []
    waiting: list[object] = [root]
    while waiting:
        item = waiting.pop()
        if isinstance(item, ast.AST):
            words.append(f"({type(item).__name__}")
            waiting.append(_Mark(")"))
            waiting.extend(reversed(list(_fields(item, read))))
        elif isinstance(item, list):
            words.append("[")
            waiting.append(_Mark("]"))
            waiting.extend(reversed(item))
        else:
            words.append(str(item) if isinstance(item, _Mark) else _constant(item))
    return " ".join(words)


class _Mark(str):
    """A structural token, as opposed to a constant of the code."""

    __slots__ = ()


def _fields(node: ast.AST, read: Collection[str] | None) -> Iterator[object]:
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, _FUNCTION) and not _is_read(node, read):
            value = without_docstring(value)
        elif name == "values" and isinstance(node, ast.JoinedStr):
            value = _pieces(value)
        # Python versions differ in how they record empty fields.
        nothing = value == [] or (value is None and not isinstance(node, ast.Constant))
        if nothing or name in ("ctx", "kind", "type_comment"):
            continue
        yield _Mark(f"{name}=")
        yield value


def _is_read(function: ast.FunctionDef | ast.AsyncFunctionDef, read: Collection[str] | None) -> bool:
    return read is None or bool(function.decorator_list) or function.name in read


def _pieces(values: list[ast.expr]) -> list[ast.expr]:
    """Merge adjacent text pieces of an f-string, which Python versions split differently."""
    pieces: list[ast.expr] = []
    for value in values:
        match value, pieces[-1:]:
            case ast.Constant(""), _:
                pass
            case ast.Constant(str(text)), [ast.Constant(str(before))]:
                pieces[-1] = ast.Constant(before + text)
            case _:
                pieces.append(value)
    return pieces


def _constant(value: object) -> str:
    # Not repr: it rejects integers of thousands of digits, and its set of printable characters depends on the Python
    # version.
    return hex(value) if type(value) is int else ascii(value)
