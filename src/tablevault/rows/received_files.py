"""Transfer of files from workers on other machines into the instance's folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tablevault.rows.ray_files import SentFile
from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder

PIECE_BYTES = 4 * 1024 * 1024


class ReceivedFiles:
    """The files of one call, written in pieces and renamed once all are complete.

    Parameters
    ----------
    folder
        The folder of the instance.
    sent
        The files, as the worker describes them.

    Raises
    ------
    ValueError
        If a name is invalid for a file in the folder.
    """

    def __init__(self, folder: Path, sent: Sequence[SentFile]) -> None:
        self._folder = folder
        self._sent = list(sent)
        self._parts = [folder / f".{os.urandom(8).hex()}{files.TEMPORARY_SUFFIX}" for _ in sent]
        self._at = 0
        self._offset = 0
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        for file in sent:
            ArtifactFolder(folder).checked_name(file.name)

    @property
    def next_piece(self) -> tuple[str, int] | None:
        """Name and offset of the next piece to read; `None` if all have been read."""
        while self._at < len(self._sent):
            file = self._sent[self._at]
            if self._offset < file.size:
                return file.name, self._offset
            self._end_file()
        return None

    def add(self, piece: bytes) -> None:
        """Write the next piece.

        Raises
        ------
        OSError
            If the file ended before its size was reached, or cannot be written.
        """
        if not piece:
            raise OSError(f"the file {self._sent[self._at].name!r} became shorter while it was read from its worker")
        self._open().write(piece)
        self._digest.update(piece)
        self._offset += len(piece)

    def move_into_place(self) -> None:
        """Rename the files to their final names."""
        for file, part in zip(self._sent, self._parts, strict=True):
            target = self._folder / file.name
            files.make_folder(target.parent)
            part.replace(target)

    def discard(self) -> None:
        """Remove the pieces written so far."""
        if self._file is not None:
            self._file.close()
        for part in self._parts:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _open(self) -> IO[bytes]:
        if self._file is None:
            files.make_folder(self._folder)
            self._file = self._parts[self._at].open("wb")
        return self._file

    def _end_file(self) -> None:
        """Close a complete file; raises `OSError` if its content differs from the worker's file."""
        sent = self._sent[self._at]
        self._open().close()
        if self._digest.hexdigest() != sent.sha256:
            raise OSError(f"the file {sent.name!r} was changed while it was read from its worker")
        self._file, self._digest, self._offset = None, hashlib.sha256(), 0
        self._at += 1
