"""Classification of errors by HTTP status, code, class, transience and throttling.

Attributes of an exception are read without trusting its class. Message texts are never searched.
"""

from __future__ import annotations

import builtins
import email.utils
import math
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from tablevault.builders.policies import DIED, INVALID, TIMEOUT, TRANSIENT, WORDS, ErrorName, is_class_name
from tablevault.builders.spec import BuilderSpec
from tablevault.errors import RetryLater, StopRun
from tablevault.notes import class_name_of, message_of, name_of_class
from tablevault.ports import Ended, FunctionError
from tablevault.system import clock
from tablevault.system.interrupts import SuppressedErrors

_TRANSIENT_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_TOO_MANY_REQUESTS = 429
_MAXIMUM_WAIT = 366 * 86_400.0
"""Upper bound in seconds on the wait that a response may request."""
_TRANSIENT_CLASSES = frozenset(
    {
        ("httpx", "TransportError"),
        ("requests", "ConnectionError"),
        ("requests", "Timeout"),
        ("aiohttp", "ClientConnectionError"),
        ("urllib3", "TimeoutError"),
        ("urllib3", "ProtocolError"),
        ("openai", "APIConnectionError"),
        ("anthropic", "APIConnectionError"),
        ("botocore", "ConnectionError"),
        ("botocore", "HTTPClientError"),
    }
)
"""Transient exception classes by top-level package and name, matched without importing anything."""


_FACTS = "__tablevault_facts__"
"""Attribute of an exception with the facts that its worker sent along."""


class ErrorFacts(NamedTuple):
    """What a worker knows of an exception, which may lose its attributes or its class on the way to the owner."""

    classes: tuple[str, ...]
    """Qualified names of its class and the bases of it, in the order of resolution."""
    message: str
    status: int | None
    code: str | None
    wait: float | None
    """Seconds to wait that it requests."""
    is_transient: bool

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Return the facts about an exception."""
        known = facts_of(error)
        bases: tuple[type, ...] = type.__getattribute__(type(error), "__mro__")
        return cls(
            tuple(map(name_of_class, bases)) if known is None else known.classes,
            raised_message(error),
            status_of(error),
            code_of(error),
            told_wait(error),
            is_transient(error),
        )


def set_facts(error: BaseException, facts: ErrorFacts) -> None:
    """Attach the facts that a worker sent along with an exception."""
    with SuppressedErrors():
        BaseException.__setattr__(error, _FACTS, facts)


def facts_of(error: BaseException) -> ErrorFacts | None:
    """Return the facts that a worker sent along with an exception, if it came from one."""
    with SuppressedErrors():
        found = vars(error).get(_FACTS)
        return found if isinstance(found, ErrorFacts) else None
    return None


def raised_class(error: BaseException) -> str:
    """Return the qualified name of an exception's class where it was raised."""
    facts = facts_of(error)
    return class_name_of(error) if facts is None else facts.classes[0]


def raised_message(error: BaseException) -> str:
    """Return the text of an exception where it was raised."""
    facts = facts_of(error)
    return message_of(error) if facts is None else facts.message


class TimedOut(TimeoutError):
    """A call took longer than the builder's `timeout`.

    Records and tracebacks call it a `TimeoutError`, which `retry` and `stop_on` can name.
    """

    def __reduce__(self) -> tuple[object, ...]:
        return TimeoutError, self.args


TimedOut.__module__, TimedOut.__name__, TimedOut.__qualname__ = "builtins", "TimeoutError", "TimeoutError"


def has_timed_out(error: BaseException) -> bool:
    """Return whether an exception is that of the builder's `timeout`, not one that the function raised."""
    return type(error) is TimedOut


class InvalidResult(Exception):
    """An invalid result.

    It is not a row, does not fit its column, or was rejected by `validate`.

    Parameters
    ----------
    original
        The error that gives the reason.
    result
        The rejected result.
    """

    def __init__(self, original: BaseException, result: object) -> None:
        super().__init__(original)
        self.original = original
        self.result = result


@dataclass(frozen=True)
class RowError:
    """The error of one row."""

    error: BaseException
    """The exception, as it was raised."""
    is_invalid: bool = False
    """Whether the call returned but its result was rejected."""
    result: object = None
    """The rejected result."""
    has_died: bool = False
    """Whether two calls for the same rows each killed their worker process."""
    is_local: bool = False
    """Whether it was raised in this interpreter, even if calls run in others."""
    note: str | None = None
    """Note on its origin; empty if the error names it, `None` if the function raised it."""

    @property
    def status(self) -> int | None:
        """HTTP status that the exception carries."""
        return status_of(self.error)


