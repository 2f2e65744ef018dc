"""Loading of builder functions from the vault's modules and the built-in ones.

The vault's modules are loaded only from the attempt's snapshot of `code_functions/`. Snapshots are isolated from one
another within an interpreter, and write no bytecode.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib.abc
import importlib.machinery
import importlib.resources
import importlib.util
import inspect
import linecache
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, MappingProxyType, ModuleType, TracebackType
from typing import Self

from tablevault.code.local_code import LocalCode, digest_of
from tablevault.code.local_modules import ImportlibOfCode, LocalModules, register, unregister
from tablevault.code.parsing import lines_of, syntax_problem
from tablevault.code.signatures import argument_problem
from tablevault.errors import TVArgumentError, TVBuilderError
from tablevault.layout import MODULE_SUFFIX, module_file
from tablevault.names import check_module_name, nearest
from tablevault.storage import files

_NAMESPACE = "tablevault_code"
_BUILT_IN_PACKAGE = "tablevault.functions"

Function = Callable[..., object]

_open_packages: set[str] = set()
_names_of_packages = threading.Lock()


def describe_modules(folder: Path) -> tuple[str, ...]:
    """Return the sorted names, without `.py`, of the code modules in a folder."""
    return tuple(
        sorted(path.stem for path in folder.glob(f"*{MODULE_SUFFIX}") if path.is_file() and _is_module_name(path.stem))
    )


def read_sources(folder: Path) -> dict[str, str]:
    """Read the source of each code module in a folder with `files.read_source`, by name."""
    return {name: files.read_source(module_file(folder, name)) for name in describe_modules(folder)}


@functools.cache
def built_in_sources() -> Mapping[str, str]:
    """Return the source of each built-in module, by name, without importing it."""
    files = importlib.resources.files(_BUILT_IN_PACKAGE).iterdir()
    names = {file.name.removesuffix(".py"): file for file in files if file.name.endswith(".py")}
    return MappingProxyType(
        {name: names[name].read_text("utf-8") for name in sorted(names) if not name.startswith("_")}
    )


@functools.cache
def built_in(module: str, name: str) -> Function:
    """Return a built-in function.

    Raises
    ------
    TVBuilderError
        If the module or the function does not exist. The message suggests the nearest name.
    """
    if module not in (modules := built_in_sources()):
        raise TVBuilderError(f"there is no built-in module {module!r}{nearest(module, modules)}")
    loaded = importlib.import_module(f"{_BUILT_IN_PACKAGE}.{module}")
    own = {
        key: value
        for key, value in vars(loaded).items()
        if inspect.isfunction(value) and value.__module__ == loaded.__name__ and not key.startswith("_")
    }
    return _function_of(own, f"{module}.py", name)


def check_accepts(function: Function, argument_names: Iterable[str]) -> None:
    """Check that a function accepts exactly these keyword arguments.

    Functions without a known signature pass; for example, a decorator may accept or add any argument.

    Raises
    ------
    TVBuilderError
        If an argument is missing or unexpected. The message names it.
    """
    try:
        # The wrapped function's signature does not show which arguments the decorator accepts.
        signature = inspect.signature(function, follow_wrapped=False)
    except (ValueError, TypeError):
        return
    problem = argument_problem(signature, argument_names)
    if problem is not None:
        raise TVBuilderError(f"{getattr(function, '__name__', 'the function')}() {problem}")


@dataclass(frozen=True)
class ModuleFile:
    """The file of a code module."""

    path: Path
    shown_as: Path
    """The path shown in tracebacks."""
    text: str | None = None
    """The source; `None` to read the file when the module runs."""

    def read(self) -> str:
        """Return the module's source."""
        return files.read_source(self.path) if self.text is None else self.text


