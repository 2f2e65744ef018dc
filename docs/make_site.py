"""Build the site from this folder and the files that its pages link to.

The pages are written for the repository. The site in `build/docs/site` contains copies with these changes:

- HTML comments, which set up examples invisibly, are removed;
- the words after the language of a block, which tell a test how to run it, become a caption or are removed;
- a link to a file or folder outside `docs/` leads to a page that shows it;
- the pictures of the page are taken again, if Chromium is installed.

The build is strict: it fails on broken links and anchors, and on pages that fetch scripts, styles or images from other
sites.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
STAGED = ROOT / "build" / "docs"
ASSETS = ("*.css", "*.js")
PICTURES = DOCS / "pictures"
BESIDE = ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
"""Further pages of the site, from the root of the repository."""

_COMMENT = re.compile(r"<!--.*?-->\n*", re.DOTALL)
_BLOCK = re.compile(r"^(`{3,})(\w+)[ ]*([^\n`]*)\n(.*?)^\1[ ]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]*)?\)")
_FETCHED = re.compile(r"""<(?:script|img|iframe)[^>]* src="?https?:[^>]*>|<link[^>]* href="?https?:[^>]*>""")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".sh": "sh", ".json": "json"}


def main() -> int:
    """Build the site; return the exit status."""
    shutil.rmtree(STAGED, ignore_errors=True)
    stage(STAGED)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", "zensical.toml"]
    status = subprocess.run(command, cwd=STAGED, check=False).returncode
    fetched = sorted(
        {match[0] for page in STAGED.rglob("*.html") for match in _FETCHED.finditer(page.read_text("utf-8"))}
    )
    for tag in fetched:
        print(f"fetched from another site: {tag}", file=sys.stderr)
    return status or bool(fetched)


def stage(folder: Path) -> None:
    """Write the pages, styles and configuration for the site generator."""
    pages = folder / "pages"
    waiting, written = [*DOCS.rglob("*.md"), *(ROOT / name for name in BESIDE)], set[Path]()
    while waiting:
        source = waiting.pop()
        if source in written:
            continue
        written.add(source)
        target = pages / _place(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_page(source), encoding="utf-8")
        waiting += linked(source)
    for pattern in ASSETS:
        for asset in DOCS.glob(pattern):
            shutil.copy(asset, pages)
    shutil.copy(DOCS / "zensical.toml", folder)
    place_pictures(pages / PICTURES.name)


def place_pictures(folder: Path) -> None:
    """Take the pictures of the page; without Chromium, use those of the repository."""
    from make_pictures import chromium, make_pictures

    if chromium() is None:
        print("Chromium is not installed: the pictures are those of the repository.", file=sys.stderr)
        shutil.copytree(PICTURES, folder)
    else:
        make_pictures(folder)


def linked(source: Path) -> list[Path]:
    """Return the files and folders that a page links to."""
    if source.suffix != ".md":
        return []
    prose = _BLOCK.sub("", source.read_text(encoding="utf-8"))
    targets = [match[1] for match in _LINK.finditer(prose) if "://" not in match[1]]
    paths = [(source.parent / target).resolve() for target in targets]
    return [path for path in paths if path.parent != PICTURES]


def _place(source: Path) -> PurePosixPath:
    """Return the path of the page for a file or folder of the repository."""
    path = PurePosixPath(source.relative_to(DOCS if source.is_relative_to(DOCS) else ROOT).as_posix())
    if source.is_dir():
        return path / "index.md"
    if source == ROOT / "README.md":
        return PurePosixPath("index.md")
    if source.parent == PICTURES:
        return path
    return path if source.suffix == ".md" else path.with_name(path.name + ".md")


def _page(source: Path) -> str:
    if source.is_dir():
        return _folder_page(source)
    if source.suffix != ".md":
        return f"# {source.name}\n\n{_code(source)}"
    text = _COMMENT.sub("", source.read_text(encoding="utf-8"))
    parts: list[str] = []
    position = 0
    for match in _BLOCK.finditer(text):
        parts += [_with_links(source, text[position : match.start()]), _block(match)]
        position = match.end()
    return "".join([*parts, _with_links(source, text[position:])])


def _folder_page(folder: Path) -> str:
    sections = [f"## {file.relative_to(folder)}\n\n{_code(file)}" for file in _files(folder)]
    return f"# {folder.relative_to(ROOT)}\n\n" + "\n".join(sections)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _code(source: Path) -> str:
    text = source.read_text(encoding="utf-8")
    return f"`````{_LANGUAGES.get(source.suffix, 'text')}\n{text.rstrip()}\n`````\n"


def _block(match: re.Match[str]) -> str:
    fence, language, words, text = match.groups()
    options = dict(word.partition("=")[::2] for word in words.split())
    language = "python" if "signature" in options else language
    caption = options.get("file", "Output" if "output" in options else "")
    title = f' title="{caption}"' if caption else ""
    return f"{fence}{language}{title}\n{text}{fence}"


def _with_links(source: Path, prose: str) -> str:
    here = _place(source).parent

    def moved(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        if "://" in target:
            return match[0]
        path = (source.parent / target).resolve()
        return f"]({PurePosixPath(os.path.relpath(_place(path), here))}{anchor})"

    return _LINK.sub(moved, prose)


if __name__ == "__main__":
    sys.exit(main())
