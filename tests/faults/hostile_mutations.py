"""Mutations of input.

Bytes are changed blindly, and values are replaced by harmful ones.
"""

from __future__ import annotations

import json
import random
from typing import Any

OUTSIDE = "../../../outside"
DEEP = 3_000

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**63 - 1,
    1e308,
    "",
    ".",
    "..",
    OUTSIDE,
    f"{OUTSIDE}/kept.txt",
    "/etc/passwd",
    "/",
    "a/b",
    "\0",
    "x" * 5_000,
    "TEMP_base",
    "metadata",
    "__import__('os').system('touch ran')",
    "2026-13-45",
    [],
    {},
    [[]],
    {"a": None},
    [None, 1],
)
"""What is put in the place of a value, wherever it is."""


def mutate_bytes(content: bytes, choice: random.Random) -> bytes:
    """Return bytes with random changes.

    Some are flipped, replaced, removed, repeated, or cut off.
    """
    data = bytearray(content)
    for _ in range(choice.choice((1, 1, 1, 2, 4, 16))):
        place = choice.randrange(len(data)) if data else 0
        match choice.randrange(6):
            case 0 if data:
                data[place] ^= 1 << choice.randrange(8)
            case 1 if data:
                data[place] = choice.choice((0, 1, 0x7F, 0x80, 0xFF, choice.randrange(256)))
            case 2:
                del data[place : place + choice.randint(1, 64)]
            case 3:
                data[place:place] = data[place : place + choice.randint(1, 64)]
            case 4:
                data[place:place] = choice.randbytes(choice.randint(1, 8))
            case _:
                del data[place:]
    return bytes(data)


def mutate_value(value: Any, choice: random.Random) -> Any:
    """Return a nested value of which one part is another, is missing, or is there twice."""
    if isinstance(value, dict) and value and choice.random() < 0.9:
        key = choice.choice(sorted(value, key=str))
        if choice.random() < 0.15:
            return {other: item for other, item in value.items() if other != key}
        return {**value, key: mutate_value(value[key], choice)}
    if isinstance(value, list | tuple) and value and choice.random() < 0.9:
        place = choice.randrange(len(value))
        items = list(value)
        match choice.randrange(8):
            case 0:
                del items[place]
            case 1:
                items.insert(place, items[place])
            case _:
                items[place] = mutate_value(items[place], choice)
        return items
    return hostile_value(value, choice)


def hostile_value(value: Any, choice: random.Random) -> Any:
    """Return a value that a reader may not expect in the place of this one."""
    if isinstance(value, str) and value and choice.random() < 0.3:
        return mutate_bytes(value.encode(), choice).decode("utf-8", "replace")
    if isinstance(value, bytes) and value and choice.random() < 0.6:
        return mutate_bytes(value, choice)
    return choice.choice(VALUES)


def mutate_json(content: bytes, choice: random.Random) -> bytes:
    """Return a JSON document with another value somewhere, or one that is nested without end."""
    if choice.random() < 0.03:
        return b'{"format":' * DEEP + b"1" + b"}" * DEEP
    try:
        return json.dumps(mutate_value(json.loads(content), choice)).encode()
    except ValueError:
        return mutate_bytes(content, choice)


class Choices(random.Random):
    """Choices derived from bytes.

    A change of a few bytes changes a few choices.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = data
        self._place = 0

    def getrandbits(self, k: int) -> int:
        """Return the next bits; random ones once the bytes are used up."""
        count = (k + 7) // 8
        if self._place + count > len(self._data):
            return super().getrandbits(k)
        found = int.from_bytes(self._data[self._place : self._place + count], "little")
        self._place += count
        return found & ((1 << k) - 1)

    def random(self) -> float:
        """Return a number from 0 to below 1, of 16 bits."""
        return self.getrandbits(16) / 65_536
