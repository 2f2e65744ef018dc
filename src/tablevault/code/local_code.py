"""Local modules outside the vault.

A local module is on the import path, but neither installed nor part of Python. Local modules are found by statically
following imports, and are versioned as whole files. A snapshot stores them in its folder `local/`, next to the vault's
own modules.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from itertools import chain
from pathlib import Path
from typing import cast

from tablevault.code.parsing import parse_module
from tablevault.errors import TVBuilderError, TVFileError

FOLDER = "local"
"""Subfolder of a code snapshot for local modules."""
_INDEX = "modules.json"
_REMEMBERED_MODULES = 200
_MAXIMUM_ATTEMPTS = 100
_INSTALLED_IN = frozenset({"site-packages", "dist-packages"})
_OF_PYTHON = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib"))
_NEVER_LOCAL = frozenset({*sys.stdlib_module_names, "tablevault", "__main__"})


@dataclass(frozen=True)
class LocalModule:
    """A module or package; namespace packages have no file."""

    name: str
    """Fully qualified name."""
    path: str
    """File path; empty for a namespace package."""
    folders: tuple[str, ...] | None
    """Search path of a package; `None` for a module."""
    content: bytes
    """File content at the time of the snapshot."""

    @cached_property
    def imports(self) -> frozenset[str]:
        """Fully qualified names of possible imports, either modules or names in modules."""
        if not self.path.endswith(".py"):
            return frozenset()
        try:
            tree = parse_module(importlib.util.decode_source(self.content), self.path)
        except (TVBuilderError, SyntaxError, UnicodeDecodeError):
            # An import would fail as well.
            return frozenset()
        package = self.name if self.folders is not None else self.name.rpartition(".")[0]
        return frozenset(imported_names(tree, package))

    @cached_property
    def digest(self) -> str:
        """Digest of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def file(self) -> str:
        """File path relative to the parent of the top-level package."""
        if self.folders is not None:
            return f"{self.name.replace('.', '/')}/__init__{Path(self.path).suffix}"
        return f"{self.name.replace('.', '/')}{Path(self.path).suffix}"


@dataclass(frozen=True)
class Reached:
    """The transitive closure of some imports."""

    modules: tuple[LocalModule, ...]
    """Local modules, sorted by name."""
    packages: tuple[str, ...]
    """Sorted top-level names of installed packages."""


@dataclass(frozen=True)
class LocalCode:
    """A snapshot of the local modules that a vault's code modules reach."""

    modules: Mapping[str, LocalModule] = field(default_factory=dict)

    @cached_property
    def top_level(self) -> frozenset[str]:
        """Names of the top-level modules and packages."""
        return frozenset(name.partition(".")[0] for name in self.modules)

    def reached(self, names: Iterable[str]) -> Reached:
        """Return the transitive closure of imports of these fully qualified names."""
        found: dict[str, LocalModule] = {}
        packages: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            head = name.partition(".")[0]
            if head not in self.top_level:
                packages.add(head)
                continue
            for prefix in _prefixes(name):
                if prefix in self.modules and prefix not in found:
                    found[prefix] = self.modules[prefix]
                    waiting.extend(found[prefix].imports)
        return Reached(tuple(found[name] for name in sorted(found)), tuple(sorted(packages - _NEVER_LOCAL)))

    def write(self, folder: Path) -> None:
        """Write the modules into a folder, which the caller flushes to disk."""
        if not self.modules:
            return
        folder.mkdir()
        for module in self.modules.values():
            if module.path:
                path = folder / module.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(module.content)
        index = {module.name: {"path": module.path, "folders": module.folders} for module in self.modules.values()}
        (folder / _INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> LocalCode:
        """Read modules stored with `write`; empty if none were stored.

        Raises
        ------
        TVFileError
            If the snapshot is damaged, or names a file outside of it.
        """
        if not (folder / _INDEX).is_file():
            return cls()
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            return cls({name: _stored_module(folder, name, facts) for name, facts in index.items()})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FileNotFoundError) as error:
            raise TVFileError(f"The local modules in {folder} are damaged ({error}).") from error


def _stored_module(folder: Path, name: str, facts: Mapping[str, object]) -> LocalModule:
    """Return a module of a snapshot; raises `ValueError` if its file may be outside."""
    path, folders = facts["path"], facts["folders"]
    if not isinstance(path, str) or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{name!r:.200} is not the name of a module")
    searched = None if folders is None else tuple(map(str, cast("Iterable[object]", folders)))
    module = LocalModule(name, path, searched, b"")
    if not path:
        return module
    file = folder / module.file
    if file.is_symlink() or not file.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{module.file} leads out of the snapshot")
    return replace(module, content=file.read_bytes())


