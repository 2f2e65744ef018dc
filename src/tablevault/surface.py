"""The public surface, with arguments checked by annotations and errors that end at the caller's frame."""

from __future__ import annotations

import functools
import inspect
import os
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter
from itertools import chain
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, NoneType, TracebackType, UnionType
from typing import Any, Literal, NamedTuple, ParamSpec, TypeGuard, TypeVar, Union, cast, get_args, get_origin

from tablevault.errors import TableReferenceError, TVArgumentError, TVBuilderError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Class = TypeVar("Class", bound=type)

_ABOUT_THE_CALL = (TVArgumentError, TVBuilderError, TableReferenceError)
"""Errors that describe a wrong call or file completely: frames inside TableVault add nothing."""

_WORDS = {
    str: "text",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    Path: "a path",
    NoneType: "None",
}

_LONGEST_NAME, _LONGEST_PATH = 255, 4095
"""Bytes of a file's name, and of its path, on the usual file systems."""

_OWN_FOLDERS = tuple(
    f"{folder}{os.sep}"
    for folder in (Path(__file__).parent, *(sysconfig.get_path(name) for name in ("stdlib", "platlib", "purelib")))
)
"""Folders of TableVault itself and of its dependencies; any other file in a traceback is a user's."""


def public_class(cls: Class) -> Class:
    """Check the arguments of a class's public methods, and of its constructor, by their annotations.

    A method with two names stays one method.
    """
    checked: dict[FunctionType, Callable[..., object]] = {}
    for name, member in list(vars(cls).items()):
        if isinstance(member, FunctionType) and (name == "__init__" or not name.startswith("_")):
            checked.setdefault(member, public(member))
            setattr(cls, name, checked[member])
    return cls


def public(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Check a public function's arguments by their annotations before it is called.

    An argument of the wrong type is a `TVArgumentError` that names argument and type. NumPy scalars count as the equal
    Python values. An error about the call or a builder file reaches the caller without the frames and causes inside
    TableVault.
    """
    signature = inspect.signature(function)
    original = cast("FunctionType", function)

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            # For a wrong number of arguments or unknown ones, Python's own error is best.
            return function(*args, **kwargs)
        try:
            for name, value in bound.arguments.items():
                bound.arguments[name] = _checked(original, name, value)
            return function(*bound.args, **bound.kwargs)
        except _ABOUT_THE_CALL as error:
            if _passed_user_code(error.__traceback__):
                raise
            raise error.with_traceback(None) from None

    return call


def _checked(function: FunctionType, name: str, value: object) -> object:
    """Return an argument in its annotated type; raises `TVArgumentError` if it has another."""
    expected = _annotations(function).get(name, Any)
    value = _plain(expected, value)
    misfit = _misfit(expected, value, name)
    if misfit is not None:
        raise TVArgumentError(_sentence(function, name, misfit))
    if Path in get_args(expected):
        _check_path(function, name, os.fspath(cast("str | os.PathLike[str]", value)))
    return value


def _check_path(function: FunctionType, name: str, path: str) -> None:
    """Raise `TVArgumentError` for an impossible path."""
    try:
        parts = path.encode("utf-8").split(os.sep.encode())
    except UnicodeEncodeError as error:
        reason = f"contains {path[error.start]!a}, which is not text in UTF-8"
    else:
        if "\0" in path:
            reason = "contains a null character"
        elif len(path) > _LONGEST_PATH or any(len(part) > _LONGEST_NAME for part in parts):
            reason = f"has {len(path):,} characters, which is too long"
        else:
            return
    called = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
    raise TVArgumentError(
        f"{name} of {called} is not the path of a file or folder: {path[:80]!a} {reason}. Correct it."
    )


@functools.cache
def _annotations(function: FunctionType) -> dict[str, Any]:
    """Return the annotations of a function's parameters as types."""
    return {
        name: eval(text, function.__globals__) for name, text in function.__annotations__.items() if name != "return"
    }


def _plain(expected: Any, value: object) -> object:
    """Convert NumPy scalars and arrays, and text enums, to Python values."""
    if expected is Any:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if type(value).__module__.partition(".")[0] in ("numpy", "pandas"):
        convert = getattr(value, "tolist", None)
        return convert() if callable(convert) else value
    return value


class _Misfit(NamedTuple):
    """A value that does not have its annotated type."""

    place: str
    """The argument, and the key or position in it."""
    expected: Any
    value: object


def _misfit(expected: Any, value: object, place: str) -> _Misfit | None:
    """Return the first part of a value with a wrong type.

    Returns `None` if all types are right.
    """
    origin, inner = get_origin(expected), get_args(expected)
    if origin in (Union, UnionType):
        found = [_misfit(kind, value, place) for kind in inner]
        # For a list with one wrong item, report the item.
        deeper = [misfit for misfit in found if misfit is not None and misfit.place != place]
        return None if None in found else next(iter(deeper), _Misfit(place, expected, value))
    items: Iterable[_Misfit | None]
    if origin is Sequence and _is_sequence(value):
        items = (_misfit(inner[0], item, f"{place}[{number}]") for number, item in enumerate(value))
    elif origin is Mapping and isinstance(value, Mapping):
        items = (_misfit(inner[1], item, f"{place}[{key!r:.80}]") for key, item in value.items())
        items = chain((_misfit(inner[0], key, f"a key of {place}") for key in value), items)
    elif origin is tuple and _is_sequence(value) and len(value) == len(inner):
        parts = zip(inner, value, strict=True)
        items = (_misfit(kind, item, f"{place}[{number}]") for number, (kind, item) in enumerate(parts))
    else:
        return None if _is_instance(expected, value) else _Misfit(place, expected, value)
    return next((misfit for misfit in items if misfit is not None), None)


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)


