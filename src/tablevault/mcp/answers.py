"""Answers of tools.

They are JSON of bounded size, with a note on omitted parts and on narrower requests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypedDict

import msgspec

from tablevault.presentation.cells import ShownCell, ShownFrame
from tablevault.presentation.json_text import plain
from tablevault.system.warnings import hear_warnings

MAXIMUM_CHARACTERS = 20_000
"""Of an answer as JSON."""
CELL_CHARACTERS = 500
_ROOM_FOR_LENGTH = 40
"""Characters that tell how long a text is that was cut."""
_MAXIMUM_ITEMS, _MINIMUM_ITEMS = 1_000, 5
"""Of a list or an object; fewer where they would not fit."""
_ERROR_CHARACTERS = 4_000


class Answer(TypedDict):
    """The answer of a tool."""

    rows: list[Any]
    returned: int
    total: int | None
    truncated: bool
    advice: str
    facts: dict[str, Any]


def answer(
    rows: Sequence[object] = (),
    total: int | None = -1,
    advice: str = "",
    facts: Mapping[str, object] | None = None,
) -> Answer:
    """Return rows and facts as an answer that is not too long.

    Parameters
    ----------
    rows
        The rows that are told: as many as fit are taken.
    total
        How many there are; -1 for as many as given, `None` where that is not known.
    advice
        How to ask for less, told only where something is left out.
    facts
        Everything else; the warnings of the call are added.
    """
    shown_rows: list[Any] = [short(plain(row), CELL_CHARACTERS + _ROOM_FOR_LENGTH) for row in rows]
    heard = hear_warnings()
    told = {"warnings": heard, **(facts or {})} if heard else facts or {}
    whole_facts = {name: plain(value) for name, value in told.items()}
    length, items = CELL_CHARACTERS, _MAXIMUM_ITEMS
    shown_facts = {name: short(value, length, items) for name, value in whole_facts.items()}
    are_cut = False
    while len(_text(shown_facts)) > MAXIMUM_CHARACTERS * 3 // 4 and length > 1:
        # Few items that can be read tell more than many that cannot.
        are_cut = True
        length, items = (length, items // 2) if items > _MINIMUM_ITEMS else (length // 2, items)
        shown_facts = {name: short(value, length, items) for name, value in whole_facts.items()}
    room = MAXIMUM_CHARACTERS - len(_text(shown_facts)) - len(advice) - 200
    sizes = [len(_text(row)) + 2 for row in shown_rows]
    count = 0
    while count < len(sizes) and room >= sizes[count]:
        room -= sizes[count]
        count += 1
    known = len(rows) if total == -1 else total
    cut = are_cut or count < len(rows) or (known is not None and known > count) or (known is None and bool(rows))
    return Answer(
        rows=shown_rows[:count],
        returned=count,
        total=known,
        truncated=cut,
        advice=advice if cut else "",
        facts=shown_facts,
    )


def error_text(told: Sequence[str]) -> str:
    """Return the text of an error, shortened to the length of an answer.

    It may quote the client's arguments, which are of any length.
    """
    return str(short("\n".join(told), _ERROR_CHARACTERS))


def short(value: Any, characters: int = CELL_CHARACTERS, items: int = _MAXIMUM_ITEMS) -> Any:
    """Return a plain value with long texts, lists and objects cut, each with its length."""
    if isinstance(value, str):
        return value if len(value) <= characters else f"{value[:characters]}… ({len(value):,} characters)"
    if isinstance(value, list):
        shown = [short(item, characters, items) for item in value[:items]]
        return shown if len(value) <= items else [*shown, f"… ({len(value):,} items)"]
    if isinstance(value, dict):
        kept = {short(str(name), characters): short(value[name], characters, items) for name in islice(value, items)}
        return kept if len(value) <= items else {**kept, "…": f"{len(value):,} items"}
    return value


def rows_of(frame: ShownFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as objects.

    A cell without a value contains the reason.
    """
    names = [column.name for column in frame.columns]
    return [dict(zip(names, map(cell_value, row.cells), strict=True)) for row in frame.rows]


def cell_value(cell: ShownCell) -> Any:
    """Return a cell as JSON has it."""
    match cell.state:
        case "null":
            return None
        case "number":
            return _number(cell.text)
        case "failed" | "skipped" if cell.failure is not None:
            failure = cell.failure
            why = f"{failure.error}: {failure.message}" if failure.error else failure.cause
            return {cell.state: short(why)}
        case "not computed":
            return {"not computed": True}
    return cell.text if cell.length is None else f"{cell.text}… (length {cell.length:,})"


def _number(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)
    except ValueError:
        return text


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
