"""Functions opened for one worker, also from a snapshot of the code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tablevault.code.loading import CodeSnapshot, Function, ModuleFile, built_in, read_sources
from tablevault.code.local_code import FOLDER, LocalCode
from tablevault.layout import module_file
from tablevault.notes import add_note, message_of
from tablevault.ports import FunctionError, OpenedFunction
from tablevault.rows.worker_texts import WorkerTexts
from tablevault.system.warnings import warn


@dataclass(frozen=True)
class PlainFunction:
    """A plain function, which needs no setup."""

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
        except Exception as error:  # noqa: BLE001 - the rows are already computed
            warn(f"close() of {type(self.call).__name__} raised {type(error).__name__}: {message_of(error)}", error)
            return None


@dataclass(frozen=True)
class SnapshotFunction:
    """Picklable opener of a builder's function in another interpreter."""

    module: str
    name: str
    snapshot: SnapshotPlace | SnapshotTexts | None
    """The snapshot of the vault's code; `None` for a built-in function."""
    setup_arguments: Mapping[str, object]
    """Constructor arguments, if the name is that of a class."""
    text: str
    """Name of the function in messages."""

    def __call__(self) -> OpenedFunction:
        """Load the function, and instantiate it if it is a class.

        Raises
        ------
        FunctionError
            For an exception raised at the module's top level or by the constructor.
        """
        try:
            function = self._load()
        except BaseException as error:
            add_note(error, f"raised while the module of {self.text} was imported in a worker process")
            raise FunctionError(error) from error
        return open_function(function, self.setup_arguments, self.text)

    def filled(self, texts: WorkerTexts) -> SnapshotFunction:
        """Return a copy whose constructor arguments are resolved on the worker."""
        return replace(self, setup_arguments=texts.filled(dict(self.setup_arguments)))

    def _load(self) -> Function:
        if self.snapshot is None:
            return built_in(self.module, self.name)
        return self.snapshot.open().load_function(self.module, self.name)


@dataclass(frozen=True)
class SnapshotPlace:
    """Location of a code snapshot, and the package name of its modules."""

    folder: Path
    shown_as: Path
    package: str

    def open(self) -> CodeSnapshot:
        """Open the snapshot under the same module names, which exceptions and results refer to."""
        return CodeSnapshot(self.folder, self.shown_as, LocalCode.read(self.folder / FOLDER), self.package)

    @property
    def texts(self) -> SnapshotTexts:
        """The source texts, for a machine without access to the folder."""
        local = LocalCode.read(self.folder / FOLDER)
        return SnapshotTexts(self.folder, self.shown_as, self.package, read_sources(self.folder), local)


@dataclass(frozen=True)
class SnapshotTexts:
    """A code snapshot with source texts, for a machine without its folder."""

    folder: Path
    shown_as: Path
    package: str
    modules: Mapping[str, str]
    """Text of each code module, by name."""
    local: LocalCode

    def open(self) -> CodeSnapshot:
        """Open the snapshot under the same module and file names."""
        files = {
            name: ModuleFile(module_file(self.folder, name), module_file(self.shown_as, name), text)
            for name, text in self.modules.items()
        }
        return CodeSnapshot(self.folder, self.shown_as, self.local, self.package, files)


def open_function(function: Function, setup_arguments: Mapping[str, object], text: str) -> OpenedFunction:
    """Open a function for one worker, instantiating it if it is a class.

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
