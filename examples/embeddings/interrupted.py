"""Execute an instance, and send SIGINT, the signal of Ctrl-C, when a number of vectors has been written."""

from __future__ import annotations

import itertools
import logging
import signal
import sys
from typing import Any

from tablevault import TableVault


def interrupt_at(vectors: int) -> None:
    """Interrupt this interpreter when it opens the n-th file for a vector."""
    opened = itertools.count(1)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).endswith(".npy") and arguments[1] == "w" and next(opened) == vectors:
            signal.raise_signal(signal.SIGINT)

    sys.addaudithook(watch)


def main(db_dir: str, table_name: str, process_id: str, vectors: str) -> None:
    """Open the vault and execute until the interrupt."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    interrupt_at(int(vectors))
    TableVault(db_dir, author="librarian").execute_instance(table_name, process_id=process_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
