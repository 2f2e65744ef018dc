"""History of several interpreters at one vault.

Each records its calls in a separate file; they are judged afterwards.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forking import opened_log

from tablevault import TableVaultError

FOREVER = float("inf")


@dataclass(frozen=True)
class Event:
    """One call, with its start, its end and its result."""

    operation: str
    arguments: dict[str, Any]
    called: float
    returned: float = FOREVER
    """Never, if its interpreter was killed: then it is unknown whether it took effect."""
    result: Any = None
    error: str | None = None
    refused: bool = False
    """Whether the error is one of the vault's own: the call had no effect."""

    @property
    def acknowledged(self) -> bool:
        """Whether the caller was told that it is done."""
        return self.returned < FOREVER and self.error is None


class Recorder:
    """Notes the calls of one interpreter."""

    def __init__(self, folder: Path, counted: Callable[[], None]) -> None:
        # The number of a process is given again; that of a moment is not.
        self._log = opened_log(folder / f"events-{os.getpid()}-{time.monotonic_ns()}")
        self._counted = counted
        self._number = 0

    def call(self, operation: str, function: Callable[[], Any], **arguments: Any) -> Any:
        """Make a call and note it; return what it gives, `None` if it raises."""
        self._number += 1
        self._note(number=self._number, operation=operation, arguments=arguments, called=time.monotonic())
        answer: dict[str, Any]
        try:
            result = function()
            answer = {"result": result}
        except Exception as error:
            result = None
            answer = {"error": f"{type(error).__name__}: {error}", "refused": isinstance(error, TableVaultError)}
        self._note(number=self._number, returned=time.monotonic(), **answer)
        self._counted()
        return result

    def _note(self, **facts: Any) -> None:
        os.write(self._log, (json.dumps(facts) + "\n").encode())


def read_events(folder: Path) -> list[Event]:
    """Return all calls that were noted, in the order in which they were made."""
    events = []
    for path in folder.glob("events-*"):
        calls: dict[int, dict[str, Any]] = {}
        for line in path.read_bytes().splitlines():
            facts = json.loads(line)
            calls.setdefault(facts.pop("number"), {}).update(facts)
        events += [Event(**facts) for facts in calls.values()]
    return sorted(events, key=lambda event: event.called)


@dataclass
class Life:
    """When something can have come to be, and when it can have gone."""

    possible: float = FOREVER
    """Its earliest call."""
    certain: float = FOREVER
    """The first moment at which a client knew that it exists."""
    may_be_gone: float = FOREVER
    gone: float = FOREVER


@dataclass
class Instances:
    """The instances of one table, as all calls together show them."""

    lives: dict[str, Life] = field(default_factory=lambda: defaultdict(Life))
    token_of: dict[str, str] = field(default_factory=dict)


def anomalies(events: list[Event]) -> Iterator[str]:
    """Yield what no order of the calls, one after the other, can explain."""
    yield from _strange_errors(events)
    yield from _wrong_tables(events)
    yield from _wrong_instances(events)
    yield from _wrong_modules(events)


# --- errors -----------------------------------------------------------------------------------------------------------

READS = (
    "get_tables",
    "get_table_instances",
    "get_dataframe",
    "newest",
    "get_code_module_str",
    "get_active_processes",
    "get_history",
    "get_process_completion",
)


def _strange_errors(events: list[Event]) -> Iterator[str]:
    leaving = _leaving(events)
    for event in events:
        if event.error is None:
            continue
        if not event.refused:
            yield f"an error that is none of the vault's own: {event}"
        elif event.operation in READS:
            table, instance = event.arguments.get("table"), event.arguments.get("instance")
            gone = min(leaving.get(("table", table), FOREVER), leaving.get(("instance", instance), FOREVER))
            if gone > event.returned:
                yield f"a read failed before any removal had begun: {event}"


def _leaving(events: list[Event]) -> dict[tuple[str, Any], float]:
    """Return when the removal of each table or instance was first tried."""
    first: dict[tuple[str, Any], float] = {}
    for event in events:
        if event.operation in ("delete_table", "rename_table"):
            first.setdefault(("table", event.arguments["table"]), event.called)
        if event.operation == "delete_instance":
            first.setdefault(("instance", event.arguments["instance"]), event.called)
    return first


# --- tables -----------------------------------------------------------------------------------------------------------


def _wrong_tables(events: list[Event]) -> Iterator[str]:
    lives: dict[str, Life] = defaultdict(Life)
    for event in events:
        if event.error is not None:
            continue
        comes = {"create_table": "table", "rename_table": "new"}.get(event.operation)
        goes = {"delete_table": "table", "rename_table": "table"}.get(event.operation)
        if comes:
            _comes(lives[event.arguments[comes]], event)
        if goes:
            _goes(lives[event.arguments[goes]], event)
    for event in _successful(events, "get_tables"):
        yield from _wrong_listing(event, lives, set(event.result))


def _comes(life: Life, event: Event) -> None:
    life.possible = min(life.possible, event.called)
    life.certain = min(life.certain, event.returned)


def _goes(life: Life, event: Event) -> None:
    life.may_be_gone = min(life.may_be_gone, event.called)
    life.gone = min(life.gone, event.returned)


