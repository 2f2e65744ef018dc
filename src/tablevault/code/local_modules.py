"""Import of local modules from an execution's snapshot.

Modules that the interpreter has already loaded are reused only if none of the snapshot's files has changed since the
interpreter started. Otherwise all are loaded from the snapshot, once per content, under their own names if free and
under aliases if not. Thus versions never mix, and do not share mutable module state.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import psutil

from tablevault.code.local_code import LocalCode, LocalModule, digest_of

NAMESPACE = "tablevault_local"
"""Prefix for modules whose own name is taken by another version."""
_CLOCK_MARGIN = 1.5
"""Tolerance of a process's start time in seconds; the kernel's boot time is rounded to whole seconds."""

_lock = threading.RLock()
_loaded: dict[tuple[str, str], tuple[ModuleType, ModuleSpec]] = {}
"""Modules loaded from snapshots, by name and digest of the whole snapshot.

The spec detects `importlib.reload`, which runs other source in the same module and replaces its spec.
"""


class ImportlibOfCode(ModuleType):
    """Replacement for `importlib` in snapshot code; its `import_module` resolves names like `import`.

    Parameters
    ----------
    import_module
        Replacement for `importlib.import_module`.
    """

    def __init__(self, import_module: Callable[..., ModuleType]) -> None:
        super().__init__("importlib", importlib.__doc__)
        self.import_module = import_module

    def __getattr__(self, name: str) -> object:
        return getattr(importlib, name)


def register(name: str, module: ModuleType) -> None:
    """Register a module and stubs of its parent packages in `sys.modules`, where pickle looks them up."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        package = ".".join(parts[:length])
        if package not in sys.modules:
            stub = sys.modules[package] = ModuleType(package)
            stub.__path__ = []
    sys.modules[name] = module


def unregister(names: Iterable[str]) -> None:
    """Remove modules and empty parent packages from `sys.modules`."""
    gone = list(names)
    for name in gone:
        sys.modules.pop(name, None)
    # Scan once: a program may have thousands of modules.
    top_level = tuple({f"{name.partition('.')[0]}." for name in gone})
    left = {name for name in tuple(sys.modules) if name.startswith(top_level)}
    for name in gone:
        package = name.rpartition(".")[0]
        while package and not any(other.startswith(f"{package}.") for other in left):
            sys.modules.pop(package, None)
            left.discard(package)
            package = package.rpartition(".")[0]


