"""Pages that are made from the product itself are up to date."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import tablevault

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("maker", ["make_command_line", "make_python_reference"])
def test_a_page_that_is_made_is_what_its_maker_says(maker, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    module = importlib.import_module(maker)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), f"run python docs/{maker}.py"


def test_everything_public_is_in_the_python_reference_or_on_the_page_of_errors():
    pages = [(DOCS / name).read_text(encoding="utf-8") for name in ("python-reference.md", "errors.md")]
    headings = {line.lstrip("# ") for page in pages for line in page.splitlines() if line.startswith("##")}
    assert set(tablevault.__all__) - headings == {"TableVaultError", "__version__", "tv_errors"}
    attributes = {line.split("`")[1] for line in pages[0].splitlines() if line.startswith("| `")}
    public = {name for name in vars(tablevault.TableVault) if not name.startswith("_")}
    assert public - headings - attributes == {"make_table"}
