"""String annotations, whose names libraries resolve in the module."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

_TAKES_TYPES = frozenset(
    {
        *("cast", "get_type_hints", "ForwardRef", "TypeVar", "TypeVarTuple", "ParamSpec", "NewType", "NamedTuple"),
        *("TypedDict", "TypeAdapter", "create_model", "make_dataclass", "relationship", "TypeAliasType"),
    }
)
"""Functions whose arguments may be types, or types as strings."""


def annotations_in_text(statements: Sequence[ast.AST]) -> list[ast.AST]:
    """Return the parsed string annotations and other string types in statements."""
    found: list[ast.AST] = []
    waiting = list(_types(statements))
    while waiting:
        for text in _texts(waiting.pop()):
            try:
                parsed = ast.parse(text.strip(), mode="eval").body
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            found.append(ast.Expr(parsed))
            waiting.append(parsed)
    return found


def _types(statements: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Yield the expressions that may be types."""
    for statement in statements:
        # An alias such as `Items = list["Item"]`; inside functions, a subscript is more likely a lookup by key.
        aliases = [statement, *(statement.body if isinstance(statement, ast.ClassDef) else ())]
        yield from (
            alias.value
            for alias in aliases
            if isinstance(alias, ast.Assign | ast.AnnAssign) and isinstance(alias.value, ast.Subscript | ast.BinOp)
        )
        for part in ast.walk(statement):
            if isinstance(part, ast.arg | ast.AnnAssign) and part.annotation is not None:
                yield part.annotation
            elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.returns is not None:
                yield part.returns
            elif isinstance(part, ast.ClassDef):
                yield from part.bases
            elif isinstance(part, ast.Call) and _name(part.func) in _TAKES_TYPES:
                yield from (*part.args, *(keyword.value for keyword in part.keywords))
            elif type(part).__name__ == "TypeAlias":
                yield from ast.iter_child_nodes(part)
            yield from _bounds(part)


def _bounds(part: ast.AST) -> Iterable[ast.AST]:
    for parameter in getattr(part, "type_params", ()):
        values = (getattr(parameter, "bound", None), getattr(parameter, "default_value", None))
        yield from (value for value in values if isinstance(value, ast.AST))


def _texts(expression: ast.AST) -> Iterator[str]:
    """Yield the strings in a type, except the values of `Literal`."""
    waiting = [expression]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Subscript) and _name(part.value) == "Literal":
            continue
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value
        waiting.extend(ast.iter_child_nodes(part))


def _name(function: ast.AST) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
