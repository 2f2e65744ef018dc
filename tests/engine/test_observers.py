"""The observer of an engine.

It is told about the work of each attempt, however it ends.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tablevault.operations import CreateTable, ExecuteInstance
from tablevault.processes.engine import Engine
from tablevault.state.opening import Settings, open_context


class Recorder:
    """Notes when work begins and ends, and how far it was."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    @contextmanager
    def working(self, progress):
        self.seen.append("begun")
        try:
            yield
        finally:
            self.seen.append({name: item.computed for name, item in progress.snapshot().items()})


def test_observer_sees_the_progress_of_the_work(job):
    recorder = Recorder()
    Engine(open_context(job.path, Settings()), recorder).run(ExecuteInstance("stories"))
    assert recorder.seen == ["begun", {"stories_index": 10, "answer": 10}]


def test_observer_is_not_told_of_work_without_rows(job):
    recorder = Recorder()
    Engine(open_context(job.path, Settings()), recorder).run(CreateTable("poems"))
    assert recorder.seen == []


def test_observer_is_left_when_the_work_fails(job):
    job.tell("fail", 4)
    recorder = Recorder()
    with pytest.raises(RuntimeError):
        Engine(open_context(job.path, Settings()), recorder).run(ExecuteInstance("stories"))
    begun, progress = recorder.seen
    assert (begun, progress["answer"]) == ("begun", 4)


def test_engine_needs_no_observer(job):
    outcome = Engine(open_context(job.path, Settings())).run(CreateTable("poems"), "made")
    assert (outcome.kind, outcome.process_id) == ("succeeded", "made")
    assert "poems" in job.vault.get_tables()