def _wrong_listing(event: Event, lives: dict[str, Life], listed: set[str]) -> Iterator[str]:
    for name in listed:
        life = lives[name]
        if life.possible > event.returned:
            yield f"'{name}' is shown before anybody made it: {event}"
        if life.gone < event.called:
            yield f"'{name}' is shown though it was gone {event.called - life.gone:.3f} s before: {event}"
    for name, life in lives.items():
        if life.certain < event.called and life.may_be_gone > event.returned and name not in listed:
            yield f"'{name}' is lost: it was there {event.called - life.certain:.3f} s before: {event}"


# --- instances --------------------------------------------------------------------------------------------------------


def _wrong_instances(events: list[Event]) -> Iterator[str]:
    made = _made(events)
    tables: dict[str, Instances] = defaultdict(Instances)
    for event in _successful(events, "get_dataframe", "newest"):
        # A table whose instances were all deleted meanwhile has no newest one.
        if event.result is not None:
            yield from _wrong_frame(event, made, tables[event.arguments["table"]])
    yield from _doubled(tables)
    for event in _successful(events, "get_table_instances"):
        for instance in event.result:
            life = tables[event.arguments["table"]].lives[instance]
            life.possible, life.certain = min(life.possible, 0.0), min(life.certain, event.returned)
    for event in events:
        if event.operation == "delete_instance" and event.error is None:
            _goes(tables[event.arguments["table"]].lives[event.arguments["instance"]], event)
    for name, instances in tables.items():
        for instance, token in instances.token_of.items():
            _comes_of(instances.lives[instance], made[token])
        yield from _lost_writes(name, instances, made)
    for event in _successful(events, "get_table_instances"):
        yield from _wrong_listing(event, tables[event.arguments["table"]].lives, set(event.result))
    yield from _wrong_order(events)


def _made(events: list[Event]) -> dict[str, list[Event]]:
    """Return the calls that make each frame, by the token in it."""
    made: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event.operation in ("write_instance", "execute_instance"):
            made[event.arguments["token"]].append(event)
    return made


def _comes_of(life: Life, calls: list[Event]) -> None:
    life.possible = min(call.called for call in calls)
    life.certain = min([life.certain, *(call.returned for call in calls if call.acknowledged)])


def _wrong_frame(event: Event, made: dict[str, list[Event]], instances: Instances) -> Iterator[str]:
    instance, tokens, rows = event.result["instance"], event.result["tokens"], event.result["rows"]
    if len(tokens) != 1 or rows != int(tokens[0].rsplit("-", 1)[1]):
        yield f"a frame is torn: {event}"
        return
    calls = made.get(tokens[0], [])
    if not any(call.called < event.returned for call in calls):
        yield f"a frame is shown before anybody made it: {event}"
    elif all(call.refused for call in calls):
        yield f"a frame is shown though every call that makes it was refused: {event}; {calls}"
    elif instances.token_of.setdefault(instance, tokens[0]) != tokens[0]:
        yield f"an instance was another before: {event}, {instances.token_of[instance]}"
    life = instances.lives[instance]
    life.certain = min(life.certain, event.returned)


def _doubled(tables: dict[str, Instances]) -> Iterator[str]:
    where: dict[str, list[str]] = defaultdict(list)
    for name, instances in tables.items():
        for instance, token in instances.token_of.items():
            where[token].append(f"{name} {instance}")
    for token, places in where.items():
        if len(places) > 1:
            yield f"one call had its effect twice: {token} is in {places}"


def _lost_writes(name: str, instances: Instances, made: dict[str, list[Event]]) -> Iterator[str]:
    """Compare acknowledged writes with observed ones.

    An instance that was deleted before it was read has no token.
    """
    seen = set(instances.token_of.values())
    unseen = [
        token
        for token, calls in made.items()
        if calls[0].arguments["table"] == name and token not in seen and any(call.acknowledged for call in calls)
    ]
    unread = [
        instance
        for instance, life in instances.lives.items()
        if instance not in instances.token_of and life.may_be_gone < FOREVER
    ]
    if len(unseen) > len(unread):
        yield f"acknowledged in {name}, and never seen: {unseen}; deleted unread: {unread}"


def _wrong_order(events: list[Event]) -> Iterator[str]:
    """Compare the orders of instances in the listings of each table."""
    after: dict[str, dict[str, int]] = defaultdict(dict)
    for event in sorted(_successful(events, "get_table_instances"), key=lambda event: event.returned):
        places = after[event.arguments["table"]]
        known = [places[instance] for instance in event.result if instance in places]
        if known != sorted(known):
            yield f"instances have changed places: {event}"
        for instance in event.result:
            places.setdefault(instance, len(places))


# --- code modules -----------------------------------------------------------------------------------------------------


def _wrong_modules(events: list[Event]) -> Iterator[str]:
    writes: dict[str, dict[str, Event]] = defaultdict(dict)
    for event in events:
        if event.operation == "create_code_module" and event.error is None:
            writes[event.arguments["module"]][event.arguments["token"]] = event
    for event in _successful(events, "get_code_module_str"):
        of_module = writes[event.arguments["module"]]
        write = of_module.get(event.result)
        if write is None or write.called > event.returned:
            yield f"a module's text is shown that was never written: {event}"
            continue
        for later in of_module.values():
            if write.returned < later.called and later.returned < event.called:
                yield f"a module's text is shown that was replaced {event.called - later.returned:.3f} s before: {event}"


def _successful(events: list[Event], *operations: str) -> Iterator[Event]:
    return (event for event in events if event.operation in operations and event.acknowledged)
