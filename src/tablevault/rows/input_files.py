"""Transfer of files named in arguments to workers on other machines."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tablevault.rows.ray_files import InputFile
from tablevault.rows.received_files import PIECE_BYTES
from tablevault.rows.worker_texts import WITHOUT_TEXTS, mapped_texts, mark_of_file
from tablevault.storage import files

_MAXIMUM_KEPT = 32
"""Maximum number of files kept in the object store for later calls."""


class InputFiles:
    """Files named in call arguments, loaded when a call needs them.

    Parameters
    ----------
    root
        Folder of the vault; only files below it are sent.
    put
        Puts bytes into Ray's object store and returns their reference.
    """

    def __init__(self, root: Path, put: Callable[[bytes], Any]) -> None:
        self._root = f"{root}{os.sep}"
        self._put = put
        self._paths: dict[int, list[str]] = {}
        """The files of each call."""
        self.started = -1
        """Number of the last started call; later ones may be about to start."""
        self._kept: OrderedDict[str, InputFile] = OrderedDict()

    def marked(self, number: int, arguments: Mapping[str, object]) -> Mapping[str, object]:
        """Replace the paths in a call's arguments by marks, and record the paths."""
        if not self.may_name_files(arguments.values()):
            return arguments
        paths: dict[str, int] = {}

        def mark(text: str) -> str:
            if not text.startswith(self._root) or not Path(text).is_file():
                return text
            return mark_of_file(f"{number}.{paths.setdefault(text, len(paths))}")

        found = {name: mapped_texts(value, mark) for name, value in arguments.items()}
        if paths:
            self._paths[number] = list(paths)
        return found

    def may_name_files(self, values: Iterable[object]) -> bool:
        """Return whether any value may contain the path of a file to send."""
        for value in values:
            kind = type(value)
            if kind not in WITHOUT_TEXTS and (kind is not str or value.startswith(self._root)):  # type: ignore[attr-defined]
                return True
        return False

    def of_calls(self, numbers: Iterable[int]) -> Iterator[tuple[str, InputFile]]:
        """Yield the files of calls, each with the key in its mark."""
        for number in numbers if self._paths else ():
            for place, path in enumerate(self._paths.get(number, ())):
                yield f"{number}.{place}", self._sent(path)

    def forget_all_but(self, numbers: Collection[int]) -> None:
        """Forget the files of calls that have ended."""
        for number in list(self._paths):
            if number <= self.started and number not in numbers:
                del self._paths[number]

    def _sent(self, path: str) -> InputFile:
        file = self._kept.pop(path, None)
        if file is None:
            with Path(path).open("rb") as source:
                pieces = [self._put(piece) for piece in iter(lambda: source.read(PIECE_BYTES), b"")]
            file = InputFile(Path(path).name, files.sha256(Path(path)), pieces)
        self._kept[path] = file
        if len(self._kept) > _MAXIMUM_KEPT:
            self._kept.popitem(last=False)
        return file
