"""What operations on editable text files share: code modules and builder files are put in place alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tablevault.errors import TVArgumentError, TVImplementationError
from tablevault.operations.base import put_file, remove
from tablevault.storage import files
from tablevault.transaction import Transaction
from tablevault.values import Changes


@dataclass(frozen=True)
class TextSource:
    """Where the new content of editable files comes from: a text, files to copy, or a template."""

    text: str | None
    copy_dir: str
    suffixes: tuple[str, ...]
    """Endings of the files that are taken from `copy_dir`; the first one is written."""

    def names(self, wanted: str, check: Callable[[str], str]) -> list[str]:
        """Return the names of the files that will be written; raise `TVArgumentError` if the sources do not fit."""
        if self.text and self.copy_dir:
            raise TVArgumentError("Give either text or copy_dir, not both.")
        if self.text is not None:
            _check_encodable(self.text)
        if not self.copy_dir:
            return [check(wanted)]
        return sorted(self.copied(wanted, check))

    def copied(self, wanted: str, check: Callable[[str], str]) -> dict[str, Path]:
        """Return the files to copy: name -> source."""
        source = Path(self.copy_dir).expanduser()
        if source.is_file():
            return {check(wanted or source.stem): source}
        if not source.is_dir():
            raise TVArgumentError(f"There is no file or folder '{self.copy_dir}' to copy from.")
        found = {path.stem: path for path in sorted(source.iterdir()) if self._is_wanted(path)}
        if wanted:
            stem = check(wanted)
            if stem not in found:
                raise TVArgumentError(f"There is no '{stem}{self.suffixes[0]}' in '{self.copy_dir}'.")
            return {stem: found[stem]}
        if not found:
            raise TVArgumentError(f"There is no file '*{self.suffixes[0]}' in '{self.copy_dir}'.")
        return {check(stem): path for stem, path in found.items()}

    def _is_wanted(self, path: Path) -> bool:
        return path.is_file() and path.suffix in self.suffixes and not path.name.startswith(".")


def stage_copies(transaction: Transaction, sources: Iterable[tuple[str, Path]], suffix: str) -> None:
    """Copy files durably into the process's folder; the sources are only ever read."""
    files.make_folder(transaction.workspace.staged)
    for name, path in sources:
        files.copy_file(path, transaction.workspace.staged / f"{name}{suffix}")


def all_staged(transaction: Transaction, names: Iterable[str], suffix: str) -> bool:
    """Return whether the process has staged all of these files."""
    return all(transaction.is_staged(f"{name}{suffix}") for name in names)


def put_staged(transaction: Transaction, names: Iterable[str], folder: Path, suffix: str) -> Changes:
    """Return the change that puts staged files in their places."""
    steps = []
    for name in names:
        if not transaction.is_staged(f"{name}{suffix}"):
            raise TVImplementationError(f"'{name}{suffix}' was never staged; call the method again with its text.")
        steps.append(put_file(transaction, f"{name}{suffix}", transaction.layout.relative(folder / f"{name}{suffix}")))
    return Changes(tidying=tuple(steps))


def remove_file(transaction: Transaction, path: Path) -> Changes:
    """Return the change that removes an editable file."""
    return Changes(tidying=(remove(transaction.layout.relative(path)),))


def _check_encodable(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TVArgumentError(f"The text cannot be stored as UTF-8 ({error}).") from error
