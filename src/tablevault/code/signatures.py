"""Checks of function signatures against builder fields."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import Parameter, Signature

from tablevault.names import nearest

_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def argument_problem(signature: Signature, argument_names: Iterable[str]) -> str | None:
    """Return the mismatch between a signature and given keyword arguments, or `None`."""
    given = list(argument_names)
    parameters = signature.parameters.values()
    named = {parameter.name: parameter for parameter in parameters if parameter.kind in _BY_NAME}
    for parameter in parameters:
        if parameter.kind is Parameter.POSITIONAL_ONLY and parameter.default is Parameter.empty:
            return f"takes {parameter.name!r} by position only, but arguments are given by name; remove the '/'."
    if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        for name in given:
            if name not in named:
                return f"takes no argument {name!r}{_choices(name, named, given)}"
    missing = [name for name, parameter in named.items() if parameter.default is Parameter.empty and name not in given]
    if missing:
        shown = " and ".join(repr(name) for name in missing)
        return f"is missing the argument{'s' if len(missing) > 1 else ''} {shown}; give a value under arguments."
    return None


def async_generator_problem(name: str) -> str:
    """Return the error message for an async generator, which no executor supports."""
    return f"{name}() is an async generator; return one result for each call, or yield from a plain generator."


def executor_problem(name: str, is_async: bool, return_type: str, executor: str | None) -> str | None:
    """Return the conflict between a function and its builder's fields, or `None`.

    Parameters
    ----------
    name
        Name of the function.
    is_async
        Whether its calls must be awaited.
    return_type, executor
        The fields of the builder; executor `None` lets the function decide.
    """
    if is_async and return_type == "generator":
        return f"{name}() is an async function, and 'return_type: generator' calls plain generators; use 'row-wise'."
    if is_async and executor not in (None, "async", "ray"):
        return f"{name}() is an async function, which 'executor: {executor}' cannot await; write 'executor: async'."
    if not is_async and executor == "async":
        return f"{name}() is not an async function; write 'async def {name}', or remove 'executor: async'."
    return None


def executors_of(is_async: bool) -> frozenset[str]:
    """Return the executors that suit a function."""
    return frozenset({"async", "ray"} if is_async else {"threads", "processes", "ray"})


def function_problem(name: str) -> str:
    """Return the error message for a function in place of a class with job methods."""
    return f"{name} is a function; 'executor: jobs' needs a class with submit(token, …) and poll(job)."


def _choices(name: str, named: Iterable[str], given: Iterable[str]) -> str:
    free = [candidate for candidate in named if candidate not in set(given)]
    return nearest(name, free) if free else "; remove it, or add a parameter to the function."
