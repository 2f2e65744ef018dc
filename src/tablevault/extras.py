"""Libraries that not every installation has, imported when a call needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tablevault.errors import TVArgumentError


def imported(module: str, needed_for: str, extra: str) -> Any:
    """Return a module of an optional library.

    Parameters
    ----------
    module
        Its name.
    needed_for
        The feature that needs it, as a sentence begins with it.
    extra
        The extra of this package that installs it.

    Raises
    ------
    TVArgumentError
        If it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise TVArgumentError(f"{needed_for} needs {module}: pip install 'tablevault[{extra}]'.") from error
