from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tablevault import TableVault

pytestmark = pytest.mark.slow  # `make demo` runs the same program.

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "examples" / "stdlib_atlas" / "run.py"


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas") / "new"
    command = [sys.executable, "-W", "error", str(TOUR), str(folder)]
    return folder, subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_the_tour_passes_its_checks(tour):
    _, finished = tour
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "All checks passed" in finished.stdout
    assert finished.stdout.count("✓") == TOUR.read_text().count("    check(") > 0


def test_the_tour_leaves_a_consistent_vault(tour):
    vault = TableVault(tour[0] / "atlas")
    frame, _ = vault.get_dataframe("modules")
    assert len(frame) > 100
    assert vault.get_active_processes() == {}
    assert vault.verify().ok


def test_the_tour_refuses_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    command = [sys.executable, str(TOUR), str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert "not an empty folder" in finished.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
