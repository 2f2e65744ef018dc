"""The text of code modules as syntax trees; needs nothing but Python itself."""

from __future__ import annotations

import ast
import threading
import warnings

from tablevault.errors import TVBuilderError

# Filters of warnings belong to the whole interpreter: two threads must not change them at once.
_warnings = threading.Lock()


def parse_module(source: str, file: str) -> ast.Module:
    """Return the syntax tree of a module.

    Raises
    ------
    TVBuilderError
        If the module has a syntax error; names file and line.
    """
    try:
        with _warnings, warnings.catch_warnings():
            # A warning about a questionable escape belongs to running the module, not to parsing it.
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            compile(source, file, "exec", dont_inherit=True)
            return ast.parse(source, file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TVBuilderError(syntax_problem(file, error, source)) from error


def syntax_problem(file: str, error: BaseException, source: str) -> str:
    """Return the sentence about a module that cannot be compiled.

    Parameters
    ----------
    file
        The module's file, as messages show it.
    error
        The exception.
    source
        The module's text: Python takes the line that it shows from whatever file is called `file`.
    """
    if isinstance(error, SyntaxError):
        lines = source.splitlines()[(error.lineno or 1) - 1 :][:1]
        text = f": {lines[0].strip()[:80]}" if lines and lines[0].strip() else ""
        return f"{file}, line {error.lineno or 1}: {error.msg}{text}; correct the module."
    if isinstance(error, UnicodeEncodeError):
        line = str(error.object).count("\n", 0, error.start) + 1
        return f"{file}, line {line}: this is not text in the encoding of the file; save it as UTF-8."
    if isinstance(error, ValueError):
        return f"{file} cannot be compiled: {error}; correct the module."
    return f"{file} is nested too deeply to be compiled; simplify it."
