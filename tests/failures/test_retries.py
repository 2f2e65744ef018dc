"""Names of errors, and the number, times and total duration of retries."""

from __future__ import annotations

import asyncio
import email.utils
import http
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping

import pandas as pd
import pytest
from failing_tables import TOLD, Refused, Response, positions, raises_first, raises_for
from hypothesis import given
from hypothesis import strategies as st
from test_failure_modes import run
from waiting import PATIENCE, until

from tablevault import tv_errors
from tablevault.builders.policies import Policies, Retry
from tablevault.rows.error_names import (
    ErrorRules,
    RowError,
    TimedOut,
    class_finder,
    code_of,
    is_throttled,
    is_transient,
    status_of,
    told_wait,
)
from tablevault.rows.schedule import FailurePolicy, Task, Verdict, backoff

# --- naming -------------------------------------------------------------------------------------------------------


def carrying(place: str, name: str, value: object) -> Refused:
    """Return an error that carries a value itself, or in its response."""
    return Refused(**{name: value}) if place == "error" else Refused(response=Response(**{name: value}))


PLACES = st.sampled_from(["error", "response"])


@given(PLACES, st.sampled_from(["status_code", "status", "code"]), st.integers(100, 599))
def test_status_is_found_wherever_clients_put_it(place, name, status):
    error = carrying(place, name, status)
    assert status_of(error) == status
    assert ErrorRules([status], class_finder({})).match(RowError(error))
    assert ErrorRules([f"{status // 100}xx"], class_finder({})).match(RowError(error))
    assert not ErrorRules([100 + (status - 99) % 500], class_finder({})).match(RowError(error))
    assert is_transient(error) == (status in (408, 409, 425, 429, 500, 502, 503, 504, 529))
    assert is_throttled(error) == (status == 429)


@pytest.mark.parametrize("value", [True, "429", 99, 600, 429.0, None, object()])
def test_status_is_an_integer(value):
    assert status_of(Refused(status_code=value)) is None


def test_status_may_be_one_of_the_standard_library():
    assert status_of(Refused(status=http.HTTPStatus.TOO_MANY_REQUESTS)) == 429


@pytest.mark.parametrize(
    "error",
    [
        Refused(code="insufficient_quota"),
        Refused(body={"code": "insufficient_quota"}),
        Refused(code=429, body={"code": "insufficient_quota"}),
        Refused(code=None, body={"code": "insufficient_quota"}),
    ],
)
def test_code_is_found_as_an_attribute_or_in_the_body(error):
    assert code_of(error) == "insufficient_quota"
    assert ErrorRules(["code:insufficient_quota"], class_finder({})).match(RowError(error))


def test_message_texts_are_never_searched():
    error = Refused("Error 429: rate limit, insufficient_quota, timeout, retry-after: 3")
    assert status_of(error) is None
    assert not is_transient(error)
    assert not is_throttled(error)


class Headers(Mapping):
    """Case-insensitive headers, like those of HTTP clients."""

    def __init__(self, values):
        self._values = {name.lower(): value for name, value in values.items()}

    def __getitem__(self, name):
        return self._values[name.lower()]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)


CASES = st.sampled_from([str.lower, str.upper, str.title])


@given(PLACES, CASES, st.sampled_from([dict, Headers]), st.integers(0, 10**6), st.booleans())
def test_seconds_to_wait_are_found_in_headers_in_any_case(place, case, kind, seconds, in_milliseconds):
    name = case("retry-after-ms" if in_milliseconds else "retry-after")
    error = carrying(place, "headers", kind({name: str(seconds * 1000 if in_milliseconds else seconds)}))
    assert told_wait(error) == seconds
    assert is_throttled(error)


@given(st.integers(1, 10**6))
def test_seconds_to_wait_may_be_a_date(seconds):
    date = email.utils.formatdate(time.time() + seconds, usegmt=True)
    wait = told_wait(Refused(response=Response(headers={"Retry-After": date})))
    assert seconds - 2 <= wait <= seconds + 1


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (7, 7), (1.5, 1.5), (True, None), (-1, None), (float("nan"), None)]
)
def test_any_exception_with_a_numeric_retry_after_counts_as_retry_later(value, expected):
    error = Refused(retry_after=value)
    assert told_wait(error) == expected
    assert is_transient(error) == (expected is not None)
    assert is_throttled(error) == (expected is not None)


