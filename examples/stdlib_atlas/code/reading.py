"""Parse Python files without importing them."""

import ast
import re
from pathlib import Path


def first_sentence(path: str) -> str | None:
    """Return the first sentence of a module's docstring, or `None`."""
    docstring = ast.get_docstring(_parse(path))
    if not docstring:
        return None
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph)[0]


def count_structure(path: str) -> tuple[int, int, int, int]:
    """Return the numbers of lines, functions, classes and import statements of a module."""
    nodes = list(ast.walk(_parse(path)))
    return (
        len(Path(path).read_bytes().splitlines()),
        sum(isinstance(node, ast.FunctionDef) for node in nodes),
        sum(isinstance(node, ast.ClassDef) for node in nodes),
        sum(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes),
    )


def _parse(path: str) -> ast.Module:
    return ast.parse(Path(path).read_bytes(), filename=path)
