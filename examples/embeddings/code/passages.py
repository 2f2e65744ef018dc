"""Extract docstrings from Python's standard library without importing it."""

import ast
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path


def find_passages(modules: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the first paragraph of each docstring of some modules, with the documented name."""
    seen = set()
    for module in modules:
        source = Path(sysconfig.get_path("stdlib")) / f"{module}.py"
        for name, text in _docstrings(ast.parse(source.read_bytes()), module):
            if text not in seen:
                seen.add(text)
                yield text, name


def _docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            docstring = ast.get_docstring(child)
            if docstring:
                yield f"{name}.{child.name}", " ".join(docstring.split("\n\n")[0].split())
            yield from _docstrings(child, f"{name}.{child.name}")
