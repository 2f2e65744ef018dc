"""Measurements of HTML in a real browser.

They are positions, legibility and pictures.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

WIDTH, HEIGHT = 1000, 12_000
THEMES = {"light": ("#ffffff", "rgba(0,0,0,.87)", "#f5f5f5"), "dark": ("#111111", "rgba(255,255,255,.87)", "#1f1f1f")}
"""Background, text and second background of the notebooks that people use most."""

# The rules that such notebooks have for what they show, as far as they touch what ours use.
_STYLE = """
body {{ margin: 0; font: 13px/1.4 sans-serif }}
section {{ padding: 20px; width: 960px; box-sizing: border-box; overflow: hidden; margin-bottom: 1px }}
.{theme} {{ background: {background}; color: {text} }}
.{theme} table {{ margin-left: auto; margin-right: auto; border: none; table-layout: fixed; font-size: 12px }}
.{theme} td, .{theme} th {{ text-align: right; padding: .5em; max-width: none; vertical-align: middle }}
.{theme} tbody tr:nth-child(odd) {{ background: {second} }}
.{theme} thead {{ border-bottom: 1px solid; vertical-align: bottom }}
.{theme} code {{ background: {second} }}
.{theme} ul {{ padding-left: 2em; list-style: disc }}
"""

# Runs in the page that the test makes, not in what is tested.
_MEASURE = """
const channels = color => { const n = color.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
const luminance = color => {
  const [r, g, b] = color.map(c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
};
const contrast = (a, b) => {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + .05) / (low + .05);
};
const measured = element => {
  let background = [255, 255, 255], opacity = 1;
  const line = [];
  for (let node = element; node; node = node.parentElement) line.unshift(node);
  for (const node of line) background = over(channels(getComputedStyle(node).backgroundColor), background);
  for (const node of line) opacity *= Number(getComputedStyle(node).opacity);
  const color = channels(getComputedStyle(element).color);
  return contrast(over([...color.slice(0, 3), color[3] * opacity], background), background);
};
const results = {};
for (const section of document.querySelectorAll("section")) {
  const box = section.getBoundingClientRect(), texts = [], outside = [];
  for (const details of section.querySelectorAll("details")) details.open = true;
  const walker = document.createTreeWalker(section, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, text = node.textContent.trim();
    if (!text) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const part of range.getClientRects())
      if (part.right > box.right || part.left < box.left) outside.push(text);
    texts.push([text, measured(node.parentElement)]);
  }
  for (const element of section.querySelectorAll("*"))
    if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth) outside.push(element.tagName);
  results[section.id] = {texts, outside, scripts: section.querySelectorAll("script, link, style, iframe").length,
    elements: [...new Set([...section.querySelectorAll("*")].map(e => e.tagName.toLowerCase()))]};
}
for (const section of document.querySelectorAll("section")) {
  const box = section.getBoundingClientRect();
  results[section.id].box = [box.left, box.top, box.right, box.bottom].map(Math.round);
}
const result = document.createElement("pre");
result.id = "result";
result.style.display = "none";
result.textContent = JSON.stringify(results);
document.body.append(result);
"""


@dataclass(frozen=True)
class Looked:
    """What the browser made of one piece of HTML in one theme."""

    texts: list[tuple[str, float]]
    """Each visible text with its contrast against what is behind it."""
    outside: list[str]
    """What does not fit into the page."""
    scripts: int
    elements: set[str]
    picture: Image.Image

    @property
    def text(self) -> str:
        """All visible text."""
        return "\n".join(text for text, _ in self.texts)


def chromium() -> str:
    """Return the browser.

    Without one, the test is skipped, or fails where a browser is required.
    """
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found:
        return found
    reason = "no Chromium on this machine: install Debian's package `chromium` to render what notebooks show"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def look_at(shown: dict[str, str], folder: Path) -> dict[tuple[str, str], Looked]:
    """Render pieces of HTML, each in light and in dark, in one run of a browser."""
    page, picture = folder / "page.html", folder / "page.png"
    page.write_text(_page(shown), encoding="utf-8")
    command = [
        chromium(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={WIDTH},{HEIGHT}",
        "--hide-scrollbars",
        f"--screenshot={picture}",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="result"[^>]*>(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, f"{command[0]} rendered nothing:\n{done.stderr}"
    results: dict[str, dict[str, Any]] = json.loads(unescape(found[1]))
    whole = Image.open(picture).convert("RGB")
    return {tuple(name.split()): _looked(result, whole) for name, result in results.items()}  # type: ignore[misc]


def _looked(result: dict[str, Any], whole: Image.Image) -> Looked:
    assert result["box"][3] <= HEIGHT, "the page is longer than the picture of it"
    texts = [(text, contrast) for text, contrast in result["texts"]]
    return Looked(texts, result["outside"], result["scripts"], set(result["elements"]), whole.crop(result["box"]))


def _page(shown: dict[str, str]) -> str:
    style = "".join(
        _STYLE.format(theme=theme, background=background, text=text, second=second)
        for theme, (background, text, second) in THEMES.items()
    )
    sections = "".join(
        f'<section id="{name} {theme}" class="{theme}">{html}</section>'
        for name, html in shown.items()
        for theme in THEMES
    )
    head = f"<!doctype html><html><head><meta charset='utf-8'><style>{style}</style></head>"
    return f"{head}<body>{sections}<script>{_MEASURE}</script></body></html>"
