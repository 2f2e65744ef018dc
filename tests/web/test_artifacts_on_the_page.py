"""Artifacts are shown if they are what they say, and cannot reach the page."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
from asking import Client
from shown_vault import ARTIFACTS

from tablevault import TableVault
from tablevault.presentation.content_types import content_type

SHOWN = {
    "picture.png": "image/png",
    "photo.jpg": "image/jpeg",
    "moving.gif": "image/gif",
    "small.webp": "image/webp",
    "new.avif": "image/avif",
    "voice.mp3": "audio/mpeg",
    "tone.wav": "audio/wav",
    "song.ogg": "audio/ogg",
    "music.flac": "audio/flac",
    "film.mp4": "video/mp4",
    "clip.webm": "video/webm",
    "paper.pdf": "application/pdf",
    "notes.txt": "text/plain; charset=utf-8",
    "deep/er/<b>&\"'%2e.png": "image/png",
}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_artifact_is_sent_as_its_type_or_as_a_download(reader, name):
    answer = reader.get(f"/artifact/media/base/{quote(name, safe='')}")
    assert answer.status == 200
    expected = SHOWN.get(name, "application/octet-stream")
    assert answer.headers["Content-Type"] == expected
    is_download = expected == "application/octet-stream"
    assert (answer.headers["Content-Disposition"] or "").startswith("attachment") == is_download
    sandbox = "" if name == "paper.pdf" else "sandbox; "
    assert answer.headers["Content-Security-Policy"] == f"{sandbox}default-src 'none'; frame-ancestors 'self'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_players_read_parts(reader):
    whole = reader.get("/artifact/media/base/tone.wav").body
    part = reader.get("/artifact/media/base/tone.wav", Range="bytes=4-11")
    assert (part.status, part.body) == (206, whole[4:12])
    assert part.headers["Content-Range"] == f"bytes 4-11/{len(whole)}"
    assert reader.get("/artifact/media/base/tone.wav", Range="bytes=99999999-").status == 416


@pytest.mark.parametrize(
    "path",
    [
        "../../metadata/catalog.db",
        "..%2f..%2fmetadata%2fcatalog.db",
        "%2e%2e/%2e%2e/metadata/catalog.db",
        "%252e%252e%252f%252e%252e%252fmetadata%252fcatalog.db",
        "..%5c..%5cmetadata%5ccatalog.db",
        "..%c0%af..%c0%afmetadata%c0%afcatalog.db",
        "....//....//metadata/catalog.db",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "picture.png%00.txt",
        "picture.png/",
        "./picture.png",
        "PICTURE.PNG",
        "../media_base/picture.png",
        "",
        "%EF%BC%8E%EF%BC%8E%2fpicture.png",
    ],
)
def test_only_recorded_names_are_found(shown, reader, path):
    answer = reader.get(f"/artifact/media/base/{path}")
    assert answer.status == 404
    assert b"SQLite" not in answer.body
    assert b"root:" not in answer.body


def test_artifacts_of_missing_instances_are_not_found(reader):
    for path in ("media/TEMP_base", "media/@none", "media/v2", "stories/base", "none/base", "..%2fmedia/base"):
        assert reader.get(f"/artifact/{path}/picture.png").status == 404
    assert reader.get("/artifact/media/base/picture.png.json").status == 404


def test_links_in_a_vault_are_not_followed(shown, tmp_path):
    copied = tmp_path / "received"
    shutil.copytree(shown.vault.db_dir, copied, symlinks=True)
    vault = TableVault(copied)
    folder = vault.get_artifact_folder("media", version="base", is_temp=False)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    Path(folder).chmod(0o755)
    for name in ("notes.txt", "page.html"):
        Path(folder, name).unlink()
        Path(folder, name).symlink_to(secret)
    moved = Path(folder, "deep").rename(tmp_path / "deep")
    Path(folder, "deep").symlink_to(moved)
    server = vault.serve(block=False)
    try:
        client = Client(server.url)
        assert client.get("/artifact/media/base/picture.png").status == 200
        for name in ("notes.txt", "page.html", "deep/er/<b>&\"'%2e.png"):
            answer = client.get(f"/artifact/media/base/{quote(name, safe='')}")
            assert answer.status == 404
            assert b"secret" not in answer.body
    finally:
        server.close()


def test_replaced_artifacts_are_told(shown, reader):
    vault = shown.vault
    first = vault.get_table_instances("media")[0]
    data = reader.get(f"/table/media/{first}.json").json
    shown_as = {row["cells"][1]["text"]: row["cells"][1]["artifact"]["shown_as"] for row in data["frame"]["rows"]}
    assert shown_as["picture.png"] == "picture"
    assert shown_as["evil.png"] == shown_as["page.html"] == shown_as["drawing.svg"] == "file"
    assert (shown_as["tone.wav"], shown_as["film.mp4"], shown_as["paper.pdf"]) == ("sound", "video", "document")
    vault.create_instance("media", copy=True)
    vault.execute_instance("media", force_execute=True)
    assert "replaced since" in reader.get(f"/table/media/{first}").text
    assert reader.get(f"/artifact/media/{first}/picture.png").status == 404


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", b"<html>"),
        ("a.png", b""),
        ("a.jpg", b"\x89PNG\r\n\x1a\n"),
        ("a.wav", b"RIFF1234WEBP"),
        ("a.webp", b"RIFF1234WAVE"),
        ("a.mp3", b"\xff\xf1aac"),
        ("a.pdf", b" %PDF-1.4"),
        ("a.txt", b"a\0b"),
        ("a.txt", b"\xff\xfe"),
        ("a.html", b"<html>"),
        ("a.svg", b"<svg/>"),
        ("a.xhtml", b"<html/>"),
        ("a", b"\x89PNG\r\n\x1a\n"),
        ("a.png.exe", b"\x89PNG\r\n\x1a\n"),
        ("a.js", b"alert(1)"),
    ],
)
def test_types_need_suffix_and_content(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert content_type(path) == "application/octet-stream"


def test_text_that_is_cut_in_a_character_is_text(tmp_path):
    path = tmp_path / "a.TXT"
    path.write_bytes(b"a" * 65_535 + "ü".encode() * 10)
    assert content_type(path) == "text/plain; charset=utf-8"
