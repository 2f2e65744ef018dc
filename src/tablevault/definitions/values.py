"""Conversion of decorators' values to plain values of builder files."""

from __future__ import annotations

import builtins
import datetime
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

from tablevault.builders.fields import FieldPath
from tablevault.define import Cell, Service, Table, This

_PLAIN = (str, bool, int, float, datetime.datetime, datetime.date, type(None))


class UnwritableValueError(Exception):
    """A value that cannot be written to a builder file.

    Parameters
    ----------
    path
        The field, and the keys and positions within it.
    sentence
        The problem and its remedy.
    """

    def __init__(self, path: FieldPath, sentence: str) -> None:
        super().__init__(sentence)
        self.path = path
        self.sentence = sentence


@dataclass(frozen=True)
class FieldValues:
    """Converts the values of a builder's fields to plain ones."""

    namespace: Mapping[str, object]
    """The names of the function's module."""
    package: str
    """The package of code modules while a source is read."""
    cell: Callable[[Cell], str]
    """Returns the reference for `this.NAME`."""

    def plain(self, field: str, value: object) -> object:
        """Return the plain value of a field.

        Raises
        ------
        UnwritableValueError
            If the value is not valid for the field.
        """
        path: FieldPath = (field,)
        if field == "validate" and callable(value):
            return self._function(value)
        if field in ("for_each", "rows_of") and isinstance(value, Table):
            return value.name
        if field == "service":
            return self._services(path, value)
        if field == "retry" and isinstance(value, Mapping):
            return {
                name: self._errors((*path, name), item) if name == "on" else self._value((*path, name), item)
                for name, item in value.items()
            }
        if field == "stop_on":
            return self._errors(path, value)
        return self._value(path, value)

    def _value(self, path: FieldPath, value: object) -> object:
        match value:
            case enum.Enum() if isinstance(value, str | int):
                return self._value(path, value.value)
            case Cell():
                return self.cell(value)
            case This():
                return str(value)
            case Mapping():
                return {self._key(path, key): self._value((*path, key), item) for key, item in value.items()}
            case list() | tuple():
                return [self._value((*path, position), item) for position, item in enumerate(value)]
            case _ if type(value) in _PLAIN:
                return value
            case str():
                return str.__str__(value)
        raise UnwritableValueError(
            path,
            f"a {type(value).__name__} cannot be written to a builder file; give text, numbers, lists, mappings or "
            "references, and create other objects in the function.",
        )

    def _key(self, path: FieldPath, key: object) -> object:
        if type(key) in _PLAIN:
            return key
        raise UnwritableValueError(path, f"a key cannot be a {type(key).__name__}; use text.")

    def _services(self, path: FieldPath, value: object) -> object:
        """Return the names of services."""
        if isinstance(value, list | tuple):
            return [self._services((*path, position), item) for position, item in enumerate(value)]
        return value.name if isinstance(value, Service) else self._value(path, value)

    def _errors(self, path: FieldPath, value: object) -> object:
        """Return a list of errors with exception classes by name."""
        if not isinstance(value, list | tuple):
            return self._value(path, value)
        return [
            self._class(path, entry)
            if isinstance(entry, type) and issubclass(entry, BaseException)
            else self._value((*path, position), entry)
            for position, entry in enumerate(value)
        ]

    def _class(self, path: FieldPath, entry: type[BaseException]) -> str:
        """Return the name of an exception class among built-ins, in the module, or by import."""
        name, module = entry.__qualname__, entry.__module__
        if getattr(builtins, name, None) is entry:
            return name
        for known, value in self.namespace.items():
            if value is entry:
                return known
            # For `openai.RateLimitError` after `import openai`.
            if isinstance(value, ModuleType) and value.__name__ == module and getattr(value, name, None) is entry:
                return f"{known}.{name}"
        if "<locals>" in name or module.startswith(f"{self.package}."):
            raise UnwritableValueError(
                path, f"the exception class {entry.__name__} is not defined in the file; import it there by its name."
            )
        return f"{module}.{name}"

    def _function(self, value: Callable[..., object]) -> str:
        for name, known in self.namespace.items():
            if known is value:
                return name
        raise UnwritableValueError(
            ("validate",), "it must be a function of the same file, defined above at its top level, or its name."
        )
