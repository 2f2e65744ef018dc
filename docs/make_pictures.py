"""Make the documentation's pictures of the page.

They are taken by Chromium from a vault that is made for them. The build of the site takes them again; those in
`docs/pictures` are for readers of the repository.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
from pathlib import Path

from pictured_vault import PicturedVault
from PIL import Image
from playwright.sync_api import sync_playwright

PICTURES = Path(__file__).resolve().parent / "pictures"
_WIDTH = 1120
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


def chromium() -> str | None:
    """Return the path of Chromium; `None` if it is not installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def make_pictures(folder: Path) -> None:
    """Write the pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vaults-") as scratch, contextlib.redirect_stderr(io.StringIO()):
        pictured = PicturedVault(Path(scratch))
        server = pictured.vault.serve(block=False, allow_writes=True)
        try:
            _take(server.url, folder)
        finally:
            server.close()
            pictured.close()


def _take(url: str, folder: Path) -> None:
    root = url.partition("/?")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=list(_FLAGS))
        for name, path, height, scheme in _SHOWN:
            context = browser.new_context(viewport={"width": _WIDTH, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.goto(url)
            page.goto(root + path)
            page.wait_for_load_state("networkidle")
            Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(folder / f"{name}.png", optimize=True)
            context.close()
        browser.close()


_SHOWN = (
    ("overview", "/", 640, "light"),
    ("instance", "/table/answers/base", 700, "light"),
    ("process", "/process/reviews-friday", 640, "light"),
    ("difference", "/diff?before=answers@meeting&after=answers", 640, "dark"),
    ("lineage", "/lineage/report/base?column=summary&up=3", 420, "light"),
)
"""Name, path, height and colours of each picture."""

if __name__ == "__main__":
    if chromium() is None:
        sys.exit("The pictures need Chromium: install Debian's package `chromium`.")
    make_pictures(PICTURES)
