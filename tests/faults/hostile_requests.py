"""Hostile requests to the web page, without a socket.

Only documented answers are allowed, and no changes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

import pandas as pd
from hostile_mutations import Choices, mutate_bytes

from tablevault import TableVault
from tablevault.presentation import statements
from tablevault.web.application import make_application
from tablevault.web.gate import Gate
from tablevault.web.tokens import Token

PORT = 8420
MARK = "<script>fuzzed</script>"
"""Is put into requests; an answer in HTML that has it as it is would be run."""
_SECRET = "known-to-readers-only"
"""A table's name: no answer without a token may have it."""
_DOCUMENTED = frozenset({200, 206, 303, 304, 400, 401, 403, 404, 405, 409, 413, 416, 421, 503})
_SECONDS = 30.0

_METHODS = ("GET", "GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "X" * 50)
_NAMES = (
    _SECRET, "files", "base", "@first", "TEMP_base", "base_1_x", "..", ".", "", "%", "%2e%2e", "a\0b", MARK, "'\"", "\u202e",
    "../../metadata/catalog.db", "/etc/passwd", "..\\..\\x", "x" * 3000, "picture.png", "link.txt", "x.json", "0", "-1",
    "99999999999999999999", "1e3", "row", "notes.txt", "\ud800",
)  # fmt: skip
_PLACES = (
    "/", "/index.json", "/table/{}", "/table/{}.json", "/table/{}/{}", "/table/{}/{}.json", "/table/{}/{}/row/{}",
    "/table/{}/{}/errors", "/table/{}/{}/execute", "/table/{}/{}/retry", "/table/{}/{}/tag", "/lineage/{}/{}",
    "/processes", "/process/{}", "/process/{}/stop", "/process/{}/resume", "/sql", "/graph", "/diff", "/at/{}",
    "/artifact/{}/{}/{}", "/static/page.css", "/static/{}", "/favicon.ico", "//{}/", "{}", "/{}/{}/{}/{}",
)  # fmt: skip
_FIELDS = ("q", "draft", "part", "after", "before", "row", "column", "up", "down", "status", "table", "operation",
           "trace", "token", "tag", "move", "description", "force", "materialize")  # fmt: skip
_VALUES = (
    *_NAMES, "SELECT 1", f'SELECT * FROM "{_SECRET}"', "SELECT * FROM read_text('/etc/passwd')", "COPY x TO '/tmp/x'",
    "FROM '/etc/passwd'", "ATTACH 'x'", "live_status", "live_cells", "live", "live_processes", "title", "paused", "1",
    f"{_SECRET}(base)", f"{_SECRET}@first", "a(", "x" * 9000, "SELECT '" + MARK + "'",
)  # fmt: skip
_HEADERS = (
    ("sec-fetch-site", ("same-origin", "none", "cross-site", "same-site", "x")),
    ("sec-fetch-mode", ("navigate", "cors")),
    ("sec-fetch-dest", ("document", "iframe")),
    ("origin", (f"http://127.0.0.1:{PORT}", "null", "http://evil", MARK)),
    ("content-type", ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "")),
    ("range", ("bytes=0-3", "bytes=9-1", "bytes=-1", "bytes=" + "0-0," * 300, "x", "bytes=99999999999999999999-")),
    ("if-none-match", ("*", '"x"', MARK)),
    ("if-range", ('"x"', MARK)),
    ("cookie", ("a=b", "tablevault_8420=wrong", ";;;=", "tablevault_8420=\xff")),
    ("authorization", ("Basic x", "Bearer", "Bearer wrong", "Bearer \xff")),
    ("content-length", ("5", "99999999", "-1", "x", "\xb2")),
    ("x-forwarded-host", ("evil",)),
    ("accept", ("application/json", MARK)),
)
_HOSTS = (f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}")


