"""The examples, except the tour of the atlas, which has a file of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

needs_the_model = pytest.mark.skipif(sys.version_info >= (3, 14), reason="wordllama is built for Python up to 3.13")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("agent", marks=pytest.mark.slow),
        pytest.param("ask_documents", marks=pytest.mark.slow),
        pytest.param("judge_answers", marks=pytest.mark.slow),
        pytest.param("embeddings", marks=[needs_the_model, pytest.mark.slow]),
    ],
)
def test_an_example_passes_its_checks_and_removes_its_folder(name, tmp_path):
    run = EXAMPLES / name / "run.py"
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(run)],
        env={**os.environ, "TMPDIR": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "All checks passed" in finished.stdout
    assert finished.stdout.count("✓") == run.read_text().count("    check(") > 0
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def service(monkeypatch):
    """A stand-in for the service of the reader."""
    monkeypatch.syspath_prepend(EXAMPLES / "ask_documents")
    from stand_in_server import StandInServer

    with StandInServer() as server:
        yield server


@pytest.mark.slow
def test_the_readme_shows_how_to_use_other_texts_and_services(service, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES.parent / "tests" / "documentation")
    from markdown_blocks import PageRun

    (tmp_path / "examples").symlink_to(EXAMPLES)
    (tmp_path / "my_texts").mkdir()
    (tmp_path / "my_texts" / "pier.txt").write_text("The pier was built in 1999.\nIts keeper is nobody.\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", service.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    monkeypatch.setenv("ASK_DOCUMENTS_FOLDER", "my_texts")
    assert PageRun(EXAMPLES / "ask_documents" / "README.md").run() >= 2
    assert {request.model for request in service.requests()} == {"my-model"}