@pytest.mark.parametrize("text", ["", "soon", "-5", "nan", "inf", "Wed, 99 Foo", b"\xff"])
def test_headers_without_a_time_cause_no_wait(text):
    assert told_wait(Refused(headers={"retry-after": text})) is None


@pytest.mark.parametrize("value", ["true", "false"])
def test_advice_of_the_service_comes_before_its_status(value):
    advice = {"X-Should-Retry": value}
    assert is_transient(Refused(status_code=400, response=Response(headers=advice))) == (value == "true")
    assert is_transient(Refused(status_code=503, headers=advice)) == (value == "true")


class Hostile(Exception):
    """An error whose attributes raise."""

    def __getattr__(self, name):
        raise SystemExit(name)


def test_attributes_of_an_error_are_read_without_trust():
    assert status_of(Hostile()) is None
    assert not is_transient(Hostile())
    assert not is_throttled(Hostile())


@pytest.mark.parametrize("error", [ConnectionError, ConnectionResetError, TimeoutError, tv_errors.RetryLater, TimedOut])
def test_errors_of_connections_and_time_limits_are_transient(error):
    assert is_transient(error("down") if error is not tv_errors.RetryLater else error())


@pytest.mark.parametrize("error", [ValueError, OSError, LookupError, tv_errors.StopRun, tv_errors.TVTableError])
def test_other_errors_are_not_transient(error):
    assert not is_transient(error("wrong"))


def test_headers_of_an_error_come_before_those_of_its_response():
    response = Response(headers={"retry-after": "9"})
    assert told_wait(Refused(headers={"retry-after": "3"}, response=response)) == 3
    assert told_wait(Refused(headers={}, response=response)) == 9


@pytest.mark.parametrize(
    ("package", "name"),
    [("httpx", "TransportError"), ("requests.exceptions", "Timeout"), ("aiohttp.client_exceptions", "ClientConnectionError"),
     ("urllib3.exceptions", "ProtocolError"), ("openai", "APIConnectionError"), ("anthropic", "APIConnectionError"),
     ("botocore.exceptions", "HTTPClientError"), ("requests.exceptions", "ConnectionError"),
     ("urllib3.exceptions", "TimeoutError"), ("botocore.exceptions", "ConnectionError")],
)  # fmt: skip
def test_errors_of_known_clients_are_transient_by_name(package, name):
    base = type(name, (Exception,), {"__module__": package})
    assert is_transient(type("Sub", (base,), {"__module__": "elsewhere"})())
    assert not is_transient(type(name, (Exception,), {"__module__": "elsewhere"})())


def test_errors_of_known_clients_are_recognized_without_an_import():
    before = set(sys.modules)
    for package in ("httpx", "requests", "aiohttp", "urllib3", "openai", "anthropic", "botocore"):
        is_transient(type("Unknown", (Exception,), {"__module__": f"{package}.errors"})())
    assert set(sys.modules) == before


def test_classes_are_found_among_built_ins_in_the_module_and_by_import():
    class Own(Exception):
        pass

    find = class_finder({"Own": Own, "decimal": "shadowed", "email": email})
    assert find("ValueError") is ValueError
    assert find("Own") is Own
    assert find("json.JSONDecodeError").__name__ == "JSONDecodeError"
    assert find("decimal.InvalidOperation").__name__ == "InvalidOperation"
    assert find("email.errors.MessageError").__name__ == "MessageError"
    for name in ("Missing", "json.Missing", "no_such_package.Error", "print", "json.dumps", "json"):
        with pytest.raises(LookupError):
            find(name)


def test_subclasses_match(make):
    rules = ErrorRules(["OSError"], class_finder({}))
    assert rules.match(RowError(FileNotFoundError()))
    assert not rules.match(RowError(ValueError()))


