"""The recipes stay short."""

from __future__ import annotations

from pathlib import Path

import pytest
from markdown_blocks import blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
# Lines of plain scripts for the same jobs, with a JSONL file and asyncio.
PLAIN = {"evaluation.py": 44, "library.py": 49, "photos.py": 50}
FILES = {block.options["file"]: block.text for block in blocks(PAGE) if "file" in block.options}


@pytest.mark.parametrize("name", PLAIN)
def test_recipe_has_at_most_the_lines_of_a_plain_script(name):
    assert len(FILES[name].splitlines()) <= PLAIN[name]


def test_page_states_the_lines_of_every_recipe():
    assert list(FILES) == list(PLAIN)
    first, second, third = (len(text.splitlines()) for text in FILES.values())
    assert f"{first}, {second} and {third} lines" in PAGE.read_text(encoding="utf-8")