def find_local_code(sources: Mapping[str, str]) -> LocalCode:
    """Find the local modules that code modules reach on the current import path.

    Parameters
    ----------
    sources
        Source of each code module, by name. Code modules shadow all other modules of the same names.
    """
    waiting = list(chain.from_iterable(map(_imported_by, sources.values())))
    found: dict[str, LocalModule | None] = dict.fromkeys(sources)
    _look_at_folders_again()
    while waiting:
        for name in _prefixes(waiting.pop()):
            head = name.partition(".")[0]
            if name not in found and head not in _NEVER_LOCAL:
                parent = found.get(name.rpartition(".")[0])
                module = found[name] = _find(name, parent)
                waiting.extend(module.imports if module is not None else ())
            if found.get(name) is None:
                break
    return LocalCode({name: module for name, module in sorted(found.items()) if module is not None})


def _look_at_folders_again() -> None:
    """Invalidate import caches, so that new files are found."""
    for _ in range(_MAXIMUM_ATTEMPTS):
        try:
            importlib.invalidate_caches()
        except (RuntimeError, KeyError):
            # Raced with an import in another thread: Python iterates over shared caches without a lock.
            continue
        return


@lru_cache(maxsize=_REMEMBERED_MODULES)
def _imported_by(text: str) -> tuple[str, ...]:
    """Return the names that a code module may import; empty after a syntax error."""
    try:
        return tuple(imported_names(parse_module(text, "module.py"), ""))
    except TVBuilderError:
        return ()


def imported_names(root: ast.AST, package: str) -> Iterator[str]:
    """Yield the fully qualified names that code may import.

    Includes imports inside functions, and imported names that may be modules.

    Parameters
    ----------
    root
        The syntax tree.
    package
        The anchor of relative imports; empty for top-level modules.
    """
    for node in ast.walk(root):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level):
                base = _absolute(module or "", level or 0, package)
                if base:
                    yield base
                    yield from (f"{base}.{alias.name}" for alias in names if alias.name != "*")
            case ast.Call(ast.Name("__import__" | "import_module"), [ast.Constant(str(name)), *_]):
                yield name
            case ast.Call(ast.Attribute(attr="import_module"), [ast.Constant(str(name)), *_]):
                yield name


def _absolute(module: str, level: int, package: str) -> str:
    if level == 0:
        return module
    base = package.rsplit(".", level - 1)[0] if level > 1 else package
    if not package or package.count(".") < level - 1:
        return ""
    return f"{base}.{module}" if module else base


def _prefixes(name: str) -> Iterator[str]:
    parts = name.strip(".").split(".")
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length])


def _find(name: str, parent: LocalModule | None) -> LocalModule | None:
    """Find a local module without importing it; `None` if it is not local."""
    if "." not in name:
        spec = _top_level_spec(name)
    elif parent is None or parent.folders is None:
        return None
    else:
        spec = PathFinder.find_spec(name, list(parent.folders))
    if spec is None:
        return None
    folders = None
    if spec.submodule_search_locations is not None:
        folders = tuple(str(folder) for folder in spec.submodule_search_locations if not _is_installed(str(folder)))
    if spec.origin is None or not spec.has_location:
        return LocalModule(name, "", folders, b"") if folders else None
    if _is_installed(spec.origin):
        return None
    try:
        return LocalModule(name, str(Path(spec.origin).absolute()), folders, Path(spec.origin).read_bytes())
    except OSError:
        # In an archive, or deleted since: unreadable files cannot be versioned.
        return None


def _top_level_spec(name: str) -> ModuleSpec | None:
    for finder in sys.meta_path:
        try:
            spec: ModuleSpec | None = finder.find_spec(name, None)
        except Exception:  # noqa: BLE001 - third-party finders; the actual import will surface their errors
            continue
        if spec is not None:
            return spec
    return None


def _is_installed(path: str) -> bool:
    return not _INSTALLED_IN.isdisjoint(Path(path).parts) or f"{path}{os.sep}".startswith(_OF_PYTHON)


def digest_of(modules: Sequence[LocalModule]) -> str:
    """Return the combined digest of modules."""
    content = [[module.name, module.digest] for module in modules]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