# --- decisions ----------------------------------------------------------------------------------------------------


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.integers(1, 10**9))
def test_wait_is_between_half_of_the_bound_and_the_bound(wait, max_wait, attempt):
    bound = min(max_wait, wait * 2.0 ** min(attempt - 1, 64))
    for _ in range(5):
        assert bound / 2 <= backoff(wait, max_wait, attempt) <= bound


def test_jitter_holds_at_the_cap_too():
    assert len({backoff(1, 60, 50) for _ in range(50)}) > 40


def policy(**retry):
    rules = ErrorRules(retry.get("on", ("transient",)), class_finder({}))
    return FailurePolicy(Policies(retry=Retry(**retry)), ErrorRules((401,), class_finder({})), rules, "answer")


def test_throttled_calls_consume_no_retry():
    decide = policy(max_retries=1, wait=0).decide
    task = Task((0,))
    for _ in range(50):
        decision = decide(task, RowError(Refused(status_code=429)), "", 0.0)
        assert decision.verdict is Verdict.RETRY
        task = decision.task
    assert (task.attempt, task.retries) == (51, 0)
    assert decide(task, RowError(ConnectionError()), "", 0.0).verdict is Verdict.RETRY


def test_throttled_calls_wait_at_least_as_long_as_told():
    decide = policy(max_retries=1, wait=0, max_wait=1).decide
    assert decide(Task((0,)), RowError(tv_errors.RetryLater(after=30)), "", 100.0).not_before >= 130


def test_waits_grow_with_retries_and_not_with_throttled_calls():
    decide = policy(max_retries=3, wait=1, max_wait=1000).decide
    after_throttling = Task((0,), attempt=11, retries=0, first_call=0.0)
    assert decide(after_throttling, RowError(ConnectionError()), "", 0.0).not_before <= 1


def test_max_seconds_bounds_retries_and_throttled_calls():
    decide = policy(max_retries=9, wait=0, max_seconds=10).decide
    for error in (ConnectionError(), Refused(status_code=429)):
        assert decide(Task((0,), first_call=0.0), RowError(error), "", 9.0).verdict is Verdict.RETRY
        assert decide(Task((0,), first_call=0.0), RowError(error), "", 11.0).verdict is Verdict.RAISE
    assert decide(Task((0,), first_call=0.0), RowError(tv_errors.RetryLater(11)), "", 0.0).verdict is Verdict.RAISE


def test_first_call_of_a_try_is_remembered_in_its_retries():
    decide = policy(max_retries=9, wait=0, max_seconds=10).decide
    assert decide(Task((0,), first_call=3.0), RowError(ConnectionError()), "", 4.0).task.first_call == 3.0
    assert decide(Task((0,)), RowError(ConnectionError()), "", 4.0).task.first_call == 4.0


def test_stop_on_is_checked_first():
    assert (
        policy(max_retries=9, on=("4xx",)).decide(Task((0,)), RowError(Refused(status_code=401)), "", 0.0).verdict
        is Verdict.RAISE
    )


# --- runs ---------------------------------------------------------------------------------------------------------

WAYS = {
    "inline": {},
    "threads": {"max_concurrency": 3},
    "timeout": {"timeout": 30},
    "batch": {"return_type": "batch", "batch_size": 1},
    "async": {"executor": "async"},
}


def as_way(way, by_row):
    """Return the function of one row in the form that a way of running calls."""
    if way == "batch":
        return lambda x, **given: [by_row(x[0], **given)]
    if way == "async":

        async def answer(x, **given):
            return by_row(x, **given)

        return answer
    return by_row


@pytest.mark.parametrize("way", WAYS)
def test_calls_are_repeated_exactly_as_often_as_the_builder_says(make, way):
    by_row = raises_for({3}, lambda x: ConnectionError("down"))
    table = make(as_way(way, by_row), on_error="collect", retry={"max_retries": 3, "wait": 0}, **WAYS[way])
    assert run(table) is None
    assert table.calls[3] == 4
    assert sum(table.calls.values()) == 33
    (record,) = table.errors().to_dict("records")
    assert (record["index"], record["calls"], record["error"]) == (3, 4, "ConnectionError")


