"""Execute an instance in an interpreter of its own, and interrupt it when it has written so many vectors.

The signal is the one that Ctrl-C sends.
"""

from __future__ import annotations

import itertools
import logging
import signal
import sys
from typing import Any

from tablevault import TableVault


def interrupt_at(vectors: int) -> None:
    """Let this interpreter interrupt itself as soon as it opens that many files for vectors."""
    opened = itertools.count(1)

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).endswith(".npy") and arguments[1] == "w" and next(opened) == vectors:
            signal.raise_signal(signal.SIGINT)

    sys.addaudithook(look)


def main(db_dir: str, table_name: str, process_id: str, vectors: str) -> None:
    """Open the vault and execute, for as long as that lasts."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    interrupt_at(int(vectors))
    TableVault(db_dir, author="librarian").execute_instance(table_name, process_id=process_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
