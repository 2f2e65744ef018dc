"""The background worker, which claims one prepared process and runs it to its end.

Started by `background.hand_over`; not a public command.
"""

from __future__ import annotations

import contextlib
import json
import sys
from io import TextIOWrapper
from pathlib import Path

from tablevault.notes import traceback_of
from tablevault.processes.engine import Engine
from tablevault.state.opening import Settings, open_context
from tablevault.texts.plain import MAXIMUM_RECORDED, shown


def main(arguments: list[str]) -> int:
    """Run the given process if it is still in the attempt that handed it over.

    Parameters
    ----------
    arguments
        The vault's folder, the process's number and its attempt number. The cluster options, and the arguments that
        the call has replaced, are read from standard input.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # The log accepts any output of functions, independently of the terminal's encoding.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    db_dir, serial, attempt = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    given = json.loads(sys.stdin.read())
    context = open_context(db_dir, Settings())
    record = context.catalog.processes.get(serial)
    if record is None or record.attempt != attempt:
        return 0
    author = open_context(db_dir, Settings(author=record.author, ray=given["ray"]))
    engine = Engine(author)
    try:
        engine.take_over(record, given["earlier_arguments"])
    except BaseException as error:  # noqa: BLE001 - it is recorded; here it is only printed
        with contextlib.suppress(OSError):
            print(shown(engine.secrets(traceback_of(error)), MAXIMUM_RECORDED), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