@pytest.mark.parametrize("way", WAYS)
def test_successful_retry_does_not_count_as_failure(make, way):
    by_row = raises_first(2, lambda x: ConnectionError("down"))
    table = make(as_way(way, by_row), retry={"max_retries": 2, "wait": 0.001}, **WAYS[way])
    table.execute("night")
    assert table.column() == [f"a{x}" for x in range(30)]
    assert set(table.calls.values()) == {3}
    assert table.progress("night").retried == 60
    assert table.progress("night").retrying == 0


@pytest.mark.parametrize("way", WAYS)
def test_placeholders_tell_each_call_about_the_one_before(make, way):
    seen = {}

    def by_row(x, attempt, last, call_id):
        one = {
            name: value[0] if isinstance(value, list) else value for name, value in locals().items() if name != "seen"
        }
        seen.setdefault(one["x"], []).append((one["attempt"], one["last"], one["call_id"]))
        if one["attempt"] < 3:
            raise ConnectionError(f"down {one['attempt']}")
        return "a"

    table = make(
        as_way(way, by_row),
        rows=4,
        retry={"max_retries": 2, "wait": 0},
        arguments={"attempt": "~ATTEMPT~", "last": "~LAST_ERROR~", "call_id": "~CALL_ID~"},
        **WAYS[way],
    )
    table.execute()
    for calls in seen.values():
        assert [call[:2] for call in calls] == [(1, None), (2, "down 1"), (3, "down 2")]
    assert len({call[2] for calls in seen.values() for call in calls}) == 12, "each call has an id of its own"


def test_waiting_rows_block_no_others(make):
    order = []

    def answer(x):
        order.append(x)
        if x == 0 and order.count(0) == 1:
            raise tv_errors.RetryLater(after=0.3)
        time.sleep(0.02)
        return "a"

    table = make(answer, retry={"max_retries": 1, "wait": 0})
    table.execute()
    again = order.index(0, 1)
    assert again > 5, "others ran meanwhile"
    assert again < 29, "and it is repeated when it is due, not after all others"


@pytest.mark.parametrize(
    "fields",
    [{"max_concurrency": 2}, {"executor": "async", "max_concurrency": 2}, {"service": "api"}],
    ids=["threads", "async", "slot of a service"],
)
def test_waiting_row_occupies_no_place(make, fields):
    def by_row(x):
        if x < 3:
            raise ConnectionError("down")
        if x == 29:
            raise tv_errors.StopRun("enough")
        return "a"

    way = "async" if fields.get("executor") == "async" else "inline"
    retry = {"max_retries": 1, "wait": 1000, "max_wait": 1000, "max_seconds": 9000}
    table = make(as_way(way, by_row), retry=retry)
    table.vault.set_service("api", {"max_concurrency": 1})
    table.build_answer(retry=retry, **fields)
    assert isinstance(run(table), tv_errors.StopRun)
    assert table.calls == dict.fromkeys(range(30), 1), "all others were called while three waited"


def test_duration_of_a_failed_call_is_not_that_of_the_calls_before(make):
    def answer(x):
        if x == 6:
            raise ValueError("six")
        time.sleep(0.5)
        return f"a{x}"

    table = make(answer, rows=7, on_error="collect", max_failures=1)
    assert run(table) is None
    (record,) = table.errors().to_dict("records")
    # The calls before took three seconds.
    assert record["seconds"] < 2


def test_time_for_retries_counts_from_the_start_of_a_call_after_others(make):
    def answer(x):
        if x == 2:
            time.sleep(2)
            raise ValueError("two")
        return f"a{x}"

    retry = {"max_retries": 3, "on": ["ValueError"], "wait": 0, "max_seconds": 1}
    table = make(answer, rows=3, on_error="collect", max_failures=1, retry=retry)
    assert run(table) is None
    assert table.calls[2] == 1