def error_of(ended: Ended, doing: str) -> RowError:
    """Return the error of a call.

    Parameters
    ----------
    ended
        The failed call.
    doing
        The activity of the worker that died, such as `computing row 3`.
    """
    error = ended.error
    assert error is not None  # the call failed
    if ended.has_died:
        return RowError(ChildProcessError(f"the worker {doing} {error}"), has_died=True)
    if type(error) is FunctionError:
        # The function could not be opened; the error already names its origin.
        return RowError(error.original, note="")
    return RowError(error, is_invalid=ended.is_invalid)


def timeout_text(spec: BuilderSpec, seconds: float) -> str:
    """Return the message for a call that timed out."""
    return f"{spec.function_text} took longer than its timeout of {seconds:g} s"


def stuck_text(running: int) -> str:
    """Return the note for too many calls that go on after their timeout."""
    return (
        f"{running} calls that timed out are still running and cannot be cancelled; limit the time inside the function"
    )


_PLAIN_ERRORS = frozenset(
    kind
    for kind in vars(builtins).values()
    if isinstance(kind, type) and issubclass(kind, Exception) and not hasattr(kind, "code")
)
"""Built-in exceptions without an attribute `code`, which have a status or code only if set on the object."""


def _is_plain(error: BaseException) -> bool:
    return type(error) in _PLAIN_ERRORS and not vars(error)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of an exception or of its response; `None` if it has none."""
    if _is_plain(error):
        return None
    facts = facts_of(error)
    if facts is not None:
        return facts.status
    for holder in (error, _attribute(error, "response")):
        for name in ("status_code", "status", "code"):
            value = _attribute(holder, name)
            # `http.HTTPStatus` counts, `True` does not.
            if issubclass(type(value), int) and type(value) is not bool and 100 <= int(value) <= 599:
                return int(value)
    return None


def code_of(error: BaseException) -> str | None:
    """Return the code that an exception carries in `code` or in `body["code"]`."""
    if _is_plain(error):
        return None
    facts = facts_of(error)
    if facts is not None:
        return facts.code
    code = _attribute(error, "code")
    if isinstance(code, str):
        return code
    body = _attribute(error, "body")
    code = _item(body, "code") if isinstance(body, Mapping) else None
    return code if isinstance(code, str) else None


def told_wait(error: BaseException) -> float | None:
    """Return the wait in seconds that an exception or its response requests.

    Read from `retry_after`, `retry-after-ms` (milliseconds), or `Retry-After` (seconds or a date).
    """
    facts = facts_of(error)
    if facts is not None:
        return facts.wait
    wait = _seconds(_attribute(error, "retry_after"))
    if wait is not None:
        return wait
    for holder in (error, _attribute(error, "response")):
        headers = _attribute(holder, "headers")
        wait = _seconds(_header(headers, "retry-after-ms"), 1000)
        if wait is not None:
            return wait
        text = _header(headers, "retry-after")
        wait = _seconds(text)
        if wait is None and isinstance(text, str):
            wait = _seconds_until(text)
        if wait is not None:
            return wait
    return None


def is_throttled(error: BaseException) -> bool:
    """Return whether a service asks to slow down."""
    return status_of(error) == _TOO_MANY_REQUESTS or told_wait(error) is not None or is_a(error, RetryLater)


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed later."""
    facts = facts_of(error)
    if facts is not None:
        return facts.is_transient
    advice = _advice(error)
    if advice is not None:
        return advice
    if is_a(error, ConnectionError, TimeoutError, RetryLater) or _seconds(_attribute(error, "retry_after")) is not None:
        return True
    if status_of(error) in _TRANSIENT_STATUSES:
        return True
    return any((kind.__module__.partition(".")[0], kind.__name__) in _TRANSIENT_CLASSES for kind in type(error).__mro__)


