"""The page about the architecture names the modules that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tablevault"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_page_names_only_existing_modules():
    named = {path for path in re.findall(r"`([\w/]+\.py)`", PAGE) if not path.startswith("tests/")}
    assert len(named) > 40
    assert sorted(path for path in named if not (PACKAGE / path).is_file()) == []


def test_page_names_every_module_and_package_of_the_top_level():
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(name for name in modules | packages if f"`{name}`" not in PAGE) == []


def test_page_names_only_existing_classes_and_functions():
    source = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    named = set(re.findall(r"`(?:[A-Z]\w+\.)?(_?[a-z]\w+|[A-Z][a-z]\w+)` in `[\w/]+\.py`", PAGE))
    assert len(named) > 8
    assert sorted(name for name in named if not re.search(rf"\b(?:class|def) {name}\b", source)) == []