def test_tries_begin_anew_after_a_pause(make):
    seen = []

    def answer(x, attempt, last):
        if x == 1:
            seen.append((attempt, last))
            if len(seen) == 2:
                raise tv_errors.StopRun("enough")
            if len(seen) < 4:
                raise ConnectionError("down")
        return "a"

    arguments = {"attempt": "~ATTEMPT~", "last": "~LAST_ERROR~"}
    table = make(answer, rows=2, retry={"max_retries": 1, "wait": 0}, arguments=arguments)
    assert isinstance(run(table), tv_errors.StopRun)
    assert run(table) is None
    assert seen == [(1, None), (2, "down"), (1, None), (2, "down")]


def test_placeholders_of_retries_do_not_count_for_reuse(make):
    by_row = raises_first(1, lambda x: ConnectionError("down"))
    arguments = {"attempt": "~ATTEMPT~", "last": "~LAST_ERROR~"}
    table = make(lambda x, attempt, last: by_row(x), rows=3, retry={"wait": 0}, arguments=arguments)
    table.execute()
    table.copy()
    table.execute()
    assert table.calls == {0: 2, 1: 2, 2: 2}


@pytest.mark.parametrize("retry", [0, {"max_retries": 5, "on": ["ValueError"], "wait": 0, "max_seconds": 1}])
def test_throttled_call_that_is_not_to_be_retried_is_an_error_at_once(make, retry):
    table = make(raises_for({1}, lambda x: Refused(status_code=429)), rows=3, on_error="collect", retry=retry)
    assert run(table) is None
    assert table.calls[1] == 1
    assert table.errors()["status"].tolist() == [429]


@pytest.mark.parametrize("way", WAYS)
def test_cancellation_is_never_retried_or_collected(make, way):
    retry = {"max_retries": 3, "on": ["transient", "Exception"], "wait": 0}
    by_row = raises_for({3}, lambda x: asyncio.CancelledError())
    table = make(as_way(way, by_row), on_error="collect", retry=retry, **WAYS[way])
    with pytest.raises(asyncio.CancelledError):
        table.execute("night")
    assert table.calls[3] == 1
    assert len(table.errors("night")) == 0


@pytest.mark.parametrize("way", WAYS)
def test_error_that_stop_on_names_is_never_retried_or_collected(make, way):
    by_row = raises_for({4}, lambda x: ConnectionError("down"))
    fields = {"on_error": "collect", "stop_on": ["ConnectionError"], "retry": {"max_retries": 3, "wait": 0}}
    table = make(as_way(way, by_row), rows=6, **fields, **WAYS[way])
    assert isinstance(run(table), ConnectionError)
    assert table.calls[4] == 1
    assert table.vault.get_process("night").status == "paused"
    assert positions(table.errors("night")) == []


def test_refused_result_that_stop_on_names_ends_the_run(make):
    table = make(lambda x: object() if x == 2 else "a", rows=4, on_error="collect", stop_on=["invalid"])
    assert isinstance(run(table), TypeError)
    assert table.vault.get_process("night").status == "paused"
    assert positions(table.errors("night")) == []


@pytest.mark.parametrize("way", ["threads", "async"])
def test_timeout_is_retried_or_ends_the_run_where_a_policy_names_it(make, way):
    over, late = threading.Event(), Counter()

    def is_late(x):
        late[x] += 1
        return x == 1 and late[x] == 1

    def answer(x):
        if is_late(x):
            over.wait(120)
        return f"a{x}"

    async def answer_async(x):
        if is_late(x):
            await asyncio.sleep(600)
        return f"a{x}"

    table = make(answer if way == "threads" else answer_async, rows=3, timeout=1, on_error="collect")
    policies = {"answer": {"stop_on": ["timeout"]}}
    with pytest.raises(TimeoutError):
        table.execute("night", policies=policies)
    assert positions(table.errors("night")) == []
    late.clear()
    table.execute("night", policies={"answer": {"retry": {"max_retries": 1, "on": ["timeout"], "wait": 0}}})
    over.set()
    assert table.column() == ["a0", "a1", "a2"]
    assert late[1] == 2


