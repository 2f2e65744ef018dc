"""Values of the environment and of untracked arguments stand in no record of a failed row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from failing_tables import TOLD
from test_failure_modes import run

SECRET, KEY = "sk-env-e9f1c2", "sk-untracked-77aa"
FIELDS = {
    "on_error": "collect",
    "max_failures": "100%",
    "untracked": ["key", "token"],
    "arguments": {"auth": "Bearer ~ENV:TV_FAILING~", "key": KEY, "token": "token-of-row-<<self.x[index]>>"},
}


def raise_quoting(given):
    error = ValueError(f"refused: {given}")
    error.add_note(f"sent {given}")
    raise error


WAYS = {
    "inline": ({}, lambda **given: raise_quoting(given)),
    "retry": ({"retry": {"max_retries": 1, "on": ["ValueError"], "wait": 0}}, lambda **given: raise_quoting(given)),
    "threads": ({"max_concurrency": 2}, lambda **given: raise_quoting(given)),
    "batch": ({"return_type": "batch", "batch_size": 2}, lambda **given: raise_quoting(given)),
    "objects": (
        {"return_type": "batch", "batch_size": 2},
        lambda **given: [KeyError(str(given)) for _ in given["x"]],
    ),
    "refused": ({"validate": "check"}, lambda **given: str(given)),
}


@pytest.mark.parametrize("way", WAYS)
def test_recorded_errors_tell_no_secrets(make, monkeypatch, way):
    monkeypatch.setenv("TV_FAILING", SECRET)
    fields, answer = WAYS[way]
    table = make(answer, rows=4, **FIELDS, **fields)

    def check(answer):
        raise ValueError(f"refused {answer}")

    TOLD["check"] = check
    assert run(table) is None
    errors = table.errors()
    assert len(errors) == 4
    texts = [str(value) for column in ("message", "traceback", "result", "error") for value in errors[column]]
    stored = next(Path(table.vault.db_dir, "answers").glob("base_*/errors.parquet")).read_bytes().decode("latin-1")
    logged = Path(table.vault.db_dir, "metadata", "logs.txt").read_text()
    for text in (*texts, stored, logged):
        for secret in (SECRET, KEY, *(f"token-of-row-{x}" for x in range(4))):
            assert secret not in text or (secret == KEY and text is logged), secret


def test_views_of_failed_rows_tell_no_secrets(make, monkeypatch):
    monkeypatch.setenv("TV_FAILING", SECRET)
    arguments = {"auth": "~ENV:TV_FAILING~"}
    table = make(lambda **given: raise_quoting(given), rows=2, on_error="collect", arguments=arguments)
    assert run(table) is None
    vault = table.vault
    trace, page = vault.trace_cell("answers", 1, "answer"), vault.show("answers")
    texts = [repr(trace), trace._repr_html_(), json.dumps(trace.to_dict()), repr(page), page._repr_html_()]
    texts.append(str(vault.query('SELECT * FROM errors."answers"')[0].to_dict()))
    assert any("[~ENV:TV_FAILING~]" in text for text in texts)
    assert not [text for text in texts if SECRET in text]


def test_arguments_of_a_constructor_are_told_in_no_record(make, monkeypatch):
    monkeypatch.setenv("TV_FAILING", SECRET)
    made = []

    def answer(x):
        raise ValueError(f"refused: {made}")

    arguments = {"auth": "~ENV:TV_FAILING~"}
    table = make(answer, rows=2, on_error="collect", python_function="Answering", setup_arguments=arguments)
    TOLD["setup"] = lambda auth: made.append(auth)
    assert run(table) is None
    assert made == [SECRET]
    assert table.errors()["message"].tolist() == ["refused: ['[~ENV:TV_FAILING~]']"] * 2
