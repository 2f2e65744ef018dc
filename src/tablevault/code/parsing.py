"""Parsing of code modules, with the standard library only."""

from __future__ import annotations

import ast
import re
import threading
import warnings

from tablevault.errors import TVBuilderError

_LINE_ENDS = re.compile("\r\n|\r|\n")

# Warning filters are global to the interpreter: two threads must not change them at once.
_warnings = threading.Lock()


def parse_module(source: str, file: str) -> ast.Module:
    """Return the syntax tree of a module.

    Raises
    ------
    TVBuilderError
        If the module has a syntax error. The message gives file and line.
    """
    try:
        with _warnings, warnings.catch_warnings():
            # Warnings, such as about an invalid escape, are due when the module runs, not when it is parsed.
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            compile(source, file, "exec", dont_inherit=True)
            return ast.parse(source, file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TVBuilderError(syntax_problem(file, error, source)) from error


def lines_of(source: str) -> list[str]:
    """Return the lines of a module as Python counts them.

    `splitlines` also splits at form feeds and U+2028.
    """
    lines = _LINE_ENDS.split(source)
    return lines if lines[-1] else lines[:-1]


def syntax_problem(file: str, error: BaseException, source: str) -> str:
    """Return the error message for a module that cannot be compiled.

    Parameters
    ----------
    file
        The module's file, as shown in messages.
    error
        The exception.
    source
        The module's source. The line in the exception is unreliable: Python reads it from any file called `file`.
    """
    if isinstance(error, SyntaxError):
        lines = lines_of(source)[(error.lineno or 1) - 1 :][:1]
        text = f": {lines[0].strip()[:80]}" if lines and lines[0].strip() else ""
        return f"{file}, line {error.lineno or 1}: {error.msg}{text}; correct the module."
    if isinstance(error, UnicodeEncodeError):
        line = str(error.object).count("\n", 0, error.start) + 1
        return f"{file}, line {line}: this is not text in the encoding of the file; save it as UTF-8."
    if isinstance(error, ValueError):
        return f"{file} cannot be compiled: {error}; correct the module."
    return f"{file} is nested too deeply to be compiled; simplify it."