class CodeSnapshot:
    """The code modules of a folder, loaded in isolation.

    Inside, `import other` and `from . import other` prefer modules of the folder. Thread-safe.

    Parameters
    ----------
    folder
        Contains the modules as `*.py`; must not change while the snapshot is open.
    shown_as
        The folder shown in tracebacks, which contains the editable files; defaults to `folder`.
    local
        The local modules outside the vault that the modules import.
    package
        Package name of the modules; defaults to one that is unused in this interpreter.
    modules
        The modules by name; defaults to those of the folder.
    """

    def __init__(
        self,
        folder: Path,
        shown_as: Path | None = None,
        local: LocalCode | None = None,
        package: str | None = None,
        modules: Mapping[str, ModuleFile] | None = None,
    ) -> None:
        self._local = LocalModules(local or LocalCode())
        self.folder = folder
        self.shown_as = shown_as or folder
        self.package = _reserved(package) if package is not None else _free_package(folder, local or LocalCode())
        self._files = _files_of(folder, self.shown_as) if modules is None else dict(modules)
        self._names = frozenset(self._files)
        self._lock = threading.RLock()
        # Partially loaded modules: circular imports need them, so the thread that holds the lock sees them.
        self._loading: dict[str, ModuleType] = {}
        self._loaded: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self._import}
        self._importlib = ImportlibOfCode(self._import_module)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load_function(self, module: str, name: str) -> Function:
        """Return a function of a code module, running the module on first use.

        Exceptions from the module's top level belong to the user and propagate unchanged.

        Raises
        ------
        TVBuilderError
            If the module or the function does not exist (the message suggests the nearest name), or the module has a
            syntax error.
        """
        if module not in self._names:
            raise TVBuilderError(f"there is no code module {module!r}{nearest(module, self._names)}")
        return _function_of(vars(self._module(module)), f"{module}.py", name)

    def namespace(self, module: str) -> Mapping[str, object]:
        """Return the namespace of a code module, running the module on first use."""
        return vars(self._module(module))

    def close(self) -> None:
        """Unregister the modules; functions already loaded keep working."""
        with self._lock:
            unregister(module.__name__ for module in self._loaded.values())
        with _names_of_packages:
            _open_packages.discard(self.package)

    def _module(self, name: str) -> ModuleType:
        loaded = self._loaded.get(name)
        if loaded is not None:
            return loaded
        with self._lock:
            known = self._loaded.get(name) or self._loading.get(name)
            return known if known is not None else self._load(name)

    def _load(self, name: str) -> ModuleType:
        file = self._files[name]
        text = file.read()
        code = _compiled(file, text)
        _show_lines(file, text)
        loader = _Loader(file)
        specification = importlib.machinery.ModuleSpec(f"{self.package}.{name}", loader, origin=str(file.path))
        module = importlib.util.module_from_spec(specification)
        module.__file__ = str(file.path)
        module.__dict__["__builtins__"] = self._builtins
        self._loading[name] = module
        register(module.__name__, module)
        try:
            exec(code, module.__dict__)
            self._loaded[name] = module
        finally:
            del self._loading[name]
            if name not in self._loaded:
                unregister([module.__name__])
        return module

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: tuple[str, ...] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Replace `__import__` in the snapshot's modules, which take precedence."""
        head, _, rest = name.partition(".")
        if level == 0 and head not in self._names:
            found = self._local.import_(name, globals, locals, fromlist or (), level)
            return self._importlib if isinstance(found, ImportlibOfCode) else found
        if level > 1:
            raise ImportError("attempted relative import beyond the vault's code modules")
        if not name:
            return self._siblings(fromlist or ())
        if head not in self._names:
            raise ModuleNotFoundError(f"No module named {head!r} among the vault's code modules", name=head)
        if rest:
            raise ModuleNotFoundError(f"No module named {name!r}; {head!r} is not a package", name=name)
        return self._module(head)

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        """Replace `importlib.import_module`; the snapshot's modules take precedence."""
        own = name.removeprefix(".") if name.startswith(".") and package == self.package else name
        return self._module(own) if own in self._names else self._local.import_module(name, package)

    def _siblings(self, names: Iterable[str]) -> ModuleType:
        """Return the package for `from . import a, b`."""
        package = ModuleType(self.package)
        for name in names:
            if name in self._names:
                setattr(package, name, self._module(name))
        return package


class _Loader(importlib.abc.Loader):
    """Provides a module's source to tracebacks and `inspect`."""

    def __init__(self, file: ModuleFile) -> None:
        self._file = file

    def create_module(self, specification: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        """No-op; the snapshot executes its modules."""

    def get_source(self, name: str) -> str:
        return self._file.read()


def _files_of(folder: Path, shown_as: Path) -> dict[str, ModuleFile]:
    return {
        name: ModuleFile(module_file(folder, name), module_file(shown_as, name)) for name in describe_modules(folder)
    }


def _show_lines(file: ModuleFile, text: str) -> None:
    """Make tracebacks and `inspect` show the executed source, not the editable file."""
    shown = str(file.shown_as)
    # linecache does not revalidate entries without a modification time. The entry outlives the snapshot, since
    # tracebacks are formatted after it is closed; the next snapshot replaces it.
    linecache.cache[shown] = len(text), None, [f"{line}\n" for line in lines_of(text)], shown


def _compiled(file: ModuleFile, text: str) -> CodeType:
    try:
        return compile(text, str(file.shown_as), "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TVBuilderError(syntax_problem(file.path.name, error, text)) from error


def _reserved(package: str) -> str:
    """Reserve a package name against other snapshots, and return it."""
    with _names_of_packages:
        _open_packages.add(package)
    return package


def _free_package(folder: Path, local: LocalCode) -> str:
    """Reserve a package name derived from the code, so that caches keyed by name hit.

    The name is random if another snapshot of the same code is open.
    """
    contents = [(name, files.read_bytes(module_file(folder, name))) for name in describe_modules(folder)]
    digest = hashlib.sha256(repr((contents, digest_of(list(local.modules.values())))).encode()).hexdigest()
    package = f"{_NAMESPACE}.{digest[:32]}"
    with _names_of_packages:
        if package in _open_packages:
            package = f"{_NAMESPACE}.{uuid.uuid4().hex}"
        _open_packages.add(package)
    return package


def _function_of(names: Mapping[str, object], file: str, name: str) -> Function:
    if name not in names:
        callables = [key for key, value in names.items() if callable(value) and not key.startswith("_")]
        raise TVBuilderError(f"{file} has no function {name!r}{nearest(name, callables)}")
    function = names[name]
    if not callable(function):
        raise TVBuilderError(f"{name!r} in {file} is a {type(function).__name__}, not a function; name a function.")
    return function


def _is_module_name(name: str) -> bool:
    try:
        check_module_name(name)
    except TVArgumentError:
        return False
    return True
