from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from markdown_blocks import PageRun, anchors, links, runnable, untested

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
# Pages that need more than an empty folder are run by other tests.
RUN_ELSEWHERE = {
    "docs/moving-from-0.1.md",  # needs a vault of 0.1.1: tests/legacy
    "docs/examples.md",  # needs a clone with the extra `examples`: tests/examples runs the same programs
    "examples/ask_documents/README.md",  # needs a service: tests/examples
}
# Pages with many commands, each started and awaited.
SLOW = {
    "docs/agents.md",
    "docs/asking-questions.md",
    "docs/cluster.md",
    "docs/cleaning-up.md",
    "docs/comparing-runs.md",
    "docs/errors-in-rows.md",
    "docs/files.md",
    "docs/functions.md",
    "docs/guarantees.md",
    "docs/index.md",
    "docs/keeping-tables-fresh.md",
    "docs/large-frames.md",
    "docs/lineage.md",
    "docs/naming-a-state.md",
    "docs/recipes.md",
    "docs/services.md",
    "docs/sharing.md",
    "docs/tutorial.md",
    "docs/tutorial-with-builder-files.md",
    "docs/web-page.md",
}
# Blocks in the languages of other shells.
UNTESTED = {"docs/command-line.md": ["zsh", "fish"]}


def runnable_pages():
    for name, page in zip(NAMES, PAGES, strict=True):
        if runnable(page) and name not in RUN_ELSEWHERE:
            yield pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.mark.parametrize("page", list(runnable_pages()))
def test_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert PageRun(ROOT / page).run() > 0


def test_page_on_failing_rows_says_to_turn_off_the_retries_of_clients():
    text = " ".join((ROOT / "docs" / "errors-in-rows.md").read_text().split())
    assert (
        "Turn off the retries of the client library (often `max_retries=0`), since the attempts of two retry loops multiply"
        in text
    )


def test_only_listed_blocks_are_untested():
    found = {name: untested(page) for name, page in zip(NAMES, PAGES, strict=True)}
    assert {name: languages for name, languages in found.items() if languages} == UNTESTED


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_page_resolve(name):
    page = ROOT / name
    for target, anchor in links(page):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_navigation_lists_exactly_the_pages():
    site = tomllib.loads((ROOT / "docs" / "zensical.toml").read_text(encoding="utf-8"))["project"]
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(targets(site["nav"])) == sorted([*pages, "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"])


def targets(navigation):
    for entry in navigation:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else targets(target)
