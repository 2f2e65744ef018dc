"""Functions as one worker calls them, and how a worker process opens one from a snapshot of the code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tablevault.code.loading import CodeSnapshot, Function, ModuleFile, built_in, read_sources
from tablevault.code.local_code import FOLDER, LocalCode
from tablevault.notes import add_note, message_of
from tablevault.ports import FunctionError, OpenedFunction
from tablevault.rows.worker_texts import WorkerTexts
from tablevault.system.warnings import warn


@dataclass(frozen=True)
class PlainFunction:
    """A function, called as it is."""

    call: Callable[..., object]

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class OpenedObject:
    """An object of a class, called for each row or batch."""

    call: Callable[..., object]

    def close(self) -> object:
        """Call the object's `close` if it has one; an awaitable is returned."""
        close = getattr(self.call, "close", None)
        try:
            return close() if callable(close) else None
        except Exception as error:  # noqa: BLE001 - the rows are computed, whatever it raises
            warn(f"close() of {type(self.call).__name__} raised {type(error).__name__}: {message_of(error)}")
            return None


@dataclass(frozen=True)
class SnapshotFunction:
    """Opens a builder's function in another interpreter: plain data that can be sent there."""

    module: str
    name: str
    snapshot: SnapshotPlace | SnapshotTexts | None
    """The snapshot of the vault's code; `None` for a built-in function."""
    setup_arguments: Mapping[str, object]
    """Arguments of the constructor, where the name is that of a class."""
    text: str
    """The function, as messages name it."""

    def __call__(self) -> OpenedFunction:
        """Load the module, and instantiate a class.

        Raises
        ------
        FunctionError
            For an exception of the module's own top level, or of the constructor.
        """
        try:
            function = self._load()
        except BaseException as error:
            add_note(error, f"raised while the module of {self.text} was imported in a worker process")
            raise FunctionError(error) from error
        return open_function(function, self.setup_arguments, self.text)

    def filled(self, texts: WorkerTexts) -> SnapshotFunction:
        """Return the same with the arguments of the constructor as the worker knows them."""
        return replace(self, setup_arguments=texts.filled(dict(self.setup_arguments)))

    def _load(self) -> Function:
        if self.snapshot is None:
            return built_in(self.module, self.name)
        return self.snapshot.open().load_function(self.module, self.name)


@dataclass(frozen=True)
class SnapshotPlace:
    """Where a snapshot of the code is, and the name that its modules have in the interpreter that runs the builder."""

    folder: Path
    shown_as: Path
    package: str

    def open(self) -> CodeSnapshot:
        """Open the snapshot here, with the same names of modules: exceptions and results are found by them."""
        return CodeSnapshot(self.folder, self.shown_as, LocalCode.read(self.folder / FOLDER), self.package)

    @property
    def texts(self) -> SnapshotTexts:
        """The code itself, for a machine that cannot see the folder."""
        local = LocalCode.read(self.folder / FOLDER)
        return SnapshotTexts(self.folder, self.shown_as, self.package, read_sources(self.folder), local)


@dataclass(frozen=True)
class SnapshotTexts:
    """A snapshot of the code with the code itself, on a machine that may not see its folder."""

    folder: Path
    shown_as: Path
    package: str
    modules: Mapping[str, str]
    """Text of each code module, by name."""
    local: LocalCode

    def open(self) -> CodeSnapshot:
        """Open the snapshot here, with the same names of modules and files."""
        files = {
            name: ModuleFile(self.folder / f"{name}.py", self.shown_as / f"{name}.py", text)
            for name, text in self.modules.items()
        }
        return CodeSnapshot(self.folder, self.shown_as, self.local, self.package, files)


def open_function(function: Function, setup_arguments: Mapping[str, object], text: str) -> OpenedFunction:
    """Return a function as one worker calls it: a class is instantiated, anything else is called as it is.

    Raises
    ------
    FunctionError
        For an exception of the constructor.
    """
    if not inspect.isclass(function):
        return PlainFunction(function)
    try:
        made: Any = function(**setup_arguments)
    except BaseException as error:
        add_note(error, f"raised by the constructor {text}")
        raise FunctionError(error) from error
    return OpenedObject(made)
