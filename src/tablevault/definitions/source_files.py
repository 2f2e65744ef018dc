"""The files of a source, which is a definitions file or all `*.py` in a folder."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tablevault.code.local_code import imported_names
from tablevault.errors import TVArgumentError, TVBuilderError
from tablevault.layout import MODULE_SUFFIX
from tablevault.names import check_module_name, fold
from tablevault.storage import files

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")
_UTF_8 = ("utf-8", "utf-8-sig")


@dataclass(frozen=True)
class SourceFile:
    """A Python file, read once."""

    path: Path
    """Absolute path; only a name for a notebook cell."""
    module: str
    """The name of its code module."""
    text: str

    @property
    def name(self) -> str:
        """The file's name in messages and comments."""
        return self.path.name

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree.

        Raises
        ------
        SyntaxError
            If Python cannot compile it.
        """
        with warnings.catch_warnings():
            # These warnings are shown when the module is run.
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            compile(self.text, str(self.path), "exec", dont_inherit=True)
            return ast.parse(self.text, str(self.path))

    def error(self, node: ast.AST | int, sentence: str) -> TVBuilderError:
        """Return an error about a line."""
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return TVBuilderError(f"{self.name}, line {line}: {sentence}")


@dataclass(frozen=True)
class SourceFiles:
    """The files of a source, and the sibling files that they import."""

    place: Path
    """Absolute path of the file or folder, with links resolved; only a name for a notebook cell."""
    files: Mapping[str, SourceFile]
    """Files by module name."""
    siblings: Mapping[str, SourceFile]
    """Files in the same folder that a single file imports, directly or indirectly."""

    @property
    def all_files(self) -> Mapping[str, SourceFile]:
        """The files of the source and their siblings."""
        return {**self.siblings, **self.files}


def find_source(source: str) -> SourceFiles:
    """Read the files of a source.

    Raises
    ------
    TVArgumentError
        If the file or folder does not exist, it contains no Python file, or two files map to one module.
    SyntaxError
        If Python cannot compile a file.
    """
    place = Path(source).expanduser().resolve()
    if place.is_dir():
        found = _by_module(path for path in _python_files(place))
        if not found:
            raise TVArgumentError(f"The folder '{source}' has no Python file '*{MODULE_SUFFIX}'.")
        return SourceFiles(place, {name: _read(path, name) for name, path in found.items()}, {})
    if not place.is_file():
        raise TVArgumentError(f"There is no file or folder '{source}'.")
    if place.suffix != MODULE_SUFFIX:
        raise TVArgumentError(
            f"'{source}' is not a Python file; the name of a definitions file ends in '{MODULE_SUFFIX}'."
        )
    own = _read(place, module_name(place))
    return SourceFiles(place, {own.module: own}, _imported(own))


def source_of_text(name: str, text: str) -> SourceFiles:
    """Return a source for a text, as a single file without a path or siblings."""
    file = SourceFile(Path(f"{check_module_name(name)}{MODULE_SUFFIX}"), check_module_name(name), text)
    _ = file.tree
    return SourceFiles(file.path, {file.module: file}, {})


def module_name(path: Path) -> str:
    """Return the module name for a file; raise `TVArgumentError` if it is invalid."""
    name = _NOT_IN_A_NAME.sub("_", path.stem)
    try:
        return check_module_name(name)
    except TVArgumentError as error:
        raise TVArgumentError(f"{error}; rename the file '{path}', which would become this module.") from None


def _python_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.suffix == MODULE_SUFFIX and not path.name.startswith(".") and path.is_file():
            yield path


def _by_module(paths: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    keys: dict[str, Path] = {}
    for path in paths:
        name = module_name(path)
        other = keys.setdefault(fold(name), path)
        if other != path:
            raise TVArgumentError(f"'{other}' and '{path}' would both become the module '{name}'; rename one of them.")
        found[name] = path
    return found


def _read(path: Path, module: str) -> SourceFile:
    # A link in a folder is read under its own name.
    data = files.read_bytes(path.resolve())
    # Raises Python's own error for an unknown or invalid encoding.
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    if encoding not in _UTF_8:
        raise TVBuilderError(
            f"{path.name}: it declares the encoding {encoding}; save it as UTF-8, without declaration."
        )
    try:
        text = importlib.util.decode_source(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TVBuilderError(f"{path.name}, line {line}: this is not UTF-8; save the file as UTF-8.") from error
    file = SourceFile(path, module, text)
    _ = file.tree
    return file


def _imported(own: SourceFile) -> dict[str, SourceFile]:
    """Return the siblings that a file imports, directly or through other siblings."""
    found: dict[str, SourceFile] = {own.module: own}
    waiting = [own]
    while waiting:
        # `from . import other` is relative to the folder, independently of its name.
        for name in imported_names(waiting.pop().tree, "."):
            head = name.lstrip(".").partition(".")[0]
            path = own.path.with_name(f"{head}{MODULE_SUFFIX}")
            if head and head not in found and _NOT_IN_A_NAME.search(head) is None and path.is_file():
                found[head] = _read(path, module_name(path))
                waiting.append(found[head])
    del found[own.module]
    return found
