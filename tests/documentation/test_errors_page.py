from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tablevault import tv_errors

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
CLASSES = [name for name, member in vars(tv_errors).items() if inspect.isclass(member) and name != "TableVaultError"]


@pytest.mark.parametrize("name", CLASSES)
def test_each_error_class_has_a_section_that_says_what_to_do(name):
    _, found, rest = PAGE.partition(f"\n## {name}\n")
    assert found
    section = rest.partition("\n## ")[0]
    assert "**What to do**" in section or name == "TableVaultWarning"
