"""Parse and run the fenced blocks of a documentation page.

The blocks of a page share one namespace, one shell and one folder, and run from top to bottom. The words after the
language tell how to test a block:

- ``python`` is run; with ``raises=Name`` it must raise that exception, with ``warns=Name`` that warning, and its output
  ends with the traceback or the warnings.
- ``sh`` is run in a terminal and must succeed; with ``exit=4`` it must exit with that status. ``interrupt=word`` sends
  Ctrl-C when that word is printed. In lines that begin with ``make``, only the goals and variables are checked.
- ``python file=code/stories.py`` and ``yaml file=builders/story.yaml`` are saved, and not run.
- ``text output`` must equal the output of the previous block, including a traceback. ``…`` matches anything within a
  line, a line of ``…`` matches any lines, and two or more spaces match two or more spaces.

Every ``yaml`` block has a file. Any other block is plain ``text``, or is listed in ``test_pages.py``. Blocks inside an
HTML comment are invisible to readers and set up the examples.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from shell_blocks import Shell

_FENCE = re.compile(r"^```(\w+)[ ]*([^\n`]*)\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
_HEADING = re.compile(r"^#{1,6} (.+?) *$", re.MULTILINE)
_COLUMNS = re.compile(" {2,}")
_RUN = ("python", "sh", "yaml")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    options: dict[str, str]
    text: str
    line: int
    """Number of its first content line, from 1."""


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page from top to bottom."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        options = {word.partition("=")[0]: word.partition("=")[2] for word in match[2].split()}
        yield Block(match[1], options, match[3], text.count("\n", 0, match.start(3)) + 1)


def runnable(page: Path) -> bool:
    """Return whether a page has blocks that are run or saved."""
    return any(block.language in _RUN for block in blocks(page))


def untested(page: Path) -> list[str]:
    """Return the languages of the untested blocks."""
    return [block.language for block in blocks(page) if block.language not in (*_RUN, "text")]


def links(page: Path) -> list[tuple[str, str]]:
    """Return the file and anchor of each local link of a page."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [(target, anchor) for target, anchor in _LINK.findall(text) if "://" not in target]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as the repository renders them."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class PageRun:
    """One run of a page in the current folder.

    Parameters
    ----------
    page
        The Markdown file.
    """

    def __init__(self, page: Path) -> None:
        self._page = page
        self._shell = Shell()
        self._namespace: dict[str, Any] = {"__name__": "__main__"}
        self._printed = ""

    def run(self) -> int:
        """Run all blocks; return the number of tested blocks."""
        return sum(self._take(block) for block in blocks(self._page))

    def _take(self, block: Block) -> bool:
        if "file" in block.options:
            path = Path(block.options["file"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._execute(block)
        elif block.language == "sh":
            expected = int(block.options.get("exit", "0"))
            status, self._printed = self._shell.run(block.text, block.options.get("interrupt"))
            assert status == expected, f"{self._place(block)}: ended with {status}:\n{self._printed}"
        elif "output" in block.options:
            printed, promised = _stripped(self._printed), _stripped(block.text)
            assert _as_pattern(promised).fullmatch(printed + "\n"), f"{self._place(block)}: printed instead:\n{printed}"
        else:
            assert block.language != "yaml", f"{self._place(block)}: a yaml block needs file="
            return False
        return True

    def _place(self, block: Block) -> str:
        return f"{self._page.name}, line {block.line}"

    def _execute(self, block: Block) -> None:
        # Leading newlines make tracebacks point at the line of the page.
        code = compile("\n" * (block.line - 1) + block.text, str(self._page), "exec")
        printed = StringIO()
        with redirect_stdout(printed), self._expected(block) as caught:
            exec(code, self._namespace)
        if "raises" in block.options:
            printed.write("".join(traceback.format_exception(caught.value)))
        elif "warns" in block.options:
            printed.write("".join(f"{item.category.__name__}: {item.message}\n" for item in caught))
        self._printed = printed.getvalue()

    def _expected(self, block: Block) -> Any:
        for option, expect in (("raises", pytest.raises), ("warns", pytest.warns)):
            if option in block.options:
                return expect(eval(block.options[option], self._namespace))
        return nullcontext()


def _as_pattern(promised: str) -> re.Pattern[str]:
    lines = promised.split("\n")
    return re.compile("".join("(?:.*\n)*?" if line.strip() == "…" else _as_line(line) for line in lines))


def _as_line(promised: str) -> str:
    return " {2,}".join(re.escape(part).replace("…", ".*") for part in _COLUMNS.split(promised)) + "\n"


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