class ErrorRules:
    """Entries of `stop_on` or `retry.on`, with their classes resolved.

    Parameters
    ----------
    entries
        The entries.
    find
        Resolves the name of an exception class; raises `LookupError` if it is unknown.
    """

    def __init__(self, entries: Iterable[ErrorName], find: Callable[[str], type[BaseException]]) -> None:
        self._statuses: set[int] = set()
        self._status_classes: set[int] = set()
        self._codes: set[str] = set()
        self._words: set[str] = set()
        classes: list[type[BaseException]] = []
        for entry in entries:
            if isinstance(entry, int):
                self._statuses.add(entry)
            elif entry in WORDS:
                self._words.add(entry)
            elif is_class_name(entry):
                classes.append(find(entry))
            elif entry.startswith("code:"):
                self._codes.add(entry.removeprefix("code:"))
            else:
                self._status_classes.add(int(entry[0]))
        self._classes = tuple(classes)
        self._is_empty = not (self._statuses or self._status_classes or self._codes or self._words or classes)

    def match(self, error: RowError) -> bool:
        """Return whether an error matches an entry."""
        if self._is_empty:
            return False
        raised = error.error
        if self._statuses or self._status_classes:
            status = status_of(raised)
            if status is not None and (status in self._statuses or status // 100 in self._status_classes):
                return True
        if self._codes and code_of(raised) in self._codes:
            return True
        if self._classes and is_a(raised, *self._classes):
            return True
        return (
            (INVALID in self._words and error.is_invalid)
            or (TIMEOUT in self._words and has_timed_out(raised))
            or (DIED in self._words and error.has_died)
            or (TRANSIENT in self._words and not error.is_invalid and is_transient(raised))
        )


def class_finder(namespace: Mapping[str, object]) -> Callable[[str], type[BaseException]]:
    """Return a resolver of exception class names, by built-ins, module or import.

    Parameters
    ----------
    namespace
        The names of the function's module.
    """

    def find(name: str) -> type[BaseException]:
        head, _, rest = name.partition(".")
        found = getattr(builtins, name, None)
        if not _is_error_class(found):
            found = _follow(namespace.get(head), rest)
        if not _is_error_class(found) and rest:
            try:
                found = pkgutil.resolve_name(name)
            except Exception as error:  # importing a package may raise anything
                raise LookupError(name) from error
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
        raise LookupError(name)

    return find


def stops_run(error: BaseException, is_remote: bool = False) -> bool:
    """Return whether an exception ends the run regardless of the policies.

    Parameters
    ----------
    error
        The exception.
    is_remote
        Whether it was raised in a worker process, which has its own memory.
    """
    return not is_a(error, Exception) or is_a(error, StopRun) or (is_a(error, MemoryError) and not is_remote)


def is_a(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Return whether an exception is of a class, ignoring a spoofed `__class__`.

    One that stands for an exception of a worker has the classes of that exception.
    """
    facts = facts_of(error)
    if facts is None or facts.classes[0] == class_name_of(error):
        return issubclass(type(error), kinds)
    return not {name_of_class(kind) for kind in kinds}.isdisjoint(facts.classes)


def _follow(value: object, path: str) -> object:
    for name in path.split(".") if path else ():
        value = getattr(value, name, None)
    return value


def _is_error_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _attribute(holder: object, name: str) -> Any:
    if holder is None:
        return None
    with SuppressedErrors():
        return getattr(holder, name, None)
    return None


def _item(mapping: object, key: str) -> object:
    with SuppressedErrors():
        return mapping[key]  # type: ignore[index]
    return None


def _header(headers: object, name: str) -> object:
    """Return a header by case-insensitive name; some clients use plain mappings."""
    if headers is None:
        return None
    get = _attribute(headers, "get")
    with SuppressedErrors():
        value = get(name)
        if value is None and isinstance(headers, Mapping):
            value = next((headers[key] for key in headers if str(key).lower() == name), None)
        return value.decode("latin-1") if isinstance(value, bytes) else value
    return None


def _advice(error: BaseException) -> bool | None:
    """Return the value of the header `x-should-retry`; `None` if it is absent or invalid."""
    for holder in (error, _attribute(error, "response")):
        text = _header(_attribute(holder, "headers"), "x-should-retry")
        if isinstance(text, str) and text.strip().lower() in ("true", "false"):
            return text.strip().lower() == "true"
    return None


def _seconds(value: object, per_second: int = 1) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value) / per_second
    except (ValueError, OverflowError):
        return None
    return min(seconds, _MAXIMUM_WAIT) if math.isfinite(seconds) and seconds >= 0 else None


def _seconds_until(date: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(date)
        return min(max(0.0, moment.timestamp() - clock.time()), _MAXIMUM_WAIT)
    except (ValueError, TypeError, OverflowError):
        return None