class LocalModules:
    """Imports local modules for the code modules of one snapshot.

    Parameters
    ----------
    code
        The files in the snapshot.
    """

    def __init__(self, code: LocalCode) -> None:
        self._code = code
        self._top_level = code.top_level
        self._imported: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self.import_}
        self._importlib = ImportlibOfCode(self.import_module)

    def has(self, name: str) -> bool:
        """Return whether a module is local, judging by its top-level name."""
        return name.partition(".")[0] in self._top_level

    def import_(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: tuple[str, ...] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Replace `__import__`; local modules come from the snapshot, all others from the usual place."""
        absolute = name
        if level:
            package = (globals or {}).get("__tablevault_package__") or (globals or {}).get("__package__") or ""
            absolute = importlib.util.resolve_name("." * level + name, package)
        if not self.has(absolute):
            found = builtins.__import__(name, globals, locals, fromlist or (), level)
            return self._importlib if found is importlib else found
        module = self._import_whole(absolute)
        if not fromlist:
            return module if level else self._import_whole(absolute.partition(".")[0])
        wanted = list(fromlist)
        if "*" in wanted:
            wanted = [item for item in getattr(module, "__all__", ()) if isinstance(item, str)]
        for item in wanted:
            if not hasattr(module, item) and f"{absolute}.{item}" in self._code.modules:
                self._import_whole(f"{absolute}.{item}")
        return module

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """Replace `importlib.import_module`."""
        plain = (package or "").removeprefix(f"{NAMESPACE}.").split(".", 1)[-1] if package else ""
        absolute = importlib.util.resolve_name(name, plain if (package or "").startswith(f"{NAMESPACE}.") else package)
        return self._import_whole(absolute) if self.has(absolute) else importlib.import_module(name, package)

    def _import_whole(self, name: str) -> ModuleType:
        """Import a module and its parent packages."""
        known = self._imported.get(name)
        if known is not None:
            return known
        parts = name.split(".")
        module: ModuleType | None = None
        for length in range(1, len(parts) + 1):
            prefix = ".".join(parts[:length])
            if prefix not in self._code.modules:
                # Not in the snapshot: an installed part of a namespace package, or missing.
                return importlib.import_module(name)
            child = self._module(prefix)
            if module is not None and getattr(module, parts[length - 1], None) is not child:
                setattr(module, parts[length - 1], child)
            module = child
        assert module is not None  # a name has at least one part
        self._imported[name] = module
        return module

    def _module(self, name: str) -> ModuleType:
        source, key = self._code.modules[name], (name, self._digest)
        with _lock:
            known, specification = _loaded.get(key, (None, None))
            if known is not None and known.__spec__ is specification:
                return known
            found = sys.modules.get(name)
            if found is not None and self._are_unchanged and _is_module_of(source, found):
                return found
            return self._load(source, key)

    @cached_property
    def _digest(self) -> str:
        return digest_of(list(self._code.modules.values()))

    @cached_property
    def _are_unchanged(self) -> bool:
        """Whether all files predate this interpreter, so that it cannot have loaded other versions."""
        started = psutil.Process().create_time() - _CLOCK_MARGIN
        try:
            # ctime cannot be set back, unlike mtime.
            files = [Path(module.path) for module in self._code.modules.values() if module.path]
            return all(file.stat().st_ctime < started for file in files)
        except OSError:
            return False

    def _load(self, source: LocalModule, key: tuple[str, str]) -> ModuleType:
        own_name = source.name if source.name not in sys.modules else f"{NAMESPACE}.{key[1][:16]}.{source.name}"
        specification = _specification(source, own_name)
        module = importlib.util.module_from_spec(specification)
        module.__dict__["__builtins__"] = self._builtins
        module.__dict__["__tablevault_package__"] = (
            source.name if source.folders is not None else source.name.rpartition(".")[0]
        )
        _loaded[key] = module, specification
        register(own_name, module)
        try:
            if specification.loader is not None and source.path:
                specification.loader.exec_module(module)
        except BaseException:
            del _loaded[key]
            sys.modules.pop(own_name, None)
            raise
        return module


class _SnapshotLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from the content recorded in a snapshot."""

    def __init__(self, name: str, source: LocalModule) -> None:
        super().__init__(name, source.path)
        self._source = source

    def get_data(self, path: str) -> bytes:
        """Return the recorded content of the module, or the current content of any other file."""
        if os.fspath(path) == self._source.path:
            return self._source.content
        return super().get_data(path)

    def get_code(self, fullname: str) -> CodeType:
        """Compile the recorded content; reads and writes no bytecode."""
        return compile(self._source.content, self._source.path, "exec", dont_inherit=True)


def _specification(source: LocalModule, name: str) -> ModuleSpec:
    folders = None if source.folders is None else list(source.folders)
    if not source.path:
        specification = ModuleSpec(name, None, is_package=True)
        specification.submodule_search_locations = folders
        return specification
    if not source.path.endswith(".py"):
        found = importlib.util.spec_from_file_location(name, source.path, submodule_search_locations=folders)
    else:
        found = importlib.util.spec_from_file_location(
            name, source.path, loader=_SnapshotLoader(name, source), submodule_search_locations=folders
        )
    assert found is not None  # the file is Python code or an extension module
    return found


def _is_module_of(source: LocalModule, loaded: ModuleType) -> bool:
    """Return whether a loaded module is fully initialized and comes from a local module's file."""
    if getattr(getattr(loaded, "__spec__", None), "_initializing", False):
        return False
    file = getattr(loaded, "__file__", None)
    return not source.path if file is None else str(Path(file).absolute()) == source.path
