"""Notes on exceptions that are not ours."""

from __future__ import annotations

import contextlib


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception of whatever class: one that takes none is still the one to be raised."""
    with contextlib.suppress(Exception):
        try:
            error.add_note(note)
        except Exception:  # noqa: BLE001 - a frozen dataclass, for example, lets nothing be set
            BaseException.__setattr__(error, "__notes__", [*getattr(error, "__notes__", ()), note])
