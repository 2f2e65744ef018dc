"""Values of the environment and of untracked arguments stand in no record of a failed row."""

from __future__ import annotations

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
