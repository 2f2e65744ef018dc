"""The fenced blocks of a documentation page, and how they are run.

A page is one story: its blocks share one namespace and one folder, and run from top to bottom. The words behind the
language say what is to happen with a block:

- ``python`` is run; ``python raises=Name`` has to raise an exception of that class, ``python warns=Name`` to warn.
- ``python file=code/stories.py`` and ``yaml file=builders/story.yaml`` are saved there and not run.
- ``text output`` has to be what the Python block before it printed.

Every ``yaml`` block has a file. Other blocks are left alone. Blocks inside an HTML comment count: readers do not see
them, so they hold what an example needs and would only distract from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

_FENCE = re.compile(r"^```(\w+)[ ]*([^\n`]*)\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    options: dict[str, str]
    text: str
    line: int
    """Of its first line of content, counted from 1."""


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page from top to bottom."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        options = {word.partition("=")[0]: word.partition("=")[2] for word in match[2].split()}
        yield Block(match[1], options, match[3], text.count("\n", 0, match.start(3)) + 1)


def links(page: Path) -> list[str]:
    """Return the targets of a page's links that lead to files."""
    return [target for target in _LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]


class PageRun:
    """One page being run in the current folder.

    Parameters
    ----------
    page
        The Markdown file.
    """

    def __init__(self, page: Path) -> None:
        self._page = page
        self._namespace: dict[str, Any] = {"__name__": "__main__"}
        self._printed = ""

    def run(self) -> int:
        """Run all blocks; return how many were run, saved or compared."""
        count = 0
        for block in blocks(self._page):
            count += self._take(block)
        return count

    def _take(self, block: Block) -> bool:
        if "file" in block.options:
            path = Path(block.options["file"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._execute(block)
        elif block.language == "text" and "output" in block.options:
            printed, promised = _stripped(self._printed), _stripped(block.text)
            assert printed == promised, f"{self._page.name}, line {block.line}: printed instead:\n{printed}"
        else:
            assert block.language != "yaml", f"{self._page.name}, line {block.line}: a yaml block needs file="
            return False
        return True

    def _execute(self, block: Block) -> None:
        # Leading newlines make tracebacks point at the line of the page.
        code = compile("\n" * (block.line - 1) + block.text, str(self._page), "exec")
        printed = StringIO()
        with redirect_stdout(printed), self._expected(block):
            exec(code, self._namespace)
        self._printed = printed.getvalue()

    def _expected(self, block: Block) -> Any:
        for option, expect in (("raises", pytest.raises), ("warns", pytest.warns)):
            if option in block.options:
                return expect(eval(block.options[option], self._namespace))
        return nullcontext()


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
