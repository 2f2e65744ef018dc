from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tablevault import tv_errors

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
CLASSES = [name for name, member in vars(tv_errors).items() if inspect.isclass(member) and name != "TableVaultError"]


@pytest.mark.parametrize("name", CLASSES)
def test_errors_page_has_a_remedy_for_each_class(name):
    _, found, rest = PAGE.partition(f"\n## {name}\n")
    assert found
    section = rest.partition("\n## ")[0]
    assert "**What to do**" in section or name == "TableVaultWarning"
