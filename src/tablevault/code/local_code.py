"""Local code outside the vault: modules on the import path that are neither of Python itself nor installed.

They are found by following imports through their text, without running any of it, and count as whole files. What a
snapshot keeps of them lies beside the vault's own modules, in the folder `local/`.
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
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from itertools import chain
from pathlib import Path

from tablevault.code.parsing import parse_module
from tablevault.errors import TVBuilderError

FOLDER = "local"
"""Where a snapshot of code keeps it."""
_INDEX = "modules.json"
_REMEMBERED_MODULES = 200
_MOST_ATTEMPTS = 100
_INSTALLED_IN = frozenset({"site-packages", "dist-packages"})
_OF_PYTHON = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib"))
_NEVER_LOCAL = frozenset({*sys.stdlib_module_names, "tablevault", "__main__"})


@dataclass(frozen=True)
class LocalModule:
    """One module or package; a namespace package is one without a file."""

    name: str
    """Its full name, with dots."""
    path: str
    """Where its file is; empty for a namespace package."""
    folders: tuple[str, ...] | None
    """Where a package looks for its modules; `None` for a module."""
    content: bytes
    """The content of its file when the snapshot was taken."""

    @cached_property
    def imports(self) -> frozenset[str]:
        """Full names of its possible imports: modules, and names in modules."""
        if not self.path.endswith(".py"):
            return frozenset()
        try:
            tree = parse_module(importlib.util.decode_source(self.content), self.path)
        except (TVBuilderError, SyntaxError, UnicodeDecodeError):
            # It cannot be imported either.
            return frozenset()
        package = self.name if self.folders is not None else self.name.rpartition(".")[0]
        return frozenset(imported_names(tree, package))

    @cached_property
    def digest(self) -> str:
        """Digest of its file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def file(self) -> str:
        """Its file, relative to the folder that its top-level package is in."""
        if self.folders is not None:
            return f"{self.name.replace('.', '/')}/__init__{Path(self.path).suffix}"
        return f"{self.name.replace('.', '/')}{Path(self.path).suffix}"


@dataclass(frozen=True)
class Reached:
    """The files that some imports lead to."""

    modules: tuple[LocalModule, ...]
    """Local modules, by name."""
    packages: tuple[str, ...]
    """Top-level names of installed packages, in alphabetical order."""


@dataclass(frozen=True)
class LocalCode:
    """The local modules that the code modules of a vault reach, as they were at one time."""

    modules: Mapping[str, LocalModule] = field(default_factory=dict)

    @cached_property
    def top_level(self) -> frozenset[str]:
        """Names of the top-level modules and packages."""
        return frozenset(name.partition(".")[0] for name in self.modules)

    def reached(self, names: Iterable[str]) -> Reached:
        """Return what imports of these full names lead to, with everything that is imported in turn."""
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
        """Write the modules into a folder; the caller makes it durable."""
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
        """Read what `write` wrote; empty if there is nothing."""
        if not (folder / _INDEX).is_file():
            return cls()
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        modules = {}
        for name, facts in index.items():
            folders = None if facts["folders"] is None else tuple(facts["folders"])
            module = LocalModule(name, facts["path"], folders, b"")
            content = (folder / module.file).read_bytes() if module.path else b""
            modules[name] = LocalModule(name, facts["path"], folders, content)
        return cls(modules)


def find_local_code(sources: Mapping[str, str]) -> LocalCode:
    """Return the local modules that code modules lead to, found on this interpreter's import path.

    Parameters
    ----------
    sources
        Text of each code module, by its name; they hide everything else of their names.
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
    """Let the import path find files that are new."""
    for _ in range(_MOST_ATTEMPTS):
        try:
            importlib.invalidate_caches()
        except (RuntimeError, KeyError):
            # Another thread imported meanwhile; Python reads what is shared by all of them without a lock.
            continue
        return


@lru_cache(maxsize=_REMEMBERED_MODULES)
def _imported_by(text: str) -> tuple[str, ...]:
    """Return the names that a code module may import; none if it has a syntax error."""
    try:
        return tuple(imported_names(parse_module(text, "module.py"), ""))
    except TVBuilderError:
        return ()


def imported_names(root: ast.AST, package: str) -> Iterator[str]:
    """Yield the full names of all that code may import, whenever it runs: modules, and names that may be modules.

    Parameters
    ----------
    root
        The syntax tree.
    package
        The package that relative imports start from; empty where there is none.
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
    """Return a module if it is a local one; nothing is run or imported."""
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
        # In an archive, or gone meanwhile: what cannot be read cannot count.
        return None


def _top_level_spec(name: str) -> ModuleSpec | None:
    for finder in sys.meta_path:
        try:
            spec: ModuleSpec | None = finder.find_spec(name, None)
        except Exception:  # noqa: BLE001 - finders are foreign code; the import itself will show their errors
            continue
        if spec is not None:
            return spec
    return None


def _is_installed(path: str) -> bool:
    return not _INSTALLED_IN.isdisjoint(Path(path).parts) or f"{path}{os.sep}".startswith(_OF_PYTHON)


def digest_of(modules: Sequence[LocalModule]) -> str:
    """Return the digest of some modules with all their files."""
    content = [[module.name, module.digest] for module in modules]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
