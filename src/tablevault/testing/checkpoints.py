"""Conformance checks of checkpoint logs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from tablevault.ports import CheckpointLog

MakeLog = Callable[[], CheckpointLog]
"""Returns a log for the next attempt of the same process."""
CheckpointLogCheck = Callable[[MakeLog], None]

_PARTS = (("a", b"first"), ("b", b""), ("a", b"\0\xff" * 1000), ("ü", b"x" * 3_000_000))


def parts_are_read_in_the_order_of_appending(make: MakeLog) -> None:
    """All parts come back as they were, also those of one builder, from the same log and from another."""
    log = _created(make)
    for part in _PARTS:
        log.append([part])
    for reader in (log, make()):
        assert _read(reader) == list(_PARTS)
        assert _read(reader, "a") == [_PARTS[0], _PARTS[2]]
        assert _read(reader, "missing") == []
    log.close()
    assert _read(make()) == list(_PARTS)


def parts_appended_together_are_read_together(make: MakeLog) -> None:
    """A reader never sees some of the parts of one call."""
    log = _created(make)
    reader, counts, is_over = make(), set[int](), threading.Event()

    def read() -> None:
        while not is_over.is_set():
            counts.add(len(_read(reader)))

    reading = threading.Thread(target=read)
    reading.start()
    try:
        for _ in range(200):
            log.append([("a", b"x" * 1000), ("b", b"y"), ("a", b"z")])
    finally:
        is_over.set()
        reading.join()
    log.close()
    assert len(_read(make())) == 600
    assert all(count % 3 == 0 for count in counts)


def an_attempt_continues_where_the_last_one_ended(make: MakeLog) -> None:
    """An attempt appends after the parts of all earlier ones, however they ended."""
    endings: tuple[Callable[[CheckpointLog], None], ...] = (
        lambda log: log.close(),
        lambda log: log.abandon(),
        lambda log: None,
    )
    for number, end in enumerate(endings, start=1):
        log = _created(make)
        log.prepare()
        log.append([("a", f"{number}".encode())])
        log.append([("b", f"{number}".encode())])
        end(log)
        assert [content for _, content in _read(make(), "a")] == [f"{n}".encode() for n in range(1, number + 1)]
    assert [builder for builder, _ in _read(make())] == ["a", "b"] * len(endings)


def an_empty_log_has_no_parts(make: MakeLog) -> None:
    """A log that was not created, not prepared or not appended to has no parts."""
    assert _read(make()) == []
    log = _created(make)
    log.create()
    assert _read(log) == []
    log.prepare()
    log.prepare()
    assert _read(log) == []
    log.close()
    log.close()
    log.abandon()
    assert _read(make()) == []


def a_log_may_be_used_after_it_was_closed(make: MakeLog) -> None:
    """A log that was closed or abandoned begins anew with the next call."""
    log = _created(make)
    log.append([("a", b"1")])
    log.close()
    log.append([("a", b"2")])
    log.abandon()
    log.append([("a", b"3")])
    assert _read(make()) == [("a", b"1"), ("a", b"2"), ("a", b"3")]
    log.close()


def frames_are_saved_under_names_of_their_own(make: MakeLog) -> None:
    """Each saved frame keeps its content, whatever is saved later for the same builder."""
    log = _created(make)

    def saved(content: bytes) -> str:
        return log.save_frame("a", lambda path: path.write_bytes(content))

    names = [saved(content) for content in (b"one", b"two")]
    assert len(set(names)) == 2
    for reader in (log, make()):
        assert [reader.frame(name).read_bytes() for name in names] == [b"one", b"two"]
    log.close()


def an_error_of_writing_a_frame_is_raised(make: MakeLog) -> None:
    """An error while a frame is written leaves the log as it was."""
    log = _created(make)
    log.append([("a", b"1")])

    def fail(_: Path) -> None:
        raise OSError("no room")

    raised = []
    try:
        log.save_frame("a", fail)
    except OSError as error:
        raised.append(str(error))
    assert raised == ["no room"]
    log.append([("a", b"2")])
    log.close()
    assert [content for _, content in _read(make())] == [b"1", b"2"]


def _created(make: MakeLog) -> CheckpointLog:
    log = make()
    log.create()
    return log


def _read(log: CheckpointLog, builder: str | None = None) -> list[tuple[str, bytes]]:
    parts = list(log.read(builder))
    assert all(part.place for part in parts)
    return [(part.builder, part.content) for part in parts]


CHECKPOINT_LOG_CHECKS: tuple[CheckpointLogCheck, ...] = (
    parts_are_read_in_the_order_of_appending,
    parts_appended_together_are_read_together,
    an_attempt_continues_where_the_last_one_ended,
    an_empty_log_has_no_parts,
    a_log_may_be_used_after_it_was_closed,
    frames_are_saved_under_names_of_their_own,
    an_error_of_writing_a_frame_is_raised,
)
"""Checks of the `tablevault.ports.CheckpointLog` contract."""
