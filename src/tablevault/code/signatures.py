"""Whether a signature takes the arguments that a builder gives."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import Parameter, Signature

from tablevault.names import nearest

_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def argument_problem(signature: Signature, argument_names: Iterable[str]) -> str | None:
    """Return what is wrong with calling a function with exactly these keyword arguments, `None` if nothing is."""
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
        return f"needs the argument{'s' if len(missing) > 1 else ''} {shown} too; give a value under arguments."
    return None


def async_problem(name: str) -> str:
    """Return the sentence about a function that has to be awaited."""
    return (
        f"{name}() is an async function, and its coroutine would never be awaited. Let a plain function call it with "
        "asyncio.run()."
    )


def _choices(name: str, named: Iterable[str], given: Iterable[str]) -> str:
    free = [candidate for candidate in named if candidate not in set(given)]
    return nearest(name, free) if free else "; remove it, or let the function take it."
