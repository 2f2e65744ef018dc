"""The tools of the agent: they parse Python's standard library."""

import ast
import logging
import sysconfig
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("inspection")


def list_files(package: str) -> Iterator[str]:
    """Yield the files of a package, as paths inside the standard library."""
    for path in sorted((_library() / package.replace(".", "/")).glob("*.py")):
        yield path.relative_to(_library()).as_posix()


def inspect_file(file: str) -> tuple[int, float]:
    """Return the number of lines of a file, and the documented share of its functions."""
    log.info("inspected %s", file)
    functions = _functions(file)
    documented = sum(ast.get_docstring(function) is not None for function in functions)
    return len((_library() / file).read_bytes().splitlines()), documented / len(functions)


def list_undocumented(file: str) -> Iterator[str]:
    """Yield the functions of a file that have no docstring."""
    for function in _functions(file):
        if ast.get_docstring(function) is None:
            yield function.name


def _functions(file: str) -> list[ast.FunctionDef]:
    tree = ast.parse((_library() / file).read_bytes(), filename=file)
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))
