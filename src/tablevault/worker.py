"""The background worker: takes one prepared process over and runs it to its end.

Started by `workers.hand_over`; not meant to be called by people.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tablevault.engine import Engine
from tablevault.opening import Settings, open_context


def main(arguments: list[str]) -> int:
    """Run the process with this number, if it is still in the attempt that handed it over.

    Parameters
    ----------
    arguments
        The vault's folder, the process's number, the number of its attempt.
    """
    db_dir, serial, attempt = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    context = open_context(db_dir, Settings())
    record = context.catalog.processes.get(serial)
    if record is None or record.attempt != attempt:
        return 0
    author = open_context(db_dir, Settings(author=record.author))
    Engine(author).take_over(record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