def test_refused_row_of_a_batch_fails_alone(make):
    def check(low, high):
        if high == 4:
            raise ValueError("too high")

    fields = {"return_type": "batch", "batch_size": 3, "changed_columns": ["low", "high"]}
    table = make(lambda x: [(-row, row) for row in x], rows=6, on_error="collect", validate="check", **fields)
    TOLD["check"] = check
    assert run(table) is None
    assert positions(table.errors()) == [4]
    assert table.errors()["result"].tolist() == [[-4, 4]]
    assert table.calls == dict.fromkeys(range(6), 1)


def test_refused_result_is_kept_in_the_record_and_retried_as_invalid(make):
    table = make(
        lambda x: {"score": x},
        rows=3,
        on_error="collect",
        retry={"max_retries": 1, "on": ["invalid"], "wait": 0},
        validate="check",
    )

    def check(answer):
        if answer["score"] == 1:
            raise ValueError("too low")

    TOLD["check"] = check
    assert run(table) is None
    (record,) = table.errors().to_dict("records")
    assert (record["index"], record["message"], record["result"], record["calls"]) == (1, "too low", {"score": 1}, 2)


def test_refused_frame_is_retried_as_invalid(make):
    told = []

    def answer(x, error):
        told.append(error)
        return pd.DataFrame({"answer": range(x)[len(told) == 1 :]})

    fields = {"return_type": "dataframe", "arguments": {"x": 3, "error": "~LAST_ERROR~"}}
    table = make(answer, rows=3, retry={"max_retries": 1, "on": ["invalid"], "wait": 0}, **fields)
    assert run(table) is None
    assert table.column() == [0, 1, 2]
    first, second = told
    assert first is None
    assert "returned 2 rows; the instance has 3" in second


@pytest.mark.parametrize("on_error", ["pause", "revert"])
def test_refused_frame_ends_the_run_unless_invalid_results_are_retried(make, on_error):
    fields = {"return_type": "dataframe", "arguments": {"x": 2}, "on_error": on_error}
    table = make(lambda x: pd.DataFrame({"answer": range(x)}), rows=3, retry={"wait": 0}, **fields)
    error = run(table)
    assert "returned 2 rows; the instance has 3" in str(error)
    assert not any(note.startswith("raised by") for note in error.__notes__)
    assert table.calls == {2: 1}
    assert table.vault.get_process("night").status == ("paused" if on_error == "pause" else "reverted")


def test_validator_that_exits_ends_the_run_at_once(make):
    table = make(lambda x: "a", on_error="collect", validate="check")

    def check(answer):
        raise SystemExit("over")

    TOLD["check"] = check
    with pytest.raises(SystemExit):
        table.execute("night")
    assert table.calls[0] == 1


def test_stop_is_seen_while_waiting(make):
    table = make(raises_for({0}, lambda x: tv_errors.RetryLater(after=60)), rows=1, retry=1)
    ended = []

    def execute():
        try:
            table.execute("night")
        except tv_errors.TVForcedError as error:
            ended.append(error)

    thread = threading.Thread(target=execute)
    thread.start()
    while not table.calls[0]:
        time.sleep(0.01)
    table.vault.stop_process("night", force=True, timeout=30)
    thread.join(30)  # Half of the time for which the row waits.
    assert ended


def test_stop_is_neither_retried_nor_collected(make):
    retry = {"max_retries": 5, "on": ["transient", "Exception"]}
    table = make(raises_for({0}, lambda x: tv_errors.RetryLater(after=600)), rows=1, on_error="collect", retry=retry)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(run(table)))
    thread.start()
    until(lambda: table.calls[0])
    table.vault.stop_process("night", force=True, timeout=PATIENCE)
    thread.join(PATIENCE)
    assert isinstance(ended[0], tv_errors.TVForcedError)
    assert table.calls[0] == 1
    assert len(table.errors("night")) == 0


def test_secrets_of_all_rows_of_a_batch_are_told_nowhere(make):
    def answer(x, token):
        return [ValueError(f"tokens: {token}") if row == 3 else "a" for row in x]

    table = make(
        answer,
        rows=6,
        on_error="collect",
        return_type="batch",
        untracked=["token"],
        arguments={"token": "token-of-row-<<self.x[index]>>"},
    )
    assert run(table) is None
    assert positions(table.errors()) == [3]
    assert "token-of-row" not in table.errors()["message"][0]
