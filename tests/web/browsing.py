"""Chromium, as the tests of the page use it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import axe_playwright_python
from playwright.sync_api import Browser, Page, sync_playwright

REBOUND = "rebound.example"
"""A name of another site that leads to this machine."""
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
)
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")

_FIND_VIOLATIONS = """
async rules => (await axe.run(document, {resultTypes: ["violations"], iframes: false, ...rules})).violations
    .map(rule => `${rule.id}: ${rule.nodes.map(node => node.target.join(" ")).slice(0, 4).join(", ")}`)
"""


def chromium_path() -> str | None:
    """Return the path of Chromium; `None` if it is not installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """Start Chromium for a block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), headless=True, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page in the browser, with what it complained of.

    Parameters
    ----------
    page
        The page.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.answers: list[tuple[int, str]] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("response", lambda answer: self.answers.append((answer.status, answer.url)))

    def overflow(self) -> int:
        """Return how many pixels the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def violations(self) -> list[str]:
        """Return the violations of axe-core's rules, each with elements.

        Rules about colours are checked in dark mode, too.
        """
        self.page.evaluate(AXE)
        self.page.emulate_media(color_scheme="light")
        found = self.page.evaluate(_FIND_VIOLATIONS, {})
        self.page.emulate_media(color_scheme="dark")
        dark = self.page.evaluate(_FIND_VIOLATIONS, {"runOnly": ["color-contrast"]})
        return [*found, *(f"dark {rule}" for rule in dark)]
