"""Types of artifact files that are safe to show, whose suffix and first bytes must agree."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

_HEAD = 64 * 1024
"""Number of bytes read from a file."""

OTHER = "application/octet-stream"
"""Content type of files that are only offered for download."""
PDF = "application/pdf"
TEXT = "text/plain; charset=utf-8"


def content_type(path: Path) -> str:
    """Return the content type under which a file may be shown, or that of a download."""
    found = _TYPES.get(path.suffix.lower())
    if found is None:
        return OTHER
    name, is_one = found
    with path.open("rb") as file:
        return name if is_one(file.read(_HEAD)) else OTHER


def shown_as(name: str) -> str:
    """Return the display kind of a content type.

    Kinds are `picture`, `sound`, `video`, `document`, `text` and `file`.
    """
    if name == TEXT:
        return "text"
    if name == PDF:
        return "document"
    return {"image": "picture", "audio": "sound", "video": "video"}.get(name.partition("/")[0], "file")


def _begins(*heads: bytes) -> Callable[[bytes], bool]:
    return lambda content: content.startswith(heads)


def _riff(kind: bytes) -> Callable[[bytes], bool]:
    return lambda content: content[:4] == b"RIFF" and content[8:12] == kind


def _boxed(*brands: bytes) -> Callable[[bytes], bool]:
    """Return a check of the first box of an ISO media file.

    Without named brands, the check accepts any brand.
    """
    return lambda content: content[4:8] == b"ftyp" and (not brands or content[8:12] in brands)


def _is_mp3(content: bytes) -> bool:
    # A tag, or the eleven set bits at the beginning of a frame of layer 3.
    return content[:3] == b"ID3" or (content[:1] == b"\xff" and content[1:2] in (b"\xfb", b"\xfa", b"\xf3", b"\xf2"))


def _is_text(content: bytes) -> bool:
    if b"\x00" in content:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content, final=len(content) < _HEAD)
    except UnicodeDecodeError:
        return False
    return True


_TYPES: dict[str, tuple[str, Callable[[bytes], bool]]] = {
    ".png": ("image/png", _begins(b"\x89PNG\r\n\x1a\n")),
    ".jpg": ("image/jpeg", _begins(b"\xff\xd8\xff")),
    ".jpeg": ("image/jpeg", _begins(b"\xff\xd8\xff")),
    ".gif": ("image/gif", _begins(b"GIF87a", b"GIF89a")),
    ".webp": ("image/webp", _riff(b"WEBP")),
    ".avif": ("image/avif", _boxed(b"avif", b"avis")),
    ".mp3": ("audio/mpeg", _is_mp3),
    ".wav": ("audio/wav", _riff(b"WAVE")),
    ".ogg": ("audio/ogg", _begins(b"OggS")),
    ".flac": ("audio/flac", _begins(b"fLaC")),
    ".mp4": ("video/mp4", _boxed()),
    ".webm": ("video/webm", _begins(b"\x1aE\xdf\xa3")),
    ".pdf": (PDF, _begins(b"%PDF-")),
    **dict.fromkeys((".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".log"), (TEXT, _is_text)),
}