@dataclass
class _Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class HostileRequests:
    """Two servers' applications for one vault, one with actions and one without.

    Parameters
    ----------
    folder
        An empty folder, which takes the vault.
    """

    def __init__(self, folder: Path) -> None:
        statements._SECONDS = 2.0
        self._vault = vault = TableVault(folder / "vault", author="ada", create=True)
        vault.write(_SECRET, pd.DataFrame({"x": [1, 2], "text": [MARK, "b"]}), description=MARK)
        vault.write(_SECRET, pd.DataFrame({"x": [1, 3], "text": [MARK, "c"]}))
        vault.create_tag("first", {_SECRET: vault.get_table_instances(_SECRET)[0]})
        vault.create_table("files")
        vault.create_instance("files", external_edit=True)
        for name in ("picture.png", "notes.txt"):
            Path(vault.get_artifact_folder("files"), name).write_bytes(b"\x89PNG\r\n\x1a\n" + MARK.encode())
        frame = pd.DataFrame({"file": ["picture.png", "notes.txt"]})
        vault.write_instance(frame, "files", dtypes={"file": "artifact_string"})
        self._token = Token(PORT)
        self._gates = [
            Gate(make_application(vault, allow_writes), self._token, PORT, "127.0.0.1", frozenset({"box.example"}))
            for allow_writes in (False, True)
        ]
        # A loop makes sockets, which nothing may do later.
        self._loop = asyncio.new_event_loop()
        # Libraries are imported before anything is watched.
        for path in ("/", "/sql", "/graph", f"/table/{_SECRET}/base", f"/table/{_SECRET}/base/row/0", "/processes"):
            self._ask(self._gates[1], "GET", path, b"q=SELECT+1", self._allowed(), b"")
        self._ask(self._gates[1], "GET", f"/diff?after={_SECRET}", f"after={_SECRET}".encode(), self._allowed(), b"")
        self._state = self._visible()

    def send(self, data: bytes) -> str:
        """Send the request that bytes stand for; say what is wrong with the answer."""
        choice = Choices(data)
        allows_writes = choice.random() < 0.3
        method = choice.choice(_METHODS)
        path, query = _path(choice), _query(choice)
        headers, is_trusted = self._headers(choice)
        body = _body(choice) if method not in ("GET", "HEAD") or choice.random() < 0.1 else b""
        answer = self._ask(self._gates[allows_writes], method, path, query, headers, body)
        has_token = is_trusted or self._token.text.encode() in query
        found = [*_faults(answer, has_token)]
        if not (allows_writes and method == "POST"):
            now = self._visible()
            found += ["the vault has changed"] if now != self._state else []
        self._state = self._visible()
        return f"{method} {path!r:.200}?{query!r:.200}: {'; '.join(found)}" if found else ""

    def _visible(self) -> tuple[int, int]:
        return self._vault._listings().generation(), len(self._vault.get_history(limit=100_000))

    def _allowed(self) -> list[tuple[bytes, bytes]]:
        return [(b"host", _HOSTS[0].encode()), (b"authorization", f"Bearer {self._token.text}".encode())]

    def _headers(self, choice: random.Random) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Return headers, and whether they show the token."""
        host = (
            choice.choice(_HOSTS) if choice.random() < 0.9 else choice.choice(("evil", "", f"127.0.0.1:{PORT}:1", MARK))
        )
        headers = [("host", host)]
        is_trusted = choice.random() < 0.85
        if is_trusted:
            shown = (
                ("authorization", f"Bearer {self._token.text}"),
                ("cookie", f"x=y; tablevault_{PORT}={self._token.text}"),
            )
            headers.append(choice.choice(shown))
        if choice.random() < 0.4:
            headers += [("origin", f"http://{host}"), ("content-type", "application/x-www-form-urlencoded")]
        for name, values in _HEADERS:
            if choice.random() < 0.08:
                headers.append((name, choice.choice(values)))
        return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers], is_trusted

    def _ask(
        self, gate: Gate, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> _Answer:
        answer = _Answer()
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode("utf-8", "replace"), "root_path": "", "scheme": "http", "query_string": query,
            "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", PORT), "state": {}, "extensions": {},
        }  # fmt: skip
        parts = [body[place : place + 30_000] for place in range(0, len(body), 30_000)] or [b""]

        async def receive() -> dict[str, Any]:
            if not parts:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {
                    name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]
                }
            else:
                answer.body += message.get("body", b"")

        self._run(lambda: gate(scope, receive, send))
        return answer

    def _run(self, call: Callable[[], Awaitable[None]]) -> None:
        self._loop.run_until_complete(asyncio.wait_for(call(), _SECONDS))


def _path(choice: random.Random) -> str:
    text = choice.choice(_PLACES)
    while "{}" in text:
        text = text.replace("{}", _name(choice), 1)
    if choice.random() < 0.1:
        text = mutate_bytes(text.encode("utf-8", "surrogatepass"), choice).decode("utf-8", "replace")
    return text


def _name(choice: random.Random) -> str:
    if choice.random() < 0.6:
        return choice.choice((_SECRET, "base", "files", "@first", "0", "picture.png"))
    return choice.choice(_NAMES).replace("{}", "").encode("utf-8", "replace").decode()


def _query(choice: random.Random) -> bytes:
    if choice.random() < 0.4:
        return b""
    pairs = [(choice.choice(_FIELDS), choice.choice(_VALUES)) for _ in range(choice.randint(1, 3))]
    text = urlencode(pairs, errors="replace").encode()
    if choice.random() < 0.2:
        text = quote_from_bytes(mutate_bytes(text, choice), safe="&=+%").encode()
    return text


def _body(choice: random.Random) -> bytes:
    if choice.random() < 0.05:
        return b"a" * choice.choice((65_536, 65_537, 200_000))
    pairs = [(choice.choice(_FIELDS), choice.choice(_VALUES)) for _ in range(choice.randint(0, 3))]
    text = urlencode(pairs, errors="replace").encode()
    return mutate_bytes(text, choice) if choice.random() < 0.3 else text


def _faults(answer: _Answer, has_token: bool) -> list[str]:
    found = []
    if answer.status not in _DOCUMENTED:
        found.append(f"answered {answer.status}: {answer.body[-300:]!r}")
    if "content-security-policy" not in answer.headers or answer.headers.get("x-content-type-options") != "nosniff":
        found.append("without the headers of a page")
    is_html = answer.headers.get("content-type", "").startswith("text/html")
    if is_html and MARK.encode() in answer.body:
        found.append("a script in the page")
    if not has_token and (_SECRET.encode() in answer.body or answer.status in (200, 206)):
        found.append(f"answered {answer.status} without a token")
    if b"root:" in answer.body or b"SQLite format" in answer.body:
        found.append("a file that is none of the vault's artifacts")
    location = answer.headers.get("location", "/")
    if not location.startswith("/") or location.startswith(("//", "/\\")):
        found.append(f"leads to {location!r}")
    return found
