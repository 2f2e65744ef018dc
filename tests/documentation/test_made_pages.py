"""Generated pages are up to date."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import tablevault

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("maker", ["make_command_line", "make_python_reference"])
def test_generated_page_is_up_to_date(maker, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    module = importlib.import_module(maker)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), f"run python docs/{maker}.py"


def test_reference_and_errors_pages_list_every_public_name():
    pages = [(DOCS / name).read_text(encoding="utf-8") for name in ("python-reference.md", "errors.md")]
    headings = {line.lstrip("# ") for page in pages for line in page.splitlines() if line.startswith("##")}
    assert set(tablevault.__all__) - headings == {"TableVaultError", "__version__", "tv_errors"}
    attributes = {line.split("`")[1] for line in pages[0].splitlines() if line.startswith("| `")}
    public = {name for name in vars(tablevault.TableVault) if not name.startswith("_")}
    assert public - headings - attributes == {"make_table"}