def _is_instance(expected: Any, value: object) -> bool:
    if expected is Any:
        return True
    if expected is None or expected is NoneType:
        return value is None
    if get_origin(expected) is Literal:
        # The function itself rejects unknown texts, with the nearest known one.
        return isinstance(value, type(get_args(expected)[0]))
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if expected is Path:
        return isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)
    return isinstance(expected, type) and isinstance(value, expected)


def _sentence(function: FunctionType, name: str, misfit: _Misfit) -> str:
    called = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
    remedy = ""
    if misfit.value is None and inspect.signature(function).parameters[name].default is not Parameter.empty:
        remedy = " Leave it out to take the default."
    elif callable(misfit.value) and str in (misfit.expected, *get_args(misfit.expected)):
        shown = getattr(misfit.value, "__name__", "function")
        remedy = f" To hand over code, pass its source, inspect.getsource({shown}), or the path of a file as copy_dir."
    return f"{misfit.place} of {called} must be {_words(misfit.expected)}, not {_described(misfit.value)}.{remedy}"


def _words(expected: Any) -> str:
    """Return the name of a type in a sentence."""
    origin, inner = get_origin(expected), get_args(expected)
    if origin in (Union, UnionType):
        *others, last = [_words(kind) for kind in inner]
        return f"{', '.join(others)} or {last}"
    if origin is Sequence:
        return f"a list of {_words(inner[0])}"
    if origin is Mapping:
        return f"a mapping of {_words(inner[0])} to {_words(inner[1])}"
    if origin is tuple:
        return f"({', '.join(map(_words, inner))})"
    if origin is Literal:
        return " or ".join(map(repr, inner))
    return _WORDS.get(expected, getattr(expected, "__name__", str(expected)))


def _described(value: object) -> str:
    """Return a description of a value without its own text, which may fail or be large."""
    if value is None or isinstance(value, bool):
        return str(value)
    name = getattr(value, "__name__", None)
    if isinstance(name, str) and isinstance(value, FunctionType | BuiltinFunctionType):
        return f"the function {name}"
    return type(value).__name__


def _passed_user_code(traceback: TracebackType | None) -> bool:
    """Return whether an error passed through user code that TableVault called, whose frames must be kept."""
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith((*_OWN_FOLDERS, "<")):
            return True
        traceback = traceback.tb_next
    return False
