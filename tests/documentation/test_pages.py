from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from markdown_blocks import PageRun, anchors, left_alone, links, runnable

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
# Pages that need more than a folder of their own are run by other tests.
RUN_ELSEWHERE = {
    "docs/moving-from-0.1.md",  # a vault of 0.1.1: tests/legacy
    "docs/examples.md",  # a clone with the extra `examples`: tests/examples runs the same programs
    "examples/ask_documents/README.md",  # a service: tests/examples
}
# A command after the other, and waiting for what they show.
SLOW = {"docs/files.md", "docs/tutorial-in-a-shell.md", "docs/what-survives-what.md"}
# Blocks in languages of other shells, which the page names.
LEFT_ALONE = {"docs/command-line.md": ["zsh", "fish"]}


def runnable_pages():
    for name, page in zip(NAMES, PAGES, strict=True):
        if runnable(page) and name not in RUN_ELSEWHERE:
            yield pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.mark.parametrize("page", list(runnable_pages()))
def test_every_example_of_a_page_runs_as_it_is_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert PageRun(ROOT / page).run() > 0


def test_nothing_is_left_alone_but_what_is_listed_here():
    found = {name: left_alone(page) for name, page in zip(NAMES, PAGES, strict=True)}
    assert {name: languages for name, languages in found.items() if languages} == LEFT_ALONE


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_page_lead_somewhere(name):
    page = ROOT / name
    for target, anchor in links(page):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_the_navigation_of_the_site_has_every_page_and_no_other():
    site = tomllib.loads((ROOT / "docs" / "zensical.toml").read_text(encoding="utf-8"))["project"]
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(targets(site["nav"])) == sorted([*pages, "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"])


def targets(navigation):
    for entry in navigation:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else targets(target)
